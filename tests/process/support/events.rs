//! A client of server-sent events over HTTP/1.1 chunks.

use super::{Json, PATIENCE, http};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

/// Listens to a pipeline.
pub struct Events {
    stream: BufReader<TcpStream>,
    /// Chunks taken apart, not yet read as events.
    text: String,
}

/// One event.
#[derive(Debug)]
pub struct Event {
    pub name: String,
    pub data: String,
}

impl Event {
    #[track_caller]
    pub fn json(&self) -> Json {
        Json::parse(&self.data)
    }
}

impl Events {
    /// Asks, and reads until the greeting has come; the refusal when there is one.
    #[track_caller]
    pub fn listen(address: SocketAddr, pipeline: &str) -> Result<Events, http::Response> {
        Events::ask(address, pipeline).begin()
    }

    /// Reads the head of the answer, and the greeting.
    #[track_caller]
    pub fn begin(mut self) -> Result<Events, http::Response> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.stream.read_line(&mut head).expect("a head in time") > 0, "closed after {head:?}");
        }
        if !head.starts_with("HTTP/1.1 200") {
            return Err(http::parse(head.as_bytes()));
        }
        assert!(head.to_ascii_lowercase().contains("content-type: text/event-stream\r\n"), "{head}");
        assert!(self.chunk(), "a greeting");
        Ok(self)
    }

    /// Asks and reads nothing.
    pub fn ask(address: SocketAddr, pipeline: &str) -> Events {
        Events::ask_with(address, pipeline, "")
    }

    /// Listens to several pipelines at once.
    #[track_caller]
    pub fn listen_to(address: SocketAddr, pipelines: &[&str]) -> Events {
        let query: Vec<String> = pipelines.iter().map(|id| format!("pipeline={id}")).collect();
        Events::get(address, &format!("/events?{}", query.join("&")), "").begin().expect("a stream")
    }

    /// The same with header fields, each with its line end.
    pub fn ask_with(address: SocketAddr, pipeline: &str, fields: &str) -> Events {
        Events::get(address, &format!("/pipelines/{pipeline}/events"), fields)
    }

    fn get(address: SocketAddr, path: &str, fields: &str) -> Events {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the HTTP listener accepts");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n{fields}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        Events { stream: BufReader::new(stream), text: String::new() }
    }

    /// The next event; `None` at the end of the body or of the connection.
    #[track_caller]
    pub fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    block.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("").to_owned()
                };
                let event = Event { name: field("event: "), data: field("data: ") };
                self.text = rest.to_owned();
                if !event.name.is_empty() {
                    return Some(event);
                }
            } else if !self.chunk() {
                return None;
            }
        }
    }

    /// The next event of that name.
    #[track_caller]
    pub fn named(&mut self, name: &str) -> Event {
        while let Some(event) = self.next() {
            if event.name == name {
                return event;
            }
        }
        panic!("the stream ended without {name}")
    }

    fn chunk(&mut self) -> bool {
        let mut size = String::new();
        if self.stream.read_line(&mut size).is_err() {
            return false;
        }
        let Ok(size) = usize::from_str_radix(size.trim(), 16) else { return false };
        let mut bytes = vec![0; size + 2];
        if size == 0 || self.stream.read_exact(&mut bytes).is_err() {
            return false;
        }
        bytes.truncate(size);
        self.text.push_str(&String::from_utf8(bytes).expect("events are UTF-8"));
        true
    }
}
