//! Which operation a source allows in which state: docs/roboflow.md §4.1.

use crate::command::SourceState;
use crate::error::{Error, Kind, Result};

/// What a client can ask of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// Keep the source alive, process nothing.
    Mute,
    /// Process frames again after `Mute`.
    Resume,
}

impl Operation {
    /// The word in the error message.
    fn name(self) -> &'static str {
        match self {
            Operation::Mute => "MUTE",
            Operation::Resume => "RESUME",
        }
    }

    /// Refuses what the state does not allow. `terminate` has no row here: weir terminates from every state.
    pub(super) fn check(self, state: SourceState) -> Result<()> {
        let allowed = match self {
            Operation::Mute => state == SourceState::Running,
            Operation::Resume => matches!(state, SourceState::Muted | SourceState::Paused),
        };
        if allowed {
            return Ok(());
        }
        let message = format!("Could not {} stream in state: StreamState.{}", self.name(), state.as_str());
        Err(Error::new(Kind::NotAllowed, message))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn mute_wants_running_and_resume_wants_muted() {
        assert!(Operation::Mute.check(SourceState::Running).is_ok());
        assert!(Operation::Resume.check(SourceState::Muted).is_ok());
        let error = Operation::Mute.check(SourceState::Muted).unwrap_err();
        assert_eq!(error.message(), "Could not MUTE stream in state: StreamState.MUTED");
        assert_eq!(error.kind(), Kind::NotAllowed);
        assert!(Operation::Resume.check(SourceState::Ended).is_err());
        assert!(Operation::Mute.check(SourceState::Initialising).is_err());
    }
}
