//! The recordings of the reference in `tests/goldens/`, and how a reply of ours is compared with a recorded
//! one.

use super::{Json, media, root};
use std::collections::HashMap;

/// Reads a file of one JSON document per line.
pub fn load(name: &str) -> Vec<Json> {
    let path = root().join("tests/goldens").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().filter(|line| !line.trim().is_empty()).map(Json::parse).collect()
}

/// Recorded pipeline ids and the ones that stand for them in this run.
#[derive(Default)]
pub struct Names(HashMap<String, String>);

impl Names {
    pub fn learn(&mut self, recorded: &Json, ours: &Json) {
        if let (Some(recorded), Some(ours)) = (recorded.text(), ours.text()) {
            self.0.insert(recorded.to_owned(), ours.to_owned());
        }
    }

    /// A recorded text with this run's ids, clips and ports in it.
    pub fn translate(&self, recorded: &str) -> String {
        let mut text = recorded.replace("@MEDIA@", &media().display().to_string());
        for (theirs, ours) in &self.0 {
            text = text.replace(theirs, ours);
        }
        text
    }
}

/// Members whose value varies from run to run; only its form is compared.
const VARIES: [&str; 8] = [
    "request_id",
    "detection_id",
    "timestamp",
    "timestamp_created",
    "frame_decoding_time",
    "emission_time",
    "inference_throughput",
    "elapsed_s",
];

/// Latencies are free, but null before the first inference and numbers after it.
const LATENCIES: [&str; 3] = ["frame_decoding_latency", "inference_latency", "e2e_latency"];

/// What differs between a recorded value and ours, as `path: recorded ≠ ours`; empty when they are alike.
pub fn differences(recorded: &Json, ours: &Json) -> Vec<String> {
    let mut found = Vec::new();
    compare("", "", recorded, ours, &mut found);
    found
}

fn compare(path: &str, key: &str, recorded: &Json, ours: &Json, found: &mut Vec<String>) {
    let same = match (recorded, ours) {
        (Json::Object(_), Json::Object(_)) => {
            if recorded.keys() != ours.keys() {
                found.push(format!("{path}: keys {:?} ≠ {:?}", recorded.keys(), ours.keys()));
            }
            for (name, value) in recorded.members() {
                compare(&format!("{path}/{name}"), name, value, ours.get(name), found);
            }
            true
        }
        (Json::Array(theirs), Json::Array(own)) => {
            for (index, value) in theirs.iter().enumerate() {
                compare(&format!("{path}/{index}"), key, value, own.get(index).unwrap_or(&Json::Null), found);
            }
            theirs.len() == own.len()
        }
        (Json::Text(theirs), Json::Text(own)) if VARIES.contains(&key) => {
            theirs.len().abs_diff(own.len()) <= 7
        }
        (Json::Number(_), Json::Number(_)) if VARIES.contains(&key) || LATENCIES.contains(&key) => true,
        // A status taken a moment earlier or later has not, or has already, seen its first inference.
        (Json::Null, Json::Number(_)) | (Json::Number(_), Json::Null) if LATENCIES.contains(&key) => true,
        (theirs, own) => theirs == own,
    };
    if !same {
        found.push(format!("{path}: {recorded} ≠ {ours}"));
    }
}

/// Boxes may differ by this much, in pixels of the frame: boxes are rounded to whole pixels, so a centre
/// moves by half.
const BOX_TOLERANCE_PX: f64 = 0.5;
/// Scores may differ by this much: another engine adds up in another order.
const SCORE_TOLERANCE: f64 = 1e-3;

/// What differs between a recorded datagram and ours; empty when they are alike.
pub fn datagram_differences(recorded: &Json, text: &str) -> Vec<String> {
    let ours = Json::parse(text);
    let mut found = Vec::new();
    if ours.to_string() != text {
        found.push(format!("not in Python's style: {text}"));
    }
    close("", "", recorded, &ours, &mut found);
    found
}

