//! From a ring slot to the numbers a model sees.

use super::Run;
use crate::geometry::{Fit, InputRule, Placement};

/// How 8-bit RGB planes become the 32-bit float planes of an engine's input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Fill {
    /// Width of the engine's input, pixels. Larger than the rule's where the graph wants multiples of 32: the
    /// rest is zero.
    pub(crate) width: usize,
    /// Height of the engine's input, pixels.
    pub(crate) height: usize,
    /// What happens after dividing by 255.
    pub(crate) scale: Scale,
}

/// What happens after dividing by 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Pixels stay as they are, 0..1.
    Unit,
    /// ImageNet's mean and deviation, red's for red. Edges as below.
    ImageNet,
    /// Back to 0..255, as the pixels were.
    Bytes,
    /// Channels swapped to BGR.
    BgrUnit,
    /// From 0..1 to −1..1.
    Signed,
    /// The same, channels swapped to BGR.
    BgrSigned,
    /// ImageNet's mean and deviation of each channel, and then swapped to BGR.
    BgrImageNet,
    /// Channels swapped to BGR and back to 0..255: what YOLOX was trained with.
    BgrBytes,
    /// ImageNet's mean and deviation, as the reference applies them for RF-DETR: while the picture is still
    /// BGR, so that blue gets the constants of red. The edges of a letterbox are filled afterwards, with the
    /// raw 0, 114 or 255.
    ImageNetSwapped,
}

/// ImageNet's mean and deviation of red, green and blue.
const IMAGENET: [(f32, f32); 3] = [(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)];

impl Fill {
    /// Writes the slot `pixels` (planar RGB, the rule's size) into `input` (`[3, height, width]`).
    pub(crate) fn write(&self, pixels: &[u8], input: &mut [f32], rule: &InputRule, placement: &Placement) {
        let (width, height) = (rule.width as usize, rule.height as usize);
        let plane = self.width * self.height;
        if width == 0 || height == 0 || plane == 0 {
            return;
        }
        let mut sources: [&[u8]; 3] = Default::default();
        sources
            .iter_mut()
            .zip(pixels.chunks_exact(width * height))
            .for_each(|(source, plane)| *source = plane);
        if self.scale.is_bgr() {
            sources.reverse();
        }
        let scales = self.scale.of_input();
        for ((from, to), (factor, offset)) in
            sources.into_iter().zip(input.chunks_exact_mut(plane)).zip(scales)
        {
            let mut rows = to.chunks_exact_mut(self.width);
            for (from, to) in from.chunks_exact(width).zip(&mut rows) {
                let (seen, beyond) = to.split_at_mut(width.min(to.len()));
                for (value, byte) in seen.iter_mut().zip(from) {
                    *value = f32::from(*byte) * factor + offset;
                }
                beyond.fill(0.0);
            }
            rows.for_each(|row| row.fill(0.0));
            if let (Scale::ImageNet | Scale::ImageNetSwapped, Fit::Letterbox { fill }) =
                (self.scale, rule.fit)
            {
                placement.fill_edges(to, self.width, [width, height], f32::from(fill));
            }
        }
    }
}

impl Fill {
    /// Factor and offset of each plane of the input, where the bytes of a picture say all that it holds.
    fn worth(&self, rule: &InputRule) -> Option<[(f32, f32); 3]> {
        let worth = self.scale.of_input();
        let is_larger = (self.width, self.height) != (rule.width as usize, rule.height as usize);
        // beyond the picture the number is zero, which has a byte only without an offset
        let has_zero = worth.iter().all(|(_, offset)| *offset == 0.0);
        let has_raw_edges = matches!(self.scale, Scale::ImageNet | Scale::ImageNetSwapped)
            && matches!(rule.fit, Fit::Letterbox { .. });
        ((has_zero || !is_larger) && !has_raw_edges).then_some(worth)
    }

