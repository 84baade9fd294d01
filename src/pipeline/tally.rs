//! How many objects of each class there were a moment ago: for those who look every second and shall not miss
//! who walks by.

use crate::detection::Detection;
use std::time::{Duration, Instant};

/// A window: a count is told for one to two of them.
const WINDOW: Duration = Duration::from_secs(1);

/// How many objects of each class were seen at once, of late. Its size is that of the model's list of
/// classes; counting allocates nothing.
#[derive(Debug)]
pub(super) struct Tally {
    began: Instant,
    /// On the picture that is being counted.
    picture: Vec<u32>,
    /// The most on one picture of this window, and of the one before.
    now: Vec<u32>,
    before: Vec<u32>,
}

impl Tally {
    /// A tally that has counted nothing.
    pub(super) fn new(classes: usize, at: Instant) -> Tally {
        Tally { began: at, picture: vec![0; classes], now: vec![0; classes], before: vec![0; classes] }
    }

    /// Counts the detections of one picture, by class.
    pub(super) fn count(&mut self, detections: &[Detection], at: Instant) {
        self.turn(at);
        self.picture.fill(0);
        for detection in detections {
            if let Some(count) = self.picture.get_mut(detection.class_id as usize) {
                *count += 1;
            }
        }
        for (most, count) in self.now.iter_mut().zip(&self.picture) {
            *most = (*most).max(*count);
        }
    }

    /// The most of each class on one picture of the last second or two.
    pub(super) fn most(&mut self, at: Instant) -> Vec<u32> {
        self.turn(at);
        self.now.iter().zip(&self.before).map(|(now, before)| *now.max(before)).collect()
    }

    fn turn(&mut self, at: Instant) {
        let age = at.saturating_duration_since(self.began);
        if age < WINDOW {
            return;
        }
        std::mem::swap(&mut self.now, &mut self.before);
        self.now.fill(0);
        if age >= WINDOW * 2 {
            self.before.fill(0);
        }
        self.began = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_walks_by_is_seen_by_who_looks_every_second_and_forgotten_after_two() {
        let start = Instant::now();
        let one =
            |class_id| Detection { left: 0.0, top: 0.0, right: 1.0, bottom: 1.0, confidence: 0.5, class_id };
        let at = |millis| start + Duration::from_millis(millis);
        let mut tally = Tally::new(2, start);
        tally.count(&[one(0), one(0), one(1), one(99)], at(100));
        tally.count(&[one(1)], at(200));
        assert_eq!(tally.most(at(900)), [2, 1]);
        tally.count(&[], at(1100));
        assert_eq!(tally.most(at(1900)), [2, 1]);
        assert_eq!(tally.most(at(2200)), [0, 0]);
        tally.count(&[one(1)], at(2300));
        assert_eq!(tally.most(at(60_000)), [0, 0]);
    }
}
