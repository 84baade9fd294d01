//! Half precision: the CPU's loops against their twins to the bit, and all against what 32 bits give.

use super::random::{Graph, Random};
use super::{Options, elsewhere, fill, model, oracle, outputs};
use crate::infer::Precision;
use crate::infer::cnn::kernels::Format;
use crate::infer::cnn::kernels::half::Half;

/// Graphs of each comparison.
const GRAPHS: u64 = 400;
/// Largest difference to 32 bits that is expected of most graphs, as the root of the mean square over the
/// largest value: bfloat16 has 8 bits, and a graph here rounds up to ten times.
const USUAL: f64 = 0.02;
/// In so many of a hundred graphs; the others hold quotients and exponentials of what was rounded.
const USUALLY: u64 = 90;

fn by(name: &'static str, threads: usize) -> Options {
    Options { precision: Precision::HalfBy(name), threads, ..Options::default() }
}

/// The tables that this machine can run, the twins among them.
fn tables() -> impl Iterator<Item = &'static Half> {
    Half::ALL.iter().copied().filter(|half| (half.available)())
}

/// The plain loops that give the same bits.
fn twin(half: &Half) -> &'static str {
    match half.format {
        Format::Float16 => "scalar-fp16",
        _ => "scalar-bf16",
    }
}

const TWINS: [&str; 2] = ["scalar-bf16", "scalar-fp16"];

#[test]
fn every_table_gives_the_bits_of_the_twin() {
    super::allow_threads(3);
    for seed in super::seeds(50_000, GRAPHS) {
        let graph = Graph::random(seed);
        let alone = |name| outputs(&graph, &by(name, 1), seed).map(|(_, outputs)| outputs);
        let expected = TWINS.map(alone);
        for half in tables() {
            let name = half.name;
            let expected = &expected[usize::from(twin(half) == TWINS[1])];
            let found = outputs(&graph, &by(name, 1 + seed as usize % 3), seed).map(|(_, outputs)| outputs);
            let what = format!("{name} seed {seed}: {}", graph.story);
            let (Some(found), Some(expected)) = (&found, expected) else {
                assert_eq!(found.is_some(), expected.is_some(), "{what}");
                continue;
            };
            for (found, expected) in found.iter().zip(expected) {
                for (at, (f, e)) in found.iter().zip(expected).enumerate() {
                    let same = f.to_bits() == e.to_bits() || (f.is_nan() && e.is_nan());
                    assert!(same, "{what}: element {at}: {f} instead of {e}");
                }
            }
        }
    }
}

#[test]
fn it_is_near_what_32_bits_give() {
    for twin in TWINS {
        let (mut near, mut all) = (0, 0);
        let mut worst = Vec::new();
        for seed in super::seeds(60_000, GRAPHS) {
            let graph = Graph::random(seed);
            let Some((input, found)) = outputs(&graph, &by(twin, 1), seed) else { continue };
            let expected = oracle(&graph.model, &input);
            let mut off: f64 = 0.0;
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!(found.len(), expected.len());
                let range = expected.iter().fold(super::SMALLEST_RANGE, |m, v| m.max(v.abs()));
                let square = |(f, e): (&f32, &f32)| (f64::from(f - e) / f64::from(range)).powi(2);
                let mean = found.iter().zip(expected).map(square).sum::<f64>() / found.len() as f64;
                off = off.max(mean.sqrt());
            }
            all += 1;
            if off <= USUAL {
                near += 1;
            } else {
                worst.push((off, seed, graph.story));
            }
        }
        worst.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(
            near * 100 >= all * USUALLY,
            "{twin}: {near} of {all}; the nearest of the others: {:#?}",
            &worst[..3]
        );
    }
}

/// What a detector finds hardly changes: the largest error of a score, and the mean.
#[test]
fn nanodet_keeps_its_scores() {
    let model = model("assets/nanodet-coco-416.onnx", 416);
    let run = |options: &Options| {
        let engine = elsewhere(&model, options).unwrap();
        let mut run = engine.new_run().unwrap();
        fill(&mut *run, &mut Random::new(7)).fill(0.0);
        run.execute().unwrap();
        (run.output(0).to_vec(), engine.weights_bytes() + engine.arena_bytes())
    };
    let (full, bytes) = run(&Options { threads: 1, ..Options::default() });
    for half in tables() {
        let name = half.name;
        let (half, fewer) = run(&by(name, 1));
        // one output, [1, 84, 3549]: four sides of a box, then 80 scores
        let off = full.iter().zip(&half).skip(4 * 3549).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off < 0.03, "{name}: {off}");
        assert!(fewer * 100 < bytes * 62, "{name}: {fewer} of {bytes} bytes");
    }
}
