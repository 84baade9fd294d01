//! Finds samples that were written into a slice as they are (macroblocks of type I_PCM, §7.3.5).
//!
//! The fast decoder filters the edges of such macroblocks too strongly. To know for sure where they are would
//! mean to decode the slice; but their 384 bytes are samples of a picture, and neighbours in a picture are
//! alike, while everything else in a slice is compressed and looks random. What is found by mistake costs
//! time and nothing else. Macroblocks of one colour are not found; encoders have shorter ways to write those.

/// Samples of such a macroblock: 16 × 16 of luma, twice 8 × 8 of chroma.
const SAMPLES: usize = 384;

/// Bytes that are looked at together.
const BLOCK: usize = 32;

/// Mean difference of neighbours that a picture stays below. Of random bytes it is 85, and over 64 of them
/// never below this (nine standard deviations).
const MAX_DIFFERENCE: u32 = 16;

/// Neighbours among 64 that differ: a run of one value is the compressed form of "nothing happens".
const MIN_CHANGES: usize = 8;

/// Bytes below this stand where `00 00` would be a start code, and fill slices to a bit rate.
const MIN_SAMPLE: u8 = 4;

/// Whether a slice (a NAL unit) seems to hold samples as they are.
pub(super) fn are_in(unit: &[u8]) -> bool {
    if unit.len() < SAMPLES {
        return false;
    }
    let like = |block: &[u8]| difference(block) < MAX_DIFFERENCE * BLOCK as u32;
    // A run of 64 samples holds at least one whole block.
    unit.chunks_exact(BLOCK).enumerate().any(|(number, block)| like(block) && confirmed(unit, number * BLOCK))
}

fn difference(block: &[u8]) -> u32 {
    let neighbours = block.iter().zip(block.iter().skip(1));
    neighbours.map(|(one, other)| u32::from(one.abs_diff(*other))).sum()
}

/// Some run of 64 bytes around the block at `start` looks like samples.
fn confirmed(unit: &[u8], start: usize) -> bool {
    let around =
        unit.get(start.saturating_sub(BLOCK)..(start + 2 * BLOCK).min(unit.len())).unwrap_or_default();
    around.windows(2 * BLOCK).any(|run| {
        let changes = run.iter().zip(run.iter().skip(1)).filter(|(one, other)| one != other).count();
        difference(run) < MAX_DIFFERENCE * 2 * BLOCK as u32
            && changes >= MIN_CHANGES
            && run.iter().all(|&byte| byte >= MIN_SAMPLE)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(bytes: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..bytes).map(next).collect()
    }

    #[test]
    fn samples_in_noise_are_found_wherever_they_lie() {
        let sample = |at: usize| 60 + (at % 16) as u8 * 3 + (at / 16 % 16) as u8 * 2 + (at * 7 % 5) as u8;
        for before in 400..432 {
            let mut slice = noise(before);
            slice.extend((0..SAMPLES).map(sample));
            slice.extend(noise(100));
            assert!(are_in(&slice), "{before}");
        }
    }

    #[test]
    fn compressed_bytes_are_not_taken_for_samples() {
        assert!(!are_in(&noise(4_000_000)));
        // Runs of one macroblock of nothing, and what fills a slice.
        assert!(!are_in(&[0x27; 5000]));
        assert!(!are_in(&[0, 0, 3].repeat(2000)));
        assert!(!are_in(&[90; 100]));
    }
}
