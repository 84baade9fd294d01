//! Fields to bytes and back. Reading past the end gives `None`, never a panic.

use super::{MAX_MESSAGE_BYTES, VERSION};

/// Writes the fields of one message, little-endian, behind its tag.
#[derive(Debug)]
pub(in crate::capture) struct Writer(Vec<u8>);

impl Writer {
    /// An empty writer; its memory is used again by every [`Writer::begin`].
    pub(in crate::capture) fn new() -> Writer {
        Writer(Vec::with_capacity(64))
    }

    /// Starts a message of this kind in the same memory.
    pub(super) fn begin(&mut self, tag: u8) -> &mut Writer {
        self.0.clear();
        self.u8(VERSION).u8(tag)
    }

    /// The message so far.
    pub(in crate::capture) fn message(&self) -> &[u8] {
        &self.0
    }

    /// Forgets the message and wipes it: a start order holds a camera's password.
    pub(in crate::capture) fn wipe(&mut self) {
        self.0.fill(0);
        self.0.clear();
    }

    pub(super) fn u8(&mut self, value: u8) -> &mut Writer {
        self.0.push(value);
        self
    }

    pub(super) fn u16(&mut self, value: u16) -> &mut Writer {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(super) fn u32(&mut self, value: u32) -> &mut Writer {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(super) fn u64(&mut self, value: u64) -> &mut Writer {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(super) fn i64(&mut self, value: i64) -> &mut Writer {
        self.u64(value.cast_unsigned())
    }

    pub(super) fn f32(&mut self, value: f32) -> &mut Writer {
        self.u32(value.to_bits())
    }

    pub(super) fn f64(&mut self, value: f64) -> &mut Writer {
        self.u64(value.to_bits())
    }

    pub(super) fn bool(&mut self, value: bool) -> &mut Writer {
        self.u8(u8::from(value))
    }

    /// At most 65 535 bytes; what is longer is left out.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Writer {
        let length = u16::try_from(bytes.len()).unwrap_or(0);
        self.u16(length);
        self.0.extend_from_slice(bytes.get(..usize::from(length)).unwrap_or_default());
        self
    }

    /// A text of at most `limit` bytes; what is longer is cut at a character's edge.
    pub(super) fn text(&mut self, text: &str, limit: usize) -> &mut Writer {
        let cut = text.floor_char_boundary(limit.min(MAX_MESSAGE_BYTES).min(usize::from(u16::MAX)));
        let text = text.get(..cut).unwrap_or_default();
        // Fits: `cut` is at most u16::MAX.
        self.u16(u16::try_from(text.len()).unwrap_or(0));
        self.0.extend_from_slice(text.as_bytes());
        self
    }
}

/// Reads the fields of one message; what is missing or left over is an error.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The message's tag and its fields; `None` when it is of another version.
    pub(super) fn open(message: &'a [u8]) -> Option<(u8, Reader<'a>)> {
        let mut reader = Reader(message);
        let version = reader.u8()?;
        let tag = reader.u8()?;
        (version == VERSION).then_some((tag, reader))
    }

    /// `value` when nothing is left over.
    pub(super) fn end<T>(self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    pub(super) fn f32(&mut self) -> Option<f32> {
        self.u32().map(f32::from_bits)
    }

    pub(super) fn f64(&mut self) -> Option<f64> {
        self.u64().map(f64::from_bits)
    }

    pub(super) fn bool(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// A text of at most `limit` bytes.
    pub(super) fn text(&mut self, limit: usize) -> Option<&'a str> {
        std::str::from_utf8(self.bytes(limit)?).ok()
    }

    /// At most `limit` bytes.
    pub(super) fn bytes(&mut self, limit: usize) -> Option<&'a [u8]> {
        let length = usize::from(self.u16()?);
        if length > limit {
            return None;
        }
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn texts_are_cut_at_a_characters_edge_and_refused_beyond_the_limit() {
        let mut writer = Writer::new();
        writer.begin(9).text("aäää", 4);
        let (tag, mut reader) = Reader::open(writer.message()).unwrap();
        assert_eq!((tag, reader.text(4)), (9, Some("aä")));
        let (_, mut reader) = Reader::open(writer.message()).unwrap();
        assert_eq!(reader.text(2), None);
    }

    #[test]
    fn another_version_is_no_message() {
        assert!(Reader::open(&[VERSION + 1, 3]).is_none());
        assert!(Reader::open(&[VERSION]).is_none());
    }
}
