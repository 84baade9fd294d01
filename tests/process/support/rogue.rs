//! Servers that behave badly: one connection, one thread, one way of misbehaving.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A server that answers as `serve` does, each connection on a thread of its own.
pub struct Server {
    pub port: u16,
    over: Arc<AtomicBool>,
}

impl Server {
    /// `serve` is given the connection and the server's own port.
    pub fn start(
        serve: impl Fn(&mut TcpStream, u16) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Server {
        Server::start_on(0, serve)
    }

    /// The same on a port of the caller's choice.
    pub fn start_on(
        port: u16,
        serve: impl Fn(&mut TcpStream, u16) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let over = Arc::new(AtomicBool::new(false));
        let (ended, serve) = (Arc::clone(&over), Arc::new(serve));
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(mut connection), serve) = (connection, Arc::clone(&serve)) else { continue };
                std::thread::spawn(move || {
                    let _ = serve(&mut connection, port);
                    // Silent, but open, until the client leaves.
                    let _ = std::io::copy(&mut connection, &mut std::io::sink());
                });
            }
        });
        Server { port, over }
    }

    pub fn rtsp(&self) -> String {
        format!("rtsp://127.0.0.1:{}/cam", self.port)
    }

    pub fn http(&self) -> String {
        format!("http://127.0.0.1:{}/video", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// The head of one request.
pub struct Asked {
    pub method: String,
    pub head: String,
}

impl Asked {
    /// What a header says; the name in the spelling of the client.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub fn cseq(&self) -> &str {
        self.header("CSeq").unwrap_or("0")
    }
}

/// Reads one request, of RTSP or HTTP. Interleaved packets of the client (RTCP) are passed over.
pub fn request(connection: &mut TcpStream) -> std::io::Result<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if connection.read(&mut byte)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if head.is_empty() && byte == *b"$" {
            let mut interleaved = [0; 3];
            connection.read_exact(&mut interleaved)?;
            let length = u64::from(u16::from_be_bytes([interleaved[1], interleaved[2]]));
            std::io::copy(&mut connection.take(length), &mut std::io::sink())?;
            continue;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    Ok(Asked { method: head.split(' ').next().unwrap_or_default().to_owned(), head })
}

const SDP: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
    a=fmtp:96 packetization-mode=1;sprop-parameter-sets=Z0LAHtkDxWhAAAADAEAAAAwDxYuS,aMuMsg==\r\na=control:track1\r\n";

/// A good answer to DESCRIBE.
pub fn described(cseq: &str) -> String {
    let length = SDP.len();
    format!(
        "RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\nContent-Type: application/sdp\r\nContent-Length: {length}\r\n\r\n{SDP}"
    )
}

/// Answers everything properly up to and with PLAY.
pub fn handshake(connection: &mut TcpStream) -> std::io::Result<()> {
    loop {
        let asked = request(connection)?;
        let rest = match asked.method.as_str() {
            "DESCRIBE" => {
                connection.write_all(described(asked.cseq()).as_bytes())?;
                continue;
            }
            "SETUP" => "Transport: RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=00000001\r\n",
            "PLAY" => "RTP-Info: url=track1;seq=0;rtptime=0\r\n",
            _ => "",
        };
        write!(connection, "RTSP/1.0 200 OK\r\nCSeq: {}\r\nSession: 1\r\n{rest}\r\n", asked.cseq())?;
        if asked.method == "PLAY" {
            return Ok(());
        }
    }
}

/// One RTP packet of payload type 96 in an interleaved frame. `time` counts 90 000 to the second.
pub fn rtp(sequence: u16, time: u32, marker: bool, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(12 + payload.len()).unwrap().to_be_bytes();
    let mut packet = vec![b'$', 0, length[0], length[1], 0x80, 96 | (u8::from(marker) << 7)];
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&time.to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0, 1]);
    packet.extend_from_slice(payload);
    packet
}

/// A way for an RTSP or HTTP server to be a nuisance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Accepts and says nothing.
    Silent,
    /// Plays, and then says nothing.
    SilentAfterPlay,
    /// One byte of its answer every 50 ms.
    Drips,
    /// Announces a body of 4 GB and sends on and on.
    HugeBody,
    /// Header lines without end.
    EndlessHeaders,
    /// One header line without end.
    EndlessLine,
    /// Fragments of one NAL unit without end.
    EndlessFragments,
    /// NAL units of one picture without end.
    EndlessUnits,
    /// Redirects to itself.
    Redirects,
    /// Closes in the middle of its answer.
    Closes,
    /// Neither RTSP nor HTTP.
    Noise,
}

