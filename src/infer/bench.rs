//! `weir bench engine`: the model alone, timed.

use super::registry::EngineChoice;
use crate::error::{Error, Kind, Result};
use std::path::PathBuf;

/// What to time.
#[derive(Debug, Clone)]
pub struct Request {
    /// The `.onnx` file.
    pub model: PathBuf,
    /// Threads that run it at the same time, each for itself.
    pub threads: usize,
    /// Timed runs of each thread.
    pub runs: usize,
    /// Which engine.
    pub engine: EngineChoice,
}

/// What came out. Milliseconds are per run.
#[derive(Debug, Clone)]
pub struct Figures {}

impl Figures {
    /// One line of JSON with the keys of the outside contract.
    pub fn to_json(&self) -> String {
        String::new()
    }
}

/// Compiles the model and times it. Blocks.
pub fn run(_request: &Request) -> Result<Figures> {
    Err(Error::new(Kind::ModelArtefact, ""))
}
