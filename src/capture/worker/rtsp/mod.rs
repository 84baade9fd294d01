//! RTSP cameras, with `retina` on a tokio runtime that only runs while this source is asked for something.
//!
//! retina has no timeouts and no memory bound of its own: every await here has a deadline, and the worker's limits hold
//! the rest (a server that never ends a header or a frame kills its own worker, nobody else).

mod address;
mod punctuality;
mod rate;
mod redirect;

use crate::capture::ipc::Start;
use crate::capture::worker::control::Control;
use crate::capture::worker::decode::{AccessUnit, Codec};
use crate::capture::worker::picture::check_size;
use crate::capture::worker::source::{Grab, IDLE, Source};
use crate::command::SourceProperties;
use crate::error::{Error, Kind, Result, system};
use address::Address;
use futures::StreamExt;
use punctuality::Punctuality;
use rate::Rate;
use retina::client::{Demuxed, PlayOptions, Session, SessionGroup, SessionOptions, SetupOptions, Transport};
use retina::codec::{CodecItem, FrameFormat, ParametersRef, VideoFrame};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// From ours to the camera's farewell. Less than the grace that the parent gives (500 ms), less one [`IDLE`].
const TEARDOWN_TIMEOUT: Duration = Duration::from_millis(350);

/// Frames that are looked at to measure a frame rate that nobody declares: half a second of a common camera.
const MAX_PROBED_FRAMES: usize = 12;

/// How long frames are looked at for that; slower cameras are measured by fewer frames.
const PROBE_TIME: Duration = Duration::from_secs(2);

/// Without a size from SDP or a first frame, the source is not open. Cameras send one every 1 to 10 seconds.
const UNKNOWN_SIZE: &str = "no frame came that says how large the picture is";

/// Port of RTSP.
pub(in crate::capture) const DEFAULT_PORT: u16 = 554;

/// A camera's URL without its credentials; `None`: it is none.
pub(in crate::capture) fn place(url: &str) -> Option<url::Url> {
    Address::parse(url, false).ok().map(|address| address.url)
}

/// An RTSP session that plays.
struct Camera {
    runtime: Runtime,
    /// Always there until dropped.
    session: Option<Box<Demuxed>>,
    /// Where retina notes sessions that must be torn down.
    group: Arc<SessionGroup>,
    stream: usize,
    codec: Codec,
    properties: SourceProperties,
    punctuality: Punctuality,
    /// Frames that came while the frame rate was measured.
    early: VecDeque<VideoFrame>,
    /// The frame that was given out last.
    current: Option<VideoFrame>,
    /// That frame waits: its predecessor was lost, which was reported first.
    current_is_next: bool,
}

/// Opens an RTSP source.
pub(super) fn open(url: &str, start: &Start, control: &Control) -> Result<Box<dyn Source>> {
    let address = Address::parse(url, start.settings.rtsp_udp)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.map_err(system("starting the worker's event loop"))?;
    let group = Arc::new(SessionGroup::default());
    let opening = async {
        let opening = play(address, &start.settings.user_agent, &group);
        let mut opening = std::pin::pin!(timeout(start.settings.open_timeout, opening));
        loop {
            match timeout(IDLE, opening.as_mut()).await {
                Ok(Ok(result)) => return result,
                Ok(Err(_)) => return Err(Error::new(Kind::SourceConnection, "the camera does not answer")),
                Err(_) if control.stopped() => return Err(Error::new(Kind::ShuttingDown, "told to stop")),
                Err(_) => {}
            }
        }
    };
    let opened = runtime.block_on(opening);
    match opened {
        Ok((session, stream, codec, properties, early)) => Ok(Box::new(Camera {
            runtime,
            session: Some(Box::new(session)),
            group,
            stream,
            codec,
            properties,
            punctuality: Punctuality::new(),
            early,
            current: None,
            current_is_next: false,
        })),
        Err(error) => {
            farewell(&runtime, &group, || {});
            Err(error)
        }
    }
}

type Playing = (Demuxed, usize, Codec, SourceProperties, VecDeque<VideoFrame>);

/// DESCRIBE, following redirects; SETUP of the first video stream; PLAY; until size and frame rate are known.
async fn play(mut address: Address, user_agent: &str, group: &Arc<SessionGroup>) -> Result<Playing> {
    let options = |address: &Address| {
        SessionOptions::default()
            .creds(address.credentials.clone())
            .user_agent(user_agent.to_owned())
            .session_group(Arc::clone(group))
    };
    let mut hops = 0;
    address = address.resolved().await;
    let mut session = loop {
        match Session::describe(address.url.clone(), options(&address)).await {
            Ok(session) => break session,
            Err(error) if error.status_code().is_some_and(|code| matches!(code, 301 | 302)) => {
                hops += 1;
                address = redirect::follow(&address, hops, user_agent).await?.resolved().await;
            }
            Err(error) => return Err(failed(&error, Kind::SourceConnection)),
        }
    };
    let (stream, codec) = choose(&session)?;
    let transport = if address.udp { Transport::Udp(Default::default()) } else { Transport::default() };
    let setup = SetupOptions::default().transport(transport).frame_format(FrameFormat::SIMPLE);
    let refused = |error| failed(&error, Kind::SourceConnection);
    session.setup(stream, setup).await.map_err(refused)?;
    let session = session.play(PlayOptions::default()).await.map_err(refused)?;
    let mut session = session.demuxed().map_err(refused)?;

    let mut early = VecDeque::new();
    let declared = declared_rate(&session, stream);
    let mut rate = Rate::default();
    let started = Instant::now();
    let (width, height) = loop {
        let size = size(&session, stream);
        let measured = declared.is_some() || early.len() >= MAX_PROBED_FRAMES || started.elapsed() >= PROBE_TIME;
        if let Some(size) = size
            && measured
        {
            break size;
        }
        let patience = if size.is_some() { PROBE_TIME.saturating_sub(started.elapsed()) } else { Duration::MAX };
        match timeout(patience, session.next()).await {
            Err(_) => {}
            Ok(Some(Ok(CodecItem::VideoFrame(frame)))) => {
                rate.see(frame.timestamp());
                if size.is_none() && early.len() >= MAX_PROBED_FRAMES {
                    // Nothing can be decoded without what says the size.
                    early.clear();
                }
                early.push_back(frame);
            }
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(error))) => return Err(failed(&error, Kind::SourceConnection)),
            Ok(None) => return Err(Error::new(Kind::SourceConnection, UNKNOWN_SIZE)),
        }
    };
    check_size(width, height)?;
    let fps = declared.or_else(|| rate.measured()).unwrap_or(0.0);
    let properties = SourceProperties { width, height, total_frames: 0, is_file: false, fps, timestamp_created: None };
    Ok((session, stream, codec, properties, early))
}

