//! Where decoding may begin: judged from the bytes of an access unit, here and nowhere else. Containers and
//! RTSP libraries flag key frames too; many are wrong, and few know more than IDR.

use super::Codec;
use super::annexb::{h264_type, h265_type, nal_units};
use super::bits::{Bits, unescape_start};

/// What can be decoded from a random access point on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RandomAccess {
    /// Everything that follows (H.264 IDR; H.265 IDR and broken links, less the pictures that their type says
    /// to leave out).
    Clean,
    /// Everything that is shown after it. Pictures that are decoded after it and shown before it may need
    /// what lies before (H.264 pictures of I slices only, H.265 clean random access: open GOP).
    Open,
    /// Everything that is shown from the recovery point on (supplemental information of type 6), which is
    /// that much further: H.264 in `frame_num`, H.265 in order counts. An encoder that refreshes the picture
    /// bit by bit has no other.
    Gradual(i32),
}

/// Most bytes of supplemental information that are looked at: what says the recovery point stands at the
/// front.
const MAX_SEI_BYTES: usize = 512;

/// As much of a slice as says its type: two codes, each below 32 bits.
const SLICE_TYPE_BYTES: usize = 12;

/// Payload type of the recovery point (H.264 §D.1.8, H.265 §D.2.8).
const RECOVERY_POINT: usize = 6;

/// Whether decoding may begin at this access unit, and what it gives.
pub(crate) fn random_access(codec: Codec, data: &[u8]) -> Option<RandomAccess> {
    match codec {
        Codec::H264 => h264(nal_units(data)),
        Codec::H265 => h265(nal_units(data)),
        Codec::Jpeg => Some(RandomAccess::Clean),
        Codec::Mpeg4 => mpeg4_key(data).then_some(RandomAccess::Clean),
        Codec::Vp8 => data.first().is_some_and(|byte| byte & 1 == 0).then_some(RandomAccess::Clean),
        Codec::Vp9 => vp9_key(data).then_some(RandomAccess::Clean),
        Codec::Av1 => av1_sequence(data).then_some(RandomAccess::Clean),
    }
}

/// Whether the first picture is coded by itself: `vop_coding_type` of what begins with 00 00 01 B6 (ISO/IEC
/// 14496-2 §6.2.5).
fn mpeg4_key(data: &[u8]) -> bool {
    const PICTURE: u8 = 0xb6;
    nal_units(data)
        .find(|unit| unit.first() == Some(&PICTURE))
        .and_then(|unit| unit.get(1))
        .is_some_and(|byte| byte >> 6 == 0)
}

/// `frame_type` of an uncompressed header (VP9 bitstream specification §6.2).
fn vp9_key(data: &[u8]) -> bool {
    let is_key = |bits: &mut Bits<'_>| {
        let (marker, profile) = (bits.bits(2)?, bits.bits(2)?);
        if profile == 3 {
            bits.skip(1)?;
        }
        let shows_existing = bits.flag()?;
        Some(marker == 2 && !shows_existing && !bits.flag()?)
    };
    is_key(&mut Bits::new(data)).unwrap_or(false)
}

