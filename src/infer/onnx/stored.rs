//! Weights that stay in their file until somebody packs them, and are then read piece by piece.

use crate::infer::shared::as_bytes_mut;
use std::fs::File;
use std::ops::{Deref, Range};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

/// Longest buffer that is kept for the next piece, floats (16 MiB): pieces are a megabyte at most where a
/// layer is packed piece by piece, and memory that goes back to the system costs a fault a page the next
/// time.
const MAX_SPARE_FLOATS: usize = 4 << 20;
/// Bytes that are converted at a time.
const WINDOW_BYTES: usize = 64 << 10;

/// How a number is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    /// IEEE 754 binary16, widened as it is read.
    Half,
    /// Binary32, as weights are kept.
    Single,
    /// Binary64, rounded as it is read.
    Double,
}

impl Element {
    /// Of a `TensorProto.DataType`; `None` for what is no float.
    pub(super) fn of(data_type: u64) -> Option<Element> {
        match i32::try_from(data_type).ok()? {
            super::precision::FLOAT => Some(Element::Single),
            super::precision::FLOAT16 => Some(Element::Half),
            super::precision::DOUBLE => Some(Element::Double),
            _ => None,
        }
    }

    /// Bytes of one number in the file.
    pub(super) fn bytes(self) -> u64 {
        match self {
            Element::Half => 2,
            Element::Single => 4,
            Element::Double => 8,
        }
    }
}

/// A file that holds weights.
#[derive(Debug)]
pub(super) struct WeightsFile {
    file: Arc<File>,
    /// For the next piece.
    spare: Mutex<Vec<f32>>,
}

impl WeightsFile {
    pub(super) fn new(file: Arc<File>) -> Arc<WeightsFile> {
        Arc::new(WeightsFile { file, spare: Mutex::default() })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

/// Weights that are still in their file.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    source: Arc<WeightsFile>,
    at: u64,
    count: usize,
    element: Element,
}

impl Stored {
    /// `count` numbers from byte `at` on.
    pub(super) fn new(source: Arc<WeightsFile>, at: u64, count: usize, element: Element) -> Stored {
        Stored { source, at, count, element }
    }

    /// How many numbers there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Some of them; `None` where there are not so many, or the file cannot be read any more.
    pub(crate) fn read(&self, range: Range<usize>) -> Option<Lease> {
        let count = range.end.checked_sub(range.start)?;
        if range.end > self.count {
            return None;
        }
        let at = self.at.checked_add(self.element.bytes().checked_mul(range.start as u64)?)?;
        let mut floats =
            std::mem::take(&mut *self.source.spare.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(more) = count.checked_sub(floats.len()) {
            floats.try_reserve_exact(more).ok()?;
            floats.resize(count, 0.0);
        }
        let mut lease = Lease { floats, count, source: self.source.clone() };
        let room = lease.floats.get_mut(..count)?;
        match self.element {
            Element::Half => self.convert(at, room, |two| super::precision::half(u16::from_le_bytes(two)))?,
            Element::Double => self.convert(at, room, |eight| f64::from_le_bytes(eight) as f32)?,
            Element::Single => {
                self.source.file.read_exact_at(as_bytes_mut(room), at).ok()?;
                if cfg!(target_endian = "big") {
                    room.iter_mut().for_each(|value| *value = f32::from_bits(u32::from_le(value.to_bits())));
                }
            }
        }
        Some(lease)
    }

    /// Numbers of `SIZE` bytes from `at` on.
    fn convert<const SIZE: usize>(
        &self,
        mut at: u64,
        room: &mut [f32],
        of: impl Fn([u8; SIZE]) -> f32,
    ) -> Option<()> {
        let mut window = vec![0; WINDOW_BYTES.min(room.len().saturating_mul(SIZE))];
        for room in room.chunks_mut(WINDOW_BYTES / SIZE) {
            let window = window.get_mut(..room.len() * SIZE)?;
            self.source.file.read_exact_at(window, at).ok()?;
            at += window.len() as u64;
            room.iter_mut().zip(window.as_chunks::<SIZE>().0).for_each(|(to, bytes)| *to = of(*bytes));
        }
        Some(())
    }

    /// All of them as the bytes of the file.
    pub(super) fn bytes(&self) -> Option<Vec<u8>> {
        let length = usize::try_from(self.element.bytes().checked_mul(self.count as u64)?).ok()?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(length).ok()?;
        bytes.resize(length, 0);
        self.source.file.read_exact_at(&mut bytes, self.at).ok()?;
        Some(bytes)
    }
}

/// Numbers that were read. Their memory serves the next ones.
#[derive(Debug)]
pub(crate) struct Lease {
    floats: Vec<f32>,
    count: usize,
    source: Arc<WeightsFile>,
}

impl Deref for Lease {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        self.floats.get(..self.count).unwrap_or_default()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.floats.len() <= MAX_SPARE_FLOATS {
            *self.source.spare.lock().unwrap_or_else(PoisonError::into_inner) =
                std::mem::take(&mut self.floats);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::infer::registry::test_dir::TestDir;

    #[test]
    fn pieces_are_read_from_where_they_lie_in_every_type() {
        let dir = TestDir::new();
        let path = dir.path().join("weights");
        // 3 bytes of something else, then 40 000 numbers: more than one window
        let numbers = || (0..40_000u16).map(|i| f32::from(i % 2048));
        let halves = |value: f32| {
            // whole numbers below 2048 are exact in binary16
            let bits = value.to_bits();
            let half = if value == 0.0 { 0 } else { ((bits >> 23) - 112) << 10 | bits >> 13 & 0x3FF };
            (half as u16).to_le_bytes().to_vec()
        };
        type Write<'a> = &'a dyn Fn(f32) -> Vec<u8>;
        let cases: [(Element, Write<'_>); 3] = [
            (Element::Half, &halves),
            (Element::Single, &|value| value.to_le_bytes().to_vec()),
            (Element::Double, &|value| f64::from(value).to_le_bytes().to_vec()),
        ];
        for (element, write) in cases {
            let bytes: Vec<u8> = [1, 2, 3].into_iter().chain(numbers().flat_map(write)).collect();
            std::fs::write(&path, &bytes).unwrap();
            let source = WeightsFile::new(Arc::new(File::open(&path).unwrap()));
            let stored = Stored::new(source, 3, 40_000, element);
            for range in [0..40_000, 39_999..40_000, 7..7, 100..35_000, 0..1] {
                let expected: Vec<f32> = numbers().skip(range.start).take(range.len()).collect();
                assert_eq!(&*stored.read(range.clone()).unwrap(), expected, "{element:?} {range:?}");
            }
            assert!(stored.read(0..40_001).is_none() && stored.bytes().unwrap() == bytes[3..]);
            File::options().write(true).open(&path).unwrap().set_len(100).unwrap();
            assert!(stored.read(0..40_000).is_none() && stored.bytes().is_none());
        }
    }
}
