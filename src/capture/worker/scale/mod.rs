//! From the decoder's planes straight into model input: crop, scale, colour and letterbox in one pass.
//!
//! The reference makes a full-size BGR picture and scales that (OpenCV's `INTER_LINEAR`: two taps per axis at
//! half-pixel centres). Colour conversion is linear, so scaling the planes first and converting what is left
//! gives the same picture up to rounding, at a tenth of the cost: chroma is taken where a full-size picture
//! would have repeated it.
//!
//! ```text
//! plane rows y0, y1 ──lerp──▶ one row of u16 ──two taps──▶ y, u, v of the output row (u16, 8 fractional bits) ──▶ R, G, B
//! ```
//!
//! A picture that lies on its side is scaled as it lies, and only what is left is turned: a letterbox is that
//! of the turned picture, and no full-size picture is turned.
//!
//! Tables are made once per size of frame, and nothing is allocated per frame. Contrast rules, which the
//! reference applies before scaling, are applied to the scaled picture: the histogram they look at is that of
//! the model's input.

mod colour;
mod contrast;
mod mask;
mod taps;
mod turned;

use super::picture::{Layout, Matrix, Picture, Range};
use super::rotation::Rotation;
use crate::error::{Error, Kind, Result};
use crate::geometry::{Fit, InputRule, Placement, Polygon};
use colour::Colours;
use mask::Mask;
use taps::{ROW_SAMPLES, Row, Taps, Weighted};

/// Scales pictures into model input.
#[derive(Debug)]
pub(super) struct Scaler {
    rule: InputRule,
    masks: Vec<Polygon>,
    rotation: Rotation,
    plan: Option<ScalePlan>,
    /// One per plane: the two source rows, mixed. Fixed at the full range of a u16 index, so that taps need
    /// no check; only what a row really has is ever touched.
    rows: [Box<Row>; 3],
    /// Y, U, V (or R, G, B) of one output row.
    line: [Vec<u16>; 3],
    /// R, G, B of a scaled picture that is still to be turned; empty where none is.
    lying: Vec<u8>,
    contrast: contrast::Tables,
}

/// What is known once the size and kind of the pictures are.
#[derive(Debug)]
struct ScalePlan {
    kind: (u32, u32, Layout, Range, Matrix),
    rotation: Rotation,
    /// Of the turned picture.
    placement: Placement,
    mask: Mask,
    /// Columns of the scaled picture as it lies.
    columns: usize,
    /// Per channel: the plane it lies in, and where in a row of that plane.
    channels: [Option<(usize, Taps)>; 3],
    /// Per output row: the two source rows.
    vertical: Vec<Weighted>,
    /// Per plane: the bytes of a row that are looked at, and how many luma rows share one of its rows, as a
    /// shift.
    planes: [Option<(std::ops::Range<usize>, u32)>; 3],
    /// Of samples of two bytes, by how much they are above eight bits.
    excess: Option<u32>,
    colours: Colours,
}

impl Scaler {
    pub(super) fn new(rule: InputRule) -> Scaler {
        let row = || Box::new([0; ROW_SAMPLES]);
        let rows = [row(), row(), row()];
        let (line, lying, contrast) = (Default::default(), Vec::new(), contrast::Tables::new());
        Scaler { rule, masks: Vec::new(), rotation: Rotation::None, plan: None, rows, line, lying, contrast }
    }

    /// With these areas black in every picture.
    pub(super) fn masked(self, masks: &[Polygon]) -> Scaler {
        Scaler { masks: masks.to_vec(), ..self }
    }

    /// From now on pictures are turned.
    pub(super) fn set_rotation(&mut self, rotation: Rotation) {
        self.rotation = rotation;
    }

    /// How pictures are turned.
    pub(super) fn rotation(&self) -> Rotation {
        self.rotation
    }

