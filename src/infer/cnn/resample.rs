//! Finds out how a Resize node reads its input, by asking tract: the dozen modes of ONNX's Resize then need no code.

use super::graph::{Taps, Value, floats};
use std::sync::Arc;
use tract_onnx::prelude::*;

/// Largest deviation from tract's own result that a reconstruction may show; both round differently.
const TOLERANCE: f32 = 1e-4;
/// Most elements of a tensor that is resized only to learn how.
const MAX_PROBE: usize = 1 << 24;

/// Rows and columns of a resize that reads at most two neighbours per axis, or `None`.
pub(super) fn probe(node: &TypedNode, input: &Value, output: &Value, constants: &[Option<Arc<Tensor>>]) -> Option<(Taps, Taps)> {
    let ([c, h, w], [oc, oh, ow]) = (input.picture()?, output.picture()?);
    if c != oc || input.len().max(output.len()) > MAX_PROBE {
        return None;
    }
    let run = |pixel: &dyn Fn(usize, usize) -> f32| -> Option<Vec<f32>> {
        let plane: Vec<f32> = (0..h * w).map(|i| pixel(i / w, i % w)).collect();
        let tensor = Tensor::from_shape(&[1, c, h, w], &plane.repeat(c)).ok()?;
        let mut inputs = TVec::new();
        inputs.push(tensor.into_tvalue());
        for constant in constants.iter().skip(1) {
            inputs.push(constant.clone()?.into_tvalue());
        }
        let results = node.op.eval_out_of_plan(inputs).ok()??;
        Some(floats(results.first()?)?.get(..oh * ow)?.to_vec())
    };
    // a ramp gives back the position that each output reads
    let down = run(&|y, _| y as f32)?;
    let across = run(&|_, x| x as f32)?;
    let rows: Taps = (0..oh).map(|y| tap(down[y * ow], h)).collect::<Option<_>>()?;
    let columns: Taps = (0..ow).map(|x| tap(across[x], w)).collect::<Option<_>>()?;
    // and an uneven picture shows whether that was all
    let uneven = |y: usize, x: usize| ((y * 31 + x * 17) % 64) as f32 / 64.0;
    let expected = run(&uneven)?;
    let exact = expected.iter().enumerate().all(|(i, e)| {
        let ((top, bottom, v), (left, right, u)) = (rows[i / ow], columns[i % ow]);
        let line = |y: u32| {
            let (a, b) = (uneven(y as usize, left as usize), uneven(y as usize, right as usize));
            a + (b - a) * u
        };
        (line(top) + (line(bottom) - line(top)) * v - e).abs() < TOLERANCE
    });
    exact.then_some((rows, columns))
}

/// Splits a position into two neighbours and the weight of the second.
fn tap(position: f32, length: usize) -> Option<(u32, u32, f32)> {
    let last = length.checked_sub(1)? as f32;
    if !(0.0..=last).contains(&position) {
        return None;
    }
    let mut first = position.floor();
    let mut weight = position - first;
    if weight < 1e-5 {
        weight = 0.0;
    } else if weight > 1.0 - 1e-5 {
        (first, weight) = (first + 1.0, 0.0);
    }
    Some((first as u32, (first + 1.0).min(last) as u32, weight))
}
