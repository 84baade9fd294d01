//! What the two listeners can be told: who may come in, what they may reach, how much and how long.

use crate::command::Secret;
use crate::proto::reach::DEFAULT_SCHEMES;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Who may come in.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Access {
    /// Lines of `NAME SCOPE TOKEN` with the scope `read` or `control`; read again on SIGHUP. Empty: none. The
    /// systemd credential `weir.tokens` is read too.
    pub tokens_file: PathBuf,
    /// Listen beyond loopback although nobody has to show a token or certificate. Flag: --insecure.
    pub insecure: bool,
    /// One control token. Environment only: WEIR_TOKEN.
    #[serde(skip)]
    pub token: Option<Secret>,
}

/// TLS on both ports.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// Certificate chain, PEM; read again on SIGHUP. Empty: no TLS.
    pub certificate: PathBuf,
    /// File of the private key, PEM.
    pub key: PathBuf,
    /// CA whose clients need no token, PEM. Without any token, clients must have its certificate. Empty:
    /// none.
    pub client_ca: PathBuf,
}

/// What `video_reference` may name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sources {
    /// Schemes that URLs of sources may have.
    pub schemes: Vec<String>,
    /// Hosts of URLs: names, `*.domain`, addresses, networks (`10.0.0.0/8`), IPv6 on one interface
    /// (`fe80::1%eth0`, `fe80::%eth0/64`); empty: any. Names in references are not resolved for this list;
    /// where they lead, and redirects, are held against it when a worker is connected.
    pub hosts: Vec<String>,
    /// Folders below which files may be read. Empty: any file while both ports are bound to loopback, else
    /// none.
    pub dirs: Vec<PathBuf>,
}

impl Default for Sources {
    fn default() -> Self {
        Sources { schemes: DEFAULT_SCHEMES.map(str::to_owned).to_vec(), hosts: Vec::new(), dirs: Vec::new() }
    }
}

/// Where detections may be sent, and how many wait for a receiver that is away.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sinks {
    /// Hosts that sinks may send to, written as `sources.hosts`; empty: any.
    pub hosts: Vec<String>,
    /// Messages in memory that wait for the broker or for one address of HTTP, bytes; the oldest go first. A
    /// minute of four cameras with 15 frames a second has some 4 MB.
    pub memory_bytes: usize,
    /// The same on the disk, where there is a state directory, bytes; 0: none are written there.
    pub disk_bytes: u64,
}

/// Room for two of the largest messages under way, one that is read and one that comes.
const MIN_SINK_MEMORY_BYTES: usize = 1 << 20;
/// What 32 bits can address.
const MAX_SINK_MEMORY_BYTES: usize = 1 << 30;

impl Default for Sinks {
    fn default() -> Self {
        Sinks { hosts: Vec::new(), memory_bytes: 8 << 20, disk_bytes: 64 << 20 }
    }
}

impl Sinks {
    /// What cannot work, in words.
    pub(super) fn fault(&self) -> Option<String> {
        let range = MIN_SINK_MEMORY_BYTES..=MAX_SINK_MEMORY_BYTES;
        if !range.contains(&self.memory_bytes) {
            return Some(format!(
                "sinks.memory_bytes must be from {MIN_SINK_MEMORY_BYTES} to {MAX_SINK_MEMORY_BYTES}"
            ));
        }
        let is_small = (1..MIN_SINK_MEMORY_BYTES as u64).contains(&self.disk_bytes);
        is_small.then(|| format!("sinks.disk_bytes must be 0 or {MIN_SINK_MEMORY_BYTES} at least"))
    }
}

/// hyper reads into a buffer of this size at least.
pub(super) const MIN_HEAD_BYTES: usize = 8 << 10;

/// How much and how long a client may; each listener counts for itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections. More wait; one that is idle meanwhile goes, those without a token first. A quarter is
    /// kept free of listeners to events.
    pub connections: usize,
    /// Connections of one address that is not loopback.
    pub connections_per_address: usize,
    /// Largest TCP message and HTTP body, bytes.
    pub message_bytes: usize,
    /// Longest time for one of them to arrive, seconds.
    pub message_timeout_s: f64,
    /// Largest HTTP head, bytes.
    pub head_bytes: usize,
    /// Header fields of one HTTP request.
    pub headers: usize,
    /// Longest time for an HTTP head to arrive, idle time included, seconds.
    pub head_timeout_s: f64,
    /// Longest time a client may take nothing of an HTTP reply, seconds.
    pub write_timeout_s: f64,
    /// Longest time a command may take, the download of a model included, seconds.
    pub command_timeout_s: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 64,
            connections_per_address: 32,
            message_bytes: 1 << 20,
            message_timeout_s: 60.0,
            head_bytes: 16 << 10,
            headers: 100,
            head_timeout_s: 15.0,
            write_timeout_s: 10.0,
            command_timeout_s: 600.0,
        }
    }
}

impl Limits {
    /// The times among them, for the check of their range.
    pub(super) fn seconds(&self) -> [(&'static str, f64); 4] {
        [
            ("limits.message_timeout_s", self.message_timeout_s),
            ("limits.head_timeout_s", self.head_timeout_s),
            ("limits.write_timeout_s", self.write_timeout_s),
            ("limits.command_timeout_s", self.command_timeout_s),
        ]
    }
}
