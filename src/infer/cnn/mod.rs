//! The CPU engine: a compiler from tract's graph to a plan of steps over one arena.
//!
//! ```text
//! TypedModel ─ import ─▶ Graph ─ simplify ─▶ Graph ─ lay_out ─▶ + forms ─ storage ─▶ + places ─ lower ─▶ Plan
//!                        shapes   folded       conversions        arena offsets        steps, packed weights
//! ```
//!
//! Activations lie in blocks of 16 channels (`kernels::LANES`) with a border of zeros as wide as the widest
//! padding of their readers; concatenations and channel slices are views. All kinds of CPU use the same
//! layout: one AVX-512 register, two of AVX2 or four of NEON hold one pixel's block. In half precision a block has
//! 32 channels in the same bytes (`kernels::half`). What has no kernel here
//! is run by tract, node by node. What a stranger's model says is read in a process of its own, which writes
//! the weights and tells the graph (`document`); the service works the plan out again from the graph alone.
//! The end of a detector's graph is also compiled for a few anchors at a time, and run for those that
//! somebody looks at (`head`).

mod choice;
mod constant;
mod cost;
mod document;
mod engine;
mod foreign;
mod graph;
mod head;
mod import;
mod int8;
mod kernels;
mod layout;
mod lower;
mod packer;
mod plan;
mod profile;
mod resample;
mod run;
mod simplify;
mod step;
mod storage;
#[cfg(test)]
mod tests;
mod threads;
mod transformer;
mod unsupported;

use super::onnx::Stored;
use super::shared::SharedFloats;
use super::{Engine, Precision, Scores};
use crate::error::{Error, Kind, Result};
pub use choice::Algorithm;
use choice::Target;
pub use cost::Costs;
pub(crate) use document::MAX_BYTES as MAX_DOCUMENT_BYTES;
#[cfg(test)]
use plan::Plan;
pub use profile::{LayerWays, StepTime};
pub use threads::allow_threads;
pub(crate) use threads::allowed_threads;

use kernels::Kernels;
use kernels::half::Half;
pub(crate) use kernels::heap::{
    give_back as give_back_memory, keep_little as keep_little_memory, keep_much as keep_much_memory,
};
use kernels::int8::Int8;
use std::collections::HashMap;
use std::sync::Arc;
use tract_onnx::prelude::TypedModel;

/// Names the kind of CPU to compile for (`avx512`, `avx2`, `neon`, `scalar`) instead of the best one, and behind a `+`
/// the integer kernels beside it (`avx2+avx-vnni`, `avx512+none`): for tests and comparisons.
pub const CPU_VARIABLE: &str = "WEIR_CPU";

/// No integer kernels, in [`CPU_VARIABLE`] and [`Options::int8`].
const NO_INTEGERS: &str = "none";

/// The kernels that this machine runs with: `avx512`, `avx2`, `neon` or `scalar`.
pub fn kernels() -> &'static str {
    kernels::Kernels::choose(None).map_or("none", |kernels| kernels.name)
}

/// Asks the kernel for the CPU's tiles, which half precision and integers are computed with, while no filter forbids it: it
/// grants them to the process for good.
pub(crate) fn ask_for_tiles() {
    let _ = (Half::choose(None), Int8::choose(None));
}

/// The loops for half precision that this machine runs with; `None` where it would gain nothing.
pub fn half() -> Option<&'static str> {
    Half::choose(None).map(|half| half.name)
}

/// How a graph is compiled.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Kind of CPU, as in [`CPU_VARIABLE`]; `None`: what the variable says, else the best this machine has.
    pub cpu: Option<String>,
    /// Most threads that work on one run together; 0: as many as [`allow_threads`] was told. Profiles use
    /// one.
    pub threads: usize,
    /// How every convolution that leaves a choice is computed; `None`: the cheapest way for each. For tests
    /// and comparisons.
    pub way: Option<Algorithm>,
    /// Where the outputs hold scores; `None`: every run computes everything.
    pub scores: Option<Scores>,
    /// Whether sums and pictures are 32-bit floats or half as long.
    pub precision: Precision,
    /// Loops for what the graph brings to 8 bits, by name, for tests and comparisons; `none`: floats. `None`: what
    /// [`CPU_VARIABLE`] says, else the best that this machine has.
    pub int8: Option<&'static str>,
}

