//! Brokers that lie, flood, never answer, or are none: they end their connection, and nothing else.

use super::init;
use crate::support::{Weir, process, udp, wait_for};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A listener that treats every connection so, until it is dropped.
struct Rogue {
    port: u16,
    connections: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
}

impl Rogue {
    fn start(treat: fn(TcpStream, &AtomicBool)) -> Rogue {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (connections, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let rogue = Rogue {
            port: listener.local_addr().unwrap().port(),
            connections: connections.clone(),
            over: over.clone(),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                connections.fetch_add(1, Ordering::SeqCst);
                let over = over.clone();
                std::thread::spawn(move || {
                    let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
                    let _ = stream.set_write_timeout(Some(Duration::from_secs(30)));
                    treat(stream, &over);
                });
            }
        });
        rogue
    }
}

impl Drop for Rogue {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// One packet of a client: its first byte, and its body.
fn packet(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut byte = [0];
    stream.read_exact(&mut byte).ok()?;
    let first = byte[0];
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        stream.read_exact(&mut byte).ok()?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((first, body))
}

fn accept(stream: &mut TcpStream) {
    let _ = packet(stream);
    let _ = stream.write_all(b"\x20\x03\0\0\0");
}

/// Writes until nobody takes it any more, a bounded number of times.
fn pour(stream: &mut TcpStream, bytes: &[u8], over: &AtomicBool) {
    for _ in 0..100_000 {
        if over.load(Ordering::SeqCst) || stream.write_all(bytes).is_err() {
            return;
        }
    }
}

/// What a broker does to who connects, until that is over.
type Behaviour = fn(TcpStream, &AtomicBool);

const ROGUES: [(&str, Behaviour); 9] = [
    ("never says anything", |mut stream, _| drop(stream.read_to_end(&mut Vec::new()))),
    ("says 256 MB", |mut stream, over| {
        let _ = packet(&mut stream);
        let _ = stream.write_all(b"\x30\xff\xff\xff\x7f");
        pour(&mut stream, &[0; 65_536], over);
    }),
    ("says 256 MB after it has agreed", |mut stream, over| {
        accept(&mut stream);
        let _ = stream.write_all(b"\x30\xff\xff\xff\x7f");
        pour(&mut stream, &[0; 65_536], over);
    }),
    ("floods with messages that nobody asked for", |mut stream, over| {
        accept(&mut stream);
        pour(&mut stream, &b"\x30\x09\0\x01a\0pause".repeat(1000), over);
    }),
    ("confirms what was not sent", |mut stream, over| {
        accept(&mut stream);
        pour(&mut stream, &b"\x40\x02\x12\x34".repeat(1000), over);
    }),
    ("speaks HTTP", |mut stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
        let _ = stream.read_to_end(&mut Vec::new());
    }),
    ("closes at once", |_, _| {}),
    ("drips its answer", |mut stream, over| {
        let _ = packet(&mut stream);
        // The beginning of it, and then nothing.
        for byte in b"\x20\xff" {
            if over.load(Ordering::SeqCst) || stream.write_all(&[*byte]).is_err() {
                return;
            }
        }
        let _ = stream.read_to_end(&mut Vec::new());
    }),
    ("agrees and reads nothing more", |mut stream, over| {
        accept(&mut stream);
        while !over.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }),
];

#[test]
fn a_broker_that_is_hostile_costs_its_connection_and_nothing_else() {
    // All at once, each with a service of its own: most of the time is waiting.
    std::thread::scope(|scope| {
        let tests: Vec<_> =
            ROGUES.iter().map(|(name, treat)| scope.spawn(move || one(name, *treat))).collect();
        tests.into_iter().for_each(|test| test.join().unwrap());
    });
}

fn one(name: &str, treat: fn(TcpStream, &AtomicBool)) {
    let rogue = Rogue::start(treat);
    let lines = format!(
        "[mqtt]\nhost = \"127.0.0.1\"\nport = {}\nbase_topic = \"t\"\n[sinks]\nmemory_bytes = 1048576\n",
        rogue.port
    );
    let weir = Weir::configured(&lines);
    let socket = udp::Receiver::new();
    let sinks = format!(
        r#"[{{"type": "udp_sink", "host": "127.0.0.1", "port": {}}}, {{"type": "mqtt_sink"}}]"#,
        socket.port()
    );
    let id = weir.init(&init(&weir, "short.mp4", &sinks, ""));
    (0..60).for_each(|_| drop(socket.next()));
    weir.wait_state(&id, "ENDED");
    wait_for(&format!("a connection to who {name}"), || {
        (rogue.connections.load(Ordering::SeqCst) > 0).then_some(())
    });
    let before = process::bytes(weir.pid(), "status", "VmRSS:").unwrap();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        let asked = Instant::now();
        let report = weir.report(&id);
        assert!(asked.elapsed() < Duration::from_secs(5), "{name}: status took {:?}", asked.elapsed());
        assert_eq!(report.at("sinks/0/messages_dropped").number(), Some(0.0), "{name}: {report}");
    }
    let after = process::bytes(weir.pid(), "status", "VmRSS:").unwrap();
    assert!(after < before + (8 << 20), "{name}: from {before} to {after} bytes");
    // Whoever breaks the protocol is not asked again and again.
    let connections = rogue.connections.load(Ordering::SeqCst);
    assert!(connections <= 12, "{name}: {connections} connections");
}

/// A broker that knows 3.1.1 only gets that, and all messages.
#[test]
fn an_old_broker_is_spoken_to_in_its_own_version() {
    let rogue = Rogue::start(|mut stream, _| {
        let Some((_, connect)) = packet(&mut stream) else { return };
        // "\0\x04MQTT" and the level.
        if connect[6] == 5 {
            let _ = stream.write_all(b"\x20\x02\0\x01");
            return;
        }
        let _ = stream.write_all(b"\x20\x02\0\0");
        while let Some((first, body)) = packet(&mut stream) {
            let topic = usize::from(u16::from_be_bytes([body[0], *body.get(1).unwrap_or(&0)]));
            match first {
                0x32 => drop(stream.write_all(&[0x40, 2, body[2 + topic], body[3 + topic]])),
                0xc0 => drop(stream.write_all(b"\xd0\0")),
                _ => {}
            }
        }
    });
    let weir = Weir::configured(&format!("[mqtt]\nhost = \"localhost\"\nport = {}\n", rogue.port));
    let id = weir.init(&init(&weir, "short.mp4", r#"{"type": "mqtt_sink", "topic": "a"}"#, ""));
    wait_for("60 confirmed messages", || {
        (weir.report(&id).at("sinks/0/messages_delivered").number() == Some(60.0)).then_some(())
    });
    assert!(weir.log().contains("version=3.1.1"), "{}", weir.log());
}
