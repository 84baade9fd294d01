//! retina's end of the relay: a loopback port, and the one connection to it that knows its word.

use crate::capture::worker::net::{Head, parse_head};
use crate::error::{Error, Kind, Result, system};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::task::{Context, Poll};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

/// Connections that have not said the word yet. Others on this machine may try.
const MAX_STRANGERS: usize = 4;

/// Most bytes that wait to be read by retina: answers, none of which is larger than a description.
const MAX_UNSENT_BYTES: usize = 1024 * 1024;

/// The end of the relay that retina talks to.
pub(super) struct Player {
    /// Until the word has been said.
    listener: Option<TcpListener>,
    /// Of which, without a listener, there is one.
    connections: Vec<Connection>,
    /// The URL that only retina is told.
    url: String,
}

struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    unsent: Vec<u8>,
}

impl Player {
    /// Waits for retina at this URL.
    pub(super) async fn open() -> Result<(Player, Url)> {
        let failed = |cause| system("opening a loopback port")(cause);
        let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await {
            Ok(listener) => listener,
            Err(_) => TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.map_err(failed)?,
        };
        let address = listener.local_addr().map_err(failed)?;
        let url = Url::parse(&format!("rtsp://{address}/{}", uuid::Uuid::new_v4().simple()))
            .map_err(|cause| Error::new(Kind::System, "the loopback port has no URL").because(cause))?;
        Ok((Player { listener: Some(listener), connections: Vec::new(), url: url.to_string() }, url))
    }

    /// What stands after our own URL in another; `None`: it is another one altogether.
    pub(super) fn after_own<'a>(&self, uri: &'a str) -> Option<&'a str> {
        uri.strip_prefix(&self.url)
    }

    /// The next request; sends what waits meanwhile. Pending for ever once retina is gone.
    pub(super) fn poll_request(&mut self, context: &mut Context<'_>) -> Poll<Result<Head>> {
        while let Some(listener) = &self.listener {
            match listener.poll_accept(context) {
                Poll::Ready(Ok((stream, _))) => {
                    let _ = stream.set_nodelay(true);
                    if self.connections.len() >= MAX_STRANGERS {
                        self.connections.remove(0);
                    }
                    self.connections.push(Connection { stream, received: Vec::new(), unsent: Vec::new() });
                }
                Poll::Ready(Err(cause)) => {
                    return Poll::Ready(Err(system("waiting on a loopback port")(cause)));
                }
                Poll::Pending => break,
            }
        }
        let mut at = 0;
        while let Some(connection) = self.connections.get_mut(at) {
            match connection.poll(context) {
                Some(Ok(head)) => {
                    if self.listener.is_some() {
                        let uri = head.line.split(' ').nth(1).unwrap_or_default();
                        if uri != self.url {
                            self.connections.remove(at);
                            continue;
                        }
                        self.listener = None;
                        let known = self.connections.swap_remove(at);
                        self.connections = vec![known];
                    }
                    return Poll::Ready(Ok(head));
                }
                Some(Err(Gone)) if self.listener.is_some() => drop(self.connections.remove(at)),
                Some(Err(Gone)) | None => at += 1,
            }
        }
        Poll::Pending
    }

    /// Answers a request. Fields are written as they are: they hold nothing of the camera's that was not
    /// looked at.
    pub(super) fn answer(&mut self, number: u32, status: u16, fields: &str, body: &str) {
        let Some(connection) = self.connections.first_mut().filter(|_| self.listener.is_none()) else {
            return;
        };
        let reason = if status == 200 { "OK" } else { "Refused" };
        let head = format!(
            "RTSP/1.0 {status} {reason}\r\nCSeq: {number}\r\n{fields}Content-Length: {}\r\n\r\n",
            body.len()
        );
        if connection.unsent.len() + head.len() + body.len() <= MAX_UNSENT_BYTES {
            connection.unsent.extend_from_slice(head.as_bytes());
            connection.unsent.extend_from_slice(body.as_bytes());
        }
    }

    /// Sends what waits, as far as possible.
    pub(super) fn poll_write(&mut self, context: &mut Context<'_>) {
        for connection in &mut self.connections {
            connection.write(context);
        }
    }
}

/// The connection has ended, or what came over it is no request.
struct Gone;

impl Connection {
    /// The next request, if there is one.
    fn poll(&mut self, context: &mut Context<'_>) -> Option<Result<Head, Gone>> {
        self.write(context);
        loop {
            match parse_head(&self.received) {
                Ok(Some((head, length))) => {
                    self.received.drain(..length);
                    return Some(Ok(head));
                }
                Ok(None) => {}
                Err(_) => return Some(Err(Gone)),
            }
            if self.stream.poll_read_ready(context).is_pending() {
                return None;
            }
            match self.stream.try_read_buf(&mut self.received) {
                Ok(0) => return Some(Err(Gone)),
                Ok(_) => {}
                Err(cause) if cause.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return Some(Err(Gone)),
            }
        }
    }

    fn write(&mut self, context: &mut Context<'_>) {
        while !self.unsent.is_empty() && self.stream.poll_write_ready(context).is_ready() {
            match self.stream.try_write(&self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(cause) if cause.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.unsent.clear(),
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn only_who_knows_the_word_is_heard() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let talk = async {
            let (mut player, url) = Player::open().await.unwrap();
            let place = (url.host_str().unwrap().to_owned(), url.port().unwrap());
            let mut strangers = Vec::new();
            for request in ["DESCRIBE rtsp://127.0.0.1/x RTSP/1.0\r\n\r\n", "", "nothing"] {
                let mut stranger = TcpStream::connect(&place).await.unwrap();
                stranger.write_all(request.as_bytes()).await.unwrap();
                strangers.push(stranger);
            }
            let mut known = TcpStream::connect(&place).await.unwrap();
            known.write_all(format!("DESCRIBE {url} RTSP/1.0\r\nCSeq: 4\r\n\r\n").as_bytes()).await.unwrap();
            let head = poll_fn(|context| player.poll_request(context)).await.unwrap();
            assert_eq!(head.get("cseq"), Some("4"));
            player.answer(4, 200, "", "x");
            let answered = async {
                let mut answer = [0; 64];
                let got = known.read(&mut answer).await.unwrap();
                String::from_utf8_lossy(&answer[..got]).into_owned()
            };
            let mut answered = std::pin::pin!(answered);
            let answer = poll_fn(|context| {
                player.poll_write(context);
                answered.as_mut().poll(context)
            });
            assert_eq!(answer.await, "RTSP/1.0 200 OK\r\nCSeq: 4\r\nContent-Length: 1\r\n\r\nx");
            for mut stranger in strangers {
                assert!(matches!(stranger.read(&mut [0]).await, Ok(0) | Err(_)));
            }
        };
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), talk).await.unwrap() });
    }
}
