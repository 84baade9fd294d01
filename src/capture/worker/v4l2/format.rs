//! Which of a camera's picture formats is taken, and how its buffers become pictures.

use super::ioctl::Given;
use crate::capture::worker::decode::Codec;
use crate::capture::worker::picture::{Layout, Matrix, Picture, Plane, Range, check_size};
use crate::command::Property;
use crate::error::{Error, Kind, Result};

/// Values of the colour fields of `PixelFormat` (`linux/videodev2.h`) that mean something else than the default
/// here.
mod colour {
    pub(super) const COLORSPACE_REC709: u32 = 3;
    pub(super) const COLORSPACE_JPEG: u32 = 7;
    pub(super) const ENCODING_DEFAULT: u32 = 0;
    pub(super) const ENCODING_709: u32 = 2;
    pub(super) const QUANTIZATION_DEFAULT: u32 = 0;
    pub(super) const QUANTIZATION_FULL_RANGE: u32 = 1;
}

/// What a buffer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// Samples of this layout.
    Raw(Layout),
    /// Pictures that are coded and have to be decoded.
    Coded(Codec),
}

/// Formats that are understood, the dearest to us first: NV12 and YUYV need no decoder; JPEG costs a decoder
/// and is what USB cameras need above 640x480 (see [`choose`]).
const FORMATS: [(&[u8; 4], Content); 12] = [
    (b"NV12", Content::Raw(Layout::Nv12)),
    // The same with planes that lie apart.
    (b"NM12", Content::Raw(Layout::Nv12)),
    (b"YUYV", Content::Raw(Layout::Yuyv)),
    (b"UYVY", Content::Raw(Layout::Uyvy)),
    (b"YU12", Content::Raw(Layout::I420)),
    (b"YM12", Content::Raw(Layout::I420)),
    (b"MJPG", Content::Coded(Codec::Jpeg)),
    (b"JPEG", Content::Coded(Codec::Jpeg)),
    (b"BGR3", Content::Raw(Layout::Bgr24)),
    (b"RGB3", Content::Raw(Layout::Rgb24)),
    (b"GREY", Content::Raw(Layout::Gray)),
    (b"H264", Content::Coded(Codec::H264)),
];

/// Most pieces of memory that a picture lies in: one for each plane.
pub(super) const MAX_PARTS: usize = 3;

/// What is asked for where the client does not say: what OpenCV asks for.
const DEFAULT_SIZE: (u32, u32) = (640, 480);

/// Frames per second asked for where the client does not say: a driver's own default can be 5.
pub(super) const DEFAULT_FPS: f64 = 30.0;

/// A format that reaches this many frames per second is fast enough where the client does not say.
const ENOUGH_FPS: f64 = 15.0;

/// What the client asks of a camera.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Wish {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) fps: Option<f64>,
    pub(super) fourcc: Option<[u8; 4]>,
}

impl Wish {
    /// From `frame_width`, `frame_height`, `fps` and `fourcc`; values that mean nothing are passed over.
    pub(super) fn of(properties: &[Property]) -> Wish {
        let value = |name| {
            properties.iter().rev().find(|property| property.name == name).map(|property| property.value)
        };
        let side = |name, default| {
            value(name).filter(|&side| (1.0..65_536.0).contains(&side)).map_or(default, |side| side as u32)
        };
        Wish {
            width: side("frame_width", DEFAULT_SIZE.0),
            height: side("frame_height", DEFAULT_SIZE.1),
            fps: value("fps").filter(|&fps| (0.1..=1000.0).contains(&fps)),
            // OpenCV's FOURCC is a number whose lowest byte is the first letter.
            fourcc: value("fourcc")
                .filter(|&code| (1.0..4_294_967_296.0).contains(&code))
                .map(|code| (code as u32).to_le_bytes()),
        }
    }
}

/// The content of a format that we understand.
pub(super) fn content(fourcc: [u8; 4]) -> Option<Content> {
    FORMATS.iter().find(|(known, _)| **known == fourcc).map(|(_, content)| *content)
}

