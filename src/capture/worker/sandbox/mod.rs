//! What a worker may do: limits of its own, a system-call filter, the files it may read, and the parent's death.
//!
//! A worker reads bytes from cameras through young code. Whatever that code is made to do, it cannot take more memory than
//! its limit, gain privileges, leave a core file with frames on disk, or outlive the service.

mod files;
mod filter;

use crate::capture::ipc::Start;
use crate::capture::place::Place;
use crate::error::{Error, Kind, Result, system};
use rustix::process::{Resource, Rlimit, Signal};
use std::path::Path;

/// Open files: standard streams, socket, ring, source, the event loop of tokio, and room for libraries.
const MAX_OPEN_FILES: u64 = 64;

/// Address space for what libc maps when a name is first looked up: libraries of name services, tables of character
/// sets. Read, never written.
const LIBRARIES_BYTES: u64 = 16 << 20;

/// Before any other thread exists: a file source reads its file and no other, from its first byte on.
pub(super) fn at_start(start: &Start) {
    if let Place::File(path) | Place::Loop(path) = Place::of(&start.request.reference) {
        confine(Some(&path));
    }
}

/// Before the first byte from outside is read.
pub(super) fn before_open(start: &Start) -> Result<()> {
    // SIGTERM, not SIGKILL: a camera with a single session is still told TEARDOWN when the service crashed.
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|errno| system("binding the worker to its parent")(errno.into()))?;
    // The parent may have died before that call.
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().cast_unsigned());
    if parent != Some(start.parent) {
        return Err(Error::new(Kind::ShuttingDown, "the service is gone"));
    }
    let memory = start.settings.worker_memory_bytes;
    // What can be written to is the limit proper. The address space also holds the executable, the ring and the libraries
    // that libc opens later, so its limit counts from here. Threads add no arenas to it (`spawn::ONE_ARENA`).
    limit("data", Resource::Data, memory);
    match address_space() {
        Some(present) => {
            limit("address space", Resource::As, present.saturating_add(memory).saturating_add(LIBRARIES_BYTES));
        }
        None => log::warn!("event=sandbox_degraded part=\"limit of address space\" error=\"no /proc\""),
    }
    limit("core file", Resource::Core, 0);
    limit("open files", Resource::Nofile, MAX_OPEN_FILES);
    if let Err(errno) = rustix::thread::set_no_new_privs(true) {
        log::warn!("event=sandbox_degraded part=no_new_privs error=\"{errno}\"");
    }
    Ok(())
}

/// Once the source is open: what decoding and reading need, and nothing else.
pub(super) fn after_open(start: &Start) {
    let needs = match Place::of(&start.request.reference) {
        // It looks at the system's name servers and certificates again and again.
        Place::Http(_) => filter::Needs::Connections,
        // A stream or device that is open needs no file; of file sources, `at_start` has taken care.
        Place::Rtsp(_) | Place::Device(_) => {
            confine(None);
            filter::Needs::Nothing
        }
        Place::File(_) | Place::Loop(_) | Place::Unknown(_) => filter::Needs::Nothing,
    };
    if let Err(error) = filter::install(needs) {
        log::warn!("event=sandbox_degraded part=seccomp error=\"{error}\"");
    }
}

fn confine(video: Option<&Path>) {
    match files::confine(video) {
        Ok(true) => {}
        Ok(false) => log::info!("event=sandbox_degraded part=landlock error=\"this kernel has none\""),
        Err(error) => log::warn!("event=sandbox_degraded part=landlock error=\"{error}\""),
    }
}

/// Bytes of address space in use.
fn address_space() -> Option<u64> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = pages.split(' ').next()?.parse().ok()?;
    pages.checked_mul(rustix::param::page_size() as u64)
}

/// Sets a limit, or a lower one that is set already. A kernel or container that refuses costs a warning, not the camera.
fn limit(what: &'static str, resource: Resource, bytes: u64) {
    let present = rustix::process::getrlimit(resource);
    let bytes = present.maximum.map_or(bytes, |maximum| bytes.min(maximum));
    if let Err(errno) = rustix::process::setrlimit(resource, Rlimit { current: Some(bytes), maximum: Some(bytes) }) {
        log::warn!("event=sandbox_degraded part=\"limit of {what}\" error=\"{errno}\"");
    }
}
