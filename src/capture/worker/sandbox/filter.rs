//! The worker's system-call filter, installed once its source is open.
//!
//! Two lists, because two mistakes are possible. What no decoder ever needs and every intruder does (running a program,
//! looking into another process, loading a module) kills the worker. What nobody foresaw (a call that a new libc makes)
//! fails with EPERM, which code meets every day: a filter that is a little too narrow must not cost a camera.

use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter_all_threads,
};
use std::collections::BTreeMap;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// What the source of a worker needs beyond decoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// Only what is open already.
    Nothing,
    /// New connections: HTTP sources make one per picture, and resolve names for it.
    Connections,
}

/// Calls that end the worker.
const FATAL: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_kexec_load,
    libc::SYS_bpf,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_reboot,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_memfd_create,
];

/// Calls that are allowed whatever their arguments: memory, waiting, time, threads, and what is open already.
const FREE: &[i64] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_fcntl,
    libc::SYS_fadvise64,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getrusage,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getrlimit,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_membarrier,
    libc::SYS_rseq,
    // Answered with ENOSYS by a filter of its own (`threads`): libc then uses `clone`, whose flags can be checked.
    libc::SYS_clone3,
    libc::SYS_ppoll,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_create1,
    libc::SYS_eventfd2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_shutdown,
];

/// Older forms of the same, which some architectures still have.
#[cfg(target_arch = "x86_64")]
const FREE_HERE: &[i64] =
    &[libc::SYS_poll, libc::SYS_epoll_wait, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_readlink];
#[cfg(not(target_arch = "x86_64"))]
const FREE_HERE: &[i64] = &[];

/// For [`Needs::Connections`].
const CONNECTIONS: &[i64] = &[libc::SYS_connect, libc::SYS_bind, libc::SYS_sendmmsg, libc::SYS_recvmmsg];

/// Installs the filter for all threads of this process. Irrevocable.
pub(super) fn install(needs: Needs) -> Result<(), Error> {
    let fatal = FATAL.iter().map(|call| (*call, Vec::new())).collect();
    let programs = [
        compile(fatal, SeccompAction::Allow, SeccompAction::KillProcess)?,
        compile(threads(), SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS.cast_unsigned()))?,
        // Last: it forbids installing another.
        compile(allowed(needs)?, SeccompAction::Errno(libc::EPERM.cast_unsigned()), SeccompAction::Allow)?,
    ];
    programs.iter().try_for_each(|program| apply_filter_all_threads(program))
}

fn compile(rules: Rules, otherwise: SeccompAction, matched: SeccompAction) -> Result<BpfProgram, Error> {
    let architecture = std::env::consts::ARCH.try_into().map_err(Error::Backend)?;
    let filter = SeccompFilter::new(rules, otherwise, matched, architecture).map_err(Error::Backend)?;
    filter.try_into().map_err(Error::Backend)
}

fn threads() -> Rules {
    Rules::from([(libc::SYS_clone3, Vec::new())])
}

fn allowed(needs: Needs) -> Result<Rules, Error> {
    let mut rules: Rules = FREE.iter().chain(FREE_HERE).map(|call| (*call, Vec::new())).collect();
    // Files: to read only. The time zone is looked at again every few minutes, and a panic reads the executable.
    let write = flags(libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC);
    rules.insert(libc::SYS_openat, vec![rule(&[(2, masked(write), 0)])?]);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_open, vec![rule(&[(1, masked(write), 0)])?]);
    // Memory: never executable.
    let no_code = || rule(&[(2, masked(flags(libc::PROT_EXEC)), 0)]);
    rules.insert(libc::SYS_mmap, vec![no_code()?]);
    rules.insert(libc::SYS_mprotect, vec![no_code()?]);
    // Threads, not processes.
    let thread = flags(libc::CLONE_THREAD);
    rules.insert(libc::SYS_clone, vec![rule(&[(0, masked(thread), thread)])?]);
    // Signals to itself: abort.
    let own = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![rule(&[(0, SeccompCmpOp::Eq, own)])?]);
    // Limits can be read.
    rules.insert(libc::SYS_prlimit64, vec![rule(&[(2, SeccompCmpOp::Eq, 0)])?]);
    // Names of threads.
    rules.insert(libc::SYS_prctl, vec![rule(&[(0, SeccompCmpOp::Eq, flags(libc::PR_SET_NAME))])?]);
    // Devices: V4L2 (type 'V'), and what sockets and terminals are asked.
    let mut requests = vec![rule(&[(1, masked(0xff00), u64::from(b'V') << 8)])?];
    #[allow(clippy::unnecessary_cast)] // `Ioctl` is a c_int on musl
    for request in [libc::FIONBIO, libc::FIOCLEX, libc::FIONREAD, libc::TCGETS] {
        requests.push(rule(&[(1, SeccompCmpOp::Eq, request as u64)])?);
    }
    rules.insert(libc::SYS_ioctl, requests);
    if needs == Needs::Connections {
        rules.extend(CONNECTIONS.iter().map(|call| (*call, Vec::new())));
        let family = |family| rule(&[(0, SeccompCmpOp::Eq, flags(family))]);
        let families = [libc::AF_INET, libc::AF_INET6, libc::AF_UNIX, libc::AF_NETLINK].map(family);
        rules.insert(libc::SYS_socket, families.into_iter().collect::<Result<_, _>>()?);
    }
    Ok(rules)
}

/// All of these conditions: argument number, comparison, value.
fn rule(conditions: &[(u8, SeccompCmpOp, u64)]) -> Result<SeccompRule, Error> {
    let condition = |(argument, comparison, value): &(u8, SeccompCmpOp, u64)| {
        // The kernel itself looks at the lower half of these arguments only.
        SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, comparison.clone(), *value)
    };
    let conditions = conditions.iter().map(condition).collect::<Result<_, _>>().map_err(Error::Backend)?;
    SeccompRule::new(conditions).map_err(Error::Backend)
}

fn masked(mask: u64) -> SeccompCmpOp {
    SeccompCmpOp::MaskedEq(mask)
}

fn flags(flags: i32) -> u64 {
    u64::from(flags.cast_unsigned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::Command;

    /// Tells the test, started again as a process of its own, that it is that process: a filter is for ever.
    const INSIDE: &str = "WEIR_TEST_INSIDE_FILTER";

    #[test]
    fn a_worker_that_runs_a_program_is_killed_and_one_that_opens_a_socket_is_refused() {
        let name = "capture::worker::sandbox::filter::tests::a_worker_that_runs_a_program_is_killed_and_one_that_opens_a_socket_is_refused";
        if std::env::var_os(INSIDE).is_some() {
            install(Needs::Nothing).unwrap();
            assert!(std::net::UdpSocket::bind("127.0.0.1:0").is_err());
            assert!(std::fs::read("/proc/self/statm").is_ok());
            assert!(std::fs::write(std::env::temp_dir().join("weir-test-filter"), "x").is_err());
            // Does not return: this process becomes another program, or is killed for trying.
            let _ = Command::new("/bin/true").exec();
            std::process::exit(0);
        }
        let test = std::env::current_exe().unwrap();
        let inside = Command::new(test).args([name, "--exact", "--nocapture"]).env(INSIDE, "1").output().unwrap();
        assert_eq!(inside.status.signal(), Some(libc::SIGSYS), "{inside:?}");
    }
}
