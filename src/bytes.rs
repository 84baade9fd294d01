//! Fields to bytes and back, little-endian. Reading past the end gives `None`, never a panic.

/// Writes fields one after the other.
#[derive(Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    /// What has been written.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Takes what has been written.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn u8(&mut self, value: u8) -> &mut Writer {
        self.0.push(value);
        self
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Writer {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Writer {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// A count or index; `usize` has 64 bits at the most.
    pub(crate) fn size(&mut self, value: usize) -> &mut Writer {
        self.u64(value as u64)
    }

    pub(crate) fn f32(&mut self, value: f32) -> &mut Writer {
        self.u32(value.to_bits())
    }

    pub(crate) fn bool(&mut self, value: bool) -> &mut Writer {
        self.u8(u8::from(value))
    }

    /// A text of at most `limit` bytes; what is longer is cut at a character's edge.
    pub(crate) fn text(&mut self, text: &str, limit: usize) -> &mut Writer {
        let text = text.get(..text.floor_char_boundary(limit)).unwrap_or_default();
        self.size(text.len());
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    /// So many counts or indices.
    pub(crate) fn sizes(&mut self, values: &[usize]) -> &mut Writer {
        self.size(values.len());
        values.iter().for_each(|value| {
            self.size(*value);
        });
        self
    }
}

/// Reads fields in the order in which they were written.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// From the first byte on.
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader(bytes)
    }

    /// `value` when nothing is left over.
    pub(crate) fn end<T>(self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A count or index of at most `limit`.
    pub(crate) fn size(&mut self, limit: usize) -> Option<usize> {
        usize::try_from(self.u64()?).ok().filter(|size| *size <= limit)
    }

    pub(crate) fn f32(&mut self) -> Option<f32> {
        self.u32().map(f32::from_bits)
    }

    pub(crate) fn bool(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// A text of at most `limit` bytes.
    pub(crate) fn text(&mut self, limit: usize) -> Option<&'a str> {
        let length = self.size(limit)?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    /// At most `count` values. Memory is taken as they are read: a number of bytes that are not there costs
    /// nothing.
    pub(crate) fn list<T>(
        &mut self,
        count: usize,
        mut read: impl FnMut(&mut Reader<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let count = self.size(count)?;
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(read(self)?);
        }
        Some(values)
    }

    /// At most `count` counts or indices of at most `limit` each.
    pub(crate) fn sizes(&mut self, count: usize, limit: usize) -> Option<Vec<usize>> {
        self.list(count, |reader| reader.size(limit))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn fields_survive_and_nothing_may_be_left_over() {
        let mut writer = Writer::default();
        writer.u8(1).u32(3).u64(4).size(5).f32(-0.5).bool(true).text("aäää", 4).sizes(&[7, 8]);
        let mut reader = Reader::new(writer.bytes());
        assert_eq!((reader.u8(), reader.u32(), reader.u64()), (Some(1), Some(3), Some(4)));
        assert_eq!((reader.size(5), reader.f32(), reader.bool()), (Some(5), Some(-0.5), Some(true)));
        assert_eq!(reader.text(4), Some("aä"));
        assert_eq!(reader.clone().end(()), None);
        assert_eq!(reader.sizes(2, 8), Some(vec![7, 8]));
        assert_eq!(reader.end(()), Some(()));
    }

    #[test]
    fn what_is_beyond_its_limit_or_cut_is_none() {
        let mut writer = Writer::default();
        writer.sizes(&[7, 8]);
        assert_eq!(Reader::new(writer.bytes()).sizes(1, 8), None);
        assert_eq!(Reader::new(writer.bytes()).sizes(2, 7), None);
        let bytes = writer.into_bytes();
        (0..bytes.len()).for_each(|length| assert_eq!(Reader::new(&bytes[..length]).sizes(2, 8), None));
        assert_eq!(Reader::new(&u64::MAX.to_le_bytes()).sizes(usize::MAX, 8), None);
    }
}
