//! How the buffers of a decoder become pictures.

use super::driver::{Format, MAX_PIECES, Rectangle};
use super::tiles::{self, Tiles};
use crate::capture::worker::picture::{Layout, Matrix, Picture, Plane, Range, check_size};

/// Formats that are rows of samples: read where they lie, and preferred to tiles, which are put into rows first.
const FORMATS: [(&[u8; 4], Layout); 4] = [
    (b"NV12", Layout::Nv12),
    // The same with planes that lie apart.
    (b"NM12", Layout::Nv12),
    (b"YU12", Layout::I420),
    (b"YM12", Layout::I420),
];

fn layout(fourcc: [u8; 4]) -> Option<Layout> {
    FORMATS.iter().find(|(known, _)| **known == fourcc).map(|(_, layout)| *layout)
}

/// Whether pictures in a format are read.
pub(in crate::capture::worker) fn is_read(fourcc: [u8; 4]) -> bool {
    layout(fourcc).is_some() || tiles::known().any(|known| known == fourcc)
}

/// The format to have of those that a decoder offers: the one it likes before others of its kind.
pub(super) fn choose(liked: [u8; 4], offered: &[[u8; 4]]) -> Option<[u8; 4]> {
    let lines = || FORMATS.iter().map(|(fourcc, _)| **fourcc).find(|fourcc| offered.contains(fourcc));
    let in_tiles = || tiles::known().find(|fourcc| offered.contains(fourcc));
    let (is_line, is_tile) = (layout(liked).is_some(), is_read(liked));
    let first = if is_line { Some(liked) } else { lines() };
    first.or_else(|| Some(liked).filter(|_| is_tile)).or_else(in_tiles)
}

/// What a decoder offers, for people: why nothing of it is read, where that is known.
pub(in crate::capture::worker) fn names(offered: &[[u8; 4]]) -> String {
    let name = |fourcc: &[u8; 4]| match tiles::why_opaque(*fourcc) {
        Some(why) => format!("{} ({why})", fourcc.escape_ascii()),
        None => fourcc.escape_ascii().to_string(),
    };
    offered.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// How the bytes of a buffer are a picture: in rows, or in tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Lines(Lines),
    Tiles(Tiles),
}

impl Shape {
    /// `visible` is what the driver says of the picture in the buffer, `announced` what the stream itself says
    /// of its size: where the driver knows nothing of cropping, that counts.
    ///
    /// Errors: why no picture can be made of such buffers.
    pub(super) fn new(
        format: &Format,
        visible: Option<Rectangle>,
        announced: Option<(u32, u32)>,
    ) -> Result<Shape, String> {
        let Format { width, height, .. } = *format;
        check_size(width, height).map_err(|error| error.message().to_owned())?;
        let whole = Rectangle { left: 0, top: 0, width, height };
        let fits = |part: &Rectangle| {
            let ends = |start: u32, length: u32| start.checked_add(length);
            part.width > 0
                && part.height > 0
                && ends(part.left, part.width).is_some_and(|end| end <= width)
                && ends(part.top, part.height).is_some_and(|end| end <= height)
        };
        let said = announced.map(|(width, height)| Rectangle { width, height, ..whole }).filter(fits);
        let visible = visible.filter(fits).filter(|part| *part != whole).or(said).unwrap_or(whole);
        match (layout(format.fourcc), Tiles::new(format, visible)) {
            (Some(layout), _) => Lines::new(layout, format, visible).map(Shape::Lines),
            (None, Some(tiles)) => tiles.map(Shape::Tiles),
            (None, None) => Err(format!("its pictures are {}", names(&[format.fourcc]))),
        }
    }

    /// Bytes of memory that [`Shape::picture`] needs.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Shape::Lines(_) => 0,
            Shape::Tiles(tiles) => tiles.bytes(),
        }
    }

    /// The picture in the pieces of a buffer, or in `linear`, of [`Shape::bytes`]; `None`: they are too short for
    /// it.
    pub(super) fn picture<'a>(
        &self,
        pieces: [&'a [u8]; MAX_PIECES],
        linear: &'a mut [u8],
    ) -> Option<Picture<'a>> {
        match self {
            Shape::Lines(lines) => lines.picture(pieces),
            Shape::Tiles(tiles) => tiles.picture(pieces, linear),
        }
    }
}

