//! The sample table of a track (`stbl`), read where it lies: nothing is unpacked, so a day of video costs no
//! more than its tables.

use super::boxes::child;
use crate::capture::worker::file::number::{be32, be64};
use std::ops::Range;

/// Where one sample lies and when it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    /// Byte offset in the file.
    pub(super) offset: u64,
    /// Length of the sample, bytes.
    pub(super) size: u32,
    /// Presentation time in the track's time scale.
    pub(super) presentation: i64,
    /// Which entry of the sample descriptions it is coded by, from 1.
    pub(super) description: u32,
}

/// A table box in the movie box: entries after version and flags and count (and default size, for `stsz`).
#[derive(Debug, Clone, Default)]
struct Entries {
    /// Bytes of the entries within the movie box.
    range: Range<usize>,
    /// Entries that are there: what is claimed, cut to what fits.
    count: usize,
}

/// Tables of one track, as places in the movie box.
#[derive(Debug, Clone)]
pub(super) struct SampleTable {
    /// `stts`, in runs: number of samples, duration of each in ticks.
    times: Entries,
    /// Runs: count, presentation less decoding time. Empty: none.
    offsets: Entries,
    /// Runs: first chunk, samples in a chunk, description.
    chunks: Entries,
    sizes: Sizes,
    samples: usize,
    /// Byte offsets of chunks.
    places: Entries,
    /// `places` are 64 bit.
    wide: bool,
}

/// Where the sizes of the samples stand. (Which of them are key frames, `stss` says, and is not asked:
/// writers leave it out, leave it empty and copy it into cuts that it does not fit. The pictures themselves
/// say it better.)
#[derive(Debug, Clone)]
enum Sizes {
    /// `stsz`: all the same, bytes.
    Same(u32),
    /// `stsz`: one by one.
    Each(Entries),
    /// `stz2`: one by one, in fields of so many bits (4, 8 or 16).
    Compact(Entries, u8),
}

impl Sizes {
    /// The sizes and how many samples they are of.
    fn new(stbl: &[u8], entries: impl Fn(&[u8], usize, usize) -> Option<Entries>) -> Option<(Sizes, usize)> {
        if let Some(stsz) = child(stbl, b"stsz") {
            return match be32(stsz, 4)? {
                0 => entries(stsz, 12, 32).map(|each| (Sizes::Each(each.clone()), each.count)),
                size => Some((Sizes::Same(size), usize::try_from(be32(stsz, 8)?).ok()?)),
            };
        }
        let stz2 = child(stbl, b"stz2")?;
        let bits = *stz2.get(7)?;
        let each = matches!(bits, 4 | 8 | 16).then(|| entries(stz2, 12, usize::from(bits)))??;
        Some((Sizes::Compact(each.clone(), bits), each.count))
    }

    fn get(&self, movie: &[u8], sample: usize) -> Option<u32> {
        match self {
            Sizes::Same(size) => Some(*size),
            Sizes::Each(each) => each.get(movie, sample, 4, 0),
            Sizes::Compact(each, bits) => {
                let fields = movie.get(each.range.clone()).filter(|_| sample < each.count)?;
                let byte = |at: usize| fields.get(at).copied().map(u32::from);
                match bits {
                    4 => byte(sample / 2)
                        .map(|pair| if sample.is_multiple_of(2) { pair >> 4 } else { pair & 15 }),
                    8 => byte(sample),
                    _ => Some(byte(sample * 2)? << 8 | byte(sample * 2 + 1)?),
                }
            }
        }
    }
}

