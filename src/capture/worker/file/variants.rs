//! For tests: files that were cut off, never closed, or begin with what does not belong to them. What is
//! there is shown, as ffmpeg shows it.

use crate::capture::worker::clips::{assert_exact, asset, decode_all};
use crate::capture::worker::file;
use crate::capture::worker::source::Source;
use crate::error::{Error, Kind, Result};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// A file with these bytes, opened; gone again at once.
fn open(bytes: &[u8]) -> Result<Box<dyn Source>> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    struct Scratch(PathBuf);
    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }
    let name = format!("weir-test-variant-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let scratch = Scratch(std::env::temp_dir().join(name));
    std::fs::write(&scratch.0, bytes).unwrap();
    file::open(&scratch.0)
}

fn clip(name: &str) -> Vec<u8> {
    std::fs::read(asset(&format!("clips/{name}"))).unwrap()
}

/// Checksums of the frames that a file gives, and how many frames it claims.
fn frames(bytes: &[u8]) -> (Vec<u32>, i64) {
    let mut source = open(bytes).unwrap();
    let properties = source.properties();
    assert!(properties.is_file, "a regular file is a file");
    (decode_all(source.as_mut(), |_| {}).unwrap().checksums, properties.total_frames)
}

fn refusal(bytes: &[u8]) -> Error {
    open(bytes).err().unwrap()
}

/// Where some bytes stand for the first time.
fn place(bytes: &[u8], what: &[u8]) -> usize {
    bytes.windows(what.len()).position(|window| window == what).unwrap()
}

#[test]
fn every_container_gives_the_same_frames() {
    for name in ["main.ts", "h265.m2ts", "main.flv", "zlib.mkv"] {
        assert_exact(name, |_| {});
        let properties = file::open(&asset(&format!("clips/{name}"))).unwrap().properties();
        assert_eq!((properties.width, properties.height, properties.total_frames), (192, 144, 25), "{name}");
        assert!((properties.fps - 25.0).abs() < 0.01 && properties.is_file, "{name}: {}", properties.fps);
    }
}

#[test]
fn pictures_one_after_the_other() {
    let pictures = clip("pictures.mjpeg");
    let (all, claimed) = frames(&pictures);
    assert_eq!((all.len(), claimed), (10, 10));
    // With what a camera's answer has between them, and zeros.
    let mut answer = b"--boundary\r\nContent-Type: image/jpeg\r\n\r\n".to_vec();
    for byte in pictures.windows(2).map(|pair| (pair[0], pair == [0xff, 0xd9])).chain([(0xd9, false)]) {
        answer.push(byte.0);
        if answer.ends_with(&[0xff, 0xd9]) || byte.1 {
            answer.extend_from_slice(if byte.1 { b"" } else { b"\r\n--boundary\r\nContent-Type: image/jpeg\r\n\r\n" });
        }
    }
    assert_eq!(frames(&answer), (all.clone(), 10));
    // A single picture is a file of one frame.
    assert_eq!(frames(&clip("colour.jpg")).0.len(), 1);
    // The last one is shown as far as it goes, or not at all.
    let (cut, claimed) = frames(&pictures[..pictures.len() - 300]);
    assert!(claimed == 10 && cut.starts_with(&all[..9]), "{}", cut.len());
}

#[test]
fn files_that_are_cut_short_give_what_is_there() {
    for name in ["h264.mkv", "zlib.mkv", "main.flv", "main.ts", "h264.avi", "raw.h264"] {
        let (whole, bytes) = (frames(&clip(name)).0, clip(name));
        for length in [bytes.len() / 2, bytes.len() * 3 / 4, bytes.len() - 7] {
            let (cut, _) = frames(&bytes[..length]);
            // The last picture may be damaged, and pictures that would have come before it are missing.
            let same = cut.iter().zip(&whole).filter(|(a, b)| a == b).count();
            assert!(same > 4 && same + 3 >= cut.len(), "{name} cut to {length}: {same} of {} frames", cut.len());
        }
    }
}

#[test]
fn matroska_whose_sizes_nobody_knew() {
    let whole = frames(&clip("h264.mkv")).0;
    let mut bytes = clip("h264.mkv");
    // Segment and clusters: ids of four bytes, then the size, with all bits set as a writer to a pipe leaves
    // it.
    for id in [&[0x18, 0x53, 0x80, 0x67], &[0x1f, 0x43, 0xb6, 0x75]] {
        let at = place(&bytes, id) + 4;
        let width = bytes[at].leading_zeros() as usize + 1;
        bytes[at] = 0xff >> (width - 1);
        bytes[at + 1..at + width].fill(0xff);
    }
    // And no duration either.
    let duration = place(&bytes, &[0x44, 0x89]);
    bytes[duration..duration + 2].copy_from_slice(&[0x44, 0x8a]);
    assert_eq!(frames(&bytes), (whole.clone(), 25));
    // Damage between clusters is passed.
    let cluster = place(&bytes, &[0x1f, 0x43, 0xb6, 0x75]);
    bytes.splice(cluster..cluster, [0; 50]);
    assert_eq!(frames(&bytes), (whole, 25));
}

