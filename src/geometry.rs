//! How a frame is laid into a model's input, and boxes back: the one description that the capture worker (which scales)
//! and post-processing (which scales back) share.
//!
//! Source of the rules: reference.md §6.3 and §6.5.

/// How a frame of any size becomes `width` × `height` model input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InputRule {
    /// Model input width, pixels.
    pub width: u32,
    /// Model input height, pixels.
    pub height: u32,
    /// Stretch or letterbox.
    pub fit: Fit,
    /// Part of the frame that is looked at.
    pub crop: Option<StaticCrop>,
    /// Three equal channels.
    pub grayscale: bool,
    /// Contrast rule applied before scaling.
    pub contrast: Option<Contrast>,
}

/// `PREPROCESSING.resize.format`.
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

/// `PREPROCESSING.contrast.type`.
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
                let cut = |percent: f32, size: u32| ((percent / 100.0) * size as f32).clamp(0.0, size as f32) as u32;
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
                let ratio = (f64::from(self.width) / f64::from(crop_width)).min(f64::from(self.height) / f64::from(crop_height));
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

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: InputRule =
        InputRule { width: 320, height: 320, fit: Fit::Letterbox { fill: 0 }, crop: None, grayscale: false, contrast: None };

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
}
