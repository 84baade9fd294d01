//! One decoded picture, borrowed from whoever decoded or captured it.

pub(crate) use crate::capture::MAX_SIDE;
use crate::error::{Error, Kind, Result};

/// Most pixels of a picture: 8K UHD (33.2 million). Above that no camera delivers, and a worker's memory
/// would not hold it.
pub const MAX_PIXELS: u64 = 36_000_000;

/// One plane: rows of samples, `stride` bytes apart. The last row may be shorter than the stride.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Plane<'a> {
    /// The samples, `stride` bytes from row to row.
    pub data: &'a [u8],
    /// Bytes from the start of one row to the start of the next.
    pub stride: usize,
}

/// How samples lie in the planes. What is deeper than eight bits counts by its upper eight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Y, U, V; chroma halved both ways, rounded up.
    I420,
    /// Y, U, V; chroma halved horizontally, rounded up.
    I422,
    /// Y, U, V; chroma at full size.
    I444,
    /// Y alone: one plane.
    Gray,
    /// Y, then U and V interleaved; chroma halved both ways, rounded up.
    Nv12,
    /// The same with two bytes a sample, little-endian: the upper one is what counts.
    P010,
    /// Y, U, V, two bytes a sample, little-endian, of which the lower `depth` bits are used: 9 to 16.
    Deep {
        /// Size of U and V.
        chroma: Chroma,
        /// Bits of a sample, 8 to 16.
        depth: u8,
    },
    /// One plane: Y0 U Y1 V for two pixels.
    Yuyv,
    /// One plane: U Y0 V Y1 for two pixels.
    Uyvy,
    /// One plane: R G B.
    Rgb24,
    /// One plane: B G R.
    Bgr24,
}

/// Size of the chroma planes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Chroma {
    /// Halved both ways, rounded up.
    Half,
    /// Halved horizontally, rounded up.
    HalfWidth,
    /// As many samples as luma has.
    Whole,
    /// There is no chroma: the picture is gray.
    None,
}

impl Chroma {
    /// The layout of the same planes with a byte a sample.
    pub fn layout(self) -> Layout {
        match self {
            Chroma::Half => Layout::I420,
            Chroma::HalfWidth => Layout::I422,
            Chroma::Whole => Layout::I444,
            Chroma::None => Layout::Gray,
        }
    }
}

impl Layout {
    /// Bytes of a row and number of rows of each of the three planes, for a picture of `width` × `height`;
    /// `(0, 0)` for planes that are not there.
    pub fn planes(self, width: usize, height: usize) -> [(usize, usize); 3] {
        let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
        let none = (0, 0);
        match self {
            Layout::I420 => [(width, height), (half_width, half_height), (half_width, half_height)],
            Layout::I422 => [(width, height), (half_width, height), (half_width, height)],
            Layout::I444 => [(width, height); 3],
            Layout::Gray => [(width, height), none, none],
            Layout::Nv12 => [(width, height), (half_width * 2, half_height), none],
            Layout::P010 => [(width * 2, height), (half_width * 4, half_height), none],
            Layout::Deep { chroma, .. } => {
                chroma.layout().planes(width, height).map(|(samples, rows)| (samples * 2, rows))
            }
            Layout::Yuyv | Layout::Uyvy => [(half_width * 4, height), none, none],
            Layout::Rgb24 | Layout::Bgr24 => [(width * 3, height), none, none],
        }
    }
}

/// Which part of 0..=255 the samples of a YUV picture use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Range {
    /// Luma 16..=235, chroma 16..=240. Also what is assumed where nothing is said.
    #[default]
    Limited,
    /// 0..=255: JPEG, and cameras that say so.
    Full,
}

/// Which red, green and blue a YUV picture means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Matrix {
    /// ITU-R BT.601. Also what is assumed where nothing is said, at any size: the reference's swscale does
    /// the same.
    #[default]
    Bt601,
    /// ITU-R BT.709: high definition.
    Bt709,
}

/// A picture as it left the decoder or the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picture<'a> {
    /// Width that is shown, pixels.
    pub width: u32,
    /// Height that is shown, pixels.
    pub height: u32,
    /// What `planes` hold, and how.
    pub layout: Layout,
    /// As many as the layout has; the others are empty.
    pub planes: [Plane<'a>; 3],
    /// Only for YUV and gray.
    pub range: Range,
    /// From Y'CbCr to RGB; no meaning for other layouts.
    pub matrix: Matrix,
}

impl Picture<'_> {
    /// Proves that every plane is long enough for its size and stride, and that the size is one that is
    /// taken. After this, row `r` of plane `p` is `data[r * stride..][..row_bytes]` without a further check.
    pub fn check(&self) -> Result<()> {
        check_size(self.width, self.height)?;
        // Both are at most MAX_SIDE.
        let wanted = self.layout.planes(self.width as usize, self.height as usize);
        for (plane, (row_bytes, rows)) in self.planes.iter().zip(wanted) {
            let Some(before_last) = rows.checked_sub(1) else { continue };
            let needed = plane.stride.checked_mul(before_last).and_then(|bytes| bytes.checked_add(row_bytes));
            if plane.stride < row_bytes || needed.is_none_or(|needed| plane.data.len() < needed) {
                return Err(Error::new(Kind::SourceLost, "a picture is smaller than its size says"));
            }
        }
        Ok(())
    }
}

/// Whether a picture of that size is taken at all.
pub fn check_size(width: u32, height: u32) -> Result<()> {
    if width == 0
        || height == 0
        || width > MAX_SIDE
        || height > MAX_SIDE
        || u64::from(width) * u64::from(height) > MAX_PIXELS
    {
        return Err(Error::new(
            Kind::SourceUnsupported,
            format!("a picture of {width}x{height} pixels is not supported"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gray(width: u32, height: u32, stride: usize, bytes: usize) -> Result<()> {
        let data = vec![0; bytes];
        let none = Plane::default();
        let planes = [Plane { data: &data, stride }, none, none];
        Picture { width, height, layout: Layout::Gray, planes, range: Range::Full, matrix: Matrix::Bt601 }
            .check()
    }

    #[test]
    fn the_last_row_may_be_shorter_than_the_stride_but_not_than_the_row() {
        assert!(gray(5, 3, 8, 8 * 2 + 5).is_ok());
        assert!(gray(5, 3, 8, 8 * 2 + 4).is_err());
        assert!(gray(5, 3, 4, 100).is_err());
        assert!(gray(5, 2, usize::MAX, 100).is_err());
    }

    #[test]
    fn empty_and_huge_pictures_are_refused() {
        assert!(gray(0, 1, 1, 1).is_err());
        assert!(check_size(MAX_SIDE + 1, 1).is_err());
        assert!(check_size(MAX_SIDE, MAX_SIDE).is_err());
        assert!(check_size(7680, 4320).is_ok());
    }

    #[test]
    fn odd_sizes_round_chroma_up() {
        assert_eq!(Layout::I420.planes(5, 3), [(5, 3), (3, 2), (3, 2)]);
        assert_eq!(Layout::Nv12.planes(5, 3), [(5, 3), (6, 2), (0, 0)]);
        assert_eq!(Layout::Yuyv.planes(5, 3)[0], (12, 3));
        assert_eq!(Layout::P010.planes(5, 3), [(10, 3), (12, 2), (0, 0)]);
        let deep = |chroma| Layout::Deep { chroma, depth: 10 }.planes(5, 3);
        assert_eq!(deep(Chroma::Half), [(10, 3), (6, 2), (6, 2)]);
        assert_eq!(deep(Chroma::None), [(10, 3), (0, 0), (0, 0)]);
    }
}
