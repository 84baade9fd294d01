//! The updates of one pipeline, written by its tasks and read by `status`.

use super::report::Updates;
use crate::clock::{Clock, SystemClock, Wall};
use crate::command::{Context, Event, Severity, SourceState, Update};
use crate::error::Error;
use std::cell::RefCell;

/// See the module. Single-threaded, like everything on the event loop.
#[derive(Debug, Default)]
pub(super) struct Journal {
    updates: RefCell<Updates>,
    clock: SystemClock,
}

impl Journal {
    /// Something normal.
    pub(super) fn info(&self, context: Context, event: Event) {
        self.updates.borrow_mut().push(self.clock.wall(), Severity::Info, context, event);
    }

    /// A change of state that happened at `when`.
    pub(super) fn state(&self, when: Wall, source_id: u32, previous: SourceState, new: SourceState) {
        let event = Event::StateChanged { previous, new, source_id };
        self.updates.borrow_mut().push(when, Severity::Info, Context::Source, event);
    }

    /// The model could not be run, or a source could not be opened for the first time (the reference reports both so).
    pub(super) fn inference_error(&self, error: &Error) {
        let event = Event::InferenceError { error_type: error.kind().class(), message: error.message().to_owned() };
        self.error(Context::Pipeline, event);
    }

    /// A payload was lost.
    pub(super) fn dispatch_error(&self, error: &Error) {
        let event = Event::DispatchError { error_type: error.kind().class(), message: error.message().to_owned() };
        self.error(Context::Pipeline, event);
    }

    /// A source broke.
    pub(super) fn source_error(&self, source_id: u32, error: &Error) {
        let (error_type, message) = (error.kind().class(), error.message().to_owned());
        self.error(Context::Consumer, Event::SourceError { source_id, error_type, message });
    }

    fn error(&self, context: Context, event: Event) {
        self.updates.borrow_mut().push_folded(self.clock.wall(), Severity::Error, context, event);
    }

    /// Oldest first.
    pub(super) fn updates(&self) -> Vec<Update> {
        self.updates.borrow().to_vec()
    }
}
