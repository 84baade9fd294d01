//! MP4 and MOV (ISO/IEC 14496-12), whole and fragmented. Samples are read one at a time where they lie; only
//! the movie box is in memory.
//!
//! Written for this project because the readers that exist load every sample table and loop for ever on some
//! damaged files.

mod boxes;
mod choose;
mod codec;
mod fragment;
mod table;

use super::number::{be32, be64};
use super::{Medium, Rate, packing_missing, stream_facts};
use crate::capture::worker::decode::{AccessUnit, Codec};
use crate::capture::worker::rotation::Rotation;
use crate::capture::worker::source::{Grab, Source};
use crate::command::SourceProperties;
use crate::error::{Error, Kind, Result};
use boxes::{box_size, child};
use codec::SampleFormat;
use fragment::Defaults;
use std::collections::VecDeque;
use table::{Sample, SampleCursor, SampleTable};

/// Largest movie box that is taken: the tables of a day at 60 fps (16 bytes a sample) need 83 MB.
const MAX_MOVIE_BYTES: u64 = 96 * 1024 * 1024;

/// Largest fragment box that is taken: 65 536 samples with all their fields need 1 MiB.
const MAX_FRAGMENT_BYTES: u64 = 4 * 1024 * 1024;

/// Most boxes at the top of a file that are passed: a day in fragments of half a second has 345 600 (`moof`
/// and `mdat`).
const MAX_TOP_BOXES: usize = 1_000_000;

/// Most parts of an edit list that are looked at. Cameras and editors write one or two.
const MAX_EDITS: usize = 64;

/// Most samples in a row that are passed because there is nothing in them, or nothing that can be decoded.
const MAX_PASSED_SAMPLES: usize = 1_000_000;

/// An open MP4 or MOV file.
pub(super) struct Mp4 {
    medium: Medium,
    movie: Vec<u8>,
    track: Track,
    properties: SourceProperties,
    cursor: SampleCursor,
    fragments: Fragments,
    /// The description of the sample before.
    description: Option<u32>,
    /// A sample as it lies in the file.
    raw: Vec<u8>,
    /// The same as Annex B.
    packet: Vec<u8>,
}

/// What the movie box says about the track that is shown.
struct Track {
    id: u32,
    /// Which the samples name by number.
    formats: Vec<Result<SampleFormat>>,
    rotation: Rotation,
    /// Ticks of the track's times per second.
    timescale: u32,
    table: SampleTable,
    defaults: Defaults,
    /// Parts of the presentation that are shown, `start..end` in the track's time scale; empty: all.
    edits: Vec<(i64, i64)>,
}

/// Where reading has come to in a fragmented file.
#[derive(Debug, Default)]
struct Fragments {
    /// Byte offset of the next box at the top of the file.
    next: u64,
    /// Decoding time where a fragment does not say.
    time: i64,
    samples: VecDeque<Sample>,
}

impl Mp4 {
    /// Reads the movie box and, of a fragmented file, what its fragments hold.
    pub(super) fn open(medium: Medium) -> Result<Mp4> {
        let movie = read_movie(&medium)?;
        let found = choose::track(&medium, &movie)?;
        let (track, frames) = (found.track, found.frames);
        let (mut ticks, mut timed) = track.table.duration(&movie);
        if let Some(end) = found.fragments_end {
            (ticks, timed) = (u64::try_from(end).unwrap_or(0), frames);
        }
        let fps = if ticks == 0 { 0.0 } else { timed as f64 * f64::from(track.timescale) / ticks as f64 };
        let format = track.formats.iter().find_map(|format| format.as_ref().ok());
        let facts =
            format.and_then(|format| stream_facts(format.codec, &format.nal.as_ref()?.parameter_sets));
        let declared = format.map_or((0, 0), |format| (u32::from(format.width), u32::from(format.height)));
        let (width, height) = facts.map_or(declared, |facts| (facts.width, facts.height));
        let properties = medium.properties(width, height, frames, Rate(fps));
        Ok(Mp4 {
            medium,
            movie,
            track,
            properties,
            cursor: SampleCursor::default(),
            fragments: Fragments::default(),
            description: None,
            raw: Vec::new(),
            packet: Vec::new(),
        })
    }

    fn next_sample(&mut self) -> Result<Option<Sample>> {
        if let Some(sample) = self.cursor.next(&self.movie, &self.track.table) {
            return Ok(Some(sample));
        }
        loop {
            if let Some(sample) = self.fragments.samples.pop_front() {
                return Ok(Some(sample));
            }
            let mut found = Vec::new();
            if !next_fragment(&self.medium, &self.track, &mut self.fragments, &mut found)? {
                return Ok(None);
            }
            self.fragments.samples = found.into();
        }
    }
}

impl Source for Mp4 {
    fn properties(&self) -> SourceProperties {
        self.properties
    }

    fn codec(&self) -> Option<Codec> {
        self.track.formats.iter().find_map(|format| Some(format.as_ref().ok()?.codec))
    }

    fn rotation(&self) -> Option<Rotation> {
        // A matrix always stands there: one that turns nothing is as if nothing had been said.
        Some(self.track.rotation).filter(|rotation| *rotation != Rotation::None)
    }

