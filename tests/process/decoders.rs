//! Decoders that are not ours (`capture.decoder`): the library that is installed, and ones that misbehave.

use crate::support::request::{self, quoted};
use crate::support::{Folder, Json, Weir, clip, root, udp, wait_for};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the stand-in of tests/libavcodec/standin.c does, by its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Well,
    UnknownVersion,
    WrongSamples,
    Crash,
    Leave,
    Hang,
    WildPlanes,
    NoPlanes,
    Huge,
    Endless,
}

/// A folder with the stand-in under both names.
fn standin(mode: Mode) -> Folder {
    let folder = Folder::new();
    let library = folder.path().join("libavcodec.so.63");
    let source = root().join("tests/libavcodec/standin.c");
    let compiled = Command::new("gcc")
        .args(["-O1", "-Wall", "-Wextra", "-Werror", "-Wno-array-bounds", "-shared", "-fPIC"])
        .arg(format!("-DMODE={}", mode as u32))
        .arg("-o")
        .args([&library, &source])
        .status()
        .expect("gcc (scripts/setup.sh build installs it)");
    assert!(compiled.success(), "the stand-in does not compile");
    std::os::unix::fs::symlink(&library, folder.path().join("libavutil.so.61")).unwrap();
    folder
}

/// A service whose workers find libraries in `folder` first.
fn service(folder: &Path, decoder: &str) -> Weir {
    let configuration: PathBuf = folder.join("weir.toml");
    let text = format!("[capture]\ndecoder = \"{decoder}\"\nretry_delay_s = 0.1\nstall_timeout_s = 2.0\n");
    std::fs::write(&configuration, text).unwrap();
    Weir::start_with(|command| {
        command.arg("--config").arg(&configuration).env("LD_LIBRARY_PATH", folder);
    })
}

fn notices(report: &Json) -> Vec<String> {
    let updates = report.get("video_source_status_updates").items();
    updates
        .iter()
        .filter(|update| update.to_string().contains("SOURCE_NOTICE"))
        .map(Json::to_string)
        .collect()
}

fn is_logged(weir: &Weir, words: &[&str]) -> Option<()> {
    weir.log().lines().any(|line| words.iter().all(|word| line.contains(word))).then_some(())
}

/// Plays a stream that loops until its frames come from the second round.
fn plays(weir: &Weir, clip: &str) -> String {
    let sink = udp::Receiver::new();
    let id = weir.init(&init(weir, &stream(clip), sink.port(), ""));
    wait_for("frames of the second round", || (frame_id(&sink.next()) > 30.0).then_some(()));
    id
}

fn init(weir: &Weir, video: &str, port: u16, extra: &str) -> Json {
    request::init(&weir.toy(), video, port, extra)
}

fn stream(name: &str) -> String {
    quoted(&format!("file://{}", clip(&format!("clips/{name}"))))
}

fn frame_id(datagram: &Json) -> f64 {
    datagram.at("inference_metadata/frame_id").number().expect("a frame id")
}

#[test]
fn the_installed_library_decodes_behind_the_filter() {
    let folder = Folder::new();
    for clip in ["main.mp4", "h265.mp4"] {
        let weir = service(folder.path(), "libavcodec");
        let id = plays(&weir, clip);
        is_logged(&weir, &["event=decoder ", "libavcodec "]).expect("libavcodec decodes");
        let report = weir.report(&id);
        assert_eq!(notices(&report), Vec::<String>::new());
        assert!(!weir.log().contains("sandbox_degraded"), "{}", weir.log());
    }
}

#[test]
fn a_library_that_only_passes_on_is_trusted_and_an_unknown_one_is_never_called() {
    let folder = standin(Mode::Well);
    let weir = service(folder.path(), "libavcodec");
    plays(&weir, "main.mp4");
    is_logged(&weir, &["event=decoder ", "libavcodec 63.1.100"]).expect("the stand-in decodes");
    // It aborts at every call but that for its version; and the next best is not taken in its place.
    let folder = standin(Mode::UnknownVersion);
    let weir = service(folder.path(), "libavcodec");
    plays(&weir, "main.mp4");
    is_logged(&weir, &["event=decoder ", "libavcodec "]).expect("an older library decodes");
    assert!(!weir.log().contains("worker_died"), "{}", weir.log());
}

