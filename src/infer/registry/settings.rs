//! What the registry is told by the configuration.

use crate::command::Secret;
use crate::infer::tensorrt;
use crate::infer::{EngineChoice, Precision};
use crate::outbound::{Proxies, Trust};
use std::path::PathBuf;
use std::time::Duration;

/// Largest weights file unless configured otherwise, bytes: twice the largest detector there is (RF-DETR
/// 2XL).
pub const MAX_MODEL_BYTES: u64 = 512 << 20;

/// What the registry is told by the configuration.
#[derive(Debug, Clone)]
pub struct RegistrySettings {
    /// Through which proxies the API and its storage are asked.
    pub proxies: Proxies,
    /// Whose certificates they may show.
    pub trust: Trust,
    /// `MODEL_CACHE_DIR`; models fetched from the API are kept in it as docs/roboflow.md §6.2 says.
    pub cache_dir: PathBuf,
    /// Folders below which a model id may be a path. The cache directory is not implied.
    pub models_dirs: Vec<PathBuf>,
    /// Address of the Roboflow API; `API_BASE_URL`.
    pub api_base_url: String,
    /// `LICENSE_SERVER`: `host[:port]` of a proxy through which every request goes, over HTTP unless it
    /// begins with `https://`.
    pub license_server: Option<String>,
    /// `ROBOFLOW_API_EXTRA_HEADERS`, sent with every request to the API.
    pub extra_headers: Vec<(String, Secret)>,
    /// `ROBOFLOW_API_KEY` or `API_KEY`: for pipelines that bring none.
    pub default_api_key: Option<Secret>,
    /// `DEVICE_ID`, else the host name; the API is told.
    pub device_id: String,
    /// Longest wait for the answer to one request, and for the next bytes of a body.
    pub request_timeout: Duration,
    /// How often a request is made again after a refused connection, a timeout, or 429, 502, 503, 504.
    pub retries: u32,
    /// Pause before the first of them; doubled each time.
    pub retry_interval: Duration,
    /// Largest weights file, bytes.
    pub max_model_bytes: u64,
    /// Most memory one model may take: weights and one arena, bytes.
    pub memory_budget_bytes: u64,
    /// Longest time to read and compile a model, and for its test run.
    pub load_timeout: Duration,
    /// Which engine compiles models.
    pub engine: EngineChoice,
    /// How exactly our own engine computes.
    pub precision: Precision,
    /// Where TensorRT is and how plans are made.
    pub tensorrt: tensorrt::TensorRtSettings,
    /// The CPU runs a model until its plan for the GPU is there; else who asks for the model waits for the
    /// plan.
    pub exchange_engines: bool,
    /// Run a model once after loading and compare its classes with its names (`MODEL_VALIDATION_DISABLED`
    /// turns it off).
    pub validate: bool,
    /// Never call out: only the cache and local files.
    pub offline: bool,
    /// Contrast of the model's preprocessing is left out; `DISABLE_PREPROC_CONTRAST`.
    pub disable_contrast: bool,
    /// Gray of the model's preprocessing is left out; `DISABLE_PREPROC_GRAYSCALE`.
    pub disable_grayscale: bool,
    /// The crop of the model's preprocessing is left out; `DISABLE_PREPROC_STATIC_CROP`.
    pub disable_static_crop: bool,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        RegistrySettings {
            proxies: Proxies::default(),
            trust: Trust::default(),
            cache_dir: PathBuf::from("/tmp/cache"),
            models_dirs: vec![PathBuf::from("/usr/share/weir/models")],
            api_base_url: String::from("https://api.roboflow.com"),
            license_server: None,
            extra_headers: Vec::new(),
            default_api_key: None,
            device_id: String::from("weir"),
            request_timeout: Duration::from_secs(30),
            retries: 3,
            retry_interval: Duration::from_secs(1),
            max_model_bytes: MAX_MODEL_BYTES,
            memory_budget_bytes: 2 << 30,
            load_timeout: Duration::from_secs(300),
            engine: EngineChoice::Auto,
            precision: Precision::Full,
            tensorrt: tensorrt::TensorRtSettings::default(),
            exchange_engines: false,
            validate: true,
            offline: false,
            disable_contrast: false,
            disable_grayscale: false,
            disable_static_crop: false,
        }
    }
}
