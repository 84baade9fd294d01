//! How fast this machine decodes a file, for `weir bench decode`. One thread, no scaling, in this very
//! process.

use crate::capture::worker::checksum;
use crate::capture::worker::decode::stateful::node::Node;
use crate::capture::worker::decode::stateful::{Failure, Stateful};
use crate::capture::worker::decode::{Decoder, Decoders};
use crate::capture::worker::picture::Picture;
use crate::capture::worker::scale::Scaler;
use crate::capture::worker::source::Grab;
use crate::capture::worker::{decode, file};
use crate::capture::{DecoderKind, DecoderSettings};
use crate::clock::{Wall, process_cpu_time};
use crate::error::{Error, Kind, Result};
use crate::geometry::{InputRule, Placement};
use std::path::Path;
use std::time::{Duration, Instant};

/// What decoding a file took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decoding {
    /// Pictures that came out.
    pub frames: u64,
    /// Packets that could not be decoded.
    pub undecodable: u64,
    /// Pictures that were left out: before decoding can begin, and where what they need is missing.
    pub passed: u64,
    /// Bytes that decoding was expected to need by the stream's first parameter sets.
    pub needed_bytes: Option<u64>,
    /// Whose code decoded last.
    pub decoder: DecoderKind,
    /// Width of the last picture, pixels.
    pub width: u32,
    /// Height of the last picture, pixels.
    pub height: u32,
    /// From opening to the last picture.
    pub wall: Duration,
    /// CPU time of the process for the same.
    pub cpu: Duration,
}

impl Decoding {
    /// One line of JSON.
    pub fn to_json(&self) -> String {
        let Decoding { frames, undecodable, passed, needed_bytes, decoder, width, height, wall, cpu } = self;
        let seconds = wall.as_secs_f64();
        let fps = if seconds > 0.0 { *frames as f64 / seconds } else { 0.0 };
        format!(
            "{{\"frames\": {frames}, \"undecodable\": {undecodable}, \"passed\": {passed}, \"needed_bytes\": {}, \"decoder\": \"{}\", \"width\": {width}, \"height\": {height}, \"wall_s\": {seconds:.3}, \"cpu_s\": {:.3}, \"fps\": {fps:.1}}}",
            needed_bytes.map_or_else(|| "null".to_owned(), |bytes| bytes.to_string()),
            decoder.name(),
            cpu.as_secs_f64()
        )
    }
}

