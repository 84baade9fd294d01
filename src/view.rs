//! What those who look at a source get: pictures of its frames, one at a time and each only when it was asked
//! for.
//!
//! Whoever makes pictures waits for none of them: a viewer that does not ask for its next picture gets none,
//! and nothing is made for it.

use crate::clock::Wall;
use crate::error::{Error, Kind, Result};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// How a picture shall be: viewers that want the same share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Most pixels of width; larger frames are scaled down.
    pub width: u16,
    /// With the detections' boxes, names and scores.
    pub has_boxes: bool,
}

/// A picture for people, as JPEG.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The frame that it shows, as its datagram names it.
    pub frame_id: u64,
    /// When that was taken, as its datagram says.
    pub timestamp: Wall,
    /// From a process that reads a camera: bytes, whatever they are.
    pub jpeg: Arc<[u8]>,
}

/// The places of all who may look at once.
#[derive(Debug)]
pub struct Places {
    taken: Rc<()>,
    most: usize,
}

/// One of them; dropping it makes room.
#[derive(Debug)]
pub struct Place(#[allow(dead_code)] Rc<()>); // Its count is what matters.

impl Places {
    /// So many places, none of them taken.
    pub fn new(most: usize) -> Places {
        Places { taken: Rc::new(()), most }
    }

    /// One for whom comes now.
    pub fn take(&self) -> Result<Place> {
        if self.count() >= self.most {
            let text =
                format!("As many clients look at pictures as may ({}, http.picture_viewers)", self.most);
            return Err(Error::new(Kind::Crowded, text));
        }
        Ok(Place(self.taken.clone()))
    }

    /// How many are taken.
    pub fn count(&self) -> usize {
        Rc::strong_count(&self.taken) - 1
    }
}

/// Where a viewer stands.
#[derive(Debug, Default)]
enum Want {
    /// It has what it asked for, and has not asked again.
    #[default]
    Nothing,
    /// Asked, with this number: those who wait longest come first.
    Waiting(u64),
    /// Its picture lies here.
    Served(Shown),
}

#[derive(Debug)]
struct State {
    wish: Wish,
    want: Want,
    /// Of the picture that it got last: none comes twice.
    last: u64,
    is_over: bool,
    waker: Option<Waker>,
}

impl State {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The viewers of one source.
#[derive(Debug, Default)]
pub struct Audience {
    viewers: RefCell<Vec<Weak<RefCell<State>>>>,
    asked: Cell<u64>,
    /// Somebody has asked, or has gone, since [`Audience::changed`] said so last.
    has_changed: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Audience {
    /// One more viewer; it has asked for nothing yet.
    pub fn join(self: &Rc<Self>, wish: Wish, place: Place) -> Viewer {
        let state = State { wish, want: Want::Nothing, last: 0, is_over: false, waker: None };
        let state = Rc::new(RefCell::new(state));
        self.viewers.borrow_mut().push(Rc::downgrade(&state));
        Viewer { state, audience: self.clone(), _place: place }
    }

    /// Until somebody asks or goes.
    pub async fn changed(&self) {
        poll_fn(|context| {
            if self.has_changed.take() {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn change(&self) {
        self.has_changed.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// What is waited for, each wish once, the one that waits longest first.
    pub fn wishes(&self) -> Vec<Wish> {
        let mut viewers = self.viewers.borrow_mut();
        viewers.retain(|viewer| viewer.strong_count() > 0);
        let waiting = viewers.iter().filter_map(Weak::upgrade).filter_map(|state| {
            let state = state.borrow();
            if let Want::Waiting(number) = state.want { Some((number, state.wish)) } else { None }
        });
        let mut waiting: Vec<_> = waiting.collect();
        waiting.sort_by_key(|(number, _)| *number);
        let mut wishes = Vec::new();
        for (_, wish) in waiting {
            if !wishes.contains(&wish) {
                wishes.push(wish);
            }
        }
        wishes
    }

    /// Gives a picture to all who wait for one like it and have not had it.
    pub fn serve(&self, wish: Wish, shown: &Shown) {
        for state in self.viewers.borrow().iter().filter_map(Weak::upgrade) {
            let mut state = state.borrow_mut();
            if state.wish == wish && matches!(state.want, Want::Waiting(_)) && state.last < shown.frame_id {
                state.last = shown.frame_id;
                state.want = Want::Served(shown.clone());
                state.wake();
            }
        }
    }

    /// Frames are counted from the start again.
    pub fn restart(&self) {
        self.viewers.borrow().iter().filter_map(Weak::upgrade).for_each(|state| state.borrow_mut().last = 0);
    }

    /// Nothing will come any more.
    pub fn close(&self) {
        for state in self.viewers.take().iter().filter_map(Weak::upgrade) {
            let mut state = state.borrow_mut();
            state.is_over = true;
            state.wake();
        }
    }
}

/// One viewer's end; dropping it leaves.
#[derive(Debug)]
pub struct Viewer {
    state: Rc<RefCell<State>>,
    audience: Rc<Audience>,
    _place: Place,
}

impl Viewer {
    /// Asks for one picture. Asking again before it has come changes nothing.
    pub fn ask(&self) {
        let mut state = self.state.borrow_mut();
        if matches!(state.want, Want::Nothing) {
            self.audience.asked.set(self.audience.asked.get() + 1);
            state.want = Want::Waiting(self.audience.asked.get());
            self.audience.change();
        }
    }

    /// The picture that was asked for; `None`: none will come any more.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Shown>> {
        let mut state = self.state.borrow_mut();
        if let Want::Served(shown) = &state.want {
            let shown = shown.clone();
            state.want = Want::Nothing;
            return Poll::Ready(Some(shown));
        }
        if state.is_over {
            return Poll::Ready(None);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// The same, asked for now.
    pub async fn next(&mut self) -> Option<Shown> {
        self.ask();
        poll_fn(|context| self.poll_next(context)).await
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.audience.change();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use smol::future::poll_once;

    const SMALL: Wish = Wish { width: 100, has_boxes: false };
    const LARGE: Wish = Wish { width: 200, ..SMALL };

    fn shown(frame_id: u64) -> Shown {
        Shown { frame_id, timestamp: Wall::from_micros(0), jpeg: Arc::new([1]) }
    }

    fn got(viewer: &mut Viewer) -> Option<u64> {
        smol::block_on(poll_once(viewer.next())).flatten().map(|shown| shown.frame_id)
    }

    #[test]
    fn who_asks_is_served_once_for_each_question_and_never_the_same_frame_twice() {
        let (audience, places) = (Rc::new(Audience::default()), Places::new(9));
        let join = |wish| audience.join(wish, places.take().unwrap());
        let (mut one, mut other, mut large) = (join(SMALL), join(SMALL), join(LARGE));
        assert!(audience.wishes().is_empty(), "nobody has asked");
        large.ask();
        assert_eq!((got(&mut one), got(&mut other)), (None, None));
        assert_eq!(audience.wishes(), [LARGE, SMALL]);
        audience.serve(SMALL, &shown(7));
        assert_eq!(audience.wishes(), [LARGE]);
        assert_eq!((got(&mut one), got(&mut other), got(&mut large)), (Some(7), Some(7), None));
        audience.serve(SMALL, &shown(7));
        assert_eq!(got(&mut one), None, "it has had that one");
        audience.serve(SMALL, &shown(8));
        assert_eq!(got(&mut one), Some(8));
        drop(large);
        drop(one);
        assert_eq!(audience.wishes(), Vec::<Wish>::new());
        audience.close();
        assert!(smol::block_on(other.next()).is_none());
    }

    #[test]
    fn places_are_counted_and_come_back() {
        let places = Places::new(2);
        let (first, _second) = (places.take().unwrap(), places.take().unwrap());
        assert_eq!(places.take().unwrap_err().kind(), Kind::Crowded);
        drop(first);
        assert!(places.take().is_ok());
    }

    #[test]
    fn the_maker_hears_of_questions_and_of_leaving() {
        let (audience, places) = (Rc::new(Audience::default()), Places::new(1));
        let heard = || smol::block_on(poll_once(audience.changed())).is_some();
        let viewer = audience.join(SMALL, places.take().unwrap());
        assert!(!heard());
        viewer.ask();
        viewer.ask();
        assert!(heard() && !heard());
        drop(viewer);
        assert!(heard());
    }
}
