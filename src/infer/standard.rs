//! Right by the standard: small cases of every operator against what onnxruntime makes of them
//! (`tests/onnx/store.py`), on the engine that `auto` chooses and on tract's. `make onnx` compares thousands.

use super::engine::{self, Options};
use super::onnx::Graph;
use super::process::{Limits, Loaded, Session};
use super::registry::{Models, RegistrySettings};
use super::tensorrt;
use super::{EngineChoice, Precision};
use crate::error::Result;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Part of the range of the right numbers by which a number may be off.
const TOLERANCE: f32 = 1e-3;
/// What a number of 8 bits may be off, and of what is computed from such ones, that part of their range: one
/// step of 255.
const STEP: f32 = 1.0;
/// Memory a case may take, bytes.
const BUDGET_BYTES: u64 = 64 << 20;

fn stored() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx/stored");
    let mut cases: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.extension() == Some("onnx".as_ref()));
    cases.sort();
    cases
}

/// As the service opens models.
fn open(path: &Path) -> Result<Session<'static>> {
    let limits =
        Limits { max_file_bytes: u64::MAX, budget_bytes: BUDGET_BYTES, timeout: Duration::from_secs(60) };
    Session::open(path, limits, &|| Ok(()))
}

/// All outputs one after the other, or why there are none.
fn outputs(path: &Path, picture: &[f32], choice: EngineChoice) -> std::result::Result<Vec<f32>, String> {
    let session = open(path).map_err(|error| error.message().to_owned())?;
    let (input, count) = (session.description().input(), session.description().output_names().len());
    let options = Options {
        width: input.width.unwrap(),
        height: input.height.unwrap(),
        choice,
        precision: Precision::Full,
        budget_bytes: BUDGET_BYTES,
        weights: path,
        tensorrt: &tensorrt::TensorRtSettings::default(),
        scores: &|_| None,
        in_background: false,
        building: &|_| Ok(()),
    };
    let Loaded { engine, .. } = engine::compile(session, &options).map_err(|error| error.to_string())?;
    let mut run = engine.new_run().unwrap();
    run.input().copy_from_slice(picture);
    run.execute().map_err(|error| error.to_string())?;
    Ok((0..count).flat_map(|index| run.output(index).to_vec()).collect())
}

#[test]
fn operators_give_what_onnxruntime_gives() {
    let cases = stored();
    let mut refused = 0;
    for path in &cases {
        let name = path.file_stem().unwrap().to_string_lossy();
        // of these none may be refused
        let needed = ["Q", "Dynamic", "Moved", "MatMulInteger"].iter().any(|word| name.starts_with(word));
        let bytes = std::fs::read(path.with_extension("f32")).unwrap();
        let all: Vec<f32> =
            bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
        let graph = Graph::read_file(path, u64::MAX, BUDGET_BYTES);
        let graph = match graph {
            Ok(graph) => graph,
            Err(error) => {
                assert!(!needed, "{name}: {error}");
                refused += 1;
                continue;
            }
        };
        let length = 3 * graph.input().width.unwrap() * graph.input().height.unwrap();
        let (picture, right) = all.split_at(length);
        for choice in [EngineChoice::Auto, EngineChoice::Tract] {
            // A panic of tract is an error of the model's test run: it counts as refused.
            let attempt = catch_unwind(AssertUnwindSafe(|| outputs(path, picture, choice)));
            let found = match attempt.unwrap_or_else(|_| Err(String::from("it panicked"))) {
                Ok(found) => found,
                Err(reason) => {
                    assert!(!needed, "{name} {choice:?}: {reason}");
                    refused += 1;
                    continue;
                }
            };
            assert_eq!(found.len(), right.len(), "{name} {choice:?}");
            let (low, high) =
                right.iter().fold((0f32, 0f32), |(low, high), value| (low.min(*value), high.max(*value)));
            let range = (high - low).max(1e-6);
            let allowed = match &*name {
                // what they give are the numbers of 8 bits themselves
                name if name.starts_with("QLinear") || name.starts_with("QGemm") => STEP,
                name if name.starts_with("QOperator") || name == "Dynamic-1" => range * STEP / 255.0,
                _ => TOLERANCE * range,
            };
            for (index, (found, right)) in found.iter().zip(right).enumerate() {
                assert!(
                    (found - right).abs() <= allowed,
                    "{name} {choice:?} at {index}: {found}, not {right}"
                );
            }
        }
    }
    assert!(cases.len() >= 90 && refused <= cases.len() / 8, "{refused} of {} refused", cases.len());
}

/// The same picture in the order and type that the file declares is the same picture.
#[test]
fn every_kind_of_input_is_fed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx/inputs");
    let settings = || RegistrySettings { models_dirs: vec![folder.clone()], ..RegistrySettings::default() };
    let picture: Vec<u8> =
        (0..3 * 16 * 16).map(|index: u32| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let found = |name: &str| -> Vec<f32> {
        let models = Models::new(settings());
        let model = smol::block_on(models.get(&format!("{name}.onnx"), None, &|_| ()))
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!((model.family_name(), model.classes().len()), ("yolov8", 3), "{name}");
        let placement = model.rule().place(16, 16).unwrap();
        let mut run = model.engine().new_run().unwrap();
        model.fill().write(&picture, run.input(), model.rule(), &placement);
        run.execute().unwrap();
        run.output(0).to_vec()
    };
    let right = found("plain");
    assert_eq!(right.len(), 28);
    for name in [
        "interleaved",
        "bytes",
        "interleaved-bytes",
        "batch",
        "sizes",
        "half",
        "double",
        "function",
        "external",
    ] {
        let off = found(name).iter().zip(&right).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off < 1e-3, "{name}: {off}");
    }
}

#[test]
fn frames_of_a_graph_for_several_are_apart() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx/inputs/batch.onnx");
    let session = open(&path).unwrap();
    assert_eq!(session.description().input().frames(), 4);
    let options = Options {
        width: 16,
        height: 16,
        choice: EngineChoice::Auto,
        precision: Precision::Full,
        budget_bytes: BUDGET_BYTES,
        weights: &path,
        tensorrt: &tensorrt::TensorRtSettings::default(),
        scores: &|_| None,
        in_background: false,
        building: &|_| Ok(()),
    };
    let Loaded { engine, .. } = engine::compile(session, &options).unwrap();
    assert_eq!((engine.batch().frames, engine.output_shapes()[0].as_slice()), (4, &[1, 7, 4][..]));
    let mut run = engine.new_run().unwrap();
    run.expect_frames(4);
    let mut outputs = |values: [f32; 4]| -> Vec<Vec<f32>> {
        for (frame, value) in values.into_iter().enumerate() {
            run.select_frame(frame);
            run.input().fill(value);
        }
        run.execute().unwrap();
        (0..4)
            .map(|frame| {
                run.select_frame(frame);
                run.output(0).to_vec()
            })
            .collect()
    };
    let (first, second) = (outputs([0.0, 0.25, 0.5, 1.0]), outputs([1.0, 0.5, 0.25, 0.0]));
    assert!(first.iter().rev().eq(second.iter()) && first[0] != first[1]);
}
