//! Length-prefixed messages on a stream: read exactly, bounded in size and time.

use std::io;
use std::time::{Duration, Instant};

use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::message::HEADER_BYTES;
use crate::clock::within;
use crate::error::{Error, Kind, Result};
use crate::schema::python;

/// Bytes asked for at once: the reference's chunk, and more than any usual request.
const CHUNK_BYTES: usize = 16 << 10;

/// How long unread bytes are thrown away before the connection is closed. Closing on top of unread bytes
/// resets the connection, and the reset can overtake the reply.
const LINGER: Duration = Duration::from_secs(1);

/// Most bytes thrown away; who sends more has had its reply by then or never looks for it.
const MAX_LINGER_BYTES: usize = 8 << 20;

/// How long a client may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For each read or write to make progress.
    pub step: Duration,
    /// For the whole message.
    pub deadline: Instant,
}

impl Patience {
    async fn bound<T>(self, step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let limit = self.step.min(self.deadline.saturating_duration_since(Instant::now()));
        within(limit, step).await.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// The body of the next message. Bytes behind it are not looked at.
pub(super) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    patience: Patience,
    max_bytes: usize,
) -> Result<Vec<u8>> {
    let mut received = Vec::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut wanted = HEADER_BYTES;
    let mut length = None;
    while received.len() < wanted {
        let count = patience.bound(stream.read(&mut chunk)).await.map_err(broken)?;
        if count == 0 {
            return Err(cut_short(&received));
        }
        // What is behind the message is not kept.
        let kept = if length.is_some() { count.min(wanted - received.len()) } else { count };
        received.extend_from_slice(chunk.get(..kept).unwrap_or_default());
        if let (None, Some(header)) = (length, received.first_chunk::<HEADER_BYTES>()) {
            let bytes = usize::try_from(u32::from_be_bytes(*header)).unwrap_or(usize::MAX);
            check_length(bytes, max_bytes)?;
            wanted = HEADER_BYTES + bytes;
            // Once, and exactly: growing by doubling would take twice the limit. Pages not yet written cost
            // nothing.
            received.reserve_exact(wanted);
            length = Some(bytes);
        }
    }
    received.truncate(wanted);
    received.drain(..HEADER_BYTES);
    Ok(received)
}

fn check_length(bytes: usize, max_bytes: usize) -> Result<()> {
    if bytes == 0 {
        return Err(Error::new(Kind::MalformedHeader, "Header is indicating non positive payload size: 0"));
    }
    if bytes > max_bytes {
        return Err(Error::new(
            Kind::TooLarge,
            format!("Payload of {bytes} bytes is larger than the limit of {max_bytes} bytes"),
        ));
    }
    Ok(())
}

fn cut_short(received: &[u8]) -> Error {
    if received.len() < HEADER_BYTES {
        let shown = python::repr_bytes(received);
        return Error::new(
            Kind::MalformedHeader,
            format!("Expected header size: {HEADER_BYTES}, received: {shown}"),
        );
    }
    Error::new(Kind::ChannelClosed, "Socket was closed to read before payload was decoded.")
}

fn broken(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::TimedOut => Error::new(Kind::TimedOut, "timed out"),
        _ => Error::new(Kind::ChannelClosed, "Socket was closed to read before payload was decoded.")
            .because(error),
    }
}

/// Sends all of `bytes`.
pub(super) async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    patience: Patience,
    mut bytes: &[u8],
) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = patience.bound(stream.write(bytes)).await?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(count..).unwrap_or_default();
    }
    patience.bound(stream.flush()).await
}

/// Says that nothing more will come, then throws away what the client still sends, within bounds.
pub(super) async fn close(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    let patience = Patience { step: LINGER, deadline: Instant::now() + LINGER };
    patience.bound(stream.close()).await?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut thrown_away = 0;
    while thrown_away < MAX_LINGER_BYTES {
        match patience.bound(stream.read(&mut chunk)).await? {
            0 => break,
            count => thrown_away += count,
        }
    }
    Ok(())
}