    /// Fills `out` (`InputRule::slot_bytes` long: planes R, G, B) from a picture.
    pub(super) fn scale(&mut self, picture: &Picture<'_>, out: &mut [u8]) -> Result<()> {
        picture.check()?;
        let kind = (picture.width, picture.height, picture.layout, picture.range, picture.matrix);
        let plan = match self.plan.take().filter(|plan| plan.kind == kind && plan.rotation == self.rotation) {
            Some(plan) => plan,
            None => ScalePlan::new(&self.rule, &self.masks, kind, self.rotation)?,
        };
        let plan = self.plan.insert(plan);
        let Placement { pad_x, pad_y, scaled_width, scaled_height, .. } = plan.placement;
        let (width, height) = (self.rule.width as usize, self.rule.height as usize);
        let (left, top, columns) = (pad_x as usize, pad_y as usize, scaled_width as usize);
        let [red, green, blue] = planes(out, width * height)?;
        if let Fit::Letterbox { fill } = self.rule.fit {
            for plane in [&mut *red, &mut *green, &mut *blue] {
                plan.placement.fill_edges(plane, width, [width, height], fill);
            }
        }
        self.line.iter_mut().for_each(|line| line.resize(plan.columns, 0));
        let start = top * width + left;
        if plan.rotation == Rotation::None {
            plan.scale(picture, &mut self.rows, &mut self.line, [red, green, blue], start, width);
        } else {
            let pixels = columns * scaled_height as usize;
            self.lying.resize(pixels * 3, 0);
            let lying = planes(&mut self.lying, pixels)?;
            plan.scale(picture, &mut self.rows, &mut self.line, lying, 0, plan.columns);
            for (lying, out) in self.lying.chunks_exact(pixels).zip([&mut *red, &mut *green, &mut *blue]) {
                turned::copy(
                    plan.rotation,
                    lying,
                    plan.columns,
                    out.get_mut(start..).unwrap_or_default(),
                    width,
                );
            }
        }
        plan.mask.apply([&mut *red, &mut *green, &mut *blue], width);
        if self.rule.grayscale || self.rule.contrast.is_some() {
            let area = contrast::Area { width, left, top, columns, rows: scaled_height as usize };
            self.contrast.apply(self.rule.contrast, self.rule.grayscale, &area, [red, green, blue]);
        }
        Ok(())
    }
}

impl ScalePlan {
    fn new(
        rule: &InputRule,
        masks: &[Polygon],
        kind: (u32, u32, Layout, Range, Matrix),
        rotation: Rotation,
    ) -> Result<ScalePlan> {
        let (width, height, layout, range, matrix) = kind;
        let (turned_width, turned_height) = rotation.size(width, height);
        let placement = rule.place(turned_width, turned_height).ok_or_else(|| {
            Error::new(Kind::SourceUnsupported, "the static crop leaves nothing of the picture")
        })?;
        let mask = Mask::new(masks, &placement);
        let lying = turned::lying(rotation, &placement);
        let horizontal = taps::weights(lying.crop_x, lying.crop_width, lying.columns);
        let vertical = taps::weights(lying.crop_y, lying.crop_height, lying.rows);
        let mut planes: [Option<(std::ops::Range<usize>, u32)>; 3] = [None, None, None];
        let mut channels = [None, None, None];
        for (channel, place) in channels.iter_mut().zip(samples(layout)) {
            let Some(Samples { plane, step, offset, x_shift, y_shift }) = place else { continue };
            let position = |x: u32| (x >> x_shift) as usize * step + offset;
            let bytes = taps::extent(&horizontal, position);
            let Some(whole) = planes.get_mut(plane) else { continue };
            // Channels of one plane share its mixed row: the range that covers all of them.
            let (range, _) = whole.get_or_insert((bytes.clone(), y_shift));
            *range = range.start.min(bytes.start)..range.end.max(bytes.end);
            *channel = Some((plane, Taps::new(&horizontal, position)));
        }
        for (plane, taps) in channels.iter_mut().flatten() {
            if let Some(Some((range, _))) = planes.get(*plane) {
                taps.shift(range.start);
            }
        }
        let excess = match layout {
            Layout::Deep { depth, .. } => Some(u32::from(depth).saturating_sub(8)),
            _ => None,
        };
        let colours = Colours::new(layout, range, matrix);
        Ok(ScalePlan {
            kind,
            rotation,
            placement,
            mask,
            columns: lying.columns as usize,
            channels,
            vertical,
            planes,
            excess,
            colours,
        })
    }

