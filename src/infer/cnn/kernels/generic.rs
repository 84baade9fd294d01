//! The loops themselves, over any [`Lanes`]. Inlined into functions that carry the CPU's features.
#![allow(unsafe_code)] // raw pointers, as the row structures in `mod.rs` describe them
#![allow(clippy::needless_range_loop)] // two indices walk a tile together

use super::lanes::{LANES, Lanes};
use super::{Activation, Binary, ConvRow, Levels, Operand, PoolRow, Residual, ResizeRow, generic};

/// Kernel for a tile of fixed size: a row, the first pixel.
pub(super) type Tile = unsafe fn(&ConvRow, usize);

/// [`rest`] for the CPU of a tile, as a function of its own: written out in every tile it would be most of the
/// kernels' code.
pub(super) type Rest =
    unsafe fn(from: *const f32, to: *mut f32, vectors: usize, step: usize, activation: Activation);

/// `P` pixels × `O` output blocks in registers; input pixels lie `S` floats apart (0: `row.pixel_stride`).
///
/// # Safety
/// As [`ConvRow`] says, with `x + P <= width` and `O == blocks`.
#[inline(always)]
pub(super) unsafe fn tile<V: Lanes, const P: usize, const O: usize, const S: usize>(
    row: &ConvRow,
    x: usize,
    rest: Rest,
) {
    let stride = if S == 0 { row.pixel_stride } else { S };
    // SAFETY: the row's contract.
    unsafe {
        let mut sums = [[V::splat(0.0); P]; O];
        for (o, sums) in sums.iter_mut().enumerate() {
            for (p, sum) in sums.iter_mut().enumerate() {
                *sum = V::load(row.bias.add(o * row.bias_block + (x + p) * row.bias_pixel));
            }
        }
        let start = row.input.add(x * stride);
        let mut weights = row.weights;
        for tap in row.taps {
            let mut input = start.add(tap.offset as usize);
            for _ in 0..tap.channels {
                let mut w = [V::splat(0.0); O];
                for (o, w) in w.iter_mut().enumerate() {
                    *w = V::load(weights.add(o * LANES));
                }
                for p in 0..P {
                    let value = V::splat(*input.add(p * stride));
                    for o in 0..O {
                        sums[o][p] = value.mul_add(w[o], sums[o][p]);
                    }
                }
                weights = weights.add(O * LANES);
                input = input.add(1);
            }
        }
        store::<V, P, O>(row, x, &sums, rest);
    }
}

/// `P` pixels of one block of a depthwise convolution.
///
/// # Safety
/// As [`ConvRow`] says, with vectors instead of single channels, and `x + P <= width`.
#[inline(always)]
pub(super) unsafe fn depthwise_tile<V: Lanes, const P: usize, const S: usize>(
    row: &ConvRow,
    x: usize,
    rest: Rest,
) {
    let stride = if S == 0 { row.pixel_stride } else { S };
    // SAFETY: the row's contract.
    unsafe {
        let mut sums = [[V::splat(0.0); P]; 1];
        for (p, sum) in sums[0].iter_mut().enumerate() {
            *sum = V::load(row.bias.add((x + p) * row.bias_pixel));
        }
        let start = row.input.add(x * stride);
        for (t, tap) in row.taps.iter().enumerate() {
            let w = V::load(row.weights.add(t * LANES));
            let input = start.add(tap.offset as usize);
            for p in 0..P {
                sums[0][p] = V::load(input.add(p * stride)).mul_add(w, sums[0][p]);
            }
        }
        store::<V, P, 1>(row, x, &sums, rest);
    }
}

/// Stores a tile, then finishes it where it lies: an activation between the sums and the store would make the
/// compiler spill the sums inside the loop above (measured: 45 instead of 97 GFLOP/s).
#[inline(always)]
unsafe fn store<V: Lanes, const P: usize, const O: usize>(
    row: &ConvRow,
    x: usize,
    sums: &[[V; P]; O],
    rest: Rest,
) {
    // SAFETY: the row's contract.
    unsafe {
        for (o, sums) in sums.iter().enumerate() {
            let to = row.output.add(o * row.output_block + x * row.output_pixel);
            for (p, sum) in sums.iter().enumerate() {
                sum.store(to.add(p * row.output_pixel));
            }
        }
        for o in 0..O {
            let residual = row.residual.wrapping_add(o * row.residual_block + x * row.output_pixel);
            let residual = (!row.residual.is_null()).then_some((residual, row.residual_order));
            let to = row.output.add(o * row.output_block + x * row.output_pixel);
            finish::<V>(to, P, row.output_pixel, row.activation, residual, rest);
        }
    }
}

