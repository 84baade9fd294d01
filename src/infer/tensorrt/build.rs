//! Making a plan in a child that is watched: `weir plan` (`child`), which goes through TensorRT's builder and
//! parser, else `trtexec`, NVIDIA's own program.
//!
//! It tries many kernels for every layer, which takes minutes on a small board. It is a process of its own
//! because it reads a stranger's file, may take gigabytes and crash, and because it can then be stopped.
//!
//! `unsafe`: one call between fork and exec, so that the child does not outlive this process.
#![allow(unsafe_code)]

use super::child::PROGRESS;
use super::layout::TrtexecFlags;
use super::unavailable;
use crate::error::{Error, Kind, Result, system};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often whoever waits is told that it goes on, and asked whether it should: the service waits for that
/// at its end.
const TICK: Duration = Duration::from_millis(200);
/// Bytes of the end of its output that are kept, for the reason when it fails. It prints megabytes.
const MAX_TAIL_BYTES: usize = 8 << 10;
/// Bytes read at a time.
const CHUNK_BYTES: usize = 4 << 10;
/// Longest line of it that is quoted, characters.
const MAX_REASON_CHARS: usize = 200;
/// Variables that it inherits: where programs and libraries are, and which GPU. Nothing else: keys and tokens
/// of the service never reach it.
pub(super) const INHERITED_VARIABLES: [&str; 7] = [
    "PATH",
    LIBRARY_PATH,
    "HOME",
    "TMPDIR",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_CACHE_PATH",
    "NVIDIA_VISIBLE_DEVICES",
];

/// Where the loader looks for libraries.
const LIBRARY_PATH: &str = "LD_LIBRARY_PATH";
/// This program, also when its file was replaced meanwhile.
const OWN_PROGRAM: &str = "/proc/self/exe";
/// Exit code of `weir plan` where it is the machine that lacks something (sysexits' EX_UNAVAILABLE).
pub(super) const UNAVAILABLE: u8 = 69;

/// Told now and then that a build goes on, and how far it is where that is known, from 0 to 1. When it fails
/// the build is stopped with its error.
pub(super) type GoesOn<'a> = &'a dyn Fn(Option<f32>) -> Result<()>;

/// Who makes a plan.
#[derive(Debug, Clone, Copy)]
pub(super) enum Program<'a> {
    /// `weir plan`, with the libraries of that folder.
    Own(Option<&'a Path>),
    /// NVIDIA's `trtexec`, at this path.
    Trtexec(&'a Path, TrtexecFlags),
}

/// The model and the kind of plan that shall be built.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order<'a> {
    pub(super) program: Program<'a>,
    pub(super) onnx: &'a Path,
    /// Where the plan goes.
    pub(super) plan: &'a Path,
    /// Most memory it may take, bytes.
    pub(super) memory_max_bytes: u64,
    /// Whether 16-bit floats may be used.
    pub(super) half: bool,
    /// The input's name and size, where the model leaves some of it open.
    pub(super) open_input: Option<OpenInput<'a>>,
    pub(super) timeout: Duration,
}

/// An input of which a dimension is open: the plan is made for these.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenInput<'a> {
    pub(super) name: &'a str,
    /// Frames in one run: from 1 to this many.
    pub(super) batch: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

impl Program<'_> {
    fn name(&self) -> &'static str {
        match self {
            Program::Own(_) => "weir plan",
            Program::Trtexec(..) => "trtexec",
        }
    }

    fn path(&self) -> &Path {
        match self {
            Program::Own(_) => Path::new(OWN_PROGRAM),
            Program::Trtexec(path, _) => path,
        }
    }
}

/// A path as an argument.
fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| unavailable("a path is not UTF-8"))
}

