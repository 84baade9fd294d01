//! How each convolution is computed: directly, or after Winograd with factors that are kept or made anew.
//!
//! A model of the costs decides: it counts what each way does and weighs it with the measured costs of the
//! CPU's kernels (`kernels/costs.rs`), as if one thread did it. The same model on the same kind of CPU is
//! thus computed in the same way, to the bit, on any number of threads; it takes no time when a model is
//! loaded, and nothing has to be cached. `weir bench engine --ways` holds it against the clock.

use super::graph::Conv;
use super::kernels::arena::FREQUENCIES;
use super::kernels::half::Half;
use super::kernels::int8::Int8;
use super::kernels::{Convolutions, Format, Kernels, LANES, Pictures};
use super::step::winograd::{Cut, KERNEL, Layer, Winograd, tiles};
use super::storage::Blocks;

/// A way to compute a 3×3 convolution of stride 1; every other one is computed directly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Every product of the convolution.
    Direct,
    /// After Winograd; the factors of the weights are kept, in four times the room of the weights.
    Kept,
    /// After Winograd; the factors are made from the weights for every chunk of tiles.
    Remade,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Algorithm; 3] = [Algorithm::Direct, Algorithm::Kept, Algorithm::Remade];
}

/// Most floats of a layer's factors that are kept: memory, not time, forbids more. NanoDet's 3×3 layers would
/// take 44 MB.
const MOST_KEPT_FLOATS: usize = 64 * 1024;

/// What a plan is made for.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub kernels: &'static Kernels,
    /// Most threads that work on one run.
    pub workers: usize,
    /// The way to compute every convolution that can be computed so, instead of the cheapest.
    pub way: Option<Algorithm>,
    /// Pictures have half precision.
    pub half: Option<&'static Half>,
    /// What the graph brings to 8 bits is computed in integers.
    pub int8: Option<&'static Int8>,
}

impl Target {
    /// The loops for a picture.
    pub(super) fn pictures(&self, blocks: Blocks) -> &'static Pictures {
        match self.half {
            Some(half) if blocks.is_half() => &half.pictures,
            _ => &self.kernels.pictures,
        }
    }

    /// The loops of convolutions on pictures of a format; `None` where half precision has tiles instead.
    pub(super) fn convolutions(&self, format: Format) -> Option<&'static Convolutions> {
        match self.half {
            Some(half) if format != Format::Float32 => half.rows(),
            _ => Some(&self.kernels.convolutions),
        }
    }

    /// The cheapest way of a convolution with this output.
    pub(super) fn way(&self, loops: &Convolutions, conv: &Conv, [_, height, width]: [usize; 3]) -> Algorithm {
        let &[outputs, inputs, ..] = conv.weights.shape() else { return Algorithm::Direct };
        if !Winograd::can(conv) {
            return Algorithm::Direct;
        }
        self.way.unwrap_or_else(|| cheapest(loops, Layer { inputs, outputs, size: [height, width] }))
    }
}

/// Of the ways that may be taken.
pub(super) fn cheapest(loops: &Convolutions, layer: Layer) -> Algorithm {
    let kept = FREQUENCIES * layer.inputs * loops.format.blocks_for(layer.outputs) * LANES;
    let allowed =
        Algorithm::ALL.into_iter().filter(|&way| way != Algorithm::Kept || kept <= MOST_KEPT_FLOATS);
    let cheapest = allowed.min_by(|&a, &b| cost(loops, layer, a).total_cmp(&cost(loops, layer, b)));
    cheapest.unwrap_or(Algorithm::Direct)
}

/// What a way costs, in multiply-adds of a vector.
pub(super) fn cost(loops: &Convolutions, layer: Layer, way: Algorithm) -> f32 {
    match way {
        Algorithm::Direct => direct(loops, layer),
        Algorithm::Kept | Algorithm::Remade => winograd(loops, layer, way == Algorithm::Kept),
    }
}

fn direct(loops: &Convolutions, layer: Layer) -> f32 {
    let [height, width] = layer.size;
    let taps = KERNEL * loops.format.blocks_for(layer.inputs);
    height as f32 * row(loops, width, layer.outputs, [taps, KERNEL * layer.inputs])
}

