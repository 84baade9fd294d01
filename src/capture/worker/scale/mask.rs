//! Privacy masks: what nobody shall see is blackened in what leaves the scaler, for models and for people
//! alike.
//!
//! The decoder's planes are borrowed and stay as they are; so the areas are drawn into the scaled picture,
//! after it was turned, and larger by what scaling smears: a pixel is black as soon as anything of what it
//! was made of lies in an area.

use crate::geometry::{Placement, Polygon};
use std::ops::Range;

/// How far from its centre the samples lie that a pixel was made of, in pixels of the frame: two taps, of
/// colour at half the size.
const SMEAR: f64 = 2.5;

/// Columns to blacken, by row of the model's input.
#[derive(Debug)]
pub(super) struct Mask(Vec<Vec<Range<usize>>>);

/// One axis: from fractions of the picture to pixels of the output.
#[derive(Debug, Clone, Copy)]
struct Axis {
    frame: f64,
    crop: f64,
    ratio: f64,
    pad: f64,
}

impl Axis {
    fn new(frame: u32, crop: u32, cropped: u32, scaled: u32, pad: u32) -> Axis {
        let ratio = f64::from(scaled) / f64::from(cropped.max(1));
        Axis { frame: frame.into(), crop: crop.into(), ratio, pad: pad.into() }
    }

    fn of(&self, fraction: f64) -> f64 {
        (fraction * self.frame - self.crop) * self.ratio + self.pad
    }

    /// Half a pixel at least: one that is touched is black.
    fn reach(&self) -> f64 {
        (SMEAR * self.ratio).max(0.5)
    }
}

impl Mask {
    /// For frames that are placed so.
    pub(super) fn new(polygons: &[Polygon], placement: &Placement) -> Mask {
        if polygons.is_empty() {
            return Mask(Vec::new());
        }
        let Placement { frame_width, frame_height, crop_x, crop_y, crop_width, crop_height, .. } = *placement;
        let Placement { pad_x, pad_y, scaled_width, scaled_height, .. } = *placement;
        let across = Axis::new(frame_width, crop_x, crop_width, scaled_width, pad_x);
        let down = Axis::new(frame_height, crop_y, crop_height, scaled_height, pad_y);
        let picture = pad_x as usize..(pad_x + scaled_width) as usize;
        let polygons: Vec<Vec<(f64, f64)>> = polygons
            .iter()
            .map(|Polygon(points)| points.iter().map(|[x, y]| (across.of(*x), down.of(*y))).collect())
            .collect();
        let row = |row: u32| {
            if row < pad_y {
                return Vec::new();
            }
            let (centre, reach) = (f64::from(row) + 0.5, down.reach());
            let band = (centre - reach, centre + reach);
            let mut columns: Vec<Range<usize>> = Vec::new();
            for points in &polygons {
                touched(points, band, |from, to| {
                    // Columns whose centre is near enough. Casts saturate.
                    let first = (from - across.reach() - 0.5).ceil().max(0.0) as usize;
                    let end = ((to + across.reach() - 0.5).floor() + 1.0).max(0.0) as usize;
                    let range = first.max(picture.start)..end.min(picture.end);
                    if !range.is_empty() {
                        columns.push(range);
                    }
                });
            }
            columns
        };
        Mask((0..pad_y + scaled_height).map(row).collect())
    }

    /// Blackens a picture whose rows are `stride` bytes apart.
    pub(super) fn apply(&self, planes: [&mut [u8]; 3], stride: usize) {
        if self.0.is_empty() {
            return;
        }
        for plane in planes {
            for (row, columns) in plane.chunks_mut(stride.max(1)).zip(&self.0) {
                for columns in columns {
                    if let Some(part) = row.get_mut(columns.clone()) {
                        part.fill(0);
                    }
                }
            }
        }
    }
}

