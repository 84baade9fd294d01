//! What a `video_reference` names.

use crate::command::SourceReference;
use std::path::PathBuf;

/// What a reference names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::capture) enum Place {
    /// A V4L2 device node.
    Device(PathBuf),
    /// A local file, played once and as fast as its frames are taken.
    File(PathBuf),
    /// `file://`: a local file played as a live stream, for ever and at its own frame rate (docs/roboflow.md §4.2).
    Loop(PathBuf),
    /// `rtsp://` or `rtsps://`.
    Rtsp(String),
    /// `http://` or `https://`.
    Http(String),
    /// Another scheme; its name.
    Unknown(String),
}

impl Place {
    pub(in crate::capture) fn of(reference: &SourceReference) -> Place {
        let text = match reference {
            SourceReference::Device(index) => return Place::Device(PathBuf::from(format!("/dev/video{index}"))),
            SourceReference::Text(text) => text,
        };
        let Some((scheme, rest)) = text.split_once("://") else {
            let path = PathBuf::from(text);
            return if path.starts_with("/dev") { Place::Device(path) } else { Place::File(path) };
        };
        match scheme.to_ascii_lowercase().as_str() {
            "rtsp" | "rtsps" => Place::Rtsp(text.clone()),
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
        assert_eq!(of("rtsps://cam/1"), Place::Rtsp("rtsps://cam/1".into()));
    }
}
