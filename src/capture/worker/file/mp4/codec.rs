//! Sample entries (`stsd`) and decoder configurations (`avcC`, `hvcC`): which codec, and how its samples become Annex B.

use super::boxes::{child, children, u16_at, u32_at};
use crate::capture::worker::decode::{Codec, annexb};

/// Bytes of a visual sample entry before its child boxes, header not counted (ISO/IEC 14496-12 §12.1.3).
const VISUAL_ENTRY_BYTES: usize = 78;

/// `objectTypeIndication` of JPEG in an `esds` box (ISO/IEC 14496-1, registered types).
const OBJECT_TYPE_JPEG: u8 = 0x6c;

/// What a track's samples are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SampleFormat {
    pub(super) codec: Codec,
    /// Pixels, as the container says.
    pub(super) width: u16,
    /// Pixels, as the container says.
    pub(super) height: u16,
    /// `Some` for H.264 and H.265.
    pub(super) nal: Option<NalFormat>,
}

/// How NAL units lie in samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NalFormat {
    /// Bytes of the length before each unit, 1, 2 or 4.
    length_bytes: usize,
    /// Annex B, to be put before key frames.
    pub(crate) parameter_sets: Vec<u8>,
}

/// The first entry of `stsd`. `Err` carries the four letters of a codec that we lack.
pub(super) fn sample_format(stsd: &[u8]) -> Result<SampleFormat, String> {
    let (kind, entry) = stsd.get(8..).and_then(|entries| children(entries).next()).ok_or("none")?;
    let name = || kind.escape_ascii().to_string();
    let size = |at| u16_at(entry, at).ok_or_else(name);
    let inner = entry.get(VISUAL_ENTRY_BYTES..).unwrap_or_default();
    let (codec, nal) = match &kind {
        b"avc1" | b"avc3" => (Codec::H264, child(inner, b"avcC").and_then(NalFormat::from_avcc)),
        b"hvc1" | b"hev1" | b"dvh1" | b"dvhe" => (Codec::H265, child(inner, b"hvcC").and_then(NalFormat::from_hvcc)),
        b"jpeg" | b"mjpa" | b"mjpg" | b"MJPG" => (Codec::Jpeg, None),
        b"mp4v" if child(inner, b"esds").and_then(object_type) == Some(OBJECT_TYPE_JPEG) => (Codec::Jpeg, None),
        _ => return Err(name()),
    };
    if nal.is_none() && codec != Codec::Jpeg {
        return Err(format!("{} without its configuration", name()));
    }
    Ok(SampleFormat { codec, width: size(24)?, height: size(26)?, nal })
}

/// `objectTypeIndication` of an `esds` box: the first byte of the descriptor with tag 4.
fn object_type(esds: &[u8]) -> Option<u8> {
    const ES_DESCRIPTOR: u8 = 3;
    const DECODER_DESCRIPTOR: u8 = 4;
    let mut rest = descriptor(esds.get(4..)?, ES_DESCRIPTOR)?;
    let flags = *rest.get(2)?;
    rest = rest.get(3..)?;
    // Optional fields before the next descriptor: depends-on id, URL, clock id.
    if flags & 0x80 != 0 {
        rest = rest.get(2..)?;
    }
    if flags & 0x40 != 0 {
        rest = rest.get(1 + usize::from(*rest.first()?)..)?;
    }
    if flags & 0x20 != 0 {
        rest = rest.get(2..)?;
    }
    descriptor(rest, DECODER_DESCRIPTOR)?.first().copied()
}

/// Payload of an MPEG-4 descriptor: tag, length of up to four bytes with a continuation bit, payload.
fn descriptor(data: &[u8], tag: u8) -> Option<&[u8]> {
    let (&first, rest) = data.split_first()?;
    let length = rest.iter().take(4).position(|byte| byte & 0x80 == 0)? + 1;
    (first == tag).then(|| rest.get(length..))?
}

