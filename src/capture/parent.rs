//! The parent's end of a worker process.

use super::{Event, Request, Ring, Settings, Spawner};
use crate::error::{Error, Kind, Result};
use std::sync::Arc;

/// The parent's end of one worker process. Lives on the event loop's thread.
#[derive(Debug)]
pub struct Worker {
    ring: Arc<Ring>,
}

impl Worker {
    /// Starts a worker. Answers when the process exists, not when its source is open: that is [`Event::Opened`].
    pub async fn start(_spawner: &Spawner, _settings: &Settings, _request: Request) -> Result<Worker> {
        Err(Error::new(Kind::Worker, "not yet"))
    }

    /// The next thing the worker says. May be dropped and called again without losing anything.
    pub async fn next(&self) -> Event {
        Event::Ended
    }

    /// Where its frames are.
    pub fn ring(&self) -> Arc<Ring> {
        self.ring.clone()
    }

    /// Gives a slot back. Never blocks.
    pub fn release(&self, _slot: u32) {}

    /// Stops or starts decoding. Never blocks.
    pub fn set_muted(&self, _muted: bool) {}

    /// Asks the worker to end, kills it after `Settings::stop_grace`, and reaps it.
    pub async fn stop(self) {}

    /// Process id, for logs and tests.
    pub fn pid(&self) -> u32 {
        0
    }
}
