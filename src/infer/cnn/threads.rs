//! Threads that help a run when nobody else needs them: one camera then gets all cores.
//!
//! A process may compute on so many threads at once ([`allow_threads`], set by the pool). A run that starts
//! while fewer runs are under way asks helpers to join it; they stay for the whole run, for waking a thread
//! for every step would cost more than most steps take. Between steps they spin, and leave as soon as another
//! run wants their core.
#![allow(unsafe_code)] // parts of one arena for several threads, see `Team::machine`

use super::kernels::arena::{Arena, Part};
use super::plan::Plan;
use super::step::{Machine, Step};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most threads that work on one run together; beyond this the steps are too short to share.
pub(super) const MAX_TEAM: usize = 8;
/// Turns of a waiting loop before the thread offers its core to others; some 10 µs.
const SPINS_BEFORE_YIELD: u32 = 2_000;

/// A helper that keeps a step waiting for so long does not have a core: the machine has other work.
const LATE: Duration = Duration::from_millis(1);
/// Late steps after which a run's thread works alone for a while.
const MOST_LATE_STEPS: usize = 2;
/// Runs without helpers after that; at 30 frames per second, two seconds.
const RUNS_ALONE: usize = 60;

/// Says on how many threads the models of this process may compute at once; helpers are started for all but
/// one, and never ended; they give way as the calling thread does. Calling it again can only raise the
/// number.
pub fn allow_threads(threads: usize) {
    HELPERS.grow(threads.min(MAX_TEAM));
}

/// Threads that runs compiled from now on may use.
pub(crate) fn allowed_threads() -> usize {
    HELPERS.size.load(Ordering::Relaxed).max(1)
}

static HELPERS: Helpers = Helpers {
    size: AtomicUsize::new(1),
    running: AtomicUsize::new(0),
    waiting: Mutex::new(Waiting { idle: 0, offers: heapless::Deque::new() }),
    offered: Condvar::new(),
};

struct Helpers {
    /// Threads that may compute at once, helpers and callers together.
    size: AtomicUsize,
    /// How many runs compute now.
    running: AtomicUsize,
    waiting: Mutex<Waiting>,
    offered: Condvar,
}

struct Waiting {
    /// Helpers without work, less the offers they have not taken yet.
    idle: usize,
    /// At most one per helper.
    offers: heapless::Deque<Arc<Team>, MAX_TEAM>,
}

impl Helpers {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn grow(&'static self, threads: usize) {
        let mut waiting = self.lock();
        for helper in self.size.load(Ordering::Relaxed)..threads {
            let started = std::thread::Builder::new().name(format!("cnn-{helper}")).spawn(|| self.help());
            if let Err(error) = started {
                log::warn!("helper={helper} error=\"{error}\"");
                return;
            }
            waiting.idle += 1;
            self.size.store(helper + 1, Ordering::Relaxed);
        }
    }

    /// What a helper thread does until its end: takes items of whoever offers some.
    fn help(&self) {
        loop {
            let mut waiting = self.lock();
            let team = loop {
                match waiting.offers.pop_front() {
                    Some(offer) => break offer,
                    None => waiting = self.offered.wait(waiting).unwrap_or_else(PoisonError::into_inner),
                }
            };
            drop(waiting);
            team.assist(|| self.running.load(Ordering::Relaxed) >= self.size.load(Ordering::Relaxed));
            drop(team);
            self.lock().idle += 1;
        }
    }
}

/// A run and the helpers that have joined it.
struct Team {
    plan: Arc<Plan>,
    arena: Arena,
    /// Step (upper half) and its next item (lower half).
    ticket: AtomicU64,
    /// Items of the present step that are done.
    finished: AtomicUsize,
    over: AtomicBool,
    /// One bit per worker that is taken: each has its own scratch space. Bit 0 is the run's own thread.
    workers: AtomicU32,
    /// Steps of this run that waited for a helper without a core.
    late: AtomicUsize,
    /// Runs still to be done alone, because the machine was busy.
    alone: AtomicUsize,
    /// A helper panicked: the result is worthless.
    failed: AtomicBool,
}

