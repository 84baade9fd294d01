//! Starts worker processes, and buries those that nobody waits for.
//!
//! All of it happens on one thread that lives as long as any [`Spawner`]: the kernel sends the parent-death signal when
//! the *thread* that forked ends, so a worker started from a short-lived thread would die with it. Forking off the event
//! loop also keeps its ~1 ms away from everybody's `status`.

use crate::error::{Error, Kind, Result, system};
use crate::logging;
use async_channel::{Receiver, Sender, WeakSender};
use async_io::Async;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Variables that a worker inherits. Nothing else: keys and tokens of the service never reach a worker. The certificates are
/// those that `https://` cameras are trusted by.
const INHERITED_VARIABLES: [&str; 5] = ["TZ", "RUST_BACKTRACE", "JOURNAL_STREAM", "SSL_CERT_FILE", "SSL_CERT_DIR"];

/// glibc gives every thread that allocates an arena of its own, 64 MiB of address space (128 while it makes it), whenever
/// that thread first allocates: a worker's limit of address space must not depend on when that is. One arena serves the
/// few threads of a worker, of which one works. Other C libraries do not know the variable.
const ONE_ARENA: (&str, &str) = ("MALLOC_ARENA_MAX", "1");

enum Job {
    Start { socket: OwnedFd, ring: OwnedFd, reply: Sender<Result<Process>> },
    Bury(Async<OwnedFd>),
}

/// Starts worker processes; cheap to clone.
#[derive(Clone, Debug)]
pub struct Spawner {
    /// Not bounded here: there is at most one job per worker, and workers are bounded by the table of pipelines.
    jobs: Sender<Job>,
}

impl Spawner {
    /// Starts the thread. Workers are this very executable, run as `weir capture`.
    pub fn start() -> Result<Spawner> {
        // Not the path of the executable: an upgrade may have replaced the file while the service runs.
        Self::with_executable(PathBuf::from("/proc/self/exe"))
    }

    /// The same for a process that is not `weir` itself (a test): workers are `executable capture`.
    pub fn with_executable(executable: PathBuf) -> Result<Spawner> {
        let (jobs, queue) = async_channel::unbounded();
        let own = jobs.downgrade();
        std::thread::Builder::new()
            .name("spawner".into())
            .spawn(move || smol::block_on(serve(&executable, own, queue)))
            .map_err(system("starting the spawner thread"))?;
        Ok(Spawner { jobs })
    }

    /// Starts a worker with `socket` as its standard input and `ring` as its standard output.
    pub(super) async fn spawn(&self, socket: OwnedFd, ring: OwnedFd) -> Result<Process> {
        let gone = || Error::new(Kind::System, "the spawner thread is gone");
        let (reply, answer) = async_channel::bounded(1);
        self.jobs.send(Job::Start { socket, ring, reply }).await.map_err(|_| gone())?;
        answer.recv().await.map_err(|_| gone())?
    }
}

async fn serve(executable: &Path, jobs: WeakSender<Job>, queue: Receiver<Job>) {
    let graves = smol::LocalExecutor::new();
    graves
        .run(async {
            while let Ok(job) = queue.recv().await {
                match job {
                    Job::Start { socket, ring, reply } => {
                        // Whoever asked may have given up meanwhile: then dropping the process kills it.
                        let _ = reply.try_send(start(executable, &jobs, socket, ring));
                    }
                    Job::Bury(handle) => graves.spawn(bury(handle)).detach(),
                }
            }
        })
        .await;
    // The last spawner and the last worker are gone; those that were just killed are still to be reaped.
    while !graves.is_empty() {
        graves.tick().await;
    }
}

fn start(executable: &Path, jobs: &WeakSender<Job>, socket: OwnedFd, ring: OwnedFd) -> Result<Process> {
    let jobs = jobs.upgrade().ok_or_else(|| Error::new(Kind::ShuttingDown, "the service is stopping"))?;
    let mut command = Command::new(executable);
    command.arg("capture").stdin(Stdio::from(socket)).stdout(Stdio::from(ring)).env_clear();
    // However the service was told.
    command.env(logging::LEVEL_VARIABLE, logging::level());
    command.env(ONE_ARENA.0, ONE_ARENA.1);
    for name in INHERITED_VARIABLES {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    // A group of its own: Ctrl-C on the terminal asks the service to stop, which then asks its workers.
    command.process_group(0);
    let mut child = command.spawn().map_err(system("starting a capture worker"))?;
    // The child has not been waited for, so its pid cannot have been given to another process.
    let handle = Pid::from_raw(child.id().cast_signed())
        .ok_or(rustix::io::Errno::SRCH)
        .and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()))
        .map_err(std::io::Error::from)
        .and_then(Async::new_nonblocking);
    match handle {
        Ok(handle) => Ok(Process { pid: child.id(), handle: Some(handle), jobs }),
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(system("opening a handle on a capture worker")(error))
        }
    }
}

/// A started worker process. Dropped before it was seen to end, it is killed and reaped in the background.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    /// The process itself (pidfd), readable once it has ended; `None` once it has been reaped.
    handle: Option<Async<OwnedFd>>,
    jobs: Sender<Job>,
}

impl Process {
    /// For logs; signals go through the handle, which cannot mean another process.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// SIGKILL.
    pub(super) fn kill(&self) {
        if let Some(handle) = &self.handle {
            // Fails only when it has ended already.
            let _ = rustix::process::pidfd_send_signal(handle.get_ref(), Signal::KILL);
        }
    }

    /// Waits for the process to end and says how it did. Answers once it has been reaped.
    pub(super) async fn ended(&mut self) -> Exit {
        let Some(handle) = &self.handle else { return Exit::Unknown };
        let exit = wait(handle).await;
        self.handle = None;
        exit
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if let Some(handle) = self.handle.take() {
            // Fails only when the spawner thread is gone, and then this whole process is ending.
            let _ = self.jobs.try_send(Job::Bury(handle));
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Somebody else has waited for it.
    Unknown,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Signal(signal) if signal == Signal::SYS.as_raw() => f.write_str("stopped by its system-call filter"),
            Exit::Signal(signal) if signal == Signal::ABORT.as_raw() => f.write_str("aborted: memory limit or fault"),
            Exit::Signal(signal) if signal == Signal::KILL.as_raw() => f.write_str("killed"),
            Exit::Signal(signal) => write!(f, "ended by signal {signal}"),
            Exit::Unknown => f.write_str("ended"),
        }
    }
}

/// Waits for the end of a process and takes its exit status, which removes it from the process table.
async fn wait(handle: &Async<OwnedFd>) -> Exit {
    loop {
        match rustix::process::waitid(WaitId::PidFd(handle.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => return Exit::Code(code),
                (_, Some(signal)) => return Exit::Signal(signal),
                _ => return Exit::Unknown,
            },
            Err(error) if error != rustix::io::Errno::INTR => return Exit::Unknown,
            _ => {}
        }
        if handle.readable().await.is_err() {
            return Exit::Unknown;
        }
    }
}

async fn bury(handle: Async<OwnedFd>) {
    wait(&handle).await;
}
