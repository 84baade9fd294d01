//! Which of the pictures of a stream are wanted, by their number in presentation order.

use crate::capture::Rate;
use crate::clock::Wall;
use heapless::Deque;
use std::time::{Duration, Instant};

/// Arrivals by which a rate is measured: two seconds of most cameras, so that a stall and the burst after it are
/// one mean.
const ARRIVALS: usize = 64;

/// Fewer arrivals, or a shorter time, measure nothing.
const MIN_ARRIVALS: usize = 8;
const MIN_TIME: Duration = Duration::from_millis(400);

/// Longest pause between two arrivals that counts as one of a mean: after it, the rate is measured anew.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Above this part of what comes, all of it is wanted: a rate is measured no better.
const NEARLY_ALL: f64 = 0.95;

/// So many intervals after the picture that was taken last, the next one is taken whatever was counted. Never before it
/// is counted, as long as pictures come at one rate.
const LATE: f64 = 1.2;

/// From here on a picture is due: a whole one, less what adding up parts that are no binary fractions costs.
const DUE: f64 = 1.0 - 1e-9;

/// A stride that is off a whole number by less than this part of it is one: those pictures are taken then that were
/// taken first, which others need anyway, and not one further now and then because a rate is never measured exactly.
const NEARLY_WHOLE: f64 = 0.01;

/// Sources that are to be alike give their pictures at multiples of the interval of the machine's clock: this part
/// of what one is off is made good each time.
const DRIFT_PART: f64 = 0.2;

/// Which part of a stream's pictures is wanted, and how much of the next one has come together.
#[derive(Debug)]
pub(in crate::capture::worker) struct Selection {
    /// Of all pictures this part is wanted; 1: all.
    part: f64,
    /// How much of a wanted picture has come together; from 1 on, one is due.
    owed: f64,
    live: Option<Live>,
}

/// A stream, of which pictures are wanted by time.
#[derive(Debug)]
struct Live {
    wanted: Option<Rate>,
    declared_fps: f64,
    arrivals: Deque<Instant, ARRIVALS>,
    /// When a picture was taken last.
    taken: Option<Instant>,
}

impl Selection {
    /// Every picture of a file.
    pub(in crate::capture::worker) fn all() -> Selection {
        Selection { part: 1.0, owed: 0.0, live: None }
    }

    /// This part of the pictures of a file, from the first one on.
    pub(in crate::capture::worker) fn part(part: f64) -> Selection {
        Selection { part, owed: 1.0 - part, live: None }
    }

    /// A stream that says that it has so many frames per second (0: nothing). At first all are wanted.
    pub(in crate::capture::worker) fn stream(declared_fps: f64) -> Selection {
        let live = Live { wanted: None, declared_fps, arrivals: Deque::new(), taken: None };
        Selection { part: 1.0, owed: 1.0, live: Some(live) }
    }

    /// From now on so many frames of a stream are wanted; `None`: all.
    pub(in crate::capture::worker) fn want(&mut self, rate: Option<Rate>) {
        if let Some(live) = self.live.as_mut().filter(|live| live.wanted != rate) {
            live.wanted = rate;
            self.part = live.part();
        }
    }

    /// Arrivals pause here: what was measured before says nothing of what comes.
    pub(in crate::capture::worker) fn resume(&mut self) {
        if let Some(live) = &mut self.live {
            live.arrivals.clear();
        }
    }

    /// A picture has arrived.
    pub(in crate::capture::worker) fn came(&mut self, now: Instant) {
        let Some(live) = &mut self.live else { return };
        if live.arrivals.back().is_some_and(|last| now.saturating_duration_since(*last) > MAX_PAUSE) {
            live.arrivals.clear();
        }
        if live.arrivals.is_full() {
            live.arrivals.pop_front();
        }
        // There is room.
        let _ = live.arrivals.push_back(now);
        self.part = live.part();
    }

    /// Of so many pictures one is wanted.
    pub(super) fn stride(&self) -> f64 {
        1.0 / self.part
    }

    /// Not even one of so many pictures is wanted; `None`: it is not known of how many.
    pub(super) fn is_below(&self, pictures: Option<u64>) -> bool {
        // As many as are half a picture less: a rate is measured, and need not be whole.
        self.part < 1.0 && pictures.is_some_and(|pictures| 1.0 / self.part > pictures as f64 - 0.5)
    }

