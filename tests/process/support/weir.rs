//! One running `weir serve`.

use super::{Folder, Listeners, PATIENCE, wait_for};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A service on free ports with a cache of its own; killed when dropped.
pub struct Weir {
    child: Child,
    listeners: Listeners,
    /// `MODEL_CACHE_DIR` of this service.
    pub cache: Folder,
    models: Folder,
}

impl Weir {
    /// A service that knows no model registry.
    pub fn start() -> Weir {
        Weir::start_with(|_| {})
    }

    /// A service that asks `registry` for models.
    pub fn with_registry(registry: &super::roboflow::Server) -> Weir {
        Weir::start_with(|command| {
            command.env("API_BASE_URL", registry.url());
        })
    }

    /// A service with a configuration file of this text, which is gone once it has been read.
    pub fn configured(text: &str) -> Weir {
        let folder = Folder::new();
        let file = folder.path().join("weir.toml");
        std::fs::write(&file, text).expect("a configuration file");
        Weir::start_with(|command| {
            command.arg("--config").arg(&file);
        })
    }

    /// A service whose command line and environment `change` may alter.
    pub fn start_with(change: impl FnOnce(&mut Command)) -> Weir {
        let (cache, models) = (Folder::new(), Folder::new());
        lay_out_toy(models.path());
        let mut command = command(cache.path());
        command.arg("serve").env("WEIR_MODELS_DIR", models.path());
        change(&mut command);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = follow(child.stderr.take().expect("stderr is piped"), log.clone());
        let (mut tcp, mut http) = (None, None);
        let deadline = Instant::now() + PATIENCE;
        while tcp.is_none() || http.is_none() {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    tcp = tcp.or_else(|| address(&line, "tcp="));
                    http = http.or_else(|| address(&line, "http="));
                }
                Err(RecvTimeoutError::Timeout) => {
                    panic!("no ready lines; the log: {:#?}", log.lock().unwrap())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("it ended at start with {:?}; the log: {:#?}", child.wait(), log.lock().unwrap())
                }
            }
        }
        let listeners = Listeners { tcp: tcp.unwrap(), http: http.unwrap(), log };
        Weir { child, listeners, cache, models }
    }

    /// `model_id` of the toy model as a local folder: no registry is needed.
    pub fn toy(&self) -> String {
        self.models.path().join("toy").display().to_string()
    }

    /// The process id of the service itself.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Process ids of the capture workers: the children that were started as `weir capture`.
    pub fn workers(&self) -> Vec<u32> {
        children(self.pid())
            .into_iter()
            .filter(|pid| command_line(*pid).iter().any(|word| word == "capture"))
            .collect()
    }

    /// Process ids of the processes that read or run models: the children that were started as `weir model`.
    pub fn model_processes(&self) -> Vec<u32> {
        children(self.pid())
            .into_iter()
            .filter(|pid| command_line(*pid).iter().any(|word| word == "model"))
            .collect()
    }

    /// Sends SIGTERM and waits for the end.
    pub fn stop(mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        signal(self.child.id(), rustix::process::Signal::TERM);
        let status = wait_for("the service to end after SIGTERM", || self.child.try_wait().expect("wait"));
        (status, start.elapsed())
    }

    /// Whether the process still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_none()
    }
}

impl std::ops::Deref for Weir {
    type Target = Listeners;

    fn deref(&self) -> &Listeners {
        &self.listeners
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("---- log of the service ----\n{}", self.log());
        }
    }
}

/// The toy model in the layout of the cache, below `models.dir`.
pub fn lay_out_toy(models: &Path) {
    let folder = models.join("toy");
    std::fs::create_dir(&folder).expect("a folder for the model");
    std::fs::copy(super::media().join("toy.onnx"), folder.join("weights.onnx")).expect("the toy model");
    let environment =
        r#"{"PREPROCESSING": "{\"resize\": {\"width\": 320, \"height\": 320, \"format\": \"Stretch to\"}}"}"#;
    std::fs::write(folder.join("environment.json"), environment).unwrap();
    std::fs::write(folder.join("class_names.txt"), "red\ngreen\nblue").unwrap();
    let model_type = r#"{"project_task_type": "object-detection", "model_type": "yolov8n"}"#;
    std::fs::write(folder.join("model_type.json"), model_type).unwrap();
}

/// The binary with nothing of this machine's environment in the way.
pub fn command(cache: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    for (name, _) in std::env::vars() {
        let is_ours = name.starts_with("STREAM_MANAGE")
            || name.starts_with("WEIR_")
            || name.contains("API")
            || name == "PORT";
        let is_outbound = name.to_ascii_lowercase().ends_with("_proxy") || name == "REQUESTS_CA_BUNDLE";
        if is_ours || is_outbound {
            command.env_remove(name);
        }
    }
    if !rustix::process::geteuid().is_root() {
        // These tests look into it.
        command.env("WEIR_TRACEABLE", "1");
    }
    command
        .env("STREAM_MANAGER_PORT", "0")
        .env("STREAM_MANAGEMENT_API_PORT", "0")
        .env("MODEL_CACHE_DIR", cache)
        // Nobody listens there: a test that forgets its registry fails at once instead of asking the
        // Internet.
        .env("API_BASE_URL", "http://127.0.0.1:9")
        // The play-server fails on purpose and for good: trying again only costs time.
        .env("TRANSIENT_ROBOFLOW_API_ERRORS_RETRIES", "0")
        .env("LOG_LEVEL", "INFO")
        .stdin(Stdio::null());
    command
}

/// Reads lines on a thread, keeps them, and passes them on while somebody listens.
pub fn follow(stream: impl std::io::Read + Send + 'static, log: Arc<Mutex<Vec<String>>>) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            log.lock().unwrap().push(line.clone());
            let _ = sender.send(line);
        }
    });
    receiver
}

/// The address behind `label` in a line of `key=value` words.
fn address(line: &str, label: &str) -> Option<SocketAddr> {
    line.split_whitespace().find_map(|word| word.strip_prefix(label)?.parse().ok())
}

/// Sends a signal to a process that this test started.
pub fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
    rustix::process::kill_process(pid, signal).expect("kill");
}

/// Direct children of a process.
pub fn children(parent: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // "pid (comm) state ppid …": the command may itself contain parentheses and blanks.
        let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
        if after.split_whitespace().nth(1).and_then(|ppid| ppid.parse().ok()) == Some(parent) {
            found.push(pid);
        }
    }
    found
}

fn command_line(pid: u32) -> Vec<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}
