//! Which of the tracks of a movie is shown.

use super::boxes::{child, children, descend};
use super::codec::{self, SampleFormat};
use super::fragment::Defaults;
use super::table::SampleTable;
use super::{Fragments, Medium, Track, edits, next_fragment};
use crate::capture::worker::file::fourcc;
use crate::capture::worker::file::number::be32;
use crate::capture::worker::rotation::Rotation;
use crate::error::{Error, Kind, Result};

/// A track that was chosen, and what was counted on the way.
pub(super) struct Chosen {
    pub(super) track: Track,
    /// Samples in the movie box and in the fragments.
    pub(super) frames: u64,
    /// Of a fragmented file: where the last sample ends, in the track's time scale.
    pub(super) fragments_end: Option<i64>,
}

/// A track that could be shown.
struct Candidate {
    track: Track,
    /// Its pictures stand for chapters of another track.
    is_chapters: bool,
    is_enabled: bool,
}

/// The video track that people mean: of those that can be decoded the first that is switched on, holds more
/// than one picture (a cover holds one, a track that was set up and never written none) and is no other
/// track's list of chapters.
pub(super) fn track(medium: &Medium, movie: &[u8]) -> Result<Chosen> {
    let mut problem = None;
    let chapters: Vec<u32> =
        tracks(movie).filter_map(|trak| descend(trak, &[b"tref", b"chap"])).flat_map(numbers).collect();
    let mut best: Option<((bool, bool, bool, bool), Chosen)> = None;
    for trak in tracks(movie) {
        if !descend(trak, &[b"mdia", b"hdlr"]).is_some_and(codec::is_video) {
            continue;
        }
        let candidate = match candidate(movie, trak, &chapters) {
            Ok(candidate) => candidate,
            Err(error) => {
                problem.get_or_insert(error);
                continue;
            }
        };
        let Candidate { is_chapters, is_enabled, .. } = candidate;
        let chosen = count(medium, movie, candidate.track)?;
        let rank = (chosen.frames > 0, !is_chapters, chosen.frames > 1, is_enabled);
        if best.as_ref().is_none_or(|(before, _)| rank > *before) {
            best = Some((rank, chosen));
        }
    }
    match (best, problem) {
        // A track that is empty is no better than one that cannot be decoded, and says less.
        (Some((_, chosen)), None) => Ok(chosen),
        (Some((rank, chosen)), Some(_)) if rank.0 => Ok(chosen),
        (_, Some(problem)) => Err(problem),
        (None, None) => Err(Error::new(Kind::SourceUnsupported, "the MP4 file holds no video")),
    }
}

fn tracks(movie: &[u8]) -> impl Iterator<Item = &[u8]> {
    children(movie).filter(|(kind, _)| kind == b"trak").map(|(_, trak)| trak)
}

fn numbers(data: &[u8]) -> impl Iterator<Item = u32> {
    data.as_chunks::<4>().0.iter().map(|bytes| u32::from_be_bytes(*bytes))
}

/// Counts samples, also those of the fragments.
fn count(medium: &Medium, movie: &[u8], track: Track) -> Result<Chosen> {
    let mut frames = u64::try_from(track.table.samples()).unwrap_or(u64::MAX);
    let mut fragments_end = None;
    if child(movie, b"mvex").is_some() {
        let (mut fragments, mut found) = (Fragments::default(), Vec::new());
        while next_fragment(medium, &track, &mut fragments, &mut found)? {
            frames = frames.saturating_add(found.len() as u64);
            found.clear();
        }
        fragments_end = Some(fragments.time);
    }
    Ok(Chosen { track, frames, fragments_end })
}

fn candidate(movie: &[u8], trak: &[u8], chapters: &[u32]) -> Result<Candidate> {
    const ENABLED: u32 = 1;
    let damaged = || Error::new(Kind::SourceConnection, "the tables of the MP4 file are damaged");
    let stbl = descend(trak, &[b"mdia", b"minf", b"stbl"]).ok_or_else(damaged)?;
    let formats = codec::sample_formats(child(stbl, b"stsd").unwrap_or_default());
    if formats.iter().all(Result::is_err) {
        // The first says what people would look for.
        let first = formats.into_iter().find_map(Result::err);
        return Err(first.unwrap_or_else(|| fourcc::missing("without a name")));
    }
    let header = child(trak, b"tkhd").ok_or_else(damaged)?;
    let is_enabled = be32(header, 0).is_some_and(|flags| flags & ENABLED != 0);
    let track = track_of(movie, trak, stbl, formats, header).ok_or_else(damaged)?;
    Ok(Candidate { is_chapters: chapters.contains(&track.id), is_enabled, track })
}

