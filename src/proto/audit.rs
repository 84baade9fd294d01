//! Who asks at a listener, and the audit line of what they changed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Instant;

use super::access::network;
use super::listen::Stream;
use super::who::Who;
use crate::command::{Command, PipelineId, Reply};
use crate::error::{Error, Kind, Result};
use crate::logging::{self, Throttle, suppressed};
use crate::sink;

/// Origins whose lines are counted; of more, the one that was quiet longest is forgotten.
const MAX_ORIGINS: usize = 256;

/// A client as its connection shows it.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// Which listener it came by: `tcp` or `http`.
    pub listener: &'static str,
    /// Where it is: that of the connection, or what a trusted proxy says. `None` on Unix sockets.
    pub from: Option<IpAddr>,
    /// What the connection itself proves; `None`: a token is needed, where there are any.
    pub proved: Option<Who>,
}

impl Caller {
    /// The client at the other end of `stream`, which is at `peer`.
    pub(super) fn new(listener: &'static str, stream: &Stream, peer: Option<IpAddr>) -> Caller {
        Caller { listener, from: peer, proved: stream.proved() }
    }

    /// The address whose tokens count; `None` when none is needed.
    pub(super) fn must_show(&self) -> Option<IpAddr> {
        self.from.filter(|_| self.proved.is_none())
    }
}

/// What a command would change, kept until its outcome is known.
#[derive(Debug)]
pub(super) struct Change {
    name: &'static str,
    pipeline: Option<PipelineId>,
    /// ` key=value` words about it.
    details: String,
}

/// What `command` changes; `None` for one that only asks (or takes results, many times a second).
pub(super) fn change(command: &Command) -> Option<Change> {
    let of = |name, id: &PipelineId| Some(Change { name, pipeline: Some(*id), details: String::new() });
    match command {
        Command::List
        | Command::History(_)
        | Command::Models
        | Command::Device
        | Command::Status(_)
        | Command::Consume(_) => None,
        Command::Mute(id) => of("pause", id),
        Command::Resume(id) => of("resume", id),
        Command::Terminate(id) => of("terminate", id),
        Command::Init(init) => {
            let details = format!(
                " model={} sources={} sink={}",
                init.model_id,
                init.sources.len(),
                sink::names(&init.sinks)
            );
            Some(Change { name: "init", pipeline: None, details })
        }
        Command::Peek(source) => Some(Change {
            name: "try",
            pipeline: None,
            details: format!(" source={:?}", source.reference.redacted()),
        }),
    }
}

impl Change {
    fn about(&self, pipeline: Option<PipelineId>) -> String {
        let pipeline = pipeline.map(|id| format!(" pipeline={id}")).unwrap_or_default();
        format!("{pipeline}{}", self.details)
    }
}

/// A change under way: its line is written whatever becomes of whoever asked.
pub(super) struct Pending<'a> {
    audit: &'a Audit,
    caller: &'a Caller,
    who: &'a Who,
    change: Option<Change>,
}

impl Pending<'_> {
    /// It is done, or has failed.
    pub(super) fn ended(mut self, outcome: &Result<Reply>) {
        if let Some(change) = self.change.take() {
            self.audit.changed(self.caller, self.who, change, outcome);
        }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        // What was begun goes on to its end (but an `init`, which is withdrawn); nobody is there to be told.
        if let Some(change) = self.change.take() {
            let what =
                format_args!("command={}{} who={}", change.name, change.about(change.pipeline), self.who);
            self.audit.write(self.caller, what, "outcome=unheard");
        }
    }
}

/// Writes the lines, and remembers who wrote how many.
#[derive(Debug, Default)]
pub(super) struct Audit {
    origins: RefCell<HashMap<Option<IpAddr>, (Throttle, Instant)>>,
}