impl SampleTable {
    /// Finds the tables of `stbl`, a part of `movie`. `None`: one that must be there is not.
    pub(super) fn new(movie: &[u8], stbl: &[u8]) -> Option<SampleTable> {
        let entries = |payload: &[u8], header: usize, entry_bits: usize| {
            // Both are parts of the same allocation: the difference is where this table begins in the movie
            // box.
            let start = payload.as_ptr().addr() - movie.as_ptr().addr() + header;
            let claimed = usize::try_from(be32(payload, header - 4)?).ok()?;
            let count = claimed.min(payload.len().saturating_sub(header) * 8 / entry_bits);
            Some(Entries { range: start..start + (count * entry_bits).div_ceil(8), count })
        };
        let table = |kind, entry_bits| entries(child(stbl, kind)?, 8, entry_bits);
        let (sizes, samples) = Sizes::new(stbl, entries)?;
        let (places, wide) = match table(b"stco", 32) {
            Some(places) => (places, false),
            None => (table(b"co64", 64)?, true),
        };
        Some(SampleTable {
            times: table(b"stts", 64)?,
            offsets: table(b"ctts", 64).unwrap_or_default(),
            chunks: table(b"stsc", 96)?,
            sizes,
            samples,
            places,
            wide,
        })
    }

    /// Samples that the track claims.
    pub(super) fn samples(&self) -> usize {
        self.samples
    }

    /// Sum of all samples' durations in the track's time scale, and how many samples have one.
    pub(super) fn duration(&self, movie: &[u8]) -> (u64, u64) {
        (0..self.times.count)
            .filter_map(|run| Some((self.times.get(movie, run, 8, 0)?, self.times.get(movie, run, 8, 4)?)))
            .fold((0, 0), |(ticks, samples), (count, delta)| {
                (
                    u64::from(count).saturating_mul(u64::from(delta)).saturating_add(ticks),
                    u64::from(count).saturating_add(samples),
                )
            })
    }
}

impl Entries {
    /// The 32-bit field at `field` bytes into an entry of `entry` bytes.
    fn get(&self, movie: &[u8], index: usize, entry: usize, field: usize) -> Option<u32> {
        if index >= self.count {
            return None;
        }
        be32(movie.get(self.range.clone())?, index * entry + field)
    }
}

/// Walks through the samples in decoding order. Each step costs the same, whatever the tables say.
#[derive(Debug, Clone, Default)]
pub(super) struct SampleCursor {
    /// Number of the next sample, from 0.
    sample: usize,
    /// Decoding time of the next sample.
    decode: i64,
    times: Run,
    offsets: Run,
    /// Index of the chunk that the next sample lies in, from 0, and of its run in `chunks`.
    chunk: usize,
    chunk_run: usize,
    /// Samples of that chunk that were given already, and their bytes.
    in_chunk: u32,
    bytes_in_chunk: u64,
}

/// Place in a table of runs.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    index: usize,
    used: u32,
}

/// Most runs without samples that are passed over in one step: honest tables have none.
const MAX_EMPTY_RUNS: usize = 16;

impl Run {
    /// The value of the run that the next sample belongs to.
    fn step(&mut self, movie: &[u8], entries: &Entries) -> Option<u32> {
        for _ in 0..MAX_EMPTY_RUNS {
            let count = entries.get(movie, self.index, 8, 0)?;
            if self.used < count {
                self.used += 1;
                return entries.get(movie, self.index, 8, 4);
            }
            *self = Run { index: self.index + 1, used: 0 };
        }
        None
    }
}

