//! Datagrams as lines for people.

use miniserde::{Deserialize, json};
use std::fmt::Write;

#[derive(Deserialize)]
struct Datagram {
    predictions: Vec<Prediction>,
    inference_metadata: Metadata,
}

#[derive(Deserialize)]
struct Prediction {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
    confidence: f64,
    class: String,
}

#[derive(Deserialize)]
struct Metadata {
    source_id: u32,
    frame_id: u64,
}

/// `source 0 frame 17: cat 0.83 at 212,96 (120x88), person 0.71 …`; what is no such datagram is shown as it
/// is, made printable.
pub(super) fn line(payload: &[u8]) -> String {
    let parsed = std::str::from_utf8(payload).ok().and_then(|text| json::from_str::<Datagram>(text).ok());
    let Some(datagram) = parsed else {
        return payload.escape_ascii().to_string();
    };
    let Metadata { source_id, frame_id } = datagram.inference_metadata;
    let mut line = format!("source {source_id} frame {frame_id}:");
    for (index, p) in datagram.predictions.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // A class name comes from a model file: control characters must not reach the terminal.
        let class: String = p.class.chars().filter(|c| !c.is_control()).collect();
        // Writing to a String cannot fail.
        let _ = write!(
            line,
            "{comma} {class} {:.2} at {:.0},{:.0} ({:.0}x{:.0})",
            p.confidence, p.x, p.y, p.width, p.height
        );
    }
    if datagram.predictions.is_empty() {
        line.push_str(" nothing");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_is_a_line_and_anything_else_is_printable() {
        let payload =
            br#"{"image": {"width": 640, "height": 480}, "predictions": [{"x": 440.0, "y": 342.0, "width": 96.0, "height": 72.0,
            "confidence": 0.25, "class": "gr\u001ben", "class_id": 1, "detection_id": "x"}],
            "inference_metadata": {"source_id": 0, "frame_id": 1, "frame_decoding_time": "", "emission_time": ""}}"#;
        assert_eq!(line(payload), "source 0 frame 1: gren 0.25 at 440,342 (96x72)");
        assert_eq!(line(b"\x1b[2J"), "\\x1b[2J");
    }
}