/// Calls `span` for stretches that together cover all of a polygon's columns between two heights: what lies
/// inside at either of them, and every edge between. (From a point inside, straight down, one meets one or
/// the other.)
fn touched(points: &[(f64, f64)], (top, bottom): (f64, f64), mut span: impl FnMut(f64, f64)) {
    let edges = || points.iter().zip(points.iter().cycle().skip(1));
    for height in [top, bottom] {
        let mut crossings: Vec<(f64, i32)> = edges()
            .filter_map(|(&(ax, ay), &(bx, by))| {
                let direction =
                    i32::from(ay <= height && by > height) - i32::from(by <= height && ay > height);
                (direction != 0).then(|| (ax + (height - ay) / (by - ay) * (bx - ax), direction))
            })
            .collect();
        crossings.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        // Inside is what the border goes around, however often: where a polygon crosses itself, more is black
        // rather than less.
        let mut winding = 0;
        let mut from = 0.0;
        for (x, direction) in crossings {
            if winding == 0 {
                from = x;
            }
            winding += direction;
            if winding == 0 {
                span(from, x);
            }
        }
    }
    for (&(ax, ay), &(bx, by)) in edges() {
        let (low, high) = (ay.min(by).max(top), ay.max(by).min(bottom));
        if low > high {
            continue;
        }
        let at = |height: f64| if ay == by { ax } else { ax + (height - ay) / (by - ay) * (bx - ax) };
        let (one, other) = if ay == by { (ax, bx) } else { (at(low), at(high)) };
        span(one.min(other), one.max(other));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::geometry::{Fit, InputRule};

    fn black(rule: InputRule, frame: (u32, u32), polygons: &[&[[f64; 2]]]) -> Vec<String> {
        let polygons: Vec<_> = polygons.iter().map(|points| Polygon(points.to_vec())).collect();
        let mask = Mask::new(&polygons, &rule.place(frame.0, frame.1).unwrap());
        let (width, height) = (rule.width as usize, rule.height as usize);
        let mut planes = [vec![1; width * height], vec![1; width * height], vec![1; width * height]];
        let [red, green, blue] = &mut planes;
        mask.apply([red, green, blue], width);
        assert!(planes[0] == planes[1] && planes[1] == planes[2]);
        planes[0]
            .chunks(width)
            .map(|row| row.iter().map(|pixel| if *pixel == 0 { '#' } else { '.' }).collect())
            .collect()
    }

    const RULE: InputRule =
        InputRule { width: 12, height: 6, fit: Fit::Stretch, crop: None, grayscale: false, contrast: None };

    #[test]
    fn an_area_is_black_with_what_is_smeared_and_no_more() {
        // A sixth of the size: a pixel takes from within half of itself.
        let rows = black(RULE, (72, 36), &[&[[0.25, 0.0], [0.5, 0.0], [0.5, 0.5], [0.25, 0.5]]]);
        assert_eq!(
            rows,
            ["..#####.....", "..#####.....", "..#####.....", "..#####.....", "............", "............"]
        );
        // At full size, two pixels more on each side.
        let rows = black(RULE, (12, 6), &[&[[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]]]);
        assert_eq!(
            rows,
            ["...######...", "...######...", "...######...", "...######...", "...######...", "...######..."]
        );
    }

    #[test]
    fn a_letterbox_keeps_its_edges_and_what_was_cropped_away_is_no_concern() {
        let rule = InputRule { width: 6, height: 6, fit: Fit::Letterbox { fill: 1 }, ..RULE };
        let all: &[[f64; 2]] = &[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]];
        assert_eq!(
            black(rule, (72, 36), &[all]),
            ["......", "######", "######", "######", "......", "......"]
        );
        let crop = crate::geometry::StaticCrop { x_min: 50.0, x_max: 100.0, y_min: 0.0, y_max: 100.0 };
        let left: &[[f64; 2]] = &[[0.0, 0.0], [0.4, 0.0], [0.4, 1.0], [0.0, 1.0]];
        let cropped = InputRule { crop: Some(crop), ..RULE };
        assert!(black(cropped, (720, 36), &[left]).iter().all(|row| row == "............"));
    }

    #[test]
    fn every_point_inside_any_polygon_is_black() {
        // xorshift: the same polygons in every run.
        let mut seed = 0x2545_f491_u32;
        let mut random = || {
            seed ^= seed << 13;
            seed ^= seed >> 17;
            seed ^= seed << 5;
            f64::from(seed >> 8) / f64::from(1 << 24)
        };
        let rule = InputRule { width: 40, height: 30, ..RULE };
        for _ in 0..300 {
            let points: Vec<[f64; 2]> =
                (0..3 + (random() * 5.0) as usize).map(|_| [random(), random()]).collect();
            let rows = black(rule, (400, 300), &[&points]);
            for _ in 0..200 {
                let (x, y) = (random(), random());
                let winding: i32 = points
                    .iter()
                    .zip(points.iter().cycle().skip(1))
                    .map(|(a, b)| {
                        let is_left = (b[0] - a[0]) * (y - a[1]) - (x - a[0]) * (b[1] - a[1]) > 0.0;
                        i32::from(a[1] <= y && b[1] > y && is_left)
                            - i32::from(b[1] <= y && a[1] > y && !is_left)
                    })
                    .sum();
                let pixel = rows[(y * 30.0) as usize].as_bytes()[(x * 40.0) as usize];
                assert!(winding == 0 || pixel == b'#', "{points:?} at {x} {y}");
            }
        }
    }
}
