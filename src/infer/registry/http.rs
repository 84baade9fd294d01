//! Asking the API and its storage: one GET at a time, with limits on time, size and repetition.
//!
//! URLs hold the key, so nothing in here puts a URL or a library's message about one into an error or a log.

use super::in_flight::Watch;
use super::{Progress, RegistrySettings, Stage};
use crate::error::{Error, Kind, Result};
use crate::outbound::{Fault, agent_parts};
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;
use ureq::http::Response;
use ureq::{Agent, Body};

/// Redirects followed for one request: storage behind a CDN needs one or two.
const MAX_REDIRECTS: u32 = 5;
/// Longest time one download of weights may take; between two reads `request_timeout` holds.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(3600);
/// Longest pause between two attempts.
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(30);
/// Bytes read at once; progress is reported as often.
const CHUNK_BYTES: usize = 256 << 10;

/// The one client of the registry.
pub(super) struct Client<'a> {
    agent: Agent,
    settings: &'a RegistrySettings,
    watch: &'a dyn Watch,
}

/// Who is asked: only the API gets the extra headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Server {
    /// The Roboflow API, and license servers that stand for it.
    Api,
    /// Wherever it says that files lie.
    Storage,
}

/// A failure, and whether trying again may help.
struct Failure {
    error: Error,
    transient: bool,
}

impl<'a> Client<'a> {
    /// A client for one load.
    pub(super) fn new(settings: &'a RegistrySettings, watch: &'a dyn Watch) -> Result<Client<'a>> {
        let timeout = Some(settings.request_timeout);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(MAX_REDIRECTS)
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
            // Where requests go through is decided for each server that one leads to: see `outbound`.
            .proxy(None)
            .timeout_resolve(timeout)
            .timeout_connect(timeout)
            .timeout_recv_response(timeout)
            .timeout_per_read(timeout)
            .timeout_per_write(timeout)
            .timeout_global(Some(DOWNLOAD_TIMEOUT))
            .build();
        let (connector, resolver) = agent_parts(settings.proxies.clone(), settings.trust.client(None)?);
        Ok(Client { agent: Agent::with_parts(config, connector, resolver), settings, watch })
    }

    /// The body of `url`, at most `limit` bytes.
    pub(super) fn document(&self, server: Server, url: &str, limit: u64) -> Result<Vec<u8>> {
        self.persistently(|| {
            let mut bytes = Vec::new();
            let response = self.get(server, url)?;
            copy(response, &mut bytes, limit, &self.settings.cache_dir, |_, _| Ok(()))?;
            Ok(bytes)
        })
    }

    /// The body of `url` into `file`, which `open` makes anew for each attempt.
    pub(super) fn download<W: Write>(
        &self,
        url: &str,
        limit: u64,
        open: impl Fn() -> Result<W>,
    ) -> Result<W> {
        self.persistently(|| {
            let mut file = open()?;
            let response = self.get(Server::Storage, url)?;
            let report =
                |bytes, total| self.watch.report(Progress { stage: Stage::Downloading, bytes, total });
            copy(response, &mut file, limit, &self.settings.cache_dir, report)?;
            Ok(file)
        })
    }

    /// Repeats `attempt` as often as the settings allow while its failures are transient.
    fn persistently<T>(&self, attempt: impl Fn() -> Result<T, Failure>) -> Result<T> {
        let mut pause = self.settings.retry_interval;
        for left in (0..=self.settings.retries).rev() {
            match attempt() {
                Ok(value) => return Ok(value),
                Err(Failure { transient: true, error }) if left > 0 => {
                    log::info!("model_fetch retry_in_s={} error={error}", pause.as_secs_f32())
                }
                Err(Failure { error, .. }) => return Err(error),
            }
            // Fails when nobody waits any more.
            self.watch.report(Progress { stage: Stage::Resolving, bytes: 0, total: None })?;
            std::thread::sleep(pause);
            pause = (pause * 2).min(MAX_RETRY_PAUSE);
        }
        Err(Error::new(Kind::ApiConnection, "the Roboflow API was not asked"))
    }

    /// Sends the request and judges the status.
    fn get(&self, server: Server, url: &str) -> Result<Response<Body>, Failure> {
        let proxied;
        let url = match &self.settings.license_server {
            None => url,
            Some(proxy) => {
                let scheme = if proxy.contains("://") { "" } else { "http://" };
                proxied = format!("{scheme}{}/proxy?url={}", proxy.trim_end_matches('/'), encode(url));
                &proxied
            }
        };
        let mut request = self.agent.get(url);
        if server == Server::Api {
            for (name, value) in &self.settings.extra_headers {
                request = request.header(name, value.reveal());
            }
        }
        let response = request.call().map_err(failure)?;
        judge(response)
    }
}

