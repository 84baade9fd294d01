//! A small graph of our own between tract's and the plan: values with fixed shapes, and the operations we
//! know.
//!
//! Everything in it is 32-bit float and has at most [`MAX_RANK`] dimensions; what is not stays a
//! [`Op::Foreign`] node that tract runs.

use super::constant::{Constant, Floats};
use super::foreign::Foreign;
use super::kernels::int8::Table;
use super::kernels::{Activation, Binary, Levels, Residual};

/// Highest rank of a tensor we handle ourselves; detection heads use up to 5.
pub(super) const MAX_RANK: usize = 6;

/// Names a value: its index in [`Graph::values`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ValueId(pub usize);

/// What flows along an edge.
#[derive(Debug, Clone)]
pub(super) struct Value {
    /// Name of the node that makes it, for messages.
    pub name: String,
    /// Its dimensions, batch included.
    pub shape: Vec<usize>,
    /// Its content, when known while compiling.
    pub constant: Option<Constant>,
    /// Neither 32-bit float nor within the limits: only foreign nodes may touch it.
    pub foreign: bool,
    /// It lies in 8-bit codes; said by `int8.rs` while a plan is laid out.
    pub coding: Option<Coding>,
}

/// What 8-bit codes are worth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Coding {
    /// Known while compiling.
    Static(Levels),
    /// Chosen for every picture, so that its numbers just fit ([`Op::DynamicQuantize`]).
    Dynamic,
}

/// A convolution of codes.
#[derive(Debug, Clone)]
pub(super) struct Int8 {
    pub input: Coding,
    /// `None`: it makes floats, by the convolution's activation.
    pub output: Option<Recoding>,
}

/// How a convolution's sums become codes.
#[derive(Debug, Clone)]
pub(super) struct Recoding {
    pub levels: Levels,
    /// What is done to the number before: [`Activation::Identity`] where codes are made of the sums themselves.
    pub activation: Activation,
    /// What then becomes of every code.
    pub table: Option<Box<Table>>,
}

impl Value {
    /// How many elements it has.
    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Its numbers, where it is a constant of floats.
    pub(super) fn numbers(&self) -> Option<Floats<'_>> {
        self.constant.as_ref().and_then(Constant::floats)
    }

    /// The number of a constant of one element.
    pub(super) fn uniform(&self) -> Option<f32> {
        match *self.numbers()? {
            [one] => Some(one),
            _ => None,
        }
    }

    /// `(channels, height, width)` of a `[1, C, H, W]` tensor.
    pub(super) fn picture(&self) -> Option<[usize; 3]> {
        match *self.shape.as_slice() {
            [1, c, h, w] => Some([c, h, w]),
            _ => None,
        }
    }
}

/// Window of a convolution or pooling: rows first, then columns.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Window {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    /// Rows above, columns to the left.
    pub before: [usize; 2],
    /// Rows below, columns to the right.
    pub after: [usize; 2],
}

/// A convolution with everything that was folded into it.
#[derive(Debug, Clone)]
pub(super) struct Conv {
    pub window: Window,
    pub groups: usize,
    /// `[O, I / groups, kernel rows, kernel columns]`.
    pub weights: Constant,
    /// Per output channel, multiplied into the weights when they are packed (a folded batch norm); empty: 1.
    pub scale: Vec<f32>,
    /// Added to each output channel, one float a channel.
    pub bias: Vec<f32>,
    pub activation: Activation,
    /// The node's second input is added to its output.
    pub residual: Option<Residual>,
    /// For each output channel the weights are whole numbers from −128 to 127 of one step.
    pub is_int8: bool,
    /// It is computed in integers; said while a plan is laid out.
    pub int8: Option<Int8>,
}

/// Which axis of a value is what to a product: two of the batch, then the rows and columns of its matrices.
/// What is `None` has length 1; what the other operand has there counts for all.
pub(super) type Axes = [Option<usize>; 4];

/// The four lengths of a value. `None` where the axes do not name every axis of it (but those of length 1)
/// once.
pub(super) fn lengths(axes: &Axes, shape: &[usize]) -> Option<[usize; 4]> {
    let mut lengths = [1; 4];
    let mut seen = [false; MAX_RANK];
    for (length, axis) in lengths.iter_mut().zip(axes) {
        if let Some(axis) = *axis {
            *length = *shape.get(axis)?;
            if std::mem::replace(seen.get_mut(axis)?, true) {
                return None;
            }
        }
    }
    let all = shape.iter().zip(seen).all(|(length, seen)| seen || *length == 1);
    (shape.len() <= MAX_RANK && all).then_some(lengths)
}

