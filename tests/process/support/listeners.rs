//! The two listeners of a running service, wherever it runs: in a process of this machine or in a guest.

use super::{Json, http, tcp, wait_for};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// Where a service listens, and what it says.
pub struct Listeners {
    pub tcp: SocketAddr,
    pub http: SocketAddr,
    pub log: Arc<Mutex<Vec<String>>>,
}

impl Listeners {
    /// One command over TCP; the whole reply.
    pub fn ask(&self, request: &Json) -> Json {
        tcp::command(self.tcp, request)
    }

    /// `init` over TCP, which must succeed; the new pipeline's id.
    #[track_caller]
    pub fn init(&self, request: &Json) -> String {
        let reply = self.ask(request);
        assert_eq!(reply.at("response/status").text(), Some("success"), "{reply}\n{}", self.log());
        reply.get("pipeline_id").text().expect("init answers with an id").to_owned()
    }

    /// A command that names a pipeline; the `response` part.
    pub fn order(&self, word: &str, pipeline: &str) -> Json {
        let request = Json::parse(&format!(r#"{{"type": "{word}", "pipeline_id": "{pipeline}"}}"#));
        self.ask(&request).get("response").clone()
    }

    /// The report of a pipeline, which must exist.
    #[track_caller]
    pub fn report(&self, pipeline: &str) -> Json {
        let response = self.order("status", pipeline);
        assert_eq!(response.get("status").text(), Some("success"), "{response}");
        response.get("report").clone()
    }

    /// Asks for the report until its first source is in `state`.
    #[track_caller]
    pub fn wait_state(&self, pipeline: &str, state: &str) -> Json {
        let mut last = Json::Null;
        let report = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_for(state, || {
                last = self.report(pipeline);
                (last.at("sources_metadata/0/state").text() == Some(state)).then(|| last.clone())
            })
        }));
        report.unwrap_or_else(|_| panic!("never {state}; last report: {last}\n{}", self.log()))
    }

    /// The ids that `list_pipelines` answers.
    pub fn list(&self) -> Vec<String> {
        let reply = self.ask(&Json::parse(r#"{"type": "list_pipelines"}"#));
        reply.at("response/pipelines").items().iter().map(|id| id.text().unwrap().to_owned()).collect()
    }

    /// A GET over HTTP.
    pub fn get(&self, path: &str) -> http::Response {
        http::request(self.http, "GET", path, &[], b"")
    }

    /// A POST of JSON over HTTP.
    pub fn post(&self, path: &str, body: &str) -> http::Response {
        http::request(self.http, "POST", path, &[("content-type", "application/json")], body.as_bytes())
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }
}