/// The format to ask for, of those that the camera offers. `fastest` tells the highest rate of a format at
/// the wished size, `None` where the camera does not say: over USB 2 YUYV at 1080p runs at 5 frames per
/// second and JPEG at 30.
pub(super) fn choose(
    offered: &[[u8; 4]],
    wish: Wish,
    fastest: impl Fn([u8; 4]) -> Option<f64>,
) -> Result<[u8; 4]> {
    let names =
        || offered.iter().map(|fourcc| fourcc.escape_ascii().to_string()).collect::<Vec<_>>().join(", ");
    if let Some(fourcc) = wish.fourcc {
        let known = content(fourcc).is_some() && offered.contains(&fourcc);
        let refusal = || {
            Error::new(
                Kind::SourceUnsupported,
                format!("no pixel format {}: the camera offers {}", fourcc.escape_ascii(), names()),
            )
        };
        return known.then_some(fourcc).ok_or_else(refusal);
    }
    let mut candidates = FORMATS.iter().map(|(fourcc, _)| **fourcc).filter(|fourcc| offered.contains(fourcc));
    // A little less is the same: 29.97 for 30.
    let enough = wish.fps.unwrap_or(ENOUGH_FPS) * 0.99;
    let first = candidates.clone().next();
    let fast = candidates.find(|&fourcc| fastest(fourcc).is_none_or(|fps| fps >= enough));
    fast.or(first)
        .ok_or_else(|| Error::new(Kind::SourceUnsupported, format!("the camera offers only {}", names())))
}

/// How the buffers of a format that the driver gave become pictures.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frames {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) content: Content,
    /// Bytes from row to row of each plane.
    strides: [usize; MAX_PARTS],
    /// Planes have memory of their own.
    apart: bool,
    range: Range,
    matrix: Matrix,
}

impl Frames {
    /// Checks what came back from the driver: it may differ from what was asked in everything.
    pub(super) fn new(given: &Given) -> Result<Frames> {
        let Given { pixels: format, strides: apart } = given;
        let insists = || {
            Error::new(
                Kind::SourceUnsupported,
                format!("the camera insists on {}", format.fourcc.escape_ascii()),
            )
        };
        let content = content(format.fourcc).ok_or_else(insists)?;
        check_size(format.width, format.height)?;
        let mut strides = [0; MAX_PARTS];
        if let Content::Raw(layout) = content {
            let planes = layout.planes(format.width as usize, format.height as usize);
            let there = planes.iter().filter(|(row_bytes, _)| *row_bytes > 0).count();
            if apart.len() != 1 && apart.len() != there {
                let message = format!("the camera gives {} pieces of memory for {there} planes", apart.len());
                return Err(Error::new(Kind::SourceUnsupported, message));
            }
            for (number, (stride, (row_bytes, _))) in strides.iter_mut().zip(planes).enumerate() {
                // In one piece of memory the chroma of I420 has half the stride.
                let shared = usize::try_from(format.stride).unwrap_or(0)
                    / if layout == Layout::I420 && number > 0 { 2 } else { 1 };
                let own =
                    apart.get(number).filter(|_| apart.len() > 1).and_then(|own| usize::try_from(*own).ok());
                // Some drivers say 0 for "no padding".
                *stride = Some(own.unwrap_or(shared)).filter(|&stride| stride > 0).unwrap_or(row_bytes);
                if *stride < row_bytes {
                    let message = format!("the camera's rows of {stride} bytes are too short for its width");
                    return Err(Error::new(Kind::SourceUnsupported, message));
                }
            }
        }
        // What a default means stands at V4L2_MAP_QUANTIZATION_DEFAULT and V4L2_MAP_YCBCR_ENC_DEFAULT.
        let range = match (format.quantization, format.colorspace) {
            (colour::QUANTIZATION_FULL_RANGE, _)
            | (colour::QUANTIZATION_DEFAULT, colour::COLORSPACE_JPEG) => Range::Full,
            _ => Range::Limited,
        };
        let matrix = match (format.encoding, format.colorspace) {
            (colour::ENCODING_709, _) | (colour::ENCODING_DEFAULT, colour::COLORSPACE_REC709) => {
                Matrix::Bt709
            }
            _ => Matrix::Bt601,
        };
        let apart = apart.len() > 1;
        Ok(Frames { width: format.width, height: format.height, content, strides, apart, range, matrix })
    }

