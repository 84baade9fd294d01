//! Which addresses a source may be connected to.
//!
//! A reference names its camera. Everything else that leads to an address (what a name resolves to, where a
//! camera redirects to) is the word of a stranger: it is held against `sources.hosts`, and it never leads
//! into this machine.

use crate::hosts::{HostRule, split_zone};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// What the configuration and the machine say about it.
#[derive(Debug, Clone, Default)]
pub struct Network {
    /// `sources.hosts`; empty: any host.
    pub hosts: Vec<HostRule>,
    /// Where the service itself listens.
    pub listeners: Vec<SocketAddr>,
}

/// What a reference names, in so many words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::capture) struct Named {
    /// Lower case but for a zone, an IPv6 address without brackets.
    pub(in crate::capture) host: String,
    pub(in crate::capture) port: u16,
}

impl Named {
    /// `host` as a URL has it.
    pub(in crate::capture) fn new(host: &str, port: u16) -> Named {
        let mut host = host.trim_matches(['[', ']']).to_owned();
        let (name, _) = split_zone(&host);
        let length = name.len();
        // Interfaces are called as they are called.
        host.get_mut(..length).unwrap_or_default().make_ascii_lowercase();
        Named { host, port }
    }

    /// Whether it names this very address: as an address, or as `localhost`.
    fn names(&self, address: IpAddr) -> bool {
        match split_zone(&self.host).0.parse::<IpAddr>() {
            Ok(named) => named.to_canonical() == address,
            Err(_) => crate::resolve::is_localhost(&self.host) && address.is_loopback(),
        }
    }
}

impl Network {
    /// Why `host` (the camera's own, or one that it redirected to) must not lead to `address`; `None`: it
    /// may.
    pub(in crate::capture) fn refusal(
        &self,
        camera: &Named,
        host: &str,
        address: SocketAddr,
    ) -> Option<String> {
        let ip = address.ip().to_canonical();
        if !camera.names(ip)
            && let Some(kind) = reserved(ip)
        {
            return Some(format!("{ip} is {kind}: only a video_reference that names it leads there"));
        }
        let is_named_listener = camera.names(ip) && camera.port == address.port();
        if !is_named_listener && self.is_listener(ip, address.port()) {
            return Some(format!("{address} is a port of weir itself"));
        }
        let is_allowed = |text: &str| self.hosts.iter().any(|rule| rule.allows(text));
        if !self.hosts.is_empty() && !is_allowed(host) && !is_allowed(&ip.to_string()) {
            return Some(format!("{ip} is not among the hosts of sources.hosts"));
        }
        None
    }

    fn is_listener(&self, ip: IpAddr, port: u16) -> bool {
        self.listeners.iter().any(|listener| {
            let listens = listener.ip().to_canonical();
            // A listener at all addresses (IPv6: those of IPv4 too) is at each that this machine has; asking
            // the kernel which it has costs one socket.
            let at_all = listens.is_unspecified() && (listens.is_ipv6() || ip.is_ipv4());
            listener.port() == port && (listens == ip || (at_all && is_of_this_machine(ip)))
        })
    }
}

/// Addresses that are no place for a camera, and what they are.
fn reserved(ip: IpAddr) -> Option<&'static str> {
    let is_link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    match ip {
        // A connection to 0.0.0.0 arrives at the loopback interface.
        _ if ip.is_loopback() || ip.is_unspecified() => Some("a loopback address"),
        _ if is_link_local => Some("a link-local address"),
        _ if ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) => Some("no address of a host"),
        _ => None,
    }
}

/// Only an address of this machine can be bound to.
fn is_of_this_machine(ip: IpAddr) -> bool {
    ip.is_loopback() || ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED) || UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn network(hosts: &[&str], listeners: &[&str]) -> Network {
        Network {
            hosts: hosts.iter().map(|text| text.parse().unwrap()).collect(),
            listeners: listeners.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn strangers_words_never_lead_into_this_machine() {
        let network = network(&[], &["0.0.0.0:8080"]);
        let camera = Named::new("cam.example", 554);
        let refused = |camera: &Named, host: &str, address: &str| {
            network.refusal(camera, host, address.parse().unwrap())
        };
        for address in [
            "127.0.0.1:22",
            "127.8.8.8:554",
            "0.0.0.0:554",
            "[::1]:554",
            "[::]:554",
            "[::ffff:127.0.0.1]:554",
            "169.254.169.254:80",
            "[fe80::1]:554",
            "224.0.0.1:554",
            "255.255.255.255:554",
        ] {
            assert!(refused(&camera, "cam.example", address).is_some(), "{address}");
            assert!(refused(&camera, "other.example", address).is_some(), "{address}");
        }
        assert_eq!(refused(&camera, "cam.example", "192.0.2.7:554"), None);
        assert_eq!(
            refused(&camera, "other.example", "192.0.2.8:8554"),
            None,
            "a redirect, and any host is allowed"
        );
        // The reference names it.
        for (host, address) in [
            ("127.0.0.1", "127.0.0.1:8554"),
            ("localhost", "[::1]:8554"),
            ("cam.localhost", "127.0.0.1:554"),
            ("[::1]", "[::1]:554"),
            ("169.254.3.4", "169.254.3.4:554"),
            ("FE80::1%Eth0", "[fe80::1%3]:554"),
        ] {
            assert_eq!(refused(&Named::new(host, 554), host, address), None, "{host}");
        }
        assert!(refused(&Named::new("127.0.0.1", 554), "127.0.0.1", "127.0.0.2:554").is_some());
        assert!(refused(&Named::new("localhost", 554), "evil.example", "169.254.169.254:80").is_some());
        // Our own listener, unless it is what was named.
        assert!(refused(&Named::new("127.0.0.1", 554), "127.0.0.1", "127.0.0.1:8080").is_some());
        assert!(
            refused(&Named::new("localhost", 554), "localhost", "[::1]:8080").is_none(),
            "nobody listens on IPv6"
        );
        assert_eq!(refused(&Named::new("127.0.0.1", 8080), "127.0.0.1", "127.0.0.1:8080"), None);
    }

    #[test]
    fn every_address_obeys_the_list() {
        let network = network(&["10.0.0.0/8", "cam.example"], &[]);
        let refused = |host: &str, address: &str| {
            network.refusal(&Named::new("cam.example", 554), host, address.parse().unwrap()).is_some()
        };
        assert!(!refused("cam.example", "192.0.2.1:554"), "the name itself is listed");
        assert!(!refused("other.example", "10.2.3.4:554"), "its address is");
        assert!(refused("other.example", "192.0.2.1:554"));
        assert!(refused("192.0.2.1", "192.0.2.1:554"));
        let network = self::network(&["fe80::1%eth0"], &[]);
        let refused_on = |host: &str| {
            network.refusal(&Named::new(host, 554), host, "[fe80::1%3]:554".parse().unwrap()).is_some()
        };
        assert!(!refused_on("fe80::1%eth0") && refused_on("fe80::1%eth1"), "an interface is listed, too");
        assert!(refused("cam.example", "127.0.0.1:554"), "a listed name may be made to point anywhere");
    }
}
