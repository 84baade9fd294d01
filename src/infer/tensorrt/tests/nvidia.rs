//! NVIDIA's own library through our table, in this process: `make nvidia`, which says where it is. What needs
//! a GPU is refused by it; here it counts that the refusal is NVIDIA's.

use super::super::builder::{self, Wish};
use super::super::cuda::Device;
use super::super::library::TensorRt;
use super::super::runtime::{Engine, Runtime};
use super::standin::Machine;
use crate::error::Result;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where it is; `None`: nobody said.
fn libraries() -> Option<PathBuf> {
    let folder = std::env::var_os("WEIR_NVIDIA_LIBRARIES").map(PathBuf::from);
    if folder.is_none() {
        println!("skipped: `make nvidia` says where NVIDIA's library is");
    }
    folder
}

/// Reads a plan with the driver of this machine where there is one, else with the stand-in, which NVIDIA's
/// library does not find.
fn read(folder: &Path, plan: &[u8]) -> Result<Arc<Engine>> {
    let stand_in = Machine::new(10, "");
    let device = Device::open(None).or_else(|_| Device::open(Some(stand_in.folder())))?;
    Runtime::new(TensorRt::open(Some(folder))?, device)?.deserialise(plan)
}

#[test]
fn what_is_no_plan_is_refused_in_its_own_words() {
    let Some(folder) = libraries() else { return };
    println!("{}", TensorRt::open(Some(&folder)).unwrap().title());
    let error = read(&folder, &[7; 4096]).map(drop).unwrap_err().to_string();
    println!("{error}");
    // The lean runtimes do not even start without a driver.
    let refusals = ["InferenceError: TensorRT does not take the plan (", "TensorRT does not start"];
    assert!(refusals.iter().any(|refusal| error.contains(refusal)), "{error}");
    assert!(error.len() > 60, "no reason of the library's: {error}");
}

#[test]
fn a_plan_is_read_by_the_library_that_built_it_as_far_as_the_driver_goes() {
    let Some(folder) = libraries().filter(|_| std::env::var_os("WEIR_NVIDIA_BUILDS").is_some()) else {
        return;
    };
    let onnx = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/nanodet-coco-416.onnx");
    let wish = Wish { libraries: Some(&folder), onnx: &onnx, half: false, input: None };
    let plan = builder::build(&wish, |_| ()).unwrap();
    let plan = plan.as_bytes().unwrap();
    let cut = read(&folder, plan.get(..plan.len() / 2).unwrap()).map(drop).unwrap_err();
    println!("cut: {cut}");
    assert!(cut.to_string().contains('('), "no reason of the library's: {cut}");
    match read(&folder, plan) {
        Ok(engine) => assert_eq!(engine.tensors().unwrap().len(), 2),
        // No driver, or a GPU that this library does not run on.
        Err(error) => {
            println!("whole: {error}");
            let said = error.to_string().to_lowercase();
            assert!(said.contains("cuda") || said.contains("compute capability"), "{error}");
        }
    }
}
