//! Reverse proxies in front of the HTTP listener: whose word about the client's address counts.

use std::net::IpAddr;
use std::rc::Rc;

use hyper::HeaderMap;

use super::audit::Caller;
use crate::hosts::HostRule;

/// What a proxy appends the address of its client to.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Entries of it that are looked at, from the nearest on: a chain of more proxies than this is none of ours.
const MAX_HOPS: usize = 16;

/// Addresses and networks of proxies that are trusted; by default none.
#[derive(Debug, Clone, Default)]
pub struct Proxies(Rc<[HostRule]>);

impl Proxies {
    /// These; names are of no use here, as nobody looks them up.
    pub fn new(rules: Vec<HostRule>) -> Proxies {
        Proxies(rules.into())
    }

    /// Whether `address` is one of them.
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|rule| rule.contains(address))
    }

    /// The client behind a trusted proxy: the nearest address that is not such a proxy itself. `None` where
    /// the connection's own address counts, because it is no trusted proxy's or because the proxy says
    /// nothing that can be read.
    ///
    /// What stands before that entry was written by the client, who may write anything.
    pub(super) fn client(&self, caller: &Caller, headers: &HeaderMap) -> Option<Caller> {
        caller.from.filter(|address| self.trusts(*address))?;
        let fields: Vec<&str> =
            headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect();
        let mut nearest = None;
        for entry in fields.iter().rev().flat_map(|field| field.rsplit(',')).take(MAX_HOPS) {
            let Some(address) = address(entry.trim()) else { break };
            nearest = Some(address);
            if !self.trusts(address) {
                break;
            }
        }
        nearest.map(|address| Caller { from: Some(address), ..caller.clone() })
    }
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    let plain = || text.parse::<IpAddr>().ok();
    let with_port = || text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    plain().or_else(with_port).or_else(bracketed).map(|address| address.to_canonical())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn seen(from: &str, fields: &[&str]) -> String {
        let proxies = Proxies::new(vec!["10.0.0.0/24".parse().unwrap(), "fd00::1".parse().unwrap()]);
        let caller = Caller { listener: "http", from: Some(from.parse().unwrap()), proved: None };
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(FORWARDED_FOR, field.parse().unwrap());
        }
        let client = proxies.client(&caller, &headers).unwrap_or(caller);
        client.from.unwrap().to_string()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed_and_only_what_it_wrote_itself() {
        for (from, fields, expected) in [
            ("10.0.0.7", &["192.0.2.1"][..], "192.0.2.1"),
            ("10.0.0.7", &["192.0.2.1:4711"], "192.0.2.1"),
            ("fd00::1", &["[2001:db8::1]:80"], "2001:db8::1"),
            ("10.0.0.7", &["::ffff:192.0.2.1"], "192.0.2.1"),
            // The client wrote the first one itself.
            ("10.0.0.7", &["203.0.113.9, 192.0.2.1"], "192.0.2.1"),
            ("10.0.0.7", &["203.0.113.9", "192.0.2.1"], "192.0.2.1"),
            // Two proxies in a row.
            ("10.0.0.7", &["203.0.113.9, 192.0.2.1, 10.0.0.8"], "192.0.2.1"),
            ("10.0.0.7", &["10.0.0.9, 10.0.0.8"], "10.0.0.9"),
            ("10.0.0.7", &["192.0.2.1, unknown"], "10.0.0.7"),
            ("10.0.0.7", &[""], "10.0.0.7"),
            ("10.0.0.7", &[], "10.0.0.7"),
            // Nobody whom we trust says so.
            ("10.0.1.7", &["192.0.2.1"], "10.0.1.7"),
        ] {
            assert_eq!(seen(from, fields), expected, "{from} {fields:?}");
        }
    }
}
