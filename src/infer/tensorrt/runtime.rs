//! TensorRT's three objects, safe to use: a runtime reads plans, an engine is a plan that was read, a context
//! runs it.
//!
//! `unsafe`: every call goes through a slot of the version's layout. What makes it sound is the same for all:
//! the object was made by the library whose layout is used, it lives (each holds the one it was made from),
//! and the arguments have the types of the declaration, where a reference is a pointer.
#![allow(unsafe_code)]

use super::cuda::{Device, DeviceBuffer, Stream};
use super::interface::{Dims, Implementation, NarrowDims, Owned, WideDims};
use super::layout::DimsWidth;
use super::library::TensorRt;
use super::{logger, unavailable};
use crate::error::{Error, Kind, Result};
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::null_mut;
use std::sync::{Arc, Mutex, PoisonError};

/// Most inputs and outputs of a plan; detectors have up to five.
const MAX_TENSORS: i32 = 64;

/// `TensorIOMode::kINPUT`, `kOUTPUT`.
const INPUT: i32 = 1;
const OUTPUT: i32 = 2;

/// What went wrong, and what the library said about it.
fn failed(what: impl Into<String>) -> Error {
    let error = Error::new(Kind::Inference, what.into());
    match logger::last_error() {
        Some(reason) => error.because(reason),
        None => error,
    }
}

/// TensorRT's runtime, which makes engines out of plans.
pub(super) struct Runtime {
    object: Owned,
    library: TensorRt,
    device: Arc<Device>,
}

// SAFETY: an `IRuntime` may be used from any thread; that it is by one at a time is seen to by
// `Runtime::deserialise`'s caller, which holds it alone while a plan is read.
unsafe impl Send for Runtime {}
// SAFETY: after a plan was read nothing of it is called but its destructor.
unsafe impl Sync for Runtime {}

impl Runtime {
    pub(super) fn new(library: TensorRt, device: Arc<Device>) -> Result<Runtime> {
        device.enter()?;
        let logger = logger::object(library.layout.logger);
        // SAFETY: the logger is of the version's kind and lives for ever; the version is the library's own.
        let object = unsafe { Owned::new((library.create_runtime)(logger, library.version.0)) };
        let object = object.ok_or_else(|| unavailable(failed("TensorRT does not start").to_string()))?;
        Ok(Runtime { object, library, device })
    }

    /// Reads a plan. The library checks that it is one of this version and GPU; beyond that a plan is trusted
    /// as a program is.
    pub(super) fn deserialise(self, plan: &[u8]) -> Result<Arc<Engine>> {
        type WithFactory =
            unsafe extern "C" fn(Implementation, *const c_void, usize, *mut c_void) -> *mut c_void;
        type Plain = unsafe extern "C" fn(Implementation, *const c_void, usize) -> *mut c_void;
        self.device.enter()?;
        let slots = self.library.layout.runtime;
        let (start, length) = (plan.as_ptr().cast(), plan.len());
        // SAFETY: see the top of the file; the library copies what it needs of the plan.
        let object = unsafe {
            Owned::new(if slots.takes_factory {
                let (this, function) = self.object.function::<WithFactory>(slots.deserialise);
                function(this, start, length, null_mut())
            } else {
                let (this, function) = self.object.function::<Plain>(slots.deserialise);
                function(this, start, length)
            })
        };
        let object = object.ok_or_else(|| failed("TensorRT does not take the plan"))?;
        Ok(Arc::new(Engine { object, creating: Mutex::new(()), runtime: self }))
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        enter_to_delete(&self.device);
    }
}

/// Objects of TensorRT free memory of the GPU when they go, on whatever thread that is.
fn enter_to_delete(device: &Device) {
    if let Err(error) = device.enter() {
        log::warn!("cuda error=\"{}\"", error.message());
    }
}

/// A plan that was read.
pub(super) struct Engine {
    // Dropped before the runtime that made it.
    object: Owned,
    /// Contexts are made one at a time: the library does not promise that it may be done at once.
    creating: Mutex<()>,
    runtime: Runtime,
}

