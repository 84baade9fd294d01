//! Integer arithmetic on AMX tiles: dense convolutions; everything else as `vnni.rs` does it.
//!
//! A tile of 16 pixels × 64 bytes of a window's row is a strided load from the picture as it lies. `asm!`, since
//! the compiler has no stable names for these instructions.
#![allow(unsafe_code)] // std::arch, asm

use super::amx::{Cut, Shapes, TILE_FLOATS, is_granted};
use super::int8::{Int8, Int8Rows, Int8Tap};
use super::lanes::LANES;
use super::vnni;
use std::arch::asm;
use std::arch::x86_64::*;
use std::sync::OnceLock;

/// The sums of two tiles of pixels, each of two groups of channels.
#[repr(C, align(64))]
struct Sums([i32; 4 * TILE_FLOATS]);

/// What all tiles of a job have in common.
struct Loop {
    taps: *const Int8Tap,
    end: *const Int8Tap,
    weights: *const i8,
    sums: *const i32,
    /// Bytes from one pixel to the next.
    stride: usize,
}

/// Two tiles of pixels × two groups of channels.
#[inline(always)]
unsafe fn two_by_two(common: &Loop, a: [*const u8; 2], sums: &mut Sums) {
    // SAFETY: the rows' contract; all tiles have been configured. The loop reads its taps, a tile's row at each of
    // them for every pixel of both tiles, and two tiles of weights a tap, and writes the sums.
    unsafe {
        asm!(
            "tileloadd tmm0, [{start} + {o}*1]",
            "tileloadd tmm1, [{start} + {o}*1 + 64]",
            "tileloadd tmm2, [{start} + {o}*1]",
            "tileloadd tmm3, [{start} + {o}*1 + 64]",
            "2:",
            "mov {o:e}, dword ptr [{taps}]",
            "lea {t}, [{a} + {o}]",
            "tileloadd tmm4, [{t} + {stride}*1]",
            "tileloadd tmm6, [{w} + {row}*1]",
            "lea {t}, [{b} + {o}]",
            "tileloadd tmm7, [{w} + {row}*1 + 1024]",
            "tileloadd tmm5, [{t} + {stride}*1]",
            "tdpbusd tmm0, tmm4, tmm6",
            "tdpbusd tmm1, tmm4, tmm7",
            "add {taps}, 8",
            "add {w}, 2048",
            "tdpbusd tmm2, tmm5, tmm6",
            "tdpbusd tmm3, tmm5, tmm7",
            "cmp {taps}, {end}",
            "jne 2b",
            "tilestored [{sums} + {row}*1], tmm0",
            "tilestored [{sums} + {row}*1 + 1024], tmm1",
            "tilestored [{sums} + {row}*1 + 2048], tmm2",
            "tilestored [{sums} + {row}*1 + 3072], tmm3",
            start = in(reg) common.sums, o = inout(reg) 0usize => _, t = out(reg) _,
            taps = inout(reg) common.taps => _, end = in(reg) common.end,
            a = in(reg) a[0], b = in(reg) a[1], stride = in(reg) common.stride,
            w = inout(reg) common.weights => _, row = in(reg) 64usize, sums = in(reg) sums.0.as_mut_ptr(),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _,
            out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// Two tiles of pixels × one group of channels.
#[inline(always)]
unsafe fn two_by_one(common: &Loop, a: [*const u8; 2], sums: &mut Sums) {
    // SAFETY: as in `two_by_two`, with one tile of weights a tap.
    unsafe {
        asm!(
            "tileloadd tmm0, [{start} + {o}*1]",
            "tileloadd tmm2, [{start} + {o}*1]",
            "2:",
            "mov {o:e}, dword ptr [{taps}]",
            "lea {t}, [{a} + {o}]",
            "tileloadd tmm6, [{w} + {row}*1]",
            "tileloadd tmm4, [{t} + {stride}*1]",
            "lea {t}, [{b} + {o}]",
            "tileloadd tmm5, [{t} + {stride}*1]",
            "tdpbusd tmm0, tmm4, tmm6",
            "tdpbusd tmm2, tmm5, tmm6",
            "add {taps}, 8",
            "add {w}, 1024",
            "cmp {taps}, {end}",
            "jne 2b",
            "tilestored [{sums} + {row}*1], tmm0",
            "tilestored [{sums} + {row}*1 + 2048], tmm2",
            start = in(reg) common.sums, o = inout(reg) 0usize => _, t = out(reg) _,
            taps = inout(reg) common.taps => _, end = in(reg) common.end,
            a = in(reg) a[0], b = in(reg) a[1], stride = in(reg) common.stride,
            w = inout(reg) common.weights => _, row = in(reg) 64usize, sums = in(reg) sums.0.as_mut_ptr(),
            out("tmm0") _, out("tmm2") _, out("tmm4") _, out("tmm5") _, out("tmm6") _,
            options(nostack),
        );
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx2,fma")]
unsafe fn conv(rows: &Int8Rows) {
    let cut = Cut::new(rows.rows, rows.width);
    if rows.taps.is_empty() || cut.pixels == 0 {
        return;
    }
    let span = rows.taps.as_ptr_range();
    let common = Loop {
        taps: span.start,
        end: span.end,
        weights: rows.weights,
        sums: rows.sums,
        stride: rows.pixel_stride,
    };
    let mut sums = Sums([0; 4 * TILE_FLOATS]);
    // SAFETY: the rows' contract; every tile lies within its row.
    unsafe {
        let coder = vnni::coder_of(rows);
        asm!("ldtilecfg [{}]", in(reg) &Shapes::new(cut.pixels), options(nostack, readonly));
        for first in (0..cut.count).step_by(2) {
            let places = [cut.place(first), cut.place(first + 1)];
            let from = places.map(|(y, x)| rows.input.add(y * rows.input_row + x * rows.pixel_stride));
            match rows.groups {
                1 => two_by_one(&common, from, &mut sums),
                _ => two_by_two(&common, from, &mut sums),
            }
            for (tile, place) in places.into_iter().enumerate().take(cut.count - first) {
                let made = sums.0.as_ptr().add(tile * 2 * TILE_FLOATS);
                let read = |p: usize, group: usize| {
                    _mm512_loadu_si512(made.add(group * TILE_FLOATS + p * LANES).cast())
                };
                vnni::made(rows, &coder, place, cut.pixels, read);
            }
        }
        // threads switch faster while the tiles are empty
        asm!("tilerelease", options(nostack, nomem));
    }
}

/// Whether the CPU has the tiles and the kernel lets this process use them; asks once, for all threads.
fn available() -> bool {
    /// `AMX-INT8` and `AMX-TILE` in EDX of leaf 7.
    const TILES: u32 = 1 << 25 | 1 << 24;
    static GRANTED: OnceLock<bool> = OnceLock::new();
    *GRANTED.get_or_init(|| {
        let has_tiles = __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & TILES == TILES;
        vnni::available() && has_tiles && is_granted()
    })
}

pub(super) const INT8: Int8 = Int8 { name: "amx-int8", available, has_tiles: true, conv, ..vnni::INT8 };
