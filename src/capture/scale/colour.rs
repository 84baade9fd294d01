//! YUV to RGB in 16-bit fixed point, written so that the compiler makes vector code of it on every target.

use crate::capture::picture::{Layout, Matrix, Range};

/// What to do with the three channels of an output row.
#[derive(Debug, Clone, Copy)]
pub(super) enum Colours {
    /// They are R, G, B.
    Rgb,
    /// Only the first is there.
    Gray(Luma),
    /// Y, U, V.
    Yuv(Luma, Chroma),
}

/// Factor and offset of Y.
#[derive(Debug, Clone, Copy)]
pub(super) struct Luma {
    /// × 2^14.
    scale: u16,
    /// Black, and half a step for rounding, × 2^6.
    offset: i16,
}

/// Factors of U and V, × 2^14.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chroma {
    red_v: i16,
    green_u: i16,
    green_v: i16,
    /// Less 1, because it may exceed 2.
    blue_u_less_one: i16,
}

/// Fractional bits of sums: i16 then holds -512..512.
const SUM_BITS: u32 = 6;

impl Colours {
    pub(super) fn new(layout: Layout, range: Range, matrix: Matrix) -> Colours {
        let (luma_scale, black, chroma_scale) = match range {
            Range::Full => (1.0, 0.0, 1.0),
            Range::Limited => (255.0 / 219.0, 16.0, 255.0 / 224.0),
        };
        let luma = Luma {
            scale: (luma_scale * 16384.0_f64).round() as u16,
            // Two products are cut off per sum, half a bit each: one bit more makes up for it.
            offset: ((0.5 - black * luma_scale) * 64.0 + 1.0).round() as i16,
        };
        // Weights of red and blue in luma: ITU-R BT.601 and BT.709.
        let (red, blue) = match matrix {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.2126, 0.0722),
        };
        let green = 1.0 - red - blue;
        let fixed = |factor: f64| (factor * chroma_scale * 16384.0).round() as i16;
        let chroma = Chroma {
            red_v: fixed(2.0 * (1.0 - red)),
            green_u: fixed(2.0 * (1.0 - blue) * blue / green),
            green_v: fixed(2.0 * (1.0 - red) * red / green),
            blue_u_less_one: (2.0f64.mul_add((1.0 - blue) * chroma_scale, -1.0) * 16384.0).round() as i16,
        };
        match layout {
            Layout::Rgb24 | Layout::Bgr24 => Colours::Rgb,
            Layout::Gray => Colours::Gray(luma),
            _ => Colours::Yuv(luma, chroma),
        }
    }

    /// Converts one row: samples × 256 to bytes.
    pub(super) fn convert(&self, line: [&[u16]; 3], out: [&mut [u8]; 3]) {
        match *self {
            Colours::Rgb => {
                for (line, out) in line.into_iter().zip(out) {
                    for (out, sample) in out.iter_mut().zip(line) {
                        // At most (255 × 256 + 128) >> 8 = 255.
                        *out = ((*sample + 128) >> 8) as u8;
                    }
                }
            }
            Colours::Gray(luma) => {
                let [red, green, blue] = out;
                for (out, sample) in red.iter_mut().zip(line[0]) {
                    *out = byte(luma.of(*sample));
                }
                green.copy_from_slice(red);
                blue.copy_from_slice(red);
            }
            Colours::Yuv(luma, chroma) => yuv(luma, chroma, line, out),
        }
    }
}

impl Luma {
    fn of(self, sample: u16) -> i16 {
        // At most 255 × 1.17 × 64: fits.
        let scaled = ((u32::from(sample) * u32::from(self.scale)) >> 16) as u16;
        scaled.cast_signed().wrapping_add(self.offset)
    }
}

/// Apart and not inlined: with all lengths equal and known, the loop is vectorised.
#[inline(never)]
fn yuv(luma: Luma, chroma: Chroma, [y, u, v]: [&[u16]; 3], [red, green, blue]: [&mut [u8]; 3]) {
    let length = y.len().min(u.len()).min(v.len()).min(red.len()).min(green.len()).min(blue.len());
    let (y, u, v) = (&y[..length], &u[..length], &v[..length]);
    let (red, green, blue) = (&mut red[..length], &mut green[..length], &mut blue[..length]);
    for index in 0..length {
        let grey = luma.of(y[index]);
        // (sample − 128) × 256.
        let u = (u[index] ^ 0x8000).cast_signed();
        let v = (v[index] ^ 0x8000).cast_signed();
        red[index] = byte(grey.saturating_add(high(v, chroma.red_v)));
        green[index] = byte(grey.saturating_sub(high(u, chroma.green_u)).saturating_sub(high(v, chroma.green_v)));
        blue[index] = byte(grey.saturating_add(u >> (8 - SUM_BITS)).saturating_add(high(u, chroma.blue_u_less_one)));
    }
}

/// The upper half of a product: 8 + 14 − 16 = 6 fractional bits.
#[inline(always)]
fn high(a: i16, b: i16) -> i16 {
    ((i32::from(a) * i32::from(b)) >> 16) as i16
}

#[inline(always)]
fn byte(sum: i16) -> u8 {
    (sum >> SUM_BITS).clamp(0, 255) as u8
}
