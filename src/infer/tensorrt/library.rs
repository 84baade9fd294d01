//! Opening shared libraries, and TensorRT's own.
//!
//! `unsafe`: loading a library runs its initialisers, and a symbol has whatever type we say it has.
#![allow(unsafe_code)]

use super::layout::{Layout, Product, Version};
use super::unavailable;
use crate::error::Result;
use libloading::Library;
use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

/// A library as it may be installed.
struct Installed {
    product: Product,
    /// What builds and runs plans.
    name: &'static str,
    /// Its parser of ONNX files.
    parser: &'static str,
}

/// Newest first; TensorRT before TensorRT for RTX, as it can be told to use 16-bit floats and runs everywhere
/// that RTX does.
const INSTALLED: [Installed; 4] = [
    Installed { product: Product::TensorRt, name: "libnvinfer.so.11", parser: "libnvonnxparser.so.11" },
    Installed { product: Product::TensorRt, name: "libnvinfer.so.10", parser: "libnvonnxparser.so.10" },
    Installed { product: Product::TensorRt, name: "libnvinfer.so.8", parser: "libnvonnxparser.so.8" },
    Installed {
        product: Product::Rtx,
        name: "libtensorrt_rtx.so.1",
        parser: "libtensorrt_onnxparser_rtx.so.1",
    },
];

/// Most entries of a folder that are looked at for a library whose name is not known to the last digit.
const MAX_ENTRIES: usize = 4096;

/// What `name` may be called in `folder`: itself, else with more of the version behind it, newest first. The
/// packages of PyPI have only such names (`libtensorrt_rtx.so.1.7.1`).
fn names_in(folder: &Path, name: &str) -> Vec<String> {
    let mut found = vec![name.to_owned()];
    let longer = format!("{name}.");
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().take(MAX_ENTRIES);
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let number = |name: &String| -> Vec<u32> {
        name.get(longer.len()..)
            .unwrap_or_default()
            .split('.')
            .map(|part| part.parse().unwrap_or_default())
            .collect()
    };
    let mut others: Vec<String> = names.filter(|name| name.starts_with(&longer)).collect();
    others.sort_by_key(number);
    found.extend(others.into_iter().rev());
    found
}

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
            let paths = match folder {
                None => vec![PathBuf::from(name)],
                Some(folder) => names_in(folder, name).iter().map(|name| folder.join(name)).collect(),
            };
            for path in paths {
                // SAFETY: the initialisers of NVIDIA's own libraries expect to be run in any process that
                // loads them. The folder comes from the configuration, whose author could have us run
                // anything.
                match unsafe { Library::new(&path) } {
                    Ok(library) => return Ok(Shared { library: ManuallyDrop::new(library), path }),
                    Err(cause) => {
                        let separator = if reasons.is_empty() { "" } else { "; " };
                        reasons = format!("{reasons}{separator}{cause}");
                    }
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

/// `createInferRuntime_INTERNAL(logger, version)`, `createInferBuilder_INTERNAL(logger, version)`.
type Create = unsafe extern "C" fn(*mut c_void, i32) -> *mut c_void;

/// `createNvOnnxParser_INTERNAL(network, logger, version)`.
type CreateParser = unsafe extern "C" fn(*mut c_void, *mut c_void, i32) -> *mut c_void;

/// TensorRT, of a version whose layout is known.
pub(super) struct TensorRt {
    pub(super) product: Product,
    pub(super) version: Version,
    pub(super) layout: &'static Layout,
    pub(super) create_runtime: Create,
    shared: Shared,
    parser: &'static str,
}

impl TensorRt {
    /// Opens the newest that is there.
    pub(super) fn open(folder: Option<&Path>) -> Result<TensorRt> {
        let mut reasons = Vec::new();
        for Installed { product, name, parser } in &INSTALLED {
            match Shared::open(folder, &[name]) {
                Ok(shared) => return TensorRt::of(shared, *product, parser),
                Err(error) => reasons.push(error.to_string()),
            }
        }
        let names = INSTALLED.map(|installed| installed.name).join(", ");
        Err(unavailable(format!("no {names} here")).because(reasons.join("; ")))
    }

    fn of(shared: Shared, product: Product, parser: &'static str) -> Result<TensorRt> {
        // SAFETY: the type it has in every version.
        let version: unsafe extern "C" fn() -> i32 = unsafe { shared.function("getInferLibVersion")? };
        // SAFETY: it takes nothing and answers a constant.
        let version = Version(unsafe { version() });
        let layout = Layout::of(product, version).ok_or_else(|| {
            let (path, name, known) = (shared.path().display(), product.name(), Layout::known(product));
            unavailable(format!("{path} is {name} {version} ({}); this program knows {known}", version.0))
        })?;
        // SAFETY: the type it has in every version of the table.
        let create_runtime: Create = unsafe { shared.function("createInferRuntime_INTERNAL")? };
        Ok(TensorRt { product, version, layout, create_runtime, shared, parser })
    }

    /// What makes a builder.
    pub(super) fn create_builder(&self) -> Result<Create> {
        // SAFETY: the type it has in every version of the table.
        unsafe { self.shared.function("createInferBuilder_INTERNAL") }
    }

    /// What makes a parser of ONNX files, out of the library beside this one.
    pub(super) fn create_parser(&self, folder: Option<&Path>) -> Result<CreateParser> {
        let parser = Shared::open(folder, &[self.parser])?;
        // SAFETY: the type it has in every version of the table.
        unsafe { parser.function("createNvOnnxParser_INTERNAL") }
    }

    /// `TensorRT 10.3.0`.
    pub(super) fn title(&self) -> String {
        format!("{} {}", self.product.name(), self.version)
    }

    /// The name it was opened by.
    pub(super) fn path(&self) -> &Path {
        self.shared.path()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::infer::registry::test_dir::TestDir;

    #[test]
    fn a_library_is_found_under_the_whole_of_its_version() {
        let dir = TestDir::new();
        for name in ["libtensorrt_rtx.so.1.7.1", "libtensorrt_rtx.so.1.10.0", "libtensorrt_rtx.so.2", "other"]
        {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(
            names_in(dir.path(), "libtensorrt_rtx.so.1"),
            ["libtensorrt_rtx.so.1", "libtensorrt_rtx.so.1.10.0", "libtensorrt_rtx.so.1.7.1"]
        );
    }
}
