//! One frame's detections as short as JSON allows: for radio links that are paid by the byte.
//!
//! ```text
//! {"time":"2026-11-25T10:38:04.432159","source":0,"frame":7,"size":[640,480],"objects":[["person",0.91,320,240,96,180]]}
//! ```
//!
//! An object is its class, its score to two places, and its centre and size in whole pixels of the original
//! frame.

use super::datagram::ClassNames;
use super::frame::{FrameInfo, Prediction};
use std::io::Write as _;

/// Writes a frame. Writing to a Vec cannot fail: results of `write!` are ignored.
pub(super) fn write(out: &mut Vec<u8>, frame: &FrameInfo, predictions: &[Prediction], names: &ClassNames) {
    let FrameInfo { width, height, source_id, frame_id, decoded, .. } = frame;
    let time = decoded.iso_local();
    let _ = write!(
        out,
        "{{\"time\":\"{time}\",\"source\":{source_id},\"frame\":{frame_id},\"size\":[{width},{height}],\"objects\":["
    );
    for (index, Prediction { detection, .. }) in predictions.iter().enumerate() {
        out.extend_from_slice(if index > 0 { b",[" } else { b"[" });
        names.write(out, detection.class_id);
        // A box may lie outside the frame; a pixel more or less than a picture has is as good as far away.
        let (x, y, width, height) = detection.centre_size();
        let _ = write!(out, ",{:.2},{x:.0},{y:.0},{width:.0},{height:.0}]", detection.confidence);
    }
    out.extend_from_slice(b"]}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Wall;
    use crate::detection::Detection;
    use crate::json::parse_str;
    use uuid::Uuid;

    #[test]
    fn it_is_json_and_short() {
        let at = Wall::from_micros(1_700_000_000_000_001);
        let frame =
            FrameInfo { width: 640, height: 480, source_id: 1, frame_id: 7, decoded: at, emitted: at };
        let detection = Detection {
            left: -4.0,
            top: 306.0,
            right: 488.5,
            bottom: 379.0,
            confidence: 0.999973,
            class_id: 0,
        };
        let predictions = [detection, Detection { class_id: 9, confidence: 0.5, ..detection }];
        let predictions = predictions.map(|detection| Prediction { detection, id: Uuid::nil() });
        let mut out = Vec::new();
        write(&mut out, &frame, &predictions, &ClassNames::new(&["a \"cat\"\u{202e}\n".to_owned()]));
        let text = String::from_utf8_lossy(&out).into_owned();
        let head = format!(
            "{{\"time\":\"{}\",\"source\":1,\"frame\":7,\"size\":[640,480],\"objects\":[",
            at.iso_local()
        );
        let tail = r#"["a \"cat\"\u202e\n",1.00,242,342,492,73],["9",0.50,242,342,492,73]]}"#;
        assert_eq!(text, format!("{head}{tail}"));
        assert!(parse_str(&text).is_ok());
        out.clear();
        let wide = Detection { left: f32::MIN / 4.0, right: f32::MAX / 4.0, ..detection };
        write(&mut out, &frame, &[Prediction { detection: wide, id: Uuid::nil() }], &ClassNames::new(&[]));
        assert!(parse_str(&String::from_utf8_lossy(&out)).is_ok());
    }
}
