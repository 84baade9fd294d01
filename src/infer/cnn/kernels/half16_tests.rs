//! Every table that computes in binary16 against the plain loops to the bit, and these against 32 bits. Needs
//! nothing but this folder, as `tests.rs`.
#![allow(clippy::unwrap_used)]

use super::arena::{self, Arena, ConvJob, FREQUENCIES, Part, Side, Start, Weights, WinogradJob};
use super::half::{HALF_LANES, Half, Taken};
use super::{Activation, Binary, Format, Kernels, LANES, Levels, Residual, Tap};

const FORMAT: Format = Format::Float16;

/// Floats of the arenas.
const FLOATS: usize = 60_000;

/// So many floats of binary16 numbers between −1 and 1 that are always the same.
fn numbers(floats: usize, mut state: u32) -> Vec<f32> {
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..floats)
        .map(|_| {
            let pair = [next(), next()];
            FORMAT.float(0, |n| pair[n])
        })
        .collect()
}

fn filled() -> Arena {
    let mut arena = Arena::new(FLOATS).unwrap();
    arena.whole().write(0..FLOATS).copy_from_slice(&numbers(FLOATS, 1));
    arena
}

fn tables() -> impl Iterator<Item = &'static Half> {
    Half::ALL.iter().copied().filter(|half| half.format == FORMAT && (half.available)())
}

