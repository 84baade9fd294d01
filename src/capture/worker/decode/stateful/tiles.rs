//! Pictures that a decoder lays out in tiles, put into rows. The kernel documents these layouts
//! ("Semi-Planar YUV Formats" of `pixfmt-yuv-planar.rst`; the columns of 128 bytes in Raspberry Pi's
//! kernel); what it calls compressed or opaque is in [`OPAQUE`] and nobody's but that maker's.
//!
//! ```text
//! tiles in lines         in Z and its mirror image          in columns, luma above chroma
//! ┌──┬──┬──┬──┐          ┌──┬──┬──┬──┐ each line is         ┌──┬──┬──┐ each column is one piece of
//! │ 0│ 1│ 2│ 3│          │ 0│ 1│ 6│ 7│ one tile high;       │ 0│ 1│ 2│ memory, 128 bytes wide; a column
//! ├──┼──┼──┼──┤          ├──┼──┼──┼──┤ a last line that     │  │  │  │ has as many lines as the driver
//! │ 4│ 5│ 6│ 7│          │ 2│ 3│ 4│ 5│ has no second lies   │  │  │  │ calls its stride
//! └──┴──┴──┴──┘          └──┴──┴──┴──┘ as on the left       └──┴──┴──┘
//! ```
//!
//! Rows are gathered one after the other into memory that is made once for each size. Of what is deeper than
//! eight bits the upper eight are kept, which is all that anybody here looks at.

use super::driver::{Format, MAX_PIECES, Rectangle};
use crate::capture::MAX_SIDE;
use crate::capture::worker::picture::{Layout, Matrix, Picture, Plane, Range};

/// How samples lie in the bytes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    /// One byte a sample.
    Bytes,
    /// Two bytes each, little-endian, of which the upper ten bits are used.
    Upper10,
    /// Four in five bytes, the first in the lowest bits.
    Little10,
    /// Four in five bytes, the first in the highest bits.
    Big10,
}

/// How tiles follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Lines,
    Zigzag,
    Columns,
}

/// A format in tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tiling {
    /// Bytes of a row of a tile.
    row_bytes: usize,
    /// Rows of a tile of luma and of one of chroma; of columns nothing that matters.
    rows: [usize; 2],
    order: Order,
    packing: Packing,
}

const fn lines(row_bytes: usize, rows: usize, packing: Packing) -> Tiling {
    Tiling { row_bytes, rows: [rows; 2], order: Order::Lines, packing }
}

/// What is read, by its four letters: eight bits before ten.
const TILINGS: [([u8; 4], Tiling); 13] = [
    // NV12_4L4: VeriSilicon.
    (*b"VT12", lines(4, 4, Packing::Bytes)),
    // NV12_16L16.
    (*b"HM12", lines(16, 16, Packing::Bytes)),
    // NV12MT_16X16, planes apart: Samsung.
    (*b"VM12", lines(16, 16, Packing::Bytes)),
    // NV12_32L32: Allwinner.
    (*b"ST12", lines(32, 32, Packing::Bytes)),
    // NV12MT, planes apart: Samsung.
    (*b"TM12", Tiling { order: Order::Zigzag, ..lines(64, 32, Packing::Bytes) }),
    // MM21, planes apart: MediaTek.
    (*b"MM21", Tiling { rows: [32, 16], ..lines(16, 32, Packing::Bytes) }),
    // NV12M_8L128, planes apart, and NV12_8L128: Amphion.
    (*b"NA12", lines(8, 128, Packing::Bytes)),
    (*b"AT12", lines(8, 128, Packing::Bytes)),
    // NV12_COL128: Raspberry Pi.
    (*b"NC12", Tiling { order: Order::Columns, ..lines(128, 1, Packing::Bytes) }),
    // P010_4L4 and NV15_4L4: VeriSilicon.
    (*b"T010", lines(8, 4, Packing::Upper10)),
    (*b"VT15", lines(5, 4, Packing::Little10)),
    // NV12M_10BE_8L128, planes apart, and NV12_10BE_8L128: Amphion. Big-endian formats have their highest bit set.
    (*b"NT1\xB2", lines(8, 128, Packing::Big10)),
    (*b"AX1\xB2", lines(8, 128, Packing::Big10)),
];

/// What is known and not read, and why.
const OPAQUE: [(&[u8; 4], &str); 7] = [
    (b"MT21", "compressed by MediaTek"),
    (b"Q08C", "compressed by Qualcomm"),
    (b"Q10C", "compressed by Qualcomm"),
    (b"Q128", "compressed by Qualcomm"),
    (b"MT2T", "tiles of MediaTek in 10 bits"),
    (b"MT2R", "tiles of MediaTek in 10 bits"),
    (b"NC30", "columns of Raspberry Pi in 10 bits"),
];

