//! Which engine runs a graph.

use super::onnx::Description;
use super::process::{self, Loaded, Session};
use super::switch::{Switch, Told};
use super::{Engine, EngineChoice, Precision, Scores, tensorrt};
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
    /// The engine that is asked for.
    pub choice: EngineChoice,
    /// How exactly our own computes.
    pub precision: Precision,
    /// Most bytes of weights and one arena together.
    pub budget_bytes: u64,
    /// The file that the graph was read from.
    pub weights: &'a Path,
    /// Where TensorRT is and how plans are made.
    pub tensorrt: &'a tensorrt::TensorRtSettings,
    /// Where outputs of such shapes hold scores; `None`: nobody knows.
    pub scores: &'a dyn Fn(&[Vec<usize>]) -> Option<Scores>,
    /// With `auto` the CPU runs the model until its plan for the GPU is there; else the plan is waited for.
    pub in_background: bool,
    /// Told now and then while TensorRT builds a plan; when it fails, the build is stopped.
    pub building: &'a dyn Fn(Option<f32>) -> Result<()>,
}

/// Compiles a model for one thread at a time or many: in its own process, or on a GPU.
pub(crate) fn compile(session: Session<'_>, options: &Options<'_>) -> Result<Loaded> {
    let loaded = match options.choice {
        EngineChoice::TensorRt => on_gpu(session.description(), options)?,
        EngineChoice::Auto if tensorrt::is_worth_trying(options.tensorrt) => {
            if options.in_background {
                on_cpu_first(session, options)?
            } else {
                on_gpu_first(session, options)?
            }
        }
        EngineChoice::Auto | EngineChoice::Cnn | EngineChoice::Tract => on_cpu(session, options)?,
    };
    check_budget(loaded.engine.as_ref(), options.budget_bytes)?;
    Ok(loaded)
}

/// Refuses an engine whose weights and one arena take more than a model may.
fn check_budget(engine: &dyn Engine, budget_bytes: u64) -> Result<()> {
    let bytes = (engine.weights_bytes() as u64).saturating_add(engine.arena_bytes() as u64);
    process::within_budget(bytes, budget_bytes)
}

fn on_gpu_first(session: Session<'_>, options: &Options<'_>) -> Result<Loaded> {
    match on_gpu(session.description(), options) {
        // Nobody waits for the model any more.
        Err(error) if error.kind() == Kind::ShuttingDown => Err(error),
        Err(error) => {
            log::warn!("model={} engine=cpu tensorrt=unused reason=\"{error}\"", options.weights.display());
            on_cpu(session, options)
        }
        loaded => loaded,
    }
}

/// Nobody waits for a plan: the GPU takes over when it is there. A model that only a GPU can run waits for
/// it.
fn on_cpu_first(session: Session<'_>, options: &Options<'_>) -> Result<Loaded> {
    let description = session.description().clone();
    let Loaded { engine, trial } = match on_cpu(session, options) {
        Err(error) if error.kind() == Kind::ModelArtefact => {
            return on_gpu(&description, options).map_err(|gpu| {
                let weights = options.weights.display();
                log::warn!("model={weights} tensorrt=unused reason=\"{gpu}\"");
                error
            });
        }
        loaded => loaded?,
    };
    let Options { width, height, budget_bytes, .. } = *options;
    let (weights, settings) = (options.weights.to_owned(), options.tensorrt.clone());
    let load = move |building: Told<'_>| {
        let settings = &settings;
        let request =
            tensorrt::Request { weights: &weights, width, height, budget_bytes, settings, building };
        let engine = for_gpu(&description, &request)?;
        check_budget(engine.as_ref(), budget_bytes)?;
        Ok(engine)
    };
    let engine = Arc::new(Switch::start(engine, options.weights.display().to_string(), load)?);
    Ok(Loaded { engine, trial })
}

fn on_gpu(description: &Description, options: &Options<'_>) -> Result<Loaded> {
    let Options { width, height, budget_bytes, weights, tensorrt: settings, building, .. } = *options;
    let request = tensorrt::Request { weights, width, height, budget_bytes, settings, building };
    let engine = for_gpu(description, &request)?;
    Ok(Loaded { trial: engine.clone(), engine })
}

fn for_gpu(description: &Description, request: &tensorrt::Request<'_>) -> Result<Arc<dyn Engine>> {
    if !description.is_plain() && description.input().frames() == 1 {
        let message = "TensorRT is given the file as it is, and this one takes more than planes of floats";
        return Err(Error::new(Kind::ModelArtefact, message));
    }
    tensorrt::compile(description, request)
}

fn on_cpu(session: Session<'_>, options: &Options<'_>) -> Result<Loaded> {
    let Options { width, height, choice, precision, .. } = *options;
    session.compile(process::Request { width, height, engine: choice, precision }, options.scores)
}
