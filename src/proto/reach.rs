//! What `init` may reach: which sources a client may have opened and where it may have detections sent.
//!
//! A token that steers pipelines shall not be a way to read any file of the device or to talk to any host of
//! its network. The lists are checked on what the client wrote; names are not resolved here, so a list of
//! networks lets no name through that is not listed itself. What a name of a source resolves to, and where a
//! camera redirects to, is checked when a worker asks for its connection (`crate::capture`).

use std::path::{Path, PathBuf};

use url::Url;

use crate::command::{Init, SourceReference, SourceRequest};
use crate::error::{Error, Kind, Result};
use crate::hosts::{HostRule, allowed, without_zone};
use crate::sink::Sink;

/// Schemes of sources that are allowed unless configured otherwise: those that a worker can open at all.
pub const DEFAULT_SCHEMES: [&str; 5] = ["rtsp", "rtsps", "http", "https", "file"];

/// What the sources and sinks of a request may name: schemes, hosts, folders.
#[derive(Debug, Clone)]
pub struct Reach {
    /// Schemes of source URLs, lower case.
    pub schemes: Vec<String>,
    /// Hosts of source URLs; empty: any.
    pub source_hosts: Vec<HostRule>,
    /// Hosts detections may be sent to; empty: any.
    pub sink_hosts: Vec<HostRule>,
    /// Folders below which files may be read; `None`: any file the service can read.
    pub file_roots: Option<Vec<PathBuf>>,
}

impl Default for Reach {
    fn default() -> Self {
        Reach {
            schemes: DEFAULT_SCHEMES.map(str::to_owned).to_vec(),
            source_hosts: Vec::new(),
            sink_hosts: Vec::new(),
            file_roots: None,
        }
    }
}

impl Reach {
    /// Refuses a pipeline that would reach further. Looks at the file system (off the loop) only when files
    /// are limited.
    pub(super) async fn check(&self, init: &Init) -> Result<()> {
        if init.sinks.iter().filter_map(Sink::host).any(|host| !allowed(&self.sink_hosts, host)) {
            return Err(forbidden("sink host"));
        }
        for source in &init.sources {
            self.check_source(source).await?;
        }
        Ok(())
    }

    /// The same for one source.
    pub(super) async fn check_source(&self, source: &SourceRequest) -> Result<()> {
        match &source.reference {
            SourceReference::Text(text) => self.check_reference(text).await,
            SourceReference::Device(_) => Ok(()),
        }
    }

    async fn check_reference(&self, text: &str) -> Result<()> {
        let Some((scheme, _)) = text.split_once("://") else {
            return self.check_file(PathBuf::from(text)).await;
        };
        let scheme = scheme.to_ascii_lowercase();
        if !self.schemes.contains(&scheme) {
            return Err(forbidden("scheme of video_reference"));
        }
        let (plain, zone) = without_zone(text);
        let url = || {
            Url::parse(&plain)
                .map_err(|_| Error::new(Kind::InvalidValue, "video_reference is not a URL that can be read"))
        };
        if scheme == "file" {
            return match &self.file_roots {
                None => Ok(()),
                Some(_) => {
                    self.check_file(url()?.to_file_path().map_err(|()| forbidden("file of video_reference"))?)
                        .await
                }
            };
        }
        let is_allowed = |host: &str| match zone {
            Some(zone) => allowed(&self.source_hosts, &format!("{}%{zone}", host.trim_matches(['[', ']']))),
            None => allowed(&self.source_hosts, host),
        };
        if !self.source_hosts.is_empty() && !url()?.host_str().is_some_and(is_allowed) {
            return Err(forbidden("host of video_reference"));
        }
        Ok(())
    }

    async fn check_file(&self, path: PathBuf) -> Result<()> {
        let Some(roots) = self.file_roots.clone() else { return Ok(()) };
        // Off the loop: a dead network file system can hold this up for minutes.
        let inside = smol::unblock(move || {
            // Symbolic links and `..` are resolved on both sides; what does not exist is nowhere, but for a
            // camera that is not plugged in: it is waited for.
            let Ok(path) = path.canonicalize() else { return is_camera(&path) || is_camera_link(&path) };
            is_camera(&path)
                || roots.iter().any(|root| root.canonicalize().is_ok_and(|root| path.starts_with(root)))
        })
        .await;
        if inside { Ok(()) } else { Err(forbidden("file of video_reference")) }
    }
}

