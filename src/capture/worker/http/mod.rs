//! Cameras behind HTTP: Motion JPEG as one answer without end, or a still JPEG that is asked for again and
//! again.
//!
//! What a server says about its answer is wrong too often (content types, boundaries, lengths): the bytes
//! decide. A picture begins and ends where JPEG says so, and what stands between pictures is passed over.

mod client;
mod pictures;

use crate::capture::ipc::Start;
use crate::capture::worker::control::Control;
use crate::capture::worker::decode::{AccessUnit, Codec, jpeg_size};
use crate::capture::worker::net::ASKING_STACK_BYTES;
use crate::capture::worker::record::Recorder;
use crate::capture::worker::source::{Grab, IDLE, Source};
use crate::command::{Property, SourceProperties};
use crate::error::{Error, Kind, Result, system};
use client::{Body, Client};
use pictures::Pictures;
use std::pin::Pin;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// From asking to the head of the answer, at most.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// From the head to the first picture, at most.
const FIRST_PICTURE_TIMEOUT: Duration = Duration::from_secs(15);

/// An answer that goes on for so long after its first picture is a stream, whatever it says it is.
const STILL_PATIENCE: Duration = Duration::from_millis(500);

/// How often a still picture is asked for where `fps` of the source properties does not say.
const DEFAULT_POLL_FPS: f64 = 1.0;

/// Opens `http://` and `https://` sources. User and password of the URL are used for Basic or Digest,
/// whichever the server asks for.
///
/// Errors: `SourceUnauthorised` for 401 and 403, `SourceUnsupported` for what is neither Motion JPEG nor a
/// JPEG, else `SourceConnection`.
pub(super) fn open(
    url: &str,
    start: &Start,
    control: &Control,
    recorder: &Recorder,
) -> Result<Box<dyn Source>> {
    let client = Client::new(url, &start.settings.user_agent, &start.trust, recorder)?;
    open_with(client, &start.request.properties, start.settings.open_timeout, || control.stopped())
}

fn open_with(
    client: Client,
    properties: &[Property],
    open_timeout: Duration,
    stopped: impl Fn() -> bool,
) -> Result<Box<dyn Source>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .thread_stack_size(ASKING_STACK_BYTES)
        .build();
    let runtime = runtime.map_err(system("starting the worker's event loop"))?;
    let polled =
        properties.iter().rev().find(|property| property.name == "fps").map(|property| property.value);
    let interval = 1.0 / polled.filter(|&fps| (0.001..=100.0).contains(&fps)).unwrap_or(DEFAULT_POLL_FPS);
    let camera = runtime.block_on(async {
        let mut opening = std::pin::pin!(Answer::first(client));
        let began = Instant::now();
        loop {
            match timeout(IDLE, opening.as_mut()).await {
                Ok(result) => return result,
                Err(_) if stopped() => return Err(Error::new(Kind::ShuttingDown, "told to stop")),
                Err(_) if began.elapsed() >= open_timeout => {
                    return Err(Error::new(Kind::SourceConnection, "the server sends no picture in time"));
                }
                Err(_) => {}
            }
        }
    });
    let (answer, first) = camera?;
    let (width, height) =
        jpeg_size(&first).ok_or_else(|| unsupported("the server sends something else than JPEG"))?;
    let fps = if answer.is_still { 1.0 / interval } else { 0.0 };
    let properties =
        SourceProperties { width, height, total_frames: -1, is_file: false, fps, timestamp_created: None };
    let interval = Duration::from_secs_f64(interval);
    let due = Instant::now() + interval;
    let state = if answer.is_still { State::Waiting(answer) } else { State::Streaming(answer) };
    Ok(Box::new(Camera {
        runtime,
        state: Some(state),
        interval,
        due,
        properties,
        current: first,
        fresh: true,
    }))
}

fn unsupported(words: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Kind::SourceUnsupported, words)
}

/// A server's answer, as far as it has been read.
struct Answer {
    client: Client,
    body: Body,
    pictures: Pictures,
    /// It ended after its one picture: the next one must be asked for.
    is_still: bool,
}

impl Answer {
    /// Asks, and reads to the first picture.
    async fn first(client: Client) -> Result<(Answer, Vec<u8>)> {
        let mut answer = Answer::ask(client).await?;
        let silent = |_| Error::new(Kind::SourceConnection, "the server sends no picture");
        let first = timeout(FIRST_PICTURE_TIMEOUT, answer.next()).await.map_err(silent)?;
        let first = first.map_err(|error| answer.explained(error))?;
        let first = first.ok_or_else(|| answer.explained(unsupported("")))?;
        // Before anything else follows, a still picture has ended.
        answer.is_still = !answer.body.is_multipart()
            && matches!(timeout(STILL_PATIENCE, answer.ended()).await, Ok(Ok(true)));
        Ok((answer, first))
    }

    async fn ask(mut client: Client) -> Result<Answer> {
        let late = |_| Error::new(Kind::SourceConnection, "the server does not answer");
        let body = timeout(RESPONSE_TIMEOUT, client.get()).await.map_err(late)??;
        Ok(Answer { client, body, pictures: Pictures::default(), is_still: false })
    }

