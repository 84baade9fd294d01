//! The end of a child on kernels, and in containers, without pidfds (Linux before 5.4, or `pidfd_open`
//! denied).
//!
//! A thread per child waits for it. It looks before it reaps, and both reaping and killing hold one lock, so
//! a process id is never signalled that may belong to another process by then.

use super::exit::Exit;
use crate::error::{Result, system};
use async_channel::Receiver;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use std::sync::{Arc, Mutex, PoisonError};

/// The waiting thread calls nothing deep.
const STACK_BYTES: usize = 64 << 10;

/// A child that a thread waits for.
#[derive(Debug)]
pub(super) struct Reaper {
    /// `None` once it has been reaped.
    pid: Arc<Mutex<Option<Pid>>>,
    ended: Receiver<Exit>,
}

impl Reaper {
    /// Starts to wait for a child of this process that nobody else waits for.
    pub(super) fn start(pid: Pid) -> Result<Reaper> {
        let (sender, ended) = async_channel::bounded(1);
        let alive = Arc::new(Mutex::new(Some(pid)));
        let shared = Arc::clone(&alive);
        std::thread::Builder::new()
            .name("reaper".into())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                until_ended(pid);
                let mut alive = shared.lock().unwrap_or_else(PoisonError::into_inner);
                let status =
                    rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
                *alive = None;
                // Nobody may be interested any more.
                let _ =
                    sender.try_send(status.ok().flatten().map_or(Exit::Unknown, |status| Exit::of(&status)));
            })
            .map_err(system("starting a thread that waits for a child"))?;
        Ok(Reaper { pid: alive, ended })
    }

    /// SIGKILL, unless it has ended.
    pub(super) fn kill(&self) {
        self.with_pid(|pid| _ = rustix::process::kill_process(pid, Signal::KILL));
    }

    /// Does something with its id, unless it has ended: until this returns the id means no other process.
    pub(super) fn with_pid<T>(&self, act: impl FnOnce(Pid) -> T) -> Option<T> {
        self.pid.lock().unwrap_or_else(PoisonError::into_inner).map(act)
    }

    /// Answers once it has been reaped, and to one caller.
    pub(super) async fn ended(&self) -> Exit {
        self.ended.recv().await.unwrap_or(Exit::Unknown)
    }
}

/// Waits until the process has ended, and leaves its status to be asked for.
fn until_ended(pid: Pid) {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(Errno::INTR) = rustix::process::waitid(WaitId::Pid(pid), look) {}
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::process::Command;

    fn child(script: &str) -> (Pid, Reaper) {
        #[allow(clippy::zombie_processes)] // the reaper waits
        let child = Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
        (pid, Reaper::start(pid).unwrap())
    }

    #[test]
    fn the_end_is_told_and_nothing_is_left() {
        let (pid, reaper) = child("exit 3");
        assert_eq!(smol::block_on(reaper.ended()), Exit::Code(3));
        assert_eq!(rustix::process::test_kill_process(pid), Err(Errno::SRCH));
        // Harmless: it is known to be gone.
        reaper.kill();
        let (_, reaper) = child("exec sleep 60");
        reaper.kill();
        assert_eq!(smol::block_on(reaper.ended()), Exit::Signal(libc::SIGKILL));
    }
}
