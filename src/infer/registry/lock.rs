//! A file lock, so that two services may share a cache.

use super::in_flight::Watch;
use super::{Progress, Stage};
use crate::error::{Error, Kind, Result, system};
use crate::folder;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest wait for another process that fetches the same version: the reference's own limit.
const LOCK_TIMEOUT: Duration = Duration::from_secs(120);
/// Pause between two looks at a lock that is held; there is no event to wait for that could also be given up.
const LOCK_POLL: Duration = Duration::from_millis(100);

/// Longest note, bytes: five lines.
const MAX_NOTE_BYTES: usize = 4096;

/// Held until dropped; the kernel drops it with the process.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Lock {
    /// What is noted in it; empty when that cannot be read.
    pub(super) fn text(&self) -> String {
        let mut bytes = vec![0; MAX_NOTE_BYTES];
        let length = self.file.read_at(&mut bytes, 0).unwrap_or(0);
        bytes.truncate(length);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Notes something in place of what was noted before.
    pub(super) fn note(&self, text: &str) -> Result<()> {
        let failed = system("cannot write the model cache");
        let outcome = self.file.set_len(0).and_then(|()| self.file.write_all_at(text.as_bytes(), 0));
        outcome.and_then(|()| self.file.sync_all()).map_err(failed)
    }

    /// Waits for the lock `<cache>/_file_locks/<name>.lock`.
    pub(super) fn take(cache: &Path, name: &str, watch: &dyn Watch) -> Result<Lock> {
        let folder = cache.join("_file_locks");
        folder::make(&folder).map_err(|refusal| refusal.error(&folder))?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(folder.join(format!("{name}.lock")));
        let file = file.map_err(|error| unwritable(&folder, error))?;
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Lock { file }),
                Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < deadline => {}
                Err(Errno::WOULDBLOCK | Errno::INTR) => {
                    return Err(Error::new(Kind::TimedOut, "another process holds the lock of this model"));
                }
                Err(error) => return Err(system("cannot lock the model cache")(error.into())),
            }
            watch.report(Progress { stage: Stage::Resolving, bytes: 0, total: None })?;
            std::thread::sleep(LOCK_POLL);
        }
    }
}

/// Path, reason, and what to do: whoever asks for a model is rarely who set the folder up.
pub(super) fn unwritable(path: &Path, error: std::io::Error) -> Error {
    let reason = error.to_string();
    let reason = reason.split(" (os error").next().unwrap_or(&reason);
    let advice = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => "make room there",
        _ => "models.cache_dir (MODEL_CACHE_DIR) names a folder that the service can write",
    };
    let message = format!("cannot write the model cache: {}: {reason}; {advice}", path.display());
    Error::new(Kind::System, message).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infer::registry::test_dir::TestDir;
    use std::cell::Cell;

    /// Gives up after some reports.
    struct Impatient(Cell<u32>);

    impl Watch for Impatient {
        fn wanted(&self) -> Result<()> {
            Ok(())
        }
        fn report(&self, _progress: Progress) -> Result<()> {
            self.0.set(self.0.get() + 1);
            if self.0.get() > 1 { Err(Error::new(Kind::ShuttingDown, "")) } else { Ok(()) }
        }
    }

    #[test]
    fn one_at_a_time_and_waiting_can_be_given_up() {
        let dir = TestDir::new();
        let nobody = Impatient(Cell::new(0));
        let held = Lock::take(dir.path(), "1", &nobody).unwrap();
        assert_eq!(
            Lock::take(dir.path(), "1", &Impatient(Cell::new(0))).unwrap_err().kind(),
            Kind::ShuttingDown
        );
        Lock::take(dir.path(), "2", &nobody).unwrap();
        drop(held);
        Lock::take(dir.path(), "1", &nobody).unwrap();
    }
}
