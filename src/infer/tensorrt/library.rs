//! Opening shared libraries, and TensorRT's own.
//!
//! `unsafe`: loading a library runs its initialisers, and a symbol has whatever type we say it has.
#![allow(unsafe_code)]

use super::layout::{Layout, Version};
use super::unavailable;
use crate::error::Result;
use libloading::Library;
use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

/// TensorRT under each major version, newest first.
const NAMES: [&str; 3] = ["libnvinfer.so.11", "libnvinfer.so.10", "libnvinfer.so.8"];

/// An open library. It stays in the process: NVIDIA's libraries leave threads and exit handlers behind, whose
/// code must not be unmapped. Opening it again gives the same one.
pub(super) struct Shared {
    library: ManuallyDrop<Library>,
    /// The name it was opened by.
    path: PathBuf,
}

impl Shared {
    /// Opens the first of `names` that can be: in `folder` alone where one is given, else where the loader
    /// looks.
    pub(super) fn open(folder: Option<&Path>, names: &[&str]) -> Result<Shared> {
        let mut reasons = String::new();
        for name in names {
            let path = folder.map_or_else(|| PathBuf::from(name), |folder| folder.join(name));
            // SAFETY: the initialisers of NVIDIA's own libraries expect to be run in any process that loads
            // them. The folder comes from the configuration, whose author could have us run anything.
            match unsafe { Library::new(&path) } {
                Ok(library) => return Ok(Shared { library: ManuallyDrop::new(library), path }),
                Err(cause) => {
                    let separator = if reasons.is_empty() { "" } else { "; " };
                    reasons = format!("{reasons}{separator}{cause}");
                }
            }
        }
        Err(unavailable(format!("no {} here", names.join(", "))).because(reasons))
    }

    /// The function of that name. `F` must be its type, a plain `extern "C"` function pointer.
    ///
    /// # Safety
    /// As the type says.
    pub(super) unsafe fn function<F: Copy>(&self, name: &str) -> Result<F> {
        // SAFETY: passed on to the caller.
        let symbol = unsafe { self.library.get::<F>(name.as_bytes()) };
        symbol.map(|symbol| *symbol).map_err(|cause| {
            let message = format!("{} has no function {name}", self.path.display());
            unavailable(message).because(cause)
        })
    }

    /// The name it was opened by.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// `createInferRuntime_INTERNAL(logger, version)`.
type CreateRuntime = unsafe extern "C" fn(*mut c_void, i32) -> *mut c_void;

/// TensorRT, of a version whose layout is known.
pub(super) struct TensorRt {
    pub(super) version: Version,
    pub(super) layout: &'static Layout,
    pub(super) create_runtime: CreateRuntime,
    shared: Shared,
}

impl TensorRt {
    /// Opens the newest that is there.
    pub(super) fn open(folder: Option<&Path>) -> Result<TensorRt> {
        let shared = Shared::open(folder, &NAMES)?;
        // SAFETY: the type it has in every version.
        let version: unsafe extern "C" fn() -> i32 = unsafe { shared.function("getInferLibVersion")? };
        // SAFETY: it takes nothing and answers a constant.
        let version = Version(unsafe { version() });
        let layout = Layout::of(version).ok_or_else(|| {
            let (path, known) = (shared.path().display(), Layout::known());
            unavailable(format!("{path} is TensorRT {version} ({}); this program knows {known}", version.0))
        })?;
        // SAFETY: the type it has in every version of the table.
        let create_runtime: CreateRuntime = unsafe { shared.function("createInferRuntime_INTERNAL")? };
        Ok(TensorRt { version, layout, create_runtime, shared })
    }

    /// The name it was opened by.
    pub(super) fn path(&self) -> &Path {
        self.shared.path()
    }
}
