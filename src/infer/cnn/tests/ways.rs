//! Every way to compute a 3×3 convolution gives its result, and Winograd's rounding stays far below what
//! matters.

use super::super::choice::Algorithm;
use super::super::kernels::Kernels;
use super::random::Random;
use super::{Options, compile, fill};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::cnn::{Conv, KernelFormat, PaddingSpec, PoolSpec};
use tract_onnx::tract_core::ops::nn::DataFormat;

/// Input and output channels of all 3×3 layers of NanoDet, YOLOv8n, YOLO11n and YOLOv5s, with a size of map
/// each: the error comes from the sums over channels, so that the map need not be as large as theirs.
const LAYERS: &[[usize; 4]] = &[
    [8, 16, 13, 13],
    [16, 8, 9, 11],
    [16, 16, 20, 20],
    [16, 32, 12, 7],
    [32, 16, 5, 30],
    [32, 32, 16, 16],
    [32, 64, 10, 10],
    [64, 32, 8, 13],
    [64, 64, 20, 20],
    [64, 80, 7, 7],
    [80, 80, 10, 9],
    [128, 64, 13, 13],
    [128, 80, 6, 10],
    [128, 128, 13, 13],
    [256, 64, 10, 10],
    [256, 80, 5, 5],
    [256, 128, 13, 13],
    [256, 256, 13, 13],
];
/// Largest error of Winograd, relative to the range of the output. What is asked for is 1e-3.
const MOST_ERROR: f32 = 1e-5;

/// A graph of one 3×3 convolution that keeps the size of its input.
fn convolution([inputs, outputs, height, width]: [usize; 4], random: &mut Random) -> TypedModel {
    let mut model = TypedModel::default();
    let input = model.add_source("input", f32::fact([1, inputs, height, width])).unwrap();
    let weights = model.add_const("weights", random.weights(&[outputs, inputs, 3, 3])).unwrap();
    let bias = model.add_const("bias", random.tensor(&[outputs])).unwrap();
    let padding = PaddingSpec::Explicit(tvec!(1, 1), tvec!(1, 1));
    let pool_spec = PoolSpec::new(DataFormat::NCHW, tvec!(3, 3), padding, None, None, inputs, outputs);
    let conv = Conv { pool_spec, kernel_fmt: KernelFormat::OIHW, group: 1, q_params: None };
    let output = model.wire_node("conv", conv, &[input, weights, bias]).unwrap();
    model.select_output_outlets(&output).unwrap();
    model
}

#[test]
fn winograd_errs_by_less_than_a_hundred_thousandth_on_every_layer() {
    for (index, &shape) in LAYERS.iter().enumerate() {
        let model = convolution(shape, &mut Random::new(index as u64));
        for kernels in Kernels::ALL.iter().filter(|k| (k.available)()) {
            let results = Algorithm::ALL.map(|way| {
                let options = Options {
                    cpu: Some(kernels.name.to_owned()),
                    threads: 1,
                    way: Some(way),
                    ..Options::default()
                };
                let engine = compile(&model, &options).unwrap();
                let mut run = engine.new_run().unwrap();
                fill(&mut *run, &mut Random::new(7));
                run.execute().unwrap();
                run.output(0).to_vec()
            });
            let [direct, kept, remade] = &results;
            let range = direct.iter().fold(0f32, |m, v| m.max(v.abs()));
            for (way, found) in [(Algorithm::Kept, kept), (Algorithm::Remade, remade)] {
                assert_ne!(direct, found, "{} {shape:?}: {way:?} was not taken", kernels.name);
                let error = direct.iter().zip(found).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / range;
                assert!(error < MOST_ERROR, "{} {shape:?} {way:?}: {error:e}", kernels.name);
            }
        }
    }
}
