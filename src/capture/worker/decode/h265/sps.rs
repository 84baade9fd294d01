//! What a sequence parameter set says that matters outside the decoder (H.265 §7.3.2.2, Annex E).

use crate::capture::worker::decode::annexb::{h265_type, nal_units};
use crate::capture::worker::decode::bits::{Bits, unescape};
use crate::capture::worker::decode::parameters::{self, Frames, Window};
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
    /// `sps_max_num_reorder_pics` of the highest sub-layer.
    pub(super) reorder: usize,
    /// `sps_seq_parameter_set_id`.
    pub(super) id: u32,
    /// Highest `TemporalId` that there may be.
    pub(super) highest_layer: u8,
    /// Bits of `slice_pic_order_cnt_lsb`, 4..=16.
    pub(super) order_bits: u32,
    /// Planes are coded apart: slices say whose they are.
    pub(super) separate_planes: bool,
    frames: Frames,
}

/// Most short-term reference picture sets (§7.4.3.2.1).
const MAX_REFERENCE_SETS: u32 = 64;

/// Most pictures in one such set (§7.4.8): sps_max_dec_pic_buffering is at most 16.
const MAX_SET_PICTURES: u32 = 16;

/// Most long-term pictures that a parameter set lists (§7.4.3.2.1).
const MAX_LONG_TERM_PICTURES: u32 = 32;

impl Sps {
    /// The first sequence parameter set of an Annex B stream.
    pub(crate) fn find(stream: &[u8]) -> Option<Sps> {
        nal_units(stream).filter(|unit| h265_type(unit) == super::SEQUENCE_PARAMETERS).find_map(Sps::parse)
    }

    /// Parses a NAL unit of type 33, both header bytes included. `None`: damaged.
    pub(crate) fn parse(unit: &[u8]) -> Option<Sps> {
        let payload = unescape(unit.get(2..)?);
        let mut bits = Bits::new(&payload);
        bits.skip(4)?;
        let sub_layers = bits.bits(3)?;
        bits.skip(1)?;
        skip_profile_tier_level(&mut bits, sub_layers)?;
        let id = bits.unsigned()?;
        let chroma = bits.unsigned()?;
        let separate_planes = chroma == 3 && bits.flag()?;
        let (width, height) = (bits.unsigned()?, bits.unsigned()?);
        let pixels = u64::from(width) * u64::from(height);
        let (width, height) = Window::parse(&mut bits)?.crop(width, height, chroma, 1)?;
        let (luma_depth, chroma_depth) = (bits.unsigned()?, bits.unsigned()?);
        let deep = luma_depth > 0 || chroma_depth > 0;
        let order_bits = bits.unsigned()?.checked_add(4).filter(|&count| count <= 16)?;
        let each_layer = bits.flag()?;
        let (mut reorder, mut kept) = (0, 0);
        for _ in if each_layer { 0 } else { sub_layers }..=sub_layers {
            kept = bits.unsigned()?.min(MAX_SET_PICTURES);
            reorder = usize::try_from(bits.unsigned()?).ok()?;
            bits.unsigned()?;
        }
        let frames = Frames {
            pixels,
            references: u64::from(kept),
            held: reorder as u64,
            sample_bytes: if deep { 2 } else { 1 },
            half_samples: parameters::half_samples(chroma),
        };
        let mut sps = Sps {
            width,
            height,
            fps: None,
            range: Range::Limited,
            matrix: Matrix::Bt601,
            reorder,
            id,
            // Three bits.
            highest_layer: u8::try_from(sub_layers).unwrap_or(u8::MAX),
            order_bits,
            separate_planes,
            frames,
        };
        // Damaged or cut-short usability information says nothing; the picture is still good.
        let _ = skip_tools(&mut bits, order_bits).and_then(|()| sps.usability(&mut bits));
        Some(sps)
    }

    /// What memory it asks for.
    pub(in crate::capture::worker::decode) fn frames(&self) -> Frames {
        self.frames
    }

    /// `vui_parameters` (§E.2.1), as far as its timing.
    fn usability(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        if !bits.flag()? {
            return Some(());
        }
        parameters::colours(bits, &mut self.range, &mut self.matrix)?;
        bits.skip(3)?;
        if bits.flag()? {
            for _ in 0..4 {
                bits.unsigned()?;
            }
        }
        if bits.flag()? {
            let (units, scale) = (bits.bits(32)?, bits.bits(32)?);
            self.fps = parameters::frame_rate(scale, units);
        }
        Some(())
    }
}

/// `profile_tier_level` (§7.3.3).
fn skip_profile_tier_level(bits: &mut Bits<'_>, sub_layers: u32) -> Option<()> {
    const PROFILE_BITS: usize = 88;
    const LEVEL_BITS: usize = 8;
    bits.skip(PROFILE_BITS + LEVEL_BITS)?;
    let mut more = 0;
    for _ in 0..sub_layers {
        more += if bits.flag()? { PROFILE_BITS } else { 0 };
        more += if bits.flag()? { LEVEL_BITS } else { 0 };
    }
    if sub_layers > 0 {
        for _ in sub_layers..8 {
            bits.skip(2)?;
        }
    }
    bits.skip(more)
}

/// From the coding block sizes to the flag before the usability information.
fn skip_tools(bits: &mut Bits<'_>, order_bits: u32) -> Option<()> {
    for _ in 0..6 {
        bits.unsigned()?;
    }
    if bits.flag()? && bits.flag()? {
        skip_scaling_lists(bits)?;
    }
    bits.skip(2)?;
    if bits.flag()? {
        bits.skip(8)?;
        bits.unsigned()?;
        bits.unsigned()?;
        bits.skip(1)?;
    }
    let sets = bits.unsigned()?;
    if sets > MAX_REFERENCE_SETS {
        return None;
    }
    let mut pictures = 0;
    for set in 0..sets {
        pictures = skip_reference_set(bits, set, pictures)?;
    }
    if bits.flag()? {
        let count = bits.unsigned()?;
        if count > MAX_LONG_TERM_PICTURES {
            return None;
        }
        for _ in 0..count {
            bits.bits(order_bits)?;
            bits.skip(1)?;
        }
    }
    bits.skip(2)
}

/// `scaling_list_data` (§7.3.4).
fn skip_scaling_lists(bits: &mut Bits<'_>) -> Option<()> {
    for size in 0..4 {
        for _ in (0..6).step_by(if size == 3 { 3 } else { 1 }) {
            if !bits.flag()? {
                bits.unsigned()?;
                continue;
            }
            if size > 1 {
                bits.signed()?;
            }
            for _ in 0..(1 << (4 + 2 * size)).min(64) {
                bits.signed()?;
            }
        }
    }
    Some(())
}

/// `st_ref_pic_set` (§7.3.7); `previous` and the answer are numbers of pictures in a set.
fn skip_reference_set(bits: &mut Bits<'_>, set: u32, previous: u32) -> Option<u32> {
    if set > 0 && bits.flag()? {
        bits.skip(1)?;
        bits.unsigned()?;
        let mut pictures = 0;
        for _ in 0..=previous {
            // "Used by the current picture", or else "kept for later ones".
            if bits.flag()? || bits.flag()? {
                pictures += 1;
            }
        }
        return (pictures <= MAX_SET_PICTURES).then_some(pictures);
    }
    let pictures = bits.unsigned()?.checked_add(bits.unsigned()?)?;
    if pictures > MAX_SET_PICTURES {
        return None;
    }
    for _ in 0..pictures {
        bits.unsigned()?;
        bits.skip(1)?;
    }
    Some(pictures)
}
