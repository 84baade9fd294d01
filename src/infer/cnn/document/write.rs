//! A graph is written: what the process that compiled it sends to the service.

use super::{MAX_NAME_BYTES, VERSION, tag};
use crate::bytes::Writer;
use crate::infer::cnn::graph::{Axes, Conv, Graph, Node, Op, Reduction, Taps, Window};
use crate::infer::cnn::kernels::{Activation, Binary, Levels, Residual};

/// The graph; `None` where it holds what only the process that made it can run.
pub(in crate::infer::cnn) fn write(graph: &Graph) -> Option<Vec<u8>> {
    let mut out = Writer::default();
    out.u32(VERSION).size(graph.values.len());
    for value in &graph.values {
        if value.foreign {
            return None;
        }
        out.sizes(&value.shape).bool(value.constant.is_some());
    }
    out.size(graph.nodes.len());
    for node in &graph.nodes {
        write_node(&mut out, node)?;
    }
    for ids in [&graph.inputs, &graph.outputs] {
        out.sizes(&ids.iter().map(|id| id.0).collect::<Vec<_>>());
    }
    Some(out.into_bytes())
}

fn write_node(out: &mut Writer, node: &Node) -> Option<()> {
    out.text(&node.name, MAX_NAME_BYTES);
    for ids in [&node.inputs, &node.outputs] {
        out.sizes(&ids.iter().map(|id| id.0).collect::<Vec<_>>());
    }
    match &node.op {
        Op::Conv(conv) => write_conv(out, conv),
        Op::MaxPool(window) => write_window(out.u8(tag::MAX_POOL), window),
        Op::AveragePool { window, include_padding } => {
            write_window(out.u8(tag::AVERAGE_POOL).bool(*include_padding), window);
        }
        Op::GlobalSum => {
            out.u8(tag::GLOBAL_SUM);
        }
        Op::Resize { rows, columns } => {
            out.u8(tag::RESIZE);
            write_taps(out, rows);
            write_taps(out, columns);
        }
        Op::Activate(activation) => write_activation(out.u8(tag::ACTIVATE), *activation),
        Op::Binary(op) => {
            let number = match op {
                Binary::Add => 0,
                Binary::Sub => 1,
                Binary::Mul => 2,
                Binary::Div => 3,
                Binary::Max => 4,
                Binary::Min => 5,
            };
            out.u8(tag::BINARY).u8(number);
        }
        Op::Concat { axis } => {
            out.u8(tag::CONCAT).size(*axis);
        }
        Op::Slice { axis, start, end } => {
            out.u8(tag::SLICE).size(*axis).size(*start).size(*end);
        }
        Op::Gather { axis, indices } => {
            out.u8(tag::GATHER).size(*axis).sizes(indices);
        }
        Op::Reshape => {
            out.u8(tag::RESHAPE);
        }
        Op::Transpose { order } => {
            out.u8(tag::TRANSPOSE).sizes(order);
        }
        Op::Softmax { axis } => {
            out.u8(tag::SOFTMAX).size(*axis);
        }
        Op::Linear(linear) => {
            out.u8(tag::LINEAR).sizes(linear.weights.shape()).bool(linear.transposed).bool(linear.bias);
            write_activation(out, linear.activation);
            write_residual(out, linear.residual);
        }
        Op::Product(product) => {
            write_axes(out.u8(tag::PRODUCT).f32(product.scale), &[product.left, product.right, product.out]);
        }
        Op::Attention(attention) => {
            let axes = [attention.query, attention.key, attention.value, attention.out];
            write_axes(out.u8(tag::ATTENTION).f32(attention.scale), &axes);
            write_axes(out.size(attention.masks.len()), &attention.masks);
        }
        Op::Normalize { epsilon } => {
            out.u8(tag::NORMALIZE).f32(*epsilon);
        }
        Op::Sample { align_corners } => {
            out.u8(tag::SAMPLE).bool(*align_corners);
        }
        Op::DynamicQuantize => {
            out.u8(tag::DYNAMIC_QUANTIZE);
        }
        Op::Reduce(reduction) => {
            out.u8(tag::REDUCE).bool(*reduction == Reduction::Max);
        }
        Op::Pad { before, after, value } => {
            out.u8(tag::PAD).sizes(before).sizes(after).f32(*value);
        }
        Op::Foreign(_)
        | Op::ToBlocks
        | Op::FromBlocks
        | Op::Recast
        | Op::Quantize(_)
        | Op::Translate(_)
        | Op::Int8Binary { .. } => return None,
    }
    Some(())
}

fn write_conv(out: &mut Writer, conv: &Conv) {
    write_window(out.u8(tag::CONV), &conv.window);
    out.size(conv.groups).sizes(conv.weights.shape());
    write_activation(out, conv.activation);
    write_residual(out, conv.residual);
    out.bool(conv.is_int8);
}

fn write_residual(out: &mut Writer, residual: Option<Residual>) {
    out.u8(match residual {
        None => 0,
        Some(Residual::AfterActivation) => 1,
        Some(Residual::BeforeActivation) => 2,
    });
}

/// Axes of a walk; a count of 0 is none.
fn write_axes(out: &mut Writer, all: &[Axes]) {
    for axis in all.iter().flatten() {
        out.size(axis.map_or(0, |axis| axis + 1));
    }
}

fn write_window(out: &mut Writer, window: &Window) {
    for [rows, columns] in [window.kernel, window.stride, window.dilation, window.before, window.after] {
        out.size(rows).size(columns);
    }
}

fn write_taps(out: &mut Writer, taps: &Taps) {
    out.size(taps.len());
    for (first, second, weight) in taps {
        out.u32(*first).u32(*second).f32(*weight);
    }
}

fn write_activation(out: &mut Writer, activation: Activation) {
    match activation {
        Activation::Identity => out.u8(0),
        Activation::Clip { low, high } => out.u8(1).f32(low).f32(high),
        Activation::Leaky { slope } => out.u8(2).f32(slope),
        Activation::Silu => out.u8(3),
        Activation::Sigmoid => out.u8(4),
        Activation::HardSwish => out.u8(5),
        Activation::Tanh => out.u8(6),
        Activation::Exp => out.u8(7),
        Activation::Gelu => out.u8(8),
        Activation::GeluTanh => out.u8(9),
        Activation::Erf => out.u8(10),
        Activation::Sqrt => out.u8(11),
        Activation::Rsqrt => out.u8(12),
        Activation::Reciprocal => out.u8(13),
        Activation::Cube => out.u8(14),
        Activation::Quantized(levels) => write_levels(out.u8(15), levels),
        Activation::QuantizedSilu { before, gate, after } => {
            [before, gate, after].into_iter().fold(out.u8(16), write_levels)
        }
    };
}

fn write_levels(out: &mut Writer, levels: Levels) -> &mut Writer {
    out.f32(levels.scale).f32(levels.low).f32(levels.high).f32(levels.step)
}
