//! A track of a Matroska file: which codec, how its frames are packed, how it is shown.

use super::ebml::{Id, be, child, children, float};
use crate::capture::worker::decode::Codec;
use crate::capture::worker::file::avi::BITMAP_INFO_BYTES;
use crate::capture::worker::file::medium::MAX_PACKET_BYTES;
use crate::capture::worker::file::nal::NalFormat;
use crate::capture::worker::file::{fourcc, packing_missing};
use crate::capture::worker::rotation::Rotation;
use crate::error::{Error, Kind, Result};
use std::borrow::Cow;

const TRACK_ENTRY: Id = 0xae;
const NUMBER: Id = 0xd7;
const TYPE: Id = 0x83;
const IS_ENABLED: Id = 0xb9;
const CODEC_ID: Id = 0x86;
const CODEC_PRIVATE: Id = 0x63a2;
const DEFAULT_DURATION: Id = 0x23_e383;
const VIDEO: Id = 0xe0;
const PIXEL_WIDTH: Id = 0xb0;
const PIXEL_HEIGHT: Id = 0xba;
const PROJECTION: Id = 0x7670;
const PROJECTION_ROLL: Id = 0x7675;
const ENCODINGS: Id = 0x6d80;
const ENCODING: Id = 0x6240;
const ENCODING_ORDER: Id = 0x5031;
const ENCODING_SCOPE: Id = 0x5032;
const ENCODING_TYPE: Id = 0x5033;
const COMPRESSION: Id = 0x5034;
const COMPRESSION_METHOD: Id = 0x4254;
const COMPRESSION_SETTINGS: Id = 0x4255;

/// Most video tracks that are looked at. Files with two are rare.
const MAX_VIDEO_TRACKS: usize = 16;

/// Most packings around each other. One is usual.
const MAX_PACKINGS: usize = 4;

/// What is done to frames, or to the codec's private bytes, before they are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Packing {
    /// These bytes are left out at the beginning.
    HeaderStripping(Vec<u8>),
    Zlib,
}

/// The track that is shown.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) number: u64,
    pub(super) codec: Codec,
    /// `Some` for H.264 and H.265.
    pub(super) nal: Option<NalFormat>,
    /// Pixels, as the container says.
    pub(super) size: (u32, u32),
    /// Nanoseconds from one frame to the next.
    pub(super) default_duration: Option<u64>,
    pub(super) rotation: Option<Rotation>,
    /// In the order in which they are undone.
    packings: Vec<Packing>,
    is_enabled: bool,
}

impl Track {
    /// The video tracks of `Tracks` that can be decoded, those that are switched on first; an error where
    /// there are none.
    pub(super) fn candidates(tracks: &[u8]) -> Result<Vec<Track>> {
        const IS_VIDEO: u64 = 1;
        let entries =
            children(tracks).filter(|(id, entry)| *id == TRACK_ENTRY && uint(entry, TYPE) == Some(IS_VIDEO));
        let (mut found, mut problem) = (Vec::new(), None);
        for (_, entry) in entries.take(MAX_VIDEO_TRACKS) {
            match Track::parse(entry) {
                Ok(track) => found.push(track),
                Err(error) => _ = problem.get_or_insert(error),
            }
        }
        if found.is_empty() {
            let none = || Error::new(Kind::SourceUnsupported, "the Matroska file holds no video");
            return Err(problem.unwrap_or_else(none));
        }
        found.sort_by_key(|track| !track.is_enabled);
        Ok(found)
    }

    fn parse(entry: &[u8]) -> Result<Track> {
        let damaged = || Error::new(Kind::SourceConnection, "the track of the Matroska file is damaged");
        let id = child(entry, CODEC_ID).unwrap_or_default();
        let id = std::str::from_utf8(id).map_err(|_| damaged())?.trim_end_matches('\0');
        let (of_private, packings) = packings(entry)?;
        let private = child(entry, CODEC_PRIVATE).unwrap_or_default();
        let private = unpack(&of_private, private).ok_or_else(damaged)?;
        let (codec, nal) = format(id, &private)?;
        let video = child(entry, VIDEO).unwrap_or_default();
        let side = |id| uint(video, id).and_then(|side| u32::try_from(side).ok()).unwrap_or(0);
        // Against the clock: the standard turns the picture, counter-clockwise, about the axis of sight.
        let roll = child(video, PROJECTION).and_then(|projection| float(child(projection, PROJECTION_ROLL)?));
        Ok(Track {
            number: uint(entry, NUMBER).ok_or_else(damaged)?,
            codec,
            nal,
            size: (side(PIXEL_WIDTH), side(PIXEL_HEIGHT)),
            default_duration: uint(entry, DEFAULT_DURATION).filter(|&nanoseconds| nanoseconds > 0),
            rotation: roll
                .map(|roll| Rotation::from_degrees(-roll))
                .filter(|rotation| *rotation != Rotation::None),
            packings,
            is_enabled: uint(entry, IS_ENABLED) != Some(0),
        })
    }

