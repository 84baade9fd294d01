//! Half precision on x86-64: dense convolutions on AMX tiles, everything else on AVX-512 with its conversions
//! of bfloat16.
//!
//! A tile of 16 pixels × 32 input channels is a strided load from the picture as it lies; two of them and the
//! weights of two times 16 output channels make four tiles of sums. `asm!`, since the compiler has no stable
//! names for these instructions. The sums leave the tiles as 32-bit floats, and bias, activation and shortcut
//! happen before they are rounded.
#![allow(unsafe_code)] // std::arch, asm

use super::avx512::Zmm;
use super::half::{
    Coarse, Convolve, ESTIMATE, Half, HalfDepthwise, HalfRows, Recast, Shuffle, TILE_PIXELS, Tiles,
    depthwise, finish, sigmoid,
};
use super::lanes::{LANES, Lanes, by_registers};
use super::{Activation, Binary, Format, Operand, Pictures, PoolRow, ResizeRow, generic};
use std::arch::asm;
use std::arch::x86_64::*;
use std::sync::OnceLock;

/// A block in half precision as floats: even channels, odd channels.
#[derive(Clone, Copy)]
struct Pair(Zmm, Zmm);

/// The first [`LANES`] channels of a block in half precision; its others are zero.
#[derive(Clone, Copy)]
struct First(Zmm);

/// Even channels and odd ones → the order of the channels.
const INTERLEAVED: [u16; 32] = {
    let mut order = [0; 32];
    let mut c = 0;
    while c < 32 {
        order[c] = (c / 2 + c % 2 * 16) as u16;
        c += 1;
    }
    order
};

// SAFETY (every block below): the trait's contract says that the CPU has AVX-512F, BW and BF16
// (`Half::choose` has asked) and that the pointers are good for a block.
impl Lanes for Pair {
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: see above.
        unsafe {
            let both = _mm512_loadu_si512(from.cast());
            let even = _mm512_slli_epi32::<16>(both);
            let odd = _mm512_and_si512(both, _mm512_set1_epi32(0xffff_0000_u32 as i32));
            Pair(Zmm(_mm512_castsi512_ps(even)), Zmm(_mm512_castsi512_ps(odd)))
        }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: see above.
        unsafe {
            let apart: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(self.1.0, self.0.0));
            let order = _mm512_loadu_si512(INTERLEAVED.as_ptr().cast());
            _mm512_storeu_si512(to.cast(), _mm512_permutexvar_epi16(order, apart));
        }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: see above.
        unsafe { Pair(Zmm::splat(value), Zmm::splat(value)) }
    }
    by_registers!(Pair, 0 1);
    #[inline(always)]
    unsafe fn sigmoid(self) -> Self {
        // SAFETY: see above.
        unsafe { sigmoid(self) }
    }
    #[inline(always)]
    unsafe fn silu(self) -> Self {
        // SAFETY: see above.
        unsafe { self.mul(sigmoid(self)) }
    }
}

impl Coarse for Zmm {
    #[inline(always)]
    unsafe fn estimate(self) -> Self {
        // SAFETY: see above.
        unsafe {
            let bits = _mm512_sub_epi32(_mm512_set1_epi32(ESTIMATE), _mm512_castps_si512(self.0));
            Zmm(_mm512_castsi512_ps(bits))
        }
    }
}

impl Coarse for Pair {
    #[inline(always)]
    unsafe fn estimate(self) -> Self {
        // SAFETY: see above.
        unsafe { Pair(self.0.estimate(), self.1.estimate()) }
    }
}

// SAFETY (every block below): as above.
impl Lanes for First {
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: see above.
        unsafe {
            let halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            First(Zmm(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves))))
        }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: see above.
        unsafe {
            let made: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(_mm512_setzero_ps(), self.0.0));
            _mm512_storeu_si512(to.cast(), made);
        }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: see above.
        unsafe { First(Zmm::splat(value)) }
    }
    by_registers!(First, 0);
    #[inline(always)]
    unsafe fn sigmoid(self) -> Self {
        // SAFETY: see above.
        unsafe { First(sigmoid(self.0)) }
    }
    #[inline(always)]
    unsafe fn silu(self) -> Self {
        // SAFETY: see above.
        unsafe { First(self.0.mul(sigmoid(self.0))) }
    }
}

