//! What a pipeline counts and measures beyond the reference's report: for metrics.

use super::PacketLosses;
use crate::sink::Queue;
use std::rc::Rc;
use std::time::Duration;

/// Upper bounds of a histogram's buckets, seconds: from a tiny model on a fast machine to a frame that waited
/// for a late camera.
pub const BUCKETS_S: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// How long something took, over all times it happened. Its size is fixed and observing allocates nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    /// Observations in each bucket alone.
    counts: [u64; BUCKETS_S.len()],
    /// Observations beyond the last bound.
    beyond: u64,
    /// All of them added up, seconds.
    sum_s: f64,
}

impl Histogram {
    /// Counts one observation into its bucket.
    pub fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket =
            BUCKETS_S.iter().position(|bound| seconds <= *bound).and_then(|index| self.counts.get_mut(index));
        *bucket.unwrap_or(&mut self.beyond) += 1;
        self.sum_s += seconds;
    }

    /// Each bound with the number of observations up to it.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        BUCKETS_S.into_iter().zip(self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        }))
    }

    /// How many observations were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.beyond
    }

    /// Seconds of all observations together.
    pub fn sum_s(&self) -> f64 {
        self.sum_s
    }
}

/// A pipeline's last ten minutes, in steps, oldest first. The step under way is not in it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    /// How long a step is.
    pub interval_s: u64,
    /// Frames of all sources.
    pub frames_per_second: Vec<f64>,
    /// From a frame's timestamp until its prediction was ready, seconds, mean; `None`: no frame.
    pub latency_s: Vec<Option<f64>>,
}

/// Of one pipeline, since it was created.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Detections that did not fit into their datagram.
    pub omitted_detections: u64,
    /// Datagrams handed to the kernel.
    pub datagrams_sent: u64,
    /// Datagrams lost: no address, no room, refused.
    pub datagrams_failed: u64,
    /// Times that the receiver's machine said that nobody listens on that port.
    pub datagrams_refused: u64,
    /// What the model can find, and the most of each on one picture of the last second or two; `None` before
    /// it is loaded.
    pub objects: Option<(Rc<[String]>, Vec<u32>)>,
    /// One per sink whose messages may wait.
    pub queues: Vec<Queue>,
    /// One per source, in source order.
    pub sources: Vec<SourceFigures>,
}

/// Of one source, over all its workers.
#[derive(Debug, Clone, Default)]
pub struct SourceFigures {
    /// No frame will come any more: a file is over, or was given up.
    pub finished: bool,
    /// Workers started: connections, and attempts at one.
    pub workers: u64,
    /// Frames that workers delivered, or left out because fewer are wanted.
    pub frames: u64,
    /// Frames thrown away by the worker because no slot of the ring was free.
    pub frames_without_slot: u64,
    /// Frames thrown away for a newer one, or because the source was muted or lost.
    pub frames_superseded: u64,
    /// Pictures made for who looked.
    pub pictures: u64,
    /// Of those, the ones that came too early for `max_fps`; not all of them were decoded.
    pub frames_early: u64,
    /// Frames that could not be decoded.
    pub frames_undecodable: u64,
    /// Packets that went unused.
    pub packets: PacketLosses,
    /// From a frame's timestamp (stream: arrival; file: when decoding began) until its datagram was sent.
    pub latency: Histogram,
    /// Pre-processing, model and post-processing.
    pub inference: Histogram,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_their_bounds_belong_to_them() {
        let mut histogram = Histogram::default();
        for millis in [0, 1, 10, 11, 60_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let below =
            |bound: f64| histogram.cumulative().find(|(upper, _)| *upper == bound).map(|(_, count)| count);
        assert_eq!(
            [below(0.001), below(0.01), below(0.025), below(30.0)],
            [Some(2), Some(3), Some(4), Some(4)]
        );
        assert_eq!(histogram.count(), 5);
        assert!((histogram.sum_s() - 60.022).abs() < 1e-9);
        assert!(BUCKETS_S.is_sorted());
    }
}