/// The status of a response in the words of the reference.
fn judge(response: Response<Body>) -> Result<Response<Body>, Failure> {
    let status = response.status().as_u16();
    let error = match status {
        200..=299 => return Ok(response),
        401 => Error::new(
            Kind::ApiUnauthorised,
            "Unauthorized access to roboflow API - check API key. Visit \
             https://docs.roboflow.com/api-reference/authentication#retrieve-an-api-key to learn how to retrieve one.",
        ),
        404 => Error::new(
            Kind::ApiNotFound,
            "Could not find requested Roboflow resource. Check that the provided dataset and version are correct, and check \
             that the provided Roboflow API key has the correct permissions.",
        ),
        _ => Error::new(
            Kind::ApiUnsuccessful,
            format!("Unsuccessful request to Roboflow API with response code: {status}"),
        ),
    };
    Err(Failure { error, transient: [429, 502, 503, 504].contains(&status) })
}

/// Reads a body to its end: its length must be announced, kept, and below `limit`.
fn copy(
    response: Response<Body>,
    to: &mut dyn Write,
    limit: u64,
    cache: &Path,
    report: impl Fn(u64, Option<u64>) -> Result<()>,
) -> Result<(), Failure> {
    let length = response
        .headers()
        .get("content-length")
        .and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    let length =
        length.ok_or_else(|| lasting(Kind::ApiMalformed, "the server does not say how long the file is"))?;
    if length > limit {
        let message = format!("the file has {length} bytes, more than the {limit} allowed");
        return Err(lasting(Kind::Exhausted, message));
    }
    // One byte more than announced: a server that sends too much must not look like one that sends what it
    // said.
    let mut body = response.into_body().into_reader().take(length + 1);
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut received = 0;
    report(0, Some(length))?;
    loop {
        let count = match body.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(broken(&error, received, length)),
        };
        received += count as u64;
        let bytes = chunk.get(..count).unwrap_or_default();
        to.write_all(bytes).map_err(|error| super::lock::unwritable(cache, error))?;
        report(received, Some(length))?;
    }
    if received != length {
        let message = format!("the file has {received} bytes where {length} were announced");
        return Err(Failure { error: Error::new(Kind::ApiConnection, message), transient: true });
    }
    Ok(())
}

fn broken(error: &std::io::Error, received: u64, length: u64) -> Failure {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
    let timed_out =
        error.kind() == std::io::ErrorKind::TimedOut || matches!(inner, Some(ureq::Error::Timeout(_)));
    let (kind, what) =
        if timed_out { (Kind::ApiTimeout, "stalled") } else { (Kind::ApiConnection, "broke off") };
    let message = format!("the download {what} after {received} of {length} bytes");
    Failure { error: Error::new(kind, message), transient: true }
}

/// What kept a request from being answered. Only words of our own: the library's may hold the URL.
fn failure(error: ureq::Error) -> Failure {
    let transient =
        |kind, message: &'static str| Failure { error: Error::new(kind, message), transient: true };
    match error {
        ureq::Error::Timeout(_) => {
            transient(Kind::ApiTimeout, "Timeout when attempting to connect to Roboflow API.")
        }
        ureq::Error::Io(cause) if cause.kind() == std::io::ErrorKind::TimedOut => {
            transient(Kind::ApiTimeout, "Timeout when attempting to connect to Roboflow API.")
        }
        ureq::Error::Io(_) | ureq::Error::ConnectionFailed => {
            transient(Kind::ApiConnection, "Could not connect to Roboflow API: it broke off.")
        }
        ureq::Error::Other(cause) => match cause.downcast::<Fault>() {
            Ok(fault) => {
                let message = format!("Could not connect to Roboflow API: {}", fault.message);
                Failure { error: Error::new(Kind::ApiConnection, message), transient: fault.is_transient }
            }
            Err(_) => transient(Kind::ApiConnection, "Could not connect to Roboflow API."),
        },
        ureq::Error::TooManyRedirects | ureq::Error::RedirectFailed => {
            lasting(Kind::ApiMalformed, "The Roboflow API redirects without end.")
        }
        ureq::Error::BadUri(_) => lasting(Kind::ApiMalformed, "The address of a model's file is no URL."),
        _ => lasting(Kind::ApiMalformed, "The Roboflow API does not speak HTTP as expected."),
    }
}

fn lasting(kind: Kind, message: impl Into<std::borrow::Cow<'static, str>>) -> Failure {
    Failure { error: Error::new(kind, message), transient: false }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure { error, transient: false }
    }
}

/// Percent-encodes all but RFC 3986's unreserved characters.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::encode;

    #[test]
    fn only_unreserved_characters_stay() {
        assert_eq!(encode("a-b_c.d~9"), "a-b_c.d~9");
        assert_eq!(encode("a/b?c=d&e%ü "), "a%2Fb%3Fc%3Dd%26e%25%C3%BC%20");
    }
}
