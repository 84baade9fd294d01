//! Packets of MQTT 5.0 and 3.1.1, as far as a client needs them that publishes and takes a few commands:
//! written into a buffer that is used again, and read from bytes that are believed nothing. (OASIS mqtt-v5.0,
//! mqtt-v3.1.1; the numbers of sections below are those of 5.0.)

use std::fmt;

/// Which protocol is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// MQTT 5.0: protocol level 5.
    V5,
    /// MQTT 3.1.1: protocol level 4.
    V311,
}

impl Version {
    fn level(self) -> u8 {
        match self {
            Version::V5 => 5,
            Version::V311 => 4,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Version::V5 => "5.0",
            Version::V311 => "3.1.1",
        })
    }
}

/// Remaining lengths have four bytes of seven bits (1.5.5).
const MAX_REMAINING: usize = 268_435_455;

const CONNECT: u8 = 0x10;
const CONNACK: u8 = 2;
const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 9;
const UNSUBSCRIBE: u8 = 0xa2;
const UNSUBACK: u8 = 11;
const PINGREQ: u8 = 0xc0;
const PINGRESP: u8 = 13;
const DISCONNECT: u8 = 14;

// Identifiers of properties (2.2.2.2).
const SESSION_EXPIRY: u8 = 0x11;
const SERVER_KEEP_ALIVE: u8 = 0x13;
const REASON_STRING: u8 = 0x1f;
const RECEIVE_MAXIMUM: u8 = 0x21;
const MAXIMUM_QOS: u8 = 0x24;
const RETAIN_AVAILABLE: u8 = 0x25;
const MAXIMUM_PACKET_SIZE: u8 = 0x27;

/// Why bytes are no packet that a broker may send. Told to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// More bytes than were agreed on.
    TooLarge(usize),
    /// Not as the standard has it.
    Malformed(&'static str),
    /// A packet that a broker has no reason for now.
    Unexpected(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::TooLarge(bytes) => write!(f, "it announces a packet of {bytes} bytes"),
            Fault::Malformed(what) => write!(f, "it sends what is no MQTT: {what}"),
            Fault::Unexpected(what) => write!(f, "it breaks the protocol: {what}"),
        }
    }
}

// ------------------------------------------------------------------------------------------------ writing

/// What a connection begins with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Connect<'a> {
    pub(super) client_id: &'a str,
    pub(super) user: Option<&'a str>,
    pub(super) password: Option<&'a str>,
    pub(super) keep_alive_s: u16,
    /// Topic and payload that the broker publishes, retained, when the connection is lost.
    pub(super) will: (&'a str, &'a [u8]),
    /// Largest packet that we take, bytes.
    pub(super) most_bytes: u32,
}

impl Connect<'_> {
    /// A session that ends with the connection: what was not confirmed waits here, not at the broker.
    pub(super) fn write(&self, out: &mut Vec<u8>, version: Version) {
        /// Clean start; will, retained, of QoS 1.
        const FLAGS: u8 = 0x02 | 0x04 | 0x08 | 0x20;
        packet(out, CONNECT, |out| {
            text(out, "MQTT");
            out.push(version.level());
            out.push(
                FLAGS
                    | if self.user.is_some() { 0x80 } else { 0 }
                    | if self.password.is_some() { 0x40 } else { 0 },
            );
            out.extend_from_slice(&self.keep_alive_s.to_be_bytes());
            if version == Version::V5 {
                out.push(10);
                out.push(SESSION_EXPIRY);
                out.extend_from_slice(&[0; 4]);
                out.push(MAXIMUM_PACKET_SIZE);
                out.extend_from_slice(&self.most_bytes.to_be_bytes());
            }
            text(out, self.client_id);
            if version == Version::V5 {
                out.push(0);
            }
            text(out, self.will.0);
            bytes(out, self.will.1);
            self.user.into_iter().chain(self.password).for_each(|one| text(out, one));
        });
    }
}

/// Bytes that [`publish`] makes of it at most.
pub(super) fn publish_bytes(topic: &str, payload: &[u8]) -> usize {
    topic.len() + payload.len() + 10
}

/// A message; `id` for QoS 1.
pub(super) fn publish(
    out: &mut Vec<u8>,
    version: Version,
    topic: &str,
    payload: &[u8],
    id: Option<u16>,
    is_retained: bool,
) {
    let first = PUBLISH << 4 | if id.is_some() { 2 } else { 0 } | u8::from(is_retained);
    let length = 2 + topic.len() + id.map_or(0, |_| 2) + usize::from(version == Version::V5) + payload.len();
    out.push(first);
    varint(out, length);
    text(out, topic);
    out.extend(id.map(u16::to_be_bytes).into_iter().flatten());
    if version == Version::V5 {
        out.push(0);
    }
    out.extend_from_slice(payload);
}

