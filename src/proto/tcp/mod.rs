//! The Stream Manager's TCP protocol: one length-prefixed JSON message, one reply, then the server closes.

mod frame;
mod message;

use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::{AsyncRead, AsyncReadExt, future};
use smol::LocalExecutor;

use crate::command::Execute;
use crate::error::{Error, Kind};
use crate::json::{self, Reason};
use crate::proto::access_control::{AccessControl, Outcome};
use crate::proto::audit::Caller;
use crate::proto::connections::{self, ConnectionSlot};
use crate::proto::listen::{Listener, Stream};
use crate::proto::rules::Rules;
use crate::proto::who::Who;
use frame::Patience;
use message::Message;

/// How the listener behaves; the defaults are those of the documentation.
#[derive(Debug, Clone)]
pub struct TcpSettings {
    /// Longest silence of a client in the middle of a message: `STREAM_MANAGER_SOCKET_TIMEOUT`.
    pub socket_timeout: Duration,
    /// What holds at both listeners.
    pub rules: Rules,
}

impl Default for TcpSettings {
    fn default() -> Self {
        TcpSettings { socket_timeout: Duration::from_secs(5), rules: Rules::default() }
    }
}

/// Accepts and answers until stopped or dropped.
pub async fn serve<E: Execute>(
    listener: impl Into<Listener>,
    executor: Rc<LocalExecutor<'static>>,
    commands: Rc<E>,
    settings: Rc<TcpSettings>,
) {
    let (limits, stop) = (settings.rules.limits.clone(), settings.rules.stop.clone());
    let serve = |stream, slot| converse(stream, slot, commands.clone(), settings.clone());
    connections::accept("tcp", listener.into(), executor, limits, stop, serve).await;
}

/// One connection, from its first byte to its end.
async fn converse<E: Execute>(
    stream: Stream,
    slot: ConnectionSlot,
    commands: Rc<E>,
    settings: Rc<TcpSettings>,
) {
    let Rules { access_control, max_message_bytes, message_timeout, .. } = &settings.rules;
    let Some(mut stream) = access_control.secure(stream).await else { return };
    let caller = Caller::new("tcp", &stream, slot.peer);
    let patience = || Patience { step: settings.socket_timeout, deadline: Instant::now() + *message_timeout };
    let read = frame::read(&mut stream, patience(), *max_message_bytes).await;
    let read_all = read.is_ok();
    let (message, who) = match read {
        Ok(bytes) => decode(&bytes, access_control, &caller),
        Err(error) => (Message::failed(error), None),
    };
    if who.is_some() {
        slot.admitted();
    }
    slot.busy();
    let who = who.unwrap_or(Who::Anyone);
    let outcome = match message.command {
        Ok(command) => access_control.carry_out(&*commands, command, &caller, &who).await,
        Err(error) => Err(error),
    };
    slot.idle();
    if let Err(error) = &outcome {
        log::debug!("listener=tcp event=failure error={error}");
    }
    access_control.count(if outcome.is_ok() { Outcome::TcpSuccess } else { Outcome::TcpFailure });
    let reply = message::reply(&message.pipeline_id, &outcome);
    let sent = frame::write(&mut stream, patience(), &reply).await;
    // A client that sent exactly its message in the clear needs no farewell: nothing is unread, so closing
    // does not reset.
    let needs_farewell = stream.is_encrypted() || !read_all || !is_silent(&mut stream).await;
    if sent.is_ok() && needs_farewell {
        // Whether the rest could be thrown away changes nothing for anybody.
        let _ = frame::close(&mut stream).await;
    }
}

/// Nothing more has come from the client so far.
async fn is_silent(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    let mut byte = [0];
    match future::poll_once(stream.read(&mut byte)).await {
        None | Some(Ok(0)) => true,
        Some(_) => false,
    }
}

