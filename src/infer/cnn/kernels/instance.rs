//! One CPU's table of kernels from the loops of `generic.rs` and `winograd.rs`.

/// Makes a module's `KERNELS` from its vector type: the loops above, compiled with the CPU's features.
macro_rules! instantiate {
    ($vector:ty, $name:literal, $costs:ident, $available:expr, [$($one:literal)*], [$($two:literal)*], [$($depthwise:literal)*]
     $(, $features:literal)?) => {
        use super::generic::Tile;
        use super::{Activation, Attended, Binary, ConvRow, Convolutions, Kernels, Normalized, Operand, Pictures, PoolRow, ResizeRow};
        use super::{points, tokens, winograd};
        use super::{WinogradInput, WinogradOutput, WinogradWeights};

        $(#[target_feature(enable = $features)])?
        unsafe fn tile<const P: usize, const O: usize, const S: usize>(row: &ConvRow, x: usize) {
            // SAFETY: the caller's promise, passed on; the features are enabled on this function.
            unsafe { generic::tile::<$vector, P, O, S>(row, x, rest) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn depthwise_tile<const P: usize, const S: usize>(row: &ConvRow, x: usize) {
            // SAFETY: as above.
            unsafe { generic::depthwise_tile::<$vector, P, S>(row, x, rest) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn winograd_input(job: &WinogradInput) {
            // SAFETY: as above.
            unsafe { winograd::input::<$vector>(job) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn winograd_output(job: &WinogradOutput) {
            // SAFETY: as above.
            unsafe { winograd::output::<$vector>(job, rest) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn winograd_weights(job: &WinogradWeights) {
            // SAFETY: as above.
            unsafe { winograd::weights::<$vector>(job) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn pool(row: &PoolRow) {
            // SAFETY: as above.
            unsafe { generic::pool::<$vector>(row) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn resize(row: &ResizeRow) {
            // SAFETY: as above.
            unsafe { generic::resize::<$vector>(row) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn activate(from: *const f32, to: *mut f32, vectors: usize, activation: Activation) {
            // SAFETY: as above.
            unsafe { generic::activate::<$vector>(from, to, vectors, super::LANES, activation, rest) }
        }
        $(#[target_feature(enable = $features)])?
        #[inline(never)]
        unsafe fn rest(from: *const f32, to: *mut f32, vectors: usize, step: usize, activation: Activation) {
            // SAFETY: as above.
            unsafe { generic::rest::<$vector>(from, to, vectors, step, activation) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn binary(op: Binary, a: Operand, b: Operand, to: *mut f32, vectors: usize) {
            // SAFETY: as above.
            unsafe { generic::binary::<$vector>(op, a, b, to, vectors) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn softmax(at: *mut f32, length: usize, stride: usize) {
            // SAFETY: as above.
            unsafe { generic::softmax::<$vector>(at, length, stride) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn softmax_row(at: *mut f32, length: usize) {
            // SAFETY: as above.
            unsafe { tokens::softmax_row::<$vector>(at, length) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn normalize(row: &Normalized) {
            // SAFETY: as above.
            unsafe { tokens::normalize::<$vector>(row) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn attend(job: &Attended) {
            // SAFETY: as above.
            unsafe { tokens::attend::<$vector>(job) }
        }

        $(#[target_feature(enable = $features)])?
        unsafe fn range(from: &[f32], range: [f32; 2]) -> [f32; 2] {
            generic::range(from, range)
        }

        /// Tiles for input pixels that lie `S` floats apart; entry `n − 1` does `n` pixels.
        struct Tiles<const S: usize>;
        impl<const S: usize> Tiles<S> {
            const ONE: &[Tile] = &[$(tile::<$one, 1, S>),*];
            const TWO: &[Tile] = &[$(tile::<$two, 2, S>),*];
            const DEPTHWISE: &[Tile] = &[$(depthwise_tile::<$depthwise, S>),*];
        }

        unsafe fn conv(row: &ConvRow) {
            // one or two pixels of a block apart, two pixels of a plane apart (the first layer), anything
            let tiles = match (row.blocks, row.pixel_stride) {
                (1, 16) => Tiles::<16>::ONE,
                (1, 32) => Tiles::<32>::ONE,
                (1, 2) => Tiles::<2>::ONE,
                (1, _) => Tiles::<0>::ONE,
                (_, 16) => Tiles::<16>::TWO,
                (_, 32) => Tiles::<32>::TWO,
                (_, 2) => Tiles::<2>::TWO,
                (_, _) => Tiles::<0>::TWO,
            };
            // SAFETY: as above.
            unsafe { generic::in_tiles(row, tiles) }
        }

        unsafe fn depthwise(row: &ConvRow) {
            let tiles = match row.pixel_stride {
                16 => Tiles::<16>::DEPTHWISE,
                32 => Tiles::<32>::DEPTHWISE,
                _ => Tiles::<0>::DEPTHWISE,
            };
            // SAFETY: as above.
            unsafe { generic::in_tiles(row, tiles) }
        }

        pub(super) const KERNELS: Kernels = Kernels {
            name: $name,
            available: || $available,
            convolutions: Convolutions {
                format: super::Format::Float32,
                blocks: if Tiles::<16>::TWO.is_empty() { 1 } else { 2 },
                pixels: [Tiles::<16>::ONE.len(), Tiles::<16>::TWO.len()],
                costs: &super::costs::$costs,
                points: points::POINTS,
                conv,
                depthwise,
                winograd_input,
                winograd_output,
                winograd_weights,
            },
            pictures: Pictures { pool, resize, activate, binary },
            softmax,
            softmax_row,
            normalize,
            attend,
            range,
        };
    };
}
pub(super) use instantiate;
