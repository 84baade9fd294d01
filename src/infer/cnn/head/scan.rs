//! Which anchors have a score that reaches a threshold: reads logits where the last convolution left them.

use super::view::{Step, View};
use crate::infer::cnn::kernels::LANES;
use crate::infer::cnn::kernels::arena::Part;
use crate::infer::cnn::storage::Blocks;
use std::ops::Range;

/// How far a computed sigmoid may be from the true one, generously: anchors this close below the threshold
/// are kept too.
const SIGMOID_ERROR: f32 = 1e-4;
/// Pixels that are looked at together: their maxima stay in the first-level cache.
const PIXELS: usize = 16;

/// The scores of one level, in a picture in blocks.
#[derive(Debug)]
pub(super) struct Scan {
    blocks: Blocks,
    sigmoid: bool,
    /// Channels of one anchor, for the anchors that come first.
    channels: Range<usize>,
    /// First row and column of pixels.
    corner: [usize; 2],
    /// Slower counters of the anchors.
    outer: Vec<Step>,
    /// Anchors next to each other in a row of pixels.
    row: usize,
}

impl Scan {
    /// `None` where the scores of an anchor are not neighbouring channels of one pixel, or anchors not
    /// neighbouring pixels.
    pub(super) fn new(blocks: Blocks, view: &View, sigmoid: bool) -> Option<Scan> {
        let axes = view.axes(&[1, blocks.channels, blocks.height, blocks.width])?;
        let &[_, first, top, left] = axes.base.as_slice() else { return None };
        let count = match axes.others[..] {
            [] => 1,
            [Step { axis: 1, count, by: 1 }] => count,
            _ => return None,
        };
        let (row, outer) = axes.anchors.split_last()?;
        (row.axis == 3 && row.by == 1).then(|| Scan {
            blocks,
            sigmoid,
            channels: first..first + count,
            corner: [top, left],
            outer: outer.to_vec(),
            row: row.count,
        })
    }

    /// What a logit must reach for its score to reach `lowest`; `None` where every anchor has to be looked
    /// at.
    fn threshold(&self, lowest: f32) -> Option<f32> {
        if !self.sigmoid {
            return (lowest > 0.0).then_some(lowest);
        }
        let score = lowest.min(1.0 - SIGMOID_ERROR) - SIGMOID_ERROR;
        (score > 0.0).then(|| (score / (1.0 - score)).ln())
    }

    /// Adds the anchors with a score from `lowest` on to `kept`, `first` being the level's first. False where
    /// that would be more than `kept` has room for, or where it cannot be told.
    pub(super) fn run(&self, arena: &Part<'_>, lowest: f32, first: usize, kept: &mut Vec<u32>) -> bool {
        let Some(threshold) = self.threshold(lowest) else { return false };
        let rows: usize = self.outer.iter().map(|step| step.count).product();
        (0..rows).all(|row| {
            let (mut at, mut rest) = ([0, 0, self.corner[0], self.corner[1]], row);
            for step in self.outer.iter().rev() {
                at[step.axis] += rest % step.count * step.by;
                rest /= step.count;
            }
            let [_, channel, y, x] = at;
            let channels = self.channels.start + channel..self.channels.end + channel;
            (0..self.row).step_by(PIXELS).all(|done| {
                let pixels = PIXELS.min(self.row - done);
                let reached = self.pixels(arena, threshold, &channels, [y, x + done], pixels);
                let anchors = first + row * self.row + done;
                (0..pixels).filter(|pixel| reached & (1 << pixel) != 0).all(|pixel| {
                    let room = kept.len() < kept.capacity();
                    if room {
                        kept.push(u32::try_from(anchors + pixel).unwrap_or(u32::MAX));
                    }
                    room
                })
            })
        })
    }

