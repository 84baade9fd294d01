//! Random layers of transformers against tract: what they are folded into, their numbers, and the same bits
//! on any number of threads.

use super::*;
use crate::infer::cnn::build;
use std::sync::Arc;
use tract_onnx::tract_core::internal::AxisOp;
use tract_onnx::tract_core::ops;
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::nn::{Reduce, Reducer, Softmax, SoftmaxKind};

/// Largest difference to tract, relative to the largest value of an output.
const CLOSE: f32 = 1e-5;

struct Layers {
    model: TypedModel,
    random: Random,
}

fn dims(sizes: &[usize]) -> TVec<TDim> {
    sizes.iter().map(|d| d.to_dim()).collect()
}

impl Layers {
    fn wire(&mut self, op: impl Into<Box<dyn TypedOp>>, inputs: &[OutletId]) -> OutletId {
        let name = format!("n{}", self.model.nodes().len());
        self.model.wire_node(name, op, inputs).unwrap()[0]
    }

    fn constant(&mut self, tensor: Tensor) -> OutletId {
        let name = format!("c{}", self.model.nodes().len());
        self.model.add_const(name, tensor).unwrap()
    }

    fn number(&mut self, value: f32) -> OutletId {
        self.constant(Tensor::from_shape(&[1, 1, 1], &[value]).unwrap())
    }

    /// As many numbers as there are channels.
    fn numbers(&mut self, count: usize) -> OutletId {
        let tensor = self.random.tensor(&[1, 1, count]);
        self.constant(tensor)
    }

    fn shape(&self, at: OutletId) -> Vec<usize> {
        self.model.outlet_fact(at).unwrap().shape.as_concrete().unwrap().to_vec()
    }

    fn linear(&mut self, x: OutletId, out: usize) -> OutletId {
        let channels = *self.shape(x).last().unwrap();
        let transposed = self.random.below(2) == 0;
        let shape = if transposed { [out, channels] } else { [channels, out] };
        let scale = 1.0 / (channels as f32).sqrt();
        let values: Vec<f32> = (0..channels * out).map(|_| self.random.float() * scale).collect();
        let weights = self.constant(Tensor::from_shape(&shape, &values).unwrap());
        let expression = if transposed { "amk,nk->amn" } else { "amk,kn->amn" };
        let made = self.wire(EinSum::new(expression.parse().unwrap(), f32::datum_type()), &[x, weights]);
        if self.random.below(4) == 0 {
            return made;
        }
        let bias = self.numbers(out);
        let sides = if self.random.below(2) == 0 { [made, bias] } else { [bias, made] };
        self.wire(ops::math::add(), &sides)
    }

    /// The mean over the last axis.
    fn mean(&mut self, x: OutletId) -> OutletId {
        let length = *self.shape(x).last().unwrap();
        let sum = self.wire(Reduce { axes: tvec!(2), reducer: Reducer::Sum }, &[x]);
        let divided = self.random.below(2) == 0;
        let number = self.number(if divided { length as f32 } else { 1.0 / length as f32 });
        if divided {
            self.wire(ops::math::div(), &[sum, number])
        } else {
            self.wire(ops::math::mul(), &[sum, number])
        }
    }

    fn norm(&mut self, x: OutletId) -> OutletId {
        let mean = self.mean(x);
        let centred = self.wire(ops::math::sub(), &[x, mean]);
        let squares = if self.random.below(2) == 0 {
            self.wire(ops::math::square(), &[centred])
        } else {
            self.wire(ops::math::mul(), &[centred, centred])
        };
        let variance = self.mean(squares);
        let epsilon = self.number(1e-5);
        let variance = self.wire(ops::math::add(), &[variance, epsilon]);
        let made = if self.random.below(2) == 0 {
            let factor = self.wire(ops::math::rsqrt(), &[variance]);
            self.wire(ops::math::mul(), &[centred, factor])
        } else {
            let deviation = self.wire(ops::math::sqrt(), &[variance]);
            self.wire(ops::math::div(), &[centred, deviation])
        };
        let channels = *self.shape(x).last().unwrap();
        let (scale, bias) = (self.numbers(channels), self.numbers(channels));
        let scaled = self.wire(ops::math::mul(), &[made, scale]);
        self.wire(ops::math::add(), &[bias, scaled])
    }

    fn gelu(&mut self, x: OutletId) -> OutletId {
        let gate = if self.random.below(2) == 0 {
            let root = self.number(std::f32::consts::SQRT_2);
            let inner = self.wire(ops::math::div(), &[x, root]);
            self.wire(ops::math::erf(), &[inner])
        } else {
            let (share, factor) = (self.number(0.044_715), self.number(0.797_884_6));
            let square = self.wire(ops::math::mul(), &[x, x]);
            let cube = self.wire(ops::math::mul(), &[square, x]);
            let cubic = self.wire(ops::math::mul(), &[share, cube]);
            let sum = self.wire(ops::math::add(), &[x, cubic]);
            let inner = self.wire(ops::math::mul(), &[sum, factor]);
            self.wire(ops::math::tanh(), &[inner])
        };
        let (one, half) = (self.number(1.0), self.number(0.5));
        let gate = self.wire(ops::math::add(), &[gate, one]);
        if self.random.below(2) == 0 {
            let product = self.wire(ops::math::mul(), &[x, gate]);
            return self.wire(ops::math::mul(), &[product, half]);
        }
        let halved = self.wire(ops::math::mul(), &[half, x]);
        self.wire(ops::math::mul(), &[gate, halved])
    }

