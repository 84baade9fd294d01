//! Still pictures through the reference, and through us: `tests/goldens/images.jsonl`.

use crate::detection::Detection;
use crate::geometry::{Fit, InputRule, Placement};
use crate::infer::registry::{Models, RegistrySettings};
use crate::infer::workbench::{Task, Workbench};
use crate::infer::{Job, Model, Pixels, Thresholds, Ticket, registry};
use miniserde::json::{Number, Value};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

/// `resize.format` and `static-crop` of the goldens' models.
const MODELS: [(&str, &str); 3] = [
    ("toy/1", r#"{"resize": {"width": 320, "height": 320, "format": "Stretch to"}}"#),
    ("toy/2", r#"{"resize": {"width": 320, "height": 320, "format": "Fit (black edges) in"}}"#),
    (
        "toy/5",
        r#"{"resize": {"width": 320, "height": 320, "format": "Stretch to"},
            "static-crop": {"enabled": true, "x_min": 10, "x_max": 90, "y_min": 20, "y_max": 80}}"#,
    ),
];

fn tests_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// Puts the goldens' models into a cache, as the API would have.
fn fill_cache(cache: &Path) {
    for (id, preprocessing) in MODELS {
        let folder = cache.join(id);
        std::fs::create_dir_all(&folder).unwrap();
        let text = |name: &str, content: String| std::fs::write(folder.join(name), content).unwrap();
        text(
            "model_type.json",
            String::from(r#"{"project_task_type": "object-detection", "model_type": "yolov8n"}"#),
        );
        text("environment.json", format!(r#"{{"PREPROCESSING": {preprocessing}}}"#));
        text("class_names.txt", String::from("red\ngreen\nblue"));
        std::fs::copy(tests_dir().join("assets/toy.onnx"), folder.join("weights.onnx")).unwrap();
    }
}

/// Width, height and interleaved RGB of a golden picture.
fn picture(name: &str) -> (u32, u32, Vec<u8>) {
    let file =
        std::io::BufReader::new(std::fs::File::open(tests_dir().join("goldens/images").join(name)).unwrap());
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!(info.color_type, png::ColorType::Rgb);
    (info.width, info.height, pixels)
}

/// Bilinear at half-pixel centres, the plain way, into planar RGB.
pub(super) fn lay(width: u32, pixels: &[u8], rule: &InputRule, placement: &Placement) -> Vec<u8> {
    let fill = if let Fit::Letterbox { fill } = rule.fit { fill } else { 0 };
    let mut slot = vec![fill; rule.slot_bytes()];
    let scale_x = f64::from(placement.crop_width) / f64::from(placement.scaled_width);
    let scale_y = f64::from(placement.crop_height) / f64::from(placement.scaled_height);
    let taps = |at: u32, scale: f64, size: u32| {
        let at = ((f64::from(at) + 0.5) * scale - 0.5).clamp(0.0, f64::from(size - 1));
        (at as u32, (at as u32 + 1).min(size - 1), at.fract())
    };
    for y in 0..placement.scaled_height {
        let (y0, y1, part_y) = taps(y, scale_y, placement.crop_height);
        for x in 0..placement.scaled_width {
            let (x0, x1, part_x) = taps(x, scale_x, placement.crop_width);
            for channel in 0..3 {
                let at = |x: u32, y: u32| {
                    let pixel = (y + placement.crop_y) * width + x + placement.crop_x;
                    f64::from(pixels[pixel as usize * 3 + channel])
                };
                let upper = at(x0, y0) * (1.0 - part_x) + at(x1, y0) * part_x;
                let lower = at(x0, y1) * (1.0 - part_x) + at(x1, y1) * part_x;
                let value = upper * (1.0 - part_y) + lower * part_y;
                let place =
                    (channel as u32 * rule.height + y + placement.pad_y) * rule.width + x + placement.pad_x;
                slot[place as usize] = value.round() as u8;
            }
        }
    }
    slot
}

/// A picture that lies in memory.
struct Slot(Vec<u8>);

impl Pixels for Slot {
    fn copy_slot(&self, _: u32, out: &mut [u8]) {
        out.copy_from_slice(&self.0);
    }
}

/// What is found on one picture, by the way that every frame goes.
pub(super) fn detect(
    bench: &mut Workbench,
    model: &Arc<Model>,
    slot: Vec<u8>,
    placement: Placement,
    thresholds: Thresholds,
) -> Vec<Detection> {
    let (done, answered) = async_channel::bounded(1);
    let ticket = Ticket { turn: 0, source: 0, slot: 0 };
    let (model, pixels, detections) = (model.clone(), Arc::new(Slot(slot)), Vec::new());
    let job = Job { ticket, model, pixels, placement, thresholds, detections };
    let mut answers = Vec::new();
    bench.run(&mut vec![Task { job, done }], &mut answers);
    answers.into_iter().for_each(crate::infer::workbench::Answer::send);
    answered.try_recv().unwrap().outcome.unwrap()
}

pub(super) fn member<'a>(value: &'a Value, name: &str) -> &'a Value {
    let Value::Object(object) = value else { panic!("no object") };
    object.get(name).unwrap_or_else(|| panic!("no {name}"))
}

pub(super) fn number(value: &Value) -> f64 {
    match value {
        Value::Number(Number::U64(n)) => *n as f64,
        Value::Number(Number::F64(n)) => *n,
        Value::Number(Number::I64(n)) => *n as f64,
        _ => panic!("no number: {value:?}"),
    }
}

#[test]
fn still_pictures_give_the_boxes_of_the_reference() {
    let dir = registry::test_dir::TestDir::new();
    fill_cache(dir.path());
    let models = Models::new(RegistrySettings {
        cache_dir: dir.path().to_owned(),
        offline: true,
        ..RegistrySettings::default()
    });
    let goldens = std::fs::read_to_string(tests_dir().join("goldens/images.jsonl")).unwrap();
    let mut bench = Workbench::new(Weak::<NoHolder>::new());
    let mut compared = 0;
    for line in goldens.lines() {
        let record: Value = miniserde::json::from_str(line).unwrap();
        let (Value::String(id), Value::String(image)) = (member(&record, "model"), member(&record, "image"))
        else {
            panic!("no text")
        };
        let model = smol::block_on(models.get(id, None, &|_| ())).unwrap();
        let (width, height, pixels) = picture(image);
        let placement = model.rule().place(width, height).unwrap();
        let slot = lay(width, &pixels, model.rule(), &placement);
        let parameters = member(&record, "params");
        let thresholds = Thresholds {
            confidence: number(member(parameters, "confidence")) as f32,
            iou: number(member(parameters, "iou_threshold")) as f32,
            max_detections: number(member(parameters, "max_detections")) as u32,
            class_agnostic: matches!(member(parameters, "class_agnostic_nms"), Value::Bool(true)),
        };
        let found = detect(&mut bench, &model, slot, placement, thresholds);

        let Value::Array(expected) = member(member(&record, "result"), "predictions") else {
            panic!("no list")
        };
        assert_eq!(found.len(), expected.len(), "{line}\n{found:?}");
        for (found, expected) in found.iter().zip(expected.iter()) {
            let (x, y, width, height) = found.centre_size();
            for (name, value) in [("x", x), ("y", y), ("width", width), ("height", height)] {
                assert!(
                    (value - number(member(expected, name))).abs() <= 0.5,
                    "{name} of {found:?} in {line}"
                );
            }
            assert!(
                (f64::from(found.confidence) - number(member(expected, "confidence"))).abs() <= 1e-3,
                "{found:?} in {line}"
            );
            assert_eq!(f64::from(found.class_id), number(member(expected, "class_id")), "{line}");
            compared += 1;
        }
    }
    assert!(compared > 40, "only {compared} boxes compared");
}

/// Holds nothing for anybody: a model without a pool.
pub(super) struct NoHolder;

impl crate::infer::model::Holder for NoHolder {
    fn model_freed(&self) {}
}
