//! Models as a user meets them: the real binary loads them while it works, and `weir check` says what they
//! are.

use crate::support::onnx::{Model, integer, integers};
use crate::support::weir::{command, signal};
use crate::support::{Folder, Json, Weir, clip, process, request, root, udp, wait_for};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Frames a second of the pipeline that is watched while models load.
const PACE: f64 = 20.0;
/// Part of them that must come while a model loads, in the best of [`LOADS`]: what stands still for the
/// length of a load would bring one at the most.
const LEAST_SHARE: f64 = 0.6;
const LOADS: usize = 3;

fn init(model: &str, video: &str, port: u16, extra: &str) -> Json {
    request::init(model, &request::quoted(video), port, extra)
}

#[test]
fn loading_a_model_delays_neither_running_pipelines_nor_answers() {
    let weir = Weir::start();
    let (sink, unread) = (udp::Receiver::new(), udp::Receiver::new());
    weir.init(&init(
        &weir.toy(),
        &format!("file://{}", clip("long.mp4")),
        sink.port(),
        &format!(", \"max_fps\": {PACE}"),
    ));
    sink.next();
    let models = Path::new(&weir.toy()).parent().unwrap().to_owned();
    let mut best_share = 0.0f64;
    for round in 0..LOADS {
        // A new name each time: the service must not find it among the models in use.
        let model = models.join(format!("nanodet{round}.onnx"));
        std::fs::copy(root().join("assets/nanodet-coco-416.onnx"), &model).unwrap();
        let request =
            init(&model.display().to_string(), &clip("short.mp4"), unread.port(), r#", "max_fps": 1"#);
        sink.drain();
        let (took, frames) = std::thread::scope(|scope| {
            let load = scope.spawn(|| {
                let start = Instant::now();
                weir.init(&request);
                start.elapsed().as_secs_f64()
            });
            let mut frames = 0;
            while !load.is_finished() {
                weir.list();
                sink.text();
                frames += 1;
            }
            (load.join().unwrap(), frames)
        });
        println!("{frames} frames and answers in the {took:.3} s of a load");
        best_share = best_share.max(f64::from(frames) / (took * PACE));
    }
    assert!(best_share >= LEAST_SHARE, "{best_share:.2} of the frames came");
}

/// `weir … | head -1`.
#[test]
fn who_reads_no_further_sees_no_panic() {
    let cache = Folder::new();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = command(cache.path());
    command.args(["bench", "decode", "--sums", &clip("short.mp4")]);
    command.stdout(writer).stderr(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    drop((reader, command));
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// 4 × 30 frames a second of a model that takes more than 10 ms of the one core there is.
#[test]
fn who_asks_for_more_than_the_machine_has_is_told_in_status() {
    let folder = Folder::new();
    let configuration = folder.path().join("weir.toml");
    std::fs::write(&configuration, "[service]\nthreads = 1\n").unwrap();
    let weir = Weir::start_with(|command| {
        command.arg("--config").arg(&configuration);
    });
    let sink = udp::Receiver::new();
    let video = format!("file://{}", clip("long.mp4"));
    let model = Path::new(&weir.toy()).parent().unwrap().join("nanodet.onnx");
    std::fs::copy(root().join("assets/nanodet-coco-416.onnx"), &model).unwrap();
    let request = Json::parse(&format!(
        r#"{{"type": "init", "model_id": "{}", "video_reference": ["{video}", "{video}", "{video}", "{video}"],
            "sink_configuration": {{"type": "udp_sink", "host": "127.0.0.1", "port": {}}},
            "model_configuration": {{"type": "object-detection"}}}}"#,
        model.display(),
        sink.port()
    ));
    let id = weir.init(&request);
    let told = wait_for("the words about the cores", || {
        let report = weir.report(&id).to_string();
        report.contains("frames will be left out").then_some(report)
    });
    assert!(told.contains("a lower max_fps or a smaller model takes less"), "{told}");
    assert!(weir.log().contains("event=capacity_short"), "{}", weir.log());
}

#[test]
fn check_tells_family_input_classes_and_cost_of_every_family() {
    let cache = Folder::new();
    for (file, family, classes) in [
        ("yolov5", "yolov5", 3),
        ("yolov8", "yolov8", 3),
        ("yolov8-f16", "yolov8", 3),
        ("yolo_nas", "yolo_nas", 3),
        ("end_to_end", "yolov10", 3),
        ("rfdetr", "rfdetr", 3),
        ("yolox", "yolox", 3),
        ("nms_in_graph", "nms_in_graph", 3),
    ] {
        let path = root().join(format!("tests/families/{file}.onnx"));
        let output = process::output(command(cache.path()).arg("check").arg(&path));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{file}: {text}{}", String::from_utf8_lossy(&output.stderr));
        let line = |name: &str| {
            text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"))
        };
        assert!(line("family").contains(&format!(" {family} (")), "{text}");
        assert!(line("input").contains(" x "), "{text}");
        assert!(line("classes").contains(&format!(" {classes}: red, green, blue")), "{text}");
        assert!(line("time").contains(" ms a frame"), "{text}");
    }
    let output = process::output(
        command(cache.path()).arg("check").arg(root().join("tests/families/bad-operator.onnx")),
    );
    assert!(!output.status.success());
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("operator Teleport (node beam) is not supported")
    );
}

