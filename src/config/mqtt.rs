//! `[mqtt]`: the broker that `mqtt_sink`s publish to, and what the service tells it of itself.

use crate::command::Secret;
use crate::sink::topic;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The broker that detections are published to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mqtt {
    /// Host name or address of the broker; empty: no MQTT.
    pub host: String,
    /// Its port; 0: 8883 with TLS, 1883 without.
    pub port: u16,
    /// Speak TLS with it.
    pub tls: bool,
    /// Certificates that it may show or be signed by, PEM: of a CA, or of the broker itself. Empty: those
    /// that the system trusts.
    pub ca_file: PathBuf,
    /// Certificate that this device shows, PEM; empty: none.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// User name; empty: none.
    pub user: String,
    /// A file that holds the password alone; empty: none. Environment: WEIR_MQTT_PASSWORD; the systemd
    /// credential `weir.mqtt-password` wins over both.
    pub password_file: PathBuf,
    /// What this device calls itself to the broker; no two may have the same. Empty: `weir-` and the host
    /// name.
    pub client_id: String,
    /// Longest silence on the connection before it is tried, seconds.
    pub keep_alive_s: u16,
    /// Where topics of this service begin. Empty: `weir/` and the host name.
    pub base_topic: String,
    /// Take `pause` and `resume` on `<base_topic>/pipelines/<id>/set`: whoever may publish there then steers
    /// pipelines.
    pub commands: bool,
    /// Tell Home Assistant of every pipeline below this topic, which it calls the discovery prefix
    /// (`homeassistant`). Empty: do not.
    pub discovery_prefix: String,
    /// Where Home Assistant reaches this service's HTTP API, for pictures (`http://192.168.0.7:8080`). Empty:
    /// no pictures.
    pub http_url: String,
    /// The password. Environment only: WEIR_MQTT_PASSWORD; or the file, or the credential.
    #[serde(skip)]
    pub password: Option<Secret>,
}

impl Default for Mqtt {
    fn default() -> Self {
        Mqtt {
            host: String::new(),
            port: 0,
            tls: false,
            ca_file: PathBuf::new(),
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            user: String::new(),
            password_file: PathBuf::new(),
            client_id: String::new(),
            keep_alive_s: 30,
            base_topic: String::new(),
            commands: false,
            discovery_prefix: String::new(),
            http_url: String::new(),
            password: None,
        }
    }
}

/// Longest client id, user and password, bytes: what any broker takes.
const MAX_NAME_BYTES: usize = 256;
/// Shortest and longest keep-alive: less is traffic for nothing, more finds a dead connection too late.
const KEEP_ALIVE_S: std::ops::RangeInclusive<u16> = 5..=3600;

impl Mqtt {
    /// What cannot work, in words.
    pub(super) fn fault(&self) -> Option<String> {
        for (key, text) in [("client_id", &self.client_id), ("user", &self.user)] {
            if text.len() > MAX_NAME_BYTES || text.contains(char::is_control) {
                return Some(format!(
                    "mqtt.{key} is longer than {MAX_NAME_BYTES} bytes or holds control characters"
                ));
            }
        }
        for (key, text) in [("base_topic", &self.base_topic), ("discovery_prefix", &self.discovery_prefix)] {
            if let Some(why) = topic::fault(text).filter(|_| !text.is_empty()) {
                return Some(format!("mqtt.{key} {why}"));
            }
        }
        if !KEEP_ALIVE_S.contains(&self.keep_alive_s) {
            let (least, most) = (KEEP_ALIVE_S.start(), KEEP_ALIVE_S.end());
            return Some(format!(
                "mqtt.keep_alive_s = {} is not between {least} and {most}",
                self.keep_alive_s
            ));
        }
        let is_set = |path: &PathBuf| !path.as_os_str().is_empty();
        if is_set(&self.certificate) != is_set(&self.key) {
            return Some("mqtt.certificate and mqtt.key belong together".to_owned());
        }
        let is_web = self.http_url.starts_with("http://") || self.http_url.starts_with("https://");
        if !self.http_url.is_empty() && (!is_web || self.http_url.contains(char::is_whitespace)) {
            return Some(format!("mqtt.http_url = \"{}\" is no address of HTTP", self.http_url));
        }
        let wants_tls = is_set(&self.ca_file) || is_set(&self.certificate);
        (wants_tls && !self.tls)
            .then(|| "mqtt.ca_file and mqtt.certificate are for TLS: set mqtt.tls = true".to_owned())
    }

    /// Largest password that is taken, bytes.
    pub(super) const MAX_PASSWORD_BYTES: usize = MAX_NAME_BYTES;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused() {
        assert_eq!(Mqtt::default().fault(), None);
        let file = || PathBuf::from("/x");
        for mqtt in [
            Mqtt { base_topic: "a/+".to_owned(), ..Mqtt::default() },
            Mqtt { discovery_prefix: "a\n".to_owned(), ..Mqtt::default() },
            Mqtt { client_id: "\u{7}".to_owned(), ..Mqtt::default() },
            Mqtt { user: "u".repeat(300), ..Mqtt::default() },
            Mqtt { keep_alive_s: 0, ..Mqtt::default() },
            Mqtt { tls: true, certificate: file(), ..Mqtt::default() },
            Mqtt { ca_file: file(), ..Mqtt::default() },
            Mqtt { http_url: "ftp://x".to_owned(), ..Mqtt::default() },
        ] {
            assert!(mqtt.fault().is_some(), "{mqtt:?}");
        }
    }
}
