//! One source of a pipeline: its state, its buffer, and the loop that keeps it alive.
//!
//! One worker process is one connection: the loop starts a worker, takes its frames until it ends or breaks,
//! and starts the next one after a pause. Commands (`mute`, `resume`) act on the state and on the worker that
//! happens to run.

use super::backoff::{Backoff, Outcome};
use super::budget::{Budget, More};
use super::buffer::Buffer;
use super::capacity::{Capacity, Claim, FRAMES_BEFORE};
use super::demand::Demand;
use super::pictures::Pictures;
use super::signal::Signal;
use super::state::Operation;
use super::statistics::Latencies;
use super::status_updates::StatusUpdates;
use crate::capture::{self, Probe, Ring, Spawner, Worker};
use crate::clock::Wall;
use crate::command::{
    self, Consumption, Context, Event, Filling, LatencyReport, SourceFigures, SourceMetadata,
    SourceProperties, SourceState,
};
use crate::detection::Detection;
use crate::error::{Error, Kind, Result};
use crate::geometry::InputRule;
use crate::infer::{Model, Pixels};
use crate::view::{Place, Viewer, Wish};
use futures::stream::{FuturesUnordered, StreamExt};
use log::Level;
use smol::future::{or, yield_now};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Attempts at a file that opened and then broke without getting further than before: a damaged file is not
/// read for ever. One that gave nothing at all, for a reason of its own, is read once.
const MAX_FILE_ATTEMPTS: u32 = 3;

/// Workers that may die, or hang, while they decode by what is not our own code (libavcodec, a driver); then
/// this source is decoded by what is builtin, until its pipeline ends.
const MAX_DECODER_DEATHS: u32 = 2;

/// Between two probes of a camera that does not answer, each of which may take longer than this: a camera is
/// opened again within 0.5 s after it answers, however rare the attempts have become.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);

/// Between two questions to the name servers for a camera that they do not know.
const RESOLVE_INTERVAL: Duration = Duration::from_millis(700);

/// What a source needs beyond what the client asked for.
#[derive(Debug, Clone)]
pub(super) struct PipelineSource {
    pub(super) spawner: Spawner,
    pub(super) capture: Rc<capture::CaptureSettings>,
    pub(super) budget: Rc<Budget>,
    pub(super) capacity: Rc<Capacity>,
    /// Tells what a frame takes.
    pub(super) model: Weak<Model>,
    /// How frames become the model's input.
    pub(super) rule: InputRule,
    /// Slots of the ring.
    pub(super) slots: u32,
    /// Files are strided to this rate by the worker.
    pub(super) file_max_fps: Option<f64>,
    /// As many frames of a stream are wanted at most.
    pub(super) rate: Option<capture::Rate>,
    /// Pause after the first failed attempt.
    pub(super) retry_delay: Duration,
}

/// A frame on its way to inference.
pub(super) struct Taken {
    pub(super) frame: capture::Frame,
    pub(super) pixels: Arc<dyn Pixels>,
    /// Which worker the slot belongs to.
    pub(super) generation: u64,
}

/// A worker's ring as inference sees it.
struct RingPixels(Arc<Ring>);

impl Pixels for RingPixels {
    fn copy_slot(&self, slot: u32, out: &mut [u8]) {
        self.0.copy_slot(slot, out);
    }
}

