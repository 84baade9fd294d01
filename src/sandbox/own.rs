//! What the service keeps to itself. A child runs as the same user: what protects the service from it is
//! here.

use std::ffi::{CStr, c_char};

unsafe extern "C" {
    /// The environment as the C library keeps it: pointers to `NAME=VALUE`, ended by a null pointer.
    static environ: *const *mut c_char;
}

/// Nobody but root looks into this process from now on: not at its memory, its environment or its
/// descriptors, by `/proc` or `ptrace`. It leaves no core file either.
pub fn keep_to_itself() {
    let behaviour = rustix::process::DumpableBehavior::NotDumpable;
    if let Err(errno) = rustix::process::set_dumpable_behavior(behaviour) {
        log::warn!("event=sandbox_degraded part=dumpable error=\"{errno}\"");
    }
}

/// Overwrites the values of these variables where the kernel shows them (`/proc/PID/environ`); afterwards
/// they are set and empty. For the start of the program, once they have been read.
///
/// Does nothing when there are other threads: one of them might read them.
pub fn wipe_environment(names: &[&str]) {
    if !is_only_thread() {
        return log::warn!("event=sandbox_degraded part=environment error=\"there are threads already\"");
    }
    // SAFETY: there is no other thread that could change the environment or read it meanwhile (looked at just
    // now; nothing here starts one). `environ` is null or an array of pointers that ends with a null pointer,
    // each to a string that ends with a zero byte, by the C library's contract (POSIX environ(7)). Each
    // string is our own writable memory: the kernel's copy on the stack, or the C library's. Only bytes
    // before the final zero are written, so they stay strings.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            let text = CStr::from_ptr(*entry).to_bytes();
            let length = text.len();
            let value = text.iter().position(|byte| *byte == b'=').filter(|at| {
                let name = text.get(..*at).unwrap_or_default();
                names.iter().any(|wanted| wanted.as_bytes() == name)
            });
            if let Some(at) = value {
                std::ptr::write_bytes((*entry).add(at + 1), 0, length - at - 1);
            }
            entry = entry.add(1);
        }
    }
}

/// Without /proc nobody can read the environment there, and nobody can say.
fn is_only_thread() -> bool {
    std::fs::read_dir("/proc/self/task").map_or(true, |tasks| tasks.count() == 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::process::Command;

    const INSIDE: &str = "WEIR_TEST_INSIDE_WIPE";

    /// A test of its own process: the environment belongs to all threads, and libtest has some.
    #[test]
    fn with_other_threads_the_environment_is_left_alone() {
        let name = "sandbox::own::tests::with_other_threads_the_environment_is_left_alone";
        if std::env::var_os(INSIDE).is_some() {
            let (stop, stopped) = std::sync::mpsc::channel::<()>();
            let other = std::thread::spawn(move || stopped.recv());
            wipe_environment(&["WEIR_TEST_SECRET"]);
            drop(stop);
            let _ = other.join().unwrap();
            assert_eq!(std::env::var("WEIR_TEST_SECRET").unwrap(), "hunter2");
            return;
        }
        let mut inside = Command::new(std::env::current_exe().unwrap());
        inside.args([name, "--exact"]).env(INSIDE, "1").env("WEIR_TEST_SECRET", "hunter2");
        assert!(inside.status().unwrap().success());
    }
}
