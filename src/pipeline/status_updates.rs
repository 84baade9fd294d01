//! The updates of one pipeline, written by its tasks and read by `status`.

use super::event_log::EventLog;
use super::statistics::Updates;
use crate::clock::{Clock, SystemClock, Wall};
use crate::command::{Context, Event, PipelineId, Severity, SourceState, Update};
use crate::error::Error;
use crate::feed::{Listeners, Message};
use crate::infer::registry::Progress;
use crate::infer::{Gpu, Model, Outlook};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Listeners hear of a download's progress this often at most; it comes in pieces of a few KiB.
const LOADING_INTERVAL: Duration = Duration::from_millis(250);

/// The updates of one pipeline. Single-threaded, like everything on the event loop.
#[derive(Debug)]
pub(super) struct StatusUpdates {
    updates: RefCell<Updates>,
    /// Who gets each update as it is written, and the detections too.
    pub(super) listeners: Listeners,
    /// While the model is being loaded: how far that is, and when listeners were last told.
    loading: RefCell<Option<(Update, Instant)>>,
    clock: SystemClock,
    /// The same for who reads the log.
    pub(super) event_log: EventLog,
}

impl StatusUpdates {
    /// Nothing has happened yet.
    pub(super) fn new(pipeline: PipelineId) -> StatusUpdates {
        StatusUpdates {
            updates: RefCell::default(),
            listeners: Listeners::default(),
            loading: RefCell::default(),
            clock: SystemClock,
            event_log: EventLog::new(pipeline),
        }
    }

    /// Notes something that belongs to a normal run.
    pub(super) fn info(&self, context: Context, event: Event) {
        self.publish(self.updates.borrow_mut().push(self.clock.wall(), Severity::Info, context, event));
    }

    /// A change of state that happened at `when`.
    pub(super) fn state(&self, when: Wall, source_id: u32, previous: SourceState, new: SourceState) {
        let event = Event::StateChanged { previous, new, source_id };
        self.publish(self.updates.borrow_mut().push(when, Severity::Info, Context::Source, event));
    }

    /// The model could not be run, or a source could not be opened for the first time (the reference reports
    /// both so).
    pub(super) fn inference_error(&self, error: &Error) {
        let event =
            Event::InferenceError { error_type: error.kind().class(), message: error.message().to_owned() };
        self.error(Context::Pipeline, event);
    }

    /// A payload was lost.
    pub(super) fn dispatch_error(&self, error: &Error) {
        let event =
            Event::DispatchError { error_type: error.kind().class(), message: error.message().to_owned() };
        self.error(Context::Pipeline, event);
    }

    /// Notes that a source failed, and why.
    pub(super) fn source_error(&self, source_id: u32, error: &Error) {
        let (error_type, message) = (error.kind().class(), error.message().to_owned());
        self.error(Context::Consumer, Event::SourceError { source_id, error_type, message });
    }

    /// A source is played otherwise than asked for. Said once while it is so.
    pub(super) fn notice(&self, source_id: u32, message: String) {
        let event = Event::SourceNotice { source_id, message };
        self.publish(self.updates.borrow_mut().push_folded(
            self.clock.wall(),
            Severity::Warning,
            Context::Source,
            event,
        ));
    }

    fn error(&self, context: Context, event: Event) {
        self.publish(self.updates.borrow_mut().push_folded(
            self.clock.wall(),
            Severity::Error,
            context,
            event,
        ));
    }

    /// Passes an update on to those who listen.
    pub(super) fn publish<'a>(&self, update: impl Into<Option<&'a Update>>) {
        if let (Some(update), false) = (update.into(), self.listeners.is_empty()) {
            self.listeners.publish(&Message::Update(Rc::new(update.clone())));
        }
    }

    /// The load of the model has moved.
    pub(super) fn loading(&self, progress: Progress) {
        let Progress { stage, bytes, total } = progress;
        let event = Event::ModelLoading { stage: stage.as_str(), bytes, total_bytes: total };
        let update = Update {
            timestamp: self.clock.wall(),
            severity: Severity::Info,
            event,
            context: Context::Pipeline,
            count: 1,
        };
        let mut loading = self.loading.borrow_mut();
        let now = self.clock.now();
        let told = match &*loading {
            Some((before, told))
                if is_same_stage(before, &update) && now.duration_since(*told) < LOADING_INTERVAL =>
            {
                *told
            }
            _ => {
                self.publish(&update);
                now
            }
        };
        *loading = Some((update, told));
    }

    /// The model is there, or nobody loads it at present.
    pub(super) fn loaded(&self) {
        self.loading.take();
    }

    /// Oldest first; that of the load under way last.
    pub(super) fn updates(&self) -> Vec<Update> {
        let mut updates = self.updates.borrow().to_vec();
        updates.extend(self.loading.borrow().as_ref().map(|(update, _)| update.clone()));
        updates
    }
}

/// Which engine runs the model, where a GPU may take over or has.
pub(super) fn engine_update(model: &Model) -> Option<Update> {
    let Outlook { gpu, since } = model.outlook()?;
    let (word, percent, message, severity) = match gpu {
        Gpu::Loading => ("loading", None, None, Severity::Info),
        // Within 0 and 100.
        Gpu::Building { progress } => {
            ("building", progress.map(|part| (part * 100.0) as u8), None, Severity::Info)
        }
        Gpu::Running => ("running", None, None, Severity::Info),
        // Most often a machine without a GPU, where nobody misses it. The log and `weir check` say why.
        Gpu::Unused { .. } => return None,
        Gpu::Lost { reason } => ("lost", None, Some(reason), Severity::Error),
    };
    let event = Event::ModelEngine { engine: model.engine_name(), gpu: word, percent, message };
    Some(Update { timestamp: since, severity, event, context: Context::Pipeline, count: 1 })
}

fn is_same_stage(one: &Update, other: &Update) -> bool {
    match (&one.event, &other.event) {
        (Event::ModelLoading { stage, .. }, Event::ModelLoading { stage: other, .. }) => stage == other,
        _ => false,
    }
}