/// One source of a pipeline, and what is known of it over all its workers.
pub(super) struct Source {
    id: u32,
    wanted: command::SourceRequest,
    /// As the client gave them.
    given: (Option<Filling>, Option<Consumption>),
    /// The configured size that the report names (`VIDEO_SOURCE_BUFFER_SIZE`).
    buffer_size: u32,
    state: Cell<SourceState>,
    /// Changes of state of an attempt that may yet turn out to be one more of many failures.
    deferred: RefCell<Vec<(Wall, SourceState, SourceState)>>,
    defer: Cell<bool>,
    /// What was asked for last, whatever becomes of the connection: a camera that comes back is as muted as
    /// it was.
    muted: Cell<bool>,
    /// How often it was opened.
    opened: Cell<u32>,
    /// A frame has come since it was opened last.
    has_frames: Cell<bool>,
    /// Workers that died in a foreign decoder; after [`MAX_DECODER_DEATHS`] the builtin one decodes.
    decoder_deaths: Cell<u32>,
    /// The loop has ended: no frame will come any more.
    over: Cell<bool>,
    properties: Cell<Option<SourceProperties>>,
    strategies: Cell<(Option<Filling>, Option<Consumption>)>,
    worker: RefCell<Option<Rc<Worker>>>,
    /// What that worker got beyond what was counted for it at first.
    more_memory: RefCell<Vec<More>>,
    /// Outlives the worker: the last frames of a file are taken after its worker has gone.
    ring: RefCell<Option<Arc<dyn Pixels>>>,
    generation: Cell<u64>,
    buffer: RefCell<Buffer>,
    demand: RefCell<Demand>,
    /// What it asks of the cores while it runs, and frames until that is known.
    claim: RefCell<Option<Claim>>,
    frames_before_claim: Cell<u32>,
    last_frame_id: Cell<u64>,
    latencies: RefCell<Latencies>,
    /// Pictures for those who look.
    pictures: Pictures,
    /// Of the worker that runs, as it last told them.
    counters: Cell<capture::Progress>,
    /// Of all workers before it, and what the parent itself counts.
    figures: RefCell<SourceFigures>,
    status_updates: Rc<StatusUpdates>,
    /// Rung when there is a frame, or a change that a waiting turn must know of.
    changed: Rc<Signal>,
}

/// How one worker ended.
enum End {
    /// A file is over.
    Finished,
    /// It could not be opened.
    Unreachable(Error),
    /// It had been open, for this long.
    Lost(Error, Duration),
}

impl Source {
    /// A source that has not been started. `id` is its index in the pipeline; `muted`: it begins so.
    pub(super) fn new(
        id: u32,
        wanted: command::SourceRequest,
        given: (Option<Filling>, Option<Consumption>),
        muted: bool,
        buffer_size: u32,
        status_updates: Rc<StatusUpdates>,
        changed: Rc<Signal>,
    ) -> Source {
        Source {
            id,
            wanted,
            given,
            buffer_size,
            state: Cell::new(SourceState::NotStarted),
            deferred: RefCell::default(),
            defer: Cell::new(false),
            muted: Cell::new(muted),
            opened: Cell::new(0),
            has_frames: Cell::new(false),
            decoder_deaths: Cell::new(0),
            over: Cell::new(false),
            properties: Cell::new(None),
            strategies: Cell::new(given),
            worker: RefCell::new(None),
            more_memory: RefCell::default(),
            ring: RefCell::new(None),
            generation: Cell::new(0),
            buffer: RefCell::new(Buffer::new(0, Filling::Wait, Consumption::Lazy)),
            demand: RefCell::default(),
            claim: RefCell::default(),
            frames_before_claim: Cell::new(FRAMES_BEFORE),
            last_frame_id: Cell::new(0),
            latencies: RefCell::new(Latencies::new()),
            pictures: Pictures::new(),
            counters: Cell::default(),
            figures: RefCell::default(),
            status_updates,
            changed,
        }
    }

    // ---------------------------------------------------------------- the loop

