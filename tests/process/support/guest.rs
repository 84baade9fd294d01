//! A whole machine in qemu: Debian's kernel, three cameras of its test driver `vivid`, and weir (tests/vm/).

use super::weir::{follow, lay_out_toy};
use super::{Folder, Json, Listeners, PATIENCE, process, root, wait_for};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The host as the guest sees it: qemu gives what is sent there to the host's loopback.
pub const HOST: &str = "10.0.2.2";

/// Ports of the guest (tests/vm/init).
const TCP_PORT: u16 = 7070;
const HTTP_PORT: u16 = 8080;
const SHELL_PORT: u16 = 2222;

/// `EX_UNAVAILABLE`: no kernel can be had on this machine.
const UNAVAILABLE: i32 = 69;

/// From the start of qemu until weir listens; an emulated aarch64 takes 20 s on a busy machine.
const BOOT_PATIENCE: Duration = Duration::from_secs(180);

/// What the guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    X86_64,
    Aarch64,
}

impl Architecture {
    /// Of this machine, or the one that `WEIR_VM_ARCH` names.
    pub fn wanted() -> Architecture {
        match std::env::var("WEIR_VM_ARCH").as_deref().unwrap_or(std::env::consts::ARCH) {
            "x86_64" => Architecture::X86_64,
            "aarch64" => Architecture::Aarch64,
            other => panic!("no guest for {other}"),
        }
    }

    fn debian(self) -> &'static str {
        match self {
            Architecture::X86_64 => "amd64",
            Architecture::Aarch64 => "arm64",
        }
    }

    /// The emulator and what differs. `no_timer_check`: the kernel counts ticks as it begins, and panics where a
    /// busy machine gives the emulated timer none. No /dev/kvm: it does not work on the machines that this runs on.
    fn qemu(self) -> (&'static str, [&'static str; 6]) {
        match self {
            Architecture::X86_64 => (
                "qemu-system-x86_64",
                ["-M", "q35", "-cpu", "max", "-append", "console=ttyS0 quiet panic=-1 no_timer_check"],
            ),
            Architecture::Aarch64 => (
                "qemu-system-aarch64",
                ["-M", "virt", "-cpu", "cortex-a72", "-append", "console=ttyAMA0 quiet panic=-1"],
            ),
        }
    }
}

/// A booted guest with a service in it; killed when dropped.
pub struct Guest {
    qemu: Child,
    listeners: Listeners,
    shell: SocketAddr,
    _folder: Folder,
}

impl Guest {
    /// Boots one with the binary under test, or the one that `WEIR_VM_BINARY` names (of another architecture:
    /// a static one). `None`, with the reason on standard error, where this machine has no emulator or no
    /// Debian kernel.
    pub fn boot() -> Option<Guest> {
        Guest::boot_with(&[])
    }

