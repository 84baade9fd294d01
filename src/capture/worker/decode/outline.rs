//! What the headers of an access unit say to who may leave it undecoded: whether other pictures refer to its
//! picture, whether decoding may begin at it, and where it is shown.

use super::annexb::{h264_type, h265_type, nal_units};
use super::order::nearest;
use super::random_access::{self, RandomAccess};
use super::{Codec, h264, h265};

/// What the headers of an access unit say of its picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outline {
    /// No other picture refers to it: H.264 `nal_ref_idc` 0 in all slices, H.265 sub-layer non-reference
    /// pictures of the highest temporal layer, every JPEG picture.
    pub(crate) droppable: bool,
    /// Whether decoding may begin here, and pictures come that need this one.
    pub(crate) begins: Option<RandomAccess>,
    /// Its place in order of presentation: pictures that are shown later have higher ones.
    pub(crate) place: i64,
    /// How much of a frame it is.
    pub(crate) part: Part,
    /// H.265: the temporal layer that it is of.
    pub(crate) layer: Option<Layer>,
}

/// A temporal layer: pictures refer to those of their own and lower ones only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layer {
    /// The layer's number, 0 for the lowest.
    pub(crate) id: u8,
    pub(crate) switch: Switch,
}

/// Which layers may be decoded from a picture on though they were not before (H.265 §7.4.2.2). Its own is then one that
/// the picture refers to no picture of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Switch {
    No,
    /// To the picture's own layer (STSA).
    ToThis,
    /// Its own and all above (TSA).
    ToAll,
}

/// How much of a frame an access unit holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Frame,
    FirstField,
    /// The frame is counted with its first field.
    SecondField,
}

/// Orders of presentation in a sequence are 32 bits.
const SEQUENCE: i64 = 1 << 32;

/// Reads one stream, unit by unit.
#[derive(Debug, Default)]
pub(crate) struct Outlines {
    h264: h264::Sets,
    h265: h265::Sets,
    /// Coded sequences so far: each is shown after the one before.
    sequence: i64,
    /// Order count of the picture that lower bits are counted from.
    base: Option<i32>,
    /// Of the picture before, where the stream does not say an order.
    last: i32,
    /// The field that waits for its other half: `frame_num`, and whether it is the lower one.
    field: Option<(u32, bool)>,
    /// H.265: the sequence is over.
    ended: bool,
}

impl Outlines {
    /// The next access unit; `None`: it has no picture, or one whose headers cannot be read.
    pub(crate) fn of(&mut self, codec: Codec, data: &[u8]) -> Option<Outline> {
        match codec {
            Codec::H264 => self.h264(data),
            Codec::H265 => self.h265(data),
            Codec::Jpeg => Some(Outline {
                droppable: true,
                begins: None,
                place: self.in_turn(),
                part: Part::Frame,
                layer: None,
            }),
            // Their headers are not read: all of them is decoded.
            Codec::Mpeg4 | Codec::Vp8 | Codec::Vp9 | Codec::Av1 => None,
        }
    }

    /// Units are missing here, or another decoder begins: what comes is shown after what came.
    pub(crate) fn interrupt(&mut self) {
        self.begin(None);
        self.field = None;
    }

    /// A new sequence, whose order counts are counted from `base`.
    fn begin(&mut self, base: Option<i32>) {
        self.sequence += SEQUENCE;
        (self.base, self.last) = (base, 0);
    }

    fn place(&mut self, order: i32) -> i64 {
        self.last = order;
        self.sequence + i64::from(order)
    }

    /// After the picture before.
    fn in_turn(&mut self) -> i64 {
        if self.last == i32::MAX {
            self.begin(self.base);
        }
        self.place(self.last + 1)
    }

    fn h264(&mut self, data: &[u8]) -> Option<Outline> {
        let (mut first, mut is_key, mut is_referred) = (None, false, false);
        let mut parities = [false; 2];
        for unit in nal_units(data) {
            let kind = h264_type(unit);
            match kind {
                h264::SEQUENCE_PARAMETERS => _ = self.h264.take_sequence(unit),
                h264::PICTURE_PARAMETERS => _ = self.h264.take_picture(unit),
                // Partitions of a slice.
                2..=4 => return None,
                h264::SLICE | h264::SLICE_OF_KEY_FRAME => {
                    is_referred |= unit.first().is_some_and(|byte| byte & 0x60 != 0);
                    let known = first.is_some_and(|header: h264::SliceHeader| !header.field);
                    if !known {
                        let header = h264::SliceHeader::parse(unit, |pps| self.h264.of(pps))?;
                        parities[usize::from(header.bottom)] = true;
                        is_key |= first.is_none() && kind == h264::SLICE_OF_KEY_FRAME;
                        first.get_or_insert(header);
                    }
                }
                _ => {}
            }
        }
        let header = first?;
        let (sps, _) = self.h264.of(header.pps)?;
        let part = match (header.field, parities) {
            (false, _) | (_, [true, true]) => Part::Frame,
            _ => self.pair(&header, is_key),
        };
        if part != Part::FirstField {
            self.field = None;
        }
        if is_key || header.reset {
            self.begin(Some(0));
        }
        let order_type = sps.order_type();
        let place = match order_type {
            0 if !header.reset => {
                let order = nearest(header.order, sps.order_bits(), self.base).saturating_add(header.earlier);
                if is_referred {
                    self.base = Some(order);
                }
                self.place(order)
            }
            _ => self.in_turn(),
        };
        // Order type 1 says where pictures are shown by cycles, which nobody uses with B pictures.
        let droppable = !is_referred && part == Part::Frame && order_type != 1;
        let begins = random_access::h264(nal_units(data)).filter(|_| is_referred);
        Some(Outline { droppable, begins, place, part, layer: None })
    }

