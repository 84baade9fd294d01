//! Configuration: defaults < file < environment < flags.
//!
//! The doc comment of a field is its manual; a test holds `packaging/weir.toml` equal to the defaults.

mod cache;
mod credentials;
mod environment;
mod listeners;
mod mqtt;
mod tensorrt;

pub use environment::SECRET_VARIABLES;
pub use listeners::{Access, Limits, Sinks, Sources, Tls};
pub use mqtt::Mqtt;
pub use tensorrt::TensorRt;

use crate::capture::{
    DecoderChoice, MAX_DECODER_NAMES, MAX_PICTURE_WIDTH, MIN_PICTURE_WIDTH, MIN_WORKER_BYTES, is_decoder_name,
};
use crate::command::Secret;
use crate::error::{Error, Kind, Result};
use crate::infer::registry::MAX_MODEL_BYTES;
use crate::infer::{EngineChoice, Precision};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the file is looked for when `--config` does not say.
pub const DEFAULT_PATH: &str = "/etc/weir/weir.toml";
/// A configuration file larger than this is not one.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Inference threads at most: more than any machine of today has cores, and each has memory of its own.
const MAX_THREADS: usize = 1024;

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The Stream Manager's TCP protocol.
    pub tcp: Tcp,
    /// The listener of the HTTP API.
    pub http: Http,
    /// Who may come in.
    pub access: Access,
    /// TLS on both ports.
    pub tls: Tls,
    /// What `video_reference` may name.
    pub sources: Sources,
    /// Where detections may be sent.
    pub sinks: Sinks,
    /// The broker that detections are published to.
    pub mqtt: Mqtt,
    /// How much and how long a client may.
    pub limits: Limits,
    /// Models and where they come from.
    pub models: Models,
    /// NVIDIA GPUs, in programs that were built with the feature `tensorrt`.
    pub tensorrt: TensorRt,
    /// Thresholds of pipelines that give none.
    pub detection: Detection,
    /// How video sources are opened, decoded and limited.
    pub capture: Capture,
    /// Limits and threads of the whole service.
    pub service: Service,
}

/// The Stream Manager's TCP protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tcp {
    /// Address to listen on. Environment: STREAM_MANAGER_HOST.
    pub host: String,
    /// Port; 0 takes a free one. Environment: STREAM_MANAGER_PORT, PORT.
    pub port: u16,
    /// Longest silence of a client in the middle of a message, seconds. Environment:
    /// STREAM_MANAGER_SOCKET_TIMEOUT.
    pub socket_timeout_s: f64,
    /// A Unix socket that speaks the same protocol to the service's own user and group, without token; empty:
    /// none.
    pub unix: PathBuf,
}

/// The listener of the HTTP API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Address to listen on. Environment: STREAM_MANAGEMENT_API_HOST.
    pub host: String,
    /// Port; 0 takes a free one. Environment: STREAM_MANAGEMENT_API_PORT.
    pub port: u16,
    /// Origins that browsers may call from (`https://dashboard.example`, or `*`); empty: none.
    pub cors_origins: Vec<String>,
    /// Host names it answers to, against DNS rebinding; addresses and `localhost` always pass, `*` is any
    /// name. Empty: the machine's own name while it listens on loopback only, else any.
    pub hosts: Vec<String>,
    /// Addresses and networks of reverse proxies whose `X-Forwarded-For` counts; empty: none.
    pub trusted_proxies: Vec<String>,
    /// Whether pictures of cameras are shown (`snapshot.jpg`, `live.mjpeg`).
    pub pictures: bool,
    /// Width of the largest picture, pixels; one has no more of them than a square of that width. 4096 at
    /// most.
    pub picture_width: u32,
    /// Clients that look at pictures at once.
    pub picture_viewers: usize,
    /// A Unix socket that speaks the same protocol to the service's own user and group, without token; empty:
    /// none.
    pub unix: PathBuf,
}

