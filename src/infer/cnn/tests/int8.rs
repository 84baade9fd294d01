//! Integer arithmetic: the CPU's loops against their twin, and all against what the operators give one by one.

use super::random::Graph;
use super::{Options, build, oracle, outputs};
use crate::infer::cnn::kernels::int8::Int8;
use crate::infer::cnn::step::Step;

/// Graphs of each comparison.
const GRAPHS: u64 = 400;
/// The coarsest step of the graphs: `random.rs`.
const QUANTUM: f32 = 0.02;
/// Two ways to the same number end on both sides of a half now and then, which the layers behind multiply: so much
/// of an output may be more than a quantum off …
const OFF: f64 = 0.02;
/// … in so many graphs of a hundred.
const USUALLY: u64 = 95;

fn by(name: &'static str, threads: usize) -> Options {
    Options { int8: Some(name), threads, ..Options::default() }
}

#[test]
fn every_table_gives_what_the_twin_gives() {
    super::allow_threads(3);
    let tables = Int8::ALL.iter().filter(|int8| (int8.available)() && int8.name != "scalar-int8");
    let tables: Vec<&str> = tables.map(|int8| int8.name).collect();
    let mut different = 0;
    for seed in super::seeds(70_000, GRAPHS) {
        let graph = Graph::quantized(seed);
        let expected = outputs(&graph, &by("scalar-int8", 1), seed).map(|(_, outputs)| outputs);
        for name in &tables {
            let found = outputs(&graph, &by(name, 1 + seed as usize % 3), seed).map(|(_, outputs)| outputs);
            let what = format!("{name} seed {seed}: {}", graph.story);
            let (Some(found), Some(expected)) = (&found, &expected) else {
                assert_eq!(found.is_some(), expected.is_some(), "{what}");
                continue;
            };
            for (found, expected) in found.iter().zip(expected) {
                // integers are the same to the bit; the floats between them only nearly, and a code in ten thousand
                // lies on the other side of a half for it
                let range = expected.iter().fold(super::SMALLEST_RANGE, |m, v| m.max(v.abs()));
                let is_off =
                    |(f, e): &(&f32, &f32)| (*f - *e).abs() > 1e-5 * range || f.is_nan() != e.is_nan();
                let off = found.iter().zip(expected).filter(is_off).count();
                assert!(off as f64 <= OFF * found.len() as f64, "{what}: {off} of {}", found.len());
                different += u64::from(off > 0);
            }
        }
    }
    assert!(different * 100 < GRAPHS, "{different} graphs differ");
}

#[test]
fn it_is_what_the_operators_give_one_by_one() {
    let (mut near, mut all, mut convolutions) = (0, 0, 0);
    let mut worst = Vec::new();
    for seed in super::seeds(80_000, GRAPHS) {
        let graph = Graph::quantized(seed);
        let options = by("scalar-int8", 1);
        let Some((input, found)) = outputs(&graph, &options, seed) else { continue };
        let plan = build(&graph.model, &options).unwrap();
        convolutions += plan.steps.iter().filter(|(_, step)| matches!(step, Step::Int8Conv(_))).count();
        let expected = oracle(&graph.model, &input);
        let mut off: f64 = 0.0;
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found.len(), expected.len());
            let range = expected.iter().fold(super::SMALLEST_RANGE, |m, v| m.max(v.abs()));
            // outputs may be sums and products of what was rounded
            let is_off = |(f, e): &(&f32, &f32)| (*f - *e).abs() > QUANTUM * range.max(1.0) * 1.01;
            let count = found.iter().zip(expected).filter(is_off).count();
            off = off.max(count as f64 / found.len() as f64);
        }
        all += 1;
        match off <= OFF {
            true => near += 1,
            false => worst.push((off, seed, graph.story)),
        }
    }
    worst.sort_by(|a, b| a.0.total_cmp(&b.0));
    assert!(near * 100 >= all * USUALLY, "{near} of {all}; the others: {worst:#?}");
    assert!(convolutions as u64 > all / 4, "only {convolutions} convolutions in integers in {all} graphs");
}
