//! The service with TensorRT: the real program, built with the feature `tensorrt`, on stand-ins of NVIDIA's
//! libraries (tests/tensorrt/). What the engine by itself does is tested in src/infer/tensorrt/tests/.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "tensorrt/standin.rs"]
mod standin;
#[path = "process/support/mod.rs"]
mod support;

use standin::{MAJORS, Machine, SIDE, is_running};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use support::request::{init, quoted};
use support::weir::{command, lay_out_toy};
use support::{Folder, Json, Weir, clip, process, udp, wait_for};

/// Side of the toy model's input, pixels.
const TOY_SIDE: usize = 320;
/// Values of a box of the toy model: its place and three classes.
const TOY_CHANNELS: usize = 7;
/// How many boxes it has.
const TOY_ANCHORS: usize = 1600;

/// The upper left pixel of short.mp4, as the model gets it: the stand-in's score.
const CORNER: f64 = 128.0 / 255.0;

/// What a test says beyond the defaults.
#[derive(Clone, Copy)]
struct Options<'a> {
    /// `models.engine`.
    engine: &'a str,
    /// `tensorrt.build_timeout_s`.
    build_timeout_s: f64,
}

const AUTO: Options<'static> = Options { engine: "auto", build_timeout_s: 60.0 };

/// A machine whose plans are those of the toy model, which lies in its folder `toy`.
fn machine(major: u32, modes: &str) -> Machine {
    let machine = Machine::new(major, modes);
    machine.set_plan_of(1, TOY_SIDE, TOY_CHANNELS, TOY_ANCHORS);
    lay_out_toy(machine.folder());
    machine
}

/// The configuration for that machine.
fn configure(machine: &Machine, options: Options<'_>) -> std::path::PathBuf {
    let Options { engine, build_timeout_s } = options;
    let folder = machine.folder().display();
    let text = format!(
        "[service]\nthreads = 1\n[models]\nengine = \"{engine}\"\n[tensorrt]\n\
         libraries = \"{folder}\"\ntrtexec = \"{folder}/trtexec\"\nbuild_timeout_s = {build_timeout_s:?}\nbatch_wait_s = 1.0\n"
    );
    let file = machine.path("weir.toml");
    std::fs::write(&file, text).unwrap();
    file
}

fn start(machine: &Machine, options: Options<'_>) -> Weir {
    let file = configure(machine, options);
    Weir::start_with(|command| {
        command.arg("--config").arg(file).env("WEIR_MODELS_DIR", machine.folder());
    })
}

/// `weir check` on that machine.
fn check(machine: &Machine, arguments: &[&str]) -> Output {
    let cache = Folder::new();
    let mut command: Command = command(cache.path());
    command.args(["check", "--config"]).arg(configure(machine, AUTO)).args(arguments);
    process::output(command.env("WEIR_MODELS_DIR", machine.folder()))
}

fn toy(machine: &Machine) -> String {
    machine.path("toy").display().to_string()
}

