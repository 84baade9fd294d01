//! Makes the connections of a worker: the worker itself may open no socket.
//!
//! It asks for the addresses of a host and for sockets to them. The service resolves the name, holds every
//! address against [`Network`], connects, and hands the socket over. A worker that was taken over can
//! therefore talk to its camera, and to what its camera could have redirected it to: nothing that the list
//! excludes, nothing in this machine, and no more than [`MAX_HOSTS`] hosts.
//!
//! Runs on the spawner's thread beside its worker and ends with it. Nothing here blocks: names are resolved
//! on threads of their own, and sockets are handed over while they are still connecting.

use super::authorities;
use crate::capture::ipc::{self, Answer, MAX_ADDRESSES, MAX_DIAL_BYTES, Question, Writer};
use crate::capture::network::{Named, Network};
use crate::resolve;
use async_io::{Async, Timer};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    sockopt,
};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Hosts that one worker may ask for in its life: its camera, and those that it is redirected to in a row
/// (four over HTTP).
const MAX_HOSTS: usize = 5;

/// UDP pairs of one worker: of the attempt that plays, and of the one before.
const MAX_UDP_PAIRS: usize = 2;

/// Questions at once; a source that opens asks for five.
const BURST: f64 = 64.0;

/// Questions for ever: a still picture a hundred times per second over connections of their own takes two
/// each.
const QUESTIONS_PER_SECOND: f64 = 250.0;

/// Ports of UDP pairs: above those of services, as ffmpeg takes them.
const UDP_PORTS: std::ops::Range<u16> = 5_000..65_000;

/// Pairs that are tried: a machine that is full of cameras has some in use.
const UDP_ATTEMPTS: usize = 16;

/// The connections of one worker.
pub(super) struct Dial {
    network: Arc<Network>,
    camera: Named,
    /// Hosts that were asked for, and where they may be connected to.
    hosts: Vec<(String, Vec<SocketAddr>)>,
    udp: Vec<[UdpSocket; 2]>,
    budget: (f64, Instant),
}

/// Why a question has no good answer.
#[derive(Debug)]
enum Why {
    /// The lists of hosts, or what a source may never reach, forbid it.
    Refused(String),
    /// Resolving or connecting failed.
    Failed(String),
}

impl Why {
    fn failed(cause: impl ToString) -> Why {
        Why::Failed(cause.to_string())
    }
}

type Made = Result<Vec<OwnedFd>, Why>;

impl Dial {
    /// For the worker of a camera.
    pub(super) fn new(network: Arc<Network>, camera: Named) -> Dial {
        Dial { network, camera, hosts: Vec::new(), udp: Vec::new(), budget: (BURST, Instant::now()) }
    }

    /// Answers until the worker is gone or says what is no question.
    pub(super) async fn serve(mut self, socket: OwnedFd, pid: u32) {
        let Ok(socket) = Async::new(socket) else { return };
        let mut message = Writer::new();
        let mut buffer = [0; MAX_DIAL_BYTES];
        loop {
            let received = socket.read_with(|socket| {
                rustix::net::recv(socket, &mut buffer[..], RecvFlags::DONTWAIT)
                    .map(|(_, length)| length)
                    .map_err(Into::into)
            });
            let length = match received.await {
                Ok(0) | Err(_) => return,
                Ok(length) => length,
            };
            let Some((number, question)) = buffer.get(..length).and_then(ipc::read_question) else {
                return log::warn!(
                    "event=worker_broke_protocol pid={pid} what=\"asked for what cannot be asked for\""
                );
            };
            self.wait_for_budget().await;
            log::debug!("event=worker_asks pid={pid} question=\"{question:?}\"");
            let (answer, sockets) = match self.answer(&question).await {
                Ok((answer, sockets)) => (answer, sockets),
                Err(Why::Refused(why)) => {
                    log::warn!(
                        "event=connection_refused pid={pid} camera={} why=\"{why}\"",
                        self.camera.host
                    );
                    (Answer::Refused(why), Vec::new())
                }
                Err(Why::Failed(cause)) => (Answer::Failed(cause), Vec::new()),
            };
            ipc::write_answer(&mut message, number, &answer);
            if send(&socket, message.message(), &sockets).await.is_err() {
                return;
            }
        }
    }

