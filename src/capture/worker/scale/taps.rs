//! Where each output sample comes from: two taps per axis at half-pixel centres, without antialiasing, as
//! OpenCV does.

use crate::capture::worker::picture::Plane;
use std::ops::Range;

/// Samples of a mixed row: every u16 is a valid index. The longest row is 3 × 16 384 bytes.
pub(super) const ROW_SAMPLES: usize = 1 << 16;

/// One row of a plane, mixed from two: value × 256.
pub(super) type Row = [u16; ROW_SAMPLES];

/// Weights are parts of this.
const ONE: u16 = 256;

/// A position between two source samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weighted {
    /// Index of the sample before the place.
    pub(super) first: u32,
    /// The sample after; the same at the edges.
    pub(super) second: u32,
    /// Part of `second`, of 256.
    pub(super) weight: u16,
}

/// For `to` output samples of `from` source samples that begin at `offset`.
pub(super) fn weights(offset: u32, from: u32, to: u32) -> Vec<Weighted> {
    let scale = f64::from(from) / f64::from(to);
    let last = from.saturating_sub(1);
    (0..to)
        .map(|index| {
            let position = ((f64::from(index) + 0.5) * scale - 0.5).clamp(0.0, f64::from(last));
            let first = position as u32; // Truncates: 0 ≤ position ≤ last.
            let weight = ((position - f64::from(first)) * f64::from(ONE)).round() as u16;
            Weighted { first: offset + first, second: offset + (first + 1).min(last), weight }
        })
        .collect()
}

/// The bytes of a row that some positions look at.
pub(super) fn extent(weights: &[Weighted], position: impl Fn(u32) -> usize) -> Range<usize> {
    // Positions rise.
    let first = weights.first().map_or(0, |weighted| position(weighted.first));
    let last = weights.last().map_or(0, |weighted| position(weighted.second) + 1);
    first..last
}

/// The two taps of one output sample in a row.
#[derive(Debug, Clone, Copy)]
struct Tap {
    first: u16,
    second: u16,
    weight: u16,
}

/// The taps of one channel, for a whole output row.
#[derive(Debug)]
pub(super) struct Taps(Vec<Tap>);

impl Taps {
    pub(super) fn new(weights: &[Weighted], position: impl Fn(u32) -> usize) -> Taps {
        // A row has at most 3 × MAX_SIDE bytes, which fits; were it longer, the taps would read the row's
        // last sample.
        let narrow = |x: u32| u16::try_from(position(x)).unwrap_or(u16::MAX);
        let tap = |w: &Weighted| Tap { first: narrow(w.first), second: narrow(w.second), weight: w.weight };
        Taps(weights.iter().map(tap).collect())
    }

    /// The row begins `by` bytes later.
    pub(super) fn shift(&mut self, by: usize) {
        let by = u16::try_from(by).unwrap_or(u16::MAX);
        for tap in &mut self.0 {
            tap.first = tap.first.saturating_sub(by);
            tap.second = tap.second.saturating_sub(by);
        }
    }

    /// One output row of this channel: value × 256.
    pub(super) fn apply(&self, row: &Row, line: &mut [u16]) {
        for (out, tap) in line.iter_mut().zip(&self.0) {
            // A u16 index is always inside a `Row`.
            let (first, second) =
                (u32::from(row[usize::from(tap.first)]), u32::from(row[usize::from(tap.second)]));
            let weight = u32::from(tap.weight);
            *out = ((first * (u32::from(ONE) - weight) + second * weight) >> 8) as u16;
        }
    }
}

/// Mixes the two rows of a plane that an output row lies between.
pub(super) fn mix_rows(plane: &Plane<'_>, bytes: &Range<usize>, rows: Weighted, shift: u32, mixed: &mut Row) {
    let row = |index: u32| {
        let start = (index >> shift) as usize * plane.stride;
        plane.data.get(start + bytes.start..start + bytes.end)
    };
    // Present: `Picture::check` has measured the planes.
    let (Some(first), Some(second)) = (row(rows.first), row(rows.second)) else { return };
    let (keep, weight) = (ONE - rows.weight, rows.weight);
    for ((out, first), second) in mixed.iter_mut().zip(first).zip(second) {
        // At most 255 × 256.
        *out = u16::from(*first) * keep + u16::from(*second) * weight;
    }
}

/// The same for samples of two bytes, little-endian, of which the upper eight bits count: `excess` is what
/// they have beyond those. `samples` counts samples.
pub(super) fn mix_deep_rows(
    plane: &Plane<'_>,
    samples: &Range<usize>,
    rows: Weighted,
    shift: u32,
    excess: u32,
    mixed: &mut Row,
) {
    let row = |index: u32| {
        let start = (index >> shift) as usize * plane.stride;
        plane.data.get(start + samples.start * 2..start + samples.end * 2)
    };
    // Present: `Picture::check` has measured the planes.
    let (Some(first), Some(second)) = (row(rows.first), row(rows.second)) else { return };
    let (keep, weight) = (ONE - rows.weight, rows.weight);
    let (first, second) = (first.as_chunks::<2>().0, second.as_chunks::<2>().0);
    // A sample above its own depth counts as the highest.
    let upper = |bytes: &[u8; 2]| (u16::from_le_bytes(*bytes) >> excess).min(u16::from(u8::MAX));
    for ((out, first), second) in mixed.iter_mut().zip(first).zip(second) {
        // At most 255 × 256.
        *out = upper(first) * keep + upper(second) * weight;
    }
}
