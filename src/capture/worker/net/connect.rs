//! The one place from which a worker connects to a camera: the service does it, and hands the socket over.

use crate::capture::worker::dial;
use crate::error::{Error, Kind, Result};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// One address of several is given so long before the next is tried: a name may have an IPv6 address that
/// leads nowhere.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(3);

/// Most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// The thread that asks the service calls nothing deep; a worker's smallest memory is 16 MiB.
pub(in crate::capture::worker) const ASKING_STACK_BYTES: usize = 128 << 10;

/// Connects to a host by name or address (IPv6 with or without its brackets). Whoever calls bounds the whole
/// time.
///
/// Errors: `SourceConnection`.
pub(in crate::capture::worker) async fn connect(host: &str, port: u16) -> Result<TcpStream> {
    let name = host.trim_matches(['[', ']']).to_owned();
    // Name servers may take long, and meanwhile the parent wants to be heard.
    let found = tokio::task::spawn_blocking(move || dial::addresses(&name, port)).await;
    let mut addresses = found.map_err(|cause| unreachable(std::io::Error::other(cause)))??;
    addresses.truncate(MAX_ADDRESSES);
    let mut last = unreachable(std::io::ErrorKind::AddrNotAvailable.into());
    for (place, address) in addresses.iter().enumerate() {
        let attempt = async {
            let stream = TcpStream::from_std(dial::tcp(*address)?).map_err(unreachable)?;
            stream.writable().await.map_err(unreachable)?;
            match stream.take_error() {
                Ok(None) => Ok(stream),
                Ok(Some(cause)) | Err(cause) => Err(unreachable(cause)),
            }
        };
        let result = match place + 1 == addresses.len() {
            true => attempt.await,
            false => timeout(ADDRESS_TIMEOUT, attempt)
                .await
                .unwrap_or_else(|_| Err(unreachable(std::io::ErrorKind::TimedOut.into()))),
        };
        match result {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn unreachable(cause: std::io::Error) -> Error {
    Error::new(Kind::SourceConnection, "the camera cannot be reached").because(cause)
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
