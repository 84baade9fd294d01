//! What holds at both doors: who may come in, how many, how much, and until when.

use std::rc::Rc;
use std::time::Duration;

use super::connections::{Limits, Stop};
use super::gate::Gate;

/// Part of the settings of each door; the defaults are those of the documentation.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Most connections.
    pub limits: Limits,
    /// Largest TCP message and HTTP body in bytes. An `init` with 16 sources and long URLs has 50 KiB.
    pub max_message_bytes: usize,
    /// Longest time for one of them to arrive, and for a TCP reply to be taken.
    pub message_timeout: Duration,
    /// Who may do what.
    pub gate: Rc<Gate>,
    /// When to stop.
    pub stop: Option<Stop>,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            limits: Limits::default(),
            max_message_bytes: 1 << 20,
            message_timeout: Duration::from_secs(60),
            gate: Rc::default(),
            stop: None,
        }
    }
}

#[cfg(test)]
impl Rules {
    /// Default rules behind this gate.
    pub(super) fn behind(gate: Gate) -> Rules {
        Rules { gate: Rc::new(gate), ..Rules::default() }
    }
}
