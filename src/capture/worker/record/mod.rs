//! What a worker sends to its camera and gets from it, written down as packets: `weir record`.
//!
//! What goes through a pipe is blocks of a pcapng file ([`crate::capture::pcapng`]), one for each message, packet
//! or run of bytes, stamped when the worker took it. What was inside TLS is written as if it had been outside,
//! and connections lead to the usual port, by which tools know what is spoken. Credentials become asterisks
//! ([`redact`]) and pictures zeros, unless they are wanted: every length stays as it was, so that packets and
//! messages are found where the worker found them.

mod headers;
mod jpeg;
mod redact;

use crate::capture::{Payloads, Request, pcapng};
use crate::clock::Wall;
use crate::command::SourceReference;
use headers::{ACK, FIN, PUSH, SYN, Way};
use jpeg::{Part, Sieve};
use redact::Secrets;
use std::borrow::Cow;
use std::cell::RefCell;
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use tokio::net::TcpStream;

/// Most bytes of a connection in one packet: it shall fit into IP's 64 KiB with its headers.
const MAX_SEGMENT_BYTES: usize = 32 << 10;

/// Bytes that are kept of what is neither message nor packet, and no text.
const UNKNOWN_BYTES: usize = 64;

/// The same of text.
const UNKNOWN_TEXT_BYTES: usize = 4096;

/// What bytes that came over a connection were understood as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// A head, its body if that is text, or what frames a body: kept.
    Message,
    /// A packet, of which so many bytes from its beginning on are no picture.
    Packet(usize),
    /// A part of a body that has pictures in it.
    Body,
    /// Nothing that is known.
    Unknown,
}

/// Where this worker's session is recorded; cheap to clone. Records nothing where nobody asked for it.
#[derive(Debug, Clone, Default)]
pub(super) struct Recorder(Option<Rc<Book>>);

#[derive(Debug)]
struct Book {
    secrets: Secrets,
    payloads: Payloads,
    output: RefCell<Output>,
}

#[derive(Debug)]
struct Output {
    /// `None`: nobody reads any more.
    pipe: Option<File>,
    block: Vec<u8>,
}

impl Book {
    /// Writes a packet. Blocks while nobody reads; a reader that is gone ends the recording, not the session.
    fn packet(&self, is_ours: bool, headers: &[u8], bytes: &[u8]) {
        let Output { pipe, block } = &mut *self.output.borrow_mut();
        block.clear();
        pcapng::packet(block, Wall::now(), is_ours, headers, bytes);
        if pipe.as_mut().is_some_and(|pipe| pipe.write_all(block).is_err()) {
            *pipe = None;
        }
    }
}

impl Recorder {
    /// Records into a pipe what a request for it says.
    pub(super) fn new(request: &Request, pipe: Option<OwnedFd>) -> Recorder {
        let (Some(payloads), Some(pipe)) = (request.recorded, pipe) else { return Recorder::default() };
        let secrets = match &request.reference {
            SourceReference::Text(text) => Secrets::of(text),
            SourceReference::Device(_) => Secrets::default(),
        };
        Recorder::into(pipe, payloads, secrets)
    }

    fn into(pipe: OwnedFd, payloads: Payloads, secrets: Secrets) -> Recorder {
        let output = RefCell::new(Output { pipe: Some(File::from(pipe)), block: Vec::new() });
        Recorder(Some(Rc::new(Book { secrets, payloads, output })))
    }

    /// Whether anything is recorded.
    pub(super) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// A connection that has just been made, written as one to this port.
    pub(super) fn connection(&self, stream: &TcpStream, port: u16) -> Connection {
        let Some(book) = self.0.clone() else { return Connection(None) };
        let (Ok(local), Ok(mut peer)) = (stream.local_addr(), stream.peer_addr()) else {
            return Connection(None);
        };
        peer.set_port(port);
        let mut told = Told {
            book,
            ends: (local, peer),
            sequences: (0, 0),
            has_ended: false,
            sieve: Sieve::default(),
            text: Vec::new(),
        };
        told.segment(true, SYN, &[]);
        told.segment(false, SYN | ACK, &[]);
        told.segment(true, ACK, &[]);
        Connection(Some(Box::new(told)))
    }

    /// A datagram that came, of which so many bytes from its beginning on are no picture.
    pub(super) fn datagram(&self, way: Way, bytes: &[u8], kept: usize) {
        if let Some(book) = &self.0 {
            book.packet(false, &headers::udp(way, bytes.len()), &book.without_pictures(bytes, kept));
        }
    }
}

