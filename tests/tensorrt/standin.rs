//! Stand-ins for NVIDIA's libraries and `trtexec`, made with g++ from this folder, and the models they run.
//! For the unit tests of src/infer/tensorrt and for the processes of tests/tensorrt.rs.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub,
    reason = "test code: each test program uses a part of it, and a failed expectation is the test's result"
)]

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Sides of the pictures of [`Machine::model`], pixels.
pub const SIDE: usize = 32;

/// The major versions that there are stand-ins of.
pub const MAJORS: [u32; 3] = [8, 10, 11];

/// The libraries: file name, source, flags.
const LIBRARIES: [(&str, &str, &[&str]); 5] = [
    ("libcuda.so.1", "cuda.cpp", &[]),
    ("libnvinfer.so.8", "nvinfer.cpp", &["-DLAYOUT=8", "-DVERSION=8502"]),
    ("libnvinfer.so.10", "nvinfer.cpp", &["-DLAYOUT=10", "-DVERSION=100300"]),
    ("libnvinfer.so.11", "nvinfer.cpp", &["-DLAYOUT=11", "-DVERSION=110100"]),
    ("without-runtime.so", "nvinfer.cpp", &["-DLAYOUT=8", "-DVERSION=8502", "-DWITHOUT_RUNTIME"]),
];

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tensorrt")
}

/// More flags for g++, separated by blanks: `-fsanitize=address` (docs/measurements.md).
const MORE_FLAGS: &str = "WEIR_STANDIN_FLAGS";

/// The folder of the compiled libraries, beside the test program: compiled once for each state of their
/// sources.
fn compiled() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let mut hasher = DefaultHasher::new();
        for file in ["standin.h", "cuda.cpp", "nvinfer.cpp"] {
            std::fs::read(sources().join(file)).unwrap().hash(&mut hasher);
        }
        let more_flags = std::env::var(MORE_FLAGS).unwrap_or_default();
        (LIBRARIES, &more_flags).hash(&mut hasher);
        let program = std::env::current_exe().unwrap();
        let folder = program.with_file_name(format!("tensorrt-{:016x}", hasher.finish()));
        if !folder.exists() {
            let unfinished = folder.with_extension(std::process::id().to_string());
            std::fs::create_dir_all(&unfinished).unwrap();
            let compilers: Vec<_> = LIBRARIES
                .map(|(name, source, flags)| {
                    let mut compiler = Command::new("g++");
                    compiler
                        .args(["-std=c++17", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"])
                        // its functions hide those of their bases on purpose; GCC 13 and later warn of it
                        .arg("-Wno-overloaded-virtual")
                        .args(flags);
                    // Whatever is loaded into the test program (a sanitiser) is not for the compiler.
                    compiler.args(more_flags.split_whitespace()).env_remove("LD_PRELOAD");
                    compiler.arg("-o").arg(unfinished.join(name)).arg(sources().join(source));
                    compiler.spawn().expect("g++ (scripts/setup.sh build installs it)")
                })
                .into();
            for mut compiler in compilers {
                assert!(compiler.wait().unwrap().success(), "a stand-in does not compile");
            }
            // Another process may have been first.
            if std::fs::rename(&unfinished, &folder).is_err() {
                std::fs::remove_dir_all(&unfinished).unwrap();
            }
        }
        folder
    })
}

/// A machine with TensorRT of one major version, as far as a test looks: a folder that goes when it is
/// dropped.
pub struct Machine {
    folder: PathBuf,
}

