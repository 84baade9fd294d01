//! What a machine has and what is in use of it: for who adds a pipeline, and for the page.

use super::PipelineId;

/// A model that lies on this machine, as a pipeline names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalModel {
    /// What `model_id` may be.
    pub id: String,
    /// Bytes of its weights.
    pub bytes: u64,
}

/// A model that pipelines use now.
#[derive(Debug, Clone)]
pub struct ModelInUse {
    /// Its id or path.
    pub id: String,
    /// How its outputs are read.
    pub family: &'static str,
    /// The engine that runs it, as `status` names it.
    pub engine: &'static str,
    /// Of its input, pixels.
    pub width: u32,
    /// Of its input, pixels.
    pub height: u32,
    /// How many names it has.
    pub classes: usize,
    /// Bytes of its weights, which all pipelines share.
    pub weights_bytes: usize,
    /// Of each inference thread, bytes.
    pub arena_bytes: usize,
}

/// What a report does not say of a pipeline, because the reference's does not.
#[derive(Debug, Clone)]
pub struct Outline {
    /// Which pipeline this is.
    pub id: PipelineId,
    /// The model it asked for.
    pub model_id: String,
    /// A file of the configuration asks for it: it is there again after the next start.
    pub is_declared: bool,
}

/// A machine and what is in use of it.
#[derive(Debug, Clone)]
pub struct Device {
    /// How many threads run models.
    pub threads: usize,
    /// What pipelines and models may reserve, bytes.
    pub memory_limit_bytes: u64,
    /// What they have reserved, bytes: the most that they may come to need.
    pub memory_reserved_bytes: u64,
    /// How many pipelines there may be.
    pub max_pipelines: usize,
    /// The models that pipelines use.
    pub models: Vec<ModelInUse>,
    /// Pipelines, in order of creation.
    pub pipelines: Vec<Outline>,
    /// What `weir check` says of the machine: a word and a text each.
    pub about: Vec<(String, String)>,
}
