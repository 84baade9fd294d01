//! The harness of the process-level tests: starts the real binary on free ports, talks to both listeners,
//! receives datagrams, and plays the servers of the world outside.
//!
//! Every wait has a deadline and ends on the event it waits for. Nothing is left behind: processes are killed
//! by their own handle, folders live below the system's temporary directory and go with their owner.
#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "test code: each test binary uses a part of it, and a failed expectation is the test's result"
)]

pub mod deny;
pub mod events;
pub mod guest;
pub mod http;
#[cfg(target_arch = "x86_64")]
pub mod inject;
pub mod json;
pub mod listeners;
pub mod mosquitto;
pub mod onnx;
pub mod pcapng;
pub mod process;
pub mod quirks;
pub mod recording;
pub mod request;
pub mod roboflow;
pub mod rogue;
pub mod rtsp;
pub mod script;
pub mod tcp;
pub mod tls;
pub mod udp;
pub mod weir;
pub mod worker;

pub use json::Json;
pub use listeners::Listeners;
pub use weir::Weir;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longest that anything in these tests may take to happen. Generous: CI machines are slow and busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at something that sends no event (a status over the network).
pub const POLL: Duration = Duration::from_millis(20);

/// The folder of the clips and the toy model.
pub fn media() -> PathBuf {
    root().join("tests/assets")
}

/// A clip of [`media`] as clients name it.
pub fn clip(name: &str) -> String {
    media().join(name).display().to_string()
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Asks again and again until there is an answer; the panic names what was waited for.
#[track_caller]
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for {what}");
        std::thread::sleep(POLL);
    }
}

/// Sets its flag when it goes, also when a panic takes it: whoever works until then does not keep a
/// `thread::scope` waiting for ever.
pub struct SetOnDrop<'a>(pub &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A folder of its own below the system's temporary directory; removed when dropped.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("weir-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a temporary folder");
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