/// Activation and shortcut on `vectors` vectors of output, `step` floats apart in both.
#[inline(always)]
pub(super) unsafe fn finish<V: Lanes>(
    to: *mut f32,
    vectors: usize,
    step: usize,
    activation: Activation,
    residual: Option<(*const f32, Residual)>,
    rest: Rest,
) {
    // SAFETY: the caller vouches for `vectors` vectors at both.
    unsafe {
        let add = |from: *const f32| {
            for i in 0..vectors {
                let at = to.add(i * step);
                V::load(at).add(V::load(from.add(i * step))).store(at);
            }
        };
        if let Some((from, Residual::BeforeActivation)) = residual {
            add(from);
        }
        activate::<V>(to, to, vectors, step, activation, rest);
        if let Some((from, Residual::AfterActivation)) = residual {
            add(from);
        }
    }
}

/// Cuts a row into tiles of nearly the same size: `tiles[n − 1]` does `n` pixels.
///
/// # Safety
/// As [`ConvRow`] says.
#[inline(always)]
pub(super) unsafe fn in_tiles(row: &ConvRow, tiles: &[Tile]) {
    let count = row.width.div_ceil(tiles.len());
    let (size, larger) = (row.width / count.max(1), row.width % count.max(1));
    let mut x = 0;
    for i in 0..count {
        let n = size + usize::from(i < larger);
        if let Some(tile) = n.checked_sub(1).and_then(|n| tiles.get(n)) {
            // SAFETY: the row's contract; x + n never passes the width.
            unsafe { tile(row, x) };
        }
        x += n;
    }
}

/// The loop `$each!(|x| …)` with what an [`Activation`] that convolutions of detectors end with makes of each
/// vector `x`; `$otherwise` for every other one.
macro_rules! by_common {
    ($vector:ident, $activation:expr, $each:ident, |$other:ident| $otherwise:expr) => {
        match $activation {
            Activation::Identity => $each!(|x| x),
            Activation::Clip { low, high } => {
                let (low, high) = ($vector::splat(low), $vector::splat(high));
                $each!(|x| high.min(low.max(x)))
            }
            // slope ≤ 1: the larger of the two branches
            Activation::Leaky { slope } if slope <= 1.0 => {
                let slope = $vector::splat(slope);
                $each!(|x| slope.mul(x).max(x))
            }
            Activation::Silu => $each!(|x| x.silu()),
            Activation::HardSwish => {
                let (zero, three, six, sixth) = (
                    $vector::splat(0.0),
                    $vector::splat(3.0),
                    $vector::splat(6.0),
                    $vector::splat(1.0 / 6.0),
                );
                $each!(|x| x.mul(six.min(zero.max(x.add(three)))).mul(sixth))
            }
            $other => $otherwise,
        }
    };
}