impl NalFormat {
    /// `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15 §5.3.3.1).
    pub(crate) fn from_avcc(record: &[u8]) -> Option<NalFormat> {
        let length_bytes = usize::from(record.get(4)? & 3) + 1;
        let mut parameter_sets = Vec::new();
        let mut at = 5;
        for mask in [0x1f, 0xff] {
            let count = record.get(at)? & mask;
            at += 1;
            for _ in 0..count {
                at = append_set(record, at, &mut parameter_sets)?;
            }
        }
        Some(NalFormat { length_bytes, parameter_sets })
    }

    /// `HEVCDecoderConfigurationRecord` (ISO/IEC 14496-15 §8.3.3.1).
    pub(crate) fn from_hvcc(record: &[u8]) -> Option<NalFormat> {
        let length_bytes = usize::from(record.get(21)? & 3) + 1;
        let mut parameter_sets = Vec::new();
        let mut at = 23;
        for _ in 0..*record.get(22)? {
            let count = u16_at(record, at + 1)?;
            at += 3;
            for _ in 0..count {
                at = append_set(record, at, &mut parameter_sets)?;
            }
        }
        Some(NalFormat { length_bytes, parameter_sets })
    }

    /// `sample` in Annex B, with the parameter sets before it if it is a key frame. For containers that do not say which are.
    pub(crate) fn to_key_or_other(&self, codec: Codec, sample: &[u8], out: &mut Vec<u8>) {
        out.clear();
        self.to_annex_b(sample, out);
        if annexb::is_key(codec, out) {
            out.splice(..0, self.parameter_sets.iter().copied());
        }
    }

    /// Writes a sample as Annex B. A unit that claims more bytes than there are is cut.
    pub(crate) fn to_annex_b(&self, sample: &[u8], out: &mut Vec<u8>) {
        let mut rest = sample;
        while let Some((length, after)) = rest.split_at_checked(self.length_bytes) {
            let length = length.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
            let (unit, next) = after.split_at(length.min(after.len()));
            out.extend(annexb::START_CODE);
            out.extend(unit);
            rest = next;
        }
    }
}

/// Copies one `length:u16 unit` and returns where the next begins.
fn append_set(record: &[u8], at: usize, out: &mut Vec<u8>) -> Option<usize> {
    let end = at + 2 + usize::from(u16_at(record, at)?);
    let unit = record.get(at + 2..end)?;
    out.extend(annexb::START_CODE);
    out.extend(unit);
    Some(end)
}

/// Names of the codecs that people meet most and we lack, by the four letters of their sample entry.
pub(super) fn codec_name(letters: &str) -> &str {
    match letters {
        "av01" => "AV1",
        "vp08" => "VP8",
        "vp09" => "VP9",
        "mp4v" => "MPEG-4 Part 2",
        "apch" | "apcn" | "apcs" | "apco" | "ap4h" => "ProRes",
        "encv" => "an encrypted stream",
        other => other,
    }
}

/// Whether a track carries pictures: `hdlr` says `vide`.
pub(super) fn is_video(hdlr: &[u8]) -> bool {
    u32_at(hdlr, 8) == Some(u32::from_be_bytes(*b"vide"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn avcc_gives_lengths_and_parameter_sets() {
        let record = [1, 100, 0, 30, 0xff, 0xe1, 0, 2, 0x67, 1, 1, 0, 3, 0x68, 2, 3];
        let format = NalFormat::from_avcc(&record).unwrap();
        assert_eq!(format.parameter_sets, [0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x68, 2, 3]);
        assert_eq!(NalFormat::from_avcc(&record[..15]), None);
        let mut out = Vec::new();
        format.to_annex_b(&[0, 0, 0, 1, 9, 0, 0, 0, 200, 5, 6], &mut out);
        assert_eq!(out, [0, 0, 0, 1, 9, 0, 0, 0, 1, 5, 6]);
    }
}
