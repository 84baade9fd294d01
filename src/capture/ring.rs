//! The frames themselves: a sealed memory file that worker and parent share.

/// The parent's read-only view of a ring.
#[derive(Debug)]
pub struct Ring {}

impl Ring {
    /// Copies slot `slot` into `out`.
    pub fn copy_slot(&self, _slot: u32, _out: &mut [u8]) {}

    /// Bytes of the whole ring.
    pub fn bytes(&self) -> usize {
        0
    }
}
