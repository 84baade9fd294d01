//! What a sequence parameter set says that matters outside the decoder (H.264 §7.3.2.1.1, Annex E).

use crate::capture::worker::decode::annexb::{h264_type, nal_units};
use crate::capture::worker::decode::bits::{Bits, unescape};
use crate::capture::worker::decode::parameters::{self, Frames, Window};
use crate::capture::worker::decode::reorder::{Depth, MAX_DEPTH};
use crate::capture::worker::picture::{Matrix, Range};

/// The facts of a sequence parameter set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sps {
    /// Width after cropping, pixels.
    pub(crate) width: u32,
    /// Height after cropping, pixels.
    pub(crate) height: u32,
    /// Frames per second, where the stream says so.
    pub(crate) fps: Option<f64>,
    pub(crate) range: Range,
    pub(crate) matrix: Matrix,
    pub(in crate::capture::worker::decode) depth: Depth,
    /// No fields: every picture is a frame.
    pub(crate) frames_only: bool,
    /// 4:2:0, 8 bit, no fields, nothing cropped at the left or top, no order type 1 with B pictures: what the
    /// fast decoder takes.
    pub(crate) plain: bool,
    pub(super) coding: Coding,
}

/// What slice headers and pictures of our own need.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Coding {
    /// `seq_parameter_set_id`, 0..=31.
    pub(super) id: u8,
    /// Extended profile: slices may come in partitions.
    pub(super) extended: bool,
    /// `chroma_format_idc`; 0 also where the planes are coded apart.
    pub(super) chroma: u32,
    /// More than eight bits.
    pub(super) deep: bool,
    /// Planes are coded apart: slices say whose they are.
    pub(super) separate_planes: bool,
    /// Bits of `frame_num`, 4..=16.
    pub(super) frame_num_bits: u32,
    /// `pic_order_cnt_type`.
    pub(super) order_type: u32,
    /// Bits of `pic_order_cnt_lsb`, 4..=16.
    pub(super) order_bits: u32,
    /// `delta_pic_order_always_zero_flag`.
    pub(super) order_always_zero: bool,
    /// `max_num_ref_frames`, 0..=16.
    pub(super) references: u32,
    /// `frame_num` may leave numbers out.
    pub(super) gaps: bool,
    /// Macroblocks of a row.
    pub(super) width_blocks: u32,
    /// Rows of macroblocks of a frame.
    pub(super) height_blocks: u32,
    /// Pairs of macroblocks may be coded as fields.
    pub(super) pairs: bool,
}

/// Sequence parameter sets that a stream can have (§7.4.2.1.1).
const MAX_SETS: u8 = 32;

/// Most reference frames (§A.3.1).
const MAX_REFERENCES: u32 = 16;

/// Profiles whose parameter sets carry chroma format and bit depth (§7.3.2.1.1).
const HIGH_PROFILES: [u32; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];

impl Sps {
    /// The first sequence parameter set of an Annex B stream.
    pub(crate) fn find(stream: &[u8]) -> Option<Sps> {
        nal_units(stream).filter(|unit| h264_type(unit) == super::SEQUENCE_PARAMETERS).find_map(Sps::parse)
    }

