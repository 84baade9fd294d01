//! RTP and RTCP packets (RFC 3550): what they are, or that they are none.

use crate::command::PacketLoss;

/// An RTP packet's header and what it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    pub(super) kind: u8,
    pub(super) marker: bool,
    pub(super) sequence: u16,
    pub(super) timestamp: u32,
    /// Who sends it (SSRC).
    pub(super) sender: u32,
    /// Profile and bytes of its header extension.
    pub(super) extension: Option<(u16, &'a [u8])>,
    pub(super) payload: &'a [u8],
}

/// Types of RTCP packets (RFC 3550 §12.1, RFC 4585, RFC 3611), which no RTP payload type may look like.
const CONTROL_TYPES: std::ops::RangeInclusive<u8> = 192..=223;

/// An RTCP sender report.
const SENDER_REPORT: u8 = 200;
/// RTCP's packet type of a sender that leaves (BYE).
const BYE: u8 = 203;

/// Whether a packet is one of RTCP: some servers send it where RTP belongs.
pub(super) fn is_control(packet: &[u8]) -> bool {
    matches!(packet, [first, kind, ..] if first >> 6 == 2 && CONTROL_TYPES.contains(kind))
}

impl<'a> Packet<'a> {
    /// Errors: the header is none, or longer than its packet.
    pub(super) fn parse(packet: &'a [u8]) -> Result<Packet<'a>, PacketLoss> {
        let malformed = PacketLoss::Malformed;
        let (header, mut payload) = packet.split_first_chunk::<12>().ok_or(malformed)?;
        let [first, second, s1, s2, t1, t2, t3, t4, ssrc @ ..] = *header;
        if first >> 6 != 2 {
            return Err(malformed);
        }
        let mut extension = None;
        let contributors = usize::from(first & 0x0f) * 4;
        payload = payload.get(contributors..).ok_or(malformed)?;
        if first & 0x10 != 0 {
            let (&[p1, p2, l1, l2], rest) = payload.split_first_chunk::<4>().ok_or(malformed)?;
            let length = usize::from(u16::from_be_bytes([l1, l2])) * 4;
            let (bytes, rest) = rest.split_at_checked(length).ok_or(malformed)?;
            extension = Some((u16::from_be_bytes([p1, p2]), bytes));
            payload = rest;
        }
        if first & 0x20 != 0 {
            let padding = usize::from(*payload.last().ok_or(malformed)?);
            let end = payload.len().checked_sub(padding).filter(|_| padding > 0).ok_or(malformed)?;
            payload = payload.get(..end).ok_or(malformed)?;
        }
        Ok(Packet {
            kind: second & 0x7f,
            marker: second & 0x80 != 0,
            sequence: u16::from_be_bytes([s1, s2]),
            timestamp: u32::from_be_bytes([t1, t2, t3, t4]),
            sender: u32::from_be_bytes(ssrc),
            extension,
            payload,
        })
    }
}

/// What a compound of RTCP packets says that matters here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Control {
    /// The sender's clock (NTP, 32.32 bits) at its last report.
    pub(super) clock: Option<u64>,
    /// The sender (SSRC) that says BYE.
    pub(super) leaves: Option<u32>,
}

impl Control {
    /// Errors: not RTCP, or cut short. What stands before the damage is lost with it.
    pub(super) fn parse(mut packets: &[u8]) -> Result<Control, PacketLoss> {
        let mut control = Control::default();
        if packets.is_empty() {
            return Err(PacketLoss::Control);
        }
        while !packets.is_empty() {
            let (&[first, kind, l1, l2], _) = packets.split_first_chunk::<4>().ok_or(PacketLoss::Control)?;
            let length = (usize::from(u16::from_be_bytes([l1, l2])) + 1) * 4;
            if first >> 6 != 2 || !CONTROL_TYPES.contains(&kind) {
                return Err(PacketLoss::Control);
            }
            let (packet, rest) = packets.split_at_checked(length).ok_or(PacketLoss::Control)?;
            packets = rest;
            let number = |at: usize| Some(u32::from_be_bytes(*packet.get(at..at + 4)?.first_chunk()?));
            match kind {
                SENDER_REPORT => {
                    let (Some(seconds), Some(fraction)) = (number(8), number(12)) else {
                        return Err(PacketLoss::Control);
                    };
                    control.clock = Some(u64::from(seconds) << 32 | u64::from(fraction));
                }
                BYE if first & 0x1f > 0 => control.leaves = number(4),
                _ => {}
            }
        }
        Ok(control)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn packet(first: u8, rest: &[u8]) -> Vec<u8> {
        [&[first, 0xe0, 0x12, 0x34, 0, 0, 0, 5, 0, 0, 0, 9], rest].concat()
    }

    #[test]
    fn headers_extensions_and_padding() {
        let plain = packet(0x80, &[1, 2, 3]);
        let parsed = Packet::parse(&plain).unwrap();
        assert_eq!((parsed.kind, parsed.marker, parsed.sequence), (0x60, true, 0x1234));
        assert_eq!((parsed.timestamp, parsed.sender, parsed.payload), (5, 9, &[1, 2, 3][..]));
        let extended = packet(0x91, &[7, 7, 7, 7, 0xab, 0xac, 0, 1, 0, 0, 0, 0, 4]);
        let parsed = Packet::parse(&extended).unwrap();
        assert_eq!((parsed.payload, parsed.extension), (&[4][..], Some((0xabac, &[0; 4][..]))));
        assert_eq!(Packet::parse(&packet(0xa0, &[4, 0, 0, 3])).unwrap().payload, [4]);
        assert_eq!(Packet::parse(&packet(0xa0, &[0, 0, 3])).unwrap().payload, [0_u8; 0]);
    }

    #[test]
    fn what_is_no_packet() {
        let no_extension = packet(0x90, &[0, 0]);
        let long_extension = packet(0x90, &[0, 0, 0, 9, 0]);
        let (much_padding, no_padding) = (packet(0xa0, &[9]), packet(0xa0, &[0]));
        for odd in [
            &[][..],
            &[0x80; 11],
            &packet(0x40, &[1]),
            &packet(0x8f, &[1]),
            &no_extension,
            &long_extension,
            &much_padding,
            &no_padding,
        ] {
            assert_eq!(Packet::parse(odd), Err(PacketLoss::Malformed), "{odd:?}");
        }
    }

    #[test]
    fn reports_and_farewells() {
        let report = [&[0x80, 200, 0, 6, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 2][..], &[0; 12]].concat();
        let bye = [0x81, 203, 0, 1, 0, 0, 0, 9];
        let both = [&report[..], &bye].concat();
        assert_eq!(Control::parse(&both), Ok(Control { clock: Some(1 << 32 | 2), leaves: Some(9) }));
        assert!(is_control(&report) && is_control(&bye) && !is_control(&packet(0x80, &[])));
        for odd in
            [&[][..], &[0x80, 200, 0, 0], &[0x80, 200, 0, 9], &[0, 200, 0, 0], &[0x80, 96, 0, 0], &[0x80]]
        {
            assert_eq!(Control::parse(odd), Err(PacketLoss::Control), "{odd:?}");
        }
    }
}
