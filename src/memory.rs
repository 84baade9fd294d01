//! `memcpy`, `memmove` and `memset` of the static x86-64 binary.
//!
//! musl's copy byte by byte up to an aligned address and then by `rep movsq`, which costs tens of cycles before the
//! first byte: a decoder copies sixteen bytes at a time, and with musl's functions spends a quarter of its time in
//! them. These take all bytes of a small block at once, in registers that overlap in the middle. (musl's for arm64
//! are as good as any.)
//!
//! ```text
//! 17 to 32 bytes:   ├── first 16 ──┤
//!                          ├── last 16 ──┤
//! ```
#![allow(unsafe_code)] // raw memory is all that there is here
#![cfg_attr(not(target_env = "musl"), allow(dead_code))] // other C libraries have their own

use core::arch::asm;
use core::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_set1_epi8, _mm_storeu_si128};

/// From this size on the CPU's own instruction for strings is as fast as a loop, bytes.
const STRING_BYTES: usize = 2048;

/// Bytes of a register, and of what a loop does at a time.
const REGISTER: usize = 16;
const BLOCK: usize = 64;

/// Reads the first and the last of so many registers, and only then writes: sources and targets may overlap.
macro_rules! ends {
    ($to:ident, $from:ident, $bytes:ident, $($at:literal)*) => {{
        let last = $bytes - REGISTER;
        let values = [$(load($from.add($at * REGISTER)), load($from.add(last - $at * REGISTER))),*];
        let mut values = values.into_iter();
        $(
            if let (Some(first), Some(end)) = (values.next(), values.next()) {
                store($to.add($at * REGISTER), first);
                store($to.add(last - $at * REGISTER), end);
            }
        )*
    }};
}

/// # Safety
/// Sixteen bytes can be read there.
#[inline(always)]
unsafe fn load(from: *const u8) -> __m128i {
    // SAFETY: as the caller's; it need not be aligned.
    unsafe { _mm_loadu_si128(from.cast()) }
}

/// # Safety
/// Sixteen bytes can be written there.
#[inline(always)]
unsafe fn store(to: *mut u8, value: __m128i) {
    // SAFETY: as the caller's; it need not be aligned.
    unsafe { _mm_storeu_si128(to.cast(), value) }
}

/// Copies two words that lie at the two ends and may overlap.
macro_rules! two {
    ($word:ty, $to:ident, $from:ident, $bytes:ident) => {{
        let end = $bytes - size_of::<$word>();
        let first = $from.cast::<$word>().read_unaligned();
        let last = $from.add(end).cast::<$word>().read_unaligned();
        $to.cast::<$word>().write_unaligned(first);
        $to.add(end).cast::<$word>().write_unaligned(last);
    }};
}

/// Copies up to 256 bytes, whether they overlap or not. False: they are more.
///
/// # Safety
/// So many bytes can be read at `from` and written at `to`.
#[inline(always)]
unsafe fn copy_small(to: *mut u8, from: *const u8, bytes: usize) -> bool {
    // SAFETY: everything lies within the first `bytes` of both: each arm's words begin at multiples of their size below
    // half of the arm's least size rounded up, or end so far before the end.
    unsafe {
        match bytes {
            0 => {}
            1 => *to = *from,
            2..=3 => two!(u16, to, from, bytes),
            4..=7 => two!(u32, to, from, bytes),
            8..=15 => two!(u64, to, from, bytes),
            16..=32 => ends!(to, from, bytes, 0),
            33..=64 => ends!(to, from, bytes, 0 1),
            65..=128 => ends!(to, from, bytes, 0 1 2 3),
            129..=256 => ends!(to, from, bytes, 0 1 2 3 4 5 6 7),
            _ => return false,
        }
    }
    true
}

