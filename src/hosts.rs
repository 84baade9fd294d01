//! Lists of hosts: who may be connected to, as the configuration names them.

use crate::error::{Error, Kind, Result};
use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// Longest name of an interface, bytes (IFNAMSIZ, less its zero).
const MAX_ZONE_BYTES: usize = 15;

/// A host and its zone, the interface that an IPv6 address of one link is meant on (RFC 4007 §11.2):
/// `fe80::1%eth0`, without brackets. What has none, or is none, is returned as it is.
pub fn split_zone(host: &str) -> (&str, Option<&str>) {
    match host.split_once('%') {
        Some((address, zone)) if address.parse::<Ipv6Addr>().is_ok() && is_zone(zone) => {
            (address, Some(zone))
        }
        _ => (host, None),
    }
}

fn is_zone(zone: &str) -> bool {
    (1..=MAX_ZONE_BYTES).contains(&zone.len())
        && zone.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// A URL without the zone of its host, which URLs have no place for, and that zone: `rtsp://[fe80::1%eth0]/`,
/// or as RFC 6874 has it, `rtsp://[fe80::1%25eth0]/`.
pub fn without_zone(url: &str) -> (Cow<'_, str>, Option<&str>) {
    let found = || {
        let authority = url.find("://")? + 3;
        let end = url.get(authority..)?.find(['/', '?', '#']).map_or(url.len(), |length| authority + length);
        let open = url.get(..end)?.rfind('[').filter(|open| *open >= authority)?;
        let close = open + url.get(open..end)?.find(']')?;
        let inside = url.get(open + 1..close)?;
        let (address, written) = inside.split_once('%')?;
        let zone = written.strip_prefix("25").filter(|zone| !zone.is_empty()).unwrap_or(written);
        let is_one = address.parse::<Ipv6Addr>().is_ok() && is_zone(zone);
        is_one.then(|| (Cow::Owned(format!("{}{address}{}", &url[..=open], &url[close..])), Some(zone)))
    };
    found().unwrap_or((Cow::Borrowed(url), None))
}

/// One entry of a list of hosts.
#[derive(Debug, Clone, PartialEq)]
pub enum HostRule {
    /// A name and nothing else: `camera.local`.
    Name(String),
    /// `*.example.com`: everything below, not the domain itself. Kept with its leading dot.
    Below(String),
    /// `10.0.0.0/8`, `fe80::/10`, or one address.
    Network(IpAddr, u32),
    /// `fe80::1%eth0`, `fe80::%eth0/64`: the same on one interface (RFC 4007 §11.7).
    OnLink(Ipv6Addr, u32, String),
}

impl FromStr for HostRule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::new(
                Kind::Configuration,
                format!("`{text}` is not a host name, *.domain, address or network"),
            )
        };
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u32>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        if let (address, Some(zone)) = split_zone(address) {
            let bits = bits.unwrap_or(128);
            let address = address.parse().map_err(|_| wrong())?;
            return if bits <= 128 {
                Ok(HostRule::OnLink(address, bits, zone.to_owned()))
            } else {
                Err(wrong())
            };
        }
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
    /// Whether this is a network, or an address, that holds `address`, whatever interface it is on.
    pub fn contains(&self, address: IpAddr) -> bool {
        matches!(self, HostRule::Network(..)) && self.allows(&address.to_string())
    }

    /// Whether a host is meant, as it was written: a name, or an address with or without brackets.
    pub fn allows(&self, host: &str) -> bool {
        let (address, zone) = split_zone(host.trim_start_matches('[').trim_end_matches(']'));
        let address = address.parse::<IpAddr>().ok();
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        match (self, address.map(|address| address.to_canonical())) {
            (HostRule::Name(allowed), None) => *allowed == name,
            (HostRule::Below(domain), None) => name.len() > domain.len() && name.ends_with(domain.as_str()),
            (HostRule::Network(IpAddr::V4(network), bits), Some(IpAddr::V4(address))) => {
                let shift = 32 - bits;
                u32::from(*network).checked_shr(shift) == u32::from(address).checked_shr(shift)
            }
            (HostRule::Network(IpAddr::V6(network), bits), Some(IpAddr::V6(address))) => {
                is_in(address, *network, *bits)
            }
            // Interfaces are called as they are called.
            (HostRule::OnLink(network, bits, link), Some(IpAddr::V6(address))) => {
                zone == Some(link.as_str()) && is_in(address, *network, *bits)
            }
            _ => false,
        }
    }
}

