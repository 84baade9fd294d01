//! System calls made by another process against its will, as if its decoder had been taken over: by ptrace,
//! as root, on x86-64 (the filter's numbers on arm64 are held by the cameras that play behind it in the guest
//! of `tests/vm.rs`).
#![allow(unsafe_code)] // ptrace has no safe interface

use libc::{c_int, c_long, c_void, pid_t, user_regs_struct};
use std::os::unix::fs::FileExt;

/// Bytes of the injected mapping that arguments lie in.
const SCRATCH_BYTES: u64 = 64 << 10;

/// System calls that are stepped over before it is given up: a worker makes some two thousand until it is
/// locked in.
const MAX_STEPS: usize = 200_000;

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// What the kernel gave back: negative error numbers below 0.
    Returned(i64),
    /// The process was killed by this signal.
    Killed(c_int),
}

impl Outcome {
    pub fn is_refused(self) -> bool {
        matches!(self, Outcome::Returned(value) if value < 0)
    }
}

/// A process that is stopped; it goes on when this is dropped.
pub struct Stopped {
    pid: pid_t,
    saved: user_regs_struct,
    /// Where a `syscall` instruction lies.
    instruction: u64,
    /// Where arguments are put.
    pub scratch: u64,
    dead: bool,
}

/// Whether this machine and user can.
pub fn can() -> bool {
    if !cfg!(target_arch = "x86_64") || !rustix::process::geteuid().is_root() {
        println!("injecting system calls needs root on x86-64");
        return false;
    }
    true
}

impl Stopped {
    /// Stops a process wherever it is.
    pub fn new(pid: u32) -> Stopped {
        let mut stopped = Stopped::seize(pid);
        stopped.ready();
        stopped
    }

    /// Stops a process that was just started, and lets it run from system call to system call until it has
    /// made `count` successful ones of this number. `None`: it had made some already.
    pub fn after(pid: u32, number: c_long, count: usize) -> Option<Stopped> {
        let is_filtered =
            std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?.contains("Seccomp:\t2");
        if is_filtered {
            return None;
        }
        let mut stopped = Stopped::seize(pid);
        let (mut entered, mut seen) = (false, 0);
        for _ in 0..MAX_STEPS {
            ptrace(libc::PTRACE_SYSCALL, stopped.pid, 0, 0);
            let Ok(signal) = stopped.wait() else { return None };
            if signal != libc::SIGTRAP | 0x80 {
                continue;
            }
            entered = !entered;
            let registers = stopped.registers();
            if entered || registers.orig_rax.cast_signed() != number || registers.rax.cast_signed() < 0 {
                continue;
            }
            seen += 1;
            if seen == count {
                stopped.ready();
                return Some(stopped);
            }
        }
        panic!("call {number} was not made {count} times");
    }

    fn seize(pid: u32) -> Stopped {
        let pid = pid.cast_signed();
        let options = libc::PTRACE_O_TRACESYSGOOD;
        assert_eq!(
            ptrace(libc::PTRACE_SEIZE, pid, 0, i64::from(options)),
            0,
            "{}",
            std::io::Error::last_os_error()
        );
        assert_eq!(ptrace(libc::PTRACE_INTERRUPT, pid, 0, 0), 0);
        // SAFETY: all fields are plain numbers.
        let saved = unsafe { std::mem::zeroed() };
        let mut stopped = Stopped { pid, saved, instruction: 0, scratch: 0, dead: false };
        stopped.wait().expect("it stops");
        stopped
    }

    fn ready(&mut self) {
        self.saved = self.registers();
        self.instruction = instruction(self.pid);
        let flags = i64::from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let access = i64::from(libc::PROT_READ | libc::PROT_WRITE);
        match self.call(libc::SYS_mmap, [0, SCRATCH_BYTES.cast_signed(), access, flags, -1, 0]) {
            Outcome::Returned(at) if at > 0 => self.scratch = at.cast_unsigned(),
            other => panic!("no memory for arguments: {other:?}"),
        }
    }

