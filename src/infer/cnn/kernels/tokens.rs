//! What transformers do along the rows of a matrix: softmax, layer normalisation, the softmax of attention.
//!
//! A row is summed in the same order on any number of threads: lane by lane, then the lanes one after the
//! other.
#![allow(unsafe_code)] // raw pointers, as the structures in `mod.rs` describe them

use super::lanes::{LANES, Lanes};
use super::{Attended, Normalized};

/// The first `length` floats of a vector, and `rest` behind them.
#[inline(always)]
unsafe fn load_some<V: Lanes>(from: *const f32, length: usize, rest: f32) -> V {
    let mut lanes = [rest; LANES];
    // SAFETY: the caller vouches for `length` (below `LANES`) readable floats.
    unsafe {
        std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), length);
        V::load(lanes.as_ptr())
    }
}

/// The first `length` lanes into memory.
#[inline(always)]
unsafe fn store_some<V: Lanes>(value: V, to: *mut f32, length: usize) {
    let mut lanes = [0.0; LANES];
    // SAFETY: the caller vouches for `length` (below `LANES`) writable floats.
    unsafe {
        value.store(lanes.as_mut_ptr());
        std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, length);
    }
}

/// All lanes as one number.
#[inline(always)]
unsafe fn fold<V: Lanes>(value: V, f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    // SAFETY: the caller vouches for the instructions; the array has LANES floats.
    unsafe { value.store(lanes.as_mut_ptr()) }
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = f(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// See [`super::Kernels::softmax_row`].
#[inline(always)]
pub(super) unsafe fn softmax_row<V: Lanes>(at: *mut f32, length: usize) {
    let (whole, rest) = (length / LANES * LANES, length % LANES);
    // SAFETY: the caller vouches for `length` floats.
    unsafe {
        let mut most = load_some::<V>(at.add(whole), rest, f32::NEG_INFINITY);
        for i in (0..whole).step_by(LANES) {
            most = most.max(V::load(at.add(i)));
        }
        let most = V::splat(fold(most, |a, b| if a > b { a } else { b }));
        let mut sum = V::splat(0.0);
        for i in (0..whole).step_by(LANES) {
            let e = V::load(at.add(i)).sub(most).exp();
            e.store(at.add(i));
            sum = sum.add(e);
        }
        if rest > 0 {
            store_some(load_some::<V>(at.add(whole), rest, 0.0).sub(most).exp(), at.add(whole), rest);
            sum = sum.add(load_some::<V>(at.add(whole), rest, 0.0));
        }
        let share = V::splat(1.0 / fold(sum, |a, b| a + b));
        for i in (0..whole).step_by(LANES) {
            V::load(at.add(i)).mul(share).store(at.add(i));
        }
        store_some(load_some::<V>(at.add(whole), rest, 0.0).mul(share), at.add(whole), rest);
    }
}

/// See [`super::Kernels::normalize`].
#[inline(always)]
pub(super) unsafe fn normalize<V: Lanes>(row: &Normalized) {
    let (whole, rest) = (row.length / LANES * LANES, row.length % LANES);
    let count = row.length as f32;
    // SAFETY: the row's contract.
    unsafe {
        let mut sum = load_some::<V>(row.from.add(whole), rest, 0.0);
        for i in (0..whole).step_by(LANES) {
            sum = sum.add(V::load(row.from.add(i)));
        }
        let mean = fold(sum, |a, b| a + b) / count;
        let centre = V::splat(mean);
        let last = load_some::<V>(row.from.add(whole), rest, mean).sub(centre);
        let mut squares = last.mul(last);
        for i in (0..whole).step_by(LANES) {
            let x = V::load(row.from.add(i)).sub(centre);
            squares = x.mul_add(x, squares);
        }
        let variance = fold(squares, |a, b| a + b) / count;
        let factor = V::splat(1.0 / (variance + row.epsilon).sqrt());
        for i in (0..whole).step_by(LANES) {
            let mut y = V::load(row.from.add(i)).sub(centre).mul(factor);
            if !row.scale.is_null() {
                y = y.mul(V::load(row.scale.add(i)));
            }
            if !row.bias.is_null() {
                y = y.add(V::load(row.bias.add(i)));
            }
            y.store(row.to.add(i));
        }
        if rest > 0 {
            let mut y = last.mul(factor);
            if !row.scale.is_null() {
                y = y.mul(load_some::<V>(row.scale.add(whole), rest, 0.0));
            }
            if !row.bias.is_null() {
                y = y.add(load_some::<V>(row.bias.add(whole), rest, 0.0));
            }
            store_some(y, row.to.add(whole), rest);
        }
    }
}

/// See [`super::Kernels::attend`].
#[inline(always)]
pub(super) unsafe fn attend<V: Lanes>(job: &Attended) {
    let (whole, rest) = (job.length / LANES, job.length % LANES);
    // SAFETY: the job's contract.
    unsafe {
        for r in 0..job.rows {
            let at = |b: usize| job.scores.add(b * job.block + r * LANES);
            let mut most = [V::splat(f32::NEG_INFINITY); 2];
            for pair in 0..whole / 2 {
                most[0] = most[0].max(V::load(at(2 * pair)));
                most[1] = most[1].max(V::load(at(2 * pair + 1)));
            }
            if whole % 2 == 1 {
                most[0] = most[0].max(V::load(at(whole - 1)));
            }
            if rest > 0 {
                most[1] = most[1].max(load_some::<V>(at(whole), rest, f32::NEG_INFINITY));
            }
            let most = V::splat(fold(most[0].max(most[1]), |a, b| if a > b { a } else { b }));
            let mut sum = V::splat(0.0);
            for b in 0..whole {
                let e = V::load(at(b)).sub(most).exp();
                e.store(at(b));
                sum = sum.add(e);
            }
            if rest > 0 {
                V::load(at(whole)).sub(most).exp().store(at(whole));
                sum = sum.add(load_some::<V>(at(whole), rest, 0.0));
            }
            *job.sums.add(r) = fold(sum, |a, b| a + b);
        }
    }
}
