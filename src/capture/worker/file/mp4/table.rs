//! The sample table of a track (`stbl`), read where it lies: nothing is unpacked, so a day of video costs no more than its tables.

use super::boxes::{child, u32_at, u64_at};
use std::ops::Range;

/// Where one sample lies and when it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    /// Byte offset in the file.
    pub(super) offset: u64,
    /// Bytes.
    pub(super) size: u32,
    /// Presentation time in the track's time scale.
    pub(super) presentation: i64,
    /// Decoding may begin here.
    pub(super) key: bool,
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
    /// Runs: count, duration.
    times: Entries,
    /// Runs: count, presentation less decoding time. Empty: none.
    offsets: Entries,
    /// Runs: first chunk, samples in a chunk, description.
    chunks: Entries,
    /// Sizes; empty when all samples have `fixed_size`.
    sizes: Entries,
    fixed_size: u32,
    samples: usize,
    /// Byte offsets of chunks.
    places: Entries,
    /// `places` are 64 bit.
    wide: bool,
    /// Numbers of key frames from 1; `None`: every sample is one.
    keys: Option<Entries>,
}

impl SampleTable {
    /// Finds the tables of `stbl`, a part of `movie`. `None`: one that must be there is not.
    pub(super) fn new(movie: &[u8], stbl: &[u8]) -> Option<SampleTable> {
        let entries = |kind, header: usize, entry: usize| {
            let payload = child(stbl, kind)?;
            // Both are parts of the same allocation: the difference is where this table begins in the movie box.
            let start = payload.as_ptr().addr() - movie.as_ptr().addr() + header;
            let claimed = usize::try_from(u32_at(payload, header - 4)?).ok()?;
            let count = claimed.min(payload.len().saturating_sub(header) / entry);
            Some(Entries { range: start..start + count * entry, count })
        };
        let stsz = child(stbl, b"stsz")?;
        let fixed_size = u32_at(stsz, 4)?;
        let sizes = if fixed_size == 0 { entries(b"stsz", 12, 4)? } else { Entries::default() };
        let samples = if fixed_size == 0 { sizes.count } else { usize::try_from(u32_at(stsz, 8)?).ok()? };
        let (places, wide) = match entries(b"stco", 8, 4) {
            Some(places) => (places, false),
            None => (entries(b"co64", 8, 8)?, true),
        };
        Some(SampleTable {
            times: entries(b"stts", 8, 8)?,
            offsets: entries(b"ctts", 8, 8).unwrap_or_default(),
            chunks: entries(b"stsc", 8, 12)?,
            sizes,
            fixed_size,
            samples,
            places,
            wide,
            keys: entries(b"stss", 8, 4),
        })
    }

    /// Samples that the track claims.
    pub(super) fn samples(&self) -> usize {
        self.samples
    }

    /// Sum of all samples' durations in the track's time scale, and how many samples have one.
    pub(super) fn duration(&self, movie: &[u8]) -> (u64, u64) {
        (0..self.times.count).filter_map(|run| Some((self.times.get(movie, run, 8, 0)?, self.times.get(movie, run, 8, 4)?))).fold(
            (0, 0),
            |(ticks, samples), (count, delta)| {
                (
                    u64::from(count).saturating_mul(u64::from(delta)).saturating_add(ticks),
                    u64::from(count).saturating_add(samples),
                )
            },
        )
    }
}

impl Entries {
    /// The 32-bit field at `field` bytes into an entry of `entry` bytes.
    fn get(&self, movie: &[u8], index: usize, entry: usize, field: usize) -> Option<u32> {
        if index >= self.count {
            return None;
        }
        u32_at(movie.get(self.range.clone())?, index * entry + field)
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
    /// Index of the next key frame in `keys`.
    key: usize,
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
        let size = if table.fixed_size == 0 { table.sizes.get(movie, self.sample, 4, 0)? } else { table.fixed_size };
        for _ in 0..MAX_EMPTY_RUNS {
            if self.in_chunk < table.chunks.get(movie, self.chunk_run, 12, 4)? {
                break;
            }
            self.chunk += 1;
            (self.in_chunk, self.bytes_in_chunk) = (0, 0);
            let next_run_begins = table.chunks.get(movie, self.chunk_run + 1, 12, 0);
            if next_run_begins.is_some_and(|first| usize::try_from(first).is_ok_and(|first| first <= self.chunk + 1)) {
                self.chunk_run += 1;
            }
        }
        let place = if table.wide {
            if self.chunk >= table.places.count {
                return None;
            }
            u64_at(movie.get(table.places.range.clone())?, self.chunk * 8)?
        } else {
            u64::from(table.places.get(movie, self.chunk, 4, 0)?)
        };
        let offset = place.checked_add(self.bytes_in_chunk)?;
        // Times may be missing at the end of a damaged table: the pictures are still good.
        let delta = self.times.step(movie, &table.times).unwrap_or(0);
        let shift = self.offsets.step(movie, &table.offsets).unwrap_or(0).cast_signed();
        let number = self.sample + 1;
        let key = match &table.keys {
            None => true,
            Some(keys) => {
                let is_key = keys.get(movie, self.key, 4, 0).is_some_and(|key| usize::try_from(key) == Ok(number));
                self.key += usize::from(is_key);
                is_key
            }
        };
        let presentation = self.decode.saturating_add(i64::from(shift));
        self.decode = self.decode.saturating_add(i64::from(delta));
        self.in_chunk += 1;
        self.bytes_in_chunk = self.bytes_in_chunk.checked_add(u64::from(size))?;
        self.sample = number;
        Some(Sample { offset, size, presentation, key })
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

    fn stbl(chunks: &[u32]) -> Vec<u8> {
        [
            table_box(b"stts", &[1, 5, 10]),
            table_box(b"ctts", &[3, 1, 10, 2, 30, 2, 0]),
            table_box(b"stsc", chunks),
            table_box(b"stsz", &[0, 5, 100, 20, 30, 40, 50]),
            table_box(b"stco", &[3, 1000, 2000, 3000]),
            table_box(b"stss", &[2, 1, 4]),
        ]
        .concat()
    }

    fn walk(data: &[u8]) -> Vec<Sample> {
        let table = SampleTable::new(data, data).unwrap();
        let mut cursor = SampleCursor::default();
        std::iter::from_fn(|| cursor.next(data, &table)).collect()
    }

    #[test]
    fn places_times_and_key_frames() {
        // Two samples in the first chunk, then one, then two.
        let data = stbl(&[3, 1, 2, 1, 2, 1, 1, 3, 2, 1]);
        let samples = walk(&data);
        let sample = |offset, size, presentation, key| Sample { offset, size, presentation, key };
        assert_eq!(
            samples,
            [
                sample(1000, 100, 10, true),
                sample(1100, 20, 40, false),
                sample(2000, 30, 50, false),
                sample(3000, 40, 30, true),
                sample(3040, 50, 40, false),
            ]
        );
        assert_eq!(SampleTable::new(&data, &data).unwrap().duration(&data), (50, 5));
    }

    #[test]
    fn tables_that_contradict_each_other_end() {
        // More samples than chunks hold; chunks that hold nothing.
        assert_eq!(walk(&stbl(&[1, 1, 1, 1])).len(), 3);
        assert_eq!(walk(&stbl(&[1, 1, 0, 1])).len(), 0);
    }
}
