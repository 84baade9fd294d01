//! The audit trail: who changed what, from where, and what came of it. One line for each changing command at
//! a listener, whatever the log level (but `off`).
//!
//! Under systemd the lines go to the journal with an identifier of their own (`journalctl -t weir-audit`) and
//! syslog's facility for what concerns access, over the journal's native protocol: datagrams of `KEY=value`
//! lines (systemd.io/JOURNAL_NATIVE_PROTOCOL). Elsewhere they stand among the others on standard error, as
//! level `notice` and with the word `audit`.

use super::{StandardError, one_line};
use std::io::Write;
use std::os::unix::net::UnixDatagram;

/// The identifier in the journal.
pub const IDENTIFIER: &str = "weir-audit";

/// Where the journal listens.
const JOURNAL: &str = "/run/systemd/journal/socket";

/// syslog(3): `LOG_NOTICE`, and `LOG_AUTHPRIV`.
const PRIORITY: u8 = 5;
const FACILITY: u8 = 10;

/// The journal's end of the line, where the log goes there.
#[derive(Debug)]
pub(super) struct Journal(UnixDatagram);

impl Journal {
    /// Where there is a journal to talk to.
    pub(super) fn connect() -> Option<Journal> {
        let socket = UnixDatagram::unbound().ok()?;
        socket.connect(JOURNAL).ok()?;
        // The event loop writes: a journal that stands still must not hold it.
        socket.set_nonblocking(true).ok()?;
        Some(Journal(socket))
    }

    fn write(&self, said: &str) -> bool {
        self.0.send(datagram(said).as_bytes()).is_ok()
    }
}

/// No field may hold a line break, or what follows would be a field of its own.
fn datagram(said: &str) -> String {
    format!(
        "PRIORITY={PRIORITY}\nSYSLOG_FACILITY={FACILITY}\nSYSLOG_IDENTIFIER={IDENTIFIER}\nMESSAGE={said}\n"
    )
}

/// Writes one line. `said` is `key=value` words without secrets.
pub fn audit(said: String) {
    if log::max_level() == log::LevelFilter::Off {
        return;
    }
    let said = one_line(said);
    let Some(StandardError { audit, journal, .. }) = super::LOGGER.get() else { return };
    if audit.as_ref().is_some_and(|journal| journal.write(&said)) {
        return;
    }
    let line = super::written(PRIORITY, "notice", &format!("audit {said}"), *journal);
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_journal_gets_fields_and_nobody_can_add_one() {
        let path = std::env::temp_dir().join(format!("weir-journal-{}", uuid::Uuid::new_v4()));
        let journald = UnixDatagram::bind(&path).unwrap();
        let socket = UnixDatagram::unbound().unwrap();
        socket.connect(&path).unwrap();
        let said = one_line("command=init who=token:a\nSYSLOG_IDENTIFIER=x outcome=success".to_owned());
        assert!(Journal(socket).write(&said));
        let mut buffer = [0; 512];
        let length = journald.recv(&mut buffer).unwrap();
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        let fields = [
            "PRIORITY=5",
            "SYSLOG_FACILITY=10",
            "SYSLOG_IDENTIFIER=weir-audit",
            "MESSAGE=command=init who=token:a SYSLOG_IDENTIFIER=x outcome=success",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), fields);
        drop(journald);
        std::fs::remove_file(path).unwrap();
    }
}
