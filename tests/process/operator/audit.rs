//! Who changed what, from where, and what came of it.

use crate::support::{Json, Weir, clip, http, request, tcp, udp, wait_for};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

const CONTROL: &str = "0123456789abcdef0123456789abcdef";
const READ: &str = "fedcba9876543210fedcba9876543210";

/// The audit lines, without their times.
fn trail(weir: &Weir) -> Vec<String> {
    weir.log().lines().filter_map(|line| Some(line.split_once(" notice audit ")?.1.to_owned())).collect()
}

#[test]
fn every_changing_command_at_either_listener_has_a_line_and_no_other_has() {
    let folder = crate::support::Folder::new();
    let (tokens, socket) = (folder.path().join("tokens"), folder.path().join("http.sock"));
    std::fs::write(&tokens, format!("ops control {CONTROL}\nboard read {READ}\n")).unwrap();
    let configuration = folder.path().join("weir.toml");
    let text = format!(
        "[access]\ntokens_file = \"{}\"\n[http]\nunix = \"{}\"\n",
        tokens.display(),
        socket.display()
    );
    std::fs::write(&configuration, text).unwrap();
    // The lines do not depend on the level.
    let weir = Weir::start_with(|command| {
        command.arg("--config").arg(&configuration).env("LOG_LEVEL", "ERROR");
    });
    let sink = udp::Receiver::new();
    let init =
        |extra: &str| request::init(&weir.toy(), &request::quoted(&clip("long.mp4")), sink.port(), extra);
    // Asking changes nothing, whoever asks.
    let bearer = format!("Bearer {READ}");
    http::request(weir.http, "GET", "/list_pipelines", &[("authorization", &bearer)], b"");
    http::request(weir.http, "GET", "/list_pipelines", &[], b"");
    assert_eq!(trail(&weir), [""; 0]);

    let id = weir.init(&init(&format!(r#", "auth_token": "{CONTROL}""#)));
    assert_eq!(weir.ask(&init("")).at("response/error_type").text(), Some("authorisation_error"));
    assert_eq!(
        http::request(weir.http, "POST", &format!("/pause/{id}"), &[("authorization", &bearer)], b"").status,
        403
    );
    let bearer = format!("Bearer {CONTROL}");
    assert_eq!(
        http::request(weir.http, "POST", "/initialise", &[("authorization", &bearer)], b"{}").status,
        422
    );
    let missing = "00000000-0000-4000-8000-000000000000";
    assert_eq!(
        http::request(weir.http, "POST", &format!("/resume/{missing}"), &[("authorization", &bearer)], b"")
            .status,
        404
    );
    // Who can open the socket needs no token, and the kernel says who it was.
    let mut client = UnixStream::connect(&socket).unwrap();
    client.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    write!(
        client,
        "POST /terminate/{id} HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    )
    .unwrap();
    let mut reply = String::new();
    client.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");

    let trail = wait_for("the whole trail", || Some(trail(&weir)).filter(|trail| trail.len() >= 6));
    let (port, model) = (sink.port(), weir.toy());
    let user = rustix::process::getuid().as_raw();
    let expected = [
        format!(
            "command=init pipeline={id} model={model} sources=1 sink=udp://127.0.0.1:{port} who=token:ops from=127.0.0.1 listener=tcp outcome=success"
        ),
        "command=init who=unknown from=127.0.0.1 listener=tcp outcome=refused error=\"A token is needed\"".to_owned(),
        "command=pause who=unknown from=127.0.0.1 listener=http outcome=refused error=\"The token is good for reading only\""
            .to_owned(),
        "command=init who=token:ops from=127.0.0.1 listener=http outcome=failed error=\"not understood\"".to_owned(),
        format!("command=resume pipeline={missing} who=token:ops from=127.0.0.1 listener=http outcome=failed error=\"\""),
        format!("command=terminate pipeline={id} who=user:{user} from=unix listener=http outcome=success"),
    ];
    assert_eq!(trail, expected);
    assert!(!weir.log().contains(CONTROL) && !weir.log().contains(READ));
}

/// A client that does not wait for the answer has changed something all the same.
#[test]
fn who_leaves_before_the_answer_is_in_the_trail_too() {
    let weir = Weir::start();
    let sink = udp::Receiver::new();
    let video = request::quoted(&format!("file://{}", clip("long.mp4")));
    let id = weir.init(&request::init(&weir.toy(), &video, sink.port(), ""));
    let terminate = Json::parse(&format!(r#"{{"type": "terminate", "pipeline_id": "{id}"}}"#)).to_string();
    let mut stream = tcp::connect(weir.tcp);
    stream.write_all(&tcp::frame(terminate.as_bytes())).unwrap();
    drop(stream);
    let line =
        wait_for("the line", || trail(&weir).into_iter().find(|line| line.starts_with("command=terminate")));
    assert!(
        line.contains(&format!("pipeline={id} who=anyone from=127.0.0.1 listener=tcp outcome=")),
        "{line}"
    );
}
