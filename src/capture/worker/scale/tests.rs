//! The fused pass against its twin: full-size RGB first, then plain bilinear scaling in floating point.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::capture::worker::picture::{Chroma, Plane};
use crate::geometry::{Contrast, StaticCrop};

const RULE: InputRule = InputRule {
    width: 32,
    height: 32,
    fit: Fit::Letterbox { fill: 114 },
    crop: None,
    grayscale: false,
    contrast: None,
};

const LAYOUTS: [Layout; 9] = [
    Layout::I420,
    Layout::I422,
    Layout::I444,
    Layout::Gray,
    Layout::Nv12,
    Layout::Yuyv,
    Layout::Uyvy,
    Layout::Rgb24,
    Layout::Bgr24,
];

/// A picture with soft structure (scaling is not tested by noise), no saturated colours (the full-size
/// picture clips them before scaling, the fused pass after) and padded strides.
fn planes(layout: Layout, width: u32, height: u32) -> [(Vec<u8>, usize); 3] {
    let mut seed = 0;
    layout.planes(width as usize, height as usize).map(|(row_bytes, rows)| {
        seed += 1;
        let stride = row_bytes + 7;
        let sample = |i: usize| {
            let (x, y) = ((i % stride) as f64, (i / stride) as f64);
            (128.0 + 18.0 * (x * 0.07 + f64::from(seed)).sin() + 15.0 * (y * 0.09 * f64::from(seed)).cos())
                as u8
        };
        ((0..stride * rows).map(sample).collect(), stride)
    })
}

fn picture<'a>(
    layout: Layout,
    width: u32,
    height: u32,
    planes: &'a [(Vec<u8>, usize); 3],
    range: Range,
    matrix: Matrix,
) -> Picture<'a> {
    let planes = planes.each_ref().map(|(data, stride)| Plane { data, stride: *stride });
    Picture { width, height, layout, planes, range, matrix }
}

/// R, G, B of one pixel of the full-size picture, 0..=255, not rounded.
fn pixel(picture: &Picture<'_>, x: usize, y: usize) -> [f64; 3] {
    let at = |plane: usize, x: usize, y: usize| {
        f64::from(picture.planes[plane].data[y * picture.planes[plane].stride + x])
    };
    let [luma, u, v] = match picture.layout {
        Layout::I420 => [at(0, x, y), at(1, x / 2, y / 2), at(2, x / 2, y / 2)],
        Layout::I422 => [at(0, x, y), at(1, x / 2, y), at(2, x / 2, y)],
        Layout::I444 => [at(0, x, y), at(1, x, y), at(2, x, y)],
        Layout::Gray => [at(0, x, y), 128.0, 128.0],
        Layout::Nv12 => [at(0, x, y), at(1, x / 2 * 2, y / 2), at(1, x / 2 * 2 + 1, y / 2)],
        Layout::Yuyv => [at(0, 2 * x, y), at(0, x / 2 * 4 + 1, y), at(0, x / 2 * 4 + 3, y)],
        Layout::Uyvy => [at(0, 2 * x + 1, y), at(0, x / 2 * 4, y), at(0, x / 2 * 4 + 2, y)],
        Layout::Rgb24 => return [at(0, 3 * x, y), at(0, 3 * x + 1, y), at(0, 3 * x + 2, y)],
        Layout::Bgr24 => return [at(0, 3 * x + 2, y), at(0, 3 * x + 1, y), at(0, 3 * x, y)],
        Layout::P010 | Layout::Deep { .. } => unreachable!("compared with what has eight bits"),
    };
    let (luma, chroma) = match picture.range {
        Range::Limited => (((luma - 16.0) * 255.0 / 219.0).floor(), 255.0 / 224.0),
        Range::Full => (luma, 1.0),
    };
    let (u, v) = ((u - 128.0) * chroma, (v - 128.0) * chroma);
    // As the standards print them.
    let (red_v, green_u, green_v, blue_u) = match picture.matrix {
        Matrix::Bt601 => (1.402, -0.344_136, -0.714_136, 1.772),
        Matrix::Bt709 => (1.5748, -0.187_324, -0.468_124, 1.8556),
    };
    // Every product is cut off, as the reference's decoder does.
    let cut = |factor: f64, chroma: f64| (factor * chroma).floor();
    let rgb = [luma + cut(red_v, v), luma + cut(green_u, u) + cut(green_v, v), luma + cut(blue_u, u)];
    rgb.map(|value| value.clamp(0.0, 255.0))
}

