//! As much of an HTTP client as cameras need, and as patient as they need it.

use crate::capture::Trust;
use crate::capture::place::zoned;
use crate::capture::worker::net::{Authorisation, Head, Link, connect, parse_head, tls};
use crate::capture::worker::record::{Recorder, What};
use crate::error::{Error, Kind, Result};
use crate::hosts::without_zone;
use percent_encoding::percent_decode_str;
use rustls::ClientConfig;
use std::sync::Arc;
use url::{Position, Url};

/// Port of HTTP where a URL names none.
const HTTP_PORT: u16 = 80;

/// Redirects that are followed. Cameras use one, to their HTTPS port.
const MAX_REDIRECTS: u32 = 4;

/// Answers with 401 that one request is repeated for: a first challenge, another scheme, a stale nonce.
const MAX_CHALLENGES: u32 = 4;

/// Bytes of an answer that nobody reads (of a redirect, a challenge), before its connection is rather closed.
const MAX_UNREAD_BYTES: u64 = 64 * 1024;

/// Digits of a chunk's length and what may stand on its line, bytes.
const MAX_CHUNK_LINE_BYTES: usize = 256;

/// Asks one URL, with credentials where it has some. Keeps its connection where the server does.
pub(super) struct Client {
    /// Without user and password.
    url: Url,
    /// The interface that its address is meant on.
    zone: Option<String>,
    user_agent: String,
    authorisation: Authorisation,
    tls: Option<Arc<ClientConfig>>,
    trust: Trust,
    recorder: Recorder,
    /// Open, and to whom.
    link: Option<(Link, String)>,
}

/// What is left of an answer's body.
pub(super) struct Body {
    framing: Framing,
    content_type: String,
    /// The connection can be used again once all of it has been read.
    keeps: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Bytes(u64),
    /// So many bytes of the present chunk are left.
    Chunk(u64),
    /// At the line end behind a chunk, or at the first chunk's length.
    ChunkLine,
    ToTheEnd,
    Over,
}

impl Body {
    /// In lower case, without parameters.
    pub(super) fn content_type(&self) -> &str {
        &self.content_type
    }

    pub(super) fn is_multipart(&self) -> bool {
        self.content_type.starts_with("multipart/")
    }
}

