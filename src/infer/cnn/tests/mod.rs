//! The engine against tract: random graphs on every kind of CPU this machine has, and the models in the
//! repository.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod disjoint;
mod half;
mod heads;
mod int8;
mod pixels;
pub(super) mod random;
pub(super) mod transformers;
mod ways;

use super::document::tests::elsewhere;
use super::kernels::{Kernels, LANES};
use super::{Algorithm, Options, allow_threads, build, compile};
use crate::infer::{Precision, Run};
use random::{Graph, Random};
use tract_onnx::prelude::*;

/// Graphs per kind of CPU; each takes a millisecond or two, most of it tract's. `make fuzz` asks for more,
/// see [`seeds`].
const GRAPHS: u64 = 1000;
/// One graph in so many is also compared with the tract engine, whose optimiser is several times slower than
/// its runs.
const TRACT_EVERY: u64 = 4;
/// Says how many graphs to make for each kind of CPU instead of [`GRAPHS`].
const COUNT_VARIABLE: &str = "WEIR_FUZZ_GRAPHS";
/// Says with which seed to begin, as a failure named it.
const SEED_VARIABLE: &str = "WEIR_FUZZ_SEED";
/// Largest difference to tract, relative to the largest value of an output.
const TOLERANCE: f32 = 1e-3;
/// Outputs that stay below this are compared as if they reached it: tract's own sigmoid errs by 1e-5.
const SMALLEST_RANGE: f32 = 0.05;

/// tract's result, node by node: its optimiser has folded convolutions wrongly before (`infer/tract.rs`).
fn oracle(model: &TypedModel, input: &[f32]) -> Vec<Vec<f32>> {
    let fact = model.input_fact(0).unwrap();
    let input = Tensor::from_shape(fact.shape.as_concrete().unwrap(), input).unwrap();
    let plan = model.clone().into_runnable().unwrap();
    let outputs = plan.run(tvec!(input.into())).unwrap();
    outputs.iter().map(|o| super::constant::floats(o).unwrap().to_vec()).collect()
}

fn fill(run: &mut dyn Run, random: &mut Random) -> Vec<f32> {
    let input = run.input();
    input.iter_mut().for_each(|v| *v = random.float());
    input.to_vec()
}

/// What a graph was given and gave, its numbers made from the seed; `None` where it cannot be compiled.
fn outputs(graph: &Graph, options: &Options, seed: u64) -> Option<(Vec<f32>, Vec<Vec<f32>>)> {
    let engine = match compile(&graph.model, options) {
        // half of them as the service has them: worked out again from what another process tells
        Ok(engine) if seed % 2 == 1 => elsewhere(&graph.model, options).unwrap_or(engine),
        Ok(engine) => engine,
        Err(_) => return None,
    };
    let mut run = engine.new_run().unwrap();
    let mut input = Vec::new();
    // twice: the second run finds the arena as the first left it
    for _ in 0..2 {
        input = fill(&mut *run, &mut Random::new(seed));
        run.execute().unwrap();
    }
    let count = engine.output_shapes().len();
    Some((input, (0..count).map(|index| run.output(index).to_vec()).collect()))
}

fn assert_close(run: &dyn Run, expected: &[Vec<f32>], what: &str) {
    for (index, expected) in expected.iter().enumerate() {
        let found = run.output(index);
        assert_eq!(found.len(), expected.len(), "{what}: length of output {index}");
        let range = expected.iter().fold(SMALLEST_RANGE, |m, v| m.max(v.abs()));
        for (at, (f, e)) in found.iter().zip(expected).enumerate() {
            let close = (f - e).abs() <= TOLERANCE * range || (f.is_nan() && e.is_nan());
            assert!(close, "{what}: output {index} element {at}: {f} instead of {e} (range {range})");
        }
    }
}

fn random_graphs(kernels: &'static Kernels, seeds: std::ops::Range<u64>) {
    allow_threads(3);
    let mut compiled = 0;
    for seed in seeds.clone() {
        let graph = Graph::random(seed);
        let what = format!("{} seed {seed}: {}", kernels.name, graph.story);
        // some with helpers, which other tests' runs share
        let options = Options {
            cpu: Some(kernels.name.to_owned()),
            threads: 1 + seed as usize % 3,
            way: Algorithm::ALL.get(seed as usize % 5).copied(),
            scores: None,
            precision: Precision::Full,
            int8: None,
        };
        let engine = match compile(&graph.model, &options) {
            // half of them as the service has them: worked out again from what another process tells
            Ok(engine) if seed % 2 == 1 => elsewhere(&graph.model, &options).unwrap_or(engine),
            Ok(engine) => engine,
            Err(error) => {
                assert!(error.message().starts_with("unsupported: node "), "{what}: {error}");
                continue;
            }
        };
        compiled += 1;
        let mut run = engine.new_run().unwrap();
        // twice: the second run finds the arena as the first left it
        for _ in 0..2 {
            let input = fill(&mut *run, &mut Random::new(seed));
            run.execute().unwrap_or_else(|e| panic!("{what}: {e}"));
            let expected = oracle(&graph.model, &input);
            assert_close(&*run, &expected, &what);
            if seed % TRACT_EVERY == 0 {
                tract_engine_agrees(&graph.model, &input, &expected, &what);
            }
        }
    }
    let all = seeds.end - seeds.start;
    assert!(compiled * 10 >= all * 9, "only {compiled} of {all} graphs were compiled");
}

