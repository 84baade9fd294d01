//! The system-call filter of a child (seccomp, Linux 3.17 and newer). `docs/confinement.md` has the same
//! lists with the reason for each entry, and `tests/process/confinement.rs` compares both with what live
//! children can do.
//!
//! Two answers, because two mistakes are possible. What no child ever needs and every intruder does (running
//! a program, looking into another process, loading a module) kills it. What nobody foresaw (a call that a
//! new libc makes) fails with EPERM, which code meets every day: a filter that is a little too narrow must
//! not cost a camera.

use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter_all_threads,
};
use std::collections::BTreeMap;

/// Calls that end the child.
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

/// Calls that every child may make whatever their arguments: memory, waiting, time, threads, and what is open
/// already.
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
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_membarrier,
    libc::SYS_rseq,
    // Answered with ENOSYS by a filter of its own: libc then uses `clone`, whose flags can be checked.
    libc::SYS_clone3,
    libc::SYS_ppoll,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_create1,
    libc::SYS_eventfd2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
];

/// Older forms of the same, which some architectures still have.
#[cfg(target_arch = "x86_64")]
const FREE_HERE: &[i64] = &[libc::SYS_poll, libc::SYS_epoll_wait];
#[cfg(not(target_arch = "x86_64"))]
const FREE_HERE: &[i64] = &[];

/// A claim about one argument of a call, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Its lower half, which is all that the kernel looks at where it takes an `int`, is this.
    Is(u8, i32),
    /// None of these bits is set in its lower half.
    Without(u8, i32),
    /// All of these bits are set in its lower half.
    With(u8, i32),
    /// A bit pattern under a mask in its lower half.
    Masked(u8, i32, i32),
    /// A pointer that is none.
    Null(u8),
}

impl When {
    fn condition(self) -> Result<SeccompCondition, Error> {
        let bits = |bits: i32| u64::from(bits.cast_unsigned());
        let (argument, length, comparison, value) = match self {
            When::Is(argument, value) => (argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, bits(value)),
            When::Without(argument, mask) => {
                (argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(bits(mask)), 0)
            }
            When::With(argument, mask) => {
                (argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(bits(mask)), bits(mask))
            }
            When::Masked(argument, mask, value) => {
                (argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(bits(mask)), bits(value))
            }
            // All 64 bits: an address may well have a lower half of 0.
            When::Null(argument) => (argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0),
        };
        SeccompCondition::new(argument, length, comparison, value).map_err(Error::Backend)
    }
}

/// What a child may do in one stage of its life. A later stage can only be narrower: filters add up.
#[derive(Debug, Clone)]
pub struct Filter {
    /// By call: it is allowed when all claims of one of the lists hold; without any list, always.
    calls: BTreeMap<i64, Vec<Vec<When>>>,
}

impl Filter {
    /// Computing with what is open already: the part that all children have in common.
    pub fn computing() -> Filter {
        let mut filter = Filter { calls: BTreeMap::new() };
        for call in FREE.iter().chain(FREE_HERE) {
            filter.calls.insert(*call, Vec::new());
        }
        let own = std::process::id().cast_signed();
        filter
            // Memory: never executable.
            .allow(libc::SYS_mmap, &[When::Without(2, libc::PROT_EXEC)])
            .allow(libc::SYS_mprotect, &[When::Without(2, libc::PROT_EXEC)])
            // Threads, not processes.
            .allow(libc::SYS_clone, &[When::With(0, libc::CLONE_THREAD)])
            // Signals to itself: abort.
            .allow(libc::SYS_tgkill, &[When::Is(0, own)])
            // Its own limits can be read.
            .allow(libc::SYS_prlimit64, &[When::Is(0, 0), When::Null(2)])
            // Names of threads.
            .allow(libc::SYS_prctl, &[When::Is(0, libc::PR_SET_NAME)])
            // What is open: flags and copies. Not its owner or signal (F_SETOWN, F_SETSIG, O_ASYNC): by these
            // a descriptor that is shared would kill whoever writes to it next. No leases, locks or seals
            // either.
            .allow(libc::SYS_fcntl, &[When::Is(1, libc::F_DUPFD)])
            .allow(libc::SYS_fcntl, &[When::Is(1, libc::F_DUPFD_CLOEXEC)])
            .allow(libc::SYS_fcntl, &[When::Is(1, libc::F_GETFD)])
            .allow(libc::SYS_fcntl, &[When::Is(1, libc::F_SETFD)])
            .allow(libc::SYS_fcntl, &[When::Is(1, libc::F_GETFL)])
            .allow(libc::SYS_fcntl, &[When::Is(1, libc::F_SETFL), When::Without(2, libc::O_ASYNC)])
            .allow(libc::SYS_fcntl, &[When::Is(1, libc::F_GET_SEALS)])
            .ioctl(&[libc::FIONBIO, libc::FIOCLEX, libc::FIONREAD])
            // Facts about what is open; with a path they tell that of a file, never what is in it.
            .allow(libc::SYS_statx, &[When::With(2, libc::AT_EMPTY_PATH)])
            .allow(libc::SYS_newfstatat, &[When::With(3, libc::AT_EMPTY_PATH)])
            // To the other end of a socket that has one. An address, or control data, is never given.
            .allow(libc::SYS_sendto, &[When::Null(4)])
    }