impl Client {
    pub(super) fn new(url: &str, user_agent: &str, trust: &Trust, recorder: &Recorder) -> Result<Client> {
        let (plain, zone) = without_zone(url);
        let zone = zone.map(str::to_owned);
        let mut url = Url::parse(&plain)
            .map_err(|cause| Error::new(Kind::SourceConnection, "not a URL").because(cause))?;
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let credentials = (!url.username().is_empty())
            .then(|| (decode(url.username()), decode(url.password().unwrap_or_default())));
        // Both only fail on URLs without a host, which HTTP URLs have.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        Ok(Client {
            url,
            zone,
            user_agent: user_agent.to_owned(),
            authorisation: Authorisation::new(credentials),
            tls: None,
            trust: trust.clone(),
            recorder: recorder.clone(),
            link: None,
        })
    }

    /// An answer that is good, at its body. The caller bounds the time.
    pub(super) async fn get(&mut self) -> Result<Body> {
        let (mut target, mut redirects, mut challenges) = (self.url.clone(), 0, 0);
        loop {
            // Another host has no right to the credentials, nor has this one in the clear what it got under
            // TLS.
            let is_own = target.host() == self.url.host()
                && (target.scheme() == "https" || self.url.scheme() == "http");
            let (head, mut body) = self.ask(&target, is_own).await?;
            let status = head.status().unwrap_or(0);
            match status {
                200..=299 => {
                    self.authorisation.accepted();
                    return Ok(body);
                }
                301 | 302 | 303 | 307 | 308 if head.get("location").is_some() => {
                    redirects += 1;
                    if redirects > MAX_REDIRECTS {
                        return Err(failed(format!("redirected more than {MAX_REDIRECTS} times")));
                    }
                    let location = head.get("location").unwrap_or_default();
                    target = target
                        .join(location)
                        .map_err(|error| failed("redirected to no valid URL").because(error))?;
                    if !matches!(target.scheme(), "http" | "https") {
                        return Err(failed(format!(
                            "redirected to {}://, which is not supported here",
                            target.scheme()
                        )));
                    }
                    // What such a URL says of users is nobody's business.
                    let _ = target.set_username("");
                    let _ = target.set_password(None);
                }
                401 => {
                    challenges += 1;
                    let refused =
                        |words| Error::new(Kind::SourceUnauthorised, format!("the server answers {words}"));
                    if !is_own || challenges > MAX_CHALLENGES {
                        return Err(refused(head.reason()));
                    }
                    let answer = self.authorisation.refused(&head);
                    answer.map_err(|why| refused(format!("{}: {}", head.reason(), why.words())))?;
                }
                403 => {
                    return Err(Error::new(
                        Kind::SourceUnauthorised,
                        format!("the server answers {}", head.reason()),
                    ));
                }
                _ => return Err(failed(format!("the server answers {}", head.reason()))),
            }
            self.pass_over(&mut body).await;
        }
    }

    /// Reads a body that nobody needs, or closes its connection.
    async fn pass_over(&mut self, body: &mut Body) {
        let mut unread = Vec::new();
        while matches!(body.framing, Framing::Bytes(_) | Framing::Chunk(_) | Framing::ChunkLine) {
            let read = self.read(body, &mut unread).await;
            if !matches!(read, Ok(true)) || unread.len() as u64 > MAX_UNREAD_BYTES {
                break;
            }
        }
        if body.framing != Framing::Over || !body.keeps {
            self.link = None;
        }
    }

    /// Sends a request and reads the head of its answer.
    async fn ask(&mut self, target: &Url, with_credentials: bool) -> Result<(Head, Body)> {
        let uri = &target[Position::BeforePath..Position::AfterQuery];
        let host = &target[Position::BeforeHost..Position::AfterPort];
        let mut request = format!(
            "GET {uri} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {}\r\nAccept: */*\r\nConnection: keep-alive\r\n",
            self.user_agent
        );
        if with_credentials && let Some(answer) = self.authorisation.answer("GET", uri, b"") {
            request.push_str(&format!("Authorization: {answer}\r\n"));
        }
        request.push_str("\r\n");
        let place = target[..Position::BeforePath].to_owned();
        let kept = self.link.take().filter(|(_, open)| *open == place);
        let was_kept = kept.is_some();
        let link = match kept {
            Some((link, _)) => link,
            None => self.connect(target).await?,
        };
        let (link, head) = match Self::converse(link, &request).await {
            Ok(answered) => answered,
            // The server closed the connection meanwhile.
            Err(_) if was_kept => Self::converse(self.connect(target).await?, &request).await?,
            Err(error) => return Err(error),
        };
        self.link = Some((link, place));
        let body = framing(&head);
        Ok((head, body))
    }

    async fn connect(&mut self, target: &Url) -> Result<Link> {
        let host = target.host_str().unwrap_or_default();
        if target.scheme() == "https" && self.tls.is_none() {
            self.tls = Some(tls::config(&self.trust)?);
        }
        let zone = self.zone.as_deref().filter(|_| target.host() == self.url.host());
        let stream = connect(&zoned(host, zone), target.port_or_known_default().unwrap_or(HTTP_PORT)).await?;
        let record = self.recorder.connection(&stream, HTTP_PORT);
        Link::new(stream, host, self.tls.as_ref().filter(|_| target.scheme() == "https"), record)
    }

    async fn converse(mut link: Link, request: &str) -> Result<(Link, Head)> {
        link.send(request.as_bytes())?;
        loop {
            if let Some((head, length)) =
                parse_head(link.received()).map_err(|_| failed("the server's answer has no end"))?
            {
                link.consume(length, What::Message);
                match head.status() {
                    None => return Err(failed("the server sends something else than HTTP")),
                    // Provisional ones (RFC 9110 §15.2).
                    Some(100..=199) => continue,
                    Some(_) => return Ok((link, head)),
                }
            }
            if !begins_answer(link.received()) {
                return Err(failed("the server sends something else than HTTP"));
            }
            if !link.exchange().await? {
                return Err(failed("the server closed the connection"));
            }
        }
    }

    /// Reads on in a body: true; false: it is over. May be dropped without losing a byte.
    ///
    /// Errors: the connection broke, or the body is not as it says.
    pub(super) async fn read(&mut self, body: &mut Body, out: &mut Vec<u8>) -> Result<bool> {
        loop {
            let Some((link, _)) = &mut self.link else { return Ok(false) };
            if body.framing == Framing::Over {
                if !body.keeps {
                    self.link = None;
                }
                return Ok(false);
            }
            if take(link, &mut body.framing, out)? {
                return Ok(true);
            }
            if body.framing != Framing::Over && !link.exchange().await? {
                // Whatever was promised: what came, came.
                body.framing = Framing::Over;
                body.keeps = false;
            }
        }
    }
}