fn is_in(address: Ipv6Addr, network: Ipv6Addr, bits: u32) -> bool {
    let shift = 128 - bits;
    u128::from(network).checked_shr(shift) == u128::from(address).checked_shr(shift)
}

/// Whether a list names a host. An empty list names all.
pub fn allowed(rules: &[HostRule], host: &str) -> bool {
    rules.is_empty() || rules.iter().any(|rule| rule.allows(host))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_taken_out_of_addresses_and_urls() {
        assert_eq!(split_zone("fe80::1%enP2p1s0"), ("fe80::1", Some("enP2p1s0")));
        for none in ["fe80::1", "fe80::1%", "cam%eth0", "fe80::1%a b", "fe80::1%0123456789abcdef", ""] {
            assert_eq!(split_zone(none), (none, None));
        }
        for (url, plain) in [
            ("rtsp://[fe80::1%eth0]:554/ch1", "rtsp://[fe80::1]:554/ch1"),
            ("rtsp://[fe80::1%25eth0]:554/ch1", "rtsp://[fe80::1]:554/ch1"),
            ("http://u:p%40[@[fe80::1%eth0]/a?b=[::1%25x]", "http://u:p%40[@[fe80::1]/a?b=[::1%25x]"),
        ] {
            assert_eq!(without_zone(url), (plain.into(), Some("eth0")));
        }
        for none in [
            "rtsp://[::1]/a",
            "rtsp://cam/[fe80::1%eth0]",
            "clip.mp4",
            "rtsp://[fe80::1%]/",
            "rtsp://[%eth0]/",
            "x://[é%é]",
        ] {
            assert_eq!(without_zone(none), (none.into(), None));
        }
    }

    #[test]
    fn hosts_are_allowed_by_name_domain_and_network() {
        let list = ["cam.local", "*.site.example", "10.1.0.0/16", "192.168.0.5", "fd00::/8", "0.0.0.0/32"];
        let rules: Vec<HostRule> = list.iter().map(|text| text.parse().unwrap()).collect();
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
            ("fd12::1%eth0", true),
            ("[::ffff:10.1.0.1]", true),
            ("10.1.0.1.evil.example", false),
        ] {
            assert_eq!(allowed(&rules, host), expected, "{host}");
        }
        let rules: Vec<HostRule> =
            ["fe80::1%eth0", "fe80::ab00%enP2p1s0/120"].iter().map(|text| text.parse().unwrap()).collect();
        for (host, expected) in [
            ("fe80::1%eth0", true),
            ("[FE80::1%eth0]", true),
            ("fe80::1%eth1", false),
            ("fe80::1%ETH0", false),
            ("fe80::1", false),
            ("fe80::2%eth0", false),
            ("fe80::abff%enP2p1s0", true),
            ("fe80::abff%eth0", false),
        ] {
            assert_eq!(allowed(&rules, host), expected, "{host}");
        }
        assert!(!rules[0].contains("fe80::1".parse().unwrap()), "which interface is not known");
        assert!("0.0.0.0/0".parse::<HostRule>().unwrap().allows("8.8.8.8"));
        for text in [
            "",
            "*",
            "*.",
            "*evil",
            "10.0.0.0/33",
            "a b",
            "a/8",
            "http://x",
            "fe80::1%",
            "fe80::1%a b",
            "fe80::1%eth0/129",
            "10.0.0.1%eth0",
            "cam%eth0",
        ] {
            assert!(text.parse::<HostRule>().is_err(), "{text}");
        }
    }
}