    /// Whether the picture that comes after all that wait is wanted. `before`: of each that waits, whether it can be
    /// taken.
    pub(super) fn takes(&self, before: impl Iterator<Item = bool>, now: Instant) -> bool {
        let (mut owed, mut is_next) = (self.owed, true);
        for can_be_taken in before {
            is_next = false;
            // Added up as it will be when they come.
            owed = after(owed + self.part, can_be_taken);
        }
        owed + self.part >= DUE || (is_next && self.is_late(now))
    }

    /// A picture that was left out has passed.
    pub(super) fn pass(&mut self) {
        self.owed = after(self.owed + self.part, false);
    }

    /// A picture came out: whether it is wanted.
    pub(super) fn takes_next(&mut self, now: Instant) -> bool {
        self.owed += self.part;
        if self.owed < DUE && !self.is_late(now) {
            return false;
        }
        // The first one of a stream, and one of those that are all taken, leaves nothing owed.
        let is_first = self.live.as_ref().is_some_and(|live| live.taken.is_none());
        self.owed = if is_first || self.part >= 1.0 { 0.0 } else { after(self.owed.max(DUE), true) };
        if let Some(live) = &mut self.live {
            live.taken = Some(now);
            self.owed = (self.owed + live.drift(Wall::now(), self.part)).clamp(0.0, 1.0);
        }
        true
    }

    /// None was taken for longer than can be: the rate was measured wrongly, or has become lower.
    fn is_late(&self, now: Instant) -> bool {
        let Some(Live { wanted: Some(rate), taken: Some(taken), .. }) = &self.live else { return false };
        now.saturating_duration_since(*taken).as_secs_f64() * rate.fps > LATE
    }
}

/// What is owed after a picture with which so much was. One that is due and cannot be taken makes the next one due, and
/// that counts as late by one interval at most: the mean stays, and no burst makes up for a long pause.
fn after(owed: f64, can_be_taken: bool) -> f64 {
    match owed >= DUE {
        true if can_be_taken => (owed - 1.0).clamp(0.0, 1.0),
        _ => owed.min(2.0),
    }
}

impl Live {
    /// Of what comes, the part that is wanted.
    fn part(&self) -> f64 {
        let (Some(wanted), Some(fps)) = (self.wanted, self.fps()) else { return 1.0 };
        let stride = fps / wanted.fps;
        let whole = stride.round();
        match wanted.fps / fps {
            part if part.is_nan() || part <= 0.0 || part >= NEARLY_ALL => 1.0,
            _ if (stride - whole).abs() < whole * NEARLY_WHOLE => 1.0 / whole,
            part => part,
        }
    }

    /// Frames per second; `None`: not known yet.
    fn fps(&self) -> Option<f64> {
        let time = match (self.arrivals.front(), self.arrivals.back()) {
            (Some(first), Some(last)) => last.saturating_duration_since(*first),
            _ => Duration::ZERO,
        };
        if self.arrivals.len() < MIN_ARRIVALS || time < MIN_TIME {
            return (self.declared_fps > 0.0).then_some(self.declared_fps);
        }
        Some((self.arrivals.len() - 1) as f64 / time.as_secs_f64())
    }

