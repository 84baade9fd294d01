//! The command line: `weir ctl` through every kind of listener, help, completions, exit codes.

use crate::support::{Folder, PATIENCE, Weir, clip, media, tls, udp, weir};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// The program with these arguments, and nothing of this machine's environment.
fn weir_with(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = weir::command(Path::new("/nonexistent"));
    command.args(arguments).envs(variables.iter().copied()).output().expect("the binary runs")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn succeeds(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = weir_with(arguments, variables);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", said(&output));
    said(&output)
}

#[test]
fn ctl_reaches_an_encrypted_listener_with_a_token_or_a_certificate_and_a_unix_socket_without() {
    let folder = Folder::new();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (certificate, key, ca) = (tls::file("server.pem"), tls::file("server.key"), tls::file("ca.pem"));
    let text = format!(
        "[tcp]\nunix = \"{}\"\n[tls]\ncertificate = \"{}\"\nkey = \"{}\"\nclient_ca = \"{}\"\n",
        at("tcp.sock"),
        certificate.display(),
        key.display(),
        ca.display()
    );
    std::fs::write(at("weir.toml"), text).unwrap();
    std::fs::write(at("token"), format!("# for the gate\nops control {TOKEN}\n")).unwrap();
    let weir = Weir::start_with(|command| {
        command.arg("--config").arg(at("weir.toml")).env("WEIR_TOKEN", TOKEN);
    });
    let address = format!("localhost:{}", weir.tcp.port());
    let ca = ca.display().to_string();
    let (client, private) =
        (tls::file("client.pem").display().to_string(), tls::file("client.key").display().to_string());
    let list = ["ctl", "list", "--addr", &address];
    let with = |more: &[&'static str], values: &[&str]| -> Vec<String> {
        let pairs =
            more.iter().zip(values).flat_map(|(option, value)| [option.to_string(), value.to_string()]);
        list.iter().map(|word| word.to_string()).chain(pairs).collect()
    };
    let borrowed = |words: &[String]| words.iter().map(String::as_str).map(str::to_owned).collect::<Vec<_>>();
    for arguments in [
        with(&["--cacert", "--token-file"], &[&ca, &at("token")]),
        with(&["--cacert", "--cert", "--key"], &[&ca, &client, &private]),
        ["ctl", "list", "--addr"]
            .map(str::to_owned)
            .into_iter()
            .chain([format!("unix:{}", at("tcp.sock"))])
            .collect(),
    ] {
        let arguments = borrowed(&arguments);
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        assert!(succeeds(&words, &[]).contains("success"));
    }
    assert!(
        succeeds(&["ctl", "list"], &[("WEIR_ADDR", &address), ("WEIR_CACERT", &ca), ("WEIR_TOKEN", TOKEN)])
            .contains("success")
    );
    // Without a token: the service says no. With another CA, or in the clear: there is no answer, and why.
    let refused = weir_with(&[&list[..], &["--cacert", &ca]].concat(), &[]);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    let other =
        weir_with(&[&list[..], &["--cacert", &tls::file("self.pem").display().to_string()]].concat(), &[]);
    assert_eq!(other.status.code(), Some(69));
    assert!(said(&other).contains("signed by nobody whom this machine trusts"), "{}", said(&other));
    let clear = weir_with(&list, &[("WEIR_TOKEN", TOKEN)]);
    assert_eq!(clear.status.code(), Some(69));
    assert!(said(&clear).contains("--tls"), "{}", said(&clear));
}

#[test]
fn a_reply_steers_no_terminal() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut asked = [0; 30];
        stream.read_exact(&mut asked).unwrap();
        let reply =
            "{\"response\": {\"status\": \"success\", \"name\": \"\u{1b}]0;owned\u{7}\u{202e}\"}}".as_bytes();
        stream.write_all(&u32::try_from(reply.len()).unwrap().to_be_bytes()).unwrap();
        stream.write_all(reply).unwrap();
    });
    let output = weir_with(&["ctl", "list", "--addr", &address], &[]);
    server.join().unwrap();
    // No JSON has these as they are, so this is no success either.
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output);
    assert!(text.contains(r"\u001b]0;owned\u0007\u202e"), "{text:?}");
}