#[test]
fn wrong_samples_are_seen_before_the_first_picture() {
    let folder = standin(Mode::WrongSamples);
    let weir = service(folder.path(), "libavcodec");
    let id = plays(&weir, "main.mp4");
    let notices = notices(&weir.report(&id));
    assert!(notices.iter().any(|notice| notice.contains("other samples")), "{notices:?}");
    assert!(!weir.log().contains("worker_died"), "{}", weir.log());
}

#[test]
fn what_crashes_leaves_or_points_nowhere_costs_two_workers_and_then_builtin_decodes() {
    for mode in [Mode::Crash, Mode::Leave, Mode::WildPlanes] {
        let folder = standin(mode);
        // Where nobody has asked for it too.
        let weir = service(folder.path(), if mode == Mode::Crash { "auto" } else { "libavcodec" });
        let id = plays(&weir, "main.mp4");
        is_logged(&weir, &["event=decoder_given_up", "decoder=libavcodec"])
            .unwrap_or_else(|| panic!("{mode:?}"));
        let deaths = weir.log().lines().filter(|line| line.contains("event=worker_died_in_decoder")).count();
        assert_eq!(deaths, 2, "{mode:?}");
        let notices = notices(&weir.report(&id));
        assert!(notices.iter().any(|notice| notice.contains("the builtin decoder")), "{mode:?}: {notices:?}");
    }
}

#[test]
fn a_library_that_hangs_is_ended_by_the_service() {
    let folder = standin(Mode::Hang);
    let weir = service(folder.path(), "libavcodec");
    plays(&weir, "main.mp4");
    is_logged(&weir, &["event=decoder_given_up", "decoder=libavcodec"]).expect("given up");
    is_logged(&weir, &["does not answer any more"]).expect("ended by the service");
}

#[test]
fn what_can_be_seen_to_be_wrong_is_replaced_in_mid_stream() {
    for mode in [Mode::NoPlanes, Mode::Huge, Mode::Endless] {
        let folder = standin(mode);
        let weir = service(folder.path(), "libavcodec");
        let id = plays(&weir, "main.mp4");
        is_logged(&weir, &["event=decoder_lost"]).unwrap_or_else(|| panic!("{mode:?}"));
        assert!(!weir.log().contains("worker_died"), "{mode:?}: {}", weir.log());
        let notices = notices(&weir.report(&id));
        assert!(
            notices.iter().any(|notice| notice.contains("the builtin decoder goes on")),
            "{mode:?}: {notices:?}"
        );
    }
}

#[test]
fn a_file_whose_decoder_crashes_is_still_read_to_its_end() {
    let folder = standin(Mode::Crash);
    let weir = service(folder.path(), "libavcodec");
    let sink = udp::Receiver::new();
    weir.init(&init(&weir, &quoted(&clip("clips/main.mp4")), sink.port(), ""));
    wait_for("the last frame", || (frame_id(&sink.next()) >= 25.0).then_some(()));
    is_logged(&weir, &["event=decoder_given_up"]).expect("given up");
}

#[test]
fn the_smallest_worker_is_enough_for_the_library_too() {
    let folder = Folder::new();
    let configuration = folder.path().join("weir.toml");
    std::fs::write(&configuration, "[capture]\ndecoder = \"libavcodec\"\nworker_memory_bytes = 16777216\n")
        .unwrap();
    let weir = Weir::start_with(|command| {
        command.arg("--config").arg(&configuration);
    });
    for (name, frames) in [
        ("short.mp4", 60.0),
        ("clips/h265-10.mp4", 25.0),
        ("clips/interlaced.mp4", 25.0),
        ("clips/vp8.webm", 10.0),
    ] {
        let sink = udp::Receiver::new();
        weir.init(&init(&weir, &quoted(&clip(name)), sink.port(), ""));
        wait_for("the last frame", || (frame_id(&sink.next()) >= frames).then_some(()));
    }
    let log = weir.log();
    assert!(!log.contains("decoder_lost") && !log.contains("worker_died"), "{log}");
}

#[test]
fn what_only_the_library_decodes_is_refused_by_name_without_it() {
    let folder = Folder::new();
    let weir = service(folder.path(), "builtin");
    let sink = udp::Receiver::new();
    let id = weir.init(&init(&weir, &quoted(&clip("clips/vp8.webm")), sink.port(), ""));
    wait_for("the refusal", || {
        weir.report(&id).to_string().contains("video codec VP8 is not supported").then_some(())
    });
}