impl Order<'_> {
    /// Whether its program can be started at all.
    pub(super) fn program_is_there(&self) -> bool {
        self.program.path().exists()
    }

    fn arguments(&self) -> Result<Vec<String>> {
        if let Some(OpenInput { name, .. }) = self.open_input
            && (name.is_empty() || name.chars().any(|c| c.is_control() || c == '\'' || c == '"'))
        {
            // The name comes out of the model, and goes into trtexec's own little language.
            return Err(unavailable("the name of the model's input cannot be told to trtexec"));
        }
        match self.program {
            Program::Own(libraries) => self.own_arguments(libraries),
            Program::Trtexec(_, flags) => self.trtexec_arguments(flags),
        }
    }

    fn own_arguments(&self, libraries: Option<&Path>) -> Result<Vec<String>> {
        let mut arguments = vec!["plan".to_owned()];
        let mut say = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
        say("onnx", text(self.onnx)?);
        say("plan", text(self.plan)?);
        if let Some(folder) = libraries {
            say("libraries", text(folder)?);
        }
        if let Some(OpenInput { name, batch, width, height }) = self.open_input {
            say("input", name.to_owned());
            say("batch", batch.to_string());
            say("width", width.to_string());
            say("height", height.to_string());
        }
        if self.half {
            arguments.push("--half".to_owned());
        }
        Ok(arguments)
    }

    fn trtexec_arguments(&self, flags: TrtexecFlags) -> Result<Vec<String>> {
        let mut arguments =
            vec![format!("--onnx={}", text(self.onnx)?), format!("--saveEngine={}", text(self.plan)?)];
        arguments.push(flags.build_only.to_owned());
        if self.half {
            arguments.extend(flags.half.map(str::to_owned));
        }
        if let Some(OpenInput { name, batch, width, height }) = self.open_input {
            let quote = if name.contains([':', ',']) { "'" } else { "" };
            for (which, batch) in [("min", 1), ("opt", batch), ("max", batch)] {
                arguments.push(format!("--{which}Shapes={quote}{name}{quote}:{batch}x3x{height}x{width}"));
            }
        }
        Ok(arguments)
    }
}

/// Why there is no plan.
#[derive(Debug)]
pub(super) enum Failure {
    /// The program cannot work on this machine: another might.
    Unable(Error),
    /// Nor would another program help.
    Final(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Final(error)
    }
}

impl Failure {
    /// Why no plan was built.
    pub(super) fn into_error(self) -> Error {
        let (Failure::Unable(error) | Failure::Final(error)) = self;
        error
    }
}

/// Builds the plan. Blocks.
pub(super) fn build(order: &Order<'_>, goes_on: GoesOn<'_>) -> Result<(), Failure> {
    let _turn = Turn::wait(goes_on)?;
    let clock = Instant::now();
    let (program, onnx) = (order.program.name(), order.onnx.display());
    log::info!("tensorrt building onnx={onnx} program=\"{program}\"");
    let (mut building, output) = start(order)?;
    let (status, tail) = follow(&mut building, output, order, goes_on)?;
    if !status.success() {
        let error = Error::new(Kind::Inference, format!("{program} ended with {status}: {}", reason(&tail)));
        let is_unable = status.code() == Some(i32::from(UNAVAILABLE));
        return Err(if is_unable { Failure::Unable(error) } else { Failure::Final(error) });
    }
    log::info!("tensorrt built onnx={onnx} seconds={:.1}", clock.elapsed().as_secs_f64());
    Ok(())
}

/// A running program with all it may have started; killed and reaped when dropped.
struct Building {
    child: Child,
    is_reaped: bool,
}

impl Building {
    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Ends what still runs of it, what it started too, and asks how it ended.
    fn reap(&mut self) -> std::io::Result<ExitStatus> {
        if let Some(pid) = self.pid() {
            // While it is not reaped the number cannot be another's.
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
        let status = self.child.wait();
        self.is_reaped = true;
        status
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        if !self.is_reaped {
            let _ = self.reap();
        }
    }
}

fn start(order: &Order<'_>) -> Result<(Building, File)> {
    let (output, input) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|errno| system("cannot make a pipe for a build")(errno.into()))?;
    let errors = input.try_clone().map_err(system("cannot make a pipe for a build"))?;
    let mut command = Command::new(order.program.path());
    command
        .args(order.arguments()?)
        .stdin(Stdio::null())
        .stdout(Stdio::from(input))
        .stderr(Stdio::from(errors));
    command.env_clear();
    command.envs(INHERITED_VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    if let Program::Own(Some(folder)) = order.program {
        // The libraries open one another by name.
        let others = std::env::var_os(LIBRARY_PATH).unwrap_or_default();
        let folders = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&others));
        let folders = std::env::join_paths(folders.filter(|folder| !folder.as_os_str().is_empty()));
        command.env(LIBRARY_PATH, folders.map_err(|_| unavailable("tensorrt.libraries holds a colon"))?);
    }
    command.process_group(0);
    let parent = std::process::id();
    // SAFETY: between fork and exec only two system calls are made and nothing is allocated. The signal comes
    // when the thread that starts it ends, which is the one that then waits for it.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            let found = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().cast_unsigned());
            if found == Some(parent) { Ok(()) } else { Err(std::io::ErrorKind::BrokenPipe.into()) }
        });
    }
    let missing = |cause| {
        unavailable(format!("{} cannot be started to build a plan", order.program.path().display()))
            .because(cause)
    };
    let child = command.spawn().map_err(missing)?;
    // `command` held our copies of the pipe's end: with it gone the pipe ends with the child.
    drop(command);
    Ok((Building { child, is_reaped: false }, File::from(output)))
}

