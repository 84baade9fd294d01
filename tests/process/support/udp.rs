//! Receives the datagrams of a pipeline.

use super::{Json, PATIENCE};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

/// The longest datagram that UDP over IPv4 can carry.
const MAX_DATAGRAM_BYTES: usize = 65_507;

/// A socket on a free port of the loopback.
pub struct Receiver(UdpSocket);

impl Receiver {
    pub fn new() -> Receiver {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free UDP port");
        Receiver(socket)
    }

    pub fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    /// The next datagram's text.
    #[track_caller]
    pub fn text(&self) -> String {
        self.text_within(PATIENCE).expect("a datagram in time")
    }

    /// The next datagram.
    #[track_caller]
    pub fn next(&self) -> Json {
        Json::parse(&self.text())
    }

    /// The next datagram's text, or `None` when none comes in time.
    pub fn text_within(&self, patience: Duration) -> Option<String> {
        self.0.set_read_timeout(Some(patience)).unwrap();
        let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
        let length = self.0.recv(&mut buffer).ok()?;
        buffer.truncate(length);
        Some(String::from_utf8(buffer).expect("datagrams are ASCII"))
    }

    /// How many datagrams arrive within `time`.
    pub fn count_for(&self, time: Duration) -> usize {
        let end = Instant::now() + time;
        let mut count = 0;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            count += usize::from(self.text_within(left).is_some());
        }
        count
    }

    /// Throws away what has already arrived.
    pub fn drain(&self) {
        while self.text_within(Duration::from_millis(1)).is_some() {}
    }
}
