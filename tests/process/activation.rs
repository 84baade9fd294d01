//! Socket activation with a real parent: systemd-socket-activate opens the sockets and passes them by name.

use crate::support::weir::{children, command};
use crate::support::{Folder, PATIENCE, http, tcp, wait_for};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

const LIST: &[u8] = b"{\"type\": \"list_pipelines\"}";

/// The tool of systemd, then weir in its place: the same process. Killed when dropped.
struct Activated(Child);

impl Drop for Activated {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Free ports, found by binding them: the tool does not say which it took.
fn free_ports<const N: usize>() -> [SocketAddr; N] {
    let held = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap())
}

/// The command line and environment of the harness, run by systemd's tool with these sockets and names.
fn activate(folder: &Folder, sockets: &[&str], names: &str, arguments: &[&str]) -> Activated {
    let plain = command(folder.path());
    let mut tool = Command::new("systemd-socket-activate");
    for socket in sockets {
        tool.arg("--listen").arg(socket);
    }
    tool.arg("--fdname").arg(names);
    // The tool starts its command with a bare environment.
    for (name, value) in plain.get_envs().filter_map(|(name, value)| Some((name, value?))) {
        tool.arg(format!("--setenv={}={}", name.to_str().unwrap(), value.to_str().unwrap()));
    }
    tool.arg(plain.get_program()).arg("serve").args(arguments);
    let child = tool.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    Activated(child.expect("systemd-socket-activate (Debian: systemd)"))
}

/// Asks until the sockets are there: the tool opens them, and the first connection starts weir.
fn first_reply(address: SocketAddr) -> String {
    let mut stream = wait_for("the sockets to be open", || std::net::TcpStream::connect(address).ok());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&tcp::frame(LIST)).unwrap();
    tcp::read_reply(&mut stream)
}

#[test]
fn both_listeners_are_taken_over_by_name_unix_sockets_too() {
    let folder = Folder::new();
    let path = folder.path().join("weir.sock").display().to_string();
    let [first, second, third] = free_ports();
    let sockets = [third.to_string(), first.to_string(), path.clone(), second.to_string()];
    let sockets = sockets.each_ref().map(String::as_str);
    let activated = activate(&folder, &sockets, "http:tcp:tcp:tcp", &[]);
    // The first connection waited for weir to start.
    assert!(first_reply(first).contains("success"));
    // A second address of the same listener, and a Unix socket of it.
    assert!(tcp::exchange(second, &tcp::frame(LIST)).contains("success"));
    let mut unix = UnixStream::connect(&path).unwrap();
    unix.set_read_timeout(Some(PATIENCE)).unwrap();
    unix.write_all(&tcp::frame(LIST)).unwrap();
    assert!(tcp::read_reply(&mut unix).contains("success"));
    assert_eq!(http::request(third, "GET", "/list_pipelines", &[], b"").status, 200);
    // It is the same process, and whatever it starts has none of the sockets.
    let pid = activated.0.id();
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    assert_eq!(name.trim(), "weir");
    let sockets: Vec<String> = (3..7).map(|fd| link(pid, fd)).collect();
    assert!(sockets.iter().all(|socket| socket.starts_with("socket:")), "{sockets:?}");
    for fd in 3..7 {
        let flags = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).unwrap();
        let flags = flags.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim().to_owned();
        // O_CLOEXEC in octal, as fdinfo shows it.
        assert_ne!(
            u32::from_str_radix(&flags, 8).unwrap() & 0o2_000_000,
            0,
            "descriptor {fd} would be inherited: {flags}"
        );
    }
    // One is started to see whether any can be, and is gone in a moment.
    wait_for("no child to be left", || children(pid).is_empty().then_some(()));
}

fn link(pid: u32, fd: u32) -> String {
    std::fs::read_link(format!("/proc/{pid}/fd/{fd}"))
        .map_or_else(|_| String::new(), |target| target.display().to_string())
}

/// What the tool passes, under which names, and what the refusal names.
#[test]
fn sockets_that_are_no_listener_are_refused_by_name() {
    for (names, datagram, said) in [("metrics", false, "`metrics`"), ("tcp", true, "listening stream socket")]
    {
        let folder = Folder::new();
        let [address] = free_ports();
        let text = address.to_string();
        let mut activated = if datagram {
            let plain = command(folder.path());
            let mut tool = Command::new("systemd-socket-activate");
            tool.args([
                "--datagram",
                "--fdname",
                names,
                "--listen",
                &text,
                plain.get_program().to_str().unwrap(),
                "serve",
            ]);
            Activated(tool.stderr(Stdio::piped()).spawn().unwrap())
        } else {
            activate(&folder, &[&text], names, &[])
        };
        // Wakes the tool, which then becomes weir, which ends.
        let status = wait_for("weir to refuse its socket", || {
            if datagram {
                let _ = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", address);
            } else {
                let _ = std::net::TcpStream::connect(address);
            }
            activated.0.try_wait().unwrap()
        });
        let mut stderr = String::new();
        activated.0.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!(status.code(), Some(78), "{stderr}");
        assert!(stderr.contains(said), "{stderr}");
    }
}

/// Variables that were meant for another process change nothing.
#[test]
fn sockets_of_somebody_else_are_left_alone() {
    let weir = crate::support::Weir::start_with(|command| {
        command.envs([("LISTEN_PID", "1"), ("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "tcp:nonsense")]);
    });
    assert_eq!(weir.list(), Vec::<String>::new());
}
