//! Random small graphs of everything the engine knows, and of some things it leaves to tract.

mod head;

use crate::infer::onnx::operators::{Resample, Taps};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::AxisOp;
use tract_onnx::tract_core::ops;
use tract_onnx::tract_core::ops::cnn::{Conv, KernelFormat, MaxPool, PaddingSpec, PoolSpec, SumPool};
use tract_onnx::tract_core::ops::nn::{DataFormat, Softmax, SoftmaxKind};

/// Numbers that look random and are always the same for one seed (xorshift).
pub(in crate::infer::cnn) struct Random(u64);

impl Random {
    pub(in crate::infer::cnn) fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 16
    }
    /// 0 … `limit` − 1.
    pub(in crate::infer::cnn) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
    /// −1 … 1.
    pub(super) fn float(&mut self) -> f32 {
        (self.next() % 65_536) as f32 / 32_768.0 - 1.0
    }
    pub(super) fn tensor(&mut self, shape: &[usize]) -> Tensor {
        let length = shape.iter().product();
        let values: Vec<f32> = (0..length).map(|_| self.float()).collect();
        Tensor::from_shape(shape, &values).unwrap()
    }
}

impl Random {
    /// Weights that keep values of order one, as trained ones do: a clip must not hide a large number's
    /// rounding.
    pub(super) fn weights(&mut self, shape: &[usize; 4]) -> Tensor {
        let scale = 1.0 / (shape[1..].iter().product::<usize>() as f32).sqrt();
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| self.float() * scale).collect();
        Tensor::from_shape(shape, &values).unwrap()
    }
}

impl Random {
    /// Whole numbers from −127 to 127 of a step of each output channel.
    fn whole_weights(&mut self, shape: &[usize; 4]) -> Tensor {
        let length: usize = shape[1..].iter().product();
        let scale = 1.0 / (127.0 * (length as f32).sqrt());
        let mut values = Vec::with_capacity(shape[0] * length);
        for _ in 0..shape[0] {
            let step = scale * (1.0 + self.float() * 0.5);
            values.extend((0..length).map(|_| (self.below(255) as f32 - 127.0) * step));
        }
        Tensor::from_shape(shape, &values).unwrap()
    }
}

/// A picture somewhere in the graph.
#[derive(Clone, Copy)]
struct Picture {
    at: OutletId,
    size: [usize; 3],
}

/// A graph and what was put into it, for messages.
pub(in crate::infer::cnn) struct Graph {
    pub model: TypedModel,
    pub story: String,
    random: Random,
    pictures: Vec<Picture>,
    /// Most values go through 8 bits, and weights are whole numbers of a step.
    is_quantized: bool,
}

impl Graph {
    /// Pictures made from each other, without an end.
    fn body(seed: u64, is_quantized: bool) -> Graph {
        let mut random = Random::new(seed + 1);
        let size = [random.pick(&[1, 3, 4, 7, 16, 20, 35]), 1 + random.below(17), 1 + random.below(17)];
        let mut model = TypedModel::default();
        let at = model.add_source("input", f32::fact([1, size[0], size[1], size[2]])).unwrap();
        let pictures = vec![Picture { at, size }];
        let mut graph = Graph { model, story: format!("{size:?}"), random, pictures, is_quantized };
        if is_quantized {
            let at = graph.through_8_bits(at);
            graph.add(at);
        }
        for _ in 0..2 + graph.random.below(9) {
            graph.step();
        }
        graph
    }

    pub(in crate::infer::cnn) fn random(seed: u64) -> Graph {
        Graph::whole(seed, false)
    }

    /// As exporters write models in 8 bits: most values are brought there and back.
    pub(in crate::infer::cnn) fn quantized(seed: u64) -> Graph {
        Graph::whole(seed, true)
    }

    fn whole(seed: u64, is_quantized: bool) -> Graph {
        let mut graph = Graph::body(seed, is_quantized);
        let last = *graph.pictures.last().unwrap();
        let other = graph.any();
        let mut outputs = vec![graph.tail(last)];
        if graph.random.below(3) == 0 && other.at != last.at {
            outputs.push(other.at);
        }
        graph.model.select_output_outlets(&outputs).unwrap();
        graph
    }

    /// A picture, one of the latest more likely.
    fn any(&mut self) -> Picture {
        let from = self.pictures.len().saturating_sub(1 + self.random.below(4));
        self.pictures[from.max(self.random.below(self.pictures.len()))]
    }

