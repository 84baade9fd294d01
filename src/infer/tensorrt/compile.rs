//! From a model to an engine: libraries, plan, and what the two say about each other.

use super::Request;
use super::build::{self, Failure, GoesOn, OpenInput, Order, Program};
use super::cuda::Device;
use super::engine::{TensorRtEngine, Wanted};
use super::library::TensorRt;
use super::plan::{Identity, Place};
use super::runtime::Runtime;
use super::settings::TensorRtSettings;
use super::unavailable;
use crate::error::Result;
use crate::infer::Engine;
use crate::infer::onnx::Description;
use std::sync::Arc;

/// The model on the GPU. Blocks: minutes, the first time.
pub(super) fn compile(graph: &Description, request: &Request<'_>) -> Result<Arc<dyn Engine>> {
    let Request { weights, width, height, budget_bytes, settings, building } = *request;
    let input = graph.input();
    if let Some(batch) = input.batch.filter(|batch| *batch != 1) {
        return Err(unavailable(format!("the model was exported for {batch} pictures at a time")));
    }
    // The libraries before the driver: on a machine without either, TensorRT is what is missed first.
    let library = TensorRt::open(settings.libraries.as_deref())?;
    let device = Device::open(settings.libraries.as_deref())?;
    let batch = if input.batch.is_none() { settings.max_batch.max(1) } else { 1 };
    let (product, version, layout) = (library.product, library.version, library.layout);
    let identity =
        Identity { product, version, gpu: device.name(), half: settings.half, batch, size: (width, height) };
    let place = Place::of(weights, settings.cache_dir.as_deref(), &identity)?;
    let names: Vec<String> = graph.output_names().into_iter().map(str::to_owned).collect();
    let wanted = Wanted { width, height, outputs: &names, batch, batch_wait: settings.batch_wait };

    if let Some(plan) = place.read(budget_bytes) {
        match Runtime::new(library, device.clone())?.deserialise(&plan) {
            Ok(engine) => return finish(TensorRtEngine::new(engine, device, plan.len(), &wanted)?),
            Err(error) => log::warn!("tensorrt plan={} discarded reason=\"{error}\"", place.path().display()),
        }
    }
    building(None)?;
    let is_open = input.batch.is_none() || input.height.is_none() || input.width.is_none();
    let partial = place.begin()?;
    let trtexec = Program::Trtexec(&settings.trtexec, layout.trtexec);
    let order = Order {
        program: trtexec,
        onnx: weights,
        plan: partial.path(),
        memory_max_bytes: settings.build_memory_max_bytes,
        half: settings.half,
        open_input: is_open.then(|| OpenInput { name: graph.input_name(), batch, width, height }),
        timeout: settings.build_timeout,
    };
    // The executable of unit tests is not `weir`.
    if cfg!(not(test)) {
        build_by_either(&order, settings, building)?;
    } else {
        build::build(&order, building).map_err(Failure::into_error)?;
    }
    place.keep(partial)?;
    let plan =
        place.read(budget_bytes).ok_or_else(|| unavailable("the plan that was just built cannot be read"))?;
    let runtime = Runtime::new(TensorRt::open(settings.libraries.as_deref())?, device.clone())?;
    finish(TensorRtEngine::new(runtime.deserialise(&plan)?, device, plan.len(), &wanted)?)
}

/// Through the builder; where its libraries are not all there, by `trtexec`.
fn build_by_either(trtexec: &Order<'_>, settings: &TensorRtSettings, building: GoesOn<'_>) -> Result<()> {
    let own = Order { program: Program::Own(settings.libraries.as_deref()), ..*trtexec };
    match build::build(&own, building) {
        Err(Failure::Unable(error)) => {
            log::info!("tensorrt program=trtexec reason=\"{}\"", error.message().escape_debug());
            build::build(trtexec, building).map_err(|failure| {
                let last = failure.into_error();
                if trtexec.program_is_there() { last } else { last.because(error) }
            })
        }
        outcome => outcome.map_err(Failure::into_error),
    }
}

fn finish(engine: TensorRtEngine) -> Result<Arc<dyn Engine>> {
    engine.try_out()?;
    Ok(Arc::new(engine))
}

/// What there is of TensorRT and CUDA, a line each.
pub(super) fn describe(settings: &TensorRtSettings) -> Vec<String> {
    let folder = settings.libraries.as_deref();
    let tensorrt = match TensorRt::open(folder) {
        Ok(library) => format!("{} ({})", library.title(), library.path().display()),
        Err(error) => format!("no TensorRT: {}", error.message()),
    };
    let cuda = match Device::open(folder) {
        Ok(device) => {
            let mebibytes = device.memory_bytes() >> 20;
            format!("{}, {mebibytes} MiB, driver for CUDA {}", device.name(), device.driver())
        }
        Err(error) => format!("no CUDA: {}", error.message()),
    };
    vec![tensorrt, cuda]
}
