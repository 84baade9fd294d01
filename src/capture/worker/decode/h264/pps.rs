//! What a picture parameter set says that slice headers are read by (H.264 §7.3.2.2).

use crate::capture::worker::decode::bits::{Bits, unescape};

/// The facts of a picture parameter set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::capture::worker::decode) struct Pps {
    /// `pic_parameter_set_id`.
    pub(super) id: u8,
    /// The sequence parameter set that it belongs to.
    pub(super) sps: u8,
    /// `entropy_coding_mode_flag`.
    pub(super) cabac: bool,
    /// `bottom_field_pic_order_in_frame_present_flag`.
    pub(super) order_of_fields: bool,
    /// `num_ref_idx_l0_default_active_minus1` and that of list 1, plus one.
    pub(super) references: [u32; 2],
    /// `weighted_pred_flag`.
    pub(super) weighted: bool,
    /// `weighted_bipred_idc` is 1: weights of B slices are written out.
    pub(super) weighted_b: bool,
    /// `redundant_pic_cnt_present_flag`.
    pub(super) redundant: bool,
    /// Macroblocks are dealt to slice groups.
    pub(super) slice_groups: bool,
}

impl Pps {
    /// Parses a NAL unit of type 8, header byte included. `None`: damaged.
    pub(super) fn parse(unit: &[u8]) -> Option<Pps> {
        let payload = unescape(unit.get(1..)?);
        let mut bits = Bits::new(&payload);
        let id = u8::try_from(bits.unsigned()?).ok()?;
        let sps = u8::try_from(bits.unsigned()?).ok()?;
        let (cabac, order_of_fields) = (bits.flag()?, bits.flag()?);
        let groups = bits.unsigned()?;
        if groups > 0 {
            skip_slice_groups(&mut bits, groups)?;
        }
        let references = [bits.unsigned()?.checked_add(1)?, bits.unsigned()?.checked_add(1)?];
        let (weighted, weighted_b) = (bits.flag()?, bits.bits(2)? == 1);
        for _ in 0..3 {
            bits.signed()?;
        }
        bits.skip(2)?;
        let redundant = bits.flag()?;
        Some(Pps {
            id,
            sps,
            cabac,
            order_of_fields,
            references,
            weighted,
            weighted_b,
            redundant,
            slice_groups: groups > 0,
        })
    }

    /// Asks for tools that the fast decoder lacks: slice groups, explicit weights for B.
    pub(super) fn needs_other_decoder(&self) -> bool {
        self.slice_groups || self.weighted_b
    }
}

/// The maps of slice groups; `groups` is their number less one.
fn skip_slice_groups(bits: &mut Bits<'_>, groups: u32) -> Option<()> {
    const MAX_GROUPS: u32 = 8;
    if groups >= MAX_GROUPS {
        return None;
    }
    match bits.unsigned()? {
        0 => {
            for _ in 0..=groups {
                bits.unsigned()?;
            }
        }
        2 => {
            for _ in 0..groups * 2 {
                bits.unsigned()?;
            }
        }
        3..=5 => {
            bits.skip(1)?;
            bits.unsigned()?;
        }
        6 => {
            let blocks = usize::try_from(bits.unsigned()?).ok()?.checked_add(1)?;
            // As many bits as `groups` needs.
            bits.skip(blocks.checked_mul((u32::BITS - groups.leading_zeros()) as usize)?)?;
        }
        _ => {}
    }
    Some(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_x264() {
        // Main profile with weights for P: `68 ef 38 80` and Baseline: `68 ce 38 80`, as found in files.
        let main = Pps::parse(&[0x68, 0xef, 0x38, 0x80]).unwrap();
        assert_eq!(
            (main.id, main.sps, main.cabac, main.weighted, main.weighted_b),
            (0, 0, true, true, false)
        );
        let baseline = Pps::parse(&[0x68, 0xce, 0x38, 0x80]).unwrap();
        assert_eq!((baseline.cabac, baseline.references, baseline.redundant), (false, [1, 1], false));
    }

    #[test]
    fn any_bytes_are_survived() {
        let mut state = 3_u32;
        for _ in 0..20_000 {
            let mut unit = [0; 24];
            for byte in &mut unit {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = (state >> 24) as u8;
            }
            let _ = Pps::parse(&unit);
        }
    }
}
