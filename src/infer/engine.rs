//! Which engine runs a graph.

use super::onnx::Description;
use super::process::{self, Loaded, Session};
use super::{Engine, EngineChoice, Scores, tensorrt};
use crate::error::{Error, Kind, Result};
use std::path::Path;
use std::sync::Arc;

/// How to compile a graph.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Width of the input, pixels.
    pub width: usize,
    /// Height of the input, pixels.
    pub height: usize,
    /// Which engine.
    pub choice: EngineChoice,
    /// Most bytes of weights and one arena together.
    pub budget_bytes: u64,
    /// The file that the graph was read from.
    pub weights: &'a Path,
    /// Where TensorRT is and how plans are made.
    pub tensorrt: &'a tensorrt::TensorRtSettings,
    /// Where outputs of such shapes hold scores; `None`: nobody knows.
    pub scores: &'a dyn Fn(&[Vec<usize>]) -> Option<Scores>,
    /// Told now and then while TensorRT builds a plan; when it fails, the build is stopped.
    pub building: &'a dyn Fn() -> Result<()>,
}

/// Compiles a model for one thread at a time or many: in its own process, or on a GPU.
pub(crate) fn compile(session: Session<'_>, options: &Options<'_>) -> Result<Loaded> {
    let loaded = match options.choice {
        EngineChoice::TensorRt => on_gpu(session.description(), options)?,
        EngineChoice::Auto if tensorrt::is_worth_trying(options.tensorrt) => {
            match on_gpu(session.description(), options) {
                Ok(loaded) => loaded,
                // Nobody waits for the model any more.
                Err(error) if error.kind() == Kind::ShuttingDown => return Err(error),
                Err(error) => {
                    log::warn!(
                        "model={} engine=cpu tensorrt=unused reason=\"{error}\"",
                        options.weights.display()
                    );
                    on_cpu(session, options)?
                }
            }
        }
        EngineChoice::Auto | EngineChoice::Cnn | EngineChoice::Tract => on_cpu(session, options)?,
    };
    let bytes = (loaded.engine.weights_bytes() as u64).saturating_add(loaded.engine.arena_bytes() as u64);
    process::within_budget(bytes, options.budget_bytes)?;
    Ok(loaded)
}

fn on_gpu(description: &Description, options: &Options<'_>) -> Result<Loaded> {
    let Options { width, height, budget_bytes, weights, tensorrt: settings, building, .. } = *options;
    if !description.is_plain() && description.input().frames() == 1 {
        let message = "TensorRT is given the file as it is, and this one takes more than planes of floats";
        return Err(Error::new(Kind::ModelArtefact, message));
    }
    let request = tensorrt::Request { weights, width, height, budget_bytes, settings, building };
    let engine: Arc<dyn Engine> = tensorrt::compile(description, &request)?;
    Ok(Loaded { trial: engine.clone(), engine })
}

fn on_cpu(session: Session<'_>, options: &Options<'_>) -> Result<Loaded> {
    let Options { width, height, choice, .. } = *options;
    session.compile(process::Request { width, height, engine: choice }, options.scores)
}
