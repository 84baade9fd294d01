//! The broker as configured → what the bus is told.

use crate::bus::mqtt::Settings;
use crate::config::{Config, Mqtt};
use crate::error::Result;
use crate::outbound::{Identity, Trust};
use crate::sink::outbox::Bounds;
use crate::sink::{Outlets, topic};
use std::path::Path;
use std::time::Duration;

/// What sinks share: the outbox of the broker, if there is one.
pub(super) fn outlets(config: &Config) -> Result<Outlets> {
    let bounds = Bounds { memory_bytes: config.sinks.memory_bytes, disk_bytes: config.sinks.disk_bytes };
    let state_dir = Some(config.service.state_dir.as_path()).filter(|path| !path.as_os_str().is_empty());
    let base_topic = (!config.mqtt.host.is_empty()).then(|| base_topic(&config.mqtt));
    Outlets::open(base_topic, bounds, state_dir)
}

/// `None`: no broker is configured.
pub(super) fn settings(config: &Config) -> Result<Option<Settings>> {
    let mqtt = &config.mqtt;
    if mqtt.host.is_empty() {
        return Ok(None);
    }
    let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let is_set = |path: &Path| !path.as_os_str().is_empty();
    let trust = if is_set(&mqtt.ca_file) { Trust::File(mqtt.ca_file.clone()) } else { Trust::System };
    let identity = Identity { certificate: mqtt.certificate.clone(), key: mqtt.key.clone() };
    let identity = Some(&identity).filter(|_| is_set(&mqtt.certificate));
    let port = match mqtt.port {
        0 if mqtt.tls => 8883,
        0 => 1883,
        port => port,
    };
    Ok(Some(Settings {
        host: mqtt.host.clone(),
        port,
        tls: if mqtt.tls { Some(trust.client(identity)?) } else { None },
        user: given(&mqtt.user),
        password: mqtt.password.clone(),
        client_id: given(&mqtt.client_id).unwrap_or_else(|| format!("weir-{}", host_name())),
        keep_alive: Duration::from_secs(u64::from(mqtt.keep_alive_s)),
        takes_commands: mqtt.commands,
        discovery_prefix: given(&mqtt.discovery_prefix),
        http_url: given(&mqtt.http_url),
        device_name: given(&config.models.device_id).unwrap_or_else(host_name),
    }))
}

fn base_topic(mqtt: &Mqtt) -> String {
    Some(mqtt.base_topic.clone())
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| format!("weir/{}", host_name()))
}

/// Fit for a topic.
fn host_name() -> String {
    topic::level(&rustix::system::uname().nodename().to_string_lossy())
}
