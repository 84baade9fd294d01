//! Debian's Mosquitto: a real broker, and its own client that subscribes.

use super::weir::follow;
use super::{Folder, PATIENCE, wait_for};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A broker on a port of the loopback; killed when dropped.
pub struct Broker {
    child: Child,
    pub port: u16,
    pub folder: Folder,
    log: Arc<Mutex<Vec<String>>>,
}

impl Broker {
    /// One that lets everybody in.
    pub fn start() -> Broker {
        Broker::configured("allow_anonymous true\n", &[])
    }

    /// One that keeps its subscribers on the disk.
    pub fn persistent(lines: &str) -> Broker {
        Broker::run(&format!("persistence true\n{lines}"), &[])
    }

    /// One with further lines of configuration, in which `{folder}` is its folder, and these files in it.
    pub fn configured(lines: &str, files: &[(&str, &str)]) -> Broker {
        Broker::run(&format!("persistence false\n{lines}"), files)
    }

    fn run(lines: &str, files: &[(&str, &str)]) -> Broker {
        let folder = Folder::new();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        // The broker gives up root: its files are for everybody.
        let port = free_port();
        let place = folder.path().display().to_string();
        let text = format!("listener {port} 127.0.0.1\nmax_queued_messages 0\nlog_dest stderr\n{lines}");
        std::fs::write(folder.path().join("mosquitto.conf"), text.replace("{folder}", &place)).unwrap();
        let log = Arc::default();
        let child = run(&folder, port, &log);
        Broker { child, port, folder, log }
    }

    /// SIGKILL: nothing is said to anybody.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Again, on the same port and with the same configuration.
    pub fn restart(&mut self) {
        self.kill();
        self.child = run(&self.folder, self.port, &self.log);
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// A client that subscribes to `topics`, with further words for mosquitto_sub.
    pub fn subscribe(&self, topics: &[&str], words: &[&str]) -> Subscriber {
        Subscriber::start(self.port, topics, words)
    }

    /// Publishes one message as QoS 1, with further words for mosquitto_pub.
    #[track_caller]
    pub fn publish(&self, topic: &str, payload: &str, words: &[&str]) {
        let mut command = Command::new("mosquitto_pub");
        command
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-q", "1", "-t", topic, "-m", payload])
            .args(words);
        let output = super::process::output(&mut command);
        assert!(output.status.success(), "mosquitto_pub: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- log of the broker ----\n{}", self.log());
        }
    }
}

/// A port that nobody listens on now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn run(folder: &Folder, port: u16, log: &Arc<Mutex<Vec<String>>>) -> Child {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program =
        ["/usr/sbin/mosquitto", "mosquitto"].into_iter().find(|path| std::path::Path::new(path).exists());
    let mut child = Command::new(program.unwrap_or("mosquitto"))
        .arg("-c")
        .arg(folder.path().join("mosquitto.conf"))
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("mosquitto: scripts/setup.sh test installs it");
    let _ = follow(child.stderr.take().unwrap(), log.clone());
    wait_for("the broker to listen", || {
        if let Some(status) = child.try_wait().unwrap() {
            panic!("mosquitto ended with {status}: {:?}", log.lock().unwrap());
        }
        TcpStream::connect(("127.0.0.1", port)).ok()
    });
    child
}

/// A running mosquitto_sub; killed when dropped.
pub struct Subscriber {
    child: Child,
    lines: Receiver<String>,
}

impl Subscriber {
    fn start(port: u16, topics: &[&str], words: &[&str]) -> Subscriber {
        // Into a pipe it would keep what it says to itself.
        let mut command = Command::new("stdbuf");
        command
            .args([
                "-oL",
                "mosquitto_sub",
                "-h",
                "127.0.0.1",
                "-p",
                &port.to_string(),
                "-q",
                "1",
                "-d",
                "-F",
                "%r %t %p",
            ])
            .args(words);
        topics.iter().for_each(|topic| {
            command.args(["-t", topic]);
        });
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto_sub");
        let lines = follow(child.stdout.take().unwrap(), Arc::default());
        let subscriber = Subscriber { child, lines };
        // It tells what it does (-d): only then nothing is missed.
        while !subscriber.line(PATIENCE).expect("an answer to SUBSCRIBE").starts_with("Subscribed") {}
        subscriber
    }

    fn line(&self, patience: Duration) -> Option<String> {
        self.lines.recv_timeout(patience).ok()
    }

    /// The next message: whether it was retained, its topic and its payload.
    pub fn within(&self, patience: Duration) -> Option<(bool, String, String)> {
        let deadline = std::time::Instant::now() + patience;
        loop {
            let line = self.line(deadline.saturating_duration_since(std::time::Instant::now()))?;
            // The rest is what it does.
            let message = line
                .strip_prefix("0 ")
                .map(|rest| (false, rest))
                .or(line.strip_prefix("1 ").map(|rest| (true, rest)));
            if let Some((is_retained, rest)) = message {
                let (topic, payload) = rest.split_once(' ').unwrap_or((rest, ""));
                return Some((is_retained, topic.to_owned(), payload.to_owned()));
            }
        }
    }

    /// The next message's topic and payload.
    #[track_caller]
    pub fn next(&self) -> (String, String) {
        let (_, topic, payload) = self.within(PATIENCE).expect("a message in time");
        (topic, payload)
    }

    /// Waits for a message on that topic with which `is` agrees.
    #[track_caller]
    pub fn wait(&self, topic: &str, is: impl Fn(&str) -> bool) -> String {
        let deadline = std::time::Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        while let Some(message) = self.within(deadline.saturating_duration_since(std::time::Instant::now())) {
            if message.1 == topic && is(&message.2) {
                return message.2;
            }
            seen.push(message);
        }
        panic!("waited in vain for a message on {topic}; there were {seen:?}")
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
