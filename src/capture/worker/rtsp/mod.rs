//! RTSP cameras. `retina` speaks the protocol, through a [`relay`] that puts right what cameras get
//! wrong; packets become access units in [`depacketise`]. All on a tokio runtime that only runs
//! while this source is asked for something.
//!
//! Every await here has a deadline, and whatever a server can make grow has a bound of its own.

mod address;
mod depacketise;
mod kept;
mod order;
mod player;
mod punctuality;
mod rate;
mod relay;
mod rtp;
mod sdp;
mod sender;
mod stream;
mod transport;

use crate::capture::ipc::Start;
use crate::capture::worker::control::Control;
use crate::capture::worker::decode::{AccessUnit, Codec};
use crate::capture::worker::net::ASKING_STACK_BYTES;
use crate::capture::worker::picture::check_size;
use crate::capture::worker::record::Recorder;
use crate::capture::worker::sandbox::{self, Confinement};
use crate::capture::worker::source::{Grab, IDLE, Source};
use crate::command::{PacketLosses, SourceProperties};
use crate::error::{Error, Kind, Result, system};
use address::Address;
use depacketise::{Facts, Unit};
use futures::StreamExt;
use player::Player;
use punctuality::Punctuality;
use rate::Rate;
use relay::Relay;
use retina::client::{PlayOptions, Playing, Session, SessionGroup, SessionOptions, SetupOptions};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// From ours to the camera's farewell. Less than the grace that the parent gives (500 ms), less one [`IDLE`].
const TEARDOWN_TIMEOUT: Duration = Duration::from_millis(350);

/// Frames that are looked at to measure a frame rate that nobody declares: half a second of a common camera.
const MAX_PROBED_FRAMES: usize = 12;
/// Frames that came meanwhile, each with its time in seconds.
type Early = heapless::Deque<(Unit, f64), MAX_PROBED_FRAMES>;

/// How long frames are looked at for that; slower cameras are measured by fewer frames.
const PROBE_TIME: Duration = Duration::from_secs(2);

/// How long a first frame is waited for where the session description says how large it is: what frames
/// themselves say is better known.
const DESCRIBED_PATIENCE: Duration = Duration::from_secs(1);

/// How long a first packet over UDP is waited for before TCP is tried, which firewalls let pass more often;
/// half of the time to open a source where that is less. ffmpeg waits as long.
const UDP_PATIENCE: Duration = Duration::from_secs(5);

/// While a first frame is waited for, what comes instead is looked at so often.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// So many pictures of which nobody says how large they are, and no more are waited for.
const MAX_SIZELESS_PICTURES: u32 = 5;

/// Bytes of frames that are kept while they are looked at.
const MAX_PROBED_BYTES: usize = 16 * 1024 * 1024;

/// Most redirects in a row. Load balancers use one.
const MAX_HOPS: u32 = 3;

/// Without a size from SDP or a first frame, the source is not open. Cameras send one every 1 to 10 seconds.
const UNKNOWN_SIZE: &str = "no frame came that says how large the picture is";

/// JPEG over RTP that says it nowhere.
const SIZELESS: &str = "the camera says nowhere how large its pictures are: its JPEG packets have width and height 0 (RFC 2435), no headers of their own (ONVIF), and the session description has no a=x-dimensions, a=framesize or a=cliprect";

/// An RTSP session that plays.
struct Camera {
    runtime: Runtime,
    /// The line to the service, until the session is dropped.
    line: Option<Line>,
    /// Where retina notes sessions that must be torn down.
    group: Arc<SessionGroup>,
    codec: Codec,
    properties: SourceProperties,
    punctuality: Punctuality,
    notice: Option<&'static str>,
    /// Frames that came while the frame rate was measured.
    early: Early,
    /// The frame that was given out last.
    current: Option<Unit>,
}

/// A playing session, and what lies between it and the camera.
struct Line {
    relay: Relay,
    /// `None`: retina has given up. Packets may come all the same.
    session: Option<Session<Playing>>,
}

