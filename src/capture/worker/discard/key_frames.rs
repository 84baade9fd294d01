//! How far apart the key frames of a stream are, and how many pictures come after one that are shown before it.

/// How many distances are looked at.
const LOOKED_AT: usize = 3;

/// Pictures beyond twice the usual distance, after which a key frame is missed: a second of a common camera.
const GRACE_PICTURES: u64 = 25;

/// Distances of the last key frames, and how many pictures after one are shown before it.
#[derive(Debug, Default)]
pub(super) struct KeyFrames {
    /// The last ones, pictures; 0: not known yet.
    distances: [u64; LOOKED_AT],
    /// Pictures since the last key frame, itself included; `None`: there was none.
    since: Option<u64>,
    /// Where the last one is shown.
    place: i64,
    /// Pictures so far that came after it and are shown before it, and how many it were of the one before.
    leading: (usize, usize),
}

impl KeyFrames {
    /// A picture came that is shown at this place; `is_key`: decoding may begin with it.
    pub(super) fn picture(&mut self, is_key: bool, place: i64) {
        if !is_key {
            self.since = self.since.map(|since| since.saturating_add(1));
            self.leading.0 += usize::from(place < self.place);
            return;
        }
        self.place = place;
        self.leading = (0, self.leading.0);
        if let Some(since) = self.since.replace(1) {
            self.distances.rotate_left(1);
            self.distances[LOOKED_AT - 1] = since;
        }
    }

    /// The longest of the last few distances; `None`: there were too few.
    pub(super) fn distance(&self) -> Option<u64> {
        let known = self.distances.iter().filter(|distance| **distance > 0);
        if known.clone().count() < 2 { None } else { known.max().copied() }
    }

    /// So many pictures are to come that are shown before the key frame that just came, if they are as many as last
    /// time.
    pub(super) fn leading(&self) -> usize {
        self.leading.1
    }

    /// None came for much longer than usual.
    pub(super) fn is_overdue(&self) -> bool {
        let usual = self.distance().unwrap_or(0);
        self.since.is_some_and(|since| since > usual.saturating_mul(2).saturating_add(GRACE_PICTURES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_of_three_distances_counts_once_two_are_known() {
        let mut frames = KeyFrames::default();
        let mut group = |pictures: u64| {
            (0..pictures).for_each(|number| frames.picture(number == 0, number.cast_signed()));
            (frames.distance(), frames.is_overdue())
        };
        assert_eq!(group(30), (None, true), "not one distance is known");
        assert_eq!(group(10).0, None);
        assert_eq!(group(12), (Some(30), false));
        assert_eq!(group(12), (Some(30), false));
        assert_eq!(group(12), (Some(12), false));
        assert_eq!(group(100), (Some(12), true));
    }

    #[test]
    fn pictures_that_are_shown_before_a_key_frame_are_expected_after_the_next() {
        let mut frames = KeyFrames::default();
        for (place, leading) in [(0, 0), (10, 2), (20, 2)] {
            frames.picture(true, place);
            assert_eq!(frames.leading(), leading, "{place}");
            [place + 4, place - 2, place - 1].iter().for_each(|place| frames.picture(false, *place));
        }
    }
}