/// Whether a temporal unit has a sequence header: key frames, and only those, have one before them (AV1
/// specification §5.3, §7.5).
fn av1_sequence(data: &[u8]) -> bool {
    const SEQUENCE_HEADER: u8 = 1;
    let mut rest = data;
    while let Some((&header, mut after)) = rest.split_first() {
        if header >> 3 & 0xf == SEQUENCE_HEADER {
            return true;
        }
        if header & 4 != 0 {
            after = after.get(1..).unwrap_or_default();
        }
        if header & 2 == 0 {
            return false;
        }
        let (mut size, mut bytes) = (0_usize, 0_usize);
        for &byte in after.iter().take(8) {
            size |= usize::from(byte & 0x7f) << (7 * bytes);
            bytes += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        rest = bytes.checked_add(size).and_then(|end| after.get(end..)).unwrap_or_default();
    }
    false
}

/// Of H.264: the first picture in `units` decides (two fields may share an access unit).
pub(super) fn h264<'a>(units: impl Iterator<Item = &'a [u8]>) -> Option<RandomAccess> {
    let (mut recovery, mut slices, mut intra) = (None, 0, true);
    for unit in units {
        match h264_type(unit) {
            5 => return Some(RandomAccess::Clean),
            6 => recovery = recovery.or_else(|| recovery_point(unit.get(1..)?)?.unsigned()),
            1 => {
                let header = unescape_start(unit.get(1..).unwrap_or_default(), SLICE_TYPE_BYTES);
                let mut bits = Bits::new(&header);
                let (first_block, kind) = (bits.unsigned(), bits.unsigned());
                if slices > 0 && first_block == Some(0) {
                    break;
                }
                slices += 1;
                // I, and "I in all slices" (Table 7-6).
                intra &= matches!(kind, Some(2 | 7));
            }
            // Data partitions: no encoder makes pictures to begin at of them.
            2 => return None,
            _ => {}
        }
    }
    match recovery.and_then(|frames| i32::try_from(frames).ok()) {
        _ if slices == 0 => None,
        Some(0) | None if intra => Some(RandomAccess::Open),
        Some(frames) => Some(RandomAccess::Gradual(frames)),
        None => None,
    }
}

/// How decoding may begin at an access unit of H.265; `None`: it may not.
pub(super) fn h265<'a>(units: impl Iterator<Item = &'a [u8]>) -> Option<RandomAccess> {
    let mut recovery = None;
    for unit in units {
        match h265_type(unit) {
            16..=20 => return Some(RandomAccess::Clean),
            21 => return Some(RandomAccess::Open),
            39 => recovery = recovery.or_else(|| recovery_point(unit.get(2..)?)?.signed()),
            0..=15 => return recovery.map(RandomAccess::Gradual),
            _ => {}
        }
    }
    None
}

/// Finds the recovery point in supplemental information, header of the unit left out; both standards pack it
/// alike.
fn recovery_point(payload: &[u8]) -> Option<Recovery> {
    let payload = unescape_start(payload, MAX_SEI_BYTES);
    let mut rest = payload.as_slice();
    // Numbers are sums of bytes, of which all but the last are 255.
    let number = |rest: &mut &[u8]| {
        let mut sum = 0;
        loop {
            let (&byte, after) = rest.split_first()?;
            *rest = after;
            sum += usize::from(byte);
            if byte < u8::MAX {
                return Some(sum);
            }
        }
    };
    loop {
        let (kind, bytes) = (number(&mut rest)?, number(&mut rest)?);
        if kind == RECOVERY_POINT {
            return Some(Recovery(rest.get(..bytes.min(rest.len()))?.to_vec()));
        }
        rest = rest.get(bytes..)?;
    }
}

/// The payload of a recovery point. Its first code says how far it is.
struct Recovery(Vec<u8>);

impl Recovery {
    fn unsigned(&self) -> Option<u32> {
        Bits::new(&self.0).unsigned()
    }

