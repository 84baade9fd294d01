//! Order counts from their lower bits.

/// The order count whose lower `bits` are `low` and that lies nearest to `last`, that of the reference picture
/// before (H.264 §8.2.1.1, H.265 §8.3.1); `None`: there was none.
pub(super) fn nearest(low: u32, bits: u32, last: Option<i32>) -> i32 {
    // At most 16 bits.
    let (low, range) = (i64::from(low), 1_i64 << bits.min(31));
    let Some(last) = last.map(i64::from) else { return i32::try_from(low).unwrap_or(i32::MAX) };
    let ahead = (low - last).rem_euclid(range);
    let nearest = last + if ahead > range / 2 { ahead - range } else { ahead };
    i32::try_from(nearest).unwrap_or(if nearest < 0 { i32::MIN } else { i32::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_bits_wrap_both_ways() {
        assert_eq!(nearest(14, 4, None), 14);
        assert_eq!(nearest(14, 4, Some(0)), -2, "shown before a key frame");
        assert_eq!(nearest(2, 4, Some(14)), 18);
        assert_eq!(nearest(14, 4, Some(18)), 14);
        assert_eq!(nearest(8, 4, Some(0)), 8, "half the range is ahead");
        assert_eq!(nearest(9, 4, Some(0)), -7);
        assert_eq!(nearest(3, 16, Some(i32::MAX)), i32::MAX);
    }
}
