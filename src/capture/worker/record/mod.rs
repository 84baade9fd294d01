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