    /// Keeps the source alive until a file is over. Cancel-safe: [`Source::stop`] cleans up after it.
    pub(super) async fn run(&self, plan: &PipelineSource) {
        let mut backoff = Backoff::new(plan.retry_delay, uuid::Uuid::new_v4().as_u64_pair().0);
        let mut file_attempts = 0;
        // Whether nobody answered the last probe.
        let mut silent = false;
        loop {
            let furthest = self.last_frame_id.get();
            let end = self.connect(plan).await;
            let is_file = self.properties.get().is_some_and(|properties| properties.is_file);
            let is_decoders_fault = self.count_decoder_death();
            self.release_worker().await;
            let (lost, error) = match end {
                End::Finished => return self.finish(),
                End::Unreachable(error) => (None, error),
                End::Lost(error, open_for) => (Some(open_for), error),
            };
            let has_played = self.last_frame_id.get() > furthest;
            file_attempts = match error.kind() {
                // Memory may be given back; and the next decoder is another one soon.
                Kind::Exhausted => file_attempts,
                _ if is_decoders_fault => file_attempts,
                _ if has_played => 0,
                Kind::Worker | Kind::System => file_attempts + 1,
                _ if self.figures.borrow().frames == 0 => MAX_FILE_ATTEMPTS,
                _ => file_attempts + 1,
            };
            // The time that an attempt took is none that the source was there: one that hangs is not asked
            // more often.
            let outcome = match lost {
                _ if error.kind() == Kind::SourceUnauthorised => Outcome::Unauthorised,
                Some(open_for) if has_played => Outcome::Played(open_for),
                _ => Outcome::Failed,
            };
            let lost = lost.is_some();
            self.fail(lost, &error);
            if is_file && file_attempts >= MAX_FILE_ATTEMPTS {
                let (reference, why) = (&self.wanted.reference, error.to_string());
                self.tell(
                    Level::Error,
                    format_args!("event=source_given_up reference={reference} error={why:?}"),
                );
                self.flush_deferred();
                self.over.set(true);
                return self.changed.ring();
            }
            let delay = backoff.delay(outcome);
            let (event, retry) =
                (if lost { "source_lost" } else { "source_unreachable" }, delay.as_secs_f64());
            let (reference, why) = (&self.wanted.reference, error.to_string());
            self.tell(
                Level::Warn,
                format_args!("event={event} reference={reference} error={why:?} retry_in_s={retry:.1}"),
            );
            // Who was refused has no reason to ask again and again.
            let probe =
                Probe::of(&self.wanted.reference).filter(|_| error.kind() != Kind::SourceUnauthorised);
            if pause(delay, probe, &plan.capture.network, &mut silent).await {
                backoff.reset();
            }
            self.transition(SourceState::Restarting);
        }
    }

    /// One worker from start to end.
    async fn connect(&self, plan: &PipelineSource) -> End {
        self.transition(SourceState::Initialising);
        let request = capture::Request {
            reference: self.wanted.reference.clone(),
            properties: self.wanted.properties.clone(),
            masks: self.wanted.masks.clone(),
            rule: plan.rule,
            slots: plan.slots,
            first_frame_id: self.next_frame_id(),
            filling: self.given.0,
            file_max_fps: plan.file_max_fps,
            muted: self.muted.get(),
            only_builtin: self.decoder_deaths.get() >= MAX_DECODER_DEATHS,
            recorded: None,
        };
        self.figures.borrow_mut().workers += 1;
        let worker = match Worker::start(&plan.spawner, &plan.capture, request).await {
            Ok(worker) => Rc::new(worker),
            Err(error) => return End::Unreachable(error),
        };
        // Frames of the connection before lie in a ring that goes now.
        self.buffer.borrow_mut().clear(|_| self.supersede());
        self.generation.set(self.generation.get() + 1);
        *self.ring.borrow_mut() = Some(Arc::new(RingPixels(worker.ring())));
        *self.worker.borrow_mut() = Some(worker.clone());
        self.counters.set(capture::Progress::default());
        let mut opened: Option<Instant> = None;
        loop {
            let ended = |error| match opened {
                Some(since) => End::Lost(error, since.elapsed()),
                None => End::Unreachable(error),
            };
            let event = async { Some(worker.next().await) };
            let looked_at = async {
                self.pictures.audience.changed().await;
                None
            };
            let Some(event) = or(event, looked_at).await else {
                self.pictures.look(&worker);
                continue;
            };
            match event {
                capture::Event::Opened(properties) => {
                    opened = Some(Instant::now());
                    self.open(properties, plan.slots);
                    worker.want(self.demand.borrow_mut().begin(plan.rate));
                    self.pictures.look(&worker);
                }
                capture::Event::Picture(drawn) => {
                    self.figures.borrow_mut().pictures += 1;
                    self.pictures.drawn(&drawn, &worker);
                }
                capture::Event::Frame(frame) => {
                    self.accept(frame, &worker);
                    self.claim(plan);
                    // A worker that sends as fast as it is read must not keep the loop from everybody else.
                    yield_now().await;
                }
                capture::Event::Alive(progress) => self.note(progress),
                capture::Event::Notice(message) => self.status_updates.notice(self.id, message),
                capture::Event::Memory(bytes) => {
                    if let Err(error) = self.allow_memory(bytes, &worker, plan) {
                        return ended(error);
                    }
                }
                capture::Event::Ended => return End::Finished,
                capture::Event::Failed(error) => return ended(error),
            }
        }
    }

