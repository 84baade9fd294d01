//! Where a decoder that is not ours is let into a stream: the same rules as [`H265::enter`](super::H265),
//! without a decoder behind them.

use super::{BEGINS, PICTURES, SEQUENCE_BEGINS, SEQUENCE_ENDS, SEQUENCE_PARAMETERS, SKIPPED_LEADING, Sps};
use crate::capture::worker::decode::annexb::{h265_type, nal_units};
use crate::capture::worker::decode::entry::Entry;
use crate::capture::worker::decode::random_access::{self, RandomAccess};

/// What is known of an H.265 stream before a decoder that is not ours is let in.
pub(in crate::capture::worker::decode) struct Entrance {
    pub(in crate::capture::worker::decode) sps: Option<Sps>,
    pub(in crate::capture::worker::decode) waiting: bool,
    pub(in crate::capture::worker::decode) is_clean: bool,
    /// Pictures until all is right, where decoding began at a recovery point.
    left: Option<i32>,
    /// The sequence is over: clean random access begins one.
    ended: bool,
    /// Leading pictures of the random access point that decoding began at are left out.
    skips_leading: bool,
}

impl Default for Entrance {
    fn default() -> Self {
        Entrance { sps: None, waiting: true, is_clean: false, left: None, ended: false, skips_leading: false }
    }
}

impl Entrance {
    pub(in crate::capture::worker::decode) fn enter(&mut self, data: &[u8], shut: bool) -> Entry {
        self.is_clean = false;
        let (mut kind, mut ends) = (None, false);
        for unit in nal_units(data) {
            let unit_type = h265_type(unit);
            if unit_type == SEQUENCE_PARAMETERS {
                self.sps = Sps::parse(unit).or(self.sps);
            }
            ends |= SEQUENCE_ENDS.contains(&unit_type);
            if PICTURES.contains(&unit_type) {
                kind = kind.or(Some(unit_type));
            }
        }
        let Some(kind) = kind else {
            self.ended |= ends;
            return Entry::Sets;
        };
        let has_ended = std::mem::replace(&mut self.ended, ends);
        let decode = |begins, recovers| Entry::Decode { begins, recovers, own_picture: true };
        if BEGINS.contains(&kind) {
            let anew = self.waiting || shut;
            self.skips_leading = anew || has_ended || SEQUENCE_BEGINS.contains(&kind);
            self.is_clean = self.skips_leading;
            (self.waiting, self.left) = (false, None);
            return decode(anew.then_some(true), false);
        }
        if self.waiting {
            let Some(RandomAccess::Gradual(further)) = random_access::h265(nal_units(data)) else {
                return Entry::Pass;
            };
            self.waiting = false;
            // Order counts go up by one a picture; in decoding order as many pictures are enough.
            self.left = Some(further.max(0));
            return decode(Some(false), self.recovers());
        }
        if self.skips_leading && SKIPPED_LEADING.contains(&kind) {
            return Entry::Pass;
        }
        decode(None, self.recovers())
    }

    /// Counts a picture; whether it is the first that is right.
    fn recovers(&mut self) -> bool {
        let Some(left) = self.left else { return false };
        self.left = left.checked_sub(1).filter(|_| left > 0);
        left == 0
    }
}
