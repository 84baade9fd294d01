//! `max_fps`: one limiter per pipeline, after batching. Reference.md §4.4.

use std::time::{Duration, Instant};

/// Longest interval between turns. A rate below one frame a day is a mistake, and would overflow a
/// `Duration`.
const MAX_INTERVAL_S: f64 = 86_400.0;

/// Keeps turns (one frame of each source) at least `sources / max_fps` apart.
#[derive(Debug)]
pub(super) struct Limiter {
    interval: Duration,
    /// When the next turn may go; `None` before the first.
    next: Option<Instant>,
}

impl Limiter {
    /// `max_fps` frames per second over all `sources` together; `max_fps` is finite and above 0.
    pub(super) fn new(max_fps: f64, sources: usize) -> Limiter {
        Limiter {
            interval: Duration::from_secs_f64((sources as f64 / max_fps).clamp(0.0, MAX_INTERVAL_S)),
            next: None,
        }
    }

    /// How long the next turn has to wait; zero when it may go now.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        self.next.map_or(Duration::ZERO, |next| next.saturating_duration_since(now))
    }

    /// A turn went. The schedule is kept, so that the mean rate is exact, unless it lies more than one
    /// interval behind.
    pub(super) fn went(&mut self, now: Instant) {
        let earliest = now.checked_sub(self.interval).unwrap_or(now);
        let due = self.next.map_or(now, |next| next.max(earliest));
        self.next = Some(due + self.interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames that pass out of `fps` frames per second for `seconds`, early ones dropped.
    fn passed(limiter: &mut Limiter, fps: u32, seconds: u32) -> usize {
        let start = Instant::now();
        let instants = (0..fps * seconds).map(|i| start + Duration::from_secs(1) * i / fps);
        instants
            .filter(|now| {
                let go = limiter.wait(*now).is_zero();
                if go {
                    limiter.went(*now);
                }
                go
            })
            .count()
    }

    #[test]
    fn mean_rate_is_kept() {
        assert!((99..=101).contains(&passed(&mut Limiter::new(10.0, 1), 30, 10)));
        assert!((159..=161).contains(&passed(&mut Limiter::new(16.0, 1), 30, 10)));
    }

    #[test]
    fn two_sources_share_the_rate() {
        assert!((49..=51).contains(&passed(&mut Limiter::new(10.0, 2), 30, 10)));
    }

    #[test]
    fn a_pause_is_not_made_up_for() {
        let mut limiter = Limiter::new(10.0, 1);
        let start = Instant::now();
        limiter.went(start);
        let later = start + Duration::from_secs(60);
        limiter.went(later);
        limiter.went(later);
        assert!(limiter.wait(later) > Duration::ZERO);
    }

    #[test]
    fn an_absurdly_low_rate_does_not_overflow() {
        assert_eq!(Limiter::new(f64::MIN_POSITIVE, 16).interval, Duration::from_secs(86_400));
    }
}
