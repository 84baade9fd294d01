//! Where the service is, and how to be let in: TCP, TLS or a Unix socket, with a token or a certificate.

use super::super::usage;
use crate::error::{Error, Kind, Result};
use crate::outbound::{Identity, Trust};
use crate::resolve;
use futures_rustls::rustls::pki_types::ServerName;
use futures_rustls::rustls::{self, ClientConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `init` answers when the model is loaded: a large one may have to be fetched first.
const REPLY_TIMEOUT: Duration = Duration::from_secs(600);
/// A machine that does not answer at all is given up sooner.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A reply larger than this is not one of ours.
const MAX_REPLY_BYTES: u32 = 16 << 20;
/// How a server of TLS begins to answer to anything else; as a length it would be far too large.
const TLS_ALERT: [u8; 2] = [21, 3];
/// As for the service: a token file larger than this is not one.
const MAX_TOKEN_FILE_BYTES: u64 = 64 << 10;

/// What the command line and the environment say of the connection.
#[derive(Debug, Default)]
pub(super) struct Connection {
    pub(super) address: Option<String>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) tls: bool,
    pub(super) cacert: Option<PathBuf>,
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Connection {
    /// What the command line leaves open, from the environment.
    pub(super) fn fill(&mut self) {
        let file = |field: &mut Option<PathBuf>, name| {
            *field = field.take().or_else(|| variable(name).map(PathBuf::from))
        };
        // A token that is named on the command line is meant.
        file(&mut self.token_file, "WEIR_TOKEN_FILE");
        file(&mut self.cacert, "WEIR_CACERT");
        file(&mut self.cert, "WEIR_CERT");
        file(&mut self.key, "WEIR_KEY");
        self.tls |= self.cacert.is_some() || self.cert.is_some() || self.key.is_some();
    }

    fn address(&self) -> String {
        let usual = || {
            let part = |name, usual: &str| variable(name).unwrap_or_else(|| usual.to_owned());
            format!("{}:{}", part("STREAM_MANAGER_HOST", "127.0.0.1"), part("STREAM_MANAGER_PORT", "7070"))
        };
        self.address.clone().or_else(|| variable("WEIR_ADDR")).unwrap_or_else(usual)
    }

    /// The token to show, if there is one.
    pub(super) fn token(&self) -> Result<Option<String>> {
        match &self.token_file {
            Some(file) => token_of(file).map(Some),
            None => Ok(variable("WEIR_TOKEN")),
        }
    }

    /// Sends one message and returns the reply.
    pub(super) fn exchange(&self, message: &str) -> Result<String> {
        let address = self.address();
        let unanswered = |cause: io::Error| {
            let why = cause.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            let why = why.map_or_else(|| plain(&cause), |error| crate::outbound::explain(error, &address));
            Error::new(Kind::Address, format!("no answer from {address}: {why}"))
        };
        if let Some(path) =
            address.strip_prefix("unix:").or_else(|| address.starts_with('/').then_some(address.as_str()))
        {
            let stream = UnixStream::connect(path).map_err(unanswered)?;
            stream.set_read_timeout(Some(REPLY_TIMEOUT)).map_err(unanswered)?;
            return talk(stream, message).map_err(unanswered);
        }
        let stream = dial(&address).map_err(unanswered)?;
        stream.set_nodelay(true).map_err(unanswered)?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT)).map_err(unanswered)?;
        if !self.tls {
            return talk(stream, message).map_err(|cause| match cause.kind() {
                // What a listener that wants TLS does with anything else.
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                    let why = plain(&cause);
                    Error::new(
                        Kind::Address,
                        format!("no answer from {address}: {why} (if it speaks TLS: --tls or --cacert FILE)"),
                    )
                }
                _ => unanswered(cause),
            });
        }
        let identity = match (&self.cert, &self.key) {
            (Some(certificate), Some(key)) => {
                Some(Identity { certificate: certificate.clone(), key: key.clone() })
            }
            (None, None) => None,
            _ => return Err(usage("--cert and --key go together")),
        };
        let trust = self.cacert.clone().map_or(Trust::System, Trust::File);
        let config = trust.client(identity.as_ref())?;
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
        let name = ServerName::try_from(host.trim_start_matches('[').trim_end_matches(']').to_owned());
        let name = name.map_err(|_| usage(format!("{host} is no name that a certificate could bear")))?;
        let connection =
            ClientConnection::new(config, name).map_err(|cause| unanswered(io::Error::other(cause)))?;
        talk(StreamOwned::new(connection, stream), message).map_err(unanswered)
    }
}