    /// Makes it call the kernel.
    pub fn call(&mut self, number: c_long, arguments: [i64; 6]) -> Outcome {
        let mut registers = self.saved;
        registers.rax = number.cast_unsigned();
        // No system call that the kernel would want to take up again.
        registers.orig_rax = u64::MAX;
        let [rdi, rsi, rdx, r10, r8, r9] = arguments.map(i64::cast_unsigned);
        (registers.rdi, registers.rsi, registers.rdx) = (rdi, rsi, rdx);
        (registers.r10, registers.r8, registers.r9) = (r10, r8, r9);
        registers.rip = self.instruction;
        self.set_registers(&registers);
        loop {
            assert_eq!(
                ptrace(libc::PTRACE_SINGLESTEP, self.pid, 0, 0),
                0,
                "{}",
                std::io::Error::last_os_error()
            );
            match self.wait() {
                Ok(libc::SIGTRAP) => return Outcome::Returned(self.registers().rax.cast_signed()),
                // Something else happened to it in between: it has not moved.
                Ok(_) => {}
                Err(signal) => return Outcome::Killed(signal),
            }
        }
    }

    /// The same with a text as the argument at `place`.
    pub fn call_with(
        &mut self,
        number: c_long,
        mut arguments: [i64; 6],
        place: usize,
        bytes: &[u8],
    ) -> Outcome {
        let memory =
            std::fs::File::options().write(true).open(format!("/proc/{}/mem", self.pid)).expect("its memory");
        memory.write_all_at(&[bytes, &[0]].concat(), self.scratch).expect("its memory");
        arguments[place] = self.scratch.cast_signed();
        self.call(number, arguments)
    }

    fn registers(&self) -> user_regs_struct {
        // SAFETY: all fields are plain numbers.
        let mut registers: user_regs_struct = unsafe { std::mem::zeroed() };
        let at: *mut user_regs_struct = &mut registers;
        assert_eq!(
            ptrace(libc::PTRACE_GETREGS, self.pid, 0, at as i64),
            0,
            "{}",
            std::io::Error::last_os_error()
        );
        registers
    }

    fn set_registers(&self, registers: &user_regs_struct) {
        let at: *const user_regs_struct = registers;
        assert_eq!(
            ptrace(libc::PTRACE_SETREGS, self.pid, 0, at as i64),
            0,
            "{}",
            std::io::Error::last_os_error()
        );
    }

    /// The signal that it stopped for; an error: the one that it died of (0: it ended).
    fn wait(&mut self) -> Result<c_int, c_int> {
        let mut status = 0;
        // SAFETY: `status` is a place for one number.
        let got = unsafe { libc::waitpid(self.pid, &raw mut status, libc::__WALL) };
        assert_eq!(got, self.pid, "{}", std::io::Error::last_os_error());
        if libc::WIFSTOPPED(status) {
            return Ok(libc::WSTOPSIG(status));
        }
        self.dead = true;
        Err(if libc::WIFSIGNALED(status) { libc::WTERMSIG(status) } else { 0 })
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if !self.dead {
            if self.scratch != 0 {
                self.call(
                    libc::SYS_munmap,
                    [self.scratch.cast_signed(), SCRATCH_BYTES.cast_signed(), 0, 0, 0, 0],
                );
                self.set_registers(&self.saved);
            }
            ptrace(libc::PTRACE_DETACH, self.pid, 0, 0);
        }
    }
}

fn ptrace(request: libc::c_uint, pid: pid_t, address: i64, data: i64) -> c_long {
    // SAFETY: requests that write do so to a `user_regs_struct` of the caller's, whose address is `data`; all
    // others take numbers.
    unsafe { libc::ptrace(request, pid, address as *mut c_void, data as *mut c_void) }
}

/// A `syscall` instruction: the kernel's own page of code (vDSO) has one.
fn instruction(pid: pid_t) -> u64 {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("its mappings");
    let line = maps.lines().find(|line| line.ends_with("[vdso]")).expect("a vDSO");
    let (start, end) = line.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
    let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).expect("an address"));
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).expect("its memory");
    let mut code = vec![0; (end - start) as usize];
    memory.read_exact_at(&mut code, start).expect("its code");
    let at = code.windows(2).position(|bytes| bytes == [0x0f, 0x05]).expect("a syscall instruction");
    start + at as u64
}
