//! What a model's process may do: compute with what it was given. It opens no file, makes no connection,
//! starts no program, takes no more memory than its limit, and ends with the service.

use crate::error::{Error, Kind, Result, system};
use crate::sandbox::files::Files;
use crate::sandbox::filter::{Filter, When};
use rustix::process::{Resource, Rlimit, Signal};

/// Open files: standard streams, socket, model, a file of weights, and two for each run.
const MAX_OPEN_FILES: u64 = 512;

/// Where memory is short the kernel should end this process and not the service: halfway to the first choice.
const OUT_OF_MEMORY_SCORE: &[u8] = b"500";

/// Before any other thread exists and before the first byte of the model is read.
pub(super) fn before_reading(parent: u32, memory_bytes: u64) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|errno| system("binding the model's process to the service")(errno.into()))?;
    // The service may have died before that call.
    if rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().cast_unsigned()) != Some(parent) {
        return Err(Error::new(Kind::ShuttingDown, "the service is gone"));
    }
    let _ = std::fs::write("/proc/self/oom_score_adj", OUT_OF_MEMORY_SCORE);
    limit("data", Resource::Data, memory_bytes);
    limit("core file", Resource::Core, 0);
    limit("open files", Resource::Nofile, MAX_OPEN_FILES);
    if let Err(errno) = rustix::thread::set_no_new_privs(true) {
        log::warn!("event=sandbox_degraded part=no_new_privs error=\"{errno}\"");
    }
    match Files::default().only() {
        Ok(true) => {}
        Ok(false) => log::info!("event=sandbox_degraded part=landlock error=\"this kernel has none\""),
        Err(error) => log::warn!("event=sandbox_degraded part=landlock error=\"{error}\""),
    }
    let filter = Filter::computing()
        // The outputs of a run, into memory that it shares.
        .allow(libc::SYS_pwrite64, &[])
        // Only ever less than the others, and only itself.
        .allow(libc::SYS_setpriority, &[When::Is(0, 0), When::Is(1, 0)]);
    if let Err(error) = filter.install() {
        log::warn!("event=sandbox_degraded part=seccomp error=\"{error}\"");
    }
    Ok(())
}

/// Sets a limit, or a lower one that is set already. A kernel or container that refuses costs a warning, not
/// the model.
fn limit(what: &'static str, resource: Resource, most: u64) {
    let present = rustix::process::getrlimit(resource);
    let most = present.maximum.map_or(most, |maximum| most.min(maximum));
    if let Err(errno) =
        rustix::process::setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
    {
        log::warn!("event=sandbox_degraded part=\"limit of {what}\" error=\"{errno}\"");
    }
}
