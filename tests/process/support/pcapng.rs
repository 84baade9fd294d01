//! `weir record`: running it, reading what it wrote, and a camera that plays it again.

use super::process::output;
use super::rogue::{Server, request};
use super::weir;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

/// What a recording holds.
pub struct Recording {
    pub path: PathBuf,
    pub file: Vec<u8>,
    pub packets: Vec<Packet>,
    /// The line that is printed at the end.
    pub said: String,
}

/// A packet over TCP or UDP.
#[derive(Clone)]
pub struct Packet {
    /// Sent by weir.
    pub is_ours: bool,
    /// Without headers.
    pub bytes: Vec<u8>,
}

/// Runs `weir record URL FILE` to its end.
pub fn run(url: &str, path: &Path, options: &[&str]) -> Output {
    output(weir::command(Path::new("/nonexistent")).arg("record").arg(url).arg(path).args(options))
}

/// The same where it must succeed.
#[track_caller]
pub fn record(url: &str, path: &Path, options: &[&str]) -> Recording {
    let output = run(url, path, options);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let file = std::fs::read(path).unwrap();
    Recording { path: path.to_owned(), packets: packets(&file), file, said }
}

impl Recording {
    /// The frames that weir counted.
    pub fn frames(&self) -> usize {
        let count = self.said.split("; ").nth(1).and_then(|seen| seen.split(" frames").next()?.parse().ok());
        count.unwrap_or_else(|| panic!("no frames in {}", self.said))
    }

    pub fn contains(&self, bytes: &[u8]) -> bool {
        self.file.windows(bytes.len()).any(|part| part == bytes)
    }

    /// What the camera sent between messages, by interleaved channel.
    pub fn interleaved(&self) -> Vec<(u8, Vec<u8>)> {
        let from_camera = self.packets.iter().filter(|packet| !packet.is_ours);
        from_camera
            .filter(|packet| packet.bytes.first() == Some(&b'$'))
            .map(|packet| {
                let length = usize::from(u16::from_be_bytes([packet.bytes[2], packet.bytes[3]]));
                assert_eq!(packet.bytes.len(), 4 + length, "a packet each");
                (packet.bytes[1], packet.bytes[4..].to_vec())
            })
            .collect()
    }
}

/// Of a file in the order of this machine; every length is held.
fn packets(file: &[u8]) -> Vec<Packet> {
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let (mut at, mut found) = (0, Vec::new());
    while at < file.len() {
        let (kind, length) = (word(at), word(at + 4));
        assert_eq!(word(at + length - 4), length, "a block's second length");
        if kind == 6 {
            let packet = &file[at + 28..at + 28 + word(at + 20)];
            let transport = if packet[0] >> 4 == 4 { &packet[20..] } else { &packet[40..] };
            let is_tcp = packet[if packet[0] >> 4 == 4 { 9 } else { 6 }] == 6;
            let to = u16::from_be_bytes([transport[2], transport[3]]);
            let bytes = transport[if is_tcp { 20 } else { 8 }..].to_vec();
            found.push(Packet { is_ours: is_tcp && matches!(to, 554 | 80), bytes });
        }
        at += length;
    }
    found
}

/// What tshark finds in a file: the values of fields of the packets that a filter lets pass, a line each.
pub fn tshark(path: &Path, filter: &str, fields: &[&str]) -> Vec<String> {
    let mut command = Command::new("tshark");
    command.args(["-o", "h264.dynamic.payload.type:96", "-T", "fields", "-Y", filter, "-r"]).arg(path);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = output(&mut command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// A camera that says what was recorded of one, over RTSP and TCP: what came after a request again after that
/// request, whatever it asks.
pub fn replay(recording: &Recording) -> Server {
    let packets: Arc<Vec<Packet>> =
        Arc::new(recording.packets.iter().filter(|packet| !packet.bytes.is_empty()).cloned().collect());
    Server::start(move |connection, _| {
        let mut number = String::new();
        for packet in &*packets {
            if packet.is_ours {
                number = request(connection)?.cseq().to_owned();
            } else if packet.bytes.starts_with(b"RTSP/") {
                let text = String::from_utf8_lossy(&packet.bytes);
                let recorded = text.lines().find(|line| line.starts_with("CSeq:")).unwrap_or_default();
                connection.write_all(text.replacen(recorded, &format!("CSeq: {number}"), 1).as_bytes())?;
            } else {
                connection.write_all(&packet.bytes)?;
            }
        }
        // Whoever hears nothing more leaves.
        connection.read_to_end(&mut Vec::new()).map(drop)
    })
}