    /// Whether a field is the other half of the one before.
    fn pair(&mut self, header: &h264::SliceHeader, is_key: bool) -> Part {
        if self.field == Some((header.frame_num, !header.bottom)) && !is_key {
            return Part::SecondField;
        }
        self.field = Some((header.frame_num, header.bottom));
        Part::FirstField
    }

    fn h265(&mut self, data: &[u8]) -> Option<Outline> {
        let (mut first, mut ends) = (None, false);
        for unit in nal_units(data) {
            let kind = h265_type(unit);
            match kind {
                _ if first.is_none() && h265::PICTURES.contains(&kind) => {
                    first = h265::SliceHeader::parse(unit, &self.h265).map(|header| (kind, header));
                    first?;
                }
                _ if h265::SEQUENCE_ENDS.contains(&kind) => ends = true,
                _ => self.h265.take(unit),
            }
        }
        let ended = std::mem::replace(&mut self.ended, ends);
        let Some((kind, header)) = first else {
            self.ended |= ended;
            return None;
        };
        if h265::SEQUENCE_BEGINS.contains(&kind) || (ended && h265::BEGINS.contains(&kind)) {
            self.begin(None);
        }
        let order = header.order.map_or(0, |(low, bits)| nearest(low, bits, self.base));
        if header.is_base {
            self.base = Some(order);
        }
        let place = self.place(order);
        let begins = random_access::h265(nal_units(data));
        let switch = match kind {
            2..=3 => Switch::ToAll,
            4..=5 => Switch::ToThis,
            _ => Switch::No,
        };
        let layer = Some(Layer { id: header.temporal_layer, switch }).filter(|_| header.has_layers);
        Some(Outline { droppable: header.droppable, begins, place, part: Part::Frame, layer })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::capture::worker::clips::{asset, decode_all};
    use crate::capture::worker::file;
    use crate::capture::worker::source::Grab;

    /// Outlines of all access units of a clip.
    fn outlines(name: &str) -> Vec<Outline> {
        let mut source = file::open(&asset(&format!("clips/{name}"))).unwrap();
        let (mut outlines, mut found) = (Outlines::default(), Vec::new());
        while let Grab::Packet(codec, unit) = source.grab().unwrap() {
            found.push(outlines.of(codec, unit.data).unwrap());
        }
        found
    }

    #[test]
    fn places_are_the_order_in_which_pictures_come_out() {
        for name in [
            "main.mp4",
            "high-pyramid.mp4",
            "cavlc-slices.mp4",
            "interlaced.mp4",
            "h265.mp4",
            "h265-10.mp4",
            "raw.h264",
            "baseline.mp4",
        ] {
            let outlines = outlines(name);
            let mut by_place: Vec<usize> = (0..outlines.len()).collect();
            by_place.sort_by_key(|&unit| outlines[unit].place);
            let mut source = file::open(&asset(&format!("clips/{name}"))).unwrap();
            let decoded = decode_all(source.as_mut(), |_| {}).unwrap();
            let shown: Vec<usize> =
                decoded.packets.iter().map(|packet| usize::try_from(*packet).unwrap()).collect();
            assert_eq!(by_place, shown, "{name}");
        }
    }

    #[test]
    fn what_nothing_refers_to_and_where_decoding_may_begin() {
        let count = |name: &str| {
            let outlines = outlines(name);
            let droppable = outlines.iter().filter(|outline| outline.droppable).count();
            (outlines.len(), droppable, outlines.iter().filter(|outline| outline.begins.is_some()).count())
        };
        assert_eq!(count("baseline.mp4"), (25, 0, 3));
        let (all, droppable, begins) = count("high-pyramid.mp4");
        assert!(all == 25 && (8..=16).contains(&droppable) && begins == 3, "{droppable} {begins}");
        let (all, droppable, _) = count("h265.mp4");
        assert!(all == 25 && (8..=18).contains(&droppable), "{droppable}");
    }

    #[test]
    fn fields_in_units_of_their_own_are_one_frame() {
        let mut outlines = Outlines::default();
        let mut pair = |frame_num, bottom, is_key| {
            let header = h264::SliceHeader { frame_num, bottom, field: true, ..Default::default() };
            outlines.pair(&header, is_key)
        };
        assert_eq!(pair(3, false, false), Part::FirstField);
        assert_eq!(pair(3, true, false), Part::SecondField);
        outlines.field = None;
        let mut pair = |frame_num, bottom| {
            let header = h264::SliceHeader { frame_num, bottom, field: true, ..Default::default() };
            outlines.pair(&header, false)
        };
        // Its other half is missing.
        assert_eq!(pair(4, false), Part::FirstField);
        assert_eq!(pair(5, true), Part::FirstField);
        assert_eq!(pair(5, false), Part::SecondField);
    }
}
