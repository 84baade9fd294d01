//! An engine that is exchanged between two frames: the CPU runs a model until its plan for the GPU is there,
//! and again when the GPU is lost.
//!
//! ```text
//! model ──▶ Switch ──▶ the CPU's engine ──(plan built and tried)──▶ the GPU's
//!                             ▲──────────(lost, or fails for good)──────┘
//! ```
//!
//! A plan is built or read on a thread of its own. Runs look before each batch whether the engine has changed
//! and then make themselves anew; the CPU's engine stays loaded (its weights, no arena), so that there is
//! somewhere to go within a frame.

use super::tensorrt;
use super::{Batch, Engine, Run};
use crate::clock::Wall;
use crate::error::{Error, Kind, Result, system};
use crate::priority;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Batches in a row that fail on the GPU before the CPU takes over: one may be a frame's own fault.
const MAX_FAILURES: u32 = 3;
/// Stack of the thread that reads or builds a plan, bytes: NVIDIA's libraries recurse.
const STACK_BYTES: usize = 8 << 20;

/// How it stands with the GPU for a model that the CPU can run too.
#[derive(Debug, Clone, PartialEq)]
pub enum Gpu {
    /// Its plan is being looked for or read; the CPU serves.
    Loading,
    /// A plan is being built; the CPU serves.
    Building {
        /// How far it is where that is known, from 0 to 1.
        progress: Option<f32>,
    },
    /// It runs the model.
    Running,
    /// It cannot run the model.
    Unused {
        /// Why it cannot, for people.
        reason: String,
    },
    /// It ran the model, and does not any more; the CPU does.
    Lost {
        /// Why it does not, for people.
        reason: String,
    },
}

/// How it stands with the GPU, and since when.
#[derive(Debug, Clone)]
pub struct Outlook {
    /// How it stands with the GPU.
    pub gpu: Gpu,
    /// Since when it stands so.
    pub since: Wall,
}

/// An engine that can be exchanged.
pub(crate) struct Switch {
    state: Arc<State>,
}

struct State {
    cpu: Arc<dyn Engine>,
    now: Mutex<Now>,
    /// Counts exchanges: what a run compares before each batch.
    changes: AtomicU32,
}

struct Now {
    engine: Arc<dyn Engine>,
    is_gpu: bool,
    outlook: Outlook,
}

/// Threads that read or build a plan.
static AT_WORK: Mutex<usize> = Mutex::new(0);
static DONE: Condvar = Condvar::new();

