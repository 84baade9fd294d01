//! A run of the CPU engine allocates nothing: the promise behind a bounded memory per thread.
#![allow(unsafe_code)] // a global allocator that counts
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use tract_onnx::prelude::*;
use weir::infer::{Scores, cnn};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Counts what this thread allocates.
struct Counting;

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        // SAFETY: as the caller's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller's.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_run_of_nanodet_allocates_nothing() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/nanodet-coco-416.onnx");
    let fact = f32::fact([1, 3, 416, 416]);
    let model = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
    let model = model.model_for_path(path).unwrap().with_input_fact(0, fact.into()).unwrap().into_typed().unwrap();
    for threads in [1, 2] {
        cnn::allow_threads(threads);
        let scores = Some(Scores { output: 0, anchor_axis: 2, first: 4, count: 80 });
        let engine = cnn::compile(&model, &cnn::Options { threads, scores, ..cnn::Options::default() }).unwrap();
        let before_setup = ALLOCATIONS.get();
        let mut run = engine.new_run().unwrap();
        assert!(ALLOCATIONS.get() > before_setup, "the allocator does not count");
        run.input().fill(0.5);
        run.execute().unwrap();
        // a score that some anchors reach on a grey picture
        let best = run.output(0)[4 * 3549..].iter().copied().fold(0.0, f32::max);
        let before = ALLOCATIONS.get();
        // all anchors, some, none
        for (lowest, some) in [(0.0, false), (best, true), (0.9, true)] {
            run.expect_scores_from(lowest);
            run.input().fill(0.5);
            run.execute().unwrap();
            assert_eq!(run.kept().is_some(), some, "from {lowest} on");
            assert_eq!(run.kept().is_some_and(|kept| !kept.is_empty()), lowest == best, "from {lowest} on");
        }
        assert_eq!(ALLOCATIONS.get() - before, 0, "allocations of three runs on {threads} threads");
    }
}
