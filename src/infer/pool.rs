//! The threads that run models, shared fairly between pipelines.

use super::{Done, Job};
use crate::error::Result;

/// N threads. Dropping it ends them.
#[derive(Debug)]
pub struct Pool {}

/// One pipeline's place in the pool. Dropping it forgets what waits; what runs is finished and its answer thrown away.
#[derive(Debug)]
pub struct Queue {}

impl Queue {
    /// Most jobs of one pipeline that wait: one per source of the largest pipeline.
    pub const CAPACITY: usize = 64;

    /// Puts a job at the end; gives it back when the queue is full. Never blocks.
    #[allow(clippy::result_large_err)] // The job itself is the error: the caller needs its buffers back.
    pub fn submit(&self, job: Job) -> Result<(), Job> {
        Err(job)
    }
}

impl Pool {
    /// Starts `threads` threads (at least one).
    pub fn start(_threads: usize) -> Result<Pool> {
        Ok(Pool {})
    }

    /// A queue whose answers go to `done`, in the order in which they are finished. `done` should hold
    /// [`Queue::CAPACITY`] answers: a thread that finds it full waits.
    pub fn queue(&self, _done: async_channel::Sender<Done>) -> Queue {
        Queue {}
    }
}
