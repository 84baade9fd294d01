//! Heads: what is decoded for the anchors that reach a threshold is what the whole graph says of them.

use super::random::{Graph, Random};
use super::{GRAPHS, assert_close, fill, model, oracle, seeds};
use crate::infer::cnn::kernels::Kernels;
use crate::infer::cnn::{Options, build, compile};
use crate::infer::family::{Family, Outputs, Scratch};
use crate::infer::{Engine, Run, Scores, Thresholds};
use std::sync::Arc;

/// Largest difference between the two ways, relative to the largest value: steps on fewer pixels sum in the
/// same order.
const TOLERANCE: f32 = 1e-6;

struct Detector {
    path: &'static str,
    side: usize,
    family: Family,
}

/// With the ends of real exports (`tests/heads/generate.py`), a score without a sigmoid, and a real one.
const DETECTORS: [Detector; 6] = [
    Detector { path: "tests/heads/yolov8.onnx", side: 64, family: Family::Yolov8 },
    Detector { path: "tests/heads/yolov5.onnx", side: 64, family: Family::Yolov5 },
    Detector { path: "tests/heads/nanodet.onnx", side: 64, family: Family::Yolov8 },
    Detector { path: "tests/heads/yolo_nas.onnx", side: 64, family: Family::YoloNas },
    Detector { path: "tests/families/yolov8.onnx", side: 32, family: Family::Yolov8 },
    Detector { path: "assets/nanodet-coco-416.onnx", side: 416, family: Family::Yolov8 },
];

impl Detector {
    fn compile(&self, kernels: &Kernels, threads: usize) -> (Arc<dyn Engine>, Scores) {
        let model = model(self.path, self.side);
        let options = Options { cpu: Some(kernels.name.to_owned()), threads, ..Options::default() };
        let scores = self.family.scores(compile(&model, &options).unwrap().output_shapes()).unwrap();
        (compile(&model, &Options { scores: Some(scores), ..options }).unwrap(), scores)
    }
}

/// One anchor's values in an output, of `held` anchors at place `place`.
fn values(output: &[f32], axis: usize, held: usize, place: usize) -> Vec<f32> {
    let floats = output.len() / held;
    match axis {
        1 => output[place * floats..(place + 1) * floats].to_vec(),
        _ => output.iter().skip(place).step_by(held).copied().collect(),
    }
}

/// The best score of each anchor.
fn best(run: &dyn Run, scores: &Scores, anchors: usize) -> Vec<f32> {
    let of = |anchor| values(run.output(scores.output), scores.anchor_axis, anchors, anchor);
    let best = |values: Vec<f32>| {
        values[scores.first..scores.first + scores.count].iter().copied().fold(f32::MIN, f32::max)
    };
    (0..anchors).map(|anchor| best(of(anchor))).collect()
}

fn detections(family: Family, engine: &dyn Engine, run: &dyn Run, confidence: f32) -> Vec<[u32; 7]> {
    let mut scratch = Scratch::default();
    let outputs = Outputs { shapes: engine.output_shapes(), run, width: 64, height: 64 };
    let thresholds = Thresholds { confidence, iou: 0.5, max_detections: 300, class_agnostic: false };
    family.detect(&outputs, &thresholds, &mut scratch);
    let bits = |c: &crate::infer::candidate::Candidate| {
        [
            c.left.to_bits(),
            c.top.to_bits(),
            c.right.to_bits(),
            c.bottom.to_bits(),
            c.score.to_bits(),
            c.class_id,
            c.order,
        ]
    };
    scratch.candidates.iter().map(bits).collect()
}