    fn wire(&mut self, what: String, op: impl Into<Box<dyn TypedOp>>, inputs: &[OutletId]) -> OutletId {
        let name = format!("n{}", self.model.nodes().len());
        self.story.push_str(&format!(" | {name} {what}"));
        self.model.wire_node(name, op, inputs).unwrap()[0]
    }

    fn constant(&mut self, tensor: Tensor) -> OutletId {
        let name = format!("c{}", self.model.nodes().len());
        self.model.add_const(name, tensor).unwrap()
    }

    fn add(&mut self, at: OutletId) {
        if let Some(&[1, c, h, w]) = self.model.outlet_fact(at).unwrap().shape.as_concrete() {
            self.pictures.push(Picture { at, size: [c, h, w] });
        }
    }

    fn step(&mut self) {
        let picture = self.any();
        let Picture { at, size: [c, h, w] } = picture;
        let made = match self.random.below(16) {
            0..=4 => self.convolution(picture),
            5 => self.pool(picture),
            6 => self.activation(at),
            7 => {
                let partner =
                    self.pictures.iter().rev().find(|p| p.size == picture.size && p.at != at).copied();
                let Some(partner) = partner else { return };
                let swap = self.random.below(2) == 0;
                let sides = if swap { [partner.at, at] } else { [at, partner.at] };
                self.binary(&sides)
            }
            8 => {
                let shape = self.random.pick(&[[1, c, 1, 1], [1, 1, 1, 1], [1, c, h, w], [1, 1, h, w]]);
                let tensor = self.random.tensor(&shape);
                let constant = self.constant(tensor);
                let swap = self.random.below(3) == 0;
                let sides = if swap { [constant, at] } else { [at, constant] };
                self.binary(&sides)
            }
            9 => {
                let same = |p: &&Picture| p.size[1..] == picture.size[1..] && p.size[0] < 80;
                let mut parts: Vec<OutletId> =
                    self.pictures.iter().rev().filter(same).take(3).map(|p| p.at).collect();
                if self.random.below(2) == 0 {
                    parts.reverse();
                }
                if parts.is_empty() {
                    return;
                }
                let what = format!("concat {parts:?}");
                self.wire(what, ops::array::TypedConcat { axis: 1 }, &parts)
            }
            10 => {
                let axis = self.random.pick(&[1, 1, 1, 2, 3]);
                let length = [1, c, h, w][axis];
                let start = if self.random.below(2) == 0 {
                    self.random.below(length)
                } else {
                    self.random.below(length) / 16 * 16
                };
                let end = start + 1 + self.random.below(length - start);
                self.wire(
                    format!("slice {at:?} axis {axis} {start}..{end}"),
                    ops::array::Slice::new(axis, start, end),
                    &[at],
                )
            }
            11 => {
                let axis = self.random.pick(&[1, 1, 2, 3]);
                let length = [1, c, h, w][axis];
                let indices: Vec<i64> = (0..1 + self.random.below(2 * length))
                    .map(|_| self.random.below(length) as i64)
                    .collect();
                let indices = self.constant(Tensor::from_shape(&[indices.len()], &indices).unwrap());
                self.wire(
                    format!("gather {at:?} axis {axis}"),
                    ops::array::Gather { axis, output_type: None },
                    &[at, indices],
                )
            }
            12 => self.resize(picture),
            13 => self.squeeze(picture),
            14 => {
                let mut pads = vec![(0, 0), (0, 0), (self.random.below(3), self.random.below(3))];
                pads.push((self.random.below(3), self.random.below(3)));
                let value = self.random.pick(&[0.0, 0.5, f32::NEG_INFINITY]);
                // infinities only where a maximum takes them away again
                let mode = ops::array::PadMode::Constant(Tensor::from(value).into_arc_tensor());
                let padded =
                    self.wire(format!("pad {at:?} {pads:?} {value}"), ops::array::Pad { pads, mode }, &[at]);
                if value.is_finite() {
                    padded
                } else {
                    let spec =
                        PoolSpec::new(DataFormat::NCHW, tvec!(3, 3), PaddingSpec::Valid, None, None, c, c);
                    let [_, _, ph, pw] =
                        self.model.outlet_fact(padded).unwrap().shape.as_concrete().unwrap()[..]
                    else {
                        return;
                    };
                    if ph < 3 || pw < 3 {
                        return;
                    }
                    self.wire(
                        format!("maxpool {padded:?}"),
                        MaxPool { pool_spec: spec, with_index_outputs: None },
                        &[padded],
                    )
                }
            }
            _ => self.shuffle(picture),
        };
        let made =
            if self.is_quantized && self.random.below(4) != 0 { self.through_8_bits(made) } else { made };
        self.add(made);
    }

