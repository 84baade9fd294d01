//! Every family from file to detections, against an independent computation: `tests/families/` (see
//! `generate.py` there).

use super::goldens::{NoHolder, detect, lay, member, number};
use crate::error::Kind;
use crate::infer::registry::{Models, RegistrySettings, test_dir::TestDir};
use crate::infer::workbench::Workbench;
use crate::infer::{Model, Thresholds};
use miniserde::json::Value;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

/// What 32-bit arithmetic may move a corner by, pixels of the frame.
const ARITHMETIC_PIXELS: f64 = 1e-3;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/families")
}

fn text<'a>(record: &'a Value, name: &str) -> Option<&'a str> {
    match member(record, name) {
        Value::String(text) => Some(text),
        _ => None,
    }
}

fn optional<'a>(record: &'a Value, name: &str) -> Option<&'a Value> {
    let Value::Object(object) = record else { panic!("no object") };
    object.get(name).filter(|value| !matches!(value, Value::Null))
}

fn numbers(list: &Value) -> Vec<f64> {
    let Value::Array(list) = list else { panic!("no list") };
    list.iter().map(number).collect()
}

/// Blocks of 10x10 pixels, interleaved RGB: the formula of `generate.py`.
fn frame(width: u32, height: u32) -> Vec<u8> {
    let mut pixels = Vec::new();
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        for channel in 0..3u64 {
            let mixed =
                (u64::from(x / 10) * 73_856_093) ^ (u64::from(y / 10) * 19_349_663) ^ (channel * 83_492_791);
            pixels.push(((mixed.wrapping_mul(2_654_435_761) & 0xFFFF_FFFF) >> 24) as u8);
        }
    }
    pixels
}

