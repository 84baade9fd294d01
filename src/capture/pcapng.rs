//! Blocks of a pcapng file (draft-ietf-opsawg-pcapng), which Wireshark, tshark and tcpdump read.
//!
//! ```text
//! ┌──────┬────────┬────────────────┬────────┐
//! │ type │ length │ …, in fours    │ length │   little-endian; both lengths count all of it
//! └──────┴────────┴────────────────┴────────┘
//! ```

use crate::clock::Wall;

/// "Enhanced Packet Block": one packet.
pub(super) const PACKET: u32 = 6;

/// "Section Header Block" and "Interface Description Block".
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;

/// "systemd Journal Export Block": words among the packets.
const ENTRY: u32 = 9;

/// Tells readers the order of bytes.
const MAGIC: u32 = 0x1a2b_3c4d;

/// Packets begin with their IP header (LINKTYPE_RAW).
const LINK_TYPE: u16 = 101;

/// A packet of more than 64 KiB does not exist: bytes, with room for the block around it.
pub(super) const MAX_BLOCK_BYTES: usize = (64 << 10) + 256;

/// Options by their numbers: the application that wrote a section; an interface's name; which way a packet went.
const APPLICATION: u16 = 4;
const NAME: u16 = 2;
const FLAGS: u16 = 2;

/// Ways that a packet can go, in [`FLAGS`].
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;

/// The beginning of a file, and the one interface that its packets are of.
pub(super) fn begin(out: &mut Vec<u8>, application: &str) {
    block(out, SECTION, |out| {
        out.extend_from_slice(&MAGIC.to_le_bytes());
        // Version 1.0; nobody says how long the section is.
        out.extend_from_slice(&[1, 0, 0, 0]);
        out.extend_from_slice(&u64::MAX.to_le_bytes());
        option(out, APPLICATION, application.as_bytes());
        option(out, 0, b"");
    });
    block(out, INTERFACE, |out| {
        out.extend_from_slice(&LINK_TYPE.to_le_bytes());
        // Reserved, and no common limit of what was kept.
        out.extend_from_slice(&[0; 6]);
        option(out, NAME, b"weir");
        option(out, 0, b"");
    });
}

/// A packet: its headers and what is behind them.
pub(super) fn packet(out: &mut Vec<u8>, at: Wall, is_ours: bool, headers: &[u8], bytes: &[u8]) {
    let micros = at.micros().cast_unsigned();
    let length = headers.len() + bytes.len();
    block(out, PACKET, |out| {
        // The interface; the upper half of the time first.
        // How long it was, and how much of it is here: all.
        for word in [0, micros >> 32, micros & 0xffff_ffff, length as u64, length as u64] {
            out.extend_from_slice(&word32(word).to_le_bytes());
        }
        out.extend_from_slice(headers);
        out.extend_from_slice(bytes);
        pad(out, length);
        option(out, FLAGS, &(if is_ours { OUTBOUND } else { INBOUND }).to_le_bytes());
        option(out, 0, b"");
    });
}

/// Words of one line among the packets.
pub(super) fn entry(out: &mut Vec<u8>, at: Wall, words: &str) {
    let words: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let text = format!(
        "__REALTIME_TIMESTAMP={}\nPRIORITY=6\nSYSLOG_IDENTIFIER=weir\nMESSAGE={words}\n",
        at.micros()
    );
    block(out, ENTRY, |out| {
        out.extend_from_slice(text.as_bytes());
        pad(out, text.len());
    });
}

/// Type and whole length of the block that begins these bytes; `None`: too few of them.
pub(super) fn head(bytes: &[u8]) -> Option<(u32, usize)> {
    let (kind, rest) = bytes.split_first_chunk::<4>()?;
    let length = rest.first_chunk::<4>()?;
    Some((u32::from_le_bytes(*kind), u32::from_le_bytes(*length) as usize))
}

fn block(out: &mut Vec<u8>, kind: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let begin = out.len();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    fill(out);
    let length = word32((out.len() - begin + 4) as u64).to_le_bytes();
    out.extend_from_slice(&length);
    if let Some(place) = out.get_mut(begin + 4..begin + 8) {
        place.copy_from_slice(&length);
    }
}

fn option(out: &mut Vec<u8>, number: u16, value: &[u8]) {
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&u16::try_from(value.len()).unwrap_or(0).to_le_bytes());
    out.extend_from_slice(value);
    pad(out, value.len());
}

/// To the next multiple of four.
fn pad(out: &mut Vec<u8>, length: usize) {
    out.resize(out.len() + length.next_multiple_of(4) - length, 0);
}

/// What is cut to 32 bits, or below them anyway.
fn word32(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn blocks_say_their_length_twice_and_follow_each_other() {
        let mut out = Vec::new();
        begin(&mut out, "weir");
        packet(&mut out, Wall::from_micros(5 << 32 | 7), true, b"abc", b"de");
        entry(&mut out, Wall::from_micros(1), "two\nlines");
        let (mut at, mut kinds) = (0, Vec::new());
        while let Some((kind, length)) = head(&out[at..]) {
            assert_eq!(length % 4, 0);
            assert_eq!(out[at + length - 4..at + length], u32::try_from(length).unwrap().to_le_bytes());
            kinds.push(kind);
            if kind == PACKET {
                let block = &out[at..at + length];
                assert_eq!(block[12..20], [5, 0, 0, 0, 7, 0, 0, 0], "the time");
                assert_eq!(block[20..28], [5, 0, 0, 0, 5, 0, 0, 0], "kept, and in all");
                assert_eq!(block[28..36], *b"abcde\0\0\0");
            }
            at += length;
        }
        assert_eq!((at, kinds), (out.len(), vec![SECTION, INTERFACE, PACKET, ENTRY]));
        assert!(String::from_utf8_lossy(&out).contains("MESSAGE=two lines\n"));
    }
}
