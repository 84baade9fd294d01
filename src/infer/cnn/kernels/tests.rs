//! Every table of kernels this machine can run against the scalar one. Needs nothing but this folder, so that
//! it also runs under qemu for another architecture.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::arena::{self, Arena, ConvJob, FREQUENCIES, Part, Side, Start, Weights, WinogradJob};
use super::{Activation, Binary, Kernels, LANES, Levels, Residual, Tap};

/// Largest difference, relative to the largest value: sums are rounded in another order.
const TOLERANCE: f32 = 1e-5;

/// An arena full of numbers between −1 and 1 that are always the same.
fn filled(floats: usize) -> Arena {
    let mut arena = Arena::new(floats).unwrap();
    let mut state = 1u32;
    for value in arena.whole().write(0..floats) {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *value = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
    }
    arena
}

/// Runs `work` with each table on equal arenas and compares all of it with the scalar table's.
fn compare(floats: usize, what: &str, work: impl Fn(&Kernels, &mut Part<'_>)) {
    let mut expected = filled(floats);
    work(Kernels::choose(Some("scalar")).unwrap(), &mut expected.whole());
    let expected = expected.whole();
    let expected = expected.read(0..floats);
    let range = expected.iter().fold(1f32, |m, v| m.max(v.abs()));
    for kernels in Kernels::ALL.iter().filter(|k| (k.available)()) {
        let mut found = filled(floats);
        work(kernels, &mut found.whole());
        for (at, (f, e)) in found.whole().read(0..floats).iter().zip(expected).enumerate() {
            assert!(
                (f - e).abs() <= TOLERANCE * range,
                "{} {what} at {at}: {f} instead of {e}",
                kernels.name
            );
        }
    }
}

#[test]
fn convolutions_of_every_width_and_stride() {
    let (input, output, residual) = (0, 40_000, 60_000);
    let taps = [Tap { offset: 0, channels: 16 }, Tap { offset: 5_000, channels: 3 }];
    let weights: Vec<f32> = (0..19 * 2 * LANES).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
    let bias: Vec<f32> = (0..2 * LANES).map(|i| i as f32 / 16.0).collect();
    for width in 1..=33 {
        for pixel_stride in [1, 2, 16, 32, 48] {
            for (blocks, depthwise) in [(1, false), (2, false), (1, true)] {
                let start = |bias| if width % 3 == 0 { Start::Output } else { Start::Bias(bias) };
                compare(
                    80_000,
                    &format!("width {width} stride {pixel_stride} blocks {blocks} {depthwise}"),
                    |kernels, arena| {
                        if blocks > kernels.convolutions.blocks {
                            // the same two blocks, one after the other, with their own weights
                            for block in 0..blocks {
                                let own: Vec<f32> = weights
                                    .chunks(blocks * LANES)
                                    .flat_map(|k| &k[block * LANES..(block + 1) * LANES])
                                    .copied()
                                    .collect();
                                let job = ConvJob {
                                    input,
                                    pixel_stride,
                                    taps: &taps,
                                    reach: 5_016,
                                    weights: Weights::Packed(&own),
                                    start: start(&bias[block * LANES..]),
                                    output: output + block * 2_000,
                                    output_block: 2_000,
                                    output_pixel: LANES,
                                    width,
                                    blocks: 1,
                                    activation: Activation::Silu,
                                    residual: Some((
                                        residual + block * 2_000,
                                        2_000,
                                        Residual::AfterActivation,
                                    )),
                                };
                                arena::conv(&kernels.convolutions, arena, &job, depthwise);
                            }
                            return;
                        }
                        let job = ConvJob {
                            input,
                            pixel_stride,
                            taps: &taps,
                            reach: 5_016,
                            weights: Weights::Packed(&weights),
                            start: start(&bias),
                            output,
                            output_block: 2_000,
                            output_pixel: LANES,
                            width,
                            blocks,
                            activation: Activation::Silu,
                            residual: Some((residual, 2_000, Residual::AfterActivation)),
                        };
                        arena::conv(&kernels.convolutions, arena, &job, depthwise);
                    },
                );
            }
        }
    }
}

/// 8 bits with a zero point of 100.
const LEVELS: Levels = Levels { scale: 1.0 / 32.5, low: -100.0, high: 155.0, step: 1.0 / 32.0 };

#[test]
fn activations_and_arithmetic() {
    let all = [
        Activation::Identity,
        Activation::Clip { low: -0.25, high: 0.5 },
        Activation::Leaky { slope: 0.1 },
        Activation::Leaky { slope: 1.5 },
        Activation::Silu,
        Activation::Sigmoid,
        Activation::HardSwish,
        Activation::Tanh,
        Activation::Exp,
        Activation::Quantized(LEVELS),
        Activation::QuantizedSilu { before: LEVELS, gate: LEVELS, after: LEVELS },
    ];
    for activation in all {
        compare(320, &format!("{activation:?}"), |kernels, arena| {
            arena.write(0..8).copy_from_slice(&[0.0, -0.0, 90.0, -90.0, 1e-30, 20.0, -20.0, 88.0]);
            // far ends of the exponential are as large as they are: only the bounded ones go there
            if activation == Activation::Exp {
                arena.write(0..8).fill(0.5);
            }
            arena::activate(&kernels.pictures, arena, 0, 160, 160, activation);
        });
    }
    for op in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Max, Binary::Min] {
        let vector: Vec<f32> = (1..=LANES).map(|i| i as f32 / 4.0).collect();
        compare(480, &format!("{op:?}"), |kernels, arena| {
            arena::binary(&kernels.pictures, arena, op, [Side::Arena(0), Side::Vector(&vector)], 160, 160);
            arena::binary(
                &kernels.pictures,
                arena,
                op,
                [Side::ArenaVector(0), Side::Vector(&vector)],
                320,
                160,
            );
        });
    }
    compare(16 * 20, "softmax", |kernels, arena| arena::softmax(kernels, arena, 0, 20, LANES));
}