/// An `init` of the toy model, on a clip that lasts until the GPU has had its turn.
fn watch(machine: &Machine, sink: &udp::Receiver) -> Json {
    init(&toy(machine), &quoted(&clip("short.mp4")), sink.port(), r#", "max_fps": 3"#)
}

/// Whether the datagram has what only the stand-in finds: two boxes of one score in the model's upper left
/// corner, stretched to the frame.
fn is_of_the_gpu(datagram: &Json) -> bool {
    let predictions = datagram.get("predictions").items();
    let (width, height) =
        (datagram.at("image/width").number().unwrap(), datagram.at("image/height").number().unwrap());
    let scale = TOY_SIDE as f64;
    let is_box = |(prediction, centre): (&Json, f64)| {
        let value = |key: &str| prediction.get(key).number().unwrap();
        (value("x") - centre * width / scale).abs() <= 0.5
            && (value("y") - 8.0 * height / scale).abs() <= 0.5
            && prediction.get("class").text() == Some("red")
            && (value("confidence") - CORNER).abs() < 1e-3
    };
    predictions.len() == 2 && predictions.iter().zip([8.0, 24.0]).all(is_box)
}

/// Waits for boxes of the GPU: until then the CPU sees to the frames.
fn wait_for_the_gpu(sink: &udp::Receiver) {
    wait_for("boxes of the GPU", || is_of_the_gpu(&sink.next()).then_some(()));
}

/// What the report says of the engine: `MODEL_ENGINE`.
fn engine_in(report: &Json) -> Option<Json> {
    let last = report.get("video_source_status_updates").items().last()?;
    (last.get("event_type").text() == Some("MODEL_ENGINE")).then(|| last.get("payload").clone())
}

/// Waits until the report says that the GPU is in that state; the payload.
fn wait_for_state(weir: &Weir, id: &str, state: &str) -> Json {
    wait_for(&format!("the GPU to be {state}"), || {
        engine_in(&weir.report(id)).filter(|engine| engine.get("gpu").text() == Some(state))
    })
}

#[test]
fn a_plan_is_built_once_and_its_boxes_arrive() {
    for major in MAJORS {
        let machine = machine(major, "");
        for start_number in 1..=2 {
            let weir = start(&machine, AUTO);
            let sink = udp::Receiver::new();
            let id = weir.init(&watch(&machine, &sink));
            wait_for_the_gpu(&sink);
            assert_eq!(wait_for_state(&weir, &id, "running").get("engine").text(), Some("tensorrt"));
            assert!(weir.log().contains("from=cnn to=tensorrt"), "{}", weir.log());
            assert_eq!(machine.builds(), 1, "start {start_number}, TensorRT {major}: {}", weir.log());
            assert!(weir.stop().0.success());
        }
    }
}

#[test]
fn nobody_waits_for_a_plan_and_status_says_that_it_is_built() {
    let machine = machine(10, "gated");
    let gate = machine.path("gate");
    assert!(Command::new("mkfifo").arg(&gate).status().expect("mkfifo runs").success());
    let weir = start(&machine, AUTO);
    let sink = udp::Receiver::new();
    let id = weir.init(&watch(&machine, &sink));
    for _ in 0..3 {
        assert!(!is_of_the_gpu(&sink.next()), "the CPU sees to the first frames");
    }
    let engine = wait_for_state(&weir, &id, "building");
    assert_eq!(engine.get("engine").text(), Some("cnn"));
    // Opens when the other side has.
    OpenOptions::new().write(true).open(&gate).unwrap().write_all(b"\n").unwrap();
    wait_for_the_gpu(&sink);
    wait_for_state(&weir, &id, "running");
}

#[test]
fn what_keeps_a_model_off_the_gpu_is_told_and_the_cpu_runs_it() {
    let no_library = machine(10, "");
    std::fs::remove_file(no_library.path("libnvinfer.so.10")).unwrap();
    let no_driver_library = machine(10, "");
    std::fs::remove_file(no_driver_library.path("libcuda.so.1")).unwrap();
    let no_trtexec = machine(10, "");
    std::fs::remove_file(no_trtexec.path("trtexec")).unwrap();
    let hurried = Options { build_timeout_s: 0.3, ..AUTO };
    for (machine, options, reason) in [
        (
            no_library,
            AUTO,
            "no libnvinfer.so.11, libnvinfer.so.10, libnvinfer.so.8, libtensorrt_rtx.so.1 here",
        ),
        (no_driver_library, AUTO, "no libcuda.so.1 here"),
        (no_trtexec, AUTO, "trtexec cannot be started to build a plan"),
        (machine(10, "no-device"), AUTO, "finds no GPU"),
        (
            machine(10, "unknown-version"),
            AUTO,
            "TensorRT 9.45.67 (94567); this program knows 8.5, 8.6, 10.3 to 10.16, 11.1 to 11.4",
        ),
        (
            machine(10, "fail"),
            AUTO,
            "trtexec ended with exit status: 1: [11/22/2026] [E] [TRT] no kernel for node 7",
        ),
        (machine(10, "hang"), hurried, "trtexec did not finish within 0.3 s (tensorrt.build_timeout_s)"),
        (
            machine(10, "null-engine"),
            AUTO,
            "TensorRT does not take the plan (the stand-in cannot read this plan)",
        ),
        (machine(10, "out-of-memory"), AUTO, "CUDA_ERROR_OUT_OF_MEMORY (2): the GPU has no memory left"),
        (
            machine(10, "enqueue-failure"),
            AUTO,
            "TensorRT did not run the model (the stand-in was told not to run)",
        ),
        (machine(10, "lost"), AUTO, "CUDA_ERROR_ILLEGAL_ADDRESS (700)"),
    ] {
        let weir = start(&machine, options);
        let sink = udp::Receiver::new();
        weir.init(&watch(&machine, &sink));
        // The stand-in finds two boxes in every frame; the model itself does not.
        wait_for("what the CPU sees", || (sink.next().get("predictions").items().len() != 2).then_some(()));
        let is_told = |log: &str| log.lines().any(|line| line.contains("tensorrt=unused"));
        let log = wait_for("the reason in the log", || Some(weir.log()).filter(|log| is_told(log)));
        let warning = log.lines().find(|line| line.contains("tensorrt=unused")).unwrap_or_default();
        assert!(warning.contains(" warning ") && warning.contains(reason), "{reason}: {warning}");
        assert!(log.contains("engine=cnn"), "{reason}: {log}");
    }
}

#[test]
fn who_asks_for_the_gpu_alone_is_refused_without_one() {
    let machine = machine(10, "no-device");
    let weir = start(&machine, Options { engine: "tensorrt", ..AUTO });
    let reply = weir.ask(&watch(&machine, &udp::Receiver::new()));
    assert_eq!(reply.at("response/status").text(), Some("failure"), "{reply}");
    assert!(reply.to_string().contains("finds no GPU"), "{reply}");
    assert!(weir.list().is_empty());
}

#[test]
fn a_run_that_fails_later_is_in_the_report_and_the_pipeline_goes_on() {
    let machine = machine(10, "enqueue-failure later");
    let weir = start(&machine, AUTO);
    let sink = udp::Receiver::new();
    let id = weir.init(&watch(&machine, &sink));
    wait_for("the error in the report", || {
        let report = weir.report(&id).to_string();
        (report.contains("INFERENCE_ERROR") && report.contains("TensorRT did not run the model"))
            .then_some(())
    });
    assert!(weir.log().contains("to=tensorrt"), "{}", weir.log());
    // It fails for good: the CPU goes on.
    assert_eq!(wait_for_state(&weir, &id, "lost").get("engine").text(), Some("cnn"));
    sink.next();
    assert_eq!(weir.order("terminate", &id).get("status").text(), Some("success"));
}

#[test]
fn a_gpu_that_gave_up_on_the_service_is_left_to_systemd() {
    let machine = machine(10, "lost later");
    let socket = machine.path("notify");
    let systemd = UnixDatagram::bind(&socket).unwrap();
    systemd.set_read_timeout(Some(support::PATIENCE)).unwrap();
    let file = configure(&machine, AUTO);
    let weir = Weir::start_with(|command| {
        command.arg("--config").arg(file).env("WEIR_MODELS_DIR", machine.folder());
        command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "200000");
    });
    let said = || {
        let mut bytes = [0; 1024];
        let length = systemd.recv(&mut bytes).expect("a word to systemd in time");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    while said() != "WATCHDOG=1" {}
    let sink = udp::Receiver::new();
    let id = weir.init(&watch(&machine, &sink));
    let told = || weir.log().matches("event=gpu_lost").count();
    wait_for("the loss in the log", || (told() > 0).then_some(()));
    // Meanwhile the CPU sees to the frames.
    let lost = Instant::now();
    assert_eq!(wait_for_state(&weir, &id, "lost").get("engine").text(), Some("cnn"));
    sink.next();
    assert!(lost.elapsed() < Duration::from_secs(2), "{:?}", lost.elapsed());
    // Nothing but the end is said from here on.
    systemd.set_nonblocking(true).unwrap();
    while systemd.recv(&mut [0; 1024]).is_ok() {}
    wait_for("three times in which the watchdog is fed otherwise", || (told() > 3).then_some(()));
    assert!(systemd.recv(&mut [0; 1024]).is_err());
    assert!(weir.stop().0.success());
}

#[test]
fn frames_of_two_sources_run_together() {
    let machine = Machine::new(10, "slow record");
    machine.set_plan(-1);
    let model = machine.model(None).display().to_string();
    let weir = start(&machine, AUTO);
    let sink = udp::Receiver::new();
    let videos = format!("[{}, {}]", quoted(&clip("long.mp4")), quoted(&clip("clips/full-709.mp4")));
    weir.init(&init(&model, &videos, sink.port(), ""));
    wait_for("runs of two frames", || {
        (machine.lines("batches").iter().filter(|frames| *frames == "2").count() > 2).then_some(())
    });
    assert!(
        machine
            .lines("arguments")
            .iter()
            .any(|argument| argument == &format!("--maxShapes=images:4x3x{SIDE}x{SIDE}"))
    );
    let mut heard = [false; 2];
    while heard != [true; 2] {
        let datagram = sink.next();
        let source =
            datagram.at("inference_metadata/source_id").number().unwrap_or_else(|| panic!("{datagram}"));
        heard[source as usize] = true;
    }
}

/// Starts an `init` whose build never ends, has `interrupt` do something about it, and waits until nothing of
/// it runs.
fn interrupt_a_build(interrupt: impl FnOnce(Weir, &str)) -> Machine {
    let machine = machine(10, "hang");
    let weir = start(&machine, AUTO);
    let (listener, request) = (weir.tcp, watch(&machine, &udp::Receiver::new()));
    // It may be answered or not; the thread ends with the connection.
    std::thread::spawn(move || std::panic::catch_unwind(|| support::tcp::command(listener, &request)));
    let [builder, sleeper] = wait_for("trtexec to run", || {
        let [builder, sleeper] = ["builder", "sleeper"].map(|name| machine.lines(name).pop());
        Some([builder?, sleeper?])
    });
    assert!(is_running(&builder) && is_running(&sleeper));
    let id = weir.list().pop().expect("the pipeline is listed");
    interrupt(weir, &id);
    wait_for("the end of trtexec", || (!is_running(&builder)).then_some(()));
    wait_for("the end of what trtexec started", || (!is_running(&sleeper)).then_some(()));
    machine
}

#[test]
fn a_build_ends_with_its_pipeline() {
    let machine = interrupt_a_build(|weir, id| {
        assert_eq!(weir.order("terminate", id).get("status").text(), Some("success"));
        assert!(weir.list().is_empty());
        assert!(weir.stop().0.success());
    });
    assert_eq!(machine.files("plan").len() + machine.files("partial").len(), 0);
}

#[test]
fn a_build_ends_with_the_service() {
    let machine = interrupt_a_build(|weir, _| {
        let (status, time) = weir.stop();
        assert!(status.success());
        assert!(time.as_secs() < 5, "{time:?}");
    });
    assert_eq!(machine.files("plan").len() + machine.files("partial").len(), 0);
}

#[test]
fn check_says_what_there_is_and_builds_beforehand() {
    let machine = machine(10, "");
    let text = |output: Output| {
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let platform = text(check(&machine, &[]));
    let library = machine.path("libnvinfer.so.10");
    assert!(platform.contains(&format!("TensorRT 10.3.0 ({})", library.display())), "{platform}");
    assert!(platform.contains("Stand-in GPU, 8192 MiB, driver for CUDA 12.6"), "{platform}");
    assert_eq!(machine.builds(), 0);
    let model = text(check(&machine, &[&toy(&machine)]));
    assert!(model.lines().any(|line| line == "engine   tensorrt"), "{model}");
    assert_eq!(machine.builds(), 1);

    let weir = start(&machine, AUTO);
    let sink = udp::Receiver::new();
    weir.init(&watch(&machine, &sink));
    wait_for_the_gpu(&sink);
    assert_eq!(machine.builds(), 1, "the plan was there");
}
