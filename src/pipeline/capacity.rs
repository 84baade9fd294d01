//! What all pipelines together ask of the machine's cores. Who asks for more than is left is told so: frames
//! will be left out, and nothing else would say why.
//!
//! Counted is what inference takes: what a frame took of one core in a run that kept to one, times the frames a
//! second that a camera has and its pipeline wants. Decoding comes on top.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// Frames of a connection before it counts: by then the model's first runs have told what it takes.
pub(super) const FRAMES_BEFORE: u32 = 30;

/// Most frames a second that a source is believed to have: what it says of itself may be anything.
const MOST_FPS: f64 = 240.0;

/// See the module. Single-threaded, like everything on the event loop.
#[derive(Debug)]
pub(super) struct Capacity {
    cores: usize,
    /// Cores that are asked for.
    asked: Cell<f64>,
}

/// One source's part; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Claim {
    capacity: Rc<Capacity>,
    cores: f64,
}

impl Capacity {
    /// Of as many threads as compute at once.
    pub(super) fn new(threads: usize) -> Rc<Capacity> {
        let there = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Rc::new(Capacity { cores: threads.clamp(1, there), asked: Cell::new(0.0) })
    }

    /// A source asks for `fps` frames a second of a model that takes `of_frame` of one core. With the words for
    /// its pipeline where that is more than is left.
    pub(super) fn claim(self: &Rc<Self>, fps: f64, of_frame: Duration) -> (Claim, Option<String>) {
        let fps = if fps.is_finite() { fps.clamp(0.0, MOST_FPS) } else { 0.0 };
        let before = self.asked.get();
        let cores = fps * of_frame.as_secs_f64();
        self.asked.set(before + cores);
        let claim = Claim { capacity: self.clone(), cores };
        let words = (before + cores > self.cores as f64).then(|| {
            let milliseconds = of_frame.as_secs_f64() * 1e3;
            format!(
                "{fps:.0} frames a second of a model that takes {milliseconds:.1} ms a frame are {cores:.1} cores, and other \
                 sources ask for {before:.1} of {}: frames will be left out (a lower max_fps or a smaller model takes less)",
                self.cores
            )
        });
        (claim, words)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.capacity.asked.set((self.capacity.asked.get() - self.cores).max(0.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Duration = Duration::from_millis(20);

    #[test]
    fn who_asks_for_more_than_is_left_is_told() {
        let capacity = Rc::new(Capacity { cores: 1, asked: Cell::new(0.0) });
        let (first, words) = capacity.claim(30.0, FRAME);
        assert_eq!(words, None, "0.6 of a core");
        let (second, words) = capacity.claim(30.0, FRAME);
        let words = words.unwrap_or_default();
        assert!(words.contains("30 frames a second") && words.contains("0.6 cores"), "{words}");
        assert!(words.contains("20.0 ms") && words.contains("0.6 of 1"), "{words}");
        drop(first);
        let (_third, words) = capacity.claim(15.0, FRAME);
        assert_eq!(words, None, "0.9 of a core");
        drop(second);
    }

    #[test]
    fn what_a_camera_says_of_itself_is_bounded() {
        let capacity = Rc::new(Capacity { cores: 1, asked: Cell::new(0.0) });
        for fps in [f64::NAN, f64::INFINITY, -5.0] {
            assert_eq!(capacity.claim(fps, FRAME).0.cores, 0.0);
        }
        assert_eq!(capacity.claim(90_000.0, FRAME).0.cores, MOST_FPS * 0.02);
        assert_eq!(capacity.asked.get(), 0.0);
    }
}