#[test]
fn ranges() {
    for kernels in Kernels::ALL.iter().filter(|k| (k.available)()) {
        for count in [0usize, 1, 15, 64, 65, 300] {
            for (at, peak) in [(0, 7.5), (count / 2, -9.0), (count.saturating_sub(1), f32::INFINITY)] {
                let mut arena = Arena::new(320).unwrap();
                let mut arena = arena.whole();
                let numbers: Vec<f32> = (0..count).map(|i| ((i * 37) % 101) as f32 / 25.0 - 2.0).collect();
                arena.write(0..count).copy_from_slice(&numbers);
                // a NaN is no bound
                arena.write(0..count).iter_mut().skip(3).step_by(50).for_each(|number| *number = f32::NAN);
                arena.write(0..count).iter_mut().skip(at).take(1).for_each(|number| *number = peak);
                let all = arena.read(0..count).iter();
                let expected =
                    all.fold([-0.5f32, 0.5], |[low, high], number| [low.min(*number), high.max(*number)]);
                let found = arena::range(kernels, &arena, 0..count, [-0.5, 0.5]);
                assert_eq!(found, expected, "{} of {count}, {peak} at {at}", kernels.name);
            }
        }
    }
}

#[test]
fn a_sigmoid_is_exact_to_a_millionth() {
    for kernels in Kernels::ALL.iter().filter(|k| (k.available)()) {
        let mut arena = Arena::new(64).unwrap();
        let mut arena = arena.whole();
        for i in -400..400 {
            let x = i as f32 / 10.0;
            arena.write(0..LANES).fill(x);
            arena::activate(&kernels.pictures, &mut arena, 0, 32, LANES, Activation::Sigmoid);
            let (found, exact) = (f64::from(arena.read(32..33)[0]), 1.0 / (1.0 + (-f64::from(x)).exp()));
            assert!(
                (found - exact).abs() <= 1e-6 * exact,
                "{} sigmoid({x}) = {found}, not {exact}",
                kernels.name
            );
        }
    }
}

#[test]
fn pooling_and_resizing() {
    let columns = [(0, 2), (0, 3), (1, 3), (2, 1)];
    for average in [None, Some(0), Some(9)] {
        compare(4_000, "pool", |kernels, arena| {
            arena::pool(&kernels.pictures, arena, (0, 3, 100), &columns, 2_000, average)
        });
    }
    let columns = [(0, 0, 0.0), (0, 1, 0.25), (1, 2, 0.75)];
    for weight in [0.0, 0.5] {
        compare(4_000, "resize", |kernels, arena| {
            arena::resize(&kernels.pictures, arena, (0, 500, weight), &columns, 2_000)
        });
    }
}

