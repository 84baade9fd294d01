//! The threads that run models, shared fairly between pipelines.
//!
//! Each pipeline has a queue; free threads take from the queues in turn, so a pipeline that submits more
//! waits longer, and the others do not. Arenas lie on workbenches; a thread takes one for a job and puts it
//! back. Jobs that never run at the same time thus share one arena, whichever threads take them; it stays
//! until its model is gone.
//!
//! Where the engine runs several frames at a time, a thread takes with the first frame what else waits for
//! the same model. It waits for more only as long as that has just paid: a single camera never waits, cameras
//! that keep a GPU busy do.

use super::model::Holder;
use super::workbench::{Answer, Task, Workbench};
use super::{Batch, Done, Job, Model};
use crate::error::{Result, system};
use crate::priority;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// N threads. Dropping it ends them, each after the job it has.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// One pipeline's place in the pool. Dropping it forgets what waits; what runs is finished and its answer
/// thrown away.
pub struct Queue {
    shared: Arc<Shared>,
    id: u64,
}

struct Shared {
    state: Mutex<State>,
    /// Told when a job comes, a model or a queue goes, or the pool ends.
    changed: Condvar,
    /// Those that no thread has, the one used last at the end; never more than threads.
    benches: Mutex<Vec<Workbench>>,
    /// For each thread, since when it has had the job it has.
    busy: Vec<Mutex<Option<Instant>>>,
}

#[derive(Default)]
struct State {
    queues: Vec<Waiting>,
    /// Which queue is asked first.
    turn: usize,
    next_id: u64,
    /// Counts models that were freed: a thread that has seen fewer looks through the arenas.
    freed: u64,
    stopping: bool,
    /// Models (by address) for which a thread waits to fill a batch: their frames are left to it.
    gathering: Vec<usize>,
}

/// Most frames in one run, whatever the engine: what one thread may hold back from the others.
const MAX_BATCH_FRAMES: usize = 32;

struct Waiting {
    id: u64,
    jobs: Box<heapless::Deque<Job, { Queue::CAPACITY }>>,
    done: async_channel::Sender<Done>,
}

/// What a thread does next.
enum Next {
    /// Runs the batch that it has taken.
    Run,
    /// Some model is gone.
    Sweep,
    Stop,
}

impl Queue {
    /// Most jobs of one pipeline that wait: one per source of the largest pipeline.
    pub const CAPACITY: usize = 64;

    /// Puts a job at the end; gives it back when the queue is full. Never blocks.
    #[allow(clippy::result_large_err)] // The job itself is the error: the caller needs its buffers back.
    pub fn submit(&self, job: Job) -> Result<(), Job> {
        let mut state = self.shared.lock();
        let Some(waiting) = state.queues.iter_mut().find(|waiting| waiting.id == self.id) else {
            return Err(job);
        };
        waiting.jobs.push_back(job)?;
        let somebody_gathers = !state.gathering.is_empty();
        drop(state);
        if somebody_gathers {
            // One that is woken might be one that has to leave this frame alone.
            self.shared.changed.notify_all();
        } else {
            self.shared.changed.notify_one();
        }
        Ok(())
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let place = state.queues.iter().position(|waiting| waiting.id == self.id);
        let forgotten = place.map(|place| state.queues.remove(place));
        drop(state);
        // Jobs may hold the last reference to a model, which then tells this pool: not under the lock.
        drop(forgotten);
    }
}