    /// A worker that asks faster than any source needs is answered later.
    async fn wait_for_budget(&mut self) {
        let now = Instant::now();
        let (left, since) = self.budget;
        let left = (left + now.duration_since(since).as_secs_f64() * QUESTIONS_PER_SECOND).min(BURST) - 1.0;
        self.budget = (left, now);
        if left < 0.0 {
            Timer::after(Duration::from_secs_f64(-left / QUESTIONS_PER_SECOND)).await;
        }
    }

    async fn answer(&mut self, question: &Question) -> Result<(Answer, Vec<OwnedFd>), Why> {
        let sockets = |made: Made| made.map(|sockets| (Answer::Sockets, sockets));
        match question {
            Question::Addresses(host, port) => Ok((Answer::Found(self.find(host, *port).await?), Vec::new())),
            Question::Tcp(address) => sockets(self.tcp(*address)),
            Question::UdpPair(peer) => sockets(self.udp_pair(*peer)),
            Question::Certificates => sockets(smol::unblock(authorities::file).await.map_err(Why::Failed)),
            Question::UdpHolePunch(port, address) => sockets(self.udp_hole_punch(*port, *address)),
        }
    }

    async fn find(&mut self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Why> {
        let host = Named::new(host, port).host;
        let known = self.hosts.iter().position(|(known, _)| *known == host);
        if known.is_none() && self.hosts.len() >= MAX_HOSTS {
            return Err(Why::Refused(format!("more than {MAX_HOSTS} hosts for one camera")));
        }
        let found = resolve::lookup(&host, port).await.map_err(Why::failed)?;
        let mut refusal = None;
        let mut addresses = Vec::new();
        for address in found {
            match self.network.refusal(&self.camera, &host, address) {
                None if addresses.len() < MAX_ADDRESSES => addresses.push(address),
                None => {}
                Some(why) => refusal = Some(why),
            }
        }
        if addresses.is_empty() {
            return Err(refusal.map_or_else(|| Why::failed("the name has no address"), Why::Refused));
        }
        let places = addresses.clone();
        match known.and_then(|at| self.hosts.get_mut(at)) {
            // Names may move; what is connected stays.
            Some((_, present)) => *present = places,
            None => {
                if host != self.camera.host {
                    log::info!("event=redirected camera={} to={host}", self.camera.host);
                }
                self.hosts.push((host, places));
            }
        }
        Ok(addresses)
    }

    /// The port is the camera's affair, but for our own listeners.
    ///
    /// The address as it was found, zone included: what the worker says of that does not count.
    fn permit(&self, address: SocketAddr) -> Result<SocketAddr, Why> {
        let same = |places: &[SocketAddr]| places.iter().copied().find(|place| place.ip() == address.ip());
        let found = self.hosts.iter().find_map(|(host, places)| Some((host, same(places)?)));
        let (host, mut place) =
            found.ok_or_else(|| Why::Refused(format!("{address} was not found before")))?;
        place.set_port(address.port());
        self.network.refusal(&self.camera, host, place).map_or(Ok(place), |why| Err(Why::Refused(why)))
    }

    fn tcp(&self, address: SocketAddr) -> Made {
        let address = self.permit(address)?;
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let connecting =
            rustix::net::socket_with(family, SocketType::STREAM, flags, None).and_then(|socket| {
                // Requests are small and wait for nobody.
                let _ = sockopt::set_tcp_nodelay(&socket, true);
                match rustix::net::connect(&socket, &address) {
                    Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
                    Err(errno) => Err(errno),
                }
            });
        connecting.map(|socket| vec![socket]).map_err(|errno| Why::failed(std::io::Error::from(errno)))
    }

    fn udp_pair(&mut self, peer: IpAddr) -> Made {
        let mut peer = self.permit(SocketAddr::new(peer, 0))?;
        peer.set_port(UDP_PORTS.start);
        let any: SocketAddr = if peer.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        // Sends nothing: asks the kernel which way it would go.
        let facing = UdpSocket::bind(any).map_err(Why::failed)?;
        facing.connect(peer).map_err(Why::failed)?;
        let local = facing.local_addr().map_err(Why::failed)?;
        drop(facing);
        let mut last = None;
        for _ in 0..UDP_ATTEMPTS {
            let [low, high, ..] = *uuid::Uuid::new_v4().as_bytes();
            let port = UDP_PORTS.start + u16::from_le_bytes([low, high]) % (UDP_PORTS.end - UDP_PORTS.start);
            let even = port & !1;
            let bind = |port| {
                let mut place = local;
                place.set_port(port);
                UdpSocket::bind(place)
            };
            let pair = bind(even).and_then(|first| Ok([first, bind(even + 1)?]));
            match pair {
                Ok(pair) => {
                    let handed = pair
                        .iter()
                        .map(UdpSocket::try_clone)
                        .collect::<Result<Vec<_>, _>>()
                        .map_err(Why::failed)?;
                    if self.udp.len() >= MAX_UDP_PAIRS {
                        self.udp.remove(0);
                    }
                    self.udp.push(pair);
                    return Ok(handed.into_iter().map(OwnedFd::from).collect());
                }
                Err(cause) => last = Some(cause),
            }
        }
        Err(last.map_or_else(|| Why::failed("no ports are free"), Why::failed))
    }

    /// The worker itself sends nothing over UDP: its sockets have no address to send to.
    fn udp_hole_punch(&self, port: u16, address: SocketAddr) -> Made {
        const RTP: [u8; 12] = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        /// A receiver report without a block.
        const RTCP: [u8; 8] = [0x80, 201, 0, 1, 0, 0, 0, 0];
        let address = self.permit(address)?;
        let is_it = |pair: &&[UdpSocket; 2]| pair[0].local_addr().is_ok_and(|local| local.port() == port);
        let [rtp, rtcp] = self
            .udp
            .iter()
            .find(is_it)
            .ok_or_else(|| Why::Refused("no UDP socket of this worker has that port".into()))?;
        // What does not get through costs nothing; nor does it block: two small packets.
        for (socket, packet, port) in
            [(rtp, &RTP[..], address.port()), (rtcp, &RTCP[..], address.port().saturating_add(1))]
        {
            let mut to = address;
            to.set_port(port);
            if self.permit(to).is_ok() {
                let _ = rustix::net::sendto(socket, packet, SendFlags::DONTWAIT, &to);
            }
        }
        Ok(Vec::new())
    }
}

/// Sends a message with sockets. One that the worker does not take is waited for: it has one question at a
/// time.
async fn send(socket: &Async<OwnedFd>, message: &[u8], sockets: &[OwnedFd]) -> std::io::Result<()> {
    let borrowed: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
    socket
        .write_with(|socket| {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !borrowed.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
                return Err(std::io::ErrorKind::InvalidInput.into());
            }
            rustix::net::sendmsg(
                socket,
                &[IoSlice::new(message)],
                &mut control,
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            )
            .map(|_| ())
            .map_err(Into::into)
        })
        .await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::capture::worker::dial::Line;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// A worker's line to a service of this network, which answers on a thread until the line is dropped.
    fn line(network: Network, camera: &str, port: u16) -> Line {
        let (ours, theirs) = super::super::socket_pair().unwrap();
        let dial = Dial::new(Arc::new(network), Named::new(camera, port));
        std::thread::spawn(move || smol::block_on(dial.serve(ours, 1)));
        Line::new(theirs)
    }

