//! One frame's detections as one UDP payload: docs/roboflow.md §5.

use super::frame::{FrameInfo, Prediction};
use crate::json::{Charset, write_f64, write_string};
use std::io::Write;

/// Largest payload of a UDP datagram over IPv4: 65 535 − 20 (IP) − 8 (UDP) bytes.
pub const MAX_DATAGRAM_BYTES: usize = 65_507;

/// Bytes of everything but the predictions: three sizes, two ids and two time stamps with their keys have
/// less than 300.
const FRAME_BYTES: usize = 512;

/// Bytes of a prediction without its class name: nine keys, six numbers of up to 25 bytes and an id have less
/// than 300.
const PREDICTION_BYTES: usize = 320;

/// Names of the classes, as JSON strings: made once per pipeline so that no frame escapes them again.
#[derive(Debug, Clone)]
pub struct ClassNames {
    escaped: Vec<Vec<u8>>,
    /// Bytes of the longest.
    longest: usize,
}

impl ClassNames {
    /// Escapes the names of a model.
    pub fn new(names: &[String]) -> ClassNames {
        let escape = |name: &String| {
            let mut out = Vec::with_capacity(name.len() + 2);
            write_string(&mut out, name, Charset::Ascii);
            out
        };
        let escaped: Vec<Vec<u8>> = names.iter().map(escape).collect();
        let longest = escaped.iter().map(Vec::len).max().unwrap_or_default();
        ClassNames { escaped, longest }
    }

    /// The escaped name; a class the model has no name for is written as its number, as the reference does.
    pub(super) fn write(&self, out: &mut Vec<u8>, class_id: u32) {
        match self.escaped.get(class_id as usize) {
            Some(name) => out.extend_from_slice(name),
            None => drop(write!(out, "\"{class_id}\"")),
        }
    }
}

/// Writes the payload into `out` (cleared first) and returns how many predictions fit into
/// [`MAX_DATAGRAM_BYTES`]: they come by falling confidence, so the lowest-scored ones are left out.
pub(super) fn write(
    out: &mut Vec<u8>,
    frame: &FrameInfo,
    predictions: &[Prediction],
    names: &ClassNames,
) -> usize {
    // Writing to a Vec cannot fail: results of `write!` are ignored below.
    let tail = format!(
        ", \"inference_metadata\": {{\"source_id\": {}, \"frame_id\": {}, \"frame_decoding_time\": \"{}\", \"emission_time\": \"{}\"}}}}",
        frame.source_id,
        frame.frame_id,
        frame.decoded.iso_local(),
        frame.emitted.iso_local()
    );
    out.clear();
    let written = write_predictions(out, frame, predictions, names, MAX_DATAGRAM_BYTES - tail.len());
    out.extend_from_slice(tail.as_bytes());
    written
}

/// Writes the payload's first two members, image and predictions, behind an opening brace that stays open.
/// Ends before a prediction with which `out` would pass `most_bytes`, and returns how many were written.
pub(super) fn write_predictions(
    out: &mut Vec<u8>,
    frame: &FrameInfo,
    predictions: &[Prediction],
    names: &ClassNames,
    most_bytes: usize,
) -> usize {
    let _ = write!(
        out,
        "{{\"image\": {{\"width\": {}, \"height\": {}}}, \"predictions\": [",
        frame.width, frame.height
    );
    let mut written = 0;
    for prediction in predictions {
        let start = out.len();
        if written > 0 {
            out.extend_from_slice(b", ");
        }
        write_prediction(out, prediction, names);
        if out.len() + 1 > most_bytes {
            out.truncate(start);
            break;
        }
        written += 1;
    }
    out.push(b']');
    written
}

/// Whether so many predictions fit into a datagram whatever their numbers are. False: perhaps.
pub(super) fn surely_fit(predictions: usize, names: &ClassNames) -> bool {
    predictions.saturating_mul(PREDICTION_BYTES.saturating_add(names.longest))
        <= MAX_DATAGRAM_BYTES - FRAME_BYTES
}

fn write_prediction(out: &mut Vec<u8>, Prediction { detection, id }: &Prediction, names: &ClassNames) {
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
    let mut buffer = uuid::Uuid::encode_buffer();
    let id = id.hyphenated().encode_lower(&mut buffer);
    let _ = write!(out, ", \"class_id\": {}, \"detection_id\": \"{id}\"}}", detection.class_id);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Wall;
    use crate::detection::Detection;
    use uuid::Uuid;

    const FRAME: FrameInfo = FrameInfo {
        width: 640,
        height: 480,
        source_id: 0,
        frame_id: 7,
        decoded: Wall::from_micros(1_700_000_000_000_001),
        emitted: Wall::from_micros(1_700_000_000_100_000),
    };

    fn prediction(class_id: u32) -> Prediction {
        let detection = Detection {
            left: 392.0,
            top: 306.0,
            right: 488.0,
            bottom: 379.0,
            confidence: 0.999973,
            class_id,
        };
        Prediction { detection, id: Uuid::from_u128(0xfeed) }
    }

    #[test]
    fn bytes_are_the_reference_s() {
        let mut out = Vec::new();
        let names = ClassNames::new(&["réd".to_owned()]);
        assert_eq!(write(&mut out, &FRAME, &[prediction(0), prediction(9)], &names), 2);
        let text = String::from_utf8_lossy(&out).into_owned();
        let head = "{\"image\": {\"width\": 640, \"height\": 480}, \"predictions\": [{\"x\": 440.0, \"y\": 342.5, \"width\": 96.0, \
                    \"height\": 73.0, \"confidence\": 0.9999729990959167, \"class\": \"r\\u00e9d\", \"class_id\": 0, \"detection_id\": \"00000000-0000-0000-0000-00000000feed\"}, {";
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
        let predictions = vec![prediction(0); 1000];
        let written = write(&mut out, &FRAME, &predictions, &ClassNames::new(&["a class".to_owned()]));
        assert!(out.len() <= MAX_DATAGRAM_BYTES && out.len() > MAX_DATAGRAM_BYTES - 300, "{}", out.len());
        let text = String::from_utf8_lossy(&out);
        assert_eq!(text.matches("detection_id").count(), written);
        assert!(text.ends_with("\"}}"), "the tail must stay whole");
    }

    #[test]
    fn what_surely_fits_does() {
        let longest = |name: &str| ClassNames::new(&[name.to_owned()]);
        // Numbers as long as they can be.
        let wide = |value: f32| Detection {
            left: value,
            top: value,
            right: -value,
            bottom: -value,
            confidence: -1.1754944e-38,
            class_id: u32::MAX,
        };
        let frame =
            FrameInfo { width: u32::MAX, height: u32::MAX, source_id: u32::MAX, frame_id: u64::MAX, ..FRAME };
        for names in [longest("a"), longest(&"\n".repeat(300))] {
            let most = (1..1000).take_while(|count| surely_fit(*count, &names)).last().unwrap_or_default();
            assert!(most > 20, "{most}");
            for value in [1.2345679e-38, 3.4028233e38, 12345.678] {
                let predictions = vec![Prediction { detection: wide(value), id: Uuid::max() }; most];
                assert_eq!(write(&mut Vec::new(), &frame, &predictions, &names), most);
            }
        }
    }
}
