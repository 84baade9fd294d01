//! The HTTP sink: each frame's detections as a line of JSON, posted in batches to an address.

use super::delivery::Delivery;
use super::mqtt::{FORMAT, Format, queue};
use super::outbox::Outbox;
use super::outlets::{Address, Outlets};
use super::{Asked, KindOfSink, Open, Queue, compact};
use crate::error::Result;
use crate::json::{Object, Value};
use crate::schema::{Field, Kind, invalid};
use std::io::Write as _;
use std::rc::Rc;
use url::Url;
use uuid::Uuid;

const URL: Field = Field::required("url", Kind::Text, "`http://` or `https://` address that takes POST.")
    .called("sink url")
    .such_as("\"https://collector.example/detections\"");
const AUTHORIZATION: Field = Field::optional(
    "authorization",
    Kind::Secret,
    "Header field `Authorization` of each request (`Bearer …`). Never shown.",
);

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSink {
    /// Where lines are posted, and with which authorization.
    pub address: Address,
    /// Its host, for the list of those that are allowed.
    host: String,
    /// How a frame is written.
    pub format: Format,
}

impl Asked for HttpSink {
    type Open = HttpSender;

    const KIND: KindOfSink = KindOfSink {
        name: "http_sink",
        schema: "HTTPSinkConfiguration",
        fields: &[URL, AUTHORIZATION, FORMAT],
        is_offered: true,
        from_flag,
    };

    fn read(given: &Object) -> Result<HttpSink> {
        let value = URL.value(given)?;
        let Value::String(text) = value else { return Err(URL.refuse(value)) };
        // The text is not shown: addresses may hold keys.
        let url =
            Url::parse(URL.check(text)?).map_err(|_| invalid("sink url is not a URL that can be read"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid("sink url must begin with http:// or https://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("sink url holds a user or password: put them into `authorization`"));
        }
        let host = url.host_str().ok_or_else(|| invalid("sink url names no host"))?.to_owned();
        let authorization = AUTHORIZATION.secret(given)?.map(str::to_owned);
        if authorization.as_ref().is_some_and(|text| !text.bytes().all(|byte| (0x20..0x7f).contains(&byte))) {
            return Err(invalid("authorization holds what no header field may: visible ASCII only"));
        }
        let mut url = url;
        url.set_fragment(None);
        let format = if FORMAT.given(given).is_some() { FORMAT.word(given)? } else { None };
        Ok(HttpSink {
            address: Address { url: url.into(), authorization },
            host,
            format: format.and_then(Format::from_word).unwrap_or_default(),
        })
    }

    fn write(&self, to: &mut Object) {
        to.push(URL.name, Value::from(self.address.url.as_str()));
        if let Some(authorization) = &self.address.authorization {
            to.push(AUTHORIZATION.name, Value::from(authorization.as_str()));
        }
        to.push(FORMAT.name, Value::from(self.format.as_str()));
    }

    fn named(&self) -> String {
        self.address.to_string()
    }

    fn open(&self, outlets: &Outlets, pipeline: Uuid) -> Result<HttpSender> {
        Ok(HttpSender {
            outbox: outlets.address(&self.address)?,
            topic: Rc::from(""),
            pipeline,
            format: self.format,
        })
    }

    fn host(&self) -> Option<&str> {
        Some(&self.host)
    }

    fn adds_bytes(&self, outlets: &Outlets) -> u64 {
        outlets.more_bytes(&self.address)
    }
}

/// An address of HTTP.
fn from_flag(text: &str) -> Option<Object> {
    let is_web = text.starts_with("http://") || text.starts_with("https://");
    let mut members = Object::default();
    members.push(URL.name, Value::from(text));
    Some(members).filter(|_| is_web)
}

/// Puts lines into the outbox of an address.
#[derive(Debug)]
pub struct HttpSender {
    outbox: Rc<Outbox>,
    topic: Rc<str>,
    pipeline: Uuid,
    format: Format,
}

impl Open for HttpSender {
    async fn send(&self, delivery: &Delivery<'_>) -> Result<()> {
        self.outbox.push(&self.topic, 1, |out| {
            // Several pipelines may post to one address.
            let _ = match self.format {
                Format::Datagram => write!(out, "{{\"pipeline_id\": \"{}\", ", self.pipeline),
                Format::Compact => write!(out, "{{\"pipeline\":\"{}\",", self.pipeline),
            };
            let start = out.len();
            match self.format {
                Format::Datagram => out.extend_from_slice(delivery.datagram().get(1..).unwrap_or_default()),
                Format::Compact => {
                    compact::write(out, &delivery.frame, delivery.fitting(), delivery.names);
                    out.remove(start);
                }
            }
            out.push(b'\n');
        });
        Ok(())
    }

    fn queue(&self) -> Option<Queue> {
        Some(queue(HttpSink::KIND.name, &self.outbox))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::detection::Detection;
    use crate::json::parse_str;
    use crate::sink::delivery::{Packer, tests::frame};
    use crate::sink::outbox::Taken;

    fn asked(text: &str) -> Result<HttpSink> {
        HttpSink::read(parse_str(text).unwrap().as_object().unwrap())
    }

    #[test]
    fn what_cannot_be_posted_to_is_refused_and_secrets_are_not_shown() {
        for text in [
            r#"{"url": "ftp://a/b"}"#,
            r#"{"url": "http://hunter2:x@a/b"}"#,
            r#"{"url": "hunter2"}"#,
            r#"{"url": 5}"#,
            r#"{"url": "http://a/", "authorization": "hunter2\r\nx: y"}"#,
            r#"{"url": "http://a/", "authorization": 5}"#,
        ] {
            let error = asked(text).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let sink =
            asked(r#"{"url": "http://a:8/b?key=hunter2#c", "authorization": "Bearer hunter2", "format": "COMPACT"}"#).unwrap();
        assert!(!format!("{sink:?} {}", sink.named()).contains("hunter2"), "{sink:?}");
        assert_eq!(
            (sink.named().as_str(), sink.host(), sink.format),
            ("http://a:8/b", Some("a"), Format::Compact)
        );
        let mut kept = Object::default();
        sink.write(&mut kept);
        assert_eq!(HttpSink::read(&kept).unwrap(), sink);
    }

    #[test]
    fn lines_are_json_with_the_pipeline_in_them() {
        let found = Detection { left: 1.0, top: 2.0, right: 3.0, bottom: 4.0, confidence: 0.5, class_id: 0 };
        for (format, key) in [("datagram", "pipeline_id"), ("compact", "pipeline")] {
            let outlets = Outlets::none();
            let sink = asked(&format!(r#"{{"url": "http://a/", "format": "{format}"}}"#)).unwrap();
            let sender = sink.open(&outlets, Uuid::from_u128(7)).unwrap();
            let mut packer = Packer::new(&[]);
            assert!(smol::block_on(sender.send(&packer.pack(frame(1), &[found]))).is_ok());
            let mut text = String::new();
            sender.outbox.send(|message| {
                text = String::from_utf8_lossy(&message.payload).into_owned();
                Taken::Sent
            });
            let line = parse_str(text.strip_suffix('\n').unwrap()).unwrap();
            assert_eq!(
                line.as_object().unwrap().get(key).unwrap().as_str(),
                Some("00000000-0000-0000-0000-000000000007")
            );
        }
    }
}
