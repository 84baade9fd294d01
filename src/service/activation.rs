//! Socket activation: listening sockets that systemd opened and passes by name (sd_listen_fds(3)).
//!
//! `LISTEN_FDS` says how many there are, from descriptor 3 on, `LISTEN_FDNAMES` what each is called,
//! `LISTEN_PID` whom they are for. A socket named `tcp` or `http` belongs to that listener, whether it is an
//! Internet or a Unix socket.

use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;

use crate::error::{Error, Kind, Result};

/// Sockets that may be passed: two listeners on a handful of addresses each.
const MAX_SOCKETS: usize = 16;

/// The sockets of one listener.
#[derive(Debug, Default)]
pub(super) struct Passed {
    pub(super) internet: Vec<TcpListener>,
    pub(super) unix: Vec<UnixListener>,
}

/// Takes over what was passed to this process, the TCP listener's first; called once, before any thread
/// starts.
pub(super) fn take() -> Result<(Passed, Passed)> {
    let (mut tcp, mut http) = (Passed::default(), Passed::default());
    let variable = |name: &str| std::env::var(name).ok();
    if variable("LISTEN_PID").and_then(|pid| pid.parse().ok()) != Some(std::process::id()) {
        // For somebody else, whose environment we have inherited.
        return Ok((tcp, http));
    }
    let count = variable("LISTEN_FDS").and_then(|count| count.parse().ok()).unwrap_or(0);
    let listeners = listeners(&variable("LISTEN_FDNAMES").unwrap_or_default(), count)?;
    // Marks each as closed on exec: workers do not inherit them.
    let mut sockets = ListenFd::from_env();
    for (index, listener) in listeners.into_iter().enumerate() {
        let passed = match listener {
            Listener::Tcp => &mut tcp,
            Listener::Http => &mut http,
        };
        match (sockets.take_tcp_listener(index), sockets.take_unix_listener(index)) {
            (Ok(Some(listener)), _) => passed.internet.push(listening(listener, index)?),
            (_, Ok(Some(listener))) => passed.unix.push(listening(listener, index)?),
            _ => return Err(unusable(index)),
        }
    }
    Ok((tcp, http))
}

/// A stream socket on which nobody called `listen` accepts nothing for ever.
fn listening<S: AsFd>(socket: S, index: usize) -> Result<S> {
    match rustix::net::sockopt::socket_acceptconn(&socket) {
        Ok(true) => Ok(socket),
        _ => Err(unusable(index)),
    }
}

fn unusable(index: usize) -> Error {
    let text =
        format!("systemd's socket {} is no listening stream socket (ListenStream=, Accept=no)", index + 1);
    Error::new(Kind::Configuration, text)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Listener {
    Tcp,
    Http,
}

/// The listener of each of `count` sockets by the names in `LISTEN_FDNAMES`.
fn listeners(names: &str, count: usize) -> Result<Vec<Listener>> {
    if count > MAX_SOCKETS {
        return Err(Error::new(
            Kind::Configuration,
            format!("systemd passed {count} sockets; at most {MAX_SOCKETS} are taken"),
        ));
    }
    let mut names = names.split(':');
    let listener = |_| match names.next().unwrap_or_default() {
        "tcp" => Ok(Listener::Tcp),
        "http" => Ok(Listener::Http),
        name => {
            let text =
                format!("systemd passed a socket named `{name}`: FileDescriptorName= must be tcp or http");
            Err(Error::new(Kind::Configuration, text))
        }
    };
    (0..count).map(listener).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_listeners_and_others_are_told() {
        assert_eq!(listeners("", 0).unwrap(), []);
        assert_eq!(listeners("http:tcp:tcp", 3).unwrap(), [Listener::Http, Listener::Tcp, Listener::Tcp]);
        for (names, count) in [("weir-tcp.socket", 1), ("tcp", 2), ("unknown", 1), ("tcp:", 2), ("tcp", 17)] {
            let error = listeners(names, count).unwrap_err();
            assert_eq!(error.kind(), Kind::Configuration, "{names}");
        }
        assert!(listeners("weir-tcp.socket", 1).unwrap_err().message().contains("`weir-tcp.socket`"));
    }
}
