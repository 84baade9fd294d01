//! The connection to the broker: TCP, or TLS over it.

use super::MqttSettings;
use crate::clock::within;
use crate::outbound;
use crate::resolve;
use async_net::TcpStream;
use futures_rustls::TlsConnector;
use futures_rustls::client::TlsStream;
use futures_rustls::rustls::{self, pki_types::ServerName};
use smol::io::{AsyncRead, AsyncWrite};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Longest look-up of a name, connection to one address, and handshake of TLS.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried at most.
const MAX_ADDRESSES: usize = 4;

/// The connection to the broker, with or without TLS.
pub(super) enum Stream {
    Clear(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Connects; an error is said in words, with whom it went wrong.
pub(super) async fn dial(settings: &MqttSettings) -> Result<Stream, String> {
    let MqttSettings { host, port, .. } = settings;
    let unknown = |why: &str| {
        format!("the name of {host} cannot be resolved ({why}): look at mqtt.host and /etc/resolv.conf")
    };
    let found =
        within(DIAL_TIMEOUT, resolve::lookup(host, *port)).await.ok_or_else(|| unknown("no answer"))?;
    let addresses = found.map_err(|cause| unknown(&cause.to_string()))?;
    let mut last = unknown("it has no address");
    for address in addresses.into_iter().take(MAX_ADDRESSES) {
        match connect(address).await {
            Ok(stream) => return encrypt(stream, settings).await,
            Err(cause) => last = format!("cannot connect to {address}: {}", plain(&cause)),
        }
    }
    Err(last)
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let connected = within(DIAL_TIMEOUT, TcpStream::connect(address)).await;
    let stream = connected.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))?;
    // What is written is written in packets already.
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn encrypt(stream: TcpStream, settings: &MqttSettings) -> Result<Stream, String> {
    let MqttSettings { host, tls, .. } = settings;
    let Some(tls) = tls else { return Ok(Stream::Clear(stream)) };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let name = ServerName::try_from(bare.to_owned())
        .map_err(|_| format!("{host} is no name that a certificate could bear"))?;
    let handshake = TlsConnector::from(tls.clone()).connect(name, stream);
    let agreed = within(DIAL_TIMEOUT, handshake).await.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()));
    agreed.map(|stream| Stream::Tls(Box::new(stream))).map_err(|cause| in_words(&cause, host))
}

/// What an I/O error on an encrypted connection means.
pub(super) fn in_words(cause: &io::Error, host: &str) -> String {
    match cause.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => {
            format!(
                "{host} ends the agreement on TLS ({alert:?}): look at mqtt.certificate and mqtt.key, which it may want"
            )
        }
        Some(error) => outbound::explain(error, host).replace("models.ca_file", "mqtt.ca_file"),
        None if cause.kind() == io::ErrorKind::TimedOut => format!("{host} does not answer"),
        None => format!("{host} broke off: {}", plain(cause)),
    }
}

/// `Connection refused` of `Connection refused (os error 111)`.
fn plain(cause: &io::Error) -> String {
    if cause.kind() == io::ErrorKind::TimedOut {
        return "no answer".to_owned();
    }
    let said = cause.to_string();
    said.split(" (os error").next().unwrap_or(&said).to_owned()
}

impl Stream {
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Stream::Clear(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }

    pub(super) fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Stream::Clear(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Clear(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }
}
