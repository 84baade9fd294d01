//! The TensorRT engine on stand-ins of NVIDIA's libraries: everything but NVIDIA's own code is the real path.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod loading;
mod nvidia;
#[path = "../../../../tests/tensorrt/standin.rs"]
mod standin;

use self::standin::{MAJORS, Machine, SIDE, is_running};
use super::cuda::Device;
use super::{Request, TensorRtSettings, compile, describe};
use crate::error::{Error, Kind, Result};
use crate::infer::Engine;
use crate::infer::onnx::{Description, Graph};
use std::cell::Cell;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

const BUDGET_BYTES: u64 = 1 << 30;

impl Machine {
    fn settings(&self) -> TensorRtSettings {
        TensorRtSettings {
            libraries: Some(self.folder().to_owned()),
            trtexec: self.path("trtexec"),
            // Longer than a slow machine takes, shorter than anybody waits.
            build_timeout: Duration::from_secs(60),
            batch_wait: Duration::from_secs(10),
            ..TensorRtSettings::default()
        }
    }
}

fn load(machine: &Machine, model: &Path) -> Result<Arc<dyn Engine>> {
    load_while(machine, model, &|_| Ok(()))
}

fn load_while(
    machine: &Machine,
    model: &Path,
    building: &dyn Fn(Option<f32>) -> Result<()>,
) -> Result<Arc<dyn Engine>> {
    load_with(model, &machine.settings(), building)
}

fn load_with(
    model: &Path,
    settings: &TensorRtSettings,
    building: &dyn Fn(Option<f32>) -> Result<()>,
) -> Result<Arc<dyn Engine>> {
    let graph = Graph::read(&mut File::open(model).unwrap(), BUDGET_BYTES).unwrap();
    let request =
        Request { weights: model, width: SIDE, height: SIDE, budget_bytes: BUDGET_BYTES, settings, building };
    compile(&Description::of(&graph), &request)
}

/// The error, which must be one.
fn refused(outcome: Result<Arc<dyn Engine>>) -> String {
    outcome.map(|engine| engine.name()).unwrap_err().to_string()
}

/// What the stand-in's network answers to a picture whose first value is `score`: two boxes of it.
fn expected(score: f32) -> [f32; 10] {
    [8.0, 24.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, score, score]
}

#[test]
fn a_plan_is_built_and_run_under_every_layout() {
    for major in MAJORS {
        for modes in ["", "half"] {
            let machine = Machine::new(major, modes);
            let engine = load(&machine, &machine.model(Some(1))).unwrap();
            assert_eq!(engine.name(), "tensorrt");
            assert_eq!(engine.output_shapes(), [vec![1, 5, 2]]);
            assert_eq!(engine.batch().frames, 1);
            let mut run = engine.new_run().unwrap();
            assert_eq!(run.input().len(), 3 * SIDE * SIDE);
            for score in [0.5, 0.75] {
                run.input().fill(score);
                run.execute().unwrap();
                assert_eq!(run.output(0), expected(score), "TensorRT {major} {modes}");
            }
            // The engine goes before what was made of it.
            drop(engine);
            run.execute().unwrap();
        }
    }
}

#[test]
fn several_pictures_run_together_where_the_model_leaves_that_open() {
    for major in MAJORS {
        for modes in ["", "half"] {
            let machine = Machine::new(major, modes);
            machine.set_plan(-1);
            let engine = load(&machine, &machine.model(None)).unwrap();
            assert_eq!(engine.batch().frames, 4);
            assert_eq!(engine.output_shapes(), [vec![1, 5, 2]]);
            let mut run = engine.new_run().unwrap();
            for frames in [4, 1, 3, 3] {
                run.expect_frames(frames);
                for frame in 0..frames {
                    run.select_frame(frame);
                    run.input().fill(frame as f32 / 4.0);
                }
                run.execute().unwrap();
                for frame in 0..frames {
                    run.select_frame(frame);
                    assert_eq!(
                        run.output(0),
                        expected(frame as f32 / 4.0),
                        "TensorRT {major} {modes} {frame} of {frames}"
                    );
                }
            }
            // One more than the plan was made for is outside every buffer.
            run.select_frame(4);
            assert!(run.input().is_empty() && run.output(0).is_empty());
        }
    }
}

