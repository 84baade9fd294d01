//! The bytes of a file, and what its file system says about it.

use crate::clock::Wall;
use crate::command::SourceProperties;
use crate::error::{Error, Kind, Result, system};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

/// Largest coded picture that is taken: an 8K key frame at the highest rate of H.265 is below it.
pub(super) const MAX_PACKET_BYTES: u64 = 16 * 1024 * 1024;

/// Bytes that say what a file is, after the zeros that it may begin with.
const HEAD_BYTES: usize = 4096;

/// Most zero bytes that are looked through for the beginning of a video: a recorder's empty sector or two.
const MAX_LEADING_ZEROS: u64 = 1024 * 1024;

/// As much of a file is read to count its frames where nobody says how many; of a longer one the rest is
/// estimated. A second's work.
pub(super) const MAX_COUNTED_BYTES: u64 = 256 * 1024 * 1024;

/// Frames per second as the container declares; 0: it does not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate(pub(super) f64);

/// A regular file that is open for reading, and the part of it that is read.
pub(super) struct Medium {
    file: File,
    /// Bytes of the file that lie before what is read: see [`Medium::skip`].
    before: u64,
    /// Bytes that are read, behind `before`.
    bytes: u64,
    modified: Wall,
}

impl Medium {
    pub(super) fn open(path: &Path) -> Result<Medium> {
        let cannot = |cause| Error::new(Kind::SourceConnection, "the file cannot be opened").because(cause);
        let file = File::open(path).map_err(cannot)?;
        let metadata = file.metadata().map_err(cannot)?;
        if !metadata.is_file() {
            return Err(Error::new(Kind::SourceConnection, "not a regular file"));
        }
        let since_epoch = metadata
            .modified()
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
            .unwrap_or_default();
        let modified = Wall::from_micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX));
        Ok(Medium { file, before: 0, bytes: metadata.len(), modified })
    }

    /// The same file once more.
    pub(super) fn again(&self) -> Result<Medium> {
        let file = self.file.try_clone().map_err(system("the video file cannot be opened again"))?;
        Ok(Medium { file, ..*self })
    }

    /// How many zero bytes the file begins with; as many as are looked through, where there is nothing else.
    pub(super) fn leading_zeros(&self) -> Result<u64> {
        let mut zeros = 0;
        let mut part = [0; 4096];
        while zeros < MAX_LEADING_ZEROS {
            let got = self.read_at(zeros, &mut part)?;
            let found = part.get(..got).unwrap_or_default().iter().position(|&byte| byte != 0);
            zeros += found.unwrap_or(got) as u64;
            if found.is_some() || got == 0 {
                break;
            }
        }
        Ok(zeros)
    }

    /// From now on the file begins `bytes` later.
    pub(super) fn skip(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        (self.before, self.bytes) = (self.before + bytes, self.bytes - bytes);
    }

    /// Length of the file when it was opened.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The first bytes: what says what a file is.
    pub(super) fn head(&self) -> Result<Vec<u8>> {
        self.start(HEAD_BYTES)
    }

    /// So many of the first bytes, or as many as there are.
    pub(super) fn start(&self, bytes: usize) -> Result<Vec<u8>> {
        let mut head = vec![0; bytes];
        let got = self.read_at(0, &mut head)?;
        head.truncate(got);
        Ok(head)
    }

    /// Fills `out` from byte `at`; says how much there was.
    pub(super) fn read_at(&self, at: u64, out: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while let Some(rest) = out.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            // Past the largest offset a file can have there is nothing.
            let Some(place) = u64::try_from(filled)
                .ok()
                .and_then(|filled| at.checked_add(filled))
                .filter(|&place| place < self.bytes)
            else {
                break;
            };
            match self.file.read_at(rest, self.before.saturating_add(place)) {
                Ok(0) => break,
                Ok(got) => filled += got,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(system("the video file cannot be read")(error)),
            }
        }
        Ok(filled)
    }

    /// Exactly `length` bytes from `at` into `out`. False: the file ends before.
    pub(super) fn read(&self, at: u64, length: u64, out: &mut Vec<u8>) -> Result<bool> {
        out.clear();
        if at.checked_add(length).is_none_or(|end| end > self.bytes) {
            return Ok(false);
        }
        let Ok(length) = usize::try_from(length) else { return Ok(false) };
        out.resize(length, 0);
        Ok(self.read_at(at, out)? == length)
    }

    /// The same for a packet. One that the file ends in, or that is larger than any picture, is the end of
    /// the stream.
    pub(super) fn read_packet(&self, at: u64, length: u64, out: &mut Vec<u8>) -> Result<bool> {
        let whole = length <= MAX_PACKET_BYTES && self.read(at, length, out)?;
        if !whole {
            log::warn!("video file is cut short offset={at} packet_bytes={length} file_bytes={}", self.bytes);
        }
        Ok(whole)
    }

    /// The same, but of a packet that the file ends in, what is there: for containers in which ffmpeg shows
    /// it, too.
    pub(super) fn read_packet_or_part(&self, at: u64, length: u64, out: &mut Vec<u8>) -> Result<bool> {
        let there = length.min(self.bytes.saturating_sub(at));
        Ok(there > 0 && length <= MAX_PACKET_BYTES && self.read_packet(at, there, out)?)
    }

    /// What a file says about itself. `frames` is what its container tells, or what was counted or estimated.
    /// A file is a file whatever it says: it ends, and none of its frames is left out.
    pub(super) fn properties(&self, width: u32, height: u32, frames: u64, rate: Rate) -> SourceProperties {
        let Rate(fps) = rate;
        let total_frames = i64::try_from(frames).unwrap_or(i64::MAX);
        let duration_micros = if fps > 0.0 { (total_frames as f64 / fps * 1e6) as i64 } else { 0 };
        let timestamp_created =
            Some(Wall::from_micros(self.modified.micros().saturating_sub(duration_micros)));
        SourceProperties { width, height, total_frames, is_file: true, fps, timestamp_created }
    }
}

/// A file that is read in small steps, nearly in order.
pub(super) struct Window {
    pub(super) medium: Medium,
    /// Bytes that are read at a time.
    step: usize,
    buffer: Vec<u8>,
    /// Byte offset of `buffer` in the file.
    start: u64,
}

impl Window {
    pub(super) fn new(medium: Medium, step: usize) -> Window {
        Window { medium, step, buffer: Vec::new(), start: 0 }
    }

    /// `count` bytes from byte `at` on; fewer at the end of the file. For headers: what is large is read past
    /// the window.
    pub(super) fn bytes(&mut self, at: u64, count: usize) -> Result<&[u8]> {
        let inside = at.checked_sub(self.start).and_then(|offset| usize::try_from(offset).ok());
        let mut offset =
            inside.filter(|offset| offset.checked_add(count).is_some_and(|end| end <= self.buffer.len()));
        if offset.is_none() {
            self.buffer.resize(count.max(self.step), 0);
            let got = self.medium.read_at(at, &mut self.buffer)?;
            self.buffer.truncate(got);
            (self.start, offset) = (at, Some(0));
        }
        let from = offset.unwrap_or(0);
        Ok(self.buffer.get(from..self.buffer.len().min(from + count)).unwrap_or_default())
    }
}