/// Models and where they come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Models {
    /// Downloaded models are kept here. Empty: systemd's CACHE_DIRECTORY; else `/tmp/cache` where it is there
    /// and ours; else `/var/cache/weir` for root, `weir` in XDG_CACHE_HOME or `~/.cache` for others.
    /// Environment: MODEL_CACHE_DIR.
    pub cache_dir: PathBuf,
    /// Folders below which a model_id may be a path. Environment: WEIR_MODELS_DIR (separated by `:`).
    pub dirs: Vec<PathBuf>,
    /// The Roboflow API. Environment: API_BASE_URL.
    pub api_base_url: String,
    /// `host[:port]` of a license server that all requests go through; empty: none. Environment:
    /// LICENSE_SERVER.
    pub license_server: String,
    /// Certificates that the API and its storage may show or be signed by, PEM: of a CA, or of a server
    /// itself. Empty: those that the system trusts. Environment: REQUESTS_CA_BUNDLE; SSL_CERT_FILE where this
    /// is empty.
    pub ca_file: PathBuf,
    /// What the API is told of this device; empty: its host name. Environment: DEVICE_ID.
    pub device_id: String,
    /// Longest wait for an answer of the API, seconds. Environment: ROBOFLOW_API_REQUEST_TIMEOUT.
    pub request_timeout_s: f64,
    /// Requests repeated after a failure that may pass. Environment: TRANSIENT_ROBOFLOW_API_ERRORS_RETRIES.
    pub retries: u32,
    /// Seconds before the first repetition. Environment: TRANSIENT_ROBOFLOW_API_ERRORS_RETRY_INTERVAL.
    pub retry_interval_s: f64,
    /// Largest weights file, bytes.
    pub max_bytes: u64,
    /// Longest time to read and compile a model, and for its test run, seconds.
    pub load_timeout_s: f64,
    /// `auto`, `cnn`, `tract` or `tensorrt`. Environment: WEIR_ENGINE.
    pub engine: String,
    /// `full`, `half` or `int8`: how exactly the CPU computes. Environment: WEIR_PRECISION.
    pub precision: String,
    /// Run a model once after loading and compare its classes with its names. Environment:
    /// MODEL_VALIDATION_DISABLED.
    pub validate: bool,
    /// Never call out: only the cache and local files. Environment: WEIR_OFFLINE.
    pub offline: bool,
    /// Pass over the contrast rule of a model's pre-processing. Environment: DISABLE_PREPROC_CONTRAST.
    pub disable_contrast: bool,
    /// Pass over the grayscale rule of a model's pre-processing. Environment: DISABLE_PREPROC_GRAYSCALE.
    pub disable_grayscale: bool,
    /// Pass over the static crop of a model's pre-processing. Environment: DISABLE_PREPROC_STATIC_CROP.
    pub disable_static_crop: bool,
    /// For pipelines that bring no key. Environment only: ROBOFLOW_API_KEY, API_KEY; or systemd's credential
    /// `weir.api-key`.
    #[serde(skip)]
    pub api_key: Option<Secret>,
    /// JSON object of headers for every API request. Environment only: ROBOFLOW_API_EXTRA_HEADERS.
    #[serde(skip)]
    pub extra_headers: Vec<(String, Secret)>,
}

/// Thresholds of pipelines that give none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Detection {
    /// Lowest score that is reported, 0..1. Environment: CONFIDENCE.
    pub confidence: f32,
    /// Overlap above which the lower-scored box goes, 0..1. Environment: IOU_THRESHOLD.
    pub iou_threshold: f32,
    /// Most boxes per frame. Environment: MAX_DETECTIONS.
    pub max_detections: u32,
    /// Accepted and, as in the reference, not used. Environment: MAX_CANDIDATES.
    pub max_candidates: u32,
    /// Suppress across classes. Environment: CLASS_AGNOSTIC_NMS.
    pub class_agnostic_nms: bool,
}