/// What the second run says of the anchors that it kept is what the first, which kept all, says of them.
fn kept_agree(
    engine: &dyn Engine,
    [whole, some]: [&dyn Run; 2],
    scores: &Scores,
    tolerance: f32,
    what: &str,
) {
    let (axis, kept) = (scores.anchor_axis, some.kept().unwrap());
    for (index, shape) in engine.output_shapes().iter().enumerate() {
        let range = whole.output(index).iter().fold(1f32, |m, v| m.max(v.abs()));
        for (place, anchor) in kept.iter().enumerate() {
            let expected = values(whole.output(index), axis, shape[axis], *anchor as usize);
            let found = values(some.output(index), axis, kept.len(), place);
            assert_eq!(found.len(), expected.len(), "{what}");
            let close =
                |(f, e): (&f32, &f32)| (f - e).abs() <= tolerance * range || (f.is_nan() && e.is_nan());
            assert!(
                found.iter().zip(&expected).all(close),
                "{what}: anchor {anchor}: {found:?} instead of {expected:?}"
            );
        }
    }
}

fn anchors_that_pass_are_decoded_alike(detector: &Detector, kernels: &Kernels, threads: usize) {
    let what = format!("{} on {}", detector.path, kernels.name);
    let (engine, scores) = detector.compile(kernels, threads);
    let anchors = engine.output_shapes()[0][scores.anchor_axis];
    let (mut all, mut some) = (engine.new_run().unwrap(), engine.new_run().unwrap());
    let mut kept_some = 0;
    for seed in 0..3 {
        let input = fill(&mut *all, &mut Random::new(seed));
        all.execute().unwrap();
        assert_eq!(all.kept(), None, "{what}");
        let best = best(&*all, &scores, anchors);
        let mut sorted = best.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        // none, one, some on every level, and more than a chunk holds
        for rank in [0, 1, 3, 20, anchors / 3, anchors - 1] {
            let threshold = if rank == 0 { sorted[0] + 0.1 } else { sorted[rank.min(anchors) - 1] };
            some.expect_scores_from(threshold);
            some.input().copy_from_slice(&input);
            some.execute().unwrap();
            let Some(kept) = some.kept() else {
                assert!(rank > 1000 || threshold <= 2e-4, "{what}: rank {rank} was computed in full");
                continue;
            };
            kept_some += usize::from(rank > 0);
            assert!(kept.is_sorted_by(|a, b| a < b), "{what}: {kept:?}");
            let needless = kept.iter().find(|a| best[**a as usize] < threshold.min(1.0) - 1e-3);
            assert_eq!(needless, None, "{what}: an anchor far below {threshold} was kept");
            let missing = (0..anchors).find(|a| best[*a] >= threshold && !kept.contains(&(*a as u32)));
            assert_eq!(missing, None, "{what}: an anchor that reaches {threshold} was left out");
            kept_agree(&*engine, [&*all, &*some], &scores, TOLERANCE, &what);
            let [expected, found] =
                [&all, &some].map(|run| detections(detector.family, &*engine, &**run, threshold));
            assert_eq!(found, expected, "{what}: detections from {threshold} on");
        }
    }
    assert!(kept_some >= 6, "{what}: {kept_some} runs left anchors out");
}

#[test]
fn heads_decode_the_anchors_that_pass_as_the_whole_graph_does() {
    for detector in &DETECTORS {
        // the real one is large: plain loops take a second for it
        let suits = |k: &&&Kernels| (k.available)() && (detector.side < 100 || k.name != "scalar");
        for kernels in Kernels::ALL.iter().filter(suits) {
            anchors_that_pass_are_decoded_alike(detector, kernels, 1 + detector.side % 3);
        }
    }
}

#[test]
fn heads_leave_to_the_body_what_the_scores_need() {
    for (path, side, family, most) in [
        ("tests/heads/yolov8.onnx", 64, Family::Yolov8, &["conv", "winograd"][..]),
        ("tests/heads/nanodet.onnx", 64, Family::Yolov8, &["conv", "winograd"]),
        ("tests/heads/yolov5.onnx", 64, Family::Yolov5, &["conv", "winograd"]),
    ] {
        let detector = Detector { path, side, family };
        let (_, scores) = detector.compile(Kernels::choose(Some("scalar")).unwrap(), 1);
        let plan =
            build(&model(path, side), &Options { scores: Some(scores), ..Options::default() }).unwrap();
        assert!(plan.head.is_some() && plan.body < plan.steps.len(), "{path}");
        // nothing but convolutions: no sigmoid, no softmax, no copy of all anchors
        let kinds: Vec<_> = plan.steps[..plan.body].iter().map(|(_, step)| step.name()).collect();
        assert!(kinds.iter().all(|kind| most.contains(kind)), "{path}: {kinds:?}");
    }
}

