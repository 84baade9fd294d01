//! Debian's own library (scripts/setup.sh installs ffmpeg), or whichever the loader finds: every clip to the
//! bit, as ffmpeg shows it and as the builtin decoders do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::capture::worker::clips::{Open, assert_exact_by, asset, decode_all_by};
use crate::capture::worker::decode::foreign::Guarded;
use crate::capture::worker::decode::{Decoder, known};
use crate::capture::worker::file;

fn library() -> &'static Library {
    Library::open().expect("libavcodec is installed by scripts/setup.sh test")
}

fn open(codec: Codec) -> Box<dyn Decoder> {
    Box::new(Guarded::new(codec, Libavcodec::open(library(), codec, true).unwrap()))
}

#[test]
fn the_known_pictures_are_decoded() {
    for codec in [Codec::H264, Codec::H265] {
        for may_wait in [false, true] {
            let mut decoder = Libavcodec::open(library(), codec, may_wait).unwrap();
            // Once more, after its reset.
            for _ in 0..2 {
                known::check(decoder.as_mut(), codec).unwrap();
            }
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
    let mut live = |codec| -> Box<dyn Decoder> {
        Box::new(Guarded::new(codec, Libavcodec::open(library(), codec, false).unwrap()))
    };
    let opens: [&mut Open<'_>; 2] = [&mut open, &mut live];
    let mut wrong = Vec::new();
    for (open, is_live) in opens.into_iter().zip([false, true]) {
        for name in &names {
            // Gray pictures are gray here and have chroma of 128 there; and what is live does not wait.
            let is_other = name == "gray.mp4" || is_live && name == "pyramid-silent.h264";
            let decode = || assert_exact_by(name, open, |_| {});
            if !is_other && std::panic::catch_unwind(std::panic::AssertUnwindSafe(decode)).is_err() {
                wrong.push((name.clone(), is_live));
            }
        }
    }
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

/// By `ffmpeg -map 0:v:0 -fps_mode passthrough -f framecrc`.
const NOT_BUILTIN: [(&str, [u32; 10]); 3] = [
    (
        "vp8.webm",
        [
            0xf0de_67a3,
            0xf059_677f,
            0x4000_66ca,
            0x5d11_669d,
            0x2365_6681,
            0x5457_6686,
            0xe501_6679,
            0x25b6_6681,
            0x8eb9_66bd,
            0xb2ae_66b4,
        ],
    ),
    (
        "mpeg4.mp4",
        [
            0xfb94_68ad,
            0x9961_6817,
            0xe212_675a,
            0x4f7d_677b,
            0x4af0_673b,
            0x13ee_6715,
            0x4ea7_66f1,
            0xe004_66ec,
            0xa189_66aa,
            0xd931_668d,
        ],
    ),
    (
        "h264-444.mp4",
        [
            0x126b_37f2,
            0x126b_37f2,
            0xfb96_346a,
            0xc422_3394,
            0x3acc_32e0,
            0xecdc_32d9,
            0xe2d7_3509,
            0xe593_36e6,
            0x9e0a_3a07,
            0x9e0a_3a07,
        ],
    ),
];

#[test]
fn what_is_not_builtin_is_decoded_to_the_bit() {
    for (name, expected) in NOT_BUILTIN {
        let path = asset(&format!("clips/{name}"));
        let mut source = file::open_for(&path, &|codec| library().decodes(codec)).expect(name);
        for _ in 0..2 {
            let decoded = decode_all_by(source.as_mut(), &mut open, |_| {}).expect(name);
            assert_eq!((decoded.checksums.as_slice(), decoded.undecodable), (&expected[..], 0), "{name}");
            source.restart().unwrap();
        }
    }
}

/// Every clip, damaged: it ends, and pictures are whole (`decode_all_by` checks each).
#[test]
fn damage_costs_pictures_and_nothing_else() {
    let mut state = 1_u32;
    let mut dice = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    let scratch = std::env::temp_dir().join(format!("weir-libavcodec-{}", std::process::id()));
    for name in ["raw.h264", "raw.h265", "interlaced.mp4", "h265-10.mp4"] {
        let original = std::fs::read(asset(&format!("clips/{name}"))).unwrap();
        let mut pictures = 0;
        for _ in 0..10 {
            let mut bytes = original.clone();
            for _ in 0..8 {
                let place = dice(bytes.len());
                bytes[place] ^= 1 << dice(8);
            }
            std::fs::write(&scratch, bytes).unwrap();
            let Ok(mut source) = file::open(&scratch) else { continue };
            pictures += decode_all_by(source.as_mut(), &mut open, |_| {})
                .map_or(0, |decoded| decoded.checksums.len());
        }
        assert!(pictures > 50, "{name}: {pictures} pictures");
    }
    let _ = std::fs::remove_file(scratch);
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
