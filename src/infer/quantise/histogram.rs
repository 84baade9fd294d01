//! Which numbers a value takes, and which range of them 8 bits should hold.

/// Bins on each side of zero. Ranges are found to a thousandth.
const BINS: usize = 1024;
/// Ranges that are tried: from this part of what was seen on, in so many steps.
const LEAST_PART: f64 = 0.1;
const PARTS: usize = 90;
/// Levels of 8 bits beside zero.
const STEPS: f64 = 255.0;

/// Counts of numbers by their size: bins from −`BINS · width` to `BINS · width`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    /// Of a bin: a power of two, so that bins of one histogram are made of whole ones of another.
    width: f32,
    low: f32,
    high: f32,
    /// Numbers that are none, or infinite.
    odd: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            counts: vec![0; 2 * BINS],
            width: f32::MIN_POSITIVE,
            low: f32::INFINITY,
            high: f32::NEG_INFINITY,
            odd: 0,
        }
    }
}

/// How much what lies outside of a range weighs against the rounding inside: the exponent of a number's error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fit {
    /// All that was seen fits in.
    All,
    /// The mean of the error to this power is smallest.
    Power(f64),
}

impl Histogram {
    /// Counts numbers.
    pub(super) fn add(&mut self, values: &[f32]) {
        let (mut low, mut high, mut odd) = (self.low, self.high, 0u64);
        for value in values {
            odd += u64::from(!value.is_finite());
            // NaN is neither smaller nor larger
            low = low.min(*value);
            high = high.max(*value);
        }
        self.odd += odd;
        if odd > 0 {
            return;
        }
        (self.low, self.high) = (low, high);
        let largest = low.abs().max(high.abs());
        while largest >= self.width * BINS as f32 {
            if self.is_empty() {
                // at once what many doublings would come to
                self.width = power_of_two(largest / BINS as f32);
            } else {
                self.widen();
            }
        }
        let per_bin = self.width.recip();
        for value in values {
            let bin = (value * per_bin).floor() as isize + BINS as isize;
            if let Some(count) = usize::try_from(bin).ok().and_then(|bin| self.counts.get_mut(bin)) {
                *count += 1;
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| *count == 0)
    }

    /// Bins of twice the width.
    fn widen(&mut self) {
        let old = std::mem::replace(&mut self.counts, vec![0; 2 * BINS]);
        for (bin, count) in old.into_iter().enumerate() {
            // bins from zero on, on either side: 0 and 1 become 0, −1 and −2 become −1
            let place = (bin as isize - BINS as isize).div_euclid(2) + BINS as isize;
            if let Some(sum) = usize::try_from(place).ok().and_then(|place| self.counts.get_mut(place)) {
                *sum += count;
            }
        }
        self.width *= 2.0;
    }

    /// Counts what another one has counted.
    pub(super) fn join(&mut self, other: &Histogram) {
        let mut other = other.clone();
        if self.is_empty() {
            self.width = other.width;
        }
        while !other.is_empty() && other.width < self.width {
            other.widen();
        }
        while !other.is_empty() && self.width < other.width {
            self.widen();
        }
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count);
        (self.low, self.high) = (self.low.min(other.low), self.high.max(other.high));
        self.odd += other.odd;
    }

    /// Lowest and highest number that was seen, with zero; `None`: nothing, zeros alone, or what is no number.
    pub(super) fn seen(&self) -> Option<(f32, f32)> {
        let (low, high) = (self.low.min(0.0), self.high.max(0.0));
        (self.odd == 0 && !self.is_empty() && low < high && (high - low).is_finite()).then_some((low, high))
    }

    /// Whether numbers were seen that are none.
    pub(super) fn has_odd(&self) -> bool {
        self.odd > 0
    }

