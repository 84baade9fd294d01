//! Grayscale and the three contrast rules, on the scaled picture inside a slot (its letterbox edges are not
//! part of it).

use crate::geometry::Contrast;

/// Tiles per axis of the adaptive rule.
const TILES: usize = 8;

/// Clip limit of the adaptive rule, as a part of a tile's mean count per level.
const CLIP_LIMIT: f64 = 0.03;

/// Where the picture lies in each plane, in pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Area {
    /// Width of a whole plane, pixels.
    pub(super) width: usize,
    pub(super) left: usize,
    pub(super) top: usize,
    pub(super) columns: usize,
    pub(super) rows: usize,
}

impl Area {
    fn lines<'a>(&self, plane: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (left, columns) = (self.left, self.columns);
        let rows = plane.chunks_exact(self.width).skip(self.top).take(self.rows);
        rows.filter_map(move |row| row.get(left..left + columns))
    }

    fn lines_mut<'a>(&self, plane: &'a mut [u8]) -> impl Iterator<Item = &'a mut [u8]> + use<'a> {
        let (left, columns) = (self.left, self.columns);
        let rows = plane.chunks_exact_mut(self.width).skip(self.top).take(self.rows);
        rows.filter_map(move |row| row.get_mut(left..left + columns))
    }
}

type Histogram = [u32; 256];
type Levels = [u8; 256];

/// Memory of the rules, taken once.
#[derive(Debug)]
pub(super) struct Tables {
    /// One per tile of the adaptive rule; the others use the first.
    levels: Box<[Levels; TILES * TILES]>,
}

impl Tables {
    pub(super) fn new() -> Tables {
        Tables { levels: Box::new([[0; 256]; TILES * TILES]) }
    }

    /// Contrast, then grayscale, as the reference orders them.
    pub(super) fn apply(
        &mut self,
        contrast: Option<Contrast>,
        grayscale: bool,
        area: &Area,
        planes: [&mut [u8]; 3],
    ) {
        let [red, green, blue] = planes;
        match contrast {
            Some(Contrast::Stretching) => {
                let mut histogram = [0; 256];
                for plane in [&*red, &*green, &*blue] {
                    count(area.lines(plane).flatten(), &mut histogram);
                }
                if let Some(levels) = stretched(&histogram) {
                    for plane in [&mut *red, &mut *green, &mut *blue] {
                        area.lines_mut(plane)
                            .flatten()
                            .for_each(|pixel| *pixel = levels[usize::from(*pixel)]);
                    }
                }
            }
            Some(Contrast::Histogram) => {
                make_gray(area, red, green, blue);
                let mut histogram = [0; 256];
                count(area.lines(red).flatten(), &mut histogram);
                let levels = equalised(&histogram);
                area.lines_mut(red).flatten().for_each(|pixel| *pixel = levels[usize::from(*pixel)]);
            }
            Some(Contrast::Adaptive) => {
                make_gray(area, red, green, blue);
                self.adapt(area, red);
            }
            None => {}
        }
        match contrast {
            Some(Contrast::Histogram | Contrast::Adaptive) => {}
            _ if grayscale => make_gray(area, red, green, blue),
            _ => return,
        }
        for copy in [green, blue] {
            for (to, from) in area.lines_mut(copy).zip(area.lines(red)) {
                to.copy_from_slice(from);
            }
        }
    }

    /// Contrast-limited adaptive histogram equalisation: each tile has its own levels, mixed between tile
    /// centres.
    fn adapt(&mut self, area: &Area, plane: &mut [u8]) {
        let (tile_width, tile_height) = (area.columns.div_ceil(TILES), area.rows.div_ceil(TILES));
        let pixels = tile_width * tile_height;
        // Both at least 1: a placement is never empty.
        let limit = ((CLIP_LIMIT * pixels as f64 / 256.0) as u32).max(1);
        for (index, levels) in self.levels.iter_mut().enumerate() {
            let mut histogram = [0; 256];
            for y in (index / TILES) * tile_height..(index / TILES + 1) * tile_height {
                for x in (index % TILES) * tile_width..(index % TILES + 1) * tile_width {
                    let (x, y) = (mirrored(x, area.columns), mirrored(y, area.rows));
                    let pixel = plane.get((area.top + y) * area.width + area.left + x).copied().unwrap_or(0);
                    histogram[usize::from(pixel)] += 1;
                }
            }
            clip(&mut histogram, limit);
            *levels = cumulated(&histogram, 255.0 / pixels as f64, 0);
        }
        let levels = &self.levels;
        for (y, line) in area.lines_mut(plane).enumerate() {
            let (above, below, down) = between(y, tile_height);
            for (x, pixel) in line.iter_mut().enumerate() {
                let (before, after, right) = between(x, tile_width);
                let level =
                    |row: usize, column: usize| f32::from(levels[row * TILES + column][usize::from(*pixel)]);
                let upper = level(above, before) * (1.0 - right) + level(above, after) * right;
                let lower = level(below, before) * (1.0 - right) + level(below, after) * right;
                *pixel = (upper * (1.0 - down) + lower * down).round() as u8;
            }
        }
    }
}