/// Whether what has come so far may be the beginning of an answer.
fn begins_answer(received: &[u8]) -> bool {
    let received = received.trim_ascii_start();
    [&b"HTTP/"[..], b"ICY "].iter().any(|begin| {
        let common = begin.len().min(received.len());
        received.get(..common) == begin.get(..common)
    })
}

/// Takes what has come of a body. False: nothing has.
fn take(link: &mut Link, framing: &mut Framing, out: &mut Vec<u8>) -> Result<bool> {
    let mut took = false;
    loop {
        let received = link.received();
        let (bytes, next) = match *framing {
            Framing::Over | Framing::Bytes(0) => {
                *framing = Framing::Over;
                return Ok(took);
            }
            Framing::ToTheEnd => (received.len(), Framing::ToTheEnd),
            Framing::Bytes(left) => {
                let bytes = received.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                (bytes, Framing::Bytes(left - bytes as u64))
            }
            Framing::Chunk(left) => {
                let bytes = received.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let left = left - bytes as u64;
                (bytes, if left == 0 { Framing::ChunkLine } else { Framing::Chunk(left) })
            }
            Framing::ChunkLine => {
                let blank = received.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
                let line = received.get(blank..).unwrap_or_default();
                let Some(end) = line.iter().take(MAX_CHUNK_LINE_BYTES).position(|byte| *byte == b'\n') else {
                    return if line.len() < MAX_CHUNK_LINE_BYTES { Ok(took) } else { Err(no_chunk()) };
                };
                let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
                let digits = std::str::from_utf8(line.get(..digits).unwrap_or_default()).unwrap_or_default();
                let length = u64::from_str_radix(digits, 16).map_err(|_| no_chunk())?;
                link.consume(blank + end + 1, What::Message);
                // Fields behind the last chunk are not waited for: the connection is closed instead.
                *framing = if length == 0 { Framing::Over } else { Framing::Chunk(length) };
                continue;
            }
        };
        if bytes == 0 {
            return Ok(took);
        }
        out.extend_from_slice(received.get(..bytes).unwrap_or_default());
        link.consume(bytes, What::Body);
        *framing = next;
        took = true;
    }
}

fn no_chunk() -> Error {
    Error::new(Kind::SourceLost, "the server's answer is not in the chunks that it speaks of")
}

fn framing(head: &Head) -> Body {
    let has = |name: &str, word: &str| {
        head.all(name).any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word)))
    };
    let content_type = head.get("content-type").unwrap_or_default().split(';').next().unwrap_or_default();
    let content_type = content_type.trim().to_ascii_lowercase();
    let (framing, whole) = if matches!(head.status(), Some(204 | 304)) {
        (Framing::Over, true)
    } else if has("transfer-encoding", "chunked") {
        (Framing::ChunkLine, false)
    } else {
        match head.content_length().filter(|length| *length > 0) {
            // A stream of parts has no length, whatever is said.
            Some(length) if !content_type.starts_with("multipart/") => (Framing::Bytes(length), true),
            _ => (Framing::ToTheEnd, false),
        }
    };
    let keeps = whole && head.line.starts_with("HTTP/1.1") && !has("connection", "close");
    Body { framing, content_type, keeps }
}

fn failed(words: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Kind::SourceConnection, words)
}