    fn grab(&mut self) -> Result<Grab<'_>> {
        for _ in 0..MAX_PASSED_SAMPLES {
            let Some(sample) = self.next_sample()? else { break };
            // Numbers count from 1; a writer that leaves out the default means the first.
            let index = usize::try_from(sample.description.max(1) - 1).unwrap_or(usize::MAX);
            let Some(Ok(format)) = self.track.formats.get(index) else { continue };
            if sample.size == 0 {
                continue;
            }
            if !self.medium.read_packet(sample.offset, u64::from(sample.size), &mut self.raw)? {
                break;
            }
            let leads = self.description.replace(sample.description) != Some(sample.description);
            let data = match &format.nal {
                None => &self.raw,
                Some(nal) => {
                    nal.unpack(format.codec, &self.raw, leads, &mut self.packet);
                    &self.packet
                }
            };
            let edits = &self.track.edits;
            let shown = edits.is_empty()
                || edits.iter().any(|&(start, end)| (start..end).contains(&sample.presentation));
            return Ok(Grab::Packet(format.codec, AccessUnit { data, shown }));
        }
        Ok(Grab::End)
    }

    fn restart(&mut self) -> Result<()> {
        self.cursor = SampleCursor::default();
        self.fragments = Fragments::default();
        self.description = None;
        Ok(())
    }
}

/// Kind, offset, header bytes and total bytes of the box at `at`; `None` at the end of the file and where it
/// is damaged.
fn top_box(medium: &Medium, at: u64) -> Result<Option<(boxes::BoxKind, u64, u64)>> {
    let mut header = [0; 16];
    let got = medium.read_at(at, &mut header)?;
    let header = header.get(..got).unwrap_or_default();
    let remaining = medium.bytes().saturating_sub(at);
    let kind = header.get(4..).and_then(|rest| rest.first_chunk().copied());
    Ok(kind.and_then(|kind| {
        box_size(header, remaining).map(|(header_bytes, total)| (kind, header_bytes, total))
    }))
}

/// The payload of the movie box.
fn read_movie(medium: &Medium) -> Result<Vec<u8>> {
    let mut at = 0;
    for _ in 0..MAX_TOP_BOXES {
        let Some((kind, header_bytes, total)) = top_box(medium, at)? else { break };
        if kind == *b"moov" {
            let length = total - header_bytes;
            if length > MAX_MOVIE_BYTES {
                return Err(Error::new(
                    Kind::SourceUnsupported,
                    "the tables of the MP4 file are larger than 96 MiB",
                ));
            }
            let mut movie = Vec::new();
            if !medium.read(at + header_bytes, length, &mut movie)? {
                break;
            }
            if child(&movie, b"cmov").is_some() {
                return Err(packing_missing("QuickTime's compressed movie box"));
            }
            return Ok(movie);
        }
        let Some(next) = at.checked_add(total) else { break };
        at = next;
    }
    Err(Error::new(
        Kind::SourceConnection,
        "the MP4 file has no movie box: it was cut short or is still being written",
    ))
}

/// The parts of `elst` that show something, in the track's time scale.
fn edits(elst: &[u8], movie_scale: u32, timescale: u32) -> Vec<(i64, i64)> {
    let long = elst.first() == Some(&1);
    let count = be32(elst, 4).unwrap_or(0);
    let entry = |number: usize| {
        let (duration, start) = if long {
            (be64(elst, 8 + number * 20)?, be64(elst, 16 + number * 20)?.cast_signed())
        } else {
            (u64::from(be32(elst, 8 + number * 12)?), i64::from(be32(elst, 12 + number * 12)?.cast_signed()))
        };
        Some((duration, start))
    };
    let mut parts = Vec::new();
    for (duration, start) in (0..MAX_EDITS.min(usize::try_from(count).unwrap_or(MAX_EDITS))).map_while(entry)
    {
        // A start of -1 is an empty part: it delays, and shows nothing.
        if start < 0 {
            continue;
        }
        // The movie's ticks are coarser than the track's: one more of them, so that no last frame is lost to
        // rounding.
        let ticks = (u128::from(duration) + 1) * u128::from(timescale) / u128::from(movie_scale);
        let end = if duration == 0 {
            i64::MAX
        } else {
            start.saturating_add(i64::try_from(ticks).unwrap_or(i64::MAX))
        };
        parts.push((start, end));
    }
    parts
}

/// The samples of the next fragment, appended to `found`. False at the end of the file.
fn next_fragment(
    medium: &Medium,
    track: &Track,
    fragments: &mut Fragments,
    found: &mut Vec<Sample>,
) -> Result<bool> {
    for _ in 0..MAX_TOP_BOXES {
        let start = fragments.next;
        let Some((kind, header_bytes, total)) = top_box(medium, start)? else { return Ok(false) };
        let Some(next) = start.checked_add(total) else { return Ok(false) };
        fragments.next = next;
        if kind == *b"moof" {
            let length = total - header_bytes;
            let mut moof = Vec::new();
            if length > MAX_FRAGMENT_BYTES || !medium.read(start + header_bytes, length, &mut moof)? {
                return Ok(false);
            }
            fragment::read(&moof, start, track.id, track.defaults, &mut fragments.time, found);
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests;
