//! The UDP sink: one socket per pipeline, names resolved off the loop.

use crate::command::SinkAddress;
use crate::error::{Error, Kind, Result, system};
use async_net::UdpSocket;
use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

/// Send buffer of the socket, bytes: one datagram of the largest size, as the reference asks for.
const SEND_BUFFER_BYTES: usize = 65_536;
/// A resolved name is used this long before it is looked up again: receivers move, rarely.
const RESOLVED_FOR: Duration = Duration::from_secs(60);
/// After a failed look-up the next one waits this long, so that a dead name server is not asked for every frame.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// A look-up that takes longer has failed; the resolver's thread ends by itself.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Waiting for room in the socket's buffer longer than this means that the datagram is lost.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// Sends payloads to one address. Lives on the event loop.
#[derive(Debug)]
pub struct UdpSink {
    socket: UdpSocket,
    host: String,
    port: u16,
    /// The host is an address: nothing to look up, ever.
    literal: bool,
    target: RefCell<Target>,
    sent: Cell<u64>,
    failed: Cell<u64>,
}

#[derive(Debug, Clone)]
struct Target {
    address: Option<SocketAddr>,
    /// No look-up before this.
    next_lookup: Instant,
}

impl UdpSink {
    /// Opens a socket; the name is looked up with the first frame, so that an unresolvable host fails there, as documented.
    pub fn open(address: &SinkAddress) -> Result<UdpSink> {
        let socket =
            std::net::UdpSocket::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)).map_err(system("open a UDP socket"))?;
        socket.set_broadcast(true).map_err(system("allow broadcast"))?;
        socket.set_nonblocking(true).map_err(system("make a UDP socket non-blocking"))?;
        if let Err(cause) = rustix::net::sockopt::set_socket_send_buffer_size(&socket, SEND_BUFFER_BYTES) {
            log::warn!("sink=udp send_buffer={SEND_BUFFER_BYTES} error={cause}");
        }
        let socket = smol::Async::new(socket).map_err(system("watch a UDP socket"))?.into();
        let literal = address.host.parse::<Ipv4Addr>().ok().map(|ip| SocketAddr::from((ip, address.port)));
        Ok(UdpSink {
            socket,
            host: address.host.clone(),
            port: address.port,
            literal: literal.is_some(),
            target: RefCell::new(Target { address: literal, next_lookup: Instant::now() }),
            sent: Cell::new(0),
            failed: Cell::new(0),
        })
    }

    /// Sends one payload. A failure is the caller's to report; the next call tries again (and resolves again).
    pub async fn send(&self, payload: &[u8]) -> Result<()> {
        let outcome = self.try_send(payload).await;
        let counter = if outcome.is_ok() { &self.sent } else { &self.failed };
        counter.set(counter.get() + 1);
        outcome
    }

    /// Payloads handed to the kernel, and payloads lost.
    pub fn counters(&self) -> (u64, u64) {
        (self.sent.get(), self.failed.get())
    }

    async fn try_send(&self, payload: &[u8]) -> Result<()> {
        let address = self.address().await?;
        let deadline = async {
            smol::Timer::after(SEND_TIMEOUT).await;
            Err(std::io::ErrorKind::TimedOut.into())
        };
        let sent = smol::future::or(self.socket.send_to(payload, address), deadline).await;
        sent.map(drop).map_err(|cause| {
            // The name may point elsewhere by now. A literal address has nothing to look up.
            self.target.borrow_mut().next_lookup = Instant::now();
            Error::new(Kind::Sink, format!("cannot send to {}:{}: {cause}", self.host, self.port))
        })
    }

    /// The address to send to: the literal one, the cached one, or a fresh look-up.
    async fn address(&self) -> Result<SocketAddr> {
        let Target { address, next_lookup } = self.target.borrow().clone();
        let now = Instant::now();
        match address {
            Some(address) if self.literal || now < next_lookup => return Ok(address),
            None if now < next_lookup => return Err(self.unresolved()),
            _ => {}
        }
        let lookup = async { async_net::resolve((self.host.as_str(), self.port)).await.ok() };
        let deadline = async {
            smol::Timer::after(RESOLVE_TIMEOUT).await;
            None
        };
        let found = smol::future::or(lookup, deadline).await.unwrap_or_default();
        // The socket is IPv4, as the reference's. A name that stops resolving keeps its last address.
        let address = found.into_iter().find(SocketAddr::is_ipv4).or(address);
        let next_lookup = Instant::now() + if address.is_some() { RESOLVED_FOR } else { RETRY_AFTER };
        *self.target.borrow_mut() = Target { address, next_lookup };
        address.ok_or_else(|| self.unresolved())
    }

    fn unresolved(&self) -> Error {
        Error::new(Kind::Sink, format!("cannot resolve sink host {}", self.host))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sink(host: &str, port: u16) -> UdpSink {
        UdpSink::open(&SinkAddress { host: host.into(), port }).unwrap()
    }

    #[test]
    fn delivers_to_a_literal_and_to_a_name() {
        let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let port = receiver.local_addr().unwrap().port();
        for host in ["127.0.0.1", "localhost"] {
            let sink = sink(host, port);
            smol::block_on(sink.send(b"hello")).unwrap();
            let mut buffer = [0; 16];
            let (length, _) = receiver.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"hello");
            assert_eq!(sink.counters(), (1, 0));
        }
    }

    #[test]
    fn too_large_a_payload_is_an_error_and_counted() {
        let sink = sink("127.0.0.1", 9);
        let error = smol::block_on(sink.send(&vec![0; 70_000])).unwrap_err();
        assert_eq!(error.kind(), Kind::Sink);
        assert_eq!(sink.counters(), (0, 1));
    }

    #[test]
    fn an_unresolvable_host_is_not_asked_for_every_frame() {
        let sink = sink("no-such-host.invalid", 9);
        assert_eq!(smol::block_on(sink.send(b"x")).unwrap_err().kind(), Kind::Sink);
        let start = Instant::now();
        for _ in 0..100 {
            assert!(smol::block_on(sink.send(b"x")).is_err());
        }
        assert!(start.elapsed() < RETRY_AFTER, "the failure is remembered");
    }
}
