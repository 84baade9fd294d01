//! How what a `video_reference` names is opened.

use super::control::Control;
use super::decode::{Decoders, orientation};
use super::record::Recorder;
use super::rotation::Rotation;
use super::sandbox::Confinement;
use super::source::{Grab, Source};
use super::{file, http, rtsp, v4l2};
use crate::capture::ipc::Start;
use crate::capture::place::Place;
use crate::command::SourceReference;
use crate::error::{Error, Kind, Result};

/// An open source and how it is to be played.
pub(super) struct Opened {
    pub(super) source: Box<dyn Source>,
    /// Not faster than its own frame rate, and from the start again at its end.
    pub(super) endless: bool,
    /// How its pictures are to be turned; `None`: nobody has said so yet, the stream itself still may.
    pub(super) rotation: Option<Rotation>,
}

/// Pictures at the beginning of a file that are looked at for what the stream says of its orientation. It
/// says so with the first that decoding may begin with, and again with each of the others.
const LOOKED_AT: usize = 32;

/// Opens what the request names.
pub(super) fn open(
    start: &Start,
    confinement: &Confinement,
    decoders: &Decoders,
    control: &Control,
    recorder: &Recorder,
) -> Result<Opened> {
    let reference = &start.request.reference;
    let unsupported = |what: String| Err(Error::new(Kind::SourceUnsupported, what));
    let decodes = |codec| decoders.can_open(codec);
    let (opened, endless) = match Place::of(reference) {
        Place::File(path) => (file::open_for(&path, &decodes), false),
        Place::Loop(path) => (file::open_for(&path, &decodes), true),
        Place::Rtsp(url) => (rtsp::open(&url, start, confinement, control, recorder), false),
        Place::Unknown(scheme) => (unsupported(format!("{scheme}:// is not supported")), false),
        Place::Device(path) => (v4l2::open(&path, &start.request.properties), false),
        Place::Http(url) => (http::open(&url, start, control, recorder), false),
    };
    match opened.and_then(|mut source| Ok((rotation(&mut *source)?, source))) {
        Ok((rotation, source)) => Ok(Opened { source, endless, rotation }),
        Err(error) => Err(cannot_connect(reference, &error)),
    }
}

/// How a source that is open wants its pictures turned. Of a file the first pictures are asked, where its
/// container is silent.
fn rotation(source: &mut dyn Source) -> Result<Option<Rotation>> {
    if source.rotation().is_some() || !source.properties().is_file {
        return Ok(source.rotation());
    }
    let mut found = None;
    for _ in 0..LOOKED_AT {
        let Grab::Packet(codec, unit) = source.grab()? else { break };
        found = orientation(codec, unit.data);
        if found.is_some() {
            break;
        }
    }
    source.restart()?;
    Ok(found)
}

/// The words of the reference, and the cause after them.
fn cannot_connect(reference: &SourceReference, error: &Error) -> Error {
    let cause = match error.causes() {
        causes if causes.is_empty() => error.message().to_owned(),
        causes => format!("{}: {causes}", error.message()),
    };
    Error::new(error.kind(), format!("Cannot connect to video source under reference: {reference} ({cause})"))
}