/// `out[.., m, n] = scale · Σk left[.., m, k] · right[.., k, n]` of two values that are computed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Product {
    /// Columns are the depth.
    pub left: Axes,
    /// Rows are the depth.
    pub right: Axes,
    pub out: Axes,
    pub scale: f32,
}

/// Most masks of one attention: Swin adds the bias of relative positions and the mask of shifted windows.
pub(super) const MAX_MASKS: usize = 2;

/// `out[.., m, n] = Σk softmax over k (scale · Σd query[.., m, d] · key[.., k, d] + masks[.., m, k]) ·
/// value[.., k, n]`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Attention {
    pub query: Axes,
    pub key: Axes,
    pub value: Axes,
    pub out: Axes,
    pub scale: f32,
    /// Of the operands behind the value, constant or not: columns are the keys.
    pub masks: Vec<Axes>,
}

/// `out[.., m, n] = act((Σk in[.., m, k] · weights[k, n] + bias[n]) · scale[n])`, with a shortcut of the same
/// shape.
#[derive(Debug, Clone)]
pub(super) struct Linear {
    /// `[k, n]`, or `[n, k]` where `transposed`.
    pub weights: Constant,
    pub transposed: bool,
    /// Per column, multiplied into weights and bias when they are packed; empty: 1.
    pub scale: Vec<f32>,
    /// The node's second input is a constant of `n` numbers.
    pub bias: bool,
    pub activation: Activation,
    /// The node's last input is added to its output.
    pub residual: Option<Residual>,
}

impl Linear {
    /// Rows (depth) and columns of the weights as a matrix; `None`: they are none.
    pub(super) fn size(&self) -> Option<[usize; 2]> {
        match (self.weights.shape(), self.transposed) {
            (&[k, n], false) | (&[n, k], true) => Some([k, n]),
            _ => None,
        }
    }
}

/// What becomes of an axis that is reduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reduction {
    Sum,
    Max,
}

/// How one axis of a resize reads its input: for each output position two input positions and the weight of
/// the second.
pub(super) type Taps = Vec<(u32, u32, f32)>;

/// What a node does.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Conv(Box<Conv>),
    MaxPool(Window),
    /// `include_padding`: divide by the window's size everywhere.
    AveragePool {
        window: Window,
        include_padding: bool,
    },
    /// Sum over rows and columns, `[1, C, 1, 1]`.
    GlobalSum,
    Resize {
        rows: Taps,
        columns: Taps,
    },
    Activate(Activation),
    /// Shapes broadcast as in numpy.
    Binary(Binary),
    Concat {
        axis: usize,
    },
    Slice {
        axis: usize,
        start: usize,
        end: usize,
    },
    /// Picks along an axis.
    Gather {
        axis: usize,
        indices: Vec<usize>,
    },
    /// Same elements, other shape.
    Reshape,
    Transpose {
        order: Vec<usize>,
    },
    Softmax {
        axis: usize,
    },
    /// A product with constant weights.
    Linear(Box<Linear>),
    /// A product of two values.
    Product(Box<Product>),
    /// Two products with a softmax between them.
    Attention(Box<Attention>),
    /// Over the last axis: `(x − mean) / √(variance + epsilon)`, times the second input and plus the third,
    /// if there are any: constants with as many numbers as the axis.
    Normalize {
        epsilon: f32,
    },
    /// `[N, C, H, W]` at the places of `[N, rows, columns, 2]` (x, then y, −1 … 1 over the picture), between
    /// the four pixels around; zero outside. `align_corners`: −1 and 1 are the centres of the outermost
    /// pixels, not their edges.
    Sample {
        align_corners: bool,
    },
    /// The last axis becomes one number.
    Reduce(Reduction),
    /// Constant rows and columns around a picture, or any other tensor.
    Pad {
        before: Vec<usize>,
        after: Vec<usize>,
        value: f32,
    },
    /// To 8 bits and back, with a scale that just fits the numbers that there are: ONNX's DynamicQuantizeLinear.
    DynamicQuantize,
    /// A node that tract runs.
    Foreign(Box<Foreign>),
    /// Floats to codes; put in by `int8.rs`, as the next two.
    Quantize(Levels),
    /// Codes to other codes.
    Translate(Box<Table>),
    /// `a op b` of two pictures in codes.
    Int8Binary {
        op: Binary,
        levels: Levels,
    },
    /// Row-major to blocks of channels, and back; put in by `layout.rs`.
    ToBlocks,
    FromBlocks,
    /// Between blocks of floats, blocks of half precision and codes; put in by `layout.rs`.
    Recast,
}