impl Line {
    /// Waits for a unit, for so long; keeps the session alive meanwhile. `None`: none came.
    async fn next(&mut self, patience: Duration) -> Result<Option<(Unit, f64)>> {
        match timeout(patience, poll_fn(|context| self.poll(context))).await {
            Err(_) => Ok(None),
            Ok(result) => result.map(|()| self.relay.stream().and_then(stream::Stream::pop)),
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        while let Some(session) = &mut self.session {
            match session.poll_next_unpin(context) {
                // No packet gets there.
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => {
                    log::debug!("event=keep_alives_ended error=\"{}\"", words(&error));
                    self.session = None;
                }
                Poll::Ready(None) => self.session = None,
                Poll::Pending => break,
            }
        }
        self.relay.poll(context)
    }
}

/// Opens an RTSP source.
pub(super) fn open(
    url: &str,
    start: &Start,
    confinement: &Confinement,
    control: &Control,
    recorder: &Recorder,
) -> Result<Box<dyn Source>> {
    let address = Address::parse(url, start.settings.rtsp_udp)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .thread_stack_size(ASKING_STACK_BYTES)
        .build();
    let runtime = runtime.map_err(system("starting the worker's event loop"))?;
    let group = Arc::new(SessionGroup::default());
    let mut line = None;
    let opening = async {
        let settings = &start.settings;
        let silent = || Error::new(Kind::SourceConnection, "the camera does not answer");
        let opening = async {
            let played = timeout(settings.open_timeout, play(address, start, confinement, &group, recorder));
            let line = line.insert(played.await.map_err(|_| silent())??);
            look(line, settings.open_timeout).await
        };
        let mut opening = std::pin::pin!(opening);
        loop {
            match timeout(IDLE, opening.as_mut()).await {
                Ok(result) => return result,
                Err(_) if control.stopped() => return Err(Error::new(Kind::ShuttingDown, "told to stop")),
                Err(_) => {}
            }
        }
    };
    let opened = runtime.block_on(opening);
    let (properties, early, codec) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            farewell(&runtime, &group, line);
            return Err(error);
        }
    };
    let notice = line.as_ref().and_then(|line| line.relay.notice());
    let punctuality = Punctuality::new();
    Ok(Box::new(Camera {
        runtime,
        line,
        group,
        codec,
        properties,
        punctuality,
        notice,
        early,
        current: None,
    }))
}

/// What ends a part of the talk.
enum Step {
    Played(Box<Session<Playing>>),
    Refused(retina::Error),
    Redirected(String),
    Failed(Error),
}

/// DESCRIBE, following redirects; SETUP of the first video stream; PLAY.
async fn play(
    mut address: Address,
    start: &Start,
    confinement: &Confinement,
    group: &Arc<SessionGroup>,
    recorder: &Recorder,
) -> Result<Line> {
    let (mut player, url) = Player::open().await?;
    let options = SessionOptions::default()
        .user_agent(start.settings.user_agent.clone())
        .session_group(Arc::clone(group));
    let talk = async {
        let mut session = Session::describe(url, options).await?;
        session.setup(0, SetupOptions::default()).await?;
        session.play(PlayOptions::default()).await
    };
    let mut talk = std::pin::pin!(talk);
    // retina comes to its end of the relay before the first byte from outside: from then on nothing in this
    // process connects.
    let request = poll_fn(|context| match talk.as_mut().poll(context) {
        Poll::Ready(Err(error)) => Poll::Ready(Err(Error::new(Kind::System, words(&error)))),
        Poll::Ready(Ok(_)) => Poll::Ready(Err(Error::new(Kind::System, "played before it was asked for"))),
        Poll::Pending => player.poll_request(context),
    });
    let request = request.await?;
    sandbox::before_first_byte(start, confinement);
    let mut relay = Relay::open(&address, &start.trust, player, recorder).await?;
    relay.pass_on(&request)?;
    let mut hops = 0;
    loop {
        let step = poll_fn(|context| {
            // Before PLAY is answered it has nothing but failures to tell.
            if let Poll::Ready(Err(error)) = relay.poll(context) {
                return Poll::Ready(Step::Failed(error));
            }
            if let Some(location) = relay.redirect() {
                return Poll::Ready(Step::Redirected(location.to_owned()));
            }
            talk.as_mut().poll(context).map(|talked| match talked {
                Ok(session) => Step::Played(Box::new(session)),
                Err(error) => Step::Refused(error),
            })
        });
        match step.await {
            Step::Played(session) => return Ok(Line { relay, session: Some(*session) }),
            Step::Redirected(_) if hops >= MAX_HOPS => {
                return Err(Error::new(
                    Kind::SourceConnection,
                    format!("redirected more than {MAX_HOPS} times"),
                ));
            }
            Step::Redirected(location) => {
                hops += 1;
                address = address.redirected(&location)?;
                relay.follow(&address, &start.trust).await?;
            }
            Step::Refused(error) => {
                let words = || Error::new(Kind::SourceConnection, words(&error));
                let failure = relay.take_failure().unwrap_or_else(words);
                if relay.has_session() {
                    part(&mut relay, group).await;
                }
                return Err(failure);
            }
            Step::Failed(error) => return Err(relay.take_failure().unwrap_or(error)),
        }
    }
}

