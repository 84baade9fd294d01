//! How a child ended.

use rustix::process::{Signal, WaitIdStatus};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It ended by itself, with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// Somebody else has waited for it.
    Unknown,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Signal(signal) if signal == Signal::SYS.as_raw() => {
                f.write_str("stopped by its system-call filter")
            }
            Exit::Signal(signal) if signal == Signal::ABORT.as_raw() => {
                f.write_str("aborted: memory limit or fault")
            }
            Exit::Signal(signal) if signal == Signal::KILL.as_raw() => f.write_str("killed"),
            Exit::Signal(signal) => write!(f, "ended by signal {signal}"),
            Exit::Unknown => f.write_str("ended"),
        }
    }
}

impl Exit {
    /// What the kernel says of a process that has ended.
    pub(super) fn of(status: &WaitIdStatus) -> Exit {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Code(code),
            (_, Some(signal)) => Exit::Signal(signal),
            _ => Exit::Unknown,
        }
    }
}
