//! Bits of a parameter set or slice header: fixed-length and Exp-Golomb codes (H.264 §9.1, H.265 §9.2).

/// Most bytes of a parameter set or slice header that are looked at. The longest honest ones, with scaling
/// lists and HRD parameters, stay below 1 KiB.
const MAX_HEADER_BYTES: usize = 4096;

/// A NAL unit's payload without its emulation-prevention bytes (00 00 03 → 00 00), cut to what headers can
/// need.
pub(super) fn unescape(payload: &[u8]) -> Vec<u8> {
    unescape_start(payload, MAX_HEADER_BYTES)
}

/// The same, of the first `most` bytes.
pub(super) fn unescape_start(payload: &[u8], most: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len().min(most));
    let mut zeros = 0;
    for &byte in payload.iter().take(most) {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

/// Reads from the most significant bit on. `None` means that the data ended or a code is longer than any
/// value may be.
pub(super) struct Bits<'a> {
    data: &'a [u8],
    position: usize,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Bits { data, position: 0 }
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        let byte = self.data.get(self.position / 8)?;
        let bit = byte >> (7 - self.position % 8) & 1;
        self.position += 1;
        Some(bit == 1)
    }

    /// `u(count)`, `count` at most 32.
    pub(super) fn bits(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | u32::from(self.flag()?);
        }
        Some(value)
    }

    pub(super) fn skip(&mut self, count: usize) -> Option<()> {
        self.position = self.position.checked_add(count)?;
        (self.position <= self.data.len() * 8).then_some(())
    }

    /// `ue(v)`: an Exp-Golomb code, H.264 §9.1. `None` past the end or above 32 bits.
    pub(super) fn unsigned(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.bits(zeros)?)
    }

    /// `se(v)`: a signed Exp-Golomb code, H.264 §9.1.1. `None` past the end or above 32 bits.
    pub(super) fn signed(&mut self) -> Option<i32> {
        let code = i64::from(self.unsigned()?);
        let magnitude = (code + 1) / 2;
        i32::try_from(if code % 2 == 1 { magnitude } else { -magnitude }).ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb_codes_of_the_standard() {
        // 1 | 010 | 011 | 00100 | 00101: 0 1 2 3 4, signed 0 1 -1 2 -2.
        let data = [0b1010_0110, 0b0100_0010, 0b1000_0000];
        let mut bits = Bits::new(&data);
        let values: Vec<u32> = (0..5).map(|_| bits.unsigned().unwrap()).collect();
        assert_eq!(values, [0, 1, 2, 3, 4]);
        let mut bits = Bits::new(&data);
        let values: Vec<i32> = (0..5).map(|_| bits.signed().unwrap()).collect();
        assert_eq!(values, [0, 1, -1, 2, -2]);
    }

    #[test]
    fn codes_that_never_end_are_refused() {
        assert_eq!(Bits::new(&[0; 16]).unsigned(), None);
        assert_eq!(Bits::new(&[]).flag(), None);
        assert_eq!(Bits::new(&[0]).skip(9), None);
    }

    #[test]
    fn emulation_prevention_is_removed() {
        assert_eq!(unescape(&[1, 0, 0, 3, 1, 0, 0, 3, 0, 0, 3]), [1, 0, 0, 1, 0, 0, 0, 0]);
    }
}
