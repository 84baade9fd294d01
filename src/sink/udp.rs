//! The UDP sink: one socket per pipeline, names resolved off the loop.

use super::delivery::Delivery;
use super::{Asked, Counters, KindOfSink, Open, Outlets};
use crate::clock::within;
use crate::error::{Error, Kind as ErrorKind, Result, system};
use crate::hosts::split_zone;
use crate::json::{Object, Value};
use crate::resolve;
use crate::schema::{Field, Kind, invalid, python};
use async_net::UdpSocket;
use smol::Task;
use std::cell::{Cell, OnceCell, RefCell};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Send buffer of the socket, bytes: one datagram of the largest size, as the reference asks for.
const SEND_BUFFER_BYTES: usize = 65_536;
/// A resolved name is used this long before it is looked up again: receivers move, rarely.
const RESOLVED_FOR: Duration = Duration::from_secs(60);
/// After a failed look-up the next one waits this long, so that a dead name server is not asked for every
/// frame.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// A first look-up that takes longer keeps no frame waiting any more; its answer is taken when it comes.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Waiting for room in the socket's buffer longer than this means that the datagram is lost.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest host name in bytes (RFC 1035).
const MAX_HOST_BYTES: usize = 253;

const HOST: Field =
    Field::required("host", Kind::Host, "Host name or address of the receiver.").called("sink host");
const PORT: Field =
    Field::required("port", Kind::Integer { least: 1, most: Some(65_535) }, "UDP port of the receiver")
        .called("sink port");

/// What is asked for: a datagram for each frame. The name is resolved when frames flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpSink {
    /// Host name or IPv4 address.
    pub host: String,
    /// Port that datagrams go to, 1..65535.
    pub port: u16,
}

impl Asked for UdpSink {
    type Open = UdpSender;

    const KIND: KindOfSink = KindOfSink {
        name: "udp_sink",
        schema: "UDPSinkConfiguration",
        fields: &[HOST, PORT],
        is_offered: true,
        from_flag,
    };

    fn read(given: &Object) -> Result<UdpSink> {
        let (host, port) = (HOST.value(given)?, PORT.value(given)?);
        let Value::String(host) = host else { return Err(HOST.refuse(host)) };
        if !is_host(host) {
            return Err(invalid(format!(
                "{} is not a host name or address",
                python::repr(&Value::from(host.as_str()))
            )));
        }
        let number = PORT.integer(given)?.and_then(|port| u16::try_from(port).ok());
        Ok(UdpSink { host: host.clone(), port: number.ok_or_else(|| PORT.refuse(port))? })
    }

    fn write(&self, to: &mut Object) {
        to.push(HOST.name, Value::from(self.host.as_str()));
        to.push(PORT.name, Value::Integer(i128::from(self.port)));
    }

    fn open(&self, _: &Outlets, _: Uuid) -> Result<UdpSender> {
        UdpSender::open(self)
    }

    fn named(&self) -> String {
        format!("udp://{}:{}", self.host, self.port)
    }

    fn host(&self) -> Option<&str> {
        Some(&self.host)
    }
}

/// `HOST:PORT`, with or without `udp://`.
fn from_flag(text: &str) -> Option<Object> {
    let (host, port) = text.strip_prefix("udp://").unwrap_or(text).rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = port.parse().ok().filter(|_| is_host(&host))?;
    let mut members = Object::default();
    UdpSink { host, port }.write(&mut members);
    Some(members)
}