/// A 3×3 convolution by its transforms is the convolution.
#[test]
fn winograd_is_a_convolution() {
    let kernel: [f32; 9] = [0.5, -1.0, 0.25, 2.0, 0.125, -0.5, 1.0, 0.75, -0.25];
    let (row, tiles) = (10 * LANES, 2);
    for kernels in Kernels::ALL.iter().filter(|k| (k.available)()) {
        let mut arena = filled(30_000);
        let mut arena = arena.whole();
        arena::winograd_input(&kernels.convolutions, &mut arena, (0, row), (4_000, tiles * LANES), tiles);
        let weights: Vec<f32> = kernel.iter().flat_map(|&w| [w; LANES]).collect();
        arena::winograd_weights(&kernels.convolutions, &mut arena, &weights, (25_000, 2 * LANES));
        for f in 0..FREQUENCIES {
            let factor = arena.read(25_000 + f * 2 * LANES..25_001 + f * 2 * LANES)[0];
            let at = 4_000 + f * tiles * LANES;
            arena.write(at..at + tiles * LANES).iter_mut().for_each(|v| *v *= factor);
        }
        let job = WinogradJob {
            input: 4_000,
            frequency: tiles * LANES,
            tiles,
            bias: &[0.5; LANES],
            output: 20_000,
            row_stride: 8 * LANES,
            rows: 4,
            width: 7,
            activation: Activation::Identity,
            residual: None,
        };
        arena::winograd_output(&kernels.convolutions, &mut arena, &job);
        let mut untouched = filled(30_000);
        let untouched = untouched.whole();
        for (y, x, lane) in (0..4).flat_map(|y| (0..8).flat_map(move |x| (0..LANES).map(move |l| (y, x, l))))
        {
            let at = 20_000 + y * 8 * LANES + x * LANES + lane;
            let found = arena.read(at..at + 1)[0];
            if x == 7 {
                assert_eq!(found, untouched.read(at..at + 1)[0], "{}: beyond the width", kernels.name);
                continue;
            }
            let source = untouched.read(0..6 * row);
            let pixel = |dy: usize, dx: usize| source[(y + dy) * row + (x + dx) * LANES + lane];
            let exact = 0.5 + (0..9).map(|k| kernel[k] * pixel(k / 3, k % 3)).sum::<f32>();
            assert!(
                (found - exact).abs() < 1e-4,
                "{} at {y},{x},{lane}: {found} instead of {exact}",
                kernels.name
            );
        }
    }
}

#[test]
fn a_part_reads_nothing_that_it_writes() {
    let mut arena = Arena::new(64).unwrap();
    let mut part = arena.whole();
    part.write(0..4).copy_from_slice(&[1.0, 2.0, 3.0, 4.0]);
    part.copy(0..4, 2);
    let ([read, nothing], [one, two]) = part.split([0..2, 5..5], [2..6, 6..8]);
    assert_eq!((read, nothing.len(), &*one, two.len()), (&[1.0, 2.0][..], 0, &[1.0, 2.0, 3.0, 4.0][..], 2));
    for (reads, writes) in [([0..3], [2..4, 8..9]), ([0..1], [2..4, 3..5])] {
        let overlap = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            part.split(reads.clone(), writes.clone()).0.len()
        }));
        assert!(overlap.is_err(), "{reads:?} {writes:?}");
    }
    let outside = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| part.read(60..65).len()));
    assert!(outside.is_err());
}

/// `erf` by its series (inner) or its continued fraction (outer).
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    if x.abs() > 3.0 {
        let tail = (1..=60).rev().fold(x.abs(), |below, k| x.abs() + f64::from(k) / 2.0 / below);
        return x.signum() * (1.0 - (-x * x).exp() / tail / std::f64::consts::PI.sqrt());
    }
    for n in 1..100 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

#[test]
fn the_error_function_and_what_is_made_of_it_are_exact_to_a_millionth() {
    for kernels in Kernels::ALL.iter().filter(|k| (k.available)()) {
        let mut arena = Arena::new(64).unwrap();
        let mut arena = arena.whole();
        for i in -600..=600 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x);
            let cases = [
                (Activation::Erf, erf(exact)),
                (Activation::Gelu, exact * (1.0 + erf(exact / std::f64::consts::SQRT_2)) / 2.0),
                (
                    Activation::GeluTanh,
                    exact
                        * (1.0
                            + ((2.0 / std::f64::consts::PI).sqrt() * (exact + 0.044715 * exact.powi(3)))
                                .tanh())
                        / 2.0,
                ),
                (Activation::Cube, exact.powi(3)),
                (Activation::Sqrt, exact.abs().sqrt()),
                (Activation::Rsqrt, 1.0 / exact.abs().sqrt()),
                (Activation::Reciprocal, 1.0 / exact.abs()),
            ];
            for (activation, exact) in cases.into_iter().filter(|(_, exact)| exact.is_finite()) {
                let positive =
                    matches!(activation, Activation::Sqrt | Activation::Rsqrt | Activation::Reciprocal);
                arena.write(0..LANES).fill(if positive { x.abs() } else { x });
                arena::activate(&kernels.pictures, &mut arena, 0, 32, LANES, activation);
                let found = f64::from(arena.read(32..33)[0]);
                let close = (found - exact).abs() <= 1e-6 * exact.abs().max(1.0);
                assert!(close, "{} {activation:?}({x}) = {found}, not {exact}", kernels.name);
            }
        }
    }
}

