//! The fields of an `init` document: the one place that says what there is, what it may hold and what it
//! means.

use super::{Consumption, Filling, ModelParameters};
use crate::command::MAX_SOURCES;
use crate::schema::{Field, Kind, Presence};

/// Longest `batch_collection_timeout` in seconds; whoever means "for ever" leaves it out.
const MAX_BATCH_TIMEOUT_S: f64 = 86_400.0;

/// What `type` of a message over TCP and in a file says.
pub const INIT: &str = "init";

pub(super) const MODEL_ID: Field = Field::required(
    "model_id",
    Kind::Text,
    "`dataset/version`, an alias, or a folder or .onnx file below the configured model directories.",
)
.flagged("model");

pub(super) const VIDEO_REFERENCE: Field = Field::required(
    "video_reference",
    Kind::References { most: MAX_SOURCES },
    "Path, URL or device as seen from this machine, or a list of them.",
)
.flagged("video");

pub(super) const SINK_CONFIGURATION: Field = Field::required(
    "sink_configuration",
    Kind::Sink,
    "Where detections are sent: one sink, or a list of up to 8.",
)
.flagged("sink");

pub(super) const API_KEY: Field = Field::optional("api_key", Kind::Secret, "Key for the model registry.");

pub(super) const MAX_FPS: Field =
    Field::optional("max_fps", Kind::Rate, "Most frames per second, above 0; absent: as many as come.")
        .flagged("max-fps");

pub(super) const FILLING: Field = Field::optional(
    "source_buffer_filling_strategy",
    Kind::Word { words: &Filling::WORDS, class: "BufferFillingStrategy" },
    "What happens to a frame when the buffer is full. Any case is taken.",
)
.flagged("filling");

pub(super) const CONSUMPTION: Field = Field::optional(
    "source_buffer_consumption_strategy",
    Kind::Word { words: &Consumption::WORDS, class: "BufferConsumptionStrategy" },
    "Which frame is taken from the buffer: the next (LAZY) or the newest (EAGER). Any case is taken.",
)
.flagged("consumption");

pub(super) const MODEL_CONFIGURATION: Field = Field::required(
    "model_configuration",
    Kind::Object { schema: "ObjectDetectionModelConfiguration", fields: MODEL_FIELDS },
    "Thresholds; absent ones are the configured defaults.",
)
.being(Presence::Implied);

