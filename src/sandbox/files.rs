//! Which files a child may open (Landlock, Linux 5.13 and newer).
//!
//! Beside files, newer kernels deny it TCP ports (6.7) and, to what is not of its own kind, signals and
//! abstract sockets (6.12). All of that is a second lock: the first is the system-call filter, which every
//! kernel has.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use std::path::Path;

/// The newest rules that we know (Linux 6.12). An older kernel enforces those that it has.
const RULES: ABI = ABI::V6;

/// Which rules this kernel has: the number of its Landlock ABI; `None`: it has none.
pub fn version() -> Option<u32> {
    let has = |abi: &ABI| {
        let rules = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        let files = rules.handle_access(AccessFs::from_all(*abi));
        let rules = match *abi {
            // No rule for files is new in these: sockets, then scopes.
            ABI::V4 => files.and_then(|rules| rules.handle_access(AccessNet::from_all(*abi))),
            ABI::V6 => files.and_then(|rules| rules.scope(Scope::from_all(*abi))),
            _ => files,
        };
        rules.and_then(|rules| rules.create()).is_ok()
    };
    let known = [ABI::V1, ABI::V2, ABI::V3, ABI::V4, ABI::V5, ABI::V6];
    known.iter().rposition(has).and_then(|index| u32::try_from(index + 1).ok())
}

/// What stays open to a child. A path that does not exist has no rule; opening it then says so.
#[derive(Debug, Clone, Copy, Default)]
pub struct Files<'a> {
    /// Read: files, or everything below a folder.
    pub read: &'a [&'a Path],
    /// Read, written and asked by `ioctl`: device nodes.
    pub devices: &'a [&'a Path],
    /// TCP ports, until it is confined once more.
    pub ports: bool,
}

impl Files<'_> {
    /// From here on this thread, and threads that it starts, open nothing else. What is open stays open.
    /// `false`: the kernel has no Landlock. Irrevocable.
    pub fn only(self) -> Result<bool, RulesetError> {
        let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
        let mut rules = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(RULES))?
            .scope(Scope::from_all(RULES))?;
        if !self.ports {
            rules = rules.handle_access(AccessNet::from_all(RULES))?;
        }
        let status = rules
            .create()?
            .add_rules(path_beneath_rules(self.read, AccessFs::ReadFile | AccessFs::ReadDir))?
            .add_rules(path_beneath_rules(self.devices, device))?
            .restrict_self()?;
        Ok(status.ruleset != RulesetStatus::NotEnforced)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs::File;
    use std::io::ErrorKind;

    #[test]
    fn only_what_is_named_can_be_opened_and_nothing_written() {
        let asset = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/assets").join(name);
        // Rules hold for the thread that makes them.
        let confined = std::thread::spawn(move || {
            let video = asset("short.mp4");
            if !(Files { read: &[&video], devices: &[Path::new("/dev/null")], ports: false }).only().unwrap()
            {
                return println!("this kernel has no Landlock");
            }
            assert!(File::open(&video).is_ok());
            assert!(File::options().read(true).write(true).open("/dev/null").is_ok());
            let refused =
                |opened: std::io::Result<File>| opened.unwrap_err().kind() == ErrorKind::PermissionDenied;
            assert!(refused(File::open(asset("long.mp4"))));
            assert!(refused(File::open("/etc/passwd")));
            assert!(refused(File::open("/proc/self/status")));
            assert!(refused(File::create(std::env::temp_dir().join("weir-test-landlock"))));
            assert_eq!(File::open("/no/such/file").unwrap_err().kind(), ErrorKind::NotFound);
        });
        confined.join().unwrap();
    }
}