/// How video sources are opened, decoded and limited.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Capture {
    /// What `status` names as `buffer_size`, frames. Environment: VIDEO_SOURCE_BUFFER_SIZE.
    pub buffer_size: u32,
    /// Pause after the first failed attempt to open a source, seconds; doubled up to 30 s.
    /// Environment: INFERENCE_PIPELINE_RESTART_ATTEMPT_DELAY.
    pub retry_delay_s: f64,
    /// Let `max_fps` skip frames of files in the decoder instead of slowing them down.
    /// Environment: ENABLE_FRAME_DROP_ON_VIDEO_FILE_RATE_LIMITING.
    pub stride_files: bool,
    /// Memory of one worker process beside its frames and pictures, bytes; 16777216 at least.
    pub worker_memory_bytes: u64,
    /// Most that a worker gets where its source announces pictures that need more, bytes; counted in
    /// `service.memory_limit_bytes`.
    pub worker_memory_max_bytes: u64,
    /// Longest time to open a source, seconds.
    pub open_timeout_s: f64,
    /// A source that is silent for longer is opened again, seconds.
    pub stall_timeout_s: f64,
    /// A source that sends no key frame for longer is reported in `status`, seconds. Cameras send one every 1
    /// to 10 seconds.
    pub key_frame_timeout_s: f64,
    /// RTSP over UDP instead of TCP where the reference does not say.
    pub rtsp_udp: bool,
    /// Who decodes H.264 and H.265: `builtin`; `libavcodec`, FFmpeg's library where it is installed (not in
    /// static binaries); `v4l2`, the board's own; `auto`, what of these passes its check, the cheapest first.
    /// Builtin is what all of them fall back to.
    pub decoder: String,
    /// libavcodec's decoders for the hardware of this board, by name (`h264_v4l2m2m`, `hevc_rkmpp`): tried in
    /// order before all others; 8 at most.
    pub decoder_names: Vec<String>,
    /// A decoder of the board must decode a few known pictures to the last bit. `false`: one that
    /// `capture.decoder = "v4l2"` asks for need not. `auto` checks always.
    pub decoder_check: bool,
    /// `HOST=FILE`: certificates (PEM) that alone vouch for this `rtsps://` or `https://` camera: its own, or
    /// its authority's.
    pub camera_certificates: Vec<String>,
    /// Cameras whose certificates are not looked at: whoever stands between can read and forge pictures and
    /// learn passwords. `*`: all.
    pub insecure_cameras: Vec<String>,
}

/// Limits and threads of the whole service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Service {
    /// Inference threads; 0: one per core.
    pub threads: usize,
    /// Most pipelines at a time.
    pub max_pipelines: usize,
    /// Bytes that the rings, workers and models of all pipelines and the messages that wait may add up to; 0:
    /// the machine's memory.
    pub memory_limit_bytes: u64,
    /// `error`, `warning`, `info`, `debug` or `trace`. Environment: LOG_LEVEL.
    pub log_level: String,
    /// Pipelines are kept here and run again after a restart; empty: they are not. Environment:
    /// STATE_DIRECTORY (systemd sets it).
    pub state_dir: PathBuf,
    /// A pipeline for each `NAME.json` in here, which holds what `init` takes; read again on SIGHUP. Empty:
    /// none.
    pub pipelines_dir: PathBuf,
    /// Accept cache, state and plan folders that others can write to: for volumes that are open and yet
    /// nobody else's, as Kubernetes' emptyDir. Environment: WEIR_OPEN_FOLDERS.
    pub open_folders: bool,
    /// A file that names both addresses once they listen; empty: none. Flag: --ports-file.
    pub ports_file: PathBuf,
}

/// The names of all variables that are honoured here, for the manual.
pub fn variables() -> impl Iterator<Item = &'static str> {
    environment::VARIABLES.iter().map(|(name, _)| *name)
}

impl Default for Tcp {
    fn default() -> Self {
        Tcp { host: "127.0.0.1".into(), port: 7070, socket_timeout_s: 5.0, unix: PathBuf::new() }
    }
}

impl Default for Http {
    fn default() -> Self {
        Http {
            host: "127.0.0.1".into(),
            port: 8080,
            cors_origins: Vec::new(),
            hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            pictures: true,
            picture_width: 1280,
            picture_viewers: 16,
            unix: PathBuf::new(),
        }
    }
}

impl Default for Models {
    fn default() -> Self {
        Models {
            cache_dir: PathBuf::new(),
            dirs: vec!["/usr/share/weir/models".into()],
            api_base_url: "https://api.roboflow.com".into(),
            license_server: String::new(),
            ca_file: PathBuf::new(),
            device_id: String::new(),
            request_timeout_s: 30.0,
            retries: 3,
            retry_interval_s: 1.0,
            max_bytes: MAX_MODEL_BYTES,
            load_timeout_s: 300.0,
            engine: "auto".into(),
            precision: "full".into(),
            validate: true,
            offline: false,
            disable_contrast: false,
            disable_grayscale: false,
            disable_static_crop: false,
            api_key: None,
            extra_headers: Vec::new(),
        }
    }
}

