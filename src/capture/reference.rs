//! What a `video_reference` names, and how it is opened.

use super::control::Control;
use super::ipc::Start;
use super::source::Source;
use super::{file, http, rtsp, v4l2};
use crate::command::SourceReference;
use crate::error::{Error, Kind, Result};
use std::path::PathBuf;

/// What a reference names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A V4L2 device node.
    Device(PathBuf),
    /// A local file, played once and as fast as its frames are taken.
    File(PathBuf),
    /// `file://`: a local file played as a live stream, for ever and at its own frame rate (reference.md §4.2).
    Loop(PathBuf),
    /// `rtsp://`.
    Rtsp(String),
    /// `http://` or `https://`.
    Http(String),
    /// Another scheme; its name.
    Unknown(String),
}

impl Place {
    pub(super) fn of(reference: &SourceReference) -> Place {
        let text = match reference {
            SourceReference::Device(index) => return Place::Device(PathBuf::from(format!("/dev/video{index}"))),
            SourceReference::Text(text) => text,
        };
        let Some((scheme, rest)) = text.split_once("://") else {
            let path = PathBuf::from(text);
            return if path.starts_with("/dev") { Place::Device(path) } else { Place::File(path) };
        };
        match scheme.to_ascii_lowercase().as_str() {
            "rtsp" => Place::Rtsp(text.clone()),
            "http" | "https" => Place::Http(text.clone()),
            "file" => Place::Loop(file_path(text, rest)),
            other => Place::Unknown(other.to_owned()),
        }
    }
}

/// The path in a `file://` URL: escapes resolved where it is a well-formed URL of this host, else what follows the scheme.
fn file_path(url: &str, rest: &str) -> PathBuf {
    match url::Url::parse(url).map(|url| url.to_file_path()) {
        Ok(Ok(path)) => path,
        _ => PathBuf::from(rest),
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_told_apart() {
        let of = |text: &str| Place::of(&SourceReference::Text(text.into()));
        assert_eq!(Place::of(&SourceReference::Device(3)), Place::Device("/dev/video3".into()));
        assert_eq!(of("/dev/v4l/by-id/cam"), Place::Device("/dev/v4l/by-id/cam".into()));
        assert_eq!(of("/data/a b.mp4"), Place::File("/data/a b.mp4".into()));
        assert_eq!(of("clip.mp4"), Place::File("clip.mp4".into()));
        assert_eq!(of("file:///data/a%20b.mp4"), Place::Loop("/data/a b.mp4".into()));
        assert_eq!(of("file://clip.mp4"), Place::Loop("clip.mp4".into()));
        assert_eq!(of("RTSP://cam/1"), Place::Rtsp("RTSP://cam/1".into()));
        assert_eq!(of("https://cam/a.mjpg"), Place::Http("https://cam/a.mjpg".into()));
        assert_eq!(of("rtsps://cam/1"), Place::Unknown("rtsps".into()));
    }
}
