//! What holds at both listeners: who may come in, how many, how much, and until when.

use std::rc::Rc;
use std::time::Duration;

use super::access_control::AccessControl;
use super::connections::{Limits, Stop};

/// Part of the settings of each listener; the defaults are those of the documentation.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Most connections, in all and by address.
    pub limits: Limits,
    /// Largest TCP message and HTTP body in bytes. An `init` with 16 sources and long URLs has 50 KiB.
    pub max_message_bytes: usize,
    /// Longest time for one of them to arrive, and for a TCP reply to be taken.
    pub message_timeout: Duration,
    /// Who may do what.
    pub access_control: Rc<AccessControl>,
    /// Closed when the listeners shall stop accepting; `None`: never.
    pub stop: Option<Stop>,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            limits: Limits::default(),
            max_message_bytes: 1 << 20,
            message_timeout: Duration::from_secs(60),
            access_control: Rc::default(),
            stop: None,
        }
    }
}

#[cfg(test)]
impl Rules {
    /// Default rules behind this access control.
    pub(super) fn behind(access_control: AccessControl) -> Rules {
        Rules { access_control: Rc::new(access_control), ..Rules::default() }
    }
}