impl Pool {
    /// Starts `threads` threads (at least one).
    pub fn start(threads: usize) -> Result<Pool> {
        let busy = (0..threads.max(1)).map(|_| Mutex::new(None)).collect();
        let benches = Mutex::new(Vec::with_capacity(threads.max(1)));
        let shared =
            Arc::new(Shared { state: Mutex::new(State::default()), changed: Condvar::new(), benches, busy });
        super::cnn::keep_little_memory();
        // a thread without a job of its own helps with the others' runs
        std::thread::scope(|scope| {
            scope.spawn(|| {
                priority::give_way(priority::COMPUTING);
                super::cnn::allow_threads(threads);
            });
        });
        let mut pool = Pool { shared, threads: Vec::new() };
        for index in 0..threads.max(1) {
            let shared = pool.shared.clone();
            let thread = std::thread::Builder::new()
                .name(format!("infer-{index}"))
                .spawn(move || {
                    priority::give_way(priority::COMPUTING);
                    shared.work(index);
                })
                .map_err(system("cannot start an inference thread"))?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.threads.len()
    }

    /// Whether a thread has had the same job for longer than `limit`: a model that never ends, or a loop that
    /// takes no answers. An idle pool is not stuck.
    pub fn is_stuck(&self, limit: Duration) -> bool {
        self.shared.busy.iter().any(|busy| lock(busy).is_some_and(|since| since.elapsed() > limit))
    }

    /// A queue whose answers go to `done`, in the order in which they are finished. `done` should hold
    /// [`Queue::CAPACITY`] answers: a thread that finds it full waits.
    pub fn queue(&self, done: async_channel::Sender<Done>) -> Queue {
        let mut state = self.shared.lock();
        let id = state.next_id;
        state.next_id += 1;
        // All memory of a queue is taken here, none when frames flow.
        state.queues.push(Waiting { id, jobs: Box::default(), done });
        Queue { shared: self.shared.clone(), id }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A panic was reported when it happened; there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Nothing that can panic runs under the lock; were it poisoned, the state would still be whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The life of thread `index`.
    fn work(self: Arc<Self>, index: usize) {
        let holder: Weak<dyn Holder> = Arc::downgrade(&(self.clone() as Arc<dyn Holder>));
        let mut seen_freed = 0;
        let (mut batch, mut answers) =
            (Vec::with_capacity(MAX_BATCH_FRAMES), Vec::with_capacity(MAX_BATCH_FRAMES));
        let mut last_frames = 1;
        loop {
            match self.next(&mut seen_freed, &mut batch, &mut last_frames) {
                Next::Run => {
                    self.note(index, Some(Instant::now()));
                    let mut bench = self.take_bench(&batch, &holder);
                    bench.run(&mut batch, &mut answers);
                    // its model may be gone since a sweep that could not see it
                    bench.sweep();
                    lock(&self.benches).push(bench);
                    // only now, so that the next frame finds the workbench where it was
                    answers.drain(..).for_each(Answer::send);
                    self.note(index, None);
                }
                Next::Sweep => lock(&self.benches).iter_mut().for_each(Workbench::sweep),
                Next::Stop => return,
            }
        }
    }

    /// A workbench that has an arena for the batch's model, or the one used last.
    fn take_bench(&self, batch: &[Task], holder: &Weak<dyn Holder>) -> Workbench {
        let mut benches = lock(&self.benches);
        let model = batch.first().map(|task| &task.job.model);
        let known = benches.iter().rposition(|bench| model.is_some_and(|model| bench.knows(model)));
        let place = known.or(benches.len().checked_sub(1));
        place.map_or_else(|| Workbench::new(holder.clone()), |place| benches.remove(place))
    }

    fn note(&self, index: usize, since: Option<Instant>) {
        if let Some(busy) = self.busy.get(index) {
            *lock(busy) = since;
        }
    }

    /// Waits for something to do. `last_frames`: how many frames this thread's last batch had.
    fn next(&self, seen_freed: &mut u64, batch: &mut Vec<Task>, last_frames: &mut usize) -> Next {
        let mut state = self.lock();
        loop {
            if state.stopping {
                return Next::Stop;
            }
            if state.freed != *seen_freed {
                *seen_freed = state.freed;
                return Next::Sweep;
            }
            if let Some(task) = state.take_for_anybody() {
                let (model, limits) = (task.job.model.clone(), task.job.model.engine().batch());
                batch.push(task);
                if limits.frames > 1 {
                    *last_frames = self.gather(state, batch, &model, limits, *last_frames);
                }
                return Next::Run;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Adds to the batch what waits for the same model. While that is less than last time, waits for more.
    fn gather(
        &self,
        mut state: MutexGuard<'_, State>,
        batch: &mut Vec<Task>,
        model: &Arc<Model>,
        limits: Batch,
        last_frames: usize,
    ) -> usize {
        let most = limits.frames.min(MAX_BATCH_FRAMES);
        state.take_of(model, batch, most);
        let hoped = last_frames.min(most);
        if batch.len() < hoped {
            let deadline = Instant::now() + limits.wait;
            state.gathering.push(address(model));
            while batch.len() < hoped && !state.stopping {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
                state.take_of(model, batch, most);
            }
            state.gathering.retain(|gathered| *gathered != address(model));
            drop(state);
            // What did not fit was left alone by the others.
            self.changed.notify_all();
        }
        batch.len()
    }
}

/// Where the model lies, which tells it from every other that lives.
fn address(model: &Arc<Model>) -> usize {
    Arc::as_ptr(model).addr()
}

/// A panic elsewhere does not make these few words untrue.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// The first job of the queue whose turn it is, among those whose first job is `wanted`; the next queue's
    /// turn begins.
    fn take(&mut self, wanted: impl Fn(&Job) -> bool) -> Option<Task> {
        let count = self.queues.len();
        for step in 0..count {
            let place = (self.turn + step) % count;
            if let Some(waiting) = self.queues.get_mut(place)
                && waiting.jobs.front().is_some_and(&wanted)
                && let Some(job) = waiting.jobs.pop_front()
            {
                self.turn = (place + 1) % count;
                return Some(Task { job, done: waiting.done.clone() });
            }
        }
        None
    }

    /// For a thread that has nothing to do.
    fn take_for_anybody(&mut self) -> Option<Task> {
        let gathering = std::mem::take(&mut self.gathering);
        let task = self.take(|job| !gathering.contains(&address(&job.model)));
        self.gathering = gathering;
        task
    }

    /// More frames for the same model, until the batch has `most`.
    fn take_of(&mut self, model: &Arc<Model>, batch: &mut Vec<Task>, most: usize) {
        while batch.len() < most
            && let Some(task) = self.take(|job| Arc::ptr_eq(&job.model, model))
        {
            batch.push(task);
        }
    }
}

impl Holder for Shared {
    fn model_freed(&self) {
        self.lock().freed += 1;
        self.changed.notify_all();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
