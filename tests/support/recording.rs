//! The recordings of the reference in `tests/goldens/`, and how a reply of ours is compared with a recorded one.

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
        (Json::Text(theirs), Json::Text(own)) if VARIES.contains(&key) => theirs.len().abs_diff(own.len()) <= 7,
        (Json::Number(_), Json::Number(_)) if VARIES.contains(&key) || LATENCIES.contains(&key) => true,
        // A status taken a moment earlier or later has not, or has already, seen its first inference.
        (Json::Null, Json::Number(_)) | (Json::Number(_), Json::Null) if LATENCIES.contains(&key) => true,
        (theirs, own) => theirs == own,
    };
    if !same {
        found.push(format!("{path}: {recorded} ≠ {ours}"));
    }
}
