//! What the C library keeps of freed memory.
//!
//! Loading a model frees several times its size, and glibc would keep most of it. musl, which the static
//! binaries are linked with, gives large pieces back by itself.
#![allow(unsafe_code)] // two functions of the C library

/// Blocks of this size and larger go back to the system when they are freed, and a heap's free end when it is
/// as long: glibc's own first values, which it otherwise raises with every large block that is freed (8 MB of
/// NanoDet's parsing stayed).
const LITTLE_BYTES: i32 = 128 * 1024;
/// As high as glibc raises them by itself for large blocks, and twice that for a heap's free end.
const MUCH_BYTES: i32 = 32 * 1024 * 1024;

/// Tells the C library, before the first model is loaded, not to learn from its loading that large blocks
/// will be needed again.
pub(crate) fn keep_little() {
    keep(LITTLE_BYTES, LITTLE_BYTES);
}

/// Takes [`keep_little`] back, for an engine that allocates in every run: tract takes 120 ms instead of 76
/// for NanoDet when its tensors go back to the system each time.
pub(crate) fn keep_much() {
    keep(MUCH_BYTES, 2 * MUCH_BYTES);
}

#[cfg_attr(not(target_env = "gnu"), allow(unused_variables))]
fn keep(block_bytes: i32, end_bytes: i32) {
    #[cfg(target_env = "gnu")]
    {
        /// `M_MMAP_THRESHOLD` and `M_TRIM_THRESHOLD` of malloc.h.
        const BLOCK: i32 = -3;
        const END: i32 = -1;
        unsafe extern "C" {
            fn mallopt(parameter: i32, value: i32) -> i32;
        }
        for (threshold, bytes) in [(BLOCK, block_bytes), (END, end_bytes)] {
            // SAFETY: glibc's own function, which takes its locks itself; it changes two numbers.
            unsafe { mallopt(threshold, bytes) };
        }
    }
}

/// Gives freed memory back to the system (36 MB after NanoDet).
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    {
        unsafe extern "C" {
            fn malloc_trim(keep_bytes: usize) -> i32;
        }
        // SAFETY: glibc's own function, which takes its locks itself and touches free memory only.
        unsafe { malloc_trim(0) };
    }
}
