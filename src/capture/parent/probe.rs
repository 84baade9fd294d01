//! Whether somebody answers at a source's address: cheap enough to ask often, while attempts to open it are
//! rare.
//!
//! Runs in the service itself, on its event loop, and therefore reads a single byte: what a camera says is
//! for workers.

use crate::capture::network::{Named, Network};
use crate::capture::place::{self, Place};
use crate::clock::within;
use crate::command::SourceReference;
use crate::resolve;
use async_net::TcpStream;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use std::net::SocketAddr;
use std::time::Duration;

/// From connecting to the first byte of an answer, at most. Cameras that are up need milliseconds.
const PATIENCE: Duration = Duration::from_millis(700);

/// Where to ask, and what to say there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    host: String,
    port: u16,
    greeting: String,
}

impl Probe {
    /// The probe of a source that can be probed: `rtsp://` and `http://`. Files and devices have none; nor
    /// have `rtsps://` and `https://`, where a handshake would be needed to learn as much.
    pub fn of(reference: &SourceReference) -> Option<Probe> {
        let (text, scheme, request) = match Place::of(reference) {
            Place::Rtsp(url) => (url, "rtsp", "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n"),
            Place::Http(url) => (url, "http", "HEAD / HTTP/1.1\r\nConnection: close\r\n"),
            Place::Device(_) | Place::File(_) | Place::Loop(_) | Place::Unknown(_) => return None,
        };
        let (url, _) = place::split(&text).filter(|(url, _)| url.scheme() == scheme)?;
        let (host, port) = place::server(&text)?;
        let named = url.host_str()?;
        Some(Probe {
            host,
            port,
            // Neither path nor credentials: this is no attempt to come in, and no camera can count it as one.
            greeting: format!("{request}Host: {named}\r\n\r\n"),
        })
    }

    /// The address by now; `None`: nobody knows, or it lies where `network` lets no source go. Takes as long
    /// as the machine's name servers take, and a thread meanwhile, also when it is not waited for: ask again
    /// only after an answer.
    pub async fn resolve(&self, network: &Network) -> Option<SocketAddr> {
        let camera = Named::new(&self.host, self.port);
        let found = resolve::lookup(&self.host, self.port).await.ok()?;
        found.into_iter().find(|address| network.refusal(&camera, &camera.host, *address).is_none())
    }

    /// Asks once, at what [`Probe::resolve`] found.
    pub async fn answers(&self, place: SocketAddr) -> bool {
        let asked = async {
            let mut connection = TcpStream::connect(place).await.ok()?;
            connection.write_all(self.greeting.as_bytes()).await.ok()?;
            connection.read(&mut [0]).await.ok().filter(|bytes| *bytes > 0)
        };
        within(PATIENCE, asked).await.flatten().is_some()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    fn probe(reference: &str) -> Option<Probe> {
        Probe::of(&SourceReference::Text(reference.into()))
    }

    #[test]
    fn probes_go_where_the_reference_says_and_tell_no_secret() {
        let found = probe("rtsp://u:secret@cam/ch1?token=secret").unwrap();
        assert_eq!((found.host.as_str(), found.port), ("cam", 554));
        assert!(!found.greeting.contains("secret") && found.greeting.starts_with("OPTIONS * RTSP/1.0\r\n"));
        let found = probe("http://[::1]:8081/a.jpg").unwrap();
        assert_eq!((found.host.as_str(), found.port), ("::1", 8081));
        let found = probe("rtsp://[fe80::1%eth0]/a").unwrap();
        assert_eq!((found.host.as_str(), found.port), ("fe80::1%eth0", 554));
        assert!(found.greeting.contains("Host: [fe80::1]\r\n"));
        for none in
            ["clip.mp4", "file:///a.mp4", "/dev/video0", "https://cam/a.jpg", "rtsps://cam/a", "gopher://x/"]
        {
            assert_eq!(probe(none), None, "{none}");
        }
    }

    #[test]
    fn only_an_answer_is_an_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let probe = probe(&format!("rtsp://localhost:{}/cam", address.port())).unwrap();
        assert_eq!(
            smol::block_on(probe.resolve(&Network::default())).map(|place| place.port()),
            Some(address.port())
        );
        // Accepted by the kernel, answered by nobody: a camera that hangs.
        assert!(!smol::block_on(probe.answers(address)));
        let server = std::thread::spawn(move || {
            for _ in 0..2 {
                let (mut connection, _) = listener.accept().unwrap();
                let _ = connection.read(&mut [0; 256]);
                let _ = connection.write_all(b"RTSP/1.0 200 OK\r\n\r\n");
            }
        });
        assert!(smol::block_on(probe.answers(address)));
        server.join().unwrap();
        assert!(!smol::block_on(probe.answers(address)), "a closed port");
    }
}
