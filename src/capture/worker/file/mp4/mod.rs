//! MP4 and MOV (ISO/IEC 14496-12), whole and fragmented. Samples are read one at a time where they lie; only the movie box is in memory.
//!
//! Written for this project because the readers that exist load every sample table and loop for ever on some damaged files.

mod boxes;
mod codec;
mod fragment;
mod table;

pub(super) use codec::NalFormat;

use super::{Medium, Rate, stream_facts};
use crate::capture::worker::decode::AccessUnit;
use crate::capture::worker::source::{Grab, Source};
use crate::command::SourceProperties;
use crate::error::{Error, Kind, Result};
use boxes::{box_size, child, children, descend, u32_at, u64_at};
use codec::SampleFormat;
use fragment::Defaults;
use std::collections::VecDeque;
use table::{Sample, SampleCursor, SampleTable};

/// Largest movie box that is taken: the tables of a day at 60 fps (16 bytes a sample) need 83 MB.
const MAX_MOVIE_BYTES: u64 = 96 * 1024 * 1024;

/// Largest fragment box that is taken: 65 536 samples with all their fields need 1 MiB.
const MAX_FRAGMENT_BYTES: u64 = 4 * 1024 * 1024;

/// Most boxes at the top of a file that are passed: a day in fragments of half a second has 345 600 (`moof` and `mdat`).
const MAX_TOP_BOXES: usize = 1_000_000;

/// Most parts of an edit list that are looked at. Cameras and editors write one or two.
const MAX_EDITS: usize = 64;

/// An open MP4 or MOV file.
pub(super) struct Mp4 {
    medium: Medium,
    movie: Vec<u8>,
    track: Track,
    properties: SourceProperties,
    cursor: SampleCursor,
    fragments: Fragments,
    /// A sample as it lies in the file.
    raw: Vec<u8>,
    /// The same as Annex B.
    packet: Vec<u8>,
}

