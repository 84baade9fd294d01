//! Names and connections: a worker may open no socket, the service hands them over.
//!
//! [`use_service`] is told once, before the worker is locked in, where to ask. Where it was not (unit tests,
//! `weir bench decode`) this process connects itself.

use crate::capture::ipc::{self, Answer, MAX_CERTIFICATE_BYTES, MAX_DIAL_BYTES, Question, Writer};
use crate::error::{Error, Kind, Result, system};
use crate::resolve;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags};
use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Longest wait for the service: name servers that do not answer are given up by libc after 10 to 30 s, and
/// nobody needs a camera whose name takes longer than this.
const PATIENCE: Duration = Duration::from_secs(12);

/// A worker's end of the line over which it asks for connections.
pub(in crate::capture) struct Line {
    socket: OwnedFd,
    message: Writer,
    number: u32,
}

static LINE: OnceLock<Mutex<Line>> = OnceLock::new();

/// From now on the service is asked. Told once; a second line is not taken.
pub(super) fn use_service(socket: OwnedFd) {
    let _ = LINE.set(Mutex::new(Line::new(socket)));
}

/// The addresses of a host (a name, or an address with or without brackets) that this worker may be connected
/// to; one at least. Blocks for as long as name servers take.
///
/// Errors: `SourceConnection` when the name is not known, or leads where no source may go.
pub(super) fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>> {
    let unknown = || Error::new(Kind::SourceConnection, "the camera's name is not known to the name servers");
    match ask(&Question::Addresses(host.to_owned(), port)) {
        Some(Ok((Answer::Found(addresses), _))) => Ok(addresses),
        Some(Ok((Answer::Failed(cause), _))) => Err(unknown().because(cause)),
        Some(answer) => Err(refused(answer)),
        None => {
            let found = resolve::addresses(host, port).map_err(|cause| unknown().because(cause))?;
            if found.is_empty() { Err(unknown()) } else { Ok(found) }
        }
    }
}

/// A socket on its way to one of [`addresses`]: non-blocking, writable once it is connected or has failed
/// (SO_ERROR).
///
/// Errors: `SourceConnection`.
pub(super) fn tcp(address: SocketAddr) -> Result<TcpStream> {
    match ask(&Question::Tcp(address)) {
        Some(Ok((Answer::Sockets, mut sockets))) if sockets.len() == 1 => match sockets.pop() {
            Some(socket) => Ok(TcpStream::from(socket)),
            None => Err(unreachable(Errno::BADF.into())),
        },
        Some(answer) => Err(refused(answer)),
        None => {
            let stream = TcpStream::connect(address).map_err(unreachable)?;
            stream.set_nonblocking(true).map_err(unreachable)?;
            Ok(stream)
        }
    }
}

/// UDP sockets for RTP and RTCP, an even port and the next, at the local address that faces the camera, one
/// of [`addresses`]. What comes is to be looked at for where it comes from; nothing can be sent.
///
/// Errors: `SourceConnection`.
pub(super) fn udp_pair(camera: IpAddr) -> Result<[UdpSocket; 2]> {
    match ask(&Question::UdpPair(camera)) {
        Some(Ok((Answer::Sockets, sockets))) => {
            let sockets: [OwnedFd; 2] = sockets.try_into().map_err(|_| unreachable(Errno::BADF.into()))?;
            Ok(sockets.map(UdpSocket::from))
        }
        Some(answer) => Err(refused(answer)),
        None => own_udp_pair(camera).map_err(unreachable),
    }
}

/// For this machine alone.
fn own_udp_pair(camera: IpAddr) -> std::io::Result<[UdpSocket; 2]> {
    loop {
        let first = UdpSocket::bind((camera, 0))?;
        let port = first.local_addr()?.port();
        if let (0, Ok(second)) = (port % 2, UdpSocket::bind((camera, port.saturating_add(1)))) {
            return Ok([first, second]);
        }
    }
}

/// Has a packet that means nothing sent from the pair with this even port to a port of the camera's and to
/// the next: a firewall on the way learns that answers are welcome. What does not get through costs nothing.
pub(super) fn udp_hole_punch(port: u16, camera: SocketAddr) {
    let _ = ask(&Question::UdpHolePunch(port, camera));
}

