//! What a worker may do: limits of its own, a system-call filter, the files it may open, and the parent's
//! death.
//!
//! A worker reads bytes from cameras through young code. Whatever that code is made to do, it cannot take
//! more memory than its limit, gain privileges, leave a core file with frames on disk, or outlive the
//! service.
//!
//! It is locked in before the first byte from outside ([`before_open`]), and once more when its source is
//! open ([`after_open`]). `docs/confinement.md` lists what each kind may do in which stage.

use crate::capture::ipc::Start;
use crate::capture::place::Place;
use crate::capture::shown;
use crate::capture::worker::decode::stateful::node;
use crate::error::{Error, Kind, Result, system};
use crate::sandbox::files::Files;
use crate::sandbox::filter::{Filter, When};
use rustix::process::{Resource, Rlimit, Signal};
use std::path::Path;

/// Open files: standard streams, socket, ring, source, the event loop of tokio, and room for libraries.
const MAX_OPEN_FILES: u64 = 64;

/// Address space for what libc maps when a name is first looked up: libraries of name services, tables of
/// character sets. Read, never written.
const LIBRARIES_BYTES: u64 = 16 << 20;

/// What a worker's decoders need beyond what all need.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Confinement {
    /// What libraries that are open already have mapped to write to.
    pub(super) library_bytes: u64,
    /// Devices that are open are asked by requests that only their drivers know.
    pub(super) asks_devices: bool,
    /// Decoders of the kernel are open, whose requests are known.
    pub(super) has_decoders: bool,
}

/// Before any other thread exists.
pub(super) fn at_start(start: &Start) {
    // Linux before 6.4 tells this by a file of /proc, which is out of reach from here on.
    let _ = rustix::param::page_size();
    let statm: &Path = STATM.as_ref();
    match Place::of(&start.request.reference) {
        Place::File(path) | Place::Loop(path) => only(Files { read: &[&path, statm], ..Files::default() }),
        Place::Device(path) => only(Files { read: &[statm], devices: &[&path], ..Files::default() }),
        // Two halves of it meet on the loopback interface before the first byte from outside.
        Place::Rtsp(_) => only(Files { read: &[statm], ports: true, ..Files::default() }),
        // The service resolves, connects and knows the certificates.
        Place::Http(_) | Place::Unknown(_) => only(Files { read: &[statm], ..Files::default() }),
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
pub(super) fn before_open(start: &Start, confinement: &Confinement) -> Result<()> {
    // SIGTERM, not SIGKILL: a camera with a single session is still told TEARDOWN when the service crashed.
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|errno| system("binding the worker to its parent")(errno.into()))?;
    // The parent may have died before that call.
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().cast_unsigned());
    if parent != Some(start.parent) {
        return Err(Error::new(Kind::ShuttingDown, "the service is gone"));
    }
    // Who looks takes nothing away from the decoder.
    let pictures = shown::worker_bytes(start.settings.picture_width);
    let [memory, most] = [start.settings.worker_memory_bytes, start.settings.worker_memory_max_bytes];
    let (memory, most) = (memory.saturating_add(pictures), most.saturating_add(pictures));
    // What can be written to is the limit proper. The address space also holds the executable, the ring and
    // the libraries that libc opens later, so its limit counts from here. Threads add no arenas to it
    // (`spawn::ONE_ARENA`). What lies between that and the most only the service can allow: no filter lets a
    // worker do so.
    let libraries = confinement.library_bytes;
    limit("data", Resource::Data, memory.saturating_add(libraries), most.saturating_add(libraries));
    match address_space() {
        Some(present) => {
            let base = present.saturating_add(LIBRARIES_BYTES);
            limit("address space", Resource::As, base.saturating_add(memory), base.saturating_add(most));
        }
        None => log::warn!("event=sandbox_degraded part=\"limit of address space\" error=\"no /proc\""),
    }
    limit("core file", Resource::Core, 0, 0);
    limit("open files", Resource::Nofile, MAX_OPEN_FILES, MAX_OPEN_FILES);
    if let Err(errno) = rustix::thread::set_no_new_privs(true) {
        log::warn!("event=sandbox_degraded part=no_new_privs error=\"{errno}\"");
    }
    Ok(())
}

