//! Resize as our kernels do it: rows, then columns, two neighbours at most.

use super::graph::{Taps, Value};
use crate::infer::onnx::operators::{Resample, Taps as Weighted};

/// Rows and columns of a resize of a picture that reads at most two neighbours per axis, or `None`.
pub(super) fn taps(op: &Resample, input: &Value) -> Option<(Taps, Taps)> {
    let [_, height, width] = input.picture()?;
    let (mut rows, mut columns) = (whole(height), whole(width));
    for (axis, taps) in &op.axes {
        match axis {
            2 => rows = neighbours(taps, height)?,
            3 => columns = neighbours(taps, width)?,
            _ => return None,
        }
    }
    Some((rows, columns))
}

/// An axis that stays as it is.
fn whole(length: usize) -> Taps {
    (0..length as u32).map(|position| (position, position, 0.0)).collect()
}

/// Taps as two positions and the weight of the second; `None` where there are more, or where they are no
/// mean.
fn neighbours(taps: &Weighted, length: usize) -> Option<Taps> {
    let one = |taps: &Vec<(u32, f32)>| {
        let tap = match taps[..] {
            [(position, 1.0)] => (position, position, 0.0),
            [(first, _), (second, weight)] => (first, second, weight),
            _ => return None,
        };
        ((tap.0 as usize) < length && (tap.1 as usize) < length).then_some(tap)
    };
    taps.iter().map(one).collect()
}
