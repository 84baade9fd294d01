//! One load that several wait for.
//!
//! A thread carries the load out; any number of callers on the event loop wait for it. When the last of them
//! is gone the thread is told to stop.

use super::Progress;
use crate::error::{Error, Kind, Result};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// What a load tells, and asks.
pub(super) trait Watch {
    /// Passes on how far the load is. Fails when nobody waits any more: the load should end.
    fn report(&self, progress: Progress) -> Result<()>;
    /// Fails when nobody waits any more.
    fn wanted(&self) -> Result<()>;
}

/// Nobody watches: the load goes on to its end.
pub(super) struct Nobody;

impl Watch for Nobody {
    fn report(&self, _: Progress) -> Result<()> {
        Ok(())
    }

    fn wanted(&self) -> Result<()> {
        Ok(())
    }
}

/// A load under way.
pub(super) struct InFlight<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    progress: Option<Progress>,
    /// Counts reports, so that a waiter knows whether it has seen the last.
    reports: u64,
    outcome: Option<Result<T, (Kind, String)>>,
    waiters: usize,
    /// Everybody who waited has gone.
    abandoned: bool,
    wakers: Vec<Waker>,
}

/// One caller's interest in a load; the load ends when all are dropped.
pub(super) struct Ticket<T> {
    in_flight: Arc<InFlight<T>>,
}

impl<T: Clone> InFlight<T> {
    /// A load with its first waiter.
    pub(super) fn start() -> (Arc<InFlight<T>>, Ticket<T>) {
        let state = State {
            progress: None,
            reports: 0,
            outcome: None,
            waiters: 1,
            abandoned: false,
            wakers: Vec::new(),
        };
        let in_flight = Arc::new(InFlight { state: Mutex::new(state) });
        (in_flight.clone(), Ticket { in_flight })
    }

    /// Another waiter; `None` when the load was abandoned already.
    pub(super) fn join(self: &Arc<Self>) -> Option<Ticket<T>> {
        let mut state = self.lock();
        if state.abandoned {
            return None;
        }
        state.waiters += 1;
        Some(Ticket { in_flight: self.clone() })
    }

    /// The end of the load.
    pub(super) fn finish(&self, outcome: Result<T>) {
        let outcome = outcome.map_err(|error| {
            // The cause is said once; the waiters get what a client may read.
            log::warn!("model_load error={error}");
            (error.kind(), error.message().to_owned())
        });
        let mut state = self.lock();
        if state.abandoned {
            drop(state); // Before the outcome, which may be a model that tells others of its end.
            return;
        }
        state.outcome = Some(outcome);
        Self::wake(state);
    }
}

impl<T> InFlight<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Only assignments happen under the lock: poisoned or not, the state is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(mut state: MutexGuard<'_, State<T>>) {
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl<T> Watch for InFlight<T> {
    fn wanted(&self) -> Result<()> {
        match self.lock().abandoned {
            true => Err(Error::new(Kind::ShuttingDown, "nobody waits for the model any more")),
            false => Ok(()),
        }
    }

    fn report(&self, progress: Progress) -> Result<()> {
        self.wanted()?;
        let mut state = self.lock();
        state.progress = Some(progress);
        state.reports += 1;
        Self::wake(state);
        Ok(())
    }
}

impl<T: Clone> Ticket<T> {
    /// Waits for the end; calls `progress` whenever the load has moved.
    pub(super) async fn outcome(&self, progress: &dyn Fn(Progress)) -> Result<T> {
        let mut seen = 0;
        poll_fn(|context| {
            let (news, outcome) = {
                let mut state = self.in_flight.lock();
                let news = if state.reports == seen { None } else { state.progress };
                seen = state.reports;
                if state.outcome.is_none()
                    && !state.wakers.iter().any(|waker| waker.will_wake(context.waker()))
                {
                    state.wakers.push(context.waker().clone());
                }
                (news, state.outcome.clone())
            };
            if let Some(news) = news {
                progress(news);
            }
            match outcome {
                Some(outcome) => Poll::Ready(outcome.map_err(|(kind, message)| Error::new(kind, message))),
                None => Poll::Pending,
            }
        })
        .await
    }
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        let mut state = self.in_flight.lock();
        state.waiters -= 1;
        if state.waiters == 0 {
            state.abandoned = true;
            // The thread may hold the load in flight a moment longer: it must not hold the model.
            let outcome = state.outcome.take();
            drop(state);
            drop(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Stage;
    use super::*;
    use std::cell::RefCell;

    const HALF: Progress = Progress { stage: Stage::Downloading, bytes: 5, total: Some(10) };

    #[test]
    fn everybody_gets_the_outcome_and_the_progress() {
        let (in_flight, first) = InFlight::start();
        let second = in_flight.join().unwrap();
        let thread = std::thread::spawn(move || {
            in_flight.report(HALF).unwrap();
            in_flight.finish(Ok(7));
        });
        let seen = RefCell::new(Vec::new());
        let wait = |ticket: Ticket<i32>| {
            smol::block_on(async move { ticket.outcome(&|news| seen.borrow_mut().push(news)).await })
        };
        assert_eq!(wait(first).unwrap(), 7);
        thread.join().unwrap();
        assert_eq!(smol::block_on(second.outcome(&|_| ())).unwrap(), 7);
    }

    #[test]
    fn errors_keep_kind_and_message() {
        let (in_flight, ticket) = InFlight::<()>::start();
        in_flight.finish(Err(Error::new(Kind::ApiNotFound, "no such model")));
        let error = smol::block_on(ticket.outcome(&|_| ())).unwrap_err();
        assert_eq!((error.kind(), error.message()), (Kind::ApiNotFound, "no such model"));
    }

    #[test]
    fn a_load_ends_with_its_last_waiter() {
        let (in_flight, first) = InFlight::<()>::start();
        let second = in_flight.join().unwrap();
        drop(first);
        assert!(in_flight.report(HALF).is_ok());
        drop(second);
        assert!(in_flight.report(HALF).is_err());
        assert!(in_flight.join().is_none());
    }
}
