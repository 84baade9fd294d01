//! Lists of hosts: who may be connected to, as the configuration names them.

use crate::error::{Error, Kind, Result};
use std::net::IpAddr;
use std::str::FromStr;

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
    pub fn contains(&self, address: IpAddr) -> bool {
        matches!(self, HostRule::Network(..)) && self.allows(&address.to_string())
    }

    /// Whether a host is meant, as it was written: a name, or an address with or without brackets.
    pub fn allows(&self, host: &str) -> bool {
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

/// Whether a list names a host. An empty list names all.
pub fn allowed(rules: &[HostRule], host: &str) -> bool {
    rules.is_empty() || rules.iter().any(|rule| rule.allows(host))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

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
}
