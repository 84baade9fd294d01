//! TensorRT's `ILogger`, passed on to `log`.
//!
//! `unsafe`: the library calls us through a virtual table of our own making, with a C string.
#![allow(unsafe_code)]

use super::layout::LoggerTable;
use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_void};

/// Longest line of the library that is passed on, characters: some of them hold whole graphs.
const MAX_MESSAGE_CHARS: usize = 300;

thread_local! {
    /// The last error on this thread: the reason for the null pointer that follows.
    static LAST_ERROR: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The reason for what just failed on this thread, where the library gave one.
pub(super) fn last_error() -> Option<String> {
    LAST_ERROR.with(RefCell::take)
}

type Log = extern "C" fn(*mut c_void, i32, *const c_char);
type Destructor = extern "C" fn(*mut c_void);

/// What precedes every virtual table: offset to the top of the object, and type information (none: nobody may
/// ask).
#[repr(C)]
pub(super) struct Header {
    offset_to_top: isize,
    type_information: usize,
}

pub(super) const HEADER: Header = Header { offset_to_top: 0, type_information: 0 };

#[repr(C)]
struct LogFirst {
    header: Header,
    log: Log,
    destructors: [Destructor; 2],
}

#[repr(C)]
struct Versioned {
    header: Header,
    language: extern "C" fn(*const c_void) -> i32,
    information: extern "C" fn(*const c_void) -> InterfaceInfo,
    destructors: [Destructor; 2],
    log: Log,
}

/// `InterfaceInfo`: returned in registers.
#[repr(C)]
pub(super) struct InterfaceInfo {
    pub(super) kind: *const c_char,
    pub(super) major: i32,
    pub(super) minor: i32,
}

/// A C++ object without members.
#[repr(transparent)]
pub(super) struct Object<T: 'static>(pub(super) *const T);

// SAFETY: it points to a table of functions in read-only memory, which any thread may read.
unsafe impl<T> Sync for Object<T> {}

static LOG_FIRST: LogFirst = LogFirst { header: HEADER, log, destructors: [ignore; 2] };
static VERSIONED: Versioned =
    Versioned { header: HEADER, language, information, destructors: [ignore; 2], log };

// An object points behind the header of its table.
static LOG_FIRST_LOGGER: Object<Log> = Object(&raw const LOG_FIRST.log);
static VERSIONED_LOGGER: Object<extern "C" fn(*const c_void) -> i32> = Object(&raw const VERSIONED.language);

/// The logger to hand to the library. It lives as long as the process, as nothing says when the library lets
/// go of it.
pub(super) fn object(table: LoggerTable) -> *mut c_void {
    // The library never writes to it: it has no members.
    match table {
        LoggerTable::LogFirst => (&raw const LOG_FIRST_LOGGER).cast_mut().cast(),
        LoggerTable::Versioned => (&raw const VERSIONED_LOGGER).cast_mut().cast(),
    }
}

extern "C" fn log(_this: *mut c_void, severity: i32, message: *const c_char) {
    if message.is_null() {
        return;
    }
    // SAFETY: not null; the interface says that it is a terminated string which lives for the call.
    let text = unsafe { CStr::from_ptr(message) }.to_string_lossy();
    let text: String = text.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE_CHARS).collect();
    // kINTERNAL_ERROR, kERROR, kWARNING, kINFO, kVERBOSE. An error of the library is often one that we
    // recover from (a plan of another GPU is built anew): who called decides how loud it is.
    match severity {
        0 | 1 => {
            log::warn!("tensorrt error=\"{}\"", text.escape_debug());
            // Fails only while the thread is ending.
            let _ = LAST_ERROR.try_with(|last| last.replace(Some(text)));
        }
        2 => log::info!("tensorrt warning=\"{}\"", text.escape_debug()),
        3 => log::debug!("tensorrt info=\"{}\"", text.escape_debug()),
        _ => log::trace!("tensorrt verbose=\"{}\"", text.escape_debug()),
    }
}

/// The object is static: there is nothing to destroy.
pub(super) extern "C" fn ignore(_this: *mut c_void) {}

/// `APILanguage::kCPP`.
pub(super) extern "C" fn language(_this: *const c_void) -> i32 {
    0
}

extern "C" fn information(_this: *const c_void) -> InterfaceInfo {
    InterfaceInfo { kind: c"ILogger".as_ptr(), major: 1, minor: 0 }
}
