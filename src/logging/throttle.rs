//! Bounds how many lines one origin (a camera, a client's address) writes: a camera that flaps or a client in
//! a loop must not fill the log, nor hide what the others say.

use std::time::{Duration, Instant};

/// Lines that may come at once: what a source has to say from its first attempt to its first datagram,
/// several times over.
const BURST: u32 = 16;

/// After a burst a line may be written this often: six a minute show that it goes on.
const REFILL: Duration = Duration::from_secs(10);

/// How many lines one origin may still write. A token bucket.
#[derive(Debug, Clone)]
pub struct Throttle {
    left: u32,
    /// When the last token came in.
    refilled: Instant,
    suppressed: u64,
}

impl Throttle {
    /// Nothing was written yet.
    pub fn new(now: Instant) -> Throttle {
        Throttle { left: BURST, refilled: now, suppressed: 0 }
    }

    /// Whether a line may be written at `now`: if so, how many before it were not.
    pub fn admit(&mut self, now: Instant) -> Option<u64> {
        let due = now.saturating_duration_since(self.refilled).as_secs() / REFILL.as_secs();
        if due > 0 {
            let due = u32::try_from(due).unwrap_or(BURST).min(BURST);
            self.left = (self.left + due).min(BURST);
            // What is over of an interval is not lost; a full bucket has nothing to count.
            self.refilled = if self.left == BURST { now } else { self.refilled + REFILL * due };
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                if self.left == BURST {
                    self.refilled = now;
                }
                self.left = left;
                Some(std::mem::take(&mut self.suppressed))
            }
            None => {
                self.suppressed += 1;
                None
            }
        }
    }
}

/// ` suppressed=N` where lines before this one were not written.
pub fn suppressed(count: u64) -> impl std::fmt::Display {
    struct Words(u64);
    impl std::fmt::Display for Words {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            if self.0 > 0 { write!(f, " suppressed={}", self.0) } else { Ok(()) }
        }
    }
    Words(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_becomes_a_burst_and_then_six_lines_a_minute() {
        let start = Instant::now();
        let mut throttle = Throttle::new(start);
        // Ten lines a second for ten minutes.
        let written: Vec<u64> = (0..6000)
            .filter_map(|tenth| throttle.admit(start + Duration::from_millis(tenth * 100)))
            .collect();
        assert_eq!(written.len() as u32, BURST + 59, "{written:?}");
        assert_eq!(written.iter().take(BURST as usize).sum::<u64>(), 0, "nothing is held back of a burst");
        // Every line that was not written is counted in the next that was, but for those after the last.
        assert!(written.iter().sum::<u64>() + written.len() as u64 >= 5900, "{written:?}");
        let mut rested = throttle.clone();
        let later = start + Duration::from_secs(10_000);
        assert_eq!((0..100).filter_map(|_| rested.admit(later)).count() as u32, BURST);
        // A clock that stands still or runs back is no reason to write more.
        assert_eq!((0..100).filter_map(|_| rested.admit(start)).count(), 0);
    }
}
