//! What a model found on one frame, in pixels of the original frame.

/// One box. Coordinates are already scaled, clipped and rounded the way the reference does it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// Left edge, pixels of the frame.
    pub left: f32,
    /// Top edge, pixels of the frame.
    pub top: f32,
    /// Right edge, pixels of the frame.
    pub right: f32,
    /// Bottom edge, pixels of the frame.
    pub bottom: f32,
    /// How sure the model is, 0..1.
    pub confidence: f32,
    /// Index into the model's class names.
    pub class_id: u32,
}

impl Detection {
    /// Centre x, centre y, width, height: what the wire carries.
    pub fn centre_size(&self) -> (f64, f64, f64, f64) {
        let (left, top, right, bottom) =
            (f64::from(self.left), f64::from(self.top), f64::from(self.right), f64::from(self.bottom));
        ((left + right) / 2.0, (top + bottom) / 2.0, right - left, bottom - top)
    }

    /// False for boxes or scores that JSON cannot carry (NaN, infinity).
    pub fn is_finite(&self) -> bool {
        [self.left, self.top, self.right, self.bottom, self.confidence].iter().all(|v| v.is_finite())
    }
}
