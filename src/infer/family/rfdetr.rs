//! `[1, Q, 4]` and `[1, Q, C]`: centre and size as fractions of the input, and a logit per class. RF-DETR.

use super::pair::sigmoid;
use super::{Candidate, Outputs, Scratch, Thresholds};

/// The best `max_detections` pairs of query and class, background included; then those above the threshold
/// that are not background. Class ids above the background's shift down, because its name is no name.
pub(super) fn decode(
    outputs: &Outputs<'_>,
    background: Option<u32>,
    thresholds: &Thresholds,
    scratch: &mut Scratch,
) {
    let mut order = 0;
    for (fractions, logits) in outputs.rows(0).zip(outputs.rows(1)) {
        let Ok([x, y, width, height]) = <[f32; 4]>::try_from(fractions) else { return };
        let (input_width, input_height) = (outputs.width as f32, outputs.height as f32);
        let pixels = [x * input_width, y * input_height, width * input_width, height * input_height];
        for (class_id, logit) in (0u32..).zip(logits) {
            let score = sigmoid(*logit);
            if score > thresholds.confidence {
                scratch.push(Candidate::centred(pixels, score, class_id, order));
            }
            order += 1;
        }
    }
    let candidates = &mut scratch.candidates;
    candidates.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.order.cmp(&b.order)));
    candidates.truncate(usize::try_from(thresholds.max_detections).unwrap_or(usize::MAX));
    if let Some(background) = background {
        candidates.retain(|candidate| candidate.class_id != background);
        for candidate in candidates.iter_mut().filter(|candidate| candidate.class_id > background) {
            candidate.class_id -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Family;
    use super::super::test_run::{Fixed, THRESHOLDS};
    use super::*;

    fn found(background: Option<u32>, max_detections: u32) -> Vec<(f32, u32)> {
        let boxes = vec![0.5, 0.5, 0.2, 0.2, 0.25, 0.25, 0.5, 0.5];
        // Two classes of the second query pass: each is a detection.
        let logits = vec![3.0, -1.0, -100.0, 1.0, 2.0, f32::NAN];
        let run = Fixed::new([(vec![1, 2, 4], boxes), (vec![1, 2, 3], logits)]);
        let mut scratch = Scratch::default();
        let family = Family::RfDetr { background };
        family.detect(&run.outputs(), &Thresholds { max_detections, ..THRESHOLDS }, &mut scratch);
        scratch.candidates.iter().map(|c| ((c.score * 1e4).round() / 1e4, c.class_id)).collect()
    }

    #[test]
    fn every_class_of_every_query_counts() {
        assert_eq!(found(None, 300), [(0.9526, 0), (0.8808, 1), (0.7311, 0)]);
    }

    #[test]
    fn the_background_takes_a_place_and_goes() {
        assert_eq!(found(Some(0), 300), [(0.8808, 0)]);
        assert_eq!(found(Some(0), 1), []);
        assert_eq!(found(Some(1), 300), [(0.9526, 0), (0.7311, 0)]);
    }
}