/// The same for all of them.
macro_rules! by_activation {
    ($vector:ident, $activation:expr, $each:ident) => {
        $crate::infer::cnn::kernels::generic::by_common!($vector, $activation, $each, |other| match other {
            Activation::Identity | Activation::Clip { .. } | Activation::Silu | Activation::HardSwish => {}
            Activation::Leaky { slope } => {
                let slope = $vector::splat(slope);
                $each!(|x| slope.mul(x).min(x))
            }
            Activation::Sigmoid => $each!(|x| x.sigmoid()),
            Activation::Tanh => {
                let (one, two) = ($vector::splat(1.0), $vector::splat(2.0));
                $each!(|x| x.mul(two).sigmoid().mul(two).sub(one))
            }
            Activation::Exp => $each!(|x| x.exp()),
            Activation::Gelu => {
                let (root, half) = ($vector::splat(std::f32::consts::FRAC_1_SQRT_2), $vector::splat(0.5));
                $each!(|x| {
                    let half_x = x.mul(half);
                    x.mul(root).erf().mul_add(half_x, half_x)
                })
            }
            Activation::GeluTanh => {
                // 2 · √(2/π)
                let (factor, cubic) = ($vector::splat(1.595_769), $vector::splat(1.595_769 * 0.044_715));
                $each!(|x| x.mul(x.mul(x.mul(x).mul_add(cubic, factor)).sigmoid()))
            }
            Activation::Erf => $each!(|x| x.erf()),
            Activation::Sqrt => $each!(|x| x.sqrt()),
            Activation::Rsqrt => {
                let one = $vector::splat(1.0);
                $each!(|x| one.div(x.sqrt()))
            }
            Activation::Reciprocal => {
                let one = $vector::splat(1.0);
                $each!(|x| one.div(x))
            }
            Activation::Cube => $each!(|x| x.mul(x).mul(x)),
            Activation::Quantized(levels) => $each!(|x| generic::quantized(x, &levels)),
            Activation::QuantizedSilu { before, gate, after } => $each!(|x| {
                let x = generic::quantized(x, &before);
                generic::quantized(x.mul(generic::quantized(x.sigmoid(), &gate)), &after)
            }),
        })
    };
}
pub(super) use {by_activation, by_common};

/// See [`Levels`].
#[inline(always)]
pub(super) unsafe fn quantized<V: Lanes>(x: V, levels: &Levels) -> V {
    // SAFETY: the caller vouches for the instructions; nothing here touches memory.
    unsafe {
        // x ÷ scale to the last bit, without the division that would take as long as all the rest
        let (scale, inverse) = (V::splat(-levels.scale), V::splat(1.0 / levels.scale));
        let near = x.mul(inverse);
        let whole = scale.mul_add(near, x).mul_add(inverse, near).round();
        V::splat(levels.high).min(V::splat(levels.low).max(whole)).mul(V::splat(levels.step))
    }
}

/// `$result` for each of so many vectors `$x`, `step` floats apart at both ends.
macro_rules! for_each {
    ($vector:ty, $from:ident, $to:ident, $vectors:ident, $step:ident, |$x:ident| $result:expr) => {
        for i in 0..$vectors {
            let $x = <$vector>::load($from.add(i * $step));
            $result.store($to.add(i * $step));
        }
    };
}

/// See [`super::Pictures::activate`]; the vectors lie `step` floats apart. What convolutions of detectors end
/// with stands here, everything else in `rest`.
#[inline(always)]
pub(super) unsafe fn activate<V: Lanes>(
    from: *const f32,
    to: *mut f32,
    vectors: usize,
    step: usize,
    activation: Activation,
    rest: Rest,
) {
    macro_rules! each {
        (|$x:ident| $result:expr) => {
            for_each!(V, from, to, vectors, step, |$x| $result)
        };
    }
    if activation == Activation::Identity && std::ptr::eq(from, to) {
        return;
    }
    // SAFETY: the caller vouches for `vectors` vectors at both ends.
    unsafe { by_common!(V, activation, each, |other| rest(from, to, vectors, step, other)) }
}

/// All activations, those that [`activate`] does not have among them.
#[inline(always)]
pub(super) unsafe fn rest<V: Lanes>(
    from: *const f32,
    to: *mut f32,
    vectors: usize,
    step: usize,
    activation: Activation,
) {
    macro_rules! each {
        (|$x:ident| $result:expr) => {
            for_each!(V, from, to, vectors, step, |$x| $result)
        };
    }
    // SAFETY: the caller vouches for `vectors` vectors at both ends.
    unsafe { by_activation!(V, activation, each) }
}

/// See [`super::Pictures::binary`].
#[inline(always)]
pub(super) unsafe fn binary<V: Lanes>(op: Binary, a: Operand, b: Operand, to: *mut f32, vectors: usize) {
    macro_rules! each {
        ($method:ident) => {
            for i in 0..vectors {
                let x = V::load(a.from.add(i * a.step));
                x.$method(V::load(b.from.add(i * b.step))).store(to.add(i * LANES));
            }
        };
    }
    // SAFETY: the caller vouches for `vectors` vectors at all three.
    unsafe {
        match op {
            Binary::Add => each!(add),
            Binary::Sub => each!(sub),
            Binary::Mul => each!(mul),
            Binary::Div => each!(div),
            Binary::Max => each!(max),
            Binary::Min => each!(min),
        }
    }
}

