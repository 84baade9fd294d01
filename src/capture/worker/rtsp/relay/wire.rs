//! What comes over an RTSP connection, cut into packets and messages; and what is neither.

use crate::capture::worker::net::{Head, parse_head};
use crate::error::{Error, Kind, Result};

/// Largest body of a message, bytes. Descriptions have less than 8 KiB.
const MAX_BODY_BYTES: u64 = 256 * 1024;

/// Bytes that are neither packet nor message, since the last of those, before the connection is given up.
const MAX_GARBAGE_BYTES: usize = 256 * 1024;

/// What stands before a packet's channel and length (RFC 2326 §10.12).
const INTERLEAVED: u8 = b'$';

/// Bytes before a packet.
const PACKET_HEADER_BYTES: usize = 4;

/// Longest word that can begin a message: methods have up to 13 letters.
const MAX_WORD_BYTES: usize = 16;

/// Longest first line of a request, bytes.
const MAX_REQUEST_LINE_BYTES: usize = 4096;

/// One thing that came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// It begins `at` and ends with the item.
    Packet {
        channel: u8,
        at: usize,
    },
    /// Its body begins at `body` and ends with the item.
    Message {
        head: Head,
        body: usize,
    },
    Garbage,
}

/// Cuts what comes over an RTSP connection into packets and messages.
#[derive(Debug, Default)]
pub(super) struct Wire {
    /// Bytes of garbage since the last thing that was understood.
    garbage: usize,
    /// A packet or a message has come: the peer speaks RTSP.
    understood: bool,
}

impl Wire {
    /// The first thing in `bytes` and its length; `None`: more must come. `ours`: the channel that packets
    /// are expected on.
    ///
    /// Errors: a message beyond its limits, or no RTSP at all.
    pub(super) fn next(&mut self, bytes: &[u8], ours: u8) -> Result<Option<(Item, usize)>> {
        let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let rest = bytes.get(blank..).unwrap_or_default();
        let Some(first) = rest.first() else { return Ok(None) };
        let found = match first {
            &INTERLEAVED => match rest.first_chunk::<PACKET_HEADER_BYTES>() {
                None => return Ok(None),
                Some(&[_, channel, l1, l2]) => {
                    let length = usize::from(u16::from_be_bytes([l1, l2]));
                    match rest.get(PACKET_HEADER_BYTES..PACKET_HEADER_BYTES + length) {
                        // A length that leads into the middle of something is found out there.
                        Some(_) => Some((
                            Item::Packet { channel, at: blank + PACKET_HEADER_BYTES },
                            PACKET_HEADER_BYTES + length,
                        )),
                        None => return Ok(None),
                    }
                }
            },
            _ => match begins_message(rest) {
                Some(true) => match self.message(rest, blank)? {
                    Some(found) => Some(found),
                    None => return Ok(None),
                },
                None => return Ok(None),
                Some(false) => None,
            },
        };
        if let Some((item, length)) = found {
            self.garbage = 0;
            self.understood = true;
            return Ok(Some((item, blank + length)));
        }
        if !self.understood {
            return Err(Error::new(Kind::SourceConnection, "the server sends something else than RTSP"));
        }
        let length = 1 + resume(rest.get(1..).unwrap_or_default(), ours);
        self.garbage += length;
        if self.garbage > MAX_GARBAGE_BYTES {
            return Err(Error::new(Kind::SourceLost, "the camera sends something else than RTSP"));
        }
        Ok(Some((Item::Garbage, blank + length)))
    }

    /// The message that `bytes` begin with and whose body has not come whole: its head and where its body
    /// begins.
    pub(super) fn partial(bytes: &[u8]) -> Option<(Head, usize)> {
        let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let rest = bytes.get(blank..).unwrap_or_default();
        if begins_message(rest) != Some(true) {
            return None;
        }
        let (head, length) = parse_head(rest).ok()??;
        Some((head, blank + length))
    }

    /// Whether a message lacks as many bytes as it has line ends of one byte, which were two when its body was counted.
    pub(super) fn lacks_line_ends(bytes: &[u8]) -> bool {
        let Some((head, at)) = Wire::partial(bytes) else { return false };
        let body = bytes.get(at..).unwrap_or_default();
        let bare =
            body.iter().zip([&0].into_iter().chain(body)).filter(|pair| *pair.0 == b'\n' && *pair.1 != b'\r');
        let bare = bare.count();
        let whole = body.len() as u64 + bare as u64;
        bare > 0 && body.ends_with(b"\n") && head.content_length() == Some(whole)
    }

    fn message(&self, rest: &[u8], before: usize) -> Result<Option<(Item, usize)>> {
        let too_long =
            || Error::new(Kind::SourceConnection, "the server's answer is longer than any should be");
        let Some((head, length)) = parse_head(rest).map_err(|_| too_long())? else { return Ok(None) };
        let body = head.content_length().unwrap_or(0);
        if body > MAX_BODY_BYTES {
            return Err(too_long());
        }
        // At most MAX_BODY_BYTES.
        let end = length + body as usize;
        Ok((rest.len() >= end).then_some((Item::Message { head, body: before + length }, end)))
    }
}

