//! Where access units begin and end in a stream of NAL units.

use super::Codec;
use super::annexb::{h264_type, h265_type};

/// What a NAL unit is to the cutting of access units (H.264 §7.4.1.2.3, H.265 §7.4.2.4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// First slice of a picture.
    BeginsPicture,
    /// What may only stand before a picture.
    Leads,
    /// Further slices, and what follows a picture.
    Continues,
    /// Stands before each slice of a layered stream.
    Undecided,
}

impl Part {
    /// By the first three bytes of a NAL unit.
    pub(crate) fn of(codec: Codec, header: &[u8]) -> Part {
        let first_slice = |at: usize| header.get(at).is_some_and(|byte| byte & 0x80 != 0);
        match codec {
            Codec::H264 => match h264_type(header) {
                1 | 2 | 5 if first_slice(1) => Part::BeginsPicture,
                6..=9 | 15..=18 => Part::Leads,
                14 => Part::Undecided,
                _ => Part::Continues,
            },
            Codec::H265 => match h265_type(header) {
                0..=31 if first_slice(2) => Part::BeginsPicture,
                32..=35 | 39 | 41..=44 | 48..=55 => Part::Leads,
                _ => Part::Continues,
            },
            _ => Part::Continues,
        }
    }
}
