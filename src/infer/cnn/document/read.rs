//! Bytes → graph. What comes out is whole: every index means something. Whether it makes sense,
//! [`super::check()`] says.

use super::{MAX_BYTES, MAX_LIST, MAX_NAME_BYTES, MAX_OPERANDS, MAX_OUTPUTS, MAX_VALUES, VERSION, tag};
use crate::bytes::Reader;
use crate::infer::cnn::constant::Constant;
use crate::infer::cnn::graph::{
    Attention, Axes, Conv, Graph, Linear, MAX_MASKS, MAX_RANK, Node, Op, Product, Reduction, Taps, Value,
    ValueId, Window,
};
use crate::infer::cnn::import::MAX_ELEMENTS;
use crate::infer::cnn::kernels::{Activation, Binary, Levels, Residual};

/// The graph, its constants without content; `None` where the bytes are none.
pub(in crate::infer::cnn) fn read(bytes: &[u8]) -> Option<Graph> {
    if bytes.len() > MAX_BYTES {
        return None;
    }
    let mut reader = Reader::new(bytes);
    if reader.u32()? != VERSION {
        return None;
    }
    let values = reader.list(MAX_VALUES, read_value)?;
    let count = values.len();
    let nodes = reader.list(MAX_VALUES, |reader| read_node(reader, count))?;
    let inputs = ids(&mut reader, 1, count)?;
    let outputs = ids(&mut reader, MAX_OUTPUTS, count)?;
    reader.end(Graph { values, nodes, inputs, outputs, kept: Vec::new() })
}

fn read_value(reader: &mut Reader<'_>) -> Option<Value> {
    let shape = reader.sizes(MAX_RANK, MAX_ELEMENTS)?;
    let constant = reader.bool()?.then(|| Constant::Packed(shape.as_slice().into()));
    Some(Value { name: String::new(), shape, constant, foreign: false, coding: None })
}

fn ids(reader: &mut Reader<'_>, most: usize, values: usize) -> Option<Vec<ValueId>> {
    let ids = reader.sizes(most, values.checked_sub(1)?)?;
    Some(ids.into_iter().map(ValueId).collect())
}

fn read_node(reader: &mut Reader<'_>, values: usize) -> Option<Node> {
    let name = reader.text(MAX_NAME_BYTES)?.chars().filter(|c| !c.is_control()).collect();
    let inputs = ids(reader, MAX_OPERANDS, values)?;
    let outputs = ids(reader, MAX_OPERANDS, values)?;
    let axis = |reader: &mut Reader<'_>| reader.size(MAX_RANK - 1);
    let op = match reader.u8()? {
        tag::CONV => Op::Conv(Box::new(read_conv(reader)?)),
        tag::MAX_POOL => Op::MaxPool(read_window(reader)?),
        tag::AVERAGE_POOL => {
            Op::AveragePool { include_padding: reader.bool()?, window: read_window(reader)? }
        }
        tag::GLOBAL_SUM => Op::GlobalSum,
        tag::RESIZE => Op::Resize { rows: read_taps(reader)?, columns: read_taps(reader)? },
        tag::ACTIVATE => Op::Activate(read_activation(reader)?),
        tag::BINARY => Op::Binary(match reader.u8()? {
            0 => Binary::Add,
            1 => Binary::Sub,
            2 => Binary::Mul,
            3 => Binary::Div,
            4 => Binary::Max,
            5 => Binary::Min,
            _ => return None,
        }),
        tag::CONCAT => Op::Concat { axis: axis(reader)? },
        tag::SLICE => Op::Slice {
            axis: axis(reader)?,
            start: reader.size(MAX_ELEMENTS)?,
            end: reader.size(MAX_ELEMENTS)?,
        },
        tag::GATHER => Op::Gather { axis: axis(reader)?, indices: reader.sizes(MAX_LIST, MAX_ELEMENTS)? },
        tag::RESHAPE => Op::Reshape,
        tag::TRANSPOSE => Op::Transpose { order: reader.sizes(MAX_RANK, MAX_RANK)? },
        tag::SOFTMAX => Op::Softmax { axis: axis(reader)? },
        tag::LINEAR => Op::Linear(Box::new(Linear {
            weights: Constant::Packed(reader.sizes(MAX_RANK, MAX_ELEMENTS)?.into()),
            transposed: reader.bool()?,
            scale: Vec::new(), // packed with the weights
            bias: reader.bool()?,
            activation: read_activation(reader)?,
            residual: read_residual(reader)?,
        })),
        tag::PRODUCT => {
            let scale = reader.f32()?;
            Op::Product(Box::new(Product {
                left: read_axes(reader)?,
                right: read_axes(reader)?,
                out: read_axes(reader)?,
                scale,
            }))
        }
        tag::ATTENTION => {
            let scale = reader.f32()?;
            let [query, key, value, out] =
                [read_axes(reader)?, read_axes(reader)?, read_axes(reader)?, read_axes(reader)?];
            let masks = reader.list(MAX_MASKS, read_axes)?;
            Op::Attention(Box::new(Attention { query, key, value, out, scale, masks }))
        }
        tag::NORMALIZE => Op::Normalize { epsilon: reader.f32()? },
        tag::SAMPLE => Op::Sample { align_corners: reader.bool()? },
        tag::DYNAMIC_QUANTIZE => Op::DynamicQuantize,
        tag::REDUCE => Op::Reduce(if reader.bool()? { Reduction::Max } else { Reduction::Sum }),
        tag::PAD => Op::Pad {
            before: reader.sizes(MAX_RANK, MAX_ELEMENTS)?,
            after: reader.sizes(MAX_RANK, MAX_ELEMENTS)?,
            value: reader.f32()?,
        },
        _ => return None,
    };
    Some(Node { name, op, inputs, outputs })
}

