//! A model that runs in its own process, seen as an engine. When the process dies or hangs, that is an error
//! of the frames it had; it is started again, later and later while it keeps dying.

use super::channel::{Channel, Missing};
use super::live::{Live, Recipe};
use super::words::{Done, Order, RunOrder, RunWord, Verdict};
use crate::error::{Error, Kind, Result, system};
use crate::infer::shared::{as_bytes, as_bytes_mut, fix_size, memory_file};
use crate::infer::{Batch, Engine, Run};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Before the first restart; doubled with each that follows, up to [`LONGEST_REST`].
const FIRST_REST: Duration = Duration::from_secs(1);
/// The longest pause before a restart; the first is [`FIRST_REST`].
const LONGEST_REST: Duration = Duration::from_secs(60);
/// A process that lived for so long has not just failed again.
const STEADY: Duration = Duration::from_secs(60);
/// To make a run ready: an arena is allocated.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// A run may take so many times as long as the longest before it,
const RUN_TOLERANCE: u32 = 10;
/// and so long in any case: the machine may be busy with something else.
const LEAST_RUN_LIMIT: Duration = Duration::from_secs(5);
/// Numbers that there is room for in an output whose size depends on the picture: 300 boxes of 80 classes, of
/// 7 numbers each, six times over. Memory is taken only where something is written.
const OPEN_OUTPUT_FLOATS: usize = 1 << 20;

/// A model in a process of its own, as an engine.
pub(super) struct ProcessEngine(Arc<Shared>);

struct Shared {
    recipe: Arc<Recipe>,
    verdict: Verdict,
    /// Started again when it dies.
    supervised: bool,
    state: Mutex<State>,
    /// The longest run so far, microseconds.
    longest_us: AtomicU64,
}

struct State {
    phase: Phase,
    /// Which process this is, counted from the first.
    generation: u64,
    /// When the last one was started.
    since: Instant,
    failures: u32,
    /// What those are told who ask while there is no process.
    why: String,
}

enum Phase {
    Live(Arc<Live>),
    /// There is no process before that time.
    Resting(Instant),
    Starting,
}

impl ProcessEngine {
    /// Of a process that has compiled the model.
    pub(super) fn new(
        recipe: Arc<Recipe>,
        verdict: Verdict,
        live: Arc<Live>,
        supervised: bool,
    ) -> ProcessEngine {
        let phase = Phase::Live(live);
        let state = State { phase, generation: 0, since: Instant::now(), failures: 0, why: String::new() };
        let longest_us = AtomicU64::new(0);
        ProcessEngine(Arc::new(Shared { recipe, verdict, supervised, state: Mutex::new(state), longest_us }))
    }
}

