//! From a model to an engine: libraries, plan, and what the two say about each other.

use super::Request;
use super::build::{self, OpenInput, Order};
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
    let (version, flags) = (library.version, library.layout.trtexec);
    let identity =
        Identity { version, gpu: device.name(), half: settings.half, batch, size: (width, height) };
    let place = Place::of(weights, settings.cache_dir.as_deref(), &identity)?;
    let names: Vec<String> = graph.output_names().into_iter().map(str::to_owned).collect();
    let wanted = Wanted { width, height, outputs: &names, batch, batch_wait: settings.batch_wait };

    if let Some(plan) = place.read(budget_bytes) {
        match Runtime::new(library, device.clone())?.deserialise(&plan) {
            Ok(engine) => return finish(TensorRtEngine::new(engine, device, plan.len(), &wanted)?),
            Err(error) => log::warn!("tensorrt plan={} discarded reason=\"{error}\"", place.path().display()),
        }
    }
    building()?;
    let is_open = input.batch.is_none() || input.height.is_none() || input.width.is_none();
    let partial = place.begin()?;
    let order = Order {
        trtexec: &settings.trtexec,
        onnx: weights,
        plan: partial.path(),
        flags,
        half: settings.half,
        open_input: is_open.then(|| OpenInput { name: graph.input_name(), batch, width, height }),
        timeout: settings.build_timeout,
    };
    build::build(&order, building)?;
    place.keep(partial)?;
    let plan =
        place.read(budget_bytes).ok_or_else(|| unavailable("the plan that was just built cannot be read"))?;
    let runtime = Runtime::new(TensorRt::open(settings.libraries.as_deref())?, device.clone())?;
    finish(TensorRtEngine::new(runtime.deserialise(&plan)?, device, plan.len(), &wanted)?)
}

fn finish(engine: TensorRtEngine) -> Result<Arc<dyn Engine>> {
    engine.try_out()?;
    Ok(Arc::new(engine))
}

/// What there is of TensorRT and CUDA, a line each.
pub(super) fn describe(settings: &TensorRtSettings) -> Vec<String> {
    let folder = settings.libraries.as_deref();
    let tensorrt = match TensorRt::open(folder) {
        Ok(library) => format!("TensorRT {} ({})", library.version, library.path().display()),
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
