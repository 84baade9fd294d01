//! The `Transport` and `Session` of an answer to SETUP, as cameras write them, and the ports of RTP over UDP.

use crate::capture::worker::dial;
use crate::error::{Result, system};
use std::io;
use std::net::{IpAddr, SocketAddr};
use tokio::net::UdpSocket;

/// Seconds that a session lives without a sign of life where the camera does not say (RFC 2326 §12.37).
pub(super) const SESSION_TIMEOUT_S: u32 = 60;

/// Longest session timeout that is passed on, seconds.
const MAX_SESSION_TIMEOUT_S: u32 = 24 * 3600;

/// Longest session id that is believed, bytes.
const MAX_SESSION_BYTES: usize = 256;

/// Room for datagrams that come while a picture is decoded, bytes; the kernel may give less.
const RECEIVE_BUFFER_BYTES: usize = 2 << 20;

/// What a `Transport` says. What it does not say, or not so that it can be read, is as it was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Transport {
    /// Channel of RTP on the RTSP connection; RTCP has the next one.
    pub(super) channel: Option<u8>,
    /// Where the camera's RTP comes from.
    pub(super) server_port: Option<u16>,
}

impl Transport {
    pub(super) fn parse(text: &str) -> Transport {
        let mut transport = Transport::default();
        for (name, value) in text.split(';').filter_map(|part| part.split_once('=')) {
            let first: String =
                value.trim().trim_matches('"').chars().take_while(char::is_ascii_digit).collect();
            match name.trim().to_ascii_lowercase().as_str() {
                "interleaved" => transport.channel = first.parse().ok().filter(|channel| *channel < u8::MAX),
                "server_port" => transport.server_port = first.parse().ok().filter(|port| *port > 0),
                _ => {}
            }
        }
        transport
    }
}

/// Id and timeout (seconds) of a `Session`; `None`: there is no id.
pub(super) fn session(text: &str) -> Option<(String, u32)> {
    let mut parts = text.split(';').map(str::trim);
    let id = parts.next().filter(|id| !id.is_empty() && id.len() <= MAX_SESSION_BYTES)?;
    if !id.chars().all(|c| c.is_ascii_graphic()) {
        return None;
    }
    let timeout = parts
        .filter_map(|part| part.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("timeout"))
        .and_then(|(_, value)| {
            value.trim().chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
        })
        .filter(|seconds| *seconds > 0);
    Some((id.to_owned(), timeout.unwrap_or(SESSION_TIMEOUT_S).min(MAX_SESSION_TIMEOUT_S)))
}

/// Two sockets on ports that follow each other, an even one for RTP and the next for RTCP.
pub(super) struct Ports {
    pub(super) rtp: UdpSocket,
    pub(super) rtcp: UdpSocket,
    /// Number of the port of RTP; RTCP has the next one.
    pub(super) number: u16,
    /// Only what comes from there is looked at.
    peer: IpAddr,
}

impl Ports {
    /// Ports that face a camera, from the service.
    pub(super) fn open(peer: IpAddr) -> Result<Ports> {
        let failed = |cause| system("opening the ports of RTP")(cause);
        let sockets = dial::udp_pair(peer)?;
        let number = sockets[0].local_addr().map_err(failed)?.port();
        let [rtp, rtcp] = sockets.map(|socket| -> io::Result<UdpSocket> {
            socket.set_nonblocking(true)?;
            let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER_BYTES);
            UdpSocket::from_std(socket)
        });
        Ok(Ports {
            rtp: rtp.map_err(failed)?,
            rtcp: rtcp.map_err(failed)?,
            number,
            peer: peer.to_canonical(),
        })
    }

    /// Has a packet of each kind sent that means nothing: a firewall on the way learns that answers are
    /// welcome.
    pub(super) fn punch_hole(&self, server_port: u16) {
        dial::udp_hole_punch(self.number, SocketAddr::new(self.peer, server_port));
    }

    /// Whether a datagram is the camera's.
    pub(super) fn is_from_peer(&self, from: SocketAddr) -> bool {
        from.ip().to_canonical() == self.peer
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn transports_as_cameras_write_them() {
        let of = |text: &str| {
            let Transport { channel, server_port } = Transport::parse(text);
            (channel, server_port)
        };
        assert_eq!(of("RTP/AVP/TCP;unicast;interleaved=0-1"), (Some(0), None));
        assert_eq!(of("RTP/AVP/TCP; unicast; Interleaved = 4 - 5; mode=\"PLAY\""), (Some(4), None));
        assert_eq!(of("RTP/AVP;unicast;client_port=1-2;server_port=5000"), (None, Some(5000)));
        assert_eq!(of("RTP/AVP/TCP;unicast"), (None, None));
        assert_eq!(of("interleaved=255-256;server_port=0-1;interleaved;=;server_port=x"), (None, None));
    }

    #[test]
    fn sessions_as_cameras_write_them() {
        assert_eq!(session("12345678"), Some(("12345678".into(), 60)));
        assert_eq!(session("  ab-1 ; Timeout = 30 s"), Some(("ab-1".into(), 30)));
        assert_eq!(session("a;timeout=0"), Some(("a".into(), 60)));
        assert_eq!(session("a;timeout=99999999999"), Some(("a".into(), 60)));
        assert_eq!(session(";timeout=5"), None);
        assert_eq!(session("a b"), None);
    }

    #[test]
    fn ports_follow_each_other() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let local: IpAddr = "127.0.0.1".parse().unwrap();
            let ports = Ports::open(local).unwrap();
            assert_eq!(ports.number % 2, 0);
            assert_eq!(ports.rtcp.local_addr().unwrap().port(), ports.number + 1);
            assert!(
                ports.is_from_peer("127.0.0.1:9".parse().unwrap())
                    && !ports.is_from_peer("127.0.0.2:9".parse().unwrap())
            );
        });
    }
}
