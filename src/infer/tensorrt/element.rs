//! What tensors of a plan are made of, and how that becomes the 32-bit floats everything else works with.

use tract_onnx::prelude::f16;

/// TensorRT's `DataType`, as far as detectors use it at their ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    /// 32-bit floats, `kFLOAT`.
    Float,
    /// 16-bit floats, `kHALF`.
    Half,
    /// `kINT32`: how many boxes there are, or their classes.
    Int32,
    /// `kINT64`: the same from TensorRT 10 on.
    Int64,
}

impl Element {
    /// From the library's number.
    pub(super) fn of(data_type: i32) -> Option<Element> {
        match data_type {
            0 => Some(Element::Float),
            1 => Some(Element::Half),
            3 => Some(Element::Int32),
            8 => Some(Element::Int64),
            _ => None,
        }
    }

    /// Size of one element, bytes.
    pub(super) fn bytes(self) -> usize {
        match self {
            Element::Half => 2,
            Element::Float | Element::Int32 => 4,
            Element::Int64 => 8,
        }
    }

    /// Reads as many values as `floats` holds, in the machine's byte order.
    pub(super) fn read(self, bytes: &[u8], floats: &mut [f32]) {
        let pairs = bytes.chunks_exact(self.bytes()).zip(floats);
        match self {
            Element::Float => {
                pairs.for_each(|(bytes, to)| *to = bytes.try_into().map_or(0.0, f32::from_ne_bytes))
            }
            Element::Half => pairs.for_each(|(bytes, to)| {
                *to = bytes.try_into().map_or(0.0, |b| f16::from_ne_bytes(b).to_f32())
            }),
            // Counts and classes are far below 2^24, where floats stop being exact.
            Element::Int32 => pairs
                .for_each(|(bytes, to)| *to = bytes.try_into().map_or(0.0, |b| i32::from_ne_bytes(b) as f32)),
            Element::Int64 => pairs
                .for_each(|(bytes, to)| *to = bytes.try_into().map_or(0.0, |b| i64::from_ne_bytes(b) as f32)),
        }
    }

    /// Writes floats as 16-bit ones; the other kinds are no input of a detector.
    pub(super) fn write_half(floats: &[f32], bytes: &mut [u8]) {
        for (from, to) in floats.iter().zip(bytes.chunks_exact_mut(2)) {
            to.copy_from_slice(&f16::from_f32(*from).to_ne_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_becomes_floats() {
        let mut floats = [0.0; 2];
        Element::Half.read(&[0x00, 0x3c, 0x00, 0xc0], &mut floats);
        assert_eq!(floats, [1.0, -2.0]);
        Element::Int32.read(&[7_i32.to_ne_bytes(), (-1_i32).to_ne_bytes()].concat(), &mut floats);
        assert_eq!(floats, [7.0, -1.0]);
        Element::Int64.read(&[300_i64.to_ne_bytes(), 0_i64.to_ne_bytes()].concat(), &mut floats);
        assert_eq!(floats, [300.0, 0.0]);
        let mut bytes = [0; 4];
        Element::write_half(&[1.0, 0.1], &mut bytes);
        Element::Half.read(&bytes, &mut floats);
        assert!(floats[0] == 1.0 && (floats[1] - 0.1).abs() < 1e-4, "{floats:?}");
    }
}
