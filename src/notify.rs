//! Tells systemd how the service is doing: the datagrams of `sd_notify(3)`, without its library.
//!
//! Outside systemd (`NOTIFY_SOCKET` unset) every call does nothing. A message that cannot be delivered is
//! dropped: the service must not depend on who watches it.

use crate::clock::monotonic_micros;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Longest status line, bytes; systemd shows one line.
const MAX_STATUS_BYTES: usize = 200;

/// The end of the line to systemd, or nothing.
#[derive(Debug)]
pub struct Notifier {
    line: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// Looks for systemd in the environment: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
    pub fn from_environment(environment: impl Fn(&str) -> Option<String>) -> Notifier {
        let line = environment("NOTIFY_SOCKET").and_then(|path| {
            let address = address(&path).ok()?;
            let socket = UnixDatagram::unbound().ok()?;
            // The event loop sends: rather lose a message than wait.
            socket.set_nonblocking(true).ok()?;
            Some((socket, address))
        });
        let mine = environment("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let watchdog = environment("WATCHDOG_USEC")
            .filter(|_| mine)
            .and_then(|text| text.parse().ok())
            .filter(|microseconds| *microseconds > 0)
            .map(Duration::from_micros);
        Notifier { line, watchdog }
    }

    /// After how long without [`Notifier::alive`] systemd kills the service. `None`: never.
    pub fn watchdog(&self) -> Option<Duration> {
        self.line.as_ref().and(self.watchdog)
    }

    /// Tells systemd that both listeners listen (`READY=1`).
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// One line for `systemctl status`.
    pub fn status(&self, status: &str) {
        self.send(&format!("STATUS={}", one_line(status)));
    }

    /// Everything still makes progress.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// A reload has begun; [`Notifier::ready`] ends it. The time tells systemd which of two reloads is meant.
    pub fn reloading(&self) {
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}\nSTATUS=reloading", monotonic_micros()));
    }

    /// The drain has begun.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=draining");
    }

    fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.line
            && let Err(error) = socket.send_to_addr(message.as_bytes(), address)
        {
            log::debug!("notify error={error}");
        }
    }
}

/// A path, or with a leading `@` a name in the abstract namespace.
fn address(path: &str) -> std::io::Result<SocketAddr> {
    match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(path),
    }
}

/// A line break would start another assignment.
fn one_line(status: &str) -> String {
    let end = status.floor_char_boundary(MAX_STATUS_BYTES);
    // `end` is a char boundary by its definition.
    status.get(..end).unwrap_or_default().replace(|c: char| c.is_control(), " ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A listening socket with a name of its own, and a notifier that talks to it.
    fn pair(name: &str, watchdog: Option<&str>) -> (UnixDatagram, Notifier) {
        let name = format!("weir-notify-{}-{name}", std::process::id());
        let systemd = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        systemd.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let notifier = Notifier::from_environment(|key| match key {
            "NOTIFY_SOCKET" => Some(format!("@{name}")),
            "WATCHDOG_USEC" => watchdog.map(str::to_owned),
            _ => None,
        });
        (systemd, notifier)
    }

    fn received(systemd: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        let length = systemd.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn messages_have_the_form_that_systemd_reads() {
        let (systemd, notifier) = pair("form", None);
        notifier.ready("listening\nREADY=0");
        assert_eq!(received(&systemd), "READY=1\nSTATUS=listening READY=0");
        notifier.alive();
        assert_eq!(received(&systemd), "WATCHDOG=1");
        let before = monotonic_micros();
        notifier.reloading();
        let reload = received(&systemd);
        let stamp = reload.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().split_once('\n').unwrap().0;
        assert!((before..=monotonic_micros()).contains(&stamp.parse().unwrap()), "{reload}");
        notifier.stopping();
        assert_eq!(received(&systemd), "STOPPING=1\nSTATUS=draining");
        notifier.status(&"ä".repeat(1_000));
        assert!(received(&systemd).len() <= "STATUS=".len() + MAX_STATUS_BYTES);
    }

    #[test]
    fn the_limit_of_the_watchdog_is_read() {
        assert_eq!(pair("on", Some("30000000")).1.watchdog(), Some(Duration::from_secs(30)));
        assert_eq!(pair("zero", Some("0")).1.watchdog(), None);
        assert_eq!(pair("off", None).1.watchdog(), None);
        assert_eq!(
            Notifier::from_environment(|key| (key == "WATCHDOG_USEC").then(|| "1000000".to_owned()))
                .watchdog(),
            None
        );
    }

    #[test]
    fn without_systemd_or_with_a_dead_one_nothing_happens() {
        Notifier::from_environment(|_| None).ready("x");
        let (systemd, notifier) = pair("dead", None);
        drop(systemd);
        notifier.ready("x");
    }
}
