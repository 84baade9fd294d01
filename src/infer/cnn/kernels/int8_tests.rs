//! Every table of integer kernels this machine can run against the twin: codes to the bit. Needs nothing but this
//! folder.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unsafe_code)]

use super::int8::{
    CODES, Coded, Int8, Int8Depthwise, Int8Rows, Int8Tap, Made, Pixels, QUAD, Quantizer, TILE_QUADS, Table,
    WIDE,
};
use super::{Activation, LANES, Residual, int8_scalar};

/// Cases of each comparison.
const CASES: usize = 120;
/// Largest difference of floats, relative to the largest: activations only.
const TOLERANCE: f32 = 1e-5;

/// Numbers that are always the same.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
    /// Any byte, or mostly the extremes.
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let kind = self.below(4);
        let mut byte = || match kind {
            0 => 0,
            1 => 255,
            2 => [0, 255, 128, 127][self.below(4)],
            _ => self.below(256) as u8,
        };
        (0..count).map(|_| byte()).collect()
    }
    /// Any weight, or all the same extreme one.
    fn weights(&mut self, count: usize) -> Vec<i8> {
        let kind = self.below(4);
        let mut weight = || match kind {
            0 => -128,
            1 => 127,
            2 => [-127, 127][self.below(2)],
            _ => (self.below(256) as i32 - 128) as i8,
        };
        (0..count).map(|_| weight()).collect()
    }
    /// Scales that leave something, and now and then none that is a number.
    fn scales(&mut self, count: usize, products: usize) -> Vec<f32> {
        let mut scale = || match self.below(40) {
            0 => f32::NAN,
            1 => f32::INFINITY,
            2 => 1e9,
            _ => (self.below(1000) as f32 + 1.0) / 100.0 / (128.0 * products as f32),
        };
        (0..count).map(|_| scale()).collect()
    }
    fn biases(&mut self, count: usize) -> Vec<f32> {
        // halves too: they go to the even code
        (0..count).map(|_| self.below(200) as f32 / 2.0 - 50.0).collect()
    }
    fn table(&mut self) -> Table {
        std::array::from_fn(|_| self.below(CODES) as u8)
    }
    fn levels(&mut self) -> (i32, i32) {
        let top = [255, 255, 254, 15][self.below(4)];
        (self.below(top as usize + 1) as i32, top)
    }
}

fn tables() -> impl Iterator<Item = &'static Int8> {
    Int8::ALL.iter().copied().filter(|int8| (int8.available)())
}

