//! Exchanges, on engines that write down who ran.
#![allow(clippy::unwrap_used)]

use super::*;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;

/// Longest wait for the other thread.
const PATIENCE: Duration = Duration::from_secs(30);

/// Answers its number to every frame.
struct Fake {
    number: f32,
    frames: usize,
    shapes: Vec<Vec<usize>>,
    is_broken: Arc<AtomicBool>,
}

struct FakeRun {
    number: f32,
    input: Vec<f32>,
    output: Vec<f32>,
    is_broken: Arc<AtomicBool>,
}

fn fake(number: f32, frames: usize) -> Arc<Fake> {
    Arc::new(Fake { number, frames, shapes: vec![vec![1, 1]], is_broken: Arc::default() })
}

impl Engine for Fake {
    fn new_run(&self) -> Result<Box<dyn Run>> {
        let is_broken = self.is_broken.clone();
        Ok(Box::new(FakeRun { number: self.number, input: vec![0.0], output: vec![0.0], is_broken }))
    }
    fn name(&self) -> &'static str {
        if self.number < 2.0 { "cnn" } else { "tensorrt" }
    }
    fn output_shapes(&self) -> &[Vec<usize>] {
        &self.shapes
    }
    fn weights_bytes(&self) -> usize {
        1
    }
    fn arena_bytes(&self) -> usize {
        1
    }
    fn batch(&self) -> Batch {
        Batch { frames: self.frames, wait: Duration::ZERO }
    }
}

impl Run for FakeRun {
    fn input(&mut self) -> &mut [f32] {
        &mut self.input
    }
    fn execute(&mut self) -> Result<()> {
        if self.is_broken.load(Ordering::Relaxed) {
            return Err(Error::new(Kind::Inference, "broken"));
        }
        self.output = vec![self.number];
        Ok(())
    }
    fn output(&self, _: usize) -> &[f32] {
        &self.output
    }
}

/// A switch whose GPU engine arrives when it is sent.
fn switch(cpu: Arc<Fake>) -> (Switch, mpsc::Sender<Result<Arc<dyn Engine>>>) {
    let (sender, receiver) = mpsc::channel::<Result<Arc<dyn Engine>>>();
    let load = move |told: Told<'_>| {
        told(Some(0.5))?;
        receiver.recv_timeout(PATIENCE).unwrap()
    };
    (Switch::start(cpu, "m".into(), load).unwrap(), sender)
}

/// Waits for what the thread does.
#[track_caller]
fn until(switch: &Switch, wanted: impl Fn(&Gpu) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !wanted(&switch.outlook().unwrap().gpu) {
        assert!(Instant::now() < deadline, "{:?}", switch.outlook());
        std::thread::yield_now();
    }
}

fn run_once(run: &mut dyn Run, frames: usize) -> Result<f32> {
    run.expect_frames(frames);
    run.execute().map(|()| run.output(0)[0])
}

#[test]
fn the_cpu_serves_until_the_gpu_is_there() {
    let (switch, gpu) = switch(fake(1.0, 1));
    until(&switch, |gpu| matches!(gpu, Gpu::Building { progress: Some(_) }));
    let mut run = switch.new_run().unwrap();
    assert_eq!(run_once(run.as_mut(), 1).unwrap(), 1.0);
    gpu.send(Ok(fake(2.0, 4))).unwrap();
    until(&switch, |gpu| *gpu == Gpu::Running);
    assert_eq!((switch.name(), switch.batch().frames), ("tensorrt", 4));
    assert_eq!(run_once(run.as_mut(), 3).unwrap(), 2.0);
    assert_eq!(run_once(switch.new_run().unwrap().as_mut(), 1).unwrap(), 2.0);
}

#[test]
fn what_fails_for_good_goes_back_to_the_cpu() {
    let (switch, sender) = switch(fake(1.0, 1));
    let gpu = fake(2.0, 4);
    sender.send(Ok(gpu.clone())).unwrap();
    until(&switch, |gpu| *gpu == Gpu::Running);
    let mut run = switch.new_run().unwrap();
    assert_eq!(run_once(run.as_mut(), 4).unwrap(), 2.0);
    gpu.is_broken.store(true, Ordering::Relaxed);
    run_once(run.as_mut(), 1).unwrap_err();
    gpu.is_broken.store(false, Ordering::Relaxed);
    assert_eq!(run_once(run.as_mut(), 1).unwrap(), 2.0, "one failure is a frame's");
    gpu.is_broken.store(true, Ordering::Relaxed);
    for _ in 0..MAX_FAILURES {
        run_once(run.as_mut(), 1).unwrap_err();
    }
    assert!(matches!(switch.outlook().unwrap().gpu, Gpu::Lost { .. }));
    // Frames gathered for the GPU's batch are too many for the CPU; those after them are not.
    run_once(run.as_mut(), 4).unwrap_err();
    assert_eq!(run_once(run.as_mut(), 1).unwrap(), 1.0);
    assert_eq!(switch.name(), "cnn");
}

#[test]
fn a_plan_of_another_shape_is_not_taken() {
    let (switch, sender) = switch(fake(1.0, 1));
    let other = Fake { number: 2.0, frames: 1, shapes: vec![vec![1, 2]], is_broken: Arc::default() };
    sender.send(Ok(Arc::new(other))).unwrap();
    until(&switch, |gpu| matches!(gpu, Gpu::Unused { .. }));
    let said = format!("{:?}", switch.outlook().unwrap().gpu);
    assert!(said.contains("the plan's outputs are [[1, 2]], the model's [[1, 1]]"), "{said}");
    assert_eq!(run_once(switch.new_run().unwrap().as_mut(), 1).unwrap(), 1.0);
}

#[test]
fn a_build_ends_with_its_model() {
    let (began, ended) = (mpsc::channel(), mpsc::channel());
    let (begin, end) = (began.0, ended.0);
    let load = move |told: Told<'_>| {
        begin.send(()).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Err(error) = told(None) {
                end.send(error.kind()).unwrap();
                return Err(error);
            }
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
    };
    let switch = Switch::start(fake(1.0, 1), "m".into(), load).unwrap();
    began.1.recv_timeout(PATIENCE).unwrap();
    drop(switch);
    assert_eq!(ended.1.recv_timeout(PATIENCE).unwrap(), Kind::ShuttingDown);
}
