//! What weir needs of the kernel, or of the container that stands before it, and what it does without.
//!
//! Everything is tried, not looked up: a container can deny what its kernel has. `docs/confinement.md` has
//! the same list.

use super::files;
use rustix::event::{EventfdFlags, epoll};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{PidfdFlags, WaitId, WaitIdOptions};
use std::os::fd::AsFd;

/// One thing that the kernel has or lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// What, with the version of Linux that brought it.
    pub what: &'static str,
    /// What was found: a version, or what the kernel answered.
    pub found: Result<String, String>,
    /// What becomes of weir without it; `None`: it cannot work.
    pub without: Option<&'static str>,
}

/// Tries everything. Costs less than a millisecond and leaves nothing behind.
pub fn needs() -> Vec<Need> {
    let need = |what, found: Result<String, String>, without| Need { what, found, without };
    let yes = |tried: Result<(), Errno>| tried.map(|()| "yes".to_owned()).map_err(|errno| errno.to_string());
    let mut needs = vec![
        need("memory files with seals (memfd_create, Linux 3.17)", yes(sealed_memory()), None),
        need("packet sockets between processes (SOCK_SEQPACKET)", yes(packet_sockets()), None),
        need("event loops (epoll, eventfd)", yes(event_loop()), None),
        need(
            "/proc",
            if std::path::Path::new("/proc/self/exe").exists() {
                Ok("yes".into())
            } else {
                Err("not mounted".into())
            },
            Some(
                "children have no limit of address space, and an upgrade of the program while it runs stops new ones",
            ),
        ),
        need(
            "system-call filters (seccomp, Linux 3.17)",
            yes(rustix::thread::secure_computing_mode().map(|_| ())),
            Some("children are not locked in: anything that a camera's bytes make them do, this user can do"),
        ),
        need(
            "handles on processes (pidfd, Linux 5.4)",
            yes(process_handles()),
            Some("a thread for each child waits for its end"),
        ),
    ];
    let landlock =
        files::version().map(|version| format!("version {version}")).ok_or_else(|| "not there".to_owned());
    needs.push(need(
        "rules for files (Landlock, Linux 5.13)",
        landlock,
        Some("while it opens its file, and only then, a worker could read others of this user"),
    ));
    needs
}

/// Why weir cannot work here at all; `None`: it can.
pub fn fatal(needs: &[Need]) -> Option<String> {
    let missing = needs.iter().find(|need| need.without.is_none() && need.found.is_err())?;
    let why = missing.found.as_ref().err()?;
    Some(format!("this kernel or container has no {}: {why}. weir cannot work without it", missing.what))
}

fn sealed_memory() -> Result<(), Errno> {
    let file = rustix::fs::memfd_create(c"weir-probe", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&file, 1)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
}

fn packet_sockets() -> Result<(), Errno> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map(|_| ())
}

fn event_loop() -> Result<(), Errno> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?;
    epoll::add(&epoll, &event, epoll::EventData::new_u64(0), epoll::EventFlags::IN)
}

/// Also that they can be waited for: this process is no child of itself, and a kernel that understands the
/// question says so.
fn process_handles() -> Result<(), Errno> {
    let handle = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
    match rustix::process::waitid(
        WaitId::PidFd(handle.as_fd()),
        WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
    ) {
        Ok(_) | Err(Errno::CHILD) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn this_machine_has_what_is_needed_and_what_is_missing_is_named() {
        let mut needs = needs();
        assert_eq!(fatal(&needs), None);
        needs[0].found = Err("Function not implemented".into());
        assert!(fatal(&needs).unwrap().contains("memfd_create"), "{:?}", fatal(&needs));
    }
}
