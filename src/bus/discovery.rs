//! What Home Assistant wants to know of a pipeline to show it as a device: one retained message for each
//! (<https://www.home-assistant.io/integrations/mqtt/>, "Device discovery payload").
//!
//! Texts of strangers (names of classes) stand in names alone, never in a template, a topic or an id.

use super::mqtt::{MqttSettings, ONLINE, status_topic};
use crate::command::PipelineId;
use crate::json::{Style, Writer};
use std::fmt::Display;

/// Classes that are shown at most, each a sensor of its own. COCO has 80.
const MAX_CLASSES: usize = 100;
/// What a pipeline can be, as its state says it.
const STATES: [&str; 5] = ["starting", "running", "paused", "reconnecting", "ended"];
/// Longest name that Home Assistant is told of, characters.
const MAX_NAME: usize = 64;

/// Where the message of a pipeline belongs.
pub(super) fn topic(prefix: &str, id: PipelineId) -> String {
    format!("{prefix}/device/weir_{}/config", id.simple())
}

/// Where the address of a pipeline's picture is told.
pub(super) fn picture_topic(base: &str, id: PipelineId) -> String {
    format!("{base}/pipelines/{id}/picture")
}

/// The message of a pipeline whose model has these classes.
pub(super) fn message(settings: &MqttSettings, base: &str, id: PipelineId, classes: &[String]) -> Vec<u8> {
    let device = format!("weir_{}", id.simple());
    let short = id.simple().to_string().chars().take(8).collect::<String>();
    let mut json = Writer::new(Style::Compact);
    json.begin_object();
    json.key("device").begin_object();
    json.key("identifiers").begin_array();
    json.string(&device);
    json.end_array();
    json.key("name").string(&format!("{} {short}", visible(&settings.device_name)));
    json.key("manufacturer").string("weir");
    json.key("model").string("Pipeline");
    json.key("sw_version").string(env!("CARGO_PKG_VERSION"));
    if let Some(url) = &settings.http_url {
        json.key("configuration_url").string(url);
    }
    json.end_object();
    json.key("origin").begin_object();
    json.key("name").string("weir");
    json.key("sw_version").string(env!("CARGO_PKG_VERSION"));
    json.end_object();
    // Who is not connected, or whose pipeline is no more, is unavailable.
    json.key("availability_topic").string(&status_topic(base));
    json.key("payload_available").string(&String::from_utf8_lossy(ONLINE));
    json.key("payload_not_available").string("offline");
    json.key("state_topic").string(&format!("{base}/pipelines/{id}/state"));
    json.key("components").begin_object();
    let mut components = Components { json: &mut json, device: &device };
    components.each(settings, base, id, classes);
    json.end_object();
    json.end_object();
    json.finish()
}

struct Components<'a> {
    json: &'a mut Writer,
    device: &'a str,
}

