#![allow(clippy::unwrap_used)]

use crate::capture::clips::{assert_exact, asset, decode_all};
use crate::capture::file;
use crate::error::Kind;

#[test]
fn every_form_of_the_container_gives_the_same_frames() {
    for name in ["fragmented.mp4", "fragmented-mixed.mp4", "edited.mp4", "quicktime.mov"] {
        assert_exact(name, |_| {});
    }
}

#[test]
fn properties_are_those_that_opencv_reports() {
    for (name, width, height, frames, fps) in [
        ("short.mp4", 640, 480, 60, 30.0),
        ("long.mp4", 640, 480, 3600, 30.0),
        ("clips/cropped.mp4", 190, 138, 25, 25.0),
        ("clips/fragmented.mp4", 192, 144, 25, 25.0),
    ] {
        let properties = file::open(&asset(name)).unwrap().properties();
        assert_eq!((properties.width, properties.height, properties.total_frames), (width, height, frames), "{name}");
        assert!((properties.fps - fps).abs() < 1e-9 && properties.is_file, "{name} {}", properties.fps);
        let modified = std::fs::metadata(asset(name)).unwrap().modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
        let created = properties.timestamp_created.unwrap().micros() as f64 / 1e6;
        assert!((modified.as_secs_f64() - frames as f64 / fps - created).abs() < 1e-3, "{name}");
    }
}

#[test]
fn the_test_clips_decode_whole() {
    let mut source = file::open(&asset("short.mp4")).unwrap();
    assert_eq!(decode_all(source.as_mut(), |_| {}).unwrap().checksums.len(), 60);
}

#[test]
fn what_is_no_video_is_named() {
    let kind = |name| file::open(&asset(name)).err().map(|error| error.kind());
    assert_eq!(kind("toy.onnx"), Some(Kind::SourceUnsupported));
    assert_eq!(kind("missing.mp4"), Some(Kind::SourceConnection));
    assert_eq!(kind("clips"), Some(Kind::SourceConnection));
}
