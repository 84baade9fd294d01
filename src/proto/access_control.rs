//! What both listeners do between a command and its execution: may this client, may this pipeline, and not
//! for ever.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::access::{Access, Scope};
use super::audit::{Audit, Caller};
use super::listen::Stream;
use super::reach::Reach;
use super::tls::Tls;
use super::who::Who;
use crate::clock::{Wall, within};
use crate::command::{Command, Execute, Reply};
use crate::error::{Error, Kind, Result};

/// Unless configured: the first download of a large model over a slow line is the longest known.
const DEFAULT_COMMAND_TIMEOUT: Duration = Duration::from_secs(600);

/// The rules that hold at both listeners.
#[derive(Debug)]
pub struct AccessControl {
    /// Who may say what.
    pub access: Access,
    /// What `init` may reach.
    pub reach: Reach,
    /// Encrypts TCP connections; Unix sockets need none.
    pub tls: Option<Tls>,
    /// When the service began.
    pub(super) opened: Wall,
    /// Requests answered so far, in the order of [`OUTCOMES`].
    pub(super) counts: [Cell<u64>; OUTCOMES.len()],
    /// Tells who changed what.
    pub(super) audit: Audit,
    /// Longest time a command may take.
    pub command_timeout: Duration,
}

/// How a request can end, as metrics name it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Outcome {
    TcpSuccess,
    TcpFailure,
    HttpSuccess,
    HttpRefused,
    HttpFailure,
}

/// The labels of each [`Outcome`], in its order.
const OUTCOMES: [&str; 5] = [
    "listener=\"tcp\",outcome=\"success\"",
    "listener=\"tcp\",outcome=\"failure\"",
    "listener=\"http\",outcome=\"success\"",
    "listener=\"http\",outcome=\"refused\"",
    "listener=\"http\",outcome=\"failure\"",
];

impl Default for AccessControl {
    fn default() -> Self {
        AccessControl::new(Access::default(), Reach::default(), None, DEFAULT_COMMAND_TIMEOUT)
    }
}

impl AccessControl {
    /// These rules, with nothing counted yet.
    pub fn new(access: Access, reach: Reach, tls: Option<Tls>, command_timeout: Duration) -> Self {
        AccessControl {
            access,
            reach,
            tls,
            opened: Wall::now(),
            counts: Default::default(),
            command_timeout,
            audit: Audit::default(),
        }
    }

    /// One more request has been answered.
    pub(super) fn count(&self, outcome: Outcome) {
        if let Some(count) = self.counts.get(outcome as usize) {
            count.set(count.get() + 1);
        }
    }

    /// Labels and how many requests ended so.
    pub(super) fn counted(&self) -> impl Iterator<Item = (&'static str, u64)> {
        OUTCOMES.into_iter().zip(self.counts.iter().map(Cell::get))
    }

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

    /// May a client that shows `token` do what needs `scope`, and as whom?
    pub(super) fn admit(&self, caller: &Caller, token: Option<&str>, scope: Scope) -> Result<Who> {
        match (&caller.proved, caller.from) {
            (Some(who), _) => Ok(who.clone()),
            // Without an address there is nobody to count failures of: only Unix sockets have none.
            (None, from) => {
                self.access.check(from.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), token, scope)
            }
        }
    }

    /// Carries out a command for `who`, with its audit line where it changes something.
    pub(super) async fn carry_out<E: Execute>(
        &self,
        commands: &E,
        command: Command,
        caller: &Caller,
        who: &Who,
    ) -> Result<Reply> {
        let pending = self.audit.begin(&command, caller, who);
        let outcome = self.execute(commands, command).await;
        pending.ended(&outcome);
        outcome
    }

    /// Carries out a command of an admitted client.
    pub(super) async fn execute<E: Execute>(&self, commands: &E, command: Command) -> Result<Reply> {
        let work = async {
            if let Command::Init(init) = &command {
                self.reach.check(init).await?;
            }
            if let Command::Peek(source) = &command {
                self.reach.check_source(source).await?;
            }
            commands.execute(command).await
        };
        within(self.command_timeout, work)
            .await
            .unwrap_or_else(|| Err(Error::new(Kind::TimedOut, "timed out")))
    }
}
