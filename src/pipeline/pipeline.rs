//! One pipeline: from its sources' frames to its sink.

use super::Shared;
use super::backoff::{Backoff, Outcome};
use super::budget::{Budget, Reservation};
use super::buffer::MAX_SLOTS;
use super::capacity::Capacity;
use super::history::Steps;
use super::limiter::Limiter;
use super::signal::Signal;
use super::source::{PipelineSource, Source, Taken};
use super::state::Operation;
use super::statistics::Throughput;
use super::status_updates::{StatusUpdates, engine_update};
use super::store::Kept;
use super::tally::Tally;
use super::turns::{Part, Turns};
use crate::capture::{self, picture_bytes};
use crate::clock::{Wall, within};
use crate::command::{
    Context, Event, Figures, History, Init, MAX_SOURCES, Outline, PipelineId, Reply, Report, SourceState,
};
use crate::error::{Error, Kind, Result};
use crate::feed::{Feed, Message};
use crate::infer::{Done, Job, Model, Queue, Thresholds, Ticket};
use crate::sink::{self, FrameInfo, Outputs, Packer, Sink};
use crate::view::{Place, Viewer, Wish};
use log::Level;
use smol::future::{or, yield_now};
use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Slots of a ring beyond those that inference may hold: one waits, one is being written, one is on its way
/// back.
const EXTRA_SLOTS: usize = 3;

/// A pipeline that runs: its sources, its turns and its sinks.
pub(super) struct Pipeline {
    pub(super) id: PipelineId,
    init: Init,
    origin: Origin,
    /// The model was loaded once: from then on the pipeline is worth keeping.
    was_ready: Cell<bool>,
    shared: Rc<Shared>,
    budget: Rc<Budget>,
    capacity: Rc<Capacity>,
    status_updates: Rc<StatusUpdates>,
    sources: Vec<Source>,
    throughput: RefCell<Throughput>,
    steps: RefCell<Steps>,
    turns: RefCell<Turns>,
    /// Rung when a frame has come, a turn is over or a source has changed.
    wake: Rc<Signal>,
    /// Rung by `terminate`: all that waits ends.
    quit: Signal,
    /// Closed when everything has been given back.
    gone: (async_channel::Sender<()>, async_channel::Receiver<()>),
    /// Detections that did not fit into a datagram.
    omitted: Cell<u64>,
    /// Set when the pipeline begins to run.
    outputs: OnceCell<Outputs>,
    /// Its model once it is loaded: which engine runs it may change.
    model: RefCell<std::sync::Weak<Model>>,
    /// What its model can find, and how many of each there were a moment ago; set when the model is loaded.
    objects: OnceCell<(Rc<[String]>, RefCell<Tally>)>,
}

/// Who wants the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// A client that waits for the answer to `init`: a failure is told and nothing remains.
    Client,
    /// An acknowledged one from before a restart: its model is asked for until it comes.
    Restored {
        /// Whether it was muted when the service ended.
        muted: bool,
    },
    /// One that the configuration declares; as a restored one otherwise.
    Declared {
        /// It was muted before a restart.
        muted: bool,
    },
}

impl Origin {
    fn is_muted(self) -> bool {
        matches!(self, Origin::Restored { muted: true } | Origin::Declared { muted: true })
    }
}

/// What the pipeline can do now.
enum Step {
    /// Hand these to inference.
    Go,
    /// Look again when something changes, or after this long.
    Wait(Option<Duration>),
    /// Every source is over and every frame dispatched.
    Finished,
}

impl Pipeline {
    pub(super) fn new(
        id: PipelineId,
        init: Init,
        shared: Rc<Shared>,
        (budget, capacity): (Rc<Budget>, Rc<Capacity>),
        origin: Origin,
    ) -> Pipeline {
        let (status_updates, wake) = (Rc::new(StatusUpdates::new(id)), Rc::new(Signal::new()));
        let given = (init.filling, init.consumption);
        let source = |(index, wanted): (usize, &crate::command::SourceRequest)| {
            let buffer_size = shared.settings.buffer_size;
            Source::new(
                index as u32,
                wanted.clone(),
                given,
                origin.is_muted(),
                buffer_size,
                status_updates.clone(),
                wake.clone(),
            )
        };
        let sources = init.sources.iter().take(MAX_SOURCES).enumerate().map(source).collect();
        Pipeline {
            id,
            init,
            origin,
            was_ready: Cell::new(origin != Origin::Client),
            shared,
            budget,
            capacity,
            status_updates,
            sources,
            throughput: RefCell::new(Throughput::new()),
            steps: RefCell::new(Steps::new(Instant::now())),
            turns: RefCell::default(),
            wake,
            quit: Signal::new(),
            gone: async_channel::bounded(1),
            omitted: Cell::new(0),
            outputs: OnceCell::new(),
            model: RefCell::default(),
            objects: OnceCell::new(),
        }
    }

