//! Old kernels and narrow containers: programs for which some system calls fail.
#![allow(unsafe_code)] // `pre_exec`

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Calls that came after Linux 4.9 (JetPack 4), and that this program or its libraries know.
pub const NEWER_THAN_4_9: &[i64] = &[
    libc::SYS_statx,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_clone3,
    libc::SYS_close_range,
    libc::SYS_openat2,
    libc::SYS_faccessat2,
    libc::SYS_epoll_pwait2,
    libc::SYS_landlock_create_ruleset,
    libc::SYS_landlock_add_rule,
    libc::SYS_landlock_restrict_self,
    libc::SYS_rseq,
    libc::SYS_io_uring_setup,
];

/// These calls fail with that error number in what `command` starts, and in its children.
pub fn deny(command: &mut Command, calls: &[i64], errno: i32) {
    install(command, program(calls.iter().map(|call| (*call, Vec::new())).collect(), errno));
}

/// No process can be started any more, only threads.
pub fn deny_processes(command: &mut Command) {
    let without = |flag: i32| {
        let mask = SeccompCmpOp::MaskedEq(flag as u64);
        SeccompRule::new(vec![SeccompCondition::new(0, SeccompCmpArgLen::Dword, mask, 0).unwrap()]).unwrap()
    };
    install(command, program([(libc::SYS_clone, vec![without(libc::CLONE_THREAD)])].into(), libc::EAGAIN));
    deny(command, &[libc::SYS_clone3], libc::ENOSYS);
    #[cfg(target_arch = "x86_64")]
    deny(command, &[libc::SYS_fork, libc::SYS_vfork], libc::EAGAIN);
}

fn program(rules: std::collections::BTreeMap<i64, Vec<SeccompRule>>, errno: i32) -> BpfProgram {
    let matched = SeccompAction::Errno(errno.cast_unsigned());
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    SeccompFilter::new(rules, SeccompAction::Allow, matched, architecture).unwrap().try_into().unwrap()
}

fn install(command: &mut Command, program: BpfProgram) {
    let apply = move || apply_filter(&program).map_err(|_| std::io::Error::last_os_error());
    // SAFETY: between fork and exec this makes two system calls and allocates nothing.
    unsafe { command.pre_exec(apply) };
}
