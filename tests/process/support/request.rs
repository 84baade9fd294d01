//! Requests that more than one rank makes.

use super::Json;

/// An `init` of that model; `video` is JSON (a text in quotes, or a list of them), `extra` holds further
/// members, each with a comma before it. Datagrams go to `port` of the loopback.
pub fn init(model: &str, video: &str, port: u16, extra: &str) -> Json {
    init_to(model, video, ("127.0.0.1", port), extra)
}

/// The same, with datagrams to that host and port.
pub fn init_to(model: &str, video: &str, (host, port): (&str, u16), extra: &str) -> Json {
    Json::parse(&format!(
        r#"{{"type": "init", "model_id": "{model}", "video_reference": {video},
            "sink_configuration": {{"type": "udp_sink", "host": "{host}", "port": {port}}},
            "model_configuration": {{"type": "object-detection"}}{extra}}}"#
    ))
}

/// A text as JSON.
pub fn quoted(text: &str) -> String {
    Json::from(text).to_string()
}
