//! Starts child processes, and buries those that nobody waits for.
//!
//! All of it happens on one thread that lives as long as any [`Spawner`]: the kernel sends the parent-death
//! signal when the *thread* that forked ends, so a child started from a short-lived thread would die with it.
//! Forking off the event loop also keeps its ~1 ms away from everybody's `status`. What a child says and asks
//! for is heard there too.

use super::exit::Exit;
use super::memory;
use super::reaper::Reaper;
use super::said;
use crate::error::{Error, Kind, Result, system};
use crate::{logging, priority};
use async_channel::{Receiver, Sender, WeakSender};
use async_io::Async;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use std::future::Future;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

/// Variables that every child inherits. Keys and tokens of the service never reach one.
const INHERITED_VARIABLES: [&str; 1] = ["RUST_BACKTRACE"];

/// glibc gives every thread that allocates an arena of its own, 64 MiB of address space (128 while it makes
/// it), whenever that thread first allocates: a child's limit of address space must not depend on when that
/// is. One arena serves the few threads of a child, of which one works. Other C libraries do not know the
/// variable.
const ONE_ARENA: (&str, &str) = ("MALLOC_ARENA_MAX", "1");

/// What runs on the spawner's thread beside a child, from its start on; it ends by itself when the child does
/// (its end of a socket closes). It must not block.
pub type Beside = Box<dyn FnOnce(u32) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// [`Beside`] of what an `async fn` does.
pub fn beside<F: Future<Output = ()> + 'static>(run: impl FnOnce(u32) -> F + Send + 'static) -> Beside {
    Box::new(move |pid| Box::pin(run(pid)))
}

/// One child to start.
pub struct Order {
    /// The hidden subcommand that it runs.
    pub command: &'static str,
    /// Whom or what it serves, for the lines that it says: `source="…"`. No secrets.
    pub about: String,
    /// What its standard input shall be.
    pub stdin: OwnedFd,
    /// What its standard output shall be.
    pub stdout: OwnedFd,
    /// Variables of the service that it gets, beside [`INHERITED_VARIABLES`] and the log level.
    pub variables: &'static [&'static str],
    /// Runs beside it; gets its process id.
    pub beside: Option<Beside>,
}

enum Job {
    Start { order: Order, reply: Sender<Result<Process>> },
    Reap(Async<OwnedFd>),
}

/// Starts child processes; cheap to clone.
#[derive(Clone, Debug)]
pub struct Spawner {
    /// Not bounded here: there is at most one job per child, and children are bounded by the table of
    /// pipelines.
    jobs: Sender<Job>,
    fault: Arc<Mutex<Option<String>>>,
}

impl Spawner {
    /// Starts the thread. Children are this very executable.
    pub fn start() -> Result<Spawner> {
        Self::with_executable(own_executable())
    }

    /// The same for a process that is not `weir` itself (a test).
    pub fn with_executable(executable: PathBuf) -> Result<Spawner> {
        let (jobs, queue) = async_channel::unbounded();
        let (own, fault) = (jobs.downgrade(), Arc::new(Mutex::new(None)));
        let shared = Arc::clone(&fault);
        std::thread::Builder::new()
            .name("spawner".into())
            .spawn(move || smol::block_on(serve(&executable, own, queue, &shared)))
            .map_err(system("starting the spawner thread"))?;
        Ok(Spawner { jobs, fault })
    }

    /// Starts a child of this very program, in a process group of its own.
    pub async fn spawn(&self, order: Order) -> Result<Process> {
        let gone = || Error::new(Kind::System, "the spawner thread is gone");
        let (reply, answer) = async_channel::bounded(1);
        self.jobs.send(Job::Start { order, reply }).await.map_err(|_| gone())?;
        answer.recv().await.map_err(|_| gone())?
    }

    /// Why no child can be started; `None`: the last one could.
    pub fn fault(&self) -> Option<String> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Not the path of the executable where that can be helped: an upgrade may replace the file while the service
/// runs.
fn own_executable() -> PathBuf {
    let link = PathBuf::from("/proc/self/exe");
    if link.exists() {
        return link;
    }
    // No /proc: what the kernel was told to run.
    use std::os::unix::ffi::OsStrExt as _;
    let told = Path::new(std::ffi::OsStr::from_bytes(rustix::param::linux_execfn().to_bytes()));
    std::path::absolute(told).unwrap_or_else(|_| told.to_owned())
}

async fn serve(
    executable: &Path,
    jobs: WeakSender<Job>,
    queue: Receiver<Job>,
    fault: &Mutex<Option<String>>,
) {
    let tasks = smol::LocalExecutor::new();
    note(fault, trial(executable));
    tasks
        .run(async {
            while let Ok(job) = queue.recv().await {
                match job {
                    Job::Start { order, reply } => {
                        let started = start(executable, &jobs, order, &tasks);
                        note(fault, started.as_ref().map(|_| ()).map_err(ToString::to_string));
                        // Whoever asked may have given up meanwhile: then dropping the process kills it.
                        let _ = reply.try_send(started);
                    }
                    Job::Reap(handle) => tasks.spawn(reap(handle)).detach(),
                }
            }
        })
        .await;
    // The last spawner and the last child are gone; those that were just killed are still to be reaped.
    while !tasks.is_empty() {
        tasks.tick().await;
    }
}

/// Says when children cannot be started any more, and when they can again.
fn note(fault: &Mutex<Option<String>>, outcome: std::result::Result<(), String>) {
    let mut fault = fault.lock().unwrap_or_else(PoisonError::into_inner);
    match (&*fault, &outcome) {
        (None, Err(error)) => log::error!("event=no_children error=\"{error}\""),
        (Some(_), Ok(())) => log::warn!("event=children_again"),
        _ => {}
    }
    *fault = outcome.err();
}

/// Whether a child can be started at all: this executable says its version to nobody.
fn trial(executable: &Path) -> std::result::Result<(), String> {
    let mut command = Command::new(executable);
    command.arg("--version").env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let started = command.spawn().and_then(|mut child| child.wait());
    started.map(|_| ()).map_err(|error| format!("cannot start {}: {error}", executable.display()))
}

fn start<'a>(
    executable: &Path,
    jobs: &WeakSender<Job>,
    order: Order,
    tasks: &smol::LocalExecutor<'a>,
) -> Result<Process> {
    let jobs = jobs.upgrade().ok_or_else(|| Error::new(Kind::ShuttingDown, "the service is stopping"))?;
    let Order { command: name, about, stdin, stdout, variables, beside } = order;
    let mut command = Command::new(executable);
    command
        .arg(name)
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::from(stdout))
        .stderr(Stdio::piped())
        .env_clear();
    // However the service was told.
    command.env(logging::LEVEL_VARIABLE, logging::level());
    command.env(ONE_ARENA.0, ONE_ARENA.1);
    for name in INHERITED_VARIABLES.iter().chain(variables) {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    // A group of its own: Ctrl-C on the terminal asks the service to stop, which then asks its children.
    command.process_group(0);
    let mut child = command.spawn().map_err(system("starting a child process"))?;
    let pid = child.id();
    let said = child.stderr.take().map(Async::new);
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        priority::child_gives_way(pid, priority::COMPUTING);
    }
    match handle(&child) {
        Ok(handle) => {
            if let Some(Ok(said)) = said {
                tasks.spawn(said::follow(said, format!("{name} pid={pid} {about}"))).detach();
            }
            if let Some(beside) = beside {
                tasks.spawn(beside(pid)).detach();
            }
            Ok(Process { pid, handle: Some(handle), jobs })
        }
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(error)
        }
    }
}