/// The tiles whose centres lie around a pixel, and the part of the second.
fn between(position: usize, tile: usize) -> (usize, usize, f32) {
    let centre = position as f32 / tile as f32 - 0.5;
    let first = centre.floor();
    let clamp = |index: f32| index.clamp(0.0, (TILES - 1) as f32) as usize;
    (clamp(first), clamp(first + 1.0), centre - first)
}

/// Where a picture continues beyond its edge: mirrored, the edge itself not repeated.
fn mirrored(position: usize, size: usize) -> usize {
    if position < size { position } else { (2 * size).saturating_sub(position + 2).min(size - 1) }
}

/// Grey by BT.601, into `red`.
fn make_gray(area: &Area, red: &mut [u8], green: &[u8], blue: &[u8]) {
    for ((red, green), blue) in area.lines_mut(red).zip(area.lines(green)).zip(area.lines(blue)) {
        for ((red, green), blue) in red.iter_mut().zip(green).zip(blue) {
            // Parts of 2^14: they add up to it, so the sum fits a byte.
            let sum = u32::from(*red) * 4899 + u32::from(*green) * 9617 + u32::from(*blue) * 1868;
            *red = ((sum + 8192) >> 14) as u8;
        }
    }
}

fn count<'a>(pixels: impl Iterator<Item = &'a u8>, histogram: &mut Histogram) {
    for pixel in pixels {
        histogram[usize::from(*pixel)] += 1;
    }
}

/// 2nd to 98th percentile to the full range; `None` when they are the same.
fn stretched(histogram: &Histogram) -> Option<Levels> {
    let (low, high) = (percentile(histogram, 0.02), percentile(histogram, 0.98));
    (high > low).then(|| {
        let mut levels = [0; 256];
        for (level, out) in levels.iter_mut().enumerate() {
            *out = ((level as f64).clamp(low, high) - low).mul_add(255.0 / (high - low), 0.0) as u8;
        }
        levels
    })
}

/// Linear between the two pixels that the rank lies between.
fn percentile(histogram: &Histogram, part: f64) -> f64 {
    let total: u64 = histogram.iter().map(|count| u64::from(*count)).sum();
    let rank = part * total.saturating_sub(1) as f64;
    let at = |rank: u64| {
        let mut seen = 0;
        histogram
            .iter()
            .take_while(|count| {
                seen += u64::from(**count);
                seen <= rank
            })
            .count() as f64
    };
    let (low, high) = (at(rank as u64), at(rank.ceil() as u64));
    low + (high - low) * rank.fract()
}

/// Levels after histogram equalisation, as OpenCV's `equalizeHist` computes them.
fn equalised(histogram: &Histogram) -> Levels {
    let total: u32 = histogram.iter().sum();
    let first = histogram.iter().copied().find(|count| *count > 0).unwrap_or(0);
    if first == total {
        // One level only: there is nothing to spread.
        return std::array::from_fn(|level| level as u8);
    }
    cumulated(histogram, 255.0 / f64::from(total - first), first)
}

/// Running sum less `first`, scaled and rounded.
fn cumulated(histogram: &Histogram, scale: f64, first: u32) -> Levels {
    let mut sum = 0;
    histogram.map(|count| {
        sum += count;
        // Saturates at 255, and half-way cases never occur on purpose.
        (f64::from(sum.saturating_sub(first)) * scale).round() as u8
    })
}