    /// The next picture; `None`: the answer has ended. May be dropped without losing a byte.
    async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(picture) = self.pictures.next()? {
                return Ok(Some(picture));
            }
            if !self.read().await? {
                return Ok(self.pictures.last());
            }
        }
    }

    /// Whether the answer ends before another picture begins.
    async fn ended(&mut self) -> Result<bool> {
        while !self.pictures.has_begun() {
            if !self.read().await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn read(&mut self) -> Result<bool> {
        self.client.read(&mut self.body, self.pictures.input()).await
    }

    /// What the server sends instead of a picture, where it says so.
    fn explained(&self, error: Error) -> Error {
        let kind = self.body.content_type();
        match kind {
            _ if error.kind() != Kind::SourceUnsupported => error,
            _ if self.body.is_multipart() => Error::new(
                Kind::SourceConnection,
                "the server sends something else than pictures one after the other",
            ),
            kind if kind.starts_with("video/") || kind == "application/octet-stream" => unsupported(
                "video files over HTTP are not supported: copy the file here, or use RTSP or Motion JPEG",
            ),
            "" => unsupported("the server sends something else than Motion JPEG or a JPEG"),
            kind if kind.starts_with("image/jp") => unsupported("the server sends something else than JPEG"),
            kind => unsupported(format!("the server sends {kind:.64}, not Motion JPEG or a JPEG")),
        }
    }
}

/// A request under way; `None`: the answer holds no picture.
type Asking = dyn Future<Output = Result<(Answer, Option<Vec<u8>>)>>;

/// What is done at present. Asking takes longer than one `grab` may: the request is carried on by the next.
enum State {
    Streaming(Answer),
    /// For the time of the next still picture.
    Waiting(Answer),
    Asking(Pin<Box<Asking>>),
}

/// A camera whose answer has begun to come.
struct Camera {
    runtime: Runtime,
    /// Always there between two grabs.
    state: Option<State>,
    /// Between two still pictures.
    interval: Duration,
    due: Instant,
    properties: SourceProperties,
    current: Vec<u8>,
    /// `current` was not given out yet.
    fresh: bool,
}

/// Asks for the next still picture.
async fn still(before: Client) -> Result<(Answer, Option<Vec<u8>>)> {
    let mut answer = Answer::ask(before).await?;
    let late = |_| Error::new(Kind::SourceStalled, "the server sends no picture");
    let picture = timeout(FIRST_PICTURE_TIMEOUT, answer.next()).await.map_err(late)??;
    // What follows the picture, so that the connection can be used again.
    answer.is_still = matches!(timeout(STILL_PATIENCE, answer.ended()).await, Ok(Ok(true)));
    Ok((answer, picture))
}

impl Camera {
    /// The next picture; `None`: not yet.
    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let over = || Error::new(Kind::SourceLost, "the stream has ended");
        let state = self.state.take().ok_or_else(over)?;
        let (state, picture) = match state {
            State::Streaming(mut answer) => {
                let next = self.runtime.block_on(async { timeout(IDLE, answer.next()).await });
                match next {
                    Err(_) => (State::Streaming(answer), None),
                    Ok(Ok(next)) => (State::Streaming(answer), Some(next.ok_or_else(over)?)),
                    // It was pictures before.
                    Ok(Err(error)) => return Err(Error::new(Kind::SourceLost, error.message().to_owned())),
                }
            }
            State::Waiting(answer) => {
                let now = Instant::now();
                let until = self.due.min(now + IDLE);
                self.runtime.block_on(async { tokio::time::sleep_until(until.into()).await });
                match self.due <= Instant::now() {
                    true => {
                        self.due = (self.due + self.interval).max(Instant::now());
                        (State::Asking(Box::pin(still(answer.client))), None)
                    }
                    false => (State::Waiting(answer), None),
                }
            }
            State::Asking(mut asking) => {
                match self.runtime.block_on(async { timeout(IDLE, asking.as_mut()).await }) {
                    Err(_) => (State::Asking(asking), None),
                    Ok(answered) => {
                        let (answer, picture) = answered?;
                        let picture = picture
                            .ok_or_else(|| Error::new(Kind::SourceLost, "the picture was cut short"))?;
                        (State::Waiting(answer), Some(picture))
                    }
                }
            }
        };
        self.state = Some(state);
        Ok(picture)
    }
}

impl Source for Camera {
    fn properties(&self) -> SourceProperties {
        self.properties
    }

    fn grab(&mut self) -> Result<Grab<'_>> {
        if !std::mem::take(&mut self.fresh) {
            match self.next()? {
                Some(picture) => self.current = picture,
                None => return Ok(Grab::Idle),
            }
        }
        Ok(Grab::Packet(Codec::Jpeg, AccessUnit { data: &self.current, shown: true }))
    }

    fn restart(&mut self) -> Result<()> {
        Err(unsupported("a camera cannot be played from its start"))
    }
}

#[cfg(test)]
mod tests;