/// A message of QoS 1 has come.
pub(super) fn puback(out: &mut Vec<u8>, id: u16) {
    out.extend_from_slice(&[PUBACK << 4, 2]);
    out.extend_from_slice(&id.to_be_bytes());
}

/// Asks for the messages of some topics.
pub(super) fn subscribe(out: &mut Vec<u8>, version: Version, id: u16, filter: &str, qos: u8) {
    packet(out, SUBSCRIBE, |out| {
        out.extend_from_slice(&id.to_be_bytes());
        if version == Version::V5 {
            out.push(0);
        }
        text(out, filter);
        out.push(qos);
    });
}

/// Wants no more messages of these topics.
pub(super) fn unsubscribe(out: &mut Vec<u8>, version: Version, id: u16, filter: &str) {
    packet(out, UNSUBSCRIBE, |out| {
        out.extend_from_slice(&id.to_be_bytes());
        if version == Version::V5 {
            out.push(0);
        }
        text(out, filter);
    });
}

/// PINGREQ: asks the broker for a sign of life.
pub(super) fn pingreq(out: &mut Vec<u8>) {
    out.extend_from_slice(&[PINGREQ, 0]);
}

/// Goodbye: no last will is published.
pub(super) fn disconnect(out: &mut Vec<u8>) {
    out.extend_from_slice(&[DISCONNECT << 4, 0]);
}

/// A packet whose length is known when it has been written: it is small enough to be moved.
fn packet(out: &mut Vec<u8>, first: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    body(&mut inner);
    out.push(first);
    varint(out, inner.len());
    out.extend_from_slice(&inner);
}

fn varint(out: &mut Vec<u8>, mut value: usize) {
    debug_assert!(value <= MAX_REMAINING);
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            return out.push(byte);
        }
        out.push(byte | 0x80);
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    bytes(out, text.as_bytes());
}

/// At most 65 535 bytes: callers have checked; more would be cut, not written wrongly.
fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes.get(..usize::from(length)).unwrap_or(bytes));
}

// ------------------------------------------------------------------------------------------------ reading

/// What a broker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Incoming<'a> {
    /// The answer to CONNECT.
    ConnAck {
        code: u8,
        granted: Granted,
        reason: Option<&'a str>,
    },
    /// A message for us; `id` when it is to be confirmed.
    Publish {
        topic: &'a str,
        payload: &'a [u8],
        id: Option<u16>,
        is_retained: bool,
    },
    /// One of our messages has come, or not (`code` from 0x80 on).
    PubAck {
        id: u16,
        code: u8,
    },
    /// The answer to SUBSCRIBE.
    SubAck {
        id: u16,
        code: u8,
    },
    /// The answer to UNSUBSCRIBE.
    UnsubAck {
        id: u16,
    },
    PingResp,
    /// The broker ends it.
    Disconnect {
        code: u8,
        reason: Option<&'a str>,
    },
}

/// What the broker allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Granted {
    /// Messages of QoS 1 under way at once.
    pub(super) receive_maximum: u16,
    pub(super) maximum_qos: u8,
    pub(super) is_retain_available: bool,
    /// Largest packet it takes, bytes.
    pub(super) most_bytes: usize,
    /// It wants to hear from us so often, seconds.
    pub(super) keep_alive_s: Option<u16>,
}

impl Default for Granted {
    fn default() -> Granted {
        Granted {
            receive_maximum: u16::MAX,
            maximum_qos: 2,
            is_retain_available: true,
            most_bytes: MAX_REMAINING,
            keep_alive_s: None,
        }
    }
}

/// The packet at the beginning of `bytes`: its first byte, where its body begins, and where it ends. `None`:
/// not all of it is there. One of more than `most_bytes` is refused before it has come.
pub(super) fn frame(bytes: &[u8], most_bytes: usize) -> Result<Option<(u8, usize, usize)>, Fault> {
    let Some((first, rest)) = bytes.split_first() else { return Ok(None) };
    let mut length = 0_usize;
    for (index, byte) in rest.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let body = index + 2;
            if body + length > most_bytes {
                return Err(Fault::TooLarge(body + length));
            }
            return Ok((bytes.len() >= body + length).then_some((*first, body, body + length)));
        }
    }
    if rest.len() >= 4 { Err(Fault::Malformed("a length of more than four bytes")) } else { Ok(None) }
}

