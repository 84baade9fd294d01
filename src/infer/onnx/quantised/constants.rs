//! Numbers that a graph stores.

use crate::infer::onnx::precision::{FLOAT, INT8, INT32, UINT8};
use std::borrow::Cow;
use tract_onnx::pb::{GraphProto, TensorProto};

/// Constants that are nodes become stored tensors, as most exporters write them.
pub(super) fn store(graph: &mut GraphProto) {
    let nodes = std::mem::take(&mut graph.node);
    for mut node in nodes {
        let tensor = match (node.op_type.as_str(), &mut node.attribute[..], &node.output[..]) {
            ("Constant", [value], [name]) if value.name == "value" && !name.is_empty() => {
                value.t.take().map(|tensor| TensorProto { name: name.clone(), ..tensor })
            }
            _ => None,
        };
        match tensor {
            Some(tensor) => graph.initializer.push(tensor),
            None => graph.node.push(node),
        }
    }
}

/// Numbers of 8 bits.
pub(super) fn is_byte(data_type: i32) -> bool {
    data_type == UINT8 || data_type == INT8
}

/// How many elements a tensor says that it has.
pub(super) fn length(tensor: &TensorProto) -> Option<usize> {
    usize::try_from(crate::infer::onnx::elements(tensor.dims.iter().copied())?).ok()
}

/// 32-bit floats.
pub(super) fn singles(tensor: &TensorProto) -> Option<Vec<f32>> {
    let (fours, rest) = tensor.raw_data.as_chunks::<4>();
    let values = match (tensor.data_type, tensor.raw_data.is_empty()) {
        (FLOAT, true) => tensor.float_data.clone(),
        (FLOAT, false) if rest.is_empty() => fours.iter().map(|four| f32::from_le_bytes(*four)).collect(),
        _ => return None,
    };
    (Some(values.len()) == length(tensor)).then_some(values)
}

/// Whole numbers as they lie in the file.
pub(super) enum Whole<'a> {
    Bytes(&'a [u8]),
    /// Two's complement.
    Signed(&'a [u8]),
    Words(Cow<'a, [i32]>),
}

/// Numbers of 8 or 32 bits.
pub(super) fn whole(tensor: &TensorProto) -> Option<Whole<'_>> {
    let (fours, rest) = tensor.raw_data.as_chunks::<4>();
    let words = tensor.int32_data.as_slice();
    let within = |low: i32, high: i32| words.iter().all(|word| (low..=high).contains(word));
    let numbers = match (tensor.data_type, tensor.raw_data.is_empty()) {
        (UINT8, false) => Whole::Bytes(&tensor.raw_data),
        (INT8, false) => Whole::Signed(&tensor.raw_data),
        (INT32, false) if rest.is_empty() => {
            Whole::Words(fours.iter().map(|four| i32::from_le_bytes(*four)).collect())
        }
        (UINT8, true) if within(0, 255) => Whole::Words(words.into()),
        (INT8, true) if within(-128, 127) => Whole::Words(words.into()),
        (INT32, true) => Whole::Words(words.into()),
        _ => return None,
    };
    (Some(numbers.len()) == length(tensor)).then_some(numbers)
}

impl Whole<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            Whole::Bytes(bytes) | Whole::Signed(bytes) => bytes.len(),
            Whole::Words(words) => words.len(),
        }
    }

    pub(super) fn to_vec(&self) -> Vec<i32> {
        match self {
            Whole::Bytes(bytes) => bytes.iter().map(|byte| i32::from(*byte)).collect(),
            Whole::Signed(bytes) => bytes.iter().map(|byte| i32::from(byte.cast_signed())).collect(),
            Whole::Words(words) => words.to_vec(),
        }
    }

    /// `scale · (number − zero)`, rounded once; blocks of `inner` numbers share a scale and zero point, and
    /// one of either serves all.
    pub(super) fn scaled(&self, scales: &[f32], zeros: &[i32], inner: usize) -> Vec<f32> {
        match self {
            Whole::Bytes(bytes) => scaled(bytes, |byte| i64::from(*byte), scales, zeros, inner),
            Whole::Signed(bytes) => scaled(bytes, |byte| i64::from(byte.cast_signed()), scales, zeros, inner),
            Whole::Words(words) => scaled(words, |word| i64::from(*word), scales, zeros, inner),
        }
    }
}

fn scaled<T>(numbers: &[T], of: impl Fn(&T) -> i64, scales: &[f32], zeros: &[i32], inner: usize) -> Vec<f32> {
    let at = |index: usize, count: usize| if count == 1 { 0 } else { index % count.max(1) };
    let mut floats = Vec::with_capacity(numbers.len());
    for (index, block) in numbers.chunks(inner.max(1)).enumerate() {
        let scale = scales.get(at(index, scales.len())).copied().unwrap_or(1.0);
        let zero = i64::from(zeros.get(at(index, zeros.len())).copied().unwrap_or(0));
        floats.extend(block.iter().map(|number| (of(number) - zero) as f32 * scale));
    }
    floats
}
