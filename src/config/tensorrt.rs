//! The section `tensorrt`: NVIDIA GPUs.

use crate::infer::tensorrt::TensorRtSettings;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// Most frames that may run together; plans for more take longer to build and hardly run faster.
pub(super) const LARGEST_BATCH: usize = 32;

/// NVIDIA GPUs, in programs that were built with the feature `tensorrt`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TensorRt {
    /// Folder of `libnvinfer.so.*` and `libcuda.so.1`; empty: where the system's loader looks.
    pub libraries: PathBuf,
    /// Plans are kept here; empty: beside each model. Environment: TENSORRT_CACHE_PATH.
    pub cache_dir: PathBuf,
    /// NVIDIA's program that makes a plan of a model.
    pub trtexec: PathBuf,
    /// Longest time to build a plan, seconds. `limits.command_timeout_s` holds for the `init` that asks for
    /// it, too.
    pub build_timeout_s: f64,
    /// Most memory that building a plan may take, bytes.
    pub build_memory_max_bytes: u64,
    /// `fp16` or `fp32`. From TensorRT 11 on, and with TensorRT for RTX, the model
    /// alone decides.
    pub precision: String,
    /// Most frames of several sources in one run, where the model leaves its batch open.
    pub max_batch: usize,
    /// Longest time a frame waits for others to run with, seconds.
    pub batch_wait_s: f64,
}

impl Default for TensorRt {
    fn default() -> Self {
        let TensorRtSettings {
            trtexec, build_timeout, build_memory_max_bytes, max_batch, batch_wait, ..
        } = TensorRtSettings::default();
        TensorRt {
            libraries: PathBuf::new(),
            cache_dir: PathBuf::new(),
            trtexec,
            build_timeout_s: build_timeout.as_secs_f64(),
            build_memory_max_bytes,
            precision: "fp16".into(),
            max_batch,
            batch_wait_s: batch_wait.as_secs_f64(),
        }
    }
}

impl TensorRt {
    /// What cannot work, in words.
    pub(super) fn fault(&self) -> Option<String> {
        if !["fp16", "fp32"].contains(&self.precision.as_str()) {
            return Some(format!("tensorrt.precision = \"{}\" is none of fp16, fp32", self.precision));
        }
        if !(1..=LARGEST_BATCH).contains(&self.max_batch) {
            return Some(format!(
                "tensorrt.max_batch = {} is not between 1 and {LARGEST_BATCH}",
                self.max_batch
            ));
        }
        None
    }

    /// What the engine is told.
    pub(crate) fn settings(&self) -> TensorRtSettings {
        let named = |path: &PathBuf| Some(path.clone()).filter(|path| !path.as_os_str().is_empty());
        TensorRtSettings {
            libraries: named(&self.libraries),
            cache_dir: named(&self.cache_dir),
            trtexec: self.trtexec.clone(),
            build_timeout: Duration::from_secs_f64(self.build_timeout_s),
            build_memory_max_bytes: self.build_memory_max_bytes,
            half: self.precision == "fp16",
            max_batch: self.max_batch,
            batch_wait: Duration::from_secs_f64(self.batch_wait_s),
        }
    }
}
