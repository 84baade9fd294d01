//! The frames themselves: a sealed memory file that parent and worker share.
//!
//! ```text
//! memfd   │ slot 0: R plane, G plane, B plane, padding │ slot 1 … │        sealed: its size can never change,
//! worker    read + write                                                   so no access can end in SIGBUS
//! parent    read only
//! ```
//!
//! Who may touch a slot is settled by messages: a worker writes into a slot that it holds, announces it, and
//! leaves it alone until the parent has released it. The parent does not rely on that: a worker that breaks
//! the rule spoils its own picture and nothing else, because the parent reads through raw pointers and every
//! byte is a valid pixel.
#![allow(unsafe_code)] // A mapping shared with another process cannot be had from safe code.

use crate::error::{Error, Kind, Result, system};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};
use std::ffi::c_void;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;

/// Most slots of one ring. Four times the reference's buffer of 64.
pub(in crate::capture) const MAX_SLOTS: u32 = 256;

/// Most bytes of one ring: 64 frames of a 1280x1280 model and some room. A request beyond is a mistake.
const MAX_RING_BYTES: usize = 512 << 20;

/// Slots start at multiples of this many bytes: a cache line, so that two slots never share one.
const SLOT_ALIGNMENT_BYTES: usize = 64;

/// Where the slots lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    slots: u32,
    slot_bytes: usize,
    stride: usize,
    bytes: usize,
}

impl Shape {
    fn new(slots: u32, slot_bytes: usize) -> Result<Shape> {
        let too_large =
            || Error::new(Kind::Exhausted, "the frame ring would be empty or larger than its limit");
        if slots == 0 || slots > MAX_SLOTS || slot_bytes == 0 || slot_bytes > MAX_RING_BYTES {
            return Err(too_large());
        }
        // Cannot overflow: both factors were just bounded.
        let stride = slot_bytes.next_multiple_of(SLOT_ALIGNMENT_BYTES);
        let bytes = stride
            .checked_mul(slots as usize)
            .filter(|bytes| *bytes <= MAX_RING_BYTES)
            .ok_or_else(too_large)?;
        Ok(Shape { slots, slot_bytes, stride, bytes })
    }

    fn offset(&self, slot: u32) -> Option<usize> {
        (slot < self.slots).then(|| slot as usize * self.stride)
    }
}

/// A shared mapping of a whole ring, unmapped when dropped.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping belongs to this value alone and stays where it is; nothing in it is bound to a thread.
unsafe impl Send for Mapping {}
// SAFETY: through a shared reference the memory is only read, and only through raw pointers (see
// `Ring::copy_slot`).
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(file: impl AsFd, bytes: usize, access: ProtFlags) -> Result<Mapping> {
        // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory that Rust knows of.
        let start =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), bytes, access, MapFlags::SHARED, file, 0) };
        let start = start.map_err(|errno| system("mapping the frame ring")(errno.into()))?;
        let start = NonNull::new(start.cast::<u8>())
            .ok_or_else(|| Error::new(Kind::System, "the frame ring lies at address 0"))?;
        Ok(Mapping { start, bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by `new` with this very size, and no reference into it outlives its owner.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast::<c_void>(), self.bytes) };
    }
}

/// The parent's read-only view of a ring.
#[derive(Debug)]
pub struct Ring {
    mapping: Mapping,
    shape: Shape,
}