impl Default for Detection {
    fn default() -> Self {
        Detection {
            confidence: 0.4,
            iou_threshold: 0.3,
            max_detections: 300,
            max_candidates: 3000,
            class_agnostic_nms: false,
        }
    }
}

impl Default for Capture {
    fn default() -> Self {
        Capture {
            buffer_size: 64,
            retry_delay_s: 1.0,
            stride_files: false,
            worker_memory_bytes: 256 << 20,
            worker_memory_max_bytes: 2 << 30,
            open_timeout_s: 15.0,
            stall_timeout_s: 5.0,
            key_frame_timeout_s: 15.0,
            rtsp_udp: false,
            decoder: "auto".into(),
            decoder_names: Vec::new(),
            decoder_check: true,
            camera_certificates: Vec::new(),
            insecure_cameras: Vec::new(),
        }
    }
}

impl Default for Service {
    fn default() -> Self {
        Service {
            threads: 0,
            max_pipelines: 64,
            memory_limit_bytes: 0,
            log_level: "warning".into(),
            state_dir: PathBuf::new(),
            pipelines_dir: "/etc/weir/pipelines.d".into(),
            open_folders: false,
            ports_file: PathBuf::new(),
        }
    }
}

/// Makes the configuration again, as it was made at the start, from what files hold now. Not for the event
/// loop.
pub type Reread = Arc<dyn Fn() -> Result<Config> + Send + Sync>;

