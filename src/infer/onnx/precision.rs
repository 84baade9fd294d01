//! 16-bit and 64-bit floats become 32-bit ones before tract sees the graph: tract computes 16-bit ones one by
//! one on x86 (a minute a frame), our own engine knows no others, and the numbers differ by less than the
//! exporter's own rounding.

use super::{artefact, clean};
use crate::error::Result;
use tract_onnx::pb::{AttributeProto, GraphProto, TensorProto, TypeProto, type_proto};

/// Numbers of ONNX's `TensorProto.DataType`.
pub(super) const FLOAT: i32 = 1;
pub(super) const UINT8: i32 = 2;
pub(super) const INT8: i32 = 3;
pub(super) const INT32: i32 = 6;
pub(super) const INT64: i32 = 7;
pub(super) const FLOAT16: i32 = 10;
pub(super) const DOUBLE: i32 = 11;

fn is_other_float(data_type: i32) -> bool {
    data_type == FLOAT16 || data_type == DOUBLE
}

/// Attributes that name an element type.
const TYPE_ATTRIBUTES: [&str; 4] = ["to", "dtype", "stash_type", "output_dtype"];

/// Converts the graph and those inside it.
pub(super) fn to_single(graph: &mut GraphProto) -> Result<()> {
    graph.initializer.iter_mut().try_for_each(tensor)?;
    for value in graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info) {
        if let Some(TypeProto { value: Some(type_proto::Value::TensorType(value)), .. }) = &mut value.r#type
            && is_other_float(value.elem_type)
        {
            value.elem_type = FLOAT;
        }
    }
    graph.node.iter_mut().flat_map(|node| &mut node.attribute).try_for_each(attribute)
}

fn attribute(attribute: &mut AttributeProto) -> Result<()> {
    if TYPE_ATTRIBUTES.contains(&attribute.name.as_str())
        && i32::try_from(attribute.i).is_ok_and(is_other_float)
    {
        attribute.i = i64::from(FLOAT);
    }
    attribute.t.iter_mut().chain(&mut attribute.tensors).try_for_each(tensor)?;
    // protobuf's own nesting limit (100) bounds this recursion
    attribute.g.iter_mut().chain(&mut attribute.graphs).try_for_each(to_single)
}

fn tensor(tensor: &mut TensorProto) -> Result<()> {
    let values: Vec<f32> = match tensor.data_type {
        DOUBLE if tensor.raw_data.is_empty() => {
            tensor.double_data.iter().map(|value| *value as f32).collect()
        }
        DOUBLE => eights(&tensor.raw_data).map(|bytes| f64::from_le_bytes(bytes) as f32).collect(),
        FLOAT16 if tensor.raw_data.is_empty() => {
            let halves: Option<Vec<u16>> =
                tensor.int32_data.iter().map(|bits| u16::try_from(*bits).ok()).collect();
            let broken = || {
                artefact(format!("tensor {} holds numbers that are no 16-bit floats", clean(&tensor.name)))
            };
            halves.ok_or_else(broken)?.into_iter().map(half).collect()
        }
        FLOAT16 => tensor
            .raw_data
            .chunks_exact(2)
            .filter_map(|two| two.try_into().ok())
            .map(u16::from_le_bytes)
            .map(half)
            .collect(),
        _ => return Ok(()),
    };
    tensor.data_type = FLOAT;
    (tensor.raw_data, tensor.double_data, tensor.int32_data) = (Vec::new(), Vec::new(), Vec::new());
    tensor.float_data = values;
    Ok(())
}

fn eights(bytes: &[u8]) -> impl Iterator<Item = [u8; 8]> + '_ {
    bytes.chunks_exact(8).filter_map(|eight| eight.try_into().ok())
}

/// IEEE 754 binary16: sign, 5 bits of exponent (bias 15), 10 of fraction.
pub(super) fn half(bits: u16) -> f32 {
    let (sign, exponent, fraction) =
        (u32::from(bits >> 15), u32::from(bits >> 10 & 0x1F), u32::from(bits & 0x3FF));
    let magnitude = match exponent {
        // subnormal: units of 2^-24
        0 => fraction as f32 * f32::from_bits(0x3380_0000),
        31 => f32::from_bits(0x7F80_0000 | fraction << 13),
        _ => f32::from_bits((exponent + 112) << 23 | fraction << 13),
    };
    if sign == 1 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_become_floats() {
        let cases = [
            (0x3C00, 1.0),
            (0xC000, -2.0),
            (0x7BFF, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x0400, 6.103_515_6e-5),
            (0x3555, 0.333_251_95),
        ];
        for (bits, value) in cases {
            assert_eq!(half(bits), value, "{bits:#x}");
        }
        assert_eq!(half(0x7C00), f32::INFINITY);
        assert!(half(0x7E00).is_nan());
        assert!(half(0x8000).is_sign_negative());
    }

    #[test]
    fn every_way_of_storing_is_read() {
        for stored in [
            TensorProto { data_type: FLOAT16, int32_data: vec![0x3C00, 0x4000], ..TensorProto::default() },
            TensorProto { data_type: FLOAT16, raw_data: vec![0, 0x3C, 0, 0x40], ..TensorProto::default() },
            TensorProto { data_type: DOUBLE, double_data: vec![1.0, 2.0], ..TensorProto::default() },
            TensorProto {
                data_type: DOUBLE,
                raw_data: [1.0f64, 2.0].iter().flat_map(|v| v.to_le_bytes()).collect(),
                ..TensorProto::default()
            },
        ] {
            let mut converted = TensorProto { dims: vec![2], ..stored };
            tensor(&mut converted).unwrap();
            assert_eq!((converted.data_type, converted.float_data), (FLOAT, vec![1.0, 2.0]));
        }
        let mut broken = TensorProto { data_type: FLOAT16, int32_data: vec![-1], ..TensorProto::default() };
        assert!(tensor(&mut broken).is_err());
    }
}