/// Copies more than [`BLOCK`] bytes from the first one on.
///
/// # Safety
/// As [`copy_small`], of more than 64 bytes; `to` is not within the source, unless at its beginning.
unsafe fn copy_up(to: *mut u8, from: *const u8, bytes: usize) {
    // SAFETY: the loop reads and writes blocks while more than one is left, so within both; what it writes was read, or
    // lies before what it reads. The last block was read before anything was written, and is written last.
    unsafe {
        if bytes >= STRING_BYTES {
            asm!("rep movsb", inout("rcx") bytes => _, inout("rdi") to => _, inout("rsi") from => _,
                options(nostack, preserves_flags));
            return;
        }
        let end = bytes - BLOCK;
        let tail = [0, 1, 2, 3].map(|at| load(from.add(end + at * REGISTER)));
        asm!(
            "2:",
            "movups {a}, [{from}]",
            "movups {b}, [{from} + 16]",
            "movups {c}, [{from} + 32]",
            "movups {d}, [{from} + 48]",
            "movups [{to}], {a}",
            "movups [{to} + 16], {b}",
            "movups [{to} + 32], {c}",
            "movups [{to} + 48], {d}",
            "add {from}, 64",
            "add {to}, 64",
            "sub {left}, 64",
            "ja 2b",
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            left = inout(reg) end => _,
            a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _,
            options(nostack),
        );
        for (at, value) in tail.into_iter().enumerate() {
            store(to.add(end + at * REGISTER), value);
        }
    }
}

/// Copies more than [`BLOCK`] bytes from the last one on.
///
/// # Safety
/// As [`copy_small`], of more than 64 bytes; `to` lies after `from`.
unsafe fn copy_down(to: *mut u8, from: *const u8, bytes: usize) {
    // SAFETY: as `copy_up`, from the other end; the first block was read before anything was written.
    unsafe {
        let head = [0, 1, 2, 3].map(|at| load(from.add(at * REGISTER)));
        asm!(
            "2:",
            "movups {a}, [{from} + {left}]",
            "movups {b}, [{from} + {left} + 16]",
            "movups {c}, [{from} + {left} + 32]",
            "movups {d}, [{from} + {left} + 48]",
            "movups [{to} + {left}], {a}",
            "movups [{to} + {left} + 16], {b}",
            "movups [{to} + {left} + 32], {c}",
            "movups [{to} + {left} + 48], {d}",
            "sub {left}, 64",
            "jg 2b",
            from = in(reg) from,
            to = in(reg) to,
            left = inout(reg) bytes - BLOCK => _,
            a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _,
            options(nostack),
        );
        for (at, value) in head.into_iter().enumerate() {
            store(to.add(at * REGISTER), value);
        }
    }
}

/// `memmove`; also `memcpy`, which may not know of an overlap that its caller has.
///
/// # Safety
/// `bytes` bytes can be read at `from` and written at `to`.
#[inline(always)]
unsafe fn copy(to: *mut u8, from: *const u8, bytes: usize) {
    // SAFETY: as the caller's. Above 256 bytes; where `to` is within the source, it is copied from its end.
    unsafe {
        if copy_small(to, from, bytes) {
        } else if to.addr().wrapping_sub(from.addr()) >= bytes {
            copy_up(to, from, bytes);
        } else {
            copy_down(to, from, bytes);
        }
    }
}

/// `memset`.
///
/// # Safety
/// `bytes` bytes can be written at `to`.
#[inline(always)]
unsafe fn fill(to: *mut u8, value: u8, bytes: usize) {
    // SAFETY: all within the first `bytes`: at each end, at multiples of a register below half of the arm's least size
    // rounded up; in the loop, blocks while one is left.
    unsafe {
        let word = u64::from(value).wrapping_mul(0x0101_0101_0101_0101);
        let [wide, last] = [_mm_set1_epi8(value.cast_signed()), _mm_set1_epi8(value.cast_signed())];
        let ends = |count: usize| {
            for at in 0..count {
                store(to.add(at * REGISTER), wide);
                store(to.add(bytes - REGISTER - at * REGISTER), last);
            }
        };
        match bytes {
            0 => {}
            1..=3 => {
                *to = value;
                *to.add(bytes / 2) = value;
                *to.add(bytes - 1) = value;
            }
            4..=7 => {
                to.cast::<u32>().write_unaligned(word as u32);
                to.add(bytes - 4).cast::<u32>().write_unaligned(word as u32);
            }
            8..=15 => {
                to.cast::<u64>().write_unaligned(word);
                to.add(bytes - 8).cast::<u64>().write_unaligned(word);
            }
            16..=32 => ends(1),
            33..=64 => ends(2),
            65..=128 => ends(4),
            _ if bytes < STRING_BYTES => {
                asm!(
                    "2:",
                    "movups [{to}], {value}",
                    "movups [{to} + 16], {value}",
                    "movups [{to} + 32], {value}",
                    "movups [{to} + 48], {value}",
                    "add {to}, 64",
                    "sub {left}, 64",
                    "ja 2b",
                    to = inout(reg) to => _,
                    left = inout(reg) bytes - BLOCK => _,
                    value = in(xmm_reg) wide,
                    options(nostack),
                );
                for at in 1..=BLOCK / REGISTER {
                    store(to.add(bytes - at * REGISTER), last);
                }
            }
            _ => asm!("rep stosb", inout("rcx") bytes => _, inout("rdi") to => _, in("al") value,
                options(nostack, preserves_flags)),
        }
    }
}

