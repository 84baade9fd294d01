use super::super::family::Family;
use super::super::fill::{Fill, Scale};
use super::super::model::{Model, Parts};
use super::super::{Engine, Pixels, Run, Thresholds, Ticket};
use super::*;
use crate::error::{Error, Kind};
use crate::geometry::{Fit, InputRule};
use std::sync::atomic::{AtomicUsize, Ordering};

const RULE: InputRule =
    InputRule { width: 2, height: 2, fit: Fit::Stretch, crop: None, grayscale: false, contrast: None };
const THRESHOLDS: Thresholds =
    Thresholds { confidence: 0.4, iou: 0.3, max_detections: 300, class_agnostic: false };

/// What comes next in a channel; a failure must not leave its test waiting for ever.
#[track_caller]
fn soon<T>(channel: &async_channel::Receiver<T>) -> std::result::Result<T, async_channel::RecvError> {
    let late = async {
        smol::Timer::after(Duration::from_secs(60)).await;
        panic!("nothing came in time")
    };
    smol::block_on(smol::future::or(channel.recv(), late))
}

/// One anchor whose score is the first pixel; a pixel of 1 is a failure, of 2 a panic. Waits at the gate when
/// there is one.
struct FakeEngine {
    shapes: Vec<Vec<usize>>,
    runs: Arc<AtomicUsize>,
    gate: Option<Gate>,
    batch: Batch,
}

/// Tells how many frames a run has, and lets it through when told.
#[derive(Clone)]
struct Gate {
    entered: async_channel::Sender<usize>,
    open: async_channel::Receiver<()>,
}

struct FakeRun {
    inputs: Vec<[f32; 12]>,
    outputs: Vec<[f32; 5]>,
    frames: usize,
    selected: usize,
    runs: Arc<AtomicUsize>,
    gate: Option<Gate>,
}

impl Engine for FakeEngine {
    fn new_run(&self) -> Result<Box<dyn Run>> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        let (runs, gate) = (self.runs.clone(), self.gate.clone());
        let (inputs, outputs) = (vec![[0.0; 12]; self.batch.frames], vec![[0.0; 5]; self.batch.frames]);
        Ok(Box::new(FakeRun { inputs, outputs, frames: 1, selected: 0, runs, gate }))
    }
    fn name(&self) -> &'static str {
        "fake"
    }
    fn output_shapes(&self) -> &[Vec<usize>] {
        &self.shapes
    }
    fn weights_bytes(&self) -> usize {
        0
    }
    fn arena_bytes(&self) -> usize {
        0
    }
    fn batch(&self) -> Batch {
        self.batch
    }
}

impl Run for FakeRun {
    fn input(&mut self) -> &mut [f32] {
        &mut self.inputs[self.selected]
    }
    fn expect_frames(&mut self, frames: usize) {
        self.frames = frames;
    }
    fn select_frame(&mut self, frame: usize) {
        self.selected = frame;
    }
    fn execute(&mut self) -> Result<()> {
        if let Some(gate) = &self.gate {
            // Not every test listens.
            let _ = gate.entered.send_blocking(self.frames);
            soon(&gate.open).unwrap();
        }
        for (input, output) in self.inputs.iter().zip(&mut self.outputs).take(self.frames) {
            match (input[0] * 255.0).round() as u8 {
                1 => return Err(Error::new(Kind::Inference, "told to fail")),
                2 => panic!("told to panic"),
                _ => {}
            }
            *output = [1.0, 1.0, 1.0, 1.0, input[0]];
        }
        Ok(())
    }
    fn output(&self, _index: usize) -> &[f32] {
        &self.outputs[self.selected]
    }
}

