//! A picture given as bytes is the picture given as floats, to the bit.

use super::random::{Graph, Random};
use super::{Options, allow_threads, compile, model};
use crate::infer::{Precision, Run};

/// Factor and offset of each plane: what ImageNet's mean and deviation come to, nearly.
const WORTH: [(f32, f32); 3] = [(0.017, -2.1), (0.0175, -2.0), (0.0174, -1.8)];

fn outputs(run: &mut dyn Run, count: usize) -> Vec<Vec<u32>> {
    run.execute().unwrap();
    (0..count).map(|index| run.output(index).iter().map(|number| number.to_bits()).collect()).collect()
}

/// Whether the plan takes bytes; if so, that they mean what they should, before and after floats.
fn agrees(model: &tract_onnx::prelude::TypedModel, options: &Options, what: &str) -> bool {
    let Ok(engine) = compile(model, options) else { return false };
    let (mut run, count) = (engine.new_run().unwrap(), engine.output_shapes().len());
    let mut random = Random::new(5);
    let bytes: Vec<u8> = (0..run.input().len()).map(|_| random.below(256) as u8).collect();
    let plane = bytes.len() / 3;
    let mut results = Vec::new();
    for is_bytes in [true, false, true, false] {
        if is_bytes {
            match run.pixels(WORTH) {
                Some(pixels) => pixels.copy_from_slice(&bytes),
                None => return false,
            }
        } else {
            let planes = run.input().chunks_exact_mut(plane).zip(bytes.chunks_exact(plane));
            for ((floats, bytes), (factor, offset)) in planes.zip(WORTH) {
                floats.iter_mut().zip(bytes).for_each(|(to, byte)| *to = f32::from(*byte) * factor + offset);
            }
        }
        results.push(outputs(&mut *run, count));
    }
    assert!(results.iter().all(|result| *result == results[0]), "{what}");
    true
}

#[test]
fn a_detector_reads_bytes_as_it_reads_floats() {
    allow_threads(3);
    let model = model("tests/families/convolutions.onnx", 64);
    for (threads, precision) in [(1, Precision::Full), (2, Precision::Full), (2, Precision::Half)] {
        let options = Options { threads, precision, ..Options::default() };
        assert!(agrees(&model, &options, &format!("{precision:?} on {threads} threads")), "floats only");
    }
}

#[test]
fn random_graphs_read_bytes_as_they_read_floats() {
    allow_threads(3);
    let mut taken = 0;
    for seed in super::seeds(90_000, 400) {
        for (graph, int8) in [
            (Graph::random(seed), None),
            (Graph::quantized(seed), None),
            (Graph::quantized(seed), Some("scalar-int8")),
        ] {
            let options = Options { threads: 1 + seed as usize % 3, int8, ..Options::default() };
            taken += u32::from(agrees(&graph.model, &options, &format!("seed {seed}: {}", graph.story)));
        }
    }
    assert!(taken > 20, "only {taken} graphs took bytes");
}