/// A process that has not been waited for, so its id cannot have been given to another one.
#[derive(Debug)]
enum Handle {
    /// Readable once it has ended.
    Pidfd(Async<OwnedFd>),
    /// For kernels and containers without pidfds.
    Reaper(Reaper),
}

fn handle(child: &Child) -> Result<Handle> {
    let pid = Pid::from_raw(child.id().cast_signed());
    let pid = pid.ok_or_else(|| Error::new(Kind::System, "a child process without a number"))?;
    match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) if can_wait(&handle) => Async::new_nonblocking(handle)
            .map(Handle::Pidfd)
            .map_err(system("opening a handle on a child process")),
        // Too old, or denied: whatever the reason, a thread does as well.
        _ => Reaper::start(pid).map(Handle::Reaper),
    }
}

/// Linux 5.3 has pidfds that cannot be waited for.
fn can_wait(handle: &OwnedFd) -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    rustix::process::waitid(WaitId::PidFd(handle.as_fd()), look).is_ok()
}

/// A started child. Dropped before it was seen to end, it is killed and reaped in the background.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    /// `None` once it has been reaped.
    handle: Option<Handle>,
    jobs: Sender<Job>,
}

impl Process {
    /// For logs; signals go through the handle, which cannot mean another process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(&self) {
        match &self.handle {
            Some(Handle::Pidfd(handle)) => {
                let sent = rustix::process::pidfd_send_signal(handle.get_ref(), Signal::KILL);
                if let (Err(Errno::NOSYS | Errno::PERM), Some(pid)) =
                    (sent, Pid::from_raw(self.pid.cast_signed()))
                {
                    // Denied. Not reaped yet, so the id still means this process.
                    let _ = rustix::process::kill_process(pid, Signal::KILL);
                }
            }
            Some(Handle::Reaper(reaper)) => reaper.kill(),
            None => {}
        }
    }

    /// Raises what it may map and write to by so many bytes, up to the hard limits that it set itself.
    ///
    /// Errors: see [`memory::raise`]; ESRCH: it has ended.
    pub fn raise_memory(&self, by: u64) -> std::result::Result<(), Errno> {
        match (&self.handle, Pid::from_raw(self.pid.cast_signed())) {
            // Not reaped yet, so the id still means this process.
            (Some(Handle::Pidfd(_)), Some(pid)) => memory::raise(pid, by),
            (Some(Handle::Reaper(reaper)), _) => {
                reaper.with_pid(|pid| memory::raise(pid, by)).unwrap_or(Err(Errno::SRCH))
            }
            _ => Err(Errno::SRCH),
        }
    }

    /// Waits for the process to end and says how it did. Answers once it has been reaped.
    pub async fn ended(&mut self) -> Exit {
        let exit = match &self.handle {
            Some(Handle::Pidfd(handle)) => wait(handle).await,
            Some(Handle::Reaper(reaper)) => reaper.ended().await,
            None => return Exit::Unknown,
        };
        self.handle = None;
        exit
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if let Some(Handle::Pidfd(handle)) = self.handle.take() {
            // Fails only when the spawner thread is gone, and then this whole process is ending.
            let _ = self.jobs.try_send(Job::Reap(handle));
        }
    }
}

/// Waits for the end of a process and takes its exit status, which removes it from the process table.
async fn wait(handle: &Async<OwnedFd>) -> Exit {
    loop {
        match rustix::process::waitid(
            WaitId::PidFd(handle.as_fd()),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
        ) {
            Ok(Some(status)) => return Exit::of(&status),
            Err(error) if error != Errno::INTR => return Exit::Unknown,
            _ => {}
        }
        if handle.readable().await.is_err() {
            return Exit::Unknown;
        }
    }
}

async fn reap(handle: Async<OwnedFd>) {
    wait(&handle).await;
}
