//! A camera: gst-rtsp-server behind `tests/rtsp/server.py`.

use super::{PATIENCE, root, weir};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// The running server; killed when dropped.
pub struct Camera {
    child: Child,
    pub port: u16,
    arguments: Vec<String>,
}

impl Camera {
    /// Serves a clip of `tests/assets`, with `options` of the script.
    pub fn start(clip: &str, options: &[&str]) -> Camera {
        let mut arguments = vec![super::clip(clip)];
        arguments.extend(options.iter().map(|option| (*option).to_owned()));
        let (child, port) = spawn(0, &arguments);
        Camera { child, port, arguments }
    }

    pub fn url(&self) -> String {
        format!("rtsp://127.0.0.1:{}/cam", self.port)
    }

    /// `rtsp://user:password@…`
    pub fn url_with(&self, credentials: &str) -> String {
        format!("rtsp://{credentials}@127.0.0.1:{}/cam", self.port)
    }

    /// As a camera that loses power: no farewell to its clients.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Comes back on the same port.
    pub fn restart(&mut self) {
        self.kill();
        (self.child, _) = spawn(self.port, &self.arguments);
    }

    /// As a camera that hangs: connections stay open and silent.
    pub fn freeze(&self) {
        weir::signal(self.child.id(), rustix::process::Signal::STOP);
    }

    pub fn thaw(&self) {
        weir::signal(self.child.id(), rustix::process::Signal::CONT);
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(port: u16, arguments: &[String]) -> (Child, u16) {
    // The system's Python: only it has the GObject bindings.
    let mut child = Command::new("/usr/bin/python3")
        .arg(root().join("tests/rtsp/server.py"))
        .arg(port.to_string())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 starts (scripts/setup.sh test installs what it needs)");
    let lines = weir::follow(child.stdout.take().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let line =
        lines.recv_timeout(PATIENCE).expect("the RTSP server is ready (scripts/setup.sh test installs it)");
    let port = line.strip_prefix("ready ").and_then(|port| port.parse().ok()).expect("ready PORT");
    (child, port)
}
