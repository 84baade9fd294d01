//! Memory of a driver's.
#![allow(unsafe_code)] // Mapped memory cannot be had from safe code.

use super::raw::{RawPlane, Result};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use std::ffi::c_void;
use std::os::fd::AsFd;
use std::ptr::NonNull;

/// Memory of the driver's; unmapped when dropped.
#[derive(Debug)]
pub(in crate::capture::worker) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
    writable: bool,
}

impl Mapping {
    /// Of what the driver fills.
    pub(in crate::capture::worker) fn to_read(device: impl AsFd, plane: &RawPlane) -> Result<Mapping> {
        Mapping::new(device, plane, false)
    }

    /// Of what the driver is given.
    pub(in crate::capture::worker) fn to_write(device: impl AsFd, plane: &RawPlane) -> Result<Mapping> {
        Mapping::new(device, plane, true)
    }

    fn new(device: impl AsFd, plane: &RawPlane, writable: bool) -> Result<Mapping> {
        let (bytes, offset) = (plane.length as usize, u64::from(plane.place.offset()));
        let access = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory that Rust knows of.
        let start = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), bytes, access, MapFlags::SHARED, device, offset)
        }?;
        Ok(Mapping { start: NonNull::new(start.cast()).ok_or(Errno::NOMEM)?, bytes, writable })
    }

    /// Length of the mapping, bytes.
    pub(in crate::capture::worker) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes these bytes to its beginning. `false`: they do not fit, or it was mapped to be read.
    pub(in crate::capture::worker) fn write(&mut self, data: &[u8]) -> bool {
        if !self.writable {
            return false;
        }
        // SAFETY: mapped to be written for `self.bytes` bytes until `drop`, and borrowed mutably. The caller holds
        // the buffer, so the driver does not look at it.
        let all = unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) };
        all.get_mut(..data.len()).map(|place| place.copy_from_slice(data)).is_some()
    }

    /// The first `used` bytes, or all where there are fewer.
    pub(in crate::capture::worker) fn data(&self, used: u32) -> &[u8] {
        // SAFETY: mapped to be read, at least, for `self.bytes` bytes until `drop`. The caller holds the buffer, so the
        // driver does not write into it; one that does so all the same changes bytes, each of which is valid
        // whatever its value.
        let all = unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) };
        all.get(..used as usize).unwrap_or(all)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by `new` with this very size, and no reference into it outlives its owner.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast::<c_void>(), self.bytes) };
    }
}