/// Reads one packet: `first` is the first byte of its fixed header, `body` what follows the length.
pub(super) fn read(version: Version, first: u8, body: &[u8]) -> Result<Incoming<'_>, Fault> {
    let mut body = Body(body);
    let is_5 = version == Version::V5;
    let flags = first & 0x0f;
    if first >> 4 != PUBLISH && flags != 0 {
        return Err(Fault::Malformed("flags that are reserved"));
    }
    match first >> 4 {
        CONNACK => {
            if body.byte()? > 1 {
                return Err(Fault::Malformed("flags of CONNACK that are reserved"));
            }
            let code = body.byte()?;
            let (mut granted, mut reason) = (Granted::default(), None);
            // A broker that does not know our version may answer in its own.
            if is_5 && !body.is_empty() {
                body.properties(|id, value| {
                    match (id, value) {
                        (RECEIVE_MAXIMUM, Value::Two(0)) => {
                            return Err(Fault::Malformed("a receive maximum of 0"));
                        }
                        (MAXIMUM_PACKET_SIZE, Value::Four(0)) => {
                            return Err(Fault::Malformed("a maximum packet size of 0"));
                        }
                        (RECEIVE_MAXIMUM, Value::Two(most)) => granted.receive_maximum = most,
                        (MAXIMUM_QOS, Value::One(qos)) => granted.maximum_qos = qos,
                        (RETAIN_AVAILABLE, Value::One(flag)) => granted.is_retain_available = flag != 0,
                        (MAXIMUM_PACKET_SIZE, Value::Four(most)) => granted.most_bytes = most as usize,
                        (SERVER_KEEP_ALIVE, Value::Two(seconds)) => granted.keep_alive_s = Some(seconds),
                        (REASON_STRING, Value::Text(text)) => reason = Some(text),
                        _ => {}
                    }
                    Ok(())
                })?;
            }
            body.end(Incoming::ConnAck { code, granted, reason })
        }
        PUBLISH => {
            let (qos, is_retained) = (flags >> 1 & 3, flags & 1 == 1);
            let topic = body.text()?;
            let id = match qos {
                0 => None,
                1 => Some(body.id()?),
                _ => return Err(Fault::Unexpected("a message of a quality that was not asked for")),
            };
            if is_5 {
                body.properties(|_, _| Ok(()))?;
            }
            if topic.is_empty() || topic.contains(['#', '+']) {
                return Err(Fault::Malformed("a topic that is none"));
            }
            Ok(Incoming::Publish { topic, payload: body.0, id, is_retained })
        }
        PUBACK => {
            let id = body.id()?;
            let code = if is_5 && !body.is_empty() { body.byte()? } else { 0 };
            if is_5 && !body.is_empty() {
                body.properties(|_, _| Ok(()))?;
            }
            body.end(Incoming::PubAck { id, code })
        }
        SUBACK => {
            let id = body.id()?;
            if is_5 {
                body.properties(|_, _| Ok(()))?;
            }
            let code = body.byte()?;
            body.end(Incoming::SubAck { id, code })
        }
        UNSUBACK => {
            let id = body.id()?;
            if is_5 {
                body.properties(|_, _| Ok(()))?;
                body.byte()?;
            }
            body.end(Incoming::UnsubAck { id })
        }
        PINGRESP => body.end(Incoming::PingResp),
        DISCONNECT if is_5 => {
            let code = if body.is_empty() { 0 } else { body.byte()? };
            let mut reason = None;
            if !body.is_empty() {
                body.properties(|id, value| {
                    if let (REASON_STRING, Value::Text(text)) = (id, value) {
                        reason = Some(text);
                    }
                    Ok(())
                })?;
            }
            body.end(Incoming::Disconnect { code, reason })
        }
        _ => Err(Fault::Unexpected("a packet that only clients send, or that was not asked for")),
    }
}

/// What is left of a packet.
struct Body<'a>(&'a [u8]);

/// The value of an MQTT 5 property, by its type on the wire.
enum Value<'a> {
    One(u8),
    Two(u16),
    Four(u32),
    Text(&'a str),
    Other,
}

const SHORT: Fault = Fault::Malformed("a packet that ends too early");

