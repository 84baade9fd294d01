//! The recorded conversations with the reference, held against the real binary: the same requests in the same
//! order must be answered alike. What is free and what is compared exactly is in `support/recording.rs`;
//! where weir answers differently on purpose, the tables below say so and why.

use crate::support::recording::{
    self, Names, datagram_differences, differ_by_ties_only, differences, is_uuid4,
};
use crate::support::{Folder, Json, POLL, Weir, http, roboflow, rtsp, tcp, udp};
use std::time::{Duration, Instant};

/// A status may need a moment to become the recorded one: frames have to flow, a file has to end.
const SETTLES_WITHIN: Duration = Duration::from_secs(30);

/// How a record is treated that weir does not answer as the reference did.
enum Departure {
    /// The `response` is this instead.
    Answers(&'static str),
    /// These differences are right: a part of the path, for which the value is ours.
    At(&'static [&'static str]),
    /// Not asked at all.
    Skipped,
}

use Departure::{Answers, At, Skipped};

/// Name of the TCP record, what holds instead, and why.
const TCP_DEPARTURES: &[(&str, Departure, &str)] = &[
    (
        "list_includes_failed_inits",
        Answers(r#"{"pipelines": [], "status": "success"}"#),
        "a failed init leaves nothing behind, so there is nothing to list",
    ),
    (
        "status_of_failed_init",
        Answers(r#"{"status": "failure", "error_type": "not_found"}"#),
        "a failed init leaves no pipeline",
    ),
    (
        "mute_of_failed_init",
        Answers(r#"{"status": "failure", "error_type": "not_found"}"#),
        "a failed init leaves no pipeline",
    ),
    (
        "resume_of_failed_init",
        Answers(r#"{"status": "failure", "error_type": "not_found"}"#),
        "a failed init leaves no pipeline",
    ),
    (
        "terminate_of_failed_init",
        Answers(r#"{"status": "failure", "error_type": "not_found"}"#),
        "a failed init leaves no pipeline",
    ),
    ("init_model_bench/1", Skipped, "its model is not part of the recordings"),
    ("status_rtsp_running", At(&["/total_frames"]), "an RTSP stream does not tell weir its number of frames"),
    ("status_rtsp_muted", At(&["/total_frames"]), "an RTSP stream does not tell weir its number of frames"),
    ("status_rtsp_resumed", At(&["/total_frames"]), "an RTSP stream does not tell weir its number of frames"),
];

/// The same for HTTP.
const HTTP_DEPARTURES: &[(&str, Departure, &str)] = &[
    ("manager_down_list", Skipped, "manager and API are one process: neither can be down alone"),
    ("manager_down_pause", Skipped, "manager and API are one process: neither can be down alone"),
    (
        "openapi",
        Skipped,
        "a document of our own; `the_openapi_document_…` compares what clients are generated from",
    ),
    ("docs", Skipped, "a page of our own that works offline; see `the_pages_work_offline`"),
    ("redoc", Skipped, "a page of our own that works offline; see `the_pages_work_offline`"),
];

fn departure(table: &'static [(&str, Departure, &str)], name: &str) -> Option<&'static Departure> {
    table.iter().find(|(record, ..)| *record == name).map(|(_, departure, _)| departure)
}

/// Differences that a departure does not explain.
fn unexplained(found: Vec<String>, departure: Option<&Departure>) -> Vec<String> {
    let Some(At(paths)) = departure else { return found };
    found.into_iter().filter(|difference| !paths.iter().any(|path| difference.contains(path))).collect()
}

/// Puts this run's addresses where the recording has its own.
struct Stage {
    names: Names,
    camera: Option<rtsp::Camera>,
    sink: udp::Receiver,
}

impl Stage {
    fn new() -> Stage {
        Stage { names: Names::default(), camera: None, sink: udp::Receiver::new() }
    }

    fn translate(&mut self, recorded: &str) -> String {
        let mut text = self.names.translate(recorded);
        for port in ["9999", "9998"] {
            text = text.replace(&format!("\"port\": {port}"), &format!("\"port\": {}", self.sink.port()));
            text = text.replace(&format!("\"port\":{port}"), &format!("\"port\":{}", self.sink.port()));
        }
        if text.contains("rtsp://127.0.0.1:8555/cam") {
            let camera = self.camera.get_or_insert_with(|| rtsp::Camera::start("long.mp4", &[]));
            text = text.replace("rtsp://127.0.0.1:8555/cam", &camera.url());
        }
        text
    }
}

/// Forgets downloaded models: some records were taken with a cold cache.
fn cool(cache: &Folder) {
    for entry in std::fs::read_dir(cache.path()).unwrap().flatten() {
        let _ = std::fs::remove_dir_all(entry.path());
    }
}

#[test]
fn tcp_replies_are_the_recorded_ones() {
    let registry = roboflow::Server::start();
    let weir = Weir::with_registry(&registry);
    let mut stage = Stage::new();
    let mut failures = Vec::new();
    let mut compared = 0;
    for record in recording::load("tcp.jsonl") {
        let name = record.get("name").text().unwrap();
        let departure = departure(TCP_DEPARTURES, name);
        if matches!(departure, Some(Skipped)) {
            continue;
        }
        if name.ends_with("cold_cache") {
            cool(&weir.cache);
        }
        let request = stage.translate(record.get("request_text").text().expect("all records here are text"));
        let recorded = Json::parse(&stage.translate(record.get("response_text").text().unwrap()));
        let expected = match departure {
            Some(Answers(response)) => with_response(&recorded, response),
            _ => recorded,
        };
        let deadline = Instant::now() + SETTLES_WITHIN;
        let found = loop {
            let text = tcp::exchange(weir.tcp, &tcp::frame(request.as_bytes()));
            let ours = Json::parse(&text);
            let mut found = Vec::new();
            if ours.to_string() != text {
                found.push(format!("not in Python's style: {text}"));
            }
            if !ours.get("request_id").text().is_some_and(is_uuid4) {
                found.push(format!("request_id {} is no UUID4", ours.get("request_id")));
            }
            let mut expected = expected.clone();
            if request.contains("\"init\"") {
                stage.names.learn(expected.get("pipeline_id"), ours.get("pipeline_id"));
                // The id of a new pipeline is ours to choose; that of one that never came to be names
                // nothing.
                set(&mut expected, "pipeline_id", ours.get("pipeline_id").clone());
            }
            found.extend(unexplained(differences(&expected, &ours), departure));
            if found.is_empty() || !name.starts_with("status") || Instant::now() > deadline {
                break found;
            }
            std::thread::sleep(POLL);
        };
        compared += 1;
        if !found.is_empty() {
            failures.push(format!("{name}: {request}\n  {}", found.join("\n  ")));
        }
    }
    assert!(compared > 50, "only {compared} records compared");
    assert!(failures.is_empty(), "{} of {compared} records differ\n{}", failures.len(), failures.join("\n"));
    drop(weir);
    assert!(
        registry.seen().iter().any(|target| target.starts_with("/ort/toy/1?nocache=true&device=")
            && target.contains("&dynamic=true&api_key=good-key")),
        "the registry is asked as the reference asks it: {:?}",
        registry.seen()
    );
}

fn with_response(recorded: &Json, response: &str) -> Json {
    let mut reply = recorded.clone();
    set(&mut reply, "response", Json::parse(response));
    reply
}

fn set(object: &mut Json, key: &str, value: Json) {
    if let Json::Object(members) = object {
        for (name, slot) in members {
            if name == key {
                *slot = value.clone();
            }
        }
    }
}

#[test]
fn http_responses_are_the_recorded_ones() {
    let registry = roboflow::Server::start();
    let weir = Weir::with_registry(&registry);
    let mut stage = Stage::new();
    let mut failures = Vec::new();
    let mut compared = 0;
    for record in recording::load("http.jsonl") {
        let name = record.get("name").text().unwrap();
        if matches!(departure(HTTP_DEPARTURES, name), Some(Skipped)) {
            continue;
        }
        if matches!(name, "initialise_bad_key" | "initialise_no_key") {
            cool(&weir.cache);
        }
        let method = record.get("method").text().unwrap();
        let path = stage.translate(record.get("path").text().unwrap());
        let body = stage.translate(record.get("request_body").text().unwrap_or(""));
        let recorded = Json::parse(&stage.translate(record.get("response_body").text().unwrap()));
        let headers: Vec<(&str, &str)> = record
            .get("request_headers")
            .members()
            .iter()
            .map(|(name, value)| (name.as_str(), value.text().unwrap()))
            .collect();
        let deadline = Instant::now() + SETTLES_WITHIN;
        let found = loop {
            let response = http::request(weir.http, method, &path, &headers, body.as_bytes());
            if matches!(name, "initialise_bad_key" | "initialise_no_key")
                && response.status == 200
                && Instant::now() < deadline
            {
                // A thread still ran a frame of the pipeline before: a model in use needs no key.
                let id = response.json().at("context/pipeline_id").text().unwrap().to_owned();
                weir.order("terminate", &id);
                cool(&weir.cache);
                continue;
            }
            let mut found = Vec::new();
            if Some(f64::from(response.status)) != record.get("status").number() {
                found.push(format!("status {} ≠ {}", record.get("status"), response.status));
            }
            let recorded_type = record.at("response_headers/content-type").text();
            if response.header("content-type") != recorded_type {
                found.push(format!("content-type {recorded_type:?} ≠ {:?}", response.header("content-type")));
            }
            if response.header("content-length") != Some(response.body.len().to_string().as_str()) {
                found.push(format!("content-length {:?}", response.header("content-length")));
            }
            let ours = response.json();
            if format!("{ours:#}") != response.body {
                found.push(format!("not compact: {}", response.body));
            }
            let mut expected = recorded.clone();
            if path == "/initialise" {
                stage.names.learn(recorded.at("context/pipeline_id"), ours.at("context/pipeline_id"));
                expected = expected.map_texts(&|text| stage.names.translate(text));
            }
            found.extend(differences(&expected, &ours));
            if found.is_empty() || !name.starts_with("status") || Instant::now() > deadline {
                break found;
            }
            std::thread::sleep(POLL);
        };
        compared += 1;
        if !found.is_empty() {
            failures.push(format!("{name}: {method} {path} {body}\n  {}", found.join("\n  ")));
        }
    }
    assert!(compared >= 20, "only {compared} records compared");
    assert!(failures.is_empty(), "{} of {compared} records differ\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn the_openapi_document_has_the_paths_and_schemas_that_clients_are_generated_from() {
    let weir = Weir::start();
    let response = weir.get("/openapi.json");
    assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")));
    let ours = response.json();
    let recorded = recording::load("openapi.json").remove(0);
    assert_eq!(ours.get("openapi"), recorded.get("openapi"));
    for (path, methods) in recorded.get("paths").members() {
        for (method, operation) in methods.members() {
            let own = ours.get("paths").get(path).get(method);
            assert_eq!(own.get("operationId"), operation.get("operationId"), "{method} {path}");
            // A 422 is only where weir can send one: an id in a path is text, whatever it is.
            let statuses = if path == "/initialise" { &["200", "422"][..] } else { &["200"] };
            for status in statuses {
                assert_ne!(own.get("responses").get(status), &Json::Null, "{method} {path} {status}");
            }
        }
    }
    for (name, schema) in recorded.at("components/schemas").members() {
        let own = ours.at("components/schemas").get(name);
        let mut theirs = schema.get("properties").keys();
        let mut properties = own.get("properties").keys();
        theirs.sort_unstable();
        properties.sort_unstable();
        properties.retain(|key| theirs.contains(key));
        assert_eq!(properties, theirs, "{name}");
        assert_eq!(own.get("required"), schema.get("required"), "{name}");
    }
}

#[test]
fn the_pages_work_offline() {
    let weir = Weir::start();
    for path in ["/docs", "/redoc"] {
        let response = weir.get(path);
        assert_eq!(
            (response.status, response.header("content-type")),
            (200, Some("text/html; charset=utf-8")),
            "{path}"
        );
        for elsewhere in ["src=\"http", "href=\"http", "src=\"//", "@import"] {
            assert!(!response.body.contains(elsewhere), "{path} needs the Internet: {elsewhere}");
        }
    }
}

/// Every frame of short.mp4 through a model of the registry, against the recorded datagrams of `run`: at
/// least `exact` of them alike in every value, the others in all but the winners of ties.
fn datagrams_are_the_recorded_ones(run: &str, model: &str, exact: usize) {
    let registry = roboflow::Server::start();
    let weir = Weir::with_registry(&registry);
    let sink = udp::Receiver::new();
    weir.init(&Json::parse(&format!(
        r#"{{"type": "init", "model_id": "{model}", "video_reference": "{}", "api_key": "good-key",
            "sink_configuration": {{"type": "udp_sink", "host": "127.0.0.1", "port": {}}},
            "model_configuration": {{"type": "object-detection"}}}}"#,
        crate::support::clip("short.mp4"),
        sink.port()
    )));
    let recorded: Vec<Json> = recording::load("udp.jsonl")
        .into_iter()
        .filter(|record| record.get("name").text() == Some(run))
        .collect();
    let total = recorded.first().and_then(|record| record.get("total").number()).expect("the run is recorded")
        as usize;
    let ours: Vec<String> = (0..total).map(|_| sink.text()).collect();
    let mut failures = Vec::new();
    let mut alike = 0;
    for record in &recorded {
        let index = record.get("index").number().unwrap() as usize;
        let datagram = Json::parse(record.get("datagram_text").text().unwrap());
        let found = datagram_differences(&datagram, &ours[index]);
        alike += usize::from(found.is_empty());
        if !found.is_empty() && !differ_by_ties_only(&datagram, &ours[index]) {
            failures.push(format!("datagram {index}: {}", found.join("; ")));
        }
    }
    assert!(failures.is_empty(), "{} of {} differ\n{}", failures.len(), recorded.len(), failures.join("\n"));
    assert!(alike >= exact, "only {alike} of {} are alike in every value", recorded.len());
    assert_eq!(sink.text_within(Duration::from_millis(200)), None, "one datagram per frame and no more");
}

#[test]
fn datagrams_of_every_frame_with_a_stretched_input() {
    datagrams_are_the_recorded_ones("short_mp4_toy1_default", "toy/1", 50);
}

#[test]
fn datagrams_with_a_letterboxed_input() {
    datagrams_are_the_recorded_ones("short_mp4_toy/2", "toy/2", 5);
}

#[test]
fn datagrams_with_a_cropped_input() {
    // Six anchors inside the green rectangle score exactly 1: every frame has a tie.
    datagrams_are_the_recorded_ones("short_mp4_toy/5", "toy/5", 0);
}
