//! The twin of the integer kernels: plain Rust that gives the same numbers, for tests.
#![allow(unsafe_code)] // loads and stores through the kernels' raw pointers

use super::Residual;
use super::half::finish;
use super::int8::{
    self, Coded, IN_ORDER, Int8, Int8Depthwise, Int8Pictures, Int8Rows, Made, QUAD, Table, WIDE,
};
use super::lanes::{LANES, Lanes};
use super::scalar::Scalar;

/// The code of a sum.
fn code(sum: i32, scale: f32, bias: f32, coded: &Coded<'_>) -> u8 {
    let (low, high) = (-coded.zero as f32, (coded.top - coded.zero) as f32);
    let mut number = [(sum as f32).mul_add(scale, bias); LANES];
    let (from, to, none) = (number, number.as_mut_ptr(), (std::ptr::null(), Residual::AfterActivation));
    // SAFETY: a vector's floats at both.
    unsafe { finish::<Scalar>(|_| Scalar::load(from.as_ptr()), 1, to, coded.activation, none) };
    let number = (number[0] * coded.factor).max(low).min(high);
    let code = (number.round_ties_even() as i32 + coded.zero) as u8;
    coded.table.map_or(code, |table| table[usize::from(code)])
}

unsafe fn conv(rows: &Int8Rows) {
    let channels = rows.groups * LANES;
    for (y, x) in (0..rows.rows).flat_map(|y| (0..rows.width).map(move |x| (y, x))) {
        // SAFETY: the rows' contract.
        unsafe {
            let mut sums = [0; 2 * LANES];
            sums.iter_mut().take(channels).enumerate().for_each(|(c, sum)| *sum = *rows.sums.add(c));
            let start = rows.input.add(y * rows.input_row + x * rows.pixel_stride);
            let mut weights = rows.weights;
            for tap in rows.taps {
                for (group, quad) in (0..rows.groups)
                    .flat_map(|group| (0..usize::from(tap.quads)).map(move |quad| (group, quad)))
                {
                    let from = start.add(tap.offset as usize + quad * QUAD);
                    for (lane, n) in (0..LANES).flat_map(|lane| (0..QUAD).map(move |n| (lane, n))) {
                        sums[group * LANES + lane] += i32::from(*from.add(n)) * i32::from(*weights);
                        weights = weights.add(1);
                    }
                }
            }
            let number = |c: usize| (sums[c] as f32).mul_add(*rows.scale.add(c), *rows.bias.add(c));
            match rows.made {
                Made::Codes { to, row, pixel, channels: written, coded } => {
                    for (c, sum) in sums.iter().enumerate().take(written.min(channels)) {
                        *to.add(y * row + x * pixel + c) =
                            code(*sum, *rows.scale.add(c), *rows.bias.add(c), &coded);
                    }
                }
                Made::Floats {
                    to,
                    row,
                    block,
                    activation,
                    residual,
                    residual_row,
                    residual_block,
                    order,
                } => {
                    for group in 0..rows.groups {
                        let numbers: [f32; LANES] = std::array::from_fn(|lane| number(group * LANES + lane));
                        let residual = match residual.is_null() {
                            true => residual,
                            false => residual.add(y * residual_row + group * residual_block + x * LANES),
                        };
                        let to = to.add(y * row + group * block + x * LANES);
                        finish::<Scalar>(
                            |_| Scalar::load(numbers.as_ptr()),
                            1,
                            to,
                            activation,
                            (residual, order),
                        );
                    }
                }
            }
        }
    }
}

unsafe fn depthwise(row: &Int8Depthwise) {
    for (x, c) in (0..row.width).flat_map(|x| (0..row.channels).map(move |c| (x, c))) {
        // SAFETY: the row's contract.
        unsafe {
            let from = row.input.add(x * row.pixel_stride + c);
            let mut sum = *row.sums.add(c);
            for (t, tap) in row.taps.iter().enumerate() {
                let weight = *row.weights.add(t / QUAD * WIDE * QUAD + c * QUAD + t % QUAD);
                sum += i32::from(*from.add(*tap as usize)) * i32::from(weight);
            }
            *row.output.add(x * row.output_pixel + c) =
                code(sum, *row.scale.add(c), *row.bias.add(c), &row.coded);
        }
    }
}

unsafe fn translate(from: &[u8], to: &mut [u8], table: &Table) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = table[usize::from(*from)]);
}

pub(super) const INT8: Int8 = Int8 {
    name: "scalar-int8",
    is_fast: false,
    available: || true,
    has_tiles: false,
    offset: 0,
    order: &IN_ORDER,
    conv,
    depthwise,
    translate,
    pictures: Int8Pictures {
        binary: |a, b, to, how| int8::binary(a, b, to, how),
        max: |from, to| int8::max(from, to),
        quantize: |from, to, pixels, how| int8::quantize(from, to, pixels, how),
        quantize_planes: |planes, to, pixel, how| int8::quantize_planes(planes, to, pixel, how),
        dequantize: |from, to, pixels, worth| int8::dequantize(from, to, pixels, worth),
    },
};