// SAFETY: an `ICudaEngine` may be used from any thread.
unsafe impl Send for Engine {}
// SAFETY: what is called through `&self` only reads, but for making contexts, which `creating` makes one at a
// time.
unsafe impl Sync for Engine {}

impl Drop for Engine {
    fn drop(&mut self) {
        enter_to_delete(&self.runtime.device);
    }
}

/// An input or output of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tensor {
    pub(super) name: CString,
    pub(super) is_input: bool,
    /// Type of its elements, as TensorRT's `DataType` numbers them.
    pub(super) data_type: i32,
    /// -1 where the plan leaves it open.
    pub(super) shape: Vec<i64>,
}

impl Engine {
    /// Its inputs and outputs.
    pub(super) fn tensors(&self) -> Result<Vec<Tensor>> {
        type Count = unsafe extern "C" fn(Implementation) -> i32;
        type Name = unsafe extern "C" fn(Implementation, i32) -> *const c_char;
        type Word = unsafe extern "C" fn(Implementation, *const c_char) -> i32;
        let slots = self.runtime.library.layout.engine;
        // SAFETY: see the top of the file.
        let count = unsafe {
            let (this, function) = self.object.function::<Count>(slots.tensor_count);
            function(this)
        };
        if !(0..=MAX_TENSORS).contains(&count) {
            return Err(failed(format!("the plan claims {count} inputs and outputs")));
        }
        let tensor = |index: i32| {
            // SAFETY: see the top of the file; the name is null or a terminated string that lives as long as
            // the engine.
            let name = unsafe {
                let (this, function) = self.object.function::<Name>(slots.tensor_name);
                let name = function(this, index);
                if name.is_null() { None } else { Some(CStr::from_ptr(name).to_owned()) }
            };
            let name = name.ok_or_else(|| failed("the plan has a tensor without a name"))?;
            // SAFETY: see the top of the file.
            let (mode, data_type) = unsafe {
                let (this, mode) = self.object.function::<Word>(slots.tensor_mode);
                let (_, data_type) = self.object.function::<Word>(slots.tensor_data_type);
                (mode(this, name.as_ptr()), data_type(this, name.as_ptr()))
            };
            let is_input = match mode {
                INPUT => true,
                OUTPUT => false,
                _ => {
                    return Err(failed(format!(
                        "tensor {} is neither input nor output",
                        name.to_string_lossy()
                    )));
                }
            };
            let shape = self.shape_of(&self.object, slots.tensor_shape, &name)?;
            Ok(Tensor { name, is_input, data_type, shape })
        };
        (0..count).map(tensor).collect()
    }

    /// What `getTensorShape` of the engine or a context says.
    fn shape_of(&self, object: &Owned, slot: usize, name: &CStr) -> Result<Vec<i64>> {
        type Narrow = unsafe extern "C" fn(Implementation, *const c_char) -> NarrowDims;
        type Wide = unsafe extern "C" fn(Implementation, *const c_char) -> WideDims;
        // SAFETY: see the top of the file. Both forms are plain structures, larger than two registers, which
        // a C++ function returns as a C function does.
        let shape = unsafe {
            match self.runtime.library.layout.dims {
                DimsWidth::Narrow => {
                    let (this, function) = object.function::<Narrow>(slot);
                    function(this, name.as_ptr()).shape()
                }
                DimsWidth::Wide => {
                    let (this, function) = object.function::<Wide>(slot);
                    function(this, name.as_ptr()).shape()
                }
            }
        };
        shape.ok_or_else(|| failed(format!("tensor {} has no shape", name.to_string_lossy())))
    }