/// The other engine, whose plan tract optimises.
fn tract_engine_agrees(model: &TypedModel, input: &[f32], expected: &[Vec<f32>], what: &str) {
    // its optimiser gives up on some odd graphs: an error is not a wrong answer
    let Ok(engine) = crate::infer::tract::compile(model.clone()) else { return };
    let mut run = engine.new_run().unwrap();
    run.input().copy_from_slice(input);
    run.execute().unwrap();
    assert_close(&*run, expected, &format!("tract, {what}"));
}

/// The seeds of so many graphs to try: from `first` on, unless the environment says otherwise.
fn seeds(first: u64, graphs: u64) -> std::ops::Range<u64> {
    let number = |name| {
        std::env::var(name)
            .ok()
            .map(|text: String| text.parse::<u64>().expect("a number of graphs or a seed"))
    };
    let first = number(SEED_VARIABLE).unwrap_or(first);
    first..first + number(COUNT_VARIABLE).unwrap_or(graphs)
}

/// One test per kind of CPU; where the machine lacks it there is nothing to test.
fn random_graphs_on(name: &str, first_seed: u64) {
    if let Some(kernels) = Kernels::choose(Some(name)) {
        random_graphs(kernels, seeds(first_seed, GRAPHS));
    }
}

#[test]
fn random_graphs_agree_with_tract_on_avx512() {
    random_graphs_on("avx512", 0);
}

#[test]
fn random_graphs_agree_with_tract_on_avx2() {
    random_graphs_on("avx2", 10_000);
}

#[test]
fn random_graphs_agree_with_tract_on_neon() {
    random_graphs_on("neon", 20_000);
}

#[test]
fn random_graphs_agree_with_tract_on_scalar() {
    random_graphs_on("scalar", 30_000);
}

/// Room for the models of these tests.
const MODEL_BYTES: u64 = 256 << 20;

fn model(path: &str, side: usize) -> TypedModel {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    // As the service reads it: some operators are built there and not by tract.
    crate::infer::onnx::Graph::read_file(&path, MODEL_BYTES, MODEL_BYTES)
        .unwrap()
        .into_typed(side, side, MODEL_BYTES)
        .unwrap()
}

#[test]
fn nanodet_agrees_with_tract_on_every_kind_of_cpu() {
    let model = model("assets/nanodet-coco-416.onnx", 416);
    let mut expected = Vec::new();
    for kernels in Kernels::ALL.iter().filter(|k| (k.available)()) {
        let options = Options { cpu: Some(kernels.name.to_owned()), ..Options::default() };
        let engine = elsewhere(&model, &options).unwrap();
        let mut run = engine.new_run().unwrap();
        let input = fill(&mut *run, &mut Random::new(7));
        if expected.is_empty() {
            expected = oracle(&model, &input);
        }
        run.execute().unwrap();
        assert_close(&*run, &expected, kernels.name);
        assert_eq!(engine.output_shapes(), [[1, 84, 3549]]);
    }
}

#[test]
fn the_cheaper_engine_is_expected_to_be_ours_unless_tract_runs_all() {
    let costs = |model: &TypedModel| super::costs(model, &Options::default()).unwrap();
    let nanodet = costs(&model("assets/nanodet-coco-416.onnx", 416));
    assert!(!nanodet.tract_is_cheaper() && nanodet.ours > 1e6, "{nanodet}");
    // nothing here has a kernel of ours: only copies would be added
    let mut left = TypedModel::default();
    let input = left.add_source("x", f32::fact([1, 3, 64, 64])).unwrap();
    let output = left.wire_node("sine", tract_onnx::tract_core::ops::math::sin(), &[input]).unwrap();
    left.select_output_outlets(&output).unwrap();
    assert!(costs(&left).tract_is_cheaper(), "{}", costs(&left));
}

#[test]
fn a_cpu_that_does_not_exist_is_refused_by_name() {
    let compiled = |cpu: &str| {
        let options = Options { cpu: Some(cpu.to_owned()), ..Options::default() };
        compile(&Graph::random(1).model, &options)
    };
    for cpu in ["z80", "scalar+z80", "z80+none"] {
        let error = compiled(cpu).err().unwrap();
        assert!(error.message().ends_with("cannot run z80"), "{cpu}: {error}");
    }
    assert!(compiled("scalar+").is_err());
    assert!(compiled("scalar+none").is_ok());
}

#[test]
fn a_graph_without_an_input_is_an_error() {
    let mut model = TypedModel::default();
    let value = model.add_const("value", Tensor::from(1f32)).unwrap();
    model.select_output_outlets(&[value]).unwrap();
    assert!(compile(&model, &Options::default()).is_err());
}

#[test]
fn nanodet_with_helpers_gives_what_it_gives_alone() {
    allow_threads(3);
    let model = model("assets/nanodet-coco-416.onnx", 416);
    let results = [1, 2, 3].map(|threads| {
        let engine = compile(&model, &Options { threads, ..Options::default() }).unwrap();
        let mut run = engine.new_run().unwrap();
        for _ in 0..10 {
            fill(&mut *run, &mut Random::new(7));
            run.execute().unwrap();
        }
        run.output(0).to_vec()
    });
    // bit by bit: who computes a pixel changes nothing about the order of its sums
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert!(bits(&results[0]) == bits(&results[1]), "one thread and two differ");
    assert!(bits(&results[0]) == bits(&results[2]), "one thread and three differ");
}