impl Config {
    /// The sections but `mqtt` in which it is another one.
    pub fn differs(&self, other: &Config) -> Vec<&'static str> {
        let sections = [
            ("tcp", self.tcp == other.tcp),
            ("http", self.http == other.http),
            ("access", self.access == other.access),
            ("tls", self.tls == other.tls),
            ("sources", self.sources == other.sources),
            ("sinks", self.sinks == other.sinks),
            ("limits", self.limits == other.limits),
            ("models", self.models == other.models),
            ("tensorrt", self.tensorrt == other.tensorrt),
            ("detection", self.detection == other.detection),
            ("capture", self.capture == other.capture),
            ("service", self.service == other.service),
        ];
        sections.into_iter().filter(|(_, is_same)| !is_same).map(|(name, _)| name).collect()
    }

    /// Reads the file (`--config`, or [`DEFAULT_PATH`] where it exists) and the environment, and checks the
    /// result.
    pub fn load(path: Option<&Path>, environment: impl Fn(&str) -> Option<String>) -> Result<Config> {
        let mut config = match path {
            Some(path) => Config::read(path)?,
            None if Path::new(DEFAULT_PATH).exists() => Config::read(Path::new(DEFAULT_PATH))?,
            None => Config::default(),
        };
        environment::apply(&mut config, &environment)?;
        if let Some(directory) = environment("CREDENTIALS_DIRECTORY") {
            credentials::apply(&mut config, Path::new(&directory))?;
        }
        credentials::apply_files(&mut config)?;
        if config.models.cache_dir.as_os_str().is_empty() {
            config.models.cache_dir = cache::folder(&environment);
        }
        config.check()?;
        Ok(config)
    }

    /// The folders that nobody else may have a hand in, each with its key.
    pub fn own_folders(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let folders = [
            ("models.cache_dir", &self.models.cache_dir),
            ("service.state_dir", &self.service.state_dir),
            ("tensorrt.cache_dir", &self.tensorrt.cache_dir),
        ];
        folders
            .into_iter()
            .map(|(key, path)| (key, path.as_path()))
            .filter(|(_, path)| !path.as_os_str().is_empty())
    }

    fn read(path: &Path) -> Result<Config> {
        let unreadable =
            |cause| Error::new(Kind::Configuration, format!("cannot read {}", path.display())).because(cause);
        let size = std::fs::metadata(path).map_err(unreadable)?.len();
        if size > MAX_FILE_BYTES {
            return Err(Error::new(
                Kind::Configuration,
                format!("{} is larger than {MAX_FILE_BYTES} bytes", path.display()),
            ));
        }
        Config::parse(&std::fs::read_to_string(path).map_err(unreadable)?).map_err(|error| {
            Error::new(Kind::Configuration, format!("{}: {}", path.display(), error.message()))
        })
    }

    /// Parses TOML. An unknown key is an error that names the nearest known one.
    pub fn parse(text: &str) -> Result<Config> {
        toml::from_str(text).map_err(|error| {
            let hint = nearest(error.message())
                .map(|known| format!("; did you mean `{known}`?"))
                .unwrap_or_default();
            let line = error
                .span()
                .map_or(0, |span| text.get(..span.start).unwrap_or_default().matches('\n').count() + 1);
            let message = error.message().split(", expected").next().unwrap_or_default();
            Error::new(Kind::Configuration, format!("line {line}: {message}{hint}"))
        })
    }

    /// Refuses values that cannot work.
    pub fn check(&self) -> Result<()> {
        let seconds = [
            ("tcp.socket_timeout_s", self.tcp.socket_timeout_s),
            ("models.request_timeout_s", self.models.request_timeout_s),
            ("models.retry_interval_s", self.models.retry_interval_s),
            ("models.load_timeout_s", self.models.load_timeout_s),
            ("tensorrt.build_timeout_s", self.tensorrt.build_timeout_s),
            ("tensorrt.batch_wait_s", self.tensorrt.batch_wait_s),
            ("capture.retry_delay_s", self.capture.retry_delay_s),
            ("capture.open_timeout_s", self.capture.open_timeout_s),
            ("capture.stall_timeout_s", self.capture.stall_timeout_s),
            ("capture.key_frame_timeout_s", self.capture.key_frame_timeout_s),
        ];
        for (key, value) in seconds.into_iter().chain(self.limits.seconds()) {
            // A day: longer than any of these can mean, and far from the limits of a Duration.
            if !(value > 0.0 && value <= 86_400.0) {
                return Err(Error::new(
                    Kind::Configuration,
                    format!("{key} = {value} is not between 0 and 86400 seconds"),
                ));
            }
        }
        let detection = &self.detection;
        for (key, value) in [
            ("detection.confidence", detection.confidence),
            ("detection.iou_threshold", detection.iou_threshold),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::new(
                    Kind::Configuration,
                    format!("{key} = {value} is not between 0 and 1"),
                ));
            }
        }
        let service = &self.service;
        if service.threads > MAX_THREADS {
            let message = format!("service.threads = {} is more than {MAX_THREADS}", service.threads);
            return Err(Error::new(Kind::Configuration, message));
        }
        if service.max_pipelines == 0 {
            return Err(Error::new(
                Kind::Configuration,
                "service.max_pipelines = 0 would leave nothing to do",
            ));
        }
        if self.capture.worker_memory_bytes < MIN_WORKER_BYTES {
            let message = format!(
                "capture.worker_memory_bytes must be {MIN_WORKER_BYTES} at least: no decoder starts with less"
            );
            return Err(Error::new(Kind::Configuration, message));
        }
        let capture = &self.capture;
        if DecoderChoice::from_name(&capture.decoder).is_none() {
            let message =
                format!("capture.decoder = {:?} is none of auto, builtin, libavcodec, v4l2", capture.decoder);
            return Err(Error::new(Kind::Configuration, message));
        }
        if capture.decoder_names.len() > MAX_DECODER_NAMES {
            let message = format!("capture.decoder_names has more than {MAX_DECODER_NAMES} names");
            return Err(Error::new(Kind::Configuration, message));
        }
        if let Some(name) = capture.decoder_names.iter().find(|name| !is_decoder_name(name)) {
            let message = format!("capture.decoder_names: {name:?} is no name of a decoder");
            return Err(Error::new(Kind::Configuration, message));
        }
        let width = self.http.picture_width;
        if !(MIN_PICTURE_WIDTH..=MAX_PICTURE_WIDTH).contains(&width) {
            let range = format!("{MIN_PICTURE_WIDTH} to {MAX_PICTURE_WIDTH}");
            return Err(Error::new(
                Kind::Configuration,
                format!("http.picture_width = {width} is not {range} pixels"),
            ));
        }
        let limits = &self.limits;
        if limits.connections == 0 || limits.connections_per_address == 0 || limits.message_bytes == 0 {
            return Err(Error::new(Kind::Configuration, "a limit of 0 would let nobody in"));
        }
        if limits.head_bytes < listeners::MIN_HEAD_BYTES || limits.headers == 0 {
            let text =
                format!("limits.head_bytes must be {} at least, limits.headers 1", listeners::MIN_HEAD_BYTES);
            return Err(Error::new(Kind::Configuration, text));
        }
        if EngineChoice::from_name(&self.models.engine).is_none() {
            let message =
                format!("models.engine = \"{}\" is none of auto, cnn, tract, tensorrt", self.models.engine);
            return Err(Error::new(Kind::Configuration, message));
        }
        if Precision::from_name(&self.models.precision).is_none() {
            let message =
                format!("models.precision = \"{}\" is none of full, half, int8", self.models.precision);
            return Err(Error::new(Kind::Configuration, message));
        }
        if let Some(fault) = self.mqtt.fault().or_else(|| self.sinks.fault()) {
            return Err(Error::new(Kind::Configuration, fault));
        }
        if let Some(fault) = self.tensorrt.fault() {
            return Err(Error::new(Kind::Configuration, fault));
        }
        Ok(())
    }
}