    /// A context to run it in: takes memory of the GPU for all that lies between inputs and outputs.
    pub(super) fn new_context(self: &Arc<Self>) -> Result<ExecutionContext> {
        type WithStrategy = unsafe extern "C" fn(Implementation, i32) -> *mut c_void;
        type Plain = unsafe extern "C" fn(Implementation) -> *mut c_void;
        /// `ExecutionContextAllocationStrategy::kSTATIC`: all memory at once.
        const ALL_AT_ONCE: i32 = 0;
        self.runtime.device.enter()?;
        let slots = self.runtime.library.layout.engine;
        // The lock holds nothing that a panic could leave half-done.
        let _one_at_a_time = self.creating.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: see the top of the file.
        let object = unsafe {
            Owned::new(if slots.takes_strategy {
                let (this, function) = self.object.function::<WithStrategy>(slots.create_context);
                function(this, ALL_AT_ONCE)
            } else {
                let (this, function) = self.object.function::<Plain>(slots.create_context);
                function(this)
            })
        };
        let object = object.ok_or_else(|| failed("TensorRT makes no context: is the GPU's memory full?"))?;
        Ok(ExecutionContext { object, engine: self.clone() })
    }
}

/// Runs a plan, for one thread at a time.
pub(super) struct ExecutionContext {
    // Dropped before the engine that made it.
    object: Owned,
    engine: Arc<Engine>,
}

// SAFETY: an `IExecutionContext` may be used from any thread, by one at a time (`&mut`).
unsafe impl Send for ExecutionContext {}

impl Drop for ExecutionContext {
    fn drop(&mut self) {
        enter_to_delete(&self.engine.runtime.device);
    }
}

impl ExecutionContext {
    /// Says how large an input is that the plan leaves open.
    pub(super) fn set_input_shape(&mut self, name: &CStr, shape: &[i64]) -> Result<()> {
        type Function = unsafe extern "C" fn(Implementation, *const c_char, *const c_void) -> bool;
        let layout = self.engine.runtime.library.layout;
        let refused = || failed(format!("the plan does not take an input of {shape:?}"));
        let dims = Dims::new(layout.dims, shape).ok_or_else(refused)?;
        // SAFETY: see the top of the file.
        let taken = unsafe {
            let (this, function) = self.object.function::<Function>(layout.context.set_input_shape);
            function(this, name.as_ptr(), dims.as_pointer())
        };
        if taken { Ok(()) } else { Err(refused()) }
    }

    /// The shape of a tensor, now that the inputs are known; -1 where it depends on the data.
    pub(super) fn tensor_shape(&self, name: &CStr) -> Result<Vec<i64>> {
        self.engine.shape_of(&self.object, self.engine.runtime.library.layout.context.tensor_shape, name)
    }

    /// Says where an input or output lies.
    ///
    /// # Safety
    /// The buffer is large enough for the tensor and lives as long as runs may come.
    pub(super) unsafe fn set_address(&mut self, name: &CStr, buffer: &DeviceBuffer) -> Result<()> {
        type Function = unsafe extern "C" fn(Implementation, *const c_char, *mut c_void) -> bool;
        let slot = self.engine.runtime.library.layout.context.set_tensor_address;
        // A device address is no pointer of ours: it is only passed on. It has the width of one.
        let address = std::ptr::without_provenance_mut(usize::try_from(buffer.address()).unwrap_or(0));
        // SAFETY: see the top of the file; the rest is the caller's promise.
        let taken = unsafe {
            let (this, function) = self.object.function::<Function>(slot);
            function(this, name.as_ptr(), address)
        };
        if taken {
            Ok(())
        } else {
            Err(failed(format!("TensorRT does not take a place for {}", name.to_string_lossy())))
        }
    }

    /// Puts a run on the stream.
    ///
    /// # Safety
    /// Every input and output has its place ([`ExecutionContext::set_address`]), and nothing of them is freed
    /// before the stream was waited for.
    pub(super) unsafe fn enqueue(&mut self, stream: &mut Stream) -> Result<()> {
        type Function = unsafe extern "C" fn(Implementation, *mut c_void) -> bool;
        // SAFETY: see the top of the file; the rest is the caller's promise.
        let taken = unsafe {
            let (this, function) =
                self.object.function::<Function>(self.engine.runtime.library.layout.context.enqueue);
            function(this, stream.raw())
        };
        if taken { Ok(()) } else { Err(failed("TensorRT did not run the model")) }
    }
}
