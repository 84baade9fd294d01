//! Where a decoder that is not ours is let in, and what it is spared. The rules are those of our own
//! decoders ([`random_access()`](super::random_access())).

use super::Codec;
use super::annexb::{h264_type, h265_type, nal_units};
use super::h264::Entrance as H264;
use super::h265::Entrance as H265;
use crate::capture::worker::picture::{Matrix, Range};

/// What becomes of an access unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// It holds no picture.
    Sets,
    /// It passes by undecoded.
    Pass,
    /// It is decoded.
    Decode {
        /// Decoding begins anew here; `true`: nothing of what follows is wrong.
        begins: Option<bool>,
        /// This picture is right, and all that are shown after it.
        recovers: bool,
        /// It gives a picture of its own: it is no second field.
        own_picture: bool,
    },
}

/// By codec.
pub(super) enum Entrance {
    H264(Box<H264>),
    H265(H265),
}

impl Entrance {
    pub(super) fn new(codec: Codec) -> Entrance {
        match codec {
            Codec::H265 => Entrance::H265(H265::default()),
            Codec::H264 | Codec::Jpeg => Entrance::H264(Box::default()),
        }
    }

    /// `shut`: nothing that has come out so far was right.
    pub(super) fn enter(&mut self, data: &[u8], shut: bool) -> Entry {
        match self {
            Entrance::H264(entrance) => entrance.enter(data),
            Entrance::H265(entrance) => entrance.enter(data, shut),
        }
    }

    /// The unit that came last begins a sequence that needs nothing of what was before.
    pub(super) fn is_clean(&self) -> bool {
        match self {
            Entrance::H264(entrance) => entrance.is_clean,
            Entrance::H265(entrance) => entrance.is_clean,
        }
    }

    /// Something is missing before the next unit.
    pub(super) fn lose(&mut self) {
        match self {
            Entrance::H264(entrance) => entrance.lose(),
            Entrance::H265(entrance) => entrance.waiting = true,
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        match self {
            Entrance::H264(entrance) => entrance.is_waiting(),
            Entrance::H265(entrance) => entrance.waiting,
        }
    }

    /// What the parameter sets of the present picture say; `None`: nothing is known.
    pub(super) fn colours(&self) -> Option<(Range, Matrix)> {
        match self {
            Entrance::H264(entrance) => entrance.sps.map(|sps| (sps.range, sps.matrix)),
            Entrance::H265(entrance) => entrance.sps.map(|sps| (sps.range, sps.matrix)),
        }
    }

    /// Whether there is a picture in a unit.
    pub(super) fn holds_picture(&self, data: &[u8]) -> bool {
        nal_units(data).any(|unit| match self {
            Entrance::H264(_) => matches!(h264_type(unit), 1 | 5),
            Entrance::H265(_) => h265_type(unit) <= 31,
        })
    }

    /// Whether a NAL unit matters to pictures after its own: parameter sets, and ends of sequences.
    pub(super) fn outlives_its_unit(&self, unit: &[u8]) -> bool {
        match self {
            Entrance::H264(_) => matches!(h264_type(unit), 7 | 8 | 10 | 11 | 13 | 15),
            Entrance::H265(_) => matches!(h265_type(unit), 32..=34 | 36 | 37),
        }
    }
}
