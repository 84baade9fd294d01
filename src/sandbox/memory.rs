//! A child's limits of memory, raised from outside.
//!
//! A child sets its own limits before the first byte from outside: those that hold ("soft") and those up to
//! which they may be raised ("hard"). It cannot raise them itself, its filter allows no such call; the
//! service does it, for a child of the same user and up to the hard limits without any privilege.

use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit};

/// Raises what a child may map and write to by so many bytes. The process must not have been reaped.
///
/// Errors: EDQUOT: its hard limit is lower than that; else what the kernel says.
pub(super) fn raise(pid: Pid, by: u64) -> Result<(), Errno> {
    // The address space first: where that fails nothing has changed.
    for (resource, number) in [(Resource::As, libc::RLIMIT_AS), (Resource::Data, libc::RLIMIT_DATA)] {
        let mut present = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: no new limit is given, and the present one is written into a structure of ours.
        if unsafe { libc::prlimit(pid.as_raw_nonzero().get(), number, std::ptr::null(), &raw mut present) }
            != 0
        {
            return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
        }
        if present.rlim_cur == libc::RLIM_INFINITY {
            continue;
        }
        let wanted = present.rlim_cur.saturating_add(by);
        if present.rlim_max != libc::RLIM_INFINITY && wanted > present.rlim_max {
            return Err(Errno::DQUOT);
        }
        let maximum = Some(present.rlim_max).filter(|hard| *hard != libc::RLIM_INFINITY);
        rustix::process::prlimit(Some(pid), resource, Rlimit { current: Some(wanted), maximum })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::process::{Command, Stdio};

    /// Soft and hard limit of data, in bytes.
    fn data(pid: u32) -> (String, String) {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max data size")).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        (words[3].to_owned(), words[4].to_owned())
    }

    #[test]
    fn limits_are_raised_up_to_the_hard_ones() {
        let mut child = Command::new("/bin/sh")
            .args(["-c", "ulimit -Sd 32768; ulimit -Hd 65536; echo ready; read line"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut ready)
            .unwrap();
        let pid = Pid::from_child(&child);
        assert_eq!(data(child.id()), ("33554432".into(), "67108864".into()));
        raise(pid, 1 << 20).unwrap();
        assert_eq!(data(child.id()), ("34603008".into(), "67108864".into()));
        assert_eq!(raise(pid, 64 << 20), Err(Errno::DQUOT));
        assert_eq!(raise(pid, u64::MAX), Err(Errno::DQUOT));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(raise(pid, 1), Err(Errno::SRCH));
    }
}
