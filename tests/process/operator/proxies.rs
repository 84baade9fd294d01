//! Tokens behind a reverse proxy, where many clients have one address.

use crate::support::{Weir, http, wait_for};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Wrong tokens of one client before it has to wait (src/proto/access.rs).
const MAX_FAILURES: usize = 10;

fn guess(weir: &Weir, forwarded: &str, token: &str) -> http::Response {
    let bearer = format!("Bearer {token}");
    http::request(
        weir.http,
        "GET",
        "/list_pipelines",
        &[("authorization", &bearer), ("x-forwarded-for", forwarded)],
        b"",
    )
}

#[test]
fn behind_a_trusted_proxy_each_client_is_locked_out_for_itself() {
    let folder = crate::support::Folder::new();
    let configuration = folder.path().join("weir.toml");
    std::fs::write(&configuration, "[http]\ntrusted_proxies = [\"127.0.0.1\"]\n").unwrap();
    let weir = Weir::start_with(|command| {
        command.arg("--config").arg(&configuration).env("WEIR_TOKEN", TOKEN);
    });
    // What a client writes itself stands before what the proxy adds: changing it does not help.
    for number in 0..MAX_FAILURES {
        assert_eq!(guess(&weir, &format!("198.51.100.{number}, 192.0.2.1"), "wrong").status, 401);
    }
    let locked = guess(&weir, "192.0.2.1", "wrong");
    assert_eq!(locked.status, 429, "{locked:?}");
    let pause: u64 = locked.header("retry-after").and_then(|value| value.parse().ok()).expect("Retry-After");
    assert!((1..=60).contains(&pause), "{pause}");
    // Neither the next client behind the same proxy nor a good token of the same one is kept out.
    assert_eq!(guess(&weir, "192.0.2.2", "wrong").status, 401);
    assert_eq!(guess(&weir, "192.0.2.1", TOKEN).status, 200);
    wait_for("the line about it", || weir.log().contains("event=locked_out peer=192.0.2.1").then_some(()));
    assert_eq!(weir.log().matches("event=locked_out").count(), 1, "{}", weir.log());
}

#[test]
fn nobody_is_believed_unasked() {
    let weir = Weir::start_with(|command| {
        command.env("WEIR_TOKEN", TOKEN);
    });
    for number in 0..MAX_FAILURES {
        assert_eq!(guess(&weir, &format!("192.0.2.{number}"), "wrong").status, 401);
    }
    assert_eq!(guess(&weir, "192.0.2.99", "wrong").status, 429);
}

/// A server before us may go by the other one.
#[test]
fn two_fields_that_decide_are_refused() {
    let weir = Weir::start_with(|command| {
        command.env("WEIR_TOKEN", TOKEN);
    });
    let good = format!("Bearer {TOKEN}");
    for (fields, status) in [
        (&[("authorization", good.as_str())][..], 200),
        (&[("authorization", &good), ("authorization", "Bearer x")], 400),
        (&[("authorization", "Bearer x"), ("authorization", &good)], 400),
        (&[("authorization", &good), ("authorization", &good)], 400),
        (&[("authorization", &good), ("host", "127.0.0.1")], 400),
    ] {
        assert_eq!(
            http::request(weir.http, "GET", "/list_pipelines", fields, b"").status,
            status,
            "{fields:?}"
        );
    }
}
