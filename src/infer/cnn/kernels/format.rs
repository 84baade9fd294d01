//! What the numbers of a picture in blocks are, and what of them one float's place holds.

use super::lanes::LANES;

/// Numbers of pictures in blocks and of the weights beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Format {
    /// 32-bit floats.
    Float32,
    #[cfg_attr(not(any(test, target_arch = "x86_64")), allow(dead_code))] // only x86-64 computes with it
    /// The upper 16 bits of a 32-bit float: its range, 8 bits of precision.
    Bfloat16,
    #[cfg_attr(not(any(test, target_arch = "aarch64")), allow(dead_code))] // only arm64 computes with it
    /// IEEE 754's binary16: up to 65 504, 11 bits of precision.
    Float16,
}

impl Format {
    /// Channels of a block, which has the bytes of [`LANES`] floats.
    pub(crate) const fn lanes(self) -> usize {
        match self {
            Format::Float32 => LANES,
            Format::Bfloat16 | Format::Float16 => 2 * LANES,
        }
    }

    /// Numbers in a float's place.
    pub(crate) const fn per_float(self) -> usize {
        self.lanes() / LANES
    }

    /// The neighbouring channels that a convolution's loop takes together: its taps hold whole multiples.
    pub(crate) const fn unit(self) -> usize {
        match self {
            Format::Float32 => 1,
            Format::Bfloat16 | Format::Float16 => 8,
        }
    }

    /// Blocks that hold a number of channels.
    pub(crate) const fn blocks_for(self, channels: usize) -> usize {
        channels.div_ceil(self.lanes())
    }

    /// The float at `index` of a block whose channels have these numbers.
    #[inline]
    pub(crate) fn float(self, index: usize, number: impl Fn(usize) -> f32) -> f32 {
        match self {
            Format::Float32 => number(index),
            Format::Bfloat16 | Format::Float16 => {
                let [first, second] = [number(2 * index), number(2 * index + 1)].map(|n| self.bits(n));
                f32::from_bits(u32::from(first) | u32::from(second) << 16)
            }
        }
    }

    /// The number of a channel in the float at its place.
    #[inline]
    pub(crate) fn number(self, channel: usize, float: f32) -> f32 {
        let half = (float.to_bits() >> (16 * (channel % 2))) as u16;
        match self {
            Format::Float32 => float,
            Format::Bfloat16 => from_bfloat16(half),
            Format::Float16 => from_float16(half),
        }
    }

    /// The nearest number that it has.
    pub(crate) fn round(self, number: f32) -> f32 {
        match self {
            Format::Float32 => number,
            Format::Bfloat16 => from_bfloat16(to_bfloat16(number)),
            Format::Float16 => from_float16(to_float16(number)),
        }
    }

    /// The bits of a number of half precision.
    fn bits(self, number: f32) -> u16 {
        match self {
            Format::Float16 => to_float16(number),
            _ => to_bfloat16(number),
        }
    }
}

/// The nearest bfloat16, ties to even; what is too small for a normal number becomes zero, as in the CPU's
/// instruction.
pub(crate) fn to_bfloat16(value: f32) -> u16 {
    let bits = value.to_bits();
    let upper = (bits >> 16) as u16;
    match value.classify() {
        std::num::FpCategory::Nan => upper | 0x40,
        std::num::FpCategory::Subnormal => upper & 0x8000,
        _ => ((bits + 0x7fff + u32::from(upper & 1)) >> 16) as u16,
    }
}

/// What a bfloat16 is worth.
pub(crate) fn from_bfloat16(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

/// 2^−24, the least binary16 above zero.
const LEAST_FLOAT16: f32 = 1.0 / 16_777_216.0;
/// 2^−14, the least normal one.
const LEAST_NORMAL: f32 = 1.0 / 16_384.0;
/// What lies from here on is nearer to 2^16 than to the greatest, 65 504, or just between: infinite.
const INFINITE: f32 = 65_520.0;

/// The nearest binary16, ties to even.
pub(crate) fn to_float16(value: f32) -> u16 {
    let sign = ((value.to_bits() >> 16) & 0x8000) as u16;
    let size = value.abs();
    let rest = if size.is_nan() {
        0x7e00
    } else if size >= INFINITE {
        0x7c00
    } else if size < LEAST_NORMAL {
        // a whole number of the least, up to the least normal one
        (size / LEAST_FLOAT16).round_ties_even() as u16
    } else {
        let bits = size.to_bits();
        ((bits - (112 << 23) + 0xfff + (bits >> 13 & 1)) >> 13) as u16
    };
    sign | rest
}

/// What a binary16 is worth.
pub(crate) fn from_float16(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let (exponent, fraction) = (u32::from(half >> 10 & 0x1f), u32::from(half & 0x3ff));
    let size = match exponent {
        0 => (fraction as f32 * LEAST_FLOAT16).to_bits(),
        0x1f => 0xff << 23 | fraction << 13,
        _ => (exponent + 112) << 23 | fraction << 13,
    };
    f32::from_bits(sign | size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_is_its_own_nearest() {
        for half in 0..=u16::MAX {
            let value = from_float16(half);
            match value.is_nan() {
                true => assert!(from_float16(to_float16(value)).is_nan()),
                false => assert_eq!(to_float16(value), half, "{half:#x}"),
            }
            let value = from_bfloat16(half);
            if !value.is_nan() && !value.is_subnormal() {
                assert_eq!(to_bfloat16(value), half, "{half:#x}");
            }
        }
    }

    /// Between two neighbours the nearer one, and of two as near the even one.
    #[test]
    fn between_two_halves_the_nearer_one() {
        for half in 0..0x7bff_u16 {
            let (low, high) = (from_float16(half), from_float16(half + 1));
            let middle = f32::midpoint(low, high);
            assert_eq!(to_float16(middle), half + half % 2, "{half:#x}");
            assert_eq!(to_float16(middle.next_down()), half, "{half:#x}");
            assert_eq!(to_float16(middle.next_up()), half + 1, "{half:#x}");
            assert_eq!(to_float16(-middle), 0x8000 | (half + half % 2), "{half:#x}");
        }
        assert_eq!(to_float16(65_519.0), 0x7bff);
        assert_eq!(to_float16(65_520.0), 0x7c00);
        assert_eq!(to_float16(f32::NEG_INFINITY), 0xfc00);
    }

    #[test]
    fn a_float_holds_what_was_put_in() {
        for format in [Format::Float32, Format::Bfloat16, Format::Float16] {
            let number = |channel: usize| channel as f32 * 0.5 - 3.0;
            for channel in 0..format.lanes() {
                let float = format.float(channel / format.per_float(), number);
                assert_eq!(format.number(channel, float), number(channel), "{format:?}");
            }
        }
    }
}
