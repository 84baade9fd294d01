//! The part of an outbox that is on the disk: files of records, the oldest first. Nothing in here runs on the
//! event loop.
//!
//! A file is called after the number of its first record, begins with [`MAGIC`] and holds records back to
//! back:
//!
//! ```text
//! length u32 | crc32 u32 | number u64 | qos u8 | bytes of topic u16 | topic | payload        (little endian)
//!                        '---------------------- length, crc32 ----------------------'
//! ```
//!
//! Files are only appended to, in batches that are made durable together; a restart begins a new one. So a
//! power cut leaves at most one record torn, the last. A file that is damaged elsewhere is set aside and
//! costs what comes after the damage.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"weirbox1";
const EXTENSION: &str = "segment";
/// How far the receiver has confirmed, as text.
const POSITION_FILE: &str = "position";
/// A damaged file, for whoever wants to look; the next one takes its place.
const SET_ASIDE: &str = "damaged";
/// Parts of the whole that one file is: what goes at once when there are too many bytes.
const PARTS: u64 = 16;
/// No file is closed below this size, bytes: a directory of a thousand tiny files helps nobody.
const LEAST_SEGMENT_BYTES: u64 = 64 << 10;
/// Bytes before each record: its length and its checksum.
const HEAD_BYTES: usize = 8;
/// Number, quality of service and the length of the topic.
const FIXED_BYTES: usize = 11;
/// Longest record: what a packet of the largest datagram and the longest topic takes, with room.
const MAX_RECORD_BYTES: usize = 1 << 20;
/// One message on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) number: u64,
    pub(super) qos: u8,
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
}

/// Appends a record to `out`. Nothing for one that is too long, which no caller makes.
pub(super) fn encode(out: &mut Vec<u8>, number: u64, qos: u8, topic: &str, payload: &[u8]) {
    let length = FIXED_BYTES + topic.len() + payload.len();
    let (Ok(topic_bytes), true) = (u16::try_from(topic.len()), length <= MAX_RECORD_BYTES) else { return };
    let start = out.len();
    out.extend_from_slice(&(length as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&number.to_le_bytes());
    out.push(qos);
    out.extend_from_slice(&topic_bytes.to_le_bytes());
    out.extend_from_slice(topic.as_bytes());
    out.extend_from_slice(payload);
    let (head, body) = out.split_at_mut(start + HEAD_BYTES);
    if let Some(sum) = head.last_chunk_mut::<4>() {
        *sum = crc32fast::hash(body).to_le_bytes();
    }
}

/// What stands at the beginning of some bytes.
enum Found {
    /// A record, and the bytes it takes.
    Record(Record, usize),
    /// The beginning of one.
    Torn,
    /// These bytes are no record, whole or begun.
    Damaged,
}

fn decode(bytes: &[u8]) -> Found {
    let Some((head, rest)) = bytes.split_first_chunk::<4>() else { return Found::Torn };
    let length = u32::from_le_bytes(*head) as usize;
    if !(FIXED_BYTES..=MAX_RECORD_BYTES).contains(&length) {
        return Found::Damaged;
    }
    let Some((sum, rest)) = rest.split_first_chunk::<4>() else { return Found::Torn };
    let Some(body) = rest.get(..length) else { return Found::Torn };
    if crc32fast::hash(body) != u32::from_le_bytes(*sum) {
        return Found::Damaged;
    }
    let record = || {
        let (number, rest) = body.split_first_chunk::<8>()?;
        let (qos, rest) = rest.split_first()?;
        let (topic_bytes, rest) = rest.split_first_chunk::<2>()?;
        let (topic, payload) = rest.split_at_checked(usize::from(u16::from_le_bytes(*topic_bytes)))?;
        let topic = String::from_utf8(topic.to_vec()).ok()?;
        Some(Record { number: u64::from_le_bytes(*number), qos: *qos, topic, payload: payload.to_vec() })
    };
    record().map_or(Found::Damaged, |record| Found::Record(record, HEAD_BYTES + length))
}

/// One file of the outbox.
#[derive(Debug)]
struct Segment {
    /// Number of its first record, and its name.
    first: u64,
    bytes: u64,
}

/// Where the next record is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor {
    segment: u64,
    offset: u64,
    /// No record before this place has this number or a higher one.
    number: u64,
}

impl Cursor {
    fn at_start(segment: u64) -> Cursor {
        Cursor { segment, offset: 0, number: segment }
    }
}