    /// A value to 8 bits and back, sometimes with its SiLU or another activation on the way.
    fn through_8_bits(&mut self, at: OutletId) -> OutletId {
        let at = self.once_through_8_bits(at);
        match self.random.below(4) {
            0 => {
                let gate = self.wire(format!("sigmoid {at:?}"), ops::nn::sigmoid(), &[at]);
                let gate = self.once_through_8_bits(gate);
                let product = self.wire(format!("mul {at:?} {gate:?}"), ops::math::mul(), &[at, gate]);
                self.once_through_8_bits(product)
            }
            1 => {
                let made = self.activation(at);
                self.once_through_8_bits(made)
            }
            _ => at,
        }
    }

    fn once_through_8_bits(&mut self, at: OutletId) -> OutletId {
        use ops::quant::{DequantizeLinearF32, quantize_linear_i8, quantize_linear_u8};
        // exporters choose one scale for what is only moved
        let scale = self.random.pick(&[0.02, 0.02, 0.013, 0.007]);
        if self.random.below(2) == 0 {
            let zero = self.random.pick(&[0u8, 128, 128, 100]);
            let made = self.wire(
                format!("to u8 {at:?} {scale} {zero}"),
                quantize_linear_u8(1.0 / scale, zero),
                &[at],
            );
            return self.wire(
                String::from("back"),
                DequantizeLinearF32 { scale, zero_point: i32::from(zero) },
                &[made],
            );
        }
        let zero = self.random.pick(&[0i8, -128, 5]);
        let made =
            self.wire(format!("to i8 {at:?} {scale} {zero}"), quantize_linear_i8(1.0 / scale, zero), &[at]);
        self.wire(String::from("back"), DequantizeLinearF32 { scale, zero_point: i32::from(zero) }, &[made])
    }

    fn convolution(&mut self, Picture { at, size: [c, h, w] }: Picture) -> OutletId {
        let r = &mut self.random;
        let pair = |r: &mut Random, from: &[usize]| tvec!(r.pick(from), r.pick(from));
        // mostly what detectors have; sometimes anything
        let common = r.below(3) != 0;
        let k = r.pick(&[1, 3, 3, 5]);
        let kernel: TVec<usize> = if common { tvec!(k, k) } else { pair(r, &[1, 2, 3, 4, 5]) };
        let stride: TVec<usize> = if common {
            r.pick(&[tvec!(1, 1), tvec!(1, 1), tvec!(2, 2)].each_ref()).clone()
        } else {
            pair(r, &[1, 2, 3])
        };
        let dilation = if common { tvec!(1, 1) } else { pair(r, &[1, 2]) };
        let (before, after) = if common {
            (tvec!(k / 2, k / 2), tvec!(k / 2, k / 2))
        } else {
            (pair(r, &[0, 1, 2, 3]), pair(r, &[0, 1, 2, 3]))
        };
        let fits = |axis: usize, length: usize| {
            length + before[axis] + after[axis] > (kernel[axis] - 1) * dilation[axis]
        };
        if !fits(0, h) || !fits(1, w) {
            return at;
        }
        let (groups, out) = match r.below(5) {
            0 => (c, c),
            1 => {
                let divisors: Vec<usize> = (1..=c).filter(|d| c % d == 0).collect();
                let groups = r.pick(&divisors);
                (groups, groups * (1 + r.below(5)))
            }
            // 150 channels: a 3×3 convolution that reads them makes its Winograd factors anew, in two slices
            2 if r.below(4) == 0 => (1, 150),
            _ => (1, r.pick(&[1, 5, 16, 17, 32, 48])),
        };
        let shape = [out, c / groups, kernel[0], kernel[1]];
        let weights =
            if self.is_quantized { self.random.whole_weights(&shape) } else { self.random.weights(&shape) };
        let r = &mut self.random;
        let bias = r.tensor(&[out]);
        let spec = PoolSpec::new(
            DataFormat::NCHW,
            kernel,
            PaddingSpec::Explicit(before, after),
            Some(dilation),
            Some(stride),
            c,
            out,
        );
        let what = format!("conv {at:?} {spec:?} groups {groups}");
        let (weights, bias) = (self.constant(weights), self.constant(bias));
        let op = Conv { pool_spec: spec, kernel_fmt: KernelFormat::OIHW, group: groups, q_params: None };
        let made = self.wire(what, op, &[at, weights, bias]);
        match self.random.below(3) {
            0 => made,
            _ => self.activation(made),
        }
    }