impl SampleCursor {
    /// The next sample; `None` at the end, and where the tables contradict each other.
    pub(super) fn next(&mut self, movie: &[u8], table: &SampleTable) -> Option<Sample> {
        if self.sample >= table.samples {
            return None;
        }
        let size = table.sizes.get(movie, self.sample)?;
        for _ in 0..MAX_EMPTY_RUNS {
            if self.in_chunk < table.chunks.get(movie, self.chunk_run, 12, 4)? {
                break;
            }
            self.chunk += 1;
            (self.in_chunk, self.bytes_in_chunk) = (0, 0);
            let next_run_begins = table.chunks.get(movie, self.chunk_run + 1, 12, 0);
            if next_run_begins
                .is_some_and(|first| usize::try_from(first).is_ok_and(|first| first <= self.chunk + 1))
            {
                self.chunk_run += 1;
            }
        }
        let place = if table.wide {
            if self.chunk >= table.places.count {
                return None;
            }
            be64(movie.get(table.places.range.clone())?, self.chunk * 8)?
        } else {
            u64::from(table.places.get(movie, self.chunk, 4, 0)?)
        };
        let offset = place.checked_add(self.bytes_in_chunk)?;
        // Times may be missing at the end of a damaged table: the pictures are still good.
        let delta = self.times.step(movie, &table.times).unwrap_or(0);
        let shift = self.offsets.step(movie, &table.offsets).unwrap_or(0).cast_signed();
        let description = table.chunks.get(movie, self.chunk_run, 12, 8)?;
        let presentation = self.decode.saturating_add(i64::from(shift));
        self.decode = self.decode.saturating_add(i64::from(delta));
        self.in_chunk += 1;
        self.bytes_in_chunk = self.bytes_in_chunk.checked_add(u64::from(size))?;
        self.sample += 1;
        Some(Sample { offset, size, presentation, description })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn table_box(kind: &[u8; 4], fields: &[u32]) -> Vec<u8> {
        let mut out = u32::try_from(12 + fields.len() * 4).unwrap().to_be_bytes().to_vec();
        out.extend(kind);
        out.extend([0; 4]);
        out.extend(fields.iter().flat_map(|field| field.to_be_bytes()));
        out
    }

    fn stbl(chunks: &[u32], sizes: Vec<u8>) -> Vec<u8> {
        [
            table_box(b"stts", &[1, 5, 10]),
            table_box(b"ctts", &[3, 1, 10, 2, 30, 2, 0]),
            table_box(b"stsc", chunks),
            sizes,
            table_box(b"stco", &[3, 1000, 2000, 3000]),
        ]
        .concat()
    }

    fn sizes() -> Vec<u8> {
        table_box(b"stsz", &[0, 5, 100, 20, 30, 40, 50])
    }

    fn walk(data: &[u8]) -> Vec<Sample> {
        let table = SampleTable::new(data, data).unwrap();
        let mut cursor = SampleCursor::default();
        std::iter::from_fn(|| cursor.next(data, &table)).collect()
    }

    #[test]
    fn places_times_and_descriptions() {
        // Two samples in the first chunk, then one, then two of another description.
        let data = stbl(&[3, 1, 2, 1, 2, 1, 1, 3, 2, 2], sizes());
        let samples = walk(&data);
        let sample =
            |offset, size, presentation, description| Sample { offset, size, presentation, description };
        assert_eq!(
            samples,
            [
                sample(1000, 100, 10, 1),
                sample(1100, 20, 40, 1),
                sample(2000, 30, 50, 1),
                sample(3000, 40, 30, 2),
                sample(3040, 50, 40, 2),
            ]
        );
        assert_eq!(SampleTable::new(&data, &data).unwrap().duration(&data), (50, 5));
    }

    #[test]
    fn compact_sizes_of_every_width() {
        let compact = |bits: u32, fields: &[u32]| table_box(b"stz2", &[&[bits, 5], fields].concat());
        let walked = |sizes| {
            walk(&stbl(&[3, 1, 2, 1, 2, 1, 1, 3, 2, 1], sizes))
                .iter()
                .map(|sample| sample.size)
                .collect::<Vec<_>>()
        };
        assert_eq!(walked(compact(4, &[0x1234_5000])), [1, 2, 3, 4, 5]);
        assert_eq!(walked(compact(8, &[0x0102_fffe, 0x0500_0000])), [1, 2, 255, 254, 5]);
        assert_eq!(walked(compact(16, &[0x0100_0002, 0xffff_0004, 0x0005_0000])), [256, 2, 65_535, 4, 5]);
        // As many as there are, and no such width.
        assert_eq!(walked(compact(16, &[0x0100_0002])), [256, 2]);
        let data = stbl(&[1, 1, 1, 1], compact(12, &[0]));
        assert!(SampleTable::new(&data, &data).is_none());
    }

    #[test]
    fn tables_that_contradict_each_other_end() {
        // More samples than chunks hold; chunks that hold nothing.
        assert_eq!(walk(&stbl(&[1, 1, 1, 1], sizes())).len(), 3);
        assert_eq!(walk(&stbl(&[1, 1, 0, 1], sizes())).len(), 0);
    }
}
