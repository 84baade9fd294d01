//! Memory that the service and a model's process share: a plan's weights, and numbers as bytes.
//!
//! ```text
//! memfd of a plan   │ weights: 32-bit floats │ document │
//! model process       maps it, writes, unmaps it
//! service             seals it against every further change, then maps the weights and reads the document
//! ```
//!
//! The kernel refuses the seal while anybody could still write, and from then on nobody can: what is mapped
//! here is as constant as memory of our own.
#![allow(unsafe_code)] // a mapping cannot be had from safe code

use crate::error::{Error, Kind, Result, system};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use std::ffi::c_void;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

/// After these seals a file's bytes are what they are.
const CONSTANT: SealFlags = SealFlags::WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW);
/// Longest time that a file of weights may stay busy after its process has let go of it: ten times what the
/// kernel waits by itself.
pub(crate) const SEAL_TIMEOUT: Duration = Duration::from_millis(1500);
/// Between two attempts: a hostile process that does not let go costs little.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// A memory file of that many bytes, zeros, which can be sealed. Takes memory when it is written to.
pub(crate) fn memory_file(bytes: u64) -> Result<OwnedFd> {
    let file = rustix::fs::memfd_create(c"weir-model", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map_err(|errno| system("creating shared memory for a model")(errno.into()))?;
    rustix::fs::ftruncate(&file, bytes)
        .map_err(|errno| system("sizing shared memory for a model")(errno.into()))?;
    Ok(file)
}

/// Keeps a memory file at its size: no access to it can end in SIGBUS.
pub(crate) fn fix_size(file: impl AsFd) -> Result<()> {
    rustix::fs::fcntl_add_seals(file, SealFlags::SHRINK | SealFlags::GROW)
        .map_err(|errno| system("sealing shared memory of a model")(errno.into()))
}

/// Makes a memory file constant. Fails when somebody has it mapped for writing until `deadline`. Blocks.
///
/// The kernel calls the file busy too while it holds pages itself (it moves, scans or reclaims memory), and
/// waits only 150 ms for that; nothing tells when it is over.
pub(crate) fn seal(file: impl AsFd, deadline: Instant) -> Result<()> {
    loop {
        match rustix::fs::fcntl_add_seals(&file, CONSTANT | SealFlags::SEAL) {
            Ok(()) => return Ok(()),
            Err(Errno::BUSY) if Instant::now() < deadline => std::thread::sleep(BUSY_PAUSE),
            Err(errno) => {
                let message = "the model process keeps its hands on the weights";
                return Err(Error::new(Kind::ModelArtefact, message).because(std::io::Error::from(errno)));
            }
        }
    }
}

/// A whole mapping, unmapped when dropped.
#[derive(Debug)]
struct Mapping {
    start: NonNull<c_void>,
    bytes: usize,
}

// SAFETY: the mapping belongs to this value alone and stays where it is; nothing in it is bound to a thread.
unsafe impl Send for Mapping {}
// SAFETY: through a shared reference the memory is only read.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// The first `floats` of a file that has so many and cannot shrink.
    fn new(file: impl AsFd, floats: usize, needed: SealFlags, access: ProtFlags) -> Result<Mapping> {
        let unfit = || {
            Error::new(
                Kind::ModelArtefact,
                "a model's shared memory has another size than agreed, or no seal",
            )
        };
        let stat = rustix::fs::fstat(&file)
            .map_err(|errno| system("looking at a model's shared memory")(errno.into()))?;
        let seals = rustix::fs::fcntl_get_seals(&file).map_err(|errno| unfit().because(errno))?;
        let bytes = floats.max(1).checked_mul(size_of::<f32>()).ok_or_else(unfit)?;
        if !seals.contains(needed) || u64::try_from(stat.st_size).unwrap_or(0) < bytes as u64 {
            return Err(unfit());
        }
        // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory that Rust knows of.
        let start =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), bytes, access, MapFlags::SHARED, file, 0) };
        let start = start.map_err(|errno| system("mapping a model's shared memory")(errno.into()))?;
        let start = NonNull::new(start).ok_or_else(unfit)?;
        Ok(Mapping { start, bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by `new` with this very size, and no reference into it outlives its owner.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr(), self.bytes) };
    }
}