/// See [`super::Pictures::pool`].
#[inline(always)]
pub(super) unsafe fn pool<V: Lanes>(row: &PoolRow) {
    // SAFETY: the row's contract.
    unsafe {
        for (x, &(first, columns)) in row.columns.iter().enumerate() {
            let start = row.input.add(first as usize * LANES);
            let to = row.output.add(x * LANES);
            let at = |r: usize, k: usize| V::load(start.add(r * row.row_stride + k * LANES));
            match row.average {
                None => {
                    let mut most = V::splat(f32::NEG_INFINITY);
                    for r in 0..row.rows {
                        for k in 0..columns as usize {
                            most = most.max(at(r, k));
                        }
                    }
                    most.store(to);
                }
                Some(divisor) => {
                    let mut sum = V::splat(0.0);
                    for r in 0..row.rows {
                        for k in 0..columns as usize {
                            sum = sum.add(at(r, k));
                        }
                    }
                    let inside = row.rows as f32 * columns as f32;
                    let divisor = if divisor == 0 { inside } else { divisor as f32 };
                    sum.div(V::splat(divisor)).store(to);
                }
            }
        }
    }
}

/// Between two columns of a row.
#[inline(always)]
unsafe fn across<V: Lanes>(from: *const f32, (left, right, weight): (u32, u32, f32)) -> V {
    // SAFETY: the caller vouches for both vectors.
    unsafe {
        let a = V::load(from.add(left as usize * LANES));
        if weight == 0.0 {
            return a;
        }
        let b = V::load(from.add(right as usize * LANES));
        b.sub(a).mul_add(V::splat(weight), a)
    }
}

/// See [`super::Pictures::resize`].
#[inline(always)]
pub(super) unsafe fn resize<V: Lanes>(row: &ResizeRow) {
    // SAFETY: the row's contract.
    unsafe {
        for (x, &(left, right, weight)) in row.columns.iter().enumerate() {
            let mut value = across::<V>(row.upper, (left, right, weight));
            if row.weight != 0.0 {
                let below = across::<V>(row.lower, (left, right, weight));
                value = below.sub(value).mul_add(V::splat(row.weight), value);
            }
            value.store(row.output.add(x * LANES));
        }
    }
}

/// See [`super::Kernels::softmax`].
#[inline(always)]
pub(super) unsafe fn softmax<V: Lanes>(at: *mut f32, length: usize, stride: usize) {
    // SAFETY: the caller vouches for `length` vectors.
    unsafe {
        let mut most = V::splat(f32::NEG_INFINITY);
        for i in 0..length {
            most = most.max(V::load(at.add(i * stride)));
        }
        let mut sum = V::splat(0.0);
        for i in 0..length {
            let e = V::load(at.add(i * stride)).sub(most).exp();
            e.store(at.add(i * stride));
            sum = sum.add(e);
        }
        let share = V::splat(1.0).div(sum);
        for i in 0..length {
            V::load(at.add(i * stride)).mul(share).store(at.add(i * stride));
        }
    }
}

/// See [`super::Kernels::range`].
#[inline(always)]
pub(super) fn range(from: &[f32], [low, high]: [f32; 2]) -> [f32; 2] {
    /// Numbers looked at together: a comparison of vectors waits some cycles for the one before.
    const TOGETHER: usize = 4 * LANES;
    let (mut lows, mut highs) = ([low; TOGETHER], [high; TOGETHER]);
    let (vectors, rest) = from.as_chunks::<TOGETHER>();
    for vector in vectors {
        for ((low, high), x) in lows.iter_mut().zip(&mut highs).zip(vector) {
            *low = if *x < *low { *x } else { *low };
            *high = if *x > *high { *x } else { *high };
        }
    }
    let low = lows.iter().chain(rest).fold(low, |low, x| low.min(*x));
    [low, highs.iter().chain(rest).fold(high, |high, x| high.max(*x))]
}