#[test]
fn rows_are_normalised_as_by_double_precision() {
    for kernels in Kernels::ALL.iter().filter(|k| (k.available)()) {
        for length in [1, 2, 15, 16, 17, 31, 33, 48, 100, 384] {
            let mut arena = filled(4_000);
            let mut arena = arena.whole();
            let row: Vec<f64> = arena.read(0..length).iter().map(|x| f64::from(*x)).collect();
            let mean = row.iter().sum::<f64>() / length as f64;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / length as f64;
            let numbers: Vec<f32> = (0..length).map(|i| i as f32 / 16.0 - 1.0).collect();
            for (scale, bias) in [(false, false), (true, false), (true, true)] {
                let numbers = [scale.then_some(&numbers[..]), bias.then_some(&numbers[..])];
                arena::normalize(kernels, &mut arena, (0, 1_000, length), 1e-3, numbers);
                for (i, (x, found)) in row.iter().zip(arena.read(1_000..1_000 + length)).enumerate() {
                    let number =
                        |some: Option<&[f32]>, none: f64| some.map_or(none, |numbers| f64::from(numbers[i]));
                    let exact = (x - mean) / (variance + 1e-3).sqrt() * number(numbers[0], 1.0)
                        + number(numbers[1], 0.0);
                    let close = (f64::from(*found) - exact).abs() <= 2e-6 * exact.abs().max(4.0);
                    assert!(close, "{} {length} at {i}: {found}, not {exact}", kernels.name);
                }
            }
            let before = arena.read(2_000 + length..2_000 + length + LANES).to_vec();
            let row: Vec<f64> = arena.read(2_000..2_000 + length).iter().map(|x| f64::from(*x)).collect();
            let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = row.iter().map(|x| (x - most).exp()).sum();
            arena::softmax_row(kernels, &mut arena, 2_000, length);
            for (i, (x, found)) in row.iter().zip(arena.read(2_000..2_000 + length)).enumerate() {
                let exact = (x - most).exp() / sum;
                assert!(
                    (f64::from(*found) - exact).abs() <= 1e-6 * exact,
                    "{} {length} at {i}: {found}, not {exact}",
                    kernels.name
                );
            }
            assert_eq!(
                arena.read(2_000 + length..2_000 + length + LANES),
                before,
                "{} {length}: behind the row",
                kernels.name
            );
        }
    }
}

#[test]
fn attention_weighs_each_row_by_itself() {
    const ROWS: usize = 3;
    let block = 5 * LANES;
    for kernels in Kernels::ALL.iter().filter(|k| (k.available)()) {
        for length in [1, 15, 16, 17, 32, 33, 47, 80] {
            let mut arena = filled(4_000);
            let mut arena = arena.whole();
            let at = |row: usize, key: usize| key / LANES * block + row * LANES + key % LANES;
            let scores: Vec<Vec<f64>> = (0..ROWS)
                .map(|row| {
                    (0..length).map(|key| f64::from(arena.read(at(row, key)..at(row, key) + 1)[0])).collect()
                })
                .collect();
            arena::attend(kernels, &mut arena, (0, block, 3_000), ROWS, length);
            for (row, scores) in scores.iter().enumerate() {
                let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = scores.iter().map(|x| (x - most).exp()).collect();
                for (key, exact) in weights.iter().enumerate() {
                    let found = f64::from(arena.read(at(row, key)..at(row, key) + 1)[0]);
                    assert!(
                        (found - exact).abs() <= 1e-6 * exact,
                        "{} {length} {row} {key}: {found}, not {exact}",
                        kernels.name
                    );
                }
                let (found, exact) =
                    (f64::from(arena.read(3_000 + row..3_001 + row)[0]), weights.iter().sum::<f64>());
                assert!(
                    (found - exact).abs() <= 1e-6 * exact,
                    "{} {length}: sum {found}, not {exact}",
                    kernels.name
                );
            }
        }
    }
}
