//! How the NAL units of H.264 and H.265 lie in the samples of a container, and how a sample becomes Annex B;
//! and what else has start codes and keeps its headers apart (MPEG-4 Part 2).

use super::number::be16;
use crate::capture::worker::decode::{Codec, annexb, random_access};

/// How NAL units lie in samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NalFormat {
    /// Bytes of the length before each unit, 1 to 4; `None`: start codes (Annex B).
    length_bytes: Option<usize>,
    /// Annex B, to be put before pictures that decoding may begin with.
    pub(super) parameter_sets: Vec<u8>,
}

/// Length fields of all writers that leave out their configuration.
const USUAL_LENGTH_BYTES: usize = 4;

impl NalFormat {
    /// From a decoder configuration: a record of ISO/IEC 14496-15, or parameter sets in Annex B, or nothing.
    /// What a container leaves out here, the samples themselves bring.
    pub(super) fn new(codec: Codec, configuration: &[u8]) -> NalFormat {
        if annexb::start_code(configuration).is_some_and(|(start, _)| start <= 1) {
            return NalFormat { length_bytes: None, parameter_sets: configuration.to_vec() };
        }
        match codec {
            Codec::H264 => NalFormat::from_avcc(configuration),
            Codec::H265 => NalFormat::from_hvcc(configuration),
            _ => NalFormat { length_bytes: None, parameter_sets: Vec::new() },
        }
    }

    /// For a container whose samples are in Annex B unless a record says otherwise: AVI, and what follows its
    /// rules.
    pub(super) fn annex_b_unless_recorded(codec: Codec, configuration: &[u8]) -> NalFormat {
        // Such a record begins with its version, 1; parameter sets in Annex B begin with 0.
        match configuration.first() {
            Some(1) => NalFormat::new(codec, configuration),
            _ => NalFormat { length_bytes: None, parameter_sets: annex_b_sets(configuration) },
        }
    }

    /// `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15 §5.3.3.1). Of a damaged one, what can be read.
    fn from_avcc(record: &[u8]) -> NalFormat {
        let length_bytes = record.get(4).map_or(USUAL_LENGTH_BYTES, |byte| usize::from(byte & 3) + 1);
        let mut parameter_sets = Vec::new();
        let mut at = 5;
        'sets: for mask in [0x1f, 0xff] {
            let Some(count) = record.get(at).map(|byte| byte & mask) else { break };
            at += 1;
            for _ in 0..count {
                let Some(next) = append_set(record, at, &mut parameter_sets) else { break 'sets };
                at = next;
            }
        }
        NalFormat { length_bytes: Some(length_bytes), parameter_sets }
    }

    /// `HEVCDecoderConfigurationRecord` (ISO/IEC 14496-15 §8.3.3.1). Of a damaged one, what can be read.
    fn from_hvcc(record: &[u8]) -> NalFormat {
        let length_bytes = record.get(21).map_or(USUAL_LENGTH_BYTES, |byte| usize::from(byte & 3) + 1);
        let mut parameter_sets = Vec::new();
        let mut at = 23;
        'sets: for _ in 0..record.get(22).copied().unwrap_or(0) {
            let Some(count) = be16(record, at + 1) else { break };
            at += 3;
            for _ in 0..count {
                let Some(next) = append_set(record, at, &mut parameter_sets) else { break 'sets };
                at = next;
            }
        }
        NalFormat { length_bytes: Some(length_bytes), parameter_sets }
    }

    /// `sample` in Annex B, behind the parameter sets if decoding may begin with it, or `leads` (the first of
    /// all, and of each description, wherever decoding then begins).
    pub(super) fn unpack(&self, codec: Codec, sample: &[u8], leads: bool, out: &mut Vec<u8>) {
        out.clear();
        self.append_annex_b(sample, out);
        if leads || random_access(codec, out).is_some() {
            out.splice(..0, self.parameter_sets.iter().copied());
        }
    }