impl Drop for FakeRun {
    fn drop(&mut self) {
        self.runs.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Every pixel of slot `n` is `n`.
struct Flat;

impl Pixels for Flat {
    fn copy_slot(&self, slot: u32, out: &mut [u8]) {
        out.fill(slot as u8);
    }
}

fn model(open: Option<async_channel::Receiver<()>>) -> (Arc<Model>, Arc<AtomicUsize>) {
    let entered = async_channel::unbounded().0;
    model_of(open.map(|open| Gate { entered, open }), Batch::ONE)
}

fn model_of(gate: Option<Gate>, batch: Batch) -> (Arc<Model>, Arc<AtomicUsize>) {
    let runs = Arc::new(AtomicUsize::new(0));
    let engine = Arc::new(FakeEngine { shapes: vec![vec![1, 5, 1]], runs: runs.clone(), gate, batch });
    let fill = Fill { width: 2, height: 2, scale: Scale::Unit };
    let classes = vec![String::from("thing")];
    let parts = Parts {
        id: String::from("fake/1"),
        rule: RULE,
        fill,
        classes,
        family: Family::Yolov8,
        recognised: false,
        engine,
    };
    (Arc::new(Model::new(parts)), runs)
}

fn job(model: &Arc<Model>, turn: u64, slot: u32) -> Job {
    Job {
        ticket: Ticket { turn, source: 0, slot },
        model: model.clone(),
        pixels: Arc::new(Flat),
        placement: RULE.place(4, 4).unwrap(),
        thresholds: THRESHOLDS,
        detections: Vec::new(),
    }
}

#[test]
fn a_job_becomes_detections() {
    let pool = Pool::start(2).unwrap();
    let (sender, answers) = async_channel::bounded(8);
    let queue = pool.queue(sender);
    let (model, _) = model(None);
    queue.submit(job(&model, 7, 255)).unwrap();
    let done = soon(&answers).unwrap();
    assert_eq!(done.ticket.turn, 7);
    let found = done.outcome.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].confidence, found[0].left, found[0].right), (1.0, 1.0, 3.0));
}

#[test]
fn a_failure_or_a_panic_is_an_error_of_that_job_alone() {
    let pool = Pool::start(1).unwrap();
    let (sender, answers) = async_channel::bounded(8);
    let queue = pool.queue(sender);
    let (model, _) = model(None);
    for slot in [1, 2, 255] {
        queue.submit(job(&model, u64::from(slot), slot)).unwrap();
    }
    let outcomes: Vec<_> = (0..3).map(|_| soon(&answers).unwrap().outcome).collect();
    assert_eq!(outcomes[0].as_ref().unwrap_err().kind(), Kind::Inference);
    assert_eq!(outcomes[1].as_ref().unwrap_err().kind(), Kind::Inference);
    assert_eq!(outcomes[2].as_ref().unwrap().len(), 1);
}

#[test]
fn a_pool_is_stuck_while_one_job_lasts_too_long() {
    let pool = Pool::start(2).unwrap();
    let (open, gate) = async_channel::unbounded();
    let (model, _) = model(Some(gate));
    let (sender, answers) = async_channel::bounded(8);
    let queue = pool.queue(sender);
    assert!(!pool.is_stuck(Duration::ZERO), "idle");
    queue.submit(job(&model, 0, 0)).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !pool.is_stuck(Duration::ZERO) {
        assert!(Instant::now() < deadline, "the job has not begun");
        std::thread::yield_now();
    }
    assert!(!pool.is_stuck(Duration::from_secs(3600)));
    open.send_blocking(()).unwrap();
    soon(&answers).unwrap();
    while pool.is_stuck(Duration::ZERO) {
        assert!(Instant::now() < deadline, "the job has not ended");
        std::thread::yield_now();
    }
}