impl Machine {
    /// `modes`: what goes wrong or differs, in the words of the stand-ins.
    pub fn new(major: u32, modes: &str) -> Machine {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("weir-tensorrt-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let machine = Machine { folder: std::env::temp_dir().join(name) };
        std::fs::create_dir(&machine.folder).unwrap();
        for name in [String::from("libcuda.so.1"), format!("libnvinfer.so.{major}")] {
            // A copy, not a link: another file is another library to the loader, with modes of its own.
            std::fs::copy(compiled().join(&name), machine.path(&name)).unwrap();
        }
        std::fs::copy(sources().join("trtexec"), machine.path("trtexec")).unwrap();
        machine.set_mode(modes);
        machine.set_plan(1);
        machine
    }

    /// A library that lacks the function everything begins with.
    pub fn without_runtime() -> Machine {
        let machine = Machine::new(8, "");
        std::fs::copy(compiled().join("without-runtime.so"), machine.path("libnvinfer.so.8")).unwrap();
        machine
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Libraries read it when they are first used, `trtexec` whenever it is started.
    pub fn set_mode(&self, modes: &str) {
        std::fs::write(self.path("mode"), modes).unwrap();
    }

    /// What `trtexec` will write: a plan for the model of [`Machine::model`]; `batch` -1 leaves it open.
    pub fn set_plan(&self, batch: i32) {
        self.set_plan_of(batch, SIDE, 5, 2);
    }

    /// The same for other pictures and outputs: `anchors` boxes of `channels` values each, of which the first
    /// two have a score.
    pub fn set_plan_of(&self, batch: i32, side: usize, channels: usize, anchors: usize) {
        let plan = format!("plan images {batch} {side} {side} output0 {channels} {anchors}");
        std::fs::write(self.path("plan"), plan).unwrap();
    }

    /// A model of one class whose batch is fixed at 1, or open.
    pub fn model(&self, batch: Option<u64>) -> PathBuf {
        let path = self.path("model.onnx");
        std::fs::write(&path, onnx(batch)).unwrap();
        path
    }

    /// Files of a kind that are there.
    pub fn files(&self, extension: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.folder).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
    }

    /// Lines of a file that the stand-ins write, none where there is no such file.
    pub fn lines(&self, name: &str) -> Vec<String> {
        std::fs::read_to_string(self.path(name)).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// How often `trtexec` ran.
    pub fn builds(&self) -> usize {
        self.lines("runs").len()
    }

    pub fn arguments(&self) -> Vec<String> {
        self.lines("arguments")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Whether that process is there and no zombie.
pub fn is_running(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim_start().starts_with('Z'))
}

/// An ONNX file whose graph finds nothing in any picture: the stand-in does.
fn onnx(batch: Option<u64>) -> Vec<u8> {
    const INPUTS: u64 = 3 * (SIDE * SIDE) as u64;
    const VALUES: u64 = 5 * 2;
    let side = SIDE as u64;
    let end = |name: &[u8], dims: &[Option<u64>]| {
        let dims: Vec<u8> = dims
            .iter()
            .flat_map(|size| match size {
                Some(size) => bytes(1, &number(1, *size)),
                None => bytes(1, &bytes(2, b"batch")),
            })
            .collect();
        let tensor = [number(1, 1), bytes(2, &dims)].concat();
        [bytes(1, name), bytes(2, &bytes(1, &tensor))].concat()
    };
    let constant = |name: &[u8], kind: u64, dims: &[u64], content: &[u8]| {
        let dims: Vec<u8> = dims.iter().flat_map(|size| number(1, *size)).collect();
        bytes(5, &[dims, number(2, kind), bytes(8, name), bytes(9, content)].concat())
    };
    let node = |inputs: &[&[u8]], output: &[u8], operator: &[u8]| {
        let inputs: Vec<u8> = inputs.iter().flat_map(|name| bytes(1, name)).collect();
        bytes(1, &[inputs, bytes(2, output), bytes(4, operator)].concat())
    };
    let shape: Vec<u8> = [-1_i64, 5, 2].iter().flat_map(|size| size.to_le_bytes()).collect();
    let graph = [
        node(&[b"images"], b"flat", b"Flatten"),
        node(&[b"flat", b"weights"], b"values", b"MatMul"),
        node(&[b"values", b"shape"], b"output0", b"Reshape"),
        bytes(2, b"g"),
        constant(b"weights", 1, &[INPUTS, VALUES], &vec![0; (INPUTS * VALUES * 4) as usize]),
        constant(b"shape", 7, &[3], &shape),
        bytes(11, &end(b"images", &[batch, Some(3), Some(side), Some(side)])),
        bytes(12, &end(b"output0", &[batch, Some(5), Some(2)])),
    ];
    let names = [bytes(1, b"names"), bytes(2, b"{0: 'thing'}")].concat();
    [number(1, 8), bytes(7, &graph.concat()), bytes(8, &number(2, 13)), bytes(14, &names)].concat()
}

/// A protobuf field of bytes.
fn bytes(field: u64, content: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

/// A protobuf field of a number.
fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
