//! How what a `video_reference` names is opened.

use super::control::Control;
use super::source::Source;
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
}

/// Opens what the request names.
pub(super) fn open(start: &Start, control: &Control) -> Result<Opened> {
    let reference = &start.request.reference;
    let unsupported = |what: String| Err(Error::new(Kind::SourceUnsupported, what));
    let (opened, endless) = match Place::of(reference) {
        Place::File(path) => (file::open(&path), false),
        Place::Loop(path) => (file::open(&path), true),
        Place::Rtsp(url) => (rtsp::open(&url, start, control), false),
        Place::Unknown(scheme) if scheme == "rtsps" => {
            (unsupported("RTSP over TLS is not supported: use rtsp:// in a network you trust, or a proxy".into()), false)
        }
        Place::Unknown(scheme) => (unsupported(format!("{scheme}:// is not supported")), false),
        Place::Device(path) => (v4l2::open(&path, &start.request.properties), false),
        Place::Http(url) => (http::open(&url, &start.settings.user_agent, &start.request.properties), false),
    };
    match opened {
        Ok(source) => Ok(Opened { source, endless }),
        Err(error) => Err(cannot_connect(reference, &error)),
    }
}

/// The words of the reference, and the cause after them.
fn cannot_connect(reference: &SourceReference, error: &Error) -> Error {
    let cause = match error.cause() {
        Some(cause) => format!("{}: {cause}", error.message()),
        None => error.message().to_owned(),
    };
    Error::new(error.kind(), format!("Cannot connect to video source under reference: {reference} ({cause})"))
}
