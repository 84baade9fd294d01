//! Which files a worker may read (Landlock, Linux 5.13 and newer): its video, and what the libraries look at now and then.

use landlock::{
    ABI, Access, AccessFs, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, path_beneath_rules,
};
use std::path::{Path, PathBuf};

/// The newest rules that we know (Linux 6.10). An older kernel enforces those that it has.
const RULES: ABI = ABI::V5;

/// Time zone for the log; memory use, limits and the executable itself for a backtrace.
const ALWAYS: [&str; 4] = ["/etc/localtime", "/usr/share/zoneinfo", "/proc/self", "/proc/self/exe"];

/// From here on this thread, and threads that it starts, read nothing but `video` (and [`ALWAYS`]) and write nothing.
/// What is open stays open. `false`: the kernel has no Landlock. Irrevocable.
pub(super) fn confine(video: Option<&Path>) -> Result<bool, RulesetError> {
    let readable = ALWAYS.iter().map(PathBuf::from).chain(video.map(Path::to_owned));
    // A path that does not exist has no rule; opening it then says so.
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(RULES))?
        .create()?
        .add_rules(path_beneath_rules(readable, AccessFs::ReadFile | AccessFs::ReadDir))?
        .restrict_self()?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::capture::worker::clips::asset;
    use std::fs::File;
    use std::io::ErrorKind;

    #[test]
    fn only_the_video_can_be_read_and_nothing_written() {
        // Rules hold for the thread that makes them.
        let confined = std::thread::spawn(|| {
            let video = asset("short.mp4");
            if !confine(Some(&video)).unwrap() {
                return println!("this kernel has no Landlock");
            }
            assert!(File::open(&video).is_ok());
            assert!(File::open("/proc/self/statm").is_ok());
            let refused = |opened: std::io::Result<File>| opened.unwrap_err().kind() == ErrorKind::PermissionDenied;
            assert!(refused(File::open(asset("long.mp4"))));
            assert!(refused(File::open("/etc/passwd")));
            assert!(refused(File::create(std::env::temp_dir().join("weir-test-landlock"))));
            assert_eq!(File::open("/no/such/file").unwrap_err().kind(), ErrorKind::NotFound);
        });
        confined.join().unwrap();
    }
}