/// What the movie box says about the track that is shown.
struct Track {
    id: u32,
    format: SampleFormat,
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
        let (track, timescale) = find_track(&movie)?;
        let (mut ticks, mut timed) = track.table.duration(&movie);
        let mut frames = u64::try_from(track.table.samples()).unwrap_or(u64::MAX);
        let mut fragments = Fragments::default();
        if child(&movie, b"mvex").is_some() {
            let mut found = Vec::new();
            while next_fragment(&medium, &track, &mut fragments, &mut found)? {
                frames += u64::try_from(found.len()).unwrap_or(0);
                found.clear();
            }
            // `time` is now the end of the last sample.
            (ticks, timed) = (u64::try_from(fragments.time).unwrap_or(0), frames);
        }
        let fps = if ticks == 0 { 0.0 } else { timed as f64 * f64::from(timescale) / ticks as f64 };
        let sets = track.format.nal.as_ref().map_or(&[][..], |nal| &nal.parameter_sets);
        let declared = (u32::from(track.format.width), u32::from(track.format.height));
        let (width, height) = stream_facts(track.format.codec, sets).map_or(declared, |facts| (facts.width, facts.height));
        let properties = medium.properties(width, height, Some(frames), Rate(fps));
        Ok(Mp4 {
            medium,
            movie,
            track,
            properties,
            cursor: SampleCursor::default(),
            fragments: Fragments::default(),
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

    fn grab(&mut self) -> Result<Grab<'_>> {
        let Some(sample) = self.next_sample()? else { return Ok(Grab::End) };
        if !self.medium.read_packet(sample.offset, u64::from(sample.size), &mut self.raw)? {
            return Ok(Grab::End);
        }
        let format = &self.track.format;
        let data = match &format.nal {
            None => &self.raw,
            Some(nal) => {
                self.packet.clear();
                if sample.key {
                    self.packet.extend(&nal.parameter_sets);
                }
                nal.to_annex_b(&self.raw, &mut self.packet);
                &self.packet
            }
        };
        let edits = &self.track.edits;
        let shown = edits.is_empty() || edits.iter().any(|&(start, end)| (start..end).contains(&sample.presentation));
        Ok(Grab::Packet(format.codec, AccessUnit { data, key: sample.key, shown }))
    }

    fn restart(&mut self) -> Result<()> {
        self.cursor = SampleCursor::default();
        self.fragments = Fragments::default();
        Ok(())
    }
}

/// Kind, offset, header bytes and total bytes of the box at `at`; `None` at the end of the file and where it is damaged.
fn top_box(medium: &Medium, at: u64) -> Result<Option<(boxes::BoxKind, u64, u64)>> {
    let mut header = [0; 16];
    let got = medium.read_at(at, &mut header)?;
    let header = header.get(..got).unwrap_or_default();
    let remaining = medium.bytes().saturating_sub(at);
    let kind = header.get(4..).and_then(|rest| rest.first_chunk().copied());
    Ok(kind.and_then(|kind| box_size(header, remaining).map(|(header_bytes, total)| (kind, header_bytes, total))))
}

/// The payload of the movie box.
fn read_movie(medium: &Medium) -> Result<Vec<u8>> {
    let mut at = 0;
    for _ in 0..MAX_TOP_BOXES {
        let Some((kind, header_bytes, total)) = top_box(medium, at)? else { break };
        if kind == *b"moov" {
            let length = total - header_bytes;
            if length > MAX_MOVIE_BYTES {
                return Err(Error::new(Kind::SourceUnsupported, "the tables of the MP4 file are larger than 96 MiB"));
            }
            let mut movie = Vec::new();
            if medium.read(at + header_bytes, length, &mut movie)? {
                return Ok(movie);
            }
            break;
        }
        let Some(next) = at.checked_add(total) else { break };
        at = next;
    }
    Err(Error::new(Kind::SourceConnection, "the MP4 file has no movie box: it was cut short or is still being written"))
}

/// The first video track that can be decoded, and its time scale.
fn find_track(movie: &[u8]) -> Result<(Track, u32)> {
    let mut missing = None;
    for (_, trak) in children(movie).filter(|(kind, _)| kind == b"trak") {
        if !descend(trak, &[b"mdia", b"hdlr"]).is_some_and(codec::is_video) {
            continue;
        }
        let Some(stbl) = descend(trak, &[b"mdia", b"minf", b"stbl"]) else { continue };
        match codec::sample_format(child(stbl, b"stsd").unwrap_or_default()) {
            Ok(format) => {
                if let Some(degrees) = turned(trak) {
                    let message = format!("the MP4 file wants its picture turned by {degrees} degrees, which is not supported");
                    return Err(Error::new(Kind::SourceUnsupported, message));
                }
                let damaged = || Error::new(Kind::SourceConnection, "the tables of the MP4 file are damaged");
                return track(movie, trak, stbl, format).ok_or_else(damaged);
            }
            Err(letters) => missing = missing.or(Some(letters)),
        }
    }
    Err(match missing {
        Some(letters) => super::codec_missing(codec::codec_name(&letters)),
        None => Error::new(Kind::SourceUnsupported, "the MP4 file holds no video"),
    })
}

fn track(movie: &[u8], trak: &[u8], stbl: &[u8], format: SampleFormat) -> Option<(Track, u32)> {
    let header = child(trak, b"tkhd")?;
    let id = u32_at(header, if header.first() == Some(&1) { 20 } else { 12 })?;
    let timescale = timescale(descend(trak, &[b"mdia", b"mdhd"])?)?;
    let defaults = child(movie, b"mvex").map_or_else(Defaults::default, |mvex| Defaults::new(mvex, id));
    let movie_scale = child(movie, b"mvhd").and_then(self::timescale).unwrap_or(timescale);
    let edits = descend(trak, &[b"edts", b"elst"]).map(|elst| edits(elst, movie_scale, timescale)).unwrap_or_default();
    let table = SampleTable::new(movie, stbl)?;
    Some((Track { id, format, table, defaults, edits }, timescale))
}

/// By how many degrees, clockwise, the matrix of the track header turns the picture (ISO/IEC 14496-12 §8.3.2); `None`: not at
/// all. Telephones write this. Shown as it lies in the file, such a picture would give boxes that nobody expects.
fn turned(trak: &[u8]) -> Option<u32> {
    const MATRIX: usize = 40;
    let header = child(trak, b"tkhd")?;
    // Dates and duration are longer in version 1.
    let at = MATRIX + if header.first() == Some(&1) { 12 } else { 0 };
    // Of the matrix a b u c d v x y w.
    let sign = |place: usize| Some(u32_at(header, at + place * 4)?.cast_signed().signum());
    match (sign(0)?, sign(1)?, sign(3)?, sign(4)?) {
        (0, 1, -1, 0) => Some(90),
        (-1, 0, 0, -1) => Some(180),
        (0, -1, 1, 0) => Some(270),
        _ => None,
    }
}

/// Time scale of `mdhd` or `mvhd`: they begin alike. Ticks per second.
fn timescale(header: &[u8]) -> Option<u32> {
    u32_at(header, if header.first() == Some(&1) { 20 } else { 12 }).filter(|&scale| scale > 0)
}

/// The parts of `elst` that show something, in the track's time scale.
fn edits(elst: &[u8], movie_scale: u32, timescale: u32) -> Vec<(i64, i64)> {
    let long = elst.first() == Some(&1);
    let count = u32_at(elst, 4).unwrap_or(0);
    let entry = |number: usize| {
        let (duration, start) = if long {
            (u64_at(elst, 8 + number * 20)?, u64_at(elst, 16 + number * 20)?.cast_signed())
        } else {
            (u64::from(u32_at(elst, 8 + number * 12)?), i64::from(u32_at(elst, 12 + number * 12)?.cast_signed()))
        };
        Some((duration, start))
    };
    let mut parts = Vec::new();
    for (duration, start) in (0..MAX_EDITS.min(usize::try_from(count).unwrap_or(MAX_EDITS))).map_while(entry) {
        // A start of -1 is an empty part: it delays, and shows nothing.
        if start < 0 {
            continue;
        }
        // The movie's ticks are coarser than the track's: one more of them, so that no last frame is lost to rounding.
        let ticks = (u128::from(duration) + 1) * u128::from(timescale) / u128::from(movie_scale);
        let end = if duration == 0 { i64::MAX } else { start.saturating_add(i64::try_from(ticks).unwrap_or(i64::MAX)) };
        parts.push((start, end));
    }
    parts
}

/// The samples of the next fragment, appended to `found`. False at the end of the file.
fn next_fragment(medium: &Medium, track: &Track, fragments: &mut Fragments, found: &mut Vec<Sample>) -> Result<bool> {
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
