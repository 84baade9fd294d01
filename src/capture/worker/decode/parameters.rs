//! What the sequence parameter sets of H.264 and H.265 have in common: the cropping window, and how the
//! usability information begins.

use super::bits::Bits;
use crate::capture::worker::picture::{Matrix, Range};

/// How much is cut from the coded picture at each side, in units that follow from the chroma format (H.264
/// §7.4.2.1.1, H.265 §7.4.3.2.1).
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) left: u32,
    pub(super) right: u32,
    pub(super) top: u32,
    pub(super) bottom: u32,
}

impl Window {
    /// A flag, and the four sides where it is set.
    pub(super) fn parse(bits: &mut Bits<'_>) -> Option<Window> {
        if !bits.flag()? {
            return Some(Window::default());
        }
        let [left, right, top, bottom] =
            [bits.unsigned()?, bits.unsigned()?, bits.unsigned()?, bits.unsigned()?];
        Some(Window { left, right, top, bottom })
    }

    /// Width and height of what is left of a coded picture of `width` × `height` pixels with this
    /// `chroma_format_idc`; `fields` is 2 where rows count in fields. `None`: nothing is left.
    pub(super) fn crop(&self, width: u32, height: u32, chroma: u32, fields: u32) -> Option<(u32, u32)> {
        let unit_x = if matches!(chroma, 1 | 2) { 2 } else { 1 };
        let unit_y = fields * if chroma == 1 { 2 } else { 1 };
        let width = width.checked_sub(self.left.checked_add(self.right)?.checked_mul(unit_x)?)?;
        let height = height.checked_sub(self.top.checked_add(self.bottom)?.checked_mul(unit_y)?)?;
        Some((width, height))
    }
}

/// The start of `vui_parameters` in both standards (§E.1.1, §E.2.1): aspect ratio, overscan, colours, place
/// of the chroma samples. What was read before the data ends stays.
pub(super) fn colours(bits: &mut Bits<'_>, range: &mut Range, matrix: &mut Matrix) -> Option<()> {
    const EXTENDED_ASPECT_RATIO: u32 = 255;
    const BT709: u32 = 1;
    if bits.flag()? && bits.bits(8)? == EXTENDED_ASPECT_RATIO {
        bits.skip(32)?;
    }
    if bits.flag()? {
        bits.skip(1)?;
    }
    if bits.flag()? {
        bits.skip(3)?;
        *range = if bits.flag()? { Range::Full } else { Range::Limited };
        if bits.flag()? {
            bits.skip(16)?;
            // Everything else is taken as BT.601, as the reference does (Table E-5).
            *matrix = if bits.bits(8)? == BT709 { Matrix::Bt709 } else { Matrix::Bt601 };
        }
    }
    if bits.flag()? {
        bits.unsigned()?;
        bits.unsigned()?;
    }
    Some(())
}

/// Frames per second from a time scale, if it is one that a camera can have.
pub(super) fn frame_rate(scale: u32, units: u32) -> Option<f64> {
    const MAX_FPS: f64 = 1000.0;
    let fps = f64::from(scale) / f64::from(units);
    (units != 0 && fps > 0.0 && fps <= MAX_FPS).then_some(fps)
}

/// What a parameter set says about the size of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frames {
    /// Pixels of a coded frame, before cropping.
    pub(super) pixels: u64,
    /// Frames that are kept for reference.
    pub(super) references: u64,
    /// Frames that are held back until it is their turn.
    pub(super) held: u64,
    /// Bytes of a sample while it is decoded.
    pub(super) sample_bytes: u64,
    /// Samples of a pixel, in halves: 2 gray, 3 for 4:2:0, 4 for 4:2:2, 6 for 4:4:4.
    pub(super) half_samples: u64,
}

/// [`Frames::half_samples`] of a `chroma_format_idc`.
pub(super) fn half_samples(chroma: u32) -> u64 {
    match chroma {
        0 => 2,
        1 => 3,
        2 => 4,
        _ => 6,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_window_counts_in_chroma_samples_and_fields() {
        let window = Window { left: 1, right: 2, top: 0, bottom: 4 };
        let crop = |chroma, fields| window.crop(640, 368, chroma, fields).unwrap();
        assert_eq!(crop(1, 1), (634, 360));
        assert_eq!(crop(1, 2), (634, 352));
        assert_eq!(crop(2, 1), (634, 364));
        assert_eq!(crop(3, 1), (637, 364));
        assert_eq!(crop(0, 1), (637, 364));
    }

    #[test]
    fn a_window_larger_than_the_picture_is_refused() {
        assert_eq!(Window { right: 4, ..Window::default() }.crop(7, 8, 1, 1), None);
        assert_eq!(Window { left: u32::MAX, right: 1, ..Window::default() }.crop(640, 360, 0, 1), None);
        assert_eq!(Window { top: u32::MAX, ..Window::default() }.crop(640, 360, 1, 2), None);
    }

    #[test]
    fn rates_that_no_camera_has_are_none() {
        assert_eq!(frame_rate(50, 2), Some(25.0));
        assert_eq!(frame_rate(0, 1), None);
        assert_eq!(frame_rate(1, 0), None);
        assert_eq!(frame_rate(90_000, 1), None);
    }
}