#[test]
fn help_is_everywhere_and_what_is_missing_has_its_exit_code() {
    assert!(succeeds(&["help"], &[]).contains("weir backup FILE"));
    assert_eq!(succeeds(&["help"], &[]), succeeds(&["--help"], &[]));
    assert!(succeeds(&["help", "ctl"], &[]).contains("--cacert FILE"));
    assert!(succeeds(&["ctl", "--help"], &[]).contains("--token-file FILE"));
    assert!(succeeds(&["bench", "--help"], &[]).contains("--profile"));
    for command in ["serve", "demo", "check", "backup", "restore", "completions"] {
        assert_eq!(succeeds(&[command, "--help"], &[]), succeeds(&["help", command], &[]), "{command}");
    }
    assert_eq!(succeeds(&["version"], &[]), succeeds(&["--version"], &[]));
    let (clip, folder) = (clip("short.mp4"), Folder::new());
    let cache = folder.path().to_str().unwrap();
    for (arguments, code) in [
        (&["check", "/nonexistent/model"][..], 66),
        (&["check", "absent.onnx"], 66),
        // Nobody listens at the registry's address here.
        (&["check", "absent/1"], 69),
        (&["bench", "engine", "--model", "/nonexistent"], 66),
        (&["bench", "decode", "/nonexistent.mp4"], 66),
        (&["bench", "pipeline", "--video", &clip, "--model", "/nonexistent"], 66),
        (&["bench", "nonsense"], 64),
        (&["nonsense"], 64),
        (&["help", "nonsense"], 64),
        (&["completions", "csh"], 64),
        (&["ctl", "list", "--addr", "127.0.0.1:9"], 69),
        (&["ctl", "list", "--addr", "unix:/nonexistent"], 69),
        (&["restore", "/nonexistent"], 66),
    ] {
        let output = weir_with(arguments, &[("MODEL_CACHE_DIR", cache), ("WEIR_MODELS_DIR", "/nonexistent")]);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
    }
}

/// What bash offers for the last word of a line.
fn offered(line: &[&str]) -> Vec<String> {
    let script = "source \"$0\"; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _weir; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let file = crate::support::root().join("packaging/completions/weir.bash");
    let output = Command::new("bash")
        .args(["-c", script])
        .arg(file)
        .args(line)
        .current_dir(media())
        .output()
        .expect("bash runs");
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .filter(|word| !word.is_empty())
        .collect()
}

#[test]
fn the_shells_complete_commands_options_and_their_values() {
    assert_eq!(offered(&["weir", "che"]), ["check"]);
    assert_eq!(offered(&["weir", "ctl", "ter"]), ["terminate"]);
    assert_eq!(offered(&["weir", "ctl", "list", "--ca"]), ["--cacert"]);
    assert_eq!(offered(&["weir", "bench", "engine", "--engine", "tr"]), ["tract"]);
    assert_eq!(offered(&["weir", "serve", "--log-level", "w"]), ["warning"]);
    assert_eq!(offered(&["weir", "check", "toy"]), ["toy.onnx"]);
    assert_eq!(offered(&["weir", "completions", "f"]), ["fish"]);
    for (shell, file) in [("zsh", "_weir"), ("fish", "weir.fish")] {
        let file = crate::support::root().join("packaging/completions").join(file);
        let output = Command::new(shell)
            .arg("-n")
            .arg(file)
            .output()
            .unwrap_or_else(|_| panic!("{shell} (Debian: {shell})"));
        assert!(output.status.success(), "{shell}: {}", said(&output));
    }
    // fish says what it would offer.
    let fish = crate::support::root().join("packaging/completions/weir.fish").display().to_string();
    let script = format!("source {fish}; complete -C 'weir ctl list --ca'");
    let output =
        Command::new("fish").args(["--no-config", "-c", &script]).output().expect("fish (Debian: fish)");
    assert!(said(&output).contains("--cacert"), "{}", said(&output));
}

#[test]
fn the_man_page_is_one() {
    let page = crate::support::root().join("packaging/weir.1");
    let output = Command::new("man")
        .args(["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"])
        .arg(&page)
        .output()
        .expect("man (Debian: man-db)");
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "groff has complaints");
}