impl<'a> Body<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        self.take(N)?.first_chunk().copied().ok_or(SHORT)
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn two(&mut self) -> Result<u16, Fault> {
        self.array().map(u16::from_be_bytes)
    }

    fn id(&mut self) -> Result<u16, Fault> {
        match self.two()? {
            0 => Err(Fault::Malformed("a packet identifier of 0")),
            id => Ok(id),
        }
    }

    fn binary(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.two()?;
        self.take(usize::from(length))
    }

    fn text(&mut self) -> Result<&'a str, Fault> {
        let text =
            std::str::from_utf8(self.binary()?).map_err(|_| Fault::Malformed("text that is not UTF-8"))?;
        if text.contains('\0') { Err(Fault::Malformed("text with a NUL character")) } else { Ok(text) }
    }

    fn varint(&mut self) -> Result<usize, Fault> {
        let mut value = 0;
        for index in 0..4 {
            let byte = self.byte()?;
            value |= usize::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Fault::Malformed("a length of more than four bytes"))
    }

    /// Each property with its identifier; those of which there is no use are looked at and passed over.
    fn properties(&mut self, mut each: impl FnMut(u8, Value<'a>) -> Result<(), Fault>) -> Result<(), Fault> {
        let length = self.varint()?;
        let mut list = Body(self.take(length)?);
        while !list.is_empty() {
            let id = list.byte()?;
            let value = match id {
                0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => Value::One(list.byte()?),
                0x13 | 0x21 | 0x22 | 0x23 => Value::Two(list.two()?),
                0x02 | 0x11 | 0x18 | 0x27 => Value::Four(list.array().map(u32::from_be_bytes)?),
                0x0b => list.varint().map(|_| Value::Other)?,
                0x03 | 0x08 | 0x12 | 0x15 | 0x1a | 0x1c | 0x1f => Value::Text(list.text()?),
                0x09 | 0x16 => list.binary().map(|_| Value::Other)?,
                0x26 => {
                    list.text()?;
                    list.text()?;
                    Value::Other
                }
                _ => return Err(Fault::Malformed("a property that there is none of")),
            };
            each(id, value)?;
        }
        Ok(())
    }

    /// Nothing may be left.
    fn end(&self, packet: Incoming<'a>) -> Result<Incoming<'a>, Fault> {
        if self.is_empty() { Ok(packet) } else { Err(Fault::Malformed("bytes after the end of a packet")) }
    }
}

/// What a code of MQTT 5 from 0x80 on, or a return code of 3.1.1, means: words and what to do.
pub(super) fn refusal(version: Version, code: u8) -> &'static str {
    match (version, code) {
        (_, 0x84) | (Version::V311, 1) => "it does not speak this version of MQTT",
        (_, 0x85) | (Version::V311, 2) => "it does not take this client id: look at mqtt.client_id",
        (_, 0x86) | (Version::V311, 4) => {
            "it does not take this user and password: look at mqtt.user and its password"
        }
        (_, 0x87) | (Version::V311, 5) => {
            "it does not allow this: look at the broker's access list, mqtt.user and its password"
        }
        (_, 0x88 | 0x89) | (Version::V311, 3) => "it is busy or not available",
        (_, 0x8a) => "it has banned this client",
        (_, 0x8b) => "it is shutting down",
        (_, 0x8d) => "it heard nothing from us for too long",
        (_, 0x8e) => {
            "another client with the same id has connected: each device needs an mqtt.client_id of its own"
        }
        (_, 0x90) => "it does not take this topic",
        (_, 0x93) => "it says that too many messages were under way",
        (_, 0x95) => "it says that a packet was too large",
        (_, 0x97) => "its quota is used up",
        (_, 0x9c | 0x9d) => "it wants another server to be used",
        _ => "it refuses",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_the_standard_s() {
        let mut out = Vec::new();
        let connect = Connect {
            client_id: "c",
            user: Some("u"),
            password: Some("p"),
            keep_alive_s: 60,
            will: ("w", b"off"),
            most_bytes: 65_536,
        };
        connect.write(&mut out, Version::V5);
        let expected = b"\x10\x27\0\x04MQTT\x05\xee\0\x3c\x0a\x11\0\0\0\0\x27\0\x01\0\0\0\x01c\0\0\x01w\0\x03off\0\x01u\0\x01p";
        assert_eq!(out, expected);
        out.clear();
        Connect { user: None, password: None, ..connect }.write(&mut out, Version::V311);
        assert_eq!(out, b"\x10\x15\0\x04MQTT\x04\x2e\0\x3c\0\x01c\0\x01w\0\x03off");
        out.clear();
        publish(&mut out, Version::V5, "a/b", b"xy", Some(10), false);
        publish(&mut out, Version::V311, "a/b", &[7; 200], None, true);
        assert_eq!(out[..12], *b"\x32\x0a\0\x03a/b\0\x0a\0xy");
        assert_eq!(out[12..21], *b"\x31\xcd\x01\0\x03a/b\x07");
        assert!(out.len() <= publish_bytes("a/b", b"xy") + publish_bytes("a/b", &[7; 200]));
        out.clear();
        subscribe(&mut out, Version::V5, 1, "a/+", 1);
        assert_eq!(out, b"\x82\x09\0\x01\0\0\x03a/+\x01");
    }

    fn one(version: Version, bytes: &[u8]) -> Result<Incoming<'_>, Fault> {
        let (first, body, end) = frame(bytes, 1 << 16)?.unwrap();
        assert_eq!(end, bytes.len());
        read(version, first, &bytes[body..])
    }

    #[test]
    fn what_brokers_say_is_understood() {
        let granted = Granted { receive_maximum: 20, keep_alive_s: Some(30), ..Granted::default() };
        let ack = b"\x20\x0e\0\0\x0b\x21\0\x14\x13\0\x1e\x1f\0\x02hi";
        assert_eq!(one(Version::V5, ack), Ok(Incoming::ConnAck { code: 0, granted, reason: Some("hi") }));
        let refused = Incoming::ConnAck { code: 1, granted: Granted::default(), reason: None };
        assert_eq!(one(Version::V5, b"\x20\x02\0\x01"), Ok(refused), "of an old broker");
        assert_eq!(one(Version::V311, b"\x40\x02\0\x07"), Ok(Incoming::PubAck { id: 7, code: 0 }));
        assert_eq!(one(Version::V5, b"\x40\x04\0\x07\x87\0"), Ok(Incoming::PubAck { id: 7, code: 0x87 }));
        assert_eq!(one(Version::V5, b"\x90\x04\0\x01\0\x01"), Ok(Incoming::SubAck { id: 1, code: 1 }));
        let message = Incoming::Publish { topic: "a", payload: b"pause", id: Some(2), is_retained: false };
        assert_eq!(one(Version::V5, b"\x32\x0b\0\x01a\0\x02\0pause"), Ok(message));
        assert_eq!(one(Version::V311, b"\xd0\0"), Ok(Incoming::PingResp));
        assert_eq!(one(Version::V5, b"\xe0\x01\x8e"), Ok(Incoming::Disconnect { code: 0x8e, reason: None }));
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        for (bytes, why) in [
            (&b"\x20\x03\0\0\x05"[..], "cut short"),
            (b"\x21\x02\0\0", "reserved flags"),
            (b"\x40\x02\0\0", "identifier 0"),
            (b"\x34\x05\0\x01a\0\x02", "QoS 2"),
            (b"\x36\x05\0\x01a\0\x02", "QoS 3"),
            (b"\x30\x06\0\x03a/#\0", "wildcard"),
            (b"\x30\x03\0\0\0", "no topic"),
            (b"\x30\x04\0\x01\xff\0", "no UTF-8"),
            (b"\x30\x04\0\x01\0\0", "NUL"),
            (b"\x20\x06\0\0\x03\x21\0\0", "receive maximum 0"),
            (b"\x20\x05\0\0\x02\x7f\0", "unknown property"),
            (b"\x50\x02\0\x01", "PUBREC"),
            (b"\x10\0", "CONNECT"),
            (b"\xf0\0", "AUTH"),
            (b"\xd0\x01\0", "a long PINGRESP"),
        ] {
            assert!(one(Version::V5, bytes).is_err(), "{why}");
        }
        assert_eq!(
            frame(b"\x30\xff\xff\xff\x7f", 1 << 16),
            Err(Fault::TooLarge(268_435_460)),
            "refused before it has come"
        );
        assert!(matches!(frame(b"\x30\xff\xff\xff\xff\x01", 1 << 16), Err(Fault::Malformed(_))));
        assert_eq!(frame(b"\x30\xff\xff", 1 << 16), Ok(None));
        assert_eq!(frame(b"", 1 << 16), Ok(None));
    }

    #[test]
    fn bytes_of_any_kind_are_no_panic() {
        let mut seed = 7_u32;
        let mut random = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        };
        for _ in 0..200_000 {
            let length = usize::from(random()) % 24;
            let mut bytes: Vec<u8> = (0..length + 2).map(|_| random()).collect();
            bytes[1] = length as u8;
            for version in [Version::V5, Version::V311] {
                if let Ok(Some((first, body, end))) = frame(&bytes, 1 << 16) {
                    let _ = read(version, first, &bytes[body..end]);
                }
            }
        }
    }
}