/// The nearest of the names that serde expected instead of an unknown one.
fn nearest(message: &str) -> Option<&str> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = quoted.next().filter(|_| message.starts_with("unknown field"))?;
    quoted.min_by_key(|known| edit_distance(unknown, known))
}

/// Levenshtein distance, in characters.
pub(crate) fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        for (cell, r) in row.iter_mut().skip(1).zip(&right) {
            let next = (diagonal + usize::from(l != *r)).min(before + 1).min(*cell + 1);
            diagonal = std::mem::replace(cell, next);
            before = next;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_packaged_file_equals_the_defaults() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/weir.toml");
        assert_eq!(Config::read(&path).unwrap(), Config::default());
    }

    #[test]
    fn the_reference_holds_every_key_with_its_default_and_every_variable() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let [keys, page] = ["packaging/weir.toml", "docs/reference.md"]
            .map(|name| std::fs::read_to_string(root.join(name)).unwrap());
        let mut section = "";
        for line in keys.lines() {
            if let Some(name) = line.strip_prefix('[') {
                section = name.trim_end_matches(']');
            } else if let Some((key, value)) = line.split_once(" = ") {
                let default = if value == "\"\"" { "empty".to_owned() } else { format!("`{value}`") };
                let row = format!("| `{section}.{key}` | {default} | ");
                assert!(page.contains(&row), "docs/reference.md has no row {row}");
            }
        }
        for (name, _) in environment::VARIABLES {
            assert!(page.contains(&format!("`{name}`")), "docs/reference.md does not name {name}");
        }
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let error = Config::parse("[tcp]\nsocket_timeout = 3.0\n").unwrap_err();
        assert_eq!(
            error.message(),
            "line 2: unknown field `socket_timeout`; did you mean `socket_timeout_s`?"
        );
    }

    #[test]
    fn values_that_cannot_work_are_refused() {
        for text in [
            "[capture]\nstall_timeout_s = 0.0",
            "[models]\nengine = \"onnx\"",
            "[models]\nprecision = \"double\"",
            "[tensorrt]\nmax_batch = 0",
            "[tcp]\nsocket_timeout_s = nan",
            "[detection]\nconfidence = 40.0",
            "[detection]\niou_threshold = nan",
            "[http]\npicture_width = 0",
            "[http]\npicture_width = 10000",
            "[mqtt]\nbase_topic = \"a/#\"",
            "[sinks]\nmemory_bytes = 1000",
            "[service]\nthreads = 100000",
            "[service]\nmax_pipelines = 0",
            "[capture]\nworker_memory_bytes = 256",
        ] {
            assert_eq!(
                Config::parse(text).unwrap().check().unwrap_err().kind(),
                Kind::Configuration,
                "{text}"
            );
        }
    }

    #[test]
    fn distances() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("port", "port"), 0);
    }
}