/// Step number of a ticket between two steps.
const NO_STEP: u64 = u32::MAX as u64;

impl Team {
    fn new(plan: Arc<Plan>, arena: Arena) -> Team {
        Team {
            plan,
            arena,
            ticket: AtomicU64::new(NO_STEP << 32),
            finished: AtomicUsize::new(0),
            over: AtomicBool::new(true),
            late: AtomicUsize::new(0),
            alone: AtomicUsize::new(0),
            workers: AtomicU32::new(1),
            failed: AtomicBool::new(false),
        }
    }

    /// Tries to take one item of the present step and does it; `None` where there is none left.
    fn work(&self, worker: usize) -> Option<u64> {
        let ticket = self.ticket.load(Ordering::Acquire);
        let (index, item) = (ticket >> 32, (ticket & NO_STEP) as usize);
        let (_, step) = self.plan.steps.get(usize::try_from(index).ok()?)?;
        if item >= step.items() {
            return None;
        }
        let taken = self.ticket.compare_exchange(ticket, ticket + 1, Ordering::AcqRel, Ordering::Relaxed);
        if taken.is_ok() {
            // counted also where the item panics: the caller must not wait for ever
            let _done = Done(&self.finished);
            // SAFETY: each number is one worker's, each item is taken once, and who waits for the step sees
            // it finished before any other begins.
            step.run(&mut unsafe { self.machine(worker) }, item);
        }
        Some(index)
    }

    /// What worker number `worker` works on.
    ///
    /// # Safety
    /// As [`Arena::part`] says: for one item of the present step, that nobody else has taken, by the only
    /// worker of that number; or between two steps, by the only one who is there.
    unsafe fn machine(&self, worker: usize) -> Machine<'_> {
        // SAFETY: passed on.
        let arena = unsafe { self.arena.part() };
        Machine { kernels: self.plan.target.kernels, arena, weights: &self.plan.weights, worker }
    }

    /// A worker's number nobody has. An offer may be taken up late, in a later run with helpers of its own.
    fn enlist(&self) -> Option<usize> {
        (1..self.plan.target.workers.min(MAX_TEAM))
            .find(|worker| self.workers.fetch_or(1 << worker, Ordering::AcqRel) & (1 << worker) == 0)
    }

    /// A helper's part of a run.
    fn assist(&self, wanted_elsewhere: impl Fn() -> bool) {
        let Some(worker) = self.enlist() else { return };
        self.share(worker, wanted_elsewhere);
        self.workers.fetch_and(!(1 << worker), Ordering::AcqRel);
    }

    fn share(&self, worker: usize, wanted_elsewhere: impl Fn() -> bool) {
        let mut spins = 0;
        while !self.over.load(Ordering::Acquire) {
            match catch_unwind(AssertUnwindSafe(|| self.work(worker))) {
                Ok(Some(_)) => spins = 0,
                Ok(None) => {
                    if wanted_elsewhere() {
                        return;
                    }
                    wait_a_little(&mut spins);
                }
                Err(_) => {
                    self.failed.store(true, Ordering::Release);
                    return;
                }
            }
        }
    }
}

/// A run's own end of its team: there is one, and only it starts steps.
pub(super) struct Lead(Arc<Team>);

impl Lead {
    pub(super) fn new(plan: Arc<Plan>, arena: Arena) -> Lead {
        Lead(Arc::new(Team::new(plan, arena)))
    }

    pub(super) fn plan(&self) -> &Arc<Plan> {
        &self.0.plan
    }

