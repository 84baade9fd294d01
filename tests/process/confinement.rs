//! What a worker that was taken over can do (docs/confinement.md), and what weir does where a kernel or a
//! container has less.

use crate::support::rogue::{self, Server};
use crate::support::script::{Camera as Scripted, Script};
use crate::support::{Folder, Weir, clip, deny, request, udp, wait_for};
use std::io::Write as _;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Neither root nor a user of this machine.
const NOBODY: u32 = 61_234;

/// A secret that the service is given.
const KEY: &str = "key-of-the-confinement-test-0002";

fn can_be_root() -> bool {
    let can = rustix::process::geteuid().is_root();
    if !can {
        println!("only root can start a service as another user");
    }
    can
}

/// The binary where every user can run it.
struct Everywhere(Folder);

impl Everywhere {
    fn new() -> Everywhere {
        let folder = Folder::new();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::copy(env!("CARGO_BIN_EXE_weir"), folder.path().join("weir")).unwrap();
        for name in ["long.mp4", "clips/colour.jpg"] {
            let file = folder.path().join(Path::new(name).file_name().unwrap());
            std::fs::copy(clip(name), &file).unwrap();
            std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644)).unwrap();
        }
        Everywhere(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A service of somebody who is not root, with secrets in its environment.
    fn service(&self) -> Weir {
        let state = self.path("state");
        let _ = std::fs::create_dir(&state);
        chown(&state, Some(NOBODY), Some(NOBODY)).unwrap();
        std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o700)).unwrap();
        Weir::start_with(|command| {
            let mut other = Command::new(self.path("weir"));
            for (name, value) in command.get_envs() {
                match value {
                    Some(value) => other.env(name, value),
                    None => other.env_remove(name),
                };
            }
            other.args(command.get_args()).stdin(Stdio::null());
            other.env("API_KEY", KEY).env("ROBOFLOW_API_KEY", KEY).env("STATE_DIRECTORY", &state);
            other.env("ROBOFLOW_API_EXTRA_HEADERS", format!("{{\"X-Secret\": \"{KEY}\"}}"));
            other.uid(NOBODY).gid(NOBODY);
            *command = other;
        })
    }
}

/// A camera that gives the same still picture over and over, over connections of their own.
fn snapshots(picture: PathBuf) -> Server {
    let picture = std::fs::read(picture).unwrap();
    Server::start(move |connection, _| {
        rogue::request(connection)?;
        let length = picture.len();
        write!(
            connection,
            "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        )?;
        connection.write_all(&picture)?;
        connection.shutdown(Shutdown::Both)
    })
}

/// Starts a pipeline that gives frames, and says which worker is its own.
fn play(weir: &Weir, reference: &str, extra: &str) -> (String, udp::Receiver, u32) {
    let before = weir.workers();
    let sink = udp::Receiver::new();
    let id = weir.init(&request::init(&weir.toy(), &request::quoted(reference), sink.port(), extra));
    sink.next();
    let worker = weir.workers().into_iter().find(|pid| !before.contains(pid)).expect("a new worker");
    (id, sink, worker)
}

/// Runs the binary to its end, which must come by itself.
fn run(change: impl FnOnce(&mut Command)) -> Output {
    let cache = Folder::new();
    let mut command = crate::support::weir::command(cache.path());
    change(&mut command);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the end of the program", || child.try_wait().unwrap());
    child.wait_with_output().unwrap()
}

#[test]
fn secrets_are_neither_in_the_environment_nor_in_reach_of_the_services_own_user() {
    if !can_be_root() {
        return;
    }
    let everywhere = Everywhere::new();
    let weir = everywhere.service();
    let environment = std::fs::read(format!("/proc/{}/environ", weir.pid())).unwrap();
    let environment = String::from_utf8_lossy(&environment);
    assert!(
        environment.contains("ROBOFLOW_API_KEY=") && environment.contains("MODEL_CACHE_DIR=/"),
        "{environment}"
    );
    assert!(!environment.contains(KEY), "{environment}");
    for file in ["environ", "mem", "fd/0", "maps"] {
        let path = format!("/proc/{}/{file}", weir.pid());
        let seen =
            Command::new("/usr/bin/head").args(["-c", "1", &path]).uid(NOBODY).gid(NOBODY).output().unwrap();
        assert!(!seen.status.success(), "{path} can be read");
    }
}

/// A port of this machine that nobody must come to.
struct Forbidden(TcpListener);

impl Forbidden {
    fn at(host: &str) -> Forbidden {
        let listener = TcpListener::bind((host, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        Forbidden(listener)
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }
}

impl Drop for Forbidden {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.0.accept().is_err(), "somebody came");
        }
    }
}

