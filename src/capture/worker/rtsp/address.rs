//! What an `rtsp://` reference says: where, as whom, and by which transport.

use crate::capture::place::{self, Credentials};
use crate::error::{Error, Kind, Result};
use crate::hosts::without_zone;
use url::Url;

/// Ports of RTSP, plain and over TLS.
const PORTS: (u16, u16) = (place::RTSP_PORT, place::RTSPS_PORT);

/// A camera's address, taken apart.
#[derive(Clone)]
pub(super) struct Address {
    /// Without credentials, and without what is meant for us.
    pub(super) url: Url,
    pub(super) credentials: Option<Credentials>,
    /// The interface that its address is meant on.
    zone: Option<String>,
    /// RTP over UDP instead of the RTSP connection.
    pub(super) udp: bool,
    /// The RTSP connection is inside TLS.
    pub(super) tls: bool,
}

impl Address {
    /// Takes a URL apart. Errors never quote it.
    pub(super) fn parse(text: &str, udp_by_default: bool) -> Result<Address> {
        let wrong = || Error::new(Kind::SourceConnection, "the URL of the camera is not valid");
        let (mut url, credentials) = place::split(text).ok_or_else(wrong)?;
        if url.host().is_none() {
            return Err(wrong());
        }
        let udp = match take_transport(&mut url).as_deref() {
            None => udp_by_default,
            Some("udp") => true,
            Some("tcp") => false,
            Some(_) => return Err(Error::new(Kind::InvalidValue, "rtsp_transport is neither tcp nor udp")),
        };
        let tls = match url.scheme() {
            "rtsp" => false,
            "rtsps" => true,
            _ => return Err(wrong()),
        };
        let zone = without_zone(text).1.map(str::to_owned);
        Ok(Address { url, credentials, zone, udp, tls })
    }

    /// Who is connected to: its host, with the zone of an address.
    pub(super) fn host(&self) -> String {
        place::zoned(self.url.host_str().unwrap_or_default(), self.zone.as_deref())
    }

    /// Where its server listens.
    pub(super) fn port(&self) -> u16 {
        self.url.port().unwrap_or(if self.tls { PORTS.1 } else { PORTS.0 })
    }

    /// Where a camera sent us. Credentials go along only to the same host: another one has no right to see
    /// them.
    pub(super) fn redirected(&self, location: &str) -> Result<Address> {
        let target = self.url.join(location).map_err(|error| {
            Error::new(Kind::SourceConnection, "redirected to no valid URL").because(error)
        })?;
        // What was asked for under TLS is not sent in the clear.
        if target.scheme() != "rtsps" && (self.tls || target.scheme() != "rtsp") {
            let message = format!("redirected to {}://, which is not supported here", target.scheme());
            return Err(Error::new(Kind::SourceConnection, message));
        }
        let mut address = Address::parse(target.as_str(), self.udp)?;
        if address.url.host() == self.url.host() {
            address.zone = address.zone.or_else(|| self.zone.clone());
        }
        // A redirect could otherwise send any credentials anywhere, its own included.
        address.credentials = self.credentials.clone().filter(|_| address.url.host() == self.url.host());
        Ok(address)
    }
}

/// Takes `rtsp_transport=…` out of the query; what else stands there is the camera's, letter by letter.
fn take_transport(url: &mut Url) -> Option<String> {
    let query = url.query()?.to_owned();
    let mut transport = None;
    let rest: Vec<&str> = query
        .split('&')
        .filter(|pair| match pair.strip_prefix("rtsp_transport=") {
            Some(value) => {
                transport = Some(value.to_ascii_lowercase());
                false
            }
            None => true,
        })
        .collect();
    if transport.is_some() {
        url.set_query(Some(&rest.join("&")).filter(|rest| !rest.is_empty()).map(String::as_str));
    }
    transport
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parts(text: &str) -> (String, Option<(String, String)>, bool) {
        let Address { url, credentials, udp, .. } = Address::parse(text, false).unwrap();
        (url.into(), credentials, udp)
    }

    fn some(user: &str, password: &str) -> Option<(String, String)> {
        Some((user.to_owned(), password.to_owned()))
    }

    #[test]
    fn credentials_leave_the_url_and_are_unescaped() {
        assert_eq!(
            parts("rtsp://u:p%40ss@cam:554/ch1?x=1"),
            ("rtsp://cam:554/ch1?x=1".into(), some("u", "p@ss"), false)
        );
        assert_eq!(parts("rtsp://admin@cam/"), ("rtsp://cam/".into(), some("admin", ""), false));
        assert_eq!(parts("rtsp://cam/ch1").1, None);
    }

    #[test]
    fn passwords_that_should_have_been_escaped_still_work() {
        assert_eq!(
            parts("rtsp://user:p/w#d@10.0.0.1:8554/ch1"),
            ("rtsp://10.0.0.1:8554/ch1".into(), some("user", "p/w#d"), false)
        );
        assert_eq!(parts("rtsp://user:p@ss@cam/ch1"), ("rtsp://cam/ch1".into(), some("user", "p@ss"), false));
    }

    #[test]
    fn the_transport_is_ours_and_the_rest_of_the_query_the_cameras() {
        assert_eq!(parts("rtsp://cam/a?rtsp_transport=udp"), ("rtsp://cam/a".into(), None, true));
        assert_eq!(
            parts("rtsp://cam/a?b=%20c&rtsp_transport=TCP&d"),
            ("rtsp://cam/a?b=%20c&d".into(), None, false)
        );
        assert!(Address::parse("rtsp://cam/a", true).unwrap().udp);
        assert!(Address::parse("rtsp://cam/a?rtsp_transport=quic", true).is_err());
    }

    #[test]
    fn a_redirect_takes_credentials_only_to_the_same_host() {
        let camera = Address::parse("rtsp://u:p@cam:554/a", false).unwrap();
        let same = camera.redirected("rtsp://cam:8554/b").unwrap();
        assert_eq!((same.url.as_str(), same.credentials.is_some()), ("rtsp://cam:8554/b", true));
        let other = camera.redirected("rtsp://x:y@evil/b").unwrap();
        assert_eq!((other.url.as_str(), other.credentials.is_some()), ("rtsp://evil/b", false));
        assert_eq!(camera.redirected("/c").unwrap().url.as_str(), "rtsp://cam:554/c");
        let zoned = Address::parse("rtsp://u:p@[fe80::1%eth0]/a", false).unwrap();
        assert_eq!((zoned.url.as_str(), zoned.host().as_str()), ("rtsp://[fe80::1]/a", "fe80::1%eth0"));
        assert_eq!(zoned.redirected("/b").unwrap().host(), "fe80::1%eth0");
        assert!(camera.redirected("http://cam/b").is_err());
        assert!(camera.redirected("file:///etc/passwd").is_err());
        let secret = Address::parse("rtsps://cam/a", false).unwrap();
        assert_eq!((secret.tls, secret.port(), camera.port()), (true, 322, 554));
        assert!(secret.redirected("rtsp://cam/b").is_err() && camera.redirected("rtsps://cam/b").is_ok());
    }

    #[test]
    fn errors_do_not_quote_the_url() {
        for wrong in ["rtsp://", "rtsp://u:secret@", "rtsp://u:secret@:x/"] {
            let Err(error) = Address::parse(wrong, false) else { continue };
            assert!(!error.to_string().contains("secret"));
        }
    }
}
