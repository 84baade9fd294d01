//! What the TensorRT engine is told by the configuration.

use std::path::PathBuf;
use std::time::Duration;

/// What the TensorRT engine is told by the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorRtSettings {
    /// Where `libnvinfer.so.*` and `libcuda.so.1` are; `None`: where the loader looks.
    pub libraries: Option<PathBuf>,
    /// Where plans are kept; `None`: beside the model.
    pub cache_dir: Option<PathBuf>,
    /// NVIDIA's program that makes a plan of an ONNX file.
    pub trtexec: PathBuf,
    /// Longest time to build a plan.
    pub build_timeout: Duration,
    /// Most memory a build may take, bytes.
    pub build_memory_max_bytes: u64,
    /// Whether 16-bit floats may be used inside.
    pub half: bool,
    /// Most frames in one run, where the model leaves its batch open.
    pub max_batch: usize,
    /// How long a frame may wait for others to run with.
    pub batch_wait: Duration,
}

impl Default for TensorRtSettings {
    fn default() -> Self {
        TensorRtSettings {
            libraries: None,
            cache_dir: None,
            trtexec: PathBuf::from("/usr/src/tensorrt/bin/trtexec"),
            build_timeout: Duration::from_secs(3600),
            // TensorRT's builders take one to three gigabytes for detectors.
            build_memory_max_bytes: 6 << 30,
            half: true,
            max_batch: 4,
            batch_wait: Duration::from_millis(2),
        }
    }
}