#[test]
fn dense_convolutions() {
    let random = &mut Random(1);
    for case in 0..CASES {
        let (rows, width, groups) = (1 + random.below(2), 1 + random.below(14), 1 + random.below(2));
        let (pixel_stride, tiled) = (1 + random.below(40), random.below(4) == 0);
        let mut taps = Vec::new();
        let mut offset = 0;
        for _ in 0..1 + random.below(3) {
            let quads = if tiled { TILE_QUADS } else { 1 + random.below(17) };
            let bytes = quads * QUAD - random.below(QUAD);
            taps.push(Int8Tap { offset, quads: quads as u16, bytes: bytes as u16 });
            offset += (quads * QUAD + random.below(50)) as u32;
        }
        let reach = taps.iter().map(|tap| tap.offset as usize + usize::from(tap.quads) * QUAD).max().unwrap();
        let input_row = width * pixel_stride + random.below(30);
        let input = random.bytes((rows - 1) * input_row + (width - 1) * pixel_stride + reach);
        let quads: usize = taps.iter().map(|tap| usize::from(tap.quads)).sum();
        let channels = groups * LANES;
        let mut weights = random.weights(quads * channels * QUAD);
        let mut own = vec![0i32; channels];
        let mut at = 0;
        for tap in &taps {
            for (group, quad) in
                (0..groups).flat_map(|group| (0..usize::from(tap.quads)).map(move |quad| (group, quad)))
            {
                for (lane, n) in (0..LANES).flat_map(|lane| (0..QUAD).map(move |n| (lane, n))) {
                    if quad * QUAD + n >= usize::from(tap.bytes) {
                        weights[at] = 0;
                    }
                    own[group * LANES + lane] += i32::from(weights[at]);
                    at += 1;
                }
            }
        }
        let (zero, top) = random.levels();
        let (scale, bias) = (random.scales(channels, quads * QUAD), random.biases(channels));
        let table = random.table();
        let table = (random.below(2) == 0).then_some(&table);
        let written = channels - random.below(LANES);
        let (pixel, order) = (
            written + random.below(9),
            [Residual::AfterActivation, Residual::BeforeActivation][random.below(2)],
        );
        let activation =
            [Activation::Identity, Activation::Clip { low: 0.0, high: f32::INFINITY }, Activation::Silu]
                [random.below(3)];
        // functions differ by their last bit from table to table, and then a code may
        let (before, factor) = match activation {
            Activation::Clip { .. } => (activation, 1.5),
            _ => (Activation::Identity, 1.0),
        };
        let residual = random.biases(rows * channels * width);
        let has_residual = random.below(2) == 0;
        let run = |int8: &Int8| {
            let sums: Vec<i32> = own.iter().map(|own| own * (int8.offset - 77)).collect();
            let mut codes = vec![0xa5u8; rows * width * pixel + LANES];
            let mut floats = vec![0.5f32; rows * channels * width + LANES];
            let mut job = Int8Rows {
                input: input.as_ptr(),
                input_row,
                pixel_stride,
                taps: &taps,
                weights: weights.as_ptr(),
                sums: sums.as_ptr(),
                scale: scale.as_ptr(),
                bias: bias.as_ptr(),
                rows,
                width,
                groups,
                made: Made::Codes {
                    to: codes.as_mut_ptr(),
                    row: width * pixel,
                    pixel,
                    channels: written,
                    coded: Coded { activation: before, factor, ..Coded::new(zero, top, table) },
                },
            };
            // SAFETY: all that the job names is there.
            unsafe { (int8.conv)(&job) };
            job.made = Made::Floats {
                to: floats.as_mut_ptr(),
                row: channels * width,
                block: LANES * width,
                activation,
                residual: if has_residual { residual.as_ptr() } else { std::ptr::null() },
                residual_row: channels * width,
                residual_block: LANES * width,
                order,
            };
            // SAFETY: as above.
            unsafe { (int8.conv)(&job) };
            (codes, floats)
        };
        let (codes, floats) = run(&int8_scalar::INT8);
        for int8 in tables().filter(|int8| tiled || !int8.has_tiles) {
            let what = format!("{} case {case}: {rows} x {width}, {groups} groups, {taps:?}", int8.name);
            let (found, found_floats) = run(int8);
            assert_eq!(found, codes, "{what}");
            for (found, expected) in found_floats.iter().zip(&floats) {
                let is_near = (found - expected).abs() <= TOLERANCE * expected.abs().max(1.0);
                assert!(
                    is_near || found == expected || found.is_nan() && expected.is_nan(),
                    "{what}: {found} instead of {expected}"
                );
            }
        }
    }
}

