//! Checksums of pictures as ffmpeg's `framecrc` counts them, so that anybody can compare what comes out of a
//! decoder. What is deeper than eight bits counts by its upper eight.

use super::picture::{Layout, Picture};

const MODULUS: u32 = 65_521;

/// As many bytes can be summed before the sums must be reduced (zlib calls it NMAX).
const MAX_RUN: usize = 5552;

/// Adler-32 over the planes, padding left out. It begins with 0 and not, as elsewhere, with 1. The planes
/// must be whole ([`Picture::check`]).
pub(crate) fn checksum(picture: &Picture<'_>) -> u32 {
    let mut sum = Sum::default();
    // Of two bytes of a sample, how much is above eight bits.
    let excess = match picture.layout {
        Layout::Deep { depth, .. } => Some(depth.saturating_sub(8)),
        Layout::P010 => Some(8),
        _ => None,
    };
    let mut narrow = Vec::new();
    for row in rows(picture) {
        match excess {
            None => sum.add(row),
            Some(excess) => {
                narrow.clear();
                narrow.extend(row.as_chunks::<2>().0.iter().map(|bytes| upper(*bytes, excess)));
                sum.add(&narrow);
            }
        }
    }
    sum.b << 16 | sum.a
}

/// Bytes that the checksum is over.
pub(crate) fn bytes(picture: &Picture<'_>) -> usize {
    let all = rows(picture).map(<[u8]>::len).sum();
    if matches!(picture.layout, Layout::Deep { .. } | Layout::P010) { all / 2 } else { all }
}

/// The upper eight bits of a sample; one above its own depth counts as the highest.
fn upper(bytes: [u8; 2], excess: u8) -> u8 {
    u8::try_from(u16::from_le_bytes(bytes) >> excess.min(8)).unwrap_or(u8::MAX)
}

#[derive(Default)]
struct Sum {
    a: u32,
    b: u32,
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        for run in bytes.chunks(MAX_RUN) {
            for &byte in run {
                self.a += u32::from(byte);
                self.b += self.a;
            }
            self.a %= MODULUS;
            self.b %= MODULUS;
        }
    }
}

fn rows<'a>(picture: &'a Picture<'_>) -> impl Iterator<Item = &'a [u8]> {
    let sizes = picture.layout.planes(picture.width as usize, picture.height as usize);
    picture.planes.iter().zip(sizes).flat_map(|(plane, (row_bytes, count))| {
        (0..count).map(move |row| {
            plane.data.get(row * plane.stride..).and_then(|rest| rest.get(..row_bytes)).unwrap_or_default()
        })
    })
}
