//! From the picture as it lies to the picture as it is shown.
//!
//! ```text
//!                       turned by 90 degrees     by 180      by 270
//! lying:  1 2 3                4 1               6 5 4        3 6
//!         4 5 6                5 2               3 2 1        2 5
//!                              6 3                            1 4
//! ```

use crate::capture::worker::rotation::Rotation;
use crate::geometry::Placement;

/// What a placement of the turned picture is in the picture as it lies. All in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lying {
    pub(super) crop_x: u32,
    pub(super) crop_y: u32,
    pub(super) crop_width: u32,
    pub(super) crop_height: u32,
    /// Width once it is scaled.
    pub(super) columns: u32,
    /// Height once it is scaled.
    pub(super) rows: u32,
}

pub(super) fn lying(rotation: Rotation, placement: &Placement) -> Lying {
    let Placement { crop_x, crop_y, crop_width, crop_height, scaled_width, scaled_height, .. } = *placement;
    // Distances of the crop from the other two edges. It lies inside the frame.
    let from_right = placement.frame_width - crop_x - crop_width;
    let from_bottom = placement.frame_height - crop_y - crop_height;
    let (crop_x, crop_y) = match rotation {
        Rotation::None => (crop_x, crop_y),
        Rotation::Quarter => (crop_y, from_right),
        Rotation::Half => (from_right, from_bottom),
        Rotation::ThreeQuarters => (from_bottom, crop_x),
    };
    if rotation.exchanges_sides() {
        let (crop_width, crop_height) = (crop_height, crop_width);
        Lying { crop_x, crop_y, crop_width, crop_height, columns: scaled_height, rows: scaled_width }
    } else {
        Lying { crop_x, crop_y, crop_width, crop_height, columns: scaled_width, rows: scaled_height }
    }
}

/// Side of the squares that are turned at a time: what is read and what is written then both stay in the
/// cache.
const TILE: usize = 32;

/// Copies a plane of `columns` columns, turned, to where its rows are `stride` bytes apart.
pub(super) fn copy(rotation: Rotation, lying: &[u8], columns: usize, out: &mut [u8], stride: usize) {
    if columns == 0 {
        return;
    }
    let rows = lying.len() / columns;
    let mut set = |row: usize, column: usize, pixel: u8| {
        if let Some(place) = out.get_mut(row * stride + column) {
            *place = pixel;
        }
    };
    for tile_row in (0..rows).step_by(TILE) {
        for tile_column in (0..columns).step_by(TILE) {
            let tile = lying.chunks_exact(columns).enumerate().skip(tile_row).take(TILE);
            for (row, pixels) in tile {
                let pixels = pixels.iter().enumerate().skip(tile_column).take(TILE);
                match rotation {
                    Rotation::None => pixels.for_each(|(column, pixel)| set(row, column, *pixel)),
                    Rotation::Quarter => {
                        pixels.for_each(|(column, pixel)| set(column, rows - 1 - row, *pixel))
                    }
                    Rotation::Half => {
                        pixels.for_each(|(column, pixel)| set(rows - 1 - row, columns - 1 - column, *pixel))
                    }
                    Rotation::ThreeQuarters => {
                        pixels.for_each(|(column, pixel)| set(columns - 1 - column, row, *pixel))
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_pixels_in_every_position() {
        let turned = |rotation: Rotation, width: usize| {
            let mut out = vec![0; 9];
            copy(rotation, &[1, 2, 3, 4, 5, 6], 3, &mut out, 3);
            out.chunks(3).flat_map(|row| row[..width].to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(turned(Rotation::None, 3)[..6], [1, 2, 3, 4, 5, 6]);
        assert_eq!(turned(Rotation::Quarter, 2), [4, 1, 5, 2, 6, 3]);
        assert_eq!(turned(Rotation::Half, 3)[..6], [6, 5, 4, 3, 2, 1]);
        assert_eq!(turned(Rotation::ThreeQuarters, 2), [3, 6, 2, 5, 1, 4]);
    }
}
