//! 301 and 302: retina reports them as errors and keeps the Location to itself, so we ask once more and read it.

use super::DEFAULT_PORT;
use super::address::Address;
use crate::error::{Error, Kind, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Most redirects in a row. Load balancers use one.
const MAX_HOPS: u32 = 3;

/// Longest head of a response that is looked at, bytes.
const MAX_HEAD_BYTES: u64 = 8 * 1024;

/// Where `address` redirects to. The caller bounds the time.
pub(super) async fn follow(address: &Address, hops: u32, user_agent: &str) -> Result<Address> {
    if hops > MAX_HOPS {
        return Err(Error::new(Kind::SourceConnection, format!("redirected more than {MAX_HOPS} times")));
    }
    let failed = |cause: std::io::Error| Error::new(Kind::SourceConnection, "following a redirect failed").because(cause);
    let host = address.url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let mut connection = TcpStream::connect((host, address.url.port().unwrap_or(DEFAULT_PORT))).await.map_err(failed)?;
    let request =
        format!("DESCRIBE {} RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: {user_agent}\r\nAccept: application/sdp\r\n\r\n", address.url);
    connection.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut head = Vec::new();
    let mut limited = connection.take(MAX_HEAD_BYTES);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if limited.read_buf(&mut head).await.map_err(failed)? == 0 {
            break;
        }
    }
    let location = location(&head).ok_or_else(|| Error::new(Kind::SourceConnection, "redirected without saying where to"))?;
    address.redirected(location)
}

/// The Location of a response with status 301 or 302.
fn location(head: &[u8]) -> Option<&str> {
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?;
    if !matches!(status, "301" | "302") {
        return None;
    }
    lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("location"))
        .map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_location_is_found_only_in_a_redirects_head() {
        let head = b"RTSP/1.0 302 Moved\r\nCSeq: 1\r\nlocation:  rtsp://other/a \r\n\r\nLocation: rtsp://body/";
        assert_eq!(location(head), Some("rtsp://other/a"));
        assert_eq!(location(b"RTSP/1.0 200 OK\r\nLocation: rtsp://other/a\r\n\r\n"), None);
        assert_eq!(location(b"RTSP/1.0 301 Moved\r\n\r\nLocation: rtsp://body/"), None);
        assert_eq!(location(b"\xff\xfe"), None);
    }
}
