//! The broker as configured → what the bus is told, at the start and whenever it is read again.

use crate::bus::Bus;
use crate::bus::mqtt::MqttSettings;
use crate::clock::within;
use crate::config::{Config, Mqtt, Reread};
use crate::error::{Error, Kind, Result};
use crate::outbound::{Identity, Trust};
use crate::sink::outbox::Bounds;
use crate::sink::{Outlets, topic};
use std::hash::{DefaultHasher, Hasher};
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

/// Reading the configuration again takes no longer; a file on a server that is away may.
const REREAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a certificate's file that are looked at for a change.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What sinks share: the outbox of the broker, if there is one.
pub(super) fn outlets(config: &Config) -> Result<Outlets> {
    let bounds = Bounds { memory_bytes: config.sinks.memory_bytes, disk_bytes: config.sinks.disk_bytes };
    let state_dir = Some(config.service.state_dir.as_path()).filter(|path| !path.as_os_str().is_empty());
    let base_topic = (!config.mqtt.host.is_empty()).then(|| base_topic(&config.mqtt));
    Outlets::open(base_topic, bounds, state_dir)
}

/// `None`: no broker is configured.
pub(super) fn settings(config: &Config) -> Result<Option<MqttSettings>> {
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
    Ok(Some(MqttSettings {
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
        base_topic: base_topic(mqtt),
    }))
}

/// The configuration as it is in use, and what the files of `[mqtt]` held when they were read.
pub(super) struct InUse {
    config: Config,
    files: u64,
}

impl InUse {
    pub(super) fn new(config: &Config) -> InUse {
        InUse { config: config.clone(), files: digest(&config.mqtt) }
    }

    /// Reads the configuration again and tells the bus what is new of the broker. What is new elsewhere is said
    /// to need a restart; what cannot be used is said, and the old stays.
    pub(super) async fn reread(&mut self, reread: &Reread, bus: &Bus, outlets: &Outlets) {
        let read = reread.clone();
        let read = move || {
            let config = read()?;
            let settings = settings(&config)?;
            Ok((digest(&config.mqtt), config, settings))
        };
        let late = || Err(Error::new(Kind::Configuration, "reading the configuration takes too long"));
        let applied = within(REREAD_TIMEOUT, smol::unblock(read)).await.unwrap_or_else(late).and_then(
            |(files, config, settings)| {
                let sections = config.differs(&self.config);
                if !sections.is_empty() {
                    log::warn!(
                        "event=restart_needed sections={} why=\"[mqtt] alone is read again while the service runs\"",
                        sections.join(",")
                    );
                }
                if (&config.mqtt, files) == (&self.config.mqtt, self.files) {
                    log::info!("event=mqtt_unchanged");
                    return Ok(());
                }
                outlets.configure(settings.as_ref().map(|settings| settings.base_topic.clone()))?;
                match &settings {
                    Some(MqttSettings { host, port, .. }) => log::info!("event=mqtt_changed broker={host}:{port}"),
                    None => log::info!("event=mqtt_changed broker=none"),
                }
                bus.change(settings);
                (self.config.mqtt, self.files) = (config.mqtt, files);
                Ok(())
            },
        );
        if let Err(error) = applied {
            log::error!("event=reload_failed error={:?}", error.to_string());
        }
    }
}

/// Changes with what the files hold that are read when the broker is connected to.
fn digest(mqtt: &Mqtt) -> u64 {
    let mut digest = DefaultHasher::new();
    for path in [&mqtt.ca_file, &mqtt.certificate, &mqtt.key] {
        let mut bytes = Vec::new();
        if !path.as_os_str().is_empty()
            && let Ok(file) = std::fs::File::open(path)
        {
            // One that cannot be read is as one that is empty: who uses it says so.
            let _ = file.take(MAX_FILE_BYTES).read_to_end(&mut bytes);
        }
        digest.write_usize(bytes.len());
        digest.write(&bytes);
    }
    digest.finish()
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
