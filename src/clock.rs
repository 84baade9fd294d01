//! The one place that asks for the time.
//!
//! Two clocks: [`Wall`] stamps frames, updates and datagrams (local time without a zone, as the reference
//! writes it); [`std::time::Instant`] measures. Code that must be tested on simulated time takes a [`Clock`].

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Wall-clock time in microseconds since the Unix epoch. Eight bytes, so it travels in worker messages as it
/// is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Wall(i64);

impl Wall {
    /// The present time by the machine's wall clock.
    pub fn now() -> Self {
        // Before 1970 only with a broken RTC: then the epoch itself is as good an answer as any.
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Wall(i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX))
    }

    /// From microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Wall(micros)
    }

    /// Microseconds since the Unix epoch.
    pub fn micros(self) -> i64 {
        self.0
    }

    /// Seconds from `earlier` to `self`; negative when the clock was set back between them.
    pub fn seconds_since(self, earlier: Wall) -> f64 {
        self.0.saturating_sub(earlier.0) as f64 / 1e6
    }

    /// `2026-11-22T10:38:04.432159`: local time, no zone; the fraction is left out when it is exactly zero,
    /// as Python does.
    pub fn iso_local(self) -> String {
        let Ok(stamp) = jiff::Timestamp::from_microsecond(self.0) else {
            return String::from("1970-01-01T00:00:00");
        };
        // The zone is looked up once: jiff caches it, and a change of /etc/localtime takes effect within
        // minutes.
        let local = stamp.to_zoned(jiff::tz::TimeZone::system()).datetime();
        let micros = self.0.rem_euclid(1_000_000);
        let (year, month, day) = (local.year(), local.month(), local.day());
        let (hour, minute, second) = (local.hour(), local.minute(), local.second());
        if micros == 0 {
            format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
        } else {
            format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}")
        }
    }
}

/// What a future gives within a limit; `None`: it was not done by then, and is dropped. One that is ready at
/// once is never late.
pub async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let late = async {
        smol::Timer::after(limit).await;
        None
    };
    smol::future::or(async { Some(work.await) }, late).await
}

/// Time as the pipeline's logic sees it; tests drive their own.
pub trait Clock {
    /// The present time, monotonic.
    fn now(&self) -> Instant;
    /// The present time of day; it may jump.
    fn wall(&self) -> Wall;
}

/// The machine's clock: what the service runs on.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }
    fn wall(&self) -> Wall {
        Wall::now()
    }
}

/// When this program was built, seconds since the Unix epoch: `SOURCE_DATE_EPOCH` of the build
/// (cross/build.sh sets it to the time of the commit), else the beginning of the year that this line was
/// written in. No clock that is set right is before it.
pub const BUILT_S: i64 = match option_env!("SOURCE_DATE_EPOCH") {
    Some(text) => seconds(text),
    None => UNTOLD_S,
};

/// 2026-01-01 00:00 UTC in Unix seconds: taken where the build did not say its date.
const UNTOLD_S: i64 = 1_767_225_600;

/// Digits; anything else is [`UNTOLD_S`].
const fn seconds(text: &str) -> i64 {
    match i64::from_str_radix(text, 10) {
        Ok(seconds) => seconds,
        Err(_) => UNTOLD_S,
    }
}

/// The day of [`BUILT_S`], `2026-01-01`.
pub fn build_date() -> String {
    date(BUILT_S)
}

/// The day of that second, UTC.
pub fn date(seconds: i64) -> String {
    let stamp = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    stamp.to_zoned(jiff::tz::TimeZone::UTC).date().to_string()
}

/// What to say beside an error that may come of it: the clock stands before the program was built, so it was
/// never set.
pub fn fault(now: Wall) -> Option<String> {
    let seconds = now.micros().div_euclid(1_000_000);
    (seconds < BUILT_S).then(|| {
        format!(
            "this machine's clock says {}, before weir was built ({}): set it",
            date(seconds),
            build_date()
        )
    })
}

/// CLOCK_MONOTONIC in microseconds: what systemd calls MONOTONIC_USEC. Measure with [`Instant`], not with
/// this.
pub fn monotonic_micros() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    // Never negative: it counts from the start of the machine. The cast of nanoseconds cannot fail, they are
    // below 1e9.
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000
}

/// CPU time used by this process, all threads: for the benches.
pub fn process_cpu_time() -> Duration {
    duration(rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime))
}

/// CPU time used by the calling thread: for the benches.
pub fn thread_cpu_time() -> Duration {
    duration(rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime))
}

fn duration(time: rustix::time::Timespec) -> Duration {
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iso_leaves_out_a_zero_fraction_and_pads_the_rest() {
        let whole = Wall::from_micros(1_700_000_000_000_000).iso_local();
        assert_eq!(whole.len(), "2023-11-14T22:13:20".len());
        let part = Wall::from_micros(1_700_000_000_000_042).iso_local();
        assert!(part.ends_with(".000042"), "{part}");
    }

    #[test]
    fn a_clock_before_the_build_is_named() {
        let said = fault(Wall::from_micros(0)).unwrap_or_default();
        assert!(said.contains("says 1970-01-01") && said.contains(&build_date()), "{said}");
        assert_eq!(fault(Wall::now()), None);
        assert_eq!(
            (seconds("86400"), seconds("yesterday"), date(86_400).as_str()),
            (86_400, UNTOLD_S, "1970-01-02")
        );
    }

    #[test]
    fn seconds_since_may_be_negative() {
        assert_eq!(Wall::from_micros(0).seconds_since(Wall::from_micros(500_000)), -0.5);
    }

    #[test]
    fn what_is_late_is_dropped_and_what_is_ready_is_not() {
        let dropped = std::rc::Rc::new(());
        let held = dropped.clone();
        let never = async move {
            let _held = held;
            std::future::pending::<()>().await;
        };
        assert_eq!(smol::block_on(within(Duration::from_millis(1), never)), None);
        assert_eq!(std::rc::Rc::strong_count(&dropped), 1);
        assert_eq!(smol::block_on(within(Duration::ZERO, async { 7 })), Some(7));
    }
}
