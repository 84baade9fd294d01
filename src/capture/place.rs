//! What a `video_reference` names.

use crate::command::SourceReference;
use crate::hosts::without_zone;
use percent_encoding::percent_decode_str;
use std::path::PathBuf;
use url::Url;

/// What a reference names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::capture) enum Place {
    /// A V4L2 device node.
    Device(PathBuf),
    /// A local file, played once and as fast as its frames are taken.
    File(PathBuf),
    /// `file://`: a local file played as a live stream, for ever and at its own frame rate (docs/roboflow.md
    /// §4.2).
    Loop(PathBuf),
    /// URL of `rtsp://` or `rtsps://`.
    Rtsp(String),
    /// URL of `http://` or `https://`.
    Http(String),
    /// Another scheme; its name.
    Unknown(String),
}

impl Place {
    pub(in crate::capture) fn of(reference: &SourceReference) -> Place {
        let text = match reference {
            SourceReference::Device(index) => {
                return Place::Device(PathBuf::from(format!("/dev/video{index}")));
            }
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

/// The path in a `file://` URL: escapes resolved where it is a well-formed URL of this host, else what
/// follows the scheme.
fn file_path(url: &str, rest: &str) -> PathBuf {
    match Url::parse(url).map(|url| url.to_file_path()) {
        Ok(Ok(path)) => path,
        _ => PathBuf::from(rest),
    }
}

/// Whether a reference names a camera on the network.
pub fn is_remote(reference: &SourceReference) -> bool {
    named(reference).is_some()
}

/// What a reference on the network names: host and port; `None`: it is none, or no URL.
pub(in crate::capture) fn named(reference: &SourceReference) -> Option<(String, u16)> {
    match Place::of(reference) {
        Place::Rtsp(url) | Place::Http(url) => server(&url),
        Place::Device(_) | Place::File(_) | Place::Loop(_) | Place::Unknown(_) => None,
    }
}

/// Port of RTSP where a URL names none.
pub(in crate::capture) const RTSP_PORT: u16 = 554;

/// Port of RTSP over TLS.
pub(in crate::capture) const RTSPS_PORT: u16 = 322;

/// Whom a camera's URL names, as address with its zone and without brackets, and at which port; `None`: it is
/// none.
pub(in crate::capture) fn server(text: &str) -> Option<(String, u16)> {
    let (url, _) = split(text)?;
    let usual = match url.scheme() {
        "rtsp" => RTSP_PORT,
        "rtsps" => RTSPS_PORT,
        _ => url.port_or_known_default()?,
    };
    Some((zoned(url.host_str()?, without_zone(text).1), url.port().unwrap_or(usual)))
}

/// A URL's host for who connects to it.
pub(in crate::capture) fn zoned(host: &str, zone: Option<&str>) -> String {
    let host = host.trim_matches(['[', ']']);
    zone.map_or_else(|| host.to_owned(), |zone| format!("{host}%{zone}"))
}

/// User and password, unescaped.
pub(in crate::capture) type Credentials = (String, String);

/// A URL without its credentials and the zone of its host, and those credentials; `None`: it is none. A
/// password that holds '/', '?' or '#' unescaped makes a URL wrong; then the last '@' ends it.
pub(in crate::capture) fn split(text: &str) -> Option<(Url, Option<Credentials>)> {
    let (text, _) = without_zone(text);
    if let Ok(mut url) = Url::parse(&text) {
        let credentials = credentials(url.username(), url.password().unwrap_or_default());
        url.set_username("").ok()?;
        url.set_password(None).ok()?;
        return Some((url, credentials));
    }
    let (scheme, rest) = text.split_once("://")?;
    let (userinfo, place) = rest.rsplit_once('@')?;
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    Some((Url::parse(&format!("{scheme}://{place}")).ok()?, credentials(user, password)))
}

fn credentials(user: &str, password: &str) -> Option<Credentials> {
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    (!user.is_empty() || !password.is_empty()).then(|| (decode(user), decode(password)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_with_their_zones_and_ports() {
        let of = |text: &str| server(text).map(|(host, port)| format!("{host} {port}"));
        for (text, told) in [
            ("rtsp://u:p@cam/1", "cam 554"),
            ("rtsps://[fe80::a%25eth0]/1", "fe80::a%eth0 322"),
            ("rtsp://u:p@[fe80::a%enP1]:8554/1", "fe80::a%enP1 8554"),
            ("https://[fe80::a%eth0]/a.jpg", "fe80::a%eth0 443"),
            ("http://[::1]/a.jpg", "::1 80"),
        ] {
            assert_eq!(of(text).as_deref(), Some(told));
        }
        assert_eq!(of("rtsp://"), None);
    }

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
