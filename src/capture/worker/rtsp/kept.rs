//! How much of an RTP packet tells how it is to be put together, and shows nothing.

use super::rtp::{Packet, is_control};
use crate::capture::worker::decode::Codec;

/// Bytes of a NAL unit, a fragment or anything else: room for the header of a slice.
const SLICE_BYTES: usize = 32;

/// Bytes before an RTP packet's contributors.
const RTP_HEADER_BYTES: usize = 12;

/// Bytes from its beginning on; all of a packet of RTCP.
pub(super) fn kept(packet: &[u8], codec: Option<Codec>) -> usize {
    if is_control(packet) {
        return packet.len();
    }
    let Ok(parsed) = Packet::parse(packet) else { return SLICE_BYTES.min(packet.len()) };
    let contributors = packet.first().map_or(0, |first| usize::from(first & 0x0f) * 4);
    let extension = parsed.extension.map_or(0, |(_, bytes)| 4 + bytes.len());
    let of_payload = match codec {
        Some(Codec::H264 | Codec::H265) => of_nal_units(parsed.payload, codec == Some(Codec::H265)),
        Some(Codec::Jpeg) => of_jpeg(parsed.payload),
        _ => SLICE_BYTES,
    };
    RTP_HEADER_BYTES + contributors + extension + of_payload.min(parsed.payload.len())
}

/// Parameter sets whole, alone or before others in a packet (RFC 6184 §5.7.1, RFC 7798 §4.4.2); of what follows
/// its beginning.
fn of_nal_units(payload: &[u8], is_h265: bool) -> usize {
    let kind = |unit: &[u8]| match (unit.first(), is_h265) {
        (Some(first), true) => first >> 1 & 0x3f,
        (Some(first), false) => first & 0x1f,
        (None, _) => 0,
    };
    // VPS, SPS, PPS and delimiters; SPS, PPS, delimiters and their extensions.
    let is_parameter =
        |kind: u8| if is_h265 { (32..=35).contains(&kind) } else { matches!(kind, 7..=9 | 13 | 15) };
    let (aggregation, header) = if is_h265 { (48, 2) } else { (24, 1) };
    if kind(payload) != aggregation {
        return if is_parameter(kind(payload)) { payload.len() } else { SLICE_BYTES };
    }
    let mut at = header;
    while let Some((length, unit)) = payload.get(at..).and_then(<[u8]>::split_first_chunk::<2>) {
        let length = usize::from(u16::from_be_bytes(*length));
        if !is_parameter(kind(unit)) || length > unit.len() {
            break;
        }
        at += 2 + length;
    }
    at + SLICE_BYTES
}

