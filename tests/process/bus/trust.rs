//! Whom the service trusts, and who trusts it: TLS, client certificates, passwords and access lists of
//! Debian's Mosquitto.

use super::{init, serve_with};
use crate::support::mosquitto::Broker;
use crate::support::process::output;
use crate::support::{Weir, tls, wait_for};
use std::process::Command;

/// The lines for TLS that asks clients for certificates.
fn encrypted(more: &str) -> Broker {
    let [ca, certificate, key] =
        ["ca.pem", "server.pem", "server.key"].map(|name| std::fs::read_to_string(tls::file(name)).unwrap());
    let files = [("ca.pem", ca.as_str()), ("server.pem", &certificate), ("server.key", &key)];
    let lines = format!(
        "user root\ncafile {{folder}}/ca.pem\ncertfile {{folder}}/server.pem\nkeyfile {{folder}}/server.key\n{more}"
    );
    Broker::configured(&lines, &files)
}

fn words() -> [String; 6] {
    let file = |name| tls::file(name).display().to_string();
    [
        "--cafile".into(),
        file("ca.pem"),
        "--cert".into(),
        file("client.pem"),
        "--key".into(),
        file("client.key"),
    ]
}

/// What `status` says of the broker once it is down.
fn refusal(weir: &Weir) -> String {
    let id = weir.init(&init(weir, "short.mp4", r#"{"type": "mqtt_sink"}"#, ""));
    wait_for("a refusal", || weir.report(&id).at("sinks/0/error").text().map(str::to_owned))
}

#[test]
fn tls_with_a_client_certificate_carries_everything_and_without_one_the_reason_is_said() {
    let broker = encrypted("require_certificate true\nuse_identity_as_username true\n");
    let words = words();
    let words: Vec<&str> = words.iter().map(String::as_str).chain(["--insecure"]).collect();
    let subscriber = broker.subscribe(&["#"], &words);
    let file = |name| tls::file(name).display().to_string();
    let ca = format!("tls = true\nca_file = \"{}\"\n", file("ca.pem"));
    let own = format!("certificate = \"{}\"\nkey = \"{}\"\n", file("client.pem"), file("client.key"));
    let weir = serve_with(&broker, &(ca.clone() + &own), |_| {});
    let id = weir.init(&init(&weir, "short.mp4", r#"{"type": "mqtt_sink"}"#, ""));
    let topic = format!("t/pipelines/{id}/detections");
    (1..=60).for_each(|_| drop(subscriber.wait(&topic, |_| true)));
    assert!(weir.log().contains("tls=true"), "{}", weir.log());
    for (lines, why) in [
        (ca, "mqtt.certificate"),
        (format!("tls = true\nca_file = \"{}\"\n{own}", file("self.pem")), "mqtt.ca_file"),
        (String::new(), "mqtt.tls"),
    ] {
        let weir = serve_with(&broker, &lines, |_| {});
        let said = refusal(&weir);
        // A broker that wants no TLS-less client may close at once, too.
        assert!(
            said.contains(why) || said.contains("closed") || said.to_lowercase().contains("broke off"),
            "{why}: {said}"
        );
        assert!(!said.contains("models.ca_file"), "{said}");
    }
}

#[test]
fn users_passwords_and_access_lists() {
    // `mosquitto_passwd` makes the file of passwords.
    let folder = crate::support::Folder::new();
    let file = folder.path().join("passwords");
    let made =
        output(Command::new("mosquitto_passwd").args(["-b", "-c"]).arg(&file).args(["gate", "hunter2 x"]));
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let passwords = std::fs::read_to_string(&file).unwrap();
    let access = "user gate\ntopic write t/#\ntopic read t/pipelines/+/set\ntopic write hall/#\n";
    let lines =
        "user root\nallow_anonymous false\npassword_file {folder}/passwords\nacl_file {folder}/access\n";
    let broker = Broker::configured(lines, &[("passwords", &passwords), ("access", access)]);
    let user = "user = \"gate\"\ncommands = true\n";
    let weir = serve_with(&broker, user, |command| {
        command.env("WEIR_MQTT_PASSWORD", "hunter2 x");
    });
    // Commands are allowed, other topics are not; those of a forbidden one are confirmed by Mosquitto, and
    // lost.
    let id = weir.init(&init(
        &weir,
        "short.mp4",
        r#"[{"type": "mqtt_sink", "topic": "hall/1"}, {"type": "mqtt_sink", "topic": "other"}]"#,
        "",
    ));
    weir.wait_state(&id, "ENDED");
    wait_for("the broker to have everything", || {
        let report = weir.report(&id);
        let settled = ["messages_delivered", "messages_dropped"]
            .map(|key| report.at(&format!("sinks/0/{key}")).number().unwrap_or(0.0));
        (settled[0] + settled[1] == 120.0).then_some(())
    });
    assert!(!weir.log().contains("hunter2"), "{}", weir.log());
    let weir = serve_with(&broker, user, |command| {
        command.env("WEIR_MQTT_PASSWORD", "hunter3");
    });
    let said = refusal(&weir);
    assert!(said.contains("mqtt.user") && !said.contains("hunter3"), "{said}");
    let environment = std::fs::read(format!("/proc/{}/environ", weir.pid())).unwrap_or_default();
    assert!(!String::from_utf8_lossy(&environment).contains("hunter3"), "a secret stays in the environment");
}
