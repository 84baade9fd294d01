//! A plan out of an ONNX file through TensorRT's own builder and parser. Runs in a process of its own
//! (`child`): it takes minutes and gigabytes, and it reads a stranger's file.
//!
//! `unsafe`: every call goes through a slot of the version's layout; see `runtime.rs`, whose reasons hold
//! here too.
#![allow(unsafe_code)]

use super::interface::{Borrowed, Dims, Implementation, NarrowDims, Owned, Plain};
use super::layout::{
    BuilderSlots, MEMORY_DATA, MEMORY_SIZE, PARSER_ERROR_TEXT, PARSER_PARSE, PROFILE_SET_DIMENSIONS,
};
use super::library::TensorRt;
use super::{logger, monitor, unavailable};
use crate::error::{Error, Kind, Result, system};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;

/// `NV_ONNX_PARSER_VERSION`: 0.1.0 up to TensorRT 10, 0.2.0 since. The parsers take either.
const PARSER_VERSION: i32 = 100;
/// Longest account of what a parser did not like, characters.
const MAX_COMPLAINT_CHARS: usize = 400;
/// `OptProfileSelector`: smallest, best and largest input.
const SELECTORS: [i32; 3] = [0, 1, 2];

/// What `weir plan` is asked to build.
#[derive(Debug)]
pub(super) struct Wish<'a> {
    /// Folder of the libraries; `None`: where the loader looks.
    pub(super) libraries: Option<&'a Path>,
    /// Where the file is: files of weights lie beside it.
    pub(super) onnx: &'a Path,
    /// Whether 16-bit floats may be used, where the version leaves that to us.
    pub(super) half: bool,
    /// The input's name and its smallest, best and largest shape, where the model leaves some of it open.
    pub(super) input: Option<(CString, [[i64; 4]; 3])>,
}

/// A plan, in the library's memory.
pub(super) struct SerializedPlan(Owned);

/// The parser, deleted in its own way.
struct Parser {
    object: Plain,
    slots: BuilderSlots,
}

/// An error with what the library said about it.
fn failed(what: &'static str) -> Error {
    let error = Error::new(Kind::Inference, what);
    match logger::last_error() {
        Some(reason) => error.because(reason),
        None => error,
    }
}

/// Builds the plan. `told`: how far it is, from 0 to 1. Blocks for seconds to an hour.
pub(super) fn build(wish: &Wish<'_>, told: fn(f32)) -> Result<SerializedPlan> {
    type Make = unsafe extern "C" fn(Implementation) -> *mut c_void;
    type MakeNetwork = unsafe extern "C" fn(Implementation, u32) -> *mut c_void;
    type SetFlag = unsafe extern "C" fn(Implementation, i32);
    type SetMonitor = unsafe extern "C" fn(Implementation, *mut c_void);
    type Build = unsafe extern "C" fn(Implementation, *mut c_void, *mut c_void) -> *mut c_void;

    let library = TensorRt::open(wish.libraries)?;
    let slots = library.layout.builder;
    let (create_builder, create_parser) = (library.create_builder()?, library.create_parser(wish.libraries)?);
    let logger = logger::object(library.layout.logger);
    let file = std::fs::read(wish.onnx).map_err(system("reading the model"))?;

    // SAFETY: the logger is of the version's kind and lives for ever; the version is the library's own.
    let builder = unsafe { Owned::new(create_builder(logger, library.version.0)) };
    let builder = builder.ok_or_else(|| failed("TensorRT makes no builder"))?;
    // SAFETY: see the top of the file.
    let (config, network) = unsafe {
        let (this, function) = builder.function::<Make>(slots.create_config);
        let config = Owned::new(function(this));
        let (this, function) = builder.function::<MakeNetwork>(slots.create_network);
        (config, Owned::new(function(this, slots.network_flags)))
    };
    let config = config.ok_or_else(|| failed("TensorRT makes no configuration"))?;
    let network = network.ok_or_else(|| failed("TensorRT makes no network"))?;
    // SAFETY: see the top of the file; the parser goes before the network that it fills.
    let parser = unsafe { Plain::new(create_parser(network.as_pointer(), logger, PARSER_VERSION)) };
    let parser = Parser { object: parser.ok_or_else(|| failed("TensorRT makes no parser"))?, slots };
    parser.parse(&file, wish.onnx)?;

    if let Some((name, shapes)) = &wish.input {
        let dims = library.layout.dims;
        let shapes = shapes.map(|shape| Dims::new(dims, &shape));
        add_profile(&builder, &config, &slots, name, &shapes)?;
    }
    if let Some(flag) = slots.half_flag.filter(|_| wish.half) {
        // SAFETY: see the top of the file.
        unsafe {
            let (this, function) = config.function::<SetFlag>(slots.set_flag);
            function(this, flag);
        }
    }
    if let Some(slot) = slots.set_progress_monitor {
        // SAFETY: see the top of the file; the monitor lives for ever.
        unsafe {
            let (this, function) = config.function::<SetMonitor>(slot);
            function(this, monitor::object(told));
        }
    }
    // SAFETY: see the top of the file.
    let plan = unsafe {
        let (this, function) = builder.function::<Build>(slots.build);
        Owned::new(function(this, network.as_pointer(), config.as_pointer()))
    };
    plan.map(SerializedPlan).ok_or_else(|| failed("TensorRT builds no plan"))
}

