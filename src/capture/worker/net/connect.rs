//! The one place from which a worker connects to a camera.

use crate::error::{Error, Kind, Result};
use crate::resolve;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// One address of several is given so long before the next is tried: a name may have an IPv6 address that leads nowhere.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(3);

/// Most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// Connects to a host by name or address (IPv6 with or without its brackets). Whoever calls bounds the whole time.
///
/// Errors: `SourceConnection`.
pub(in crate::capture::worker) async fn connect(host: &str, port: u16) -> Result<TcpStream> {
    let failed = |cause: std::io::Error| Error::new(Kind::SourceConnection, "the camera cannot be reached").because(cause);
    let host = host.trim_matches(['[', ']']);
    let addresses: Vec<SocketAddr> = if resolve::is_localhost(host) {
        resolve::LOOPBACK.map(|address| SocketAddr::new(address, port)).to_vec()
    } else {
        let found = tokio::net::lookup_host((host, port)).await.map_err(|cause| {
            Error::new(Kind::SourceConnection, "the camera's name is not known to the name servers").because(cause)
        })?;
        found.take(MAX_ADDRESSES).collect()
    };
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    for (place, address) in addresses.iter().enumerate() {
        let attempt = TcpStream::connect(address);
        let result = match place + 1 == addresses.len() {
            true => attempt.await,
            false => timeout(ADDRESS_TIMEOUT, attempt).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())),
        };
        match result {
            Ok(stream) => {
                // Requests are small and wait for nobody.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_kinds_and_who_is_not_there() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for host in ["127.0.0.1", "[::1]", "::1", "localhost"] {
                let Ok(listener) = std::net::TcpListener::bind((
                    if host == "localhost" { "127.0.0.1" } else { host.trim_matches(['[', ']']) },
                    0,
                )) else {
                    println!("this machine has no IPv6");
                    continue;
                };
                let port = listener.local_addr().unwrap().port();
                connect(host, port).await.unwrap();
                drop(listener);
                assert_eq!(connect(host, port).await.unwrap_err().kind(), Kind::SourceConnection);
            }
        });
    }
}
