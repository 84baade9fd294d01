//! Pictures for people: what the service and its workers agree on about their size and number.
//!
//! A picture is the camera's own, turned as it is shown, scaled down and made into JPEG in the worker, on
//! request. The service passes its bytes on and never looks at them.

/// Narrowest that pictures can be configured or asked for, pixels.
pub const MIN_PICTURE_WIDTH: u32 = 16;

/// Widest that pictures can be configured, pixels.
pub const MAX_PICTURE_WIDTH: u32 = 4096;

/// Pictures of one worker that may be under way at once: two widths, each with boxes and without. More wait
/// for a later frame.
pub(super) const JOBS: u32 = 4;

/// Widths in which a worker keeps a frame at once.
pub const WIDTHS: usize = 2;

/// Boxes drawn into one picture: more would hide it.
pub const MAX_MARKINGS: usize = 96;

/// Longest text at a box, bytes; what is longer is cut.
pub const MAX_LABEL_BYTES: usize = 40;

/// Beside the pixels that are kept: the stack of the thread that encodes, its tables, and those of the
/// scalers.
const WORKING_BYTES: u64 = 2 << 20;

/// Bytes that JPEG needs for its tables whatever the picture's size.
const HEAD_BYTES: usize = 4096;

/// A box to draw, in pixels of the frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marking {
    /// Left edge, pixels of the frame.
    pub left: u16,
    /// Top edge, pixels of the frame.
    pub top: u16,
    /// Right edge, pixels of the frame.
    pub right: u16,
    /// Bottom edge, pixels of the frame.
    pub bottom: u16,
    /// Boxes of one class have one colour.
    pub class_id: u32,
    /// What is written at it.
    pub label: String,
}

/// A picture that a worker has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drawn {
    /// The number under which it was asked for.
    pub job: u32,
    /// The frame that it shows.
    pub frame_id: u64,
    /// Length of the JPEG, bytes; 0: it could not be made.
    pub bytes: u32,
}

/// The size of a picture of a frame: at most `width` wide, with no more pixels than a square of that width,
/// the aspect kept, and never larger than the frame.
pub(super) fn size(frame_width: u32, frame_height: u32, width: u32) -> (u32, u32) {
    let (across, down, width) =
        (f64::from(frame_width.max(1)), f64::from(frame_height.max(1)), f64::from(width.max(1)));
    let ratio = (width / across).min((width * width / (across * down)).sqrt()).min(1.0);
    let side = |pixels: f64| (pixels * ratio).round().max(1.0) as u32;
    (side(across), side(down))
}

/// Longest JPEG of a picture of at most that width, bytes: a byte for each pixel, which is five times that of
/// a camera's pictures and more than noise takes at the lower of the two qualities.
pub(super) fn jpeg_bytes(width: u32) -> usize {
    let width = width.min(MAX_PICTURE_WIDTH) as usize;
    width * width + HEAD_BYTES
}

/// Bytes of pixels that a worker may keep: three of the largest pictures (a frame that waits, one in
/// inference, one being drawn), or more of smaller ones.
pub(super) fn kept_bytes(width: u32) -> usize {
    let width = width.min(MAX_PICTURE_WIDTH) as usize;
    3 * 3 * width * width
}

/// What a worker may need for pictures beyond its other memory, bytes.
pub(super) fn worker_bytes(width: u32) -> u64 {
    if width == 0 { 0 } else { kept_bytes(width) as u64 + WORKING_BYTES }
}

/// What pictures of one source may need in all, bytes.
pub fn picture_bytes(width: u32) -> u64 {
    if width == 0 { 0 } else { worker_bytes(width) + u64::from(JOBS) * jpeg_bytes(width) as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_keep_the_aspect_and_are_never_enlarged() {
        for (frame, width, expected) in [
            ((1920, 1080), 960, (960, 540)),
            ((640, 480), 1280, (640, 480)),
            ((1080, 1920), 960, (720, 1280)),
            ((4000, 2), 1000, (1000, 1)),
            ((1, 16_384), 1000, (1, 16_384)),
            ((16, 16_384), 100, (3, 3200)),
            ((3, 2), 1, (1, 1)),
        ] {
            assert_eq!(size(frame.0, frame.1, width), expected, "{frame:?} at {width}");
        }
    }
}
