//! What the loops cost on each kind of CPU: what `choice.rs` computes with.
//!
//! The unit is one multiply-add of a vector of [`super::LANES`] floats in the dense kernel's inner loop.
//! AVX-512 and AVX2 were fitted to the clock by `benches/costs.py` (Zen 4; three detectors, 84 layers, each
//! in three ways; expected times are off by 3.3 and 4.5 % in the median), the scalar loops to one detector.
//! NEON's were computed, for want of a board: cycles of the loops in the disassembly on llvm-mca's
//! Cortex-A72, where a unit takes 4.1. Binary16 has the same: its loops are the same instructions on twice as
//! many numbers.

/// Costs of one kind of CPU.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Costs {
    /// A tile of fewer multiply-adds per weight takes as long as so many: sums wait for their predecessors.
    pub depth: f32,
    /// Starting and storing a tile of the dense kernel.
    pub tile: f32,
    /// One more tap of a tile: the loop over its channels ends in a branch that is guessed wrongly.
    pub tap: f32,
    /// Loading one vector of kept factors, from beyond the first-level cache.
    pub fetch: f32,
    /// Winograd's input transform, a window of one block.
    pub input: f32,
    /// Winograd's output transform, a tile of one block.
    pub output: f32,
    /// One 3×3 kernel of 16 output channels into its 36 factors.
    pub spread: f32,
}

#[cfg(target_arch = "x86_64")]
pub(super) const AVX512: Costs =
    Costs { depth: 4.0, tile: 14.0, tap: 13.0, fetch: 3.5, input: 159.0, output: 299.0, spread: 352.0 };
#[cfg(target_arch = "x86_64")]
pub(super) const AVX2: Costs =
    Costs { depth: 4.0, tile: 0.0, tap: 36.0, fetch: 9.4, input: 313.0, output: 718.0, spread: 654.0 };
#[cfg(any(test, target_arch = "aarch64"))]
pub(super) const NEON: Costs =
    Costs { depth: 2.0, tile: 10.0, tap: 6.0, fetch: 3.5, input: 237.0, output: 200.0, spread: 140.0 };
#[cfg(any(test, not(target_arch = "aarch64")))]
pub(super) const SCALAR: Costs =
    Costs { depth: 1.0, tile: 4.0, tap: 1.0, fetch: 3.0, input: 220.0, output: 220.0, spread: 170.0 };
