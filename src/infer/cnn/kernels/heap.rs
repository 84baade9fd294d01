//! What the C library keeps of freed memory.
//!
//! Loading a model frees several times its size, and glibc would keep most of it. musl, which the static binaries are linked
//! with, gives large pieces back by itself.
#![allow(unsafe_code)] // two functions of the C library

/// Blocks of this size and larger go back to the system when they are freed, and a heap's free end when it is as long: glibc's own
/// first values, which it otherwise raises up to 64 MiB with every large block that is freed (8 MB of NanoDet's parsing stayed).
#[cfg(target_env = "gnu")]
const KEPT_BYTES: i32 = 128 * 1024;

/// Tells the C library, before the first model is loaded, not to learn from its loading that large blocks will be needed again.
pub(crate) fn keep_little() {
    #[cfg(target_env = "gnu")]
    {
        /// `M_TRIM_THRESHOLD` and `M_MMAP_THRESHOLD` of malloc.h.
        const THRESHOLDS: [i32; 2] = [-1, -3];
        unsafe extern "C" {
            fn mallopt(parameter: i32, value: i32) -> i32;
        }
        for threshold in THRESHOLDS {
            // SAFETY: glibc's own function, which takes its locks itself; it changes two numbers.
            unsafe { mallopt(threshold, KEPT_BYTES) };
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
