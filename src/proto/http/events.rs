//! Feeds of pipelines as server-sent events: the bodies of `GET /pipelines/{id}/events` and of `GET /events`.
//!
//! `event: detections` carries the bytes of a frame's datagram, `event: update` an entry of the status
//! report, and `event: end` is a pipeline's last one and says why. Where several are listened to, each
//! event's data names its pipeline. Comments keep proxies from taking silence for a dead connection.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use smol::Timer;

use super::live::Live;
use crate::command::PipelineId;
use crate::feed::{End, Feed, Message};
use crate::json::{Style, Writer};
use crate::proto::connections::ConnectionSlot;
use crate::proto::report_json;

/// Silence after which a comment is sent. Proxies give up after 60 s, and a client that vanished is found by
/// writing to it.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Sent at once, so that the client knows that it listens before anything happens.
const GREETING: &[u8] = b": listening\n\n";

/// What [`HEARTBEAT`] is for.
const COMMENT: &[u8] = b": still here\n\n";

/// The body of a reply.
pub(super) enum Reply {
    /// Bytes that are all there already.
    Whole(Full<Bytes>),
    /// Comes as it happens.
    Events(Box<Events>),
    /// Pictures, as they are taken.
    Live(Box<Live>),
}

/// The body of a reply that is a stream of events.
pub(super) struct Events {
    /// Those whose last event is not out yet.
    feeds: Vec<(PipelineId, Feed)>,
    /// The first one that is looked at: each has its turn, however much the others have to say.
    turn: usize,
    /// Every event names its pipeline.
    is_named: bool,
    heartbeat: Timer,
    has_greeted: bool,
    slot: Rc<ConnectionSlot>,
}

impl Events {
    /// The feeds, sent over the connection in that slot.
    pub(super) fn new(feeds: Vec<(PipelineId, Feed)>, is_named: bool, slot: Rc<ConnectionSlot>) -> Events {
        slot.stream(true);
        Events { feeds, turn: 0, is_named, heartbeat: Timer::after(HEARTBEAT), has_greeted: false, slot }
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.feeds.is_empty() {
            return Poll::Ready(None);
        }
        if !self.has_greeted {
            self.has_greeted = true;
            return Poll::Ready(Some(Bytes::from_static(GREETING)));
        }
        for _ in 0..self.feeds.len() {
            self.turn = (self.turn + 1) % self.feeds.len();
            let Some((id, feed)) = self.feeds.get_mut(self.turn) else { continue };
            let name = self.is_named.then_some(*id);
            match feed.poll_next(context) {
                Poll::Ready(Ok(message)) => {
                    self.heartbeat.set_after(HEARTBEAT);
                    // A client that takes what it is sent is not the one to make room for another.
                    self.slot.idle();
                    return Poll::Ready(Some(event(name, &message)));
                }
                Poll::Ready(Err(end)) => {
                    self.feeds.swap_remove(self.turn);
                    if self.feeds.is_empty() {
                        self.slot.stream(false);
                    }
                    return Poll::Ready(Some(farewell(name, end)));
                }
                Poll::Pending => {}
            }
        }
        Pin::new(&mut self.heartbeat).poll(context).map(|_| {
            self.heartbeat.set_after(HEARTBEAT);
            Some(Bytes::from_static(COMMENT))
        })
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.slot.stream(false);
    }
}

/// JSON has no line breaks of its own here, so each event is one line of data.
fn event(pipeline: Option<PipelineId>, message: &Message) -> Bytes {
    let (name, data) = match message {
        Message::Detections(datagram) => ("detections", datagram.to_vec()),
        Message::Update(update) => {
            let mut json = Writer::new(Style::Python);
            report_json::update(&mut json, update);
            ("update", json.finish())
        }
    };
    match pipeline {
        None => [b"event: ", name.as_bytes(), b"\ndata: ", &data, b"\n\n"].concat().into(),
        Some(id) => {
            let begin = format!("event: {name}\ndata: {{\"pipeline_id\": \"{id}\", \"{name}\": ");
            [begin.as_bytes(), &data, b"}\n\n"].concat().into()
        }
    }
}

fn farewell(pipeline: Option<PipelineId>, end: End) -> Bytes {
    let reason = match end {
        End::Terminated => "terminated",
        End::TooSlow => "too_slow",
    };
    let name = pipeline.map(|id| format!("\"pipeline_id\": \"{id}\", ")).unwrap_or_default();
    format!("event: end\ndata: {{{name}\"reason\": \"{reason}\"}}\n\n").into()
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Reply::Whole(body) => Pin::new(body).poll_frame(context),
            Reply::Events(events) => {
                events.poll_event(context).map(|event| event.map(|bytes| Ok(Frame::data(bytes))))
            }
            Reply::Live(live) => {
                live.poll_piece(context).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Reply::Whole(body) => body.is_end_stream(),
            Reply::Events(events) => events.feeds.is_empty(),
            Reply::Live(live) => live.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Reply::Whole(body) => body.size_hint(),
            Reply::Events(_) | Reply::Live(_) => SizeHint::default(),
        }
    }
}