#[test]
fn a_model_whose_answers_are_not_one_per_picture_runs_one_by_one() {
    let machine = Machine::new(10, "one-answer");
    machine.set_plan(-1);
    let engine = load(&machine, &machine.model(None)).unwrap();
    assert_eq!(engine.batch().frames, 1);
    let mut run = engine.new_run().unwrap();
    run.input().fill(0.5);
    run.execute().unwrap();
    assert_eq!(run.output(0), expected(0.5));
}

#[test]
fn threads_run_the_same_plan_at_the_same_time() {
    let machine = Machine::new(10, "");
    let engine = load(&machine, &machine.model(Some(1))).unwrap();
    std::thread::scope(|scope| {
        for thread in 1..=4_u8 {
            let engine = engine.clone();
            scope.spawn(move || {
                let mut run = engine.new_run().unwrap();
                let score = f32::from(thread) / 8.0;
                for _ in 0..20 {
                    run.input().fill(score);
                    run.execute().unwrap();
                    assert_eq!(run.output(0), expected(score));
                }
            });
        }
    });
}

#[test]
fn every_reason_not_to_use_it_is_told() {
    let cases = [
        (
            "unknown-version",
            "TensorRT 9.45.67 (94567); this program knows 8.5, 8.6, 10.3 to 10.16, 11.1 to 11.4",
        ),
        ("no-driver", "starting CUDA failed: an unknown error (999)"),
        ("no-device", "finds no GPU"),
        ("null-runtime", "TensorRT does not start"),
        ("null-engine", "does not take the plan (the stand-in cannot read this plan)"),
        ("null-context", "TensorRT makes no context"),
        ("wrong-dims", "the plan's input is [1, 4, 32, 32], not one picture of [3, 32, 32]"),
        ("bytes", "the plan's input is of data type 5"),
        ("data-dependent", "output output0 has the shape [1, -1, 6]: it depends on the data"),
        ("many-tensors", "claims 1073741824 inputs and outputs"),
        ("nameless", "a tensor without a name"),
        ("enqueue-failure", "TensorRT did not run the model (the stand-in was told not to run)"),
        ("lost", "running on the GPU failed: CUDA_ERROR_ILLEGAL_ADDRESS (700)"),
        ("out-of-memory", "CUDA_ERROR_OUT_OF_MEMORY (2): the GPU has no memory left"),
    ];
    for (mode, reason) in cases {
        for major in MAJORS {
            let machine = Machine::new(major, mode);
            let said = refused(load(&machine, &machine.model(Some(1))));
            assert!(said.contains(reason), "{mode}, TensorRT {major}: {said}");
        }
    }
    let machine = Machine::without_runtime();
    let said = refused(load(&machine, &machine.model(Some(1))));
    assert!(said.contains("has no function createInferRuntime_INTERNAL"), "{said}");

    let machine = Machine::new(8, "");
    std::fs::remove_file(machine.path("libnvinfer.so.8")).unwrap();
    let said = refused(load(&machine, &machine.model(Some(1))));
    assert!(
        said.contains("no libnvinfer.so.11, libnvinfer.so.10, libnvinfer.so.8, libtensorrt_rtx.so.1 here"),
        "{said}"
    );

    let machine = Machine::new(8, "");
    let said = refused(load(&machine, &machine.model(Some(2))));
    assert!(said.contains("exported for 2 pictures"), "{said}");
}

#[test]
fn what_fails_on_a_frame_is_an_error_of_the_frame() {
    for (mode, reason) in [
        ("enqueue-failure later", "TensorRT did not run the model (the stand-in was told not to run)"),
        (
            "lost later",
            "running on the GPU failed: CUDA_ERROR_ILLEGAL_ADDRESS (700): the GPU gave up on this process; restart weir",
        ),
    ] {
        let machine = Machine::new(10, mode);
        let engine = load(&machine, &machine.model(Some(1))).unwrap();
        let mut run = engine.new_run().unwrap();
        run.execute().unwrap();
        let error = run.execute().unwrap_err();
        assert_eq!(error.kind(), Kind::Inference);
        assert!(error.to_string().contains(reason), "{error}");
    }
    let machine = Machine::new(10, "out-of-memory later");
    let engine = load(&machine, &machine.model(Some(1))).unwrap();
    let _first = engine.new_run().unwrap();
    let error = engine.new_run().map(drop).unwrap_err();
    assert!(error.message().ends_with("CUDA_ERROR_OUT_OF_MEMORY (2): the GPU has no memory left"), "{error}");
}

