//! For tests: clips of `tests/assets/clips`, decoded and compared with what ffmpeg made of them
//! (`tests/scripts/make-clips.sh`).

use crate::capture::worker::checksum::checksum;
use crate::capture::worker::decode::{self, Codec, Decoder, Outlines, PicturePart};
use crate::capture::worker::file;
use crate::capture::worker::picture::Picture;
use crate::capture::worker::source::{Grab, Source};
use crate::clock::Wall;
use crate::error::{Kind, Result};
use std::path::PathBuf;

/// Where a file of the repository's `tests/assets` lies.
pub(crate) fn asset(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "assets", name].iter().collect()
}

/// What a file decodes to.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    pub(crate) checksums: Vec<u32>,
    /// Numbers of the packets that the pictures belong to, from 0.
    pub(crate) packets: Vec<i64>,
    pub(crate) undecodable: usize,
    /// Pictures that could not be right yet.
    pub(crate) passed: u64,
    /// Most packets that had gone in beyond the pictures that had come out.
    pub(crate) delay: usize,
}

/// Makes the decoder for a codec.
pub(crate) type Open<'a> = dyn FnMut(Codec) -> Box<dyn Decoder> + 'a;

/// Decodes a source to its end. Undecodable packets are counted; other errors end it.
pub(crate) fn decode_all(source: &mut dyn Source, look: impl FnMut(&Picture<'_>)) -> Result<Decoded> {
    decode_all_by(source, &mut decode::open, look)
}

/// The same by other decoders.
pub(crate) fn decode_all_by(
    source: &mut dyn Source,
    open: &mut Open<'_>,
    mut look: impl FnMut(&Picture<'_>),
) -> Result<Decoded> {
    let mut decoder: Option<Box<dyn Decoder>> = None;
    let mut decoded = Decoded::default();
    let mut output = |picture: &Picture<'_>, stamp: Wall, decoded: &mut Decoded| {
        look(picture);
        picture.check().expect("pictures that come out are whole");
        decoded.checksums.push(checksum(picture));
        decoded.packets.push(stamp.micros());
    };
    // As the worker stamps them: the second field of a picture like its first.
    let (mut outlines, mut first) = (Outlines::default(), 0);
    for packet in 0.. {
        match source.grab()? {
            Grab::Packet(codec, unit) => {
                let outline = outlines.of(codec, unit.data);
                if outline.is_none_or(|outline| outline.part != PicturePart::SecondField) {
                    first = packet;
                }
                let decoder = decoder.get_or_insert_with(|| open(codec));
                let mut take = |picture: &Picture<'_>, stamp: Wall| {
                    output(picture, stamp, &mut decoded);
                    Ok(())
                };
                match decoder.decode(&unit, Wall::from_micros(first), &mut take) {
                    Err(error) if error.kind() == Kind::Undecodable => decoded.undecodable += 1,
                    other => other?,
                }
                decoded.passed += decoder.passed();
                let packets = usize::try_from(packet).unwrap_or(0) + 1;
                let passed = usize::try_from(decoded.passed).unwrap_or(0);
                decoded.delay = decoded
                    .delay
                    .max(packets.saturating_sub(decoded.checksums.len() + decoded.undecodable + passed));
            }
            Grab::Picture(picture) => output(&picture, Wall::from_micros(packet), &mut decoded),
            Grab::Idle | Grab::Gap => {}
            Grab::End => break,
        }
    }
    if let Some(decoder) = &mut decoder {
        decoder.flush(&mut |picture, stamp| {
            output(picture, stamp, &mut decoded);
            Ok(())
        })?;
        decoded.passed += decoder.passed();
    }
    Ok(decoded)
}

/// Decodes a clip and demands the very frames that ffmpeg shows.
pub(crate) fn assert_exact(name: &str, look: impl FnMut(&Picture<'_>)) -> Decoded {
    assert_exact_by(name, &mut decode::open, look)
}

/// The same by other decoders.
pub(crate) fn assert_exact_by(
    name: &str,
    open: &mut Open<'_>,
    mut look: impl FnMut(&Picture<'_>),
) -> Decoded {
    let expected =
        std::fs::read_to_string(asset(&format!("clips/{name}.crc"))).expect("checksums are checked in");
    let parse = |line: &str| u32::from_str_radix(line.trim_start_matches("0x"), 16).expect("hexadecimal");
    let expected: Vec<u32> = expected.lines().map(parse).collect();
    let mut source = file::open(&asset(&format!("clips/{name}"))).expect(name);
    let decoded = decode_all_by(source.as_mut(), open, &mut look).expect(name);
    assert_eq!(decoded.undecodable, 0, "{name}");
    let wrong = decoded.checksums.iter().zip(&expected).filter(|(got, want)| got != want).count();
    assert_eq!((decoded.checksums.len(), wrong), (expected.len(), 0), "{name}: frames, frames that differ");
    // Once more from the start, with the same decoder state rules that a looping stream has.
    source.restart().expect(name);
    let again = decode_all_by(source.as_mut(), open, look).expect(name);
    assert_eq!(again.checksums, expected, "{name}, second time");
    decoded
}
