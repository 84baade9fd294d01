//! The parameter sets of a stream. They are kept as bytes too: a decoder that takes over has seen none of
//! them.

use super::pps::Pps;
use super::sps::Sps;
use crate::capture::worker::decode::annexb::START_CODE;
use std::collections::BTreeMap;

/// Longest set that is kept, bytes. Honest ones, with scaling lists and HRD parameters, stay below 1 KiB.
const MAX_SET_BYTES: usize = 4096;

/// At most 32 and 256 of the two kinds: their numbers have no more values.
#[derive(Debug, Default)]
pub(in crate::capture::worker::decode) struct Sets {
    sequence: BTreeMap<u8, (Sps, Vec<u8>)>,
    picture: BTreeMap<u8, (Pps, Vec<u8>)>,
}

/// Keeps `unit` under its number; says whether it says anything new.
fn keep<T>(sets: &mut BTreeMap<u8, (T, Vec<u8>)>, id: u8, set: T, unit: &[u8]) -> bool {
    match sets.get_mut(&id) {
        Some((_, known)) if known == unit => false,
        _ => {
            sets.insert(id, (set, unit.to_vec()));
            true
        }
    }
}

impl Sets {
    /// Takes note of a NAL unit of type 7; `None`: damaged, or known already.
    pub(in crate::capture::worker::decode) fn take_sequence(&mut self, unit: &[u8]) -> Option<Sps> {
        let sps = Sps::parse(unit).filter(|_| unit.len() <= MAX_SET_BYTES)?;
        keep(&mut self.sequence, sps.coding.id, sps, unit).then_some(sps)
    }

    /// The same for type 8.
    pub(in crate::capture::worker::decode) fn take_picture(&mut self, unit: &[u8]) -> Option<Pps> {
        let pps = Pps::parse(unit).filter(|_| unit.len() <= MAX_SET_BYTES)?;
        keep(&mut self.picture, pps.id, pps, unit).then_some(pps)
    }

    /// Both sets that a slice is decoded by, from the number of its picture parameter set.
    pub(in crate::capture::worker::decode) fn of(&self, pps: u8) -> Option<(Sps, Pps)> {
        let (pps, _) = self.picture.get(&pps)?;
        let (sps, _) = self.sequence.get(&pps.sps)?;
        Some((*sps, *pps))
    }

    /// Some sequence is in the Extended profile.
    pub(super) fn extended(&self) -> bool {
        self.sequence.values().any(|(sps, _)| sps.coding.extended)
    }

    /// Neither kind is there.
    pub(super) fn is_empty(&self) -> bool {
        self.sequence.is_empty() || self.picture.is_empty()
    }

    /// The highest number that no picture parameter set has.
    pub(super) fn free_picture_set(&self) -> Option<u8> {
        (0..=u8::MAX).rev().find(|id| !self.picture.contains_key(id))
    }

    /// All of them as Annex B.
    pub(super) fn annex_b(&self) -> Vec<u8> {
        let units =
            self.sequence.values().map(|(_, unit)| unit).chain(self.picture.values().map(|(_, unit)| unit));
        units.flat_map(|unit| START_CODE.iter().chain(unit)).copied().collect()
    }
}