    /// `[1, tokens, heads · dim]` → `[1, heads, tokens, dim]`.
    fn heads(&mut self, x: OutletId, heads: usize) -> OutletId {
        let channels = *self.shape(x).last().unwrap();
        let split = AxisOp::Reshape(2, dims(&[channels]), dims(&[heads, channels / heads]));
        let split = self.wire(split, &[x]);
        self.wire(AxisOp::Move(2, 1), &[split])
    }

    /// Adds a constant or something computed to scores `[1, heads, tokens, tokens]`, perhaps without the first
    /// axis.
    fn masked(&mut self, scores: OutletId, x: OutletId) -> OutletId {
        let [one, heads, tokens, _] = self.shape(scores)[..] else { panic!("not four axes") };
        let reshaped = self.random.below(3) == 0;
        let batch = if reshaped { vec![] } else { vec![one] };
        let scores = match reshaped {
            true => self.wire(AxisOp::Reshape(0, dims(&[one, heads]), dims(&[heads])), &[scores]),
            false => scores,
        };
        let of_heads = if self.random.below(2) == 0 { 1 } else { heads };
        let rows = if self.random.below(2) == 0 { 1 } else { tokens };
        let mask = if self.random.below(3) == 0 {
            // by key, from the layer's own input
            let most = self.wire(Reduce { axes: tvec!(2), reducer: Reducer::Max }, &[x]);
            let ones = [&batch[..], &[1, 1, tokens]].concat();
            self.wire(AxisOp::Reshape(0, dims(&[1, tokens, 1]), dims(&ones)), &[most])
        } else {
            let shape = [&batch[..], &[of_heads, rows, tokens]].concat();
            let mut tensor = self.random.tensor(&shape);
            let mut plain = tensor.try_as_plain_ram_mut().unwrap();
            // some pairs do not see each other, but every token sees the first
            for (index, number) in plain.as_slice_mut::<f32>().unwrap().iter_mut().enumerate() {
                if index % tokens > 0 && self.random.below(4) == 0 {
                    *number = [f32::NEG_INFINITY, f32::MIN, -100.0][self.random.below(3)];
                }
            }
            self.constant(tensor)
        };
        let sides = if self.random.below(2) == 0 { [scores, mask] } else { [mask, scores] };
        let made = self.wire(ops::math::add(), &sides);
        match reshaped {
            true => self.wire(AxisOp::Reshape(0, dims(&[heads]), dims(&[one, heads])), &[made]),
            false => made,
        }
    }

    fn attention(
        &mut self,
        [query, key, value]: [OutletId; 3],
        (heads, masks): (usize, usize),
        scale: f32,
    ) -> OutletId {
        let source = query;
        let [query, key, value] = [query, key, value].map(|x| self.heads(x, heads));
        let key = self.wire(AxisOp::Move(2, 3), &[key]);
        let number = self.constant(Tensor::from_shape(&[1, 1, 1, 1], &[scale]).unwrap());
        let early = self.random.below(2) == 0;
        let query = if early { self.wire(ops::math::mul(), &[query, number]) } else { query };
        let product = || EinSum::new("abmk,abkn->abmn".parse().unwrap(), f32::datum_type());
        let scores = self.wire(product(), &[query, key]);
        let scores = if early { scores } else { self.wire(ops::math::mul(), &[number, scores]) };
        let scores = (0..masks).fold(scores, |scores, _| self.masked(scores, source));
        let weights = self
            .wire(Softmax { axes: tvec!(3), quant_output_dt: None, kind: SoftmaxKind::Softmax }, &[scores]);
        let mixed = self.wire(product(), &[weights, value]);
        let mixed = self.wire(AxisOp::Move(1, 2), &[mixed]);
        let [_, _, heads, dim] = self.shape(mixed)[..] else { panic!("not four axes") };
        self.wire(AxisOp::Reshape(2, dims(&[heads, dim]), dims(&[heads * dim])), &[mixed])
    }
}