fn close(path: &str, key: &str, recorded: &Json, ours: &Json, found: &mut Vec<String>) {
    let near = |tolerance: f64| match (recorded.number(), ours.number()) {
        (Some(theirs), Some(own)) => (theirs - own).abs() <= tolerance,
        _ => false,
    };
    let same = match key {
        "x" | "y" | "width" | "height" => near(BOX_TOLERANCE_PX) && is_float(recorded) == is_float(ours),
        "confidence" => near(SCORE_TOLERANCE),
        "detection_id" => ours.text().is_some_and(is_uuid4),
        "frame_decoding_time" | "emission_time" => ours.text().is_some_and(is_local_stamp),
        _ => match (recorded, ours) {
            (Json::Object(theirs), Json::Object(_)) => {
                for (name, value) in theirs {
                    close(&format!("{path}/{name}"), name, value, ours.get(name), found);
                }
                recorded.keys() == ours.keys()
            }
            (Json::Array(theirs), Json::Array(own)) => {
                for (index, value) in theirs.iter().enumerate() {
                    close(
                        &format!("{path}/{index}"),
                        "",
                        value,
                        own.get(index).unwrap_or(&Json::Null),
                        found,
                    );
                }
                theirs.len() == own.len()
            }
            (theirs, own) => theirs == own,
        },
    };
    if !same {
        found.push(format!("{path}: {recorded} ≠ {ours}"));
    }
}

/// Whether two sets of predictions differ only in which of several equally good boxes won.
///
/// The toy model gives whole plateaus of anchors the same score, to 1e-3 or exactly; which of them is the
/// best is decided by an unstable sort in the reference. So each box of one side must be covered by one of
/// the same class on the other side (the side's winner would have suppressed it), and no score may be lost.
pub fn differ_by_ties_only(recorded: &Json, text: &str) -> bool {
    let (recorded, ours) = (boxes(recorded), boxes(&Json::parse(text)));
    let best = |boxes: &[Boxed], class: &str| {
        boxes.iter().filter(|b| b.class == class).map(|b| b.score).fold(0.0, f64::max)
    };
    let explained = |some: &[Boxed], others: &[Boxed]| {
        some.iter().all(|one| others.iter().any(|other| other.covers(one)))
    };
    let classes = || recorded.iter().chain(&ours).map(|b| b.class.as_str());
    explained(&recorded, &ours)
        && explained(&ours, &recorded)
        && classes().all(|class| (best(&recorded, class) - best(&ours, class)).abs() <= TIE_TOLERANCE)
}

/// Scores this near are a tie: our input is 8-bit, the reference's stretched input is not.
const TIE_TOLERANCE: f64 = 2e-3;
/// The default `iou_threshold`, with half a pixel of rounding on each side.
const COVERED: f64 = 0.25;

struct Boxed {
    class: String,
    score: f64,
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

impl Boxed {
    fn covers(&self, other: &Boxed) -> bool {
        let along = |a: f64, a_size: f64, b: f64, b_size: f64| {
            ((a + a_size / 2.0).min(b + b_size / 2.0) - (a - a_size / 2.0).max(b - b_size / 2.0)).max(0.0)
        };
        let width = along(self.x, self.width, other.x, other.width);
        let height = along(self.y, self.height, other.y, other.height);
        self.class == other.class && width * height / (other.width * other.height) > COVERED
    }
}

fn boxes(datagram: &Json) -> Vec<Boxed> {
    let number = |prediction: &Json, key: &str| prediction.get(key).number().expect("a number");
    let boxed = |prediction: &Json| Boxed {
        class: prediction.get("class").text().expect("a name").to_owned(),
        score: number(prediction, "confidence"),
        x: number(prediction, "x"),
        y: number(prediction, "y"),
        width: number(prediction, "width"),
        height: number(prediction, "height"),
    };
    match datagram.get("predictions") {
        Json::Array(predictions) => predictions.iter().map(boxed).collect(),
        other => panic!("no predictions in {other}"),
    }
}

/// `440.0` and `440` are the same number but not the same type to a client in Python.
fn is_float(value: &Json) -> bool {
    matches!(value, Json::Number(digits) if digits.contains(['.', 'e']))
}

pub fn is_uuid4(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            14 => *byte == b'4',
            _ => byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase(),
        })
}

/// `2026-11-22T10:38:04.541616`; Python leaves the fraction out when it is exactly 0.
pub fn is_local_stamp(text: &str) -> bool {
    let form: String = text.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    form == "9999-99-99T99:99:99.999999" || form == "9999-99-99T99:99:99"
}
