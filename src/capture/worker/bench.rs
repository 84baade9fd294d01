//! How fast this machine decodes a file, for `weir bench decode`. One thread, no scaling, in this very
//! process.

use crate::capture::worker::checksum;
use crate::capture::worker::picture::Picture;
use crate::capture::worker::source::Grab;
use crate::capture::worker::{decode, file};
use crate::clock::{Wall, process_cpu_time};
use crate::error::{Kind, Result};
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
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// From opening to the last picture.
    pub wall: Duration,
    /// CPU time of the process for the same.
    pub cpu: Duration,
}

impl Decoding {
    /// One line of JSON.
    pub fn to_json(&self) -> String {
        let Decoding { frames, undecodable, passed, needed_bytes, width, height, wall, cpu } = self;
        let seconds = wall.as_secs_f64();
        let fps = if seconds > 0.0 { *frames as f64 / seconds } else { 0.0 };
        format!(
            "{{\"frames\": {frames}, \"undecodable\": {undecodable}, \"passed\": {passed}, \"needed_bytes\": {}, \"width\": {width}, \"height\": {height}, \"wall_s\": {seconds:.3}, \"cpu_s\": {:.3}, \"fps\": {fps:.1}}}",
            needed_bytes.map_or_else(|| "null".to_owned(), |bytes| bytes.to_string()),
            cpu.as_secs_f64()
        )
    }
}

/// Decodes a file from start to end; `look` sees every picture.
pub fn decode(path: &Path, mut look: impl FnMut(&Picture<'_>) -> Result<()>) -> Result<Decoding> {
    // As a worker does.
    crate::allocator::keep_large_blocks();
    let (began, cpu_before) = (Instant::now(), process_cpu_time());
    let mut source = file::open(path)?;
    let properties = source.properties();
    let (mut frames, mut undecodable, mut passed) = (0, 0, 0);
    let (mut decoder, mut needed_bytes) = (None, None);
    loop {
        match source.grab()? {
            Grab::Packet(codec, unit) => {
                needed_bytes = needed_bytes.or_else(|| decode::decoding_bytes(codec, unit.data));
                let (_, decoder) = decoder.get_or_insert_with(|| (codec, decode::open(codec)));
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
    if let Some((_, decoder)) = &mut decoder {
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
        width: properties.width,
        height: properties.height,
        wall,
        cpu,
    })
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
    use crate::capture::worker::clips::asset;

    #[test]
    fn every_frame_is_counted() {
        let decoding = decode(&asset("clips/main.mp4"), |_| Ok(())).unwrap();
        assert_eq!(
            (decoding.frames, decoding.undecodable, decoding.width, decoding.height),
            (25, 0, 192, 144)
        );
        assert!(decoding.to_json().contains("\"frames\": 25"));
    }
}
