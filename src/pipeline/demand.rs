//! How many frames per second a stream is asked for: as many as `max_fps` allows, and not many more than inference
//! takes. Frames that would only be thrown away for newer ones need not be decoded.

use crate::capture::Rate;
use std::time::{Duration, Instant};

/// Frames are counted for so long before anything is concluded from them...
const WINDOW: Duration = Duration::from_secs(2);
/// ...and until there are so many.
const MIN_FRAMES: u64 = 8;

/// Where less than this part of what is delivered is taken, fewer frames are asked for. Well below the half that is
/// taken then, so that it does not swing.
const FEW: f64 = 0.4;
/// Where more than this part is taken, inference may take more than it gets.
const NEARLY_ALL: f64 = 0.8;
/// So many frames are asked for, for each that is taken: the newest one is never older than half the time between
/// two that are taken.
const ROOM: f64 = 2.0;
/// How much more is tried at a time.
const GROWTH: f64 = 2.0;
/// Least part of a source that is asked for, however little is taken: what is asked for grows again within seconds.
const LEAST_PART: f64 = 0.1;

/// How many frames a stream is asked for, and the measurements that say so.
#[derive(Debug, Default)]
pub(super) struct Demand {
    limit: Option<Rate>,
    /// Frames per second; `None`: all.
    asked: Option<f64>,
    /// Since when frames are counted.
    since: Option<Instant>,
    /// Of the source, left out ones included; delivered; taken for inference. Without those that came too early.
    came: u64,
    delivered: u64,
    taken: u64,
}

impl Demand {
    /// A connection begins, which may give so much at most: what to ask for.
    pub(super) fn begin(&mut self, limit: Option<Rate>) -> Option<Rate> {
        *self = Demand { limit, ..Demand::default() };
        limit
    }

    /// No frames come for a while, or none are taken, for another reason.
    pub(super) fn pause(&mut self) {
        self.since = None;
    }

    /// A frame has been delivered, after so many that were left out. What to ask for from now on; `None`: the same.
    pub(super) fn delivered(&mut self, left_out: u64, now: Instant) -> Option<Option<Rate>> {
        let Some(since) = self.since else {
            (self.since, self.came, self.delivered, self.taken) = (Some(now), 0, 0, 0);
            return None;
        };
        self.came = self.came.saturating_add(left_out).saturating_add(1);
        self.delivered += 1;
        let time = now.saturating_duration_since(since);
        if time < WINDOW || self.delivered < MIN_FRAMES {
            return None;
        }
        let before = self.asked;
        self.conclude(time.as_secs_f64());
        (self.since, self.came, self.delivered, self.taken) = (Some(now), 0, 0, 0);
        (self.asked != before).then(|| self.rate())
    }

    fn conclude(&mut self, seconds: f64) {
        let per_second = |frames: u64| frames as f64 / seconds;
        let part = self.taken as f64 / self.delivered as f64;
        let asked = match self.asked {
            // Where nothing is taken at all, that is no measure of how much could be.
            _ if self.taken > 0 && part < FEW => {
                (per_second(self.taken) * ROOM).max(per_second(self.came) * LEAST_PART)
            }
            Some(asked) if part > NEARLY_ALL => asked * GROWTH,
            _ => return,
        };
        self.asked = Some(asked).filter(|asked| *asked < per_second(self.came));
    }

    fn rate(&self) -> Option<Rate> {
        let Some(asked) = self.asked else { return self.limit };
        let Rate { fps, is_aligned } = self.limit.unwrap_or(Rate { fps: f64::INFINITY, is_aligned: false });
        Some(Rate { fps: asked.min(fps), is_aligned })
    }

    /// A frame was taken for inference.
    pub(super) fn taken(&mut self) {
        self.taken += 1;
    }

    /// It had been taken too early for `max_fps`, and nothing was done with it.
    pub(super) fn was_early(&mut self) {
        self.taken = self.taken.saturating_sub(1);
        self.delivered = self.delivered.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten windows of a source of 30 frames per second, of which so many at most are taken each second: what was
    /// asked for at the end of each.
    fn ask(demand: &mut Demand, takes: impl Fn(usize) -> f64) -> Vec<Option<f64>> {
        let (mut now, mut asked, mut all) = (Instant::now(), None::<Rate>, Vec::new());
        let (mut owed, mut credit) = (0.0, 0.0);
        for window in 0..10 {
            for _ in 0..61 {
                now += Duration::from_nanos(33_333_333);
                owed += asked.map_or(1.0, |rate| (rate.fps / 30.0).min(1.0));
                credit = f64::min(credit + takes(window) / 30.0, 1.0);
                if owed < 1.0 {
                    continue;
                }
                owed -= 1.0;
                let left_out = asked.map_or(0.0, |rate| (30.0 / rate.fps).max(1.0) - 1.0).round() as u64;
                if let Some(rate) = demand.delivered(left_out, now) {
                    asked = rate;
                }
                if credit >= 1.0 {
                    credit -= 1.0;
                    demand.taken();
                }
            }
            all.push(asked.map(|rate| rate.fps));
        }
        all
    }

    #[test]
    fn who_takes_all_is_given_all() {
        assert!(ask(&mut Demand::default(), |_| 100.0).iter().all(Option::is_none));
        assert!(ask(&mut Demand::default(), |_| 15.0).iter().all(Option::is_none), "half of them, too");
        assert!(ask(&mut Demand::default(), |_| 0.0).iter().all(Option::is_none), "nothing is no measure");
    }

    #[test]
    fn who_takes_few_is_given_twice_as_many_and_it_does_not_swing() {
        let asked = ask(&mut Demand::default(), |_| 4.0);
        assert!(
            asked[2..].iter().all(|asked| asked.is_some_and(|fps| (6.0..=9.5).contains(&fps))),
            "{asked:?}"
        );
    }

    #[test]
    fn who_takes_more_again_is_given_all_again() {
        let asked = ask(&mut Demand::default(), |window| if window < 3 { 2.0 } else { 100.0 });
        assert!(asked[2].is_some_and(|fps| fps < 6.0), "{asked:?}");
        assert_eq!(asked[9], None, "{asked:?}");
    }

    #[test]
    fn max_fps_stays_the_limit() {
        let limit = Rate { fps: 3.0, is_aligned: true };
        let mut demand = Demand::default();
        assert_eq!(demand.begin(Some(limit)), Some(limit));
        demand.asked = Some(10.0);
        assert_eq!(demand.rate(), Some(limit));
        demand.asked = Some(1.0);
        assert_eq!(demand.rate(), Some(Rate { fps: 1.0, is_aligned: true }));
        demand.asked = None;
        assert_eq!(demand.rate(), Some(limit));
    }
}