    fn pool(&mut self, Picture { at, size: [c, h, w] }: Picture) -> OutletId {
        let r = &mut self.random;
        let kernel = tvec!(1 + r.below(5), 1 + r.below(5));
        let stride = tvec!(1 + r.below(3), 1 + r.below(3));
        // a window entirely in the padding has no maximum
        let pad = |r: &mut Random, k: usize| r.below(k);
        let before: TVec<usize> = tvec!(pad(r, kernel[0]), pad(r, kernel[1]));
        let after: TVec<usize> = tvec!(pad(r, kernel[0]), pad(r, kernel[1]));
        if h + before[0] + after[0] < kernel[0] || w + before[1] + after[1] < kernel[1] {
            return at;
        }
        let ceil = r.below(4) == 0;
        let padding = PaddingSpec::ExplicitOnnxPool(before, after, ceil);
        let spec = PoolSpec::new(DataFormat::NCHW, kernel, padding, None, Some(stride), c, c);
        let what = format!("pool {at:?} {spec:?}");
        if self.random.below(2) == 0 {
            self.wire(what, MaxPool { pool_spec: spec, with_index_outputs: None }, &[at])
        } else {
            let count_include_pad = self.random.below(2) == 0;
            let what = format!("{what} average {count_include_pad}");
            self.wire(what, SumPool { pool_spec: spec, count_include_pad, normalize: true }, &[at])
        }
    }

    fn activation(&mut self, at: OutletId) -> OutletId {
        let zero =
            |g: &mut Graph, value: f32| g.constant(Tensor::from_shape(&[1, 1, 1, 1], &[value]).unwrap());
        match self.random.below(9) {
            0 => self.wire(format!("sigmoid {at:?}"), ops::nn::sigmoid(), &[at]),
            1 => self.wire(format!("leaky {at:?}"), ops::nn::leaky_relu(0.1), &[at]),
            2 => self.wire(format!("hardswish {at:?}"), ops::nn::hard_swish(), &[at]),
            3 => self.wire(format!("tanh {at:?}"), ops::math::tanh(), &[at]),
            4 => {
                let low = zero(self, 0.0);
                self.wire(format!("relu {at:?}"), ops::math::max(), &[at, low])
            }
            5 => {
                let (low, high) = (zero(self, -0.25), zero(self, 0.5));
                let clipped = self.wire(format!("max {at:?}"), ops::math::max(), &[at, low]);
                self.wire(format!("min {clipped:?}"), ops::math::min(), &[clipped, high])
            }
            6 => self.wire(format!("abs {at:?}"), ops::math::abs(), &[at]),
            _ => {
                let gate = self.wire(format!("sigmoid {at:?}"), ops::nn::sigmoid(), &[at]);
                self.wire(format!("mul {at:?} {gate:?}"), ops::math::mul(), &[at, gate])
            }
        }
    }

    fn binary(&mut self, sides: &[OutletId]) -> OutletId {
        let (name, op) = match self.random.below(6) {
            0..=1 => ("add", ops::math::add()),
            2 => ("sub", ops::math::sub()),
            3 => ("mul", ops::math::mul()),
            4 => ("max", ops::math::max()),
            _ => ("min", ops::math::min()),
        };
        self.wire(format!("{name} {sides:?}"), op, sides)
    }

