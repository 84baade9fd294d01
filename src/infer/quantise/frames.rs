//! The pictures that a model is calibrated with.

use crate::error::{Error, Kind, Result};
use crate::geometry::{InputRule, Placement};
use std::collections::HashSet;

/// Most pictures: more change the ranges of a network no more.
const MOST_FRAMES: usize = 128;
/// Most memory that they may take, bytes.
const MOST_BYTES: usize = 128 << 20;
/// Fewest pictures with something in them: ranges of fewer say little.
const FEWEST_FRAMES: usize = 16;
/// Fewest that differ from each other.
const FEWEST_DIFFERENT: usize = 4;
/// A picture whose samples differ by less is one colour with a little noise: black, a covered lens, a test card.
const LEAST_CONTRAST: u8 = 16;

/// A picture as the model's rule lays it, and where it lies.
pub(super) type Frame = (Vec<u8>, Placement);

/// Pictures kept evenly from all that there are, however many that will be.
#[derive(Debug)]
pub(super) struct Frames {
    rule: InputRule,
    kept: Vec<Frame>,
    /// Every so many pictures one is kept.
    stride: u64,
    usable: u64,
    given: u64,
    /// Checksums of the pictures that are kept.
    different: HashSet<u32>,
}

impl Frames {
    pub(super) fn new(rule: InputRule) -> Frames {
        Frames { rule, kept: Vec::new(), stride: 1, usable: 0, given: 0, different: HashSet::new() }
    }

    fn room(&self) -> usize {
        (MOST_BYTES / self.rule.slot_bytes().max(1)).clamp(FEWEST_FRAMES, MOST_FRAMES)
    }

    /// A picture of the user's.
    pub(super) fn add(&mut self, slot: &[u8], placement: &Placement) {
        self.given += 1;
        if !self.has_contrast(slot, placement) {
            return;
        }
        let number = self.usable;
        self.usable += 1;
        if !number.is_multiple_of(self.stride) {
            return;
        }
        if self.kept.len() == self.room() {
            // every other one goes, and from now on half as many come
            let mut index = 0;
            self.kept.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.stride *= 2;
            if !number.is_multiple_of(self.stride) {
                return;
            }
        }
        self.different.insert(crc32fast::hash(slot));
        self.kept.push((slot.to_vec(), *placement));
    }

    /// Whether there is anything to see where the picture lies; its edges do not count.
    fn has_contrast(&self, slot: &[u8], placement: &Placement) -> bool {
        let (width, height) = (self.rule.width as usize, self.rule.height as usize);
        let (left, top) = (placement.pad_x as usize, placement.pad_y as usize);
        let rows = top..top + placement.scaled_height as usize;
        let (mut low, mut high) = (u8::MAX, u8::MIN);
        for plane in slot.chunks_exact((width * height).max(1)) {
            for row in plane.chunks_exact(width.max(1)).take(rows.end).skip(rows.start) {
                for sample in row.iter().skip(left).take(placement.scaled_width as usize) {
                    (low, high) = (low.min(*sample), high.max(*sample));
                }
            }
        }
        high.saturating_sub(low) >= LEAST_CONTRAST
    }

    /// The pictures. Errors: what is wrong with them.
    pub(super) fn checked(self) -> Result<Vec<Frame>> {
        let Frames { kept, usable, given, different, .. } = self;
        let refused = |message: String| Err(Error::new(Kind::NoInput, message));
        if given == 0 {
            return refused(
                "none of the pictures could be decoded: there is nothing to calibrate with".to_owned(),
            );
        }
        if usable == 0 {
            return refused(format!(
                "all {given} pictures are black or of one colour: take video of what the camera sees"
            ));
        }
        if kept.len() < FEWEST_FRAMES {
            let colour = given - usable;
            let more = if colour > 0 {
                format!(" ({colour} more are black or of one colour)")
            } else {
                String::new()
            };
            return refused(format!(
                "{} pictures with something in them{more}, {FEWEST_FRAMES} are the fewest to calibrate with: a minute of video is right",
                kept.len()
            ));
        }
        if different.len() < FEWEST_DIFFERENT {
            return refused(
                "it is the same picture again and again: take video of what the camera sees".to_owned(),
            );
        }
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::geometry::Fit;

    fn rule(side: u32) -> InputRule {
        InputRule {
            width: side,
            height: side,
            fit: Fit::Letterbox { fill: 114 },
            crop: None,
            grayscale: false,
            contrast: None,
        }
    }

    /// Pictures of 16 × 8 in a square of 16, filled by `sample` of number and place.
    fn given(count: u32, sample: impl Fn(u32, usize) -> u8) -> Result<Vec<Frame>> {
        let rule = rule(16);
        let placement = rule.place(16, 8).unwrap();
        let mut frames = Frames::new(rule);
        for number in 0..count {
            let mut slot = vec![114; rule.slot_bytes()];
            for (at, byte) in slot.iter_mut().enumerate().filter(|(at, _)| (64..192).contains(&(at % 256))) {
                *byte = sample(number, at);
            }
            frames.add(&slot, &placement);
        }
        frames.checked()
    }

    #[test]
    fn unusable_pictures_are_refused_in_words() {
        let noise = |number: u32, at: usize| (number.wrapping_mul(37) as usize + at * 91) as u8;
        for (frames, words) in [
            (given(0, noise), "could be decoded"),
            (given(15, noise), "15 pictures"),
            (given(100, |_, _| 0), "all 100 pictures are black"),
            (
                given(100, |number, at| if number < 5 { noise(number, at) } else { 16 + (at % 3) as u8 }),
                "(95 more are black",
            ),
            (given(100, |_, at| noise(0, at)), "the same picture"),
        ] {
            let error = frames.unwrap_err();
            assert!(error.message().contains(words), "{error}");
        }
        assert_eq!(given(16, noise).unwrap().len(), 16);
    }

    #[test]
    fn pictures_are_kept_evenly_from_all_there_are() {
        for count in [128, 129, 300, 1800, 5000u32] {
            let kept =
                given(count, |number, at| [number as u8, (number >> 8) as u8, 0, 255][at % 4]).unwrap();
            assert!((64..=128).contains(&kept.len()), "{count}: {}", kept.len());
            let number = |(slot, _): &Frame| u32::from(slot[64]) | u32::from(slot[65]) << 8;
            let steps: HashSet<u32> =
                kept.windows(2).map(|pair| number(&pair[1]) - number(&pair[0])).collect();
            assert_eq!(steps.len(), 1, "{count}: {steps:?}");
        }
    }
}