    fn refused(line: &mut Line, question: &Question) -> String {
        match line.ask(question).unwrap() {
            (Answer::Refused(why), _) => why,
            other => panic!("{question:?}: {other:?}"),
        }
    }

    fn found(line: &mut Line, host: &str, port: u16) -> Vec<SocketAddr> {
        match line.ask(&Question::Addresses(host.into(), port)).unwrap() {
            (Answer::Found(addresses), _) => addresses,
            other => panic!("{host}: {other:?}"),
        }
    }

    #[test]
    fn a_worker_is_connected_to_its_camera_and_to_nothing_that_was_not_found() {
        let (camera, other) =
            (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let (address, listener) = (camera.local_addr().unwrap(), other.local_addr().unwrap());
        let network = Network { hosts: Vec::new(), listeners: vec![listener] };
        let mut line = line(network, "127.0.0.1", address.port());
        assert!(refused(&mut line, &Question::Tcp(address)).contains("not found before"));
        assert_eq!(found(&mut line, "127.0.0.1", address.port()), [address]);
        let (answer, mut sockets) = line.ask(&Question::Tcp(address)).unwrap();
        assert_eq!((answer, sockets.len()), (Answer::Sockets, 1));
        let (mut accepted, _) = camera.accept().unwrap();
        accepted.write_all(b"x").unwrap();
        let mut socket = std::net::TcpStream::from(sockets.pop().unwrap());
        socket.set_nonblocking(false).unwrap();
        socket.read_exact(&mut [0]).unwrap();
        assert!(refused(&mut line, &Question::Tcp(listener)).contains("a port of weir itself"));
        for host in ["127.0.0.2", "0.0.0.0", "::1", "169.254.169.254"] {
            assert!(refused(&mut line, &Question::Addresses(host.into(), 80)).contains("address"), "{host}");
        }
        // Of a name, the addresses that the reference names too.
        assert_eq!(found(&mut line, "localhost", 80), [([127, 0, 0, 1], 80).into()]);
        assert!(refused(&mut line, &Question::Tcp(([127, 0, 0, 2], 80).into())).contains("not found before"));
    }

    #[test]
    fn hosts_are_counted_and_the_list_holds_for_all_of_them() {
        let allowed = ["192.0.2.0/24", "cam.localhost"].map(|text| text.parse().unwrap()).to_vec();
        let mut line = line(Network { hosts: allowed, listeners: Vec::new() }, "cam.localhost", 554);
        assert_eq!(found(&mut line, "CAM.localhost", 554).len(), 2);
        assert!(
            refused(&mut line, &Question::Addresses("198.51.100.1".into(), 554)).contains("sources.hosts")
        );
        for last in 1..MAX_HOSTS {
            found(&mut line, &format!("192.0.2.{last}"), 554);
        }
        found(&mut line, "192.0.2.1", 80);
        assert!(
            refused(&mut line, &Question::Addresses("192.0.2.99".into(), 554)).contains("more than 5 hosts")
        );
    }

    #[test]
    fn udp_pairs_are_an_even_port_and_the_next_and_only_the_service_sends() {
        let camera = [UdpSocket::bind("127.0.0.1:0").unwrap()];
        let address = camera[0].local_addr().unwrap();
        let mut line = line(Network::default(), "127.0.0.1", address.port());
        found(&mut line, "127.0.0.1", address.port());
        let (_, sockets) = line.ask(&Question::UdpPair(address.ip())).unwrap();
        let [first, second]: [UdpSocket; 2] =
            sockets.into_iter().map(UdpSocket::from).collect::<Vec<_>>().try_into().unwrap();
        let port = first.local_addr().unwrap().port();
        assert_eq!((port % 2, second.local_addr().unwrap().port()), (0, port + 1));
        line.ask(&Question::UdpHolePunch(port, address)).unwrap();
        camera[0].set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut packet = [0; 16];
        let (length, from) = camera[0].recv_from(&mut packet).unwrap();
        assert_eq!((length, from.port(), packet[0]), (12, port, 0x80));
        assert!(
            refused(&mut line, &Question::UdpHolePunch(port, ([127, 0, 0, 2], 80).into()))
                .contains("not found before")
        );
        assert!(refused(&mut line, &Question::UdpHolePunch(port + 2, address)).contains("no UDP socket"));
        assert!(refused(&mut line, &Question::UdpPair([127, 0, 0, 2].into())).contains("not found before"));
    }

    #[test]
    fn what_is_no_question_ends_the_line() {
        let (ours, theirs) = super::super::socket_pair().unwrap();
        let dial = Dial::new(Arc::default(), Named::new("cam.example", 554));
        let served = std::thread::spawn(move || smol::block_on(dial.serve(ours, 1)));
        rustix::net::send(&theirs, b"what?", SendFlags::empty()).unwrap();
        served.join().unwrap();
        assert_eq!(rustix::net::recv(&theirs, &mut [0; 8][..], RecvFlags::empty()).unwrap().0, 0);
    }
}
