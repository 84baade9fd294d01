//! The HTTP API. hyper parses and bounds requests; what they mean is in [`routes`].

mod cors;
mod events;
mod inventory;
mod live;
mod patient;
mod respond;
mod routes;
mod settings;
mod workflow;

pub use cors::Cors;
pub use settings::HttpSettings;

use std::convert::Infallible;
use std::rc::Rc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use smol::LocalExecutor;
use smol_hyper::rt::{FuturesIo, SmolTimer};

use crate::command::Execute;
use crate::feed::Listen;
use crate::proto::audit::Caller;
use crate::proto::connections::{self, ConnectionSlot};
use crate::proto::listen::{Listener, Stream};
use patient::Patient;
use settings::Client;

/// Accepts and answers until stopped or dropped.
pub async fn serve<E: Execute + Listen>(
    listener: impl Into<Listener>,
    executor: Rc<LocalExecutor<'static>>,
    commands: Rc<E>,
    settings: Rc<HttpSettings>,
) {
    let (limits, stop) = (settings.rules.limits.clone(), settings.rules.stop.clone());
    let serve = |stream, slot| converse(stream, slot, commands.clone(), settings.clone());
    connections::accept("http", listener.into(), executor, limits, stop, serve).await;
}

/// One connection with all its requests.
async fn converse<E: Execute + Listen>(
    stream: Stream,
    slot: ConnectionSlot,
    commands: Rc<E>,
    settings: Rc<HttpSettings>,
) {
    let Some(stream) = settings.rules.access_control.secure(stream).await else { return };
    let client =
        Client { caller: Caller::new("http", &stream, slot.peer), socket: stream.tcp(), slot: Rc::new(slot) };
    let io = FuturesIo::new(Patient::new(stream, settings.write_timeout));
    let service = service_fn(|request| {
        let (commands, settings, client) = (&commands, &settings, &client);
        async move { Ok::<_, Infallible>(routes::answer(request, &**commands, settings, client).await) }
    });
    let served = http1::Builder::new()
        .timer(SmolTimer::new())
        .header_read_timeout(settings.head_timeout)
        .max_headers(settings.max_headers)
        .max_buf_size(settings.max_head_bytes)
        .serve_connection(io, service)
        .await;
    if let Err(error) = served {
        log::debug!("listener=http event=connection_ended error={error:?}");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::proto::access::{Access, parse_tokens};
    use crate::proto::access_control::AccessControl;
    use crate::proto::fake::{Fake, run};
    use crate::proto::rules::Rules;
    use async_net::{TcpListener, TcpStream};
    use futures_lite::{AsyncReadExt, AsyncWriteExt};
    use std::net::SocketAddr;
    use std::time::Duration;

    async fn open(executor: &Rc<LocalExecutor<'static>>, settings: HttpSettings) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let listener = serve(listener, executor.clone(), Rc::new(Fake::default()), Rc::new(settings));
        executor.spawn(listener).detach();
        address
    }

    /// Status, head in lower case, body of the next reply on a connection.
    async fn receive(stream: &mut TcpStream) -> (u16, String, String) {
        let mut received = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&received).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let head = head.to_ascii_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                    return (status, head, body.to_owned());
                }
            }
            let count = stream.read(&mut chunk).await.unwrap();
            assert!(count > 0, "closed after {text:?}");
            received.extend_from_slice(&chunk[..count]);
        }
    }

    async fn ask(address: SocketAddr, request: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        receive(&mut stream).await
    }

    fn post(path: &str, headers: &str, body: &str) -> String {
        format!("POST {path} HTTP/1.1\r\nhost: h\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
    }

    const JSON: &str = "content-type: application/json\r\n";
    const INIT: &str =
        r#"{"model_id":"a/1","video_reference":"rtsp://u:p@h/1","sink_configuration":{"host":"h","port":9}}"#;

    #[test]
    fn paths_and_methods_as_in_the_reference() {
        run(|executor| async move {
            let address = open(&executor, HttpSettings::default()).await;
            for (request, status, header, body) in [
                ("GET /nope", 404, "", r#"{"detail":"Not Found"}"#),
                ("GET /", 404, "", r#"{"detail":"Not Found"}"#),
                ("GET /status", 404, "", r#"{"detail":"Not Found"}"#),
                ("GET /status/", 404, "", r#"{"detail":"Not Found"}"#),
                ("GET /status/a%2Fb", 404, "", r#"{"detail":"Not Found"}"#),
                ("GET /status/a/b", 404, "", r#"{"detail":"Not Found"}"#),
                ("POST /list_pipelines", 405, "allow: get", r#"{"detail":"Method Not Allowed"}"#),
                ("GET /initialise", 405, "allow: post", r#"{"detail":"Method Not Allowed"}"#),
                ("DELETE /terminate/x", 405, "allow: post", r#"{"detail":"Method Not Allowed"}"#),
                ("OPTIONS /list_pipelines", 405, "allow: get", r#"{"detail":"Method Not Allowed"}"#),
                ("GET /list_pipelines/?a=b", 307, "location: /list_pipelines?a=b", ""),
                ("GET /pause/x/", 307, "location: /pause/x", ""),
                ("GET //list_pipelines/", 404, "", r#"{"detail":"Not Found"}"#),
                (
                    "GET /status/my_pipeline",
                    404,
                    "",
                    r#"{"status":"failure","message":"Error in ProcessesManagerClient. Error type: not_found. Details: N/A"}"#,
                ),
                (
                    "POST /terminate/my_pipeline",
                    404,
                    "",
                    r#"{"status":"failure","message":"Error in ProcessesManagerClient. Error type: not_found. Details: N/A"}"#,
                ),
            ] {
                let (got, head, text) = ask(address, &format!("{request} HTTP/1.1\r\nhost: h\r\n\r\n")).await;
                assert_eq!((got, text.as_str()), (status, body), "{request}");
                assert!(head.contains(header), "{request}: {head}");
            }
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"HEAD /docs HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await.unwrap();
            let mut reply = String::new();
            stream.read_to_string(&mut reply).await.unwrap();
            assert!(reply.starts_with("HTTP/1.1 200 OK") && reply.ends_with("\r\n\r\n"), "{reply}");
        });
    }

    #[test]
    fn a_pipeline_from_initialise_to_terminate_on_one_connection() {
        run(|executor| async move {
            let address = open(&executor, HttpSettings::default()).await;
            let mut stream = TcpStream::connect(address).await.unwrap();
            let mut step = async |request: String| {
                stream.write_all(request.as_bytes()).await.unwrap();
                receive(&mut stream).await
            };
            let (status, head, made) = step(post("/initialise", JSON, INIT)).await;
            assert_eq!(status, 200, "{made}");
            assert!(head.contains("content-type: application/json"));
            let (start, id) = made.strip_suffix("\"}}").unwrap().rsplit_once('"').unwrap();
            assert!(
                start.starts_with(r#"{"status":"success","context":{"request_id":""#)
                    && start.ends_with(r#","pipeline_id":"#),
                "{made}"
            );
            let (_, _, list) = step("GET /list_pipelines HTTP/1.1\r\nhost: h\r\n\r\n".into()).await;
            assert!(list.ends_with(&format!(r#""pipeline_id":null}},"pipelines":["{id}"]}}"#)), "{list}");
            let (_, _, report) = step(format!("GET /status/{id} HTTP/1.1\r\nhost: h\r\n\r\n")).await;
            assert!(
                report.contains(&format!(
                    r#""pipeline_id":"{id}"}},"report":{{"video_source_status_updates":[{{"timestamp":"#
                )),
                "{report}"
            );
            assert!(
                report.contains(r#""error_message":"ä""#)
                    && report.contains(r#""source_reference":"rtsp://h/1""#),
                "{report}"
            );
            let (status, _, _) = step(post(&format!("/pause/{id}"), "", "ignored")).await;
            assert_eq!(status, 200);
            let (status, _, again) = step(post(&format!("/pause/{id}"), "", "")).await;
            let text = r#"{"status":"failure","message":"Error in ProcessesManagerClient. Error type: operation_error. Details: Could not MUTE stream in state: StreamState.MUTED"}"#;
            assert_eq!((status, again.as_str()), (500, text));
            for (path, status) in [("resume", 200), ("terminate", 200), ("terminate", 404)] {
                let (got, _, text) = step(post(&format!("/{path}/{id}"), "", "")).await;
                assert_eq!(got, status, "{text}");
            }
        });
    }

    #[test]
    fn bodies_are_refused_as_in_the_reference() {
        run(|executor| async move {
            let address = open(
                &executor,
                HttpSettings {
                    rules: Rules { max_message_bytes: 2000, ..Rules::default() },
                    ..HttpSettings::default()
                },
            )
            .await;
            let missing =
                r#"{"detail":[{"type":"missing","loc":["body"],"msg":"Field required","input":null}]}"#;
            let text = r#"{"detail":[{"type":"model_attributes_type","loc":["body"],"msg":"Input should be a valid dictionary or object to extract fields from","input":"{}"}]}"#;
            let cut = r#"{"detail":[{"type":"json_invalid","loc":["body",9],"msg":"JSON decode error","input":{},"ctx":{"error":"Expecting value"}}]}"#;
            let unreadable = r#"{"detail":"There was an error parsing the body"}"#;
            let sink = INIT.replace("\"port\"", "\"type\":\"mqtt\",\"port\"");
            let unsupported = r#"{"status":"failure","message":"Error in ProcessesManagerClient. Error type: invalid_payload. Details: Only `udp_socket` sink type is supported"}"#;
            let port = INIT.replace("\"port\":9", "\"port\":0");
            let bad_port = r#"{"status":"failure","message":"Error in ProcessesManagerClient. Error type: invalid_payload. Details: sink port must be an integer from 1 to 65535, not 0"}"#;
            let deep = "[".repeat(1500);
            let long = "x".repeat(2001);
            for (headers, body, status, expected) in [
                ("", "", 422, missing),
                (JSON, "null", 422, missing),
                ("content-type: text/plain\r\n", "{}", 422, text),
                ("content-type: application/x-www-form-urlencoded\r\n", "{}", 422, text),
                (JSON, "{\"type\": ", 422, cut),
                (JSON, &deep, 400, unreadable),
                (JSON, &sink, 400, unsupported),
                (JSON, &port, 400, bad_port),
                (JSON, &long, 413, r#"{"detail":"Request body is larger than 2000 bytes"}"#),
            ] {
                let (got, _, reply) = ask(address, &post("/initialise", headers, body)).await;
                assert_eq!((got, reply.as_str()), (status, expected), "{body}");
            }
            for headers in ["", "content-type: application/vnd.x+json; charset=utf-8\r\n"] {
                assert_eq!(ask(address, &post("/initialise", headers, INIT)).await.0, 200);
            }
            let chunked = format!(
                "POST /initialise HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{INIT}\r\n0\r\n\r\n",
                INIT.len()
            );
            assert_eq!(ask(address, &chunked).await.0, 200);
            let unknown_model = INIT.replace("a/1", "nope/7");
            assert_eq!(ask(address, &post("/initialise", JSON, &unknown_model)).await.0, 404);
        });
    }

    #[test]
    fn a_browser_gets_the_page_and_nobody_else_does() {
        run(|executor| async move {
            let address = open(&executor, HttpSettings::default()).await;
            let get = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nhost: h\r\n{more}\r\n");
            const BROWSER: &str = "accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";
            let (status, head, page) = ask(address, &get("/", BROWSER)).await;
            assert_eq!(status, 200);
            assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"), "{page}");
            assert!(
                head.contains("content-type: text/html; charset=utf-8\r\n")
                    && !head.contains("content-encoding"),
                "{head}"
            );
            assert!(
                head.contains("content-security-policy: default-src 'none'; script-src 'self';")
                    && !head.contains("unsafe-inline")
            );
            let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
            for known in [tag.to_owned(), format!("\"x\", W/{tag}")] {
                let (status, head, body) =
                    ask(address, &get("/", &format!("{BROWSER}if-none-match: {known}\r\n"))).await;
                assert_eq!((status, body.as_str()), (304, ""), "{head}");
            }
            assert_eq!(ask(address, &get("/", &format!("{BROWSER}if-none-match: \"x\"\r\n"))).await.0, 200);
            for (coding, packed) in [
                ("gzip, deflate, br", true),
                ("br, GZIP;q=0.5", true),
                ("gzip;q=0", false),
                ("identity", false),
            ] {
                let mut stream = TcpStream::connect(address).await.unwrap();
                let request =
                    get("/page/main.js", &format!("connection: close\r\naccept-encoding: {coding}\r\n"));
                stream.write_all(request.as_bytes()).await.unwrap();
                let mut reply = Vec::new();
                stream.read_to_end(&mut reply).await.unwrap();
                let end = reply.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
                let head = String::from_utf8_lossy(&reply[..end]).to_ascii_lowercase();
                assert!(
                    head.contains("content-type: text/javascript") && head.contains("vary: accept-encoding"),
                    "{head}"
                );
                assert_eq!(head.contains("content-encoding: gzip\r\n"), packed, "{coding}: {head}");
                assert_eq!(reply[end..].starts_with(&[0x1f, 0x8b]), packed, "{coding}");
            }
            for (path, more) in [
                ("/", ""),
                ("/", "accept: */*\r\n"),
                ("/page/nothing.js", BROWSER),
                ("/page/..%2fmain.js", BROWSER),
            ] {
                let (status, _, body) = ask(address, &get(path, more)).await;
                assert_eq!((status, body.as_str()), (404, r#"{"detail":"Not Found"}"#), "{path}");
            }
            let posted = post("/", BROWSER, "");
            assert_eq!(ask(address, &posted).await.0, 404, "as in the reference");
        });
    }

    #[test]
    fn several_pipelines_are_heard_in_one_stream() {
        run(|executor| async move {
            let address = open(&executor, HttpSettings::default()).await;
            let made = ask(address, &post("/initialise", JSON, INIT)).await.2;
            let id = made.strip_suffix("\"}}").unwrap().rsplit_once('"').unwrap().1.to_owned();
            let get = |query: &str| format!("GET /events{query} HTTP/1.1\r\nhost: h\r\n\r\n");
            let many: String = (0..33).map(|_| format!("&pipeline={}", uuid::Uuid::new_v4())).collect();
            for (query, status) in [
                ("", 400),
                ("?", 400),
                ("?pipelines=x", 400),
                ("?pipeline=x", 404),
                (format!("?{}", &many[1..]).as_str(), 400),
            ] {
                assert_eq!(ask(address, &get(query)).await.0, status, "{query}");
            }
            let mut stream = TcpStream::connect(address).await.unwrap();
            // The same twice is once.
            stream.write_all(get(&format!("?pipeline={id}&pipeline={id}")).as_bytes()).await.unwrap();
            let mut received = String::new();
            while !received.contains(": listening") {
                let mut chunk = [0; 1024];
                let count = stream.read(&mut chunk).await.unwrap();
                assert!(count > 0, "{received}");
                received.push_str(&String::from_utf8_lossy(&chunk[..count]));
            }
            assert!(received.to_ascii_lowercase().contains("content-type: text/event-stream"), "{received}");
        });
    }

    #[test]
    fn other_origins_are_served_only_when_configured() {
        run(|executor| async move {
            let closed = open(&executor, HttpSettings::default()).await;
            let cors = Cors { origins: vec!["https://dash.example".into()] };
            let opened = open(&executor, HttpSettings { cors, ..HttpSettings::default() }).await;
            let get =
                |origin: &str| format!("GET /list_pipelines HTTP/1.1\r\nhost: h\r\norigin: {origin}\r\n\r\n");
            let preflight = "OPTIONS /initialise HTTP/1.1\r\nhost: h\r\norigin: https://dash.example\r\naccess-control-request-method: POST\r\n\r\n";
            let (_, head, _) = ask(closed, &get("https://dash.example")).await;
            assert!(!head.contains("access-control"), "{head}");
            assert_eq!(ask(closed, preflight).await.0, 405);
            let (_, head, _) = ask(opened, &get("https://dash.example")).await;
            assert!(
                head.contains("access-control-allow-origin: https://dash.example")
                    && head.contains("vary: origin"),
                "{head}"
            );
            let (_, head, _) = ask(opened, &get("https://other.example")).await;
            assert!(!head.contains("access-control"), "{head}");
            let (status, head, body) = ask(opened, preflight).await;
            assert_eq!((status, body.as_str()), (200, "OK"));
            assert!(head.contains("access-control-allow-methods: get, head, options, post"), "{head}");
        });
    }

    /// A form or a script of a page sends this without asking first: a body without a type needs no
    /// preflight.
    #[test]
    fn a_page_of_another_origin_changes_nothing() {
        run(|executor| async move {
            let closed = open(&executor, HttpSettings::default()).await;
            let cors = Cors { origins: vec!["https://dash.example".into()] };
            let opened = open(&executor, HttpSettings { cors, ..HttpSettings::default() }).await;
            for (headers, to_closed, to_opened) in [
                ("", 200, 200),
                ("origin: https://evil.example\r\n", 403, 403),
                ("origin: null\r\n", 403, 403),
                ("origin: https://evil.example\r\nsec-fetch-site: cross-site\r\n", 403, 403),
                ("sec-fetch-site: same-site\r\n", 403, 403),
                ("sec-fetch-site: none\r\n", 200, 200),
                ("origin: https://dash.example\r\nsec-fetch-site: cross-site\r\n", 403, 200),
                // Our own page, as itself and behind a proxy that names us otherwise.
                ("origin: http://H\r\n", 200, 200),
                ("origin: https://proxy.example\r\nsec-fetch-site: same-origin\r\n", 200, 200),
            ] {
                let request = post("/initialise", headers, INIT);
                let found = (ask(closed, &request).await.0, ask(opened, &request).await.0);
                assert_eq!(found, (to_closed, to_opened), "{headers}");
            }
            let (status, _, _) = ask(
                closed,
                "GET /list_pipelines HTTP/1.1\r\nhost: h\r\norigin: https://evil.example\r\n\r\n",
            )
            .await;
            assert_eq!(status, 200, "asking changes nothing, and the page does not see the answer");
        });
    }

    #[test]
    fn a_token_opens_what_its_scope_says() {
        run(|executor| async move {
            let tokens = parse_tokens("r read 0123456789abcdef\nc control fedcba9876543210").unwrap();
            let rules =
                Rules::behind(AccessControl { access: Access::new(tokens), ..AccessControl::default() });
            let address = open(&executor, HttpSettings { rules, ..HttpSettings::default() }).await;
            let with = |line: &str, token: &str| {
                format!("{line} HTTP/1.1\r\nhost: h\r\nauthorization: bearer {token}\r\n\r\n")
            };
            let (status, head, body) = ask(address, "GET /list_pipelines HTTP/1.1\r\nhost: h\r\n\r\n").await;
            let text = r#"{"status":"failure","message":"Error in ProcessesManagerClient. Error type: authorisation_error. Details: A token is needed"}"#;
            assert_eq!((status, body.as_str()), (401, text));
            assert!(head.contains("www-authenticate: bearer"), "{head}");
            for (request, status) in [
                (with("GET /list_pipelines", "0123456789abcdef"), 200),
                (with("GET /list_pipelines", "0123456789abcdeg"), 401),
                (with("POST /pause/x", "0123456789abcdef"), 403),
                (with("POST /pause/x", "fedcba9876543210"), 404),
                (with("POST /initialise", "0123456789abcdef"), 403),
                ("GET /openapi.json HTTP/1.1\r\nhost: h\r\n\r\n".into(), 200),
            ] {
                assert_eq!(ask(address, &request).await.0, status, "{request}");
            }
        });
    }

    #[test]
    fn those_who_watch_get_their_figures() {
        run(|executor| async move {
            let tokens = parse_tokens("r read 0123456789abcdef\nc control fedcba9876543210").unwrap();
            let rules =
                Rules::behind(AccessControl { access: Access::new(tokens), ..AccessControl::default() });
            let address = open(&executor, HttpSettings { rules, ..HttpSettings::default() }).await;
            let get = |path: &str, headers: &str| format!("GET {path} HTTP/1.1\r\nhost: h\r\n{headers}\r\n");
            assert_eq!(ask(address, &get("/healthz", "")).await.2, "ok\n");
            assert_eq!(ask(address, &get("/readyz", "")).await.2, "ready\n");
            assert_eq!(ask(address, &get("/metrics", "")).await.0, 401);
            let control = "authorization: Bearer fedcba9876543210\r\n";
            let made = ask(address, &post("/initialise", control, INIT)).await.2;
            let id = made.strip_suffix("\"}}").unwrap().rsplit_once('"').unwrap().1;
            let (_, _, page) =
                ask(address, &get("/metrics", "authorization: Bearer 0123456789abcdef\r\n")).await;
            for line in [
                "# TYPE weir_pipelines gauge",
                "weir_pipelines 1",
                "weir_requests_total{listener=\"http\",outcome=\"success\"} 3",
                "weir_requests_total{listener=\"http\",outcome=\"refused\"} 1",
                &format!("weir_source_up{{pipeline=\"{id}\",source=\"0\"}} 1"),
                &format!("weir_source_state{{pipeline=\"{id}\",source=\"0\",state=\"RUNNING\"}} 1"),
                &format!("weir_source_state{{pipeline=\"{id}\",source=\"0\",state=\"ERROR\"}} 0"),
                &format!("weir_source_finished{{pipeline=\"{id}\",source=\"0\"}} 0"),
                "weir_access_refused_total{reason=\"locked_out\"} 0",
                &format!(
                    "weir_source_latency_seconds{{pipeline=\"{id}\",source=\"0\",stage=\"end_to_end\"}} 1"
                ),
            ] {
                assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
            }
        });
    }

    #[test]
    fn names_that_are_not_ours_are_not_served() {
        run(|executor| async move {
            let hosts = vec!["weir.local".to_owned()];
            let address = open(&executor, HttpSettings { hosts, ..HttpSettings::default() }).await;
            for (host, status) in [
                ("weir.local", 200),
                ("WEIR.local:8080", 200),
                ("127.0.0.1:8080", 200),
                ("[::1]:8080", 200),
                ("localhost", 200),
                ("evil.example", 421),
                ("", 421),
            ] {
                let request = format!("GET /list_pipelines HTTP/1.1\r\nhost: {host}\r\n\r\n");
                assert_eq!(ask(address, &request).await.0, status, "{host}");
            }
        });
    }

    /// Requests that two servers in a row could understand differently must not be understood at all.
    #[test]
    fn ambiguous_requests_are_refused() {
        run(|executor| async move {
            let address = open(&executor, HttpSettings::default()).await;
            let long = format!("GET /{} HTTP/1.1\r\nhost: h\r\n\r\n", "a".repeat(1 << 20));
            let many = format!("GET /nope HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(200));
            for request in [
                "POST /pause/x HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
                "POST /pause/x HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\ntransfer-encoding: identity\r\n\r\nhell",
                "GET /nope HTTP/1.1\r\nhost: h\r\n folded: x\r\n\r\n",
                "GET /nope HTTP/1.1\r\nho\0st: h\r\n\r\n",
                "GET /nope HTTP/9.9\r\nhost: h\r\n\r\n",
                "\x16\x03\x01\x02\0\x01\0\x01\u{7f}",
                &long,
                &many,
            ] {
                let mut stream = TcpStream::connect(address).await.unwrap();
                // The server may close before it has read all.
                let _ = stream.write_all(request.as_bytes()).await;
                let mut reply = Vec::new();
                let _ = stream.read_to_end(&mut reply).await;
                let reply = String::from_utf8_lossy(&reply);
                assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 4"), "{request:.80} → {reply}");
            }
        });
    }

    #[test]
    fn clients_that_dawdle_are_cut() {
        run(|executor| async move {
            let limit = Duration::from_millis(80);
            let rules = Rules { message_timeout: limit, ..Rules::default() };
            let settings = HttpSettings { head_timeout: limit, rules, ..HttpSettings::default() };
            let address = open(&executor, settings).await;
            let mut bytes = Vec::new();
            let mut half_head = TcpStream::connect(address).await.unwrap();
            half_head.write_all(b"GET /list_pipelines HTTP/1.1\r\nho").await.unwrap();
            let _ = half_head.read_to_end(&mut bytes).await;
            let head = String::from_utf8_lossy(&bytes).into_owned();
            assert!(head.is_empty() || head.starts_with("HTTP/1.1 408"), "{head}");
            let half_body = "POST /initialise HTTP/1.1\r\nhost: h\r\ncontent-length: 50\r\n\r\n{";
            assert_eq!(ask(address, half_body).await.0, 408);
        });
    }
}