/// The whole rule, the slow way.
fn twin(rule: &InputRule, picture: &Picture<'_>) -> Vec<f64> {
    let Placement {
        crop_x, crop_y, crop_width, crop_height, pad_x, pad_y, scaled_width, scaled_height, ..
    } = rule.place(picture.width, picture.height).unwrap();
    let fill = if let Fit::Letterbox { fill } = rule.fit { f64::from(fill) } else { 0.0 };
    let (width, height) = (rule.width as usize, rule.height as usize);
    let mut out = vec![fill; width * height * 3];
    let axis = |index: u32, from: u32, to: u32| {
        let position = ((f64::from(index) + 0.5) * f64::from(from) / f64::from(to) - 0.5)
            .clamp(0.0, f64::from(from - 1));
        let first = position.floor() as usize;
        (first, (first + 1).min(from as usize - 1), position.fract())
    };
    for row in 0..scaled_height {
        let (y0, y1, down) = axis(row, crop_height, scaled_height);
        for column in 0..scaled_width {
            let (x0, x1, right) = axis(column, crop_width, scaled_width);
            let at = |x: usize, y: usize| pixel(picture, crop_x as usize + x, crop_y as usize + y);
            let corners = [at(x0, y0), at(x1, y0), at(x0, y1), at(x1, y1)];
            for channel in 0..3 {
                let [a, b, c, d] = corners.map(|corner| corner[channel]);
                let value =
                    (a * (1.0 - right) + b * right) * (1.0 - down) + (c * (1.0 - right) + d * right) * down;
                out[channel * width * height + (pad_y + row) as usize * width + (pad_x + column) as usize] =
                    value;
            }
        }
    }
    out
}

/// Bounds of [`difference`], in steps of 255: the twin cuts products off before it mixes neighbours, the
/// scaler mixes first.
const MOST: f64 = 2.5;
const MEAN: f64 = 0.5;

/// Largest and mean difference.
fn difference(rule: &InputRule, picture: &Picture<'_>) -> (f64, f64) {
    let mut out = vec![1; rule.slot_bytes()];
    Scaler::new(*rule).scale(picture, &mut out).unwrap();
    let differences: Vec<f64> =
        out.iter().zip(twin(rule, picture)).map(|(a, b)| (f64::from(*a) - b).abs()).collect();
    (
        differences.iter().copied().fold(0.0, f64::max),
        differences.iter().sum::<f64>() / differences.len() as f64,
    )
}

#[test]
fn every_layout_range_and_matrix_is_like_its_full_size_twin() {
    for layout in LAYOUTS {
        for (range, matrix) in [
            (Range::Limited, Matrix::Bt601),
            (Range::Limited, Matrix::Bt709),
            (Range::Full, Matrix::Bt601),
            (Range::Full, Matrix::Bt709),
        ] {
            for (width, height) in [(64, 48), (61, 47), (32, 32), (17, 40), (300, 7)] {
                let data = planes(layout, width, height);
                let picture = picture(layout, width, height, &data, range, matrix);
                let (most, mean) = difference(&RULE, &picture);
                assert!(
                    most <= MOST && mean <= MEAN,
                    "{layout:?} {range:?} {matrix:?} {width}x{height}: {most} {mean}"
                );
            }
        }
    }
}

#[test]
fn crops_and_stretching_are_like_their_twin() {
    let crop = Some(StaticCrop { x_min: 11.0, x_max: 87.0, y_min: 23.0, y_max: 95.0 });
    for rule in [
        InputRule { crop, ..RULE },
        InputRule { crop, fit: Fit::Stretch, ..RULE },
        InputRule { fit: Fit::Stretch, ..RULE },
    ] {
        for layout in LAYOUTS {
            let data = planes(layout, 75, 53);
            let (most, mean) =
                difference(&rule, &picture(layout, 75, 53, &data, Range::Limited, Matrix::Bt601));
            assert!(most <= MOST && mean <= MEAN, "{rule:?} {layout:?}: {most} {mean}");
        }
    }
}

#[test]
fn extreme_samples_saturate_and_do_not_wrap() {
    for samples in [[0, 0, 0], [255, 255, 255], [255, 255, 0], [255, 0, 255], [0, 255, 255]] {
        let data = samples.map(|sample| (vec![sample; 16 * 16], 16));
        for (range, matrix) in [(Range::Limited, Matrix::Bt709), (Range::Full, Matrix::Bt601)] {
            let (most, _) = difference(&RULE, &picture(Layout::I444, 16, 16, &data, range, matrix));
            assert!(most <= 2.0, "{samples:?} {range:?}: {most}");
        }
    }
}

