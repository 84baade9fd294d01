//! Host names become addresses here.
//!
//! `localhost` and every name below it are this machine, whatever a resolver or `/etc/hosts` says or whether
//! there are any (RFC 6761 §6.3): images without `/etc/hosts` (containers, an initramfs) reach their own
//! services too.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

/// The addresses of the loopback interface in the order in which they are tried. IPv4 first, as the
/// reference's clients and servers listen there.
pub const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Whether a name is `localhost` or below it, in any case, with or without the dot of the root.
pub fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let last = name.rsplit('.').next().unwrap_or(name);
    last.eq_ignore_ascii_case("localhost")
}

/// The addresses of `host`, a name or an address (IPv6 with or without brackets). Asks the system's resolver,
/// which takes as long as its servers take: not for the event loop, where [`lookup`] is.
pub fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if is_localhost(host) {
        return Ok(LOOPBACK.map(|address| SocketAddr::new(address, port)).to_vec());
    }
    // The one place: clippy.toml forbids it elsewhere, where `localhost` would depend on a file.
    #[expect(clippy::disallowed_methods)]
    Ok((host, port).to_socket_addrs()?.collect())
}

/// Connects to the first address of `host` that answers, each within `timeout`: not for the event loop.
pub fn connect(host: &str, port: u16, timeout: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses(host, port)? {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => return Ok(stream),
            Err(cause) => last = cause,
        }
    }
    Err(last)
}

/// [`addresses`] for the event loop: a thread waits meanwhile, also when the answer is no longer waited for.
pub async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let host = host.to_owned();
    smol::unblock(move || addresses(&host, port)).await
}

/// ureq's resolver, except for `localhost`.
#[derive(Debug, Default)]
pub struct HttpResolver(ureq::unversioned::resolver::DefaultResolver);

impl ureq::unversioned::resolver::Resolver for HttpResolver {
    fn resolve(
        &self,
        uri: &ureq::http::Uri,
        config: &ureq::config::Config,
        timeout: ureq::unversioned::transport::NextTimeout,
    ) -> Result<ureq::unversioned::resolver::ResolvedSocketAddrs, ureq::Error> {
        let Some(host) = uri.host().filter(|host| is_localhost(host)) else {
            return self.0.resolve(uri, config, timeout);
        };
        let default_port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let mut found = self.empty();
        for address in addresses(host, uri.port_u16().unwrap_or(default_port))? {
            found.push(address);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn localhost_and_what_lies_below_it_need_no_resolver() {
        for name in ["localhost", "LocalHost", "localhost.", "cam.localhost", "a.b.LOCALHOST."] {
            assert!(is_localhost(name), "{name}");
            let found = addresses(name, 554).unwrap();
            assert_eq!(found, ["127.0.0.1:554".parse().unwrap(), "[::1]:554".parse().unwrap()], "{name}");
        }
        for name in ["localhost.example.com", "mylocalhost", "localhost..", "", "127.0.0.1"] {
            assert!(!is_localhost(name), "{name}");
        }
    }

    #[test]
    fn addresses_are_taken_as_they_are() {
        assert_eq!(addresses("192.0.2.7", 80).unwrap(), ["192.0.2.7:80".parse().unwrap()]);
        for host in ["::1", "[::1]"] {
            assert_eq!(addresses(host, 80).unwrap(), ["[::1]:80".parse().unwrap()]);
        }
    }
}