#[test]
fn scores_that_are_not_where_somebody_says_are_computed_in_full() {
    let model = model("tests/heads/yolov8.onnx", 64);
    for scores in [
        // values as anchors: they lie in channels, and every one of them depends on all pixels' positions
        Scores { output: 0, anchor_axis: 1, first: 0, count: 16 },
        // boxes as scores: they are no channels of one pixel
        Scores { output: 0, anchor_axis: 2, first: 0, count: 4 },
        Scores { output: 0, anchor_axis: 2, first: 3, count: 21 },
        Scores { output: 0, anchor_axis: 2, first: 4, count: 99 },
        Scores { output: 0, anchor_axis: 2, first: usize::MAX, count: 1 },
        Scores { output: 0, anchor_axis: 2, first: 4, count: 0 },
        Scores { output: 0, anchor_axis: 0, first: 0, count: 1 },
        Scores { output: 7, anchor_axis: 2, first: 4, count: 20 },
    ] {
        let engine = compile(&model, &Options { scores: Some(scores), ..Options::default() }).unwrap();
        let mut run = engine.new_run().unwrap();
        run.expect_scores_from(0.5);
        fill(&mut *run, &mut Random::new(1));
        run.execute().unwrap();
        assert_eq!((run.kept(), run.output(0).len()), (None, 24 * 84), "{scores:?}");
    }
}

/// Where the seeds of the random heads begin.
const FIRST_SEED: u64 = 40_000;
/// Largest difference between the two ways on random heads, whose numbers are not scaled as a detector's are.
const LOOSE: f32 = 1e-5;

#[test]
fn random_graphs_with_heads_agree_with_tract_and_with_themselves() {
    let seeds = seeds(FIRST_SEED, GRAPHS);
    let all = seeds.end - seeds.start;
    let mut partial = 0;
    for seed in seeds {
        let (graph, scores) = Graph::head(seed);
        let kernels: Vec<_> = Kernels::ALL.iter().filter(|k| (k.available)()).collect();
        let kernels = kernels[seed as usize % kernels.len()];
        let what = format!("{} seed {seed}: {scores:?} {}", kernels.name, graph.story);
        let options =
            Options { cpu: Some(kernels.name.to_owned()), scores: Some(scores), ..Options::default() };
        let engine = compile(&graph.model, &options).unwrap_or_else(|e| panic!("{what}: {e}"));
        let (mut whole, mut some) = (engine.new_run().unwrap(), engine.new_run().unwrap());
        let input = fill(&mut *whole, &mut Random::new(seed));
        whole.execute().unwrap();
        assert_close(&*whole, &oracle(&graph.model, &input), &what);

        let anchors = engine.output_shapes()[0][scores.anchor_axis];
        let best = best(&*whole, &scores, anchors);
        let mut sorted = best.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let threshold = sorted[seed as usize % anchors.min(50)];
        some.expect_scores_from(threshold);
        some.input().copy_from_slice(&input);
        some.execute().unwrap();
        let Some(kept) = some.kept() else { continue };
        partial += 1;
        let slack = LOOSE * sorted[0].abs().max(1.0);
        let missing = (0..anchors).find(|a| best[*a] >= threshold + slack && !kept.contains(&(*a as u32)));
        assert_eq!(missing, None, "{what}: an anchor that reaches {threshold} was left out");
        kept_agree(&*engine, [&*whole, &*some], &scores, LOOSE, &what);
    }
    assert!(partial * 3 > all, "only {partial} of {all} heads were found");
}
