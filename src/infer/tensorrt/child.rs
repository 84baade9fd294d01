//! The body of `weir plan`: builds one plan and ends. Hidden; the service starts it as it starts `trtexec`.
//!
//! On standard output it says how far it is, a line each (`progress 0.42`); its last line on standard error
//! says why it failed.

use super::build::UNAVAILABLE;
use super::builder::{self, Wish};
use super::unavailable;
use crate::error::{Kind, Result, system};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::ffi::{CString, OsString};
use std::io::Write as _;
use std::path::PathBuf;

/// Begins a line about progress.
pub(super) const PROGRESS: &str = "progress ";

/// Exit code when started by hand (sysexits' EX_USAGE).
const USAGE: u8 = 64;

/// What the service says.
#[derive(Debug, Default)]
struct Arguments {
    onnx: PathBuf,
    plan: PathBuf,
    libraries: Option<PathBuf>,
    half: bool,
    input: Option<String>,
    batch: i64,
    width: i64,
    height: i64,
}

/// Builds a plan as the arguments say. Returns the exit code.
pub(crate) fn run(arguments: Vec<OsString>) -> u8 {
    let Some(arguments) = read(arguments) else {
        eprintln!("`weir plan` is started by `weir serve` and `weir check`");
        return USAGE;
    };
    match build(&arguments) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("[E] {error}");
            if error.kind() == Kind::System { UNAVAILABLE } else { 1 }
        }
    }
}

fn read(arguments: Vec<OsString>) -> Option<Arguments> {
    use lexopt::prelude::*;
    let mut parser = lexopt::Parser::from_args(arguments);
    let mut read = Arguments::default();
    while let Some(argument) = parser.next().ok()? {
        match argument {
            Long("onnx") => read.onnx = parser.value().ok()?.into(),
            Long("plan") => read.plan = parser.value().ok()?.into(),
            Long("libraries") => read.libraries = Some(parser.value().ok()?.into()),
            Long("half") => read.half = true,
            Long("input") => read.input = Some(parser.value().ok()?.into_string().ok()?),
            Long("batch") => read.batch = parser.value().ok()?.parse().ok()?,
            Long("width") => read.width = parser.value().ok()?.parse().ok()?,
            Long("height") => read.height = parser.value().ok()?.parse().ok()?,
            _ => return None,
        }
    }
    (!read.onnx.as_os_str().is_empty() && !read.plan.as_os_str().is_empty()).then_some(read)
}

fn build(arguments: &Arguments) -> Result<()> {
    // A crash over a stranger's file is told by the exit code, not by gigabytes on the board's card.
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).map_err(|errno| system("giving up core dumps")(errno.into()))?;
    let Arguments { batch, width, height, .. } = *arguments;
    let shape = |frames| [frames, 3, height, width];
    let named = |name: &str| CString::new(name).map_err(|_| unavailable("the input's name holds a zero"));
    let name = arguments.input.as_deref().map(named).transpose()?;
    let wish = Wish {
        libraries: arguments.libraries.as_deref(),
        onnx: &arguments.onnx,
        half: arguments.half,
        input: name.map(|name| (name, [shape(1), shape(batch), shape(batch)])),
    };
    let plan = builder::build(&wish, tell)?;
    std::fs::write(&arguments.plan, plan.as_bytes()?).map_err(system("writing the plan"))
}

fn tell(fraction: f32) {
    // Fails when nobody listens any more, who then ends this process.
    let _ = writeln!(std::io::stdout(), "{PROGRESS}{fraction:.2}");
}
