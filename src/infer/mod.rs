//! Models, their registry, and the threads that run them. Knows nothing of pipelines, cameras or listeners.

pub mod bench;
mod candidate;
pub mod check;
mod choice;
pub mod cnn;
mod compare;
pub mod engine;
mod family;
mod fill;
mod model;
mod nms;
pub mod onnx;
mod pool;
mod precision;
pub mod process;
pub mod quantise;
pub mod registry;
mod shared;
#[cfg(test)]
mod standard;
mod switch;
pub mod tensorrt;
#[cfg(test)]
mod tests;
pub mod tract;
mod workbench;

pub use choice::EngineChoice;
pub use compare::{Comparison, Outcome};
pub use family::Family;
pub use model::Model;
pub use pool::{Pool, Queue};
pub use precision::Precision;
pub use switch::{Gpu, Outlook};

use crate::clock::Wall;
use crate::detection::Detection;
use crate::error::Result;
use crate::geometry::Placement;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A compiled model: weights and steps, shared by all threads. Made once per model.
pub trait Engine: Send + Sync {
    /// Everything one thread needs to run it; allocated here and never in [`Run::execute`].
    fn new_run(&self) -> Result<Box<dyn Run>>;
    /// Short name for logs, benches and `weir check`: `cnn`, `tract`, `tensorrt`.
    fn name(&self) -> &'static str;
    /// Shapes of the outputs, in the graph's order, batch dimension 1 included (`[1, 84, 8400]`).
    fn output_shapes(&self) -> &[Vec<usize>];
    /// Bytes of weights, shared by all threads.
    fn weights_bytes(&self) -> usize;
    /// Bytes each thread's [`Run`] holds.
    fn arena_bytes(&self) -> usize;
    /// How many frames it is worth running together. On a CPU: one.
    fn batch(&self) -> Batch {
        Batch::ONE
    }
    /// The process that does the work, where that is another one.
    fn process(&self) -> Option<u32> {
        None
    }
    /// How it stands with the GPU, where one may take over or has.
    fn outlook(&self) -> Option<Outlook> {
        None
    }
}

/// Where the outputs of a detector, all `[1, anchors, values]` or all `[1, values, anchors]`, hold the scores
/// of its anchors. Whoever reads them looks at no anchor whose scores are all below a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scores {
    /// The output that holds them.
    pub output: usize,
    /// The axis of the anchors in every output, 1 or 2.
    pub anchor_axis: usize,
    /// The first of the values that are scores.
    pub first: usize,
    /// How many values are scores.
    pub count: usize,
}

/// How many frames an engine runs together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// Most frames in one run.
    pub frames: usize,
    /// How long a frame may wait for others.
    pub wait: Duration,
}

impl Batch {
    /// Every frame by itself.
    pub const ONE: Batch = Batch { frames: 1, wait: Duration::ZERO };
}

/// One thread's arena for one model.
pub trait Run: Send {
    /// How many frames the next [`Run::execute`] is for, at most those of [`Engine::batch`]; 1 at first.
    fn expect_frames(&mut self, _frames: usize) {}
    /// Which of them [`Run::input`] and [`Run::output`] mean from now on; 0 at first.
    fn select_frame(&mut self, _frame: usize) {}
    /// The input, to be filled before every run, for engines use its memory again: `[1, 3, height, width]`,
    /// RGB planes, 32-bit float.
    fn input(&mut self) -> &mut [f32];
    /// The lowest score the caller will look at, for the runs that follow: an engine that knows where the
    /// scores are ([`Scores`]) may leave out anchors whose scores are all below it. 0 at first: all are
    /// wanted.
    fn expect_scores_from(&mut self, _lowest: f32) {}
    /// Which anchors the outputs of the last run hold, ascending. `None`: all; else the outputs have these in
    /// the place of all, and are shorter than [`Engine::output_shapes`] says.
    fn kept(&self) -> Option<&[u32]> {
        None
    }
    /// The next run keeps to the calling thread where the engine would share it with others.
    fn keep_alone(&mut self) {}
    /// Runs the model on what lies in the input.
    fn execute(&mut self) -> Result<()>;
    /// Shape of output `index` of the last run, where it depends on the frame and [`Engine::output_shapes`]
    /// cannot say it.
    fn output_shape(&self, _index: usize) -> Option<&[usize]> {
        None
    }
    /// Output `index` of the last run, row-major in the shape of [`Engine::output_shapes`] (but see
    /// [`Run::kept`]).
    fn output(&self, index: usize) -> &[f32];
}

/// How a pipeline wants its detections.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// Lowest score that is reported.
    pub confidence: f32,
    /// Overlap above which the lower-scored box goes.
    pub iou: f32,
    /// Most boxes per frame.
    pub max_detections: u32,
    /// Boxes suppress others of any class, not only of their own.
    pub class_agnostic: bool,
}

/// Where pixels come from: a ring slot, or a picture in a test.
pub trait Pixels: Send + Sync {
    /// Copies slot `slot` (planar 8-bit RGB, `InputRule::slot_bytes` long) into `out`.
    fn copy_slot(&self, slot: u32, out: &mut [u8]);
}

/// Names a job for whoever submitted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// Turn of the pipeline.
    pub turn: u64,
    /// Source within the pipeline.
    pub source: u32,
    /// Slot of the source's ring.
    pub slot: u32,
}

/// One frame to run.
pub struct Job {
    /// Whose answer it is.
    pub ticket: Ticket,
    /// The model that the frame is run through.
    pub model: Arc<Model>,
    /// Where the pixels are.
    pub pixels: Arc<dyn Pixels>,
    /// Where the frame lies in the input.
    pub placement: Placement,
    /// Which detections are reported.
    pub thresholds: Thresholds,
    /// An empty vector to fill, recycled so that a frame allocates nothing.
    pub detections: Vec<Detection>,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("ticket", &self.ticket)
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}

/// What became of a [`Job`].
#[derive(Debug)]
pub struct Done {
    /// Whose answer it is.
    pub ticket: Ticket,
    /// Detections by falling confidence, or why there are none.
    pub outcome: Result<Vec<Detection>>,
    /// When a thread took the job.
    pub started: Wall,
    /// Pre-processing, model and post-processing.
    pub took: Duration,
}