#[test]
fn one_scaler_follows_a_change_of_size() {
    let mut scaler = Scaler::new(RULE);
    for (width, height) in [(64, 48), (40, 64), (64, 48)] {
        let data = planes(Layout::I420, width, height);
        let picture = picture(Layout::I420, width, height, &data, Range::Limited, Matrix::Bt601);
        let (mut reused, mut fresh) = (vec![7; RULE.slot_bytes()], vec![9; RULE.slot_bytes()]);
        scaler.scale(&picture, &mut reused).unwrap();
        Scaler::new(RULE).scale(&picture, &mut fresh).unwrap();
        assert_eq!(reused, fresh);
    }
}

/// A picture of half and full chroma, turned before it is scaled.
fn turned_first(
    rotation: Rotation,
    layout: Layout,
    width: u32,
    height: u32,
    planes: &[(Vec<u8>, usize); 3],
) -> [(Vec<u8>, usize); 3] {
    let sizes = layout.planes(width as usize, height as usize);
    std::array::from_fn(|plane| {
        let (columns, rows) = sizes[plane];
        let (data, stride) = &planes[plane];
        let lying: Vec<u8> =
            data.chunks(*stride).take(rows).flat_map(|row| &row[..columns]).copied().collect();
        let out_columns = if rotation.exchanges_sides() { rows } else { columns };
        let mut out = vec![0; lying.len()];
        turned::copy(rotation, &lying, columns, &mut out, out_columns);
        (out, out_columns)
    })
}

#[test]
fn a_picture_that_lies_on_its_side_is_as_if_it_had_been_turned_first() {
    let crop = Some(StaticCrop { x_min: 10.0, x_max: 70.0, y_min: 25.0, y_max: 100.0 });
    let wide = InputRule { width: 48, height: 20, ..RULE };
    for rule in [RULE, wide, InputRule { crop, ..RULE }, InputRule { crop, fit: Fit::Stretch, ..wide }] {
        for (rotation, layout) in [Rotation::Quarter, Rotation::Half, Rotation::ThreeQuarters]
            .into_iter()
            .flat_map(|rotation| [Layout::I420, Layout::I444, Layout::Gray].map(|layout| (rotation, layout)))
        {
            let (width, height) = (80, 52);
            let data = planes(layout, width, height);
            let masks = [crate::geometry::Polygon(vec![[0.1, 0.2], [0.4, 0.1], [0.3, 0.6]])];
            let mut scaler = Scaler::new(rule).masked(&masks);
            scaler.set_rotation(rotation);
            let mut out = vec![0; rule.slot_bytes()];
            scaler
                .scale(&picture(layout, width, height, &data, Range::Limited, Matrix::Bt601), &mut out)
                .unwrap();
            let data = turned_first(rotation, layout, width, height, &data);
            let (width, height) = rotation.size(width, height);
            let mut twin = vec![0; rule.slot_bytes()];
            let first = picture(layout, width, height, &data, Range::Limited, Matrix::Bt601);
            Scaler::new(rule).masked(&masks).scale(&first, &mut twin).unwrap();
            // Chroma lies between other pixels where a mirrored position is rounded.
            let most = out.iter().zip(&twin).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(most <= Some(3), "{rotation:?} {layout:?} {rule:?}: {most:?}");
        }
    }
}

#[test]
fn short_planes_short_slots_and_empty_crops_are_errors() {
    let data = planes(Layout::I420, 64, 48);
    let good = picture(Layout::I420, 64, 48, &data, Range::Limited, Matrix::Bt601);
    let mut out = vec![0; RULE.slot_bytes()];
    assert!(Scaler::new(RULE).scale(&Picture { height: 50, ..good }, &mut out).is_err());
    assert!(Scaler::new(RULE).scale(&good, &mut out[1..]).is_err());
    let crop = Some(StaticCrop { x_min: 50.0, x_max: 50.0, y_min: 0.0, y_max: 100.0 });
    assert!(Scaler::new(InputRule { crop, ..RULE }).scale(&good, &mut out).is_err());
}