/// A name the resolver could know, or an address. Underscores are no host names by the book, but names in
/// container networks have them.
fn is_host(host: &str) -> bool {
    let (address, _) = split_zone(host.trim_start_matches('[').trim_end_matches(']'));
    if address.parse::<Ipv6Addr>().is_ok() {
        return true;
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let good_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let all_digits = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let good_address = !all_digits || name.parse::<Ipv4Addr>().is_ok();
    host.len() <= MAX_HOST_BYTES && good_address && name.split('.').all(good_label)
}

/// Sends payloads to one address. Lives on the event loop.
#[derive(Debug)]
pub struct UdpSender {
    /// For IPv4, and for IPv6 once there is such an address to send to.
    sockets: [OnceCell<UdpSocket>; 2],
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
    lookup: Option<Lookup>,
}

#[derive(Debug)]
struct Lookup {
    task: Task<Option<SocketAddr>>,
    begun: Instant,
}

impl Lookup {
    /// How long a frame may still wait for it.
    fn patience(&self) -> Duration {
        RESOLVE_TIMEOUT.saturating_sub(self.begun.elapsed())
    }
}

impl Target {
    fn learn(&mut self, found: Option<SocketAddr>) {
        // A name that stops resolving keeps its last address.
        self.address = found.or(self.address);
        self.next_lookup = Instant::now() + if self.address.is_some() { RESOLVED_FOR } else { RETRY_AFTER };
    }
}

impl UdpSender {
    /// Opens a socket; the name is looked up with the first frame, so that an unresolvable host fails there,
    /// as documented.
    fn open(asked: &UdpSink) -> Result<UdpSender> {
        let host = asked.host.trim_start_matches('[').trim_end_matches(']');
        let literal = host.parse::<IpAddr>().ok().map(|ip| SocketAddr::from((ip.to_canonical(), asked.port)));
        let sockets = [OnceCell::new(), OnceCell::new()];
        // A name that has both kinds of address is sent to as the reference does.
        let is_ipv6 = literal.is_some_and(|literal| literal.is_ipv6());
        socket(&sockets, is_ipv6)?;
        Ok(UdpSender {
            sockets,
            host: asked.host.clone(),
            port: asked.port,
            literal: literal.is_some(),
            target: RefCell::new(Target { address: literal, next_lookup: Instant::now(), lookup: None }),
            connected: Cell::new(None),
            sent: Cell::new(0),
            failed: Cell::new(0),
            refused: Cell::new(0),
            untold_refusal: Cell::new(false),
        })
    }

    /// Sends one payload. A failure is the caller's to report; the next call tries again (and resolves
    /// again).
    async fn pass_on(&self, payload: &[u8]) -> Result<()> {
        let outcome = self.try_send(payload).await;
        let counter = if outcome.is_ok() { &self.sent } else { &self.failed };
        counter.set(counter.get() + 1);
        outcome
    }

    async fn deliver(&self, payload: &[u8], address: SocketAddr) -> std::io::Result<usize> {
        let socket = socket(&self.sockets, address.is_ipv6()).map_err(std::io::Error::other)?;
        if self.connected.get() != Some(address) {
            socket.connect(address).await?;
            self.connected.set(Some(address));
        }
        let sent = socket.send(payload).await;
        match &sent {
            // That is the answer to a datagram before; this one has not gone yet.
            Err(cause) if cause.kind() == std::io::ErrorKind::ConnectionRefused => {
                self.refused.set(self.refused.get() + 1);
                self.untold_refusal.set(true);
                match socket.send(payload).await {
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
        let sent = within(SEND_TIMEOUT, self.deliver(payload, address)).await;
        sent.unwrap_or_else(|| Err(std::io::ErrorKind::TimedOut.into())).map(drop).map_err(|cause| {
            // The name may point elsewhere by now.
            let mut target = self.target.borrow_mut();
            target.next_lookup = target.next_lookup.min(Instant::now() + RETRY_AFTER);
            Error::told(ErrorKind::Sink, format_args!("cannot send to {}:{}", self.host, self.port), cause)
        })
    }

    /// The address to send to: the literal one, or the last that was found. Waits for a look-up only where
    /// there is none yet: no frame waits for a name server because a minute is over.
    async fn address(&self) -> Result<SocketAddr> {
        self.begin_look_up();
        let mut lookup = {
            let target = &mut *self.target.borrow_mut();
            if let (true, Some(address)) = (self.literal, target.address) {
                return Ok(address);
            }
            // Who has an address and no answer goes on with it; who has none waits for what is left of the
            // look-up's time, which all sinks of a pipeline have begun together.
            let has_none = target.address.is_none();
            let is_awaited = |lookup: &mut Lookup| {
                lookup.task.is_finished() || (has_none && lookup.patience() > Duration::ZERO)
            };
            match target.lookup.take_if(is_awaited) {
                Some(lookup) => lookup,
                None => return target.address.ok_or_else(|| self.unresolved()),
            }
        };
        let answer = within(lookup.patience(), &mut lookup.task).await;
        let mut target = self.target.borrow_mut();
        match answer {
            Some(found) => target.learn(found),
            // It may still come.
            None => target.lookup = Some(lookup),
        }
        target.address.ok_or_else(|| self.unresolved())
    }

    /// Begins to look the name up, if that is due.
    fn begin_look_up(&self) {
        let target = &mut *self.target.borrow_mut();
        if !self.literal && target.lookup.is_none() && Instant::now() >= target.next_lookup {
            target.lookup = Some(Lookup { task: self.look_up(), begun: Instant::now() });
        }
    }

    /// Asks for the name's address, on a thread: of IPv4 where it has one, as the reference does.
    fn look_up(&self) -> Task<Option<SocketAddr>> {
        let (host, port) = (self.host.clone(), self.port);
        smol::unblock(move || {
            let found = resolve::addresses(&host, port).ok()?;
            found.iter().find(|address| address.is_ipv4()).or(found.first()).copied()
        })
    }

    fn unresolved(&self) -> Error {
        Error::new(ErrorKind::Sink, format!("cannot resolve sink host {}", self.host))
    }
}

impl Open for UdpSender {
    fn begin(&self) {
        self.begin_look_up();
    }

    async fn send(&self, delivery: &Delivery<'_>) -> Result<()> {
        self.pass_on(delivery.datagram()).await
    }

    fn counters(&self) -> Counters {
        Counters { sent: self.sent.get(), failed: self.failed.get(), refused: self.refused.get() }
    }

    fn was_refused(&self) -> bool {
        self.untold_refusal.take()
    }
}

/// The socket for addresses of one kind, opened when there is the first.
fn socket(sockets: &[OnceCell<UdpSocket>; 2], is_ipv6: bool) -> Result<&UdpSocket> {
    let [ipv4, ipv6] = sockets;
    let (cell, any) = match is_ipv6 {
        false => (ipv4, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        true => (ipv6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    };
    if let Some(socket) = cell.get() {
        return Ok(socket);
    }
    let socket = std::net::UdpSocket::bind((any, 0)).map_err(system("open a UDP socket"))?;
    if !is_ipv6 {
        socket.set_broadcast(true).map_err(system("allow broadcast"))?;
    }
    socket.set_nonblocking(true).map_err(system("make a UDP socket non-blocking"))?;
    if let Err(cause) = rustix::net::sockopt::set_socket_send_buffer_size(&socket, SEND_BUFFER_BYTES) {
        log::warn!("sink=udp send_buffer={SEND_BUFFER_BYTES} error={cause}");
    }
    let socket = smol::Async::new(socket).map_err(system("watch a UDP socket"))?.into();
    Ok(cell.get_or_init(|| socket))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sink(host: &str, port: u16) -> UdpSender {
        UdpSender::open(&UdpSink { host: host.into(), port }).unwrap()
    }

    #[test]
    fn delivers_to_ipv6_with_brackets_and_without() {
        let Ok(receiver) = std::net::UdpSocket::bind("[::1]:0") else {
            return println!("this machine has no IPv6");
        };
        receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let port = receiver.local_addr().unwrap().port();
        for host in ["::1", "[::1]"] {
            smol::block_on(sink(host, port).pass_on(b"hello")).unwrap();
            assert_eq!(receiver.recv_from(&mut [0; 16]).unwrap().0, 5);
        }
    }

    #[test]
    fn delivers_to_a_literal_and_to_a_name() {
        let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let port = receiver.local_addr().unwrap().port();
        for host in ["127.0.0.1", "localhost"] {
            let sink = sink(host, port);
            smol::block_on(sink.pass_on(b"hello")).unwrap();
            let mut buffer = [0; 16];
            let (length, _) = receiver.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"hello");
            assert_eq!(sink.counters(), Counters { sent: 1, ..Counters::default() });
        }
    }

    #[test]
    fn too_large_a_payload_is_an_error_and_counted() {
        let sink = sink("127.0.0.1", 9);
        let error = smol::block_on(sink.pass_on(&vec![0; 70_000])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Sink);
        assert_eq!(sink.counters(), Counters { failed: 1, ..Counters::default() });
    }

    #[test]
    fn a_receiver_that_is_not_there_is_noticed_and_one_that_comes_later_gets_everything() {
        let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = receiver.local_addr().unwrap();
        let sink = sink("127.0.0.1", address.port());
        drop(receiver);
        // The refusal of a datagram comes, on this machine, before the next one is sent.
        for number in 0..10 {
            smol::block_on(sink.pass_on(b"lost")).unwrap();
            assert_eq!(sink.was_refused(), number > 0, "{number}");
        }
        let receiver = std::net::UdpSocket::bind(address).unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        smol::block_on(sink.pass_on(b"first")).unwrap();
        smol::block_on(sink.pass_on(b"second")).unwrap();
        assert!(sink.was_refused(), "of the last one that was lost");
        for expected in ["first", "second"] {
            let mut buffer = [0; 16];
            let (length, _) = receiver.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], expected.as_bytes());
        }
        assert_eq!(sink.counters(), Counters { sent: 12, failed: 0, refused: 10 });
    }

    #[test]
    fn a_slow_look_up_delays_nothing_once_there_is_an_address() {
        let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let moved = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let sink = sink("localhost", receiver.local_addr().unwrap().port());
        smol::block_on(sink.pass_on(b"first")).unwrap();
        let (answer, answered) = std::sync::mpsc::channel();
        let slow = Lookup { task: smol::unblock(move || answered.recv().ok()), begun: Instant::now() };
        {
            let mut target = sink.target.borrow_mut();
            (target.next_lookup, target.lookup) = (Instant::now(), Some(slow));
        }
        let start = Instant::now();
        smol::block_on(sink.pass_on(b"second")).unwrap();
        assert!(start.elapsed() < RESOLVE_TIMEOUT, "{:?}", start.elapsed());
        assert!(sink.target.borrow().lookup.is_some(), "and no other was begun");
        answer.send(moved.local_addr().unwrap()).unwrap();
        moved.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let is_answered =
            || sink.target.borrow().lookup.as_ref().is_none_or(|lookup| lookup.task.is_finished());
        while !is_answered() {
            std::thread::yield_now();
        }
        smol::block_on(sink.pass_on(b"third")).unwrap();
        let mut buffer = [0; 16];
        let (length, _) = moved.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"third");
    }

    #[test]
    fn sinks_of_one_pipeline_are_looked_up_together_and_wait_no_longer_than_one() {
        let sinks: Vec<UdpSender> = (0..8).map(|_| sink("no-such-host.invalid", 9)).collect();
        sinks.iter().for_each(Open::begin);
        assert!(sinks.iter().all(|sink| sink.target.borrow().lookup.is_some()), "all at once");
        // A name server that does not answer, asked for all of them just before the limit.
        let (left, executor) = (Duration::from_millis(200), smol::Executor::new());
        for sink in &sinks {
            let begun = Instant::now().checked_sub(RESOLVE_TIMEOUT - left).unwrap();
            let (task, silent) = (executor.spawn(std::future::pending()), &mut *sink.target.borrow_mut());
            silent.lookup = Some(Lookup { task, begun });
        }
        let start = Instant::now();
        for sink in &sinks {
            assert!(smol::block_on(sink.pass_on(b"x")).is_err());
            assert!(smol::block_on(sink.pass_on(b"x")).is_err(), "and the next frame does not wait again");
        }
        assert!((left / 2..RESOLVE_TIMEOUT / 2).contains(&start.elapsed()), "{:?}", start.elapsed());
    }

    #[test]
    fn an_unresolvable_host_is_not_asked_for_every_frame() {
        let sink = sink("no-such-host.invalid", 9);
        assert_eq!(smol::block_on(sink.pass_on(b"x")).unwrap_err().kind(), ErrorKind::Sink);
        let start = Instant::now();
        for _ in 0..100 {
            assert!(smol::block_on(sink.pass_on(b"x")).is_err());
        }
        assert!(start.elapsed() < RETRY_AFTER, "the failure is remembered");
    }
}
