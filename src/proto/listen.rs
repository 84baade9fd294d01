//! Where clients come from: one listener and one stream type for TCP and Unix sockets.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_net::{TcpListener, TcpStream, unix};
use futures_lite::{AsyncRead, AsyncWrite};
use futures_rustls::server::TlsStream;
use ring::digest;
use rustix::net::sockopt::socket_peercred;

use super::who::Who;

/// A bound socket a listener accepts connections from.
#[derive(Debug)]
pub enum Listener {
    /// TCP, IPv4 or IPv6.
    Tcp(TcpListener),
    /// A Unix socket; who may open its file may speak.
    Unix(unix::UnixListener),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Listener::Tcp(listener)
    }
}

impl From<unix::UnixListener> for Listener {
    fn from(listener: unix::UnixListener) -> Self {
        Listener::Unix(listener)
    }
}

impl Listener {
    /// The next connection, and its address if it has one.
    pub(super) async fn accept(&self) -> io::Result<(Stream, Option<IpAddr>)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Replies are one write each; without this a reply after a short request waits for the
                // client's ACK.
                stream.set_nodelay(true)?;
                Ok((Stream::Tcp(stream), Some(address.ip().to_canonical())))
            }
            Listener::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), None))
            }
        }
    }
}

/// A connection that a listener accepted.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(unix::UnixStream),
    /// Boxed: its buffers make it many times the size of the others.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// The end must be said, or the client takes it for an attack.
    pub(super) fn is_encrypted(&self) -> bool {
        matches!(self, Stream::Tls(_))
    }

    /// The socket of a connection over TCP, for what it can be told beside reading and writing.
    pub(super) fn tcp(&self) -> Option<TcpStream> {
        match self {
            Stream::Tcp(stream) => Some(stream.clone()),
            Stream::Tls(stream) => Some(stream.get_ref().0.clone()),
            Stream::Unix(_) => None,
        }
    }

    /// Who the client is, where the connection itself proves it: by a certificate, or by having been able to
    /// open a Unix socket.
    pub(super) fn proved(&self) -> Option<Who> {
        match self {
            Stream::Tls(stream) => {
                let certificate = stream.get_ref().1.peer_certificates()?.first()?;
                let hash = digest::digest(&digest::SHA256, certificate);
                hash.as_ref().first_chunk().map(|fingerprint| Who::Certificate(*fingerprint))
            }
            // The kernel knows who opened it.
            Stream::Unix(stream) => {
                Some(socket_peercred(stream).map_or(Who::Anyone, |peer| Who::User(peer.uid.as_raw())))
            }
            Stream::Tcp(_) => None,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_close(context),
            Stream::Unix(stream) => Pin::new(stream).poll_close(context),
            Stream::Tls(stream) => Pin::new(stream).poll_close(context),
        }
    }
}
