//! Cameras behind HTTP: Motion JPEG as `multipart/x-mixed-replace`, or a still JPEG that is asked for again and again.
//!
//! Reading blocks, so a thread does it; `grab` waits for what that thread hands over.

mod multipart;

use crate::capture::worker::decode::{AccessUnit, Codec, jpeg_size};
use crate::capture::worker::source::{Grab, IDLE, Source};
use crate::command::{Property, SourceProperties};
use crate::error::{Error, Kind, Result};
use crate::resolve::HttpResolver;
use http_auth::{PasswordClient, PasswordParams};
use multipart::{MAX_PART_BYTES, Parts};
use percent_encoding::percent_decode_str;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use ureq::config::RedirectAuthHeaders;
use ureq::http::{Response, StatusCode, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body};
use url::Url;

/// Longest silence on a connection: the worker's own stall limit is what users see; this only ends the thread.
const READ_TIMEOUT: Duration = Duration::from_secs(15);

/// From asking to the headers of the answer, at most.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Redirects that are followed. Cameras use one, to their HTTPS port.
const MAX_REDIRECTS: u32 = 4;

/// Bytes of an answer's headers.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// How often a still picture is asked for where `fps` of the source properties does not say.
const DEFAULT_POLL_FPS: f64 = 1.0;

/// Pictures between the reading thread and `grab`: one, so that nothing grows old there.
const HANDED_OVER: usize = 1;

/// Opens `http://` and `https://` sources. User and password of the URL are used for Basic or Digest, whichever the server asks for.
///
/// Errors: `SourceUnauthorised` for 401 and 403, `SourceUnsupported` for what is neither Motion JPEG nor a JPEG, else `SourceConnection`.
pub(super) fn open(url: &str, user_agent: &str, properties: &[Property]) -> Result<Box<dyn Source>> {
    let mut client = Client::new(url, user_agent)?;
    let response = client.get()?;
    let content_type =
        response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let (sender, receiver) = sync_channel(HANDED_OVER);
    let polled = properties.iter().rev().find(|property| property.name == "fps").map(|property| property.value);
    let interval = 1.0 / polled.filter(|&fps| (0.001..=100.0).contains(&fps)).unwrap_or(DEFAULT_POLL_FPS);
    let reader: Box<dyn FnOnce() + Send> = match kind.as_str() {
        "multipart/x-mixed-replace" | "multipart/mixed" => {
            let boundary = multipart::boundary(&content_type);
            let boundary = boundary.ok_or_else(|| unsupported("the server names no boundary between pictures"))?.to_owned();
            Box::new(move || stream(response, &boundary, &sender))
        }
        "image/jpeg" | "image/jpg" => Box::new(move || poll(client, response, Duration::from_secs_f64(interval), &sender)),
        kind if kind.starts_with("video/") || kind == "application/octet-stream" => {
            return Err(unsupported("video files over HTTP are not supported: copy the file here, or use RTSP or Motion JPEG"));
        }
        other => return Err(unsupported(format!("the server sends {other:.64}, not Motion JPEG or a JPEG"))),
    };
    let fps = if kind.starts_with("image/") { 1.0 / interval } else { 0.0 };
    std::thread::Builder::new().name("http".into()).spawn(reader).map_err(crate::error::system("start the HTTP thread"))?;
    let first =
        receiver.recv_timeout(READ_TIMEOUT).map_err(|_| Error::new(Kind::SourceConnection, "the server sends no picture"))??;
    let (width, height) = jpeg_size(&first).ok_or_else(|| unsupported("the server sends something else than JPEG"))?;
    let properties = SourceProperties { width, height, total_frames: -1, is_file: false, fps, timestamp_created: None };
    Ok(Box::new(Pictures { receiver, properties, current: first, fresh: true }))
}

fn unsupported(words: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Kind::SourceUnsupported, words)
}

/// Pictures as they come from the reading thread.
struct Pictures {
    receiver: Receiver<Result<Vec<u8>>>,
    properties: SourceProperties,
    current: Vec<u8>,
    /// `current` was not given out yet.
    fresh: bool,
}

impl Source for Pictures {
    fn properties(&self) -> SourceProperties {
        self.properties
    }

    fn grab(&mut self) -> Result<Grab<'_>> {
        if !std::mem::take(&mut self.fresh) {
            match self.receiver.recv_timeout(IDLE) {
                Ok(picture) => self.current = picture?,
                Err(RecvTimeoutError::Timeout) => return Ok(Grab::Idle),
                Err(RecvTimeoutError::Disconnected) => return Err(Error::new(Kind::SourceLost, "the stream has ended")),
            }
        }
        Ok(Grab::Packet(Codec::Jpeg, AccessUnit { data: &self.current, shown: true }))
    }

    fn restart(&mut self) -> Result<()> {
        Err(unsupported("a camera cannot be played from its start"))
    }
}

