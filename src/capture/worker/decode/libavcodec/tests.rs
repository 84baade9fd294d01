//! Debian's own library (scripts/setup.sh installs ffmpeg), or whichever the loader finds: every clip to the
//! bit, as ffmpeg shows it and as the builtin decoders do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::capture::worker::clips::{assert_exact_by, asset, decode_all_by};
use crate::capture::worker::decode::foreign::Guarded;
use crate::capture::worker::decode::{Decoder, known};
use crate::capture::worker::file;

fn library() -> &'static Library {
    Library::open().expect("libavcodec is installed by scripts/setup.sh test")
}

fn open(codec: Codec) -> Box<dyn Decoder> {
    Box::new(Guarded::new(codec, Libavcodec::open(library(), codec).unwrap()))
}

#[test]
fn the_known_pictures_are_decoded() {
    for codec in [Codec::H264, Codec::H265] {
        let mut decoder = Libavcodec::open(library(), codec).unwrap();
        // Once more, after its reset.
        for _ in 0..2 {
            known::check(decoder.as_mut(), codec).unwrap();
        }
    }
}

/// Clips with the checksums of ffmpeg's frames; those of Motion JPEG left out.
fn clips() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(asset("clips"))
        .unwrap()
        .filter_map(|entry| {
            entry.unwrap().file_name().into_string().ok()?.strip_suffix(".crc").map(str::to_owned)
        })
        .collect();
    names.sort();
    names
}

#[test]
fn every_clip_is_decoded_to_the_bit() {
    let names = clips();
    assert!(names.len() > 30, "{names:?}");
    let wrong: Vec<String> = names
        .iter()
        // Its pictures are gray here and have chroma of 128 there.
        .filter(|name| *name != "gray.mp4")
        .filter_map(|name| {
            std::panic::catch_unwind(|| assert_exact_by(name, &mut open, |_| {})).err().map(|_| name.clone())
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn pictures_and_stamps_are_those_of_the_builtin_decoders() {
    let mut wrong = Vec::new();
    for name in clips().iter().filter(|name| *name != "gray.mp4") {
        let decode = |by: &mut dyn FnMut(Codec) -> Box<dyn Decoder>| {
            let mut source = file::open(&asset(&format!("clips/{name}"))).unwrap();
            decode_all_by(source.as_mut(), by, |_| {}).unwrap()
        };
        let ours = decode(&mut crate::capture::worker::decode::open);
        let theirs = decode(&mut open);
        let facts = |decoded: &crate::capture::worker::clips::Decoded| {
            (decoded.checksums.clone(), decoded.packets.clone(), decoded.passed, decoded.undecodable)
        };
        if facts(&ours) != facts(&theirs) {
            wrong.push(format!(
                "{name}: {:?} {:?} {} {} against {:?} {:?} {} {}",
                theirs.checksums.len(),
                theirs.packets,
                theirs.passed,
                theirs.undecodable,
                ours.checksums.len(),
                ours.packets,
                ours.passed,
                ours.undecodable
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn formats_are_known_by_their_names() {
    assert_eq!(layout("yuvj422p"), Some((Layout::I422, Range::Full)));
    let deep = |chroma, depth| Some((Layout::Deep { chroma, depth }, Range::Limited));
    assert_eq!(layout("yuv420p10le"), deep(Chroma::Half, 10));
    assert_eq!(layout("yuv444p16le"), deep(Chroma::Whole, 16));
    assert_eq!(layout("gray12le"), deep(Chroma::None, 12));
    for unknown in ["yuv420p10be", "yuv420p17le", "yuv420p8le", "drm_prime", "gbrp", "yuva420p", "", "gray10"]
    {
        assert_eq!(layout(unknown), None, "{unknown}");
    }
}

#[test]
fn a_decoder_that_is_not_there_is_named() {
    let error = Libavcodec::of_board(library(), "h264_no_such_board").err().unwrap();
    assert!(error.contains("h264_no_such_board"), "{error}");
}