impl Ring {
    /// A new ring, all bytes 0, and the file to hand to the worker. Memory is taken only when a slot is first
    /// written.
    pub(in crate::capture) fn create(slots: u32, slot_bytes: usize) -> Result<(Ring, OwnedFd)> {
        let shape = Shape::new(slots, slot_bytes)?;
        let file = rustix::fs::memfd_create(c"weir-ring", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
            .map_err(|errno| system("creating the frame ring")(errno.into()))?;
        rustix::fs::ftruncate(&file, shape.bytes as u64)
            .map_err(|errno| system("sizing the frame ring")(errno.into()))?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
            .map_err(|errno| system("sealing the frame ring")(errno.into()))?;
        let mapping = Mapping::new(&file, shape.bytes, ProtFlags::READ)?;
        Ok((Ring { mapping, shape }, file))
    }

    /// Copies slot `slot` (planar 8-bit RGB, `InputRule::slot_bytes` long) into `out`. A slot that does not
    /// exist leaves `out` as it is; an `out` of another length gets the part that both have.
    pub fn copy_slot(&self, slot: u32, out: &mut [u8]) {
        let Some(offset) = self.shape.offset(slot) else { return };
        let bytes = out.len().min(self.shape.slot_bytes);
        // SAFETY: `offset + slot_bytes` lies inside the mapping (`Shape`), which is sealed against shrinking
        // and lives as long as `self`; `out` is our own memory, so the two do not overlap. The worker may
        // write at the same time if it breaks the protocol: no reference to the shared bytes is ever made,
        // and any byte is a valid u8.
        unsafe {
            std::ptr::copy_nonoverlapping(self.mapping.start.as_ptr().add(offset), out.as_mut_ptr(), bytes)
        }
    }

    /// Bytes of the whole ring.
    pub fn bytes(&self) -> usize {
        self.shape.bytes
    }

    /// How many frames the ring holds.
    pub(in crate::capture) fn slots(&self) -> u32 {
        self.shape.slots
    }
}

/// The worker's view of its ring.
#[derive(Debug)]
pub(in crate::capture) struct RingWriter {
    mapping: Mapping,
    shape: Shape,
}

impl RingWriter {
    /// Maps the file that the parent made for `slots` slots of `slot_bytes`.
    pub(in crate::capture) fn open(file: impl AsFd, slots: u32, slot_bytes: usize) -> Result<RingWriter> {
        let shape = Shape::new(slots, slot_bytes)?;
        let stat =
            rustix::fs::fstat(&file).map_err(|errno| system("looking at the frame ring")(errno.into()))?;
        let seals = rustix::fs::fcntl_get_seals(&file)
            .map_err(|errno| system("looking at the frame ring")(errno.into()))?;
        if u64::try_from(stat.st_size).ok() != Some(shape.bytes as u64) || !seals.contains(SealFlags::SHRINK)
        {
            return Err(Error::new(Kind::Worker, "the frame ring has another size than agreed, or no seal"));
        }
        let mapping = Mapping::new(file, shape.bytes, ProtFlags::READ | ProtFlags::WRITE)?;
        Ok(RingWriter { mapping, shape })
    }

    /// The bytes of a slot that the worker holds; `None` when there is no such slot.
    pub(in crate::capture) fn slot_mut(&mut self, slot: u32) -> Option<&mut [u8]> {
        let offset = self.shape.offset(slot)?;
        // SAFETY: inside the mapping (`Shape`), which lives as long as `self`; `&mut self` makes this the
        // only reference in this process, and the parent maps the file read-only and takes no reference
        // either.
        Some(unsafe {
            std::slice::from_raw_parts_mut(self.mapping.start.as_ptr().add(offset), self.shape.slot_bytes)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_the_worker_writes_the_parent_reads() {
        let (ring, file) = Ring::create(3, 100).unwrap();
        let mut writer = RingWriter::open(&file, 3, 100).unwrap();
        for slot in 0..3 {
            writer.slot_mut(slot).unwrap().fill(10 + slot as u8);
        }
        for slot in 0..3 {
            let mut out = [0; 100];
            ring.copy_slot(slot, &mut out);
            assert_eq!(out, [10 + slot as u8; 100]);
        }
        assert_eq!(ring.bytes(), 3 * 128);
    }

    #[test]
    fn slots_and_lengths_out_of_range_do_nothing() {
        let (ring, file) = Ring::create(1, 8).unwrap();
        let mut writer = RingWriter::open(&file, 1, 8).unwrap();
        assert!(writer.slot_mut(1).is_none());
        writer.slot_mut(0).unwrap().fill(5);
        let mut out = [1; 10];
        ring.copy_slot(1, &mut out);
        assert_eq!(out, [1; 10]);
        ring.copy_slot(0, &mut out);
        assert_eq!(out, [5, 5, 5, 5, 5, 5, 5, 5, 1, 1]);
    }

    #[test]
    fn the_file_can_neither_shrink_nor_grow() {
        let (_ring, file) = Ring::create(2, 4096).unwrap();
        assert!(rustix::fs::ftruncate(&file, 0).is_err());
        assert!(rustix::fs::ftruncate(&file, 1 << 20).is_err());
    }

    #[test]
    fn shapes_beyond_the_limits_are_refused() {
        for (slots, bytes) in [(0, 8), (MAX_SLOTS + 1, 8), (1, 0), (1, usize::MAX), (64, MAX_RING_BYTES / 32)]
        {
            assert!(Shape::new(slots, bytes).is_err(), "{slots} x {bytes}");
        }
        let (_ring, file) = Ring::create(2, 4096).unwrap();
        assert!(RingWriter::open(&file, 3, 4096).is_err());
    }
}