/// Nothing comes over UDP: the camera is asked once more, for RTP over TCP.
async fn fall_back(line: &mut Line, waited: Duration) -> Result<()> {
    let began = async {
        line.relay.begin_over_tcp().await?;
        poll_fn(|context| {
            if let Poll::Ready(Err(error)) = line.poll(context) {
                return Poll::Ready(Err(line.relay.take_failure().unwrap_or(error)));
            }
            match line.relay.take_failure() {
                Some(failure) => Poll::Ready(Err(failure)),
                None if line.relay.is_playing() => Poll::Ready(Ok(())),
                None => Poll::Pending,
            }
        })
        .await
    };
    began.await.map_err(|error: Error| {
        let seconds = waited.as_secs_f32();
        let message =
            format!("nothing came over UDP for {seconds:.1} seconds, and over TCP: {}", error.message());
        Error::new(error.kind(), message)
    })
}

/// Takes frames until size and frame rate are known.
async fn look(line: &mut Line, patience: Duration) -> Result<(SourceProperties, Early, Codec)> {
    let media =
        line.relay.media().cloned().ok_or_else(|| Error::new(Kind::SourceConnection, UNKNOWN_SIZE))?;
    let (mut early, mut bytes) = (Early::new(), 0);
    let mut rate = Rate::default();
    let mut facts = line.relay.stream().and_then(|stream| stream.facts(None));
    let described = facts.is_some();
    let udp_patience = UDP_PATIENCE.min(patience / 2);
    let started = Instant::now();
    let (width, height, declared) = loop {
        if line.relay.is_silent_over_udp() && started.elapsed() >= udp_patience {
            let left = patience.saturating_sub(started.elapsed());
            let silent = || {
                Error::new(
                    Kind::SourceConnection,
                    "the camera sends nothing over UDP, and does not answer over TCP",
                )
            };
            timeout(left, fall_back(line, udp_patience)).await.map_err(|_| silent())??;
        }
        if facts.is_none()
            && line.relay.stream().is_some_and(|stream| stream.sizeless() >= MAX_SIZELESS_PICTURES)
        {
            return Err(Error::new(Kind::SourceUnsupported, SIZELESS));
        }
        let is_silent_over_udp = line.relay.is_silent_over_udp();
        let declared = media.fps.or_else(|| facts.and_then(|facts| facts.fps));
        let patience = match (facts, early.is_empty()) {
            (Some(Facts { width, height, .. }), false) => {
                let full = early.len() >= MAX_PROBED_FRAMES || bytes >= MAX_PROBED_BYTES;
                if declared.is_some() || full || started.elapsed() >= PROBE_TIME {
                    break (width, height, declared);
                }
                PROBE_TIME
            }
            (_, true) if is_silent_over_udp => udp_patience,
            (Some(Facts { width, height, .. }), true) if started.elapsed() >= DESCRIBED_PATIENCE => {
                break (width, height, declared);
            }
            (Some(_), true) => DESCRIBED_PATIENCE,
            (None, _) if started.elapsed() >= patience => {
                return Err(Error::new(Kind::SourceConnection, UNKNOWN_SIZE));
            }
            (None, _) => patience,
        };
        let left = patience.saturating_sub(started.elapsed());
        let Some((unit, at)) = line.next(left.min(LOOK_AGAIN)).await? else { continue };
        rate.see(at);
        if let Some(stream) = line.relay.stream()
            && (facts.is_none() || (described && early.is_empty()))
        {
            facts = stream.facts(Some(&unit)).or(facts);
        }
        bytes += unit.data.len();
        if facts.is_none() && (early.len() >= MAX_PROBED_FRAMES || bytes >= MAX_PROBED_BYTES) {
            // Nothing can be decoded without what says the size.
            early.clear();
            bytes = unit.data.len();
        }
        let kept = early.push_back((unit, at));
        debug_assert!(kept.is_ok(), "it is looked whether there are enough before another one comes");
    };
    check_size(width, height)?;
    let fps = declared.or_else(|| rate.measured()).unwrap_or(0.0);
    let properties =
        SourceProperties { width, height, total_frames: 0, is_file: false, fps, timestamp_created: None };
    Ok((properties, early, media.codec))
}

