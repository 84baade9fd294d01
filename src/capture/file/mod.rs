//! Local video files.

mod medium;
mod mp4;

use crate::capture::decode::{Codec, H264Parameters};
use crate::capture::source::Source;
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
        None => Err(Error::new(Kind::SourceUnsupported, "not a video file of a kind that is supported")),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Container {
    Mp4,
}

impl Container {
    fn of(head: &[u8]) -> Option<Container> {
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

/// Width and height in pixels that parameter sets say; they are right where a container is not.
fn stream_size(codec: Codec, parameter_sets: &[u8]) -> Option<(u32, u32)> {
    match codec {
        Codec::H264 => H264Parameters::find(parameter_sets).map(|sps| (sps.width, sps.height)),
        Codec::H265 | Codec::Jpeg => None,
    }
}