    /// Writes a sample as Annex B. A unit that claims more bytes than there are is cut.
    fn append_annex_b(&self, sample: &[u8], out: &mut Vec<u8>) {
        let begins_with_code = sample.starts_with(&[0, 0, 1]) || sample.starts_with(&annexb::START_CODE);
        let length_bytes = match self.length_bytes {
            // Some writers put Annex B where lengths belong.
            Some(length_bytes) if !begins_with_code || lengths_fit(sample, length_bytes) => length_bytes,
            // And some the other way round.
            None if !begins_with_code && lengths_fit(sample, USUAL_LENGTH_BYTES) => USUAL_LENGTH_BYTES,
            _ => return out.extend(sample),
        };
        let mut rest = sample;
        while let Some((length, after)) = rest.split_at_checked(length_bytes) {
            let (unit, next) = after.split_at(number(length).min(after.len()));
            out.extend(annexb::START_CODE);
            out.extend(unit);
            rest = next;
        }
    }
}

/// What of a codec's private bytes is Annex B.
fn annex_b_sets(configuration: &[u8]) -> Vec<u8> {
    let start = annexb::start_code(configuration).map_or(configuration.len(), |(start, _)| start);
    configuration.get(start..).unwrap_or_default().to_vec()
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, &byte| number << 8 | usize::from(byte))
}

/// Whether units with lengths before them fill the sample to its last byte.
fn lengths_fit(sample: &[u8], length_bytes: usize) -> bool {
    let mut rest = sample;
    while !rest.is_empty() {
        let Some((length, after)) = rest.split_at_checked(length_bytes) else { return false };
        let Some(next) = after.get(number(length)..) else { return false };
        rest = next;
    }
    true
}

/// Copies one `length:u16 unit` and returns where the next begins.
fn append_set(record: &[u8], at: usize, out: &mut Vec<u8>) -> Option<usize> {
    let end = at + 2 + usize::from(be16(record, at)?);
    let unit = record.get(at + 2..end)?;
    out.extend(annexb::START_CODE);
    out.extend(unit);
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AVCC: [u8; 16] = [1, 100, 0, 30, 0xff, 0xe1, 0, 2, 0x67, 1, 1, 0, 3, 0x68, 2, 3];

    fn unpack(format: &NalFormat, sample: &[u8], leads: bool) -> Vec<u8> {
        let mut out = Vec::new();
        format.unpack(Codec::H264, sample, leads, &mut out);
        out
    }

    #[test]
    fn avcc_gives_lengths_and_parameter_sets() {
        let format = NalFormat::new(Codec::H264, &AVCC);
        assert_eq!(format.parameter_sets, [0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x68, 2, 3]);
        assert_eq!(unpack(&format, &[0, 0, 0, 1, 9, 0, 0, 0, 200, 5, 6], false)[..5], [0, 0, 0, 1, 9]);
        let sets = format.parameter_sets.len();
        // A key frame brings them, and what leads does.
        assert_eq!(unpack(&format, &[0, 0, 0, 2, 0x65, 7], false).len(), sets + 6);
        assert_eq!(unpack(&format, &[0, 0, 0, 2, 0x41, 7], false).len(), 6);
        assert_eq!(unpack(&format, &[0, 0, 0, 2, 0x41, 7], true).len(), sets + 6);
    }

    #[test]
    fn a_record_that_is_cut_gives_what_it_has() {
        let format = NalFormat::new(Codec::H264, &AVCC[..15]);
        assert_eq!(format.parameter_sets, [0, 0, 0, 1, 0x67, 1]);
        for length in 0..AVCC.len() {
            let _ = NalFormat::new(Codec::H264, &AVCC[..length]);
            let _ = NalFormat::new(Codec::H265, &AVCC[..length]);
        }
    }

    #[test]
    fn samples_in_the_other_form_are_told_by_their_bytes() {
        let lengths = NalFormat::new(Codec::H264, &AVCC);
        assert_eq!(unpack(&lengths, &[0, 0, 0, 1, 0x41, 7, 8], false), [0, 0, 0, 1, 0x41, 7, 8]);
        // A unit of one byte is a unit of one byte where everything else fits.
        assert_eq!(
            unpack(&lengths, &[0, 0, 0, 1, 9, 0, 0, 0, 1, 0x41], false),
            [0, 0, 0, 1, 9, 0, 0, 0, 1, 0x41]
        );
        let codes = NalFormat::annex_b_unless_recorded(Codec::H264, &[]);
        assert_eq!(unpack(&codes, &[0, 0, 0, 2, 0x41, 7], false), [0, 0, 0, 1, 0x41, 7]);
        assert_eq!(unpack(&codes, &[0, 0, 1, 0x41, 7], false), [0, 0, 1, 0x41, 7]);
    }
}
