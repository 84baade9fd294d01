//! The header of a slice, as far as the picture's order count (H.265 §7.3.6.1), and the picture parameter sets
//! that it is read by.

use super::sps::Sps;
use super::{PICTURE_PARAMETERS, SEQUENCE_PARAMETERS};
use crate::capture::worker::decode::annexb::h265_type;
use crate::capture::worker::decode::bits::{Bits, unescape_start};
use std::collections::BTreeMap;

/// As much of a slice as is looked at: the fields before the order count are a dozen codes.
const MAX_HEADER_BYTES: usize = 64;

/// Sequence and picture parameter sets that a stream can have (§7.4.3.2.1, §7.4.3.3.1).
const MAX_SEQUENCE_SETS: u32 = 16;
const MAX_PICTURE_SETS: u32 = 64;

/// Random access points: their slices say what becomes of pictures before them.
const BEGINS: std::ops::RangeInclusive<u8> = 16..=23;
/// Those among them whose order count is 0.
const RESETS: std::ops::RangeInclusive<u8> = 19..=20;
/// Shown before a random access point (RADL, RASL).
const LEADING: std::ops::RangeInclusive<u8> = 6..=9;
/// Types of which every second one is not referred to within its layer.
const PAIRED: std::ops::RangeInclusive<u8> = 0..=15;

/// What of a picture parameter set slices are read by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pps {
    id: u32,
    sps: u32,
    /// `output_flag_present_flag`.
    output_flag: bool,
    /// `num_extra_slice_header_bits`.
    extra_bits: u32,
}

impl Pps {
    /// Parses a NAL unit of type 34, both header bytes included.
    fn parse(unit: &[u8]) -> Option<Pps> {
        let payload = unescape_start(unit.get(2..)?, MAX_HEADER_BYTES);
        let mut bits = Bits::new(&payload);
        let (id, sps) = (bits.unsigned()?, bits.unsigned()?);
        bits.skip(1)?;
        (id < MAX_PICTURE_SETS).then_some(())?;
        Some(Pps { id, sps, output_flag: bits.flag()?, extra_bits: bits.bits(3)? })
    }
}

/// The parameter sets of a stream.
#[derive(Debug, Default)]
pub(in crate::capture::worker::decode) struct Sets {
    sequence: BTreeMap<u32, Sps>,
    picture: BTreeMap<u32, Pps>,
}

impl Sets {
    /// Takes note of a NAL unit if it is a parameter set.
    pub(in crate::capture::worker::decode) fn take(&mut self, unit: &[u8]) {
        match h265_type(unit) {
            SEQUENCE_PARAMETERS => {
                if let Some(sps) = Sps::parse(unit).filter(|sps| sps.id < MAX_SEQUENCE_SETS) {
                    self.sequence.insert(sps.id, sps);
                }
            }
            PICTURE_PARAMETERS => {
                if let Some(pps) = Pps::parse(unit) {
                    self.picture.insert(pps.id, pps);
                }
            }
            _ => {}
        }
    }
}

/// What the slices of a picture have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::capture::worker::decode) struct SliceHeader {
    /// Lower bits of the order count, and how many; `None`: it is 0.
    pub(in crate::capture::worker::decode) order: Option<(u32, u32)>,
    /// No other picture refers to it.
    pub(in crate::capture::worker::decode) droppable: bool,
    /// Its order count is what those of later pictures are counted from.
    pub(in crate::capture::worker::decode) is_base: bool,
    /// `TemporalId`.
    pub(in crate::capture::worker::decode) temporal_layer: u8,
    /// There may be more than one.
    pub(in crate::capture::worker::decode) has_layers: bool,
}

impl SliceHeader {
    /// Parses the first slice of a picture, both header bytes included. `None`: it is another one, or of a
    /// further layer; damaged, or a parameter set is missing.
    pub(in crate::capture::worker::decode) fn parse(unit: &[u8], sets: &Sets) -> Option<SliceHeader> {
        let kind = h265_type(unit);
        let &[first, second, ..] = unit else { return None };
        let layer = (first & 1) << 5 | second >> 3;
        let temporal = (second & 7).checked_sub(1)?;
        let payload = unescape_start(unit.get(2..)?, MAX_HEADER_BYTES);
        let mut bits = Bits::new(&payload);
        if layer > 0 || !bits.flag()? {
            return None;
        }
        if BEGINS.contains(&kind) {
            bits.skip(1)?;
        }
        let pps = sets.picture.get(&bits.unsigned()?)?;
        let sps = sets.sequence.get(&pps.sps)?;
        // Reserved flags, and then the type of the slice.
        bits.skip(usize::try_from(pps.extra_bits).ok()?)?;
        bits.unsigned()?;
        let shown = !pps.output_flag || bits.flag()?;
        if sps.separate_planes {
            bits.skip(2)?;
        }
        let order =
            if RESETS.contains(&kind) { None } else { Some((bits.bits(sps.order_bits)?, sps.order_bits)) };
        // Of a lower layer, pictures of higher ones may refer to it.
        let unreferenced = PAIRED.contains(&kind) && kind.is_multiple_of(2);
        let droppable = unreferenced && shown && temporal == sps.highest_layer;
        let is_base = temporal == 0 && !unreferenced && !LEADING.contains(&kind);
        let has_layers = sps.highest_layer > 0;
        Some(SliceHeader { order, droppable, is_base, temporal_layer: temporal, has_layers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::worker::clips::asset;
    use crate::capture::worker::decode::annexb::nal_units;

    /// Type of the first slice of each picture, and what its header says.
    fn headers(name: &str) -> Vec<(u8, Option<SliceHeader>)> {
        let stream = std::fs::read(asset(&format!("clips/{name}"))).unwrap_or_default();
        let mut sets = Sets::default();
        let mut found = Vec::new();
        for unit in nal_units(&stream) {
            sets.take(unit);
            if h265_type(unit) < 32 && unit.get(2).is_some_and(|byte| byte & 0x80 != 0) {
                found.push((h265_type(unit), SliceHeader::parse(unit, &sets)));
            }
        }
        found
    }

    #[test]
    fn order_counts_and_what_refers_to_pictures_of_x265() {
        let headers = headers("raw.h265");
        assert_eq!(headers.len(), 25);
        assert!(headers.iter().all(|(_, header)| header.is_some()));
        let (kind, first) = headers[0];
        assert!(RESETS.contains(&kind) || kind == 21, "{kind}");
        assert!(first.is_some_and(|header| header.is_base && !header.droppable));
        let droppable = |kind: u8| kind < 16 && kind.is_multiple_of(2);
        for (kind, header) in headers {
            assert_eq!(header.map(|header| header.droppable), Some(droppable(kind)), "{kind}");
        }
    }

    #[test]
    fn any_bytes_are_survived() {
        let mut sets = Sets::default();
        let stream = std::fs::read(asset("clips/raw.h265")).unwrap_or_default();
        nal_units(&stream).for_each(|unit| sets.take(unit));
        let mut state = 3_u32;
        for _ in 0..20_000 {
            let mut unit = [0; 24];
            for byte in &mut unit {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = (state >> 24) as u8;
            }
            let _ = SliceHeader::parse(&unit, &sets);
            unit[0] = (PICTURE_PARAMETERS + (state >> 8) as u8 % 2 - 1) << 1;
            sets.take(&unit);
        }
    }
}