impl Book {
    /// All of them, or so many and then zeros.
    fn without_pictures<'a>(&self, bytes: &'a [u8], kept: usize) -> Cow<'a, [u8]> {
        if self.payloads == Payloads::Whole || kept >= bytes.len() {
            return Cow::Borrowed(bytes);
        }
        let mut cut = bytes.get(..kept).unwrap_or_default().to_vec();
        cut.resize(bytes.len(), 0);
        Cow::Owned(cut)
    }
}

/// What was said over a connection, if that is recorded.
#[derive(Debug)]
pub(super) struct Connection(Option<Box<Told>>);

#[derive(Debug)]
struct Told {
    book: Rc<Book>,
    /// Of the worker, and of the camera.
    ends: (SocketAddr, SocketAddr),
    /// Numbers of the next bytes from the worker and from the camera.
    sequences: (u32, u32),
    /// The camera has said that no more comes.
    has_ended: bool,
    sieve: Sieve,
    /// Words between pictures, until they are whole: a secret may come in two pieces.
    text: Vec<u8>,
}

impl Connection {
    /// The worker sends this.
    pub(super) fn sent(&mut self, message: &[u8]) {
        if let Some(told) = &mut self.0 {
            told.message(true, message);
        }
    }

    /// The worker has taken this.
    pub(super) fn received(&mut self, bytes: &[u8], what: What) {
        let Some(told) = &mut self.0 else { return };
        if what != What::Body {
            told.end_text();
        }
        match what {
            What::Message => told.message(false, bytes),
            What::Packet(kept) => {
                let book = Rc::clone(&told.book);
                told.bytes(false, &book.without_pictures(bytes, kept));
            }
            What::Body => told.body(bytes),
            What::Unknown => {
                let is_text = |byte: &&u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
                let text = bytes.iter().take(UNKNOWN_TEXT_BYTES).take_while(is_text).count();
                let book = Rc::clone(&told.book);
                told.message(false, &book.without_pictures(bytes, text.max(UNKNOWN_BYTES)));
            }
        }
    }

    /// The camera has closed its end.
    pub(super) fn ended(&mut self) {
        if let Some(told) = &mut self.0 {
            told.has_ended = true;
        }
    }

    /// Nothing is said any more; these bytes had come, and nobody took them.
    pub(super) fn close(&mut self, rest: &[u8]) {
        if !rest.is_empty() {
            self.received(rest, What::Unknown);
        }
        if let Some(mut told) = self.0.take() {
            told.end_text();
            let is_ours = !told.has_ended;
            told.segment(is_ours, FIN | ACK, &[]);
        }
    }
}

impl Told {
    fn message(&mut self, is_ours: bool, message: &[u8]) {
        let mut message = message.to_vec();
        self.book.secrets.hide(&mut message);
        self.bytes(is_ours, &message);
    }

    /// Words end only where something else begins.
    fn body(&mut self, bytes: &[u8]) {
        let mut sieve = std::mem::take(&mut self.sieve);
        let mut out = Vec::with_capacity(bytes.len());
        sieve.runs(bytes, |part, run| {
            if part == Part::Text {
                return self.text.extend_from_slice(run);
            }
            self.book.secrets.hide(&mut self.text);
            out.append(&mut self.text);
            let kept = if part == Part::Header { run.len() } else { 0 };
            out.extend_from_slice(&self.book.without_pictures(run, kept));
        });
        self.sieve = sieve;
        self.bytes(false, &out);
    }

    fn end_text(&mut self) {
        let text = std::mem::take(&mut self.text);
        self.message(false, &text);
    }

    fn bytes(&mut self, is_ours: bool, bytes: &[u8]) {
        bytes.chunks(MAX_SEGMENT_BYTES).for_each(|bytes| self.segment(is_ours, PUSH | ACK, bytes));
    }

