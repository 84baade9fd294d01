//! A client of the HTTP listener, small enough to see every byte.

use super::{Json, PATIENCE};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

/// What came back.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub fn json(&self) -> Json {
        Json::parse(&self.body)
    }
}

/// Connects with deadlines set.
#[track_caller]
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the HTTP listener accepts");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// The next request on a connection that stays open: sends `bytes`, reads one response.
#[track_caller]
pub fn next(connection: &mut (impl std::io::Read + std::io::Write), bytes: &[u8]) -> Response {
    connection.write_all(bytes).expect("the request is taken");
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return parse(&answer);
            }
        }
        let count = connection.read(&mut chunk).expect("an answer");
        assert!(count > 0, "closed after {text:?}");
        answer.extend_from_slice(&chunk[..count]);
    }
}

/// One request on a connection of its own.
#[track_caller]
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Response {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || method == "POST" {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    let mut bytes = (head + "\r\n").into_bytes();
    bytes.extend_from_slice(body);
    parse(&exchange(address, &bytes))
}

/// Any bytes; whatever comes back until the server closes.
#[track_caller]
pub fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    stream.write_all(bytes).expect("the request is taken");
    let mut answer = Vec::new();
    // A reset after the answer is the server's right when it did not read all of a request it refused.
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// Takes a response apart. The service always sends `content-length`, so no chunks here.
#[track_caller]
pub fn parse(bytes: &[u8]) -> Response {
    let text = std::str::from_utf8(bytes).expect("a response of text");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response: {text:?}"));
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let is_chunked = headers
        .iter()
        .any(|(name, value)| name == "transfer-encoding" && value.eq_ignore_ascii_case("chunked"));
    let body = if is_chunked { unchunked(body) } else { body.to_owned() };
    Response { status: status.unwrap_or_else(|| panic!("no status: {head}")), headers, body }
}

/// A body that came in chunks: each with its length in hexadecimal before it, the last of length 0.
fn unchunked(mut rest: &str) -> String {
    let mut body = String::new();
    // A head alone was asked for, where there is nothing behind it.
    while !rest.is_empty() {
        let (length, after) = rest.split_once("\r\n").unwrap_or_else(|| panic!("no chunk: {rest:?}"));
        let length = usize::from_str_radix(length.split(';').next().unwrap_or_default().trim(), 16)
            .expect("a chunk's length");
        if length == 0 {
            return body;
        }
        body.push_str(after.get(..length).expect("a whole chunk"));
        rest = after.get(length + 2..).unwrap_or_default();
    }
    body
}
