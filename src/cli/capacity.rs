//! `weir check MODEL`: how many cameras this machine carries, and what other precisions change on one's own
//! pictures.

use super::output::say;
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

/// Prints what other precisions change and how many cameras the machine carries.
pub(super) fn print(report: &Report, video: Option<&Path>, fps: Option<f64>, config: &Config) -> Result<()> {
    let decoding = video.map(|video| compare(report, video, config)).transpose()?;
    let fps = fps.unwrap_or(FPS);
    let count = report.cameras(fps, decoding.unwrap_or_default());
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let computing = milliseconds(report.of_frame());
    let decoded = match decoding {
        None => "decoding left out, --video FILE counts it".to_owned(),
        Some(decoding) => format!("{:.1} ms to decode", milliseconds(decoding)),
    };
    say!("cameras  {count:.1} of {fps} frames a second: {computing:.1} ms to compute, {decoded}");
    Ok(())
}

/// Prints what other precisions change; what decoding a frame takes of one core.
fn compare(report: &Report, video: &Path, config: &Config) -> Result<Duration> {
    let settings = service::decoder_settings(config);
    // by itself: the time of comparing is the process's, too
    let decoded = decoding::decode(video, &settings, |_| Ok(()))?;
    let decoding = decoded.cpu / u32::try_from(decoded.frames).unwrap_or(u32::MAX).max(1);
    if report.others().next().is_none() {
        say!("differs  there is nothing to compare: no other precision is faster here");
        return Ok(decoding);
    }
    let model = report.model();
    let with = |(precision, other)| Ok((precision, Comparison::new([model, other], CONFIDENCE)?));
    let mut comparisons = report.others().map(with).collect::<Result<Vec<_>>>()?;
    let mut frames = 0;
    decoding::scaled(video, &settings, *model.rule(), |slot, placement| {
        comparisons.iter_mut().try_for_each(|(_, comparison)| comparison.frame(slot, placement))?;
        frames += 1;
        Ok(frames < MOST_FRAMES)
    })?;
    for (precision, comparison) in comparisons {
        say!("differs  {precision}: {}", comparison.outcome());
    }
    Ok(decoding)
}
