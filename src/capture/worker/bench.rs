//! How fast this machine decodes a file, for `weir bench decode`. One thread, no scaling, in this very process.

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
        let Decoding { frames, undecodable, width, height, wall, cpu } = self;
        let seconds = wall.as_secs_f64();
        let fps = if seconds > 0.0 { *frames as f64 / seconds } else { 0.0 };
        format!(
            "{{\"frames\": {frames}, \"undecodable\": {undecodable}, \"width\": {width}, \"height\": {height}, \"wall_s\": {seconds:.3}, \"cpu_s\": {:.3}, \"fps\": {fps:.1}}}",
            cpu.as_secs_f64()
        )
    }
}

/// Decodes a file from start to end.
pub fn decode(path: &Path) -> Result<Decoding> {
    let (began, cpu_before) = (Instant::now(), process_cpu_time());
    let mut source = file::open(path)?;
    let properties = source.properties();
    let (mut frames, mut undecodable) = (0, 0);
    let mut decoder = None;
    loop {
        match source.grab()? {
            Grab::Packet(codec, unit) => {
                let (_, decoder) = decoder.get_or_insert_with(|| (codec, decode::open(codec)));
                let decoded = decoder.decode(&unit, Wall::now(), &mut |_, _| {
                    frames += 1;
                    Ok(())
                });
                match decoded {
                    Err(error) if error.kind() == Kind::Undecodable => undecodable += 1,
                    other => other?,
                }
            }
            Grab::Picture(_) => frames += 1,
            Grab::Idle | Grab::Gap => {}
            Grab::End => break,
        }
    }
    if let Some((_, decoder)) = &mut decoder {
        decoder.flush(&mut |_, _| {
            frames += 1;
            Ok(())
        })?;
    }
    let (wall, cpu) = (began.elapsed(), process_cpu_time().saturating_sub(cpu_before));
    Ok(Decoding { frames, undecodable, width: properties.width, height: properties.height, wall, cpu })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::capture::worker::clips::asset;

    #[test]
    fn every_frame_is_counted() {
        let decoding = decode(&asset("clips/main.mp4")).unwrap();
        assert_eq!((decoding.frames, decoding.undecodable, decoding.width, decoding.height), (25, 0, 192, 144));
        assert!(decoding.to_json().contains("\"frames\": 25"));
    }
}