#[test]
fn pipelines_take_turns_whatever_one_has_waiting() {
    let pool = Pool::start(1).unwrap();
    let (open, gate) = async_channel::unbounded();
    let (model, _) = model(Some(gate));
    let (sender, answers) = async_channel::bounded(16);
    let greedy = pool.queue(sender.clone());
    let modest = pool.queue(sender);
    (0..6).for_each(|turn| greedy.submit(job(&model, turn, 0)).unwrap());
    (100..102).for_each(|turn| modest.submit(job(&model, turn, 0)).unwrap());
    (0..8).for_each(|_| open.send_blocking(()).unwrap());
    let order: Vec<u64> = (0..8).map(|_| soon(&answers).unwrap().ticket.turn).collect();
    // The thread may have taken the first job before the modest one came.
    let modest_places: Vec<usize> =
        [100, 101].iter().map(|turn| order.iter().position(|t| t == turn).unwrap()).collect();
    assert!(modest_places[0] <= 2 && modest_places[1] <= 4, "{order:?}");
}

#[test]
fn a_full_queue_gives_the_job_back() {
    let pool = Pool::start(1).unwrap();
    let (open, gate) = async_channel::unbounded();
    let (model, _) = model(Some(gate));
    let (sender, answers) = async_channel::unbounded();
    let queue = pool.queue(sender);
    // One may be with the thread already.
    let accepted = (0..2 * Queue::CAPACITY as u64)
        .take_while(|turn| queue.submit(job(&model, *turn, 0)).is_ok())
        .count();
    assert!((Queue::CAPACITY..=Queue::CAPACITY + 1).contains(&accepted), "{accepted}");
    assert_eq!(queue.submit(job(&model, 999, 0)).unwrap_err().ticket.turn, 999);
    drop(queue);
    open.send_blocking(()).unwrap();
    // Only what ran is answered; the rest is forgotten and the channel closes.
    while soon(&answers).is_ok() {}
}

/// A model whose runs tell how many frames they have, and the way to let them through.
fn batching_model(wait: Duration) -> (Arc<Model>, async_channel::Receiver<usize>, async_channel::Sender<()>) {
    let ((entered, runs), (through, open)) = (async_channel::unbounded(), async_channel::unbounded());
    (model_of(Some(Gate { entered, open }), Batch { frames: 4, wait }).0, runs, through)
}

#[test]
fn frames_that_pile_up_run_together_and_are_then_waited_for() {
    let pool = Pool::start(1).unwrap();
    let (sender, answers) = async_channel::bounded(16);
    let (one, other) = (pool.queue(sender.clone()), pool.queue(sender));
    let (model, runs, through) = batching_model(Duration::from_secs(60));
    let confidence = |score: u64| {
        let done = soon(&answers).unwrap();
        let found = done.outcome.unwrap()[0].confidence;
        assert!(
            done.ticket.turn == score && (found - score as f32 / 255.0).abs() < 1e-6,
            "{} {found}",
            done.ticket.turn
        );
    };
    let submit = |queue: &Queue, score: u64| queue.submit(job(&model, score, score as u32)).unwrap();

    submit(&one, 201);
    assert_eq!(soon(&runs).unwrap(), 1, "the first frame does not wait for company");
    // These pile up while it runs; five are more than one run takes.
    [202, 203, 204].into_iter().for_each(|score| submit(&one, score));
    [211, 212].into_iter().for_each(|score| submit(&other, score));
    through.send_blocking(()).unwrap();
    confidence(201);
    assert_eq!(soon(&runs).unwrap(), 4);
    through.send_blocking(()).unwrap();
    // The pipelines take turns within a batch, too.
    [211, 202, 212, 203].into_iter().for_each(confidence);

    // One is left; now that four have come together, it waits for three more.
    assert!(runs.is_empty());
    [213, 214].into_iter().for_each(|score| submit(&other, score));
    submit(&one, 205);
    assert_eq!(soon(&runs).unwrap(), 4);
    through.send_blocking(()).unwrap();
    let mut turns: Vec<u64> = (0..4).map(|_| soon(&answers).unwrap().ticket.turn).collect();
    turns.sort_unstable();
    assert_eq!(turns, [204, 205, 213, 214]);
}