/// The models' folder of a service.
fn folder(weir: &Weir) -> PathBuf {
    Path::new(&weir.toy()).parent().unwrap().to_owned()
}

/// The newest error among a pipeline's own updates.
fn complaint(weir: &Weir, pipeline: &str) -> Option<String> {
    let report = weir.report(pipeline);
    let updates = report.get("video_source_status_updates").items();
    let mut errors = updates.iter().filter(|update| update.at("payload/error_type").text().is_some());
    errors.next_back().map(|update| update.get("payload").to_string())
}

/// Reads a sink until told to stop: how many frames came, every one after the one before it.
fn read_all(sink: &udp::Receiver, over: &AtomicBool) -> usize {
    let (mut last, mut count): (Option<f64>, _) = (None, 0);
    while !over.load(Ordering::SeqCst) {
        let Some(text) = sink.text_within(Duration::from_millis(20)) else { continue };
        let frame = Json::parse(&text).at("inference_metadata/frame_id").number().unwrap();
        assert!(last.is_none_or(|last| frame == last + 1.0), "frame {frame} after {last:?}");
        (last, count) = (Some(frame), count + 1);
    }
    count
}

/// A kernel that reads beyond its operand ends the process it runs in. What only tract can run does so in a
/// process of its own.
#[test]
fn a_model_whose_process_dies_costs_nobody_else_a_frame_and_runs_again() {
    let weir = Weir::start();
    let video = clip("long.mp4");
    // Files without `max_fps`: every frame is sent, in order, however busy the machine is.
    let healthy: Vec<udp::Receiver> = (0..4).map(|_| udp::Receiver::new()).collect();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flag = &over;
        let read: Vec<_> = healthy.iter().map(|sink| scope.spawn(move || read_all(sink, flag))).collect();
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for sink in &healthy {
                weir.init(&init(&weir.toy(), &video, sink.port(), ""));
            }
            dies_and_runs_again(&weir, &video);
        }));
        over.store(true, Ordering::SeqCst);
        for (index, read) in read.into_iter().enumerate() {
            assert!(read.join().unwrap() > 10, "pipeline {index}");
        }
        checked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn dies_and_runs_again(weir: &Weir, video: &str) {
    let model = folder(weir).join("stranger.onnx");
    std::fs::copy(root().join("tests/families/nms_in_graph.onnx"), &model).unwrap();
    let sink = udp::Receiver::new();
    let pipeline = weir.init(&init(&model.display().to_string(), video, sink.port(), r#", "max_fps": 5"#));
    sink.text();
    let only = |pids: Vec<u32>| if let [pid] = pids[..] { Some(pid) } else { None };
    let first = wait_for("one model process", || only(weir.model_processes()));

    // not SIGSEGV, which Rust's own handler looks at first
    signal(first, Signal::ILL);
    let said = wait_for("the pipeline to say so", || {
        complaint(weir, &pipeline).filter(|said| said.contains("ended early"))
    });
    assert!(said.contains("the model's process ended early (ended by signal 4)"), "{said}");
    let second =
        wait_for("another model process", || only(weir.model_processes()).filter(|pid| *pid != first));
    sink.drain();
    sink.text();
    assert_eq!(only(weir.model_processes()), Some(second), "it stays");
    // with the pipeline its process goes
    weir.order("terminate", &pipeline);
    wait_for("the model process to be gone", || weir.model_processes().is_empty().then_some(()));
}

#[test]
fn a_model_that_is_not_read_in_time_is_an_error_and_its_process_is_gone() {
    let weir = Weir::configured("[models]\nload_timeout_s = 0.5\n");
    let names: Vec<String> = (0..45_000).map(|index| format!("n{index}")).collect();
    let ends = std::iter::once("images").chain(names.iter().map(String::as_str));
    let chain = ends
        .zip(&names)
        .fold(Model::new(32, "n44999"), |model, (from, to)| model.node("Relu", &[from], to, &[]));
    let file = folder(&weir).join("endless.onnx");
    std::fs::write(&file, chain.file()).unwrap();
    let start = Instant::now();
    let reply = weir.ask(&init(&file.display().to_string(), &clip("short.mp4"), 9, ""));
    assert!(reply.to_string().contains("took longer to load than it may (models.load_timeout_s)"), "{reply}");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    wait_for("its process to be gone", || weir.model_processes().is_empty().then_some(()));
    assert!(weir.list().is_empty());
}

/// Files that no exporter writes: one line that says why, soon, and nothing is left.
#[test]
fn strangers_models_end_in_one_line() {
    let folder = Folder::new();
    let outside = Folder::new();
    std::fs::write(outside.path().join("secret"), [0; 64]).unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret"), folder.path().join("link")).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, folder.path().join("fifo"), fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    let relu = |model: Model| model.node("Relu", &["images"], "out", &[]);
    let conv = |weights: &[u64], attributes: &[Vec<u8>]| {
        Model::new(32, "out").floats("w", weights).node("Conv", &["images", "w"], "out", attributes)
    };
    let beside = |file: &str| {
        let model = Model::new(32, "out").elsewhere("w", &[4, 3, 1, 1], file);
        model.node("Conv", &["images", "w"], "out", &[integers("kernel_shape", &[1, 1])])
    };
    let huge = i64::MAX;
    let models = [
        (
            "cycle",
            "graph",
            Model::new(32, "b").node("Add", &["images", "b"], "a", &[]).node("Relu", &["a"], "b", &[]),
        ),
        ("no-tensor", "graph", Model::new(32, "out").node("Add", &["images", "nowhere"], "out", &[])),
        ("no-output", "graph", relu(Model::new(32, "nothing"))),
        ("twice", "", relu(relu(Model::new(32, "out")))),
        (
            "huge-shape",
            "MiB",
            Model::new(32, "out").shape("s", &[huge, huge, 4]).node("ConstantOfShape", &["s"], "out", &[]),
        ),
        (
            "huge-tile",
            "MiB",
            Model::new(32, "out").shape("s", &[1, 1, 1 << 30, 1 << 30]).node(
                "Tile",
                &["images", "s"],
                "out",
                &[],
            ),
        ),
        (
            "huge-reshape",
            "",
            Model::new(32, "out").shape("s", &[huge, 3]).node("Reshape", &["images", "s"], "out", &[]),
        ),
        ("huge-pads", "", conv(&[4, 3, 3, 3], &[integers("pads", &[1 << 62, 1 << 62, 1 << 62, 1 << 62])])),
        ("huge-stride", "", conv(&[4, 3, 3, 3], &[integers("strides", &[u64::MAX, 0])])),
        ("no-groups", "", conv(&[4, 3, 3, 3], &[integer("group", 0)])),
        ("other-kernel", "", conv(&[4, 3, 3, 3], &[integers("kernel_shape", &[9, 9])])),
        ("outside", "outside the folder", beside("../secret")),
        ("absolute", "outside the folder", beside("/etc/passwd")),
        ("link", "outside the folder", beside("link")),
        ("fifo", "is no file", beside("fifo")),
        ("missing", "must lie beside", beside("missing.data")),
    ];
    for (name, words, model) in models {
        let path = folder.path().join(format!("{name}.onnx"));
        std::fs::write(&path, model.file()).unwrap();
        let start = Instant::now();
        let output = command(folder.path()).arg("check").arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or_default();
        assert!(
            !output.status.success() && output.status.code().is_some(),
            "{name}: {:?} {said}",
            output.status
        );
        assert!(last.starts_with("weir: ") && last.contains(words), "{name}: {said}");
        assert!(start.elapsed() < Duration::from_secs(30), "{name} took {:?}", start.elapsed());
    }
}

/// The whole command on a clip, what it says, and that the service's reader finds what it made.
#[test]
fn a_model_is_brought_to_8_bits_on_ones_own_video_and_served_so() {
    let folder = Folder::new();
    let models = folder.path().join("models");
    let float = root().join("tests/families/convolutions.onnx");
    let weir = |arguments: &[&str]| {
        let mut command = command(folder.path());
        process::output(command.env("WEIR_MODELS_DIR", &models).args(arguments))
    };
    let said = |output: &std::process::Output| {
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let float = float.to_str().unwrap();
    let quantise = |extra: &[&str]| weir(&[&["models", "quantise", float], extra].concat());
    // what nothing can be learnt from
    let pictures = folder.path().join("pictures");
    std::fs::create_dir(&pictures).unwrap();
    let (jpeg, text) = (root().join("tests/assets/clips/colour.jpg"), folder.path().join("text.mp4"));
    std::fs::write(&text, "no video").unwrap();
    for (count, words) in [(0, "no JPEG pictures"), (1, "16 are the fewest"), (20, "the same picture")] {
        for number in 0..count {
            std::fs::copy(&jpeg, pictures.join(format!("{number}.jpg"))).unwrap();
        }
        let refused = quantise(&["--pictures", pictures.to_str().unwrap()]);
        assert!(refused.status.code() == Some(66) && said(&refused).contains(words), "{}", said(&refused));
    }
    let refused = quantise(&["--video", text.to_str().unwrap()]);
    assert!(
        refused.status.code() == Some(66) && said(&refused).contains("no pictures to calibrate with"),
        "{}",
        said(&refused)
    );
    assert_eq!(std::fs::read_dir(&models).unwrap().count(), 0, "nothing is left");

    // before there is a twin
    let check = |extra: &[(&str, &str)]| {
        let mut command = command(folder.path());
        command.env("WEIR_MODELS_DIR", &models).envs(extra.iter().copied());
        process::output(command.args(["check", float, "--log-level", "info"]))
    };
    let without = said(&check(&[("WEIR_PRECISION", "int8")]));
    assert!(without.contains("weir models quantise") && without.contains("precision=full"), "{without}");

    let made = quantise(&["--video", &clip("clips/main.mp4")]);
    let text = said(&made);
    assert!(made.status.success(), "{text}");
    for words in [
        "4 of 6 convolutions, 8 values in 8 bits",
        "calibrated on 25 pictures",
        "% of ",
        "class    red: ",
        "precision = \"int8\" serves it",
    ] {
        assert!(text.contains(words), "{words} is not in {text}");
    }
    let with = said(&check(&[("WEIR_PRECISION", "int8")]));
    assert!(with.contains("precision=int8 twin=") && with.contains("convolutions-int8"), "{with}");
    // in floats check tells of the twin
    let full = said(&check(&[]));
    assert!(
        full.contains("MiB with models.precision = \"int8\"") && !full.contains("int8     not yet"),
        "{full}"
    );
}

/// Weights of 75 MB: while they are loaded there is little more than themselves, in the service and its model
/// process together.
#[test]
fn loading_takes_little_more_memory_than_the_weights() {
    const ALLOWED_BYTES: u64 = 40 << 20;
    let weir = Weir::start();
    let same = [integers("pads", &[1, 1, 1, 1])];
    let model = Model::new(16, "out")
        .floats("w0", &[1024, 3, 3, 3])
        .floats("w1", &[1024, 1024, 3, 3])
        .floats("w2", &[1024, 1024, 3, 3])
        .floats("w3", &[7, 1024, 1, 1])
        .shape("flat", &[1, 7, 256])
        .node("Conv", &["images", "w0"], "a", &same)
        .node("Conv", &["a", "w1"], "b", &same)
        .node("Conv", &["b", "w2"], "c", &same)
        .node("Conv", &["c", "w3"], "d", &[])
        .node("Reshape", &["d", "flat"], "out", &[]);
    let bytes = model.file();
    let (weights, file) = (bytes.len() as u64, folder(&weir).join("large.onnx"));
    std::fs::write(&file, bytes).unwrap();
    let memory = |pid| process::bytes(pid, "smaps_rollup", "Pss:").unwrap_or(0);
    let before = memory(weir.pid());
    let over = AtomicBool::new(false);
    let most = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = 0;
            while !over.load(Ordering::SeqCst) {
                let processes = weir.model_processes().into_iter().chain([weir.pid()]);
                most = most.max(processes.map(memory).sum());
                // /proc cannot be waited for
                std::thread::sleep(Duration::from_millis(2));
            }
            most
        });
        weir.init(&init(&file.display().to_string(), &clip("short.mp4"), 9, r#", "max_fps": 1"#));
        over.store(true, Ordering::SeqCst);
        watch.join().unwrap()
    });
    let peak = most.saturating_sub(before);
    println!("{peak} bytes at most for {weights} bytes of weights, beyond the {before} of the idle service");
    assert!(peak <= weights * 3 / 2 + ALLOWED_BYTES, "{peak} bytes for {weights} bytes of weights");
}