impl Options {
    /// What computes in half precision beside these kernels; `None` where nothing shall or can.
    fn half(&self, kernels: &Kernels) -> Option<&'static Half> {
        // who asks for an older kind of CPU wants no newer instructions
        let is_best = Kernels::choose(None).is_some_and(|best| best.name == kernels.name);
        match self.precision {
            Precision::Full | Precision::Int8 => None,
            Precision::Half => Half::choose(None).filter(|_| is_best),
            #[cfg(test)]
            Precision::HalfBy(name) => Half::choose(Some(name)),
        }
    }
}

impl Options {
    /// What computes in integers beside these kernels, or what is called `name`; `None` where nothing shall or can.
    fn int8(&self, kernels: &Kernels, name: Option<&str>) -> Option<&'static Int8> {
        let is_best = Kernels::choose(None).is_some_and(|best| best.name == kernels.name);
        let name = self.int8.or(name);
        Int8::choose(name).filter(|_| is_best || name.is_some())
    }
}

/// Compiles a model with one input of fixed shape.
///
/// `model` must be typed and **not** decluttered (`InferenceModel::into_typed()`, with a concrete input
/// fact). Fails with the name of the node that cannot be compiled; the caller then falls back to tract.
pub fn compile(model: &TypedModel, options: &Options) -> Result<Arc<dyn Engine>> {
    Ok(Arc::new(engine::CnnEngine(Arc::new(build(model, options)?))))
}

/// A model that is ready to become a plan, in the process that has read it or in another one.
pub(crate) struct Blueprint(plan::Draft);

/// What a plan takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// Packed weights, floats.
    pub(crate) weights_floats: usize,
    /// Weights of nodes that tract runs.
    pub(crate) foreign_bytes: usize,
    /// Memory of one run, bytes.
    pub(crate) arena_bytes: usize,
    /// Numbers of the input.
    pub(crate) input_floats: usize,
}

impl Blueprint {
    /// Of a model, as in [`compile`]; inputs beside its first stand for weights of that name.
    pub(crate) fn new(
        model: &TypedModel,
        stored: &HashMap<String, Stored>,
        options: &Options,
    ) -> Result<Blueprint> {
        Ok(Blueprint(plan::Draft::new(model, stored, target(options)?, options.scores)?))
    }

    /// Of a [`Blueprint::document`], which may hold anything.
    pub(crate) fn read(document: &[u8], options: &Options) -> Result<Blueprint> {
        let refused = |rule: String| {
            Error::new(Kind::ModelArtefact, format!("the model process made a plan that is none: {rule}"))
        };
        let graph = document::read(document).ok_or_else(|| refused(String::from("its bytes")))?;
        document::check(&graph).map_err(refused)?;
        Ok(Blueprint(plan::Draft { graph, target: target(options)?, scores: options.scores }))
    }

    /// What a frame costs, here and in tract's engine.
    pub(crate) fn costs(&self) -> Costs {
        Costs::of(&self.0.graph)
    }

    /// What another process needs besides the weights; `None` where only this one can run the model.
    pub(crate) fn document(&self) -> Option<Vec<u8>> {
        let document = document::write(&self.0.graph)?;
        match document::check(&self.0.graph) {
            Ok(()) => (document.len() <= document::MAX_BYTES).then_some(document),
            Err(rule) => {
                log::info!("event=plan_kept reason=\"{rule}\"");
                None
            }
        }
    }

