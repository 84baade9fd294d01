//! Messages over a socket, with descriptors.
//!
//! A message is one or more packets of a `SOCK_SEQPACKET` pair, the first byte of each says whether another
//! follows. Descriptors come with the first packet.

use crate::error::{Error, Kind, Result, system};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Longest packet, bytes: well below what a socket's buffer holds.
const PACKET_BYTES: usize = 32 * 1024;
/// Longest message, bytes: what a file says about itself.
const MAX_MESSAGE_BYTES: usize = 4 << 20;
/// Most descriptors of one message.
const MAX_DESCRIPTORS: usize = 2;

/// One end of a conversation.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

/// A message, and what came with it.
#[derive(Debug)]
pub(super) struct Message {
    pub bytes: Vec<u8>,
    pub descriptors: Vec<OwnedFd>,
}

/// Why no message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// It did not come in time.
    Late,
    /// Nobody is at the other end any more.
    Gone,
    /// Something came that is no message.
    Nonsense,
}

impl Channel {
    /// Both ends of a new one.
    pub(super) fn pair() -> Result<(Channel, OwnedFd)> {
        let pair =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (own, other) = pair.map_err(|errno| system("creating a socket for a model")(errno.into()))?;
        Ok((Channel(own), other))
    }

    /// A channel over an end that was handed on.
    pub(super) fn of(socket: OwnedFd) -> Channel {
        Channel(socket)
    }

    /// Says something. Waits where the other end does not listen: only the model's process, which has nothing
    /// better to do, says more than a socket's buffer holds.
    pub(super) fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Missing> {
        let mut rest = descriptors;
        let mut packets = bytes.chunks(PACKET_BYTES).peekable();
        while let Some(packet) = packets.next() {
            let more = [u8::from(packets.peek().is_some())];
            self.packet(&[&more[..], packet].concat(), std::mem::take(&mut rest))?;
        }
        Ok(())
    }

    fn packet(&self, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Missing> {
        loop {
            let sent = if descriptors.is_empty() {
                rustix::net::send(&self.0, packet, SendFlags::NOSIGNAL)
            } else {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
                    return Err(Missing::Nonsense);
                }
                rustix::net::sendmsg(&self.0, &[IoSlice::new(packet)], &mut control, SendFlags::NOSIGNAL)
            };
            match sent {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(_) => return Err(Missing::Gone),
            }
        }
    }

    /// Waits for a message, until `deadline` where there is one.
    pub(super) fn receive(&self, deadline: Option<Instant>) -> Result<Message, Missing> {
        let mut message = Message { bytes: Vec::new(), descriptors: Vec::new() };
        let mut packet = vec![0; PACKET_BYTES + 1];
        loop {
            self.wait(deadline)?;
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            let received =
                rustix::net::recvmsg(&self.0, &mut [IoSliceMut::new(&mut packet)], &mut control, flags);
            let length = match received {
                Ok(received) => received.bytes,
                Err(Errno::AGAIN | Errno::INTR) => continue,
                Err(_) => return Err(Missing::Gone),
            };
            for part in control.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = part {
                    message.descriptors.extend(descriptors);
                }
            }
            let Some((more, bytes)) = packet.get(..length).and_then(|packet| packet.split_first()) else {
                return Err(Missing::Gone);
            };
            message.bytes.extend_from_slice(bytes);
            if message.bytes.len() > MAX_MESSAGE_BYTES || message.descriptors.len() > MAX_DESCRIPTORS {
                return Err(Missing::Nonsense);
            }
            if *more == 0 {
                return Ok(message);
            }
        }
    }

    fn wait(&self, deadline: Option<Instant>) -> Result<(), Missing> {
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let timeout = left.map(|left| {
                Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::from(i32::MAX), tv_nsec: 0 })
            });
            let mut watched = [PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN)];
            match rustix::event::poll(&mut watched, timeout.as_ref()) {
                Ok(0) if left.is_some_and(|left| left <= Duration::from_millis(1)) => {
                    return Err(Missing::Late);
                }
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(_) => return Err(Missing::Gone),
            }
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Message {
    /// The one descriptor that came.
    pub(super) fn descriptor(self) -> Result<OwnedFd> {
        let mut descriptors = self.descriptors.into_iter();
        descriptors.next().ok_or_else(|| Error::new(Kind::System, "a message lacks its descriptor"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn long_messages_and_descriptors_arrive() {
        let (one, other) = Channel::pair().unwrap();
        let other = Channel::of(other);
        let long: Vec<u8> = (0..3 * PACKET_BYTES + 7).map(|i| i as u8).collect();
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        one.send(&long, &[file.as_fd()]).unwrap();
        let soon = Some(Instant::now() + Duration::from_secs(10));
        let message = other.receive(soon).unwrap();
        assert_eq!((message.bytes == long, message.descriptors.len()), (true, 1));
        other.send(b"short", &[]).unwrap();
        assert_eq!(one.receive(soon).unwrap().bytes, b"short");
    }

    #[test]
    fn silence_and_ends_are_told_apart() {
        let (one, other) = Channel::pair().unwrap();
        assert_eq!(one.receive(Some(Instant::now() + Duration::from_millis(5))).unwrap_err(), Missing::Late);
        drop(other);
        assert_eq!(one.receive(None).unwrap_err(), Missing::Gone);
        assert_eq!(one.send(b"x", &[]).unwrap_err(), Missing::Gone);
    }

    #[test]
    fn an_endless_message_is_none() {
        let (one, other) = Channel::pair().unwrap();
        let flood = std::thread::spawn(move || {
            let endless = [&[1u8][..], &[0; PACKET_BYTES]].concat();
            while rustix::net::send(&other, &endless, SendFlags::NOSIGNAL).is_ok() {}
        });
        assert_eq!(one.receive(None).unwrap_err(), Missing::Nonsense);
        drop(one);
        flood.join().unwrap();
    }
}