/// Most bytes from row to row that a driver may tell: four times what the widest row of samples takes. Below that
/// no place in a picture is above 2³⁰, on boards of 32 bits too.
const MAX_STRIDE_BYTES: usize = 4 * MAX_SIDE as usize;

/// All formats that are read, the dearest first.
pub(super) fn known() -> impl Iterator<Item = [u8; 4]> {
    TILINGS.iter().map(|(fourcc, _)| *fourcc)
}

/// Why pictures in a format that is known are not read.
pub(super) fn why_opaque(fourcc: [u8; 4]) -> Option<&'static str> {
    OPAQUE.iter().find(|(known, _)| **known == fourcc).map(|(_, why)| *why)
}

fn tiling(fourcc: [u8; 4]) -> Option<Tiling> {
    TILINGS.iter().find(|(known, _)| *known == fourcc).map(|(_, tiling)| *tiling)
}

/// Where the tiles of a plane lie.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Part {
    /// Bytes in its piece before its first tile.
    start: usize,
    /// Tiles in a line, and lines of them.
    across: usize,
    down: usize,
    /// Bytes from a tile to the next.
    step: usize,
    /// Rows of a tile.
    rows: usize,
}

/// How the buffers of a decoder that likes tiles become pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tiles {
    tiling: Tiling,
    parts: [Part; 2],
    /// Planes have pieces of their own.
    apart: bool,
    visible: Rectangle,
    /// Bytes that are gathered for a row.
    row_bytes: usize,
    /// Samples that they are.
    samples: usize,
}

impl Tiles {
    /// Of a format whose size has been checked, and of the part of it that is to be seen. `None`: its pictures
    /// are not in tiles that are read.
    ///
    /// Errors: why no picture can be made of such buffers.
    pub(super) fn new(format: &Format, visible: Rectangle) -> Option<Result<Tiles, String>> {
        tiling(format.fourcc).map(|tiling| Tiles::of(tiling, format, visible))
    }

    fn of(tiling: Tiling, format: &Format, visible: Rectangle) -> Result<Tiles, String> {
        let Format { width, height, pieces, strides, .. } = *format;
        let name = format.fourcc.escape_ascii();
        if pieces != 1 && (pieces != 2 || tiling.order == Order::Columns) {
            return Err(format!("its pictures are {pieces} pieces of memory for 2 planes of {name}"));
        }
        let apart = pieces == 2;
        // Chroma comes in samples of two by two pixels, in as many bytes as luma.
        let even = |side: u32| side as usize + (side as usize & 1);
        let bytes_of = |samples: usize| match tiling.packing {
            Packing::Bytes => samples,
            Packing::Upper10 => samples * 2,
            Packing::Little10 | Packing::Big10 => samples.div_ceil(4) * 5,
        };
        let (rows, mut start, mut parts) = (even(height), 0, [Part::default(); 2]);
        for (number, (part, tile_rows)) in parts.iter_mut().zip(tiling.rows).enumerate() {
            let plane_rows = if number == 0 { height as usize } else { rows / 2 };
            let told = strides.get(if apart { number } else { 0 }).copied().unwrap_or(0) as usize;
            if tiling.order == Order::Columns {
                // In lines of a column, of which luma and chroma have their share.
                let told = if told > 0 { told } else { rows + rows / 2 };
                if told < rows + rows / 2 || told > MAX_STRIDE_BYTES {
                    return Err(format!("its columns of {told} lines do not fit {height} rows of {name}"));
                }
                let start = if number == 0 { 0 } else { rows * tiling.row_bytes };
                let across = even(width).div_ceil(tiling.row_bytes);
                *part =
                    Part { start, across, down: 1, step: told * tiling.row_bytes, rows: plane_rows.max(1) };
                continue;
            }
            // Some drivers say 0 for "no padding". What does not end with a tile has its last one all the same.
            let least = bytes_of(even(width));
            let stride = if told > 0 { told } else { least };
            if stride < least || stride > MAX_STRIDE_BYTES {
                return Err(format!("its rows of {stride} bytes do not fit their {least} of {name}"));
            }
            let pair = if tiling.order == Order::Zigzag { 2 } else { 1 };
            let across = stride.div_ceil(tiling.row_bytes).next_multiple_of(pair);
            let step = tiling.row_bytes * tile_rows;
            let down = plane_rows.div_ceil(tile_rows);
            *part = Part { start, across, down, step, rows: tile_rows };
            start = if apart { 0 } else { across * down * step };
        }
        // From the left edge on: samples that are packed do not begin with a tile.
        let seen = even(visible.left + visible.width);
        let row_bytes = bytes_of(seen).next_multiple_of(tiling.row_bytes);
        let samples = match tiling.packing {
            Packing::Bytes => row_bytes,
            Packing::Upper10 => row_bytes / 2,
            Packing::Little10 | Packing::Big10 => row_bytes / 5 * 4,
        };
        Ok(Tiles { tiling, parts, apart, visible, row_bytes, samples })
    }