/// The first address that answers.
fn dial(address: &str) -> io::Result<TcpStream> {
    let (host, port) = address
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host, port.parse().ok()?)))
        .ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "it is no HOST:PORT, and `unix:` is not before it")
        })?;
    resolve::connect(host, port, CONNECT_TIMEOUT)
}

/// One message with its length before it, one reply.
fn talk(mut stream: impl Read + Write, message: &str) -> io::Result<String> {
    let length = u32::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), message.as_bytes()].concat())?;
    stream.flush()?;
    let mut header = [0; 4];
    stream.read_exact(&mut header)?;
    if header.starts_with(&TLS_ALERT) {
        return Err(io::Error::other("it speaks TLS: --tls, or --cacert FILE"));
    }
    let length = u32::from_be_bytes(header);
    if length > MAX_REPLY_BYTES {
        return Err(io::Error::other("the reply is too large: is that a weir?"));
    }
    let mut reply = vec![0; length as usize];
    stream.read_exact(&mut reply)?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}

/// Without the number of the error.
fn plain(cause: &io::Error) -> String {
    let said = cause.to_string();
    said.split(" (os error").next().unwrap_or(&said).to_owned()
}

/// The token that a file holds: the only word of its first line, or of a file in the service's own format the
/// first that may change something, else the first.
fn token_of(file: &Path) -> Result<String> {
    let unusable =
        |why: &str| Error::new(Kind::Configuration, format!("token file {}: {why}", file.display()));
    let mut text = String::new();
    let opened = std::fs::File::open(file).map_err(|cause| unusable(&plain(&cause)))?;
    opened.take(MAX_TOKEN_FILE_BYTES).read_to_string(&mut text).map_err(|cause| unusable(&plain(&cause)))?;
    let lines = text
        .lines()
        .map(|line| line.split_whitespace().take_while(|word| !word.starts_with('#')).collect::<Vec<_>>());
    let mut found: Option<String> = None;
    for words in lines.filter(|words| !words.is_empty()) {
        match words.as_slice() {
            [token] => return Ok((*token).to_owned()),
            [_, "control", token] => return Ok((*token).to_owned()),
            [_, "read", token] => found = found.or_else(|| Some((*token).to_owned())),
            _ => return Err(unusable("a line is a token, or NAME SCOPE TOKEN")),
        }
    }
    found.ok_or_else(|| unusable("it holds no token"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_token_file_is_a_word_or_the_service_s_own() {
        let file = std::env::temp_dir().join(format!("weir-token-{}", uuid::Uuid::new_v4()));
        for (text, token) in [
            ("hunter2\n", Some("hunter2")),
            ("# mine\n\n  hunter2  # since May\n", Some("hunter2")),
            ("board read aaaa\nops control bbbb\n", Some("bbbb")),
            ("board read aaaa\nother read bbbb\n", Some("aaaa")),
            ("a b", None),
            ("# nothing\n", None),
        ] {
            std::fs::write(&file, text).unwrap();
            let found = token_of(&file);
            assert_eq!(found.as_deref().ok(), token, "{text}");
            assert!(found.err().is_none_or(|error| !error.message().contains("hunter2")));
        }
        std::fs::remove_file(&file).unwrap();
        assert_eq!(token_of(&file).unwrap_err().kind(), Kind::Configuration);
    }
}
