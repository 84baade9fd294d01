//! How long to wait before a source is tried again.

use std::time::Duration;

/// Longest pause between attempts: a camera that is back is seen within half a minute.
const MAX_DELAY: Duration = Duration::from_secs(30);
/// Shortest pause after the source refused the credentials: cameras lock the account after a few quick
/// failures.
const UNAUTHORISED_DELAY: Duration = Duration::from_secs(10);
/// Pauses before a source that delivered frames is opened again: at once, and a little later each time where
/// it breaks again and again after a few frames. Opening takes some 50 ms more.
const AFTER_FRAMES: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(150), Duration::from_millis(400)];
/// A source that delivered frames for this long had recovered.
const RECOVERED_AFTER: Duration = Duration::from_secs(10);

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Frames came, for so long.
    Played(Duration),
    /// It could not be opened, or gave no frame.
    Failed,
    /// It refused the credentials.
    Unauthorised,
}

/// Doubling delays with jitter, so that cameras that died together are not asked together.
#[derive(Debug)]
pub(super) struct Backoff {
    start: Duration,
    next: Option<Duration>,
    /// Losses in a row, each soon after its first frames.
    losses: usize,
    seed: u64,
}

impl Backoff {
    /// `start`: the delay after the first failed attempt (`INFERENCE_PIPELINE_RESTART_ATTEMPT_DELAY`).
    pub(super) fn new(start: Duration, seed: u64) -> Backoff {
        Backoff { start: start.min(MAX_DELAY), next: None, losses: 0, seed: seed | 1 }
    }

    /// The source answers again.
    pub(super) fn reset(&mut self) {
        self.next = None;
    }

    /// The pause before the next attempt. Growing ones are for what never played.
    pub(super) fn delay(&mut self, outcome: Outcome) -> Duration {
        if let Outcome::Played(time) = outcome {
            self.next = None;
            self.losses = if time >= RECOVERED_AFTER { 0 } else { self.losses + 1 };
            let last = AFTER_FRAMES.len() - 1;
            let delay =
                AFTER_FRAMES.get(self.losses.saturating_sub(1).min(last)).copied().unwrap_or_default();
            return delay.mul_f64(0.8 + 0.2 * self.random());
        }
        let delay = self.next.unwrap_or(self.start);
        self.next = Some((delay * 2).min(MAX_DELAY));
        // ± 20 %, but never below the floor for refused credentials.
        match outcome {
            Outcome::Unauthorised => delay.max(UNAUTHORISED_DELAY).mul_f64(1.0 + 0.2 * self.random()),
            _ => delay.mul_f64(0.8 + 0.4 * self.random()),
        }
    }

    /// 0..1 (xorshift64: jitter needs spread, not secrecy).
    fn random(&mut self) -> f64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_to_the_limit_with_jitter() {
        let mut backoff = Backoff::new(Duration::from_secs(1), 7);
        for expected in [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
            let delay = backoff.delay(Outcome::Failed).as_secs_f64();
            assert!((expected * 0.8..=expected * 1.2).contains(&delay), "{delay} for {expected}");
        }
        backoff.reset();
        assert!(backoff.delay(Outcome::Failed) < Duration::from_secs(2));
    }

    #[test]
    fn what_has_played_is_opened_again_at_once_however_often_and_what_fails_then_begins_anew() {
        let mut backoff = Backoff::new(Duration::from_secs(1), 7);
        for _ in 0..5 {
            backoff.delay(Outcome::Failed);
        }
        assert!(backoff.delay(Outcome::Played(Duration::from_secs(60))) <= AFTER_FRAMES[0]);
        for _ in 0..20 {
            assert!(backoff.delay(Outcome::Played(Duration::from_millis(40))) <= Duration::from_millis(400));
        }
        assert!(backoff.delay(Outcome::Played(Duration::from_millis(40))) >= Duration::from_millis(300));
        assert!(backoff.delay(Outcome::Failed) < Duration::from_millis(1300));
        assert!(backoff.delay(Outcome::Failed) < Duration::from_millis(2500));
    }

    #[test]
    fn refused_credentials_wait_at_least_ten_seconds() {
        let mut backoff = Backoff::new(Duration::from_secs(1), 7);
        for _ in 0..20 {
            assert!(backoff.delay(Outcome::Unauthorised) >= UNAUTHORISED_DELAY);
        }
    }
}
