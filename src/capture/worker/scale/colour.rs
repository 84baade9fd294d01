//! YUV to RGB in 16-bit fixed point, written so that the compiler makes vector code of it on every target.
//!
//! The arithmetic is that of the reference's decoder on x86 (FFmpeg's swscale, behind OpenCV): samples × 8,
//! factors × 8192, the upper half of each product, each cut off. It is up to two steps darker than exact
//! arithmetic, and models see the same picture.

use crate::capture::worker::picture::{Chroma as ChromaSize, Layout, Matrix, Range};

/// What to do with the three channels of an output row.
#[derive(Debug, Clone, Copy)]
pub(super) enum Colours {
    /// They are R, G, B.
    Rgb,
    /// Only the first is there.
    Gray(Luma),
    /// Y'CbCr, with its steps to RGB.
    Yuv(Luma, Chroma),
}

/// Factor and black level of Y.
#[derive(Debug, Clone, Copy)]
pub(super) struct Luma {
    /// Steps of RGB for one of Y, times 2^13.
    scale: i16,
    /// Y of black, times 2^3.
    black: i16,
}

/// Factors of U and V, × 2^13.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chroma {
    red_v: i16,
    green_u: i16,
    green_v: i16,
    blue_u: i16,
}

/// Samples come × 2^8 and are multiplied × 2^3: the three fractional bits that the mixing of rows and columns
/// leaves.
const SAMPLE_SHIFT: u32 = 5;
/// Grey of U and V, × 2^3.
const NEUTRAL: i16 = 128 << 3;

impl Colours {
    pub(super) fn new(layout: Layout, range: Range, matrix: Matrix) -> Colours {
        let (luma_scale, black, chroma_scale) = match range {
            Range::Full => (1.0, 0, 1.0),
            Range::Limited => (255.0 / 219.0, 16 << 3, 255.0 / 224.0),
        };
        let fixed = |factor: f64| (factor * 8192.0).round() as i16;
        let luma = Luma { scale: fixed(luma_scale), black };
        // Weights of red and blue in luma: ITU-R BT.601 and BT.709.
        let (red, blue) = match matrix {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.2126, 0.0722),
        };
        let green = 1.0 - red - blue;
        let chroma = Chroma {
            red_v: fixed(2.0 * (1.0 - red) * chroma_scale),
            green_u: fixed(-2.0 * (1.0 - blue) * blue / green * chroma_scale),
            green_v: fixed(-2.0 * (1.0 - red) * red / green * chroma_scale),
            blue_u: fixed(2.0 * (1.0 - blue) * chroma_scale),
        };
        match layout {
            Layout::Rgb24 | Layout::Bgr24 => Colours::Rgb,
            Layout::Gray | Layout::Deep { chroma: ChromaSize::None, .. } => Colours::Gray(luma),
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
    #[inline(always)]
    fn of(self, sample: u16) -> i16 {
        high((sample >> SAMPLE_SHIFT).cast_signed() - self.black, self.scale)
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
        let u = (u[index] >> SAMPLE_SHIFT).cast_signed() - NEUTRAL;
        let v = (v[index] >> SAMPLE_SHIFT).cast_signed() - NEUTRAL;
        // No sum leaves -512..768.
        red[index] = byte(grey + high(v, chroma.red_v));
        green[index] = byte(grey + high(u, chroma.green_u) + high(v, chroma.green_v));
        blue[index] = byte(grey + high(u, chroma.blue_u));
    }
}

/// The upper half of a product, cut off towards minus infinity: 3 + 13 − 16 = 0 fractional bits.
#[inline(always)]
fn high(a: i16, b: i16) -> i16 {
    ((i32::from(a) * i32::from(b)) >> 16) as i16
}

#[inline(always)]
fn byte(sum: i16) -> u8 {
    sum.clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pixels of tests/goldens/images/short_mp4_frame1.png, which the reference decoded, and ffmpeg's samples
    /// of them.
    #[test]
    fn flat_colours_are_the_reference_s_to_the_bit() {
        let colours = Colours::new(Layout::I420, Range::Limited, Matrix::Bt601);
        for (samples, expected) in [
            ([145, 53, 34], [0, 255, 0]),
            ([41, 240, 110], [0, 0, 254]),
            ([81, 90, 240], [253, 0, 0]),
            ([126, 128, 128], [128; 3]),
        ] {
            let line = samples.map(|sample: u16| [sample << 8]);
            let (mut red, mut green, mut blue) = ([0], [0], [0]);
            colours.convert([&line[0], &line[1], &line[2]], [&mut red, &mut green, &mut blue]);
            assert_eq!([red[0], green[0], blue[0]], expected, "{samples:?}");
        }
    }
}