impl Source for Camera {
    fn properties(&self) -> SourceProperties {
        self.properties
    }

    fn grab(&mut self) -> Result<Grab<'_>> {
        let Some(line) = &mut self.line else { return Ok(Grab::End) };
        if let (Some(last), Some(stream)) = (self.current.take(), line.relay.stream()) {
            stream.recycle(last.data);
        }
        let (unit, at) = match self.early.pop_front() {
            Some(early) => early,
            // Inside the runtime: a timer is made when `timeout` is called.
            None => match self.runtime.block_on(line.next(IDLE))? {
                Some(next) => next,
                None => return Ok(Grab::Idle),
            },
        };
        self.punctuality.see_frame(at);
        if let Some(ntp) = line.relay.stream().and_then(stream::Stream::report) {
            self.punctuality.see_clock(ntp);
        }
        self.punctuality.report_if_due(&line.relay.losses());
        // What is missing is missing in the picture; the next key frame mends it. Others show it so, and to
        // see nothing until then would be the greater loss.
        let unit = self.current.insert(unit);
        Ok(Grab::Packet(self.codec, AccessUnit { data: &unit.data, shown: true }))
    }

    fn losses(&self) -> PacketLosses {
        self.line.as_ref().map(|line| line.relay.losses()).unwrap_or_default()
    }

    fn notice(&self) -> Option<&str> {
        self.notice
    }

    fn restart(&mut self) -> Result<()> {
        Err(Error::new(Kind::SourceLost, "a camera cannot be rewound"))
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        farewell(&self.runtime, &self.group, self.line.take());
    }
}

/// TEARDOWN: cameras with few sessions refuse the next client until they have heard it. retina sends it in
/// the background once a session is dropped.
fn farewell(runtime: &Runtime, group: &SessionGroup, line: Option<Line>) {
    let Some(Line { mut relay, session }) = line else { return };
    runtime.block_on(async {
        drop(session);
        part(&mut relay, group).await;
    });
}

/// Passes retina's farewell on, and waits for the camera's.
async fn part(relay: &mut Relay, group: &SessionGroup) {
    relay.stop_playing();
    let mut told = std::pin::pin!(group.await_teardown());
    let passing_on = poll_fn(|context| match relay.poll(context) {
        Poll::Ready(Err(_)) => Poll::Ready(()),
        _ => told.as_mut().poll(context).map(drop),
    });
    let _ = timeout(TEARDOWN_TIMEOUT, passing_on).await;
}

/// retina's words, without the lines about connection and message.
fn words(error: &retina::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim_end_matches(':').to_owned()
}