/// Runs `work` with each table on equal arenas and compares all of it with the twin's; gives the twin's.
fn compare(what: &str, work: impl Fn(&Half, &mut Part<'_>)) -> Vec<f32> {
    let mut expected = filled();
    work(Half::choose(Some("scalar-fp16")).unwrap(), &mut expected.whole());
    let expected = expected.whole().read(0..FLOATS).to_vec();
    for half in tables() {
        let mut found = filled();
        work(half, &mut found.whole());
        for (at, (f, e)) in found.whole().read(0..FLOATS).iter().zip(&expected).enumerate() {
            for channel in 0..2 {
                let (f, e) = (FORMAT.number(channel, *f), FORMAT.number(channel, *e));
                let same = f.to_bits() == e.to_bits() || f.is_nan() && e.is_nan();
                assert!(same, "{} {what} at {at}: {f} instead of {e}", half.name);
            }
        }
    }
    expected
}

/// A number of a vector of floats.
fn at(floats: &[f32], place: usize, channel: usize) -> f64 {
    f64::from(FORMAT.number(channel, floats[place + channel / 2]))
}

#[test]
fn convolutions_of_every_width_and_stride() {
    let (output, residual) = (40_000, 50_000);
    let dense = [8, 16, 24, 32].map(|channels| Tap { offset: 4 * (channels - 8), channels });
    let single = [0, 16, 80].map(|offset| Tap { offset, channels: 16 });
    let weights = numbers((8 + 16 + 24 + 32) * LANES, 2);
    let bias = numbers(LANES, 3);
    let before = filled().whole().read(0..FLOATS).to_vec();
    for (width, stride) in (1..=13).flat_map(|width| [16, 32, 48].map(|stride| (width, stride))) {
        for depthwise in [false, true] {
            let taps: &[Tap] = if depthwise { &single } else { &dense };
            let activation =
                [Activation::Identity, Activation::Silu, Activation::Leaky { slope: 0.125 }][width % 3];
            let order = [Residual::AfterActivation, Residual::BeforeActivation][width % 2];
            let job = ConvJob {
                input: 0,
                pixel_stride: stride,
                taps,
                reach: 96 + LANES,
                weights: Weights::Packed(&weights),
                start: if width % 4 == 0 { Start::Output } else { Start::Bias(&bias) },
                output,
                output_block: 0,
                output_pixel: LANES,
                width,
                blocks: 1,
                activation,
                residual: (width > 3).then_some((residual, 0, order)),
            };
            let what = format!("width {width} stride {stride} {depthwise}");
            let found = compare(&what, |half, arena| {
                arena::conv(half.rows().unwrap(), arena, &job, depthwise);
            });
            if activation != Activation::Identity {
                continue;
            }
            for (x, channel) in (0..width).flat_map(|x| (0..HALF_LANES).map(move |c| (x, c))) {
                let mut sum = match job.start {
                    Start::Output => at(&before, output + x * LANES, channel),
                    Start::Bias(bias) => at(bias, 0, channel),
                };
                let mut vector = 0;
                for tap in taps {
                    let from = tap.offset as usize + x * stride;
                    for c in 0..if depthwise { 1 } else { tap.channels as usize } {
                        let input = at(&before, from, if depthwise { channel } else { c });
                        sum += input * at(&weights, vector * LANES, channel);
                        vector += 1;
                    }
                }
                if job.residual.is_some() {
                    sum += at(&before, residual + x * LANES, channel);
                }
                let found = at(&found, output + x * LANES, channel);
                assert!((found - sum).abs() < 0.03, "{what} {x} {channel}: {found} instead of {sum}");
            }
        }
    }
}

/// A 3×3 convolution by its transforms is the convolution.
#[test]
fn winograd_is_a_convolution() {
    let (row, tiles) = (10 * LANES, 2);
    let kernel = numbers(9 * LANES, 5);
    let bias = numbers(LANES, 6);
    let before = filled().whole().read(0..FLOATS).to_vec();
    let found = compare("winograd", |half, arena| {
        let loops = half.rows().unwrap();
        arena::winograd_input(loops, arena, (0, row), (4_000, tiles * LANES), tiles);
        arena::winograd_weights(loops, arena, &kernel, (25_000, 2 * LANES));
        // each channel times its own factor
        for f in 0..FREQUENCIES {
            for tile in 0..tiles {
                let (product, factor) = (4_000 + (f * tiles + tile) * LANES, 25_000 + f * 2 * LANES);
                let sides = [Side::Arena(product), Side::Arena(factor)];
                arena::binary(&half.pictures, arena, Binary::Mul, sides, product, LANES);
            }
        }
        let job = WinogradJob {
            input: 4_000,
            frequency: tiles * LANES,
            tiles,
            bias: &bias,
            output: 20_000,
            row_stride: 8 * LANES,
            rows: 4,
            width: 7,
            activation: Activation::Clip { low: -100.0, high: f32::INFINITY },
            residual: Some((30_000, 8 * LANES, Residual::AfterActivation)),
        };
        arena::winograd_output(loops, arena, &job);
    });
    for (y, x, channel) in
        (0..4).flat_map(|y| (0..8).flat_map(move |x| (0..HALF_LANES).map(move |c| (y, x, c))))
    {
        let place = y * 8 * LANES + x * LANES;
        let result = at(&found, 20_000 + place, channel);
        if x == 7 {
            assert_eq!(result, at(&before, 20_000 + place, channel), "beyond the width");
            continue;
        }
        let pixel = |k: usize| at(&before, (y + k / 3) * row + (x + k % 3) * LANES, channel);
        let sum: f64 = (0..9).map(|k| at(&kernel, k * LANES, channel) * pixel(k)).sum();
        let exact = sum + at(&bias, 0, channel) + at(&before, 30_000 + place, channel);
        assert!((result - exact).abs() < 0.03, "{y},{x},{channel}: {result} instead of {exact}");
    }
}

#[test]
fn activations_and_arithmetic() {
    let levels = Levels { scale: 0.05, low: -100.0, high: 27.0, step: 0.05 };
    for activation in [
        Activation::Clip { low: 0.0, high: 0.5 },
        Activation::Leaky { slope: 0.1 },
        Activation::Leaky { slope: 1.5 },
        Activation::Silu,
        Activation::Sigmoid,
        Activation::HardSwish,
        Activation::Tanh,
        Activation::Exp,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Erf,
        Activation::Sqrt,
        Activation::Rsqrt,
        Activation::Reciprocal,
        Activation::Cube,
        Activation::Quantized(levels),
        Activation::QuantizedSilu { before: levels, gate: levels, after: levels },
    ] {
        // numbers of every size: all bits there are
        let found = compare(&format!("{activation:?}"), |half, arena| {
            let every = arena.write(0..1 << 15).iter_mut().enumerate();
            every.for_each(|(n, float)| *float = f32::from_bits((((2 * n + 1) << 16) | (2 * n)) as u32));
            arena::activate(&half.pictures, arena, 0, 0, 1 << 15, activation);
        });
        // and in 32 bits, where they are of common size
        let kernels = Kernels::ALL.last().unwrap();
        let values: Vec<f32> =
            (0..0x4800_u16).map(|half| FORMAT.number(0, f32::from_bits(half.into()))).collect();
        let mut exact = Arena::new(values.len()).unwrap();
        exact.whole().write(0..values.len()).copy_from_slice(&values);
        arena::activate(&kernels.pictures, &mut exact.whole(), 0, 0, values.len(), activation);
        for (n, (value, exact)) in values.iter().zip(exact.whole().read(0..values.len())).enumerate() {
            let found = FORMAT.number(n, found[n / 2]);
            let close =
                (found - exact).abs() <= 3e-3 * exact.abs().max(0.01) || !exact.is_finite() || *exact > 6e4;
            // what is quantised may fall to the other side
            let close = close
                || (found - exact).abs() < 0.051
                    && matches!(activation, Activation::Quantized(_) | Activation::QuantizedSilu { .. });
            assert!(close, "{activation:?}({value}) = {found} instead of {exact}");
        }
    }
    let vector = numbers(LANES, 7);
    for op in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Max, Binary::Min] {
        compare(&format!("{op:?}"), |half, arena| {
            let sides = [Side::Arena(0), Side::Vector(&vector)];
            arena::binary(&half.pictures, arena, op, sides, 20_000, 1_600);
            arena::binary(&half.pictures, arena, op, [Side::Arena(0), Side::Arena(5_000)], 0, 1_600);
        });
    }
}

