//! A camera that follows a script: RTSP over TCP with any access units, at any rate, losing what the test
//! wants lost. What a real server would not do on demand; for everything else there is
//! [`super::rtsp::Camera`].

use super::rogue::{self, Asked, Server, request, rtp};
use std::io::{ErrorKind, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What the camera does.
#[derive(Clone)]
pub struct Script {
    /// H.264 access units in Annex B; played again and again.
    pub units: Vec<Vec<u8>>,
    pub fps: f64,
    /// Whether an RTP packet gets lost: number of the unit since PLAY, number of the packet within it.
    pub lost: fn(unit: usize, packet: usize) -> bool,
    /// Sessions at once; one more is refused.
    pub sessions: usize,
    /// How long a session lives on whose client is gone without TEARDOWN.
    pub session_timeout: Duration,
}

impl Script {
    /// A clip of `tests/assets`, 25 fps.
    pub fn of(clip: &str) -> Script {
        Script::units(units(&super::media().join(clip)))
    }

    pub fn units(units: Vec<Vec<u8>>) -> Script {
        Script { units, fps: 25.0, lost: |_, _| false, sessions: usize::MAX, session_timeout: Duration::ZERO }
    }
}

/// The access units of a video file.
pub fn units(path: &Path) -> Vec<Vec<u8>> {
    use ::weir::capture::worker::source::Grab;
    let mut source = ::weir::capture::worker::file::open(path).unwrap();
    let mut units = Vec::new();
    while let Grab::Packet(_, unit) = source.grab().unwrap() {
        units.push(unit.data.to_vec());
    }
    units
}

/// A running camera.
pub struct Camera {
    server: Server,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// All requests so far: when, and which method.
    asked: Vec<(Instant, String)>,
    /// When the session is free again; `None`: its client is connected.
    sessions: Vec<Option<Instant>>,
}

impl Camera {
    pub fn start(script: Script) -> Camera {
        Camera::start_on(0, script)
    }

    pub fn start_on(port: u16, script: Script) -> Camera {
        let state = Arc::new(Mutex::new(State::default()));
        let (shared, script) = (Arc::clone(&state), Arc::new(script));
        let server = Server::start_on(port, move |connection, _| {
            Connection { script: &script, state: &shared }.serve(connection)
        });
        Camera { server, state }
    }

    pub fn url(&self) -> String {
        self.server.rtsp()
    }

    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// How often a method was asked for.
    pub fn asked(&self, method: &str) -> usize {
        self.state.lock().unwrap().asked.iter().filter(|(_, asked)| asked == method).count()
    }
}

struct Connection<'a> {
    script: &'a Arc<Script>,
    state: &'a Arc<Mutex<State>>,
}

impl Connection<'_> {
    fn serve(&self, connection: &mut TcpStream) -> std::io::Result<()> {
        let mut held = false;
        let served = self.converse(connection, &mut held);
        if held {
            // Gone without a farewell: the session lives on for a while.
            let free = Instant::now() + self.script.session_timeout;
            if let Some(session) =
                self.state.lock().unwrap().sessions.iter_mut().find(|session| session.is_none())
            {
                *session = Some(free);
            }
        }
        let _ = connection.shutdown(Shutdown::Both);
        served
    }

    fn converse(&self, connection: &mut TcpStream, held: &mut bool) -> std::io::Result<()> {
        // The player writes between our answers.
        let writer = Arc::new(Mutex::new(connection.try_clone()?));
        loop {
            let asked = request(connection)?;
            self.state.lock().unwrap().asked.push((Instant::now(), asked.method.clone()));
            let (status, headers) = self.answer(&asked, held);
            let mut answer = format!("RTSP/1.0 {status}\r\nCSeq: {}\r\n{headers}\r\n", asked.cseq());
            if asked.method == "DESCRIBE" {
                answer = rogue::described(asked.cseq());
            }
            writer.lock().unwrap().write_all(answer.as_bytes())?;
            match asked.method.as_str() {
                "PLAY" => {
                    let (script, writer) = (Arc::clone(self.script), Arc::clone(&writer));
                    std::thread::spawn(move || play(&script, &writer));
                }
                "TEARDOWN" => return Ok(()),
                _ => {}
            }
        }
    }

    fn answer(&self, asked: &Asked, held: &mut bool) -> (&'static str, &'static str) {
        let sessions = &mut self.state.lock().unwrap().sessions;
        match asked.method.as_str() {
            "SETUP" => {
                sessions.retain(|free| free.is_none_or(|free| free > Instant::now()));
                if sessions.len() >= self.script.sessions {
                    return ("453 Not Enough Bandwidth", "");
                }
                sessions.push(None);
                *held = true;
                (
                    "200 OK",
                    "Session: 1;timeout=60\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=00000001\r\n",
                )
            }
            "TEARDOWN" => {
                if std::mem::take(held)
                    && let Some(place) = sessions.iter().position(Option::is_none)
                {
                    sessions.remove(place);
                }
                ("200 OK", "Session: 1\r\n")
            }
            "PLAY" => ("200 OK", "Session: 1\r\nRTP-Info: url=track1;seq=0;rtptime=0\r\n"),
            _ => ("200 OK", "Session: 1\r\nPublic: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"),
        }
    }
}

/// Sends unit after unit, each when it is due, until the client is gone.
fn play(script: &Script, writer: &Mutex<TcpStream>) -> std::io::Result<()> {
    let started = Instant::now();
    let mut sequence = 0_u16;
    for (number, unit) in script.units.iter().cycle().enumerate() {
        let due = started + Duration::from_secs_f64(number as f64 / script.fps);
        // A camera's clock.
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let time = (number as f64 / script.fps * 90_000.0) as u32;
        let packets = packets(unit);
        let last = packets.len() - 1;
        let mut bytes = Vec::new();
        for (place, payload) in packets.iter().enumerate() {
            if !(script.lost)(number, place) {
                bytes.extend(rtp(sequence, time, place == last, payload));
            }
            sequence = sequence.wrapping_add(1);
        }
        writer.lock().unwrap().write_all(&bytes)?;
    }
    Err(ErrorKind::InvalidInput.into())
}

/// Largest payload of a packet.
const MAX_PAYLOAD_BYTES: usize = 1200;

/// The payloads of one access unit (RFC 6184): NAL units as they are, or in fragments (FU-A).
pub fn packets(unit: &[u8]) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for nal in nals(unit) {
        if nal.len() <= MAX_PAYLOAD_BYTES {
            packets.push(nal.to_vec());
            continue;
        }
        let (indicator, kind) = (nal[0] & 0xe0 | 28, nal[0] & 0x1f);
        let chunks: Vec<&[u8]> = nal[1..].chunks(MAX_PAYLOAD_BYTES).collect();
        for (place, chunk) in chunks.iter().enumerate() {
            let start = u8::from(place == 0) << 7;
            let end = u8::from(place + 1 == chunks.len()) << 6;
            packets.push([&[indicator, start | end | kind], *chunk].concat());
        }
    }
    packets
}

/// The NAL units of an Annex B access unit.
fn nals(unit: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> =
        unit.windows(3).enumerate().filter(|(_, code)| *code == [0, 0, 1]).map(|(at, _)| at).collect();
    let ends = starts.iter().skip(1).copied().chain([unit.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(start, end)| {
            let nal = &unit[start + 3..end];
            // The zeros before the next start code are not the unit's.
            &nal[..nal.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)]
        })
        .filter(|nal| !nal.is_empty())
        .collect()
}
