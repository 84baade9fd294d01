//! How a stream itself wants its pictures turned: the display orientation message (H.264 §D.2.27, H.265
//! §D.3.17), which cameras that can be mounted upside down send where no container could say it.

use super::Codec;
use super::annexb::{h264_type, h265_type, nal_units_before};
use super::bits::{Bits, unescape};
use crate::capture::worker::rotation::Rotation;

/// Number of the message in both standards.
const DISPLAY_ORIENTATION: usize = 47;

/// What an access unit says; `None`: nothing. A mirror is left out, except two that make half a turn.
pub(crate) fn orientation(codec: Codec, unit: &[u8]) -> Option<Rotation> {
    // It stands before the first slice.
    let before_picture = nal_units_before(unit, |unit| match codec {
        Codec::H264 => (1..=5).contains(&h264_type(unit)),
        Codec::H265 => h265_type(unit) <= 31,
        _ => true,
    });
    let messages = before_picture.filter_map(|unit| match codec {
        Codec::H264 if h264_type(unit) == 6 => unit.get(1..),
        Codec::H265 if h265_type(unit) == 39 => unit.get(2..),
        _ => None,
    });
    messages.filter_map(find).last()
}

/// The last such message of an SEI unit: `type size payload`, again and again.
fn find(unit: &[u8]) -> Option<Rotation> {
    let data = unescape(unit);
    let (mut rest, mut found) = (data.as_slice(), None);
    while rest.len() > 2 {
        let kind = number(&mut rest)?;
        let size = number(&mut rest)?;
        let Some((payload, next)) = rest.split_at_checked(size) else { break };
        rest = next;
        if kind == DISPLAY_ORIENTATION {
            found = rotation(payload).or(found);
        }
    }
    found
}

/// A number as messages write it: a byte 255 for each 255, then what is left.
fn number(data: &mut &[u8]) -> Option<usize> {
    let mut number = 0;
    loop {
        let (&byte, next) = data.split_first()?;
        *data = next;
        number += usize::from(byte);
        if byte != 255 {
            return Some(number);
        }
    }
}

fn rotation(payload: &[u8]) -> Option<Rotation> {
    let mut bits = Bits::new(payload);
    let is_cancelled = bits.flag()?;
    if is_cancelled {
        return Some(Rotation::None);
    }
    let mirrors = [bits.flag()?, bits.flag()?];
    let against_clock = f64::from(bits.bits(16)?) * 360.0 / 65_536.0;
    let half = if mirrors == [true, true] { 180.0 } else { 0.0 };
    Some(Rotation::from_degrees(half - against_clock))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A message: the flags cancel and mirrors, and a rotation of so many quarters against the clock.
    fn message(flags: u8, quarters: u16) -> Vec<u8> {
        let rotation = u32::from(quarters) << 14;
        let bits = u32::from(flags) << 29 | rotation << 13 | 1 << 12;
        [&[47, 3][..], &bits.to_be_bytes()[..3]].concat()
    }

    fn h264(messages: &[u8]) -> Option<Rotation> {
        orientation(Codec::H264, &[&[0, 0, 1, 6][..], messages, &[0x80, 0, 0, 1, 0x65, 0x80]].concat())
    }

    #[test]
    fn against_the_clock_becomes_with_it() {
        for (quarters, rotation) in
            [(0, Rotation::None), (1, Rotation::ThreeQuarters), (2, Rotation::Half), (3, Rotation::Quarter)]
        {
            assert_eq!(h264(&message(0, quarters)), Some(rotation));
        }
        assert_eq!(h264(&message(0b011, 0)), Some(Rotation::Half));
        assert_eq!(h264(&message(0b100, 1)), Some(Rotation::None));
    }

    #[test]
    fn it_is_found_behind_other_messages_and_not_behind_the_picture() {
        let other = [&[5, 255, 1][..], &[7; 256]].concat();
        assert_eq!(h264(&[other, message(0, 1)].concat()), Some(Rotation::ThreeQuarters));
        let late = [&[0, 0, 1, 0x65, 0x80, 0, 0, 1, 6][..], &message(0, 1), &[0x80]].concat();
        assert_eq!(orientation(Codec::H264, &late), None);
        let h265 = [&[0, 0, 1, 39 << 1, 1][..], &message(0, 3), &[0x80]].concat();
        assert_eq!(orientation(Codec::H265, &h265), Some(Rotation::Quarter));
        assert_eq!(h264(&[47, 200, 1]), None);
    }
}
