//! TensorRT: models on an NVIDIA GPU, without NVIDIA's headers or libraries at build time.
//!
//! Everything is opened at run time and may be absent. From the bottom up:
//!
//! * `library`, `layout`: `libnvinfer.so.8/10/11`, `libtensorrt_rtx.so.1`, and the one table of where each
//!   version keeps its functions
//! * `interface`, `runtime`, `logger`: calling its C++ objects, and being called by it
//! * `cuda`: the driver, `libcuda.so.1`: context, memory, streams
//! * `engine`, `element`: a plan as an [`Engine`]
//! * `plan`, `build`: plans on disk, and the processes that make them: `child` with `builder` and `monitor`,
//!   which is `weir plan`, else NVIDIA's `trtexec`
//! * `compile`: all of it in order
//!
//! Compiled with the feature `tensorrt`, and always into the unit tests, which run it on stand-ins of the
//! libraries made from `tests/tensorrt/` (docs/jetson.md says what that proves and what not).

#[cfg(not(any(test, feature = "tensorrt")))]
mod absent;
#[cfg(not(any(test, feature = "tensorrt")))]
use absent as compile;
#[cfg(any(test, feature = "tensorrt"))]
mod build;
#[cfg(any(test, feature = "tensorrt"))]
mod builder;
#[cfg(any(test, feature = "tensorrt"))]
mod child;
#[cfg(any(test, feature = "tensorrt"))]
mod compile;
#[cfg(any(test, feature = "tensorrt"))]
mod cuda;
#[cfg(any(test, feature = "tensorrt"))]
mod element;
#[cfg(any(test, feature = "tensorrt"))]
mod engine;
#[cfg(any(test, feature = "tensorrt"))]
mod interface;
#[cfg(any(test, feature = "tensorrt"))]
mod layout;
#[cfg(any(test, feature = "tensorrt"))]
mod library;
#[cfg(any(test, feature = "tensorrt"))]
mod logger;
#[cfg(any(test, feature = "tensorrt"))]
mod monitor;
#[cfg(any(test, feature = "tensorrt"))]
mod plan;
#[cfg(any(test, feature = "tensorrt"))]
mod runtime;
mod settings;
#[cfg(test)]
mod tests;

pub use settings::TensorRtSettings;

use super::Engine;
use super::onnx::Description;
use crate::error::{Error, Kind, Result};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether `auto` should look for a GPU: where this program can use one at all. Unit tests can, and do when
/// they say where their stand-ins are, never on what the machine they run on happens to have.
pub fn is_worth_trying(settings: &TensorRtSettings) -> bool {
    cfg!(feature = "tensorrt") || (cfg!(test) && settings.libraries.is_some())
}

/// Set for good when a run says that the GPU is lost: [`is_gpu_lost`].
static GPU_LOST: AtomicBool = AtomicBool::new(false);

/// Whether the GPU gave up on this process while it ran models for it: they run again in a new process only.
/// A GPU that never ran a model is not meant: the CPU has those.
pub fn is_gpu_lost() -> bool {
    GPU_LOST.load(Ordering::Relaxed)
}

#[cfg(any(test, feature = "tensorrt"))]
fn lose_gpu() {
    GPU_LOST.store(true, Ordering::Relaxed);
}

/// A model to be put on the GPU.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The ONNX file: TensorRT reads it for itself.
    pub weights: &'a Path,
    /// Width of the input, pixels.
    pub width: usize,
    /// Height of the input, pixels.
    pub height: usize,
    /// Most bytes of a plan.
    pub budget_bytes: u64,
    /// What the configuration says.
    pub settings: &'a TensorRtSettings,
    /// Told now and then that a plan is being built, and how far it is where that is known, from 0 to 1; when
    /// it fails, the build is stopped.
    pub building: &'a dyn Fn(Option<f32>) -> Result<()>,
}

/// Puts a model on the GPU: from a plan that was kept, else by building one, which takes minutes. Blocks.
pub fn compile(graph: &Description, request: &Request<'_>) -> Result<Arc<dyn Engine>> {
    compile::compile(graph, request)
}

/// The body of `weir plan`, which builds one plan. Returns the exit code.
#[cfg(any(test, feature = "tensorrt"))]
pub fn run(arguments: Vec<std::ffi::OsString>) -> u8 {
    child::run(arguments)
}

/// What there is of TensorRT and CUDA on this machine, a line each: for `weir check`.
pub fn describe(settings: &TensorRtSettings) -> Vec<String> {
    compile::describe(settings)
}

/// TensorRT cannot be used, for a reason that concerns the machine or the model, not a frame.
fn unavailable(message: impl Into<String>) -> Error {
    Error::new(Kind::System, message.into())
}