    /// Parses a NAL unit of type 7, header byte included. `None`: damaged.
    pub(crate) fn parse(unit: &[u8]) -> Option<Sps> {
        let payload = unescape(unit.get(1..)?);
        let mut bits = Bits::new(&payload);
        let profile = bits.bits(8)?;
        let constraints = bits.bits(8)?;
        let level = bits.bits(8)?;
        let id = u8::try_from(bits.unsigned()?).ok().filter(|&id| id < MAX_SETS)?;
        let (mut chroma, mut deep, mut separate_planes) = (1, false, false);
        if HIGH_PROFILES.contains(&profile) {
            chroma = bits.unsigned()?;
            if chroma == 3 {
                separate_planes = bits.flag()?;
            }
            deep = bits.unsigned()? != 0;
            deep |= bits.unsigned()? != 0;
            bits.skip(1)?;
            if bits.flag()? {
                skip_scaling_lists(&mut bits, if chroma == 3 { 12 } else { 8 })?;
            }
        }
        // Both are four less than they mean (§7.4.2.1.1).
        let counter_bits = |code: u32| code.checked_add(4).filter(|&count| count <= 16);
        let frame_num_bits = counter_bits(bits.unsigned()?)?;
        let order_type = bits.unsigned()?;
        let (mut order_bits, mut order_always_zero) = (4, false);
        match order_type {
            0 => order_bits = counter_bits(bits.unsigned()?)?,
            1 => {
                order_always_zero = bits.flag()?;
                bits.signed()?;
                bits.signed()?;
                for _ in 0..bits.unsigned()?.min(255) {
                    bits.signed()?;
                }
            }
            _ => {}
        }
        let references = bits.unsigned()?.min(MAX_REFERENCES);
        let gaps = bits.flag()?;
        let width_blocks = bits.unsigned()?.checked_add(1)?;
        let height_units = bits.unsigned()?.checked_add(1)?;
        let frames_only = bits.flag()?;
        let pairs = !frames_only && bits.flag()?;
        bits.skip(1)?;
        let fields = if frames_only { 1 } else { 2 };
        let height_blocks = height_units.checked_mul(fields)?;
        let window = Window::parse(&mut bits)?;
        let (width, height) = (width_blocks.checked_mul(16)?, height_blocks.checked_mul(16)?);
        let (width, height) = window.crop(width, height, chroma, fields)?;

        let intra_only = constraints >> 4 & 1 == 1 && matches!(profile, 44 | 86 | 100 | 110 | 122 | 244);
        // A baseline stream has no B-frames, and order type 2 says that output order is decoding order
        // (§8.2.1.3).
        let depth = if profile == 66 || order_type == 2 || intra_only {
            Depth::Known(0)
        } else {
            Depth::AtMost(max_dpb_frames(level, constraints, width_blocks, height_blocks))
        };
        // The fast decoder does not do order type 1, which only B pictures need.
        let order_known = order_type != 1 || profile == 66;
        let plain = order_known && chroma == 1 && !deep && frames_only && window.left == 0 && window.top == 0;
        let coding = Coding {
            id,
            extended: profile == 88,
            chroma: if separate_planes { 0 } else { chroma },
            deep,
            separate_planes,
            frame_num_bits,
            order_type,
            order_bits,
            order_always_zero,
            references,
            gaps,
            width_blocks,
            height_blocks,
            pairs,
        };
        let (range, matrix) = (Range::Limited, Matrix::Bt601);
        let mut sps = Sps { width, height, fps: None, range, matrix, depth, frames_only, plain, coding };
        if bits.flag()? {
            // Damaged or cut-short usability information says nothing; the picture is still good.
            let _ = sps.usability(&mut bits);
        }
        Some(sps)
    }

    /// `pic_order_cnt_type`.
    pub(in crate::capture::worker::decode) fn order_type(&self) -> u32 {
        self.coding.order_type
    }

    /// Bits of `pic_order_cnt_lsb`, 4..=16.
    pub(in crate::capture::worker::decode) fn order_bits(&self) -> u32 {
        self.coding.order_bits
    }

    /// What memory it asks for.
    pub(in crate::capture::worker::decode) fn frames(&self) -> Frames {
        let coding = &self.coding;
        let (Depth::Known(held) | Depth::AtMost(held)) = self.depth;
        Frames {
            pixels: u64::from(coding.width_blocks) * u64::from(coding.height_blocks) * 256,
            references: u64::from(coding.references),
            held: held as u64,
            sample_bytes: if coding.deep { 2 } else { 1 },
            // Gray comes as 4:2:0.
            half_samples: parameters::half_samples(coding.chroma.max(1)),
        }
    }