/// Pictures whose samples lie row after row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lines {
    layout: Layout,
    /// Planes have pieces of their own.
    apart: bool,
    /// Bytes from row to row of each plane.
    strides: [usize; MAX_PIECES],
    /// Where in its piece the first visible sample of each plane lies.
    starts: [usize; MAX_PIECES],
    width: u32,
    height: u32,
}

impl Lines {
    fn new(layout: Layout, format: &Format, visible: Rectangle) -> Result<Lines, String> {
        let fourcc = format.fourcc.escape_ascii();
        let Format { width, height, pieces, .. } = *format;
        // Of the padded picture, in which planes of one piece follow each other.
        let planes = layout.planes(width as usize, height as usize);
        let there = planes.iter().filter(|(row_bytes, _)| *row_bytes > 0).count();
        if pieces != 1 && pieces != there {
            return Err(format!("its pictures are {pieces} pieces of memory for {there} planes of {fourcc}"));
        }
        let apart = pieces > 1;
        let (mut strides, mut starts, mut at) = ([0; MAX_PIECES], [0; MAX_PIECES], 0);
        // Chroma comes in samples of two by two pixels.
        let (left, top) = (visible.left as usize & !1, visible.top as usize & !1);
        for (number, (row_bytes, rows)) in planes.into_iter().enumerate().take(there) {
            let half = layout == Layout::I420 && number > 0;
            let told = match apart {
                true => format.strides.get(number).copied().unwrap_or(0) as usize,
                // In one piece the chroma of I420 has half the stride.
                false => format.strides[0] as usize / if half { 2 } else { 1 },
            };
            // Some drivers say 0 for "no padding".
            let stride = if told > 0 { told } else { row_bytes };
            if stride < row_bytes {
                return Err(format!("its rows of {stride} bytes are too short for their {row_bytes}"));
            }
            let (across, down) = match (number, layout) {
                (0, _) => (left, top),
                (_, Layout::Nv12) => (left, top / 2),
                _ => (left / 2, top / 2),
            };
            // Sides are at most MAX_SIDE, so none of this overflows unless a stride is wild.
            let start = stride.checked_mul(down).and_then(|bytes| bytes.checked_add(at + across));
            let next = stride.checked_mul(rows).and_then(|bytes| bytes.checked_add(at));
            let (Some(start), Some(next)) = (start, next) else {
                return Err(format!("its rows are {stride} bytes"));
            };
            if let (Some(own), Some(first)) = (strides.get_mut(number), starts.get_mut(number)) {
                (*own, *first) = (stride, start);
            }
            at = if apart { 0 } else { next };
        }
        Ok(Lines { layout, apart, strides, starts, width: visible.width, height: visible.height })
    }

