//! Where a decoder that is not ours is let into a stream: the same rules as [`H264::enter`](super::H264),
//! without a decoder behind them.

use super::sets::Sets;
use super::slice::SliceHeader;
use super::{
    PICTURE_PARAMETERS, Progress, REFRESH_PICTURES, SEQUENCE_PARAMETERS, SLICE, SLICE_OF_KEY_FRAME, Sps,
    Target,
};
use crate::capture::worker::decode::annexb::{h264_type, nal_units};
use crate::capture::worker::decode::entry::Entry;
use crate::capture::worker::decode::random_access::{self, RandomAccess};

/// What is known of an H.264 stream before a decoder that is not ours is let in.
pub(in crate::capture::worker::decode) struct Entrance {
    sets: Sets,
    /// Of the present picture.
    pub(in crate::capture::worker::decode) sps: Option<Sps>,
    progress: Progress,
    /// The stream has said where decoding may begin: it will again.
    marked: bool,
    pub(in crate::capture::worker::decode) is_clean: bool,
    /// `frame_num` of a field whose other field may come in the next unit.
    open_field: Option<u32>,
}

impl Default for Entrance {
    fn default() -> Self {
        Entrance {
            sets: Sets::default(),
            sps: None,
            progress: Progress::Waiting,
            marked: false,
            is_clean: false,
            open_field: None,
        }
    }
}

impl Entrance {
    pub(in crate::capture::worker::decode) fn lose(&mut self) {
        (self.progress, self.open_field) = (Progress::Waiting, None);
    }

    pub(in crate::capture::worker::decode) fn is_waiting(&self) -> bool {
        self.progress == Progress::Waiting
    }

    pub(in crate::capture::worker::decode) fn enter(&mut self, data: &[u8]) -> Entry {
        self.is_clean = false;
        let (mut first, mut is_key, mut fields) = (None, false, 0);
        for unit in nal_units(data) {
            match h264_type(unit) {
                SEQUENCE_PARAMETERS => _ = self.sets.take_sequence(unit),
                PICTURE_PARAMETERS => _ = self.sets.take_picture(unit),
                kind @ (SLICE | SLICE_OF_KEY_FRAME) => {
                    is_key |= kind == SLICE_OF_KEY_FRAME;
                    // The first slice of a field, and of the next one in the same unit.
                    fields += u32::from(unit.get(1).is_some_and(|byte| byte & 0x80 != 0));
                    first = first.or(Some(unit));
                }
                _ => {}
            }
        }
        let Some(first) = first else { return Entry::Sets };
        let header = SliceHeader::parse(first, |pps| self.sets.of(pps));
        if let Some((sps, _)) = header.and_then(|header| self.sets.of(header.pps)) {
            self.sps = Some(sps);
        }
        let other_field = self.open_field.take();
        let is_field = header.is_some_and(|header| header.field) && fields == 1;
        let own_picture =
            !is_field || other_field.is_none() || header.map(|header| header.frame_num) != other_field;
        if is_field && own_picture {
            self.open_field = header.map(|header| header.frame_num);
        }
        let go_on = Entry::Decode { begins: None, recovers: false, own_picture };
        if self.progress == Progress::Steady && (!is_key || !own_picture) {
            return go_on;
        }
        let access = random_access::h264(nal_units(data));
        self.marked |= access.is_some();
        if access == Some(RandomAccess::Clean) {
            if self.sets.is_empty() {
                return Entry::Pass;
            }
            let before = std::mem::replace(&mut self.progress, Progress::Steady);
            self.is_clean = true;
            return match before {
                Progress::Steady => go_on,
                _ => Entry::Decode { begins: Some(true), recovers: false, own_picture: true },
            };
        }
        // Without its parameter sets nothing can be made of a picture.
        let (Some(header), Some(sps)) = (header, self.sps) else { return Entry::Pass };
        let said = match access {
            Some(RandomAccess::Gradual(further)) => Some(further.unsigned_abs()),
            Some(_) => Some(0),
            None => None,
        };
        let (target, begins) = match self.progress {
            Progress::Recovering(target) => (target.step(&header, &sps, said), None),
            _ if said.is_none() && self.marked => return Entry::Pass,
            _ => {
                let target = said.map_or(Target::Pictures(REFRESH_PICTURES), |further| Target::FrameNum {
                    present: header.frame_num,
                    further,
                });
                (target, Some(false))
            }
        };
        let recovers = match target {
            Target::FrameNum { further, .. } => {
                further == 0 && (header.reference || access == Some(RandomAccess::Open))
            }
            Target::Pictures(left) => left == 0,
        };
        self.progress = if recovers { Progress::Steady } else { Progress::Recovering(target) };
        Entry::Decode { begins, recovers, own_picture }
    }
}
