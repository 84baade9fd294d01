//! Movie fragments (`moof`, ISO/IEC 14496-12 §8.8): each brings its own small sample table.

use super::boxes::{child, children};
use super::table::Sample;
use crate::capture::worker::file::number::{be32, be64};

/// Most samples of one fragment that are taken: 18 minutes at 60 fps. Writers make fragments of seconds.
const MAX_FRAGMENT_SAMPLES: usize = 65_536;

/// What a fragment may leave out: `trex` of the movie box.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Defaults {
    description: u32,
    duration: u32,
    size: u32,
}

impl Defaults {
    /// The `trex` of a track in `mvex`.
    pub(super) fn new(mvex: &[u8], track: u32) -> Defaults {
        let trex = children(mvex)
            .find(|(kind, payload)| kind == b"trex" && be32(payload, 4) == Some(track))
            .map(|(_, payload)| payload);
        let field = |at| trex.and_then(|trex| be32(trex, at)).unwrap_or(0);
        Defaults { description: field(8), duration: field(12), size: field(16) }
    }
}

/// Reads fields that are there only when a flag says so.
struct Fields<'a> {
    data: &'a [u8],
    at: usize,
}

impl Fields<'_> {
    fn optional(&mut self, present: bool) -> Option<Option<u32>> {
        if !present {
            return Some(None);
        }
        let value = be32(self.data, self.at)?;
        self.at += 4;
        Some(Some(value))
    }
}

/// The samples of one track in a fragment, in decoding order, appended to `samples`. `moof` is the payload of
/// the box that begins at byte `start` of the file; `time` the decoding time where the fragment does not say,
/// updated.
pub(super) fn read(
    moof: &[u8],
    start: u64,
    track: u32,
    defaults: Defaults,
    time: &mut i64,
    samples: &mut Vec<Sample>,
) {
    for (kind, traf) in children(moof) {
        if kind == *b"traf" {
            let _ = read_track(traf, start, track, defaults, time, samples);
        }
    }
}

/// `None`: damaged, or another track; what was read before stays.
fn read_track(
    traf: &[u8],
    start: u64,
    track: u32,
    defaults: Defaults,
    time: &mut i64,
    samples: &mut Vec<Sample>,
) -> Option<()> {
    let header = child(traf, b"tfhd")?;
    if be32(header, 4)? != track {
        return None;
    }
    let flags = be32(header, 0)?;
    let mut fields = Fields { data: header, at: 8 };
    let mut base = start;
    if flags & 1 != 0 {
        base = be64(header, 8)?;
        fields.at += 8;
    }
    let description = fields.optional(flags & 2 != 0)?.unwrap_or(defaults.description);
    let duration = fields.optional(flags & 8 != 0)?.unwrap_or(defaults.duration);
    let size = fields.optional(flags & 0x10 != 0)?.unwrap_or(defaults.size);
    let defaults = Defaults { description, duration, size };
    if let Some(decode_time) = child(traf, b"tfdt") {
        let decode_time = match decode_time.first()? {
            0 => u64::from(be32(decode_time, 4)?),
            _ => be64(decode_time, 4)?,
        };
        *time = i64::try_from(decode_time).ok()?;
    }
    let mut offset = base;
    for (kind, run) in children(traf) {
        if kind == *b"trun" {
            read_run(run, base, &mut offset, defaults, time, samples)?;
        }
    }
    Some(())
}

/// `trun`. `offset` is where the previous run ended.
fn read_run(
    run: &[u8],
    base: u64,
    offset: &mut u64,
    defaults: Defaults,
    time: &mut i64,
    samples: &mut Vec<Sample>,
) -> Option<()> {
    let flags = be32(run, 0)?;
    let count = be32(run, 4)?;
    let mut fields = Fields { data: run, at: 8 };
    if let Some(relative) = fields.optional(flags & 1 != 0)? {
        *offset = base.checked_add_signed(i64::from(relative.cast_signed()))?;
    }
    // What flags say of key frames is not asked: see `Sizes` of the sample table.
    fields.optional(flags & 4 != 0)?;
    for _ in 0..count {
        if samples.len() >= MAX_FRAGMENT_SAMPLES {
            return None;
        }
        let duration = fields.optional(flags & 0x100 != 0)?.unwrap_or(defaults.duration);
        let size = fields.optional(flags & 0x200 != 0)?.unwrap_or(defaults.size);
        fields.optional(flags & 0x400 != 0)?;
        let shift = fields.optional(flags & 0x800 != 0)?.unwrap_or(0).cast_signed();
        let presentation = time.saturating_add(i64::from(shift));
        samples.push(Sample { offset: *offset, size, presentation, description: defaults.description });
        *offset = offset.checked_add(u64::from(size))?;
        *time = time.saturating_add(i64::from(duration));
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed(kind: &[u8; 4], payload: &[u8]) -> Vec<u8> {
        let size = u32::try_from(payload.len() + 8).unwrap_or(u32::MAX);
        [&size.to_be_bytes()[..], kind, payload].concat()
    }

    fn numbers(values: &[u32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_be_bytes()).collect()
    }

    #[test]
    fn runs_follow_each_other_and_defaults_fill_in() {
        let header = boxed(b"tfhd", &numbers(&[0x2_000a, 7, 3, 100]));
        let time = boxed(b"tfdt", &numbers(&[0, 5000]));
        // Data offset, first sample's flags, sizes; then sizes alone.
        let first = boxed(b"trun", &numbers(&[0x205, 2, 64, 0, 11, 12]));
        let second = boxed(b"trun", &numbers(&[0x200, 1, 13]));
        let moof = boxed(b"traf", &[header, time, first, second].concat());
        let defaults = Defaults { description: 1, duration: 1, size: 2 };
        let mut samples = Vec::new();
        read(&moof, 1000, 7, defaults, &mut 0, &mut samples);
        let sample = |offset, size, presentation| Sample { offset, size, presentation, description: 3 };
        assert_eq!(samples, [sample(1064, 11, 5000), sample(1075, 12, 5100), sample(1087, 13, 5200)]);
        samples.clear();
        read(&moof, 1000, 8, defaults, &mut 0, &mut samples);
        assert!(samples.is_empty());
    }

    #[test]
    fn a_run_that_claims_millions_is_cut() {
        let header = boxed(b"tfhd", &numbers(&[0, 7]));
        let run = boxed(b"trun", &numbers(&[0, u32::MAX]));
        let moof = boxed(b"traf", &[header, run].concat());
        let mut samples = Vec::new();
        read(&moof, 0, 7, Defaults::default(), &mut 0, &mut samples);
        assert_eq!(samples.len(), MAX_FRAGMENT_SAMPLES);
    }
}
