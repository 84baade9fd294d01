//! Gray reference pictures, for streams that are joined where the references of the first pictures are
//! missing.
//!
//! Neither decoder decodes a picture whose references it has never seen, and an encoder that refreshes the
//! picture bit by bit sends no other. So the memory is filled with pictures of our own, numbered as the
//! missing ones would be: macroblocks of intra 16×16 prediction from no neighbour and without residual, which
//! is gray (§8.3.3.3). They have a picture parameter set of their own, without CABAC, and need a byte a
//! macroblock.

use super::slice::SliceHeader;
use super::sps::Sps;
use crate::capture::worker::decode::annexb::START_CODE;

/// Type 8, to be kept.
const PICTURE_PARAMETERS: u8 = 0x68;
/// Type 1 (no key frame), to be kept.
const REFERENCE_SLICE: u8 = 0x41;

/// Bits of a NAL unit.
#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    /// Bits of the last byte that are taken, 0..8; 0: the next bit begins a byte.
    filled: u32,
}

impl Writer {
    fn bits(&mut self, value: u32, count: u32) {
        for at in (0..count).rev() {
            if self.filled == 0 {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((value >> at & 1) as u8) << (7 - self.filled);
            }
            self.filled = (self.filled + 1) % 8;
        }
    }

    /// `ue(v)`; also `se(v)` of 0.
    fn unsigned(&mut self, value: u32) {
        let length = u32::BITS - (value + 1).leading_zeros();
        self.bits(0, length - 1);
        self.bits(value + 1, length);
    }

    /// Ends the unit and writes it after a start code, with emulation prevention.
    fn finish(mut self, header: u8, out: &mut Vec<u8>) {
        self.bits(1, 1);
        out.extend(START_CODE);
        out.push(header);
        let mut zeros = 0;
        for byte in self.bytes {
            if zeros == 2 && byte <= 3 {
                out.push(3);
                zeros = 0;
            }
            zeros = if byte == 0 { zeros + 1 } else { 0 };
            out.push(byte);
        }
    }
}

/// As many pictures as `sps` keeps for reference, each an access unit in Annex B, that may stand right before
/// the picture that `first` begins. The first brings the parameter set with it. `free`: a number that no
/// picture parameter set has.
pub(super) fn pictures(sps: &Sps, first: &SliceHeader, free: u8) -> Vec<Vec<u8>> {
    let count = sps.coding.references.max(1);
    let mut pictures: Vec<Vec<u8>> =
        (1..=count).rev().map(|before| picture(sps, first, free, before)).collect();
    if let Some(picture) = pictures.first_mut() {
        let mut set = parameters(free, sps.coding.id);
        set.append(picture);
        *picture = set;
    }
    pictures
}

/// A picture parameter set with nothing special in it but that filters can be switched off. In Annex B.
fn parameters(id: u8, sps: u8) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.unsigned(id.into());
    writer.unsigned(sps.into());
    // CAVLC, one order count to a frame, one slice group, one reference each, no weights.
    writer.bits(0, 2);
    for _ in 0..3 {
        writer.unsigned(0);
    }
    writer.bits(0, 3);
    // Quantisers, filter control, no constrained prediction, no redundant pictures.
    for _ in 0..3 {
        writer.unsigned(0);
    }
    writer.bits(0b100, 3);
    let mut out = Vec::new();
    writer.finish(PICTURE_PARAMETERS, &mut out);
    out
}

/// The picture that stands `before` pictures before `first`.
fn picture(sps: &Sps, first: &SliceHeader, pps: u8, before: u32) -> Vec<u8> {
    const I_SLICES: u32 = 7;
    /// Prediction mode "DC", nothing coded.
    const INTRA_16_DC: u32 = 3;
    let coding = &sps.coding;
    let low = |value: u32, bits: u32| value & ((1 << bits) - 1);
    let mut writer = Writer::default();
    writer.unsigned(0);
    writer.unsigned(I_SLICES);
    writer.unsigned(pps.into());
    if coding.separate_planes {
        writer.bits(0, 2);
    }
    writer.bits(low(first.frame_num.wrapping_sub(before), coding.frame_num_bits), coding.frame_num_bits);
    if !sps.frames_only {
        writer.bits(0, 1);
    }
    if coding.order_type == 0 {
        writer.bits(low(first.order.wrapping_sub(2 * before), coding.order_bits), coding.order_bits);
    } else if coding.order_type == 1 && !coding.order_always_zero {
        writer.unsigned(0);
    }
    // The window slides; the quantiser stays; no filter.
    writer.bits(0, 1);
    writer.unsigned(0);
    writer.unsigned(1);
    let blocks = u64::from(coding.width_blocks) * u64::from(coding.height_blocks);
    for block in 0..blocks {
        if coding.pairs && block % 2 == 0 {
            writer.bits(0, 1);
        }
        writer.unsigned(INTRA_16_DC);
        if coding.chroma != 0 {
            writer.unsigned(0);
        }
        writer.unsigned(0);
        // No coefficients (Table 9-5).
        writer.bits(1, 1);
    }
    let mut out = Vec::new();
    writer.finish(REFERENCE_SLICE, &mut out);
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::capture::worker::decode::annexb::nal_units;
    use crate::capture::worker::decode::h264::pps::Pps;

    #[test]
    fn the_set_and_the_headers_are_read_back() {
        let set = parameters(255, 3);
        let pps = Pps::parse(nal_units(&set).next().unwrap()).unwrap();
        assert_eq!(
            (pps.id, pps.sps, pps.cabac, pps.slice_groups, pps.redundant),
            (255, 3, false, false, false)
        );
    }
}
