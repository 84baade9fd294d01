//! Starts a model's process. Unit tests, whose executable is not `weir`, run its body in a thread instead.

use crate::clock::within;
use crate::error::{Result, system};
#[cfg(not(test))]
use crate::sandbox::Order;
use crate::sandbox::{Exit, Process, Spawner};
use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::time::Duration;

/// Variables that a model's process gets: which kernels to use is said to both sides.
#[cfg_attr(test, allow(dead_code))]
const VARIABLES: &[&str] = &[crate::infer::cnn::CPU_VARIABLE];

/// From the end of its socket to the end of the process.
const END_TIMEOUT: Duration = Duration::from_millis(500);

static SPAWNER: OnceLock<Spawner> = OnceLock::new();

/// Models' processes are started by this one; without it, by one of their own.
pub(crate) fn use_spawner(spawner: &Spawner) {
    let _ = SPAWNER.set(spawner.clone());
}

#[cfg_attr(test, allow(dead_code))]
fn spawner() -> Result<Spawner> {
    if SPAWNER.get().is_none() {
        let spawner = Spawner::start()?;
        // Another thread may have been first: then that one is used.
        let _ = SPAWNER.set(spawner);
    }
    let missing = || crate::error::Error::new(crate::error::Kind::System, "no spawner");
    SPAWNER.get().cloned().ok_or_else(missing)
}

/// A model's process. Killed when dropped.
#[derive(Debug)]
pub(super) struct Running(Option<Process>);

/// Starts one that talks over `socket`. `about`: the model, for lines of the log.
#[cfg(not(test))]
pub(super) fn launch(about: &str, socket: OwnedFd) -> Result<Running> {
    let nothing =
        std::fs::File::options().write(true).open("/dev/null").map_err(system("opening /dev/null"))?;
    let order = Order {
        command: "model",
        about: format!("model={about:?}"),
        stdin: socket,
        stdout: nothing.into(),
        variables: VARIABLES,
        beside: None,
    };
    Ok(Running(Some(smol::block_on(spawner()?.spawn(order))?)))
}

#[cfg(test)]
pub(super) fn launch(_about: &str, socket: OwnedFd) -> Result<Running> {
    let body = move || {
        let _ = super::child::serve(super::channel::Channel::of(socket), false);
    };
    std::thread::Builder::new().name("model".into()).spawn(body).map_err(system("starting a thread"))?;
    Ok(Running(None))
}

impl Running {
    /// Process id of the child; in unit tests there is none, a thread does its work.
    pub(super) fn pid(&self) -> Option<u32> {
        self.0.as_ref().map(Process::pid)
    }

    /// Ends the child at once (SIGKILL).
    pub(super) fn kill(&self) {
        if let Some(process) = &self.0 {
            process.kill();
        }
    }

    /// How it ended, if it has or soon does; else it is killed.
    pub(super) fn ended(mut self) -> Option<Exit> {
        let process = self.0.as_mut()?;
        smol::block_on(within(END_TIMEOUT, process.ended()))
    }
}
