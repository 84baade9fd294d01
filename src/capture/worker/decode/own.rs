//! For tests: our own decoder as if it were not ours, which may do wrong.
#![allow(clippy::unwrap_used)]

use super::foreign::{Fault, Foreign, Take};
use super::{AccessUnit, Codec, Decoder, open};
use crate::capture::DecoderKind;
use crate::capture::worker::picture::Picture;
use crate::clock::Wall;
use crate::error::Kind;

/// `spoil` is given the luma and the tag of each picture.
pub(super) struct Own<F> {
    decoder: Box<dyn Decoder>,
    spoil: F,
    /// From this tag on it is lost.
    pub(super) lost_at: u64,
    pub(super) can_vanish: bool,
}

impl<F: FnMut(&mut Vec<u8>, &mut u64)> Own<F> {
    pub(super) fn new(codec: Codec, spoil: F) -> Own<F> {
        Own { decoder: open(codec), spoil, lost_at: u64::MAX, can_vanish: false }
    }

    fn pass_on(&mut self, unit: Option<(&[u8], u64)>, take: &mut Take<'_>) -> Result<(), Fault> {
        let Own { decoder, spoil, .. } = self;
        let mut output = |picture: &Picture<'_>, stamp: Wall| {
            let mut luma = picture.planes[0].data.to_vec();
            let mut tag = u64::try_from(stamp.micros()).unwrap();
            spoil(&mut luma, &mut tag);
            let mut spoilt = *picture;
            spoilt.planes[0].data = &luma;
            take(&spoilt, tag)
        };
        let decoded = match unit {
            Some((data, tag)) => {
                let stamp = Wall::from_micros(i64::try_from(tag).unwrap());
                decoder.decode(&AccessUnit { data, shown: true }, stamp, &mut output)
            }
            None => decoder.flush(&mut output),
        };
        decoded.map_err(|error| match error.kind() {
            Kind::Undecodable => Fault::Damaged(error.to_string()),
            _ => Fault::Output(error),
        })
    }
}

impl<F: FnMut(&mut Vec<u8>, &mut u64)> Foreign for Own<F> {
    fn kind(&self) -> DecoderKind {
        DecoderKind::Libavcodec
    }

    fn name(&self) -> &str {
        "own"
    }

    fn decode(&mut self, data: &[u8], tag: u64, take: &mut Take<'_>) -> Result<(), Fault> {
        if tag >= self.lost_at {
            return Err(Fault::Lost("unplugged".to_owned()));
        }
        self.pass_on(Some((data, tag)), take)
    }

    fn drain(&mut self, take: &mut Take<'_>) -> Result<(), Fault> {
        self.pass_on(None, take)
    }

    fn reset(&mut self) -> Result<(), Fault> {
        self.decoder.lost();
        Ok(())
    }

    fn can_vanish(&self) -> bool {
        self.can_vanish
    }
}
