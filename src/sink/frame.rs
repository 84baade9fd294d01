//! A frame and what was found on it, as sinks tell it.

use crate::clock::Wall;
use crate::detection::Detection;
use uuid::Uuid;

/// What is known of a frame beside its detections.
#[derive(Debug, Clone, Copy)]
pub struct FrameInfo {
    /// Width of the original frame, pixels.
    pub width: u32,
    /// Height of the original frame, pixels.
    pub height: u32,
    /// 0-based index of the source in its pipeline.
    pub source_id: u32,
    /// Counts grabbed frames from 1.
    pub frame_id: u64,
    /// When it was decoded.
    pub decoded: Wall,
    /// When its detections went out.
    pub emitted: Wall,
}

/// A detection with its id: the same one wherever it is told.
#[derive(Debug, Clone, Copy)]
pub struct Prediction {
    /// Its numbers are numbers.
    pub detection: Detection,
    /// Of this detection on this frame.
    pub id: Uuid,
}
