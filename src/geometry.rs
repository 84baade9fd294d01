//! How a frame is laid into a model's input, what surrounds it there, and coordinates back: the one
//! description that the capture worker (which scales), pre-processing and post-processing (which scales back)
//! share.
//!
//! [`InputRule::place`] is the way in, [`Placement::fill_edges`] fills what the frame leaves, [`ToSource`] is
//! the way back. They compute crop and padding apart on purpose: the reference truncates on the way in and
//! rounds on the way back.
//!
//! Source of the rules: docs/roboflow.md §6.3 and §6.5.

/// Polygons of one source: what houses, windows and public ground around a yard need.
pub const MAX_POLYGONS: usize = 16;

/// Corners of one polygon.
pub const MAX_POINTS: usize = 32;

/// An area of a picture as it is shown: its corners, each x and y as fractions of width and height, 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Polygon(pub Vec<[f64; 2]>);

/// How a frame of any size becomes `width` × `height` model input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InputRule {
    /// Model input width, pixels.
    pub width: u32,
    /// Model input height, pixels.
    pub height: u32,
    /// Whether the frame is stretched into the input or keeps its proportions.
    pub fit: Fit,
    /// Part of the frame that is looked at.
    pub crop: Option<StaticCrop>,
    /// The input's three channels are all the frame's gray.
    pub grayscale: bool,
    /// Contrast rule applied before scaling.
    pub contrast: Option<Contrast>,
}

/// How a frame is fitted into the input: `PREPROCESSING.resize.format` of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Each axis on its own (`Stretch to`, and whatever is unknown).
    Stretch,
    /// Aspect kept, centred, the rest filled with this grey (0, 114 or 255).
    Letterbox {
        /// Grey level of the edges, 0..255.
        fill: u8,
    },
}

/// `PREPROCESSING.static-crop`, in percent of the frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StaticCrop {
    /// Left edge, percent of the width.
    pub x_min: f32,
    /// Right edge, percent of the width.
    pub x_max: f32,
    /// Top edge, percent of the height.
    pub y_min: f32,
    /// Bottom edge, percent of the height.
    pub y_max: f32,
}

/// How contrast is raised before the model: `PREPROCESSING.contrast.type` of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contrast {
    /// 2nd to 98th percentile over all channels stretched to the full range.
    Stretching,
    /// Histogram equalisation of the grey picture.
    Histogram,
    /// CLAHE (clip 0.03, 8×8 tiles) of the grey picture.
    Adaptive,
}

/// Where the (cropped) frame lies inside the model input. All in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// Frame width before cropping.
    pub frame_width: u32,
    /// Frame height before cropping.
    pub frame_height: u32,
    /// Left edge of the crop in the frame.
    pub crop_x: u32,
    /// Top edge of the crop in the frame.
    pub crop_y: u32,
    /// Width of the crop.
    pub crop_width: u32,
    /// Height of the crop.
    pub crop_height: u32,
    /// Left edge of the picture in the model input.
    pub pad_x: u32,
    /// Top edge of the picture in the model input.
    pub pad_y: u32,
    /// Width of the picture in the model input.
    pub scaled_width: u32,
    /// Height of the picture in the model input.
    pub scaled_height: u32,
}

impl InputRule {
    /// Bytes of one ring slot: planar 8-bit RGB, R then G then B, each `width * height`.
    pub fn slot_bytes(&self) -> usize {
        self.width as usize * self.height as usize * 3
    }

