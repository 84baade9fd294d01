//! A source's pictures one after the other, as browsers show them in an `<img>`: the body of `GET
//! /pipelines/{id}/live.mjpeg`.
//!
//! A picture is asked for when its time has come and the one before has gone out: a client that does not keep
//! up gets fewer, and for one that takes nothing none is made.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use smol::Timer;

use crate::proto::connections::ConnectionSlot;
use crate::view::{Shown, Viewer};

/// Without a new picture for so long, the last one is sent again: proxies give up after 60 s, and a client
/// that vanished is found by writing to it.
const REPEAT: Duration = Duration::from_secs(15);

/// What a live picture is.
pub(super) struct Live {
    /// `None` when the last part is out.
    viewer: Option<Viewer>,
    last: Shown,
    /// Pieces of the part that goes out: the first boundary, head, picture, the next boundary.
    out: heapless::Deque<Bytes, 4>,
    /// Between two pictures, at least.
    interval: Duration,
    /// When the next picture may be asked for.
    due: Instant,
    has_asked: bool,
    /// Rings when `due`, and once a picture is asked for when the last is to be repeated.
    timer: Timer,
    boundary: String,
    slot: Rc<ConnectionSlot>,
}

impl Live {
    /// Begins with a picture that is there already, and goes on with those of `viewer`.
    pub(super) fn new(viewer: Viewer, first: Shown, interval: Duration, slot: Rc<ConnectionSlot>) -> Live {
        slot.stream(true);
        let due = Instant::now() + interval;
        let boundary = format!("weir-{}", uuid::Uuid::new_v4().simple());
        let mut live = Live {
            viewer: Some(viewer),
            last: first,
            out: heapless::Deque::new(),
            interval,
            due,
            has_asked: false,
            timer: Timer::at(due),
            boundary,
            slot,
        };
        live.put(format!("--{}\r\n", live.boundary).into());
        live.send_last();
        live
    }

    /// `multipart/x-mixed-replace` with the boundary that nobody could have known before.
    pub(super) fn content_type(&self) -> String {
        format!("multipart/x-mixed-replace; boundary={}", self.boundary)
    }

    /// Puts a part into the way out. Its end is the beginning of the next: browsers show a picture once they
    /// have seen that.
    fn send_last(&mut self) {
        let Shown { frame_id, timestamp, jpeg } = &self.last;
        let (length, time) = (jpeg.len(), timestamp.iso_local());
        let head = format!(
            "Content-Type: image/jpeg\r\nContent-Length: {length}\r\nX-Frame-Id: {frame_id}\r\nX-Timestamp: {time}\r\n\r\n"
        );
        let picture = Bytes::from_owner(jpeg.clone());
        self.put(head.into());
        self.put(picture);
        self.put(format!("\r\n--{}\r\n", self.boundary).into());
    }

    fn put(&mut self, piece: Bytes) {
        let kept = self.out.push_back(piece);
        debug_assert!(kept.is_ok(), "the part before is out");
    }

    /// The next piece of the body; `None` at its end.
    pub(super) fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if let Some(piece) = self.out.pop_front() {
                // A client that takes what it is sent is not the one to make room for another.
                self.slot.idle();
                return Poll::Ready(Some(piece));
            }
            let Some(viewer) = &mut self.viewer else { return Poll::Ready(None) };
            if !self.has_asked {
                if Pin::new(&mut self.timer).poll(context).is_pending() {
                    return Poll::Pending;
                }
                viewer.ask();
                self.has_asked = true;
                // Time that was lost is not made up for by a burst.
                self.due = (self.due + self.interval).max(Instant::now());
                self.timer.set_after(REPEAT);
            }
            match viewer.poll_next(context) {
                Poll::Ready(Some(shown)) => {
                    self.last = shown;
                    self.has_asked = false;
                    self.timer.set_at(self.due);
                }
                Poll::Ready(None) => {
                    self.viewer = None;
                    self.slot.stream(false);
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    if Pin::new(&mut self.timer).poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    self.timer.set_after(REPEAT);
                }
            }
            self.send_last();
        }
    }

    /// No piece will come any more.
    pub(super) fn is_over(&self) -> bool {
        self.viewer.is_none() && self.out.is_empty()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.slot.stream(false);
    }
}
