//! A pipeline's feed as server-sent events: the body of `GET /pipelines/{id}/events`.
//!
//! `event: detections` carries the bytes of a frame's datagram, `event: update` an entry of the status report, and
//! `event: end` is the last one and says why. Comments keep proxies from taking silence for a dead connection.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use smol::Timer;

use super::live::Live;
use crate::feed::{End, Feed, Message};
use crate::json::{Style, Writer};
use crate::proto::connections::Seat;
use crate::proto::report_json;

/// Silence after which a comment is sent. Proxies give up after 60 s, and a client that vanished is found by writing to it.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Sent at once, so that the client knows that it listens before anything happens.
const GREETING: &[u8] = b": listening\n\n";

/// What [`HEARTBEAT`] is for.
const COMMENT: &[u8] = b": still here\n\n";

/// The body of a reply.
pub(super) enum Reply {
    /// All there already.
    Whole(Full<Bytes>),
    /// Comes as it happens.
    Events(Box<Events>),
    /// Pictures, as they are taken.
    Live(Box<Live>),
}

/// See the module.
pub(super) struct Events {
    /// `None` when the last event is out.
    feed: Option<Feed>,
    heartbeat: Timer,
    has_greeted: bool,
    seat: Rc<Seat>,
}

impl Events {
    /// The feed, sent over the connection in that seat.
    pub(super) fn new(feed: Feed, seat: Rc<Seat>) -> Events {
        seat.stream(true);
        Events { feed: Some(feed), heartbeat: Timer::after(HEARTBEAT), has_greeted: false, seat }
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(feed) = &mut self.feed else { return Poll::Ready(None) };
        if !self.has_greeted {
            self.has_greeted = true;
            return Poll::Ready(Some(Bytes::from_static(GREETING)));
        }
        match feed.poll_next(context) {
            Poll::Ready(Ok(message)) => {
                self.heartbeat.set_after(HEARTBEAT);
                // A client that takes what it is sent is not the one to make room for another.
                self.seat.idle();
                Poll::Ready(Some(event(&message)))
            }
            Poll::Ready(Err(end)) => {
                self.feed = None;
                self.seat.stream(false);
                Poll::Ready(Some(Bytes::from_static(farewell(end))))
            }
            Poll::Pending => Pin::new(&mut self.heartbeat).poll(context).map(|_| {
                self.heartbeat.set_after(HEARTBEAT);
                Some(Bytes::from_static(COMMENT))
            }),
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.seat.stream(false);
    }
}

/// JSON has no line breaks of its own here, so each event is one line of data.
fn event(message: &Message) -> Bytes {
    let (name, data) = match message {
        Message::Detections(datagram) => ("detections", datagram.to_vec()),
        Message::Update(update) => {
            let mut json = Writer::new(Style::Python);
            report_json::update(&mut json, update);
            ("update", json.finish())
        }
    };
    [b"event: ", name.as_bytes(), b"\ndata: ", &data, b"\n\n"].concat().into()
}

fn farewell(end: End) -> &'static [u8] {
    match end {
        End::Terminated => b"event: end\ndata: {\"reason\": \"terminated\"}\n\n",
        End::TooSlow => b"event: end\ndata: {\"reason\": \"too_slow\"}\n\n",
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Reply::Whole(body) => Pin::new(body).poll_frame(context),
            Reply::Events(events) => events.poll_event(context).map(|event| event.map(|bytes| Ok(Frame::data(bytes)))),
            Reply::Live(live) => live.poll_piece(context).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Reply::Whole(body) => body.is_end_stream(),
            Reply::Events(events) => events.feed.is_none(),
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