/// The files of an outbox, and how much may be in them.
#[derive(Debug)]
pub(super) struct Segments {
    folder: PathBuf,
    limit_bytes: u64,
    /// The files, the oldest first.
    list: VecDeque<Segment>,
    /// The one that is written to: the last of the list.
    open: Option<File>,
    cursor: Cursor,
    /// The position that the file holds.
    noted: u64,
    /// Bytes that could not be read, and why, for the log.
    pub(super) damage: Option<String>,
}

impl Segments {
    /// What is in the folder, which is there, and the number of the record after the last; numbers begin at
    /// 1.
    pub(super) fn open(folder: &Path, limit_bytes: u64) -> io::Result<(Segments, u64)> {
        let mut firsts = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_stem().and_then(|stem| u64::from_str_radix(stem.to_str()?, 16).ok());
            if path.extension().is_some_and(|extension| extension == EXTENSION) {
                firsts.extend(name);
            }
        }
        firsts.sort_unstable();
        let position = fs::read_to_string(folder.join(POSITION_FILE))
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0);
        let segment =
            |first| fs::metadata(path_of(folder, first)).map(|found| Segment { first, bytes: found.len() });
        let list = firsts.into_iter().map(segment).collect::<io::Result<VecDeque<_>>>()?;
        let first = list.front().map_or(0, |segment| segment.first);
        let (folder, cursor) = (folder.to_owned(), Cursor::at_start(first));
        let mut segments =
            Segments { folder, limit_bytes, list, open: None, cursor, noted: position, damage: None };
        let last = segments.mend_last()?;
        segments.confirm(position)?;
        Ok((segments, last.unwrap_or(0).max(position) + 1))
    }

    /// The number of the last whole record. What comes after it and is more than a record torn by a power cut
    /// is set aside.
    fn mend_last(&mut self) -> io::Result<Option<u64>> {
        // Its name says where the last file begins; a later number is inside.
        let Some((first, bytes)) = self.list.back().map(|segment| (segment.first, segment.bytes)) else {
            return Ok(None);
        };
        let whole = self.read_from(first, 0, usize::MAX)?;
        let mut last = first.saturating_sub(1);
        let Some(mut rest) = whole.strip_prefix(MAGIC) else {
            if !MAGIC.starts_with(&whole) {
                self.set_aside(first, bytes)?;
            }
            return Ok(Some(last));
        };
        let fault = loop {
            match decode(rest) {
                Found::Record(record, length) => {
                    last = record.number;
                    rest = rest.get(length..).unwrap_or_default();
                }
                fault => break fault,
            }
        };
        if let (Found::Damaged, Some(segment)) = (fault, self.list.back_mut()) {
            let (path, aside) = (path_of(&self.folder, first), self.folder.join(SET_ASIDE));
            fs::copy(&path, &aside)?;
            let good = (whole.len() - rest.len()) as u64;
            OpenOptions::new().write(true).open(&path)?.set_len(good)?;
            segment.bytes = good;
            self.damage = Some(damage(&path, &aside, rest.len() as u64));
        }
        Ok(Some(last))
    }

    fn read_from(&self, segment: u64, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        let mut file = File::open(path_of(&self.folder, segment))?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(most as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.list.iter().map(|segment| segment.bytes).sum()
    }

    /// How far the receiver has confirmed, as far as it was noted.
    pub(super) fn position(&self) -> u64 {
        self.noted
    }

    /// There is no file.
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Number of the oldest record that may still be there.
    pub(super) fn first(&self) -> Option<u64> {
        self.list.front().map(|segment| segment.first)
    }

    /// Appends encoded records and makes them durable. The oldest files go when there are too many bytes.
    pub(super) fn append(&mut self, records: &[u8]) -> io::Result<()> {
        let whole = (self.limit_bytes / PARTS).max(LEAST_SEGMENT_BYTES);
        let mut rest = records;
        while let Some(number) = number_of(rest) {
            if self.open.is_none() || self.list.back().is_none_or(|segment| segment.bytes >= whole) {
                self.begin(number)?;
            }
            let (Some(file), Some(segment)) = (&mut self.open, self.list.back_mut()) else { break };
            let room = whole.saturating_sub(segment.bytes) as usize;
            let length = whole_records(rest, room);
            let Some((now, later)) = rest.split_at_checked(length) else { break };
            if let Err(cause) = file.write_all(now).and_then(|()| file.sync_data()) {
                // What was written of it would be followed by more: it ends here, as after a power cut.
                let _ = file.set_len(segment.bytes);
                self.open = None;
                return Err(cause);
            }
            segment.bytes += length as u64;
            rest = later;
        }
        while self.bytes() > self.limit_bytes && self.list.len() > 1 {
            self.remove_oldest()?;
        }
        Ok(())
    }

    fn begin(&mut self, number: u64) -> io::Result<()> {
        self.open = None;
        let path = path_of(&self.folder, number);
        // A number is used once, so a file of that name holds nothing that was ever read back.
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        file.write_all(MAGIC)?;
        File::open(&self.folder)?.sync_all()?;
        if self.list.back().is_some_and(|segment| segment.first == number) {
            self.list.pop_back();
        }
        self.list.push_back(Segment { first: number, bytes: MAGIC.len() as u64 });
        self.open = Some(file);
        self.cursor = Cursor::at_start(0);
        Ok(())
    }

    fn remove_oldest(&mut self) -> io::Result<()> {
        let Some(oldest) = self.list.pop_front() else { return Ok(()) };
        if self.list.is_empty() {
            self.open = None;
        }
        match fs::remove_file(path_of(&self.folder, oldest.first)) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause),
            _ => Ok(()),
        }
    }

    /// Everything up to that number has been taken by the receiver: files that hold nothing else go.
    pub(super) fn confirm(&mut self, position: u64) -> io::Result<()> {
        while self.list.get(1).is_some_and(|next| next.first <= position + 1) {
            self.remove_oldest()?;
        }
        if position > self.noted && !self.list.is_empty() {
            // Not made durable: after a power cut some messages come twice, which QoS 1 allows.
            let (file, new) = (self.folder.join(POSITION_FILE), self.folder.join("position.new"));
            fs::write(&new, position.to_string())?;
            fs::rename(new, file)?;
            self.noted = position;
        }
        Ok(())
    }

    /// Nothing waits any more: no file is needed.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        while !self.list.is_empty() {
            self.remove_oldest()?;
        }
        Ok(())
    }

    /// The next records from `number` on, of so many bytes together, and at least one; empty when there are
    /// none.
    pub(super) fn read(&mut self, mut number: u64, most_bytes: usize) -> io::Result<Vec<Record>> {
        let mut found = Vec::new();
        while found.is_empty() {
            // The file that holds it: the last one that begins at or before it, or the oldest.
            let index = self.list.iter().rposition(|segment| segment.first <= number).unwrap_or(0);
            let Some(segment) = self.list.get(index) else { break };
            let (first, bytes) = (segment.first, segment.bytes);
            let next = self.list.get(index + 1).map(|next| next.first);
            if self.cursor.segment != first || number < self.cursor.number {
                self.cursor = Cursor::at_start(first);
            }
            let is_over = self.read_some(number, bytes, most_bytes, &mut found)?;
            if is_over && found.is_empty() {
                let Some(next) = next else { break };
                number = number.max(next);
            }
        }
        Ok(found)
    }

    /// Reads on in the file of the cursor; true when nothing more can be read there.
    fn read_some(
        &mut self,
        number: u64,
        bytes: u64,
        most_bytes: usize,
        found: &mut Vec<Record>,
    ) -> io::Result<bool> {
        let Cursor { segment, offset, .. } = self.cursor;
        let most = most_bytes.max(MAGIC.len() + HEAD_BYTES + MAX_RECORD_BYTES) as u64;
        let read = self.read_from(segment, offset, most.min(bytes.saturating_sub(offset)) as usize)?;
        let mut rest = read.as_slice();
        if offset == 0 {
            match rest.strip_prefix(MAGIC) {
                Some(after) => rest = after,
                None if MAGIC.starts_with(rest) => return Ok(true),
                None => return self.set_aside(segment, bytes).map(|()| true),
            }
        }
        let mut taken = 0;
        let is_over = loop {
            if rest.is_empty() {
                break offset + read.len() as u64 >= bytes;
            }
            match decode(rest) {
                Found::Record(record, length) => {
                    rest = rest.get(length..).unwrap_or_default();
                    self.cursor.number = record.number.saturating_add(1);
                    if record.number >= number {
                        taken += length;
                        found.push(record);
                    }
                    if taken >= most_bytes {
                        break false;
                    }
                }
                Found::Torn => break offset + read.len() as u64 >= bytes,
                Found::Damaged => {
                    self.set_aside(segment, rest.len() as u64)?;
                    break true;
                }
            }
        };
        self.cursor.offset = offset + (read.len() - rest.len()) as u64;
        Ok(is_over)
    }

    fn set_aside(&mut self, segment: u64, bytes: u64) -> io::Result<()> {
        let path = path_of(&self.folder, segment);
        let aside = self.folder.join(SET_ASIDE);
        self.damage = Some(damage(&path, &aside, bytes));
        if self.list.back().is_some_and(|last| last.first == segment) {
            self.open = None;
        }
        self.list.retain(|kept| kept.first != segment);
        fs::rename(path, aside)
    }
}

