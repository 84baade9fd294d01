//! Where a decoder that is not ours is let in, and what it is spared. The rules are those of our own
//! decoders ([`random_access()`](super::random_access())).

use super::Codec;
use super::annexb::{h264_type, h265_type, nal_units};
use super::entry::Entry;
use super::h264::Entrance as H264;
use super::h265::Entrance as H265;
use super::random_access::random_access;
use crate::capture::worker::picture::{Matrix, Range};

/// Where a decoder that is not ours is let into a stream, by codec.
pub(super) enum Entrance {
    H264(Box<H264>),
    H265(H265),
    /// What begins at its key frames and nowhere else.
    Other {
        codec: Codec,
        waiting: bool,
        is_clean: bool,
    },
}

impl Entrance {
    pub(super) fn new(codec: Codec) -> Entrance {
        match codec {
            Codec::H265 => Entrance::H265(H265::default()),
            Codec::H264 => Entrance::H264(Box::default()),
            codec => Entrance::Other { codec, waiting: true, is_clean: false },
        }
    }

    /// `shut`: nothing that has come out so far was right.
    pub(super) fn enter(&mut self, data: &[u8], shut: bool) -> Entry {
        match self {
            Entrance::H264(entrance) => entrance.enter(data),
            Entrance::H265(entrance) => entrance.enter(data, shut),
            Entrance::Other { codec, waiting, is_clean } => {
                *is_clean = random_access(*codec, data).is_some();
                if *waiting && !*is_clean {
                    return Entry::Pass;
                }
                let begins = std::mem::take(waiting).then_some(true);
                Entry::Decode { begins, recovers: false, own_picture: true }
            }
        }
    }

    /// The unit that came last begins a sequence that needs nothing of what was before.
    pub(super) fn is_clean(&self) -> bool {
        match self {
            Entrance::H264(entrance) => entrance.is_clean,
            Entrance::H265(entrance) => entrance.is_clean,
            Entrance::Other { is_clean, .. } => *is_clean,
        }
    }

    /// Something is missing before the next unit.
    pub(super) fn lose(&mut self) {
        match self {
            Entrance::H264(entrance) => entrance.lose(),
            Entrance::H265(entrance) => entrance.waiting = true,
            Entrance::Other { waiting, .. } => *waiting = true,
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        match self {
            Entrance::H264(entrance) => entrance.is_waiting(),
            Entrance::H265(entrance) => entrance.waiting,
            Entrance::Other { waiting, .. } => *waiting,
        }
    }

    /// What the parameter sets of the present picture say; `None`: nothing is known.
    pub(super) fn colours(&self) -> Option<(Range, Matrix)> {
        match self {
            Entrance::H264(entrance) => entrance.sps.map(|sps| (sps.range, sps.matrix)),
            Entrance::H265(entrance) => entrance.sps.map(|sps| (sps.range, sps.matrix)),
            Entrance::Other { .. } => None,
        }
    }

    /// Whether there is a picture in a unit.
    pub(super) fn holds_picture(&self, data: &[u8]) -> bool {
        match self {
            Entrance::H264(_) => nal_units(data).any(|unit| matches!(h264_type(unit), 1 | 5)),
            Entrance::H265(_) => nal_units(data).any(|unit| h265_type(unit) <= 31),
            Entrance::Other { .. } => true,
        }
    }

    /// Whether a NAL unit matters to pictures after its own: parameter sets, and ends of sequences.
    pub(super) fn outlives_its_unit(&self, unit: &[u8]) -> bool {
        match self {
            Entrance::H264(_) => matches!(h264_type(unit), 7 | 8 | 10 | 11 | 13 | 15),
            Entrance::H265(_) => matches!(h265_type(unit), 32..=34 | 36 | 37),
            Entrance::Other { .. } => false,
        }
    }
}