    /// What to add to what is owed, so that the pictures come to lie on the machine's clock.
    fn drift(&self, now: Wall, part: f64) -> f64 {
        let Some(rate) = self.wanted.filter(|rate| rate.is_aligned && part < 1.0) else { return 0.0 };
        // In intervals: how long after a multiple of it, and ideally half a picture of the source.
        let intervals = now.micros() as f64 / 1e6 * rate.fps;
        let off = intervals - intervals.floor() - part / 2.0;
        let off = if off > 0.5 { off - 1.0 } else { off };
        if off.abs() > part { off * DRIFT_PART } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Duration = Duration::from_nanos(33_333_333);

    fn rate(fps: f64) -> Option<Rate> {
        Some(Rate { fps, is_aligned: false })
    }

    /// Numbers of the pictures that are taken of so many, each `frame` after the one before.
    fn taken(selection: &mut Selection, pictures: u32, frame: Duration, start: Instant) -> Vec<u32> {
        let number = |number: u32| {
            let now = start + frame * number;
            selection.came(now);
            let expected = selection.takes(std::iter::empty(), now);
            assert_eq!(selection.takes_next(now), expected, "{number}");
            expected.then_some(number)
        };
        (0..pictures).filter_map(number).collect()
    }

    #[test]
    fn a_file_is_strided_from_its_first_frame_on() {
        let now = Instant::now();
        assert_eq!(taken(&mut Selection::all(), 4, FRAME, now), [0, 1, 2, 3]);
        assert_eq!(taken(&mut Selection::part(10.0 / 30.0), 10, FRAME, now), [0, 3, 6, 9]);
        assert_eq!(taken(&mut Selection::part(0.4), 10, FRAME, now), [0, 3, 5, 8]);
    }

    #[test]
    fn a_stream_is_strided_by_the_rate_at_which_it_comes() {
        for declared in [0.0, 30.0, 90_000.0] {
            let mut selection = Selection::stream(declared);
            selection.want(rate(5.0));
            let taken = taken(&mut selection, 300, FRAME, Instant::now());
            let late: Vec<u32> = taken.iter().copied().filter(|number| *number >= 60).collect();
            assert!((38..=42).contains(&late.len()), "{declared}: {}", late.len());
            assert!(
                late.windows(2).all(|pair| (5..=7).contains(&(pair[1] - pair[0]))),
                "{declared}: {late:?}"
            );
        }
    }

    #[test]
    fn any_picture_ahead_is_judged_as_it_will_be() {
        let now = Instant::now();
        for part in [0.01, 1.0 / 6.0, 0.3, 0.5, 0.77] {
            let mut selection = Selection::part(part);
            for _ in 0..50 {
                let ahead: Vec<bool> =
                    (0..20).map(|before| selection.takes(std::iter::repeat_n(true, before), now)).collect();
                let mut later = Selection { part, owed: selection.owed, live: None };
                let then: Vec<bool> = ahead.iter().map(|_| later.takes_next(now)).collect();
                assert_eq!(ahead, then, "{part}");
                selection.takes_next(now);
            }
        }
    }

    #[test]
    fn a_source_that_becomes_slower_is_not_starved() {
        let mut selection = Selection::stream(30.0);
        selection.want(rate(5.0));
        let start = Instant::now();
        taken(&mut selection, 100, FRAME, start);
        let later = start + FRAME * 100;
        let slow = taken(&mut selection, 20, Duration::from_millis(250), later);
        assert!(slow.len() >= 17, "{slow:?}");
    }

    #[test]
    fn nearly_all_is_all_and_without_a_rate_too() {
        let now = Instant::now();
        for wanted in [None, rate(30.0), rate(29.0), rate(1000.0)] {
            let mut selection = Selection::stream(30.0);
            selection.want(wanted);
            assert_eq!(taken(&mut selection, 100, FRAME, now).len(), 100, "{wanted:?}");
        }
    }

    #[test]
    fn a_stride_that_is_nearly_whole_stays_where_it_began() {
        let mut selection = Selection::stream(30.0);
        selection.want(rate(5.0));
        let start = Instant::now();
        let taken = taken(&mut selection, 6000, FRAME + Duration::from_micros(90), start);
        assert_eq!(taken, (0..1000).map(|number| number * 6).collect::<Vec<_>>());
    }

    #[test]
    fn less_than_one_picture_a_key_frame() {
        let mut selection = Selection::stream(30.0);
        assert!(!selection.is_below(Some(1)));
        selection.want(rate(0.5));
        assert!(selection.is_below(Some(60)) && !selection.is_below(Some(61)) && !selection.is_below(None));
    }

    #[test]
    fn sources_that_are_to_be_alike_come_to_lie_on_the_clock() {
        let mut live = Live {
            wanted: Some(Rate { fps: 5.0, is_aligned: true }),
            declared_fps: 30.0,
            arrivals: Deque::new(),
            taken: None,
        };
        let part = 5.0 / 30.0;
        // Half an interval late; on time; a tenth of one too early.
        let at =
            |live: &Live, millis: i64| live.drift(Wall::from_micros(1_000_000_000 + millis * 1000), part);
        assert!(at(&live, 100) > 0.05 && at(&live, 20) == 0.0 && at(&live, 150) < -0.05);
        live.wanted = rate(5.0);
        assert_eq!(at(&live, 100), 0.0);
    }
}
