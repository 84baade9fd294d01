//! Which engine runs a graph.

use super::onnx::Graph;
use super::registry::EngineChoice;
use super::{Engine, cnn, tract};
use crate::error::{Error, Kind, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tract_onnx::prelude::TypedModel;

/// How to compile a graph.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Width of the input, pixels.
    pub width: usize,
    /// Height of the input, pixels.
    pub height: usize,
    /// Which engine.
    pub choice: EngineChoice,
    /// Most bytes of weights and one arena together.
    pub budget_bytes: u64,
}

/// Compiles a graph for one thread at a time or many.
pub fn compile(graph: Graph, options: &Options) -> Result<Arc<dyn Engine>> {
    let typed = graph.into_typed(options.width, options.height, options.budget_bytes)?;
    let engine = match options.choice {
        EngineChoice::Tract => tract::compile(typed)?,
        EngineChoice::Cnn => ours(&typed)?,
        EngineChoice::Auto => match ours(&typed) {
            Ok(engine) => engine,
            Err(error) => {
                log::info!("engine=tract reason=\"{}\"", error.message());
                tract::compile(typed)?
            }
        },
    };
    let bytes = (engine.weights_bytes() as u64).saturating_add(engine.arena_bytes() as u64);
    if bytes > options.budget_bytes {
        let message = format!("the model needs {} MiB, more than the {} MiB allowed", bytes >> 20, options.budget_bytes >> 20);
        return Err(Error::new(Kind::Exhausted, message));
    }
    Ok(engine)
}

/// Our own engine. A graph that it trips over is one that it does not support: tract may run it all the same.
fn ours(model: &TypedModel) -> Result<Arc<dyn Engine>> {
    let attempt = AssertUnwindSafe(|| cnn::compile(model, &cnn::Options::default()));
    catch_unwind(attempt).unwrap_or_else(|_| Err(Error::new(Kind::ModelArtefact, "compiling the graph panicked")))
}
