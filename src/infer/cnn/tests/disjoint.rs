//! What `Arena::part` promises, looked at: the items of a step, which threads may work on at the same time,
//! write nothing that another one reads or writes.

use super::*;
use crate::infer::cnn::Plan;
use crate::infer::cnn::kernels::arena::Touched;
use crate::infer::cnn::run::CnnRun;
use crate::infer::cnn::step::Step;
use std::ops::Range;
use std::sync::Arc;

/// Sorted ranges without overlaps.
fn joined(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_by_key(|range| range.start);
    let mut joined: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// A byte that lies in both.
fn common(a: &[Range<usize>], b: &[Range<usize>]) -> Option<usize> {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    while let (Some(one), Some(other)) = (a.peek(), b.peek()) {
        if one.start.max(other.start) < one.end.min(other.end) {
            return Some(one.start.max(other.start));
        }
        if one.end <= other.end {
            a.next()
        } else {
            b.next()
        };
    }
    None
}

/// Bytes an item writes, and all it touches.
type Bytes = (Vec<Range<usize>>, Vec<Range<usize>>);

fn bytes(touched: Vec<Touched>) -> Bytes {
    let written =
        touched.iter().filter(|touched| touched.is_written).map(|touched| touched.bytes.clone()).collect();
    (joined(written), joined(touched.into_iter().map(|touched| touched.bytes).collect()))
}

/// Runs every item of every step as two different workers, and compares each with each. How many steps had
/// several items.
pub(super) fn check(plan: Arc<Plan>, what: &str) -> usize {
    let mut run = CnnRun::new(plan.clone()).unwrap();
    run.input().fill(0.5);
    let mut steps = run.start();
    let mut shared = 0;
    for (index, (name, step)) in plan.steps.iter().enumerate() {
        if matches!(step, Step::Foreign(_)) || step.items() < 2 {
            steps.step(&plan, index).unwrap();
            continue;
        }
        shared += 1;
        let mut machine = steps.machine();
        machine.arena.take_touched();
        let mut done = |worker: usize| -> Vec<Bytes> {
            machine.worker = worker;
            let mut one = |item| {
                step.run(&mut machine, item);
                bytes(machine.arena.take_touched())
            };
            (0..step.items()).map(&mut one).collect()
        };
        let (first, second) = (done(0), done(1));
        for (a, (written, _)) in first.iter().enumerate() {
            assert!(!written.is_empty(), "{what}: {name} item {a} writes nothing");
            for (b, (_, touched)) in second.iter().enumerate().filter(|(b, _)| *b != a) {
                let both = common(written, touched);
                assert_eq!(both, None, "{what}: {} {name}: items {a} and {b} share a byte", step.name());
            }
        }
    }
    shared
}

#[test]
fn items_of_a_step_share_nothing_that_is_written() {
    let mut shared = 0;
    for seed in 0..300 {
        let graph = if seed % 4 == 0 { Graph::quantized(seed) } else { Graph::random(seed) };
        for kernels in Kernels::ALL.iter().filter(|kernels| (kernels.available)()) {
            let options = Options {
                cpu: Some(kernels.name.to_owned()),
                threads: 2 + seed as usize % 2,
                way: Algorithm::ALL.get(seed as usize % 5).copied(),
                scores: None,
                precision: if seed % 3 == 0 { Precision::HalfBy("scalar-bf16") } else { Precision::Full },
                int8: if seed % 8 == 0 { Some("scalar-int8") } else { None },
            };
            if let Ok(plan) = build(&graph.model, &options) {
                shared += check(Arc::new(plan), &format!("{} seed {seed}: {}", kernels.name, graph.story));
            }
        }
    }
    assert!(shared > 1000, "only {shared} steps had several items");
}

#[test]
fn what_is_shared_would_be_found() {
    let (a, b) = (joined(vec![8..9, 0..4, 2..6, 5..5]), joined(vec![6..8, 20..21]));
    assert_eq!((a.as_slice(), common(&a, &b)), (&[0..6, 8..9][..], None));
    assert_eq!(common(&a, &joined(vec![8..30])), Some(8));
}
