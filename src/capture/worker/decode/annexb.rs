//! NAL units between start codes (H.264 Annex B, H.265 Annex B).

use std::ops::Range;

/// What stands before a NAL unit.
pub(crate) const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// The NAL units of a byte stream, without start codes and without trailing zero bytes.
pub(crate) fn nal_units(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    nal_places(stream).map(move |place| stream.get(place).unwrap_or_default())
}

/// The NAL units before the first that `is_picture` says is one, by its own first bytes: where that ends is
/// not looked for.
pub(crate) fn nal_units_before(
    stream: &[u8],
    is_picture: impl Fn(&[u8]) -> bool,
) -> impl Iterator<Item = &[u8]> {
    let mut places = nal_places(stream);
    std::iter::from_fn(move || {
        let rest = stream.get(places.at..).filter(|rest| !is_picture(rest))?;
        if rest.is_empty() { None } else { places.next().and_then(|place| stream.get(place)) }
    })
}

/// Where they lie. The three bytes before each are `00 00 01`.
pub(crate) fn nal_places(stream: &[u8]) -> NalPlaces<'_> {
    // What stands before the first start code belongs to no unit.
    let at = start_code(stream).map_or(stream.len(), |(_, after)| after);
    NalPlaces { stream, at }
}

/// Goes over the NAL units of an Annex B stream: what [`nal_places`] gives.
pub(crate) struct NalPlaces<'a> {
    stream: &'a [u8],
    at: usize,
}

impl Iterator for NalPlaces<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        while let Some(rest) = self.stream.get(self.at..).filter(|rest| !rest.is_empty()) {
            let (end, after) = start_code(rest).unwrap_or((rest.len(), rest.len()));
            let start = self.at;
            self.at += after;
            let unit = trim(rest.get(..end).unwrap_or_default());
            if !unit.is_empty() {
                return Some(start..start + unit.len());
            }
        }
        None
    }
}

fn trim(mut unit: &[u8]) -> &[u8] {
    while let [head @ .., 0] = unit {
        unit = head;
    }
    unit
}

/// Where the first `00 00 01` begins and where the byte after it lies.
pub(crate) fn start_code(data: &[u8]) -> Option<(usize, usize)> {
    // Looks at the third byte of each possible code: most are above 1 and rule out three positions at once.
    let mut at = 2;
    while let Some(&byte) = data.get(at) {
        match byte {
            1 if data.get(at - 2..at) == Some(&[0, 0]) => return Some((at - 2, at + 1)),
            0 => at += 1,
            _ => at += 3,
        }
    }
    None
}

/// Type of an H.264 NAL unit: 1 slice, 5 slice of a key frame, 7 and 8 parameter sets, 9 delimiter.
pub(crate) fn h264_type(unit: &[u8]) -> u8 {
    unit.first().map_or(0, |byte| byte & 0x1f)
}

/// Type of an H.265 NAL unit: 0..=31 slices of which 16..=21 are random access points, 32..=34 parameter
/// sets, 35 delimiter.
pub(crate) fn h265_type(unit: &[u8]) -> u8 {
    unit.first().map_or(63, |byte| byte >> 1 & 0x3f)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(stream: &[u8]) -> Vec<&[u8]> {
        nal_units(stream).collect()
    }

    #[test]
    fn units_between_short_and_long_start_codes() {
        let stream = [0, 0, 0, 1, 0x67, 1, 2, 0, 0, 1, 0x68, 3, 0, 0, 0, 1, 0x65, 0, 0, 3, 1];
        assert_eq!(split(&stream), [&[0x67, 1, 2][..], &[0x68, 3], &[0x65, 0, 0, 3, 1]]);
    }

    #[test]
    fn no_start_code_no_unit() {
        assert!(split(&[]).is_empty());
        assert!(split(&[1, 2, 3, 0, 0]).is_empty());
        assert!(split(&[0, 0, 1]).is_empty());
        assert!(split(&[0, 0, 1, 0, 0, 1, 0, 0, 0]).is_empty());
    }

    #[test]
    fn start_codes_are_found_at_every_offset() {
        for before in 0..9 {
            let mut stream = vec![7; before];
            stream.extend([0, 0, 1, 9]);
            assert_eq!(start_code(&stream), Some((before, before + 3)), "{before}");
        }
        // The skip by three must not jump over a code that begins within it.
        assert_eq!(start_code(&[0, 5, 0, 0, 1]), Some((2, 5)));
        assert_eq!(start_code(&[0, 0, 0, 0, 1]), Some((2, 5)));
    }
}
