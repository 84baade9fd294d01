//! What `init` asks for: the types here, the fields of its document in `fields.rs`, and the way between both
//! in `document.rs`.

pub mod document;
pub mod fields;
pub mod masks;
pub mod properties;

use crate::geometry::Polygon;
use crate::sink::{Sink, UdpSink};
use std::fmt;
use std::time::Duration;

/// What `init` asks for: a pipeline with its model, sources and sinks.
#[derive(Debug, Clone, PartialEq)]
pub struct Init {
    /// `dataset/version`, an alias, or a path below `models.dir`.
    pub model_id: String,
    /// The sources in their order, one at least.
    pub sources: Vec<SourceRequest>,
    /// Where detections go; at least one.
    pub sinks: Vec<Sink>,
    /// Thresholds; absent ones take the configured defaults.
    pub parameters: ModelParameters,
    /// Key for the model registry; absent: the configured one.
    pub api_key: Option<Secret>,
    /// Frames per second of the whole pipeline; finite and above 0.
    pub max_fps: Option<f64>,
    /// Buffer filling; absent: by kind of source.
    pub filling: Option<Filling>,
    /// Buffer consumption; absent: by kind of source.
    pub consumption: Option<Consumption>,
    /// How long a turn waits for late sources; absent: for ever.
    pub batch_collection_timeout: Option<Duration>,
}

impl Init {
    /// One source, everything else as it is when a client leaves it out.
    pub fn new(model_id: String, reference: SourceReference, sink: UdpSink) -> Init {
        Init {
            model_id,
            sources: vec![SourceRequest { reference, properties: Vec::new(), masks: Vec::new() }],
            sinks: vec![Sink::Udp(sink)],
            parameters: ModelParameters::default(),
            api_key: None,
            max_fps: None,
            filling: None,
            consumption: None,
            batch_collection_timeout: None,
        }
    }
}

/// One video source of a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceRequest {
    /// The source that shall be opened.
    pub reference: SourceReference,
    /// Capture properties to set after opening, in the order given.
    pub properties: Vec<Property>,
    /// What is blackened in every frame before anybody sees it.
    pub masks: Vec<Polygon>,
}

/// An OpenCV capture property (`frame_width` for `CAP_PROP_FRAME_WIDTH`), name in lower case, known to exist.
#[derive(Debug, Clone, PartialEq)]
pub struct Property {
    /// Lower-case name without `CAP_PROP_`.
    pub name: String,
    /// The value to set.
    pub value: f64,
}

/// `video_reference`: one source as the client wrote it.
#[derive(Clone, PartialEq, Eq)]
pub enum SourceReference {
    /// Index of a V4L2 device: 0 is `/dev/video0`.
    Device(u32),
    /// Path, device path or URL.
    Text(String),
}

impl SourceReference {
    /// The reference without user, password, query and fragment of a URL: fit for status, logs and errors.
    pub fn redacted(&self) -> String {
        match self {
            SourceReference::Device(index) => index.to_string(),
            SourceReference::Text(text) => redact(text),
        }
    }
}

impl fmt::Debug for SourceReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl fmt::Display for SourceReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

/// Cuts `user:password@`, `?query` and `#fragment` out of anything that has a scheme; other text is left
/// alone.
fn redact(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    // A password that holds '/', '?' or '#' unescaped makes a URL wrong; then the last '@' ends it, as for
    // who opens the source.
    let rest = if url::Url::parse(text).is_err() { after_credentials(rest) } else { rest };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    format!("{scheme}://{}", after_credentials(rest))
}

fn after_credentials(rest: &str) -> &str {
    rest.rsplit_once('@').map_or(rest, |(_, place)| place)
}

/// What `model_configuration` may hold; `None`: the model's or the service's own value.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ModelParameters {
    /// Boxes suppress others of any class, not only of their own.
    pub class_agnostic_nms: Option<bool>,
    /// Lowest score that is reported.
    pub confidence: Option<f32>,
    /// Overlap above which the lower-scored box goes.
    pub iou_threshold: Option<f32>,
    /// Accepted and, as in the reference, not used.
    pub max_candidates: Option<u32>,
    /// Most boxes per frame.
    pub max_detections: Option<u32>,
}

impl ModelParameters {
    /// `type` of `model_configuration`: what such models do.
    pub const TASK: &'static str = "object-detection";
}

/// `source_buffer_filling_strategy`: what happens to a new frame when the buffer is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filling {
    /// The decoder waits until there is room.
    Wait,
    /// The oldest buffered frame goes.
    DropOldest,
    /// As `DropOldest`; weir drops by buffer state alone.
    AdaptiveDropOldest,
    /// The new frame is not kept.
    DropLatest,
    /// As `DropLatest`; weir drops by buffer state alone.
    AdaptiveDropLatest,
}

/// `source_buffer_consumption_strategy`: which buffered frame is taken next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consumption {
    /// Next frame in order.
    Lazy,
    /// Newest frame; the others are dropped.
    Eager,
}

/// An enum of words on the wire.
macro_rules! words {
    ($kind:ident { $($variant:ident => $word:literal),* $(,)? }) => {
        impl $kind {
            /// Every value, in the order of [`Self::WORDS`].
            pub const ALL: [$kind; [$($word),*].len()] = [$($kind::$variant),*];

            /// All of them on the wire.
            pub const WORDS: [&'static str; [$($word),*].len()] = [$($word),*];

            /// The word on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $($kind::$variant => $word),* }
            }

            /// The one of that word.
            pub fn from_word(word: &str) -> Option<$kind> {
                match word { $($word => Some($kind::$variant),)* _ => None }
            }
        }
    };
}

words!(Filling {
    Wait => "WAIT",
    DropOldest => "DROP_OLDEST",
    AdaptiveDropOldest => "ADAPTIVE_DROP_OLDEST",
    DropLatest => "DROP_LATEST",
    AdaptiveDropLatest => "ADAPTIVE_DROP_LATEST",
});

words!(Consumption { Lazy => "LAZY", Eager => "EAGER" });

/// A key or token. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text from logs and errors.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The secret itself: only for the request that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redaction_leaves_scheme_host_and_path() {
        for (given, shown) in [
            ("rtsp://user:pa@ss@10.0.0.1:554/ch1?token=x#y", "rtsp://10.0.0.1:554/ch1"),
            ("rtsp://user:p/w@cam/ch1", "rtsp://cam/ch1"),
            ("rtsp://user:p/w#d@10.0.0.1:8554/ch1", "rtsp://10.0.0.1:8554/ch1"),
            ("rtsp://user:p?w@cam/ch1?token=x", "rtsp://cam/ch1"),
            ("rtsp://user:p#@w@cam/ch1", "rtsp://cam/ch1"),
            ("rtsp://cam/ch1?mail=a@b", "rtsp://cam/ch1"),
            ("/data/a@b.mp4", "/data/a@b.mp4"),
            ("file:///a/b.mp4", "file:///a/b.mp4"),
        ] {
            assert_eq!(SourceReference::Text(given.into()).redacted(), shown);
        }
    }

    #[test]
    fn secrets_do_not_print() {
        assert!(!format!("{:?}", Secret::new("hunter2")).contains("hunter2"));
    }
}