    fn resize(&mut self, Picture { at, size: [_, h, w] }: Picture) -> OutletId {
        if h * w > 200 {
            return at;
        }
        let (half_pixel, linear) = (self.random.below(2) == 0, self.random.below(2) == 0);
        let scale = self.random.pick(&[2usize, 3]);
        let taps = |length: usize, scale: usize| -> Taps {
            let last = (length - 1) as f32;
            let tap = |x: usize| {
                let shift = if half_pixel { 0.5 } else { 0.0 };
                let position = ((x as f32 + shift) / scale as f32 - shift).clamp(0.0, last);
                let (first, share) = (position.floor(), position.fract());
                match linear && share > 0.0 {
                    true => vec![(first as u32, 1.0 - share), ((first + 1.0).min(last) as u32, share)],
                    false => vec![(first as u32, 1.0)],
                }
            };
            (0..length * scale).map(tap).collect()
        };
        let op = Resample { axes: vec![(2, taps(h, scale)), (3, taps(w, 2))] };
        self.wire(format!("resize {at:?} {scale} linear {linear} half {half_pixel}"), op, &[at])
    }

    /// Squeeze and excitation: a number per channel, made from the picture, times the picture.
    fn squeeze(&mut self, Picture { at, size: [c, ..] }: Picture) -> OutletId {
        let op = ops::nn::Reduce { axes: tvec!(2, 3), reducer: ops::nn::Reducer::Sum };
        let sum = self.wire(format!("sum {at:?}"), op, &[at]);
        let (weights, bias) = (self.random.weights(&[c, c, 1, 1]), self.random.tensor(&[c]));
        let (weights, bias) = (self.constant(weights), self.constant(bias));
        let spec = PoolSpec::new(DataFormat::NCHW, tvec!(1, 1), PaddingSpec::Valid, None, None, c, c);
        let op = Conv { pool_spec: spec, kernel_fmt: KernelFormat::OIHW, group: 1, q_params: None };
        let mixed = self.wire(format!("conv {sum:?}"), op, &[sum, weights, bias]);
        let gate = self.wire(format!("sigmoid {mixed:?}"), ops::nn::sigmoid(), &[mixed]);
        self.wire(format!("mul {at:?} {gate:?}"), ops::math::mul(), &[at, gate])
    }

    /// Reorders channels as ShuffleNet does.
    fn shuffle(&mut self, Picture { at, size: [c, h, w] }: Picture) -> OutletId {
        let Some(groups) = [4, 2, 3].into_iter().find(|g| c % g == 0) else { return at };
        let dims = |v: &[usize]| v.iter().map(|d| d.to_dim()).collect::<TVec<TDim>>();
        let apart = AxisOp::Reshape(1, dims(&[c]), dims(&[groups, c / groups]));
        let together = AxisOp::Reshape(1, dims(&[c / groups, groups]), dims(&[c]));
        let _ = (h, w);
        let split = self.wire(format!("reshape {at:?}"), apart, &[at]);
        let moved = self.wire(format!("move {split:?}"), AxisOp::Move(1, 2), &[split]);
        self.wire(format!("reshape {moved:?}"), together, &[moved])
    }

    /// The end of a head: reshape, transposition, softmax, a product with constants.
    fn tail(&mut self, Picture { at, size: [c, h, w] }: Picture) -> OutletId {
        let dims = |v: &[usize]| v.iter().map(|d| d.to_dim()).collect::<TVec<TDim>>();
        match self.random.below(5) {
            0 => at,
            1 => {
                let flat = self.wire(
                    format!("flatten {at:?}"),
                    AxisOp::Reshape(2, dims(&[h, w]), dims(&[h * w])),
                    &[at],
                );
                self.wire(format!("move {flat:?}"), AxisOp::Move(1, 2), &[flat])
            }
            2 => {
                let axis = 1 + self.random.below(3);
                let op = Softmax { axes: tvec!(axis), quant_output_dt: None, kind: SoftmaxKind::Softmax };
                self.wire(format!("softmax {at:?} axis {axis}"), op, &[at])
            }
            3 => {
                let n = 1 + self.random.below(20);
                let matrix = self.random.tensor(&[w, n]);
                let matrix = self.constant(matrix);
                let op = ops::einsum::EinSum::new("abmk,kn->abmn".parse().unwrap(), f32::datum_type());
                self.wire(format!("matmul {at:?} {n}"), op, &[at, matrix])
            }
            _ => {
                let order = self.wire(format!("move {at:?}"), AxisOp::Move(3, 1), &[at]);
                let sum = self.activation(order);
                let parts = [sum, order, sum];
                let _ = c;
                self.wire(format!("concat {parts:?}"), ops::array::TypedConcat { axis: 2 }, &parts)
            }
        }
    }
}