#[test]
fn redirects_obey_the_list_and_never_lead_into_this_machine() {
    // Another address of the loopback interface than the references name.
    let internal = Forbidden::at("127.0.0.2");
    let open = Weir::start();
    let limited = Weir::configured("[sources]\nhosts = [\"127.0.0.0/8\"]\n");
    for (weir, target, words) in [
        (&open, internal.address().to_string(), "127.0.0.2 is a loopback address"),
        (&open, "169.254.169.254".to_owned(), "169.254.169.254 is a link-local address"),
        (&open, open.http.to_string(), "is a port of weir itself"),
        (&open, open.tcp.to_string(), "is a port of weir itself"),
        (&limited, "192.0.2.1".to_owned(), "192.0.2.1 is not among the hosts of sources.hosts"),
    ] {
        for scheme in ["rtsp", "http"] {
            let location = format!("{scheme}://{target}/video");
            let camera = Server::start(move |connection, _| {
                let asked = rogue::request(connection)?;
                let (protocol, number) =
                    if scheme == "rtsp" { ("RTSP/1.0", asked.cseq()) } else { ("HTTP/1.1", "0") };
                write!(
                    connection,
                    "{protocol} 302 Moved\r\nCSeq: {number}\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
                )
            });
            let sink = udp::Receiver::new();
            let reference = request::quoted(&format!("{scheme}://127.0.0.1:{}/video", camera.port));
            let id = weir.init(&request::init(&weir.toy(), &reference, sink.port(), ""));
            wait_for(words, || weir.report(&id).to_string().contains(words).then_some(()));
            assert_eq!(weir.order("terminate", &id).get("status").text(), Some("success"));
        }
    }
}

#[test]
fn folders_that_others_can_write_to_are_refused_with_what_to_do() {
    let folder = Folder::new();
    let open = folder.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    for (variable, key) in [
        ("MODEL_CACHE_DIR", "models.cache_dir"),
        ("STATE_DIRECTORY", "service.state_dir"),
        ("TENSORRT_CACHE_PATH", "tensorrt.cache_dir"),
    ] {
        let ended = run(|command| {
            command.arg("serve").env(variable, open.join("below"));
        });
        let words = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(78), "{words}");
        assert!(
            words.contains(key)
                && words.contains("can be written to by everybody")
                && words.contains("chmod"),
            "{words}"
        );
        assert!(!open.join("below").exists());
    }
}

#[test]
fn a_kernel_of_jetpack_4_plays_cameras_and_files() {
    let camera = Scripted::start(Script::of("clips/baseline.mp4"));
    let weir = Weir::start_with(|command| deny::deny(command, deny::NEWER_THAN_4_9, libc::ENOSYS));
    let (stream, _sink, worker) = play(&weir, &camera.url(), "");
    let (file, _sink, _) = play(&weir, &format!("file://{}", clip("long.mp4")), "");
    assert_eq!(weir.get("/readyz").status, 200);
    for missing in ["pidfd", "Landlock"] {
        assert!(weir.log().contains(missing), "{}", weir.log());
    }
    // One that dies is noticed and replaced, and one that is told to go goes.
    crate::support::weir::signal(worker, rustix::process::Signal::KILL);
    wait_for("another worker", || weir.workers().into_iter().all(|pid| pid != worker).then_some(()));
    weir.wait_state(&stream, "RUNNING");
    for pipeline in [stream, file] {
        assert_eq!(weir.order("terminate", &pipeline).get("status").text(), Some("success"));
    }
    wait_for("no worker to be left", || weir.workers().is_empty().then_some(()));
}

#[test]
fn a_container_that_denies_pidfds_costs_nothing() {
    let weir = Weir::start_with(|command| deny::deny(command, &[libc::SYS_pidfd_open], libc::EPERM));
    play(&weir, &format!("file://{}", clip("long.mp4")), "");
}