/// An operation with its operands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub name: String,
    pub op: Op,
    pub inputs: Vec<ValueId>,
    pub outputs: Vec<ValueId>,
}

/// Nodes in an order in which they can run.
#[derive(Debug, Clone, Default)]
pub(super) struct Graph {
    pub values: Vec<Value>,
    pub nodes: Vec<Node>,
    /// Written before the first node runs: one in a model.
    pub inputs: Vec<ValueId>,
    pub outputs: Vec<ValueId>,
    /// Read by the head, as they are, when the last of them has been made.
    pub kept: Vec<ValueId>,
}

impl Graph {
    /// The value behind an id. Ids are made by [`Graph::add_value`] only, and values are never removed.
    pub(super) fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0]
    }

    /// Adds a value of a shape.
    pub(super) fn add_value(&mut self, name: &str, shape: Vec<usize>) -> ValueId {
        self.values.push(Value {
            name: name.to_owned(),
            shape,
            constant: None,
            foreign: false,
            coding: None,
        });
        ValueId(self.values.len() - 1)
    }

    /// How often each value is read, as an operand or as an output of the graph.
    pub(super) fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.values.len()];
        let operands = self.nodes.iter().flat_map(|n| &n.inputs);
        for id in operands.chain(&self.outputs) {
            uses[id.0] += 1;
        }
        uses
    }

    /// The node that makes each value.
    pub(super) fn makers(&self) -> Vec<Option<usize>> {
        let mut makers = vec![None; self.values.len()];
        for (index, node) in self.nodes.iter().enumerate() {
            for output in &node.outputs {
                makers[output.0] = Some(index);
            }
        }
        makers
    }

    /// Drops nodes whose outputs nobody reads.
    pub(super) fn sweep(&mut self) {
        let mut live = vec![false; self.values.len()];
        for output in &self.outputs {
            live[output.0] = true;
        }
        let mut keep = vec![false; self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate().rev() {
            if node.outputs.iter().any(|o| live[o.0]) {
                keep[index] = true;
                node.inputs.iter().for_each(|i| live[i.0] = true);
            }
        }
        let mut keep = keep.into_iter();
        self.nodes.retain(|_| keep.next().unwrap_or(false));
    }

    /// Keeps the shapes of constants only.
    pub(super) fn forget_content(&mut self) {
        self.values.iter_mut().filter_map(|value| value.constant.as_mut()).for_each(Constant::forget_content);
        for node in &mut self.nodes {
            match &mut node.op {
                Op::Conv(conv) => conv.weights.forget_content(),
                Op::Linear(linear) => linear.weights.forget_content(),
                _ => {}
            }
        }
    }

    /// Drops values that nothing names. Ids change.
    pub(super) fn compact(&mut self) {
        let mut named = vec![false; self.values.len()];
        let nodes = self.nodes.iter().flat_map(|node| node.inputs.iter().chain(&node.outputs));
        nodes.chain(&self.inputs).chain(&self.outputs).chain(&self.kept).for_each(|id| named[id.0] = true);
        let mut next = 0;
        let ids: Vec<ValueId> = named
            .iter()
            .map(|named| {
                next += usize::from(*named);
                ValueId(next.saturating_sub(1))
            })
            .collect();
        let nodes = self.nodes.iter_mut().flat_map(|node| node.inputs.iter_mut().chain(&mut node.outputs));
        nodes
            .chain(&mut self.inputs)
            .chain(&mut self.outputs)
            .chain(&mut self.kept)
            .for_each(|id| *id = ids[id.0]);
        let mut named = named.into_iter();
        self.values.retain(|_| named.next().unwrap_or(false));
    }
}