impl Mode {
    /// What an RTSP server can do.
    pub const RTSP: [Mode; 11] = [
        Mode::Silent,
        Mode::SilentAfterPlay,
        Mode::Drips,
        Mode::HugeBody,
        Mode::EndlessHeaders,
        Mode::EndlessLine,
        Mode::EndlessFragments,
        Mode::EndlessUnits,
        Mode::Redirects,
        Mode::Closes,
        Mode::Noise,
    ];

    /// What a server of Motion JPEG can do. Its fragments and units are lines of a part and headers of a
    /// part.
    pub const HTTP: [Mode; 11] = Mode::RTSP;

    pub fn rtsp(self, connection: &mut TcpStream, port: u16) -> std::io::Result<()> {
        match self {
            Mode::Silent => Ok(()),
            Mode::SilentAfterPlay => handshake(connection),
            Mode::Redirects => {
                let asked = request(connection)?;
                let cseq = asked.cseq();
                write!(
                    connection,
                    "RTSP/1.0 302 Moved\r\nCSeq: {cseq}\r\nLocation: rtsp://127.0.0.1:{port}/again\r\n\r\n"
                )
            }
            Mode::EndlessFragments => endless_media(connection, &[0x7c, 0x05]),
            Mode::EndlessUnits => endless_media(connection, &[0x01]),
            _ => {
                let asked = request(connection)?;
                let head =
                    format!("RTSP/1.0 200 OK\r\nCSeq: {}\r\nContent-Type: application/sdp\r\n", asked.cseq());
                self.answer(connection, &head)
            }
        }
    }

    pub fn http(self, connection: &mut TcpStream, port: u16) -> std::io::Result<()> {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=b\r\n";
        if self == Mode::Silent {
            return Ok(());
        }
        request(connection)?;
        match self {
            Mode::SilentAfterPlay => write!(connection, "{head}\r\n--b\r\n"),
            Mode::Redirects => {
                write!(
                    connection,
                    "HTTP/1.1 302 Moved\r\nLocation: http://127.0.0.1:{port}/again\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )?;
                connection.shutdown(Shutdown::Both)
            }
            Mode::HugeBody => {
                write!(connection, "{head}\r\n--b\r\nContent-Length: 4000000000\r\n\r\n")?;
                endless(connection, b"x")
            }
            Mode::EndlessFragments => {
                write!(connection, "{head}\r\n--b\r\n\r\n")?;
                endless(connection, b"no boundary in this line\r\n")
            }
            Mode::EndlessUnits => {
                write!(connection, "{head}\r\n--b\r\n")?;
                endless(connection, b"A: b\r\n")
            }
            _ => self.answer(connection, head),
        }
    }

    /// The modes that need no protocol: what follows `head`.
    fn answer(self, connection: &mut TcpStream, head: &str) -> std::io::Result<()> {
        match self {
            Mode::Drips => {
                for byte in head.as_bytes().iter().chain(b"X: ").chain(std::iter::repeat(&b'x')) {
                    connection.write_all(&[*byte])?;
                    // The drip itself.
                    std::thread::sleep(Duration::from_millis(50));
                }
                Ok(())
            }
            Mode::HugeBody => {
                write!(connection, "{head}Content-Length: 4000000000\r\n\r\n")?;
                endless(connection, b"x")
            }
            Mode::EndlessHeaders => {
                connection.write_all(head.as_bytes())?;
                endless(connection, b"X: y\r\n")
            }
            Mode::EndlessLine => {
                write!(connection, "{head}X: ")?;
                endless(connection, b"x")
            }
            Mode::Closes => {
                connection.write_all(&head.as_bytes()[..head.len() / 2])?;
                connection.shutdown(Shutdown::Both)
            }
            _ => {
                // The upper bytes of a multiplication: the same noise in every run.
                let noise = (0..4096_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8);
                connection.write_all(&noise.collect::<Vec<_>>())
            }
        }
    }
}

/// The same again and again, as fast as it is taken.
fn endless(connection: &mut TcpStream, pattern: &[u8]) -> std::io::Result<()> {
    let block = pattern.repeat((1 << 16) / pattern.len());
    loop {
        connection.write_all(&block)?;
    }
}

/// Packets that never complete a picture. `start`: the first bytes of each payload.
fn endless_media(connection: &mut TcpStream, start: &[u8]) -> std::io::Result<()> {
    handshake(connection)?;
    let mut payload = start.to_vec();
    if let [_, fragment] = payload.as_mut_slice() {
        *fragment |= 0x80;
    }
    payload.resize(1400, 7);
    connection.write_all(&rtp(0, 0, false, &payload))?;
    payload[..start.len()].copy_from_slice(start);
    for sequence in (1..=u16::MAX).cycle() {
        connection.write_all(&rtp(sequence, 0, false, &payload))?;
    }
    Ok(())
}
