//! Boxes and names, drawn row by row into a picture on its way to the encoder: the picture itself stays as it
//! is, for those who want it without.

use super::font::{self, HEIGHT, WIDTH};
use crate::capture::Marking;
use std::ops::Range;

/// A colour as JPEG has it: luma and two colour differences.
type Colour = [u8; 3];

/// Colours of classes, in turn: bright, and far from each other for most eyes.
const COLOURS: [Colour; 8] = [
    [149, 43, 21],   // green
    [151, 42, 202],  // orange
    [168, 182, 22],  // cyan
    [105, 212, 234], // magenta
    [210, 16, 146],  // yellow
    [95, 210, 93],   // blue
    [100, 114, 224], // red
    [190, 128, 128], // grey
];
const BLACK: Colour = [16, 128, 128];

/// Width of a picture for each pixel of a line's thickness.
const PIXELS_PER_LINE: usize = 480;

/// Thinnest line, pixels: JPEG halves the resolution of colours.
const MIN_LINE: usize = 2;

/// Width of a picture for each pixel of a letter's dot.
const PIXELS_PER_DOT: usize = 480;

/// An area of one colour.
#[derive(Debug)]
struct Fill {
    columns: Range<usize>,
    rows: Range<usize>,
    colour: Colour,
}

/// A line of letters.
#[derive(Debug)]
struct Text {
    left: usize,
    top: usize,
    letters: Vec<[u8; WIDTH]>,
}

/// A box with what is written at it.
#[derive(Debug)]
struct Marked {
    fills: Vec<Fill>,
    text: Text,
}

/// What is drawn into one picture.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    /// The last lies on top.
    boxes: Vec<Marked>,
    /// Pixels per dot of a letter.
    dot: usize,
}

impl Overlay {
    /// For a picture of `size`, of a frame of `frame` pixels, in which the boxes are given.
    pub(super) fn new(markings: &[Marking], frame: (u32, u32), size: (usize, usize)) -> Overlay {
        let (width, height) = size;
        let (line, dot) = ((width / PIXELS_PER_LINE).max(MIN_LINE), (width / PIXELS_PER_DOT).max(1));
        let scaled =
            |position: u16, from: u32, to: usize| (usize::from(position) * to / from.max(1) as usize).min(to);
        let boxes = markings.iter().map(|marking| {
            let columns = scaled(marking.left, frame.0, width)..scaled(marking.right, frame.0, width);
            let rows = scaled(marking.top, frame.1, height)..scaled(marking.bottom, frame.1, height);
            let colour = COLOURS.get(marking.class_id as usize % COLOURS.len()).copied().unwrap_or(BLACK);
            let inner_left = (columns.start + line).min(columns.end);
            let inner_right = columns.end.saturating_sub(line).max(columns.start);
            let inner_top = (rows.start + line).min(rows.end);
            let inner_bottom = rows.end.saturating_sub(line).max(rows.start);
            let letters = font::letters(&marking.label);
            let (text_width, text_height) = (letters.len() * (WIDTH + 1) * dot + dot, (HEIGHT + 2) * dot);
            // Above the box; where there is no room, in it.
            let text_top = rows.start.checked_sub(text_height).unwrap_or(rows.start);
            let text_left = columns.start.min(width.saturating_sub(text_width));
            let fill = |columns: Range<usize>, rows: Range<usize>| Fill { columns, rows, colour };
            let mut fills = vec![
                fill(columns.clone(), rows.start..inner_top),
                fill(columns.clone(), inner_bottom..rows.end),
                fill(columns.start..inner_left, rows.clone()),
                fill(inner_right..columns.end, rows.clone()),
            ];
            if !letters.is_empty() {
                fills.push(fill(
                    text_left..(text_left + text_width).min(width),
                    text_top..(text_top + text_height).min(height),
                ));
            }
            Marked { fills, text: Text { left: text_left + dot, top: text_top + dot, letters } }
        });
        Overlay { boxes: boxes.collect(), dot }
    }

    /// Draws what lies in row `row`, whose samples these are.
    pub(super) fn apply(&self, row: usize, samples: &mut [&mut [u8]; 3]) {
        for marked in &self.boxes {
            for fill in marked.fills.iter().filter(|fill| fill.rows.contains(&row)) {
                paint(samples, fill.columns.clone(), fill.colour);
            }
            self.write(&marked.text, row, samples);
        }
    }

    fn write(&self, text: &Text, row: usize, samples: &mut [&mut [u8]; 3]) {
        let Some(dot_row) =
            row.checked_sub(text.top).map(|down| down / self.dot.max(1)).filter(|row| *row < HEIGHT)
        else {
            return;
        };
        for (index, letter) in text.letters.iter().enumerate() {
            for (column, dots) in letter.iter().enumerate() {
                if dots >> dot_row & 1 == 1 {
                    let left = text.left + (index * (WIDTH + 1) + column) * self.dot;
                    paint(samples, left..left + self.dot, BLACK);
                }
            }
        }
    }
}

fn paint(samples: &mut [&mut [u8]; 3], columns: Range<usize>, colour: Colour) {
    for (plane, sample) in samples.iter_mut().zip(colour) {
        let end = columns.end.min(plane.len());
        if let Some(part) = plane.get_mut(columns.start.min(end)..end) {
            part.fill(sample);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(marking: Marking, size: (usize, usize)) -> Vec<Vec<u8>> {
        let overlay = Overlay::new(&[marking], (size.0 as u32 * 2, size.1 as u32 * 2), size);
        let row = |row: usize| {
            let (mut luma, mut blue, mut red) = (vec![0; size.0], vec![0; size.0], vec![0; size.0]);
            overlay.apply(row, &mut [&mut luma, &mut blue, &mut red]);
            luma
        };
        (0..size.1).map(row).collect()
    }

    #[test]
    fn a_box_is_a_frame_at_its_place_and_its_name_stands_above_it() {
        let marking = Marking { left: 20, top: 40, right: 60, bottom: 60, class_id: 0, label: "F".into() };
        let rows = drawn(marking, (40, 40));
        let colour = COLOURS[0][0];
        assert!(rows[20][10..30].iter().chain(&rows[29][10..30]).all(|sample| *sample == colour));
        assert_eq!((rows[25][11], rows[25][12], rows[25][28], rows[25][30]), (colour, 0, colour, 0));
        assert_eq!((rows[20][9], rows[30][15], rows[10][15]), (0, 0, 0));
        // Nine rows above it: a margin, seven rows of the letter, a margin.
        assert!(rows[11][10..17].iter().all(|sample| *sample == colour));
        assert!(rows[12][11..16].iter().all(|sample| *sample == BLACK[0]), "the letter's bar");
        assert_eq!((rows[14][11], rows[14][12]), (BLACK[0], colour));
    }

    #[test]
    fn boxes_beyond_the_picture_and_upside_down_do_no_harm() {
        for (left, top, right, bottom) in
            [(0, 0, u16::MAX, u16::MAX), (60, 60, 10, 10), (79, 79, 79, 79), (u16::MAX, 0, 3, 4)]
        {
            drawn(Marking { left, top, right, bottom, class_id: 77, label: "long ".repeat(40) }, (40, 40));
        }
    }
}
