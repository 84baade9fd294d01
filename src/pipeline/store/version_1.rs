//! The state file as versions before 0.2 wrote it: one JSON document with a record for each pipeline.

use super::Kept;
use crate::command::{
    Consumption, Filling, Init, ModelParameters, Property, Secret, SourceReference, SourceRequest,
};
use crate::sink::{MemorySink, Sink, UdpSink};
use miniserde::{Deserialize, json};
use std::time::Duration;

/// What stands behind the header.
pub(super) fn decode(document: &str) -> Option<Vec<Kept>> {
    json::from_str::<Document>(document).ok()?.pipelines.into_iter().map(Record::into_kept).collect()
}

#[derive(Deserialize)]
struct Document {
    pipelines: Vec<Record>,
}

#[derive(Deserialize)]
struct Record {
    id: String,
    muted: bool,
    /// A file of the configuration declares it; absent: none does.
    declared: Option<bool>,
    model_id: String,
    api_key: Option<String>,
    sources: Vec<SourceRecord>,
    /// Empty, and the port 0, when the sink is in memory.
    sink_host: String,
    sink_port: u16,
    memory: Option<MemoryRecord>,
    class_agnostic_nms: Option<bool>,
    confidence: Option<f32>,
    iou_threshold: Option<f32>,
    max_candidates: Option<u32>,
    max_detections: Option<u32>,
    max_fps: Option<f64>,
    filling: Option<String>,
    consumption: Option<String>,
    batch_collection_timeout_s: Option<f64>,
}

#[derive(Deserialize)]
struct MemoryRecord {
    turns: usize,
    outputs: Vec<String>,
    timeout_s: Option<f64>,
}

#[derive(Deserialize)]
struct SourceRecord {
    /// One of the two is set.
    device: Option<u32>,
    text: Option<String>,
    properties: Vec<PropertyRecord>,
}

#[derive(Deserialize)]
struct PropertyRecord {
    name: String,
    value: f64,
}

impl MemoryRecord {
    fn into_memory(self) -> MemorySink {
        let timeout = self.timeout_s.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        MemorySink { turns: self.turns, outputs: self.outputs.into(), timeout }
    }
}

impl Record {
    fn into_kept(self) -> Option<Kept> {
        Some(Kept {
            is_declared: self.declared.unwrap_or_default(),
            id: self.id.parse().ok()?,
            muted: self.muted,
            init: Init {
                model_id: self.model_id,
                sources: self.sources.into_iter().map(SourceRecord::into_source).collect::<Option<_>>()?,
                sinks: vec![match self.memory {
                    None => Sink::Udp(UdpSink { host: self.sink_host, port: self.sink_port }),
                    Some(memory) => Sink::Memory(memory.into_memory()),
                }],
                parameters: ModelParameters {
                    class_agnostic_nms: self.class_agnostic_nms,
                    confidence: self.confidence,
                    iou_threshold: self.iou_threshold,
                    max_candidates: self.max_candidates,
                    max_detections: self.max_detections,
                },
                api_key: self.api_key.map(Secret::new),
                max_fps: self.max_fps.filter(|fps| *fps > 0.0),
                filling: self.filling.as_deref().and_then(Filling::from_word),
                consumption: self.consumption.as_deref().and_then(Consumption::from_word),
                batch_collection_timeout: self
                    .batch_collection_timeout_s
                    .and_then(|s| Duration::try_from_secs_f64(s).ok()),
            },
        })
    }
}

impl SourceRecord {
    fn into_source(self) -> Option<SourceRequest> {
        let reference = match (self.device, self.text) {
            (Some(index), None) => SourceReference::Device(index),
            (None, Some(text)) => SourceReference::Text(text),
            _ => return None,
        };
        let property = |property: PropertyRecord| Property { name: property.name, value: property.value };
        Some(SourceRequest {
            reference,
            properties: self.properties.into_iter().map(property).collect(),
            masks: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_of_version_1_is_read() {
        let document = concat!(
            r#"{"pipelines":[{"id":"0d2d1f6e-7c39-4e5a-9c1f-0b8a51d6c111","muted":true,"declared":false,"model_id":"toy/1","#,
            r#""api_key":"key","sources":[{"device":null,"text":"rtsp://user:pass@cam/1","properties":[{"name":"fps","value":12.5}]},"#,
            r#"{"device":2,"text":null,"properties":[]}],"sink_host":"receiver","sink_port":9999,"memory":null,"#,
            r#""class_agnostic_nms":null,"confidence":0.25,"iou_threshold":null,"max_candidates":null,"max_detections":null,"#,
            r#""max_fps":16.0,"filling":"DROP_LATEST","consumption":null,"batch_collection_timeout_s":0.25},"#,
            r#"{"id":"0d2d1f6e-7c39-4e5a-9c1f-0b8a51d6c112","muted":false,"declared":true,"model_id":"toy/1","api_key":null,"#,
            r#""sources":[],"sink_host":"","sink_port":0,"memory":{"turns":3,"outputs":["found"],"timeout_s":60.0},"#,
            r#""class_agnostic_nms":null,"confidence":null,"iou_threshold":null,"max_candidates":null,"max_detections":null,"#,
            r#""max_fps":null,"filling":null,"consumption":null,"batch_collection_timeout_s":null}]}"#
        );
        let file = format!("weir-pipelines 1 {:08x}\n{document}", crc32fast::hash(document.as_bytes()));
        let kept = super::super::decode(&file).unwrap();
        let (first, second) = (&kept[0], &kept[1]);
        assert_eq!(kept.len(), 2);
        assert_eq!((first.muted, first.is_declared, second.is_declared), (true, false, true));
        assert_eq!(first.init.sinks, [Sink::Udp(UdpSink { host: "receiver".to_owned(), port: 9999 })]);
        assert_eq!((first.init.parameters.confidence, first.init.max_fps), (Some(0.25), Some(16.0)));
        assert_eq!(
            (first.init.filling, first.init.batch_collection_timeout),
            (Some(Filling::DropLatest), Some(Duration::from_millis(250)))
        );
        assert_eq!(first.init.api_key.as_ref().unwrap().reveal(), "key");
        assert_eq!(first.init.sources[0].properties, [Property { name: "fps".to_owned(), value: 12.5 }]);
        assert_eq!(first.init.sources[1].reference, SourceReference::Device(2));
        let outputs = ["found".to_owned()].into();
        assert_eq!(
            second.init.sinks,
            [Sink::Memory(MemorySink { turns: 3, outputs, timeout: Some(Duration::from_secs(60)) })]
        );
    }
}