    /// The arena while no run is under way.
    pub(super) fn arena(&mut self) -> Part<'_> {
        // SAFETY: this is the team's only lead; helpers work on steps only, and there are none before
        // `gather`.
        unsafe { self.0.arena.part() }
    }

    /// Part of the arena while no run is under way.
    pub(super) fn read(&self, floats: std::ops::Range<usize>) -> &[f32] {
        // SAFETY: as above; who writes needs the lead exclusively.
        let part = unsafe { self.0.arena.part() };
        part.into_read(floats)
    }

    /// The next run asks nobody.
    pub(super) fn keep_alone(&mut self) {
        self.0.alone.fetch_max(1, Ordering::Relaxed);
    }

    /// Starts a run: asks idle helpers to join until the guard is dropped.
    pub(super) fn gather(&mut self) -> Gathered<'_> {
        let team = &self.0;
        team.failed.store(false, Ordering::Relaxed);
        team.over.store(false, Ordering::Release);
        let running = HELPERS.running.fetch_add(1, Ordering::Relaxed) + 1;
        team.late.store(0, Ordering::Relaxed);
        let alone = team.alone.load(Ordering::Relaxed);
        team.alone.store(alone.saturating_sub(1), Ordering::Relaxed);
        let free = HELPERS.size.load(Ordering::Relaxed).min(team.plan.target.workers).saturating_sub(running);
        if free > 0 && alone == 0 {
            let mut waiting = HELPERS.lock();
            for _ in 0..free.min(waiting.idle) {
                if waiting.offers.push_back(team.clone()).is_err() {
                    break;
                }
                waiting.idle -= 1;
                HELPERS.offered.notify_one();
            }
        }
        Gathered { team }
    }
}

/// A run under way.
pub(super) struct Gathered<'a> {
    team: &'a Arc<Team>,
}

impl Gathered<'_> {
    pub(super) fn plan(&self) -> &Arc<Plan> {
        &self.team.plan
    }

    /// What the run's own thread works on between two steps.
    pub(super) fn machine(&mut self) -> Machine<'_> {
        // SAFETY: `step` needs this run exclusively, too, and no item is under way when it returns.
        unsafe { self.team.machine(0) }
    }

    /// Does one step, together with whoever has joined. False where a helper failed.
    pub(super) fn step(&mut self, index: usize, step: &Step) -> bool {
        let items = step.items();
        if items < 2 || self.team.plan.target.workers < 2 {
            let mut machine = self.machine();
            (0..items).for_each(|item| step.run(&mut machine, item));
            return true;
        }
        let team = self.team;
        team.finished.store(0, Ordering::Relaxed);
        team.ticket.store((index as u64) << 32, Ordering::Release);
        while team.work(0).is_some() {}
        let (mut spins, mut since) = (0, None);
        while team.finished.load(Ordering::Acquire) < items {
            wait_a_little(&mut spins);
            if spins == SPINS_BEFORE_YIELD {
                since = Some(Instant::now());
            }
        }
        if since.is_some_and(|since| since.elapsed() > LATE) {
            team.late.fetch_add(1, Ordering::Relaxed);
        }
        team.ticket.store(NO_STEP << 32, Ordering::Release);
        !team.failed.load(Ordering::Acquire)
    }
}

impl Drop for Gathered<'_> {
    fn drop(&mut self) {
        if self.team.late.load(Ordering::Relaxed) > MOST_LATE_STEPS {
            self.team.alone.store(RUNS_ALONE, Ordering::Relaxed);
        }
        self.team.ticket.store(NO_STEP << 32, Ordering::Release);
        self.team.over.store(true, Ordering::Release);
        // items that helpers still do after a panic here must not be counted in the next run
        let mut spins = 0;
        while std::thread::panicking() && self.team.workers.load(Ordering::Acquire) != 1 {
            wait_a_little(&mut spins);
        }
        HELPERS.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts an item when it is done.
struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

fn wait_a_little(spins: &mut u32) {
    *spins += 1;
    if *spins < SPINS_BEFORE_YIELD {
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}