    // ---------------------------------------------------------------- its life

    /// Loads the model, says so through `ready`, and works until the sources are over; then waits to be
    /// terminated. Whatever happens, nothing is left when this returns; false when it could not start
    /// (`ready` has the reason).
    pub(super) async fn run(&self, ready: async_channel::Sender<Result<()>>) -> bool {
        let mut started = true;
        let outcome = or(async { self.prepare().await.map(Some) }, async {
            self.quit.wait().await;
            Ok(None)
        })
        .await;
        match outcome {
            Ok(Some((loaded, outputs, _reservation))) => {
                self.was_ready.set(true);
                let (model, sources) = (&self.init.model_id, self.sources.len());
                let (engine, sink) = (loaded.engine_name(), sink::names(&self.init.sinks));
                self.tell(
                    Level::Info,
                    format_args!("event=started model={model} engine={engine} sources={sources} sink={sink}"),
                );
                let _ = ready.try_send(Ok(()));
                let outputs = self.outputs.get_or_init(|| outputs);
                let abandoned = async {
                    outputs.abandoned().await;
                    self.tell(Level::Info, format_args!("event=abandoned"));
                    started = false;
                };
                or(self.work(loaded, outputs), or(self.quit.wait(), abandoned)).await;
                // All at once: each may take its whole grace.
                join_all(self.sources.iter().map(Source::stop).collect()).await;
            }
            // Nobody waits any more when the client has gone; the pipeline then ends all the same.
            Ok(None) => drop(ready.try_send(Err(Error::new(Kind::NotAllowed, "Terminated while loading")))),
            Err(error) => {
                let (model, why) = (&self.init.model_id, error.to_string());
                self.tell(Level::Warn, format_args!("event=init_failed model={model} error={why:?}"));
                started = false;
                let _ = ready.try_send(Err(error));
            }
        }
        self.tell(Level::Info, format_args!("event=ended"));
        self.status_updates.listeners.close();
        self.sources.iter().for_each(Source::end_pictures);
        self.gone.0.close();
        started
    }

    /// Asks [`Pipeline::run`] to end and waits until it has.
    pub(super) async fn terminate(&self) {
        self.quit.ring();
        let _ = self.gone.1.recv().await;
    }

    /// Writes a line about this pipeline into the log.
    fn tell(&self, level: Level, event: std::fmt::Arguments<'_>) {
        self.status_updates.event_log.tell(level, event);
    }

