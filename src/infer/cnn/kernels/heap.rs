//! What the C library keeps of freed memory.
#![allow(unsafe_code)] // one call of the C library

/// Gives freed memory back to the system. Loading a model frees several times its size; glibc would keep most of it (36 MB
/// after NanoDet). musl, which the static binaries are linked with, gives large pieces back by itself.
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