impl Components<'_> {
    fn each(&mut self, settings: &MqttSettings, base: &str, id: PipelineId, classes: &[String]) {
        self.entity("state", "sensor", "State", |json| {
            text(json, "value_template", "{{ value_json.state }}");
            text(json, "device_class", "enum");
            json.key("options").begin_array();
            STATES.iter().for_each(|state| json.string(state));
            json.end_array();
            text(json, "entity_category", "diagnostic");
        });
        self.entity("running", "binary_sensor", "Connectivity", |json| {
            text(
                json,
                "value_template",
                "{{ 'ON' if value_json.state in ('running', 'paused') else 'OFF' }}",
            );
            text(json, "device_class", "connectivity");
            text(json, "entity_category", "diagnostic");
        });
        self.entity("fps", "sensor", "Frames per second", |json| {
            text(json, "value_template", "{{ value_json.fps }}");
            text(json, "unit_of_measurement", "fps");
            text(json, "state_class", "measurement");
            text(json, "entity_category", "diagnostic");
        });
        for (index, class) in classes.iter().take(MAX_CLASSES).enumerate() {
            self.entity(format_args!("class_{index}"), "sensor", &visible(class), |json| {
                text(json, "value_template", &format!("{{{{ value_json.objects[{index}] | default(0) }}}}"));
                text(json, "state_class", "measurement");
                text(json, "icon", "mdi:shape");
            });
        }
        if settings.http_url.is_some() {
            self.entity("picture", "image", "Picture", |json| {
                text(json, "url_topic", &picture_topic(base, id))
            });
        }
        if settings.takes_commands {
            self.entity("switch", "switch", "Running", |json| {
                text(json, "command_topic", &format!("{base}/pipelines/{id}/set"));
                text(json, "payload_on", "resume");
                text(json, "payload_off", "pause");
                text(json, "state_on", "resume");
                text(json, "state_off", "pause");
                text(json, "value_template", "{{ 'pause' if value_json.state == 'paused' else 'resume' }}");
            });
        }
    }

    fn entity(&mut self, key: impl Display, platform: &str, name: &str, more: impl FnOnce(&mut Writer)) {
        let key = key.to_string();
        let id = format!("{}_{key}", self.device);
        let json = &mut *self.json;
        json.key(&key).begin_object();
        text(json, "platform", platform);
        text(json, "unique_id", &id);
        text(json, "name", name);
        more(json);
        json.end_object();
    }
}

fn text(json: &mut Writer, key: &str, value: &str) {
    json.key(key).string(value);
}

