//! A known picture: what a decoder that is not ours must decode before it is trusted.
//!
//! Six pictures of 320 × 240 with B pictures among them, so that order and tags are proven too. The checksums
//! are those of ffmpeg's pictures (`tests/scripts/make-clips.sh known`).

use super::annexb::{START_CODE, nal_places};
use super::foreign::{Fault, Foreign};
use super::{Codec, Part};
use crate::capture::worker::picture::{Layout, Picture, Plane};

const WIDTH: u32 = 320;
const HEIGHT: u32 = 240;

/// A stream and what comes out of it.
struct Known {
    stream: &'static [u8],
    /// CRC-32 of Y, U and V of each picture, in presentation order.
    sums: [u32; 6],
    /// Numbers of the units that the pictures belong to.
    units: [u64; 6],
}

const H264: Known = Known {
    stream: include_bytes!("picture.h264"),
    sums: [0x0a17_ef0f, 0x9523_996d, 0xa681_ad96, 0x0f74_9994, 0xfac0_d4c9, 0x6a8e_67b5],
    units: [0, 2, 3, 1, 5, 4],
};

const H265: Known = Known {
    stream: include_bytes!("picture.h265"),
    sums: [0x2b51_e1e6, 0xe368_9649, 0x1981_0aa0, 0x702a_da34, 0x170c_2ffb, 0xf0ff_e3a0],
    units: [0, 2, 3, 1, 5, 4],
};

/// Has the decoder decode the known pictures of its codec; afterwards it is as new. Codecs of which we know
/// no picture pass.
///
/// Errors: what it did wrong.
pub(super) fn check(foreign: &mut dyn Foreign, codec: Codec) -> Result<(), String> {
    let known = match codec {
        Codec::H264 => &H264,
        Codec::H265 => &H265,
        Codec::Jpeg | Codec::Mpeg4 | Codec::Vp8 | Codec::Vp9 | Codec::Av1 => return Ok(()),
    };
    let mut shown: Vec<(u64, u32)> = Vec::with_capacity(known.sums.len());
    let mut wrong_size = None;
    let mut take = |picture: &Picture<'_>, tag: u64| {
        picture.check()?;
        if (picture.width, picture.height) == (WIDTH, HEIGHT) {
            shown.push((tag, sum(picture)));
        } else {
            wrong_size = Some((picture.width, picture.height));
        }
        Ok(())
    };
    let explain = |fault| match fault {
        Fault::Damaged(cause) | Fault::Lost(cause) => {
            format!("a known picture is not decoded: {cause}")
        }
        Fault::Output(error) => format!("a known picture comes out damaged: {error}"),
    };
    for (number, unit) in (0..).zip(units(codec, known.stream)) {
        foreign.decode(unit, number, &mut take).map_err(explain)?;
    }
    foreign.drain(&mut take).map_err(explain)?;
    foreign.reset().map_err(explain)?;
    if let Some((width, height)) = wrong_size {
        return Err(format!("a known picture of {WIDTH}x{HEIGHT} comes out as {width}x{height}"));
    }
    let expected = known.units.iter().copied().zip(known.sums);
    if shown.len() != known.sums.len() {
        return Err(format!("of {} known pictures {} come out", known.sums.len(), shown.len()));
    }
    match shown.iter().copied().zip(expected).find(|(got, want)| got != want) {
        None => Ok(()),
        Some(((got, _), (want, _))) if got != want => Err(format!(
            "known pictures come out in another order: that of unit {got} in the place of unit {want}"
        )),
        Some(((unit, _), _)) => Err(format!("the known picture of unit {unit} comes out with other samples")),
    }
}

/// The access units of a stream: each begins with its delimiter.
pub(super) fn units(codec: Codec, stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut starts: Vec<usize> = Vec::new();
    let mut had_picture = true;
    for place in nal_places(stream) {
        let unit = stream.get(place.clone()).unwrap_or_default();
        match Part::of(codec, unit) {
            Part::Leads if had_picture => {
                starts.push(place.start.saturating_sub(START_CODE.len()));
                had_picture = false;
            }
            Part::BeginsPicture => had_picture = true,
            _ => {}
        }
    }
    let ends: Vec<usize> = starts.iter().skip(1).copied().chain([stream.len()]).collect();
    starts.into_iter().zip(ends).map(|(start, end)| stream.get(start..end).unwrap_or_default())
}

/// CRC-32 of the samples: all of Y, then of U, then of V, however they lie in the planes. The picture must be
/// whole ([`Picture::check`]).
fn sum(picture: &Picture<'_>) -> u32 {
    let (width, height) = (picture.width as usize, picture.height as usize);
    let sizes = picture.layout.planes(width, height);
    let mut hasher = crc32fast::Hasher::new();
    let mut feed = |plane: &Plane<'_>, (row_bytes, rows): (usize, usize), first: usize, step: usize| {
        let mut line = Vec::with_capacity(row_bytes);
        for row in 0..rows {
            let row = plane.data.get(row * plane.stride..).and_then(|rest| rest.get(..row_bytes));
            line.clear();
            line.extend(row.unwrap_or_default().iter().skip(first).step_by(step));
            hasher.update(&line);
        }
    };
    let [luma, second, third] = &picture.planes;
    feed(luma, sizes[0], 0, 1);
    if picture.layout == Layout::Nv12 {
        feed(second, sizes[1], 0, 2);
        feed(second, sizes[1], 1, 2);
    } else {
        feed(second, sizes[1], 0, 1);
        feed(third, sizes[2], 0, 1);
    }
    hasher.finalize()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::capture::worker::decode::own::Own;
    use crate::capture::worker::picture::{Matrix, Range};

    fn checked(codec: Codec, spoil: impl FnMut(&mut Vec<u8>, &mut u64)) -> Result<(), String> {
        check(&mut Own::new(codec, spoil), codec)
    }

    #[test]
    fn our_own_decoders_pass() {
        for codec in [Codec::H264, Codec::H265] {
            checked(codec, |_, _| {}).unwrap();
        }
    }

    #[test]
    fn one_wrong_sample_or_tag_is_seen() {
        for codec in [Codec::H264, Codec::H265] {
            let mut left = 3;
            let wrong = checked(codec, |luma, _| {
                left -= 1;
                luma[320 * 100 + 7] ^= u8::from(left == 0);
            });
            assert!(wrong.unwrap_err().contains("other samples"));
            let order = checked(codec, |_, tag| *tag = if *tag == 2 { 3 } else { *tag });
            assert!(order.unwrap_err().contains("unit 3 in the place of unit 2"));
        }
    }

    #[test]
    fn semiplanar_and_planar_pictures_have_the_same_sum() {
        let luma = [9_u8; 32];
        let (u, v) = ([1, 2, 3, 4], [5, 6, 7, 8]);
        let uv = [1, 5, 2, 6, 0, 0, 3, 7, 4, 8];
        let none = Plane::default();
        let of = |layout, planes| {
            let (range, matrix) = (Range::Limited, Matrix::Bt601);
            sum(&Picture { width: 4, height: 4, layout, planes, range, matrix })
        };
        let luma = Plane { data: &luma, stride: 8 };
        let plane = |data, stride| Plane { data, stride };
        assert_eq!(
            of(Layout::I420, [luma, plane(&u, 2), plane(&v, 2)]),
            of(Layout::Nv12, [luma, plane(&uv, 6), none])
        );
    }
}