#[test]
fn pooling_and_resizing() {
    let columns = [(0, 2), (0, 3), (1, 3), (2, 1)];
    for average in [None, Some(0), Some(9)] {
        compare("pool", |half, arena| {
            arena::pool(&half.pictures, arena, (0, 3, 100), &columns, 2_000, average);
        });
    }
    let columns = [(0, 0, 0.0), (0, 1, 0.25), (1, 2, 0.7)];
    for weight in [0.0, 0.3] {
        compare("resize", |half, arena| {
            arena::resize(&half.pictures, arena, (0, 500, weight), &columns, 2_000);
        });
    }
}

#[test]
fn numbers_go_from_format_to_format_and_place_to_place() {
    for blocks in [1, 2] {
        let found = compare("recast", |half, arena| {
            for (n, float) in arena.write(0..400).iter_mut().enumerate() {
                *float = (n as f32 - 200.0) * 1.001;
            }
            arena::narrow(half, arena, (0, 160, blocks), 1_600, 10);
            arena::widen(half, arena, 1_600, (3_200, 160, blocks), 10);
        });
        for n in 0..160 * blocks {
            let value = (n as f32 - 200.0) * 1.001;
            assert!((found[3_200 + n] - value).abs() <= value.abs() / 2_000.0, "{n}: {}", found[3_200 + n]);
        }
    }
    let mut taken = [Taken::NOTHING; 3];
    for to in (0..HALF_LANES).filter(|to| *to != 5) {
        taken[to % 3].take((7 * to + 3) % HALF_LANES, to);
    }
    let before = filled().whole().read(0..FLOATS).to_vec();
    let found = compare("shuffle", |half, arena| {
        let sources = taken.iter().enumerate().map(|(n, taken)| (n * 1_000, taken));
        arena::shuffle(half, arena, sources, 5_000, 9);
    });
    for (x, to) in (0..9).flat_map(|x| (0..HALF_LANES).map(move |to| (x, to))) {
        let from = at(&before, to % 3 * 1_000 + x * LANES, (7 * to + 3) % HALF_LANES);
        assert_eq!(at(&found, 5_000 + x * LANES, to), if to == 5 { 0.0 } else { from }, "{x} {to}");
    }
}