    /// One bit for each of up to [`PIXELS`] neighbouring pixels: whether one of the channels reaches the
    /// threshold.
    fn pixels(
        &self,
        arena: &Part<'_>,
        threshold: f32,
        channels: &Range<usize>,
        [y, x]: [usize; 2],
        pixels: usize,
    ) -> u32 {
        let mut highest = [[f32::NEG_INFINITY; LANES]; PIXELS];
        for block in channels.start / LANES..channels.end.div_ceil(LANES) {
            let start = self.blocks.pixel(block, y, x);
            let source = arena.read(start..start + pixels * LANES);
            let lanes =
                channels.start.saturating_sub(block * LANES)..(channels.end - block * LANES).min(LANES);
            for (highest, pixel) in highest.iter_mut().zip(source.chunks_exact(LANES)) {
                if lanes.len() == LANES {
                    // a loop of known length becomes vector instructions; NaN is never the higher
                    highest.iter_mut().zip(pixel).for_each(|(h, p)| *h = if *p > *h { *p } else { *h });
                } else {
                    let pairs = highest.iter_mut().zip(pixel).skip(lanes.start).take(lanes.len());
                    pairs.for_each(|(h, p)| *h = if *p > *h { *p } else { *h });
                }
            }
        }
        let reaches =
            |highest: &[f32; LANES]| highest.iter().map(|h| u32::from(*h >= threshold)).sum::<u32>() > 0;
        highest
            .iter()
            .take(pixels)
            .enumerate()
            .fold(0, |bits, (pixel, h)| bits | u32::from(reaches(h)) << pixel)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::view::Term;
    use super::*;
    use crate::infer::cnn::kernels::Format;
    use crate::infer::cnn::kernels::arena::Arena;

    /// A picture of 20 channels, 3 × 5 pixels, halo 1, where every channel of every pixel is `value(channel,
    /// y, x)`.
    fn picture(value: impl Fn(usize, usize, usize) -> f32) -> (Blocks, Arena) {
        let blocks = Blocks { at: 32, channels: 20, height: 3, width: 5, halo: 1, format: Format::Float32 };
        let mut arena = Arena::new(32 + blocks.count() * blocks.block()).unwrap();
        let mut part = arena.whole();
        part.write(0..32 + blocks.count() * blocks.block()).fill(9.0); // what is not asked for would pass
        for (c, y, x) in (0..20).flat_map(|c| (0..3).flat_map(move |y| (0..5).map(move |x| (c, y, x)))) {
            let at = blocks.channel(c) + y * blocks.row() + x * LANES;
            part.write(at..at + 1)[0] = value(c, y, x);
        }
        (blocks, arena)
    }

    /// All anchors of the picture, with channels 14 to 18.
    fn view() -> View {
        View {
            base: 14 * 15,
            anchors: vec![Term { count: 15, stride: 1 }],
            others: vec![Term { count: 5, stride: 15 }],
        }
    }

    #[test]
    fn anchors_whose_best_logit_reaches_the_threshold_are_kept() {
        let logit = |p: f32| (p / (1.0 - p)).ln();
        let (blocks, mut arena) = picture(|c, y, x| match (c, y, x) {
            (14, 0, 0) | (18, 2, 4) => logit(0.41),
            (15, 1, 1) => f32::NAN,
            (16, 1, 2) => logit(0.39),
            (13, ..) | (19, ..) => 7.0,
            _ => -7.0,
        });
        let scan = Scan::new(blocks, &view(), true).unwrap();
        let mut kept = Vec::with_capacity(8);
        assert!(scan.run(&arena.whole(), 0.4, 100, &mut kept));
        assert_eq!(kept, [100, 114]);
        // without a sigmoid they are scores themselves
        let scan = Scan::new(blocks, &view(), false).unwrap();
        kept.clear();
        assert!(scan.run(&arena.whole(), 0.4, 0, &mut kept));
        assert!(kept.is_empty());
    }

    #[test]
    fn too_many_anchors_and_low_thresholds_are_left_to_the_whole_graph() {
        let (blocks, mut arena) = picture(|_, _, _| 1.0);
        let scan = Scan::new(blocks, &view(), true).unwrap();
        assert!(!scan.run(&arena.whole(), 0.4, 0, &mut Vec::with_capacity(8)));
        assert!(scan.run(&arena.whole(), 0.4, 0, &mut Vec::with_capacity(16)));
        assert!(!scan.run(&arena.whole(), 0.0, 0, &mut Vec::with_capacity(16)));
        assert!(scan.run(&arena.whole(), 1.5, 0, &mut Vec::with_capacity(1)));
    }

    #[test]
    fn anchors_of_one_cell_lie_in_other_channels() {
        // two anchors of nine values per cell; value 4 is the score
        let view = View {
            base: 4 * 15,
            anchors: vec![Term { count: 2, stride: 9 * 15 }, Term { count: 15, stride: 1 }],
            others: vec![Term { count: 1, stride: 15 }],
        };
        let (blocks, mut arena) =
            picture(|c, y, x| if (c, y, x) == (13, 2, 3) || (c, y, x) == (4, 0, 1) { 1.0 } else { 0.0 });
        let scan = Scan::new(blocks, &view, false).unwrap();
        let mut kept = Vec::with_capacity(8);
        assert!(scan.run(&arena.whole(), 0.5, 0, &mut kept));
        assert_eq!(kept, [1, 15 + 13]);
    }

    #[test]
    fn anchors_that_are_no_pixels_cannot_be_scanned() {
        let (blocks, _) = picture(|_, _, _| 0.0);
        let channels = View { base: 0, anchors: vec![Term { count: 20, stride: 15 }], others: vec![] };
        assert!(Scan::new(blocks, &channels, true).is_none());
    }
}