    /// Whether the worker that has just ended did so inside a decoder that is not our own.
    fn count_decoder_death(&self) -> bool {
        let blamed = self.worker.borrow().as_ref().and_then(|worker| worker.died_in());
        let Some(kind) = blamed else { return false };
        let deaths = self.decoder_deaths.get() + 1;
        self.decoder_deaths.set(deaths);
        let (decoder, reference) = (kind.name(), &self.wanted.reference);
        self.tell(
            Level::Warn,
            format_args!(
                "event=worker_died_in_decoder reference={reference} decoder={decoder} deaths={deaths}"
            ),
        );
        if deaths == MAX_DECODER_DEATHS {
            let message = format!(
                "{deaths} workers died while {decoder} decoded this source: from now on the builtin decoder does"
            );
            self.tell(
                Level::Warn,
                format_args!("event=decoder_given_up reference={reference} decoder={decoder}"),
            );
            self.status_updates.notice(self.id, message);
        }
        true
    }

    /// A worker gets what the pictures of its source need, if it may have that much and all together have it.
    fn allow_memory(&self, bytes: u64, worker: &Worker, plan: &PipelineSource) -> Result<()> {
        let more = plan.budget.allow_memory(worker, bytes, plan.capture.worker_memory_max_bytes)?;
        self.more_memory.borrow_mut().push(more);
        self.tell(Level::Info, format_args!("event=memory_allowed bytes={bytes}"));
        Ok(())
    }

    /// Says what a camera asks of the cores, once after it began, and tells its pipeline when that is more than
    /// is left. Files wait for inference and ask for nothing.
    fn claim(&self, plan: &PipelineSource) {
        let left = self.frames_before_claim.get();
        if left > 0 {
            return self.frames_before_claim.set(left - 1);
        }
        let is_running = self.state.get() == SourceState::Running;
        if !is_running || self.claim.borrow().is_some() || self.strategies.get().1 != Some(Consumption::Eager)
        {
            return;
        }
        let (Some(properties), Some(of_frame)) =
            (self.properties.get(), plan.model.upgrade().and_then(|model| model.of_frame()))
        else {
            return;
        };
        let fps = plan.rate.map_or(properties.fps, |rate| rate.fps.min(properties.fps));
        let (claim, words) = plan.capacity.claim(fps, of_frame);
        self.claim.replace(Some(claim));
        if let Some(words) = words {
            self.tell(Level::Warn, format_args!("event=capacity_short reason={words:?}"));
            self.status_updates.notice(self.id, words);
        }
    }

    /// Streams count on across connections; a file is read again from its start (and what is known already is
    /// skipped).
    fn next_frame_id(&self) -> u64 {
        match self.properties.get() {
            Some(properties) if properties.is_file => {
                self.pictures.audience.restart();
                1
            }
            // A worker may name any number.
            _ => self.last_frame_id.get().saturating_add(1),
        }
    }

    fn open(&self, properties: SourceProperties, slots: u32) {
        self.properties.set(Some(properties));
        let usual = if properties.is_file {
            (Filling::Wait, Consumption::Lazy)
        } else {
            (Filling::AdaptiveDropOldest, Consumption::Eager)
        };
        let (filling, consumption) = (self.given.0.unwrap_or(usual.0), self.given.1.unwrap_or(usual.1));
        self.strategies.set((Some(filling), Some(consumption)));
        *self.buffer.borrow_mut() = Buffer::new(slots, filling, consumption);
        self.flush_deferred();
        let SourceProperties { width, height, fps, .. } = properties;
        let event =
            if self.opened.replace(self.opened.get() + 1) == 0 { "source_opened" } else { "source_returned" };
        let reference = &self.wanted.reference;
        self.tell(
            Level::Info,
            format_args!("event={event} reference={reference} width={width} height={height} fps={fps}"),
        );
        self.has_frames.set(false);
        self.status_updates.info(Context::Source, Event::ConsumptionStarted { source_id: self.id });
        self.transition(if self.muted.get() { SourceState::Muted } else { SourceState::Running });
        self.changed.ring();
    }

