//! Headers of IP, TCP and UDP around what was sent and received. They are made up: a worker sees bytes and
//! datagrams, no packets.

use std::net::{IpAddr, SocketAddr};

/// Numbers of the protocols (RFC 9293, RFC 768).
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Time to live. Nothing came this way.
const HOPS: u8 = 64;

/// Room that both ends claim to have.
const WINDOW: u16 = u16::MAX;

/// Flags of a TCP segment.
pub(super) const SYN: u8 = 2;
pub(super) const ACK: u8 = 16;
pub(super) const PUSH: u8 = 8;
pub(super) const FIN: u8 = 1;

/// Who sends, and to whom.
pub(super) type Way = (SocketAddr, SocketAddr);

/// The headers of a TCP segment with so many bytes.
pub(super) fn tcp(way: Way, flags: u8, sequence: u32, acknowledged: u32, bytes: usize) -> Vec<u8> {
    let mut out = ip(way, TCP, 20 + bytes);
    ports(&mut out, way);
    out.extend_from_slice(&sequence.to_be_bytes());
    out.extend_from_slice(&acknowledged.to_be_bytes());
    // The header has five words; no checksum, nothing urgent.
    out.extend_from_slice(&[5 << 4, flags]);
    out.extend_from_slice(&WINDOW.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out
}

/// The headers of a datagram with so many bytes.
pub(super) fn udp(way: Way, bytes: usize) -> Vec<u8> {
    let mut out = ip(way, UDP, 8 + bytes);
    ports(&mut out, way);
    out.extend_from_slice(&length(8 + bytes).to_be_bytes());
    // No checksum.
    out.extend_from_slice(&[0; 2]);
    out
}

fn ports(out: &mut Vec<u8>, (from, to): Way) {
    out.extend_from_slice(&from.port().to_be_bytes());
    out.extend_from_slice(&to.port().to_be_bytes());
}

fn ip((from, to): Way, protocol: u8, bytes: usize) -> Vec<u8> {
    match (from.ip().to_canonical(), to.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let [high, low] = length(20 + bytes).to_be_bytes();
            let mut out = vec![0x45, 0, high, low, 0, 0, 0x40, 0, HOPS, protocol, 0, 0];
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
            let sum = checksum(&out).to_be_bytes();
            if let Some(place) = out.get_mut(10..12) {
                place.copy_from_slice(&sum);
            }
            out
        }
        (from, to) => {
            let [high, low] = length(bytes).to_be_bytes();
            let mut out = vec![0x60, 0, 0, 0, high, low, protocol, HOPS];
            for ip in [from, to] {
                let ip = match ip {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                    IpAddr::V6(ip) => ip,
                };
                out.extend_from_slice(&ip.octets());
            }
            out
        }
    }
}

/// What is longer than a packet can be does not get here.
fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or(u16::MAX)
}

/// Of an IPv4 header (RFC 791).
fn checksum(header: &[u8]) -> u16 {
    let words = header.chunks(2).map(|pair| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    });
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_both_kinds() {
        let way = ("192.168.0.1:40000".parse().unwrap(), "192.168.0.199:554".parse().unwrap());
        // The example of RFC 1071's checksum that every text has: 20 + 95 bytes of UDP.
        let header = udp(way, 87);
        assert_eq!(header[..10], [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11]);
        assert_eq!(header[10..12], [0xb8, 0x61]);
        assert_eq!(header[20..], [0x9c, 0x40, 0x02, 0x2a, 0, 95, 0, 0]);
        let way = ("[::1]:1".parse().unwrap(), "[::ffff:10.0.0.1]:2".parse().unwrap());
        let header = tcp(way, SYN | ACK, 7, 9, 3);
        assert_eq!((header.len(), &header[..8]), (60, &[0x60, 0, 0, 0, 0, 23, TCP, HOPS][..]));
        assert_eq!(header[40..56], [0, 1, 0, 2, 0, 0, 0, 7, 0, 0, 0, 9, 0x50, 18, 0xff, 0xff]);
    }
}