/// Reads its output until it has ended; the status and the end of the output.
fn follow(
    building: &mut Building,
    mut output: File,
    order: &Order<'_>,
    goes_on: GoesOn<'_>,
) -> Result<(ExitStatus, Vec<u8>)> {
    let watching = |errno: rustix::io::Errno| system("cannot watch a build")(errno.into());
    let pid = building.pid().ok_or_else(|| Error::new(Kind::System, "a build has no process id"))?;
    let ended: OwnedFd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(watching)?;
    let deadline = Instant::now() + order.timeout;
    let mut tail = Tail::default();
    let mut is_open = true;
    loop {
        goes_on(tail.progress)?;
        check_memory(pid, order)?;
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let message = format!(
                "{} did not finish within {} s (tensorrt.build_timeout_s)",
                order.program.name(),
                order.timeout.as_secs_f64()
            );
            return Err(Error::new(Kind::Inference, message));
        }
        let wait = Timespec::try_from(left.min(TICK))
            .map_err(|_| Error::new(Kind::System, "a wait is out of range"))?;
        let events = if is_open { PollFlags::IN } else { PollFlags::empty() };
        let mut watched = [PollFd::new(&ended, PollFlags::IN), PollFd::new(&output, events)];
        match poll(&mut watched, Some(&wait)) {
            Err(rustix::io::Errno::INTR) => continue,
            outcome => outcome.map_err(watching)?,
        };
        let [child, pipe] = watched.map(|fd| fd.revents());
        if is_open && !pipe.is_empty() {
            is_open = tail.read(&mut output)?;
        } else if !child.is_empty() {
            // All that it printed was read, unless something it started still prints: that is not waited for.
            let status = building.reap().map_err(system("cannot learn how a build ended"))?;
            return Ok((status, tail.bytes));
        }
    }
}

/// Stops a build that takes too much memory: on a board it is what everything else lives on, too. Read now
/// and then, as a limit on the address space would stop CUDA, which reserves more than there is.
fn check_memory(pid: Pid, order: &Order<'_>) -> Result<()> {
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", pid.as_raw_nonzero())).unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    let bytes = pages.saturating_mul(rustix::param::page_size() as u64);
    if bytes <= order.memory_max_bytes {
        return Ok(());
    }
    let message = format!(
        "{} took more than {} MiB (tensorrt.build_memory_max_bytes)",
        order.program.name(),
        order.memory_max_bytes >> 20
    );
    Err(Error::new(Kind::Exhausted, message))
}

/// The end of a long output, and how far it said that it was.
#[derive(Default)]
struct Tail {
    bytes: Vec<u8>,
    progress: Option<f32>,
}

impl Tail {
    /// Reads once; false at the end.
    fn read(&mut self, output: &mut File) -> Result<bool> {
        let mut chunk = [0; CHUNK_BYTES];
        let count = match output.read(&mut chunk) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(true),
            count => count.map_err(system("cannot read from a build"))?,
        };
        self.bytes.extend_from_slice(chunk.get(..count).unwrap_or_default());
        self.progress = told_progress(&self.bytes).or(self.progress);
        let surplus = self.bytes.len().saturating_sub(MAX_TAIL_BYTES);
        self.bytes.drain(..surplus);
        Ok(count > 0)
    }
}

/// The last whole line about progress.
fn told_progress(bytes: &[u8]) -> Option<f32> {
    let text = String::from_utf8_lossy(bytes);
    let whole = text.rsplit_once('\n')?.0;
    let told =
        whole.lines().rev().find_map(|line| line.strip_prefix(PROGRESS)?.trim().parse::<f32>().ok())?;
    (0.0..=1.0).contains(&told).then_some(told)
}

/// The last line that is marked as an error, else the last line.
fn reason(tail: &[u8]) -> String {
    let text = String::from_utf8_lossy(tail);
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let marked = lines.clone().rfind(|line| line.contains("[E]"));
    let line = marked.or_else(|| lines.next_back()).unwrap_or("it said nothing");
    line.chars().filter(|c| !c.is_control()).take(MAX_REASON_CHARS).collect()
}

/// One build at a time: two at once measure each other's kernels and share the GPU's memory.
struct Turn;

static TAKEN: Mutex<bool> = Mutex::new(false);
static GIVEN_BACK: Condvar = Condvar::new();

impl Turn {
    fn wait(goes_on: GoesOn<'_>) -> Result<Turn> {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken {
            goes_on(None)?;
            taken = GIVEN_BACK.wait_timeout(taken, TICK).unwrap_or_else(PoisonError::into_inner).0;
        }
        *taken = true;
        Ok(Turn)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) = false;
        GIVEN_BACK.notify_one();
    }
}