/// Bytes → message, and for whom; `None`: for nobody who was let in. Who may not ask learns nothing but that.
fn decode(bytes: &[u8], access_control: &AccessControl, caller: &Caller) -> (Message, Option<Who>) {
    match json::parse(bytes) {
        Ok(document) => {
            let changing = message::changing(&document);
            match access_control.admit(caller, message::token(&document), message::scope(&document)) {
                Ok(who) => {
                    let message = message::read(&document);
                    if let (Some(name), Err(_)) = (changing, &message.command) {
                        access_control.audit.unread(caller, &who, name);
                    }
                    (message, Some(who))
                }
                Err(error) => {
                    if let Some(name) = changing {
                        access_control.audit.refused(caller, name, &error);
                    }
                    (Message::failed(error), None)
                }
            }
        }
        Err(fault) => {
            let error = match fault.reason {
                Reason::Depth => {
                    Error::new(Kind::TooDeep, format!("JSON nested deeper than {} levels", json::MAX_DEPTH))
                }
                Reason::Values => {
                    Error::new(Kind::TooLarge, format!("JSON of more than {} values", json::MAX_VALUES))
                }
                _ => Error::new(Kind::MalformedPayload, "Received payload that is not in a JSON format"),
            };
            (Message::failed(error), None)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::proto::access::{Access, parse_tokens};
    use crate::proto::connections::Limits;
    use crate::proto::fake::{Fake, run};
    use crate::proto::reach::Reach;
    use crate::proto::tls::{self, Tls};
    use async_net::{TcpListener, TcpStream};
    use futures_lite::AsyncWriteExt;
    use smol::Timer;
    use std::net::{Shutdown, SocketAddr};

    /// A listener with a short socket timeout.
    async fn open(executor: &Rc<LocalExecutor<'static>>, settings: TcpSettings) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let listener = serve(listener, executor.clone(), Rc::new(Fake::default()), Rc::new(settings));
        executor.spawn(listener).detach();
        address
    }

    fn impatient() -> TcpSettings {
        TcpSettings { socket_timeout: Duration::from_millis(80), ..TcpSettings::default() }
    }

    fn framed(body: &[u8]) -> Vec<u8> {
        [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat()
    }

    async fn reply(stream: &mut TcpStream) -> String {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        let (header, body) = bytes.split_first_chunk::<4>().unwrap();
        assert_eq!(u32::from_be_bytes(*header) as usize, body.len());
        String::from_utf8(body.to_vec()).unwrap()
    }

    async fn ask(address: SocketAddr, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        reply(&mut stream).await
    }

    /// The reply without its request id, which differs each time.
    fn without_id(reply: &str) -> &str {
        let (id, rest) = reply.strip_prefix("{\"request_id\": \"").unwrap().split_once("\", ").unwrap();
        assert_eq!(id.len(), 36);
        rest
    }

    #[test]
    fn every_fault_of_the_frame_is_answered_in_the_protocol() {
        run(|executor| async move {
            let address = open(&executor, impatient()).await;
            let list = b"{\"type\": \"list_pipelines\"}";
            let good = r#""response": {"pipelines": [], "status": "success"}, "pipeline_id": null}"#;
            let failed = |kind: &str, class: &str, text: &str| {
                format!(
                    r#""response": {{"status": "failure", "error_type": "{kind}", "error_class": "{class}", "error_message": "{text}"}}, "pipeline_id": null}}"#
                )
            };
            let malformed = failed(
                "invalid_payload",
                "MalformedPayloadError",
                "Received payload that is not in a JSON format",
            );
            let timed_out = failed("internal_error", "TimeoutError", "timed out");
            let closed = failed(
                "internal_error",
                "TransmissionChannelClosed",
                "Socket was closed to read before payload was decoded.",
            );
            // Bytes sent, whether the sending side is then closed, the reply.
            let utf16: Vec<u8> =
                "{\"type\": \"list_pipelines\"}".encode_utf16().flat_map(u16::to_le_bytes).collect();
            for (bytes, then_closed, expected) in [
                (framed(list), false, good.to_owned()),
                (framed(&utf16), false, good.to_owned()),
                ([framed(list), framed(list)].concat(), false, good.to_owned()),
                ([framed(list), vec![b'x'; 300_000]].concat(), false, good.to_owned()),
                (framed(b"{'type': 1}"), false, malformed.clone()),
                (framed(b"\xff\xfe\xff"), false, malformed.clone()),
                (framed(b"{\"type\": \"list_pipelines\"} x"), false, malformed.clone()),
                (
                    framed("[".repeat(100_000).as_bytes()),
                    false,
                    failed("internal_error", "RecursionError", "JSON nested deeper than 512 levels"),
                ),
                (
                    vec![0; 4],
                    false,
                    failed(
                        "internal_error",
                        "MalformedHeaderError",
                        "Header is indicating non positive payload size: 0",
                    ),
                ),
                (
                    vec![0, 0],
                    true,
                    failed(
                        "internal_error",
                        "MalformedHeaderError",
                        r"Expected header size: 4, received: b'\\x00\\x00'",
                    ),
                ),
                (framed(list)[..10].to_vec(), true, closed),
                (framed(list)[..10].to_vec(), false, timed_out.clone()),
                (Vec::new(), false, timed_out),
                (
                    [vec![255; 4], vec![0; 200_000]].concat(),
                    false,
                    failed(
                        "invalid_payload",
                        "PayloadTooLargeError",
                        "Payload of 4294967295 bytes is larger than the limit of 1048576 bytes",
                    ),
                ),
            ] {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(&bytes).await.unwrap();
                if then_closed {
                    stream.shutdown(Shutdown::Write).unwrap();
                }
                assert_eq!(without_id(&reply(&mut stream).await), expected, "{} bytes", bytes.len());
            }
        });
    }

    #[test]
    fn a_header_in_single_bytes_is_read() {
        run(|executor| async move {
            let address = open(&executor, impatient()).await;
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            for byte in framed(b"{\"type\": \"list_pipelines\"}") {
                stream.write_all(&[byte]).await.unwrap();
                // Lets the listener see each byte by itself.
                Timer::after(Duration::from_millis(2)).await;
            }
            assert!(reply(&mut stream).await.contains("success"));
        });
    }

    #[test]
    fn commands_answer_in_the_envelope_of_the_reference() {
        run(|executor| async move {
            let address = open(&executor, TcpSettings::default()).await;
            let failure = |kind: &str, id: &str| {
                format!(
                    r#""response": {{"status": "failure", "error_type": "{kind}"}}, "pipeline_id": {id}}}"#
                )
            };
            let explained = |kind: &str, class: &str, text: &str, id: &str| {
                format!(
                    r#""response": {{"status": "failure", "error_type": "{kind}", "error_class": "{class}", "error_message": "{text}"}}, "pipeline_id": {id}}}"#
                )
            };
            for (body, expected) in [
                (
                    r#"{"type": "explode"}"#,
                    explained(
                        "invalid_payload",
                        "ValueError",
                        "'explode' is not a valid CommandType",
                        "null",
                    ),
                ),
                (
                    r#"{"type": null, "pipeline_id": "x"}"#,
                    explained("invalid_payload", "ValueError", "None is not a valid CommandType", "null"),
                ),
                (
                    r#"{"type": ["init"]}"#,
                    explained("invalid_payload", "ValueError", "['init'] is not a valid CommandType", "null"),
                ),
                (
                    r#"{"type": "pause", "pipeline_id": "x"}"#,
                    explained("invalid_payload", "ValueError", "'pause' is not a valid CommandType", "null"),
                ),
                (r#"{"pipeline_id": "x"}"#, explained("invalid_payload", "KeyError", "'type'", "null")),
                (r#"{"type": "status"}"#, explained("invalid_payload", "KeyError", "'pipeline_id'", "null")),
                (
                    r#"{"type": "mute", "pipeline_id": "my_pipeline"}"#,
                    failure("not_found", "\"my_pipeline\""),
                ),
                (r#"{"type": "resume", "pipeline_id": null}"#, failure("not_found", "null")),
                (r#"{"type": "terminate", "pipeline_id": 5}"#, failure("not_found", "5")),
                (r#"{"type": "status", "pipeline_id": "ä"}"#, failure("not_found", "\"\\u00e4\"")),
                (
                    r#"{"type": "status", "pipeline_id": ["a"]}"#,
                    explained("internal_error", "TypeError", "unhashable type: 'list'", "[\"a\"]"),
                ),
                (
                    r#"{"type": "status", "pipeline_id": {}}"#,
                    explained("internal_error", "TypeError", "unhashable type: 'dict'", "{}"),
                ),
                (
                    "[]",
                    explained(
                        "internal_error",
                        "TypeError",
                        "list indices must be integers or slices, not str",
                        "null",
                    ),
                ),
                (
                    "null",
                    explained(
                        "internal_error",
                        "TypeError",
                        "'NoneType' object is not subscriptable",
                        "null",
                    ),
                ),
            ] {
                assert_eq!(without_id(&ask(address, &framed(body.as_bytes())).await), expected, "{body}");
            }
        });
    }

    const INIT: &str = r#"{"type": "init", "model_id": "MODEL", "video_reference": "rtsp://u:p@h/1", "model_configuration": {"type": "object-detection"},
        "sink_configuration": {"type": "udp_sink", "host": "127.0.0.1", "port": 9}}"#;

    #[test]
    fn a_pipeline_from_init_to_terminate() {
        run(|executor| async move {
            let address = open(&executor, TcpSettings::default()).await;
            let made = ask(address, &framed(INIT.as_bytes())).await;
            let made = without_id(&made);
            let id = made
                .strip_prefix(r#""response": {"status": "success"}, "pipeline_id": ""#)
                .unwrap()
                .strip_suffix("\"}")
                .unwrap();
            let of = |kind: &str, id: &str| {
                framed(format!(r#"{{"type": "{kind}", "pipeline_id": "{id}"}}"#).as_bytes())
            };
            let done = format!(r#""response": {{"status": "success"}}, "pipeline_id": "{id}"}}"#);
            let muted = format!(
                r#""response": {{"status": "failure", "error_type": "operation_error", "error_class": "StreamOperationNotAllowedError", "error_message": "Could not MUTE stream in state: StreamState.MUTED"}}, "pipeline_id": "{id}"}}"#
            );
            assert_eq!(without_id(&ask(address, &of("mute", id)).await), done);
            assert_eq!(without_id(&ask(address, &of("mute", id)).await), muted);
            let status = ask(address, &of("status", id)).await;
            let stamp = Wall::from_micros(5).iso_local();
            let expected = format!(
                concat!(
                    r#""response": {{"status": "success", "report": {{"video_source_status_updates": ["#,
                    r#"{{"timestamp": "{stamp}", "severity": 20, "event_type": "INFERENCE_THREAD_STARTED", "payload": {{}}, "context": "inference_pipeline"}}, "#,
                    r#"{{"timestamp": "{stamp}", "severity": 40, "event_type": "SOURCE_ERROR", "payload": {{"source_id": 0, "error_type": "SourceLostError", "#,
                    r#""error_message": "\u00e4", "error_context": "stream_consumer_thread", "count": 3}}, "context": "video_source"}}], "#,
                    r#""latency_reports": [{{"source_id": 0, "frame_decoding_latency": 0.5, "inference_latency": null, "e2e_latency": 1.0}}], "#,
                    r#""inference_throughput": 0.0, "sources_metadata": [{{"source_properties": {{"width": 640, "height": 480, "total_frames": 3600, "#,
                    r#""is_file": false, "fps": 30.0, "is_reconnectable": null, "timestamp_created": null}}, "source_reference": "rtsp://h/1", "#,
                    r#""buffer_size": 64, "state": "MUTED", "buffer_filling_strategy": null, "buffer_consumption_strategy": "EAGER", "source_id": 0}}]}}}}, "#,
                    r#""pipeline_id": "{id}"}}"#
                ),
                stamp = stamp,
                id = id
            );
            assert_eq!(without_id(&status), expected);
            assert!(ask(address, &of("status", &id.to_uppercase())).await.contains("not_found"));
            assert_eq!(without_id(&ask(address, &of("terminate", id)).await), done);
            assert!(ask(address, &of("terminate", id)).await.contains("not_found"));
        });
    }

    use crate::clock::Wall;

    #[test]
    fn a_failed_init_names_an_id_that_is_not_listed() {
        run(|executor| async move {
            let address = open(&executor, TcpSettings::default()).await;
            let failed = ask(address, &framed(INIT.replace("MODEL", "nope/7").as_bytes())).await;
            let (_, id) = failed.rsplit_once("\"pipeline_id\": \"").unwrap();
            assert!(failed.contains("RoboflowAPINotNotFoundError") && id.len() == 38, "{failed}");
            let list = ask(address, &framed(b"{\"type\": \"list_pipelines\"}")).await;
            assert!(list.contains("\"pipelines\": []"));
        });
    }

    #[test]
    fn a_token_opens_what_its_scope_says_and_nothing_else_is_told() {
        run(|executor| async move {
            let tokens = parse_tokens("r read 0123456789abcdef\nc control fedcba9876543210").unwrap();
            let rules =
                Rules::behind(AccessControl { access: Access::new(tokens), ..AccessControl::default() });
            let address = open(&executor, TcpSettings { rules, ..TcpSettings::default() }).await;
            let with = |body: &str, token: &str| {
                framed(body.replacen('{', &format!("{{\"auth_token\": \"{token}\", "), 1).as_bytes())
            };
            let refused = |class: &str, text: &str| {
                format!(
                    r#""response": {{"status": "failure", "error_type": "authorisation_error", "error_class": "{class}", "error_message": "{text}"}}, "pipeline_id": null}}"#
                )
            };
            let list = r#"{"type": "list_pipelines"}"#;
            let reply = ask(address, &framed(list.as_bytes())).await;
            assert_eq!(without_id(&reply), refused("UnauthorisedError", "A token is needed"));
            let reply = ask(address, &with(list, "0123456789abcdeF")).await;
            assert_eq!(without_id(&reply), refused("UnauthorisedError", "The token is not known"));
            assert!(ask(address, &with(list, "0123456789abcdef")).await.contains("success"));
            let reply = ask(address, &with(r#"{"type": "init", "x": 0}"#, "0123456789abcdef")).await;
            assert_eq!(without_id(&reply), refused("ForbiddenError", "The token is good for reading only"));
            assert!(ask(address, &with(INIT, "fedcba9876543210")).await.contains("success"));
        });
    }

    #[test]
    fn a_source_out_of_reach_is_refused() {
        run(|executor| async move {
            let reach = Reach { source_hosts: vec!["10.0.0.0/8".parse().unwrap()], ..Reach::default() };
            let rules = Rules::behind(AccessControl { reach, ..AccessControl::default() });
            let address = open(&executor, TcpSettings { rules, ..TcpSettings::default() }).await;
            let reply = ask(address, &framed(INIT.as_bytes())).await;
            assert!(
                reply.contains("authorisation_error") && reply.contains("host of video_reference"),
                "{reply}"
            );
            assert!(
                ask(address, &framed(INIT.replace("@h/", "@10.0.0.9/").as_bytes())).await.contains("success")
            );
        });
    }

    #[test]
    fn tls_carries_the_same_protocol_and_a_certificate_stands_for_a_token() {
        use futures_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
        use futures_rustls::rustls::{ClientConfig, RootCertStore};
        use futures_rustls::{TlsConnector, client::TlsStream};
        use std::sync::Arc;

        let at =
            |name: &str| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/assets/tls").join(name);
        let connector = move |certified: bool| {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(at("ca.pem")).unwrap()).unwrap();
            let provider = Arc::new(futures_rustls::rustls::crypto::ring::default_provider());
            let builder =
                ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
            let builder = builder.with_root_certificates(roots);
            TlsConnector::from(Arc::new(if certified {
                let key = PrivateKeyDer::from_pem_file(at("client.key")).unwrap();
                builder
                    .with_client_auth_cert(
                        vec![CertificateDer::from_pem_file(at("client.pem")).unwrap()],
                        key,
                    )
                    .unwrap()
            } else {
                builder.with_no_client_auth()
            }))
        };
        async fn talk(connector: TlsConnector, address: SocketAddr, bytes: &[u8]) -> String {
            let stream = TcpStream::connect(address).await.unwrap();
            let mut stream: TlsStream<TcpStream> =
                connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            let mut reply = Vec::new();
            stream.read_to_end(&mut reply).await.unwrap();
            String::from_utf8(reply.split_off(4)).unwrap()
        }
        run(|executor| async move {
            let files = tls::Files {
                certificate: at("server.pem"),
                key: at("server.key"),
                client_ca: Some(at("ca.pem")),
            };
            let tokens = parse_tokens("c control fedcba9876543210").unwrap();
            let access_control = AccessControl {
                access: Access::new(tokens),
                tls: Some(Tls::load(files, false).unwrap()),
                ..AccessControl::default()
            };
            let address = open(
                &executor,
                TcpSettings { rules: Rules::behind(access_control), ..TcpSettings::default() },
            )
            .await;
            let list = framed(b"{\"type\": \"list_pipelines\"}");
            assert!(talk(connector(true), address, &list).await.contains("success"));
            assert!(talk(connector(false), address, &list).await.contains("A token is needed"));
            let shown = framed(b"{\"type\": \"list_pipelines\", \"auth_token\": \"fedcba9876543210\"}");
            assert!(talk(connector(false), address, &shown).await.contains("success"));
            // In the clear nothing is answered.
            let mut clear = TcpStream::connect(address).await.unwrap();
            clear.write_all(&list).await.unwrap();
            let mut reply = Vec::new();
            let _ = clear.read_to_end(&mut reply).await;
            assert!(!reply.windows(7).any(|window| window == b"success"));
        });
    }

    #[test]
    fn silent_clients_and_slow_commands_delay_nobody() {
        run(|executor| async move {
            let rules = Rules {
                limits: Limits { connections: 4, per_address: 4, ..Limits::default() },
                ..Rules::default()
            };
            let settings = TcpSettings { rules, ..TcpSettings::default() };
            let address = open(&executor, settings).await;
            // One command that never ends, and as many silent connections as there are slots.
            let mut slow = TcpStream::connect(address).await.unwrap();
            slow.write_all(&framed(INIT.replace("MODEL", "slow/1").as_bytes())).await.unwrap();
            let mut silent = Vec::new();
            for _ in 0..8 {
                silent.push(TcpStream::connect(address).await.unwrap());
            }
            let list = ask(address, &framed(b"{\"type\": \"list_pipelines\"}")).await;
            assert!(list.contains("success"));
            // The oldest silent ones made room; the one whose command runs did not.
            let mut byte = [0];
            assert_eq!(silent[0].read(&mut byte).await.unwrap_or(0), 0);
            assert!(future::poll_once(slow.read(&mut byte)).await.is_none());
        });
    }

    #[test]
    fn commands_under_way_are_finished_when_the_listener_stops() {
        run(|executor| async move {
            let (stop, stopped) = async_channel::bounded(1);
            let address = {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                let rules = Rules { stop: Some(stopped), ..Rules::default() };
                let settings = TcpSettings { rules, ..TcpSettings::default() };
                let listener = serve(listener, executor.clone(), Rc::new(Fake::default()), Rc::new(settings));
                let listener = executor.spawn(listener);
                let mut idle = TcpStream::connect(address).await.unwrap();
                assert!(ask(address, &framed(b"[]")).await.contains("TypeError"));
                drop(stop);
                listener.await;
                let mut byte = [0];
                assert_eq!(idle.read(&mut byte).await.unwrap_or(0), 0);
                address
            };
            assert!(TcpStream::connect(address).await.is_err());
        });
    }
}
