//! Random ends of detectors: what every anchor says, in the orders and with the operations that exports have,
//! and others.

use super::{Graph, Picture};
use crate::infer::Scores;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::AxisOp;
use tract_onnx::tract_core::ops;
use tract_onnx::tract_core::ops::cnn::{Conv, KernelFormat, PaddingSpec, PoolSpec};
use tract_onnx::tract_core::ops::nn::{DataFormat, Softmax, SoftmaxKind};

fn dims(sides: &[usize]) -> TVec<TDim> {
    sides.iter().map(ToDim::to_dim).collect()
}

impl Graph {
    /// A random graph that ends as a detector does, and where its scores are.
    pub(in crate::infer::cnn::tests) fn head(seed: u64) -> (Graph, Scores) {
        let mut graph = Graph::body(seed, false);
        let random = &mut graph.random;
        // box values, then scores, then values nobody asks for
        let (boxes, count, rest) = (random.below(6), 1 + random.below(20), random.below(3));
        let values = boxes + count + rest;
        let anchors = random.pick(&[1, 1, 3]);
        let levels = 1 + random.below(3);
        // whether the levels are joined before the values are worked on, as YOLOv8 does, or after
        let joined = anchors == 1 && random.below(2) == 0;
        let mut rows = Vec::new();
        for _ in 0..levels {
            let picture = graph.any();
            rows.push(graph.level(picture, values, anchors));
        }
        let mut tails = if joined { vec![graph.join(&rows)] } else { rows };
        for tail in &mut tails {
            *tail = graph.values(*tail, boxes, count, rest);
        }
        let all = graph.join(&tails);
        let last = graph.random.below(2) == 0;
        let output = if last { graph.wire("to rows".into(), AxisOp::Move(1, 2), &[all]) } else { all };
        let mut outputs = vec![output];
        if graph.random.below(4) == 0 {
            // boxes by themselves, or a copy of everything
            outputs.push(graph.wire("copy".into(), ops::math::abs(), &[output]));
        }
        graph.model.select_output_outlets(&outputs).unwrap();
        (graph, Scores { output: 0, anchor_axis: if last { 1 } else { 2 }, first: boxes, count })
    }

    fn pointwise(&mut self, Picture { at, size: [c, ..] }: Picture, out: usize) -> OutletId {
        let weights = self.random.weights(&[out, c, 1, 1]);
        let bias = self.random.tensor(&[out]);
        let (weights, bias) = (self.constant(weights), self.constant(bias));
        let padding = PaddingSpec::Explicit(tvec!(0, 0), tvec!(0, 0));
        let spec = PoolSpec::new(DataFormat::NCHW, tvec!(1, 1), padding, None, None, c, out);
        let op = Conv { pool_spec: spec, kernel_fmt: KernelFormat::OIHW, group: 1, q_params: None };
        self.wire(format!("pointwise {at:?} to {out}"), op, &[at, weights, bias])
    }

    /// `[1, values, anchors of a picture]`.
    fn level(&mut self, picture: Picture, values: usize, anchors: usize) -> OutletId {
        let [_, h, w] = picture.size;
        if anchors > 1 {
            let all = self.pointwise(picture, anchors * values);
            let op = AxisOp::Reshape(1, dims(&[anchors * values]), dims(&[anchors, values]));
            let apart = self.wire(format!("{anchors} anchors of {all:?}"), op, &[all]);
            let moved = self.wire("values first".into(), AxisOp::Move(2, 1), &[apart]);
            let op = AxisOp::Reshape(2, dims(&[anchors, h, w]), dims(&[anchors * h * w]));
            return self.wire("flatten".into(), op, &[moved]);
        }
        let made = match self.random.below(3) {
            0 if values > 1 => {
                // two branches
                let (first, picture_of_second) = (1 + self.random.below(values - 1), picture);
                let parts =
                    [self.pointwise(picture, first), self.pointwise(picture_of_second, values - first)];
                self.wire(format!("branches {parts:?}"), ops::array::TypedConcat { axis: 1 }, &parts)
            }
            _ => self.pointwise(picture, values),
        };
        let made = if self.random.below(4) == 0 { self.activation(made) } else { made };
        let op = AxisOp::Reshape(2, dims(&[h, w]), dims(&[h * w]));
        self.wire(format!("flatten {made:?}"), op, &[made])
    }

    fn join(&mut self, parts: &[OutletId]) -> OutletId {
        match parts {
            [one] => *one,
            _ => self.wire(format!("levels {parts:?}"), ops::array::TypedConcat { axis: 2 }, parts),
        }
    }

    /// Works on `[1, values, anchors]`.
    fn values(&mut self, all: OutletId, boxes: usize, count: usize, rest: usize) -> OutletId {
        let anchors = self.model.outlet_fact(all).unwrap().shape.as_concrete().unwrap()[2];
        let slice = |graph: &mut Graph, from: usize, length: usize| {
            let what = format!("slice {all:?} from {from}");
            graph.wire(
                what,
                ops::array::Slice { axis: 1, start: from.to_dim(), end: (from + length).to_dim() },
                &[all],
            )
        };
        let scores = slice(self, boxes, count);
        let scores = match self.random.below(4) {
            0 => scores,
            1 => self.wire("tanh".into(), ops::math::tanh(), &[scores]),
            _ => self.wire("sigmoid".into(), ops::nn::sigmoid(), &[scores]),
        };
        let mut parts = vec![scores];
        if boxes > 0 {
            let mut made = slice(self, 0, boxes);
            if self.random.below(3) == 0 {
                let op = Softmax { axes: tvec!(1), quant_output_dt: None, kind: SoftmaxKind::Softmax };
                made = self.wire("softmax".into(), op, &[made]);
            }
            for _ in 0..self.random.below(3) {
                let shape =
                    self.random.pick(&[[1, 1, anchors], [1, boxes, anchors], [1, boxes, 1], [1, 1, 1]]);
                let tensor = self.random.tensor(&shape);
                let constant = self.constant(tensor);
                let sides = if self.random.below(2) == 0 { [made, constant] } else { [constant, made] };
                made = self.binary(&sides);
            }
            parts.insert(0, made);
        }
        if rest > 0 {
            parts.push(slice(self, boxes + count, rest));
        }
        match parts[..] {
            [one] => one,
            _ => self.wire(format!("values {parts:?}"), ops::array::TypedConcat { axis: 1 }, &parts),
        }
    }
}
