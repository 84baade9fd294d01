//! Which engine runs a graph.

use super::onnx::Graph;
use super::{Engine, Scores, cnn, tensorrt, tract};
use crate::error::{Error, Kind, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use tract_onnx::prelude::TypedModel;

/// Which engine compiles models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EngineChoice {
    /// `tensorrt` where there is a GPU, else `cnn` where that supports the graph, else `tract`.
    #[default]
    Auto,
    /// Our own convolution engine, or an error.
    Cnn,
    /// tract, always.
    Tract,
    /// An NVIDIA GPU, or an error.
    TensorRt,
}

impl EngineChoice {
    /// From the word of a flag or configuration: `auto`, `cnn`, `tract`, `tensorrt`.
    pub fn from_name(name: &str) -> Option<EngineChoice> {
        match name {
            "auto" => Some(EngineChoice::Auto),
            "cnn" => Some(EngineChoice::Cnn),
            "tract" => Some(EngineChoice::Tract),
            "tensorrt" => Some(EngineChoice::TensorRt),
            _ => None,
        }
    }
}

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
    pub tensorrt: &'a tensorrt::Settings,
    /// Where outputs of such shapes hold scores; `None`: nobody knows.
    pub scores: &'a dyn Fn(&[Vec<usize>]) -> Option<Scores>,
    /// Told now and then while TensorRT builds a plan; when it fails, the build is stopped.
    pub building: &'a dyn Fn() -> Result<()>,
}

/// Compiles a graph for one thread at a time or many.
pub fn compile(graph: Graph, options: &Options<'_>) -> Result<Arc<dyn Engine>> {
    let engine = match options.choice {
        EngineChoice::TensorRt => on_gpu(&graph, options)?,
        EngineChoice::Auto if tensorrt::is_worth_trying(options.tensorrt) => match on_gpu(&graph, options) {
            Ok(engine) => engine,
            // Nobody waits for the model any more.
            Err(error) if error.kind() == Kind::ShuttingDown => return Err(error),
            Err(error) => {
                log::warn!("model={} engine=cpu tensorrt=unused reason=\"{error}\"", options.weights.display());
                on_cpu(graph, options)?
            }
        },
        EngineChoice::Auto | EngineChoice::Cnn | EngineChoice::Tract => on_cpu(graph, options)?,
    };
    let bytes = (engine.weights_bytes() as u64).saturating_add(engine.arena_bytes() as u64);
    if bytes > options.budget_bytes {
        let message = format!("the model needs {} MiB, more than the {} MiB allowed", bytes >> 20, options.budget_bytes >> 20);
        return Err(Error::new(Kind::Exhausted, message));
    }
    Ok(engine)
}

fn on_gpu(graph: &Graph, options: &Options<'_>) -> Result<Arc<dyn Engine>> {
    let Options { width, height, budget_bytes, weights, tensorrt: settings, building, .. } = *options;
    if !graph.is_plain() && graph.input().frames() == 1 {
        let message = "TensorRT is given the file as it is, and this one takes more than planes of floats";
        return Err(Error::new(Kind::ModelArtefact, message));
    }
    tensorrt::compile(graph, &tensorrt::Request { weights, width, height, budget_bytes, settings, building })
}

fn on_cpu(graph: Graph, options: &Options<'_>) -> Result<Arc<dyn Engine>> {
    let frames = graph.input().frames();
    let typed = graph.into_typed(options.width, options.height, options.budget_bytes)?;
    if frames > 1 {
        return match options.choice {
            EngineChoice::Cnn => Err(Error::new(Kind::ModelArtefact, format!("the graph takes {frames} pictures at a time"))),
            _ => by_tract(typed),
        };
    }
    let scores = output_shapes(&typed).and_then(|shapes| (options.scores)(&shapes));
    let engine = match options.choice {
        EngineChoice::Tract => by_tract(typed),
        EngineChoice::Auto => ours(&typed, scores).or_else(|error| {
            log::info!("engine=tract reason=\"{}\"", error.message());
            by_tract(typed)
        }),
        _ => {
            let engine = ours(&typed, scores);
            drop(typed);
            engine
        }
    };
    // the parsed model is gone by now; only weights and steps remain
    cnn::give_back_memory();
    engine
}

/// tract's engine, which allocates its tensors in every run.
fn by_tract(model: TypedModel) -> Result<Arc<dyn Engine>> {
    let engine = tract::compile(model)?;
    cnn::keep_much_memory();
    Ok(engine)
}

/// Our own engine. A graph that it trips over is one that it does not support: tract may run it all the same.
fn ours(model: &TypedModel, scores: Option<Scores>) -> Result<Arc<dyn Engine>> {
    let attempt = AssertUnwindSafe(|| cnn::compile(model, &cnn::Options { scores, ..cnn::Options::default() }));
    catch_unwind(attempt).unwrap_or_else(|_| Err(Error::new(Kind::ModelArtefact, "compiling the graph panicked")))
}

/// Shapes of the outputs, where all of them are fixed.
fn output_shapes(model: &TypedModel) -> Option<Vec<Vec<usize>>> {
    let shape = |outlet| model.outlet_fact(outlet).ok()?.shape.as_concrete().map(<[usize]>::to_vec);
    model.output_outlets().ok()?.iter().map(|outlet| shape(*outlet)).collect()
}
