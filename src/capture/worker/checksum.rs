//! Checksums of pictures as ffmpeg's `framecrc` counts them, so that anybody can compare what comes out of a
//! decoder.

use super::picture::Picture;

const MODULUS: u32 = 65_521;

/// As many bytes can be summed before the sums must be reduced (zlib calls it NMAX).
const MAX_RUN: usize = 5552;

/// Adler-32 over the planes, padding left out. It begins with 0 and not, as elsewhere, with 1. The planes
/// must be whole ([`Picture::check`]).
pub(crate) fn checksum(picture: &Picture<'_>) -> u32 {
    let (mut a, mut b) = (0_u32, 0_u32);
    for run in rows(picture).flat_map(|row| row.chunks(MAX_RUN)) {
        for &byte in run {
            a += u32::from(byte);
            b += a;
        }
        a %= MODULUS;
        b %= MODULUS;
    }
    b << 16 | a
}

/// Bytes that the checksum is over.
pub(crate) fn bytes(picture: &Picture<'_>) -> usize {
    rows(picture).map(<[u8]>::len).sum()
}

fn rows<'a>(picture: &'a Picture<'_>) -> impl Iterator<Item = &'a [u8]> {
    let sizes = picture.layout.planes(picture.width as usize, picture.height as usize);
    picture.planes.iter().zip(sizes).flat_map(|(plane, (row_bytes, count))| {
        (0..count).map(move |row| {
            plane.data.get(row * plane.stride..).and_then(|rest| rest.get(..row_bytes)).unwrap_or_default()
        })
    })
}
