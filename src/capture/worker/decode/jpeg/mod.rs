//! JPEG with `zune-jpeg`: single pictures, and the frames of Motion JPEG.

mod huffman;

use super::{AccessUnit, Decoder, Output};
use crate::capture::worker::picture::{Layout, MAX_SIDE, Matrix, Picture, Plane, Range, check_size};
use crate::clock::Wall;
use crate::error::{Error, Kind, Result};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// Most scans of a progressive picture: encoders write 10, and each costs a pass over all coefficients.
const MAX_SCANS: usize = 32;

/// Decoder of a sequence of JPEG pictures.
#[derive(Default)]
pub(super) struct Jpeg {
    /// Kept between pictures, so that a steady stream allocates nothing here.
    pixels: Vec<u8>,
    passed: u64,
}

/// Width and height in pixels of a JPEG picture, from its headers.
pub(crate) fn size(data: &[u8]) -> Option<(u32, u32)> {
    let mut decoder = JpegDecoder::new(ZCursor::new(data));
    decoder.decode_headers().ok()?;
    decoder.info().map(|info| (u32::from(info.width), u32::from(info.height)))
}

/// Bytes that decoding a JPEG picture needs, its data included: it is decoded to its last colour, and in
/// several passes every coefficient is kept meanwhile. `None`: it has no frame header.
pub(super) fn decoding_bytes(data: &[u8]) -> Option<u64> {
    const PROGRESSIVE: u8 = 0xc2;
    let mut at = 2;
    loop {
        let &[0xff, marker, l1, l2] = data.get(at..)?.first_chunk::<4>()? else { return None };
        match marker {
            0xff => at += 1,
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                let &[_, h1, h2, w1, w2, components] = data.get(at + 4..)?.first_chunk::<6>()?;
                let pixels =
                    u64::from(u16::from_be_bytes([w1, w2])) * u64::from(u16::from_be_bytes([h1, h2]));
                let components = u64::from(components);
                let coefficients = if marker == PROGRESSIVE { 2 * components } else { 0 };
                return Some(pixels * (components.max(1) + coefficients) + 2 * data.len() as u64);
            }
            _ => at += 2 + usize::from(u16::from_be_bytes([l1, l2])),
        }
    }
}

impl Decoder for Jpeg {
    fn decode(&mut self, unit: &AccessUnit<'_>, timestamp: Wall, output: &mut Output<'_>) -> Result<()> {
        let damaged = |cause| Error::new(Kind::Undecodable, "JPEG picture is damaged").because(cause);
        let data = huffman::complete(unit.data);
        let side = MAX_SIDE as usize;
        let options =
            DecoderOptions::default().set_max_width(side).set_max_height(side).jpeg_set_max_scans(MAX_SCANS);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(data.as_ref()), options);
        decoder.decode_headers().map_err(|error| damaged(format!("{error:?}")))?;
        let gray = decoder.info().is_some_and(|info| info.components == 1);
        let (colours, layout, channels) =
            if gray { (ColorSpace::Luma, Layout::Gray, 1) } else { (ColorSpace::RGB, Layout::Rgb24, 3) };
        decoder.set_options(options.jpeg_set_out_colorspace(colours));
        let info = decoder.info().ok_or_else(|| damaged(String::from("no size")))?;
        let (width, height) = (u32::from(info.width), u32::from(info.height));
        check_size(width, height)?;
        let stride = usize::from(info.width) * channels;
        let bytes = stride * usize::from(info.height);
        self.pixels.resize(bytes, 0);
        decoder.decode_into(&mut self.pixels).map_err(|error| damaged(format!("{error:?}")))?;
        if !unit.shown {
            return Ok(());
        }
        let planes = [Plane { data: &self.pixels, stride }, Plane::default(), Plane::default()];
        let picture = Picture { width, height, layout, planes, range: Range::Full, matrix: Matrix::Bt601 };
        picture.check()?;
        output(&picture, timestamp)
    }

    fn pass(&mut self, unit: &AccessUnit<'_>) {
        self.passed += u64::from(unit.shown);
    }

    fn lost(&mut self) {}

    fn waiting(&self) -> bool {
        false
    }

    fn passed(&mut self) -> u64 {
        std::mem::take(&mut self.passed)
    }

    fn flush(&mut self, _: &mut Output<'_>) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::capture::worker::clips::asset;

    fn decode(data: &[u8]) -> Result<(u32, u32, Layout, Vec<u8>)> {
        let mut seen = None;
        let unit = AccessUnit { data, shown: true };
        Jpeg::default().decode(&unit, Wall::from_micros(1), &mut |picture, _| {
            seen = Some((picture.width, picture.height, picture.layout, picture.planes[0].data.to_vec()));
            Ok(())
        })?;
        Ok(seen.unwrap())
    }

    /// Mean absolute difference from what ffmpeg makes of it: the inverse DCT is not the same to the last
    /// bit.
    fn difference(got: &[u8], want: &[u8]) -> f64 {
        assert_eq!(got.len(), want.len());
        got.iter().zip(want).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / got.len() as f64
    }

    #[test]
    fn colour_and_gray_are_near_ffmpeg() {
        for (name, layout) in [("colour", Layout::Rgb24), ("gray", Layout::Gray)] {
            let data = std::fs::read(asset(&format!("clips/{name}.jpg"))).unwrap();
            let want = std::fs::read(asset(&format!("clips/{name}.jpg.raw"))).unwrap();
            let (width, height, got_layout, got) = decode(&data).unwrap();
            assert_eq!((width, height, got_layout), (64, 48, layout));
            assert_eq!(size(&data), Some((64, 48)));
            let channels = if name == "gray" { 1 } else { 3 };
            assert_eq!(decoding_bytes(&data), Some(64 * 48 * channels + 2 * data.len() as u64));
            assert!(difference(&got, &want) < 4.0, "{name}: {}", difference(&got, &want));
        }
    }

    #[test]
    fn frames_of_cameras_that_leave_out_the_huffman_tables() {
        let data = std::fs::read(asset("clips/colour.jpg")).unwrap();
        let start = data.windows(2).position(|marker| marker == [0xff, 0xc4]).unwrap();
        let length = usize::from(u16::from_be_bytes([data[start + 2], data[start + 3]]));
        let bare = [&data[..start], &data[start + 2 + length..]].concat();
        assert_eq!(decode(&bare).unwrap(), decode(&data).unwrap());
    }

    #[test]
    fn damage_is_an_error_or_a_damaged_picture() {
        let data = std::fs::read(asset("clips/colour.jpg")).unwrap();
        for length in (0..data.len()).step_by(7) {
            let _ = decoding_bytes(&data[..length]);
            if let Err(error) = decode(&data[..length]) {
                assert_eq!(error.kind(), Kind::Undecodable);
            }
        }
    }
}
