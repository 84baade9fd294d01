//! Boxes and scores as two outputs, whichever comes first: what the names and the numbers say about them
//! stands in [`Pair`]. RT-DETR and its kin before their own post-processing, DETR, PP-YOLOE and PicoDet
//! without suppression, UltraFace and other SSD heads with their priors in the graph, YOLO-NAS under other
//! names.

use super::{Candidate, Outputs, Scratch, Thresholds};

/// What turns a score into a probability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activation {
    /// The numbers are probabilities already.
    None,
    /// Every class by itself.
    Sigmoid,
    /// All classes of an anchor together.
    Softmax,
}

/// The class that stands for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Background {
    /// SSD and its kin.
    First,
    /// The last class (DETR).
    Last,
}

/// How two outputs `[1, N, 4]` and `[1, N, C]` or `[1, C, N]` are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// Which output holds the boxes.
    pub(super) boxes: usize,
    /// Which holds the scores.
    pub(super) scores: usize,
    /// Scores are `[1, C, N]`: by class, then by anchor.
    pub(super) by_class: bool,
    /// Centre and size instead of two corners.
    pub(super) centred: bool,
    /// Of the input's width and height instead of pixels.
    pub(super) fractions: bool,
    pub(super) activation: Activation,
    pub(super) background: Option<Background>,
    /// A query may be several things, and boxes that cover each other are not the same thing: nothing is
    /// suppressed.
    pub(super) queries: bool,
}

impl Pair {
    /// Classes without the one that stands for nothing, and anchors; `None` where the shapes are others.
    pub(super) fn size(&self, shapes: &[Vec<usize>]) -> Option<(usize, usize)> {
        let (boxes, scores) = (shapes.get(self.boxes)?, shapes.get(self.scores)?);
        let (&[1, anchors, 4], &[1, first, second]) = (boxes.as_slice(), scores.as_slice()) else {
            return None;
        };
        let (rows, all) = if self.by_class { (second, first) } else { (first, second) };
        let classes = all.checked_sub(usize::from(self.background.is_some()))?;
        (rows == anchors && classes > 0).then_some((classes, anchors))
    }
}

/// Candidates whose score reaches the threshold; of a [`Pair::queries`] the best `max_detections`.
pub(super) fn decode(outputs: &Outputs<'_>, pair: Pair, thresholds: &Thresholds, scratch: &mut Scratch) {
    let Some((classes, anchors)) = pair.size(outputs.shapes) else { return };
    let all = classes + usize::from(pair.background.is_some());
    let (values, _) = outputs.get(pair.scores);
    let held = outputs.held(anchors);
    let first = usize::from(pair.background == Some(Background::First));
    let (width, height) = (outputs.width as f32, outputs.height as f32);
    let mut scores = std::mem::take(&mut scratch.best);
    let mut order = 0;
    for ((place, anchor), corners) in outputs.anchors().enumerate().take(held).zip(outputs.rows(pair.boxes)) {
        scores.clear();
        let one = |class: usize| if pair.by_class { class * held + place } else { place * all + class };
        scores.extend((0..all).map(|class| values.get(one(class)).copied().unwrap_or(f32::NAN)));
        activate(pair.activation, &mut scores);
        let Ok([a, b, c, d]) = <[f32; 4]>::try_from(corners) else { break };
        let (across, down) = if pair.fractions { (width, height) } else { (1.0, 1.0) };
        let corners = [a * across, b * down, c * across, d * down];
        let mut keep = |class: usize, score: f32, order: usize| {
            let class_id = u32::try_from(class).unwrap_or(u32::MAX);
            let made = if pair.centred { Candidate::centred } else { Candidate::cornered };
            scratch.push(made(corners, score, class_id, order));
        };
        let scores = scores.get(first..first + classes).unwrap_or_default();
        if pair.queries {
            for (class, score) in scores.iter().enumerate() {
                if *score > thresholds.confidence {
                    keep(class, *score, order);
                }
                order += 1;
            }
        } else if let Some((class, score)) = super::scratch::best_of(scores)
            && score >= thresholds.confidence
        {
            keep(class as usize, score, anchor);
        }
    }
    scratch.best = scores;
    if pair.queries {
        let candidates = &mut scratch.candidates;
        candidates.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.order.cmp(&b.order)));
        candidates.truncate(usize::try_from(thresholds.max_detections).unwrap_or(usize::MAX));
    }
}

