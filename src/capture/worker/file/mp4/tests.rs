#![allow(clippy::unwrap_used)]

use crate::capture::worker::clips::{assert_exact, asset, decode_all};
use crate::capture::worker::file;
use crate::capture::worker::rotation::Rotation;
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
        assert_eq!(
            (properties.width, properties.height, properties.total_frames),
            (width, height, frames),
            "{name}"
        );
        assert!((properties.fps - fps).abs() < 1e-9 && properties.is_file, "{name} {}", properties.fps);
        let modified = std::fs::metadata(asset(name))
            .unwrap()
            .modified()
            .unwrap()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
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

#[test]
fn the_matrix_of_a_file_says_how_it_is_turned() {
    const ONE: u32 = 0x1_0000;
    let original = std::fs::read(asset("clips/baseline.mp4")).unwrap();
    let matrix = original.windows(4).position(|kind| kind == b"tkhd").unwrap() + 4 + 40;
    let minus = ONE.wrapping_neg();
    for (rotation, [a, b, c, d]) in [
        (None, [ONE, 0, 0, ONE]),
        (Some(Rotation::Quarter), [0, ONE, minus, 0]),
        (Some(Rotation::Half), [minus, 0, 0, minus]),
        (Some(Rotation::ThreeQuarters), [0, minus, ONE, 0]),
    ] {
        let mut bytes = original.clone();
        for (place, value) in [(0, a), (1, b), (3, c), (4, d)] {
            bytes[matrix + place * 4..][..4].copy_from_slice(&value.to_be_bytes());
        }
        let file =
            std::env::temp_dir().join(format!("weir-test-turned-{}-{rotation:?}.mp4", std::process::id()));
        std::fs::write(&file, bytes).unwrap();
        let opened = file::open(&file);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(opened.unwrap().rotation(), rotation);
    }
}