pub(super) const VIDEO_SOURCE_PROPERTIES: Field = Field::optional(
    "video_source_properties",
    Kind::Properties { most: MAX_SOURCES },
    "OpenCV capture properties by name without CAP_PROP_ (any case): one object for all sources, or a list with one entry for all \
     or one for each source.",
)
.such_as(r#"{"frame_width": 1920, "frame_height": 1080, "fps": 30.0}"#);

pub(super) const PRIVACY_MASKS: Field = Field::optional(
    "privacy_masks",
    Kind::Masks { most: MAX_SOURCES },
    "Areas that are blackened in every frame before the model or anybody sees it: polygons of 3 to 32 corners, each `[x, y]` as \
     fractions (0 to 1) of width and height of the picture as it is shown; up to 16 of them for all sources, or a list with such a \
     list for each source.",
)
.such_as("[[[0.0, 0.0], [0.3, 0.0], [0.3, 0.5], [0.0, 0.5]]]")
.flagged("privacy-masks");

pub(super) const BATCH_COLLECTION_TIMEOUT: Field = Field::optional(
    "batch_collection_timeout",
    Kind::Seconds { most: MAX_BATCH_TIMEOUT_S, above_zero: false },
    "Seconds a turn waits for late sources when there are several; absent: until all have a frame.",
)
.such_as("0.1")
.flagged("batch-collection-timeout");

const NOT_USED: &str = "Taken for compatibility; not used.";

/// The members of an `init` document, in the order of the reference's.
pub const FIELDS: &[Field] = &[
    MODEL_ID,
    VIDEO_REFERENCE,
    SINK_CONFIGURATION,
    API_KEY,
    MAX_FPS,
    FILLING,
    CONSUMPTION,
    MODEL_CONFIGURATION,
    Field::optional("active_learning_enabled", Kind::Boolean, NOT_USED).being(Presence::Ignored),
    VIDEO_SOURCE_PROPERTIES,
    Field::optional("active_learning_target_dataset", Kind::Text, NOT_USED).being(Presence::Ignored),
    BATCH_COLLECTION_TIMEOUT,
    PRIVACY_MASKS,
];

/// What `POST /video_sources/snapshot` takes.
pub const SOURCE_FIELDS: &[Field] = &[VIDEO_REFERENCE, VIDEO_SOURCE_PROPERTIES, PRIVACY_MASKS];

/// The only kind of model there is.
pub(super) const TYPE: Field =
    Field::required("type", Kind::Constant(ModelParameters::TASK), "Always `object-detection`.")
        .being(Presence::Implied);

pub(super) const CLASS_AGNOSTIC_NMS: Field = Field::optional(
    "class_agnostic_nms",
    Kind::Boolean,
    "Whether a box may suppress boxes of other classes.",
)
.flagged("class-agnostic-nms");

pub(super) const CONFIDENCE: Field =
    Field::optional("confidence", Kind::Number, "Lowest score that is reported.").flagged("confidence");

pub(super) const IOU_THRESHOLD: Field =
    Field::optional("iou_threshold", Kind::Number, "Overlap above which the box with the lower score goes.")
        .flagged("iou-threshold");

pub(super) const MAX_CANDIDATES: Field =
    Field::optional("max_candidates", Kind::Integer { least: 0, most: None }, NOT_USED);

pub(super) const MAX_DETECTIONS: Field =
    Field::optional("max_detections", Kind::Integer { least: 0, most: None }, "Most boxes in one frame.")
        .flagged("max-detections");

/// The members of `model_configuration`.
pub const MODEL_FIELDS: &[Field] =
    &[TYPE, CLASS_AGNOSTIC_NMS, CONFIDENCE, IOU_THRESHOLD, MAX_CANDIDATES, MAX_DETECTIONS];

/// What the newer API's `video_configuration` shares with `init`, beside the reference.
pub const VIDEO_FIELDS: &[Field] =
    &[MAX_FPS, FILLING, CONSUMPTION, VIDEO_SOURCE_PROPERTIES, BATCH_COLLECTION_TIMEOUT, PRIVACY_MASKS];

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::sink::{KINDS, KindOfSink};

    /// The rows of the table in docs/reference.md.
    fn rows(prefix: &str, fields: &[Field]) -> Vec<String> {
        let row = |field: &Field| {
            let needed = if field.presence == Presence::Required { "yes" } else { "no" };
            let holds = match field.kind {
                Kind::Word { words, .. } => ticked(words),
                Kind::Sink => ticked(&offered().map(|kind| kind.name).collect::<Vec<_>>()),
                Kind::References { most } => format!("a string or a device index, or a list of up to {most}"),
                kind => kind.words(),
            };
            let own = format!("| `{prefix}{}` | {needed} | {holds} | {} |", field.name, field.words);
            let members = match field.kind {
                Kind::Object { fields, .. } => rows(&format!("{}.", field.name), fields),
                Kind::Sink => {
                    offered().flat_map(|kind| rows(&format!("{}.", field.name), kind.fields)).collect()
                }
                _ => Vec::new(),
            };
            [vec![own], members].concat()
        };
        fields.iter().flat_map(row).collect()
    }

    fn offered() -> impl Iterator<Item = &'static KindOfSink> {
        KINDS.iter().filter(|kind| kind.is_offered)
    }

    fn ticked(words: &[&str]) -> String {
        words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn the_documentation_has_the_table() {
        let page =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference.md")).unwrap();
        let table = rows("", FIELDS).join("\n");
        assert!(page.contains(&table), "docs/reference.md must hold:\n{table}");
    }
}
