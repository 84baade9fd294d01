//! What `init` may reach: which sources a client may have opened and where it may have detections sent.
//!
//! A token that steers pipelines shall not be a way to read any file of the device or to talk to any host of its
//! network. The lists are checked on what the client wrote; names are not resolved here, so a list of networks lets no
//! name through that is not listed itself.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use url::Url;

use crate::command::{Init, SourceReference};
use crate::error::{Error, Kind, Result};
use crate::sink::Sink;

/// Schemes of sources that are allowed unless configured otherwise: those that a worker can open at all.
pub const DEFAULT_SCHEMES: [&str; 5] = ["rtsp", "rtsps", "http", "https", "file"];

/// The lists.
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

/// One entry of a list of hosts.
#[derive(Debug, Clone, PartialEq)]
pub enum HostRule {
    /// `camera.local`
    Name(String),
    /// `*.example.com`: everything below, not the domain itself. Kept with its leading dot.
    Below(String),
    /// `10.0.0.0/8`, `fe80::/10`, or one address.
    Network(IpAddr, u32),
}

impl FromStr for HostRule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::new(Kind::Configuration, format!("`{text}` is not a host name, *.domain, address or network"));
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u32>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        if let Ok(address) = address.parse::<IpAddr>() {
            let all = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.unwrap_or(all);
            return if bits <= all { Ok(HostRule::Network(address, bits)) } else { Err(wrong()) };
        }
        let name = text.strip_prefix('*').unwrap_or(text);
        let is_name = |name: &str| {
            name.bytes().any(|byte| byte.is_ascii_alphanumeric())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        match (bits, text.starts_with("*."), is_name(name)) {
            (None, true, true) => Ok(HostRule::Below(name.to_ascii_lowercase())),
            (None, false, true) if name == text => Ok(HostRule::Name(name.to_ascii_lowercase())),
            _ => Err(wrong()),
        }
    }
}

impl HostRule {
    /// Whether this is a network, or an address, that holds `address`.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        matches!(self, HostRule::Network(..)) && self.allows(&address.to_string())
    }

    fn allows(&self, host: &str) -> bool {
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        match (self, address.map(|address| address.to_canonical())) {
            (HostRule::Name(allowed), None) => *allowed == name,
            (HostRule::Below(domain), None) => name.len() > domain.len() && name.ends_with(domain.as_str()),
            (HostRule::Network(IpAddr::V4(network), bits), Some(IpAddr::V4(address))) => {
                let shift = 32 - bits;
                u32::from(*network).checked_shr(shift) == u32::from(address).checked_shr(shift)
            }
            (HostRule::Network(IpAddr::V6(network), bits), Some(IpAddr::V6(address))) => {
                let shift = 128 - bits;
                u128::from(*network).checked_shr(shift) == u128::from(address).checked_shr(shift)
            }
            _ => false,
        }
    }
}

impl Reach {
    /// Refuses a pipeline that would reach further. Looks at the file system (off the loop) only when files are limited.
    pub(super) async fn check(&self, init: &Init) -> Result<()> {
        if init.sinks.iter().filter_map(Sink::host).any(|host| !allowed(&self.sink_hosts, host)) {
            return Err(forbidden("sink host"));
        }
        for source in &init.sources {
            if let SourceReference::Text(text) = &source.reference {
                self.check_reference(text).await?;
            }
        }
        Ok(())
    }

    async fn check_reference(&self, text: &str) -> Result<()> {
        let Some((scheme, _)) = text.split_once("://") else { return self.check_file(PathBuf::from(text)).await };
        let scheme = scheme.to_ascii_lowercase();
        if !self.schemes.contains(&scheme) {
            return Err(forbidden("scheme of video_reference"));
        }
        let url =
            || Url::parse(text).map_err(|_| Error::new(Kind::InvalidValue, "video_reference is not a URL that can be read"));
        if scheme == "file" {
            return match &self.file_roots {
                None => Ok(()),
                Some(_) => self.check_file(url()?.to_file_path().map_err(|()| forbidden("file of video_reference"))?).await,
            };
        }
        if !self.source_hosts.is_empty() && !url()?.host_str().is_some_and(|host| allowed(&self.source_hosts, host)) {
            return Err(forbidden("host of video_reference"));
        }
        Ok(())
    }

    async fn check_file(&self, path: PathBuf) -> Result<()> {
        let Some(roots) = self.file_roots.clone() else { return Ok(()) };
        // Off the loop: a dead network file system can hold this up for minutes.
        let inside = smol::unblock(move || {
            // Symbolic links and `..` are resolved on both sides; what does not exist is nowhere, but for a camera that is
            // not plugged in: it is waited for.
            let Ok(path) = path.canonicalize() else { return is_camera(&path) || is_camera_link(&path) };
            is_camera(&path) || roots.iter().any(|root| root.canonicalize().is_ok_and(|root| path.starts_with(root)))
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

fn allowed(rules: &[HostRule], host: &str) -> bool {
    rules.is_empty() || rules.iter().any(|rule| rule.allows(host))
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

    #[test]
    fn hosts_are_allowed_by_name_domain_and_network() {
        let rules = rules(&["cam.local", "*.site.example", "10.1.0.0/16", "192.168.0.5", "fd00::/8", "0.0.0.0/32"]);
        for (host, expected) in [
            ("CAM.local", true),
            ("cam.local.", true),
            ("xcam.local", false),
            ("a.b.site.example", true),
            ("site.example", false),
            ("evilsite.example", false),
            ("10.1.255.1", true),
            ("10.2.0.1", false),
            ("192.168.0.5", true),
            ("192.168.0.6", false),
            ("[fd12::1]", true),
            ("[fe80::1]", false),
            ("[::ffff:10.1.0.1]", true),
            ("10.1.0.1.evil.example", false),
        ] {
            assert_eq!(allowed(&rules, host), expected, "{host}");
        }
        assert!("0.0.0.0/0".parse::<HostRule>().unwrap().allows("8.8.8.8"));
        for text in ["", "*", "*.", "*evil", "10.0.0.0/33", "a b", "a/8", "http://x"] {
            assert!(text.parse::<HostRule>().is_err(), "{text}");
        }
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
