//! Bytes → text: which of the Unicode encodings a JSON document is in.

use std::borrow::Cow;

/// Decodes by byte-order mark, else by where the zero bytes of the first two characters (always ASCII) are.
/// `None` when the bytes are not valid in the encoding found.
pub(super) fn decode(bytes: &[u8]) -> Option<Cow<'_, str>> {
    match bytes {
        [0xEF, 0xBB, 0xBF, rest @ ..] => std::str::from_utf8(rest).ok().map(Cow::Borrowed),
        // UTF-32 before UTF-16: its little-endian mark begins with the other's.
        [0xFF, 0xFE, 0, 0, rest @ ..] => utf32(rest, u32::from_le_bytes),
        [0, 0, 0xFE, 0xFF, rest @ ..] => utf32(rest, u32::from_be_bytes),
        [0xFF, 0xFE, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xFE, 0xFF, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [0, 0, 0, _, ..] => utf32(bytes, u32::from_be_bytes),
        [_, 0, 0, 0, ..] => utf32(bytes, u32::from_le_bytes),
        [0, _, ..] => utf16(bytes, u16::from_be_bytes),
        [_, 0, ..] => utf16(bytes, u16::from_le_bytes),
        _ => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Option<Cow<'static, str>> {
    let (units, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let text: Result<String, _> = char::decode_utf16(units.iter().map(|&pair| unit(pair))).collect();
    text.ok().map(Cow::Owned)
}

fn utf32(bytes: &[u8], unit: fn([u8; 4]) -> u32) -> Option<Cow<'static, str>> {
    let (units, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return None;
    }
    let text: Option<String> = units.iter().map(|&quad| char::from_u32(unit(quad))).collect();
    text.map(Cow::Owned)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn all_encodings_with_and_without_mark() {
        let text = "{\"ä\": \"𝄞\"}";
        let utf16: Vec<u16> = text.encode_utf16().collect();
        let le16: Vec<u8> = utf16.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let be16: Vec<u8> = utf16.iter().flat_map(|unit| unit.to_be_bytes()).collect();
        let le32: Vec<u8> = text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
        let be32: Vec<u8> = text.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect();
        for (mark, body) in [
            (&b""[..], text.as_bytes()),
            (b"\xEF\xBB\xBF", text.as_bytes()),
            (b"", &le16),
            (b"\xFF\xFE", &le16),
            (b"", &be16),
            (b"\xFE\xFF", &be16),
            (b"", &le32),
            (b"\xFF\xFE\0\0", &le32),
            (b"", &be32),
            (b"\0\0\xFE\xFF", &be32),
        ] {
            let bytes = [mark, body].concat();
            assert_eq!(decode(&bytes).unwrap(), text, "{bytes:?}");
        }
    }

    #[test]
    fn broken_encodings_are_refused() {
        for bytes in
            [&b"\xFF\xFF"[..], b"{\x80}", b"\xC0\xAF", b"\0{\0", b"\xFE\xFF\xD8\0", b"\0\0\xFE\xFF\0\0\xD8\0"]
        {
            assert_eq!(decode(bytes), None, "{bytes:?}");
        }
    }
}
