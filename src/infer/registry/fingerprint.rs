//! Whether a file is the one that it was.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Length and checksum of a file: enough to see that nobody has changed it.
pub(super) type Fingerprint = (u64, u32);

/// `None` for what cannot be read, or is no file.
pub(super) fn fingerprint(path: &Path) -> Option<Fingerprint> {
    if !path.symlink_metadata().ok()?.is_file() {
        return None;
    }
    let mut file = File::open(path).ok()?;
    let (mut hasher, mut length, mut block) = (crc32fast::Hasher::new(), 0, vec![0; 1 << 16]);
    loop {
        match file.read(&mut block).ok()? {
            0 => return Some((length, hasher.finalize())),
            count => {
                hasher.update(block.get(..count)?);
                length += count as u64;
            }
        }
    }
}
