//! Boxes of ISO/IEC 14496-12: `size:u32 kind:[u8;4] payload`, nested.

use crate::capture::worker::file::number::{be32, be64};

/// Kind of a box.
pub(super) type BoxKind = [u8; 4];

/// Bytes of a box header with a 32-bit size.
pub(super) const HEADER_BYTES: u64 = 8;

/// Bytes of a box header whose size did not fit 32 bits.
pub(super) const LARGE_HEADER_BYTES: u64 = 16;

/// Size of a box from its first 16 bytes (fewer at the end of a file): header bytes and total bytes.
/// A size of 0 means "to the end" and gives `remaining`. `None`: damaged.
pub(super) fn box_size(header: &[u8], remaining: u64) -> Option<(u64, u64)> {
    let (header_bytes, total) = match be32(header, 0)? {
        0 => (HEADER_BYTES, remaining),
        1 => (LARGE_HEADER_BYTES, be64(header, 8)?),
        small => (HEADER_BYTES, u64::from(small)),
    };
    (total >= header_bytes).then_some((header_bytes, total))
}

/// The boxes that lie one after the other in `data`; ends at the first damaged one.
pub(super) fn children(data: &[u8]) -> impl Iterator<Item = (BoxKind, &[u8])> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let remaining = u64::try_from(rest.len()).ok()?;
        let (header_bytes, total) = box_size(rest, remaining)?;
        let kind = *rest.get(4..)?.first_chunk()?;
        // A last box that claims more than there is, is cut: some writers get the size of the outermost ones
        // wrong.
        let total = usize::try_from(total).unwrap_or(usize::MAX).min(rest.len());
        let (this, next) = rest.split_at(total);
        rest = next;
        Some((kind, this.get(usize::try_from(header_bytes).ok()?..)?))
    })
}

/// The first box of that kind.
pub(super) fn child<'a>(data: &'a [u8], kind: &BoxKind) -> Option<&'a [u8]> {
    children(data).find(|(this, _)| this == kind).map(|(_, payload)| payload)
}

/// The first box down a path of kinds.
pub(super) fn descend<'a>(data: &'a [u8], path: &[&BoxKind]) -> Option<&'a [u8]> {
    path.iter().try_fold(data, |data, kind| child(data, kind))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn nested_boxes_are_found_and_damaged_ones_end_the_search() {
        let mut data =
            vec![0, 0, 0, 20, b'o', b'u', b't', b'e', 0, 0, 0, 12, b'i', b'n', b'n', b'e', 1, 2, 3, 4];
        assert_eq!(descend(&data, &[b"oute", b"inne"]), Some(&[1, 2, 3, 4][..]));
        data[11] = 7;
        assert_eq!(descend(&data, &[b"oute", b"inne"]), None);
    }

    #[test]
    fn large_and_open_sizes() {
        let mut header = vec![0, 0, 0, 1, b'm', b'd', b'a', b't'];
        header.extend(5_000_000_000_u64.to_be_bytes());
        assert_eq!(box_size(&header, 0), Some((16, 5_000_000_000)));
        assert_eq!(box_size(&[0; 8], 99), Some((8, 99)));
        assert_eq!(box_size(&[0, 0, 0, 7, 0, 0, 0, 0], 99), None);
    }
}