    /// A frame as the codec wrote it. `None`: damaged.
    pub(super) fn unpack<'a>(&self, frame: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        unpack(&self.packings, frame)
    }
}

fn uint(data: &[u8], id: Id) -> Option<u64> {
    be(child(data, id)?)
}

/// Codec and how its frames are cut, from the codec's id and its private bytes.
fn format(id: &str, private: &[u8]) -> Result<(Codec, Option<NalFormat>)> {
    match id {
        "V_MPEG4/ISO/AVC" => Ok((Codec::H264, Some(NalFormat::new(Codec::H264, private)))),
        "V_MPEGH/ISO/HEVC" => Ok((Codec::H265, Some(NalFormat::new(Codec::H265, private)))),
        "V_MJPEG" => Ok((Codec::Jpeg, None)),
        "V_VP8" => Ok((Codec::Vp8, None)),
        "V_VP9" => Ok((Codec::Vp9, None)),
        "V_AV1" => Ok((Codec::Av1, None)),
        "V_MPEG4/ISO/SP" | "V_MPEG4/ISO/ASP" | "V_MPEG4/ISO/AP" => {
            Ok((Codec::Mpeg4, Some(NalFormat::annex_b_unless_recorded(Codec::Mpeg4, private))))
        }
        // A track that follows the rules of AVI: a BITMAPINFOHEADER, then what the codec adds.
        "V_MS/VFW/FOURCC" => {
            let codec = fourcc::codec(private.get(16..20).unwrap_or(b"none"))?;
            let extra = private.get(BITMAP_INFO_BYTES..).unwrap_or_default();
            Ok((codec, codec.has_start_codes().then(|| NalFormat::annex_b_unless_recorded(codec, extra))))
        }
        // A sample description of QuickTime: size, four letters.
        "V_QUICKTIME" => match fourcc::codec(private.get(4..8).unwrap_or(b"none"))? {
            Codec::Jpeg => Ok((Codec::Jpeg, None)),
            _ => Err(packing_missing("a QuickTime track in Matroska")),
        },
        other => Err(fourcc::missing(match other {
            "V_MPEG1" => "MPEG-1 video",
            "V_MPEG2" => "MPEG-2 video",
            "V_MPEG4/MS/V3" => "Microsoft MPEG-4",
            "V_UNCOMPRESSED" => "uncompressed video",
            "V_FFV1" => "FFV1",
            "V_PRORES" => "ProRes",
            "V_THEORA" => "Theora",
            other => other,
        })),
    }
}

/// How the private bytes and how the frames are packed, each in the order in which it is undone.
fn packings(entry: &[u8]) -> Result<(Vec<Packing>, Vec<Packing>)> {
    const FRAMES: u64 = 1;
    const PRIVATE: u64 = 2;
    const IS_ENCRYPTION: u64 = 1;
    let mut encodings: Vec<&[u8]> = children(child(entry, ENCODINGS).unwrap_or_default())
        .filter(|(id, _)| *id == ENCODING)
        .map(|(_, encoding)| encoding)
        .take(MAX_PACKINGS)
        .collect();
    // The highest number was done last.
    encodings.sort_by_key(|encoding| std::cmp::Reverse(uint(encoding, ENCODING_ORDER).unwrap_or(0)));
    let (mut of_private, mut of_frames) = (Vec::new(), Vec::new());
    for encoding in encodings {
        if uint(encoding, ENCODING_TYPE) == Some(IS_ENCRYPTION) {
            return Err(packing_missing("encrypted"));
        }
        let compression = child(encoding, COMPRESSION).unwrap_or_default();
        let packing = match uint(compression, COMPRESSION_METHOD).unwrap_or(0) {
            0 => Packing::Zlib,
            1 => return Err(packing_missing("compressed with bzip2")),
            2 => return Err(packing_missing("compressed with LZO")),
            3 => Packing::HeaderStripping(
                child(compression, COMPRESSION_SETTINGS).unwrap_or_default().to_vec(),
            ),
            other => return Err(packing_missing(format!("compressed by method {other}"))),
        };
        let scope = uint(encoding, ENCODING_SCOPE).unwrap_or(FRAMES);
        if scope & PRIVATE != 0 {
            of_private.push(packing.clone());
        }
        if scope & FRAMES != 0 {
            of_frames.push(packing);
        }
    }
    Ok((of_private, of_frames))
}

