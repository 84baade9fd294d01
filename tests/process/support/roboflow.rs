//! Plays the Roboflow HTTP API on the loopback, well and badly, as `tests/goldens/README.md` describes the
//! one behind the recordings. Which way it behaves is chosen by the model id, so one server serves every
//! test.

use super::{PATIENCE, media};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

/// The one key it takes.
pub const GOOD_KEY: &str = "good-key";

/// The running server. Its threads end with the test process.
pub struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    patience: Arc<Patience>,
}

/// Holds back the second half of the weights of `slow/…` until told.
#[derive(Default)]
struct Patience(Mutex<bool>, Condvar);

impl Patience {
    fn wait(&self) {
        drop(self.1.wait_timeout_while(self.0.lock().unwrap(), PATIENCE, |over| !*over).unwrap());
    }
}

impl Server {
    pub fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let patience = Arc::new(Patience::default());
        let (record, held) = (seen.clone(), patience.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (record, held) = (record.clone(), held.clone());
                std::thread::spawn(move || serve(stream, address, &record, &held));
            }
        });
        Server { address, seen, patience }
    }

    /// For `API_BASE_URL`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sends what is held back of `slow/…`.
    pub fn go_on(&self) {
        *self.patience.0.lock().unwrap() = true;
        self.patience.1.notify_all();
    }

    /// Request targets in the order in which they came.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, address: SocketAddr, seen: &Mutex<Vec<String>>, patience: &Patience) {
    let Ok(writer) = stream.try_clone() else { return };
    let mut lines = BufReader::new(stream).lines();
    let mut writer = Writer(writer);
    // One request a connection: every answer says `connection: close`.
    let Some(Ok(first)) = lines.next() else { return };
    for line in lines {
        if line.map_or(true, |line| line.is_empty()) {
            break;
        }
    }
    let target = first.split(' ').nth(1).unwrap_or("").to_owned();
    seen.lock().unwrap().push(target.clone());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let steps: Vec<&str> = path.trim_matches('/').split('/').collect();
    match steps.as_slice() {
        ["ort", dataset, version] => {
            if query.split('&').any(|pair| pair == format!("api_key={GOOD_KEY}")) {
                writer.describe(address, dataset, version);
            } else {
                writer.json(401, r#"{"error": "unauthorised"}"#);
            }
        }
        ["environment", dataset, version] => writer.json(200, &environment(dataset, version)),
        ["weights", dataset, _] => writer.weights(dataset, patience),
        _ => writer.json(404, r#"{"error": "not found"}"#),
    }
}

/// What `environment.json` holds; PREPROCESSING is JSON inside a JSON text, as the API sends it.
fn environment(dataset: &str, version: &str) -> String {
    let preprocessing = match (dataset, version) {
        ("toy", "2") => r#"{"resize": {"width": 320, "height": 320, "format": "Fit (black edges) in"}}"#,
        ("toy", "5") => concat!(
            r#"{"resize": {"width": 320, "height": 320, "format": "Stretch to"}, "#,
            r#""static-crop": {"enabled": true, "x_min": 10, "x_max": 90, "y_min": 20, "y_max": 80}}"#
        ),
        _ => r#"{"resize": {"width": 320, "height": 320, "format": "Stretch to"}}"#,
    };
    let names: &[&str] = if dataset == "wrong-names" { &["red", "green"] } else { &["red", "green", "blue"] };
    let classes: Vec<String> =
        names.iter().enumerate().map(|(id, name)| format!(r#""{id}": "{name}""#)).collect();
    let escaped = preprocessing.replace('"', "\\\"");
    let head = if dataset == "no-preprocessing" {
        String::new()
    } else {
        format!(r#""PREPROCESSING": "{escaped}", "#)
    };
    format!(
        r##"{{{head}"CLASS_MAP": {{{}}}, "COLORS": {{"red": "#ff0000"}}, "RESOLUTION": "320", "BATCH_SIZE": "1", "MULTICLASS": "false"}}"##,
        classes.join(", ")
    )
}

struct Writer(TcpStream);

impl Writer {
    fn send(&mut self, status: u16, content_type: &str, length: Option<usize>, body: &[u8]) {
        let length = length.map_or(String::new(), |length| format!("content-length: {length}\r\n"));
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\n{length}connection: close\r\n\r\n"
        );
        let _ = self.0.write_all(head.as_bytes());
        let _ = self.0.write_all(body);
    }

    fn json(&mut self, status: u16, body: &str) {
        self.send(status, "application/json", Some(body.len()), body.as_bytes());
    }

    /// `GET /ort/<dataset>/<version>`.
    fn describe(&mut self, address: SocketAddr, dataset: &str, version: &str) {
        match dataset {
            "nope" => return self.json(404, r#"{"error": "no such version"}"#),
            "broken" => return self.json(500, "{}"),
            "forbidden" => return self.json(403, "{}"),
            "busy" => return self.json(429, "{}"),
            "garbage" => return self.send(200, "text/html", Some(6), b"<html>"),
            "no-ort" => return self.json(200, "{}"),
            "hang-up" => return,
            // An answer that announces more than it holds.
            "cut-answer" => return self.send(200, "application/json", Some(4_000), br#"{"ort": {"type""#),
            _ => {}
        }
        let classes =
            if dataset == "wrong-names" { r#""red", "green""# } else { r#""red", "green", "blue""# };
        let model_type = if dataset == "unknown-type" { "no-such-model-type" } else { "yolov8n" };
        self.json(
            200,
            &format!(
                r##"{{"ort": {{"type": "object-detection", "modelType": "{model_type}", "classes": [{classes}], "colors": {{"red": "#ff0000", "green": "#00ff00", "blue": "#0000ff"}}, "environment": "http://{address}/environment/{dataset}/{version}", "model": "http://{address}/weights/{dataset}/{version}"}}}}"##
            ),
        );
    }

    fn weights(&mut self, dataset: &str, patience: &Patience) {
        let bytes = std::fs::read(media().join("toy.onnx")).expect("the toy model");
        let octets = "application/octet-stream";
        match dataset {
            "truncated" => self.send(200, octets, Some(bytes.len()), &bytes[..bytes.len() / 2]),
            "no-length" => self.send(200, octets, None, &bytes),
            "slow" => {
                let (first, second) = bytes.split_at(bytes.len() / 2);
                self.send(200, octets, Some(bytes.len()), first);
                patience.wait();
                let _ = self.0.write_all(second);
            }
            "damaged" => self.send(200, octets, Some(bytes.len()), &vec![0xA5; bytes.len()]),
            // More than any model may hold; nothing of it is ever sent.
            "huge" => self.send(200, octets, Some(1 << 40), b""),
            _ => self.send(200, octets, Some(bytes.len()), &bytes),
        }
    }
}