/// Whether this is an answer (`RTSP/1.0 200 OK`) or a request (`OPTIONS * RTSP/1.0`); `None`: too little of
/// it has come.
fn begins_message(bytes: &[u8]) -> Option<bool> {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let word = line.iter().take_while(|byte| byte.is_ascii_uppercase() || **byte == b'_').count();
    if word == 0 || word > MAX_WORD_BYTES {
        return Some(false);
    }
    match line.get(word) {
        None if line.len() == bytes.len() => None,
        Some(b'/') if line.starts_with(b"RTSP/") => Some(true),
        Some(b' ') => {
            if line.len() < bytes.len() {
                return Some(line.windows(5).any(|part| part == b"RTSP/"));
            }
            // No line end yet.
            if bytes.len() < MAX_REQUEST_LINE_BYTES { None } else { Some(false) }
        }
        _ => Some(false),
    }
}

/// Bytes to pass over until something begins again that can be a packet of ours or an answer.
fn resume(bytes: &[u8], ours: u8) -> usize {
    let packet = |rest: &[u8]| match rest {
        [INTERLEAVED, channel, _, _, first, ..] => channel.wrapping_sub(ours) <= 1 && first >> 6 == 2,
        // The rest will tell.
        [INTERLEAVED, ..] => true,
        _ => false,
    };
    let answer = |rest: &[u8]| rest.starts_with(b"RTSP/") || (rest.len() < 5 && b"RTSP/".starts_with(rest));
    (0..bytes.len())
        .find(|at| bytes.get(*at..).is_some_and(|rest| packet(rest) || answer(rest)))
        .unwrap_or(bytes.len())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// All that is found in `bytes`, as they would come at once.
    fn all(bytes: &[u8]) -> Result<Vec<(String, usize)>> {
        let (mut wire, mut at, mut found) = (Wire { understood: true, garbage: 0 }, 0, Vec::new());
        while let Some((item, length)) = wire.next(&bytes[at..], 0)? {
            let name = match item {
                Item::Packet { channel, .. } => format!("packet {channel}"),
                Item::Message { head, .. } => head.line,
                Item::Garbage => "garbage".into(),
            };
            found.push((name, length));
            at += length;
        }
        Ok(found)
    }

    fn names(bytes: &[u8]) -> Vec<String> {
        all(bytes).unwrap().into_iter().map(|(name, _)| name).collect()
    }

    const PACKET: [u8; 8] = [b'$', 0, 0, 4, 0x80, 96, 0, 1];

    #[test]
    fn packets_and_messages_in_between() {
        let answer = b"RTSP/1.0 200 OK\r\nCSeq: 3\r\nContent-Length: 4\r\n\r\nbody";
        let bytes = [&PACKET[..], answer, b"\r\n\r\n", b"OPTIONS * RTSP/1.0\nCSeq: 1\n\n", &PACKET].concat();
        assert_eq!(names(&bytes), ["packet 0", "RTSP/1.0 200 OK", "OPTIONS * RTSP/1.0", "packet 0"]);
    }

    #[test]
    fn whatever_comes_in_pieces_is_the_same() {
        let bytes = [&PACKET[..], b"xyz$", &PACKET, b"RTSP/1.0 200 OK\r\n\r\n"].concat();
        for cut in 0..bytes.len() {
            let mut wire = Wire { understood: true, garbage: 0 };
            assert!(wire.next(&bytes[..cut], 0).is_ok());
        }
    }

    #[test]
    fn what_is_garbage_is_passed_over() {
        assert_eq!(names(&[&b"xyz\0\x01"[..], &PACKET].concat()), ["garbage", "packet 0"]);
        assert_eq!(names(&[&b"HELLO WORLD\r\n"[..], &PACKET].concat()), ["garbage", "packet 0"]);
        assert_eq!(names(b"abc RTSP/1.0 200 OK\r\n\r\n"), ["garbage", "RTSP/1.0 200 OK"]);
        let fresh = Wire::default().next(b"HTTP/1.1 400 Bad Request\r\n\r\n", 0);
        assert!(fresh.unwrap_err().message().contains("something else than RTSP"));
        assert!(all(&[0; MAX_GARBAGE_BYTES + 2]).is_err());
    }

    #[test]
    fn what_there_is_of_a_message() {
        let bytes = b"\r\nRTSP/1.0 200 OK\nContent-Length: 9\n\nv=0";
        let (head, body) = Wire::partial(bytes).unwrap();
        assert_eq!((head.content_length(), &bytes[body..]), (Some(9), &b"v=0"[..]));
        for none in [&b"RTSP/1.0 200 OK\r\nContent-Le"[..], b"$\0\0\x08ab", b"", b"xyz\r\n\r\n"] {
            assert_eq!(Wire::partial(none), None);
        }
    }

    #[test]
    fn line_ends_that_became_shorter_after_they_were_counted() {
        let message = |length: usize, body: &str| {
            format!("RTSP/1.0 200 OK\nContent-Length: {length}\n\n{body}").into_bytes()
        };
        assert!(Wire::lacks_line_ends(&message(12, "v=0\ns=\nt\n")));
        // Some of them.
        assert!(Wire::lacks_line_ends(&message(12, "v=0\ns=\r\nt\n")));
        for (length, body) in
            [(13, "v=0\ns=\nt\n"), (12, "v=0\ns=\nt"), (9, "v=0\r\ns=\r\n"), (4, ""), (0, "")]
        {
            assert!(!Wire::lacks_line_ends(&message(length, body)), "{length} {body:?}");
        }
    }

    #[test]
    fn limits_hold() {
        assert!(all(b"RTSP/1.0 200 OK\r\nContent-Length: 4000000000\r\n\r\n").is_err());
        assert!(all(&[b"RTSP/1.0 200 OK\r\nX: ".to_vec(), vec![b'y'; 20_000]].concat()).is_err());
    }
}