    /// Where a frame of this size goes. `None` when frame or crop are empty.
    pub fn place(&self, frame_width: u32, frame_height: u32) -> Option<Placement> {
        let (crop_x, crop_y, crop_width, crop_height) = match self.crop {
            None => (0, 0, frame_width, frame_height),
            Some(crop) => {
                // Percent of the size, truncated, as the reference does.
                let cut = |percent: f32, size: u32| {
                    ((percent / 100.0) * size as f32).clamp(0.0, size as f32) as u32
                };
                let (x0, x1) = (cut(crop.x_min, frame_width), cut(crop.x_max, frame_width));
                let (y0, y1) = (cut(crop.y_min, frame_height), cut(crop.y_max, frame_height));
                (x0, y0, x1.checked_sub(x0)?, y1.checked_sub(y0)?)
            }
        };
        if crop_width == 0 || crop_height == 0 || self.width == 0 || self.height == 0 {
            return None;
        }
        let (scaled_width, scaled_height) = match self.fit {
            Fit::Stretch => (self.width, self.height),
            Fit::Letterbox { .. } => {
                let ratio = (f64::from(self.width) / f64::from(crop_width))
                    .min(f64::from(self.height) / f64::from(crop_height));
                let scale = |size: u32, limit: u32| ((f64::from(size) * ratio) as u32).clamp(1, limit);
                (scale(crop_width, self.width), scale(crop_height, self.height))
            }
        };
        Some(Placement {
            frame_width,
            frame_height,
            crop_x,
            crop_y,
            crop_width,
            crop_height,
            pad_x: (self.width - scaled_width) / 2,
            pad_y: (self.height - scaled_height) / 2,
            scaled_width,
            scaled_height,
        })
    }
}

impl Placement {
    /// Fills what lies outside the picture, within the first `width` columns and `height` rows of a plane
    /// whose rows lie `stride` values apart.
    pub fn fill_edges<T: Copy>(&self, plane: &mut [T], stride: usize, [width, height]: [usize; 2], value: T) {
        let columns = self.pad_x as usize..(self.pad_x + self.scaled_width) as usize;
        let rows = self.pad_y as usize..(self.pad_y + self.scaled_height) as usize;
        for (y, row) in plane.chunks_exact_mut(stride.max(1)).take(height).enumerate() {
            let outside =
                if rows.contains(&y) { [0..columns.start, columns.end..width] } else { [0..width, 0..0] };
            for part in outside {
                if let Some(part) = row.get_mut(part) {
                    part.fill(value);
                }
            }
        }
    }
}

/// Whether coordinates become whole pixels on the way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// Half to even, before the crop's shift; the padding is that of the rounded picture: every family but
    /// RF-DETR.
    Whole,
    /// As they come; the padding is that of the truncated picture.
    Exact,
}

/// One frame's way back, from pixels of the model's input to pixels of the frame.
#[derive(Debug, Clone, Copy)]
pub struct ToSource {
    x: Axis,
    y: Axis,
    rounding: Rounding,
}

/// An offset and a factor, a limit, a shift.
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

impl ToSource {
    /// For frames that were placed so. Frame sizes come from `placement`; crop and fit are computed anew from
    /// `rule`, because the reference rounds here what it truncates on the way in.
    pub fn new(rule: &InputRule, placement: &Placement, rounding: Rounding) -> ToSource {
        let (frame_width, frame_height) =
            (f64::from(placement.frame_width), f64::from(placement.frame_height));
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
        ToSource {
            x: Axis { pad: pad_x, factor: factor_x, size: width, shift: shift_x },
            y: Axis { pad: pad_y, factor: factor_y, size: height, shift: shift_y },
            rounding,
        }
    }

    /// A column of the input as a column of the frame; within the crop whatever it was.
    pub fn x(&self, column: f32) -> f32 {
        self.x.back(column, self.rounding)
    }