#[test]
fn who_waited_in_vain_does_not_wait_again() {
    let pool = Pool::start(1).unwrap();
    let (sender, answers) = async_channel::bounded(16);
    let queue = pool.queue(sender);
    let (model, runs, through) = batching_model(Duration::from_millis(20));
    let submit = |turn| queue.submit(job(&model, turn, 255)).unwrap();
    submit(0);
    soon(&runs).unwrap();
    (1..5).for_each(submit);
    through.send_blocking(()).unwrap();
    assert_eq!(soon(&runs).unwrap(), 4);
    through.send_blocking(()).unwrap();
    (0..5).for_each(|_| drop(soon(&answers).unwrap()));
    for turn in 5..8 {
        submit(turn);
        // Within the wait the first time, at once afterwards: either way it runs alone.
        assert_eq!(soon(&runs).unwrap(), 1);
        through.send_blocking(()).unwrap();
        soon(&answers).unwrap();
    }
}

#[test]
fn a_batch_that_fails_is_an_error_of_each_of_its_frames_and_of_no_other() {
    let pool = Pool::start(1).unwrap();
    let (sender, answers) = async_channel::bounded(16);
    let queue = pool.queue(sender);
    for bad in [1, 2] {
        let (model, runs, through) = batching_model(Duration::from_millis(1));
        queue.submit(job(&model, 0, 255)).unwrap();
        soon(&runs).unwrap();
        [255, bad, 255, 255].into_iter().for_each(|pixel| queue.submit(job(&model, 0, pixel)).unwrap());
        through.send_blocking(()).unwrap();
        assert!(soon(&answers).unwrap().outcome.is_ok());
        assert_eq!(soon(&runs).unwrap(), 4);
        through.send_blocking(()).unwrap();
        for _ in 0..4 {
            assert_eq!(soon(&answers).unwrap().outcome.unwrap_err().kind(), Kind::Inference);
        }
        // One more by itself: it is waited with, in vain, for those that failed.
        queue.submit(job(&model, 0, 255)).unwrap();
        assert_eq!(soon(&runs).unwrap(), 1);
        through.send_blocking(()).unwrap();
        assert!(soon(&answers).unwrap().outcome.is_ok());
    }
}

#[test]
fn threads_leave_frames_to_the_one_that_gathers_them() {
    let pool = Pool::start(3).unwrap();
    let (sender, answers) = async_channel::bounded(64);
    let queue = pool.queue(sender);
    let (other, _) = model(None);
    let (model, _runs, through) = batching_model(Duration::from_millis(1));
    for turn in 0..40 {
        queue.submit(job(if turn % 5 == 0 { &other } else { &model }, turn, 255)).unwrap();
        through.send_blocking(()).unwrap();
    }
    let mut turns: Vec<u64> = (0..40).map(|_| soon(&answers).unwrap().ticket.turn).collect();
    turns.sort_unstable();
    assert_eq!(turns, (0..40).collect::<Vec<_>>());
}

#[test]
fn the_last_model_takes_its_arenas_with_it() {
    let pool = Pool::start(2).unwrap();
    let (sender, answers) = async_channel::bounded(8);
    let queue = pool.queue(sender);
    let (model, runs) = model(None);
    for turn in 0..8 {
        queue.submit(job(&model, turn, 255)).unwrap();
        soon(&answers).unwrap();
    }
    assert!((1..=2).contains(&runs.load(Ordering::SeqCst)));
    drop(model);
    // The threads free their arenas on their own time; ending them waits for it.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while runs.load(Ordering::SeqCst) > 0 && std::time::Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert_eq!(runs.load(Ordering::SeqCst), 0);
    drop(queue);
    drop(pool);
}

#[test]
fn frames_one_after_the_other_share_one_arena() {
    let pool = Pool::start(3).unwrap();
    let (sender, answers) = async_channel::bounded(8);
    let queue = pool.queue(sender);
    let (model, runs) = model(None);
    for turn in 0..100 {
        queue.submit(job(&model, turn, 255)).unwrap();
        soon(&answers).unwrap();
        assert_eq!(runs.load(Ordering::SeqCst), 1, "arenas after {turn} frames");
    }
}
