//! The UDP sink: one socket per pipeline, names resolved off the loop.

use crate::command::SinkAddress;
use crate::error::{Error, Kind, Result, system};
use crate::resolve;
use async_net::UdpSocket;
use smol::Task;
use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

/// Send buffer of the socket, bytes: one datagram of the largest size, as the reference asks for.
const SEND_BUFFER_BYTES: usize = 65_536;
/// A resolved name is used this long before it is looked up again: receivers move, rarely.
const RESOLVED_FOR: Duration = Duration::from_secs(60);
/// After a failed look-up the next one waits this long, so that a dead name server is not asked for every frame.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// A first look-up that takes longer keeps no frame waiting any more; its answer is taken when it comes.
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
    /// Where the socket is connected to: only then does the kernel pass on that nobody listens there.
    connected: Cell<Option<SocketAddr>>,
    sent: Cell<u64>,
    failed: Cell<u64>,
    refused: Cell<u64>,
    /// Nobody has asked yet whether the last datagrams were refused.
    untold_refusal: Cell<bool>,
}

#[derive(Debug)]
struct Target {
    address: Option<SocketAddr>,
    /// No look-up before this.
    next_lookup: Instant,
    /// The look-up under way. One at a time: it holds a thread for as long as the name servers let it wait.
    lookup: Option<Task<Option<SocketAddr>>>,
}