    /// Scales the picture as it lies into three planes whose rows are `stride` bytes apart, the first at
    /// `start`.
    fn scale(
        &self,
        picture: &Picture<'_>,
        rows: &mut [Box<Row>; 3],
        lines: &mut [Vec<u16>; 3],
        [red, green, blue]: [&mut [u8]; 3],
        start: usize,
        stride: usize,
    ) {
        for (row, weighted) in self.vertical.iter().enumerate() {
            for ((plane, mixed), wanted) in picture.planes.iter().zip(&mut *rows).zip(&self.planes) {
                if let Some((bytes, shift)) = wanted {
                    match self.excess {
                        None => taps::mix_rows(plane, bytes, *weighted, *shift, mixed),
                        Some(excess) => taps::mix_deep_rows(plane, bytes, *weighted, *shift, excess, mixed),
                    }
                }
            }
            for (channel, line) in self.channels.iter().zip(&mut *lines) {
                if let Some((plane, taps)) = channel
                    && let Some(row) = rows.get(*plane)
                {
                    taps.apply(row, line);
                }
            }
            let start = start + row * stride;
            let [first, second, third] = &*lines;
            let part = start..start + self.columns;
            if let (Some(red), Some(green), Some(blue)) =
                (red.get_mut(part.clone()), green.get_mut(part.clone()), blue.get_mut(part))
            {
                self.colours.convert([first, second, third], [red, green, blue]);
            }
        }
    }
}

/// Where the samples of one channel lie.
#[derive(Debug, Clone, Copy)]
struct Samples {
    plane: usize,
    /// Bytes from one sample to the next.
    step: usize,
    /// Bytes before the first.
    offset: usize,
    /// Luma columns per sample, as a shift.
    x_shift: u32,
    /// Luma rows per sample, as a shift.
    y_shift: u32,
}

/// The three channels of a layout: Y, U, V or R, G, B.
fn samples(layout: Layout) -> [Option<Samples>; 3] {
    let at = |plane, step, offset, x_shift, y_shift| Some(Samples { plane, step, offset, x_shift, y_shift });
    match layout {
        Layout::I420 => [at(0, 1, 0, 0, 0), at(1, 1, 0, 1, 1), at(2, 1, 0, 1, 1)],
        Layout::I422 => [at(0, 1, 0, 0, 0), at(1, 1, 0, 1, 0), at(2, 1, 0, 1, 0)],
        Layout::I444 => [at(0, 1, 0, 0, 0), at(1, 1, 0, 0, 0), at(2, 1, 0, 0, 0)],
        Layout::Gray => [at(0, 1, 0, 0, 0), None, None],
        Layout::Nv12 => [at(0, 1, 0, 0, 0), at(1, 2, 0, 1, 1), at(1, 2, 1, 1, 1)],
        Layout::P010 => [at(0, 2, 1, 0, 0), at(1, 4, 1, 1, 1), at(1, 4, 3, 1, 1)],
        // Positions count samples: of two bytes each, which become one when rows are mixed.
        Layout::Deep { chroma, .. } => samples(chroma.layout()),
        Layout::Yuyv => [at(0, 2, 0, 0, 0), at(0, 4, 1, 1, 0), at(0, 4, 3, 1, 0)],
        Layout::Uyvy => [at(0, 2, 1, 0, 0), at(0, 4, 0, 1, 0), at(0, 4, 2, 1, 0)],
        Layout::Rgb24 => [at(0, 3, 0, 0, 0), at(0, 3, 1, 0, 0), at(0, 3, 2, 0, 0)],
        Layout::Bgr24 => [at(0, 3, 2, 0, 0), at(0, 3, 1, 0, 0), at(0, 3, 0, 0, 0)],
    }
}

/// Splits a slot into its three planes.
fn planes(out: &mut [u8], bytes: usize) -> Result<[&mut [u8]; 3]> {
    let short = || Error::new(Kind::Worker, "a slot is smaller than the model's input");
    let (red, rest) = out.split_at_mut_checked(bytes).ok_or_else(short)?;
    let (green, rest) = rest.split_at_mut_checked(bytes).ok_or_else(short)?;
    let blue = rest.get_mut(..bytes).ok_or_else(short)?;
    Ok([red, green, blue])
}

#[cfg(test)]
mod tests;