#[test]
fn what_weir_cannot_do_without_is_named_and_ends_the_start() {
    for (call, words) in [(libc::SYS_memfd_create, "memfd_create"), (libc::SYS_socketpair, "SOCK_SEQPACKET")]
    {
        let ended = run(|command| {
            command.arg("serve");
            deny::deny(command, &[call], libc::ENOSYS);
        });
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(70), "{said}");
        assert!(said.contains(words), "{said}");
        let report = run(|command| {
            command.arg("check").env("WEIR_OFFLINE", "1");
            deny::deny(command, &[call], libc::ENOSYS);
        });
        let report = String::from_utf8_lossy(&report.stdout).into_owned();
        assert!(report.lines().any(|line| line.contains(words) && line.contains("NO (")), "{report}");
    }
}

#[test]
fn it_is_not_ready_where_no_worker_can_be_started() {
    let weir = Weir::start_with(deny::deny_processes);
    let answer = wait_for("the trial", || Some(weir.get("/readyz")).filter(|answer| answer.status != 200));
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("cannot start"), "{}", answer.body);
    assert_eq!(weir.get("/healthz").status, 200);
}

#[cfg(target_arch = "x86_64")]
mod injected {
    use super::*;
    use crate::support::PATIENCE;
    use crate::support::inject::{Outcome, Stopped, can};
    use libc::{c_long, *};
    use std::collections::BTreeSet;
    use std::time::{Duration, Instant};

    /// The kinds of workers, and which names the documentation has for them.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Kind {
        File,
        Network,
        Device,
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Stage {
        Opening,
        Open,
    }

    /// Highest number of a system call that is tried: some more than Linux has.
    const HIGHEST: c_long = 480;

    /// Tried by themselves, or not at all: they end the worker, or would.
    const FATAL: [c_long; 23] = [
        SYS_execve,
        SYS_execveat,
        SYS_ptrace,
        SYS_process_vm_readv,
        SYS_process_vm_writev,
        SYS_init_module,
        SYS_finit_module,
        SYS_kexec_load,
        SYS_bpf,
        SYS_mount,
        SYS_umount2,
        SYS_pivot_root,
        SYS_chroot,
        SYS_setns,
        SYS_unshare,
        SYS_userfaultfd,
        SYS_perf_event_open,
        SYS_add_key,
        SYS_keyctl,
        SYS_reboot,
        SYS_setuid,
        SYS_setgid,
        SYS_memfd_create,
    ];
    const ENDS: [c_long; 3] = [SYS_exit, SYS_exit_group, SYS_rt_sigreturn];

    /// `uretprobe` and `uprobe`: newer kernels let them past every filter. They only return from the kernel's
    /// own trampolines.
    const OF_THE_KERNEL: [c_long; 2] = [335, 336];

    /// Their arguments decide: [`cases`] has some of each.
    const BY_ARGUMENTS: [c_long; 15] = [
        SYS_mmap,
        SYS_mprotect,
        SYS_clone,
        SYS_clone3,
        SYS_tgkill,
        SYS_prlimit64,
        SYS_prctl,
        SYS_fcntl,
        SYS_ioctl,
        SYS_sendto,
        SYS_statx,
        SYS_newfstatat,
        SYS_openat,
        SYS_open,
        SYS_setsockopt,
    ];

    macro_rules! numbers {
        ($($name:ident)*) => { &[$((stringify!($name), $name)),*] };
    }

    /// The names that the table of the documentation uses.
    const NAMES: &[(&str, c_long)] = numbers! {
        SYS_read SYS_readv SYS_pread64 SYS_preadv SYS_write SYS_writev SYS_lseek SYS_close SYS_fstat SYS_fadvise64 SYS_munmap
        SYS_mremap SYS_madvise SYS_brk SYS_futex SYS_set_robust_list SYS_set_tid_address SYS_membarrier SYS_rseq SYS_sched_yield
        SYS_sched_getaffinity SYS_clock_gettime SYS_clock_getres SYS_clock_nanosleep SYS_nanosleep SYS_gettimeofday
        SYS_restart_syscall SYS_getpid SYS_getppid SYS_gettid SYS_getuid SYS_geteuid SYS_getgid SYS_getegid SYS_getrusage
        SYS_getrlimit SYS_uname SYS_sysinfo SYS_getrandom SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigreturn SYS_sigaltstack
        SYS_exit SYS_exit_group SYS_ppoll SYS_poll SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_wait SYS_epoll_create1 SYS_eventfd2
        SYS_timerfd_create SYS_timerfd_settime SYS_recvfrom SYS_recvmsg SYS_getsockopt SYS_getsockname SYS_getpeername
        SYS_shutdown SYS_seccomp
    };

