//! What a worker may do: limits of its own, a system-call filter, the files it may open, and the parent's death.
//!
//! A worker reads bytes from cameras through young code. Whatever that code is made to do, it cannot take more memory than
//! its limit, gain privileges, leave a core file with frames on disk, or outlive the service.
//!
//! It is locked in before the first byte from outside ([`before_open`]), and once more when its source is open
//! ([`after_open`]). `docs/confinement.md` lists what each kind may do in which stage.

use crate::capture::ipc::Start;
use crate::capture::place::Place;
use crate::confine::files::Files;
use crate::confine::filter::{Filter, When};
use crate::error::{Error, Kind, Result, system};
use rustix::process::{Resource, Rlimit, Signal};

/// Open files: standard streams, socket, ring, source, the event loop of tokio, and room for libraries.
const MAX_OPEN_FILES: u64 = 64;

/// Address space for what libc maps when a name is first looked up: libraries of name services, tables of character
/// sets. Read, never written.
const LIBRARIES_BYTES: u64 = 16 << 20;

/// Before any other thread exists.
pub(super) fn at_start(start: &Start) {
    // Linux before 6.4 tells this by a file of /proc, which is out of reach from here on.
    let _ = rustix::param::page_size();
    match Place::of(&start.request.reference) {
        Place::File(path) | Place::Loop(path) => only(Files { read: &[&path, STATM.as_ref()], devices: &[] }),
        Place::Device(path) => only(Files { read: &[STATM.as_ref()], devices: &[&path] }),
        Place::Rtsp(_) | Place::Http(_) | Place::Unknown(_) => {}
    }
}

/// How much address space this process has, in pages.
const STATM: &str = "/proc/self/statm";

fn only(files: Files<'_>) {
    match files.only() {
        Ok(true) => {}
        Ok(false) => log::info!("event=sandbox_degraded part=landlock error=\"this kernel has none\""),
        Err(error) => log::warn!("event=sandbox_degraded part=landlock error=\"{error}\""),
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
    let decoding = Filter::computing();
    let filter = match Place::of(&start.request.reference) {
        Place::Rtsp(_) => of_sockets(decoding),
        Place::Http(_) => of_connections(decoding).reading_files(),
        Place::Device(_) => of_devices(decoding),
        Place::File(_) | Place::Loop(_) | Place::Unknown(_) => decoding,
    };
    install(&filter);
}

fn install(filter: &Filter) {
    if let Err(error) = filter.install() {
        log::warn!("event=sandbox_degraded part=seccomp error=\"{error}\"");
    }
}

/// Sockets that are connected.
fn of_sockets(filter: Filter) -> Filter {
    [libc::SYS_getsockopt, libc::SYS_setsockopt, libc::SYS_getsockname, libc::SYS_getpeername, libc::SYS_shutdown]
        .into_iter()
        .fold(filter, |filter, call| filter.allow(call, &[]))
}

/// Requests of V4L2: type 'V'.
fn of_devices(filter: Filter) -> Filter {
    filter.allow(libc::SYS_ioctl, &[When::Masked(1, 0xff00, (b'V' as i32) << 8)])
}

/// Sockets that are to be connected.
fn of_connections(filter: Filter) -> Filter {
    let filter = [libc::SYS_connect, libc::SYS_bind, libc::SYS_sendto, libc::SYS_sendmsg, libc::SYS_sendmmsg, libc::SYS_recvmmsg]
        .into_iter()
        .fold(of_sockets(filter), |filter, call| filter.allow(call, &[]));
    [libc::AF_INET, libc::AF_INET6, libc::AF_UNIX, libc::AF_NETLINK]
        .into_iter()
        .fold(filter, |filter, family| filter.allow(libc::SYS_socket, &[When::Is(0, family)]))
}

/// Bytes of address space in use.
fn address_space() -> Option<u64> {
    let pages = std::fs::read_to_string(STATM).ok()?;
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