    fn signed(&self) -> Option<i32> {
        Bits::new(&self.0).signed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(units: &[&[u8]]) -> Vec<u8> {
        units.iter().flat_map(|unit| [&[0, 0, 1][..], unit].concat()).collect()
    }

    #[test]
    fn h264_begins_at_idr_recovery_points_and_pictures_of_i_slices() {
        let of = |units: &[&[u8]]| random_access(Codec::H264, &stream(units));
        // Slices: first block 0 ("1"), then type 5 (P, "00110") or 7 (I, "0001000"); 0x1c is block 3, type 7.
        let (p, i, i_later) =
            (&[0x41, 0b1001_1010][..], &[0x41, 0b1000_1000, 0x80][..], &[0x41, 0b0010_0000, 0b1000_1000][..]);
        // Count 0 is "1", count 3 is "00100".
        let (at_once, in_three) =
            (&[6, 6, 1, 0b1100_0100, 0x80][..], &[6, 5, 2, 9, 9, 6, 1, 0b0010_0100, 0x80][..]);
        assert_eq!(of(&[&[0x67, 1], &[0x65, 0x88]]), Some(RandomAccess::Clean));
        assert_eq!(of(&[i, i_later]), Some(RandomAccess::Open));
        assert_eq!(of(&[at_once, i]), Some(RandomAccess::Open));
        assert_eq!(of(&[at_once, p]), Some(RandomAccess::Gradual(0)));
        assert_eq!(of(&[in_three, p]), Some(RandomAccess::Gradual(3)));
        assert_eq!(of(&[in_three, i]), Some(RandomAccess::Gradual(3)));
        assert_eq!(of(&[i, &[0x41, 0b0010_0001, 0b1010_0000]]), None, "a P slice among I slices");
        assert_eq!(of(&[i, p]), Some(RandomAccess::Open), "a field and the next one");
        for nothing in [&[p][..], &[], &[at_once], &[&[0x67, 1, 2]], &[&[0x41]], &[&[6, 255, 255]]] {
            assert_eq!(of(nothing), None);
        }
    }

    #[test]
    fn other_codecs_begin_at_their_key_frames() {
        let begins = |codec, data: &[u8]| random_access(codec, data).is_some();
        // An I picture behind its headers, a P picture.
        assert!(begins(Codec::Mpeg4, &[0, 0, 1, 0xb0, 1, 0, 0, 1, 0xb6, 0x10, 0x60]));
        assert!(!begins(Codec::Mpeg4, &[0, 0, 1, 0xb6, 0x56, 0x60]));
        assert!(!begins(Codec::Mpeg4, &[0, 0, 1, 0xb6]));
        assert!(begins(Codec::Vp8, &[0x10, 2, 0, 0x9d, 1, 0x2a]) && !begins(Codec::Vp8, &[0x31, 2]));
        // Marker 2, profile 0, shows none that exists, key; and each of these otherwise.
        assert!(begins(Codec::Vp9, &[0b1000_0010, 0x49]));
        for other in [0b1000_0110, 0b1000_1000, 0b0100_0000] {
            assert!(!begins(Codec::Vp9, &[other, 0x49]), "{other:b}");
        }
        // A temporal delimiter, a sequence header; a delimiter, a frame.
        assert!(begins(Codec::Av1, &[0x12, 0, 0x0a, 1, 0]));
        assert!(!begins(Codec::Av1, &[0x12, 0, 0x32, 1, 0]));
        for codec in [Codec::Mpeg4, Codec::Vp8, Codec::Vp9, Codec::Av1] {
            assert!(!begins(codec, &[]));
        }
        assert!(!begins(Codec::Av1, &[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]));
    }

    #[test]
    fn h265_begins_at_every_random_access_picture_and_at_recovery_points() {
        let of = |units: &[&[u8]]| random_access(Codec::H265, &stream(units));
        for (kind, want) in [
            (1, None),
            (8, None),
            (9, None),
            (16, Some(RandomAccess::Clean)),
            (19, Some(RandomAccess::Clean)),
            (20, Some(RandomAccess::Clean)),
            (21, Some(RandomAccess::Open)),
            (22, None),
        ] {
            assert_eq!(of(&[&[32 << 1, 1, 1], &[kind << 1, 1, 0x80]]), want, "{kind}");
        }
        // Signed: "00110" is 3 and "1" is 0.
        assert_eq!(of(&[&[39 << 1, 1, 6, 1, 0b0011_0100], &[2, 1, 0x80]]), Some(RandomAccess::Gradual(3)));
        assert_eq!(of(&[&[39 << 1, 1, 6, 1, 0b1010_0000], &[2, 1, 0x80]]), Some(RandomAccess::Gradual(0)));
    }
}