    fn accept(&self, frame: capture::Frame, worker: &Worker) {
        let known = frame.frame_id <= self.last_frame_id.get();
        self.last_frame_id.set(self.last_frame_id.get().max(frame.frame_id));
        self.see_size(frame.width, frame.height);
        if known || self.state.get() != SourceState::Running {
            return worker.release(frame.slot);
        }
        if !self.has_frames.replace(true) {
            self.tell(Level::Info, format_args!("event=frames_started frame={}", frame.frame_id));
        }
        {
            // A worker may tell any number.
            let figures = &mut *self.figures.borrow_mut();
            figures.frames = figures.frames.saturating_add(frame.left_out).saturating_add(1);
            figures.frames_early = figures.frames_early.saturating_add(frame.left_out);
        }
        self.counters.set(capture::Progress { waiting_for_key_frame: false, ..self.counters.get() });
        // Who takes frames in turn throws none away for newer ones.
        if self.strategies.get().1 == Some(Consumption::Eager)
            && let Some(rate) = self.demand.borrow_mut().delivered(frame.left_out, Instant::now())
        {
            worker.want(rate);
        }
        self.buffer.borrow_mut().push(frame, |slot| {
            self.supersede();
            worker.release(slot);
        });
        self.changed.ring();
    }

    /// A stream says how its pictures are turned, or that they change their size, when it is long open.
    fn see_size(&self, width: u32, height: u32) {
        if let Some(properties) = self.properties.get()
            && (properties.width, properties.height) != (width, height)
        {
            self.properties.set(Some(SourceProperties { width, height, ..properties }));
        }
    }

    /// A frame that waited goes unseen.
    fn supersede(&self) {
        self.figures.borrow_mut().frames_superseded += 1;
    }

    fn note(&self, progress: capture::Progress) {
        self.last_frame_id.set(self.last_frame_id.get().max(progress.frame_id));
        let before = self.counters.replace(progress);
        if progress.waiting_for_key_frame && !before.waiting_for_key_frame {
            let message = "The source sends no key frame that decoding could begin with";
            let error = Error::new(Kind::NoKeyFrame, message);
            self.tell(Level::Warn, format_args!("event=no_key_frame error={:?}", error.to_string()));
            self.status_updates.source_error(self.id, &error);
        }
    }

    /// Writes a line about this source into the log.
    fn tell(&self, level: Level, event: std::fmt::Arguments<'_>) {
        self.status_updates.event_log.tell_of(level, self.id, event);
    }

    fn finish(&self) {
        self.tell(Level::Info, format_args!("event=source_ended frames={}", self.last_frame_id.get()));
        self.over.set(true);
        self.transition(SourceState::Ended);
        self.status_updates.info(Context::Source, Event::ConsumptionFinished { source_id: self.id });
        self.changed.ring();
    }

    fn fail(&self, lost: bool, error: &Error) {
        if lost {
            self.transition(SourceState::Ended);
            self.status_updates.info(Context::Source, Event::ConsumptionFinished { source_id: self.id });
            self.status_updates.source_error(self.id, error);
            self.properties.set(self.properties.get().filter(|properties| properties.is_file));
        } else {
            // One more failed attempt says nothing new: its changes of state are forgotten, the error is
            // counted.
            if self.defer.get() {
                self.deferred.borrow_mut().clear();
                self.state.set(SourceState::Error);
            } else {
                self.transition(SourceState::Error);
            }
            self.defer.set(true);
            self.status_updates.inference_error(error);
        }
        self.changed.ring();
    }

