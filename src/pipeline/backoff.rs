//! How long to wait before a source is tried again.

use std::time::Duration;

/// Longest pause between attempts: a camera that is back is seen within half a minute.
const MAX_DELAY: Duration = Duration::from_secs(30);
/// Shortest pause after the source refused the credentials: cameras lock the account after a few quick failures.
const UNAUTHORISED_DELAY: Duration = Duration::from_secs(10);
/// A source that ran this long had recovered: the next loss starts from the shortest delay again.
pub(super) const RECOVERED_AFTER: Duration = Duration::from_secs(10);
/// After the first loss of a running source the first attempt comes at once, within this pause.
const FIRST_DELAY: Duration = Duration::from_millis(200);

/// Doubling delays with jitter, so that cameras that died together are not asked together.
#[derive(Debug)]
pub(super) struct Backoff {
    start: Duration,
    next: Option<Duration>,
    seed: u64,
}

impl Backoff {
    /// `start`: the delay after the first failed attempt (`INFERENCE_PIPELINE_RESTART_ATTEMPT_DELAY`).
    pub(super) fn new(start: Duration, seed: u64) -> Backoff {
        Backoff { start: start.min(MAX_DELAY), next: None, seed: seed | 1 }
    }

    /// The source had recovered.
    pub(super) fn reset(&mut self) {
        self.next = None;
    }

    /// The pause before the next attempt. `lost`: the source had been open; `unauthorised`: it refused the credentials.
    pub(super) fn delay(&mut self, lost: bool, unauthorised: bool) -> Duration {
        let first = if lost { FIRST_DELAY } else { self.start };
        let delay = self.next.unwrap_or(first);
        self.next = Some(if self.next.is_none() && lost { self.start } else { (delay * 2).min(MAX_DELAY) });
        let delay = if unauthorised { delay.max(UNAUTHORISED_DELAY) } else { delay };
        // ± 20 %, but never below the floor for refused credentials.
        delay.mul_f64(if unauthorised { 1.0 + 0.2 * self.random() } else { 0.8 + 0.4 * self.random() })
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
            let delay = backoff.delay(false, false).as_secs_f64();
            assert!((expected * 0.8..=expected * 1.2).contains(&delay), "{delay} for {expected}");
        }
        backoff.reset();
        assert!(backoff.delay(false, false) < Duration::from_secs(2));
    }

    #[test]
    fn a_loss_is_retried_at_once_and_then_from_the_start() {
        let mut backoff = Backoff::new(Duration::from_secs(1), 7);
        assert!(backoff.delay(true, false) < Duration::from_millis(300));
        assert!(backoff.delay(false, false) < Duration::from_millis(1300));
        assert!(backoff.delay(false, false) < Duration::from_millis(2500));
    }

    #[test]
    fn refused_credentials_wait_at_least_ten_seconds() {
        let mut backoff = Backoff::new(Duration::from_secs(1), 7);
        for _ in 0..20 {
            assert!(backoff.delay(false, true) >= UNAUTHORISED_DELAY);
        }
    }
}