#[test]
fn a_plan_is_kept_and_what_is_wrong_with_it_is_found() {
    let machine = Machine::new(10, "");
    let model = machine.model(Some(1));
    load(&machine, &model).unwrap();
    let builds = Cell::new(0);
    load_while(&machine, &model, &|_| {
        builds.set(builds.get() + 1);
        Ok(())
    })
    .unwrap();
    assert_eq!((machine.builds(), builds.get()), (1, 0), "the second load found the plan of the first");
    let [plan] = machine.files("plan").try_into().unwrap();

    // Cut short, as by a full disk.
    let bytes = std::fs::read(&plan).unwrap();
    std::fs::write(&plan, &bytes[..bytes.len() - 1]).unwrap();
    load(&machine, &model).unwrap();
    assert_eq!(machine.builds(), 2);
    assert_eq!(std::fs::read(&plan).unwrap(), bytes);

    // Whole, but the library does not take it: it is built anew once, not for ever.
    let foreign = Machine::new(10, "null-engine");
    std::fs::copy(&plan, foreign.path(plan.file_name().unwrap().to_str().unwrap())).unwrap();
    refused(load(&foreign, &foreign.model(Some(1))));
    assert_eq!(foreign.builds(), 1);

    // The same model for other settings.
    let settings = TensorRtSettings { half: false, ..machine.settings() };
    load_with(&model, &settings, &|_| Ok(())).unwrap();
    assert_eq!(machine.builds(), 3);
    assert_eq!(machine.files("plan").len(), 1, "the older plan has gone");
}

#[test]
fn trtexec_is_told_what_its_version_understands() {
    for (major, modes, flags) in [
        (8, "", "--buildOnly --fp16"),
        (8, "8.6", "--skipInference --fp16"),
        (10, "", "--skipInference --fp16"),
        (10, "10.16", "--skipInference --fp16"),
        (11, "", "--skipInference"),
    ] {
        let machine = Machine::new(major, modes);
        machine.set_plan(-1);
        let model = machine.model(None);
        load(&machine, &model).unwrap();
        let arguments = machine.arguments();
        assert_eq!(arguments[0], format!("--onnx={}", model.display()));
        assert!(arguments[1].starts_with("--saveEngine="));
        let shapes =
            ["--minShapes=images:1x3x32x32", "--optShapes=images:4x3x32x32", "--maxShapes=images:4x3x32x32"];
        assert_eq!(arguments[2..].join(" "), format!("{flags} {}", shapes.join(" ")));
        let environment = std::fs::read_to_string(machine.path("environment")).unwrap();
        // What the shell of the stand-in adds, and what is passed on; keys and tokens would be neither.
        let of_shell = ["PWD", "OLDPWD", "SHLVL", "_"];
        for name in environment.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name) {
            assert!(
                of_shell.contains(&name) || super::build::INHERITED_VARIABLES.contains(&name),
                "{environment}"
            );
        }
    }
    let machine = Machine::new(10, "");
    load(&machine, &machine.model(Some(1))).unwrap();
    assert_eq!(machine.arguments()[2..], ["--skipInference", "--fp16"], "nothing is open in this model");
}

#[test]
fn a_build_that_fails_says_why_and_leaves_nothing() {
    for (mode, reason) in
        [("fail", "[E] [TRT] no kernel for node 7"), ("silent", "the program that built it wrote no plan")]
    {
        let machine = Machine::new(10, mode);
        let said = refused(load(&machine, &machine.model(Some(1))));
        assert!(said.contains(reason), "{said}");
        assert_eq!(machine.files("plan").len() + machine.files("partial").len(), 0);
    }
    let machine = Machine::new(10, "flood");
    load(&machine, &machine.model(Some(1))).unwrap();

    let machine = Machine::new(10, "");
    let settings = TensorRtSettings { trtexec: machine.path("no-trtexec"), ..machine.settings() };
    let said = refused(load_with(&machine.model(Some(1)), &settings, &|_| Ok(())));
    assert!(said.contains("no-trtexec cannot be started to build a plan"), "{said}");
}

