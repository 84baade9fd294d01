//! EBML (RFC 8794): `id size payload`, nested; ids and sizes are 1 to 4 and 1 to 8 bytes long.

/// An id with its length marker, as the standards write it.
pub(super) type Id = u32;

/// Longest header of an element, bytes.
pub(super) const MAX_HEADER_BYTES: usize = 12;

/// Header of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) id: Id,
    /// Bytes of the header itself.
    pub(super) bytes: usize,
    /// Bytes of the payload; `None`: the writer did not know, the element ends where one begins that cannot
    /// be inside.
    pub(super) size: Option<u64>,
}

/// The header that `data` begins with; `None`: damage, or the end.
pub(super) fn header(data: &[u8]) -> Option<Header> {
    let first = *data.first()?;
    let id_bytes = usize::try_from(first.leading_zeros()).ok()? + 1;
    let id = data.get(..id_bytes).filter(|_| id_bytes <= 4)?;
    let (size, size_bytes) = number(data.get(id_bytes..)?)?;
    Some(Header { id: be(id)?.try_into().ok()?, bytes: id_bytes + size_bytes, size })
}

/// A number of variable length and its length in bytes; `None` inside: all its bits are set, which means
/// "unknown".
pub(super) fn number(data: &[u8]) -> Option<(Option<u64>, usize)> {
    let first = *data.first()?;
    let bytes = usize::try_from(first.leading_zeros()).ok()? + 1;
    let all = be(data.get(..bytes).filter(|_| bytes <= 8)?)?;
    let mask = (1_u64 << (7 * bytes)) - 1;
    let value = all & mask;
    Some(((value != mask).then_some(value), bytes))
}

/// A number of variable length that may be below zero (in laces), and its length in bytes.
pub(super) fn signed(data: &[u8]) -> Option<(i64, usize)> {
    let (value, bytes) = number(data)?;
    let mask = (1_i64 << (7 * bytes)) - 1;
    let value = value.and_then(|value| i64::try_from(value).ok()).unwrap_or(mask);
    Some((value - (mask >> 1), bytes))
}

/// Big-endian number of up to eight bytes.
pub(super) fn be(bytes: &[u8]) -> Option<u64> {
    (bytes.len() <= 8).then(|| bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
}

/// A floating-point number of four or eight bytes.
pub(super) fn float(bytes: &[u8]) -> Option<f64> {
    match bytes.len() {
        4 => Some(f64::from(f32::from_be_bytes(*bytes.first_chunk()?))),
        8 => Some(f64::from_be_bytes(*bytes.first_chunk()?)),
        _ => None,
    }
}

/// The elements that lie one after the other in `data`; ends at the first damaged one, and cuts one that
/// claims too much.
pub(super) fn children(data: &[u8]) -> impl Iterator<Item = (Id, &[u8])> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let header = header(rest)?;
        let body = rest.get(header.bytes..)?;
        let size =
            header.size.and_then(|size| usize::try_from(size).ok()).unwrap_or(usize::MAX).min(body.len());
        let (payload, next) = body.split_at(size);
        rest = next;
        Some((header.id, payload))
    })
}

/// The payload of the first child with that id.
pub(super) fn child(data: &[u8], id: Id) -> Option<&[u8]> {
    children(data).find(|(this, _)| *this == id).map(|(_, payload)| payload)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_every_length() {
        assert_eq!(header(&[0xa3, 0x81, 5]), Some(Header { id: 0xa3, bytes: 2, size: Some(1) }));
        assert_eq!(
            header(&[0x1f, 0x43, 0xb6, 0x75, 0xff]),
            Some(Header { id: 0x1f43_b675, bytes: 5, size: None })
        );
        let long = [0x18, 0x53, 0x80, 0x67, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(header(&long), Some(Header { id: 0x1853_8067, bytes: 12, size: None }));
        assert_eq!(header(&long[..11]), None);
        assert_eq!(header(&[0x08, 0x81]), None);
        assert_eq!(header(&[0xa3, 0]), None);
    }

    #[test]
    fn differences_in_laces() {
        assert_eq!(signed(&[0xbf]), Some((0, 1)));
        assert_eq!(signed(&[0x80]), Some((-63, 1)));
        assert_eq!(signed(&[0x40, 0]), Some((-8191, 2)));
    }

    #[test]
    fn children_that_claim_too_much_are_cut() {
        let data = [0xd7, 0x81, 7, 0x86, 0x90, b'a'];
        assert_eq!(children(&data).collect::<Vec<_>>(), [(0xd7, &[7][..]), (0x86, &[b'a'][..])]);
        assert_eq!(be(child(&data, 0xd7).unwrap()), Some(7));
    }
}