/// What the linker takes in place of musl's.
#[cfg(all(target_env = "musl", not(test)))]
mod exported {
    /// # Safety
    /// As C's.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
        // SAFETY: as the caller's.
        unsafe { super::copy(to, from, bytes) };
        to
    }

    /// # Safety
    /// As C's.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
        // SAFETY: as the caller's.
        unsafe { super::copy(to, from, bytes) };
        to
    }

    /// # Safety
    /// As C's.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memset(to: *mut u8, value: i32, bytes: usize) -> *mut u8 {
        // As C's, its lowest byte.
        let [value, ..] = value.to_le_bytes();
        // SAFETY: as the caller's.
        unsafe { super::fill(to, value, bytes) };
        to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every size around every bound, and some beyond.
    fn sizes() -> impl Iterator<Item = usize> {
        (0..700).chain([1023, 1024, 1025, 2046, 2047, 2048, 2049, 2100, 5000])
    }

    fn pattern() -> Vec<u8> {
        (0..6000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
    }

    #[test]
    fn every_size_is_copied_and_nothing_beyond() {
        let source = pattern();
        for bytes in sizes() {
            for (from, to) in [(0, 0), (1, 3), (5, 16), (17, 1)] {
                let mut target = vec![0xee_u8; 6000];
                // SAFETY: both are long enough.
                unsafe { copy(target.as_mut_ptr().add(to), source.as_ptr().add(from), bytes) };
                assert!(target[..to].iter().all(|byte| *byte == 0xee), "{bytes}");
                assert_eq!(target[to..to + bytes], source[from..from + bytes], "{bytes}");
                assert!(target[to + bytes..].iter().all(|byte| *byte == 0xee), "{bytes}");
            }
        }
    }

    #[test]
    fn sources_and_targets_may_overlap_either_way() {
        for bytes in sizes() {
            for (from, to) in [(0, 1), (1, 0), (0, 16), (16, 0), (3, 67), (67, 3), (0, 300), (300, 0), (9, 9)]
            {
                let mut moved = pattern();
                let mut expected = moved.clone();
                expected.copy_within(from..from + bytes, to);
                let at = moved.as_mut_ptr();
                // SAFETY: both lie within the vector.
                unsafe { copy(at.add(to), at.add(from), bytes) };
                assert!(moved == expected, "{bytes} from {from} to {to}");
            }
        }
    }

    #[test]
    fn every_size_is_filled_and_nothing_beyond() {
        for bytes in sizes() {
            for to in [0, 1, 7, 16] {
                let mut target = vec![0xee_u8; 6000];
                // SAFETY: it is long enough.
                unsafe { fill(target.as_mut_ptr().add(to), 0x5a, bytes) };
                assert!(target[..to].iter().all(|byte| *byte == 0xee), "{bytes}");
                assert!(target[to..to + bytes].iter().all(|byte| *byte == 0x5a), "{bytes}");
                assert!(target[to + bytes..].iter().all(|byte| *byte == 0xee), "{bytes}");
            }
        }
    }
}