/// The last thing before the source is opened: from here on only what opening needs.
pub(super) fn before_first_byte(start: &Start, confinement: &Confinement) {
    let opening = computing(confinement);
    let place = Place::of(&start.request.reference);
    if matches!(place, Place::Rtsp(_)) {
        only(Files::default());
    }
    install(&match place {
        Place::Rtsp(_) | Place::Http(_) => of_sockets(opening),
        Place::Device(_) => of_devices(opening).opening_devices().narrowing(),
        Place::File(_) | Place::Loop(_) => opening.reading_files().narrowing(),
        Place::Unknown(_) => opening,
    });
}

/// Once the source is open: what decoding and reading need, and nothing else.
pub(super) fn after_open(start: &Start, confinement: &Confinement) {
    match Place::of(&start.request.reference) {
        Place::Device(_) => install(&of_devices(computing(confinement))),
        Place::File(_) | Place::Loop(_) => install(&computing(confinement)),
        // They needed nothing more to be opened.
        Place::Rtsp(_) | Place::Http(_) | Place::Unknown(_) => {}
    }
}

/// What all need, and requests to devices that are open: any where decoders of the board work through a library,
/// a few where the kernel's own are used.
#[allow(clippy::unnecessary_cast)] // `Ioctl` is a c_int on musl
fn computing(confinement: &Confinement) -> Filter {
    let filter = Filter::computing();
    if confinement.asks_devices {
        return filter.allow(libc::SYS_ioctl, &[]);
    }
    let requests = if confinement.has_decoders { &node::REQUESTS[..] } else { &[] };
    filter.ioctl(&requests.iter().map(|request| *request as libc::Ioctl).collect::<Vec<_>>())
}

fn install(filter: &Filter) {
    if let Err(error) = filter.install() {
        log::warn!("event=sandbox_degraded part=seccomp error=\"{error}\"");
    }
}

/// Sockets that the service hands over: asked and tuned, never bound, connected or accepted on.
fn of_sockets(filter: Filter) -> Filter {
    let filter = [libc::SYS_getsockopt, libc::SYS_getsockname, libc::SYS_getpeername, libc::SYS_shutdown]
        .into_iter()
        .fold(filter, |filter, call| filter.allow(call, &[]));
    [libc::SO_RCVBUF, libc::SO_SNDBUF, libc::SO_RCVTIMEO, libc::SO_SNDTIMEO, libc::SO_KEEPALIVE]
        .into_iter()
        .fold(filter, |filter, option| {
            filter.allow(libc::SYS_setsockopt, &[When::Is(1, libc::SOL_SOCKET), When::Is(2, option)])
        })
        .allow(libc::SYS_setsockopt, &[When::Is(1, libc::IPPROTO_TCP)])
}

/// Requests of V4L2: type 'V'.
fn of_devices(filter: Filter) -> Filter {
    filter.allow(libc::SYS_ioctl, &[When::Masked(1, 0xff00, (b'V' as i32) << 8)])
}

/// Bytes of address space in use.
fn address_space() -> Option<u64> {
    statm(0)
}

/// Bytes of it that can be written to; 0: unknown.
pub(super) fn data_bytes() -> u64 {
    statm(5).unwrap_or(0)
}

/// A figure of /proc/self/statm, in bytes.
fn statm(column: usize) -> Option<u64> {
    let pages = std::fs::read_to_string(STATM).ok()?;
    let pages: u64 = pages.split(' ').nth(column)?.trim().parse().ok()?;
    pages.checked_mul(rustix::param::page_size() as u64)
}

/// Sets a limit and the most that it may be raised to, or lower ones that are set already. A kernel or
/// container that refuses costs a warning, not the camera.
fn limit(what: &'static str, resource: Resource, value: u64, most: u64) {
    let present = rustix::process::getrlimit(resource);
    let [value, most] =
        [value, most.max(value)].map(|value| present.maximum.map_or(value, |maximum| value.min(maximum)));
    if let Err(errno) =
        rustix::process::setrlimit(resource, Rlimit { current: Some(value), maximum: Some(most) })
    {
        log::warn!("event=sandbox_degraded part=\"limit of {what}\" error=\"{errno}\"");
    }
}
