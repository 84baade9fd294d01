//! One frame's detections as one UDP payload: docs/roboflow.md §5.

use crate::clock::Wall;
use crate::detection::Detection;
use crate::json::{Charset, write_f64, write_string};
use std::io::Write;

/// Largest payload of a UDP datagram over IPv4: 65 535 − 20 (IP) − 8 (UDP) bytes.
pub const MAX_DATAGRAM_BYTES: usize = 65_507;

/// Names of the classes, as JSON strings: made once per pipeline so that no frame escapes them again.
#[derive(Debug, Clone)]
pub struct ClassNames(Vec<Vec<u8>>);

impl ClassNames {
    /// Escapes the names of a model.
    pub fn new(names: &[String]) -> ClassNames {
        let escape = |name: &String| {
            let mut out = Vec::with_capacity(name.len() + 2);
            write_string(&mut out, name, Charset::Ascii);
            out
        };
        ClassNames(names.iter().map(escape).collect())
    }

    /// The escaped name; a class the model has no name for is written as its number, as the reference does.
    fn write(&self, out: &mut Vec<u8>, class_id: u32) {
        match self.0.get(class_id as usize) {
            Some(name) => out.extend_from_slice(name),
            None => drop(write!(out, "\"{class_id}\"")),
        }
    }
}

/// What a datagram says beside its detections.
#[derive(Debug, Clone, Copy)]
pub struct FrameInfo {
    /// Width of the original frame, pixels.
    pub width: u32,
    /// Height of the original frame, pixels.
    pub height: u32,
    /// 0-based index of the source in its pipeline.
    pub source_id: u32,
    /// Counts grabbed frames from 1.
    pub frame_id: u64,
    /// The frame's timestamp.
    pub decoded: Wall,
    /// Now.
    pub emitted: Wall,
}

/// Writes the payload into `out` (cleared first) and returns how many detections had to be left out: the lowest-scored ones, so
/// that the payload fits [`MAX_DATAGRAM_BYTES`]. `detections` come by falling confidence.
pub fn write(out: &mut Vec<u8>, frame: &FrameInfo, detections: &[Detection], names: &ClassNames) -> usize {
    // Writing to a Vec cannot fail: results of `write!` are ignored below.
    out.clear();
    let _ = write!(out, "{{\"image\": {{\"width\": {}, \"height\": {}}}, \"predictions\": [", frame.width, frame.height);
    let tail = format!(
        "], \"inference_metadata\": {{\"source_id\": {}, \"frame_id\": {}, \"frame_decoding_time\": \"{}\", \"emission_time\": \"{}\"}}}}",
        frame.source_id,
        frame.frame_id,
        frame.decoded.iso_local(),
        frame.emitted.iso_local()
    );
    let mut written = 0;
    let mut unfit = 0;
    for detection in detections {
        // JSON has no NaN: a model that computes one loses the box, not the frame.
        if !detection.is_finite() {
            unfit += 1;
            continue;
        }
        let start = out.len();
        if written > 0 {
            out.extend_from_slice(b", ");
        }
        write_detection(out, detection, names);
        if out.len() + tail.len() > MAX_DATAGRAM_BYTES {
            out.truncate(start);
            break;
        }
        written += 1;
    }
    out.extend_from_slice(tail.as_bytes());
    detections.len() - written - unfit
}

fn write_detection(out: &mut Vec<u8>, detection: &Detection, names: &ClassNames) {
    let (x, y, width, height) = detection.centre_size();
    let fields = [("{\"x\": ", x), (", \"y\": ", y), (", \"width\": ", width), (", \"height\": ", height)];
    for (key, value) in fields {
        out.extend_from_slice(key.as_bytes());
        write_f64(out, value);
    }
    out.extend_from_slice(b", \"confidence\": ");
    write_f64(out, f64::from(detection.confidence));
    out.extend_from_slice(b", \"class\": ");
    names.write(out, detection.class_id);
    let mut id = uuid::Uuid::encode_buffer();
    let id = uuid::Uuid::new_v4().hyphenated().encode_lower(&mut id);
    let _ = write!(out, ", \"class_id\": {}, \"detection_id\": \"{id}\"}}", detection.class_id);
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: FrameInfo = FrameInfo {
        width: 640,
        height: 480,
        source_id: 0,
        frame_id: 7,
        decoded: Wall::from_micros(1_700_000_000_000_001),
        emitted: Wall::from_micros(1_700_000_000_100_000),
    };

    fn detection(class_id: u32) -> Detection {
        Detection { left: 392.0, top: 306.0, right: 488.0, bottom: 379.0, confidence: 0.999973, class_id }
    }

    #[test]
    fn bytes_are_the_reference_s() {
        let mut out = Vec::new();
        let names = ClassNames::new(&["réd".to_owned()]);
        assert_eq!(write(&mut out, &FRAME, &[detection(0), detection(9)], &names), 0);
        let text = String::from_utf8_lossy(&out).into_owned();
        let head = "{\"image\": {\"width\": 640, \"height\": 480}, \"predictions\": [{\"x\": 440.0, \"y\": 342.5, \"width\": 96.0, \
                    \"height\": 73.0, \"confidence\": 0.9999729990959167, \"class\": \"r\\u00e9d\", \"class_id\": 0, \"detection_id\": \"";
        assert!(text.starts_with(head), "{text}");
        assert!(text.contains("\"class\": \"9\", \"class_id\": 9"), "{text}");
        let tail = "\"inference_metadata\": {\"source_id\": 0, \"frame_id\": 7, \"frame_decoding_time\": \"";
        assert!(text.contains(tail), "{text}");
        assert!(text.ends_with("\"}}"), "{text}");
    }

    #[test]
    fn a_frame_without_detections_is_a_datagram_too() {
        let mut out = Vec::new();
        assert_eq!(write(&mut out, &FRAME, &[], &ClassNames::new(&[])), 0);
        assert!(String::from_utf8_lossy(&out).contains("\"predictions\": []"));
    }

    #[test]
    fn what_does_not_fit_is_left_out_from_the_end() {
        let mut out = Vec::new();
        let detections = vec![detection(0); 1000];
        let omitted = write(&mut out, &FRAME, &detections, &ClassNames::new(&["a class".to_owned()]));
        assert!(out.len() <= MAX_DATAGRAM_BYTES && out.len() > MAX_DATAGRAM_BYTES - 300, "{}", out.len());
        let text = String::from_utf8_lossy(&out);
        assert_eq!(text.matches("detection_id").count() + omitted, 1000);
        assert!(text.ends_with("\"}}"), "the tail must stay whole");
    }

    #[test]
    fn nan_never_reaches_a_datagram() {
        let mut out = Vec::new();
        let broken = Detection { left: f32::NAN, ..detection(0) };
        assert_eq!(write(&mut out, &FRAME, &[broken, detection(0)], &ClassNames::new(&[])), 0);
        let text = String::from_utf8_lossy(&out);
        assert_eq!(text.matches("detection_id").count(), 1);
        assert!(!text.contains("NaN") && !text.contains("null"));
    }
}
