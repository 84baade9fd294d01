//! A wake-up for the one task that waits: rings before the wait are not lost, and two are one.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

/// Wakes the one task that waits. Lives on the event loop.
#[derive(Debug, Default)]
pub struct Bell {
    rung: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

impl Bell {
    /// Wakes the waiter, now or when it comes.
    pub fn ring(&self) {
        self.rung.set(true);
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }

    /// Whether it has rung since the last time.
    pub fn poll(&self, context: &Context<'_>) -> Poll<()> {
        if self.rung.take() {
            return Poll::Ready(());
        }
        self.waiter.replace(Some(context.waker().clone()));
        Poll::Pending
    }

    /// Waits until somebody rings, or has since the last wait.
    pub async fn wait(&self) {
        poll_fn(|context| self.poll(context)).await;
    }
}
