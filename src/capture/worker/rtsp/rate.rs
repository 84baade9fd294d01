//! The frame rate of a camera that declares none, from its time stamps.

/// Time stamps seen so far. B-frames come out of order: only the range counts.
#[derive(Debug, Default)]
pub(super) struct Rate {
    frames: u32,
    earliest: f64,
    latest: f64,
}

impl Rate {
    /// A frame was taken then, seconds.
    pub(super) fn see(&mut self, at: f64) {
        (self.earliest, self.latest) =
            if self.frames == 0 { (at, at) } else { (self.earliest.min(at), self.latest.max(at)) };
        self.frames += 1;
    }

    /// Frames per second, to a tenth; `None` before two frames at different times.
    pub(super) fn measured(&self) -> Option<f64> {
        let seconds = self.latest - self.earliest;
        let intervals = f64::from(self.frames.saturating_sub(1));
        (intervals > 0.0 && seconds > 0.0).then(|| (intervals / seconds * 10.0).round() / 10.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_time_stamps_gives_the_rate() {
        let mut rate = Rate::default();
        assert_eq!(rate.measured(), None);
        for at in [1.0, 1.12, 1.04, 1.08, 1.24, 1.16, 1.2] {
            rate.see(at);
        }
        assert_eq!(rate.measured(), Some(25.0));
        let mut frozen = Rate::default();
        frozen.see(1.0);
        frozen.see(1.0);
        assert_eq!(frozen.measured(), None);
    }
}