    /// What docs/confinement.md allows whatever the arguments.
    fn documented(kind: Kind, stage: Stage) -> BTreeSet<c_long> {
        let page = std::fs::read_to_string(crate::support::root().join("docs/confinement.md")).unwrap();
        let table = page
            .split("Whatever their arguments:")
            .nth(1)
            .unwrap()
            .split("By their arguments:")
            .next()
            .unwrap();
        let mut allowed = BTreeSet::new();
        for row in table.lines().filter(|line| line.starts_with("| `")) {
            let [calls, stages] = [1, 2].map(|column| row.split('|').nth(column).unwrap().trim());
            let applies = match stages {
                "all" => true,
                "RTSP, HTTP" => kind == Kind::Network,
                "opening a file or device" => stage == Stage::Opening && kind != Kind::Network,
                other => panic!("which stages are {other}?"),
            };
            for call in calls.split('`').filter(|word| !word.trim().is_empty()) {
                let name = format!("SYS_{call}");
                let (_, number) =
                    NAMES.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("{call}?"));
                if applies {
                    allowed.insert(*number);
                }
            }
        }
        allowed
    }

    /// Every call there is, with arguments that do no harm where it is allowed: those that the kernel looks
    /// at.
    fn allowed(worker: &mut Stopped) -> BTreeSet<c_long> {
        let mut allowed = BTreeSet::from(ENDS);
        let untried =
            |number: &c_long| [&FATAL[..], &ENDS, &OF_THE_KERNEL].iter().any(|list| list.contains(number));
        for number in (0..=HIGHEST).filter(|number| !untried(number)) {
            match worker.call(number, [-1; 6]) {
                Outcome::Returned(value) if value == i64::from(-EPERM) => {}
                Outcome::Returned(_) => {
                    allowed.insert(number);
                }
                Outcome::Killed(signal) => panic!("call {number} killed the worker with signal {signal}"),
            }
        }
        BY_ARGUMENTS.iter().for_each(|number| {
            allowed.remove(number);
        });
        allowed
    }

    /// A socket address of this machine, as `connect` takes it.
    fn local(port: u16) -> [u8; 16] {
        let [high, low] = port.to_be_bytes();
        [AF_INET as u8, 0, high, low, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    }

    /// What no worker may do in any stage; each is tried and must be refused.
    fn refusals(worker: &mut Stopped, service: u32, pid: u32, port: u16) {
        let service = i64::from(service);
        let plain = |number: c_long, arguments: &[i64]| {
            let mut all = [0; 6];
            all[..arguments.len()].copy_from_slice(arguments);
            (number, all)
        };
        let int = i64::from;
        for (number, arguments) in [
            plain(SYS_kill, &[service, 0]),
            plain(SYS_kill, &[-1, int(SIGKILL)]),
            plain(SYS_tkill, &[service, 0]),
            plain(SYS_tgkill, &[service, service, 0]),
            plain(SYS_rt_sigqueueinfo, &[service, int(SIGKILL), 0]),
            plain(SYS_pidfd_open, &[service, 0]),
            plain(SYS_fork, &[]),
            plain(SYS_vfork, &[]),
            plain(SYS_clone, &[int(SIGCHLD)]),
            plain(SYS_clone, &[int(CLONE_VM | CLONE_VFORK | SIGCHLD)]),
            plain(SYS_socket, &[int(AF_INET), int(SOCK_STREAM), 0]),
            plain(SYS_socket, &[int(AF_INET), int(SOCK_DGRAM), 0]),
            plain(SYS_socket, &[int(AF_INET6), int(SOCK_STREAM), 0]),
            plain(SYS_socket, &[int(AF_UNIX), int(SOCK_STREAM), 0]),
            plain(SYS_socket, &[int(AF_NETLINK), int(SOCK_RAW), 0]),
            plain(SYS_socket, &[int(AF_PACKET), int(SOCK_RAW), 0]),
            plain(SYS_socketpair, &[int(AF_UNIX), int(SOCK_STREAM), 0, -1]),
            plain(
                SYS_mmap,
                &[0, 4096, int(PROT_READ | PROT_WRITE | PROT_EXEC), int(MAP_PRIVATE | MAP_ANONYMOUS), -1, 0],
            ),
            plain(SYS_mprotect, &[worker.scratch.cast_signed(), 4096, int(PROT_READ | PROT_EXEC)]),
            plain(SYS_pkey_mprotect, &[worker.scratch.cast_signed(), 4096, int(PROT_READ | PROT_EXEC), -1]),
            plain(SYS_shmget, &[0, 4096, 0]),
            plain(SYS_io_uring_setup, &[1, worker.scratch.cast_signed()]),
            plain(SYS_prlimit64, &[service, int(RLIMIT_NOFILE as i32), 0, worker.scratch.cast_signed()]),
            // A pointer whose lower half is zero.
            plain(SYS_prlimit64, &[0, int(RLIMIT_NOFILE as i32), 1 << 32, 0]),
            plain(SYS_sendto, &[0, worker.scratch.cast_signed(), 1, 0, 1 << 32, 16]),
            plain(SYS_sendmsg, &[0, worker.scratch.cast_signed(), 0]),
            plain(SYS_prctl, &[int(PR_SET_DUMPABLE), 1]),
            plain(SYS_prctl, &[int(PR_SET_PDEATHSIG), 0]),
            plain(SYS_sched_setaffinity, &[0, 8, worker.scratch.cast_signed()]),
            plain(SYS_setpriority, &[0, 0, -10]),
            plain(SYS_ftruncate, &[1, 0]),
            plain(SYS_getdents64, &[0, worker.scratch.cast_signed(), 4096]),
            plain(SYS_ioctl, &[2, int(TIOCSTI as i32), worker.scratch.cast_signed()]),
            plain(SYS_ioctl, &[2, int(TCSETS as i32), worker.scratch.cast_signed()]),
            plain(SYS_ioctl, &[0, 0x5452, worker.scratch.cast_signed()]), // FIOASYNC
            plain(SYS_ioctl, &[0, 0x8901, worker.scratch.cast_signed()]), // FIOSETOWN
            plain(SYS_connect, &[0, worker.scratch.cast_signed(), 16]),
            plain(SYS_bind, &[0, worker.scratch.cast_signed(), 16]),
            plain(SYS_listen, &[0, 1]),
            plain(SYS_accept4, &[0, 0, 0, 0]),
        ] {
            let outcome = worker.call(number, arguments);
            assert!(outcome.is_refused(), "call {number} {arguments:?}: {outcome:?}");
        }
        // Whatever it has open: no owner, no signal, no lock, no seal. (A descriptor that is none is refused
        // by the filter too.)
        for descriptor in 0..24 {
            for (command, argument) in [
                (F_SETOWN, service),
                (10, int(SIGKILL)), // F_SETSIG
                (F_SETFL, int(O_ASYNC)),
                (F_SETLK, worker.scratch.cast_signed()),
                (F_SETLEASE, int(F_RDLCK)),
                (F_ADD_SEALS, 1),
                (F_NOTIFY, 1),
                (15, worker.scratch.cast_signed()), // F_SETOWN_EX
            ] {
                let outcome = worker.call(SYS_fcntl, [descriptor, i64::from(command), argument, 0, 0, 0]);
                assert_eq!(outcome, Outcome::Returned(i64::from(-EPERM)), "fcntl({descriptor}, {command})");
            }
            let outcome = worker.call_with(SYS_connect, [descriptor, 0, 16, 0, 0, 0], 1, &local(port));
            assert!(outcome.is_refused(), "connect({descriptor}): {outcome:?}");
            let outcome = worker.call_with(SYS_sendto, [descriptor, 0, 0, 0, 0, 16], 4, &local(port));
            assert!(outcome.is_refused(), "sendto({descriptor}) with an address: {outcome:?}");
        }
        // Files of others, and of the service; and nothing is written.
        let files = [
            "/etc/passwd".to_owned(),
            "/etc/resolv.conf".to_owned(),
            "/proc/self/environ".to_owned(),
            "/proc/self/mem".to_owned(),
            format!("/proc/{service}/environ"),
            format!("/proc/{service}/mem"),
            format!("/proc/{service}/cmdline"),
            format!("/proc/{pid}/status"),
            "/".to_owned(),
            "/dev/null".to_owned(),
        ];
        let here = i64::from(AT_FDCWD);
        for file in &files {
            let outcome = worker.call_with(SYS_openat, [here, 0, int(O_RDONLY), 0, 0, 0], 1, file.as_bytes());
            assert!(outcome.is_refused() || file == "/dev/null", "opened {file}: {outcome:?}");
        }
        for (number, place, arguments) in [
            (SYS_openat, 1, [here, 0, int(O_WRONLY | O_CREAT), 0o600, 0, 0]),
            (SYS_creat, 0, [0, 0o600, 0, 0, 0, 0]),
            (SYS_unlink, 0, [0; 6]),
            (SYS_mkdir, 0, [0, 0o700, 0, 0, 0, 0]),
            (SYS_chmod, 0, [0, 0o777, 0, 0, 0, 0]),
            (SYS_readlink, 0, [0, 0, 0, 0, 0, 0]),
        ] {
            let outcome = worker.call_with(number, arguments, place, b"/tmp/written-by-a-worker");
            assert!(outcome.is_refused(), "call {number}: {outcome:?}");
        }
        assert!(!Path::new("/tmp/written-by-a-worker").exists());
        // What it must be able to do, or the above would prove nothing.
        assert_eq!(worker.call(SYS_getpid, [0; 6]), Outcome::Returned(i64::from(pid)));
        assert!(!worker.call(SYS_fcntl, [2, i64::from(F_GETFL), 0, 0, 0, 0]).is_refused());
        assert_eq!(
            worker.call(SYS_tgkill, [i64::from(pid), i64::from(pid), 0, 0, 0, 0]),
            Outcome::Returned(0)
        );
        assert_eq!(worker.call(SYS_clone3, [0; 6]), Outcome::Returned(i64::from(-ENOSYS)));
    }

    fn examine(mut worker: Stopped, kind: Kind, stage: Stage, service: u32, pid: u32, port: u16) {
        refusals(&mut worker, service, pid, port);
        let (found, documented) = (allowed(&mut worker), documented(kind, stage));
        let names = |numbers: Vec<&c_long>| {
            let name = |number: &c_long| {
                NAMES.iter().find(|(_, known)| *known == *number).map_or("?", |(name, _)| *name)
            };
            numbers.into_iter().map(|number| format!("{number} {}", name(number))).collect::<Vec<_>>()
        };
        assert_eq!(
            names(found.difference(&documented).collect()),
            [""; 0],
            "{kind:?} {stage:?}: allowed, not documented"
        );
        assert_eq!(
            names(documented.difference(&found).collect()),
            [""; 0],
            "{kind:?} {stage:?}: documented, not allowed"
        );
    }

    /// A child of the service, as soon as there is one.
    fn newborn(service: u32) -> Option<u32> {
        let tasks = std::fs::read_dir(format!("/proc/{service}/task")).ok()?;
        let children = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children")).ok();
        tasks.flatten().filter_map(children).find_map(|pids| pids.split_whitespace().next()?.parse().ok())
    }

    #[test]
    fn a_worker_of_every_kind_can_do_what_is_listed_and_nothing_else_once_its_source_is_open() {
        if !can() {
            return;
        }
        let (everywhere, forbidden) = (Everywhere::new(), Forbidden::at("127.0.0.1"));
        let camera = Scripted::start(Script::of("clips/baseline.mp4"));
        let pictures = snapshots(everywhere.path("colour.jpg"));
        let mut weir = everywhere.service();
        let sources = [
            (Kind::File, format!("file://{}", everywhere.path("long.mp4").display()), ""),
            (Kind::Network, camera.url(), ""),
            (Kind::Network, pictures.http(), r#", "video_source_properties": {"fps": 10}"#),
        ];
        let playing = sources.map(|(kind, reference, extra)| (kind, play(&weir, &reference, extra)));
        for (kind, (_, sink, pid)) in &playing {
            examine(Stopped::new(*pid), *kind, Stage::Open, weir.pid(), *pid, forbidden.address().port());
            assert!(weir.is_alive());
            sink.drain();
            sink.next();
        }
        // What ends a worker ends that worker, and another one takes its place.
        let locked_in = |pid: &u32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.contains("Seccomp:\t2")
        };
        let mut left = FATAL.into_iter().peekable();
        while left.peek().is_some() {
            // Those that never gave a frame would be started again more and more rarely.
            for (_, (_, sink, _)) in &playing {
                sink.drain();
                sink.next();
            }
            let workers = wait_for("three workers that are locked in", || {
                Some(weir.workers()).filter(|workers| workers.len() == 3 && workers.iter().all(locked_in))
            });
            for (victim, number) in workers.iter().zip(&mut left) {
                assert_eq!(
                    Stopped::new(*victim).call(number, [-1; 6]),
                    Outcome::Killed(SIGSYS),
                    "call {number}"
                );
                wait_for("its end", || (!weir.workers().contains(victim)).then_some(()));
                assert!(weir.is_alive());
            }
        }
        for (_, (id, sink, _)) in &playing {
            sink.drain();
            sink.next();
            assert!(weir.report(id).to_string().contains("system-call filter"));
        }
    }

    #[test]
    fn a_worker_of_every_kind_can_do_what_is_listed_and_nothing_else_while_its_source_is_opened() {
        if !can() {
            return;
        }
        let (everywhere, forbidden) = (Everywhere::new(), Forbidden::at("127.0.0.1"));
        let camera = Scripted::start(Script::of("clips/baseline.mp4"));
        let pictures = snapshots(everywhere.path("colour.jpg"));
        let weir = everywhere.service();
        for (kind, reference) in [
            (Kind::File, format!("file://{}", everywhere.path("long.mp4").display())),
            // No camera, but opened as one.
            (Kind::Device, "/dev/null".to_owned()),
            (Kind::Network, camera.url()),
            (Kind::Network, pictures.http()),
        ] {
            let sink = udp::Receiver::new();
            let request = request::init(&weir.toy(), &request::quoted(&reference), sink.port(), "");
            let mut id = weir.init(&request);
            // Caught before it is locked in, and led to the moment when it just was: three filters.
            let deadline = Instant::now() + PATIENCE;
            let (pid, stopped) = loop {
                assert!(Instant::now() < deadline, "no worker was caught in time");
                let Some(pid) = newborn(weir.pid()) else {
                    // /proc cannot be waited for, and a worker is locked in some milliseconds after it began.
                    std::thread::sleep(Duration::from_micros(200));
                    continue;
                };
                if let Some(stopped) = Stopped::after(pid, SYS_seccomp, 3) {
                    break (pid, stopped);
                }
                // Too late: the next one.
                let _ = weir.order("terminate", &id);
                id = weir.init(&request);
            };
            examine(stopped, kind, Stage::Opening, weir.pid(), pid, forbidden.address().port());
            if kind != Kind::Device {
                sink.next();
            }
            assert_eq!(weir.order("terminate", &id).get("status").text(), Some("success"));
            wait_for("the worker to be gone", || weir.workers().is_empty().then_some(()));
        }
    }

    #[test]
    fn a_worker_can_forge_no_line_of_the_log() {
        if !can() {
            return;
        }
        let weir = Weir::start();
        let (_, _sink, pid) = play(&weir, &format!("file://{}", clip("long.mp4")), "");
        let forged =
            b"<3>x\" event=audit who=admin\n2026-01-01T00:00:00 error event=audit who=admin\n\x1b[2J";
        let length = forged.len() as i64;
        let outcome = Stopped::new(pid).call_with(SYS_write, [2, 0, length, 0, 0, 0], 1, forged);
        assert_eq!(outcome, Outcome::Returned(length));
        wait_for("the lines", || (weir.log().matches("who=admin").count() == 2).then_some(()));
        for line in weir.log().lines().filter(|line| line.contains("who=admin")) {
            assert!(line.contains(&format!(" event=child_said child=capture pid={pid} source=\"")), "{line}");
            assert!(line.ends_with('"') && !line.contains("x\" event"), "{line}");
        }
        assert!(!weir.log().contains('\x1b'));
    }
}