/// The model of a record, in a folder of its own as the cache would have it.
fn model(record: &Value, dir: &TestDir) -> Arc<Model> {
    let put = |name: &str, content: String| std::fs::write(dir.path().join(name), content).unwrap();
    let crop = optional(record, "crop").map(|crop| {
        let Value::Array(crop) = crop else { panic!("no list") };
        let edge = |index: usize| number(&crop[index]);
        format!(
            r#", "static-crop": {{"enabled": true, "x_min": {}, "x_max": {}, "y_min": {}, "y_max": {}}}"#,
            edge(0),
            edge(1),
            edge(2),
            edge(3)
        )
    });
    let format = text(record, "format").unwrap();
    let resize = format!(r#"{{"width": 32, "height": 32, "format": "{format}"}}"#);
    put(
        "environment.json",
        format!(r#"{{"PREPROCESSING": {{"resize": {resize}{}}}}}"#, crop.unwrap_or_default()),
    );
    let mut names = ["red", "green", "blue"];
    if let Some(background) = optional(record, "background") {
        names[number(background) as usize] = "background_class83422";
    }
    put("class_names.txt", names.join("\n"));
    let weights = match text(record, "model_type") {
        None => "weights.onnx",
        Some(model_type) => {
            put("model_type.json", format!(r#"{{"model_type": "{model_type}"}}"#));
            if model_type.starts_with("yolov5") { "yolov5s_weights.onnx" } else { "weights.onnx" }
        }
    };
    let file = format!("{}.onnx", text(record, "file").unwrap());
    std::fs::copy(folder().join(file), dir.path().join(weights)).unwrap();
    let models = Models::new(RegistrySettings {
        models_dirs: vec![dir.path().to_owned()],
        ..RegistrySettings::default()
    });
    smol::block_on(models.get(&dir.path().display().to_string(), None, &|_| ())).unwrap()
}

#[test]
fn families_find_what_the_formulas_say() {
    let expected = std::fs::read_to_string(folder().join("expected.jsonl")).unwrap();
    let mut compared = 0;
    for line in expected.lines() {
        let record: Value = miniserde::json::from_str(line).unwrap();
        let dir = TestDir::new();
        let model = model(&record, &dir);
        let Value::Array(size) = member(&record, "frame") else { panic!("no size") };
        let (width, height) = (number(&size[0]) as u32, number(&size[1]) as u32);
        let placement = model.rule().place(width, height).unwrap();
        let slot = lay(width, &frame(width, height), model.rule(), &placement);
        let thresholds = Thresholds {
            confidence: number(member(&record, "confidence")) as f32,
            iou: number(member(&record, "iou")) as f32,
            max_detections: number(member(&record, "max_detections")) as u32,
            class_agnostic: matches!(member(&record, "agnostic"), Value::Bool(true)),
        };
        let mut bench = Workbench::new(Weak::<NoHolder>::new());
        let mut found = detect(&mut bench, &model, slot, placement, thresholds);

        let Value::Array(list) = member(&record, "detections") else { panic!("no list") };
        let mut expected: Vec<Vec<f64>> = list.iter().map(numbers).collect();
        if text(&record, "family") == Some("nms_in_graph") {
            // The operator's own order within a class is not laid down: compared as sets.
            found.sort_by(|a, b| a.class_id.cmp(&b.class_id).then(b.confidence.total_cmp(&a.confidence)));
            expected.sort_by(|a, b| a[5].total_cmp(&b[5]).then(b[4].total_cmp(&a[4])));
        }
        assert_eq!(found.len(), expected.len(), "{line}\n{found:?}");
        // The expected corners are those before rounding: what rounds them is at most half a pixel away.
        let whole = matches!(member(&record, "whole"), Value::Bool(true));
        let slack = if whole { 0.5 + ARITHMETIC_PIXELS } else { ARITHMETIC_PIXELS };
        for (found, values) in found.iter().zip(&expected) {
            let corners = [found.left, found.top, found.right, found.bottom];
            for (corner, expected) in corners.iter().zip(values) {
                assert!((f64::from(*corner) - expected).abs() <= slack, "{found:?}\n{line}");
                assert!(!whole || corner.fract() == 0.0, "{found:?}\n{line}");
            }
            assert!((f64::from(found.confidence) - values[4]).abs() <= 1e-3, "{found:?}\n{line}");
            assert_eq!(f64::from(found.class_id), values[5], "{found:?}\n{line}");
            compared += 1;
        }
    }
    assert!(compared > 400, "only {compared} boxes compared");
}

/// Loads `bad-<name>.onnx` as a local file, with a budget of 256 MiB.
fn load_bad(name: &str) -> crate::error::Result<Arc<Model>> {
    let settings = RegistrySettings {
        models_dirs: vec![folder()],
        memory_budget_bytes: 256 << 20,
        ..RegistrySettings::default()
    };
    smol::block_on(Models::new(settings).get(&format!("bad-{name}.onnx"), None, &|_| ()))
}

#[test]
fn families_refuse_graphs_that_cannot_or_must_not_be_run() {
    for (name, kind, words) in [
        ("operator", Kind::ModelArtefact, "operator Teleport (node beam) is not supported"),
        ("layout", Kind::ModelArtefact, "are of no known family"),
        ("opset", Kind::ModelArtefact, "uses ONNX operator set 99; 7 to 28 are supported"),
        ("inputs", Kind::ModelArtefact, "exactly one input"),
        ("constant", Kind::Exhausted, "value fill of the model"),
        ("doubling", Kind::Exhausted, "would not fit into 256 MiB"),
        ("activation", Kind::Exhausted, "would not fit into 256 MiB"),
        ("tensor", Kind::ModelArtefact, "tensor lie claims shape [1099511627776] but holds 4 elements"),
        ("circle", Kind::ModelArtefact, "node first needs its own result"),
        ("missing", Kind::ModelArtefact, "node sum reads nowhere, which nothing makes"),
        ("external", Kind::ModelArtefact, "outside the folder of the model"),
    ] {
        let error = load_bad(name).unwrap_err();
        assert_eq!(error.kind(), kind, "{name}: {error}");
        assert!(error.message().contains(words), "{name}: {error}");
    }
}

#[test]
fn families_never_report_boxes_that_are_no_numbers() {
    let model = load_bad("numbers").unwrap();
    let placement = model.rule().place(64, 64).unwrap();
    let thresholds = Thresholds { confidence: 0.0, iou: 0.3, max_detections: 300, class_agnostic: false };
    let grey = vec![200; model.rule().slot_bytes()];
    let found = detect(&mut Workbench::new(Weak::<NoHolder>::new()), &model, grey, placement, thresholds);
    assert_eq!(found, []);
}
