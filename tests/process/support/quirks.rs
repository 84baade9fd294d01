//! RTSP cameras that each break one rule, as cameras of the field do. A camera plays its units once and is
//! then silent.

use super::rogue::{Asked, request};
use super::script::packets;
use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// RTP's clock counts so many to a unit: 50 per second.
const STEP: u32 = 1800;

/// Channels and what goes out on them.
pub type Sent = Vec<(u8, Vec<u8>)>;

/// What a camera does differently.
#[derive(Clone, Copy)]
pub struct Quirk {
    pub name: &'static str,
    /// The session description, given the proper one.
    pub sdp: fn(String) -> String,
    /// Lines of the answer to DESCRIBE; `{url}` is the URL that was asked for.
    pub described: &'static str,
    /// The `Transport` and `Session` lines of the answer to SETUP over TCP; with a port (`{port}`) over UDP.
    pub set_up: &'static str,
    /// Lines of the answer to PLAY; `{seq}` is the number of the first packet.
    pub played: &'static str,
    /// Answers SETUP with this while the transport asked for is TCP (or UDP, if `over_udp`).
    pub refuses: Option<&'static str>,
    /// Whether `rtsp_transport=udp` is asked for.
    pub over_udp: bool,
    /// What is sent over UDP gets lost on its way.
    pub udp_is_lost: bool,
    /// The whole answer, before it is sent.
    pub spelling: fn(String) -> String,
    /// What goes out for a packet: channel and bytes each.
    pub packet: fn(&mut Player, Vec<u8>) -> Sent,
    /// Odd things after a unit.
    pub after_unit: fn(&mut Player),
    /// The first unit that is played.
    pub first: usize,
    /// Between PLAY and the first packet.
    pub silence: Duration,
    /// Answer to keep-alives; empty: none.
    pub kept_alive: &'static str,
    /// Challenges of a 401 before DESCRIBE is answered; the client must then come with one of these words.
    pub challenge: &'static str,
    pub answers_with: &'static str,
}

/// A camera without quirks.
pub const PLAIN: Quirk = Quirk {
    name: "plain",
    sdp: |sdp| sdp,
    described: "Content-Type: application/sdp\r\nContent-Base: {url}/\r\n",
    set_up: "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 12345678;timeout=60\r\n",
    played: "Session: 12345678\r\nRTP-Info: url=track1;seq={seq};rtptime=0\r\n",
    refuses: None,
    over_udp: false,
    udp_is_lost: false,
    spelling: |answer| answer,
    packet: |_, packet| vec![(0, packet)],
    after_unit: |_| {},
    first: 0,
    silence: Duration::ZERO,
    kept_alive: "200 OK",
    challenge: "",
    answers_with: "",
};

/// What is played, and how far it has come.
pub struct Player {
    pub sequence: u16,
    pub sender: u32,
    pub time: u32,
    pub kind: u8,
    /// Units so far.
    pub unit: usize,
    /// Of the present unit.
    pub is_key: bool,
    /// Packets so far.
    pub packets: usize,
    /// Kept back by a quirk.
    pub held: Option<Vec<u8>>,
    output: Sent,
}

impl Player {
    /// An RTP packet of this stream, the next in sequence.
    pub fn rtp(&mut self, payload: &[u8], marker: bool) -> Vec<u8> {
        let mut packet = vec![0x80, self.kind | u8::from(marker) << 7];
        packet.extend_from_slice(&self.sequence.to_be_bytes());
        packet.extend_from_slice(&self.time.to_be_bytes());
        packet.extend_from_slice(&self.sender.to_be_bytes());
        packet.extend_from_slice(payload);
        self.sequence = self.sequence.wrapping_add(1);
        packet
    }

    /// Sends something that belongs to no unit.
    pub fn send(&mut self, channel: u8, bytes: Vec<u8>) {
        self.output.push((channel, bytes));
    }
}

/// A running camera; ends with the test.
pub struct Camera {
    pub quirk: Quirk,
    pub port: u16,
}

impl Camera {
    /// Plays these H.264 units, `parameters` being those of the description.
    pub fn start(quirk: Quirk, units: Arc<Vec<Vec<u8>>>, parameters: &'static str) -> Camera {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (Ok(connection), units) = (connection, Arc::clone(&units)) else { continue };
                std::thread::spawn(move || {
                    let _ = serve(connection, &quirk, &units, parameters);
                });
            }
        });
        Camera { quirk, port }
    }

    pub fn url(&self) -> String {
        let user = if self.quirk.challenge.is_empty() { "" } else { "joe:pass@" };
        let query = if self.quirk.over_udp { "?rtsp_transport=udp" } else { "" };
        format!("rtsp://{user}127.0.0.1:{}/cam{query}", self.port)
    }
}