/// Numbers of a tile of sums, each of four bytes.
pub(super) const TILE_FLOATS: usize = 256;

/// `LDTILECFG`'s operand.
#[repr(C, align(64))]
pub(super) struct Shapes([u8; 64]);

impl Shapes {
    /// Tiles 0 to 3 are sums and 4 and 5 input, all of `pixels` rows; 6 and 7 are weights.
    pub(super) fn new(pixels: usize) -> Shapes {
        let mut bytes = [0; 64];
        bytes[0] = 1; // palette
        for tile in 0..8 {
            bytes[16 + 2 * tile] = 64; // bytes of a row
            bytes[48 + tile] = if tile < 6 { pixels as u8 } else { LANES as u8 };
        }
        Shapes(bytes)
    }
}

/// How the rows of a job are cut into tiles.
pub(super) struct Cut {
    /// Tiles of all rows, and of one.
    pub(super) count: usize,
    across: usize,
    /// Pixels of a tile.
    pub(super) pixels: usize,
    width: usize,
}

impl Cut {
    #[inline(always)]
    pub(super) fn new(rows: usize, width: usize) -> Cut {
        let across = width.div_ceil(TILE_PIXELS).max(1);
        Cut { count: rows * across, across, pixels: width.div_ceil(across), width }
    }

    /// Row and first pixel of a tile, of the last one for any beyond. The last of a row begins earlier where it would
    /// go beyond: its first pixels are made twice.
    #[inline(always)]
    pub(super) fn place(&self, tile: usize) -> (usize, usize) {
        let tile = tile.min(self.count - 1);
        (tile / self.across, (tile % self.across * self.pixels).min(self.width - self.pixels))
    }
}

/// The sums of two tiles of pixels, each of two groups of channels.
#[repr(C, align(64))]
struct Sums([f32; 4 * TILE_FLOATS]);

/// What all tiles of a job have in common.
struct Loop {
    taps: *const u32,
    end: *const u32,
    weights: *const f32,
    bias: *const f32,
    /// Bytes from one pixel to the next.
    stride: usize,
}