/// Hands over part after part until the stream breaks or nobody listens.
fn stream(response: Response<Body>, boundary: &str, sender: &SyncSender<Result<Vec<u8>>>) {
    let mut parts = Parts::new(response.into_body().into_with_config().limit(u64::MAX).reader(), boundary);
    loop {
        let mut picture = Vec::new();
        let next = parts.next(&mut picture).map(|()| picture);
        let ended = next.is_err();
        if sender.send(next).is_err() || ended {
            return;
        }
    }
}

/// Asks for the picture again at each interval.
fn poll(mut client: Client, response: Response<Body>, interval: Duration, sender: &SyncSender<Result<Vec<u8>>>) {
    let mut response = Ok(response);
    let mut due = Instant::now();
    loop {
        let picture = response.and_then(|response| {
            let mut body = response.into_body();
            let read = body.with_config().limit(MAX_PART_BYTES as u64).read_to_vec();
            read.map_err(|cause| Error::new(Kind::SourceLost, "the picture was cut short").because(cause))
        });
        let failed = picture.is_err();
        if sender.send(picture).is_err() || failed {
            return;
        }
        due = (due + interval).max(Instant::now());
        // This thread has nothing else to wait for; it ends with the process.
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        response = client.get();
    }
}

/// Asks one URL, with credentials where it has some.
struct Client {
    agent: Agent,
    /// Without user and password.
    url: Url,
    credentials: Option<(String, String)>,
    /// What the server asked for; kept, so that polling costs one request a picture.
    challenge: Option<PasswordClient>,
}

impl Client {
    fn new(url: &str, user_agent: &str) -> Result<Client> {
        let mut url = Url::parse(url).map_err(|cause| Error::new(Kind::SourceConnection, "not a URL").because(cause))?;
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let credentials =
            (!url.username().is_empty()).then(|| (decode(url.username()), decode(url.password().unwrap_or_default())));
        // Both only fail on URLs without a host, which HTTP URLs have.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(MAX_REDIRECTS)
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .max_response_header_size(MAX_HEADER_BYTES)
            .timeout_connect(Some(RESPONSE_TIMEOUT))
            .timeout_recv_response(Some(RESPONSE_TIMEOUT))
            .timeout_per_read(Some(READ_TIMEOUT))
            .user_agent(user_agent)
            // A camera's certificate is rarely from a public authority: the machine says whom it trusts.
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
            .build();
        let agent = Agent::with_parts(config, DefaultConnector::default(), HttpResolver::default());
        Ok(Client { agent, url, credentials, challenge: None })
    }

    /// An answer that is good.
    fn get(&mut self) -> Result<Response<Body>> {
        let mut response = self.ask()?;
        if response.status() == StatusCode::UNAUTHORIZED && self.credentials.is_some() {
            let challenges = response.headers().get_all(header::WWW_AUTHENTICATE).iter();
            let builder = challenges.fold(PasswordClient::builder(), |builder, value| match value.to_str() {
                Ok(value) => builder.challenges(value),
                Err(_) => builder,
            });
            self.challenge = builder.build().ok();
            response = self.ask()?;
        }
        match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(Error::new(Kind::SourceUnauthorised, format!("the server answers {}", response.status())))
            }
            status if !status.is_success() => Err(Error::new(Kind::SourceConnection, format!("the server answers {status}"))),
            _ => Ok(response),
        }
    }

    fn ask(&mut self) -> Result<Response<Body>> {
        let mut request = self.agent.get(self.url.as_str());
        if let (Some((username, password)), Some(challenge)) = (&self.credentials, &mut self.challenge) {
            // What a digest is made over: path and query.
            let uri = &self.url[url::Position::BeforePath..url::Position::AfterQuery];
            let parameters = PasswordParams { username, password, uri, method: "GET", body: Some(&[]) };
            let answer = challenge.respond(&parameters).map_err(|cause| {
                Error::new(Kind::SourceUnauthorised, "the server asks for credentials in a way that is not known").because(cause)
            })?;
            request = request.header(header::AUTHORIZATION, answer);
        }
        request.call().map_err(|cause| Error::new(Kind::SourceConnection, "the server cannot be reached").because(cause))
    }
}

#[cfg(test)]
mod tests;
