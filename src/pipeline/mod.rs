//! Pipelines: a table of them, what each one does, and what it remembers.
//!
//! Everything in here runs on the event loop and never touches a pixel: capture workers fill rings, inference
//! threads read them, and slot numbers and detections travel between.

mod backoff;
mod budget;
mod buffer;
mod capacity;
mod demand;
mod history;
mod inventory;
mod limiter;
mod peek;
mod pictures;
#[allow(clippy::module_inception)] // the module's main noun
mod pipeline;
mod status_updates;

mod event_log;
mod signal;
mod source;
mod state;
mod statistics;
mod store;
mod table;
mod tally;
mod turns;

pub use table::{Commands, Declared, Table};

use crate::capture::{self, Spawner};
use crate::infer::registry::Models;
use crate::infer::{Pool, Thresholds};
use crate::sink::Outlets;
use std::rc::Rc;
use std::time::Duration;

/// What pipelines are configured with.
#[derive(Debug, Clone)]
pub struct PipelineSettings {
    /// Thresholds for what `init` leaves out.
    pub thresholds: Thresholds,
    /// What the report names as `buffer_size`, frames.
    pub buffer_size: u32,
    /// Pause after the first failed attempt to open a source.
    pub retry_delay: Duration,
    /// `ENABLE_FRAME_DROP_ON_VIDEO_FILE_RATE_LIMITING`: `max_fps` strides files in the decoder instead of
    /// slowing them down.
    pub stride_files: bool,
    /// Most pipelines at a time: `service.max_pipelines`.
    pub max_pipelines: usize,
    /// Where pipelines are kept so that they survive a restart; `None`: they do not.
    pub state_dir: Option<std::path::PathBuf>,
    /// Clients that may look at pictures at once.
    pub picture_viewers: usize,
    /// Bytes that rings, workers and models of all pipelines may add up to.
    pub memory_limit_bytes: u64,
}

/// Tells the machine in lines of a word and a text; may take seconds.
pub type About = std::sync::Arc<dyn Fn() -> String + Send + Sync>;

/// What all pipelines share.
pub struct Shared {
    /// Limits and defaults of all pipelines.
    pub settings: PipelineSettings,
    /// What every worker is started with.
    pub capture: Rc<capture::CaptureSettings>,
    /// What their sinks share.
    pub outlets: Rc<Outlets>,
    /// Starts the processes of workers.
    pub spawner: Spawner,
    /// Loads models, each once.
    pub models: Models,
    /// The threads that run models.
    pub pool: Pool,
    /// How many threads `pool` has.
    pub threads: usize,
    /// For who asks what machine this is.
    pub about: About,
}
