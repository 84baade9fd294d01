//! A camera's clocks beside ours: how late its frames come, whether it drifts, what time it believes it is.
//!
//! For the log alone. A frame carries the time of its arrival, because that is the clock that all cameras of
//! a pipeline share; where frames pile up on their way, or a camera's clock is wrong, these figures say so.

use crate::clock::Wall;
use crate::command::{PacketLoss, PacketLosses};
use std::time::{Duration, Instant};

/// One line in the log as often, at level debug.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);
/// Seconds from NTP's epoch (1900) to Unix' (1970).
const NTP_TO_UNIX_S: f64 = 2_208_988_800.0;

/// What was seen of one session.
#[derive(Debug)]
pub(super) struct Punctuality {
    began: Instant,
    /// Of the running interval.
    interval: Interval,
    interval_began: Instant,
    /// Least delay of the first interval: what drift is measured from.
    first_least_s: Option<f64>,
    /// The camera's clock less ours when its last sender report came, seconds.
    offset_s: Option<f64>,
}

/// Arrival less media time of the frames of one interval, seconds. Only differences between such values mean
/// something.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Interval {
    frames: u32,
    least_s: f64,
    most_s: f64,
}

impl Interval {
    const EMPTY: Interval = Interval { frames: 0, least_s: f64::INFINITY, most_s: f64::NEG_INFINITY };

    fn see(&mut self, arrival_s: f64, media_s: f64) {
        let delay_s = arrival_s - media_s;
        self.frames += 1;
        self.least_s = self.least_s.min(delay_s);
        self.most_s = self.most_s.max(delay_s);
    }
}

impl Punctuality {
    /// The session begins now.
    pub(super) fn new() -> Punctuality {
        let now = Instant::now();
        Punctuality {
            began: now,
            interval: Interval::EMPTY,
            interval_began: now,
            first_least_s: None,
            offset_s: None,
        }
    }

    /// A frame came, taken at `media_s` of the camera's media clock.
    pub(super) fn see_frame(&mut self, media_s: f64) {
        self.interval.see(self.began.elapsed().as_secs_f64(), media_s);
    }

    /// A report came: what time (NTP, 32.32 bits) the camera believes it is.
    pub(super) fn see_clock(&mut self, ntp: u64) {
        self.offset_s = Some(unix_seconds(ntp) - Wall::now().micros() as f64 / 1e6);
    }

    /// Writes its line, if it is time.
    pub(super) fn report_if_due(&mut self, losses: &PacketLosses) {
        if self.interval_began.elapsed() >= REPORT_INTERVAL {
            self.report(losses);
        }
    }

    fn report(&mut self, losses: &PacketLosses) {
        let Interval { frames, least_s, most_s } = std::mem::replace(&mut self.interval, Interval::EMPTY);
        self.interval_began = Instant::now();
        let first = *self.first_least_s.get_or_insert(least_s);
        let offset = self.offset_s.map_or_else(|| "unknown".to_owned(), |seconds| format!("{seconds:.3}"));
        log::debug!(
            "rtp frames={frames} latest_ms={:.1} drift_ms={:.1} lost_packets={} refused_packets={} camera_clock_off_s={offset}",
            (most_s - least_s) * 1e3,
            (least_s - first) * 1e3,
            losses.get(PacketLoss::Missing),
            losses.refused(),
        );
    }
}

/// Seconds since 1970 of an NTP time stamp (32.32 fixed point since 1900).
fn unix_seconds(ntp: u64) -> f64 {
    ntp as f64 / f64::from(1u32 << 16) / f64::from(1u32 << 16) - NTP_TO_UNIX_S
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_holds_least_and_most_delay() {
        let mut interval = Interval::EMPTY;
        for (arrival_s, media_s) in [(10.0, 0.0), (10.25, 0.04), (10.08, 0.08), (10.5, 0.12)] {
            interval.see(arrival_s, media_s);
        }
        assert_eq!(interval.frames, 4);
        assert!(
            (interval.least_s - 10.0).abs() < 1e-9 && (interval.most_s - 10.38).abs() < 1e-9,
            "{interval:?}"
        );
    }

    #[test]
    fn ntp_time_is_read_as_unix_time() {
        assert_eq!(unix_seconds(2_208_988_800 << 32), 0.0);
        assert_eq!(unix_seconds((2_208_988_801 << 32) + (1 << 31)), 1.5);
    }
}