    /// The picture in the pieces of a buffer that were cut to the bytes in use. In one piece, planes lie one
    /// after the other.
    pub(super) fn picture<'a>(&self, layout: Layout, parts: [&'a [u8]; MAX_PARTS]) -> Result<Picture<'a>> {
        let rows = layout.planes(self.width as usize, self.height as usize);
        let mut planes = [Plane::default(); 3];
        let [mut rest, ..] = parts;
        for (number, ((plane, stride), (_, count))) in
            planes.iter_mut().zip(self.strides).zip(rows).enumerate()
        {
            let (this, next) = rest.split_at((stride * count).min(rest.len()));
            let data = if self.apart { parts.get(number).copied().unwrap_or_default() } else { this };
            *plane = Plane { data, stride };
            rest = next;
        }
        let picture = Picture {
            width: self.width,
            height: self.height,
            layout,
            planes,
            range: self.range,
            matrix: self.matrix,
        };
        picture.check()?;
        Ok(picture)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::capture::worker::videodev::raw::PixelFormat;

    fn property(name: &str, value: f64) -> Property {
        Property { name: name.into(), value }
    }

    #[test]
    fn wishes_are_read_and_nonsense_is_passed_over() {
        let mjpg = f64::from(u32::from_le_bytes(*b"MJPG"));
        let wish =
            Wish::of(&[property("frame_width", 1920.0), property("fps", 25.0), property("fourcc", mjpg)]);
        assert_eq!(wish, Wish { width: 1920, height: 480, fps: Some(25.0), fourcc: Some(*b"MJPG") });
        let wish =
            Wish::of(&[property("frame_width", -5.0), property("fps", f64::NAN), property("fourcc", -1.0)]);
        assert_eq!(wish, Wish { width: 640, height: 480, fps: None, fourcc: None });
    }

    #[test]
    fn jpeg_only_where_raw_is_too_slow() {
        let offered = [*b"MJPG", *b"YUYV", *b"XXXX"];
        let wish = Wish::of(&[]);
        let usb2 = |fourcc: [u8; 4]| Some(if &fourcc == b"YUYV" { 5.0 } else { 30.0 });
        assert_eq!(choose(&offered, wish, |_| None).unwrap(), *b"YUYV");
        assert_eq!(choose(&offered, wish, usb2).unwrap(), *b"MJPG");
        assert_eq!(choose(&offered, wish, |_| Some(5.0)).unwrap(), *b"YUYV");
        assert_eq!(choose(&offered, Wish { fourcc: Some(*b"MJPG"), ..wish }, |_| None).unwrap(), *b"MJPG");
        assert!(
            choose(&offered, Wish { fourcc: Some(*b"NV12"), ..wish }, |_| None)
                .unwrap_err()
                .message()
                .contains("XXXX")
        );
        assert_eq!(choose(&[*b"XXXX"], wish, |_| None).unwrap_err().kind(), Kind::SourceUnsupported);
    }

    #[test]
    fn padded_strides_and_short_buffers() {
        let mut format = PixelFormat::new(6, 4, *b"YU12");
        format.stride = 8;
        let frames = Frames::new(&one_piece(format)).unwrap();
        let data: Vec<u8> = (0..8 * 4 + 4 * 2 * 2).collect();
        let picture = frames.picture(Layout::I420, [&data, &[], &[]]).unwrap();
        assert_eq!(
            picture.planes.map(|plane| (plane.data.first().copied(), plane.stride)),
            [(Some(0), 8), (Some(32), 4), (Some(40), 4)]
        );
        assert!(frames.picture(Layout::I420, [&data[..40], &[], &[]]).is_err());
        format.stride = 5;
        assert!(Frames::new(&one_piece(format)).is_err());
        format.stride = 0;
        assert!(Frames::new(&one_piece(format)).is_ok());
    }

    fn one_piece(pixels: PixelFormat) -> Given {
        Given { pixels, strides: vec![pixels.stride] }
    }

    #[test]
    fn planes_that_lie_apart_have_strides_of_their_own() {
        let pixels = PixelFormat::new(6, 4, *b"NM12");
        let frames = Frames::new(&Given { pixels, strides: vec![8, 16] }).unwrap();
        let (luma, chroma): (Vec<u8>, Vec<u8>) = ((0..32).collect(), (100..132).collect());
        let picture = frames.picture(Layout::Nv12, [&luma, &chroma, &[]]).unwrap();
        let seen = picture.planes.map(|plane| (plane.data.first().copied(), plane.stride));
        assert_eq!(seen[..2], [(Some(0), 8), (Some(100), 16)]);
        assert!(frames.picture(Layout::Nv12, [&luma, &chroma[..10], &[]]).is_err());
        // All planes in one piece, as some drivers give packed formats; more or fewer pieces than planes.
        assert!(Frames::new(&Given { pixels, strides: vec![8] }).is_ok());
        for strides in [vec![], vec![8, 8, 8], vec![8, 5]] {
            assert!(Frames::new(&Given { pixels, strides }).is_err());
        }
    }

    #[test]
    fn colours_are_read_as_the_kernel_documents_them() {
        let of = |colorspace, encoding, quantization| {
            let mut format = PixelFormat::new(2, 2, *b"YUYV");
            (format.colorspace, format.encoding, format.quantization) = (colorspace, encoding, quantization);
            let frames = Frames::new(&one_piece(format)).unwrap();
            (frames.range, frames.matrix)
        };
        assert_eq!(of(0, 0, 0), (Range::Limited, Matrix::Bt601));
        assert_eq!(of(3, 0, 0), (Range::Limited, Matrix::Bt709));
        assert_eq!(of(3, 1, 1), (Range::Full, Matrix::Bt601));
        assert_eq!(of(7, 0, 0), (Range::Full, Matrix::Bt601));
        assert_eq!(of(8, 2, 2), (Range::Limited, Matrix::Bt709));
    }
}
