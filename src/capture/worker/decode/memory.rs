//! What decoding a stream needs, from its parameter sets.

use super::annexb::{h264_type, h265_type, nal_units};
use super::parameters::Frames;
use super::reorder::MAX_DEPTH;
use super::{Codec, H264Parameters, H265Parameters};

/// Bytes of a pixel for which a decoder keeps the motion of a reference: vectors, reference numbers, modes of
/// each 4×4 block.
const MOTION: u64 = 2;

/// Bytes of a pixel for the picture in work beside its samples: modes, coefficients, filter strengths.
const WORK: u64 = 5;

/// Frames beyond the references: the one in work, and one on its way to be used again.
const SPARE_REFERENCES: u64 = 2;

/// Pictures of eight bits beyond those that are held back: the one that is shown.
const SPARE_SHOWN: u64 = 1;

/// Bytes whatever the picture: tables, the packet, what is kept for the second decoder.
const BASE: u64 = 8 * 1024 * 1024;

/// Bytes that a decoder needs for the largest picture that the sequence parameter sets in an Annex B stream,
/// or the headers of a JPEG picture, announce, the stream's own packets included; `None`: there are none.
/// Above what was measured, by less than four times (`tests/engine_allocations.rs`).
pub(crate) fn decoding_bytes(codec: Codec, stream: &[u8]) -> Option<u64> {
    if codec == Codec::Jpeg {
        return super::jpeg::decoding_bytes(stream).map(|bytes| BASE.saturating_add(bytes));
    }
    let frames = |unit| match codec {
        Codec::H264 if h264_type(unit) == super::h264::SEQUENCE_PARAMETERS => {
            H264Parameters::parse(unit).map(|sps| sps.frames())
        }
        Codec::H265 if h265_type(unit) == super::h265::SEQUENCE_PARAMETERS => {
            H265Parameters::parse(unit).map(|sps| sps.frames())
        }
        _ => None,
    };
    nal_units(stream).filter_map(frames).map(Frames::bytes).max()
}

impl Frames {
    fn bytes(self) -> u64 {
        let reference = (self.sample_bytes * self.half_samples).div_ceil(2) + MOTION;
        let shown = self.half_samples.div_ceil(2);
        let held = self.held.min(MAX_DEPTH as u64);
        let of_a_pixel =
            reference * (self.references + SPARE_REFERENCES) + shown * (held + SPARE_SHOWN) + WORK;
        BASE.saturating_add(self.pixels.saturating_mul(of_a_pixel))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_costs_by_size_depth_chroma_and_references() {
        let hd = Frames { pixels: 1920 * 1088, references: 1, held: 0, sample_bytes: 1, half_samples: 3 };
        let mib = |frames: Frames| frames.bytes() >> 20;
        // Measured in whole processes of 5 MiB: 19 MiB; with four references and two held back, 40; in ten
        // bits, 58 and 67 (H.265).
        assert_eq!(mib(hd), 45);
        let more = Frames { references: 4, held: 2, ..hd };
        assert_eq!(mib(more), 77);
        assert_eq!(mib(Frames { sample_bytes: 2, ..more }), 89);
        // 4K: 54 MiB; in ten bits, 111.
        assert_eq!(mib(Frames { pixels: 3840 * 2160, ..hd }), 158);
        // Announcing what no picture can be makes no small number of it.
        assert_eq!(Frames { pixels: u64::MAX, ..hd }.bytes(), u64::MAX);
    }

    #[test]
    fn streams_without_parameter_sets_say_nothing() {
        assert_eq!(decoding_bytes(Codec::H264, &[0, 0, 1, 0x65, 1, 2]), None);
        assert_eq!(decoding_bytes(Codec::H265, &[]), None);
        assert_eq!(decoding_bytes(Codec::Jpeg, &[0, 0, 1, 0x67]), None);
    }
}
