//! What a pipeline remembers for `status`: updates, latencies, throughput. Reference.md §3.

use crate::clock::Wall;
use crate::command::{Context, Event, LatencyReport, Severity, Update};
use std::time::{Duration, Instant};

/// Updates kept per pipeline, as many as the reference; about 100 bytes each.
pub(super) const MAX_UPDATES: usize = 512;
/// How far back a repeated error is looked for: in a pipeline of many cameras one of each may stand between.
const FOLD_WINDOW: usize = 32;
/// Inferences a latency mean is taken over, as in the reference.
const LATENCY_SAMPLES: usize = 64;
/// Frames the throughput is taken over, as in the reference.
const THROUGHPUT_SAMPLES: usize = 30;
/// Without a frame for this long the throughput is 0.
const THROUGHPUT_SILENCE: Duration = Duration::from_secs(5);

/// The last values of something, overwriting the oldest.
type Window<T, const N: usize> = heapless::HistoryBuf<T, N>;

/// The ring of updates.
#[derive(Debug, Default)]
pub(super) struct Updates {
    ring: Box<heapless::Deque<Update, MAX_UPDATES>>,
}

impl Updates {
    /// Adds an update and returns it; the oldest goes when the ring is full.
    pub(super) fn push(
        &mut self,
        timestamp: Wall,
        severity: Severity,
        context: Context,
        event: Event,
    ) -> Option<&Update> {
        if self.ring.is_full() {
            self.ring.pop_front();
        }
        self.ring.push_back(Update { timestamp, severity, event, context, count: 1 }).ok()?;
        self.ring.back()
    }

    /// Adds an update, or counts it into an equal one that is still among the newest: the attempts of a dead
    /// camera become one entry and cannot flood the ring.
    pub(super) fn push_folded(
        &mut self,
        timestamp: Wall,
        severity: Severity,
        context: Context,
        event: Event,
    ) -> Option<&Update> {
        let Some(back) = self.ring.iter().rev().take(FOLD_WINDOW).position(|update| update.event == event)
        else {
            return self.push(timestamp, severity, context, event);
        };
        let update = self.ring.get_mut(self.ring.len() - 1 - back)?;
        update.count = update.count.saturating_add(1);
        update.timestamp = timestamp;
        Some(update)
    }

    /// The updates, the oldest first.
    pub(super) fn to_vec(&self) -> Vec<Update> {
        self.ring.iter().cloned().collect()
    }
}

/// Latencies of one source, seconds: decoding, inference, end to end.
#[derive(Debug)]
pub(super) struct Latencies(Window<[f64; 3], LATENCY_SAMPLES>);

impl Latencies {
    /// No latency has been measured yet.
    pub(super) fn new() -> Latencies {
        Latencies(Window::new())
    }

    /// One inference: the frame's stamp, when a thread took it, how long it ran.
    pub(super) fn record(&mut self, stamp: Wall, started: Wall, took: Duration) {
        let waited = started.seconds_since(stamp);
        self.0.write([waited, took.as_secs_f64(), waited + took.as_secs_f64()]);
    }

    /// Means over the window; all absent before the first inference.
    pub(super) fn report(&self) -> LatencyReport {
        if self.0.is_empty() {
            return LatencyReport::default();
        }
        let mut sums = [0.0; 3];
        for sample in self.0.oldest_ordered() {
            sums.iter_mut().zip(sample).for_each(|(sum, value)| *sum += value);
        }
        let [frame_decoding, inference, end_to_end] = sums.map(|sum| Some(sum / self.0.len() as f64));
        LatencyReport { frame_decoding, inference, end_to_end }
    }
}

/// Frames per second over the last frames of all sources together.
#[derive(Debug)]
pub(super) struct Throughput(Window<Instant, THROUGHPUT_SAMPLES>);

impl Throughput {
    /// No frame has been counted yet.
    pub(super) fn new() -> Throughput {
        Throughput(Window::new())
    }

    /// A prediction is ready.
    pub(super) fn record(&mut self, now: Instant) {
        self.0.write(now);
    }

    /// `(n − 1) / (last − first)` while frames come; falls with the silence after them, to 0 after
    /// [`THROUGHPUT_SILENCE`].
    pub(super) fn report(&self, now: Instant) -> f64 {
        let (Some(first), Some(last)) = (self.0.oldest_ordered().next(), self.0.recent()) else {
            return 0.0;
        };
        let intervals = self.0.len().saturating_sub(1) as f64;
        let span = last.duration_since(*first).as_secs_f64();
        let silence = now.saturating_duration_since(*last);
        if intervals == 0.0 || span <= 0.0 || silence > THROUGHPUT_SILENCE {
            return 0.0;
        }
        // Twice the usual gap is jitter; beyond it the silence counts as time without frames.
        let excess = (silence.as_secs_f64() - 2.0 * span / intervals).max(0.0);
        intervals / (span + excess)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_keeps_the_newest() {
        let mut updates = Updates::default();
        for source_id in 0..MAX_UPDATES as u32 + 10 {
            let event = Event::ConsumptionStarted { source_id };
            updates.push(Wall::from_micros(0), Severity::Info, Context::Source, event);
        }
        let all = updates.to_vec();
        assert_eq!(all.len(), MAX_UPDATES);
        assert_eq!(all[0].event, Event::ConsumptionStarted { source_id: 10 });
    }

    #[test]
    fn repeated_errors_are_one_update_with_a_count() {
        let mut updates = Updates::default();
        let error =
            |message: &str| Event::SourceError { source_id: 0, error_type: "X", message: message.into() };
        for micros in 0..50 {
            updates.push_folded(Wall::from_micros(micros), Severity::Error, Context::Source, error("gone"));
            updates.push_folded(Wall::from_micros(micros), Severity::Error, Context::Source, error("other"));
        }
        let all = updates.to_vec();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].count, all[0].timestamp.micros()), (50, 49));
    }

    #[test]
    fn latencies_are_means_over_the_last_64() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.report(), LatencyReport::default());
        for i in 0..100 {
            let wait = if i < 36 { 1_000_000 } else { 500_000 };
            latencies.record(Wall::from_micros(0), Wall::from_micros(wait), Duration::from_millis(250));
        }
        let report = latencies.report();
        assert_eq!(report.frame_decoding, Some(0.5));
        assert_eq!(report.inference, Some(0.25));
        assert_eq!(report.end_to_end, Some(0.75));
    }

    #[test]
    fn throughput_decays_when_nothing_comes() {
        let mut throughput = Throughput::new();
        let start = Instant::now();
        assert_eq!(throughput.report(start), 0.0);
        for i in 0..60 {
            throughput.record(start + Duration::from_millis(100) * i);
        }
        let last = start + Duration::from_millis(5900);
        assert!((throughput.report(last) - 10.0).abs() < 1e-9);
        assert!(throughput.report(last + Duration::from_secs(3)) < 6.0);
        assert_eq!(throughput.report(last + Duration::from_secs(6)), 0.0);
    }
}
