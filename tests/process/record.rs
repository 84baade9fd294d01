//! `weir record`: what is in the file, what is not, who can read it, and that it can be played again.

use crate::support::pcapng::{record, replay, run, tshark};
use crate::support::quirks::{Camera, PLAIN, Quirk};
use crate::support::rogue::{Server, request};
use crate::support::script::{packets, units};
use crate::support::{Folder, clip, media};
use std::io::Write as _;
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

/// Units of [`CLIP`].
const UNITS: usize = 25;
const CLIP: &str = "clips/main.mp4";

/// Asks for a password, shows it in its description, and says goodbye after the last unit.
const CAMERA: Quirk = Quirk {
    name: "talks too much",
    challenge: "WWW-Authenticate: Digest realm=\"cam\", nonce=\"a\", qop=\"auth\"\r\n",
    answers_with: "Digest username=\"joe\"",
    sdp: |sdp| sdp.replace("s=x", "s=joe:pass\r\nu=http://joe:pass@cam/?token=tok123"),
    after_unit: |player| {
        if player.unit + 1 == UNITS {
            player.send(1, vec![0x81, 203, 0, 1, 0x12, 0x34, 0x56, 0x78]);
        }
    },
    ..PLAIN
};

#[test]
fn a_session_is_recorded_without_credentials_and_pictures_and_tshark_reads_it() {
    let folder = Folder::new();
    let clip = units(&media().join(CLIP));
    let sent: Vec<Vec<u8>> = clip.iter().flat_map(|unit| packets(unit)).collect();
    assert_eq!(clip.len(), UNITS);
    let camera = Camera::start(CAMERA, Arc::new(clip), "");
    let path = folder.path().join("cam.pcapng");
    let recording = record(&camera.url(), &path, &["--seconds", "60"]);
    assert!(recording.said.contains("192x144") && recording.said.contains("goodbye"), "{}", recording.said);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for secret in ["pass", "tok123", "username"] {
        assert!(!recording.contains(secret.as_bytes()), "{secret}");
    }
    let asked = "Authorization: Digest ***";
    assert!(recording.contains(asked.as_bytes()) && recording.contains(b"realm=\"cam\", nonce=\"a\""));
    assert!(recording.contains(b"s=joe:****\r\nu=http://********@cam/?token=******\r\n"));
    // Every packet, with its header and its length, and of pictures no more than the header of a slice.
    let media = recording.interleaved();
    let media: Vec<_> = media.iter().filter(|(channel, _)| *channel == 0).map(|(_, packet)| packet).collect();
    assert_eq!(media.len(), sent.len());
    for (number, (packet, payload)) in media.iter().zip(&sent).enumerate() {
        assert_eq!(packet[2..4], u16::try_from(1000 + number).unwrap().to_be_bytes());
        assert_eq!(packet.len(), 12 + payload.len());
        let is_parameter = matches!(payload[0] & 0x1f, 7..=9);
        let kept = if is_parameter { payload.len() } else { payload.len().min(32) };
        assert_eq!(packet[12..12 + kept], payload[..kept]);
        assert!(packet[12 + kept..].iter().all(|byte| *byte == 0), "packet {number}");
    }
    // Somebody else's program sees the same.
    let numbers = tshark(&path, "rtp && h264", &["rtp.seq", "rtp.payload"]);
    assert_eq!(numbers.len(), sent.len());
    assert!(
        numbers[0].starts_with("1000\t")
            && numbers[numbers.len() - 1].starts_with(&format!("{}\t", 999 + sent.len()))
    );
    assert_eq!(tshark(&path, "rtcp.pt == 203", &["rtcp.pt"]), ["203"]);
    let methods = tshark(&path, "rtsp.method", &["rtsp.method"]);
    assert_eq!(methods[..4], ["DESCRIBE", "DESCRIBE", "SETUP", "PLAY"]);
    assert_eq!(tshark(&path, "tcp.analysis.flags || ip.checksum.status == 0", &["frame.number"]).len(), 0);
    let words = tshark(&path, "systemd_journal", &["systemd_journal.message"]).join("\n");
    assert!(words.contains("event=recording") && words.contains("goodbye"), "{words}");
    // What is there stays.
    let again = run(&camera.url(), &path, &[]);
    assert_eq!(again.status.code(), Some(73));
    assert!(std::fs::read(&path).unwrap() == recording.file);
}

#[test]
fn a_recording_with_pictures_plays_again() {
    let folder = Folder::new();
    let clip = units(&media().join(CLIP));
    let sent: Vec<Vec<u8>> = clip.iter().flat_map(|unit| packets(unit)).collect();
    let camera = Camera::start(CAMERA, Arc::new(clip), "");
    let options = ["--seconds", "60", "--with-pictures"];
    let first = record(&camera.url(), &folder.path().join("first.pcapng"), &options);
    let recorded = first.interleaved();
    let payloads = recorded.iter().filter(|(channel, _)| *channel == 0).map(|(_, packet)| &packet[12..]);
    assert!(payloads.eq(sent.iter().map(Vec::as_slice)));
    assert!(first.frames() >= UNITS - 4, "{}", first.said);
    assert!(!first.contains(b"pass"));
    let server = replay(&first);
    let url = format!("rtsp://any:thing@127.0.0.1:{}/cam", server.port);
    let second = record(&url, &folder.path().join("second.pcapng"), &options);
    assert_eq!(second.frames(), first.frames(), "{}", second.said);
    assert!(second.interleaved() == recorded);
}