#[test]
fn a_build_ends_with_its_time_and_with_those_who_wait() {
    let machine = Machine::new(10, "hang");
    let settings = TensorRtSettings { build_timeout: Duration::from_millis(300), ..machine.settings() };
    let said = refused(load_with(&machine.model(Some(1)), &settings, &|_| Ok(())));
    assert!(said.contains("did not finish within 0.3 s (tensorrt.build_timeout_s)"), "{said}");

    // Waits for the child of trtexec, then gives up.
    std::fs::remove_file(machine.path("sleeper")).ok();
    let error = load_while(&machine, &machine.model(Some(1)), &|_| match machine.path("sleeper").exists() {
        true => Err(Error::new(Kind::ShuttingDown, "nobody waits")),
        false => Ok(()),
    });
    assert_eq!(error.map(drop).unwrap_err().kind(), Kind::ShuttingDown);
    assert_eq!(machine.files("plan").len() + machine.files("partial").len(), 0);
    let sleeper = std::fs::read_to_string(machine.path("sleeper")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    // It was killed with its group; whose child it became reaps it when it likes.
    while is_running(&sleeper) {
        assert!(Instant::now() < deadline, "what trtexec started goes on");
        std::thread::yield_now();
    }
}

#[test]
fn check_says_what_there_is() {
    let machine = Machine::new(8, "");
    let [tensorrt, cuda] = describe(&machine.settings()).try_into().unwrap();
    assert_eq!(tensorrt, format!("TensorRT 8.5.2 ({})", machine.path("libnvinfer.so.8").display()));
    assert_eq!(cuda, "Stand-in GPU, 8192 MiB, driver for CUDA 12.6");
    let machine = Machine::new(8, "unknown-version no-device");
    let [tensorrt, cuda] = describe(&machine.settings()).try_into().unwrap();
    assert!(tensorrt.starts_with("no TensorRT: ") && tensorrt.contains("94567"), "{tensorrt}");
    assert_eq!(cuda, "no CUDA: the NVIDIA driver finds no GPU");
}

/// The one part that can be tried where there is a GPU and no TensorRT: `cargo test --lib cuda_driver --
/// --nocapture`.
#[test]
fn cuda_driver_of_this_machine_copies_there_and_back() {
    use super::cuda::{DeviceBuffer, PinnedBuffer, Stream};
    const BYTES: usize = 1 << 20;
    let device = match Device::open(None) {
        Ok(device) => device,
        Err(error) => return println!("skipped: {error}"),
    };
    println!("{}, {} MiB, driver for CUDA {}", device.name(), device.memory_bytes() >> 20, device.driver());
    let mut stream = Stream::new(&device).unwrap();
    let mut from = PinnedBuffer::new(&device, BYTES).unwrap();
    let mut to = PinnedBuffer::new(&device, BYTES).unwrap();
    let on_gpu = DeviceBuffer::new(&device, BYTES).unwrap();
    from.as_bytes_mut().iter_mut().enumerate().for_each(|(index, byte)| *byte = index as u8);
    // SAFETY: waited for right away.
    #[allow(unsafe_code)]
    unsafe {
        stream.upload(&from, &on_gpu, BYTES).unwrap();
        stream.download(&on_gpu, &mut to, BYTES).unwrap();
    }
    stream.wait().unwrap();
    assert_eq!(from.as_bytes(), to.as_bytes());
    assert!(device.free_bytes().unwrap() > 0);
    // Another thread, and everything dropped on yet another.
    let moved = (stream, from, to, on_gpu);
    std::thread::spawn(move || drop(moved)).join().unwrap();
    let listed = Command::new("nvidia-smi").arg("-L").output();
    if let Ok(listed) = listed {
        assert!(String::from_utf8_lossy(&listed.stdout).contains(device.name()), "{listed:?}");
    }
}
