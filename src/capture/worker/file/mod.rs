//! Local video files: recognised by their first bytes, whatever they are called.

mod avi;
mod elementary;
mod flv;
mod fourcc;
mod jpegs;
mod matroska;
mod medium;
mod mp4;
mod nal;
mod number;
mod ts;

use crate::capture::worker::decode::{Codec, H264Parameters, H265Parameters, builtin, jpeg_size};
use crate::capture::worker::picture::check_size;
use crate::capture::worker::source::Source;
use crate::command::SourceProperties;
use crate::error::{Error, Kind, Result};
use elementary::{Elementary, Raw};
use medium::{Medium, Rate};
use std::path::Path;
use ts::TransportStream;

/// Opens a video file; what it is, its first bytes say, and never its name.
///
/// Errors: `SourceConnection` when it cannot be read or is damaged, `SourceUnsupported` when it is no video,
/// or its codec or the way in which it is packed is one that we lack.
pub fn open(path: &Path) -> Result<Box<dyn Source>> {
    open_for(path, &|codec| builtin(codec).is_some())
}

/// The same where `decodes` says which codecs there are decoders for.
pub(super) fn open_for(path: &Path, decodes: &dyn Fn(Codec) -> bool) -> Result<Box<dyn Source>> {
    let source = open_container(path)?;
    if let Some(codec) = source.codec().filter(|codec| !decodes(*codec)) {
        return Err(fourcc::missing(codec.name()));
    }
    match source.properties() {
        SourceProperties { width: 0, .. } | SourceProperties { height: 0, .. } => Err(Error::new(
            Kind::SourceLost,
            "the file holds no pictures: it was cut short before the first one",
        )),
        SourceProperties { width, height, .. } => check_size(width, height).map(|()| source),
    }
}

fn open_container(path: &Path) -> Result<Box<dyn Source>> {
    let mut medium = Medium::open(path)?;
    let mut head = medium.head()?;
    let mut container = Container::of(&head);
    if container.is_none() && head.first() == Some(&0) {
        // Sectors that were never written, before what was.
        let zeros = medium.leading_zeros()?;
        for kept in 0..=MAX_ZEROS_OF_BEGINNING.min(zeros) {
            let mut moved = medium.again()?;
            moved.skip(zeros - kept);
            head = moved.head()?;
            container = Container::of(&head);
            if container.is_some() {
                medium = moved;
                break;
            }
        }
    }
    if container.is_none() && elementary::lies_in(&medium.start(MAX_BEFORE_STREAM_BYTES)?) {
        container = Some(Container::Elementary);
    }
    match container {
        Some(Container::Mp4) => Ok(Box::new(mp4::Mp4::open(medium)?)),
        Some(Container::Matroska) => Ok(Box::new(matroska::Matroska::open(medium)?)),
        Some(Container::Avi) => Ok(Box::new(avi::Avi::open(medium)?)),
        Some(Container::Flv) => Ok(Box::new(flv::Flv::open(medium)?)),
        Some(Container::Jpegs) => Ok(Box::new(jpegs::Jpegs::open(medium)?)),
        Some(Container::TransportStream { first, stride }) => {
            let (stream, codec) = TransportStream::open(medium, first, stride)?;
            Ok(Box::new(Elementary::open(stream, codec)?))
        }
        Some(Container::Elementary) => Ok(Box::new(Elementary::open(Raw::new(medium), None)?)),
        None => Err(Error::new(
            Kind::SourceUnsupported,
            "not a video file of a kind that is supported (MP4, MOV, Matroska, AVI, MPEG-TS, FLV, raw H.264, H.265 and JPEG are)",
        )),
    }
}

/// As much of a file that begins as no other does is looked through for an elementary stream that was cut off
/// anywhere: within this there is a group of pictures, but for the slowest of recorders.
const MAX_BEFORE_STREAM_BYTES: usize = 4 * 1024 * 1024;

/// Zero bytes that what begins a file may begin with itself: an MP4 box's length, a start code.
const MAX_ZEROS_OF_BEGINNING: u64 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Container {
    Mp4,
    Matroska,
    Avi,
    Flv,
    /// JPEG pictures one after the other, in no container.
    Jpegs,
    /// Packets of this distance from this offset on.
    TransportStream {
        first: usize,
        stride: usize,
    },
    /// No container: Annex B.
    Elementary,
}

impl Container {
    fn of(head: &[u8]) -> Option<Container> {
        if head.starts_with(&[0x1a, 0x45, 0xdf, 0xa3]) {
            return Some(Container::Matroska);
        }
        if head.starts_with(b"RIFF") && head.get(8..12) == Some(b"AVI ") {
            return Some(Container::Avi);
        }
        if flv::begins(head) {
            return Some(Container::Flv);
        }
        if jpegs::begins(head) {
            return Some(Container::Jpegs);
        }
        // QuickTime files need not begin with `ftyp`.
        if let Some(
            b"ftyp" | b"moov" | b"mdat" | b"free" | b"skip" | b"wide" | b"pnot" | b"styp" | b"sidx" | b"moof"
            | b"uuid",
        ) = head.get(4..8)
        {
            return Some(Container::Mp4);
        }
        if let Some((first, stride)) = ts::layout(head) {
            return Some(Container::TransportStream { first, stride });
        }
        elementary::begins(head).then_some(Container::Elementary)
    }
}

/// A codec that we have, packed in a way that we lack.
fn packing_missing(how: impl std::fmt::Display) -> Error {
    let message = format!("the video is packed in a way that is not supported: {how}");
    Error::new(Kind::SourceUnsupported, message)
}

/// What a stream's parameter sets say; right where a container is not.
#[derive(Debug, Clone, Copy)]
struct StreamFacts {
    /// Width of the pictures, pixels.
    width: u32,
    /// Height of the pictures, pixels.
    height: u32,
    fps: Option<f64>,
}

/// From the first sequence parameter set in an Annex B stream.
fn stream_facts(codec: Codec, stream: &[u8]) -> Option<StreamFacts> {
    match codec {
        Codec::H264 => H264Parameters::find(stream).map(|sps| StreamFacts {
            width: sps.width,
            height: sps.height,
            fps: sps.fps,
        }),
        Codec::H265 => H265Parameters::find(stream).map(|sps| StreamFacts {
            width: sps.width,
            height: sps.height,
            fps: sps.fps,
        }),
        _ => None,
    }
}

/// From the first picture of a stream, with its parameter sets before it.
fn picture_facts(codec: Codec, picture: &[u8]) -> Option<StreamFacts> {
    match codec {
        Codec::Jpeg => jpeg_size(picture).map(|(width, height)| StreamFacts { width, height, fps: None }),
        codec => stream_facts(codec, picture),
    }
}
