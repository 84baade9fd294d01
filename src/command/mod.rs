//! Everything the product can be told, and what it answers: the two enums between the listeners and the
//! pipelines. No I/O type in here.

mod figures;
pub mod init;
mod inventory;
mod losses;
mod report;

pub use figures::{BUCKETS_S, Figures, Histogram, History, SourceFigures};
pub use init::{
    Consumption, Filling, Init, ModelParameters, Property, Secret, SourceReference, SourceRequest,
};
pub use inventory::{Device, LocalModel, ModelInUse, Outline};
pub use losses::{PacketLoss, PacketLosses};
pub use report::{
    Context, Event, LatencyReport, Report, Severity, SourceMetadata, SourceProperties, SourceState, Update,
};

use crate::error::Result;
use crate::sink::Outcome;
use crate::view::Shown;
use std::rc::Rc;
use uuid::Uuid;

/// Sources of one pipeline. The reference has no limit; a turn waits for all of them, which makes more than
/// this pointless.
pub const MAX_SOURCES: usize = 16;

/// Identifies a pipeline; always chosen by us.
pub type PipelineId = Uuid;

/// A request, whichever listener it came through.
#[derive(Debug)]
pub enum Command {
    /// Ids of all pipelines in order of creation.
    List,
    /// Create a pipeline. Boxed: it is much larger than the others.
    Init(Box<Init>),
    /// Ask for a pipeline's report.
    Status(PipelineId),
    /// Stop processing frames, keep the source alive (HTTP calls it pause).
    Mute(PipelineId),
    /// Process frames again, after [`Command::Mute`].
    Resume(PipelineId),
    /// The pipeline's last ten minutes.
    History(PipelineId),
    /// The models that lie on this machine.
    Models,
    /// The machine and what is in use of it.
    Device,
    /// The first picture of a source, which is opened for that alone.
    Peek(Box<SourceRequest>),
    /// The oldest turn of a pipeline whose sink is in memory.
    Consume(PipelineId),
    /// End the pipeline and forget it.
    Terminate(PipelineId),
}

/// What a successful command answers.
#[derive(Debug)]
pub enum Reply {
    /// The pipelines there are, in answer to [`Command::List`].
    Pipelines(Vec<PipelineId>),
    /// The new pipeline, in answer to [`Command::Init`].
    Initialised(PipelineId),
    /// To [`Command::Status`]. Boxed: it is much larger than the others.
    Report(Box<Report>),
    /// The last ten minutes, in answer to [`Command::History`].
    History(History),
    /// What can be named as a model, in answer to [`Command::Models`].
    Models(Vec<LocalModel>),
    /// What is in use, in answer to [`Command::Device`].
    Device(Box<Device>),
    /// Kept results, in answer to [`Command::Consume`].
    Results {
        /// Names under which the client wants the detections of each frame.
        outputs: Rc<[String]>,
        /// One frame of each live source; empty when nothing waits.
        turn: Vec<Outcome>,
    },
    /// One picture, in answer to [`Command::Peek`].
    Picture(Shown),
    /// It was done: there is nothing to say to the other commands.
    Done,
}

/// Whoever carries out commands. Lives on the event loop, so futures need not be `Send`.
///
/// Dropping the future (the client went away) must leave nothing half-done.
pub trait Execute: 'static {
    /// Carries out one command.
    fn execute(&self, command: Command) -> impl Future<Output = Result<Reply>>;

    /// Why no source could work now; `None`: one could.
    fn fault(&self) -> Option<String> {
        None
    }
}