/// Two tiles of pixels × two groups of channels.
#[inline(always)]
unsafe fn two_by_two(common: &Loop, a: [*const f32; 2], sums: &mut Sums) {
    // SAFETY: the rows' contract; all tiles have been configured. The loop reads its taps, one pixel's block at
    // each of them for every pixel of both tiles, and two tiles of weights a tap, and writes the sums.
    unsafe {
        asm!(
            "tileloadd tmm0, [{bias} + {o}*1]",
            "tileloadd tmm1, [{bias} + {o}*1 + 64]",
            "tileloadd tmm2, [{bias} + {o}*1]",
            "tileloadd tmm3, [{bias} + {o}*1 + 64]",
            "2:",
            "mov {o:e}, dword ptr [{taps}]",
            "lea {t}, [{a} + {o}*4]",
            "tileloadd tmm4, [{t} + {stride}*1]",
            "tileloadd tmm6, [{w} + {row}*1]",
            "lea {t}, [{b} + {o}*4]",
            "tileloadd tmm7, [{w} + {row}*1 + 1024]",
            "tileloadd tmm5, [{t} + {stride}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "add {taps}, 4",
            "add {w}, 2048",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "cmp {taps}, {end}",
            "jne 2b",
            "tilestored [{sums} + {row}*1], tmm0",
            "tilestored [{sums} + {row}*1 + 1024], tmm1",
            "tilestored [{sums} + {row}*1 + 2048], tmm2",
            "tilestored [{sums} + {row}*1 + 3072], tmm3",
            bias = in(reg) common.bias, o = inout(reg) 0usize => _, t = out(reg) _,
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
unsafe fn two_by_one(common: &Loop, a: [*const f32; 2], sums: &mut Sums) {
    // SAFETY: as in `two_by_two`, with one tile of weights a tap.
    unsafe {
        asm!(
            "tileloadd tmm0, [{bias} + {o}*1]",
            "tileloadd tmm2, [{bias} + {o}*1]",
            "2:",
            "mov {o:e}, dword ptr [{taps}]",
            "lea {t}, [{a} + {o}*4]",
            "tileloadd tmm6, [{w} + {row}*1]",
            "tileloadd tmm4, [{t} + {stride}*1]",
            "lea {t}, [{b} + {o}*4]",
            "tileloadd tmm5, [{t} + {stride}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "add {taps}, 4",
            "add {w}, 1024",
            "cmp {taps}, {end}",
            "jne 2b",
            "tilestored [{sums} + {row}*1], tmm0",
            "tilestored [{sums} + {row}*1 + 2048], tmm2",
            bias = in(reg) common.bias, o = inout(reg) 0usize => _, t = out(reg) _,
            taps = inout(reg) common.taps => _, end = in(reg) common.end,
            a = in(reg) a[0], b = in(reg) a[1], stride = in(reg) common.stride,
            w = inout(reg) common.weights => _, row = in(reg) 64usize, sums = in(reg) sums.0.as_mut_ptr(),
            out("tmm0") _, out("tmm2") _, out("tmm4") _, out("tmm5") _, out("tmm6") _,
            options(nostack),
        );
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16,avx2,fma")]
unsafe fn conv(rows: &HalfRows) {
    let cut = Cut::new(rows.rows, rows.width);
    if rows.taps.is_empty() || cut.pixels == 0 {
        return;
    }
    let span = rows.taps.as_ptr_range();
    let common = Loop {
        taps: span.start,
        end: span.end,
        weights: rows.weights,
        bias: rows.bias,
        stride: rows.pixel_stride * size_of::<f32>(),
    };
    let mut sums = Sums([0.0; 4 * TILE_FLOATS]);
    // SAFETY: the rows' contract; every tile lies within its row.
    unsafe {
        asm!("ldtilecfg [{}]", in(reg) &Shapes::new(cut.pixels), options(nostack, readonly));
        for first in (0..cut.count).step_by(2) {
            let places = [cut.place(first), cut.place(first + 1)];
            let from = places.map(|(y, x)| rows.input.add(y * rows.input_row + x * rows.pixel_stride));
            match rows.groups {
                1 => two_by_one(&common, from, &mut sums),
                _ => two_by_two(&common, from, &mut sums),
            }
            for (tile, (y, x)) in places.into_iter().enumerate().take(cut.count - first) {
                let to = rows.output.add(y * rows.output_row + x * LANES);
                let residual = match rows.residual.is_null() {
                    true => rows.residual,
                    false => rows.residual.add(y * rows.residual_row + x * LANES),
                };
                let residual = (residual, rows.residual_order);
                let made = sums.0.as_ptr().add(tile * 2 * TILE_FLOATS);
                if rows.groups == 1 {
                    let read = |p: usize| First(Zmm::load(made.add(p * LANES)));
                    finish::<First>(read, cut.pixels, to, rows.activation, residual);
                } else {
                    let read = |p: usize| {
                        let even = Zmm::load(made.add(p * LANES));
                        Pair(even, Zmm::load(made.add(TILE_FLOATS + p * LANES)))
                    };
                    finish::<Pair>(read, cut.pixels, to, rows.activation, residual);
                }
            }
        }
        // threads switch faster while the tiles are empty
        asm!("tilerelease", options(nostack, nomem));
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16,avx2,fma")]
unsafe fn depthwise_row(row: &HalfDepthwise) {
    // SAFETY: the caller's promise, passed on: the even channels' floats, then the odd ones'.
    unsafe { depthwise::<Pair, 8>(row, |from| Pair(Zmm::load(from), Zmm::load(from.add(LANES)))) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16,avx2,fma")]
unsafe fn narrow(row: &Recast) {
    for x in 0..row.pixels {
        // SAFETY: the row's contract.
        unsafe {
            let first = Zmm::load(row.from.add(x * LANES));
            let second =
                if row.blocks > 1 { Zmm::load(row.from.add(row.apart + x * LANES)) } else { Zmm::splat(0.0) };
            let made: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(second.0, first.0));
            _mm512_storeu_si512(row.to.add(x * LANES).cast(), made);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16,avx2,fma")]
unsafe fn widen(row: &Recast) {
    for x in 0..row.pixels {
        // SAFETY: the row's contract.
        unsafe {
            let from = row.from.add(x * LANES);
            for block in 0..row.blocks {
                First::load(from.add(block * LANES / 2)).0.store(row.to.add(block * row.apart + x * LANES));
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16,avx2,fma")]
unsafe fn shuffle(row: &Shuffle) {
    for x in 0..row.pixels {
        // SAFETY: the row's contract.
        unsafe {
            let mut made = _mm512_setzero_si512();
            for (from, taken) in row.sources {
                let order = _mm512_loadu_si512(taken.from.as_ptr().cast());
                let source = _mm512_loadu_si512(from.add(x * LANES).cast());
                made = _mm512_mask_permutexvar_epi16(made, taken.mask, order, source);
            }
            _mm512_storeu_si512(row.output.add(x * LANES).cast(), made);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16,avx2,fma")]
unsafe fn pool(row: &PoolRow) {
    // SAFETY: the caller's promise, passed on; the features are enabled on this function.
    unsafe { generic::pool::<Pair>(row) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16,avx2,fma")]
unsafe fn resize(row: &ResizeRow) {
    // SAFETY: as above.
    unsafe { generic::resize::<Pair>(row) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16,avx2,fma")]
unsafe fn activate(from: *const f32, to: *mut f32, vectors: usize, activation: Activation) {
    // SAFETY: as above.
    unsafe { generic::rest::<Pair>(from, to, vectors, LANES, activation) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16,avx2,fma")]
unsafe fn binary(op: Binary, a: Operand, b: Operand, to: *mut f32, vectors: usize) {
    // SAFETY: as above.
    unsafe { generic::binary::<Pair>(op, a, b, to, vectors) }
}

/// Whether the CPU has the tiles and the kernel lets this process use them; asks once, for all threads.
fn available() -> bool {
    static GRANTED: OnceLock<bool> = OnceLock::new();
    *GRANTED.get_or_init(|| {
        let vectors = is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512bf16");
        vectors && has_tiles() && is_granted()
    })
}

fn has_tiles() -> bool {
    /// `AMX-BF16` and `AMX-TILE` in EDX of leaf 7.
    const TILES: u32 = 1 << 22 | 1 << 24;
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & TILES == TILES
}

/// Linux keeps tiles for those who have asked (5.16 and later; a filter may forbid it).
pub(super) fn is_granted() -> bool {
    /// `ARCH_REQ_XCOMP_PERM` of asm/prctl.h.
    const REQUEST: usize = 0x1023;
    /// The number of the tiles' data among the CPU's states.
    const TILE_DATA: usize = 18;
    let result: isize;
    // SAFETY: a system call with numbers alone.
    unsafe {
        asm!("syscall", inlateout("rax") 158isize => result, in("rdi") REQUEST, in("rsi") TILE_DATA,
            out("rcx") _, out("r11") _, options(nostack, nomem));
    }
    result == 0
}

pub(super) const HALF: Half = Half {
    name: "amx-bf16",
    format: Format::Bfloat16,
    is_fast: true,
    available,
    pictures: Pictures { pool, resize, activate, binary },
    convolutions: Convolve::Tiles(Tiles { conv, depthwise: depthwise_row }),
    narrow,
    widen,
    shuffle,
};