#[test]
fn what_is_said_inside_tls_is_recorded_in_the_clear() {
    let folder = Folder::new();
    let camera = Camera::start(CAMERA, Arc::new(units(&media().join(CLIP))), "");
    let proxy = crate::rtsp::behind_tls(camera.port);
    let (place, config) = (format!("localhost:{}/cam", proxy.port), folder.path().join("weir.toml"));
    std::fs::write(&config, "[capture]\ninsecure_cameras = [\"localhost\"]\n").unwrap();
    let options = ["--seconds", "60", "--config", config.to_str().unwrap()];
    let path = folder.path().join("cam.pcapng");
    let recording = record(&format!("rtsps://joe:pass@{place}"), &path, &options);
    assert!(recording.contains(format!("DESCRIBE rtsps://{place} RTSP/1.0").as_bytes()));
    assert!(!recording.interleaved().is_empty(), "{}", recording.said);
    assert!(!recording.contains(b"pass"));
}

#[test]
fn limits_end_a_recording_and_a_camera_that_is_not_there_leaves_its_reason() {
    let folder = Folder::new();
    let server = Server::start(|connection, _| {
        request(connection)?;
        write!(connection, "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=b\r\n\r\n")?;
        let picture = std::fs::read(clip("clips/colour.jpg")).unwrap();
        loop {
            connection.write_all(b"--b\r\nContent-Type: image/jpeg\r\n\r\n")?;
            connection.write_all(&picture)?;
        }
    });
    let full = record(&server.http(), &folder.path().join("full"), &["--seconds", "60", "--max-mib", "1"]);
    assert!(full.said.contains("ended: the file has its 1 MiB"), "{}", full.said);
    assert!((900 << 10..(1 << 20) + 1024).contains(&full.file.len()), "{}", full.file.len());
    let over = record(&server.http(), &folder.path().join("over"), &["--seconds", "1"]);
    assert!(over.said.contains("ended: 1 seconds are over"), "{}", over.said);
    let path = folder.path().join("nobody");
    let nobody = run("rtsp://127.0.0.1:9/cam", &path, &[]);
    assert_eq!(nobody.status.code(), Some(69));
    let words = tshark(&path, "systemd_journal", &["systemd_journal.message"]).join("\n");
    assert!(words.contains("Connection refused"), "{words}");
    for (url, file) in [("clip.mp4", "x"), ("0", "x"), ("rtsp://", "x"), ("gopher://cam/", "x")] {
        assert_eq!(run(url, &folder.path().join(file), &[]).status.code(), Some(64), "{url}");
        assert!(!folder.path().join(file).exists());
    }
}

#[test]
fn pictures_over_http_are_recorded_without_what_they_show() {
    let folder = Folder::new();
    let picture = std::fs::read(clip("clips/colour.jpg")).unwrap();
    let sent = picture.clone();
    let server = Server::start(move |connection, _| {
        let asked = request(connection)?;
        if asked.header("Authorization").is_none() {
            write!(
                connection,
                "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"cam\"\r\nSet-Cookie: id=7\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )?;
            return connection.shutdown(Shutdown::Both);
        }
        let head = "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=b\r\nTransfer-Encoding: chunked\r\n\r\n";
        connection.write_all(head.as_bytes())?;
        for _ in 0..3 {
            let part =
                [&b"--b\r\nContent-Type: image/jpeg\r\nX-Key: hunter2\r\n\r\n"[..], &sent, b"\r\n"].concat();
            // In chunks that end anywhere.
            for chunk in part.chunks(1000) {
                write!(connection, "{:x}\r\n", chunk.len())?;
                connection.write_all(chunk)?;
                connection.write_all(b"\r\n")?;
            }
        }
        connection.shutdown(Shutdown::Both)
    });
    let url = format!("http://joe:hunter2@127.0.0.1:{}/video", server.port);
    let path = folder.path().join("cam.pcapng");
    let recording = record(&url, &path, &["--seconds", "60"]);
    // joe:hunter2 in Base64.
    for secret in ["hunter2", "am9lOmh1bnRlcjI=", "id=7"] {
        assert!(!recording.contains(secret.as_bytes()), "{secret}");
    }
    assert!(recording.contains(b"Authorization: Basic ****") && recording.contains(b"Set-Cookie: ****\r\n"));
    let scan = picture.windows(2).position(|marker| marker == [0xff, 0xda]).unwrap();
    let shown = &picture[scan + 14..];
    assert!(!shown.windows(8).any(|part| part.iter().any(|byte| *byte != 0) && recording.contains(part)));
    let came: Vec<u8> = recording
        .packets
        .iter()
        .filter(|packet| !packet.is_ours)
        .flat_map(|packet| packet.bytes.clone())
        .collect();
    let count = |part: &[u8]| came.windows(part.len()).filter(|here| *here == part).count();
    assert_eq!(count(b"--b\r\nContent-Type: image/jpeg\r\nX-Key: *******\r\n\r\n"), 3);
    assert!(count(&picture[..20]) >= 3, "headers of the pictures");
    assert_eq!(tshark(&path, "http.request", &["http.request.uri"]), ["/video", "/video"]);
    let all = record(&url, &folder.path().join("all.pcapng"), &["--with-pictures"]);
    assert!(shown.windows(8).step_by(100).all(|part| all.contains(part)));
}