    fn transition(&self, new: SourceState) {
        let previous = self.state.replace(new);
        if previous == new {
            return;
        }
        if new != SourceState::Running {
            self.claim.take();
            self.frames_before_claim.set(FRAMES_BEFORE);
        }
        if self.defer.get() {
            self.deferred.borrow_mut().push((Wall::now(), previous, new));
        } else {
            self.status_updates.state(Wall::now(), self.id, previous, new);
        }
    }

    fn flush_deferred(&self) {
        self.defer.set(false);
        for (when, previous, new) in self.deferred.borrow_mut().drain(..) {
            self.status_updates.state(when, self.id, previous, new);
        }
    }

    // ---------------------------------------------------------------- for the pipeline's turns

    /// The frame for this turn, if one waits.
    pub(super) fn take(&self) -> Option<Taken> {
        let pixels = self.ring.borrow().clone()?;
        let frame = self.buffer.borrow_mut().take()?;
        self.demand.borrow_mut().taken();
        if let Some(worker) = self.worker.borrow().as_ref() {
            self.pictures.taken(&frame, worker);
        }
        Some(Taken { frame, pixels, generation: self.generation.get() })
    }

    /// The slot of a taken frame is free again.
    pub(super) fn give_back(&self, taken: &Taken) {
        // A slot of an earlier worker went with that worker.
        if taken.generation != self.generation.get() {
            return;
        }
        self.buffer.borrow_mut().give_back();
        if let Some(worker) = self.worker.borrow().as_ref() {
            worker.release(taken.frame.slot);
            self.pictures.given_back(&taken.frame, worker);
        }
    }

    /// What was found on a taken frame, whose slot is not given back yet.
    pub(super) fn inferred(&self, taken: &Taken, detections: &[Detection], classes: &[String]) {
        if let Some(worker) =
            self.worker.borrow().as_ref().filter(|_| taken.generation == self.generation.get())
        {
            self.pictures.inferred(&taken.frame, detections, classes, worker);
        }
    }

    /// Whether a frame waits for inference.
    pub(super) fn has_frame(&self) -> bool {
        !self.buffer.borrow().is_empty()
    }

    /// No frame will come any more.
    pub(super) fn is_over(&self) -> bool {
        self.over.get()
    }

    /// A frame may come at any moment.
    pub(super) fn is_running(&self) -> bool {
        self.state.get() == SourceState::Running
    }

    /// Its frames are read and thrown away, or will be once it is there again.
    pub(super) fn is_muted(&self) -> bool {
        self.muted.get()
    }

    /// Its frames are dropped rather than delayed when they come too fast.
    pub(super) fn is_stream(&self) -> bool {
        self.properties.get().is_none_or(|properties| !properties.is_file)
    }

    /// One inference on a frame of this source.
    pub(super) fn record_latency(&self, stamp: Wall, started: Wall, took: Duration) {
        self.latencies.borrow_mut().record(stamp, started, took);
        self.figures.borrow_mut().inference.observe(took);
    }

    /// The datagram of a frame taken at `stamp` has been sent.
    pub(super) fn record_dispatch(&self, stamp: Wall) {
        let seconds = Wall::now().seconds_since(stamp);
        // A clock that was set back in between is no latency.
        if let Ok(latency) = Duration::try_from_secs_f64(seconds) {
            self.figures.borrow_mut().latency.observe(latency);
        }
    }

    /// A frame was taken too early for `max_fps`.
    pub(super) fn record_early(&self) {
        self.figures.borrow_mut().frames_early += 1;
        self.demand.borrow_mut().was_early();
    }

    // ---------------------------------------------------------------- for commands

    /// Whether `operation` may be done now.
    pub(super) fn check(&self, operation: Operation) -> Result<()> {
        operation.check(self.state.get())
    }

    /// Mutes the source, or lets it be heard again, from the next frame on.
    pub(super) fn apply(&self, operation: Operation) {
        let muted = operation == Operation::Mute;
        self.muted.set(muted);
        self.demand.borrow_mut().pause();
        self.tell(Level::Info, format_args!("event={}", if muted { "muted" } else { "resumed" }));
        self.transition(if muted { SourceState::Muted } else { SourceState::Running });
        if let Some(worker) = self.worker.borrow().as_ref() {
            worker.set_muted(muted);
            if muted {
                self.buffer.borrow_mut().clear(|slot| {
                    self.supersede();
                    worker.release(slot);
                });
            }
        }
        self.changed.ring();
    }

