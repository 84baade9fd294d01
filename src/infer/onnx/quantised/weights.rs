//! Stored weights of 8 bits, and biases of 32, as floats.

use super::Fit;
use super::constants::{length, whole};
use crate::error::Result;
use crate::infer::onnx::precision::FLOAT;
use crate::infer::onnx::{artefact, clean, too_heavy};
use std::collections::HashMap;
use tract_onnx::pb::TensorProto;

/// What to make floats of, and how.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Weights {
    source: String,
    /// Bits of the scales: one, or one for each place along an axis.
    scales: Vec<u32>,
    /// One, or as many.
    zeros: Vec<i32>,
    /// Numbers behind one another that share a scale.
    inner: usize,
}

impl Weights {
    /// `axis` counts from the end where it is negative.
    pub(super) fn of(tensor: &TensorProto, scales: &[f32], zeros: &[i32], axis: i64) -> Fit<Weights> {
        let count = length(tensor).filter(|_| whole(tensor).is_some());
        let count = count.ok_or("weights other than of 8 bits")?;
        if !scales.iter().all(|scale| scale.is_finite()) {
            return Err(String::from("scales that are no numbers"));
        }
        let several = scales.len().max(zeros.len());
        let inner = if several == 1 {
            count
        } else {
            let rank = tensor.dims.len() as i64;
            let axis = usize::try_from(if axis < 0 { axis + rank } else { axis }).ok();
            let (side, behind) = axis
                .and_then(|axis| Some((tensor.dims.get(axis)?, tensor.dims.get(axis + 1..)?)))
                .ok_or("scales along an axis that its weights lack")?;
            let fits = |count: usize| count == 1 || i64::try_from(count) == Ok(*side);
            if !fits(scales.len()) || !fits(zeros.len()) {
                return Err(String::from("another number of scales than of channels"));
            }
            crate::infer::onnx::elements(behind.iter().copied())
                .and_then(|inner| usize::try_from(inner).ok())
                .unwrap_or(count)
        };
        let scales = scales.iter().map(|scale| scale.to_bits()).collect();
        Ok(Weights { source: tensor.name.clone(), scales, zeros: zeros.to_vec(), inner })
    }
}

/// Those that something reads. `budget`: the most bytes that all may take.
pub(super) fn make(
    weights: HashMap<Weights, String>,
    stored: &[TensorProto],
    is_read: impl Fn(&str) -> bool,
    budget: u64,
) -> Result<Vec<TensorProto>> {
    let stored: HashMap<&str, &TensorProto> =
        stored.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let (mut made, mut left) = (Vec::new(), budget);
    for (weights, name) in weights.into_iter().filter(|(_, name)| is_read(name)) {
        let missing = || artefact(format!("tensor {} is not what it was", clean(&weights.source)));
        let tensor = stored.get(weights.source.as_str()).ok_or_else(missing)?;
        let numbers = whole(tensor).ok_or_else(missing)?;
        let bytes = (numbers.len() as u64).saturating_mul(size_of::<f32>() as u64);
        left = left.checked_sub(bytes).ok_or_else(|| too_heavy(budget))?;
        let scales: Vec<f32> = weights.scales.iter().map(|bits| f32::from_bits(*bits)).collect();
        let float_data = numbers.scaled(&scales, &weights.zeros, weights.inner);
        let dims = tensor.dims.clone();
        made.push(TensorProto { name, dims, data_type: FLOAT, float_data, ..TensorProto::default() });
    }
    Ok(made)
}