/// A name for people: nothing in it that cannot be seen, and not too much of it.
fn visible(name: &str) -> String {
    let plain: String =
        name.chars().take(MAX_NAME).map(|c| if crate::sink::topic::is_unseen(c) { ' ' } else { c }).collect();
    let plain = plain.trim();
    if plain.is_empty() { "?".to_owned() } else { plain.to_owned() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::json::{Object, Value, parse_str};
    use std::collections::BTreeSet;
    use std::time::Duration;

    fn settings() -> MqttSettings {
        MqttSettings {
            host: "h".into(),
            port: 1,
            tls: None,
            user: None,
            password: None,
            client_id: "c".into(),
            keep_alive: Duration::from_secs(30),
            takes_commands: true,
            discovery_prefix: Some("homeassistant".into()),
            http_url: Some("http://192.168.0.7:8080".into()),
            device_name: "gate\u{202e}\n7".into(),
            base_topic: "t".into(),
        }
    }

    fn said<'a>(object: &'a Object, key: &str) -> &'a str {
        object.get(key).unwrap_or_else(|| panic!("no {key}")).as_str().unwrap()
    }

    /// Keys that each platform takes beside the common ones, and those that it must have, by its page of the
    /// documentation.
    fn rules(platform: &str) -> (&'static [&'static str], &'static [&'static str]) {
        match platform {
            "sensor" => (
                &[
                    "value_template",
                    "device_class",
                    "options",
                    "unit_of_measurement",
                    "state_class",
                    "state_topic",
                    "icon",
                ],
                &["state_topic"],
            ),
            "binary_sensor" => (&["value_template", "device_class", "state_topic"], &["state_topic"]),
            "switch" => (
                &[
                    "command_topic",
                    "payload_on",
                    "payload_off",
                    "state_on",
                    "state_off",
                    "value_template",
                    "state_topic",
                ],
                &["command_topic"],
            ),
            "image" => (
                &["url_topic", "url_template", "image_topic", "content_type", "image_encoding"],
                &["url_topic"],
            ),
            other => panic!("{other} is no platform that is used here"),
        }
    }

    /// The rules of Home Assistant's documentation: "MQTT discovery", "Device discovery payload", "Shared
    /// options", and the pages of the platforms.
    #[test]
    fn the_message_keeps_to_the_documentation() {
        let id = PipelineId::from_u128(0xfeed);
        let classes = ["person".to_owned(), "{{ 7*7 }}\u{202e}\n<b>".to_owned(), String::new()];
        let topic = topic("homeassistant", id);
        // <discovery_prefix>/<component>/[<node_id>/]<object_id>/config, ids of [a-zA-Z0-9_-].
        let levels: Vec<&str> = topic.split('/').collect();
        let [prefix, component, object_id, last] = levels.as_slice() else { panic!("{topic}") };
        assert_eq!((*prefix, *component, *last), ("homeassistant", "device", "config"));
        assert!(object_id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-'));
        let bytes = message(&settings(), "weir/gate", id, &classes);
        let text = String::from_utf8(bytes).unwrap();
        let Value::Object(payload) = parse_str(&text).unwrap() else { panic!("{text}") };
        let known = [
            "device",
            "origin",
            "components",
            "availability_topic",
            "payload_available",
            "payload_not_available",
            "state_topic",
            "qos",
            "encoding",
            "command_topic",
        ];
        assert!(
            payload.iter().all(|(key, _)| known.contains(&key)),
            "only shared options beside the three mappings: {text}"
        );
        let device = payload.get("device").unwrap().as_object().unwrap();
        // "At least one of identifiers or connections must be present."
        assert!(matches!(device.get("identifiers"), Some(Value::Array(ids)) if !ids.is_empty()));
        assert!(said(device, "configuration_url").starts_with("http"), "must be http, https or internal");
        assert_eq!(said(device, "name"), "gate  7 00000000");
        // "The origin mapping … is required in device discovery", and its name.
        assert_eq!(said(payload.get("origin").unwrap().as_object().unwrap(), "name"), "weir");
        let components = payload.get("components").unwrap().as_object().unwrap();
        let mut ids = BTreeSet::new();
        for (key, component) in components.iter() {
            let component = component.as_object().unwrap();
            let (may, must) = rules(said(component, "platform"));
            // "platform and unique_id are required for each component of a device."
            assert!(ids.insert(said(component, "unique_id").to_owned()), "{key} is not unique");
            let common = ["platform", "unique_id", "name", "entity_category", "icon"];
            let unknown: Vec<_> =
                component.iter().filter(|(key, _)| !common.contains(key) && !may.contains(key)).collect();
            assert!(unknown.is_empty(), "{key}: {unknown:?}");
            assert!(
                must.iter().all(|key| component.get(key).or(payload.get(key)).is_some()),
                "{key} lacks one of {must:?}"
            );
            if component.get("device_class").and_then(Value::as_str) == Some("enum") {
                // "options … can only be used with device_class enum", which has no unit and no state_class.
                assert!(component.get("options").is_some() && component.get("state_class").is_none());
            } else {
                assert!(component.get("options").is_none());
            }
            if let Some(topic) = component.get("command_topic").or(component.get("url_topic")) {
                assert_eq!(crate::sink::topic::fault(topic.as_str().unwrap()), None);
            }
            // What strangers write is in names alone.
            for (_, value) in component.iter().filter(|(key, _)| *key != "name") {
                assert!(!value.as_str().unwrap_or_default().contains("7*7"), "{key}");
            }
        }
        let names: Vec<&str> = (0..3)
            .map(|index| {
                said(components.get(&format!("class_{index}")).unwrap().as_object().unwrap(), "name")
            })
            .collect();
        assert_eq!(names, ["person", "{{ 7*7 }}  <b>", "?"]);
        assert!(components.get("picture").is_some() && components.get("switch").is_some());
    }

    #[test]
    fn it_is_bounded_and_asks_for_no_more_than_is_allowed() {
        let closed = MqttSettings { takes_commands: false, http_url: None, ..settings() };
        let classes: Vec<String> = (0..5000).map(|_| "\u{1f600}".repeat(5000)).collect();
        let text = String::from_utf8(message(&closed, "b", PipelineId::nil(), &classes)).unwrap();
        assert!(text.len() < 64 << 10, "{}", text.len());
        assert!(!text.contains("command_topic") && !text.contains("url_topic"));
    }
}
