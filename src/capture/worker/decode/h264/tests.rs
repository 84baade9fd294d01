#![allow(clippy::unwrap_used)]

use crate::capture::worker::clips::assert_exact;
use crate::capture::worker::picture::{Matrix, Range};

#[test]
fn what_the_fast_decoder_takes_is_exact() {
    for name in ["baseline", "main", "high-pyramid", "cavlc-slices", "intra-refresh", "cropped", "full-709"] {
        assert_exact(&format!("{name}.mp4"), |_| {});
    }
}

#[test]
fn what_the_second_decoder_takes_is_exact() {
    for name in ["high10", "high422", "gray", "interlaced"] {
        assert_exact(&format!("{name}.mp4"), |_| {});
    }
}

#[test]
fn pictures_keep_the_stamp_of_their_access_unit() {
    // I P B B: the third and fourth packet are shown before the second.
    let decoded = assert_exact("main.mp4", |_| {});
    let mut sorted = decoded.packets.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..25).collect::<Vec<_>>());
    assert_ne!(decoded.packets, sorted);
}

#[test]
fn a_stream_without_b_frames_is_not_delayed() {
    for name in ["baseline.mp4", "intra-refresh.mp4", "full-709.mp4"] {
        assert_eq!(assert_exact(name, |_| {}).delay, 0, "{name}");
    }
    assert!(assert_exact("main.mp4", |_| {}).delay <= 2);
}

#[test]
fn range_and_matrix_come_from_the_stream() {
    assert_exact("full-709.mp4", |picture| assert_eq!((picture.range, picture.matrix), (Range::Full, Matrix::Bt709)));
    assert_exact("main.mp4", |picture| assert_eq!((picture.range, picture.matrix), (Range::Limited, Matrix::Bt601)));
}
