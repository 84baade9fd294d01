//! Worker ⇄ parent on a socket of their own: names and connections, which only the service makes.
//!
//! A worker asks, one question at a time, and the answer has the question's number: one that came too late is
//! passed over.

use super::MAX_TEXT_BYTES;
use super::bytes::{Reader, Writer};
use std::net::{IpAddr, SocketAddr};

const ADDRESSES: u8 = 64;
const TCP: u8 = 65;
const UDP_PAIR: u8 = 66;
const UDP_HOLE_PUNCH: u8 = 67;
const CERTIFICATES: u8 = 68;
const FOUND: u8 = 80;
const SOCKETS: u8 = 81;
const REFUSED: u8 = 82;
const FAILED: u8 = 83;

/// Longest name of a host (RFC 1035) with room for a zone of IPv6, bytes.
pub(in crate::capture) const MAX_HOST_BYTES: usize = 300;

/// Most addresses of one name that are told.
pub(in crate::capture) const MAX_ADDRESSES: usize = 16;

/// Longest file of certificates, bytes: each in DER behind its length (u32, little-endian). Distributions
/// have some 150 of 1 KiB.
pub(in crate::capture) const MAX_CERTIFICATE_BYTES: usize = 4 << 20;

/// Longest address as a text, bytes: `[IPv6%zone]:port`.
const MAX_ADDRESS_BYTES: usize = 80;

/// Longest message in either direction, bytes.
pub(in crate::capture) const MAX_DIAL_BYTES: usize = 2 * 1024;

/// What a worker asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::capture) enum Question {
    /// Where a host may be connected to at a port.
    Addresses(String, u16),
    /// A TCP socket on its way to an address that was found.
    Tcp(SocketAddr),
    /// Two UDP sockets, an even port and the next, at the local address that faces this peer.
    UdpPair(IpAddr),
    /// A packet that means nothing, sent by the service from the UDP pair with that even port to an address
    /// that was found and the port after it: a firewall on the way learns that answers are welcome.
    UdpHolePunch(u16, SocketAddr),
    /// The certificates of the authorities that this machine trusts: a file of them
    /// ([`MAX_CERTIFICATE_BYTES`]).
    Certificates,
}

/// What it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::capture) enum Answer {
    /// Addresses of the name, one at least.
    Found(Vec<SocketAddr>),
    /// They come with the message; none for [`Question::UdpHolePunch`].
    Sockets,
    /// No source may go there, and why.
    Refused(String),
    /// What the network, the name servers or the system say.
    Failed(String),
}

pub(in crate::capture) fn write_question(out: &mut Writer, number: u32, question: &Question) {
    let address = |out: &mut Writer, address: &dyn ToString| {
        out.text(&address.to_string(), MAX_ADDRESS_BYTES);
    };
    match question {
        Question::Addresses(host, port) => {
            out.begin(ADDRESSES).u32(number).u16(*port).text(host, MAX_HOST_BYTES);
        }
        Question::Tcp(to) => address(out.begin(TCP).u32(number), to),
        Question::UdpPair(peer) => address(out.begin(UDP_PAIR).u32(number), peer),
        Question::Certificates => {
            out.begin(CERTIFICATES).u32(number);
        }
        Question::UdpHolePunch(port, to) => address(out.begin(UDP_HOLE_PUNCH).u32(number).u16(*port), to),
    }
}

/// The question in a message and its number; `None` when it is none.
pub(in crate::capture) fn read_question(message: &[u8]) -> Option<(u32, Question)> {
    let (tag, mut fields) = Reader::open(message)?;
    let number = fields.u32()?;
    let question = match tag {
        ADDRESSES => {
            let port = fields.u16()?;
            Question::Addresses(fields.text(MAX_HOST_BYTES)?.to_owned(), port)
        }
        TCP => Question::Tcp(read_address(&mut fields)?),
        UDP_PAIR => Question::UdpPair(fields.text(MAX_ADDRESS_BYTES)?.parse().ok()?),
        CERTIFICATES => Question::Certificates,
        UDP_HOLE_PUNCH => {
            let port = fields.u16()?;
            Question::UdpHolePunch(port, read_address(&mut fields)?)
        }
        _ => return None,
    };
    fields.end((number, question))
}

pub(in crate::capture) fn write_answer(out: &mut Writer, number: u32, answer: &Answer) {
    match answer {
        Answer::Found(addresses) => {
            let addresses = addresses.get(..MAX_ADDRESSES).unwrap_or(addresses);
            // At most [`MAX_ADDRESSES`].
            out.begin(FOUND).u32(number).u8(u8::try_from(addresses.len()).unwrap_or(0));
            for address in addresses {
                out.text(&address.to_string(), MAX_ADDRESS_BYTES);
            }
        }
        Answer::Sockets => {
            out.begin(SOCKETS).u32(number);
        }
        Answer::Refused(why) => {
            out.begin(REFUSED).u32(number).text(why, MAX_TEXT_BYTES);
        }
        Answer::Failed(cause) => {
            out.begin(FAILED).u32(number).text(cause, MAX_TEXT_BYTES);
        }
    }
}

/// The answer in a message and its number; `None` when it is none.
pub(in crate::capture) fn read_answer(message: &[u8]) -> Option<(u32, Answer)> {
    let (tag, mut fields) = Reader::open(message)?;
    let number = fields.u32()?;
    let answer = match tag {
        FOUND => {
            let count = usize::from(fields.u8()?);
            if count == 0 || count > MAX_ADDRESSES {
                return None;
            }
            Answer::Found((0..count).map(|_| read_address(&mut fields)).collect::<Option<_>>()?)
        }
        SOCKETS => Answer::Sockets,
        REFUSED => Answer::Refused(fields.text(MAX_TEXT_BYTES)?.to_owned()),
        FAILED => Answer::Failed(fields.text(MAX_TEXT_BYTES)?.to_owned()),
        _ => return None,
    };
    fields.end((number, answer))
}

fn read_address(fields: &mut Reader<'_>) -> Option<SocketAddr> {
    fields.text(MAX_ADDRESS_BYTES)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn questions_and_answers_survive_the_wire_and_nothing_else_does() {
        let zone: SocketAddr = "[fe80::1%3]:554".parse().unwrap();
        let mut out = Writer::new();
        for question in [
            Question::Addresses("cam.example".into(), 554),
            Question::Tcp(zone),
            Question::UdpPair("192.0.2.1".parse().unwrap()),
            Question::UdpHolePunch(5004, zone),
            Question::Certificates,
        ] {
            write_question(&mut out, 7, &question);
            let message = out.message().to_vec();
            assert_eq!(read_question(&message), Some((7, question)));
            for length in 0..message.len() {
                assert_eq!(read_question(&message[..length]), None);
            }
        }
        let many = vec![zone; MAX_ADDRESSES + 1];
        for (answer, told) in [
            (Answer::Found(many.clone()), Answer::Found(many[..MAX_ADDRESSES].to_vec())),
            (Answer::Sockets, Answer::Sockets),
            (Answer::Refused("no".into()), Answer::Refused("no".into())),
            (Answer::Failed("no".into()), Answer::Failed("no".into())),
        ] {
            write_answer(&mut out, 8, &answer);
            assert!(out.message().len() <= MAX_DIAL_BYTES);
            assert_eq!(read_answer(out.message()), Some((8, told)));
            assert_eq!(read_question(out.message()), None);
        }
        write_answer(&mut out, 1, &Answer::Found(Vec::new()));
        assert_eq!(read_answer(out.message()), None);
    }
}