    /// Also this call, when all claims hold. Several lists for one call: any of them.
    pub fn allow(mut self, call: i64, claims: &[When]) -> Filter {
        self.calls.entry(call).or_default().push(claims.to_vec());
        self
    }

    /// Also these requests to descriptors.
    #[allow(clippy::unnecessary_cast)] // `Ioctl` is a c_int on musl
    pub fn ioctl(self, requests: &[libc::Ioctl]) -> Filter {
        requests
            .iter()
            .fold(self, |filter, request| filter.allow(libc::SYS_ioctl, &[When::Is(1, *request as i32)]))
    }

    /// Also files: to read only. Which ones, [`super::files`] says.
    pub fn reading_files(self) -> Filter {
        self.opening(libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC)
    }

    /// Also files and devices, to read and write, without making any. Which ones, [`super::files`] says.
    pub fn opening_devices(self) -> Filter {
        self.opening(libc::O_CREAT | libc::O_TRUNC)
    }

    fn opening(self, never: i32) -> Filter {
        #[cfg(target_arch = "x86_64")]
        let this = self.allow(libc::SYS_open, &[When::Without(1, never)]);
        #[cfg(not(target_arch = "x86_64"))]
        let this = self;
        this.allow(libc::SYS_openat, &[When::Without(2, never)])
    }

    /// Also a further, narrower filter: for the stage before the last.
    pub fn narrowing(self) -> Filter {
        self.allow(libc::SYS_seccomp, &[]).allow(libc::SYS_prctl, &[When::Is(0, libc::PR_SET_NO_NEW_PRIVS)])
    }

    /// Installs it for all threads of this process. Irrevocable.
    pub fn install(&self) -> Result<(), Error> {
        let always = |calls: &[i64]| calls.iter().map(|call| (*call, Vec::new())).collect();
        let mut allowed = BTreeMap::new();
        for (call, lists) in &self.calls {
            let rule = |claims: &Vec<When>| {
                let conditions = claims.iter().map(|claim| claim.condition()).collect::<Result<_, _>>()?;
                SeccompRule::new(conditions).map_err(Error::Backend)
            };
            // A list without claims always holds.
            let rules = if lists.iter().any(Vec::is_empty) {
                Vec::new()
            } else {
                lists.iter().map(rule).collect::<Result<_, _>>()?
            };
            allowed.insert(*call, rules);
        }
        let programs = [
            compile(always(FATAL), SeccompAction::Allow, SeccompAction::KillProcess)?,
            compile(
                always(&[libc::SYS_clone3]),
                SeccompAction::Allow,
                SeccompAction::Errno(libc::ENOSYS.cast_unsigned()),
            )?,
            // Last: it may forbid installing another.
            compile(allowed, SeccompAction::Errno(libc::EPERM.cast_unsigned()), SeccompAction::Allow)?,
        ];
        programs.iter().try_for_each(|program| apply_filter_all_threads(program))
    }
}

fn compile(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, Error> {
    let architecture = std::env::consts::ARCH.try_into().map_err(Error::Backend)?;
    let filter = SeccompFilter::new(rules, otherwise, matched, architecture).map_err(Error::Backend)?;
    filter.try_into().map_err(Error::Backend)
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
    fn what_is_not_allowed_is_refused_and_what_only_intruders_do_kills() {
        let name = "sandbox::filter::tests::what_is_not_allowed_is_refused_and_what_only_intruders_do_kills";
        if std::env::var_os(INSIDE).is_some() {
            let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
            Filter::computing().reading_files().narrowing().install().unwrap();
            assert!(std::net::UdpSocket::bind("127.0.0.1:0").is_err());
            assert!(std::fs::read("/proc/self/statm").is_ok());
            assert!(std::fs::write(std::env::temp_dir().join("weir-test-filter"), "x").is_err());
            assert!(rustix::fs::fcntl_setfl(&socket, rustix::fs::OFlags::NONBLOCK).is_ok());
            assert!(
                rustix::fs::fcntl_setfl(&socket, rustix::fs::OFlags::from_bits_retain(libc::O_ASYNC as u32))
                    .is_err()
            );
            let init = rustix::process::Pid::from_raw(1).unwrap();
            assert_eq!(rustix::process::test_kill_process(init), Err(rustix::io::Errno::PERM));
            assert!(std::thread::spawn(|| ()).join().is_ok());
            // The second stage takes away, and gives nothing back.
            Filter::computing().allow(libc::SYS_socket, &[]).install().unwrap();
            assert!(std::fs::read("/proc/self/statm").is_err());
            assert!(std::net::UdpSocket::bind("127.0.0.1:0").is_err());
            // Does not return: this process becomes another program, or is killed for trying.
            let _ = Command::new("/bin/true").exec();
            std::process::exit(0);
        }
        let test = std::env::current_exe().unwrap();
        let inside =
            Command::new(test).args([name, "--exact", "--nocapture"]).env(INSIDE, "1").output().unwrap();
        assert_eq!(inside.status.signal(), Some(libc::SIGSYS), "{inside:?}");
    }

    #[test]
    fn a_pointer_whose_lower_half_is_zero_is_a_pointer() {
        let rule = SeccompRule::new(vec![When::Null(2).condition().unwrap()]).unwrap();
        let dword = SeccompCondition::new(2, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, 0).unwrap();
        assert_ne!(rule, SeccompRule::new(vec![dword]).unwrap());
    }
}