fn read_conv(reader: &mut Reader<'_>) -> Option<Conv> {
    let window = read_window(reader)?;
    let groups = reader.size(MAX_ELEMENTS)?;
    let weights = Constant::Packed(reader.sizes(MAX_RANK, MAX_ELEMENTS)?.into());
    let activation = read_activation(reader)?;
    let residual = read_residual(reader)?;
    let is_int8 = reader.bool()?;
    // scale and bias are packed with the weights
    let (scale, bias) = (Vec::new(), Vec::new());
    Some(Conv { window, groups, weights, scale, bias, activation, residual, is_int8, int8: None })
}

fn read_residual(reader: &mut Reader<'_>) -> Option<Option<Residual>> {
    Some(match reader.u8()? {
        0 => None,
        1 => Some(Residual::AfterActivation),
        2 => Some(Residual::BeforeActivation),
        _ => return None,
    })
}

fn read_axes(reader: &mut Reader<'_>) -> Option<Axes> {
    let mut axis = || Some(reader.size(MAX_RANK)?.checked_sub(1));
    Some([axis()?, axis()?, axis()?, axis()?])
}

fn read_window(reader: &mut Reader<'_>) -> Option<Window> {
    let mut pair = || Some([reader.size(MAX_ELEMENTS)?, reader.size(MAX_ELEMENTS)?]);
    Some(Window { kernel: pair()?, stride: pair()?, dilation: pair()?, before: pair()?, after: pair()? })
}

fn read_taps(reader: &mut Reader<'_>) -> Option<Taps> {
    reader.list(MAX_LIST, |reader| Some((reader.u32()?, reader.u32()?, reader.f32()?)))
}

fn read_levels(reader: &mut Reader<'_>) -> Option<Levels> {
    Some(Levels { scale: reader.f32()?, low: reader.f32()?, high: reader.f32()?, step: reader.f32()? })
}

fn read_activation(reader: &mut Reader<'_>) -> Option<Activation> {
    Some(match reader.u8()? {
        0 => Activation::Identity,
        1 => Activation::Clip { low: reader.f32()?, high: reader.f32()? },
        2 => Activation::Leaky { slope: reader.f32()? },
        3 => Activation::Silu,
        4 => Activation::Sigmoid,
        5 => Activation::HardSwish,
        6 => Activation::Tanh,
        7 => Activation::Exp,
        8 => Activation::Gelu,
        9 => Activation::GeluTanh,
        10 => Activation::Erf,
        11 => Activation::Sqrt,
        12 => Activation::Rsqrt,
        13 => Activation::Reciprocal,
        14 => Activation::Cube,
        15 => Activation::Quantized(read_levels(reader)?),
        16 => Activation::QuantizedSilu {
            before: read_levels(reader)?,
            gate: read_levels(reader)?,
            after: read_levels(reader)?,
        },
        _ => return None,
    })
}
