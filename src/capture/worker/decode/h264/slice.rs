//! The header of a slice, as far as the marking of reference pictures (H.264 §7.3.3).

use super::pps::Pps;
use super::sps::Sps;
use crate::capture::worker::decode::bits::{Bits, unescape_start};

/// Most bytes of a header that are looked at: weights for 32 pictures of two lists need 500.
const MAX_HEADER_BYTES: usize = 1024;

/// Most entries of a list of references (§7.4.3).
const MAX_LIST: u32 = 32;

/// Most operations on a list or on the memory: each touches one of at most 32 fields.
const MAX_OPERATIONS: usize = 128;

/// What the slices of a picture have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::capture::worker::decode) struct SliceHeader {
    /// The picture parameter set.
    pub(in crate::capture::worker::decode) pps: u8,
    pub(in crate::capture::worker::decode) frame_num: u32,
    /// One field of a frame.
    pub(in crate::capture::worker::decode) field: bool,
    /// Of the two, the lower one.
    pub(in crate::capture::worker::decode) bottom: bool,
    /// `pic_order_cnt_lsb`, where there is one.
    pub(in crate::capture::worker::decode) order: u32,
    /// How much lower than that the order count of the whole frame is: its bottom field is the earlier one.
    pub(in crate::capture::worker::decode) earlier: i32,
    /// Other pictures may refer to this one.
    pub(in crate::capture::worker::decode) reference: bool,
    /// Pictures are kept for longer than the window slides, or such ones are given up.
    pub(in crate::capture::worker::decode) long_term: bool,
    /// All references are given up, and counting starts anew (memory management operation 5).
    pub(in crate::capture::worker::decode) reset: bool,
}

impl SliceHeader {
    /// Parses a NAL unit of type 1 or 5, header byte included; `sets` gives the parameter sets of a picture
    /// parameter set's number. `None`: damaged, or a parameter set is missing.
    pub(in crate::capture::worker::decode) fn parse(
        unit: &[u8],
        sets: impl Fn(u8) -> Option<(Sps, Pps)>,
    ) -> Option<SliceHeader> {
        let header = *unit.first()?;
        let (idr, reference) = (header & 0x1f == 5, header & 0x60 != 0);
        let payload = unescape_start(unit.get(1..)?, MAX_HEADER_BYTES);
        let mut bits = Bits::new(&payload);
        bits.unsigned()?;
        let kind = bits.unsigned()? % 5;
        let (is_p, is_b) = (kind == 0 || kind == 3, kind == 1);
        let (sps, pps) = sets(u8::try_from(bits.unsigned()?).ok()?)?;
        let coding = sps.coding;
        if coding.separate_planes {
            bits.skip(2)?;
        }
        let frame_num = bits.bits(coding.frame_num_bits)?;
        let field = !sps.frames_only && bits.flag()?;
        let bottom = field && bits.flag()?;
        if idr {
            bits.unsigned()?;
        }
        let (mut order, mut earlier) = (0, 0);
        if coding.order_type == 0 {
            order = bits.bits(coding.order_bits)?;
            if pps.order_of_fields && !field {
                earlier = bits.signed()?.min(0);
            }
        } else if coding.order_type == 1 && !coding.order_always_zero {
            bits.signed()?;
            if pps.order_of_fields && !field {
                bits.signed()?;
            }
        }
        if pps.redundant {
            bits.unsigned()?;
        }
        let mut found = SliceHeader {
            pps: pps.id,
            frame_num,
            field,
            bottom,
            order,
            earlier,
            reference,
            long_term: false,
            reset: false,
        };
        if !reference {
            return Some(found);
        }
        if is_b {
            bits.skip(1)?;
        }
        if is_p || is_b {
            let mut references = pps.references;
            if bits.flag()? {
                references[0] = bits.unsigned()?.checked_add(1)?;
                if is_b {
                    references[1] = bits.unsigned()?.checked_add(1)?;
                }
            }
            for _ in 0..=u32::from(is_b) {
                skip_list_changes(&mut bits)?;
            }
            if pps.weighted && is_p || pps.weighted_b && is_b {
                let lists = if is_b { &references[..] } else { &references[..1] };
                skip_weights(&mut bits, lists, coding.chroma != 0)?;
            }
        }
        if idr {
            bits.skip(1)?;
            found.long_term = bits.flag()?;
        } else if bits.flag()? {
            found.memory_management(&mut bits)?;
        }
        Some(found)
    }

    /// `memory_management_control_operation`s (§7.4.3.3).
    fn memory_management(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        for _ in 0..MAX_OPERATIONS {
            match bits.unsigned()? {
                0 => return Some(()),
                1 => _ = bits.unsigned()?,
                5 => self.reset = true,
                operation @ (2 | 3 | 4 | 6) => {
                    self.long_term = true;
                    bits.unsigned()?;
                    if operation == 3 {
                        bits.unsigned()?;
                    }
                }
                _ => return None,
            }
        }
        None
    }
}

/// `ref_pic_list_modification` of one list.
fn skip_list_changes(bits: &mut Bits<'_>) -> Option<()> {
    if !bits.flag()? {
        return Some(());
    }
    for _ in 0..MAX_OPERATIONS {
        if bits.unsigned()? == 3 {
            return Some(());
        }
        bits.unsigned()?;
    }
    None
}

/// Reads over `pred_weight_table` (H.264 §7.3.3.2).
fn skip_weights(bits: &mut Bits<'_>, lists: &[u32], colour: bool) -> Option<()> {
    bits.unsigned()?;
    if colour {
        bits.unsigned()?;
    }
    for &entries in lists {
        for _ in 0..entries.min(MAX_LIST) {
            if bits.flag()? {
                bits.signed()?;
                bits.signed()?;
            }
            if colour && bits.flag()? {
                for _ in 0..4 {
                    bits.signed()?;
                }
            }
        }
    }
    Some(())
}
