//! What a pipeline goes through, for the log: one line for each turn of events, with pipeline and source, and
//! not more of them than [`Throttle`] lets through for each source.

use crate::command::{MAX_SOURCES, PipelineId};
use crate::error::Error;
use crate::logging::{Throttle, suppressed};
use log::Level;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::time::{Duration, Instant};

/// The lines of one pipeline in the log. Single-threaded, like everything on the event loop.
#[derive(Debug)]
pub(super) struct EventLog {
    pipeline: PipelineId,
    /// One per source, and the last for the pipeline itself.
    throttles: RefCell<[Option<Throttle>; MAX_SOURCES + 1]>,
    /// Bit by bit, the sources whose detections have reached the sink.
    has_sent: Cell<u32>,
    /// What the sink has lost since it began to fail; `None` while it takes what it gets.
    failing: Cell<Option<u64>>,
    /// When the sink's machine last said that nobody listens there; `None`: it does not say so.
    refused: Cell<Option<Instant>>,
}

/// After so long without a refusal somebody listens again: machines do not answer every datagram with one.
const REFUSAL_LASTS: Duration = Duration::from_secs(5);

impl EventLog {
    /// Nothing has happened yet.
    pub(super) fn new(pipeline: PipelineId) -> EventLog {
        EventLog {
            pipeline,
            throttles: RefCell::default(),
            has_sent: Cell::new(0),
            failing: Cell::new(None),
            refused: Cell::new(None),
        }
    }

    /// Of the pipeline as a whole.
    pub(super) fn tell(&self, level: Level, event: fmt::Arguments<'_>) {
        if let Some(before) = self.admit(MAX_SOURCES) {
            log::log!(level, "pipeline={} {event}{}", self.pipeline, suppressed(before));
        }
    }

    /// Writes a line about one source, unless that source has written too many.
    pub(super) fn tell_of(&self, level: Level, source: u32, event: fmt::Arguments<'_>) {
        if let Some(before) = self.admit((source as usize).min(MAX_SOURCES)) {
            log::log!(level, "pipeline={} source={source} {event}{}", self.pipeline, suppressed(before));
        }
    }

    fn admit(&self, origin: usize) -> Option<u64> {
        let now = Instant::now();
        let mut throttles = self.throttles.borrow_mut();
        throttles.get_mut(origin)?.get_or_insert_with(|| Throttle::new(now)).admit(now)
    }

    /// The sink has taken detections of that source.
    pub(super) fn sent(&self, source: u32) {
        if let Some(lost) = self.failing.take() {
            self.tell_of(Level::Info, source, format_args!("event=sink_recovered lost={lost}"));
        }
        if self.refused.get().is_some_and(|last| last.elapsed() >= REFUSAL_LASTS) {
            self.refused.set(None);
            self.tell_of(Level::Info, source, format_args!("event=sink_recovered"));
        }
        let bit = 1_u32.checked_shl(source).unwrap_or(0);
        if self.has_sent.get() & bit == 0 {
            self.has_sent.set(self.has_sent.get() | bit);
            self.tell_of(Level::Info, source, format_args!("event=first_detections_sent"));
        }
    }

    /// Nobody listens at the sink's address.
    pub(super) fn refused(&self, source: u32) {
        if self.refused.replace(Some(Instant::now())).is_none() {
            self.tell_of(
                Level::Warn,
                source,
                format_args!("event=sink_refused error=\"nobody listens on the sink's port\""),
            );
        }
    }

    /// The sink has not taken them.
    pub(super) fn unsent(&self, source: u32, error: &Error) {
        if self.failing.get().is_none() {
            self.tell_of(
                Level::Warn,
                source,
                format_args!("event=sink_failed error={:?}", error.to_string()),
            );
        }
        self.failing.set(Some(self.failing.get().unwrap_or(0).saturating_add(1)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_sink_that_fails_for_hours_is_told_of_once_and_counted() {
        let event_log = EventLog::new(PipelineId::nil());
        for _ in 0..10_000 {
            event_log.unsent(0, &Error::new(Kind::Sink, "no route"));
        }
        assert_eq!(event_log.failing.get(), Some(10_000));
        event_log.sent(0);
        assert_eq!((event_log.failing.get(), event_log.has_sent.get()), (None, 1));
        // Whatever the index, nothing panics.
        event_log.sent(u32::MAX);
        event_log.tell_of(Level::Info, u32::MAX, format_args!("event=x"));
    }

    #[test]
    fn one_source_that_flaps_does_not_silence_the_others() {
        let event_log = EventLog::new(PipelineId::nil());
        let written = (0..1000).filter(|_| event_log.admit(0).is_some()).count();
        assert!((1..50).contains(&written), "{written}");
        assert!(event_log.admit(1).is_some() && event_log.admit(MAX_SOURCES).is_some());
    }
}
