//! Posts what waits for one address, in batches.

use super::until_closed;
use crate::clock::within;
use crate::outbound::{Fault, Proxies, Trust, agent_parts};
use crate::sink::Address;
use crate::sink::outbox::{Link, Outbox, Taken};
use smol::future::or;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use ureq::Agent;

/// Lines of one request at most.
const MAX_LINES: usize = 500;
/// Bytes of one request, and the longest line more: collectors take 1 MiB at least.
const MAX_BATCH_BYTES: usize = 512 << 10;
/// After the first line others may follow so long: fewer requests, and nobody waits long for a detection.
const LINGER: Duration = Duration::from_millis(100);
/// Longest time for each part of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest time for all of it.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an answer that are looked at: none of it is used.
const MAX_ANSWER_BYTES: u64 = 64 << 10;
/// After a request that failed: 0.5 s, then twice as long each time, up to this.
const RETRY: std::ops::RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(4);
/// After a refusal that somebody must do something about.
const RETRY_REFUSED: Duration = Duration::from_secs(30);

/// What became of a request.
enum Outcome {
    Taken,
    /// These lines are not wanted, and never will be.
    Unwanted(u16),
    /// They were not taken; `is_transient`: they are posted again later.
    Failed {
        why: String,
        is_transient: bool,
    },
}

/// Posts until `stop` is closed, and then what still waits.
pub(super) async fn post(address: Address, outbox: Rc<Outbox>, stop: async_channel::Receiver<()>) {
    let agent = match agent() {
        Ok(agent) => Arc::new(agent),
        Err(error) => {
            log::error!("event=post_impossible address={address} error=\"{error}\"");
            return outbox.set_link(Link::Down(error.to_string().into()));
        }
    };
    let address = Arc::new(address);
    let (mut pause, mut random) = (*RETRY.start(), super::jitter(&address.url));
    loop {
        if outbox.is_empty() {
            if stop.is_closed() {
                return;
            }
            or(outbox.bell.wait(), until_closed(&stop)).await;
        }
        if !stop.is_closed() {
            let _ = within(LINGER, until_closed(&stop)).await;
        }
        let (lines, numbers) = gather(&outbox);
        if numbers.is_empty() {
            // Something waits on the disk: its keeper rings.
            or(outbox.bell.wait(), until_closed(&stop)).await;
            if stop.is_closed() {
                return;
            }
            continue;
        }
        let (agent, to) = (agent.clone(), address.clone());
        let wait = match smol::unblock(move || request(&agent, &to, &lines)).await {
            Outcome::Taken => {
                numbers.iter().for_each(|number| outbox.delivered(*number));
                if outbox.link() != Link::Up {
                    log::info!("event=post_up address={address}");
                    outbox.set_link(Link::Up);
                }
                pause = *RETRY.start();
                continue;
            }
            Outcome::Unwanted(status) => {
                log::warn!("event=post_refused address={address} status={status} lines={}", numbers.len());
                numbers.iter().for_each(|number| drop(outbox.refused(*number)));
                pause
            }
            Outcome::Failed { why, is_transient } => {
                outbox.rewind();
                if !matches!(outbox.link(), Link::Down(before) if *before == *why) {
                    log::warn!("event=post_down address={address} error={why:?}");
                    outbox.set_link(Link::Down(why.into()));
                }
                if stop.is_closed() {
                    return;
                }
                let least = if is_transient { Duration::ZERO } else { RETRY_REFUSED };
                pause.max(least)
            }
        };
        pause = (pause * 2).min(*RETRY.end());
        let _ = within(wait.mul_f64(random()), until_closed(&stop)).await;
    }
}

/// The lines of one request, and their numbers.
fn gather(outbox: &Outbox) -> (Vec<u8>, Vec<u64>) {
    let (mut lines, mut numbers) = (Vec::new(), Vec::new());
    while outbox.send(|message| {
        if numbers.len() >= MAX_LINES
            || (!lines.is_empty() && lines.len() + message.payload.len() > MAX_BATCH_BYTES)
        {
            return Taken::Not;
        }
        lines.extend_from_slice(&message.payload);
        numbers.push(message.number);
        Taken::Sent
    }) {}
    (lines, numbers)
}

/// Sinks are reached directly, without proxies, and redirects are not followed: the list of hosts holds for
/// what was asked for.
fn agent() -> crate::error::Result<Agent> {
    let timeout = Some(REQUEST_TIMEOUT);
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
        .proxy(None)
        .timeout_resolve(timeout)
        .timeout_connect(timeout)
        .timeout_send_body(timeout)
        .timeout_recv_response(timeout)
        .timeout_recv_body(timeout)
        .timeout_global(Some(WHOLE_TIMEOUT))
        .build();
    let trust = Trust::from_environment(std::path::Path::new(""), |name| std::env::var(name).ok());
    let (connector, resolver) = agent_parts(Proxies::from_environment(|_| None), trust.client(None)?);
    Ok(Agent::with_parts(config, connector, resolver))
}

/// Blocks: not for the event loop.
fn request(agent: &Agent, address: &Address, lines: &[u8]) -> Outcome {
    let mut request = agent.post(&address.url).header("content-type", "application/x-ndjson");
    if let Some(authorization) = &address.authorization {
        request = request.header("authorization", authorization);
    }
    match request.send(lines) {
        Ok(mut response) => {
            let status = response.status().as_u16();
            // Read, so that the connection can be used again.
            let _ = response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec();
            match status {
                200..=299 => Outcome::Taken,
                400 | 413 | 415 | 422 => Outcome::Unwanted(status),
                408 | 425 | 429 | 500..=599 => {
                    Outcome::Failed { why: format!("it answers {status}"), is_transient: true }
                }
                300..=399 => Outcome::Failed {
                    why: format!(
                        "it answers {status}, a redirect, which is not followed: name the address it leads to"
                    ),
                    is_transient: false,
                },
                _ => Outcome::Failed {
                    why: format!("it answers {status}: look at the sink's url and authorization"),
                    is_transient: false,
                },
            }
        }
        Err(error) => {
            let (why, is_transient) = in_words(error);
            Outcome::Failed { why, is_transient }
        }
    }
}

/// No library's message, which may hold the address with its key.
fn in_words(error: ureq::Error) -> (String, bool) {
    match error {
        ureq::Error::Timeout(_) => ("it does not answer in time".to_owned(), true),
        ureq::Error::Io(cause) => (format!("the connection broke off ({})", cause.kind()), true),
        ureq::Error::Other(other) => match other.downcast::<Fault>() {
            Ok(fault) => (fault.message, fault.is_transient),
            Err(_) => ("the request failed".to_owned(), true),
        },
        _ => ("it does not answer as an HTTP server does".to_owned(), true),
    }
}