fn winograd(loops: &Convolutions, layer: Layer, kept: bool) -> f32 {
    let (from, to) = (loops.format.blocks_for(layer.inputs), loops.format.blocks_for(layer.outputs));
    let (costs, group) = (loops.costs, loops.blocks.min(to));
    let cut = Cut::new(loops.format, layer.inputs, layer.size, (group, 1), 1, kept);
    let [down, across] = tiles(layer.size);
    let chunks = (down * across).div_ceil(cut.chunk.max(1)) as f32;
    let products = FREQUENCIES as f32 * row(loops, cut.chunk, layer.outputs, [from, layer.inputs]);
    let kernels = (layer.inputs * to) as f32;
    let factors = kernels * if kept { FREQUENCIES as f32 * costs.fetch } else { costs.spread };
    let transforms = (down * across) as f32 * (from as f32 * costs.input + to as f32 * costs.output);
    chunks * (products + factors) + transforms
}

/// A row of `width` pixels of all output blocks: `taps` with so many channels together.
fn row(loops: &Convolutions, width: usize, outputs: usize, [taps, channels]: [usize; 2]) -> f32 {
    let costs = loops.costs;
    let group = |blocks: usize| {
        let widest = loops.pixels[blocks.clamp(1, 2) - 1].max(1);
        let count = width.div_ceil(widest).max(1);
        let (size, larger) = (width / count, width % count);
        let step = |pixels: usize| ((pixels * blocks) as f32).max(costs.depth);
        let steps = (count - larger) as f32 * step(size) + larger as f32 * step(size + 1);
        steps * channels as f32 + count as f32 * (costs.tile + taps as f32 * costs.tap)
    };
    let (blocks, most) = (loops.format.blocks_for(outputs), loops.blocks);
    let rest = if blocks % most == 0 { 0.0 } else { group(blocks % most) };
    (blocks / most) as f32 * group(most) + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(inputs: usize, outputs: usize, size: [usize; 2]) -> Layer {
        Layer { inputs, outputs, size }
    }

    /// The 3×3 layers that take most of a detector's time are computed after Winograd on every kind of CPU.
    #[test]
    fn large_layers_go_through_winograd() {
        for kernels in Kernels::ALL {
            for (channels, side) in [(32, 80), (64, 40), (64, 80), (128, 20), (128, 40), (256, 20)] {
                let way = cheapest(&kernels.convolutions, layer(channels, channels, [side, side]));
                assert_ne!(way, Algorithm::Direct, "{}: {channels} at {side}×{side}", kernels.name);
            }
        }
    }

    /// One pixel is a sixteenth of a tile, and three channels are transformed for little.
    #[test]
    fn layers_that_waste_a_transform_are_direct() {
        for kernels in Kernels::ALL {
            for few in [layer(256, 256, [1, 1]), layer(1, 1, [40, 40]), layer(3, 1, [64, 64])] {
                assert_eq!(
                    cheapest(&kernels.convolutions, few),
                    Algorithm::Direct,
                    "{} {few:?}",
                    kernels.name
                );
            }
        }
    }

    #[test]
    fn large_factors_are_never_kept() {
        for kernels in Kernels::ALL {
            // 36 × 64 × 64 floats are more than a layer may keep, however often they would be made anew
            assert_ne!(
                cheapest(&kernels.convolutions, layer(64, 64, [160, 160])),
                Algorithm::Kept,
                "{}",
                kernels.name
            );
        }
    }

    /// More of anything never costs less.
    #[test]
    fn costs_grow_with_the_layer() {
        for (kernels, way) in Kernels::ALL.iter().flat_map(|k| Algorithm::ALL.map(|way| (*k, way))) {
            let mut last = 0.0;
            for (channels, side) in [(16, 10), (16, 20), (32, 20), (32, 40), (64, 40), (128, 80)] {
                let cost = cost(&kernels.convolutions, layer(channels, channels, [side, side]), way);
                assert!(
                    cost.is_finite() && cost > last,
                    "{} {way:?} {channels} at {side}×{side}: {cost}",
                    kernels.name
                );
                last = cost;
            }
        }
    }
}