/// The headers of RFC 2435 §3.1, tables of quantisation with them.
fn of_jpeg(payload: &[u8]) -> usize {
    let Some(&[_, o1, o2, o3, kind, quality, ..]) = payload.first_chunk::<8>() else { return payload.len() };
    let restarts = if (64..128).contains(&kind) { 4 } else { 0 };
    let tables = payload.get(8 + restarts..).and_then(<[u8]>::first_chunk::<4>);
    let tables = tables.filter(|_| [o1, o2, o3] == [0; 3] && quality >= 128);
    8 + restarts + tables.map_or(0, |[_, _, l1, l2]| 4 + usize::from(u16::from_be_bytes([*l1, *l2])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(codec: Codec, payload: &[u8]) -> usize {
        let packet = [&[0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9][..], payload].concat();
        kept(&packet, Some(codec)) - RTP_HEADER_BYTES
    }

    fn unit(first: u8, length: usize) -> Vec<u8> {
        let mut unit = vec![0xee; length];
        unit.iter_mut().take(1).for_each(|byte| *byte = first);
        unit
    }

    fn aggregate(header: &[u8], units: &[Vec<u8>]) -> Vec<u8> {
        let mut out = header.to_vec();
        for unit in units {
            out.extend_from_slice(&u16::try_from(unit.len()).unwrap_or(0).to_be_bytes());
            out.extend_from_slice(unit);
        }
        out
    }

    #[test]
    fn parameter_sets_stay_and_pictures_are_cut() {
        assert_eq!(of(Codec::H264, &unit(0x67, 300)), 300, "SPS");
        assert_eq!(of(Codec::H264, &unit(0x65, 300)), SLICE_BYTES, "IDR");
        assert_eq!(of(Codec::H264, &unit(0x7c, 1400)), SLICE_BYTES, "FU-A");
        assert_eq!(of(Codec::H264, &unit(0x41, 5)), 5);
        assert_eq!(of(Codec::H265, &unit(0x42, 300)), 300, "SPS");
        assert_eq!(of(Codec::H265, &unit(0x26, 300)), SLICE_BYTES, "IDR");
        let units = [unit(0x67, 40), unit(0x68, 6), unit(0x65, 900)];
        assert_eq!(of(Codec::H264, &aggregate(&[0x18], &units)), 1 + 42 + 8 + SLICE_BYTES);
        assert_eq!(of(Codec::H264, &aggregate(&[0x18], &units[..2])), 1 + 42 + 8);
        let units = [unit(0x40, 40), unit(0x26, 900)];
        assert_eq!(of(Codec::H265, &aggregate(&[0x60, 1], &units)), 2 + 42 + SLICE_BYTES);
        assert_eq!(of(Codec::H264, &[0x18, 0xff, 0xff, 0x67]), 4, "longer than its packet");
        for length in 0..4 {
            assert_eq!(of(Codec::H264, &[0x18, 0, 9, 0x67][..length]), length);
        }
    }

    #[test]
    fn headers_of_jpeg_and_of_rtp_stay() {
        let scan = vec![0xee; 500];
        assert_eq!(of(Codec::Jpeg, &[&[0, 0, 0, 0, 1, 80, 40, 30][..], &scan].concat()), 8);
        assert_eq!(
            of(Codec::Jpeg, &[&[0, 0, 0, 0, 65, 255, 40, 30, 0, 0, 0, 0, 0, 0, 0, 64][..], &scan].concat()),
            80
        );
        assert_eq!(of(Codec::Jpeg, &[&[0, 0, 0, 9, 1, 255, 40, 30][..], &scan].concat()), 8, "not the first");
        let extended =
            [&[0x91, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 1, 2, 3, 4, 0xab, 0xac, 0, 1, 5, 6, 7, 8][..], &scan];
        assert_eq!(kept(&extended.concat(), Some(Codec::H264)), 24 + SLICE_BYTES);
        let report = [&[0x80, 200, 0, 6][..], &[7; 24]].concat();
        assert_eq!(kept(&report, Some(Codec::H264)), report.len());
        let padded = [&[0xa0, 203, 0, 30][..], &[7; 120]].concat();
        assert_eq!(kept(&padded, Some(Codec::H264)), padded.len(), "RTCP that RTP could not be");
        assert_eq!(kept(&[7; 900], Some(Codec::H264)), SLICE_BYTES, "no packet at all");
        assert_eq!(kept(&[], None), 0);
    }

    #[test]
    fn of_any_bytes_no_more_is_kept_than_there_is() {
        // xorshift: the same bytes in every run.
        let mut seed = 0x9e37_79b9_u32;
        let mut random = || {
            seed ^= seed << 13;
            seed ^= seed >> 17;
            seed ^= seed << 5;
            seed.to_le_bytes()[1]
        };
        for length in (0..96).cycle().take(50_000) {
            let mut packet: Vec<u8> = (0..length).map(|_| random()).collect();
            if let Some(first) = packet.first_mut() {
                *first = *first & 0x3f | 0x80;
            }
            for codec in [None, Some(Codec::H264), Some(Codec::H265), Some(Codec::Jpeg)] {
                assert!(kept(&packet, codec) <= packet.len(), "{packet:?}");
            }
        }
    }
}
