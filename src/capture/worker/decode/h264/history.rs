//! The access units since decoding could begin, for a decoder that takes over in the middle.

use crate::capture::worker::decode::annexb::nal_places;
use std::ops::Range;

/// Bytes that are kept: ten seconds between key frames at 3 Mbit/s. Where more lies between two, a decoder
/// that takes over waits for the next random access point.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Access units in a row, one after the other in one buffer that is used again and again.
#[derive(Debug, Default)]
pub(super) struct History {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Nothing is missing since decoding began.
    whole: bool,
}

impl History {
    /// Decoding begins with the next unit.
    pub(super) fn begin(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.whole = true;
    }

    /// Gives up what is kept, and its memory.
    pub(super) fn end(&mut self) {
        *self = History::default();
    }

    pub(super) fn push(&mut self, unit: &[u8]) {
        if !self.whole {
            return;
        }
        if self.bytes.len() + unit.len() > MAX_BYTES {
            self.end();
            return;
        }
        self.bytes.extend_from_slice(unit);
        self.ends.push(self.bytes.len());
    }

    /// Nothing is missing since decoding began.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// The units with the places of their NAL units; `None`: some are missing.
    pub(super) fn units(&self) -> Option<impl Iterator<Item = (&[u8], Vec<Range<usize>>)>> {
        let starts = [0].into_iter().chain(self.ends.iter().copied());
        let units = starts.zip(&self.ends).map(|(start, &end)| {
            let unit = self.bytes.get(start..end).unwrap_or_default();
            (unit, nal_places(unit).take(super::MAX_UNITS).collect())
        });
        self.whole.then_some(units)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn units_come_back_until_they_are_too_many() {
        let mut history = History::default();
        assert!(history.units().is_none());
        history.begin();
        history.push(&[0, 0, 1, 9]);
        history.push(&[0, 0, 1, 8, 7]);
        let units: Vec<_> = history.units().unwrap().collect();
        let place = |(unit, places): (&[u8], Vec<Range<usize>>)| {
            (unit.len(), places.iter().map(|place| (place.start, place.end)).collect())
        };
        let seen: Vec<(usize, Vec<(usize, usize)>)> = units.into_iter().map(place).collect();
        assert_eq!(seen, [(4, vec![(3, 4)]), (5, vec![(3, 5)])]);
        history.push(&vec![1; MAX_BYTES]);
        assert!(history.units().is_none());
        history.push(&[0, 0, 1, 9]);
        assert!(history.units().is_none(), "until decoding begins again");
        history.begin();
        assert_eq!(history.units().unwrap().count(), 0);
    }
}
