//! How each family of detectors writes its detections into its outputs: reference.md §6.4.

/// A family of output layouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `[B, 4+C, N]`: YOLOv8, v9, v11, v12.
    Yolov8,
}

impl Family {
    /// Short name for logs and `weir check`.
    pub fn name(self) -> &'static str {
        match self {
            Family::Yolov8 => "yolov8",
        }
    }
}