    /// Rows of luma and of chroma that are to be seen, and the first of each.
    fn rows(&self) -> [(usize, usize); 2] {
        let (top, height) = (self.visible.top as usize & !1, self.visible.height as usize);
        [(top, height), (top / 2, height.div_ceil(2))]
    }

    /// Bytes of memory that a picture in rows takes, and the row that is unpacked.
    pub(super) fn bytes(&self) -> usize {
        let [(_, luma), (_, chroma)] = self.rows();
        self.row_bytes + (luma + chroma) * self.samples
    }

    /// The picture in the pieces of a buffer, put into `linear`, which is [`Tiles::bytes`] long. `None`: one of
    /// them is too short for it.
    pub(super) fn picture<'a>(
        &self,
        pieces: [&[u8]; MAX_PIECES],
        linear: &'a mut [u8],
    ) -> Option<Picture<'a>> {
        let [(_, luma), _] = self.rows();
        let (packed, rest) = linear.split_at_mut_checked(self.row_bytes)?;
        let both = rest.split_at_mut_checked(luma * self.samples)?;
        let [first, second, _] = pieces;
        let pieces = [first, if self.apart { second } else { first }];
        let parts = self.parts.iter().zip(self.rows()).zip(pieces);
        for (((part, (top, count)), piece), out) in parts.zip([&mut *both.0, &mut *both.1]) {
            let out = out.get_mut(..count * self.samples)?;
            for (row, out) in out.chunks_exact_mut(self.samples).enumerate() {
                match self.tiling.packing {
                    Packing::Bytes => self.gather(part, piece, top + row, out)?,
                    packing => {
                        self.gather(part, piece, top + row, packed)?;
                        unpack(packing, packed, out);
                    }
                }
            }
        }
        let left = self.visible.left as usize & !1;
        let plane = |data: &'a [u8]| Some(Plane { data: data.get(left..)?, stride: self.samples });
        let planes = [plane(both.0)?, plane(both.1)?, Plane::default()];
        let Rectangle { width, height, .. } = self.visible;
        // What colours its samples mean, the stream says and not every driver passes on.
        let (range, matrix) = (Range::default(), Matrix::default());
        let picture = Picture { width, height, layout: Layout::Nv12, planes, range, matrix };
        picture.check().ok().map(|()| picture)
    }

    /// The beginning of a row of a plane.
    fn gather(&self, part: &Part, piece: &[u8], row: usize, out: &mut [u8]) -> Option<()> {
        let (line, inside) = (row / part.rows, row % part.rows * self.tiling.row_bytes);
        if self.tiling.order == Order::Zigzag {
            let is_alone = line + 1 == part.down && line % 2 == 0;
            for (column, out) in out.chunks_exact_mut(self.tiling.row_bytes).enumerate() {
                let number = match line % 2 {
                    0 if is_alone => line * part.across + column,
                    0 => line * part.across + column + (column + 2) / 4 * 4,
                    _ => (line - 1) * part.across + column + 2 + column / 4 * 4,
                };
                let at = part.start + number * part.step + inside;
                out.copy_from_slice(piece.get(at..at + self.tiling.row_bytes)?);
            }
            return Some(());
        }
        let tiles = piece.get(part.start + line * part.across * part.step + inside..)?;
        match self.tiling.row_bytes {
            // Known sizes make moves of them, not calls.
            4 => every::<4>(tiles, part.step, out),
            5 => every::<5>(tiles, part.step, out),
            8 => every::<8>(tiles, part.step, out),
            16 => every::<16>(tiles, part.step, out),
            32 => every::<32>(tiles, part.step, out),
            _ => every::<128>(tiles, part.step, out),
        }
    }
}

/// The first `N` bytes of each `step`.
fn every<const N: usize>(tiles: &[u8], step: usize, out: &mut [u8]) -> Option<()> {
    let mut tiles = tiles.chunks(step);
    for out in out.as_chunks_mut::<N>().0 {
        *out = *tiles.next()?.first_chunk()?;
    }
    Some(())
}

/// The upper eight bits of each sample.
fn unpack(packing: Packing, packed: &[u8], out: &mut [u8]) {
    match packing {
        Packing::Bytes => {}
        Packing::Upper10 => {
            packed.as_chunks().0.iter().zip(out).for_each(|([_, upper], out)| *out = *upper);
        }
        Packing::Little10 => {
            for ([a, b, c, d, e], out) in packed.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
                *out = [a >> 2 | b << 6, b >> 4 | c << 4, c >> 6 | d << 2, *e];
            }
        }
        Packing::Big10 => {
            for ([a, b, c, d, e], out) in packed.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
                *out = [*a, b << 2 | c >> 6, c << 4 | d >> 4, d << 6 | e >> 2];
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
