//! What the numbers of a test run say that shapes cannot: whether boxes are decoded, what they are measured
//! in, whether scores are probabilities.

use super::heads::Heads;
use super::listed::{Layout, Listed};
use super::pair::{Activation, Pair};
use super::yolox::STRIDES;
use super::{Family, Outputs};

/// Fractions of the input may lie a little outside of it.
const LARGEST_FRACTION: f32 = 2.0;
/// Part of the boxes that must be right for a way of reading them to be the right one.
const MOST: f32 = 0.95;

impl Family {
    /// The family as the outputs of a run on some picture show it to be.
    pub(crate) fn observed(self, outputs: &Outputs<'_>) -> Family {
        match self {
            Family::Yolox if is_decoded(outputs) => Family::YoloxDecoded,
            Family::Pair(pair) => Family::Pair(pair_as_seen(pair, outputs)),
            Family::YoloNas => match pair_as_seen(YOLO_NAS, outputs) {
                YOLO_NAS => self,
                other => Family::Pair(other),
            },
            Family::Listed(listed) => Family::Listed(Listed {
                fractions: are_fractions(outputs, boxes_of(listed.layout)),
                ..listed
            }),
            Family::Heads(_) => Family::Heads(Heads {
                activated: (0..outputs.shapes.len()).all(|index| are_probabilities(outputs.get(index).0)),
            }),
            other => other,
        }
    }

    /// Why the outputs of a run cannot be what this family holds them for; `None` where they can.
    pub(crate) fn implausible(self, outputs: &Outputs<'_>) -> Option<&'static str> {
        let pair = match self {
            Family::Pair(pair) => pair,
            Family::YoloNas => YOLO_NAS,
            _ => return None,
        };
        let unit = if pair.fractions { (1.0, 1.0) } else { (outputs.width as f32, outputs.height as f32) };
        let sound = |row: &&[f32]| if pair.centred { are_centres(row, unit) } else { are_corners(row) };
        let (all, sound) = (outputs.rows(pair.boxes).count(), outputs.rows(pair.boxes).filter(sound).count());
        ((sound as f32) < MOST * all as f32)
            .then_some("the boxes of a test run were neither corners nor centres with sizes: is their decoding in the graph?")
    }
}

/// [`Family::YoloNas`] as a pair.
const YOLO_NAS: Pair = Pair {
    boxes: 0,
    scores: 1,
    by_class: false,
    centred: false,
    fractions: false,
    activation: Activation::None,
    background: None,
    queries: false,
};

/// YOLOX: whether the rows are centres in pixels, near their own cells, or offsets within these.
fn is_decoded(outputs: &Outputs<'_>) -> bool {
    let grid = |stride: u32| {
        let (columns, rows) = (outputs.width / stride, outputs.height / stride);
        (0..rows).flat_map(move |y| (0..columns).map(move |x| (x as f32, y as f32, stride as f32)))
    };
    let (mut as_pixels, mut as_offsets) = (0.0f64, 0.0f64);
    for ((x, y, stride), row) in STRIDES.into_iter().flat_map(grid).zip(outputs.rows(0)) {
        let [a, b, ..] = row else { return false };
        if !a.is_finite() || !b.is_finite() {
            continue;
        }
        let off = |value: f32, place: f32| f64::from((value - place).abs());
        as_pixels += off(*a, (x + 0.5) * stride) + off(*b, (y + 0.5) * stride);
        as_offsets += off(*a * stride, 0.5 * stride) + off(*b * stride, 0.5 * stride);
    }
    as_pixels < as_offsets
}

/// Which output holds the boxes, and where in its rows they begin.
fn boxes_of(layout: Layout) -> (usize, usize) {
    match layout {
        Layout::Apart { boxes, .. } => (boxes, 0),
        Layout::ClassFirst => (0, 2),
        Layout::Flat => (0, 1),
    }
}

fn are_fractions(outputs: &Outputs<'_>, (index, first): (usize, usize)) -> bool {
    let mut seen = false;
    for value in outputs
        .rows(index)
        .filter_map(|row| row.get(first..first + 4))
        .flatten()
        .filter(|value| value.is_finite())
    {
        seen |= *value != 0.0;
        if value.abs() > LARGEST_FRACTION {
            return false;
        }
    }
    seen
}

fn are_probabilities(values: &[f32]) -> bool {
    const ROUNDING: f32 = 1e-4;
    values.iter().all(|value| value.is_nan() || (-ROUNDING..=1.0 + ROUNDING).contains(value))
}

/// Left and top before right and bottom.
fn are_corners(row: &[f32]) -> bool {
    matches!(row, [left, top, right, bottom] if right >= left && bottom >= top)
}

/// Centres about the picture, and sizes.
fn are_centres(row: &[f32], (across, down): (f32, f32)) -> bool {
    let about = |value: f32, whole: f32| (-0.5 * whole..=1.5 * whole).contains(&value);
    matches!(row, [x, y, width, height] if *width >= 0.0 && *height >= 0.0 && about(*x, across) && about(*y, down))
}

fn pair_as_seen(pair: Pair, outputs: &Outputs<'_>) -> Pair {
    let fractions = are_fractions(outputs, (pair.boxes, 0));
    let activation = match (are_probabilities(outputs.get(pair.scores).0), pair.background) {
        (true, _) => Activation::None,
        (false, Some(_)) => Activation::Softmax,
        (false, None) => Activation::Sigmoid,
    };
    // DETR's kind says what its boxes are. Of others corners are in order, centres and sizes are not; what is
    // neither stays corners.
    let unit = if fractions { (1.0, 1.0) } else { (outputs.width as f32, outputs.height as f32) };
    let share = |sound: &dyn Fn(&[f32]) -> bool| {
        let (all, sound) = outputs
            .rows(pair.boxes)
            .fold((0, 0), |(all, count), row| (all + 1, count + usize::from(sound(row))));
        sound as f32 >= MOST * all as f32
    };
    let centred = if pair.queries {
        pair.centred
    } else {
        !share(&are_corners) && share(&|row| are_centres(row, unit))
    };
    Pair { fractions, activation, centred, ..pair }
}

#[cfg(test)]
mod tests {
    use super::super::pair::Background;
    use super::super::test_run::Fixed;
    use super::*;

