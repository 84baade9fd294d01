//! From the planes of a picture to JPEG.

use super::Small;
use super::overlay::Overlay;
use jpeg_encoder::{Encoder, ImageBuffer, JpegColorType, SamplingFactor};

/// Of 100: what cameras use for their own stills, and the step below for pictures that would not fit
/// otherwise (noise).
const QUALITIES: [u8; 2] = [80, 40];

/// Writes the picture with what is drawn over it into `out`; its length in bytes, 0 when it does not fit.
pub(super) fn encode(small: &Small, overlay: &Overlay, out: &mut [u8]) -> usize {
    for quality in QUALITIES {
        let room = out.len();
        let mut rest = &mut *out;
        let mut encoder = Encoder::new(&mut rest, quality);
        encoder.set_sampling_factor(SamplingFactor::F_2_2);
        if encoder.encode_image(Rows { small, overlay }).is_ok() {
            return room - rest.len();
        }
    }
    0
}

struct Rows<'a> {
    small: &'a Small,
    overlay: &'a Overlay,
}

impl ImageBuffer for Rows<'_> {
    fn get_jpeg_color_type(&self) -> JpegColorType {
        JpegColorType::Ycbcr
    }

    fn width(&self) -> u16 {
        self.small.width
    }

    fn height(&self) -> u16 {
        self.small.height
    }

    fn fill_buffers(&self, y: u16, [luma, blue, red, _]: &mut [Vec<u8>; 4]) {
        let [r, g, b] = self.small.row(y);
        let starts = [luma.len(), blue.len(), red.len()];
        append(luma, r, g, b, |r, g, b| (19595 * r + 38470 * g + 7471 * b + HALF) >> 16);
        append(blue, r, g, b, |r, g, b| (-11059 * r - 21709 * g + 32768 * b + NEUTRAL + HALF - 1) >> 16);
        append(red, r, g, b, |r, g, b| (32768 * r - 27439 * g - 5329 * b + NEUTRAL + HALF - 1) >> 16);
        let [luma, blue, red] = [luma, blue, red].map(|buffer| buffer.as_mut_slice());
        let [luma_start, blue_start, red_start] = starts;
        let rows = (luma.get_mut(luma_start..), blue.get_mut(blue_start..), red.get_mut(red_start..));
        if let (Some(luma), Some(blue), Some(red)) = rows {
            self.overlay.apply(usize::from(y), &mut [luma, blue, red]);
        }
    }
}

/// One half and the grey of the colour differences, × 2^16.
const HALF: i32 = 1 << 15;
const NEUTRAL: i32 = 128 << 16;

/// JFIF's weights, × 2^16. Apart and not inlined: the loop is vectorised.
#[inline(never)]
fn append(out: &mut Vec<u8>, r: &[u8], g: &[u8], b: &[u8], weigh: impl Fn(i32, i32, i32) -> i32) {
    // At most 255 after the shift: the factors of each line add up to 2^16 or, around the grey, to less than
    // its half.
    out.extend(
        r.iter().zip(g).zip(b).map(|((r, g), b)| weigh(i32::from(*r), i32::from(*g), i32::from(*b)) as u8),
    );
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    fn small(width: u16, height: u16, planes: Vec<u8>) -> Small {
        let held = Arc::new(AtomicUsize::new(planes.len()));
        Small { frame_id: 1, asked: width, width, height, frame: (width.into(), height.into()), planes, held }
    }

    /// Decodes with zune-jpeg: the round trip in detail; ffmpeg judges the whole in
    /// `tests/process/pictures.rs`.
    fn decoded(jpeg: &[u8]) -> Vec<u8> {
        zune_jpeg::JpegDecoder::new(zune_jpeg::zune_core::bytestream::ZCursor::new(jpeg)).decode().unwrap()
    }

    #[test]
    fn colours_survive() {
        for colour in [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255; 3], [0; 3], [12, 200, 99]] {
            let planes = colour.iter().flat_map(|channel| vec![*channel; 24 * 17]).collect();
            let mut out = vec![0; 10_000];
            let length = encode(&small(24, 17, planes), &Overlay::default(), &mut out);
            let pixels = decoded(&out[..length]);
            assert_eq!(pixels.len(), 24 * 17 * 3);
            let near =
                |pixel: &[u8]| pixel.iter().zip(colour).all(|(found, wanted)| found.abs_diff(wanted) <= 3);
            assert!(pixels.chunks_exact(3).all(near), "{colour:?}: {:?}", &pixels[..3]);
        }
    }

    #[test]
    fn noise_fits_at_the_lower_quality_and_what_never_fits_is_nothing() {
        let mut seed = 0x9e37_79b9_u32;
        let mut noise = || {
            seed ^= seed << 13;
            seed ^= seed >> 17;
            seed ^= seed << 5;
            seed.to_le_bytes()[2]
        };
        let picture = small(256, 256, (0..256 * 256 * 3).map(|_| noise()).collect());
        let mut out = vec![0; crate::capture::shown::jpeg_bytes(256)];
        let length = encode(&picture, &Overlay::default(), &mut out);
        assert!(length > 0 && decoded(&out[..length]).len() == 256 * 256 * 3, "{length}");
        assert_eq!(encode(&picture, &Overlay::default(), &mut out[..2000]), 0);
    }
}