/// The certificates of the authorities that this machine trusts, in DER.
///
/// Errors: `SourceConnection`: there are none.
pub(super) fn certificates() -> Result<Vec<Vec<u8>>> {
    let none =
        |why: String| Error::new(Kind::SourceConnection, "nobody vouches for certificates here").because(why);
    match ask(&Question::Certificates) {
        Some(Ok((Answer::Sockets, mut files))) if files.len() == 1 => {
            let mut bytes = Vec::new();
            if let Some(file) = files.pop() {
                let file = std::fs::File::from(file);
                let mut file = file.take(MAX_CERTIFICATE_BYTES as u64);
                file.read_to_end(&mut bytes).map_err(|cause| none(cause.to_string()))?;
            }
            Ok(split(&bytes))
        }
        Some(Ok((Answer::Failed(why), _))) => Err(none(why)),
        Some(answer) => Err(refused(answer)),
        None => {
            Ok(rustls_native_certs::load_native_certs().certs.iter().map(|found| found.to_vec()).collect())
        }
    }
}

/// Each certificate behind its length.
fn split(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let Some((certificate, rest)) = rest.split_at_checked(u32::from_le_bytes(*length) as usize) else {
            break;
        };
        found.push(certificate.to_vec());
        bytes = rest;
    }
    found
}

fn unreachable(cause: std::io::Error) -> Error {
    Error::new(Kind::SourceConnection, "the camera cannot be reached").because(cause)
}

fn refused(answer: Result<(Answer, Vec<OwnedFd>)>) -> Error {
    match answer {
        Ok((Answer::Refused(why), _)) => {
            Error::new(Kind::SourceConnection, "no source may be connected there").because(why)
        }
        Ok((Answer::Failed(cause), _)) => unreachable(std::io::Error::other(cause)),
        Ok(_) => Error::new(Kind::Worker, "the service answered another question"),
        Err(error) => error,
    }
}

/// `None`: there is nobody to ask.
fn ask(question: &Question) -> Option<Result<(Answer, Vec<OwnedFd>)>> {
    let mut line = LINE.get()?.lock().unwrap_or_else(PoisonError::into_inner);
    Some(line.ask(question))
}

impl Line {
    pub(in crate::capture) fn new(socket: OwnedFd) -> Line {
        Line { socket, message: Writer::new(), number: 0 }
    }

    /// Asks, and waits for the answer.
    pub(in crate::capture) fn ask(&mut self, question: &Question) -> Result<(Answer, Vec<OwnedFd>)> {
        let failed = |errno: Errno| system("asking the service for a connection")(errno.into());
        self.number = self.number.wrapping_add(1);
        ipc::write_question(&mut self.message, self.number, question);
        rustix::net::send(&self.socket, self.message.message(), SendFlags::NOSIGNAL).map_err(failed)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut watched = [PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN)];
            match wait(&mut watched, deadline) {
                Ok(()) => {}
                Err(Errno::TIMEDOUT) => {
                    return Err(Error::new(Kind::SourceConnection, "the name servers do not answer"));
                }
                Err(errno) => return Err(failed(errno)),
            }
            let mut buffer = [0; MAX_DIAL_BYTES];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
            let got = match rustix::net::recvmsg(
                &self.socket,
                &mut [IoSliceMut::new(&mut buffer)],
                &mut control,
                flags,
            ) {
                Err(Errno::INTR | Errno::AGAIN) => continue,
                got => got.map_err(failed)?,
            };
            if got.bytes == 0 {
                return Err(Error::new(Kind::ShuttingDown, "the service is gone"));
            }
            let sockets: Vec<OwnedFd> = control
                .drain()
                .filter_map(|message| match message {
                    RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
                    _ => None,
                })
                .flatten()
                .collect();
            match buffer.get(..got.bytes).and_then(ipc::read_answer) {
                // One that was given up before.
                Some((number, _)) if number != self.number => {}
                Some((_, answer)) => return Ok((answer, sockets)),
                None => return Err(Error::new(Kind::Worker, "the service's answer is none")),
            }
        }
    }
}

fn wait(watched: &mut [PollFd<'_>], deadline: Instant) -> std::result::Result<(), Errno> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let limit =
            Timespec { tv_sec: left.as_secs().try_into().unwrap_or(0), tv_nsec: left.subsec_nanos().into() };
        match rustix::event::poll(watched, Some(&limit)) {
            Ok(0) if left.is_zero() => return Err(Errno::TIMEDOUT),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
}