/// A panic elsewhere does not make these few words untrue.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until no thread works at a plan any more, for at most `limit`: they end soon when their models are
/// gone, and with them what they started.
pub(crate) fn wait_until_idle(limit: Duration) {
    let deadline = Instant::now() + limit;
    let mut working = lock(&AT_WORK);
    while *working > 0 {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        working = DONE.wait_timeout(working, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// One of the threads that [`wait_until_idle`] waits for.
struct AtWork;

impl AtWork {
    fn begin() -> AtWork {
        *lock(&AT_WORK) += 1;
        AtWork
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        *lock(&AT_WORK) -= 1;
        DONE.notify_all();
    }
}

/// Told how far a build is; fails when the model is not wanted any more.
pub(crate) type Told<'a> = &'a dyn Fn(Option<f32>) -> Result<()>;

impl Switch {
    /// The CPU's engine for now; `load` gets the GPU's, on a thread of its own. `about`: the model, for the
    /// log.
    pub(crate) fn start(
        cpu: Arc<dyn Engine>,
        about: String,
        load: impl FnOnce(Told<'_>) -> Result<Arc<dyn Engine>> + Send + 'static,
    ) -> Result<Switch> {
        let outlook = Outlook { gpu: Gpu::Loading, since: Wall::now() };
        let now = Mutex::new(Now { engine: cpu.clone(), is_gpu: false, outlook });
        let state = Arc::new(State { cpu, now, changes: AtomicU32::new(0) });
        let (weak, at_work) = (Arc::downgrade(&state), AtWork::begin());
        std::thread::Builder::new()
            .name(String::from("gpu-plan"))
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let _at_work = at_work;
                priority::give_way(priority::LOADING);
                take_up(&weak, &about, load);
            })
            .map_err(system("cannot start a thread for the GPU's plan"))?;
        Ok(Switch { state })
    }
}

/// Loads the GPU's engine and puts it in the CPU's place.
fn take_up(
    weak: &Weak<State>,
    about: &str,
    load: impl FnOnce(Told<'_>) -> Result<Arc<dyn Engine>> + Send + 'static,
) {
    let told = |progress| match weak.upgrade() {
        Some(state) => {
            state.set(Gpu::Building { progress });
            Ok(())
        }
        None => Err(Error::new(Kind::ShuttingDown, "nobody waits for the model any more")),
    };
    let outcome = load(&told);
    let Some(state) = weak.upgrade() else { return };
    let outcome = outcome.and_then(|engine| {
        let (shapes, wanted) = (engine.output_shapes(), state.cpu.output_shapes());
        if shapes == wanted {
            return Ok(engine);
        }
        let message = format!("the plan's outputs are {shapes:?}, the model's {wanted:?}");
        Err(Error::new(Kind::ModelArtefact, message))
    });
    match outcome {
        Ok(engine) => {
            log::info!("model={about} event=engine_changed from={} to={}", state.cpu.name(), engine.name());
            state.exchange(engine, true, Gpu::Running);
        }
        Err(error) => {
            log::warn!("model={about} engine=cpu tensorrt=unused reason=\"{error}\"");
            state.set(Gpu::Unused { reason: error.message().to_owned() });
        }
    }
}

impl State {
    fn set(&self, gpu: Gpu) {
        let mut now = lock(&self.now);
        if now.outlook.gpu != gpu {
            now.outlook = Outlook { gpu, since: Wall::now() };
        }
    }

    fn exchange(&self, engine: Arc<dyn Engine>, is_gpu: bool, gpu: Gpu) {
        let mut now = lock(&self.now);
        let before = std::mem::replace(&mut now.engine, engine);
        now.is_gpu = is_gpu;
        now.outlook = Outlook { gpu, since: Wall::now() };
        self.changes.fetch_add(1, Ordering::Release);
        drop(now);
        // What it holds of the GPU goes outside the lock.
        drop(before);
    }

    /// The CPU takes over.
    fn fall_back(&self, reason: &Error) {
        if lock(&self.now).is_gpu {
            log::error!("event=engine_changed from=tensorrt to={} reason=\"{reason}\"", self.cpu.name());
            self.exchange(self.cpu.clone(), false, Gpu::Lost { reason: reason.message().to_owned() });
        }
    }

    fn engine(&self) -> (Arc<dyn Engine>, bool, u32) {
        let now = lock(&self.now);
        (now.engine.clone(), now.is_gpu, self.changes.load(Ordering::Acquire))
    }
}

impl Engine for Switch {
    fn new_run(&self) -> Result<Box<dyn Run>> {
        let (engine, is_gpu, change) = self.state.engine();
        let run = match engine.new_run() {
            Err(error) if is_gpu => {
                self.state.fall_back(&error);
                return self.new_run();
            }
            run => run?,
        };
        let (state, most) = (self.state.clone(), engine.batch().frames);
        Ok(Box::new(SwitchRun { state, run, most, is_gpu, change, frames: 1, failures: 0 }))
    }

    fn name(&self) -> &'static str {
        self.state.engine().0.name()
    }

    fn output_shapes(&self) -> &[Vec<usize>] {
        self.state.cpu.output_shapes()
    }

    fn weights_bytes(&self) -> usize {
        let (engine, is_gpu, _) = self.state.engine();
        let of_cpu = self.state.cpu.weights_bytes();
        if is_gpu { engine.weights_bytes() + of_cpu } else { of_cpu }
    }

    fn arena_bytes(&self) -> usize {
        self.state.engine().0.arena_bytes()
    }

    fn batch(&self) -> Batch {
        self.state.engine().0.batch()
    }

    fn process(&self) -> Option<u32> {
        self.state.engine().0.process()
    }

    fn outlook(&self) -> Option<Outlook> {
        Some(lock(&self.state.now).outlook.clone())
    }
}

/// A run of whatever engine there is.
struct SwitchRun {
    state: Arc<State>,
    run: Box<dyn Run>,
    /// Most frames in one run of that engine.
    most: usize,
    is_gpu: bool,
    /// The exchange that `run` was made after.
    change: u32,
    /// Of the next run.
    frames: usize,
    /// Batches that failed in a row.
    failures: u32,
}

impl SwitchRun {
    /// Makes itself anew where the engine has changed. A batch that was gathered for the engine before may be
    /// too large for the new one: it ends where it began.
    fn follow(&mut self, frames: usize) {
        while self.change != self.state.changes.load(Ordering::Acquire) {
            let (engine, is_gpu, change) = self.state.engine();
            let most = engine.batch().frames.max(1);
            if frames > most {
                return;
            }
            match engine.new_run() {
                Ok(run) => {
                    (self.run, self.most, self.is_gpu, self.change) = (run, most, is_gpu, change);
                    self.failures = 0;
                }
                Err(error) if is_gpu => self.state.fall_back(&error),
                Err(error) => {
                    log::error!("event=engine_change_failed reason=\"{error}\"");
                    return;
                }
            }
        }
    }
}

impl Run for SwitchRun {
    fn expect_frames(&mut self, frames: usize) {
        self.follow(frames);
        self.frames = frames;
        self.run.expect_frames(frames);
    }

    fn select_frame(&mut self, frame: usize) {
        self.run.select_frame(frame);
    }

    fn input(&mut self) -> &mut [f32] {
        self.run.input()
    }

    fn pixels(&mut self, worth: [(f32, f32); 3]) -> Option<&mut [u8]> {
        self.run.pixels(worth)
    }

    fn expect_scores_from(&mut self, lowest: f32) {
        self.run.expect_scores_from(lowest);
    }

    fn keep_alone(&mut self) {
        self.run.keep_alone();
    }

    fn kept(&self) -> Option<&[u32]> {
        self.run.kept()
    }

    fn execute(&mut self) -> Result<()> {
        if self.frames > self.most {
            return Err(Error::new(Kind::Inference, "the engine changed while frames were gathered for it"));
        }
        let outcome = self.run.execute();
        match &outcome {
            Ok(()) => self.failures = 0,
            Err(error) if self.is_gpu => {
                self.failures += 1;
                if tensorrt::is_gpu_lost() || self.failures >= MAX_FAILURES {
                    self.state.fall_back(error);
                }
            }
            Err(_) => {}
        }
        outcome
    }

    fn output_shape(&self, index: usize) -> Option<&[usize]> {
        self.run.output_shape(index)
    }

    fn output(&self, index: usize) -> &[f32] {
        self.run.output(index)
    }
}

#[cfg(test)]
#[path = "switch/tests.rs"]
mod tests;