    /// The same with more files: the host's, and where they lie in the guest. `weir.toml` is the service's
    /// configuration there.
    pub fn boot_with(files: &[(PathBuf, &str)]) -> Option<Guest> {
        let architecture = Architecture::wanted();
        let folder = Folder::new();
        let (vmlinuz, initramfs) = image(architecture, folder.path(), files)?;
        let (program, machine) = architecture.qemu();
        let qmp = folder.path().join("qmp");
        let forward = |port| format!(",hostfwd=tcp:127.0.0.1:0-:{port}");
        // setpriv: qemu goes with this thread, whatever ends it.
        let mut qemu = Command::new("setpriv");
        qemu.args([
            "--pdeathsig",
            "KILL",
            program,
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ]);
        qemu.args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", "1024"]).args(machine);
        qemu.arg("-kernel").arg(vmlinuz).arg("-initrd").arg(initramfs);
        qemu.args(["-serial", "stdio", "-device", "virtio-net-pci,netdev=net,romfile="]);
        qemu.arg("-netdev").arg(
            ["user,id=net".to_owned()]
                .into_iter()
                .chain([TCP_PORT, HTTP_PORT, SHELL_PORT].map(forward))
                .collect::<String>(),
        );
        qemu.arg("-qmp").arg(format!("unix:{},server=on,wait=off", qmp.display()));
        let spawned = qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
        let mut qemu = spawned.expect("setpriv runs");
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = follow(qemu.stdout.take().expect("stdout is piped"), log.clone());
        let deadline = Instant::now() + BOOT_PATIENCE;
        let mut listening = 0;
        while listening < 2 {
            let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) else {
                let _ = qemu.kill();
                panic!(
                    "the guest did not come up: {:?}; its console: {:#?}",
                    qemu.wait(),
                    log.lock().unwrap()
                );
            };
            listening += usize::from(line.contains("tcp=") || line.contains("http="));
        }
        let [tcp, http, shell] = forwarded(&qmp);
        Some(Guest { qemu, listeners: Listeners { tcp, http, log }, shell, _folder: folder })
    }

    /// Runs a shell script in the guest; what it says.
    pub fn run(&self, script: &str) -> String {
        let mut stream =
            TcpStream::connect_timeout(&self.shell, PATIENCE).expect("the guest's shell accepts");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(format!("exec 2>&1\n{script}\n").as_bytes()).expect("the guest takes a script");
        stream.shutdown(Shutdown::Write).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("the guest answers");
        // Names of devices are cut in the middle of a character.
        String::from_utf8_lossy(&bytes).trim_end().to_owned()
    }

    /// Process ids of the capture workers in the guest.
    pub fn workers(&self) -> Vec<u32> {
        let said = self.run("grep -lz '^capture$' /proc/[0-9]*/cmdline 2>/dev/null");
        said.lines().filter_map(|line| line.strip_prefix("/proc/")?.split('/').next()?.parse().ok()).collect()
    }

    /// Process id of the service in the guest: the first of its processes.
    pub fn service(&self) -> u32 {
        let said = self.run("grep -lz '^serve$' /proc/[0-9]*/cmdline 2>/dev/null");
        said.split('/').nth(2).and_then(|pid| pid.parse().ok()).expect("weir runs")
    }

    /// A field of `/proc/PID/status` in the guest.
    pub fn process_status(&self, pid: u32, field: &str) -> String {
        self.run(&format!("sed -n 's/^{field}:[[:space:]]*//p' /proc/{pid}/status"))
    }

    /// SIGTERM to the service in the guest, which then powers off; waits for both.
    pub fn stop(mut self) -> ExitStatus {
        self.run(&format!("kill -TERM {}", self.service()));
        wait_for("the guest to power off", || self.qemu.try_wait().expect("wait"))
    }
}

impl std::ops::Deref for Guest {
    type Target = Listeners;

    fn deref(&self) -> &Listeners {
        &self.listeners
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        if std::thread::panicking() {
            eprintln!("---- the guest's console ----\n{}", self.log());
        }
    }
}

/// A USB camera on this machine that is plugged into the guest (tests/vm/usb_camera.py); goes when dropped.
pub struct UsbCamera(Child);