    /// A row of the input as a row of the frame; within the crop whatever it was.
    pub fn y(&self, row: f32) -> f32 {
        self.y.back(row, self.rounding)
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
    // At least a pixel: `clamp` wants an order and the division a divisor. `InputRule::place` refused an
    // empty crop before.
    ((min * size).round_ties_even(), ((max - min) * size).round_ties_even().max(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: InputRule = InputRule {
        width: 320,
        height: 320,
        fit: Fit::Letterbox { fill: 0 },
        crop: None,
        grayscale: false,
        contrast: None,
    };

    #[test]
    fn letterbox_keeps_the_aspect_and_centres() {
        let placement = RULE.place(640, 480).unwrap();
        assert_eq!((placement.scaled_width, placement.scaled_height), (320, 240));
        assert_eq!((placement.pad_x, placement.pad_y), (0, 40));
    }

    #[test]
    fn crop_truncates_percent() {
        let crop = StaticCrop { x_min: 10.0, x_max: 90.0, y_min: 20.0, y_max: 80.0 };
        let placement = InputRule { crop: Some(crop), fit: Fit::Stretch, ..RULE }.place(640, 480).unwrap();
        assert_eq!((placement.crop_x, placement.crop_y), (64, 96));
        assert_eq!((placement.crop_width, placement.crop_height), (512, 288));
    }

    #[test]
    fn an_empty_crop_has_no_place() {
        let crop = StaticCrop { x_min: 90.0, x_max: 10.0, y_min: 0.0, y_max: 100.0 };
        assert_eq!(InputRule { crop: Some(crop), ..RULE }.place(640, 480), None);
        assert_eq!(RULE.place(0, 480), None);
    }

    fn back(rule: InputRule, frame: (u32, u32), [left, top, right, bottom]: [f32; 4]) -> [f32; 4] {
        let placement = rule.place(frame.0, frame.1).unwrap();
        let back = ToSource::new(&rule, &placement, Rounding::Whole);
        [back.x(left), back.y(top), back.x(right), back.y(bottom)]
    }

    const STRETCH: InputRule = InputRule { fit: Fit::Stretch, ..RULE };

    #[test]
    fn stretch_scales_each_axis_and_clips() {
        assert_eq!(back(STRETCH, (640, 480), [10.0, 10.0, 330.0, 100.0]), [20.0, 15.0, 640.0, 150.0]);
    }

    #[test]
    fn halves_go_to_even() {
        // 480/320 = 1.5: 1 → 1.5 → 2, 3 → 4.5 → 4.
        assert_eq!(back(STRETCH, (480, 480), [1.0, 3.0, 100.0, 100.0])[..2], [2.0, 4.0]);
    }

    #[test]
    fn letterbox_takes_the_padding_off() {
        assert_eq!(back(RULE, (640, 480), [10.0, 50.0, 110.0, 130.0]), [20.0, 20.0, 220.0, 180.0]);
    }

    #[test]
    fn the_way_back_rounds_where_the_way_in_truncates() {
        // 1000x333 into 320: 106.56 rows are 106 on the way in and 107 here, so the padding is 106.5.
        assert_eq!(RULE.place(1000, 333).unwrap().scaled_height, 106);
        // (150 − 106.5) · 3.125 = 135.94
        assert_eq!(back(RULE, (1000, 333), [0.0, 150.0, 100.0, 200.0])[1], 136.0);
    }

    #[test]
    fn a_crop_is_shifted_after_rounding() {
        let crop = StaticCrop { x_min: 10.0, x_max: 90.0, y_min: 20.0, y_max: 80.0 };
        let rule = InputRule { crop: Some(crop), ..STRETCH };
        // 512/320 = 1.6, 288/320 = 0.9.
        assert_eq!(back(rule, (640, 480), [10.0, 10.0, 320.0, 320.0]), [80.0, 105.0, 576.0, 384.0]);
    }

    #[test]
    fn edges_are_all_but_the_picture_within_the_input() {
        let rule = InputRule { width: 4, height: 4, ..RULE };
        // Half as high as wide: two rows of picture in the middle. The plane has a column and a row beyond
        // the input.
        let mut plane = [0; 25];
        rule.place(8, 4).unwrap().fill_edges(&mut plane, 5, [4, 4], 1);
        #[rustfmt::skip]
        assert_eq!(plane, [
            1, 1, 1, 1, 0,
            0, 0, 0, 0, 0,
            0, 0, 0, 0, 0,
            1, 1, 1, 1, 0,
            0, 0, 0, 0, 0,
        ]);
        let mut plane = [0; 16];
        rule.place(4, 8).unwrap().fill_edges(&mut plane, 4, [4, 4], 1);
        assert_eq!(plane[..4], [1, 0, 0, 1]);
    }
}
