use super::super::family::Family;
use super::super::fill::{Fill, Scale};
use super::super::model::{Model, Parts};
use super::super::{Engine, Pixels, Run, Thresholds, Ticket};
use super::*;
use crate::error::{Error, Kind};
use crate::geometry::{Fit, InputRule};
use std::sync::atomic::{AtomicUsize, Ordering};

const RULE: InputRule = InputRule { width: 2, height: 2, fit: Fit::Stretch, crop: None, grayscale: false, contrast: None };
const THRESHOLDS: Thresholds = Thresholds { confidence: 0.4, iou: 0.3, max_detections: 300, class_agnostic: false };

/// One anchor whose score is the first pixel; a pixel of 1 is a failure, of 2 a panic. Waits at the gate when there is one.
struct FakeEngine {
    shapes: Vec<Vec<usize>>,
    runs: Arc<AtomicUsize>,
    gate: Option<async_channel::Receiver<()>>,
}

struct FakeRun {
    input: Vec<f32>,
    output: Vec<f32>,
    runs: Arc<AtomicUsize>,
    gate: Option<async_channel::Receiver<()>>,
}

impl Engine for FakeEngine {
    fn new_run(&self) -> Result<Box<dyn Run>> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        let (runs, gate) = (self.runs.clone(), self.gate.clone());
        Ok(Box::new(FakeRun { input: vec![0.0; 12], output: vec![0.0; 5], runs, gate }))
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
}

impl Run for FakeRun {
    fn input(&mut self) -> &mut [f32] {
        &mut self.input
    }
    fn execute(&mut self) -> Result<()> {
        if let Some(gate) = &self.gate {
            gate.recv_blocking().unwrap();
        }
        match (self.input[0] * 255.0).round() as u8 {
            1 => return Err(Error::new(Kind::Inference, "told to fail")),
            2 => panic!("told to panic"),
            _ => {}
        }
        self.output.copy_from_slice(&[1.0, 1.0, 1.0, 1.0, self.input[0]]);
        Ok(())
    }
    fn output(&self, _index: usize) -> &[f32] {
        &self.output
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

fn model(gate: Option<async_channel::Receiver<()>>) -> (Arc<Model>, Arc<AtomicUsize>) {
    let runs = Arc::new(AtomicUsize::new(0));
    let engine = Arc::new(FakeEngine { shapes: vec![vec![1, 5, 1]], runs: runs.clone(), gate });
    let fill = Fill { width: 2, height: 2, scale: Scale::Unit };
    let classes = vec![String::from("thing")];
    let parts = Parts { id: String::from("fake/1"), rule: RULE, fill, classes, family: Family::Yolov8, engine };
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
    let done = answers.recv_blocking().unwrap();
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
    let outcomes: Vec<_> = (0..3).map(|_| answers.recv_blocking().unwrap().outcome).collect();
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
    answers.recv_blocking().unwrap();
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
    let order: Vec<u64> = (0..8).map(|_| answers.recv_blocking().unwrap().ticket.turn).collect();
    // The thread may have taken the first job before the modest one came.
    let modest_places: Vec<usize> = [100, 101].iter().map(|turn| order.iter().position(|t| t == turn).unwrap()).collect();
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
    let accepted = (0..2 * Queue::CAPACITY as u64).take_while(|turn| queue.submit(job(&model, *turn, 0)).is_ok()).count();
    assert!((Queue::CAPACITY..=Queue::CAPACITY + 1).contains(&accepted), "{accepted}");
    assert_eq!(queue.submit(job(&model, 999, 0)).unwrap_err().ticket.turn, 999);
    drop(queue);
    open.send_blocking(()).unwrap();
    // Only what ran is answered; the rest is forgotten and the channel closes.
    while answers.recv_blocking().is_ok() {}
}

#[test]
fn the_last_model_takes_its_arenas_with_it() {
    let pool = Pool::start(2).unwrap();
    let (sender, answers) = async_channel::bounded(8);
    let queue = pool.queue(sender);
    let (model, runs) = model(None);
    for turn in 0..8 {
        queue.submit(job(&model, turn, 255)).unwrap();
        answers.recv_blocking().unwrap();
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
