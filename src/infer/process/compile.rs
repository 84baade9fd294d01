//! From a graph to what runs it, in the model's own process.

use super::words::Verdict;
use crate::error::{Error, Kind, Result};
use crate::infer::cnn::{self, Blueprint};
use crate::infer::onnx::{Graph, Stored};
use crate::infer::shared::{SharedFloats, SharedRoom};
use crate::infer::{Engine, EngineChoice, Precision, Scores, tract};
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tract_onnx::prelude::{TractResult, TypedModel};

/// A graph that was compiled; our own engine has no weights yet.
pub(super) enum Compiled {
    /// A plan for our own engine.
    Ours {
        /// The plan without its weights.
        blueprint: Box<Blueprint>,
        /// The plan for the service; `None` where it cannot leave this process.
        document: Option<Vec<u8>>,
    },
    /// tract's engine, ready to run.
    Tract(Arc<dyn Engine>),
}

/// What the service asks for: size, engine, precision, threads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub width: usize,
    pub height: usize,
    pub engine: EngineChoice,
    pub precision: Precision,
    pub threads: usize,
    pub budget_bytes: u64,
}

/// Compiles a graph. `scores` is asked where outputs of such shapes hold scores; `again` reads the whole
/// file, for the engine that needs it.
pub(super) fn compile(
    graph: Graph,
    request: &Request,
    scores: impl FnOnce(Vec<Vec<usize>>) -> Result<Option<Scores>>,
    again: impl FnOnce() -> Result<Graph>,
) -> Result<(Compiled, Verdict)> {
    let Request { width, height, budget_bytes, .. } = *request;
    let (frames, is_lean) = (graph.input().frames(), graph.is_lean());
    let (typed, stored) = graph.into_typed_lean(width, height, budget_bytes)?;
    let scores = scores(output_shapes(&typed)?)?;
    let whole = |typed| match is_lean {
        false => by_tract(typed),
        true => {
            drop(typed);
            by_tract(again()?.into_typed(width, height, budget_bytes)?)
        }
    };
    let compiled = match request.engine {
        EngineChoice::Cnn if frames > 1 => {
            return Err(Error::new(
                Kind::ModelArtefact,
                format!("the graph takes {frames} pictures at a time"),
            ));
        }
        EngineChoice::Cnn => ours(&typed, &stored, request, scores, false)?,
        EngineChoice::Tract => whole(typed)?,
        _ if frames > 1 => whole(typed)?,
        _ => ours(&typed, &stored, request, scores, true).or_else(|error| {
            log::info!("engine=tract reason=\"{}\"", error.message());
            whole(typed)
        })?,
    };
    // the parsed model is gone by now
    cnn::give_back_memory();
    Ok(compiled)
}

/// tract's engine, which allocates its tensors in every run.
fn by_tract(model: TypedModel) -> Result<(Compiled, Verdict)> {
    let engine = tract::compile(model)?;
    cnn::keep_much_memory();
    let verdict = Verdict {
        ours: false,
        weights_floats: 0,
        document_bytes: 0,
        foreign_bytes: engine.weights_bytes(),
        arena_bytes: engine.arena_bytes(),
        frames: engine.batch().frames,
        input_floats: input_floats(engine.as_ref())?,
        output_shapes: engine.output_shapes().to_vec(),
    };
    Ok((Compiled::Tract(engine), verdict))
}

/// What one frame of the input has.
fn input_floats(engine: &dyn Engine) -> Result<usize> {
    Ok(engine.new_run()?.input().len())
}

/// Our own engine. A graph that it trips over is one that it does not support: tract may run it all the same.
/// `by_cost`: one that tract would run in less time is refused, too.
fn ours(
    model: &TypedModel,
    stored: &HashMap<String, Stored>,
    request: &Request,
    scores: Option<Scores>,
    by_cost: bool,
) -> Result<(Compiled, Verdict)> {
    let attempt = AssertUnwindSafe(|| {
        let options = cnn::Options {
            scores,
            threads: request.threads,
            precision: request.precision,
            ..cnn::Options::default()
        };
        let blueprint = Blueprint::new(model, stored, &options)?;
        let costs = blueprint.costs();
        if by_cost && costs.tract_is_cheaper() {
            return Err(Error::new(Kind::ModelArtefact, costs.to_string()));
        }
        let document = blueprint.document();
        let size = blueprint.size()?;
        let verdict = Verdict {
            ours: true,
            weights_floats: size.weights_floats,
            document_bytes: document.as_ref().map_or(0, Vec::len),
            foreign_bytes: size.foreign_bytes,
            arena_bytes: size.arena_bytes,
            frames: 1,
            input_floats: size.input_floats,
            output_shapes: blueprint.output_shapes(),
        };
        Ok((Compiled::Ours { blueprint: Box::new(blueprint), document }, verdict))
    });
    catch_unwind(attempt)
        .unwrap_or_else(|_| Err(Error::new(Kind::ModelArtefact, "compiling the graph panicked")))
}

/// Shapes of the outputs, 0 where a side depends on the picture.
fn output_shapes(model: &TypedModel) -> Result<Vec<Vec<usize>>> {
    let shape = |outlet| -> TractResult<_> { Ok(tract::concrete(model.outlet_fact(outlet)?)) };
    let shapes = model.output_outlets().and_then(|outlets| outlets.iter().copied().map(shape).collect());
    shapes.map_err(|cause| {
        Error::new(Kind::ModelArtefact, "the graph has outputs without a shape").because(cause)
    })
}

/// Writes all of it into memory that the service has made, from byte `at` on.
pub(super) fn write_all(memory: impl AsFd, mut rest: &[u8], mut at: u64) -> Result<()> {
    while !rest.is_empty() {
        let written = rustix::io::pwrite(&memory, rest, at)
            .map_err(|errno| crate::error::system("writing a plan")(errno.into()))?;
        rest = rest.get(written..).unwrap_or_default();
        at += written as u64;
    }
    Ok(())
}

impl Compiled {
    /// Writes weights and document into the service's memory; what they were made from is freed.
    pub(super) fn write(&mut self, memory: impl AsFd, verdict: &Verdict) -> Result<()> {
        let Compiled::Ours { blueprint, document } = self else {
            return Err(Error::new(Kind::ModelArtefact, "an engine that has no plan"));
        };
        blueprint.write(SharedRoom::map(&memory, verdict.weights_floats)?.as_mut_slice())?;
        blueprint.forget_content();
        let at = (verdict.weights_floats * size_of::<f32>()) as u64;
        write_all(&memory, &document.take().unwrap_or_default(), at)
    }

    /// What runs it, with the weights that were written.
    pub(super) fn engine(&self, memory: Option<impl AsFd>, verdict: &Verdict) -> Result<Arc<dyn Engine>> {
        match self {
            Compiled::Tract(engine) => Ok(engine.clone()),
            Compiled::Ours { blueprint, .. } => {
                let memory =
                    memory.ok_or_else(|| Error::new(Kind::ModelArtefact, "a plan without weights"))?;
                blueprint.engine(SharedFloats::map(memory, verdict.weights_floats)?)
            }
        }
    }
}