    /// Ends the worker that may still run. Call after [`Source::run`] has been dropped.
    pub(super) async fn stop(&self) {
        self.transition(SourceState::Terminating);
        self.release_worker().await;
        self.ring.borrow_mut().take();
        self.transition(SourceState::Ended);
    }

    async fn release_worker(&self) {
        self.pictures.reset();
        let worker = self.worker.borrow_mut().take();
        // The loop's own handle is gone when this is called, so this one is the last.
        if let Some(worker) = worker.and_then(Rc::into_inner) {
            worker.stop().await;
        }
        self.more_memory.borrow_mut().clear();
        let figures = self.figures();
        self.figures.replace(figures);
        // The next worker counts from 0.
        self.counters.take();
    }

    /// One more who looks.
    pub(super) fn look(&self, wish: Wish, place: Place) -> Viewer {
        self.pictures.audience.join(wish, place)
    }

    /// No frame can be expected soon.
    pub(super) fn is_dark(&self) -> bool {
        self.over.get()
            || matches!(self.state.get(), SourceState::Muted | SourceState::Error | SourceState::Restarting)
    }

    /// State of the source, as `status` says it.
    pub(super) fn state(&self) -> SourceState {
        self.state.get()
    }

    /// Nobody will see anything any more.
    pub(super) fn end_pictures(&self) {
        self.pictures.audience.close();
    }

    // ---------------------------------------------------------------- for status

    /// This source's entry in `latency_reports`.
    pub(super) fn latency_report(&self) -> LatencyReport {
        self.latencies.borrow().report()
    }

    /// What it has counted and measured, with what the worker that runs has told.
    pub(super) fn figures(&self) -> SourceFigures {
        let (told, mut figures) = (self.counters.get(), self.figures.borrow().clone());
        figures.finished = self.over.get();
        // A worker may tell any number.
        figures.frames_without_slot = figures.frames_without_slot.saturating_add(told.dropped);
        figures.frames_undecodable = figures.frames_undecodable.saturating_add(told.undecodable);
        figures.packets.merge(&told.packets);
        figures
    }

    /// This source's entry in `sources_metadata`.
    pub(super) fn metadata(&self) -> SourceMetadata {
        let (filling, consumption) = self.strategies.get();
        SourceMetadata {
            properties: self.properties.get(),
            reference: self.wanted.reference.clone(),
            buffer_size: self.buffer_size,
            masks: self.wanted.masks.clone(),
            state: self.state.get(),
            filling,
            consumption,
        }
    }
}

/// Waits until the next attempt is due, or until a camera that did not answer begins to: then true. One that
/// answers, and yet cannot be opened, is left alone: it has nothing new to say.
async fn pause(delay: Duration, probe: Option<Probe>, network: &capture::Network, silent: &mut bool) -> bool {
    let due = async {
        smol::Timer::after(delay).await;
        false
    };
    let back = async {
        let Some(probe) = probe else { return std::future::pending().await };
        // A name is looked up until it is found, and then once for each pause: with dead name servers every
        // look-up holds a thread for many seconds, and all pipelines share those.
        loop {
            if let Some(place) = probe.resolve(network).await {
                // One that is lost on its way must not hold up the next.
                let mut asked = FuturesUnordered::new();
                loop {
                    asked.push(probe.answers(place));
                    let answered = async {
                        while let Some(answers) = asked.next().await {
                            if answers {
                                return true;
                            }
                            *silent = true;
                        }
                        std::future::pending().await
                    };
                    let due = async {
                        smol::Timer::after(PROBE_INTERVAL).await;
                        false
                    };
                    if smol::future::or(answered, due).await {
                        break;
                    }
                }
                break;
            }
            *silent = true;
            smol::Timer::after(RESOLVE_INTERVAL).await;
        }
        if !std::mem::take(silent) {
            return std::future::pending().await;
        }
        true
    };
    smol::future::or(back, due).await
}
