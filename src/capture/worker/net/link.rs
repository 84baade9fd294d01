//! A connection to a camera, plain or inside TLS, as bytes that came and bytes that shall go.
//!
//! Nothing here waits but [`Link::exchange`], which may be dropped at any time without losing a byte: sources
//! wait for a tenth of a second at a time, to hear their parent in between.

use super::tls;
use crate::capture::worker::record::{Connection, What};
use crate::error::{Error, Kind, Result};
use rustls::{ClientConfig, ClientConnection};
use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::net::TcpStream;

/// Bytes asked of the kernel at a time: some packets of a key frame.
const CHUNK_BYTES: usize = 64 * 1024;

/// Most bytes that wait to be sent. Requests are small: a server that takes none of them for so long is gone.
const MAX_UNSENT_BYTES: usize = 256 * 1024;

/// A connection to a camera, plain or inside TLS, and the bytes on their way.
pub(in crate::capture::worker) struct Link {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    received: Vec<u8>,
    /// So many bytes of `received` have been used.
    used: usize,
    unsent: Vec<u8>,
    record: Connection,
}

impl Link {
    /// A connection to `host` as it is, or the beginning of TLS over it. The handshake is made as bytes are
    /// exchanged. `record`: where what is said is recorded, TLS or not.
    pub(in crate::capture::worker) fn new(
        stream: TcpStream,
        host: &str,
        config: Option<&Arc<ClientConfig>>,
        record: Connection,
    ) -> Result<Link> {
        let tls = match config {
            Some(config) => Some(Box::new(tls::connection(host.trim_matches(['[', ']']), config)?)),
            None => None,
        };
        Ok(Link { stream, tls, received: Vec::new(), used: 0, unsent: Vec::new(), record })
    }

    /// What came and has not been used.
    pub(in crate::capture::worker) fn received(&self) -> &[u8] {
        self.received.get(self.used..).unwrap_or_default()
    }

    /// So many bytes of [`Link::received`] are done with, and what they were.
    pub(in crate::capture::worker) fn consume(&mut self, bytes: usize, what: What) {
        self.record.received(self.received.get(self.used..self.used + bytes).unwrap_or_default(), what);
        self.used = (self.used + bytes).min(self.received.len());
        if self.used == self.received.len() {
            self.received.clear();
            self.used = 0;
        } else if self.used >= CHUNK_BYTES {
            self.received.drain(..self.used);
            self.used = 0;
        }
    }

    /// Sends this, as soon as [`Link::exchange`] is waited for.
    pub(in crate::capture::worker) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        if self.unsent.len() + bytes.len() > MAX_UNSENT_BYTES {
            return Err(Error::new(Kind::SourceStalled, "the camera does not take what it is sent"));
        }
        self.record.sent(bytes);
        match &mut self.tls {
            None => self.unsent.extend_from_slice(bytes),
            Some(tls) => tls.writer().write_all(bytes).map_err(broke)?,
        }
        Ok(())
    }

    fn wants_to_write(&self) -> bool {
        !self.unsent.is_empty() || self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Sends what waits, until something has come: true; false: the other end has closed.
    pub(in crate::capture::worker) async fn exchange(&mut self) -> Result<bool> {
        std::future::poll_fn(|context| self.poll_exchange(context)).await
    }

    /// One step of [`Link::exchange`]: writes and reads what goes without waiting.
    pub(in crate::capture::worker) fn poll_exchange(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<bool>> {
        while self.wants_to_write() {
            match self.stream.poll_write_ready(context) {
                Poll::Pending => break,
                Poll::Ready(ready) => ready.map_err(broke)?,
            }
            // What cannot be written now clears the readiness: the next turn waits for it.
            self.write()?;
        }
        loop {
            ready!(self.stream.poll_read_ready(context)).map_err(broke)?;
            match self.read()? {
                Some(0) => {
                    self.record.ended();
                    return Poll::Ready(Ok(false));
                }
                Some(_) => return Poll::Ready(Ok(true)),
                None => {}
            }
        }
    }

    fn write(&mut self) -> Result<()> {
        let mut stream = Now(&self.stream);
        while self.tls.as_ref().is_some_and(|tls| tls.wants_write()) {
            let Some(tls) = &mut self.tls else { break };
            match tls.write_tls(&mut stream) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(broke(error)),
            }
        }
        while !self.unsent.is_empty() {
            match stream.write(&self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(broke(error)),
            }
        }
        Ok(())
    }

    /// How many bytes came; `None`: none that say something to us.
    fn read(&mut self) -> Result<Option<usize>> {
        let Some(tls) = &mut self.tls else {
            self.received.reserve(CHUNK_BYTES);
            return match self.stream.try_read_buf(&mut self.received) {
                Ok(got) => Ok(Some(got)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
                Err(error) => Err(broke(error)),
            };
        };
        match tls.read_tls(&mut Now(&self.stream)) {
            Ok(0) => return Ok(Some(0)),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(broke(error)),
        }
        let state = tls.process_new_packets().map_err(tls::failed)?;
        let before = self.received.len();
        let ready = state.plaintext_bytes_to_read();
        self.received.resize(before + ready, 0);
        let got = tls.reader().read(self.received.get_mut(before..).unwrap_or_default());
        let got = got
            .or_else(|error| if error.kind() == ErrorKind::WouldBlock { Ok(0) } else { Err(broke(error)) })?;
        self.received.truncate(before + got);
        // What the handshake has to say goes at once.
        let closed = state.peer_has_closed();
        self.write()?;
        Ok(if got > 0 || closed { Some(got) } else { None })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.record.close(self.received.get(self.used..).unwrap_or_default());
    }
}

/// Reads and writes what is possible now.
struct Now<'a>(&'a TcpStream);

impl Read for Now<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        self.0.try_read(out)
    }
}

impl Write for Now<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn broke(cause: std::io::Error) -> Error {
    Error::new(Kind::SourceLost, "the connection broke").because(cause)
}
