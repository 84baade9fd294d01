//! The program with NVIDIA's own library, on machines with and without a GPU: `make nvidia`, which says where
//! the library is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "tensorrt/standin.rs"]
mod standin;
#[path = "process/support/mod.rs"]
mod support;

use standin::{Machine, SIDE};
use std::path::{Path, PathBuf};
use std::process::Output;
use support::weir::command;
use support::{Folder, process};

/// Where the library is, and what it calls itself.
fn installed() -> (PathBuf, String) {
    let of = |name| std::env::var(name).unwrap_or_else(|_| panic!("{name}: `make nvidia` sets it"));
    (of("WEIR_NVIDIA_LIBRARIES").into(), of("WEIR_NVIDIA_TITLE"))
}

/// `weir plan` on a file; what it says, and the plan it wrote.
fn plan(onnx: &Path, more: &[&str]) -> (Output, Vec<u8>) {
    let (libraries, _) = installed();
    let folder = Folder::new();
    let plan = folder.path().join("plan");
    let mut command = command(folder.path());
    command.args(["plan", "--onnx"]).arg(onnx).arg("--plan").arg(&plan).arg("--libraries").arg(libraries);
    let output = process::output(command.args(more));
    (output, std::fs::read(plan).unwrap_or_default())
}

/// What it says how far it is.
fn progress(output: &Output) -> Vec<f64> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().filter_map(|line| line.strip_prefix("progress ")?.parse().ok()).collect()
}

#[test]
fn check_names_the_library() {
    let (libraries, title) = installed();
    let folder = Folder::new();
    let file = folder.path().join("weir.toml");
    std::fs::write(&file, format!("[tensorrt]\nlibraries = {:?}\n", libraries.display().to_string()))
        .unwrap();
    let output = process::output(command(folder.path()).args(["check", "--config"]).arg(file));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    let library = format!("{title} ({}/lib", libraries.display());
    assert!(text.contains(&library), "{library}: {text}");
}

#[test]
fn a_detector_becomes_a_plan_and_says_how_far_that_is() {
    let onnx = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/nanodet-coco-416.onnx");
    let (output, plan) = plan(&onnx, &[]);
    assert!(output.status.success(), "{output:?}");
    assert!(plan.len() > 1 << 20, "{} bytes", plan.len());
    let progress = progress(&output);
    assert!(progress.len() > 10 && progress.is_sorted(), "{progress:?}");
}

#[test]
fn an_open_batch_becomes_a_plan() {
    let machine = Machine::new(10, "");
    let side = SIDE.to_string();
    let sizes = ["--input", "images", "--batch", "4", "--width", &side, "--height", &side];
    let (output, plan) = plan(&machine.model(None), &sizes);
    assert!(output.status.success() && !plan.is_empty(), "{output:?}");
    let (output, plan) = plan_of_wrong_input(&machine);
    assert!(!output.status.success() && plan.is_empty(), "{output:?}");
}

fn plan_of_wrong_input(machine: &Machine) -> (Output, Vec<u8>) {
    plan(&machine.model(None), &["--input", "none", "--batch", "4", "--width", "32", "--height", "32"])
}

#[test]
fn what_it_does_not_take_is_refused_in_its_own_words() {
    let folder = Folder::new();
    let file = folder.path().join("model.onnx");
    std::fs::write(&file, b"no model at all").unwrap();
    let (output, _) = plan(&file, &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("TensorRT cannot read the model (") && said.contains("Failed to parse"), "{said}");

    // An operator that nobody has.
    let nanodet = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/nanodet-coco-416.onnx");
    let mut bytes = std::fs::read(nanodet).unwrap();
    let place = bytes.windows(6).position(|bytes| bytes == b"\x22\x04Conv").expect("a convolution");
    bytes[place + 2..place + 6].copy_from_slice(b"Xonv");
    std::fs::write(&file, bytes).unwrap();
    let (output, _) = plan(&file, &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("Xonv"), "{said}");
}