    /// How much memory the plan takes. Allocates none of it.
    pub(crate) fn size(&self) -> Result<Size> {
        let mut counted = packer::Packer::counting();
        let plan = self.0.lay_out(&mut counted)?;
        Ok(Size {
            weights_floats: counted.floats(),
            foreign_bytes: plan.weights_bytes(),
            arena_bytes: plan.arena_bytes(),
            input_floats: plan.input.1,
        })
    }

    /// Dimensions of each output.
    pub(crate) fn output_shapes(&self) -> Vec<Vec<usize>> {
        self.0.graph.outputs.iter().map(|id| self.0.graph.value(*id).shape.clone()).collect()
    }

    /// Frees the content of the weights, once it is written.
    pub(crate) fn forget_content(&mut self) {
        self.0.graph.forget_content();
    }

    /// Writes the weights, [`Size::weights_floats`] of them, over zeros.
    pub(crate) fn write(&self, room: &mut [f32]) -> Result<()> {
        self.0.lay_out(&mut packer::Packer::into(room)).map(|_| ())
    }

    /// The plan with weights that [`Blueprint::write`] has written, in this process or another.
    pub(crate) fn engine(&self, weights: SharedFloats) -> Result<Arc<dyn Engine>> {
        let mut counted = packer::Packer::counting();
        let plan = self.0.lay_out(&mut counted)?;
        if counted.floats() != weights.as_slice().len() {
            return Err(Error::new(Kind::ModelArtefact, "the model process made weights for another plan"));
        }
        Ok(Arc::new(engine::CnnEngine(Arc::new(plan::Plan {
            weights: packer::Weights::Shared(weights),
            ..plan
        }))))
    }
}

/// Compiles a model and measures each of its steps, the shortest of `runs` runs on one thread.
pub fn profile(model: &TypedModel, options: &Options, runs: u32) -> Result<Vec<StepTime>> {
    let options = Options { threads: 1, ..options.clone() };
    profile::profile(&Arc::new(build(model, &options)?), runs)
}

/// What a frame of a model is expected to cost.
pub fn costs(model: &TypedModel, options: &Options) -> Result<Costs> {
    Blueprint::new(model, &HashMap::new(), options).map(|blueprint| blueprint.costs())
}

/// Compiles a model by every [`Algorithm`] and measures those steps that leave a choice, turn by turn, `runs` times
/// on one thread.
pub fn ways(model: &TypedModel, options: &Options, runs: u32) -> Result<Vec<LayerWays>> {
    let plan = |way| Ok(Arc::new(build(model, &Options { threads: 1, way: Some(way), ..options.clone() })?));
    let [direct, kept, remade] = Algorithm::ALL.map(plan);
    profile::ways(&[direct?, kept?, remade?], runs)
}

fn build(model: &TypedModel, options: &Options) -> Result<plan::Plan> {
    plan::Draft::new(model, &HashMap::new(), target(options)?, options.scores)?.into_plan()
}

/// What a plan is made for.
fn target(options: &Options) -> Result<Target> {
    let wanted =
        options.cpu.clone().or_else(|| std::env::var(CPU_VARIABLE).ok()).filter(|name| !name.is_empty());
    let (cpu, integers) = match wanted.as_deref().map(|wanted| wanted.split_once('+').ok_or(wanted)) {
        None => (None, None),
        Some(Err(cpu)) => (Some(cpu), None),
        Some(Ok((cpu, integers))) => (Some(cpu), Some(integers)),
    };
    let cannot = |what: &str| {
        Error::new(Kind::Configuration, format!("{CPU_VARIABLE}: this machine cannot run {what}"))
    };
    let kernels = Kernels::choose(cpu).ok_or_else(|| cannot(cpu.unwrap_or_default()))?;
    let int8 = options.int8(kernels, integers);
    if let (Some(name), None) = (integers.filter(|name| *name != NO_INTEGERS), int8) {
        return Err(cannot(name));
    }
    let threads = if options.threads == 0 { threads::allowed_threads() } else { options.threads };
    Ok(Target {
        kernels,
        workers: threads.min(threads::MAX_TEAM),
        way: options.way,
        half: options.half(kernels),
        int8,
    })
}