#[test]
fn an_avi_file_that_was_never_closed() {
    let whole = frames(&clip("h264.avi")).0;
    let mut bytes = clip("h264.avi");
    let (list, length) = (place(&bytes, b"movi") - 4, place(&bytes, b"strh") + 8 + 32);
    bytes[4..8].fill(0);
    bytes[list..list + 4].fill(0);
    let index = place(&bytes, b"idx1");
    bytes.truncate(index);
    for unwritten in [0_u32, 1 << 30] {
        bytes[length..length + 4].copy_from_slice(&unwritten.to_le_bytes());
        assert_eq!(frames(&bytes), (whole.clone(), 25));
    }
}

#[test]
fn zeros_before_the_first_byte_are_passed() {
    for name in ["raw.h264", "raw.h265", "main.ts", "main.flv", "h264.mkv", "h264.avi", "main.mp4", "pictures.mjpeg"] {
        let bytes = clip(name);
        let (whole, _) = frames(&bytes);
        for zeros in [1, 512, 8191] {
            assert_eq!(frames(&[vec![0; zeros], bytes.clone()].concat()).0, whole, "{name} behind {zeros} zeros");
        }
    }
}

#[test]
fn mp4_says_nothing_of_key_frames_or_nothing_true() {
    let whole = frames(&clip("main.mp4")).0;
    let mut bytes = clip("main.mp4");
    let at = place(&bytes, b"stss");
    // Empty: none is one.
    bytes[at + 8..at + 12].fill(0);
    assert_eq!(frames(&bytes).0, whole);
    // Missing: every one is.
    bytes[at..at + 4].copy_from_slice(b"free");
    assert_eq!(frames(&bytes).0, whole);
}

#[test]
fn transport_streams_as_recorders_leave_them() {
    let bytes = clip("main.ts");
    let whole = frames(&bytes).0;
    let packets: Vec<&[u8]> = bytes.chunks(188).collect();
    let with = |each: &dyn Fn(usize, &[u8]) -> Vec<u8>| {
        packets.iter().enumerate().flat_map(|(index, packet)| each(index, packet)).collect::<Vec<u8>>()
    };
    let pid = |packet: &[u8]| u16::from_be_bytes([packet[1] & 0x1f, packet[2]]);
    // With error correction behind each packet; each sent twice; without any table; from the middle of a
    // packet on.
    assert_eq!(frames(&with(&|_, packet| [packet, &[7; 16]].concat())).0, whole);
    assert_eq!(frames(&with(&|index, packet| packet.repeat(1 + usize::from(index % 3 == 0)))).0, whole);
    assert_eq!(frames(&with(&|_, packet| if pid(packet) < 0x100 { Vec::new() } else { packet.to_vec() })).0, whole);
    assert_eq!(frames(&[&bytes[100..188], &bytes].concat()).0, whole);
    // Bytes that are lost cost the pictures that they were of, and those that need them.
    let (lost, _) = frames(&with(&|index, packet| packet[..if index == 90 { 50 } else { 188 }].to_vec()));
    assert!(lost.len() >= 12 && lost.iter().filter(|sum| whole.contains(sum)).count() >= 12, "{} frames", lost.len());
    let encrypted = with(&|_, packet| {
        let mut packet = packet.to_vec();
        packet[3] |= if pid(&packet) >= 0x100 && pid(&packet) < 0x1000 { 0x80 } else { 0 };
        packet
    });
    assert!(refusal(&encrypted).message().contains("encrypted"));
}

#[test]
fn a_raw_stream_begins_anywhere() {
    let bytes = clip("raw.h264");
    let (whole, _) = frames(&bytes);
    let (rest, _) = frames(&bytes[100..]);
    // From the next key frame on: one in twelve.
    assert_eq!(rest, whole[whole.len() - rest.len()..]);
    assert!(rest.len() >= 12, "{} frames", rest.len());
}

#[test]
fn what_cannot_be_read_is_named() {
    let no_track = &clip("h264.mkv")[..100];
    assert_eq!(refusal(no_track).kind(), Kind::SourceConnection);
    let no_movie = &clip("main.mp4")[..2000];
    assert!(refusal(no_movie).message().contains("cut short or is still being written"));
    assert!(refusal(&[0; 9000]).message().contains("not a video file of a kind that is supported (MP4"));
    // Sound alone, and what was cut off before the first picture.
    let silent = b"FLV\x01\x05\0\0\0\x09\0\0\0\0\x08\0\0\x01\0\0\0\0\0\0\0\xaf\0\0\0\x0c";
    assert!(refusal(silent).message().contains("holds no pictures"));
    let mut huge = clip("main.mp4");
    // Letters, version, count; length and letters of the only entry.
    let entry = place(&huge, b"stsd") + 20 + 24;
    huge[entry..entry + 4].copy_from_slice(&[0xff; 4]);
    let sets = place(&huge, b"avcC");
    huge[sets..sets + 4].copy_from_slice(b"free");
    assert!(refusal(&huge).message().contains("65535x65535"));
    let mut vp6 = b"FLV\x01\x01\0\0\0\x09\0\0\0\0".to_vec();
    vp6.extend([9, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 13]);
    assert!(refusal(&vp6).message().contains("VP6"));
}
