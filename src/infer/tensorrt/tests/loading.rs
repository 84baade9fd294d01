//! From a model id to detections, as the service does it.

use super::super::TensorRtSettings;
use super::standin::{Machine, SIDE};
use crate::error::Kind;
use crate::geometry::Placement;
use crate::infer::EngineChoice;
use crate::infer::registry::{self, Models, Stage};
use crate::infer::{Job, Model, Pixels, Pool, Thresholds, Ticket};
use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

fn settings(tensorrt: TensorRtSettings, folder: &Path, engine: EngineChoice) -> registry::RegistrySettings {
    registry::RegistrySettings {
        tensorrt,
        models_dirs: vec![folder.to_owned()],
        engine,
        ..registry::RegistrySettings::default()
    }
}

/// Every pixel of slot `n` is `n`.
struct Flat;

impl Pixels for Flat {
    fn copy_slot(&self, slot: u32, out: &mut [u8]) {
        out.fill(slot as u8);
    }
}

fn job(model: &Arc<Model>, source: u32, slot: u32) -> Job {
    let side = SIDE as u32;
    let placement: Placement = model.rule().place(side, side).unwrap();
    let thresholds = Thresholds { confidence: 0.4, iou: 0.3, max_detections: 300, class_agnostic: false };
    let ticket = Ticket { turn: 0, source, slot };
    Job {
        ticket,
        model: model.clone(),
        pixels: Arc::new(Flat),
        placement,
        thresholds,
        detections: Vec::new(),
    }
}

#[test]
fn a_model_is_built_once_and_detects() {
    let machine = Machine::new(10, "");
    let path = machine.model(Some(1)).display().to_string();
    let get = |stages: &RefCell<Vec<Stage>>| {
        let models = Models::new(settings(machine.settings(), machine.folder(), EngineChoice::Auto));
        let progress = |progress: registry::Progress| stages.borrow_mut().push(progress.stage);
        smol::block_on(models.get(&path, None, &progress)).unwrap()
    };
    let stages = RefCell::default();
    let model = get(&stages);
    assert!(stages.borrow().contains(&Stage::Building), "{stages:?}");
    assert_eq!((model.engine_name(), model.family_name()), ("tensorrt", "yolov8"));

    let pool = Pool::start(2).unwrap();
    let (sender, answers) = async_channel::bounded(8);
    let queue = pool.queue(sender);
    queue.submit(job(&model, 0, 204)).unwrap();
    let found = answers.recv_blocking().unwrap().outcome.unwrap();
    assert_eq!(found.len(), 2);
    assert!((found[0].confidence - 0.8).abs() < 1e-6);
    assert_eq!((found[0].left, found[0].right), (4.0, 12.0));
    drop((queue, pool, model));

    let stages = RefCell::default();
    get(&stages);
    assert!(!stages.borrow().contains(&Stage::Building), "{stages:?}");
}

#[test]
fn without_a_gpu_the_cpu_does_it_unless_told_otherwise() {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/assets");
    let toy = Machine::new(8, "");
    std::fs::copy(assets.join("toy.onnx"), toy.path("weights.onnx")).unwrap();
    let environment =
        r#"{"PREPROCESSING": "{\"resize\": {\"width\": 320, \"height\": 320, \"format\": \"Stretch to\"}}"}"#;
    std::fs::write(toy.path("environment.json"), environment).unwrap();
    std::fs::write(toy.path("class_names.txt"), "red\ngreen\nblue").unwrap();
    let id = toy.folder().display().to_string();
    for modes in ["no-device", "unknown-version", "null-engine", "wrong-dims", "fail"] {
        let machine = Machine::new(8, modes);
        let models = |choice| Models::new(settings(machine.settings(), toy.folder(), choice));
        let model = smol::block_on(models(EngineChoice::Auto).get(&id, None, &|_| ())).unwrap();
        assert_eq!(model.engine_name(), "cnn", "{modes}");
        let error = smol::block_on(models(EngineChoice::TensorRt).get(&id, None, &|_| ())).unwrap_err();
        assert!([Kind::System, Kind::Inference].contains(&error.kind()), "{error}");
    }
}

#[test]
fn a_build_nobody_waits_for_is_stopped() {
    let machine = Machine::new(10, "hang");
    let path = machine.model(Some(1)).display().to_string();
    let models = Models::new(settings(machine.settings(), machine.folder(), EngineChoice::Auto));
    smol::block_on(async {
        let (started, building) = async_channel::unbounded();
        let progress = |progress: registry::Progress| {
            if progress.stage == Stage::Building {
                started.try_send(()).unwrap();
            }
        };
        let load = async { Err(models.get(&path, None, &progress).await.map(drop)) };
        // Three words from the build, and whoever asked is gone.
        let client = async {
            for _ in 0..3 {
                building.recv().await.unwrap();
            }
            Ok(())
        };
        futures_lite::future::or(load, client).await.unwrap();
    });
    // The next build on this machine waits for the turn of the one that was stopped.
    let other = Machine::new(10, "");
    let other_path = other.model(Some(1)).display().to_string();
    let models = Models::new(settings(other.settings(), other.folder(), EngineChoice::TensorRt));
    smol::block_on(models.get(&other_path, None, &|_| ())).unwrap();
    assert_eq!(machine.files("plan").len() + machine.files("partial").len(), 0);
}
