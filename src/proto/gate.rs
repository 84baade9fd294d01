//! What both doors do between a command and its execution: may this client, may this pipeline, and not for ever.

use std::net::IpAddr;
use std::time::Duration;

use futures_lite::future;
use smol::Timer;

use super::access::{Access, Scope};
use super::listen::Stream;
use super::reach::Reach;
use super::tls::Tls;
use crate::command::{Command, Execute, Reply};
use crate::error::{Error, Kind, Result};

/// The rules that hold at both doors.
#[derive(Debug)]
pub struct Gate {
    /// Who may say what.
    pub access: Access,
    /// What `init` may reach.
    pub reach: Reach,
    /// Encrypts TCP connections; Unix sockets need none.
    pub tls: Option<Tls>,
    /// Longest time a command may take; a first download of a large model over a slow line is the longest known.
    pub command_timeout: Duration,
}

impl Default for Gate {
    fn default() -> Self {
        Gate { access: Access::default(), reach: Reach::default(), tls: None, command_timeout: Duration::from_secs(600) }
    }
}

impl Gate {
    /// Does what must be done before the first byte of a protocol; `None` when the client failed to.
    pub(super) async fn secure(&self, stream: Stream) -> Option<Stream> {
        match (&self.tls, stream) {
            (Some(tls), Stream::Tcp(stream)) => match tls.handshake(stream).await {
                Ok(stream) => Some(Stream::Tls(Box::new(stream))),
                Err(error) => {
                    log::debug!("event=handshake_failed error={error:?}");
                    None
                }
            },
            (_, stream) => Some(stream),
        }
    }

    /// May a client at `peer` (`None`: it is known otherwise) that shows `token` do what needs `scope`?
    pub(super) fn admit(&self, peer: Option<IpAddr>, token: Option<&str>, scope: Scope) -> Result<()> {
        self.access.check(peer, token, scope)
    }

    /// Carries out a command of an admitted client.
    pub(super) async fn execute<E: Execute>(&self, commands: &E, command: Command) -> Result<Reply> {
        let work = async {
            if let Command::Init(init) = &command {
                self.reach.check(init).await?;
            }
            commands.execute(command).await
        };
        future::or(work, async {
            Timer::after(self.command_timeout).await;
            Err(Error::new(Kind::TimedOut, "timed out"))
        })
        .await
    }
}