fn damage(path: &Path, aside: &Path, bytes: u64) -> String {
    format!(
        "{} is damaged, {bytes} bytes of it or more are not sent: set aside as {}",
        path.display(),
        aside.display()
    )
}

fn path_of(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:016x}.{EXTENSION}"))
}

/// The number of the record at the beginning.
fn number_of(records: &[u8]) -> Option<u64> {
    records.get(HEAD_BYTES..)?.first_chunk().map(|number| u64::from_le_bytes(*number))
}

/// Bytes of the whole records at the beginning that fit into `room`; of one at least.
fn whole_records(records: &[u8], room: usize) -> usize {
    let mut length = 0;
    while let Some(head) = records.get(length..).and_then(|rest| rest.first_chunk::<4>()) {
        let next = HEAD_BYTES + u32::from_le_bytes(*head) as usize;
        if length > 0 && length + next > room {
            break;
        }
        length += next;
    }
    length.min(records.len())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;

    /// Where making things durable costs nothing.
    pub(in super::super) fn shared_memory() -> PathBuf {
        let memory = PathBuf::from("/dev/shm");
        if memory.is_dir() { memory } else { std::env::temp_dir() }
    }

    struct Base(PathBuf);

    impl Base {
        fn new() -> Base {
            let base = shared_memory().join(format!("weir-segments-{}", uuid::Uuid::new_v4()));
            fs::create_dir(&base).unwrap();
            Base(base)
        }

        fn files(&self) -> Vec<PathBuf> {
            let mut files: Vec<_> =
                fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect();
            files.sort();
            files.retain(|path| path.extension().is_some_and(|extension| extension == EXTENSION));
            files
        }
    }

    impl Drop for Base {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn batch(numbers: std::ops::Range<u64>, bytes: usize) -> Vec<u8> {
        let mut out = Vec::new();
        numbers.for_each(|number| encode(&mut out, number, 1, "a/b", &vec![number as u8; bytes]));
        out
    }

    fn all(segments: &mut Segments, mut from: u64) -> Vec<u64> {
        let mut numbers = Vec::new();
        loop {
            let records = segments.read(from, 100 << 10).unwrap();
            let Some(last) = records.last() else { return numbers };
            assert!(
                records.iter().all(|record| record.payload.iter().all(|byte| *byte == record.number as u8))
            );
            from = last.number + 1;
            numbers.extend(records.iter().map(|record| record.number));
        }
    }

    #[test]
    fn what_was_appended_is_read_in_order_before_and_after_a_restart() {
        let base = Base::new();
        let (mut segments, next) = Segments::open(&base.0, 64 << 20).unwrap();
        assert_eq!(next, 1);
        segments.append(&batch(1..300, 5000)).unwrap();
        assert_eq!(all(&mut segments, 1), (1..300).collect::<Vec<_>>());
        segments.append(&batch(300..310, 10)).unwrap();
        assert_eq!(all(&mut segments, 300), (300..310).collect::<Vec<_>>());
        segments.confirm(150).unwrap();
        let (mut segments, next) = Segments::open(&base.0, 64 << 20).unwrap();
        assert_eq!((next, segments.noted), (310, 150));
        assert_eq!(all(&mut segments, 151), (151..310).collect::<Vec<_>>());
        segments.append(&batch(310..320, 10)).unwrap();
        assert_eq!(all(&mut segments, 305), (305..320).collect::<Vec<_>>());
        segments.clear().unwrap();
        assert_eq!(base.files().len(), 0);
        assert_eq!(
            Segments::open(&base.0, 1 << 20).unwrap().1,
            151,
            "no number is given twice that was confirmed"
        );
    }

    #[test]
    fn the_oldest_files_go_and_the_bound_holds() {
        let base = Base::new();
        let (mut segments, _) = Segments::open(&base.0, 1 << 20).unwrap();
        for start in (1..2000).step_by(10) {
            segments.append(&batch(start..start + 10, 2000)).unwrap();
            let on_disk: u64 = base.files().iter().map(|file| fs::metadata(file).unwrap().len()).sum();
            assert!(on_disk <= 1 << 20 && on_disk == segments.bytes(), "{on_disk}");
        }
        let first = segments.first().unwrap();
        assert!(first > 1400, "{first}");
        assert_eq!(all(&mut segments, 1), (first..2001).collect::<Vec<_>>());
        // A batch larger than everything leaves its end.
        segments.append(&batch(2001..4001, 2000)).unwrap();
        assert!(segments.bytes() <= 1 << 20);
        assert_eq!(all(&mut segments, 1).last(), Some(&4000));
    }

    #[test]
    fn a_power_cut_tears_the_last_record_only_wherever_it_cuts() {
        let base = Base::new();
        let (mut segments, _) = Segments::open(&base.0, 1 << 20).unwrap();
        segments.append(&batch(1..4, 20)).unwrap();
        let file = base.files().remove(0);
        let whole = fs::read(&file).unwrap();
        let record = (whole.len() - MAGIC.len()) / 3;
        for cut in 0..=whole.len() {
            fs::write(&file, &whole[..cut]).unwrap();
            let (mut segments, next) = Segments::open(&base.0, 1 << 20).unwrap();
            let left = cut.saturating_sub(MAGIC.len()) / record;
            assert_eq!(next, 1 + left as u64, "{cut}");
            assert_eq!(all(&mut segments, 1).len(), left, "{cut}");
            segments.append(&batch(next..next + 2, 20)).unwrap();
            assert_eq!(all(&mut segments, 1).len(), left + 2, "{cut}");
            base.files().iter().for_each(|file| fs::remove_file(file).unwrap());
        }
    }

    #[test]
    fn damage_costs_what_comes_after_it_in_its_file_and_is_set_aside() {
        let base = Base::new();
        let (mut segments, _) = Segments::open(&base.0, 1 << 20).unwrap();
        segments.append(&batch(1..200, 2000)).unwrap();
        let files = base.files();
        let mut bytes = fs::read(&files[1]).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&files[1], bytes).unwrap();
        fs::write(&files[2], "not a segment at all").unwrap();
        let (mut segments, next) = Segments::open(&base.0, 1 << 20).unwrap();
        assert_eq!(next, 200);
        let found = all(&mut segments, 1);
        assert!(found.is_sorted() && found.first() == Some(&1) && found.last() == Some(&199), "{found:?}");
        assert!(found.len() > 199 - 3 * 33 && found.len() < 199 - 33, "{}", found.len());
        assert!(segments.damage.is_some() && base.0.join(SET_ASIDE).exists());
    }

    #[test]
    fn damage_in_the_last_file_is_set_aside_at_once_and_what_is_before_it_is_kept() {
        let base = Base::new();
        let (mut segments, _) = Segments::open(&base.0, 1 << 20).unwrap();
        segments.append(&batch(1..11, 200)).unwrap();
        let file = base.files().remove(0);
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&file, &bytes).unwrap();
        let (mut segments, next) = Segments::open(&base.0, 1 << 20).unwrap();
        assert!((4..8).contains(&next) && segments.damage.is_some(), "{next}");
        assert_eq!(fs::read(base.0.join(SET_ASIDE)).unwrap(), bytes, "all of it, for whoever wants to look");
        segments.append(&batch(next..next + 5, 20)).unwrap();
        assert_eq!(all(&mut segments, 1), (1..next + 5).collect::<Vec<_>>());
        fs::write(base.files().remove(0), "weirbox1 and then nothing of sense, for quite some bytes")
            .unwrap();
        let (mut segments, _) = Segments::open(&base.0, 1 << 20).unwrap();
        assert_eq!(all(&mut segments, 1), (next..next + 5).collect::<Vec<_>>());
    }

    #[test]
    fn bytes_of_any_kind_are_no_panic() {
        let mut seed = 7_u32;
        let mut random = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        };
        let whole = batch(1..4, 30);
        for _ in 0..20_000 {
            let mut bytes = whole.clone();
            for _ in 0..=random() % 4 {
                let place = usize::from(random()) % bytes.len();
                bytes[place] = random();
            }
            let mut rest = bytes.as_slice();
            while let Found::Record(_, length) = decode(rest) {
                rest = &rest[length..];
            }
        }
    }
}
