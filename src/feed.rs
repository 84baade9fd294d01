//! What those who listen to a pipeline get: the updates of its status and the detections of its frames, as
//! they come.
//!
//! The pipeline never waits for a listener: each has a short queue, and one that does not keep up loses its
//! place.

use crate::command::{PipelineId, Update};
use crate::error::{Error, Kind, Result};
use crate::view::{Viewer, Wish};
use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

/// Listeners of one pipeline at most: a few dashboards and recorders; more want a relay, not a gateway with
/// one core.
pub const MAX_LISTENERS: usize = 32;

/// Messages that wait for one listener at most: two seconds of a camera with 30 frames a second. All
/// listeners of a pipeline share each message, so they hold 4 MiB of the largest datagrams at most, however
/// many they are.
pub const MAX_WAITING: usize = 64;

/// Something happened in a pipeline.
#[derive(Debug, Clone)]
pub enum Message {
    /// A frame's detections: the bytes of its datagram.
    Detections(Rc<[u8]>),
    /// An entry of the status report.
    Update(Rc<Update>),
}

/// Why no message comes any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The pipeline is no more.
    Terminated,
    /// The listener did not keep up.
    TooSlow,
}

/// Whoever has pipelines to listen to and to look at. Lives on the event loop.
pub trait Listen: 'static {
    /// What happens in a pipeline from now on.
    fn listen(&self, id: PipelineId) -> Result<Feed>;

    /// Pictures of a pipeline's source of that index, as they are asked for; an error when none can come.
    fn look(&self, id: PipelineId, source: u32, wish: Wish) -> Result<Viewer>;

    /// Why a picture that was asked for has not come.
    fn unseen(&self, id: PipelineId, source: u32) -> Error;
}

#[derive(Debug, Default)]
struct Queue {
    waiting: heapless::Deque<Message, MAX_WAITING>,
    end: Option<End>,
    waker: Option<Waker>,
}

impl Queue {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The listeners of one pipeline.
#[derive(Debug, Default)]
pub struct Listeners(RefCell<Vec<Weak<RefCell<Queue>>>>);

impl Listeners {
    /// One more; an error when there are too many already.
    pub fn join(&self) -> Result<Feed> {
        if self.len() >= MAX_LISTENERS {
            return Err(Error::new(
                Kind::Crowded,
                format!("At most {MAX_LISTENERS} clients listen to a pipeline"),
            ));
        }
        let queue = Rc::new(RefCell::new(Queue::default()));
        self.0.borrow_mut().push(Rc::downgrade(&queue));
        Ok(Feed(queue))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        let mut queues = self.0.borrow_mut();
        queues.retain(|queue| queue.strong_count() > 0);
        queues.len()
    }

    /// Nobody listens: nothing need be made for [`Listeners::publish`].
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts a message into every queue. Who has no room for it loses what waits and is told why.
    pub fn publish(&self, message: &Message) {
        self.0.borrow_mut().retain(|queue| {
            let Some(queue) = queue.upgrade() else { return false };
            let mut queue = queue.borrow_mut();
            let keeps_up = queue.waiting.push_back(message.clone()).is_ok();
            if !keeps_up {
                queue.waiting.clear();
                queue.end = Some(End::TooSlow);
            }
            queue.wake();
            keeps_up
        });
    }

    /// Nothing will come any more. What waits is still delivered.
    pub fn close(&self) {
        for queue in self.0.take().iter().filter_map(Weak::upgrade) {
            let mut queue = queue.borrow_mut();
            queue.end = Some(End::Terminated);
            queue.wake();
        }
    }
}

/// One listener's end; dropping it leaves.
#[derive(Debug)]
pub struct Feed(Rc<RefCell<Queue>>);

impl Feed {
    /// The next message, or why there is none.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<std::result::Result<Message, End>> {
        let mut queue = self.0.borrow_mut();
        if let Some(message) = queue.waiting.pop_front() {
            return Poll::Ready(Ok(message));
        }
        if let Some(end) = queue.end {
            return Poll::Ready(Err(end));
        }
        queue.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::future::poll_fn;

    fn message(byte: u8) -> Message {
        Message::Detections(Rc::new([byte]))
    }

    async fn next(feed: &mut Feed) -> std::result::Result<u8, End> {
        match poll_fn(|context| feed.poll_next(context)).await? {
            Message::Detections(bytes) => Ok(bytes[0]),
            Message::Update(_) => Ok(0),
        }
    }

    #[test]
    fn everybody_gets_everything_in_order_and_then_the_end() {
        let listeners = Listeners::default();
        let mut feeds = [listeners.join().unwrap(), listeners.join().unwrap()];
        (1..=3).for_each(|byte| listeners.publish(&message(byte)));
        listeners.close();
        for feed in &mut feeds {
            let got = smol::block_on(async {
                [next(feed).await, next(feed).await, next(feed).await, next(feed).await]
            });
            assert_eq!(got, [Ok(1), Ok(2), Ok(3), Err(End::Terminated)]);
        }
        assert!(listeners.is_empty());
    }

    #[test]
    fn who_does_not_keep_up_is_told_so_and_the_others_do_not_notice() {
        let listeners = Listeners::default();
        let (mut slow, mut quick) = (listeners.join().unwrap(), listeners.join().unwrap());
        for byte in 0..=MAX_WAITING as u8 {
            listeners.publish(&message(byte));
            assert_eq!(smol::block_on(next(&mut quick)), Ok(byte));
        }
        assert_eq!(smol::block_on(next(&mut slow)), Err(End::TooSlow), "nothing is kept for who is gone");
        assert_eq!(listeners.len(), 1);
    }

    #[test]
    fn the_listeners_are_counted_and_leave_when_dropped() {
        let listeners = Listeners::default();
        let mut feeds: Vec<_> = (0..MAX_LISTENERS).map(|_| listeners.join().unwrap()).collect();
        assert_eq!(listeners.join().unwrap_err().kind(), Kind::Crowded);
        feeds.pop();
        listeners.publish(&message(1));
        feeds.push(listeners.join().unwrap());
        feeds.clear();
        assert!(listeners.is_empty());
    }
}