#[test]
fn depthwise_convolutions() {
    let random = &mut Random(2);
    for case in 0..CASES {
        let (width, channels) = (1 + random.below(7), 1 + random.below(WIDE));
        let (pixel_stride, output_pixel) = (channels + random.below(9), channels + random.below(9));
        let taps: Vec<u32> =
            (0..QUAD * (1 + random.below(4))).map(|_| random.below(9 * pixel_stride) as u32).collect();
        let reach = *taps.iter().max().unwrap() as usize + channels;
        let input = random.bytes((width - 1) * pixel_stride + reach);
        let mut of_channel: Vec<Vec<i8>> = (0..channels).map(|_| random.weights(taps.len())).collect();
        of_channel.resize(WIDE, vec![0; taps.len()]);
        let (zero, top) = random.levels();
        let (scale, bias) = (random.scales(WIDE, taps.len()), random.biases(WIDE));
        let table = random.table();
        let table = (random.below(2) == 0).then_some(&table);
        let run = |int8: &Int8| {
            let order = |at: usize| usize::from(int8.order[at]);
            let fours = (0..taps.len() / QUAD).flat_map(|four| (0..WIDE).map(move |at| (four, at)));
            let weights: Vec<i8> = fours
                .flat_map(|(four, at)| of_channel[order(at)][four * QUAD..(four + 1) * QUAD].to_vec())
                .collect();
            let own = |at: usize| of_channel[order(at)].iter().map(|weight| i32::from(*weight)).sum::<i32>();
            let sums: Vec<i32> = (0..WIDE).map(|at| own(at) * (int8.offset - 77)).collect();
            let [scale, bias]: [Vec<f32>; 2] =
                [&scale, &bias].map(|numbers| (0..WIDE).map(|at| numbers[order(at)]).collect());
            let mut codes = vec![0xa5u8; width * output_pixel + LANES];
            let job = Int8Depthwise {
                input: input.as_ptr(),
                pixel_stride,
                taps: &taps,
                weights: weights.as_ptr(),
                sums: sums.as_ptr(),
                scale: scale.as_ptr(),
                bias: bias.as_ptr(),
                output: codes.as_mut_ptr(),
                output_pixel,
                width,
                channels,
                coded: Coded::new(zero, top, table),
            };
            // SAFETY: all that the job names is there.
            unsafe { (int8.depthwise)(&job) };
            codes
        };
        let expected = run(&int8_scalar::INT8);
        for int8 in tables() {
            let what = format!("{} case {case}: {width} pixels of {channels}, {taps:?}", int8.name);
            assert_eq!(run(int8), expected, "{what}");
        }
    }
}

#[test]
fn codes_go_through_tables_and_come_from_floats() {
    let random = &mut Random(3);
    for case in 0..CASES {
        let (count, table) = (random.below(200), random.table());
        let from = random.bytes(count);
        let expected: Vec<u8> = from.iter().map(|code| table[usize::from(*code)]).collect();
        let (pixels, channels, extra) = (random.below(9), 1 + random.below(LANES), random.below(9));
        let mut floats = random.biases(pixels * LANES);
        for (number, odd) in floats.iter_mut().zip([f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -0.0]) {
            *number = odd;
        }
        let (zero, top) = random.levels();
        let how = Quantizer { scale: [0.5, 1.0, 0.017_3, 3.1][random.below(4)], zero, top };
        let quantize = |int8: &Int8| {
            let mut to = vec![0xa5; pixels * (channels + extra)];
            // SAFETY: the table is one that this CPU has.
            unsafe {
                (int8.pictures.quantize)(&floats, &mut to, Pixels { apart: channels + extra, channels }, &how)
            };
            to
        };
        let (planes, length) = (1 + random.below(QUAD), random.below(60));
        let pixel = if random.below(3) == 0 { planes + extra } else { QUAD };
        let mut numbers = random.biases(planes * length);
        numbers.iter_mut().zip([f32::NAN, f32::INFINITY, -1e30]).for_each(|(number, odd)| *number = odd);
        let quantize_planes = |int8: &Int8| {
            let mut to = vec![0xa5; length * pixel];
            let planes: Vec<&[f32]> = (0..planes).map(|n| &numbers[n * length..(n + 1) * length]).collect();
            // SAFETY: as above.
            unsafe { (int8.pictures.quantize_planes)(&planes, &mut to, pixel, &how) };
            to
        };
        for int8 in tables() {
            let mut to = vec![0; from.len()];
            // SAFETY: as above.
            unsafe { (int8.translate)(&from, &mut to, &table) };
            assert_eq!(to, expected, "{} case {case}: {} codes", int8.name, from.len());
            let what = format!("{} case {case}: {pixels} pixels of {channels}, {how:?}", int8.name);
            assert_eq!(quantize(int8), quantize(&int8_scalar::INT8), "{what}");
            let what = format!("{} case {case}: {planes} planes of {length}, {pixel} apart", int8.name);
            assert_eq!(quantize_planes(int8), quantize_planes(&int8_scalar::INT8), "{what}");
        }
    }
}
