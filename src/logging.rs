//! One line per event on standard error, `key=value`.
//!
//! Under systemd (`JOURNAL_STREAM`) lines carry the `<N>` priority prefix and no time: the journal adds its
//! own.

mod audit;
mod throttle;

pub use audit::{IDENTIFIER as AUDIT_IDENTIFIER, audit};
pub use throttle::{Throttle, suppressed};

use crate::clock::Wall;
use log::{LevelFilter, Log, Metadata, Record};
use std::io::Write;
use std::sync::OnceLock;

/// The one logger, once it is installed.
static LOGGER: OnceLock<StandardError> = OnceLock::new();

struct StandardError {
    /// Lines have a priority and no time.
    journal: bool,
    /// Where audit lines go instead, if they do.
    audit: Option<audit::Journal>,
    /// What is passed on of what libraries say.
    strangers: LevelFilter,
}

/// The variable that says how much is logged, for the service and, whoever told the service, for its workers.
pub const LEVEL_VARIABLE: &str = "LOG_LEVEL";

/// Installs the logger once; a level that nobody knows is `warning`. The names of Python's levels are
/// understood.
pub fn start(level: &str) {
    let journal = std::env::var("JOURNAL_STREAM").is_ok_and(|stream| is_standard_error(&stream));
    install(level, LevelFilter::Warn, journal, true);
}

/// The same in a worker, at the level of its service, which reads its lines and adds the time. What libraries
/// say there is mostly about what a camera sends: who likes could fill the log.
pub fn start_in_worker() {
    install(&std::env::var(LEVEL_VARIABLE).unwrap_or_default(), LevelFilter::Error, true, false);
}

/// The level in force, as [`start`] understands it.
pub fn level() -> &'static str {
    log::max_level().as_str()
}

/// Whether [`start`] knows this level.
pub fn is_level(level: &str) -> bool {
    parse(level).is_some()
}

fn parse(level: &str) -> Option<LevelFilter> {
    Some(match level.to_ascii_lowercase().as_str() {
        "error" | "critical" | "fatal" => LevelFilter::Error,
        "warning" | "warn" => LevelFilter::Warn,
        "info" => LevelFilter::Info,
        "debug" => LevelFilter::Debug,
        "trace" => LevelFilter::Trace,
        "off" => LevelFilter::Off,
        _ => return None,
    })
}

fn install(level: &str, strangers: LevelFilter, journal: bool, audits: bool) {
    let level = parse(level).unwrap_or(LevelFilter::Warn);
    let audit = || audit::Journal::connect().filter(|_| audits && journal);
    // A second logger (tests that start twice in one process) is not an error worth dying for.
    if log::set_logger(LOGGER.get_or_init(|| StandardError { journal, audit: audit(), strangers })).is_ok() {
        log::set_max_level(level);
    }
}

/// Whether standard error is still the stream `DEVICE:INODE` that systemd opened: a shell inside a unit may
/// have sent it elsewhere.
fn is_standard_error(stream: &str) -> bool {
    let Ok(found) = rustix::fs::fstat(rustix::stdio::stderr()) else { return false };
    stream.split_once(':').is_some_and(|(device, inode)| {
        device.parse() == Ok(u128::from(found.st_dev)) && inode.parse() == Ok(u128::from(found.st_ino))
    })
}

/// What is written for an event.
fn line(level: log::Level, said: &str, journal: bool) -> String {
    // syslog(3) priorities.
    let (priority, name) = match level {
        log::Level::Error => (3, "error"),
        log::Level::Warn => (4, "warning"),
        log::Level::Info => (6, "info"),
        log::Level::Debug | log::Level::Trace => (7, "debug"),
    };
    written(priority, name, said, journal)
}

fn written(priority: u8, name: &str, said: &str, journal: bool) -> String {
    if journal {
        format!("<{priority}>{said}\n")
    } else {
        format!("{} {name} {said}\n", Wall::now().iso_local())
    }
}

/// A client or camera may have written a part of it: no further lines, and nothing that steers a terminal.
fn one_line(said: String) -> String {
    if said.contains(char::is_control) { said.replace(char::is_control, " ") } else { said }
}

impl Log for StandardError {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let most = match metadata.target() {
            target if target.starts_with("weir") => LevelFilter::Trace,
            // It warns of what any stranger sends to a listener: who likes could fill the log.
            target if target.starts_with("rustls") => LevelFilter::Error,
            // It warns of operator sets that it was not tested with; what we accept is compared by tests of
            // our own.
            target if target.starts_with("tract") => LevelFilter::Error,
            // Other crates' chatter below warnings is of no use to who runs the service.
            _ => self.strangers,
        };
        metadata.level() <= most
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        // One write per line, so that lines of several processes do not mix. A closed stderr is nobody's
        // error.
        let line = line(record.level(), &one_line(record.args().to_string()), self.journal);
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]
    use super::*;

    #[test]
    fn a_worker_understands_the_level_that_its_service_names() {
        for level in
            [LevelFilter::Off, LevelFilter::Error, LevelFilter::Warn, LevelFilter::Info, LevelFilter::Trace]
        {
            assert_eq!(parse(level.as_str()), Some(level));
        }
        assert!(is_level("CRITICAL") && !is_level("loud"));
    }

    #[test]
    fn the_journal_gets_priorities_and_everybody_else_the_time() {
        for (level, start, word) in [
            (log::Level::Error, "<3>", " error "),
            (log::Level::Warn, "<4>", " warning "),
            (log::Level::Info, "<6>", " info "),
            (log::Level::Debug, "<7>", " debug "),
        ] {
            assert_eq!(line(level, "event=x", true), format!("{start}event=x\n"));
            let elsewhere = line(level, "event=x", false);
            assert!(
                elsewhere.starts_with("20") && elsewhere.ends_with(&format!("{word}event=x\n")),
                "{elsewhere}"
            );
        }
    }

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        assert_eq!(one_line("event=x error=a\nb\x1b[2J".into()), "event=x error=a b [2J");
        assert_eq!(one_line("event=x name=\"Küche\"".into()), "event=x name=\"Küche\"");
    }

    #[test]
    fn the_journal_is_known_by_its_inode() {
        let found = rustix::fs::fstat(rustix::stdio::stderr()).expect("there is a standard error");
        assert!(is_standard_error(&format!("{}:{}", found.st_dev, found.st_ino)));
        assert!(!is_standard_error(&format!("{}:{}", found.st_dev, found.st_ino + 1)));
        for text in ["", "1", "a:b"] {
            assert!(!is_standard_error(text), "{text}");
        }
    }
}
