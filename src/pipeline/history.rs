//! A pipeline's last ten minutes in steps of five seconds: for who begins to look after something has
//! happened.

use crate::command::History;
use std::time::{Duration, Instant};

/// How long one step is: what a small chart can show of ten minutes.
const STEP: Duration = Duration::from_secs(5);
/// Steps that are kept: ten minutes, in less than 1 KiB.
const STEPS: usize = 120;

/// What happened in one step.
#[derive(Debug, Clone, Copy, Default)]
struct Step {
    frames: u32,
    /// Of all frames together, seconds.
    latency_s: f32,
}

/// The last ten minutes of a pipeline, in steps. Nothing wakes for it: steps without frames are made up for
/// when somebody asks, or the next frame comes.
#[derive(Debug)]
pub(super) struct Steps {
    began: Instant,
    /// How many steps have begun since then; the last one is under way.
    count: u64,
    /// A ring: step `n` lies at `n % STEPS`.
    ring: Box<[Step; STEPS]>,
}

impl Steps {
    /// A history without any step yet.
    pub(super) fn new(now: Instant) -> Steps {
        Steps { began: now, count: 1, ring: Box::new([Step::default(); STEPS]) }
    }

    /// Goes on to the step of this moment.
    fn advance(&mut self, now: Instant) {
        let now = (now.saturating_duration_since(self.began).as_secs() / STEP.as_secs()).saturating_add(1);
        // More than a whole round empties each once.
        for step in self.count..now.min(self.count.saturating_add(STEPS as u64)) {
            if let Some(step) = self.ring.get_mut((step % STEPS as u64) as usize) {
                *step = Step::default();
            }
        }
        self.count = self.count.max(now);
    }

    /// A frame is done, so long after it was taken.
    pub(super) fn record(&mut self, now: Instant, latency_s: f64) {
        self.advance(now);
        if let Some(step) = self.ring.get_mut(((self.count - 1) % STEPS as u64) as usize) {
            step.frames = step.frames.saturating_add(1);
            // A clock that was set back in between is no latency.
            step.latency_s += latency_s.max(0.0) as f32;
        }
    }

    /// The steps that are over, oldest first.
    pub(super) fn report(&mut self, now: Instant) -> History {
        self.advance(now);
        // The step under way lies where the oldest one was.
        let over = self.count - 1;
        let kept = over.min(STEPS as u64 - 1);
        let steps = (over - kept..over).filter_map(|step| self.ring.get((step % STEPS as u64) as usize));
        let mut history = History { interval_s: STEP.as_secs(), ..History::default() };
        for step in steps {
            history.frames_per_second.push(f64::from(step.frames) / STEP.as_secs_f64());
            history
                .latency_s
                .push((step.frames > 0).then(|| f64::from(step.latency_s) / f64::from(step.frames)));
        }
        history
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_in_order_and_ten_minutes_are_kept() {
        let began = Instant::now();
        let at = |seconds: f64| began + Duration::from_secs_f64(seconds);
        let mut steps = Steps::new(began);
        assert!(steps.report(at(4.9)).frames_per_second.is_empty(), "the step under way is not over");
        for tenth in 0..100 {
            steps.record(at(f64::from(tenth) / 10.0), 0.25);
        }
        let history = steps.report(at(10.0));
        assert_eq!((history.interval_s, history.frames_per_second), (5, vec![10.0, 10.0]));
        assert_eq!(history.latency_s, [Some(0.25), Some(0.25)]);
        // Silence, then one frame.
        steps.record(at(27.0), -1.0);
        let history = steps.report(at(31.0));
        assert_eq!(history.frames_per_second, [10.0, 10.0, 0.0, 0.0, 0.0, 0.2]);
        assert_eq!(history.latency_s, [Some(0.25), Some(0.25), None, None, None, Some(0.0)]);
        // The oldest go, and a silence of days leaves nothing of before.
        steps.record(at(601.0), 1.0);
        let history = steps.report(at(606.0));
        assert_eq!(history.frames_per_second.len(), STEPS - 1);
        assert_eq!(history.frames_per_second.last(), Some(&0.2));
        assert_eq!(
            history.frames_per_second.first(),
            Some(&0.0),
            "the second step was 10 a second, the third none"
        );
        let history = steps.report(at(1e6));
        assert_eq!(history.frames_per_second, [0.0; STEPS - 1]);
        // Clocks that stand still, or are asked out of order.
        steps.record(at(1e6), 1.0);
        steps.record(at(10.0), 1.0);
        assert_eq!(steps.report(at(0.0)).frames_per_second.len(), STEPS - 1);
    }
}