    /// Gives an engine the slot `pixels`: as bytes where it takes them and they say all, else as floats.
    pub(crate) fn give(&self, pixels: &[u8], run: &mut dyn Run, rule: &InputRule, placement: &Placement) {
        match self.worth(rule).and_then(|worth| run.pixels(worth)) {
            Some(planes) => self.copy(pixels, planes, rule),
            None => self.write(pixels, run.input(), rule, placement),
        }
    }

    /// The bytes of a slot in the planes of the input.
    fn copy(&self, pixels: &[u8], planes: &mut [u8], rule: &InputRule) {
        let (width, height) = (rule.width as usize, rule.height as usize);
        let plane = self.width * self.height;
        if width == 0 || height == 0 || plane == 0 {
            return;
        }
        let colours = planes.chunks_exact_mut(plane).enumerate();
        for (index, to) in colours.take(3) {
            let channel = if self.scale.is_bgr() { 2 - index } else { index };
            let from = pixels.chunks_exact(width * height).nth(channel).unwrap_or_default();
            let mut rows = to.chunks_exact_mut(self.width);
            for (from, to) in from.chunks_exact(width).zip(&mut rows) {
                let (seen, beyond) = to.split_at_mut(width.min(to.len()));
                seen.copy_from_slice(&from[..seen.len()]);
                beyond.fill(0);
            }
            rows.for_each(|row| row.fill(0));
        }
    }
}

impl Scale {
    /// Whether blue is the first channel.
    fn is_bgr(self) -> bool {
        matches!(self, Scale::BgrUnit | Scale::BgrBytes | Scale::BgrSigned | Scale::BgrImageNet)
    }

    /// From words of the command line: `bgr,0-255`. What is not said is `rgb` and `0-1`.
    pub(crate) fn of_words(words: &str) -> Option<Scale> {
        let (mut bgr, mut range) = (false, "0-1");
        for word in words.split(',').map(str::trim) {
            match word {
                "rgb" => bgr = false,
                "bgr" => bgr = true,
                "0-1" | "0-255" | "-1-1" | "imagenet" => range = word,
                _ => return None,
            }
        }
        Some(match (range, bgr) {
            ("0-255", false) => Scale::Bytes,
            ("0-255", true) => Scale::BgrBytes,
            ("-1-1", false) => Scale::Signed,
            ("-1-1", true) => Scale::BgrSigned,
            ("imagenet", false) => Scale::ImageNet,
            ("imagenet", true) => Scale::BgrImageNet,
            (_, false) => Scale::Unit,
            (_, true) => Scale::BgrUnit,
        })
    }

    /// For a graph whose input is of 8-bit pixels: what it does with them stands in the graph.
    pub(crate) fn of_bytes(self) -> Scale {
        if self.is_bgr() { Scale::BgrBytes } else { Scale::Bytes }
    }

    /// [`Scale::of_planes`] in the order of the input's planes.
    fn of_input(self) -> [(f32, f32); 3] {
        let mut scales = self.of_planes();
        if self.is_bgr() {
            scales.reverse();
        }
        scales
    }