/// `/dev/video0` and its like are sources as a device index is, whatever files are allowed.
fn is_camera(path: &Path) -> bool {
    let number = path.to_str().and_then(|path| path.strip_prefix("/dev/video"));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()))
}

/// The links that udev makes for cameras.
fn is_camera_link(path: &Path) -> bool {
    let folders = ["/dev/v4l/by-id", "/dev/v4l/by-path"].map(Path::new);
    let in_folder = path.parent().is_some_and(|parent| folders.contains(&parent));
    // `file_name` is `None` for `..`; a trailing `/` or `/.` changes nothing.
    in_folder && path.file_name().is_some()
}

fn forbidden(what: &str) -> Error {
    Error::new(Kind::Forbidden, format!("The {what} is not among those that the configuration allows"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn rules(list: &[&str]) -> Vec<HostRule> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn refused(reach: &Reach, reference: &str) -> Option<Kind> {
        smol::block_on(reach.check_reference(reference)).err().map(|error| error.kind())
    }

    #[test]
    fn urls_are_checked_for_scheme_and_host_with_credentials_in_them() {
        let reach = Reach { source_hosts: rules(&["10.0.0.0/8"]), ..Reach::default() };
        for (reference, expected) in [
            ("rtsp://10.1.2.3:554/ch1", None),
            ("RTSP://user:pass@10.1.2.3/ch1", None),
            ("rtsp://10.1.2.3@evil.example/ch1", Some(Kind::Forbidden)),
            ("http://evil.example/10.1.2.3", Some(Kind::Forbidden)),
            ("gopher://10.1.2.3/", Some(Kind::Forbidden)),
            ("http://[::1", Some(Kind::InvalidValue)),
            ("/any/file.mp4", None),
        ] {
            assert_eq!(refused(&reach, reference), expected, "{reference}");
        }
        let reach = Reach { source_hosts: rules(&["fe80::1%eth0", "fe80::2"]), ..Reach::default() };
        for (reference, expected) in [
            ("rtsp://[fe80::1%eth0]:554/ch1", None),
            ("rtsp://[FE80::1%25eth0]/ch1", None),
            ("rtsp://[fe80::1%eth1]/ch1", Some(Kind::Forbidden)),
            ("rtsp://[fe80::1]/ch1", Some(Kind::Forbidden)),
            ("rtsp://[fe80::2%eth1]/ch1", None),
        ] {
            assert_eq!(refused(&reach, reference), expected, "{reference}");
        }
    }

    #[test]
    fn files_stay_below_their_roots_whatever_the_path_looks_like() {
        let base = std::env::temp_dir().join(format!("weir-reach-{}", uuid::Uuid::new_v4()));
        let root = base.join("videos");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::write(root.join("sub/a b.mp4"), "x").unwrap();
        std::fs::write(base.join("secret"), "x").unwrap();
        std::os::unix::fs::symlink(base.join("secret"), root.join("link.mp4")).unwrap();
        let reach = Reach { file_roots: Some(vec![root.clone()]), ..Reach::default() };
        let at = |tail: &str| format!("{}/{tail}", root.display());
        for (reference, expected) in [
            (at("sub/a b.mp4"), None),
            (at("sub/../sub/a b.mp4"), None),
            (format!("file://{}", at("sub/a%20b.mp4")), None),
            (at("../secret"), Some(Kind::Forbidden)),
            (format!("file://{}", at("%2e%2e/secret")), Some(Kind::Forbidden)),
            (at("link.mp4"), Some(Kind::Forbidden)),
            (at("absent.mp4"), Some(Kind::Forbidden)),
            ("/etc/passwd".into(), Some(Kind::Forbidden)),
            ("file:///etc/passwd".into(), Some(Kind::Forbidden)),
            ("file://host/etc/passwd".into(), Some(Kind::Forbidden)),
            ("/dev/null".into(), Some(Kind::Forbidden)),
            // Not plugged in yet.
            ("/dev/video4242".into(), None),
            ("/dev/v4l/by-id/usb-absent-index0".into(), None),
            ("/dev/v4l/by-id/..".into(), Some(Kind::Forbidden)),
            ("/dev/v4l/by-id/../../absent".into(), Some(Kind::Forbidden)),
            ("rtsp://cam/1".into(), None),
        ] {
            assert_eq!(refused(&reach, &reference), expected, "{reference}");
        }
        std::fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn cameras_are_devices() {
        assert!(is_camera(Path::new("/dev/video12")));
        assert!(!is_camera(Path::new("/dev/video")) && !is_camera(Path::new("/dev/video0/../sda")));
    }
}