/// The first video stream whose codec we know.
fn choose<S: retina::client::State>(session: &Session<S>) -> Result<(usize, Codec)> {
    let mut others = Vec::new();
    for (index, stream) in session.streams().iter().enumerate().filter(|(_, stream)| matches!(stream.media(), "video" | "image"))
    {
        match stream.encoding_name() {
            "h264" => return Ok((index, Codec::H264)),
            "h265" => return Ok((index, Codec::H265)),
            "jpeg" => return Ok((index, Codec::Jpeg)),
            other => others.push(other),
        }
    }
    Err(Error::new(
        Kind::SourceUnsupported,
        match others.is_empty() {
            true => "the camera offers no video".to_owned(),
            false => format!("the camera offers only {}, and H.264, H.265 and JPEG are supported", others.join(", ")),
        },
    ))
}

/// What the sequence parameter set or the SDP says; nothing that cannot be.
fn declared_rate(session: &Demuxed, stream: usize) -> Option<f64> {
    let stream = session.streams().get(stream)?;
    let by_parameters = match stream.parameters() {
        Some(ParametersRef::Video(video)) => video.frame_rate().map(|(time, frames)| f64::from(frames) / f64::from(time)),
        _ => None,
    };
    let plausible = |fps: &f64| fps.is_finite() && (0.1..=1000.0).contains(fps);
    stream.framerate().map(f64::from).filter(plausible).or(by_parameters.filter(plausible))
}

fn size(session: &Demuxed, stream: usize) -> Option<(u32, u32)> {
    match session.streams().get(stream)?.parameters()? {
        ParametersRef::Video(video) => Some(video.pixel_dimensions()),
        _ => None,
    }
}

impl Camera {
    fn give(&mut self) -> Result<Grab<'_>> {
        match &self.current {
            None => Ok(Grab::Idle),
            Some(frame) => Ok(Grab::Packet(self.codec, AccessUnit { data: frame.data(), shown: true })),
        }
    }
}

impl Source for Camera {
    fn properties(&self) -> SourceProperties {
        self.properties
    }

    fn grab(&mut self) -> Result<Grab<'_>> {
        if std::mem::take(&mut self.current_is_next) {
            return self.give();
        }
        let frame = match self.early.pop_front() {
            Some(frame) => frame,
            None => {
                let Some(session) = &mut self.session else { return Ok(Grab::End) };
                // Inside the runtime: a timer is made when `timeout` is called.
                match self.runtime.block_on(async { timeout(IDLE, session.next()).await }) {
                    Err(_) => return Ok(Grab::Idle),
                    Ok(Some(Ok(CodecItem::VideoFrame(frame)))) => {
                        self.punctuality.see_frame(frame.timestamp(), frame.loss());
                        frame
                    }
                    Ok(Some(Ok(CodecItem::Rtcp(packets)))) => {
                        self.punctuality.see_control(&packets);
                        return Ok(Grab::Idle);
                    }
                    // Whatever else: the camera answers, but that is no picture.
                    Ok(Some(Ok(_))) => return Ok(Grab::Idle),
                    Ok(Some(Err(error))) => return Err(failed(&error, Kind::SourceLost)),
                    Ok(None) => return Err(Error::new(Kind::SourceLost, "the camera closed the connection")),
                }
            }
        };
        let lost = frame.loss() > 0 && self.codec != Codec::Jpeg && frame.stream_id() == self.stream;
        self.current = Some(frame);
        if lost {
            self.current_is_next = true;
            return Ok(Grab::Gap);
        }
        self.give()
    }

    fn restart(&mut self) -> Result<()> {
        Err(Error::new(Kind::SourceLost, "a camera cannot be rewound"))
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        let session = self.session.take();
        farewell(&self.runtime, &self.group, move || drop(session));
    }
}

/// TEARDOWN: cameras with few sessions refuse the next client until they have heard it. retina sends it in the background
/// once a session is dropped, which `leave` does.
fn farewell(runtime: &Runtime, group: &SessionGroup, leave: impl FnOnce()) {
    runtime.block_on(async {
        leave();
        let _ = timeout(TEARDOWN_TIMEOUT, group.await_teardown()).await;
    });
}

/// retina's words, without the lines about connection and message; its status, where the camera gave one.
fn failed(error: &retina::Error, otherwise: Kind) -> Error {
    let text = error.to_string();
    let text = text.lines().next().unwrap_or_default().trim_end_matches(':').to_owned();
    let kind = match error.status_code() {
        Some(401 | 403) => Kind::SourceUnauthorised,
        _ => otherwise,
    };
    Error::new(kind, text)
}