/// Decodes a file from start to end by what the settings allow; `look` sees every picture. What loading a
/// library takes is not counted.
pub fn decode(
    path: &Path,
    settings: &DecoderSettings,
    mut look: impl FnMut(&Picture<'_>) -> Result<()>,
) -> Result<Decoding> {
    // As a worker does.
    crate::allocator::keep_large_blocks();
    let mut decoders = Decoders::load(settings, &mut |_| Ok(()))?.of_file();
    let (began, cpu_before) = (Instant::now(), process_cpu_time());
    let mut source = file::open_for(path, &|codec| decoders.can_open(codec))?;
    let properties = source.properties();
    let (mut frames, mut undecodable, mut passed) = (0, 0, 0);
    let (mut decoder, mut needed_bytes): (Option<Box<dyn Decoder>>, _) = (None, None);
    loop {
        match source.grab()? {
            Grab::Packet(codec, unit) => {
                needed_bytes = needed_bytes.or_else(|| decode::decoding_bytes(codec, unit.data));
                let decoder = match &mut decoder {
                    Some(decoder) => decoder,
                    none => none.insert(decoders.open(codec, &mut |_| Ok(()))?),
                };
                let decoded = decoder.decode(&unit, Wall::now(), &mut |picture, _| {
                    frames += 1;
                    look(picture)
                });
                passed += decoder.passed();
                match decoded {
                    Err(error) if error.kind() == Kind::Undecodable => undecodable += 1,
                    other => other?,
                }
            }
            Grab::Picture(picture) => {
                frames += 1;
                look(&picture)?;
            }
            Grab::Idle | Grab::Gap => {}
            Grab::End => break,
        }
    }
    if let Some(decoder) = &mut decoder {
        decoder.flush(&mut |picture, _| {
            frames += 1;
            look(picture)
        })?;
        passed += decoder.passed();
    }
    let (wall, cpu) = (began.elapsed(), process_cpu_time().saturating_sub(cpu_before));
    Ok(Decoding {
        frames,
        undecodable,
        passed,
        needed_bytes,
        decoder: decoder.map_or(DecoderKind::Builtin, |decoder| decoder.kind()),
        width: properties.width,
        height: properties.height,
        wall,
        cpu,
    })
}

/// Decodes a file and scales every picture as a model's rule says; `look` gets the planes R, G, B and where the
/// picture lies in them. After `false` of it no more are scaled; the rest is
/// decoded all the same.
pub fn scaled(
    path: &Path,
    settings: &DecoderSettings,
    rule: InputRule,
    mut look: impl FnMut(&[u8], &Placement) -> Result<bool>,
) -> Result<Decoding> {
    let (mut scaler, mut slot) = (Scaler::new(rule), vec![0; rule.slot_bytes()]);
    let mut goes_on = true;
    decode(path, settings, |picture| {
        if !goes_on {
            return Ok(());
        }
        scaler.scale(picture, &mut slot)?;
        let placement = rule.place(picture.width, picture.height);
        let empty = || Error::new(Kind::SourceUnsupported, "a picture of no size");
        goes_on = look(&slot, &placement.ok_or_else(empty)?)?;
        Ok(())
    })
}

/// Decodes units of a codec that the kernel knows by four letters, by the stateful decoder at a device node;
/// `look` sees every picture. How many pictures were damaged.
///
/// Errors: `SourceConnection`: it cannot be opened; `SourceUnsupported`: it is no such decoder, or fails; what
/// `look` says.
pub fn decode_on<'a>(
    device: &Path,
    coded: [u8; 4],
    units: impl Iterator<Item = &'a [u8]>,
    mut look: impl FnMut(&Picture<'_>) -> Result<()>,
) -> Result<u64> {
    let unusable = |why: String| Error::new(Kind::SourceUnsupported, format!("the decoder fails: {why}"));
    let node = Node::open(device)
        .map_err(|errno| Error::new(Kind::SourceConnection, "the device cannot be opened").because(errno))?
        .ok_or_else(|| unusable("it is none".to_owned()))?;
    let mut decoder = Stateful::new(coded, node);
    let mut damaged = 0;
    let mut judge = |decoded| match decoded {
        Err(Failure::Damaged) => {
            damaged += 1;
            Ok(())
        }
        Err(Failure::Lost(why)) => Err(unusable(why)),
        Err(Failure::Output(error)) => Err(error),
        Ok(()) => Ok(()),
    };
    for (tag, unit) in (0..).zip(units) {
        judge(decoder.decode(unit, tag, &mut |picture, _| look(picture)))?;
    }
    judge(decoder.drain(&mut |picture, _| look(picture)))?;
    Ok(damaged)
}

/// The line that ffmpeg's `-f framecrc` prints for a picture, the `number`th from 0 of a stream with one tick
/// to a frame. Planes of eight bits: what is coded deeper is cut to its upper eight.
pub fn framecrc_line(number: u64, picture: &Picture<'_>) -> String {
    let (bytes, sum) = (checksum::bytes(picture), checksum::checksum(picture));
    format!("0, {number:>10}, {number:>10}, {:>8}, {bytes:>8}, 0x{sum:08x}", 1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::capture::DecoderChoice;
    use crate::capture::worker::clips::asset;

    #[test]
    fn every_frame_is_counted() {
        let builtin = DecoderSettings { choice: DecoderChoice::Builtin, ..DecoderSettings::default() };
        let decoding = decode(&asset("clips/main.mp4"), &builtin, |_| Ok(())).unwrap();
        assert_eq!(
            (decoding.frames, decoding.undecodable, decoding.width, decoding.height),
            (25, 0, 192, 144)
        );
        assert!(decoding.to_json().contains("\"frames\": 25"));
    }
}
