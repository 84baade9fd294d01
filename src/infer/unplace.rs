//! From model-input pixels back to pixels of the frame: reference.md §6.5.

use super::family::Candidate;
use crate::detection::Detection;
use crate::geometry::{Fit, InputRule, Placement};

/// Whether coordinates become whole pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// Half to even, before the crop's shift; the padding is that of the rounded picture: every family but RF-DETR.
    Whole,
    /// As they come; the padding is that of the truncated picture.
    Exact,
}

/// One frame's way back: an offset and a factor per axis, a limit, a shift.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unplace {
    x: Axis,
    y: Axis,
    rounding: Rounding,
}

#[derive(Debug, Clone, Copy)]
struct Axis {
    /// Padding, model-input pixels; may be a half.
    pad: f64,
    /// Frame pixels per input pixel.
    factor: f64,
    /// Size of the cropped frame, pixels.
    size: f64,
    /// Where the crop begins in the frame, pixels.
    shift: f64,
}

impl Unplace {
    /// For frames that were placed so. Frame sizes come from `placement`; crop and fit are computed anew from `rule`, because
    /// the reference rounds here what it truncates on the way in.
    pub(crate) fn new(rule: &InputRule, placement: &Placement, rounding: Rounding) -> Unplace {
        let (frame_width, frame_height) = (f64::from(placement.frame_width), f64::from(placement.frame_height));
        let (shift_x, width, shift_y, height) = match rule.crop {
            None => (0.0, frame_width, 0.0, frame_height),
            Some(crop) => {
                let (shift_x, width) = cropped(crop.x_min, crop.x_max, frame_width);
                let (shift_y, height) = cropped(crop.y_min, crop.y_max, frame_height);
                (shift_x, width, shift_y, height)
            }
        };
        let (input_width, input_height) = (f64::from(rule.width), f64::from(rule.height));
        let (pad_x, factor_x, pad_y, factor_y) = match rule.fit {
            Fit::Stretch => (0.0, width / input_width, 0.0, height / input_height),
            Fit::Letterbox { .. } => {
                let ratio = (input_width / width).min(input_height / height);
                let pad = |size: f64, input: f64| match rounding {
                    Rounding::Whole => (input - (size * ratio).round_ties_even()) / 2.0,
                    Rounding::Exact => (input - (size * ratio).trunc()) / 2.0,
                };
                (pad(width, input_width), 1.0 / ratio, pad(height, input_height), 1.0 / ratio)
            }
        };
        Unplace {
            x: Axis { pad: pad_x, factor: factor_x, size: width, shift: shift_x },
            y: Axis { pad: pad_y, factor: factor_y, size: height, shift: shift_y },
            rounding,
        }
    }

    /// The detection on the frame; `None` for boxes that are no numbers.
    pub(crate) fn apply(&self, candidate: &Candidate) -> Option<Detection> {
        let detection = Detection {
            left: self.x.back(candidate.left, self.rounding),
            top: self.y.back(candidate.top, self.rounding),
            right: self.x.back(candidate.right, self.rounding),
            bottom: self.y.back(candidate.bottom, self.rounding),
            confidence: candidate.score,
            class_id: candidate.class_id,
        };
        // `clamp` would turn an infinite coordinate into the frame's edge: such a box is noise all the same.
        let given = [candidate.left, candidate.top, candidate.right, candidate.bottom];
        (detection.is_finite() && given.iter().all(|v| v.is_finite())).then_some(detection)
    }
}

impl Axis {
    fn back(&self, value: f32, rounding: Rounding) -> f32 {
        let clipped = ((f64::from(value) - self.pad) * self.factor).clamp(0.0, self.size);
        let pixel = match rounding {
            Rounding::Whole => clipped.round_ties_even(),
            Rounding::Exact => clipped,
        };
        (pixel + self.shift) as f32
    }
}

/// Start and size of a crop given in percent, both rounded, in pixels.
fn cropped(min_percent: f32, max_percent: f32, size: f64) -> (f64, f64) {
    let (min, max) = (f64::from(min_percent) / 100.0, f64::from(max_percent) / 100.0);
    // At least a pixel: `clamp` wants an order and the division a divisor. `InputRule::place` refused an empty crop before.
    ((min * size).round_ties_even(), ((max - min) * size).round_ties_even().max(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::StaticCrop;

    const RULE: InputRule =
        InputRule { width: 320, height: 320, fit: Fit::Stretch, crop: None, grayscale: false, contrast: None };

    fn back(rule: InputRule, frame: (u32, u32), corners: [f32; 4]) -> [f32; 4] {
        let [left, top, right, bottom] = corners;
        let candidate = Candidate { left, top, right, bottom, score: 0.5, class_id: 0, order: 0 };
        let placement = rule.place(frame.0, frame.1).unwrap();
        let found = Unplace::new(&rule, &placement, Rounding::Whole).apply(&candidate).unwrap();
        [found.left, found.top, found.right, found.bottom]
    }

    #[test]
    fn stretch_scales_each_axis_and_clips() {
        assert_eq!(back(RULE, (640, 480), [10.0, 10.0, 330.0, 100.0]), [20.0, 15.0, 640.0, 150.0]);
    }

    #[test]
    fn halves_go_to_even() {
        // 480/320 = 1.5: 1 → 1.5 → 2, 3 → 4.5 → 4.
        assert_eq!(back(RULE, (480, 480), [1.0, 3.0, 100.0, 100.0])[..2], [2.0, 4.0]);
    }

    #[test]
    fn letterbox_takes_the_padding_off() {
        let rule = InputRule { fit: Fit::Letterbox { fill: 0 }, ..RULE };
        assert_eq!(back(rule, (640, 480), [10.0, 50.0, 110.0, 130.0]), [20.0, 20.0, 220.0, 180.0]);
    }

    #[test]
    fn the_way_back_rounds_where_the_way_in_truncates() {
        // 1000x333 into 320: 106.56 rows are 106 on the way in and 107 here, so the padding is 106.5.
        let rule = InputRule { fit: Fit::Letterbox { fill: 0 }, ..RULE };
        let placement = rule.place(1000, 333).unwrap();
        assert_eq!(placement.scaled_height, 106);
        // (150 − 106.5) · 3.125 = 135.94
        assert_eq!(back(rule, (1000, 333), [0.0, 150.0, 100.0, 200.0])[1], 136.0);
    }

    #[test]
    fn a_crop_is_shifted_after_rounding() {
        let crop = StaticCrop { x_min: 10.0, x_max: 90.0, y_min: 20.0, y_max: 80.0 };
        let rule = InputRule { crop: Some(crop), ..RULE };
        // 512/320 = 1.6, 288/320 = 0.9.
        assert_eq!(back(rule, (640, 480), [10.0, 10.0, 320.0, 320.0]), [80.0, 105.0, 576.0, 384.0]);
    }

    #[test]
    fn what_is_no_number_is_no_detection() {
        let placement = RULE.place(640, 480).unwrap();
        let unplace = Unplace::new(&RULE, &placement, Rounding::Whole);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let candidate = Candidate { left: 1.0, top: bad, right: 2.0, bottom: 3.0, score: 0.5, class_id: 0, order: 0 };
            assert_eq!(unplace.apply(&candidate), None);
        }
    }
}