    fn picture<'a>(&self, pieces: [&'a [u8]; MAX_PIECES]) -> Option<Picture<'a>> {
        let [one, ..] = pieces;
        let mut planes = [Plane::default(); MAX_PIECES];
        for (number, plane) in planes.iter_mut().enumerate() {
            let (stride, start) = (*self.strides.get(number)?, *self.starts.get(number)?);
            if stride > 0 {
                let piece = if self.apart { *pieces.get(number)? } else { one };
                *plane = Plane { data: piece.get(start..)?, stride };
            }
        }
        let Lines { layout, width, height, .. } = *self;
        // What colours its samples mean, the stream says and not every driver passes on.
        let (range, matrix) = (Range::default(), Matrix::default());
        let picture = Picture { width, height, layout, planes, range, matrix };
        picture.check().ok().map(|()| picture)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn format(fourcc: &[u8; 4], pieces: usize, strides: [u32; 3]) -> Format {
        Format { fourcc: *fourcc, width: 16, height: 8, pieces, strides, ..Format::default() }
    }

    /// First byte and stride of each plane in buffers whose bytes count from 0.
    fn seen(shape: &Shape, bytes: [usize; 3]) -> Option<[(Option<u8>, usize); 3]> {
        let data = bytes.map(|bytes| (0..bytes).map(|byte| byte as u8).collect::<Vec<u8>>());
        let picture = shape.picture([&data[0], &data[1], &data[2]], &mut [])?;
        Some(picture.planes.map(|plane| (plane.data.first().copied(), plane.stride)))
    }

    fn size(shape: &Shape) -> (u32, u32) {
        match shape {
            Shape::Lines(lines) => (lines.width, lines.height),
            Shape::Tiles(_) => (0, 0),
        }
    }

    #[test]
    fn planes_of_one_piece_follow_the_padded_picture() {
        let visible = Some(Rectangle { left: 0, top: 0, width: 14, height: 6 });
        let shape = Shape::new(&format(b"YU12", 1, [20, 0, 0]), visible, None).unwrap();
        assert_eq!(size(&shape), (14, 6));
        // 8 rows of 20 bytes, then 4 of 10.
        assert_eq!(seen(&shape, [240, 0, 0]), Some([(Some(0), 20), (Some(160), 10), (Some(200), 10)]));
        assert_eq!(seen(&shape, [226, 0, 0]), None, "two rows and seven bytes of the last plane are needed");
        let shape = Shape::new(&format(b"NV12", 1, [0; 3]), visible, None).unwrap();
        assert_eq!(seen(&shape, [192, 0, 0]).unwrap()[..2], [(Some(0), 16), (Some(128), 16)]);
    }

    #[test]
    fn what_is_to_be_seen_may_lie_anywhere_in_the_buffer() {
        let visible = Some(Rectangle { left: 2, top: 4, width: 8, height: 4 });
        let shape = Shape::new(&format(b"NM12", 2, [16, 16, 0]), visible, None).unwrap();
        assert_eq!(seen(&shape, [128, 64, 0]).unwrap()[..2], [(Some(66), 16), (Some(34), 16)]);
        let shape = Shape::new(&format(b"YM12", 3, [16, 8, 8]), visible, None).unwrap();
        assert_eq!(seen(&shape, [128, 32, 32]), Some([(Some(66), 16), (Some(17), 8), (Some(17), 8)]));
    }

    #[test]
    fn a_driver_that_does_not_crop_is_corrected_by_the_stream() {
        let nv12 = format(b"NV12", 1, [16, 0, 0]);
        let size = |visible, announced| size(&Shape::new(&nv12, visible, announced).unwrap());
        let whole = Rectangle { left: 0, top: 0, width: 16, height: 8 };
        assert_eq!(size(None, None), (16, 8));
        assert_eq!(size(Some(whole), Some((15, 7))), (15, 7));
        assert_eq!(size(Some(Rectangle { height: 6, ..whole }), Some((15, 7))), (16, 6));
        // Nonsense of either is passed over.
        assert_eq!(size(Some(Rectangle { left: u32::MAX, ..whole }), Some((17, 8))), (16, 8));
        assert_eq!(size(Some(Rectangle { width: 0, ..whole }), None), (16, 8));
    }

    #[test]
    fn what_cannot_be_a_picture_is_refused_by_name() {
        let why = |format: &Format| Shape::new(format, None, None).unwrap_err();
        assert_eq!(why(&format(b"SUNX", 1, [16, 0, 0])), "its pictures are SUNX");
        assert_eq!(why(&format(b"MT21", 2, [16, 16, 0])), "its pictures are MT21 (compressed by MediaTek)");
        assert!(why(&format(b"NM12", 3, [16, 16, 0])).contains("3 pieces of memory for 2 planes"));
        assert!(why(&format(b"NM12", 0, [16, 16, 0])).contains("0 pieces"));
        assert!(why(&format(b"NV12", 1, [15, 0, 0])).contains("too short"));
        assert!(why(&Format { width: 0, ..format(b"NV12", 1, [0; 3]) }).contains("0x8"));
        assert!(why(&Format { width: 100_000, ..format(b"NV12", 1, [0; 3]) }).contains("100000x8"));
        assert_eq!(choose(*b"ST12", &[*b"ST12", *b"YU12", *b"NV12"]), Some(*b"NV12"));
        assert_eq!(choose(*b"YU12", &[*b"NV12"]), Some(*b"YU12"));
        // Tiles only where there are no rows, the liked ones first.
        assert_eq!(choose(*b"ST12", &[*b"VT12", *b"ST12"]), Some(*b"ST12"));
        assert_eq!(choose(*b"MT21", &[*b"MT21", *b"MM21"]), Some(*b"MM21"));
        assert_eq!(choose(*b"MT21", &[*b"MT21"]), None);
    }
}