impl Audit {
    /// `command` is about to be carried out for `who`.
    pub(super) fn begin<'a>(&'a self, command: &Command, caller: &'a Caller, who: &'a Who) -> Pending<'a> {
        Pending { audit: self, caller, who, change: change(command) }
    }

    /// What came of a change.
    pub(super) fn changed(&self, caller: &Caller, who: &Who, change: Change, outcome: &Result<Reply>) {
        let pipeline = match outcome {
            Ok(Reply::Initialised(id)) => Some(*id),
            _ => change.pipeline,
        };
        let ended = match outcome {
            Ok(_) => "outcome=success".to_owned(),
            Err(error) => format!("outcome={} error={:?}", word(error), error.message()),
        };
        self.write(
            caller,
            format_args!("command={}{} who={who}", change.name, change.about(pipeline)),
            &ended,
        );
    }

    /// An admitted client's message says that it wants this, and cannot be read.
    pub(super) fn unread(&self, caller: &Caller, who: &Who, command: &'static str) {
        self.write(
            caller,
            format_args!("command={command} who={who}"),
            "outcome=failed error=\"not understood\"",
        );
    }

    /// Somebody was not let in, or may not do this.
    pub(super) fn refused(&self, caller: &Caller, command: &str, error: &Error) {
        self.write(
            caller,
            format_args!("command={command} who=unknown"),
            &format!("outcome=refused error={:?}", error.message()),
        );
    }

    fn write(&self, caller: &Caller, what: fmt::Arguments<'_>, ended: &str) {
        let Some(before) = self.admit(caller.from.map(network)) else { return };
        let from = caller.from.map_or_else(|| "unix".to_owned(), |address| address.to_string());
        logging::audit(format!(
            "{what} from={from} listener={} {ended}{}",
            caller.listener,
            suppressed(before)
        ));
    }

    fn admit(&self, origin: Option<IpAddr>) -> Option<u64> {
        let now = Instant::now();
        let mut origins = self.origins.borrow_mut();
        if origins.len() >= MAX_ORIGINS && !origins.contains_key(&origin) {
            let quiet = origins.iter().min_by_key(|(_, (_, last))| *last).map(|(origin, _)| *origin);
            quiet.and_then(|origin| origins.remove(&origin));
        }
        let (throttle, last) = origins.entry(origin).or_insert_with(|| (Throttle::new(now), now));
        *last = now;
        throttle.admit(now)
    }
}

fn word(error: &Error) -> &'static str {
    match error.kind() {
        Kind::Unauthorised | Kind::Forbidden | Kind::LockedOut => "refused",
        _ => "failed",
    }
}

/// The changing command that a message's `type` or a segment of a path names; `consume` takes results, many
/// times a second.
pub(super) fn named(word: &str) -> Option<&'static str> {
    Some(match word {
        "init" | "initialise" => "init",
        "mute" | "pause" => "pause",
        "resume" => "resume",
        "terminate" => "terminate",
        "video_sources" => "try",
        _ => return None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_something_has_a_line() {
        let id = PipelineId::new_v4();
        for (command, name) in [
            (Command::List, None),
            (Command::Status(id), None),
            (Command::Consume(id), None),
            (Command::Mute(id), Some("pause")),
            (Command::Resume(id), Some("resume")),
            (Command::Terminate(id), Some("terminate")),
        ] {
            assert_eq!(change(&command).map(|change| change.name), name);
        }
    }

    #[test]
    fn a_caller_in_a_loop_is_throttled_and_others_are_not() {
        let audit = Audit::default();
        let [one, other] = ["10.0.0.1", "10.0.0.2"].map(|text| Some(text.parse::<IpAddr>().unwrap()));
        let written = (0..1000).filter(|_| audit.admit(one).is_some()).count();
        assert!((1..100).contains(&written), "{written}");
        assert_eq!(audit.admit(other), Some(0));
        for address in 0..5000u32 {
            audit.admit(Some(IpAddr::V4(address.into())));
        }
        assert_eq!(audit.origins.borrow().len(), MAX_ORIGINS);
    }
}
