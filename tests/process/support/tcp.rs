//! A client of the TCP listener: 4 bytes of length, then JSON, both ways.

use super::{Json, PATIENCE};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

/// Connects with deadlines set.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the TCP listener accepts");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Connects from `source`, an address of the loopback network that is not 127.0.0.1: to the service, another
/// machine.
pub fn connect_from(source: Ipv4Addr, address: SocketAddr) -> TcpStream {
    let socket =
        socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("a socket");
    bind(&socket, &SocketAddr::from((source, 0))).expect("an address of the loopback network");
    rustix::net::connect(&socket, &address).expect("the listener accepts");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// One command, one reply.
#[track_caller]
pub fn command(address: SocketAddr, request: &Json) -> Json {
    Json::parse(&exchange(address, &frame(request.to_string().as_bytes())))
}

/// Any bytes, one reply: its text without the length header.
#[track_caller]
pub fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(address);
    stream.write_all(bytes).expect("the request is taken");
    read_reply(&mut stream)
}

/// Reads one framed reply and checks that the server then closes.
#[track_caller]
pub fn read_reply(stream: &mut impl std::io::Read) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("the server answers and closes");
    let (header, body) =
        bytes.split_at_checked(4).unwrap_or_else(|| panic!("a reply of {} bytes", bytes.len()));
    assert_eq!(
        u32::from_be_bytes(header.try_into().unwrap()) as usize,
        body.len(),
        "the length header is the length"
    );
    String::from_utf8(body.to_vec()).expect("replies are ASCII")
}

/// A message with its length before it.
pub fn frame(message: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(message.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(message);
    bytes
}