    fn segment(&mut self, is_ours: bool, flags: u8, bytes: &[u8]) {
        let (local, peer) = self.ends;
        let (own, other) = self.sequences;
        let (way, sequence, acknowledged) =
            if is_ours { ((local, peer), own, other) } else { ((peer, local), other, own) };
        let headers = headers::tcp(way, flags, sequence, acknowledged, bytes.len());
        self.book.packet(is_ours, &headers, bytes);
        // What opens or closes a connection counts as a byte. Numbers go round at 4 GiB.
        let counted = u32::try_from(bytes.len()).unwrap_or(0) + u32::from(flags & (SYN | FIN) != 0);
        let moved = if is_ours { &mut self.sequences.0 } else { &mut self.sequences.1 };
        *moved = moved.wrapping_add(counted);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Read as _;

    /// What is written of what `say` says over a connection and otherwise: the packets.
    fn recorded(payloads: Payloads, say: impl FnOnce(&Recorder, &mut Connection)) -> Vec<Vec<u8>> {
        let (mut ours, theirs) = std::io::pipe().unwrap();
        let recorder = Recorder::into(theirs.into(), payloads, Secrets::of("rtsp://joe:hush@cam/"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let mut connection = recorder.connection(&stream, 554);
            say(&recorder, &mut connection);
        });
        drop(recorder);
        let (mut file, mut at, mut packets) = (Vec::new(), 0, Vec::new());
        ours.read_to_end(&mut file).unwrap();
        while let Some((kind, length)) = pcapng::head(&file[at..]) {
            assert_eq!(kind, pcapng::PACKET);
            let bytes = u32::from_le_bytes(file[at + 20..at + 24].try_into().unwrap()) as usize;
            packets.push(file[at + 28..at + 28 + bytes].to_vec());
            at += length;
        }
        packets
    }

    #[test]
    fn a_connection_has_a_beginning_and_an_end_and_its_numbers_count_bytes() {
        let packets = recorded(Payloads::Whole, |_, connection| {
            connection.sent(b"OPTIONS hush\r\n\r\n");
            connection.received(&vec![7; 3 * MAX_SEGMENT_BYTES / 2], What::Packet(4));
            connection.ended();
            connection.close(b"RTSP/1.0 4hush");
        });
        let number = |packet: &[u8], at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().unwrap());
        let seen: Vec<_> = packets
            .iter()
            .map(|packet| {
                let is_ours = packet[22..24] == 554_u16.to_be_bytes();
                (is_ours, packet[33], number(packet, 24), number(packet, 28), packet.len() - 40)
            })
            .collect();
        let half = MAX_SEGMENT_BYTES / 2;
        let [first, second] = [1 + MAX_SEGMENT_BYTES as u32, 1 + 3 * half as u32];
        assert_eq!(
            seen,
            [
                (true, SYN, 0, 0, 0),
                (false, SYN | ACK, 0, 1, 0),
                (true, ACK, 1, 1, 0),
                (true, PUSH | ACK, 1, 1, 16),
                (false, PUSH | ACK, 1, 17, MAX_SEGMENT_BYTES),
                (false, PUSH | ACK, first, 17, half),
                (false, PUSH | ACK, second, 17, 14),
                (false, FIN | ACK, second + 14, 17, 0),
            ]
        );
        assert_eq!(packets[3][40..], *b"OPTIONS ****\r\n\r\n");
        assert_eq!(packets[6][40..], *b"RTSP/1.0 4****");
    }

    #[test]
    fn datagrams_and_what_is_not_understood_lose_their_content() {
        let way = ("[fe80::1]:5000".parse().unwrap(), "[fe80::2]:6000".parse().unwrap());
        let say = |recorder: &Recorder, connection: &mut Connection| {
            recorder.datagram(way, &[9; 100], 12);
            connection.received(&[0xee; 100], What::Unknown);
            connection.received(&[b'x'; 5000], What::Unknown);
        };
        let filled = |packets: &[Vec<u8>], header: usize, at: usize| {
            packets[at][header..].iter().take_while(|byte| **byte != 0).count()
        };
        let packets = recorded(Payloads::Blank, say);
        assert_eq!(packets[3].len(), 48 + 100);
        let kept = [filled(&packets, 48, 3), filled(&packets, 40, 4), filled(&packets, 40, 5)];
        assert_eq!(kept, [12, UNKNOWN_BYTES, UNKNOWN_TEXT_BYTES]);
        let packets = recorded(Payloads::Whole, say);
        let kept = [filled(&packets, 48, 3), filled(&packets, 40, 4), filled(&packets, 40, 5)];
        assert_eq!(kept, [100, 100, 5000]);
    }

    #[test]
    fn nobody_who_reads_ends_a_recording_and_nothing_else() {
        let (ours, theirs) = std::io::pipe().unwrap();
        drop(ours);
        let recorder = Recorder::into(theirs.into(), Payloads::Blank, Secrets::default());
        let way = ("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
        recorder.datagram(way, b"x", 1);
        recorder.datagram(way, b"x", 1);
        assert!(recorder.0.unwrap().output.borrow().pipe.is_none());
    }
}