    async fn prepare(&self) -> Result<(Arc<Model>, Outputs, Reservation)> {
        let mut backoff = Backoff::new(self.shared.settings.retry_delay, self.id.as_u64_pair().0);
        loop {
            match self.try_prepare().await {
                Err(error) if self.origin != Origin::Client => {
                    // At boot the network comes later than we do, and memory may be given back.
                    let (model, why) = (&self.init.model_id, error.to_string());
                    self.tell(Level::Warn, format_args!("event=not_ready model={model} error={why:?}"));
                    self.status_updates.inference_error(&error);
                    let refused = error.kind() == Kind::ApiUnauthorised;
                    smol::Timer::after(backoff.delay(if refused {
                        Outcome::Unauthorised
                    } else {
                        Outcome::Failed
                    }))
                    .await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn try_prepare(&self) -> Result<(Arc<Model>, Outputs, Reservation)> {
        let adds = self.init.sinks.iter().map(|sink| sink.adds_bytes(&self.shared.outlets));
        self.budget.check_standing(adds.fold(0, u64::saturating_add))?;
        let outputs = Outputs::open(&self.init.sinks, &self.shared.outlets, self.id)?;
        let progress = |progress| {
            log::debug!("pipeline={} loading={progress:?}", self.id);
            self.status_updates.loading(progress);
        };
        let outcome =
            self.shared.models.get(&self.init.model_id, self.init.api_key.as_ref(), &progress).await;
        self.status_updates.loaded();
        let model = outcome?;
        *self.model.borrow_mut() = Arc::downgrade(&model);
        let reservation = self.reserve(&model)?;
        Ok((model, outputs, reservation))
    }

    /// The configuration declares it.
    pub(super) fn is_declared(&self) -> bool {
        matches!(self.origin, Origin::Declared { .. })
    }

    /// What its report does not say.
    pub(super) fn outline(&self) -> Outline {
        Outline { id: self.id, model_id: self.init.model_id.clone(), is_declared: self.is_declared() }
    }

    /// It does what `init` asks for.
    pub(super) fn does(&self, init: &Init) -> bool {
        self.init == *init
    }

    /// What the state directory holds of it; nothing before its model was loaded once.
    pub(super) fn to_keep(&self) -> Option<Kept> {
        let muted = self.sources.iter().any(Source::is_muted);
        self.was_ready.get().then(|| Kept {
            id: self.id,
            init: self.init.clone(),
            muted,
            is_declared: self.is_declared(),
        })
    }

    async fn work(&self, model: Arc<Model>, outputs: &Outputs) {
        self.status_updates.info(Context::Pipeline, Event::InferenceStarted);
        let plan = self.plan(&model);
        let (answers, answered) = async_channel::bounded(Queue::CAPACITY);
        let queue = self.shared.pool.queue(answers);
        let sources = async {
            let runs: Vec<_> = self.sources.iter().map(|source| source.run(&plan)).collect();
            join_all(runs).await;
            std::future::pending::<()>().await;
        };
        let gather = self.gather(&model, &queue);
        let dispatch = self.dispatch(&model, outputs, &answered);
        or(gather, or(dispatch, sources)).await;
        self.status_updates.info(Context::Pipeline, Event::InferenceFinished);
        // An ended pipeline stays listed and answers status until it is terminated; its workers, model and
        // queue go now.
        drop((queue, model));
        std::future::pending::<()>().await;
    }

    /// Counts what the pipeline may cost at most; an error when that is more than the service may use.
    fn reserve(&self, model: &Model) -> Result<Reservation> {
        let ring = u64::from(self.slots()) * model.rule().slot_bytes() as u64;
        let pictures = picture_bytes(self.shared.capture.picture_width);
        let per_source =
            ring.saturating_add(self.shared.capture.worker_memory_bytes).saturating_add(pictures);
        let arenas = (model.arena_bytes() as u64).saturating_mul(self.shared.threads as u64);
        let model_bytes = arenas.saturating_add(model.weights_bytes() as u64);
        let per_source = per_source.saturating_add(kept_bytes(&self.init.sinks));
        self.budget.reserve(per_source.saturating_mul(self.sources.len() as u64), model.id(), model_bytes)
    }

    /// Slots of each source's ring.
    fn slots(&self) -> u32 {
        (self.shared.threads + 1 + EXTRA_SLOTS).min(MAX_SLOTS) as u32
    }

    fn plan(&self, model: &Arc<Model>) -> PipelineSource {
        PipelineSource {
            spawner: self.shared.spawner.clone(),
            capture: self.shared.capture.clone(),
            budget: self.budget.clone(),
            capacity: self.capacity.clone(),
            model: Arc::downgrade(model),
            rule: *model.rule(),
            slots: self.slots(),
            file_max_fps: self.init.max_fps.filter(|_| self.shared.settings.stride_files),
            // A turn takes one frame of each.
            rate: self.init.max_fps.map(|max_fps| capture::Rate {
                fps: max_fps / self.sources.len().max(1) as f64,
                is_aligned: self.sources.len() > 1,
            }),
            retry_delay: self.shared.settings.retry_delay,
        }
    }

    // ---------------------------------------------------------------- frames in

    /// Hands frames to inference, turn by turn, until every source is over and every turn dispatched.
    async fn gather(&self, model: &Arc<Model>, queue: &Queue) {
        let mut limiter = self.init.max_fps.map(|max_fps| Limiter::new(max_fps, self.sources.len()));
        // Since when a turn waits for its other sources.
        let mut waiting_since = None;
        loop {
            match self.step(limiter.as_ref(), &mut waiting_since) {
                Step::Go => {
                    waiting_since = None;
                    self.turn(model, queue, limiter.as_mut());
                    // A long queue of frames must not keep other tasks of the loop waiting.
                    yield_now().await;
                }
                Step::Wait(None) => self.wake.wait().await,
                // Looks again whether it was woken or not.
                Step::Wait(Some(pause)) => drop(within(pause, self.wake.wait()).await),
                Step::Finished => return,
            }
        }
    }

    fn step(&self, limiter: Option<&Limiter>, waiting_since: &mut Option<Instant>) -> Step {
        let now = Instant::now();
        let in_flight = self.turns.borrow().len();
        if in_flight >= self.allowance() {
            return Step::Wait(None);
        }
        if !self.sources.iter().any(Source::has_frame) {
            let over = self.sources.iter().all(Source::is_over);
            return if over && in_flight == 0 { Step::Finished } else { Step::Wait(None) };
        }
        if let Some(limiter) = limiter.filter(|_| !self.drops_early_frames()) {
            let pause = limiter.wait(now);
            if !pause.is_zero() {
                return Step::Wait(Some(pause));
            }
        }
        // A turn takes one frame of each live source, and waits for those that have none yet.
        if self.sources.iter().any(|source| source.is_running() && !source.has_frame()) {
            let since = *waiting_since.get_or_insert(now);
            match self.init.batch_collection_timeout {
                None => return Step::Wait(None),
                Some(timeout) => {
                    let left = (since + timeout).saturating_duration_since(now);
                    if !left.is_zero() {
                        return Step::Wait(Some(left));
                    }
                }
            }
        }
        Step::Go
    }

    /// Turns that may be under way. Files: one per thread and one in reserve, every frame counts. Streams:
    /// one, so that a frame is the newest when a thread takes it.
    fn allowance(&self) -> usize {
        if self.drops_early_frames() { 1 } else { turns_at_once(self.shared.threads, self.sources.len()) }
    }

    /// With a stream among the sources, frames that come too early are dropped; files alone are slowed down.
    fn drops_early_frames(&self) -> bool {
        self.sources.iter().any(Source::is_stream)
    }

    fn turn(&self, model: &Arc<Model>, queue: &Queue, limiter: Option<&mut Limiter>) {
        let now = Instant::now();
        let early = limiter.as_ref().is_some_and(|limiter| !limiter.wait(now).is_zero());
        let taken =
            self.sources.iter().zip(0_u32..).filter_map(|(source, index)| Some((index, source.take()?)));
        if early {
            taken.for_each(|(index, taken)| {
                self.give_back(index, &taken);
                self.source(index, Source::record_early);
            });
            return;
        }
        if let Some(limiter) = limiter {
            limiter.went(now);
        }
        let mut turns = self.turns.borrow_mut();
        let id = turns.next_id();
        let mut parts = turns.spare_parts();
        let thresholds = self.thresholds();
        for (index, taken) in taken {
            let placement = model.rule().place(taken.frame.width, taken.frame.height);
            let submitted = placement.ok_or_else(|| Error::new(Kind::Inference, "An empty frame")).and_then(
                |placement| {
                    let job = Job {
                        ticket: Ticket { turn: id, source: index, slot: taken.frame.slot },
                        model: model.clone(),
                        pixels: taken.pixels.clone(),
                        placement,
                        thresholds,
                        detections: turns.spare_detections(),
                    };
                    queue.submit(job).map_err(|_| Error::new(Kind::Inference, "The inference queue is full"))
                },
            );
            match submitted {
                Ok(()) => parts.push(Part { source: index, taken, outcome: None }),
                Err(error) => {
                    self.status_updates.inference_error(&error);
                    self.give_back(index, &taken);
                }
            }
        }
        // A turn without frames would wait for an answer that nobody gives.
        if parts.is_empty() {
            turns.recycle(parts);
        } else {
            turns.start(parts);
        }
    }

    fn give_back(&self, source: u32, taken: &Taken) {
        self.source(source, |source| source.give_back(taken));
    }

    /// Does something with the source of that index.
    fn source(&self, index: u32, act: impl FnOnce(&Source)) {
        if let Some(source) = self.sources.get(index as usize) {
            act(source);
        }
    }

    fn thresholds(&self) -> Thresholds {
        let (given, usual) = (&self.init.parameters, &self.shared.settings.thresholds);
        Thresholds {
            confidence: given.confidence.unwrap_or(usual.confidence),
            iou: given.iou_threshold.unwrap_or(usual.iou),
            max_detections: given.max_detections.unwrap_or(usual.max_detections),
            class_agnostic: given.class_agnostic_nms.unwrap_or(usual.class_agnostic),
        }
    }

    // ---------------------------------------------------------------- detections out

    /// Takes answers from inference and sends them on in order, until dropped.
    async fn dispatch(&self, model: &Model, outputs: &Outputs, answers: &async_channel::Receiver<Done>) {
        let mut packer = Packer::new(model.classes());
        self.objects.get_or_init(|| {
            (model.classes().into(), RefCell::new(Tally::new(model.classes().len(), Instant::now())))
        });
        while let Ok(done) = answers.recv().await {
            self.note(done, model.classes());
            loop {
                let Some(parts) = self.turns.borrow_mut().pop_complete() else { break };
                for part in &parts {
                    self.emit(part, outputs, &mut packer).await;
                }
                outputs.end_turn();
                self.turns.borrow_mut().recycle(parts);
            }
            self.wake.ring();
        }
    }

    fn note(&self, done: Done, classes: &[String]) {
        let (started, took) = (done.started, done.took);
        let mut turns = self.turns.borrow_mut();
        let Some(part) = turns.answer(done) else { return };
        if let Some(Ok(detections)) = &part.outcome {
            // While its slot is held, the frame itself may yet be drawn.
            self.source(part.source, |source| source.inferred(&part.taken, detections, classes));
        }
        self.give_back(part.source, &part.taken);
        self.source(part.source, |source| source.record_latency(part.taken.frame.timestamp, started, took));
        let now = Instant::now();
        self.throughput.borrow_mut().record(now);
        self.steps
            .borrow_mut()
            .record(now, started.seconds_since(part.taken.frame.timestamp) + took.as_secs_f64());
    }

    async fn emit(&self, part: &Part, outputs: &Outputs, packer: &mut Packer) {
        let detections = match &part.outcome {
            Some(Ok(detections)) => detections,
            Some(Err(error)) => return self.status_updates.inference_error(error),
            None => return,
        };
        if let Some((_, tally)) = self.objects.get() {
            tally.borrow_mut().count(detections, Instant::now());
        }
        let frame = FrameInfo {
            width: part.taken.frame.width,
            height: part.taken.frame.height,
            source_id: part.source,
            frame_id: part.taken.frame.frame_id,
            decoded: part.taken.frame.timestamp,
            emitted: Wall::now(),
        };
        let delivery = packer.pack(frame, detections);
        self.omitted.set(self.omitted.get() + delivery.omitted() as u64);
        if !self.status_updates.listeners.is_empty() {
            self.status_updates.listeners.publish(&Message::Detections(delivery.datagram().into()));
        }
        let (mut all_sent, mut refused) = (true, false);
        outputs.begin();
        for sink in outputs.iter() {
            match sink.send(&delivery).await {
                Ok(()) => refused |= sink.was_refused(),
                Err(error) => {
                    all_sent = false;
                    self.status_updates.event_log.unsent(part.source, &error);
                    self.status_updates.dispatch_error(&error);
                }
            }
        }
        if all_sent {
            if refused {
                self.status_updates.event_log.refused(part.source);
            } else {
                self.status_updates.event_log.sent(part.source);
            }
            self.source(part.source, |source| source.record_dispatch(frame.decoded));
        }
    }

    // ---------------------------------------------------------------- commands

    /// Mutes or resumes source by source. Unlike the reference nothing changes when one of them refuses.
    pub(super) fn operate(&self, operation: Operation) -> Result<()> {
        self.sources.iter().try_for_each(|source| source.check(operation))?;
        self.sources.iter().for_each(|source| source.apply(operation));
        Ok(())
    }

    /// One more who hears what happens here.
    pub(super) fn listen(&self) -> Result<Feed> {
        self.status_updates.listeners.join()
    }

    /// One more who looks at a source; `place` is asked for only when there may be something to see.
    pub(super) fn look(
        &self,
        source: u32,
        wish: Wish,
        place: impl FnOnce() -> Result<Place>,
    ) -> Result<Viewer> {
        if self.shared.capture.picture_width == 0 {
            return Err(Error::new(Kind::Forbidden, "Pictures are turned off (http.pictures)"));
        }
        let count = self.sources.len();
        let text =
            || format!("The pipeline has no source {source}: it has {count}, and they are counted from 0");
        let found =
            self.sources.get(source as usize).ok_or_else(|| Error::new(Kind::NoSuchSource, text()))?;
        if found.is_dark() {
            return Err(self.unseen(source));
        }
        Ok(found.look(wish, place()?))
    }

    /// Why nothing is to be seen of a source, as `status` has it.
    pub(super) fn unseen(&self, source: u32) -> Error {
        let state = self.sources.get(source as usize).map_or(SourceState::NotStarted, Source::state);
        let updates = self.status_updates.updates();
        let mut said = updates.iter().rev().map(|update| &update.event);
        let why = said.find_map(|event| match event {
            Event::ModelLoading { stage, .. } => Some(format!("its model is being loaded ({stage})")),
            Event::InferenceError { message, .. } => Some(message.clone()),
            Event::SourceError { source_id, message, .. } if *source_id == source => Some(message.clone()),
            _ => None,
        });
        let why = why
            .filter(|_| !matches!(state, SourceState::Muted))
            .map(|why| format!(": {why}"))
            .unwrap_or_default();
        let what = match state {
            SourceState::Muted => "it is paused",
            SourceState::Ended => "it has ended",
            SourceState::Running => "it is open, and no frame has come in time",
            SourceState::Error | SourceState::Restarting => "it cannot be opened, and is tried again",
            _ => "it is not open yet",
        };
        let state = state.as_str();
        Error::new(Kind::NoPicture, format!("There is no frame of source {source} ({state}): {what}{why}"))
    }

    /// The oldest turn that waits; an error when results are not kept.
    pub(super) fn consume(&self) -> Result<Reply> {
        let memory =
            |sink: &Sink| if let Sink::Memory(memory) = sink { Some(memory.outputs.clone()) } else { None };
        let unkept = || Error::new(Kind::Unsupported, "The results of this pipeline are sent as datagrams");
        let outputs = self.init.sinks.iter().find_map(memory).ok_or_else(unkept)?;
        // Nothing waits while its model is still being loaded.
        let results = self.outputs.get().and_then(Outputs::results);
        Ok(Reply::Results { outputs, turn: results.map(|results| results.take()).unwrap_or_default() })
    }

    /// The answer to `status`.
    pub(super) fn report(&self) -> Report {
        let mut updates = self.status_updates.updates();
        updates.extend(self.model.borrow().upgrade().and_then(|model| engine_update(&model)));
        Report {
            updates,
            latencies: self.sources.iter().map(Source::latency_report).collect(),
            inference_throughput: self.throughput.borrow().report(Instant::now()),
            sources: self.sources.iter().map(Source::metadata).collect(),
            figures: self.figures(),
        }
    }

    /// Its last ten minutes.
    pub(super) fn history(&self) -> History {
        self.steps.borrow_mut().report(Instant::now())
    }

    fn figures(&self) -> Figures {
        let counters = self.outputs.get().map(Outputs::counters).unwrap_or_default();
        Figures {
            omitted_detections: self.omitted.get(),
            datagrams_sent: counters.sent,
            datagrams_failed: counters.failed,
            datagrams_refused: counters.refused,
            objects: self
                .objects
                .get()
                .map(|(classes, tally)| (classes.clone(), tally.borrow_mut().most(Instant::now()))),
            queues: self.outputs.get().map(Outputs::queues).unwrap_or_default(),
            sources: self.sources.iter().map(Source::figures).collect(),
        }
    }
}

/// What sinks keep of one source at most.
fn kept_bytes(sinks: &[Sink]) -> u64 {
    sinks.iter().map(Sink::most_bytes).fold(0, u64::saturating_add)
}

/// Turns of files that may be under way on so many threads: as many as fit into the queue, each with a frame
/// of every source.
fn turns_at_once(threads: usize, sources: usize) -> usize {
    (threads + 1).min(Queue::CAPACITY / sources.max(1)).max(1)
}

/// Drives all futures to their end. They are few and wake together, so polling all of them costs nothing.
async fn join_all<F: Future<Output = ()>>(futures: Vec<F>) {
    let mut pinned: Vec<_> = futures.into_iter().map(|future| Some(Box::pin(future))).collect();
    std::future::poll_fn(|context| {
        for slot in &mut pinned {
            if slot.as_mut().is_some_and(|future| future.as_mut().poll(context).is_ready()) {
                *slot = None;
            }
        }
        if pinned.iter().all(Option::is_none) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_under_way_fit_into_the_queue_on_any_machine() {
        assert_eq!(turns_at_once(4, 1), 5);
        for (threads, sources) in
            (1..=128).flat_map(|threads| (1..=MAX_SOURCES).map(move |sources| (threads, sources)))
        {
            let turns = turns_at_once(threads, sources);
            assert!(turns >= 1 && turns * sources <= Queue::CAPACITY, "{turns} turns of {sources} sources");
        }
    }
}