impl Target {
    fn learn(&mut self, found: Option<SocketAddr>) {
        // A name that stops resolving keeps its last address.
        self.address = found.or(self.address);
        self.next_lookup = Instant::now() + if self.address.is_some() { RESOLVED_FOR } else { RETRY_AFTER };
    }
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
            target: RefCell::new(Target { address: literal, next_lookup: Instant::now(), lookup: None }),
            connected: Cell::new(None),
            sent: Cell::new(0),
            failed: Cell::new(0),
            refused: Cell::new(0),
            untold_refusal: Cell::new(false),
        })
    }

    /// Sends one payload. A failure is the caller's to report; the next call tries again (and resolves again).
    pub async fn send(&self, payload: &[u8]) -> Result<()> {
        let outcome = self.try_send(payload).await;
        let counter = if outcome.is_ok() { &self.sent } else { &self.failed };
        counter.set(counter.get() + 1);
        outcome
    }

    /// Payloads handed to the kernel, payloads lost, and refusals of the receiver's machine.
    pub fn counters(&self) -> (u64, u64, u64) {
        (self.sent.get(), self.failed.get(), self.refused.get())
    }

    /// Whether the receiver's machine has said since the last call that nobody listens there.
    pub fn was_refused(&self) -> bool {
        self.untold_refusal.take()
    }

    async fn deliver(&self, payload: &[u8], address: SocketAddr) -> std::io::Result<usize> {
        if self.connected.get() != Some(address) {
            self.socket.connect(address).await?;
            self.connected.set(Some(address));
        }
        let sent = self.socket.send(payload).await;
        match &sent {
            // That is the answer to a datagram before; this one has not gone yet.
            Err(cause) if cause.kind() == std::io::ErrorKind::ConnectionRefused => {
                self.refused.set(self.refused.get() + 1);
                self.untold_refusal.set(true);
                match self.socket.send(payload).await {
                    // One that is refused this fast counts as sent, as one that is refused a moment later.
                    Err(cause) if cause.kind() == std::io::ErrorKind::ConnectionRefused => Ok(payload.len()),
                    sent => sent,
                }
            }
            // The address it is sent from, or the way, may have changed: the next one is sent anew.
            Err(_) => {
                self.connected.set(None);
                sent
            }
            Ok(_) => sent,
        }
    }

    async fn try_send(&self, payload: &[u8]) -> Result<()> {
        let address = self.address().await?;
        let deadline = async {
            smol::Timer::after(SEND_TIMEOUT).await;
            Err(std::io::ErrorKind::TimedOut.into())
        };
        let sent = smol::future::or(self.deliver(payload, address), deadline).await;
        sent.map(drop).map_err(|cause| {
            // The name may point elsewhere by now.
            let mut target = self.target.borrow_mut();
            target.next_lookup = target.next_lookup.min(Instant::now() + RETRY_AFTER);
            Error::new(Kind::Sink, format!("cannot send to {}:{}: {cause}", self.host, self.port))
        })
    }

    /// The address to send to: the literal one, or the last that was found. Waits for a look-up only where there is none yet:
    /// no frame waits for a name server because a minute is over.
    async fn address(&self) -> Result<SocketAddr> {
        let mut lookup = {
            let target = &mut *self.target.borrow_mut();
            if let (true, Some(address)) = (self.literal, target.address) {
                return Ok(address);
            }
            let begins = target.lookup.is_none() && Instant::now() >= target.next_lookup;
            if begins {
                target.lookup = Some(self.look_up());
            }
            let is_answered = target.lookup.as_ref().is_some_and(Task::is_finished);
            // Who has an address and no answer goes on with it; who has none waits for the look-up it has just begun.
            let is_awaited = is_answered || (begins && target.address.is_none());
            match target.lookup.take_if(|_| is_awaited) {
                Some(lookup) => lookup,
                None => return target.address.ok_or_else(|| self.unresolved()),
            }
        };
        let deadline = async {
            smol::Timer::after(RESOLVE_TIMEOUT).await;
            None
        };
        let answer = smol::future::or(async { Some((&mut lookup).await) }, deadline).await;
        let mut target = self.target.borrow_mut();
        match answer {
            Some(found) => target.learn(found),
            // It may still come.
            None => target.lookup = Some(lookup),
        }
        target.address.ok_or_else(|| self.unresolved())
    }

    /// Asks for the name's address, on a thread. The socket is IPv4, as the reference's.
    fn look_up(&self) -> Task<Option<SocketAddr>> {
        let (host, port) = (self.host.clone(), self.port);
        smol::unblock(move || resolve::addresses(&host, port).ok()?.into_iter().find(SocketAddr::is_ipv4))
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
            assert_eq!(sink.counters(), (1, 0, 0));
        }
    }

    #[test]
    fn too_large_a_payload_is_an_error_and_counted() {
        let sink = sink("127.0.0.1", 9);
        let error = smol::block_on(sink.send(&vec![0; 70_000])).unwrap_err();
        assert_eq!(error.kind(), Kind::Sink);
        assert_eq!(sink.counters(), (0, 1, 0));
    }

    #[test]
    fn a_receiver_that_is_not_there_is_noticed_and_one_that_comes_later_gets_everything() {
        let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = receiver.local_addr().unwrap();
        let sink = sink("127.0.0.1", address.port());
        drop(receiver);
        // The refusal of a datagram comes, on this machine, before the next one is sent.
        for number in 0..10 {
            smol::block_on(sink.send(b"lost")).unwrap();
            assert_eq!(sink.was_refused(), number > 0, "{number}");
        }
        let receiver = std::net::UdpSocket::bind(address).unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        smol::block_on(sink.send(b"first")).unwrap();
        smol::block_on(sink.send(b"second")).unwrap();
        assert!(sink.was_refused(), "of the last one that was lost");
        for expected in ["first", "second"] {
            let mut buffer = [0; 16];
            let (length, _) = receiver.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], expected.as_bytes());
        }
        assert_eq!(sink.counters(), (12, 0, 10));
    }

    #[test]
    fn a_slow_look_up_delays_nothing_once_there_is_an_address() {
        let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let moved = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let sink = sink("localhost", receiver.local_addr().unwrap().port());
        smol::block_on(sink.send(b"first")).unwrap();
        let (answer, answered) = std::sync::mpsc::channel();
        let slow = smol::unblock(move || answered.recv().ok());
        {
            let mut target = sink.target.borrow_mut();
            (target.next_lookup, target.lookup) = (Instant::now(), Some(slow));
        }
        let start = Instant::now();
        smol::block_on(sink.send(b"second")).unwrap();
        assert!(start.elapsed() < RESOLVE_TIMEOUT, "{:?}", start.elapsed());
        assert!(sink.target.borrow().lookup.is_some(), "and no other was begun");
        answer.send(moved.local_addr().unwrap()).unwrap();
        moved.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let is_answered = || sink.target.borrow().lookup.as_ref().is_none_or(Task::is_finished);
        while !is_answered() {
            std::thread::yield_now();
        }
        smol::block_on(sink.send(b"third")).unwrap();
        let mut buffer = [0; 16];
        let (length, _) = moved.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"third");
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