/// Cuts peaks at `limit` and spreads what was cut over all levels.
fn clip(histogram: &mut Histogram, limit: u32) {
    let mut excess = 0;
    for count in histogram.iter_mut() {
        excess += count.saturating_sub(limit);
        *count = (*count).min(limit);
    }
    let (share, rest) = (excess / 256, excess % 256);
    histogram.iter_mut().for_each(|count| *count += share);
    if let Some(step) = 256_u32.checked_div(rest) {
        let step = (step as usize).max(1);
        histogram.iter_mut().step_by(step).take(rest as usize).for_each(|count| *count += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gray(pixels: &[u8; 16], contrast: Option<Contrast>) -> Vec<u8> {
        let [mut red, mut green, mut blue] = [*pixels; 3];
        let area = Area { width: 4, left: 0, top: 0, columns: 4, rows: 4 };
        Tables::new().apply(contrast, true, &area, [&mut red, &mut green, &mut blue]);
        assert_eq!(red, green);
        assert_eq!(red, blue);
        red.to_vec()
    }

    #[test]
    fn equalisation_spreads_the_levels_that_occur() {
        let mut pixels = [10; 16];
        pixels[4..8].fill(20);
        pixels[8..12].fill(30);
        pixels[12..].fill(40);
        let out = gray(&pixels, Some(Contrast::Histogram));
        assert_eq!([out[0], out[4], out[8], out[12]], [0, 85, 170, 255]);
        assert_eq!(gray(&[7; 16], Some(Contrast::Histogram)), [7; 16]);
    }

    #[test]
    fn stretching_takes_the_percentiles_to_the_ends() {
        let mut histogram = [0; 256];
        histogram[50..150].fill(1);
        // 100 values 50..=149: numpy.percentile gives 51.98 and 147.02.
        assert!((percentile(&histogram, 0.02) - 51.98).abs() < 1e-9);
        assert!((percentile(&histogram, 0.98) - 147.02).abs() < 1e-9);
        let Some(levels) = stretched(&histogram) else { unreachable!("the percentiles differ") };
        assert_eq!((levels[0], levels[51], levels[100], levels[148]), (0, 0, 128, 255));
        assert!(stretched(&[0; 256]).is_none());
    }

    #[test]
    fn grayscale_weighs_the_colours() {
        let area = Area { width: 2, left: 1, top: 0, columns: 1, rows: 1 };
        let (mut red, mut green, mut blue) = ([9, 200], [9, 100], [9, 50]);
        Tables::new().apply(None, true, &area, [&mut red, &mut green, &mut blue]);
        assert_eq!((red, green, blue), ([9, 124], [9, 124], [9, 124]));
    }

    /// Values of OpenCV 4 (`createCLAHE(0.03, (8, 8))`, `equalizeHist`) on the same pictures; one level more
    /// or less is rounding.
    #[test]
    fn the_rules_are_those_of_opencv() {
        const PLACES: [(usize, usize); 6] = [(0, 0), (7, 5), (30, 20), (60, 44), (12, 33), (50, 10)];
        let cases: [(usize, usize, Contrast, &[u8], u64); 4] = [
            (64, 48, Contrast::Adaptive, &[21, 77, 114, 182, 218, 49], 397_960),
            (61, 45, Contrast::Adaptive, &[21, 77, 114, 171, 218, 49], 354_366),
            (64, 48, Contrast::Histogram, &[0, 61, 119, 187], 391_223),
            (61, 45, Contrast::Histogram, &[0, 60, 119, 187], 349_729),
        ];
        for (columns, rows, rule, expected, expected_sum) in cases {
            // Inside a larger plane, so that offsets count.
            let area = Area { width: columns + 5, left: 3, top: 2, columns, rows };
            let mut plane = vec![9_u8; area.width * (rows + 4)];
            for (y, line) in area.lines_mut(&mut plane).enumerate() {
                line.iter_mut()
                    .enumerate()
                    .for_each(|(x, pixel)| *pixel = ((x * x * 3 + y * 7 + x * y) % 97 + 60) as u8);
            }
            let (mut red, mut green, mut blue) = (plane.clone(), plane.clone(), plane);
            Tables::new().apply(Some(rule), false, &area, [&mut red, &mut green, &mut blue]);
            assert_eq!((&red, &red), (&green, &blue));
            for (expected, (x, y)) in expected.iter().zip(PLACES) {
                let got = red[(area.top + y) * area.width + area.left + x];
                assert!(
                    got.abs_diff(*expected) <= 1,
                    "{rule:?} {columns}x{rows} at {x},{y}: {got} {expected}"
                );
            }
            let sum: u64 = area.lines(&red).flatten().map(|pixel| u64::from(*pixel)).sum();
            assert!(
                sum.abs_diff(expected_sum) <= (columns * rows / 10) as u64,
                "{rule:?} {columns}x{rows}: {sum}"
            );
            assert_eq!((red[0], red[area.width * 4], red.last()), (9, 9, Some(&9)));
        }
    }
}