/// Says which sizes of the input the plan is for.
fn add_profile(
    builder: &Owned,
    config: &Owned,
    slots: &BuilderSlots,
    name: &CStr,
    shapes: &[Option<Dims>; 3],
) -> Result<()> {
    type Make = unsafe extern "C" fn(Implementation) -> *mut c_void;
    type SetDimensions = unsafe extern "C" fn(Implementation, *const c_char, i32, *const c_void) -> bool;
    type SetNarrow = unsafe extern "C" fn(Implementation, *const c_char, i32, NarrowDims) -> bool;
    type Add = unsafe extern "C" fn(Implementation, *const c_void) -> i32;
    let refused = || failed("TensorRT does not take the sizes of the input");
    // SAFETY: see the top of the file; the builder owns the profile and outlives it.
    let profile = unsafe {
        let (this, function) = builder.function::<Make>(slots.create_profile);
        Borrowed::new(function(this))
    };
    let profile = profile.ok_or_else(refused)?;
    for (selector, shape) in SELECTORS.into_iter().zip(shapes) {
        let shape = shape.as_ref().ok_or_else(refused)?;
        // SAFETY: see the top of the file.
        let taken = unsafe {
            match shape {
                Dims::Narrow(dims) => {
                    let (this, function) = profile.function::<SetNarrow>(PROFILE_SET_DIMENSIONS);
                    function(this, name.as_ptr(), selector, *dims)
                }
                Dims::Wide(_) => {
                    let (this, function) = profile.function::<SetDimensions>(PROFILE_SET_DIMENSIONS);
                    function(this, name.as_ptr(), selector, shape.as_pointer())
                }
            }
        };
        if !taken {
            return Err(refused());
        }
    }
    // SAFETY: see the top of the file.
    let place = unsafe {
        let (this, function) = config.function::<Add>(slots.add_profile);
        function(this, profile.as_pointer())
    };
    if place < 0 { Err(refused()) } else { Ok(()) }
}

impl Parser {
    /// Reads the file into the network.
    fn parse(&self, file: &[u8], path: &Path) -> Result<()> {
        type Parse = unsafe extern "C" fn(*mut c_void, *const c_void, usize, *const c_char) -> bool;
        let path = CString::new(path.as_os_str().as_encoded_bytes())
            .map_err(|_| unavailable("the model's path holds a zero"))?;
        // SAFETY: see the top of the file.
        let parsed = unsafe {
            let (this, function) = self.object.function::<Parse>(PARSER_PARSE);
            function(this, file.as_ptr().cast(), file.len(), path.as_ptr())
        };
        if parsed {
            return Ok(());
        }
        let error = Error::new(Kind::ModelArtefact, "TensorRT cannot read the model");
        Err(match self.complaint().or_else(logger::last_error) {
            Some(reason) => error.because(reason),
            None => error,
        })
    }

    /// What it did not like first.
    fn complaint(&self) -> Option<String> {
        type Count = unsafe extern "C" fn(*mut c_void) -> c_int;
        type Get = unsafe extern "C" fn(*mut c_void, c_int) -> *mut c_void;
        type Text = unsafe extern "C" fn(*mut c_void) -> *const c_char;
        // SAFETY: see the top of the file; an error lives as long as the parser.
        let text = unsafe {
            let (this, function) = self.object.function::<Count>(self.slots.parser_error_count);
            if function(this) < 1 {
                return None;
            }
            let (this, function) = self.object.function::<Get>(self.slots.parser_error);
            let error = Plain::new(function(this, 0))?;
            let (this, function) = error.function::<Text>(PARSER_ERROR_TEXT);
            let text = function(this);
            if text.is_null() {
                return None;
            }
            CStr::from_ptr(text).to_string_lossy().into_owned()
        };
        Some(text.chars().filter(|c| !c.is_control()).take(MAX_COMPLAINT_CHARS).collect())
    }
}

impl Drop for Parser {
    fn drop(&mut self) {
        type Delete = unsafe extern "C" fn(*mut c_void);
        // SAFETY: the slot holds the destructor that frees; nobody uses the parser after this.
        unsafe {
            let (this, function) = self.object.function::<Delete>(self.slots.parser_delete);
            function(this);
        }
    }
}

impl SerializedPlan {
    /// The plan's bytes, in TensorRT's memory.
    pub(super) fn as_bytes(&self) -> Result<&[u8]> {
        type Data = unsafe extern "C" fn(Implementation) -> *const c_void;
        type Size = unsafe extern "C" fn(Implementation) -> usize;
        // SAFETY: see the top of the file; the memory lives as long as the object.
        unsafe {
            let (this, function) = self.0.function::<Data>(MEMORY_DATA);
            let data: *const u8 = function(this).cast();
            let (this, function) = self.0.function::<Size>(MEMORY_SIZE);
            let size = function(this);
            if data.is_null() || size == 0 || isize::try_from(size).is_err() {
                return Err(failed("TensorRT built an empty plan"));
            }
            Ok(std::slice::from_raw_parts(data, size))
        }
    }
}