fn serve(
    mut connection: TcpStream,
    quirk: &Quirk,
    units: &[Vec<u8>],
    parameters: &str,
) -> std::io::Result<()> {
    let writer = Arc::new(Mutex::new(connection.try_clone()?));
    let (mut datagrams, mut asked_so_far) = (None, 0);
    loop {
        let asked = request(&mut connection)?;
        asked_so_far += 1;
        let (status, lines, body) = answer(quirk, &asked, parameters, &mut datagrams)?;
        if status.is_empty() {
            continue;
        }
        let length =
            if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let text = format!("RTSP/1.0 {status}\r\nCSeq: {}\r\n{lines}{length}\r\n{body}", asked.cseq());
        writer.lock().unwrap().write_all((quirk.spelling)(text).as_bytes())?;
        match asked.method.as_str() {
            "PLAY" if status == "200 OK" => {
                let (quirk, units, writer) = (*quirk, units.to_vec(), Arc::clone(&writer));
                let datagrams = datagrams.take();
                std::thread::spawn(move || play(&quirk, &units, &writer, datagrams));
            }
            "TEARDOWN" => return Ok(()),
            _ if asked_so_far > 1000 => return Ok(()),
            _ => {}
        }
    }
}

type Datagrams = Option<(UdpSocket, u16)>;

/// Status, lines and body of an answer; an empty status: none is given.
fn answer(
    quirk: &Quirk,
    asked: &Asked,
    parameters: &str,
    datagrams: &mut Datagrams,
) -> std::io::Result<(&'static str, String, String)> {
    let url = asked.head.split(' ').nth(1).unwrap_or_default();
    if !quirk.challenge.is_empty()
        && !asked.header("Authorization").is_some_and(|shown| shown.contains(quirk.answers_with))
    {
        return Ok(("401 Unauthorized", quirk.challenge.to_owned(), String::new()));
    }
    Ok(match asked.method.as_str() {
        "DESCRIBE" => {
            let sdp = format!(
                "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\na=control:*\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
                a=fmtp:96 packetization-mode=1;sprop-parameter-sets={parameters}\r\na=control:track1\r\n"
            );
            ("200 OK", quirk.described.replace("{url}", url), (quirk.sdp)(sdp))
        }
        "SETUP" => {
            let transport = asked.header("Transport").unwrap_or_default();
            let is_tcp = transport.contains("TCP");
            if let Some(refusal) = quirk.refuses
                && is_tcp != quirk.over_udp
            {
                return Ok((refusal, String::new(), String::new()));
            }
            if is_tcp {
                return Ok((
                    "200 OK",
                    quirk.set_up.replace(";server_port={port}", ";interleaved=0-1"),
                    String::new(),
                ));
            }
            let port = transport
                .split("client_port=")
                .nth(1)
                .and_then(|ports| ports.split('-').next()?.parse().ok());
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            let own = socket.local_addr()?.port();
            *datagrams = Some((socket, port.unwrap_or(0)));
            let plain = "Transport: RTP/AVP;unicast;server_port={port}\r\nSession: 1\r\n";
            let lines = if quirk.set_up.contains("TCP") { plain } else { quirk.set_up };
            ("200 OK", lines.replace("{port}", &format!("{own}-{}", own.wrapping_add(1))), String::new())
        }
        "PLAY" => ("200 OK", quirk.played.replace("{seq}", "1000"), String::new()),
        "OPTIONS" | "GET_PARAMETER" | "SET_PARAMETER" => {
            (quirk.kept_alive, "Public: GET_PARAMETER\r\n".into(), String::new())
        }
        _ => ("200 OK", String::new(), String::new()),
    })
}

fn play(
    quirk: &Quirk,
    units: &[Vec<u8>],
    writer: &Mutex<TcpStream>,
    datagrams: Datagrams,
) -> std::io::Result<()> {
    // A camera's own pause, and below its clock.
    std::thread::sleep(quirk.silence);
    let started = Instant::now();
    let mut player = Player {
        sequence: 1000,
        sender: 0x1234_5678,
        time: 0,
        kind: 96,
        unit: 0,
        is_key: false,
        packets: 0,
        held: None,
        output: Vec::new(),
    };
    for unit in &units[quirk.first..] {
        let due = started + Duration::from_millis(20) * u32::try_from(player.unit).unwrap();
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        player.is_key = unit.windows(4).any(|bytes| bytes[..3] == [0, 0, 1] && bytes[3] & 0x1f == 5);
        let payloads = packets(unit);
        let last = payloads.len() - 1;
        for (place, payload) in payloads.iter().enumerate() {
            let packet = player.rtp(payload, place == last);
            player.packets += 1;
            let sent = (quirk.packet)(&mut player, packet);
            player.output.extend(sent);
        }
        (quirk.after_unit)(&mut player);
        player.unit += 1;
        player.time = player.time.wrapping_add(STEP);
        for (channel, packet) in std::mem::take(&mut player.output) {
            match (&datagrams, channel) {
                (Some(_), 0) if quirk.udp_is_lost => {}
                (Some((socket, port)), 0) => drop(socket.send_to(&packet, ("127.0.0.1", *port))?),
                (Some(_), _) => {}
                // Not a packet at all.
                (None, u8::MAX) => writer.lock().unwrap().write_all(&packet)?,
                (None, channel) => {
                    let length = u16::try_from(packet.len()).unwrap().to_be_bytes();
                    let framed = [&[b'$', channel, length[0], length[1]], &packet[..]].concat();
                    writer.lock().unwrap().write_all(&framed)?;
                }
            }
        }
    }
    Ok(())
}
