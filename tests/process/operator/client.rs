//! A client that `openapi-python-client` generates from the served document.

use crate::support::{Folder, Weir, clip, root, udp};
use std::process::Command;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn a_generated_client_has_every_route_and_its_calls_work() {
    let made = Command::new(root().join("scripts/venv.sh")).status().expect("scripts/venv.sh runs");
    assert!(made.success(), "scripts/venv.sh failed: is PyPI reachable?");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into);
    let weir = Weir::start_with(|command| {
        command.env("WEIR_TOKEN", TOKEN);
    });
    let (sink, folder) = (udp::Receiver::new(), Folder::new());
    let output = Command::new(root().join(target).join("venv/bin/python"))
        .arg(root().join("tests/python/generated_client.py"))
        .args([&format!("http://{}", weir.http), TOKEN, &weir.toy(), &format!("file://{}", clip("long.mp4"))])
        .args([&sink.port().to_string(), &folder.path().display().to_string()])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("the virtual environment's Python runs");
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), weir.log());
    assert!(String::from_utf8_lossy(&output.stdout).ends_with(" routes\n"));
}
