//! Clients in Python: the code of README.md against real services, with `requests` and `supervision` from
//! PyPI in a virtual environment of their own (`target/venv`, made by `scripts/venv.sh`).

use crate::support::rtsp::Camera;
use crate::support::{Json, Weir, clip, process, roboflow, root, udp};
use std::process::Command;

/// The interpreter of the virtual environment; makes it when it is not there.
fn python() -> std::path::PathBuf {
    let made = process::output(&mut Command::new(root().join("scripts/venv.sh")));
    assert!(made.status.success(), "scripts/venv.sh failed: is PyPI reachable?");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into);
    root().join(target).join("venv/bin/python")
}

/// What the services ask of their clients.
const TOKEN: &str = "0123456789abcdef";

#[test]
fn the_readme_s_factory_works_as_printed() {
    let registry = roboflow::Server::start();
    let camera = Camera::start("long.mp4", &[]);
    let start = || {
        Weir::start_with(|command| {
            command.env("API_BASE_URL", registry.url()).env("WEIR_TOKEN", TOKEN);
        })
    };
    let (first, second) = (start(), start());
    // Where the README has an address of its factory, the test has one of its own.
    let mut addresses = vec![
        ("http://192.168.0.11:8080".to_owned(), format!("http://{}", first.http)),
        ("http://192.168.0.12:8080".to_owned(), format!("http://{}", second.http)),
        ("192.168.0.3".to_owned(), "127.0.0.1".to_owned()),
        ("factory/1".to_owned(), "toy/1".to_owned()),
        ("YOUR-API-KEY".to_owned(), roboflow::GOOD_KEY.to_owned()),
        ("YOUR-TOKEN".to_owned(), TOKEN.to_owned()),
    ];
    for number in 1..=4 {
        addresses.push((format!("rtsp://192.168.0.10{number}/cam"), camera.url()));
        // The port is free again when the receiver of the test binds it.
        addresses.push((format!("900{number}"), udp::Receiver::new().port().to_string()));
    }
    let table: Vec<String> =
        addresses.iter().map(|(written, real)| format!("\"{written}\": \"{real}\"")).collect();
    let mut factory = Command::new(python());
    factory
        .args(["-W", "error::DeprecationWarning:__main__", "-m", "unittest", "-v", "test_factory"])
        .current_dir(root().join("tests/python"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("WEIR_TEST_ADDRESSES", format!("{{{}}}", table.join(", ")));
    let output = process::output(&mut factory);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{}", first.log());
    assert!(said.contains("Ran 4 tests"), "{said}");
}

#[test]
fn metrics_are_what_prometheus_and_openmetrics_parse() {
    let weir = Weir::start();
    let sink = udp::Receiver::new();
    let init = format!(
        r#"{{"type": "init", "model_id": "{}", "video_reference": "{}", "model_configuration": {{"type": "object-detection"}},
            "sink_configuration": {{"type": "udp_sink", "host": "127.0.0.1", "port": {}}}}}"#,
        weir.toy(),
        clip("short.mp4"),
        sink.port()
    );
    weir.init(&Json::parse(&init));
    // The figures of a frame are there before the next one comes.
    (0..2).for_each(|_| drop(sink.next()));
    let mut reader = Command::new(python());
    let reader =
        reader.arg(root().join("tests/python/metrics.py")).arg(format!("http://{}/metrics", weir.http));
    let output = process::output(reader);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