fn activate(activation: Activation, scores: &mut [f32]) {
    match activation {
        Activation::None => {}
        Activation::Sigmoid => scores.iter_mut().for_each(|score| *score = sigmoid(*score)),
        Activation::Softmax => {
            let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            scores.iter_mut().for_each(|score| *score = (*score - highest).exp());
            let sum: f32 = scores.iter().sum();
            scores.iter_mut().for_each(|score| *score /= sum);
        }
    }
}

/// Without overflow on either side.
pub(super) fn sigmoid(logit: f32) -> f32 {
    if logit >= 0.0 {
        1.0 / (1.0 + (-logit).exp())
    } else {
        let part = logit.exp();
        part / (1.0 + part)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Family;
    use super::super::test_run::{Fixed, THRESHOLDS};
    use super::*;

    const PLAIN: Pair = Pair {
        boxes: 1,
        scores: 0,
        by_class: false,
        centred: false,
        fractions: false,
        activation: Activation::None,
        background: None,
        queries: false,
    };

    fn found(pair: Pair, outputs: [(Vec<usize>, Vec<f32>); 2]) -> Vec<(f32, f32, f32, u32)> {
        let run = Fixed::new(outputs);
        let mut scratch = Scratch::default();
        Family::Pair(pair).detect(&run.outputs(), &THRESHOLDS, &mut scratch);
        scratch
            .candidates
            .iter()
            .map(|c| (c.left, c.bottom, (c.score * 1e3).round() / 1e3, c.class_id))
            .collect()
    }

    #[test]
    fn every_way_of_telling_is_read() {
        let corners = (vec![1, 2, 4], vec![1.0, 2.0, 3.0, 4.0, 50.0, 60.0, 70.0, 80.0]);
        let scores = (vec![1, 2, 3], vec![0.1, 0.2, 0.3, 0.4, f32::NAN, 0.5]);
        assert_eq!(found(PLAIN, [scores.clone(), corners.clone()]), [(50.0, 80.0, 0.5, 2)]);
        let by_class = (vec![1, 3, 2], vec![0.1, 0.4, 0.2, f32::NAN, 0.3, 0.5]);
        assert_eq!(
            found(Pair { by_class: true, ..PLAIN }, [by_class, corners.clone()]),
            [(50.0, 80.0, 0.5, 2)]
        );
        let first = Pair { background: Some(Background::First), ..PLAIN };
        assert_eq!(found(first, [scores, corners.clone()]), [(50.0, 80.0, 0.5, 1)]);
        let logits = (vec![1, 2, 3], vec![0.0, 0.0, 9.0, 2.0, 0.0, 0.0]);
        let last = Pair { background: Some(Background::Last), activation: Activation::Softmax, ..PLAIN };
        assert_eq!(found(last, [logits.clone(), corners]), [(50.0, 80.0, 0.787, 0)]);
        let fractions = (vec![1, 2, 4], vec![0.5, 0.5, 0.2, 0.2, 0.25, 0.25, 0.5, 0.5]);
        let detr =
            Pair { centred: true, fractions: true, activation: Activation::Sigmoid, queries: true, ..PLAIN };
        let all = found(detr, [logits, fractions]);
        assert_eq!(all.len(), 6);
        assert_eq!(all[..2], [(40.0, 60.0, 1.0, 2), (0.0, 50.0, 0.881, 0)]);
    }

    #[test]
    fn the_sigmoid_does_not_overflow() {
        assert_eq!((sigmoid(-1e30), sigmoid(1e30), sigmoid(0.0)), (0.0, 1.0, 0.5));
    }
}
