//! Models as a user meets them: the real binary loads them while it works, and `weir check` says what they are.

use crate::support::weir::command;
use crate::support::{Folder, Json, Weir, clip, process, request, root, udp};
use std::path::Path;
use std::time::Instant;

/// Frames a second of the pipeline that is watched while models load.
const PACE: f64 = 20.0;
/// Part of them that must come while a model loads, in the best of [`LOADS`]: what stands still for the length of a load
/// would bring one at the most.
const LEAST_SHARE: f64 = 0.6;
const LOADS: usize = 3;

fn init(model: &str, video: &str, port: u16, extra: &str) -> Json {
    request::init(model, &request::quoted(video), port, extra)
}

#[test]
fn loading_a_model_delays_neither_running_pipelines_nor_answers() {
    let weir = Weir::start();
    let (sink, unread) = (udp::Receiver::new(), udp::Receiver::new());
    weir.init(&init(&weir.toy(), &format!("file://{}", clip("long.mp4")), sink.port(), &format!(", \"max_fps\": {PACE}")));
    sink.next();
    let models = Path::new(&weir.toy()).parent().unwrap().to_owned();
    let mut best_share = 0.0f64;
    for round in 0..LOADS {
        // A new name each time: the service must not find it among the models in use.
        let model = models.join(format!("nanodet{round}.onnx"));
        std::fs::copy(root().join("assets/nanodet-coco-416.onnx"), &model).unwrap();
        let request = init(&model.display().to_string(), &clip("short.mp4"), unread.port(), r#", "max_fps": 1"#);
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
        let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
        assert!(line("family").contains(&format!(" {family} (")), "{text}");
        assert!(line("input").contains(" x "), "{text}");
        assert!(line("classes").contains(&format!(" {classes}: red, green, blue")), "{text}");
        assert!(line("time").contains(" ms a frame"), "{text}");
    }
    let output = process::output(command(cache.path()).arg("check").arg(root().join("tests/families/bad-operator.onnx")));
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("operator Teleport (node beam) is not supported"));
}