/// Constant floats that another process has written.
#[derive(Debug)]
pub(crate) struct SharedFloats {
    mapping: Mapping,
    floats: usize,
}

impl SharedFloats {
    /// The first `floats` of a file that [`seal`] has made constant.
    pub(crate) fn map(file: impl AsFd, floats: usize) -> Result<SharedFloats> {
        Ok(SharedFloats { mapping: Mapping::new(file, floats, CONSTANT, ProtFlags::READ)?, floats })
    }

    /// Every float of the mapping.
    pub(crate) fn as_slice(&self) -> &[f32] {
        // SAFETY: the mapping holds so many floats, page-aligned, every bit pattern is one, and no process
        // can change them any more (`CONSTANT`, looked at by `map`); it lives as long as `self`.
        unsafe {
            std::slice::from_raw_parts(self.mapping.start.as_ptr().cast::<f32>().cast_const(), self.floats)
        }
    }
}

/// Room for floats in a file that the service has made, in the process that writes them.
#[derive(Debug)]
pub(crate) struct SharedRoom {
    mapping: Mapping,
    floats: usize,
}

impl SharedRoom {
    /// The first `floats` of a file of a fixed size.
    pub(crate) fn map(file: impl AsFd, floats: usize) -> Result<SharedRoom> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        Ok(SharedRoom { mapping: Mapping::new(file, floats, SealFlags::SHRINK, access)?, floats })
    }

    /// Every float of the mapping, to be written.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        // SAFETY: as in `SharedFloats`, and the service, which holds the file too, neither maps nor writes it
        // before it is sealed, which it cannot be while this mapping exists.
        unsafe { std::slice::from_raw_parts_mut(self.mapping.start.as_ptr().cast::<f32>(), self.floats) }
    }
}

/// Floats as the bytes that they are in memory.
pub(crate) fn as_bytes(floats: &[f32]) -> &[u8] {
    // SAFETY: the same memory; bytes need no alignment, and floats have no padding.
    unsafe { std::slice::from_raw_parts(floats.as_ptr().cast(), size_of_val(floats)) }
}

/// Floats as the bytes that they are in memory, to be overwritten.
pub(crate) fn as_bytes_mut(floats: &mut [f32]) -> &mut [u8] {
    // SAFETY: as above; and whatever the bytes become, they are floats.
    unsafe { std::slice::from_raw_parts_mut(floats.as_mut_ptr().cast(), size_of_val(floats)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_written_is_read_and_cannot_be_changed() {
        let file = memory_file(64).unwrap();
        fix_size(&file).unwrap();
        let mut room = SharedRoom::map(&file, 16).unwrap();
        room.as_mut_slice().fill(2.5);
        assert!(SharedFloats::map(&file, 16).is_err(), "not sealed yet");
        assert!(seal(&file, Instant::now()).is_err(), "somebody can still write");
        // who lets go later is waited for
        std::thread::scope(|scope| {
            scope.spawn(move || drop(room));
            seal(&file, Instant::now() + Duration::from_secs(60)).unwrap();
        });
        let floats = SharedFloats::map(&file, 16).unwrap();
        assert_eq!(floats.as_slice(), [2.5; 16]);
        assert!(SharedRoom::map(&file, 16).is_err());
        assert!(rustix::io::pwrite(&file, &[1], 0).is_err());
        assert!(SharedFloats::map(&file, 17).is_err(), "beyond its end");
    }

    #[test]
    fn a_file_without_a_seal_is_not_mapped() {
        let file = memory_file(64).unwrap();
        assert!(SharedRoom::map(&file, 16).is_err());
        let other = std::fs::File::open("/proc/self/exe").unwrap();
        assert!(SharedFloats::map(&other, 1).is_err());
    }

    #[test]
    fn floats_are_bytes() {
        let mut floats = [1.0f32, -2.0];
        assert_eq!(as_bytes(&floats), [1.0f32.to_ne_bytes(), (-2.0f32).to_ne_bytes()].concat());
        as_bytes_mut(&mut floats)[..4].copy_from_slice(&3.0f32.to_ne_bytes());
        assert_eq!(floats, [3.0, -2.0]);
    }
}