/// A layer, and how many nodes of it must have become one of each kind of step.
pub(in crate::infer::cnn) fn layer(seed: u64) -> (TypedModel, Vec<(&'static str, usize)>) {
    let mut random = Random::new(seed);
    let (heads, dim) = (1 + random.below(3), [8, 16, 17, 64][random.below(4)]);
    let (tokens, channels) = ([1, 5, 16, 33, 150][random.below(5)], heads * dim);
    let mut model = TypedModel::default();
    let input = model.add_source("x", f32::fact([1, tokens, channels])).unwrap();
    let mut layers = Layers { model, random };
    let y = layers.norm(input);
    let parts = [0; 3].map(|_| layers.linear(y, channels));
    // one head of one number over one token has axes that mean nothing
    let masks = if layers.shape(y)[1] > 1 && heads > 1 { layers.random.below(3) } else { 0 };
    let mixed = layers.attention(parts, (heads, masks), 1.0 / (dim as f32).sqrt());
    let made = layers.linear(mixed, channels);
    let x = layers.wire(ops::math::add(), &[input, made]);
    let y = layers.norm(x);
    let y = layers.linear(y, 2 * channels);
    let y = layers.gelu(y);
    let made = layers.linear(y, channels);
    let made = match layers.random.below(2) {
        0 => made,
        _ => {
            let share = layers.numbers(channels);
            layers.wire(ops::math::mul(), &[made, share])
        }
    };
    let x = layers.wire(ops::math::add(), &[made, x]);
    let Layers { mut model, .. } = layers;
    model.select_output_outlets(&[x]).unwrap();
    // masks are part of the attention; what narrow layers or odd numbers of columns are followed by stays by itself
    let whole = channels % LANES == 0;
    let mut steps = vec![("linear", 6), ("normalize", 2)];
    if whole {
        steps.extend([("binary", 0), ("activate", 0), ("copy", 0)]);
    }
    if tokens > 1 {
        steps.push(("attention", 1));
    }
    (model, steps)
}

#[test]
fn layers_of_transformers_agree_with_tract() {
    allow_threads(3);
    for kernels in Kernels::ALL.iter().filter(|kernels| (kernels.available)()) {
        for seed in 0..40 {
            let (model, steps) = layer(seed);
            let what = format!("{} seed {seed}", kernels.name);
            let mut bits: Option<Vec<u32>> = None;
            for threads in 1..=3 {
                let options = Options { cpu: Some(kernels.name.to_owned()), threads, ..Options::default() };
                let plan = build(&model, &options).unwrap_or_else(|e| panic!("{what}: {e}"));
                for &(name, count) in &steps {
                    let found = plan.steps.iter().filter(|(_, step)| step.name() == name).count();
                    let all: Vec<_> =
                        plan.steps.iter().map(|(node, step)| format!("{node} {}", step.name())).collect();
                    assert_eq!(found, count, "{what}: steps called {name} of {all:?}");
                }
                let engine = if threads == 2 {
                    elsewhere(&model, &options).unwrap()
                } else {
                    compile(&model, &options).unwrap()
                };
                let mut run = engine.new_run().unwrap();
                let input = fill(&mut *run, &mut Random::new(seed + 1));
                run.execute().unwrap();
                let found: Vec<u32> = run.output(0).iter().map(|value| value.to_bits()).collect();
                if let Some(bits) = &bits {
                    assert!(*bits == found, "{what}: {threads} threads differ from one");
                    continue;
                }
                let expected = oracle(&model, &input).remove(0);
                let range = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
                for (at, (found, expected)) in run.output(0).iter().zip(&expected).enumerate() {
                    let close = (found - expected).abs() <= CLOSE * range;
                    assert!(close, "{what}: element {at}: {found} instead of {expected} (range {range})");
                }
                bits = Some(found);
            }
        }
    }
}

#[test]
fn items_of_a_transformers_steps_share_nothing_that_is_written() {
    for seed in 0..10 {
        let (model, _) = layer(seed);
        for threads in [2, 3] {
            let plan = build(&model, &Options { threads, ..Options::default() }).unwrap();
            disjoint::check(Arc::new(plan), &format!("seed {seed}"));
        }
    }
}

/// A picture at places that it names itself, some of them outside.
#[test]
fn pictures_are_sampled_as_tract_does() {
    for (seed, align_corners) in [(1, false), (2, true)] {
        let mut model = TypedModel::default();
        let input = model.add_source("x", f32::fact([1, 5, 9, 12])).unwrap();
        let mut layers = Layers { model, random: Random::new(seed) };
        let places = layers.wire(ops::array::Slice::new(1, 1, 3), &[input]);
        let places = layers.wire(AxisOp::Move(1, 3), &[places]);
        let factor = layers.constant(Tensor::from_shape(&[1, 1, 1, 1], &[1.3f32]).unwrap());
        let places = layers.wire(ops::math::mul(), &[places, factor]);
        let op = ops::nn::GridSample {
            mode: ops::nn::InterpolationMode::Bilinear,
            padding_mode: ops::nn::PaddingMode::Zeros,
            align_corners,
        };
        let output = layers.wire(op, &[input, places]);
        let Layers { mut model, .. } = layers;
        model.select_output_outlets(&[output]).unwrap();
        let plan = build(&model, &Options::default()).unwrap();
        assert!(plan.steps.iter().any(|(_, step)| step.name() == "sample"));
        let mut run = elsewhere(&model, &Options::default()).unwrap().new_run().unwrap();
        let input = fill(&mut *run, &mut Random::new(seed));
        run.execute().unwrap();
        let expected = oracle(&model, &input).remove(0);
        for (at, (found, expected)) in run.output(0).iter().zip(&expected).enumerate() {
            assert!(
                (found - expected).abs() <= CLOSE,
                "{align_corners} element {at}: {found} instead of {expected}"
            );
        }
    }
}