/// A backup of one service makes another.
#[test]
fn a_backup_holds_what_the_service_needs_and_restores_it() {
    let folder = Folder::new();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(at("pipelines.d")).unwrap();
    std::fs::create_dir_all(at("models")).unwrap();
    weir::lay_out_toy(&at("models"));
    std::fs::write(at("tokens"), format!("ops control {TOKEN}\n")).unwrap();
    let configuration = format!(
        "[access]\ntokens_file = \"{}\"\n[service]\nstate_dir = \"{}\"\npipelines_dir = \"{}\"\n",
        at("tokens").display(),
        at("state").display(),
        at("pipelines.d").display()
    );
    std::fs::write(at("weir.toml"), configuration).unwrap();
    let sink = udp::Receiver::new();
    let start = || {
        Weir::start_with(|command| {
            command.arg("--config").arg(at("weir.toml")).env("WEIR_MODELS_DIR", at("models"));
        })
    };
    let video = format!("file://{}", clip("long.mp4"));
    let model = at("models/toy").display().to_string();
    let token = format!(r#", "auth_token": "{TOKEN}", "api_key": "hunter2""#);
    let weir = start();
    let id = weir.init(&crate::support::request::init(
        &model,
        &crate::support::request::quoted(&video),
        sink.port(),
        &token,
    ));
    weir.stop();
    std::fs::write(
        at("pipelines.d/gate.json"),
        r#"{"model_id": "a/1", "api_key": "hunter2", "video_reference": "rtsp://u:hunter2@127.0.0.1:9/1",
        "sink_configuration": {"type": "udp_sink", "host": "127.0.0.1", "port": 9}}"#,
    )
    .unwrap();

    let passphrase = [("WEIR_PASSPHRASE", "correct horse battery")];
    let (config, file, clear) = (at("weir.toml"), at("backup"), at("clear.tar"));
    let [config, file, clear] = [&config, &file, &clear].map(|path| path.display().to_string());
    succeeds(&["backup", &file, "--config", &config], &passphrase);
    assert!(!std::fs::read(&file).unwrap().windows(7).any(|window| window == b"hunter2"));
    let again = weir_with(&["backup", &file, "--config", &config], &passphrase);
    assert_eq!(again.status.code(), Some(73), "never over another: {}", said(&again));
    let short = weir_with(
        &["backup", &at("short").display().to_string(), "--config", &config],
        &[("WEIR_PASSPHRASE", "short")],
    );
    assert_eq!(short.status.code(), Some(64), "{}", said(&short));
    let told = succeeds(&["backup", &clear, "--config", &config, "--without-secrets"], &[]);
    assert!(told.contains("left out: ") && told.contains("tokens"), "{told}");
    let bytes = std::fs::read(&clear).unwrap();
    for secret in ["hunter2", TOKEN] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
    }
    let listed = succeeds(&["restore", &file, "--list"], &passphrase);
    assert!(
        listed.contains("gate.json") && listed.contains("weir.toml") && listed.contains("tokens"),
        "{listed}"
    );
    let wrong = weir_with(&["restore", &file], &[("WEIR_PASSPHRASE", "correct horse batterie")]);
    assert_eq!(wrong.status.code(), Some(65), "{}", said(&wrong));
    // One that nothing vouches for writes below weir's own folders only.
    let outside = weir_with(&["restore", &clear], &[]);
    assert!(outside.status.code() != Some(0) && said(&outside).contains("--root"), "{}", said(&outside));

    // The machine is lost.
    for name in ["state", "pipelines.d"] {
        std::fs::remove_dir_all(at(name)).unwrap();
    }
    std::fs::remove_file(at("tokens")).unwrap();
    std::fs::write(at("weir.toml"), "# another\n").unwrap();
    let conflict = weir_with(&["restore", &file], &passphrase);
    assert_eq!(conflict.status.code(), Some(73), "{}", said(&conflict));
    assert!(!at("tokens").exists(), "nothing was written");
    succeeds(&["restore", &file, "--force"], &passphrase);
    assert_eq!(std::fs::read_to_string(at("weir.toml.before-restore")).unwrap(), "# another\n");
    std::fs::remove_file(at("pipelines.d/gate.json")).unwrap();
    let weir = start();
    let reply = weir.ask(&crate::support::Json::parse(&format!(
        r#"{{"type": "list_pipelines", "auth_token": "{TOKEN}"}}"#
    )));
    assert_eq!(reply.at("response/pipelines/0").text(), Some(id.as_str()), "{reply}");
    sink.drain();
    sink.next();
}
