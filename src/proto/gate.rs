//! What both doors do between a command and its execution: may this client, may this pipeline, and not for ever.

use std::net::IpAddr;
use std::time::Duration;

use futures_lite::future;
use smol::Timer;

use super::access::{Access, Scope};
use super::reach::Reach;
use crate::command::{Command, Execute, Reply};
use crate::error::{Error, Kind, Result};

/// The rules that hold at both doors.
#[derive(Debug)]
pub struct Gate {
    /// Who may say what.
    pub access: Access,
    /// What `init` may reach.
    pub reach: Reach,
    /// Longest time a command may take; a first download of a large model over a slow line is the longest known.
    pub command_timeout: Duration,
}

impl Default for Gate {
    fn default() -> Self {
        Gate { access: Access::default(), reach: Reach::default(), command_timeout: Duration::from_secs(600) }
    }
}

impl Gate {
    /// May a client at `peer` that shows `token` do what needs `scope`?
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
