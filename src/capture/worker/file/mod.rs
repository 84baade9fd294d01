//! Local video files.

mod annexb;
mod avi;
mod matroska;
mod medium;
mod mp4;

use crate::capture::worker::decode::{Codec, H264Parameters, H265Parameters};
use crate::capture::worker::source::Source;
use crate::error::{Error, Kind, Result};
use medium::{Medium, Rate};
use std::path::Path;

/// Opens a video file; what it is, its first bytes say.
///
/// Errors: `SourceConnection` when it cannot be read or is damaged, `SourceUnsupported` when it is no video or its codec is one that we lack.
pub fn open(path: &Path) -> Result<Box<dyn Source>> {
    let medium = Medium::open(path)?;
    match Container::of(&medium.head()?) {
        Some(Container::Mp4) => Ok(Box::new(mp4::Mp4::open(medium)?)),
        Some(Container::Matroska) => Ok(Box::new(matroska::Matroska::open(&medium, path)?)),
        Some(Container::Avi) => Ok(Box::new(avi::Avi::open(medium)?)),
        Some(Container::Raw(codec)) => Ok(Box::new(annexb::RawStream::open(medium, codec)?)),
        None => Err(Error::new(Kind::SourceUnsupported, "not a video file of a kind that is supported")),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Container {
    Mp4,
    Matroska,
    Avi,
    /// No container: Annex B.
    Raw(Codec),
}

impl Container {
    fn of(head: &[u8]) -> Option<Container> {
        if head.starts_with(&[0x1a, 0x45, 0xdf, 0xa3]) {
            return Some(Container::Matroska);
        }
        if head.starts_with(b"RIFF") && head.get(8..12) == Some(b"AVI ") {
            return Some(Container::Avi);
        }
        if let Some(codec) = annexb::codec_of(head) {
            return Some(Container::Raw(codec));
        }
        match head.get(4..8)? {
            // QuickTime files need not begin with `ftyp`.
            b"ftyp" | b"moov" | b"mdat" | b"free" | b"skip" | b"wide" | b"pnot" | b"styp" => Some(Container::Mp4),
            _ => None,
        }
    }
}

/// A codec that we do not have.
fn codec_missing(name: &str) -> Error {
    Error::new(Kind::SourceUnsupported, format!("video codec {name} is not supported (H.264, H.265 and JPEG are)"))
}

/// What a stream's parameter sets say; right where a container is not.
#[derive(Debug, Clone, Copy)]
struct StreamFacts {
    /// Pixels.
    width: u32,
    /// Pixels.
    height: u32,
    fps: Option<f64>,
}

/// From the first sequence parameter set in an Annex B stream.
fn stream_facts(codec: Codec, stream: &[u8]) -> Option<StreamFacts> {
    match codec {
        Codec::H264 => H264Parameters::find(stream).map(|sps| StreamFacts { width: sps.width, height: sps.height, fps: sps.fps }),
        Codec::H265 => H265Parameters::find(stream).map(|sps| StreamFacts { width: sps.width, height: sps.height, fps: sps.fps }),
        Codec::Jpeg => None,
    }
}