    /// `vui_parameters` (§E.1.1).
    fn usability(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        parameters::colours(bits, &mut self.range, &mut self.matrix)?;
        if bits.flag()? {
            let (units, scale) = (bits.bits(32)?, bits.bits(32)?);
            bits.skip(1)?;
            // Two units to a frame: they count fields.
            self.fps = parameters::frame_rate(scale, units.checked_mul(2)?);
        }
        let nal_hrd = bits.flag()?;
        if nal_hrd {
            skip_hrd(bits)?;
        }
        let vcl_hrd = bits.flag()?;
        if vcl_hrd {
            skip_hrd(bits)?;
        }
        if nal_hrd || vcl_hrd {
            bits.skip(1)?;
        }
        bits.skip(1)?;
        if bits.flag()? {
            bits.skip(1)?;
            for _ in 0..4 {
                bits.unsigned()?;
            }
            let reorder = usize::try_from(bits.unsigned()?).ok()?;
            if reorder <= MAX_DEPTH {
                self.depth = Depth::Known(reorder);
            }
        }
        Some(())
    }
}

fn skip_scaling_lists(bits: &mut Bits<'_>, lists: u32) -> Option<()> {
    for list in 0..lists {
        if !bits.flag()? {
            continue;
        }
        let (mut last, mut next) = (8, 8);
        for _ in 0..if list < 6 { 16 } else { 64 } {
            if next != 0 {
                next = (last + bits.signed()?.rem_euclid(256)) % 256;
            }
            last = if next == 0 { last } else { next };
        }
    }
    Some(())
}

/// `hrd_parameters` (§E.1.2).
fn skip_hrd(bits: &mut Bits<'_>) -> Option<()> {
    const MAX_SCHEDULES: u32 = 32;
    let schedules = bits.unsigned()?.checked_add(1)?;
    if schedules > MAX_SCHEDULES {
        return None;
    }
    bits.skip(8)?;
    for _ in 0..schedules {
        bits.unsigned()?;
        bits.unsigned()?;
        bits.skip(1)?;
    }
    bits.skip(20)
}

/// MaxDpbFrames of a level (Table A-1, §A.3.1).
fn max_dpb_frames(level: u32, constraints: u32, width_blocks: u32, height_blocks: u32) -> usize {
    let blocks: u64 = match level {
        9 | 10 => 396,
        11 if constraints >> 4 & 1 == 1 => 396,
        11 => 900,
        12 | 13 | 20 => 2_376,
        21 => 4_752,
        22 | 30 => 8_100,
        31 => 18_000,
        32 => 20_480,
        40 | 41 => 32_768,
        42 => 34_816,
        50 => 110_400,
        51 | 52 => 184_320,
        _ => 696_320,
    };
    let frame = u64::from(width_blocks) * u64::from(height_blocks);
    usize::try_from(blocks / frame.max(1)).map_or(MAX_DEPTH, |frames| frames.clamp(1, MAX_DEPTH))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// x264, high profile, 640x360, 25 fps, two B-frames, BT.709 limited: as found in a file made by ffmpeg.
    const X264_HIGH: &[u8] = &[
        0x67, 0x64, 0x00, 0x1e, 0xac, 0xd9, 0x40, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01,
        0x00, 0x00, 0x03, 0x00, 0x32, 0x0f, 0x16, 0x2d, 0x96,
    ];

    #[test]
    fn size_rate_and_reordering_of_an_x264_stream() {
        let sps = Sps::parse(X264_HIGH).unwrap();
        assert_eq!((sps.width, sps.height), (640, 360));
        assert_eq!(sps.fps, Some(25.0));
        assert_eq!(sps.depth, Depth::Known(2));
        assert!(sps.plain);
    }

    #[test]
    fn cut_short_at_any_byte_is_refused_or_says_less() {
        for length in 0..X264_HIGH.len() {
            if let Some(sps) = Sps::parse(&X264_HIGH[..length]) {
                assert_eq!((sps.width, sps.height), (640, 360));
            }
        }
    }

    #[test]
    fn any_bytes_are_survived() {
        let mut state = 7_u32;
        for _ in 0..20_000 {
            let mut unit = X264_HIGH.to_vec();
            for _ in 0..3 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let place = (state >> 8) as usize % unit.len();
                unit[place] = (state >> 24) as u8;
            }
            let _ = Sps::parse(&unit);
        }
    }
}