impl UsbCamera {
    /// Plugs it in and waits until the guest has a node for it.
    #[track_caller]
    pub fn plug_in(guest: &Guest) -> UsbCamera {
        let mut server = Command::new(root().join("tests/vm/usb_camera.py"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let mut port = String::new();
        BufReader::new(server.stdout.take().expect("stdout is piped"))
            .read_line(&mut port)
            .expect("the camera's port");
        let camera = UsbCamera(server);
        let said = guest.run(&format!("usbip --tcp-port {} attach -r {HOST} -b 1-1", port.trim()));
        // It says more than it should, on success too; the node is what counts.
        wait_for(&format!("the USB camera; {said}"), || {
            (guest.run("cat /sys/class/video4linux/*/name").contains('高')).then_some(())
        });
        camera
    }

    /// Pulls it out.
    pub fn pull_out(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for UsbCamera {
    fn drop(&mut self) {
        self.pull_out();
    }
}

/// Where what is made for guests of this architecture is kept.
fn cache(architecture: Architecture) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm").join(architecture.debian())
}

/// Modules of the kernel's test codec, built for the guest's kernel; `None`, with the reason on standard error,
/// where that cannot be done.
pub fn codec_modules() -> Option<[PathBuf; 3]> {
    let architecture = Architecture::wanted();
    if architecture != Architecture::X86_64 || std::env::consts::ARCH != "x86_64" {
        eprintln!("SKIPPED: modules are only built for the machine's own architecture, x86-64");
        return None;
    }
    let kernel = cache(architecture);
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vicodec");
    let mut build = Command::new(root().join("tests/vm/vicodec.py"));
    build.arg("--kernel").arg(&kernel).arg("--out").arg(&out);
    let made = process::output(&mut build);
    if made.status.code() == Some(UNAVAILABLE) {
        eprintln!("SKIPPED: {}", String::from_utf8_lossy(&made.stdout));
        return None;
    }
    assert!(made.status.success(), "tests/vm/vicodec.py failed: {}", String::from_utf8_lossy(&made.stderr));
    Some(["v4l2-mem2mem", "vicodec", "vicodec-h264"].map(|name| out.join(format!("{name}.ko"))))
}

/// Fetches the guest's kernel, where that was not done yet; see [`Guest::boot`].
pub fn kernel() -> Option<()> {
    let folder = Folder::new();
    image(Architecture::wanted(), folder.path(), &[]).map(drop)
}

/// Kernel and initramfs.
fn image(architecture: Architecture, folder: &Path, files: &[(PathBuf, &str)]) -> Option<(PathBuf, PathBuf)> {
    let (emulator, _) = architecture.qemu();
    if Command::new(emulator).arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("SKIPPED: no {emulator} (scripts/setup.sh vm)");
        return None;
    }
    let models = folder.join("models");
    std::fs::create_dir(&models).unwrap();
    lay_out_toy(&models);
    let binary = std::env::var_os("WEIR_VM_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_weir").into());
    let cache = cache(architecture);
    let initramfs = folder.join("initramfs");
    let mut image = Command::new(root().join("tests/vm/image.py"));
    image
        .args(["--arch", architecture.debian(), "--add"])
        .arg(format!("{}=models", models.display()))
        .args(
            files
                .iter()
                .flat_map(|(host, guest)| ["--add".to_owned(), format!("{}={guest}", host.display())]),
        )
        .arg("--binary")
        .arg(binary)
        .arg("--cache")
        .arg(&cache)
        .arg("--initramfs")
        .arg(&initramfs);
    let made = process::output(&mut image);
    if made.status.code() == Some(UNAVAILABLE) {
        eprintln!("SKIPPED: no kernel of Debian's");
        return None;
    }
    assert!(made.status.success(), "tests/vm/image.py failed: {}", String::from_utf8_lossy(&made.stderr));
    Some((cache.join("vmlinuz"), initramfs))
}

/// The ports of the host that qemu chose for [`TCP_PORT`], [`HTTP_PORT`], [`SHELL_PORT`].
fn forwarded(qmp: &Path) -> [SocketAddr; 3] {
    let mut stream = UnixStream::connect(qmp).expect("qemu's monitor");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let question = r#"{"execute": "human-monitor-command", "arguments": {"command-line": "info usernet"}}"#;
    stream.write_all(format!("{}\n{question}\n", r#"{"execute": "qmp_capabilities"}"#).as_bytes()).unwrap();
    let table = lines
        .by_ref()
        .map(|line| Json::parse(&line.expect("qemu answers")))
        .find_map(|answer| answer.get("return").text().map(str::to_owned))
        .expect("qemu's table of connections");
    [TCP_PORT, HTTP_PORT, SHELL_PORT].map(|port| {
        // "TCP[HOST_FORWARD]  9  127.0.0.1 38935  10.0.2.15  7070  0  0"
        let rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
        let mut rows = rows.filter(|row| row.first() == Some(&"TCP[HOST_FORWARD]"));
        let row = rows.find(|row| row.get(5) == Some(&port.to_string().as_str())).expect("a forwarded port");
        format!("{}:{}", row[2], row[3]).parse().expect("an address")
    })
}