fn unpack<'a>(packings: &[Packing], data: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    packings.iter().try_fold(Cow::Borrowed(data), |data, packing| match packing {
        Packing::HeaderStripping(header) => Some(Cow::Owned([header, data.as_ref()].concat())),
        // What it may become is bounded as every frame is.
        Packing::Zlib => {
            let limit = usize::try_from(MAX_PACKET_BYTES).ok()?;
            miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(&data, limit).ok().map(Cow::Owned)
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn only(tracks: &[u8]) -> Result<Track> {
        Track::candidates(tracks).map(|mut tracks| tracks.remove(0))
    }

    /// An element with a short payload.
    fn element(id: Id, payload: &[u8]) -> Vec<u8> {
        let id = id.to_be_bytes();
        let id = &id[id.iter().position(|byte| *byte != 0).unwrap()..];
        [id, &[0x40, u8::try_from(payload.len()).unwrap()], payload].concat()
    }

    fn entry(codec: &[u8], private: &[u8], more: &[Vec<u8>]) -> Vec<u8> {
        let fields = [
            element(NUMBER, &[1]),
            element(TYPE, &[1]),
            element(CODEC_ID, codec),
            element(CODEC_PRIVATE, private),
        ];
        element(TRACK_ENTRY, &[fields.concat(), more.concat()].concat())
    }

    fn encodings(each: &[&[Vec<u8>]]) -> Vec<u8> {
        element(
            ENCODINGS,
            &each.iter().flat_map(|fields| element(ENCODING, &fields.concat())).collect::<Vec<_>>(),
        )
    }

    fn bitmap(letters: &[u8; 4], extra: &[u8]) -> Vec<u8> {
        [&[0; 16], letters.as_slice(), &[0; 20], extra].concat()
    }

    #[test]
    fn tracks_that_follow_the_rules_of_avi() {
        let track = only(&entry(b"V_MS/VFW/FOURCC", &bitmap(b"H264", &[0, 0, 0, 1, 0x67]), &[])).unwrap();
        assert_eq!((track.codec, track.nal.unwrap().parameter_sets), (Codec::H264, vec![0, 0, 1, 0x67]));
        let error = only(&entry(b"V_MS/VFW/FOURCC", &bitmap(b"WMV3", &[]), &[])).unwrap_err();
        assert!(error.message().contains("Windows Media Video"), "{error}");
    }

    #[test]
    fn packings_are_undone_from_the_last_to_the_first() {
        let stripped = [
            element(ENCODING_ORDER, &[0]),
            element(
                COMPRESSION,
                &[element(COMPRESSION_METHOD, &[3]), element(COMPRESSION_SETTINGS, &[0xff, 0xd8])].concat(),
            ),
        ];
        let zlib = [element(ENCODING_ORDER, &[1]), element(ENCODING_SCOPE, &[3]), element(COMPRESSION, &[])];
        let track = only(&entry(
            b"V_MJPEG",
            &miniz_oxide::deflate::compress_to_vec_zlib(&[], 6),
            &[encodings(&[&stripped, &zlib])],
        ));
        let track = track.unwrap();
        let stored = miniz_oxide::deflate::compress_to_vec_zlib(&[1, 2, 3], 6);
        assert_eq!(track.unpack(&stored).unwrap().as_ref(), [0xff, 0xd8, 1, 2, 3]);
        assert_eq!(track.unpack(&stored[..4]), None);
    }

    #[test]
    fn what_cannot_be_unpacked_is_no_question_of_the_codec() {
        let lzo = [element(COMPRESSION, &element(COMPRESSION_METHOD, &[2]))];
        let secret = [element(ENCODING_TYPE, &[1])];
        for (encoding, word) in [(&lzo, "LZO"), (&secret, "encrypted")] {
            let error = only(&entry(b"V_MPEG4/ISO/AVC", &[], &[encodings(&[encoding])])).unwrap_err();
            assert!(error.message().contains(word) && !error.message().contains("codec"), "{error}");
        }
    }

    #[test]
    fn the_roll_of_the_projection_turns_the_picture_against_the_clock() {
        let roll = |degrees: f32| {
            element(VIDEO, &element(PROJECTION, &element(PROJECTION_ROLL, &degrees.to_be_bytes())))
        };
        let turned = |degrees| only(&entry(b"V_MJPEG", &[], &[roll(degrees)])).unwrap().rotation;
        assert_eq!(
            (turned(90.0), turned(-90.0), turned(0.0)),
            (Some(Rotation::ThreeQuarters), Some(Rotation::Quarter), None)
        );
    }
}
