//! `weir check MODEL`: how many cameras this machine carries, and what half precision changes on one's own
//! pictures.

use crate::capture::worker::bench as decoding;
use crate::config::Config;
use crate::error::Result;
use crate::infer::Comparison;
use crate::infer::check::Report;
use crate::service;
use std::path::Path;
use std::time::Duration;

/// Frames a second of a camera unless said otherwise.
const FPS: f64 = 15.0;
/// Scores from here on count, as a pipeline's unless it says otherwise.
const CONFIDENCE: f32 = 0.4;
/// Most frames that are compared: a minute of a camera.
const MOST_FRAMES: u64 = 1800;

/// Prints both.
pub(super) fn print(report: &Report, video: Option<&Path>, fps: Option<f64>, config: &Config) -> Result<()> {
    let (model, half) = report.models();
    let (fps, settings) = (fps.unwrap_or(FPS), service::decoder_settings(config));
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let mut decoding = Duration::ZERO;
    if let Some(video) = video {
        let decoded = decoding::decode(video, &settings, |_| Ok(()))?;
        decoding = decoded.cpu / u32::try_from(decoded.frames).unwrap_or(u32::MAX).max(1);
        let Some(half) = half else {
            println!(
                "differs  there is nothing to compare: half precision is not faster here, or served already"
            );
            return cameras(report, fps, decoding, milliseconds(decoding));
        };
        let mut comparison = Comparison::new([model, half], CONFIDENCE)?;
        let mut frames = 0;
        decoding::scaled(video, &settings, *model.rule(), |slot, placement| {
            comparison.frame(slot, placement)?;
            frames += 1;
            Ok(frames < MOST_FRAMES)
        })?;
        println!("differs  {}", comparison.outcome());
    }
    cameras(report, fps, decoding, milliseconds(decoding))
}

fn cameras(report: &Report, fps: f64, decoding: Duration, decoding_ms: f64) -> Result<()> {
    let count = report.cameras(fps, decoding);
    let computing = report.of_frame().as_secs_f64() * 1e3;
    let decoded = match decoding.is_zero() {
        true => "decoding left out, --video FILE counts it".to_owned(),
        false => format!("{decoding_ms:.1} ms to decode"),
    };
    println!("cameras  {count:.1} of {fps} frames a second: {computing:.1} ms to compute, {decoded}");
    Ok(())
}