fn track_of(
    movie: &[u8],
    trak: &[u8],
    stbl: &[u8],
    formats: Vec<Result<SampleFormat>>,
    header: &[u8],
) -> Option<Track> {
    let id = be32(header, if header.first() == Some(&1) { 20 } else { 12 })?;
    let timescale = timescale(descend(trak, &[b"mdia", b"mdhd"])?)?;
    let defaults = child(movie, b"mvex").map_or_else(Defaults::default, |mvex| Defaults::new(mvex, id));
    let movie_header = child(movie, b"mvhd");
    let movie_scale = movie_header.and_then(self::timescale).unwrap_or(timescale);
    let edits = descend(trak, &[b"edts", b"elst"])
        .map(|elst| edits(elst, movie_scale, timescale))
        .unwrap_or_default();
    let table = SampleTable::new(movie, stbl)?;
    Some(Track { id, formats, rotation: rotation(header, movie_header), timescale, table, defaults, edits })
}

/// How the matrices of the track header (ISO/IEC 14496-12 §8.3.2) and of the movie header (§8.2.2) together
/// turn the picture. Telephones write the first. Only its first row is looked at, as OpenCV does: what a
/// mirror does is left out.
fn rotation(track_header: &[u8], movie_header: Option<&[u8]>) -> Rotation {
    // Where the matrix a b u c d v x y w lies: dates and durations are longer in version 1.
    let matrix = |header: &[u8], place: usize| {
        let at = place + if header.first() == Some(&1) { 12 } else { 0 };
        let number = |index: usize| be32(header, at + index * 4).map(|fixed| f64::from(fixed.cast_signed()));
        Some([number(0)?, number(1)?, number(3)?, number(4)?])
    };
    const OF_TRACK: usize = 40;
    const OF_MOVIE: usize = 36;
    const ONE: [f64; 4] = [1.0, 0.0, 0.0, 1.0];
    let [a, b, ..] = matrix(track_header, OF_TRACK).unwrap_or(ONE);
    let [e, f, g, h] = movie_header.and_then(|header| matrix(header, OF_MOVIE)).unwrap_or(ONE);
    Rotation::from_degrees((a * f + b * h).atan2(a * e + b * g).to_degrees())
}

/// Time scale of `mdhd` or `mvhd`: they begin alike. Ticks per second.
fn timescale(header: &[u8]) -> Option<u32> {
    be32(header, if header.first() == Some(&1) { 20 } else { 12 }).filter(|&scale| scale > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(matrix_at: usize, [a, b, c, d]: [i32; 4]) -> Vec<u8> {
        let mut header = vec![0; matrix_at];
        for number in [a, b, 0, c, d, 0, 0, 0, 1 << 14] {
            header.extend((number << 16).to_be_bytes());
        }
        header
    }

    #[test]
    fn both_matrices_rotation() {
        let (none, quarter, half, back) = ([1, 0, 0, 1], [0, 1, -1, 0], [-1, 0, 0, -1], [0, -1, 1, 0]);
        for (track, movie, turned) in [
            (none, none, Rotation::None),
            (quarter, none, Rotation::Quarter),
            (half, none, Rotation::Half),
            (back, none, Rotation::ThreeQuarters),
            (none, quarter, Rotation::Quarter),
            (quarter, quarter, Rotation::Half),
            (quarter, back, Rotation::None),
        ] {
            assert_eq!(rotation(&header(40, track), Some(&header(36, movie))), turned, "{track:?} {movie:?}");
        }
        assert_eq!(rotation(&header(40, quarter)[..50], None), Rotation::None);
        assert_eq!(rotation(&header(40, quarter), None), Rotation::Quarter);
    }
}