impl Engine for ProcessEngine {
    fn new_run(&self) -> Result<Box<dyn Run>> {
        let Verdict { frames, input_floats, ref output_shapes, .. } = self.0.verdict;
        let no_memory = |_| Error::new(Kind::Exhausted, "no memory for the input of the model");
        let floats = frames.saturating_mul(input_floats);
        let mut input = Vec::new();
        input.try_reserve_exact(floats).map_err(no_memory)?;
        input.resize(floats, 0.0);
        let outputs = vec![vec![Vec::new(); output_shapes.len()]; frames];
        let shapes = vec![None; output_shapes.len()];
        let run = ProcessRun {
            shared: self.0.clone(),
            link: None,
            input,
            outputs,
            shapes,
            kept: None,
            expected: 1,
            selected: 0,
            lowest: 0.0,
        };
        Ok(Box::new(run))
    }
    fn name(&self) -> &'static str {
        if self.0.verdict.ours { "cnn" } else { "tract" }
    }
    fn output_shapes(&self) -> &[Vec<usize>] {
        &self.0.verdict.output_shapes
    }
    fn weights_bytes(&self) -> usize {
        self.0
            .verdict
            .weights_floats
            .saturating_mul(size_of::<f32>())
            .saturating_add(self.0.verdict.foreign_bytes)
    }
    fn arena_bytes(&self) -> usize {
        self.0.verdict.arena_bytes
    }
    fn batch(&self) -> Batch {
        Batch { frames: self.0.verdict.frames, ..Batch::ONE }
    }
    fn process(&self) -> Option<u32> {
        match &self.0.lock().phase {
            Phase::Live(live) => live.pid(),
            _ => None,
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        // What never ran for anybody belongs to a load, which leaves nothing behind. Others may go on the
        // event loop, which waits for nobody: they are killed, and reaped in the background.
        if let Phase::Live(live) = &state.phase
            && (!self.supervised || *self.longest_us.get_mut() == 0)
        {
            live.end();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Only assignments happen under the lock: poisoned or not, the state is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process, or why there is none; where it has rested enough, it is started by a thread of its own.
    fn live(self: &Arc<Self>) -> Result<(u64, Arc<Live>)> {
        let mut state = self.lock();
        match &state.phase {
            Phase::Live(live) => return Ok((state.generation, live.clone())),
            Phase::Resting(until) if self.supervised && *until <= Instant::now() => {
                let shared = self.clone();
                let thread =
                    std::thread::Builder::new().name("model-restart".into()).spawn(move || shared.restart());
                state.phase = match thread {
                    Ok(_) => Phase::Starting,
                    Err(_) => Phase::Resting(Instant::now() + LONGEST_REST),
                };
            }
            Phase::Resting(_) | Phase::Starting => {}
        }
        Err(Error::new(Kind::Inference, state.why.clone()))
    }

    fn restart(&self) {
        let loaded = self.recipe.load().and_then(|(verdict, live)| {
            let same = (&verdict.output_shapes, verdict.input_floats, verdict.frames)
                == (&self.verdict.output_shapes, self.verdict.input_floats, self.verdict.frames);
            match same {
                true => Ok(live),
                false => Err(Error::new(
                    Kind::ModelArtefact,
                    "the model's process made something else of the model",
                )),
            }
        });
        let mut state = self.lock();
        match loaded {
            Ok(live) => {
                log::warn!(
                    "event=model_process_restarted model={:?} failures={}",
                    self.recipe.about(),
                    state.failures
                );
                state.generation += 1;
                state.since = Instant::now();
                state.phase = Phase::Live(Arc::new(live));
            }
            Err(error) => {
                log::error!("event=model_process_failed model={:?} error=\"{error}\"", self.recipe.about());
                state.failures = state.failures.saturating_add(1);
                state.phase = Phase::Resting(Instant::now() + rest(state.failures));
            }
        }
    }

    /// The process of that generation is of no use any more. What its frames are told.
    fn lost(&self, generation: u64, missing: Missing, limit: Duration) -> Error {
        let mut state = self.lock();
        if state.generation == generation && matches!(state.phase, Phase::Live(_)) {
            state.failures =
                if state.since.elapsed() > STEADY { 1 } else { state.failures.saturating_add(1) };
            let rest = rest(state.failures);
            let live = std::mem::replace(&mut state.phase, Phase::Resting(Instant::now() + rest));
            let Phase::Live(live) = live else { return Error::new(Kind::Inference, state.why.clone()) };
            state.why = match missing {
                Missing::Gone => {
                    let exit = live.ended().map_or_else(|| "ended".to_owned(), |exit| exit.to_string());
                    format!("the model's process ended early ({exit})")
                }
                Missing::Late => {
                    format!("the model took longer than {} s for a frame and was stopped", limit.as_secs())
                }
                Missing::Nonsense => "the model's process broke its protocol and was stopped".to_owned(),
            };
            live.kill();
            let (about, seconds) = (self.recipe.about(), rest.as_secs());
            log::error!(
                "event=model_process_lost model={about:?} reason=\"{}\" restart_in_s={seconds}",
                state.why
            );
        }
        Error::new(Kind::Inference, state.why.clone())
    }

    /// How long the next run may take.
    fn run_limit(&self) -> Duration {
        match self.longest_us.load(Ordering::Relaxed) {
            0 => self.recipe.timeout(),
            longest => LEAST_RUN_LIMIT.max(RUN_TOLERANCE * Duration::from_micros(longest)),
        }
    }

    /// Bytes of the input of all frames, and of the room for the outputs.
    fn memory_bytes(&self) -> Option<(usize, usize)> {
        let Verdict { frames, input_floats, output_shapes, .. } = &self.verdict;
        let floats = |shape: &Vec<usize>| match shape.contains(&0) {
            true => Some(OPEN_OUTPUT_FLOATS),
            false => shape.iter().try_fold(1usize, |product, side| product.checked_mul(*side)),
        };
        let outputs = output_shapes.iter().try_fold(0usize, |sum, shape| sum.checked_add(floats(shape)?))?;
        let bytes = |floats: usize| floats.checked_mul(*frames)?.checked_mul(size_of::<f32>());
        Some((bytes(*input_floats)?, bytes(outputs)?))
    }
}

/// After so many failures in a row.
fn rest(failures: u32) -> Duration {
    LONGEST_REST.min(FIRST_REST.saturating_mul(1 << failures.saturating_sub(1).min(16)))
}

/// The place of one run in a process.
struct Link {
    generation: u64,
    channel: Channel,
    memory: File,
    input_bytes: usize,
    room_bytes: usize,
}

struct ProcessRun {
    shared: Arc<Shared>,
    link: Option<Link>,
    input: Vec<f32>,
    /// By frame and output.
    outputs: Vec<Vec<Vec<f32>>>,
    shapes: Vec<Option<Vec<usize>>>,
    kept: Option<Vec<u32>>,
    expected: usize,
    selected: usize,
    lowest: f32,
}

impl ProcessRun {
    /// A link to the process that runs now.
    fn link(&mut self) -> Result<&Link> {
        let (generation, live) = self.shared.live()?;
        if self.link.as_ref().is_none_or(|link| link.generation != generation) {
            self.link = None;
            self.link = Some(self.open(generation, &live)?);
        }
        self.link.as_ref().ok_or_else(|| Error::new(Kind::Inference, "the model's process cannot be reached"))
    }

    fn open(&self, generation: u64, live: &Live) -> Result<Link> {
        let shared = &self.shared;
        let too_large = || Error::new(Kind::Exhausted, "the outputs of the model are larger than any memory");
        let (input_bytes, room_bytes) = shared.memory_bytes().ok_or_else(too_large)?;
        let memory = memory_file(input_bytes.checked_add(room_bytes).ok_or_else(too_large)? as u64)?;
        fix_size(&memory)?;
        let (channel, other) = Channel::pair()?;
        let order = Order::Open { polite: !shared.supervised, threads: shared.recipe.threads };
        let sent = {
            let control = live.channel.lock().unwrap_or_else(PoisonError::into_inner);
            control.send(&order.write(), &[other.as_fd(), memory.as_fd()])
        };
        // The process has its own copy now; while this one is open the end of the socket would not be seen.
        drop(other);
        let lost = |missing| shared.lost(generation, missing, OPEN_TIMEOUT);
        sent.map_err(lost)?;
        let answer = channel.receive(Some(Instant::now() + OPEN_TIMEOUT)).map_err(lost)?;
        match RunWord::read(&answer.bytes) {
            Some(RunWord::Ready) => {}
            Some(RunWord::Failed(error)) => return Err(error),
            _ => return Err(lost(Missing::Nonsense)),
        }
        Ok(Link { generation, channel, memory: File::from(memory), input_bytes, room_bytes })
    }

    fn run(&mut self) -> Result<()> {
        let order = RunOrder { frames: self.expected, lowest: self.lowest };
        let shared = self.shared.clone();
        let limit = shared.run_limit();
        let outputs = shared.verdict.output_shapes.len();
        self.link()?;
        let Some(link) = &self.link else {
            return Err(Error::new(Kind::Inference, "the model's process cannot be reached"));
        };
        let floats = self.expected.saturating_mul(shared.verdict.input_floats);
        let input = self.input.get(..floats).unwrap_or_default();
        link.memory.write_all_at(as_bytes(input), 0).map_err(system("writing a model's input"))?;
        let (generation, start) = (link.generation, Instant::now());
        let answer =
            link.channel.send(&order.write(), &[]).and_then(|()| link.channel.receive(Some(start + limit)));
        let answer = answer.map_err(|missing| shared.lost(generation, missing, limit))?;
        let nonsense = || shared.lost(generation, Missing::Nonsense, limit);
        let Done { kept, lengths, shapes } = match RunWord::read(&answer.bytes) {
            Some(RunWord::Done(done)) => done,
            Some(RunWord::Failed(error)) => return Err(error),
            _ => return Err(nonsense()),
        };
        let took = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        shared.longest_us.fetch_max(took.max(1), Ordering::Relaxed);
        let bytes =
            lengths.iter().flatten().try_fold(0usize, |sum, length| sum.checked_add(length.checked_mul(4)?));
        let whole =
            lengths.len() == self.expected && lengths.iter().all(|of_frame| of_frame.len() == outputs);
        if !whole || shapes.len() != outputs || bytes.is_none_or(|bytes| bytes > link.room_bytes) {
            return Err(nonsense());
        }
        let mut at = link.input_bytes as u64;
        for (kept, lengths) in self.outputs.iter_mut().zip(&lengths) {
            for (output, length) in kept.iter_mut().zip(lengths) {
                output.resize(*length, 0.0);
                link.memory
                    .read_exact_at(as_bytes_mut(output), at)
                    .map_err(system("reading a model's output"))?;
                at += size_of_val(&**output) as u64;
            }
        }
        (self.kept, self.shapes) = (kept, shapes);
        Ok(())
    }
}

impl Run for ProcessRun {
    fn expect_frames(&mut self, frames: usize) {
        self.expected = frames.clamp(1, self.shared.verdict.frames);
    }
    fn select_frame(&mut self, frame: usize) {
        self.selected = frame;
    }
    fn input(&mut self) -> &mut [f32] {
        let floats = self.shared.verdict.input_floats;
        self.input.chunks_exact_mut(floats.max(1)).nth(self.selected).unwrap_or_default()
    }
    fn expect_scores_from(&mut self, lowest: f32) {
        self.lowest = lowest;
    }
    fn kept(&self) -> Option<&[u32]> {
        self.kept.as_deref()
    }
    fn execute(&mut self) -> Result<()> {
        let outcome = self.run();
        if outcome.is_err() {
            self.kept = None;
        }
        outcome
    }
    fn output_shape(&self, index: usize) -> Option<&[usize]> {
        self.shapes.get(index)?.as_deref()
    }
    fn output(&self, index: usize) -> &[f32] {
        self.outputs.get(self.selected).and_then(|outputs| outputs.get(index)).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_grow_up_to_their_limit() {
        let rests = [1, 2, 3, 6, 7, 1000].map(|failures| rest(failures).as_secs());
        assert_eq!(rests, [1, 2, 4, 32, 60, 60]);
    }
}
