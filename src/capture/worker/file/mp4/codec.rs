//! Sample entries (`stsd`): which codec, and how its samples become Annex B.

use super::boxes::{child, children};
use crate::capture::worker::decode::Codec;
use crate::capture::worker::file::nal::NalFormat;
use crate::capture::worker::file::number::{be16, be32};
use crate::capture::worker::file::{fourcc, packing_missing};
use crate::error::{Error, Kind, Result};

/// Most sample descriptions of a track that are looked at. Recorders that change their settings write a few.
const MAX_DESCRIPTIONS: usize = 64;

/// Bytes of a visual sample entry before its child boxes, header not counted (ISO/IEC 14496-12 §12.1.3).
const VISUAL_ENTRY_BYTES: usize = 78;

/// `objectTypeIndication` of MPEG-4 Part 2 in an `esds` box.
const OBJECT_TYPE_MPEG4: u8 = 0x20;

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
    /// `Some` for what has start codes.
    pub(super) nal: Option<NalFormat>,
}

/// All entries of `stsd`, in their order; of those that cannot be decoded, why.
pub(super) fn sample_formats(stsd: &[u8]) -> Vec<Result<SampleFormat>> {
    let entries = children(stsd.get(8..).unwrap_or_default()).take(MAX_DESCRIPTIONS);
    entries.map(|(kind, entry)| sample_format(&kind, entry)).collect()
}

fn sample_format(kind: &[u8; 4], entry: &[u8]) -> Result<SampleFormat> {
    let inner = entry.get(VISUAL_ENTRY_BYTES..).unwrap_or_default();
    let codec = match kind {
        b"mp4v" => match child(inner, b"esds").and_then(object_type) {
            Some(OBJECT_TYPE_JPEG) => Codec::Jpeg,
            Some(OBJECT_TYPE_MPEG4) | None => Codec::Mpeg4,
            Some(0x60..=0x65) => return Err(fourcc::missing("MPEG-2 video")),
            Some(0x6a) => return Err(fourcc::missing("MPEG-1 video")),
            Some(other) => return Err(fourcc::missing(format!("of object type {other:#x}"))),
        },
        b"encv" => return Err(packing_missing("encrypted")),
        kind => fourcc::codec(kind)?,
    };
    let configuration = |kind| NalFormat::new(codec, child(inner, kind).unwrap_or_default());
    let nal = match codec {
        Codec::H264 => Some(configuration(b"avcC")),
        Codec::H265 => Some(configuration(b"hvcC")),
        // Its headers lie in the description of the stream.
        Codec::Mpeg4 => {
            let headers = child(inner, b"esds").and_then(specific_info).unwrap_or_default();
            Some(NalFormat::annex_b_unless_recorded(codec, headers))
        }
        _ => None,
    };
    let size = |at| {
        be16(entry, at)
            .ok_or_else(|| Error::new(Kind::SourceConnection, "the MP4 file's sample description is damaged"))
    };
    Ok(SampleFormat { codec, width: size(24)?, height: size(26)?, nal })
}

/// `objectTypeIndication` of an `esds` box: the first byte of its decoder configuration.
fn object_type(esds: &[u8]) -> Option<u8> {
    decoder_configuration(esds)?.first().copied()
}

/// What the codec itself adds: headers. It follows 13 bytes of the decoder configuration.
fn specific_info(esds: &[u8]) -> Option<&[u8]> {
    const SPECIFIC_INFO: u8 = 5;
    let configuration = decoder_configuration(esds)?.get(13..)?;
    sized_descriptor(configuration, SPECIFIC_INFO)
}

/// Payload of the descriptor with tag 4, and what follows it.
fn decoder_configuration(esds: &[u8]) -> Option<&[u8]> {
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
    descriptor(rest, DECODER_DESCRIPTOR)
}

/// The same without what follows it; of one that is cut short, what is there.
fn sized_descriptor(data: &[u8], tag: u8) -> Option<&[u8]> {
    let payload = descriptor(data, tag)?;
    let lengths = data.get(1..data.len() - payload.len())?;
    let length = lengths.iter().fold(0_usize, |length, byte| length << 7 | usize::from(byte & 0x7f));
    payload.get(..length.min(payload.len()))
}

/// Payload of an MPEG-4 descriptor: tag, length of up to four bytes with a continuation bit, payload.
fn descriptor(data: &[u8], tag: u8) -> Option<&[u8]> {
    let (&first, rest) = data.split_first()?;
    let length = rest.iter().take(4).position(|byte| byte & 0x80 == 0)? + 1;
    (first == tag).then(|| rest.get(length..))?
}

/// Whether a track carries pictures: `hdlr` says `vide`.
pub(super) fn is_video(hdlr: &[u8]) -> bool {
    be32(hdlr, 8) == Some(u32::from_be_bytes(*b"vide"))
}