    /// Factor and offset from a byte to the number, for the planes R, G and B.
    fn of_planes(self) -> [(f32, f32); 3] {
        let [red, green, blue] =
            IMAGENET.map(|(mean, deviation)| (1.0 / (255.0 * deviation), -mean / deviation));
        match self {
            Scale::Unit | Scale::BgrUnit => [(1.0 / 255.0, 0.0); 3],
            Scale::Bytes | Scale::BgrBytes => [(1.0, 0.0); 3],
            Scale::Signed | Scale::BgrSigned => [(1.0 / 127.5, -1.0); 3],
            Scale::ImageNet | Scale::BgrImageNet => [red, green, blue],
            Scale::ImageNetSwapped => [blue, green, red],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: InputRule =
        InputRule { width: 2, height: 2, fit: Fit::Stretch, crop: None, grayscale: false, contrast: None };
    const PIXELS: [u8; 12] = [0, 255, 51, 102, 255, 255, 255, 255, 0, 0, 0, 0];

    #[test]
    fn bytes_become_fractions_plane_by_plane() {
        let mut input = [9.0; 12];
        let fill = Fill { width: 2, height: 2, scale: Scale::Unit };
        fill.write(&PIXELS, &mut input, &RULE, &RULE.place(4, 4).unwrap());
        let expected = [0.0, 1.0, 0.2, 0.4, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0];
        assert!(input.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{input:?}");
    }

    #[test]
    fn a_larger_input_is_zero_to_the_right_and_below() {
        let mut input = [9.0; 27];
        let fill = Fill { width: 3, height: 3, scale: Scale::Unit };
        fill.write(&PIXELS, &mut input, &RULE, &RULE.place(4, 4).unwrap());
        assert_eq!(input[9..18], [1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn yolox_sees_blue_first_and_bytes() {
        let mut input = [9.0; 12];
        let fill = Fill { width: 2, height: 2, scale: Scale::BgrBytes };
        fill.write(&PIXELS, &mut input, &RULE, &RULE.place(4, 4).unwrap());
        assert_eq!(input, [0.0, 0.0, 0.0, 0.0, 255.0, 255.0, 255.0, 255.0, 0.0, 255.0, 51.0, 102.0]);
    }

    #[test]
    fn bytes_are_given_only_where_they_say_all() {
        let letterbox = InputRule { fit: Fit::Letterbox { fill: 114 }, ..RULE };
        let worth = |scale, width, rule: &InputRule| Fill { width, height: 2, scale }.worth(rule);
        assert_eq!(worth(Scale::Unit, 3, &letterbox), Some([(1.0 / 255.0, 0.0); 3]));
        assert!(worth(Scale::Signed, 2, &RULE).is_some() && worth(Scale::ImageNet, 2, &RULE).is_some());
        // no byte is zero beyond the picture; edges that are filled with raw numbers
        assert!(worth(Scale::Signed, 3, &RULE).is_none() && worth(Scale::ImageNet, 2, &letterbox).is_none());
        let (fill, mut planes) = (Fill { width: 3, height: 3, scale: Scale::BgrUnit }, [9u8; 27]);
        fill.copy(&PIXELS, &mut planes, &RULE);
        assert_eq!(planes[..9], [0; 9]);
        assert_eq!(planes[18..], [0, 255, 0, 51, 102, 0, 0, 0, 0]);
    }

    #[test]
    fn words_say_what_an_input_wants() {
        assert_eq!(Scale::of_words("bgr,0-255"), Some(Scale::BgrBytes));
        assert_eq!(Scale::of_words("imagenet"), Some(Scale::ImageNet));
        assert_eq!(Scale::of_words("-1-1"), Some(Scale::Signed));
        assert_eq!(Scale::of_words("grey"), None);
        let first = |scale: Scale| {
            let mut input = [9.0; 12];
            Fill { width: 2, height: 2, scale }.write(&PIXELS, &mut input, &RULE, &RULE.place(4, 4).unwrap());
            (input[1], input[9])
        };
        assert_eq!(first(Scale::Signed), (1.0, -1.0));
        // red, 255 in its second pixel, is last, with its own constants
        let (_, red) = first(Scale::BgrImageNet);
        assert!((red - (1.0 - 0.485) / 0.229).abs() < 1e-5, "{red}");
    }

    #[test]
    fn red_gets_the_constants_of_blue_and_edges_stay_raw() {
        let rule = InputRule { fit: Fit::Letterbox { fill: 114 }, ..RULE };
        let mut input = [9.0; 12];
        let fill = Fill { width: 2, height: 2, scale: Scale::ImageNetSwapped };
        // A frame twice as wide as high: one row of picture, the other is edge.
        fill.write(&[255; 12], &mut input, &rule, &rule.place(4, 2).unwrap());
        let red = (1.0 - 0.406) / 0.225;
        let blue = (1.0 - 0.485) / 0.229;
        assert!((input[0] - red).abs() < 1e-5 && (input[8] - blue).abs() < 1e-5, "{input:?}");
        assert_eq!(input[2..4], [114.0, 114.0]);
    }
}