#[test]
fn what_lies_behind_a_mask_changes_nothing_anywhere() {
    // The left third and a part below, in the picture as it lies.
    let hidden =
        |x: usize, y: usize, width: usize, height: usize| 3 * x < width || (2 * y > height && 2 * x < width);
    let rectangle = |left: f64, top: f64, right: f64, bottom: f64| {
        crate::geometry::Polygon(vec![[left, top], [right, top], [right, bottom], [left, bottom]])
    };
    let crop = Some(StaticCrop { x_min: 20.0, x_max: 90.0, y_min: 10.0, y_max: 100.0 });
    let contrasts = [None, Some(Contrast::Stretching), Some(Contrast::Histogram), Some(Contrast::Adaptive)];
    let large = InputRule { width: 256, height: 256, ..RULE };
    for rule in [RULE, large, InputRule { crop, fit: Fit::Stretch, ..RULE }] {
        for (layout, contrast) in
            LAYOUTS.into_iter().flat_map(|layout| contrasts.map(|contrast| (layout, contrast)))
        {
            let rule = InputRule { contrast, ..rule };
            for rotation in [Rotation::None, Rotation::Half] {
                let (width, height) = (120, 80);
                let masks = match rotation {
                    Rotation::None => [rectangle(0.0, 0.0, 1.0 / 3.0, 1.0), rectangle(0.0, 0.5, 0.5, 1.0)],
                    _ => [rectangle(2.0 / 3.0, 0.0, 1.0, 1.0), rectangle(0.5, 0.0, 1.0, 0.5)],
                };
                let data = planes(layout, width, height);
                let mut other = data.clone();
                for (plane, (row_bytes, rows)) in
                    other.iter_mut().zip(layout.planes(width as usize, height as usize))
                {
                    let (samples, stride) = plane;
                    for (x, y) in (0..rows).flat_map(|y| (0..row_bytes).map(move |x| (x, y))) {
                        // A pair of pixels that share a sample is hidden or not together: the edges are even.
                        if hidden(x, y, row_bytes, rows) {
                            samples[y * *stride + x] ^= 0x55;
                        }
                    }
                }
                let scaled = |data: &[(Vec<u8>, usize); 3]| {
                    let mut scaler = Scaler::new(rule).masked(&masks);
                    scaler.set_rotation(rotation);
                    let mut out = vec![0; rule.slot_bytes()];
                    scaler
                        .scale(&picture(layout, width, height, data, Range::Limited, Matrix::Bt601), &mut out)
                        .unwrap();
                    out
                };
                assert!(scaled(&data) == scaled(&other), "{rotation:?} {layout:?} {rule:?}");
            }
        }
    }
}

/// A picture of eight bits with two bytes a sample: `bits` makes the sample, whose lower bits are dirt.
fn widened(planes: &[(Vec<u8>, usize); 3], bits: impl Fn(u16, u16) -> u16) -> [(Vec<u8>, usize); 3] {
    planes.each_ref().map(|(data, stride)| {
        let wide = data
            .iter()
            .zip(0_u16..)
            .flat_map(|(sample, number)| bits(u16::from(*sample), number.wrapping_mul(31)).to_le_bytes());
        (wide.collect(), stride * 2)
    })
}

#[test]
fn what_is_deeper_than_eight_bits_is_scaled_as_its_upper_eight() {
    let scaled = |picture: &Picture<'_>| {
        let mut out = vec![0; RULE.slot_bytes()];
        Scaler::new(RULE).scale(picture, &mut out).unwrap();
        out
    };
    let (range, matrix) = (Range::Limited, Matrix::Bt601);
    for chroma in [Chroma::Half, Chroma::HalfWidth, Chroma::Whole, Chroma::None] {
        let narrow = planes(chroma.layout(), 67, 45);
        let expected = scaled(&picture(chroma.layout(), 67, 45, &narrow, range, matrix));
        for depth in [9_u8, 10, 12, 16] {
            let wide =
                widened(&narrow, |sample, dirt| sample << (depth - 8) | dirt & ((1 << (depth - 8)) - 1));
            let layout = Layout::Deep { chroma, depth };
            assert_eq!(scaled(&picture(layout, 67, 45, &wide, range, matrix)), expected, "{layout:?}");
        }
    }
    let narrow = planes(Layout::Nv12, 67, 45);
    let expected = scaled(&picture(Layout::Nv12, 67, 45, &narrow, range, matrix));
    let wide = widened(&narrow, |sample, dirt| sample << 8 | dirt & 0xc0);
    assert_eq!(scaled(&picture(Layout::P010, 67, 45, &wide, range, matrix)), expected);
}
