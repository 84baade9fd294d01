//! What the kernel tells about a process, and running one to its end.

use super::{PATIENCE, POLL};
use std::io::Read;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Longest that a program which a test runs may take: a Python environment is made from PyPI in it.
const PROGRAM_PATIENCE: Duration = Duration::from_secs(240);

/// A field of `/proc/PID/FILE` that the kernel gives in kB, in bytes: `("status", "VmRSS:")`,
/// `("smaps_rollup", "Pss:")`. `None` for a process that is gone.
pub fn bytes(pid: u32, file: &str, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(field))?;
    Some(value.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

/// Open file descriptors.
pub fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Runs a program to its end, which it must reach in time, and takes what it printed.
#[track_caller]
pub fn output(command: &mut Command) -> Output {
    let name = format!("{command:?}");
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    output_of(child.unwrap_or_else(|error| panic!("{name}: {error}")), &name)
}

/// The same of a program that runs already.
#[track_caller]
pub fn output_of(mut child: Child, name: &str) -> Output {
    let (stdout, stderr) = (child.stdout.take().map(read_all), child.stderr.take().map(read_all));
    let deadline = Instant::now() + PROGRAM_PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().expect("wait") {
            break status;
        }
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{name} did not end within {PROGRAM_PATIENCE:?}");
        }
        // std has no wait with a deadline.
        std::thread::sleep(POLL);
    };
    // Whom it left behind may hold its pipes: nobody waits for those.
    let text = |reader: Option<Receiver<Vec<u8>>>| {
        reader.and_then(|read| read.recv_timeout(PATIENCE).ok()).unwrap_or_default()
    };
    Output { status, stdout: text(stdout), stderr: text(stderr) }
}

fn read_all(mut stream: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}
