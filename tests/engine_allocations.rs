//! What promises of bounded memory rest on: a run of the CPU engine allocates nothing, and decoding stays
//! below what a stream's parameter sets announce.
#![allow(unsafe_code)] // a global allocator that counts
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use weir::infer::onnx::Graph;
use weir::infer::{Scores, cnn};

/// Room for the model.
const MODEL_BYTES: u64 = 256 << 20;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// Bytes that this thread holds, and the most since it was asked last.
    static HELD: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

fn hold(bytes: i64) {
    HELD.set(HELD.get() + bytes);
    PEAK.set(PEAK.get().max(HELD.get()));
}

/// Counts what this thread allocates.
struct Counting;

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        hold(layout.size() as i64);
        // SAFETY: as the caller's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        hold(-(layout.size() as i64));
        // SAFETY: as the caller's.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_run_of_nanodet_allocates_nothing() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/nanodet-coco-416.onnx");
    let model =
        Graph::read_file(&path, MODEL_BYTES, MODEL_BYTES).unwrap().into_typed(416, 416, MODEL_BYTES).unwrap();
    for threads in [1, 2] {
        cnn::allow_threads(threads);
        let scores = Some(Scores { output: 0, anchor_axis: 2, first: 4, count: 80 });
        let engine =
            cnn::compile(&model, &cnn::Options { threads, scores, ..cnn::Options::default() }).unwrap();
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

#[test]
fn decoding_needs_what_the_parameter_sets_announce() {
    // Both decoders of H.264, with and without B-frames, ten bits, 4:2:2, fields; H.265.
    let clips = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/assets/clips");
    for name in [
        "main.mp4",
        "high-pyramid.mp4",
        "interlaced.mp4",
        "high10.mp4",
        "high422.mp4",
        "long-term.h264",
        "h265.mp4",
        "h265-10.mp4",
    ] {
        let builtin = weir::capture::DecoderSettings {
            choice: weir::capture::DecoderChoice::Builtin,
            ..Default::default()
        };
        let before = HELD.get();
        PEAK.set(before);
        let decoding = weir::capture::worker::bench::decode(&clips.join(name), &builtin, |_| Ok(())).unwrap();
        let peak = u64::try_from(PEAK.get() - before).unwrap();
        let needed = decoding.needed_bytes.unwrap();
        println!("{name}: {peak} of {needed} bytes");
        assert!(decoding.frames > 0 && peak > 0 && peak <= needed, "{name}: {peak} of {needed} bytes");
    }
}