    /// The range that 8 bits hold best, with zero.
    pub(super) fn range(&self, fit: Fit) -> Option<(f32, f32)> {
        let (low, high) = self.seen()?;
        let Fit::Power(power) = fit else { return Some((low, high)) };
        let bins: Vec<(f64, f64)> = self
            .counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .map(|(bin, count)| ((bin as f64 - BINS as f64 + 0.5) * f64::from(self.width), *count as f64))
            .collect();
        let error = |low: f64, high: f64| {
            let step = (high - low) / STEPS;
            // errors of rounding lie evenly between nothing and half a step
            let inside = (step / 2.0).powf(power) / (power + 1.0);
            let of = |value: f64| match value {
                value if value < low => (low - value).powf(power),
                value if value > high => (value - high).powf(power),
                _ => inside,
            };
            bins.iter().map(|(value, count)| of(*value) * count).sum::<f64>()
        };
        let (whole_low, whole_high) = (f64::from(low), f64::from(high));
        let (mut low, mut high) = (whole_low, whole_high);
        let parts = || (0..=PARTS).map(|part| LEAST_PART + (1.0 - LEAST_PART) * part as f64 / PARTS as f64);
        let best = |of: &dyn Fn(f64) -> f64| {
            // of equals the widest
            let errors = parts().map(|part| (of(part), part));
            errors.min_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1))).map_or(1.0, |(_, part)| part)
        };
        // the two sides depend on each other by the step alone: twice is enough
        for _ in 0..2 {
            high = whole_high * best(&|part| error(low, whole_high * part));
            low = whole_low * best(&|part| error(whole_low * part, high));
        }
        Some((low as f32, high as f32))
    }
}

/// The power of two above a number.
fn power_of_two(value: f32) -> f32 {
    value.log2().floor().exp2() * 2.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(values: &[f32]) -> Histogram {
        let mut made = Histogram::default();
        made.add(values);
        made
    }

    #[test]
    fn what_was_seen_is_held_whatever_its_order() {
        let small: Vec<f32> = (0..1000).map(|i| (i as f32 - 300.0) * 1e-3).collect();
        let large: Vec<f32> = (0..1000).map(|i| (i as f32 - 600.0) * 0.7).collect();
        let mut one = of(&small);
        one.add(&large);
        let mut other = of(&large);
        other.add(&small);
        assert_eq!(one, other);
        let mut joined = of(&small);
        joined.join(&of(&large));
        assert_eq!(joined, one);
        assert_eq!(one.counts.iter().sum::<u64>(), 2000);
        assert_eq!(one.seen(), Some((-600.0 * 0.7, 399.0 * 0.7)));
        // zero is in every range
        assert_eq!(of(&[3.0, 5.0]).seen(), Some((0.0, 5.0)));
        assert_eq!(of(&[-3.0, -5.0]).range(Fit::All), Some((-5.0, 0.0)));
    }

    #[test]
    fn a_few_far_numbers_are_cut_and_many_are_not() {
        let mut values: Vec<f32> = (0..100_000).map(|i| (i % 1000) as f32 * 1e-3).collect();
        let whole = of(&values).range(Fit::Power(2.0)).unwrap().1;
        assert!((whole - 0.999).abs() < 1e-3, "{whole}");
        values.push(8.0);
        let (low, high) = of(&values).range(Fit::Power(2.0)).unwrap();
        // one square of what is cut off against a hundred thousand of half a step: least at 7.1
        assert!(low == 0.0 && (7.0..7.3).contains(&high), "{low} {high}");
        assert_eq!(of(&values).range(Fit::All), Some((0.0, 8.0)));
        let careful = of(&values).range(Fit::Power(6.0)).unwrap().1;
        assert!(careful > high && careful <= 8.0, "{careful}");
    }

    #[test]
    fn nothing_zeros_and_no_numbers_are_no_range() {
        assert_eq!(Histogram::default().seen(), None);
        assert_eq!(of(&[0.0; 9]).range(Fit::All), None);
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let found = of(&[1.0, odd]);
            assert!(found.has_odd() && found.range(Fit::Power(2.0)).is_none());
        }
        // the extremes of floats
        assert!(of(&[f32::MAX, f32::MIN]).seen().is_none());
        assert_eq!(of(&[1e-45, 0.0]).seen(), Some((0.0, 1e-45)));
    }
}
