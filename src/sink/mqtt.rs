//! The MQTT sink: each frame's detections as a message to the service's broker (`[mqtt]` in the
//! configuration).

use super::delivery::Delivery;
use super::outbox::{Figures, Link, Outbox};
use super::outlets::{Broker, Outlets};
use super::{Asked, KindOfSink, Open, Queue, compact, topic};
use crate::error::Result;
use crate::json::{Object, Value};
use crate::schema::{Field, Kind, invalid};
use std::cell::RefCell;
use std::rc::Rc;
use uuid::Uuid;

const TOPIC: Field = Field::optional(
    "topic",
    Kind::Text,
    "Topic of the messages; absent: `<mqtt.base_topic>/pipelines/<id>/detections`.",
)
.such_as("\"hall-7/gate/detections\"")
.flagged("topic");
const QOS: Field = Field::optional(
    "qos",
    Kind::Integer { least: 0, most: Some(1) },
    "0: sent once, or lost with the connection; 1 (unless given): sent until the broker confirms it",
)
.called("sink qos")
.flagged("qos");
pub(super) const FORMAT: Field = Field::optional(
    "format",
    Kind::Word { words: &["datagram", "compact"], class: "Format" },
    "`datagram`: as the UDP sink writes it; `compact`: a fifth of that. `datagram` unless given.",
)
.flagged("format");

/// How a frame is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// The JSON of a datagram.
    #[default]
    Datagram,
    /// Whole pixels in arrays without names, a fifth of a datagram: docs/reference.md has the form.
    Compact,
}

impl Format {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Format::Datagram => "datagram",
            Format::Compact => "compact",
        }
    }

    pub(super) fn from_word(word: &str) -> Option<Format> {
        [Format::Datagram, Format::Compact].into_iter().find(|format| format.as_str() == word)
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttSink {
    /// `None`: one of the pipeline's own.
    pub topic: Option<String>,
    /// Quality of service of its messages, 0 or 1.
    pub qos: u8,
    /// How a frame is written.
    pub format: Format,
}

impl Asked for MqttSink {
    type Open = MqttSender;

    const KIND: KindOfSink = KindOfSink {
        name: "mqtt_sink",
        schema: "MQTTSinkConfiguration",
        fields: &[TOPIC, QOS, FORMAT],
        is_offered: true,
        from_flag: |text| (text == "mqtt").then(Object::default),
    };

    fn read(given: &Object) -> Result<MqttSink> {
        let topic = match TOPIC.given(given) {
            None => None,
            Some(Value::String(text)) => match topic::fault(text) {
                None => Some(text.clone()),
                Some(why) => return Err(invalid(format!("topic {why}"))),
            },
            Some(other) => return Err(TOPIC.refuse(other)),
        };
        let qos = QOS.integer(given)?.and_then(|qos| u8::try_from(qos).ok()).unwrap_or(1);
        let format = if FORMAT.given(given).is_some() { FORMAT.word(given)? } else { None };
        Ok(MqttSink { topic, qos, format: format.and_then(Format::from_word).unwrap_or_default() })
    }

    fn write(&self, to: &mut Object) {
        if let Some(topic) = &self.topic {
            to.push(TOPIC.name, Value::from(topic.as_str()));
        }
        to.push(QOS.name, Value::Integer(i128::from(self.qos)));
        to.push(FORMAT.name, Value::from(self.format.as_str()));
    }

    fn named(&self) -> String {
        self.topic.as_ref().map_or_else(|| "mqtt".to_owned(), |topic| format!("mqtt:{topic}"))
    }

    fn open(&self, outlets: &Outlets, pipeline: Uuid) -> Result<MqttSender> {
        let unset = || invalid("mqtt_sink needs a broker: name it in the configuration as mqtt.host");
        let broker = outlets.broker().ok_or_else(unset)?;
        let base = broker.base_topic();
        let topic = broker.topic(self.topic.as_deref(), pipeline)?;
        Ok(MqttSender { broker, asked: self.clone(), pipeline, topic: RefCell::new((base, topic)) })
    }
}

/// Puts messages into the broker's outbox.
#[derive(Debug)]
pub struct MqttSender {
    broker: Rc<Broker>,
    asked: MqttSink,
    pipeline: Uuid,
    /// The base topic, and what follows from it.
    topic: RefCell<(Rc<str>, Rc<str>)>,
}

impl MqttSender {
    /// Where messages go now: the service may have been told of another base topic.
    fn topic(&self) -> Result<Rc<str>> {
        let base = self.broker.base_topic();
        let mut known = self.topic.borrow_mut();
        if !Rc::ptr_eq(&known.0, &base) {
            let topic = self.broker.topic(self.asked.topic.as_deref(), self.pipeline)?;
            *known = (base, topic);
        }
        Ok(known.1.clone())
    }
}

impl Open for MqttSender {
    async fn send(&self, delivery: &Delivery<'_>) -> Result<()> {
        self.broker.outbox.push(&self.topic()?, self.asked.qos, |out| match self.asked.format {
            Format::Datagram => out.extend_from_slice(delivery.datagram()),
            Format::Compact => compact::write(out, &delivery.frame, delivery.fitting(), delivery.names),
        });
        Ok(())
    }

    fn queue(&self) -> Option<Queue> {
        Some(queue(MqttSink::KIND.name, &self.broker.outbox))
    }
}

/// How an outbox is doing.
pub(super) fn queue(kind: &'static str, outbox: &Outbox) -> Queue {
    let (figures, link): (Figures, Link) = (outbox.figures(), outbox.link());
    Queue { kind, link, figures }
}