    #[test]
    fn a_grid_that_is_decoded_is_seen() {
        let cells: Vec<(f32, f32, f32)> = [(8, 8, 8.0), (4, 4, 16.0), (2, 2, 32.0)]
            .into_iter()
            .flat_map(|(rows, columns, stride)| {
                (0..rows).flat_map(move |y| (0..columns).map(move |x| (x as f32, y as f32, stride)))
            })
            .collect();
        let rows = |decoded: bool| -> Vec<f32> {
            let row = |&(x, y, s): &(f32, f32, f32)| {
                if decoded {
                    [(x + 0.3) * s, (y + 0.8) * s, 20.0, 30.0, 0.5, 0.5]
                } else {
                    [0.3, 0.8, 1.0, 1.2, 0.5, 0.5]
                }
            };
            cells.iter().flat_map(row).collect()
        };
        for (decoded, family) in [(false, Family::Yolox), (true, Family::YoloxDecoded)] {
            let run = Fixed::new([(vec![1, cells.len(), 6], rows(decoded))]).of_size(64, 64);
            assert_eq!(Family::Yolox.observed(&run.outputs()), family);
        }
    }

    #[test]
    fn numbers_tell_fractions_logits_and_corners() {
        let pair = Pair {
            boxes: 0,
            scores: 1,
            by_class: false,
            centred: false,
            fractions: false,
            activation: Activation::None,
            background: None,
            queries: false,
        };
        let seen = |boxes: [f32; 8], scores: [f32; 4], background| {
            let run = Fixed::new([(vec![1, 2, 4], boxes.to_vec()), (vec![1, 2, 2], scores.to_vec())]);
            match Family::Pair(Pair { background, ..pair }).observed(&run.outputs()) {
                Family::Pair(pair) => pair,
                other => panic!("{other:?}"),
            }
        };
        let corners = [0.1, 0.1, 0.4, 0.5, 0.5, 0.5, 1.02, 0.9];
        let pixels = [10.0, 10.0, 40.0, 50.0, 50.0, 50.0, 100.0, 90.0];
        let centres = [50.0, 50.0, 10.0, 10.0, 80.0, 80.0, 10.0, 10.0];
        let (chances, logits) = ([0.1, 0.9, 0.5, 0.5], [-3.0, 2.0, 0.0, 0.5]);
        assert_eq!(seen(corners, chances, None), Pair { fractions: true, ..pair });
        assert_eq!(seen(pixels, logits, None), Pair { activation: Activation::Sigmoid, ..pair });
        let first = Some(Background::First);
        assert_eq!(
            seen(centres, logits, first),
            Pair { activation: Activation::Softmax, centred: true, background: first, ..pair }
        );
    }
}
