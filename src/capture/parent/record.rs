//! A session of a camera, recorded into a file: what its worker writes into a pipe, and what happened.
//!
//! The worker says what was said ([`crate::capture::worker`]); this end looks at the heads of its blocks and at
//! nothing else, writes whole ones, and no more than it was told.

use super::Worker;
use crate::capture::{CaptureSettings, Event, Payloads, Progress, Request, Spawner, pcapng};
use crate::clock::{Wall, within};
use crate::command::{PacketLoss, SourceProperties, SourceReference};
use crate::error::{Error, Kind, Result, system};
use async_io::{Async, Timer};
use futures_lite::future::{or, zip};
use std::cell::RefCell;
use std::fs::File;
use std::io::{BufWriter, PipeReader, Read as _, Write as _};
use std::time::{Duration, Instant};

/// Bytes that are taken from the pipe at once: what one holds.
const CHUNK_BYTES: usize = 64 << 10;

/// How long the last blocks of a worker that has ended may take.
const REST_TIMEOUT: Duration = Duration::from_secs(2);

/// Smallest block: its head and its second length.
const MIN_BLOCK_BYTES: usize = 12;

/// How long and how much is recorded, at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From the start of the worker on.
    pub time: Duration,
    /// Of the whole file; only weir's last words may pass it.
    pub bytes: u64,
}

/// Why a recording ended.
#[derive(Debug)]
pub enum Ending {
    /// Its time was over.
    Time,
    /// The file has the size that it may have.
    Full,
    /// Whoever recorded had enough.
    Stopped,
    /// The source ended it.
    Source(Error),
}

/// What was recorded, and how it went.
#[derive(Debug)]
pub struct Recorded {
    /// Blocks of packets that were written.
    pub packets: u64,
    /// Size of the file.
    pub bytes: u64,
    /// How long it took.
    pub took: Duration,
    /// What the source said of itself; `None`: it never was open.
    pub properties: Option<SourceProperties>,
    /// The source's counters as the worker said them last.
    pub progress: Progress,
    /// Why there is no more.
    pub ending: Ending,
}

impl Recorded {
    /// Why it ended, for people.
    pub fn reason(&self, limits: Limits) -> String {
        match &self.ending {
            Ending::Time => format!("{} seconds are over", limits.time.as_secs()),
            Ending::Full => format!("the file has its {} MiB", limits.bytes >> 20),
            Ending::Stopped => "interrupted".to_owned(),
            Ending::Source(error) => error.to_string(),
        }
    }

    /// What the worker made of the packets, for people.
    pub fn seen(&self) -> String {
        let Some(SourceProperties { width, height, fps, .. }) = self.properties else {
            return "the source was not open".to_owned();
        };
        let Progress { frame_id, undecodable, packets, .. } = &self.progress;
        let mut seen = format!("{frame_id} frames of {width}x{height}, {fps:.1} declared per second");
        if *undecodable > 0 {
            seen.push_str(&format!(", {undecodable} undecodable"));
        }
        for cause in PacketLoss::ALL {
            if packets.get(cause) > 0 {
                seen.push_str(&format!(", {}={}", cause.key(), packets.get(cause)));
            }
        }
        seen
    }
}

/// Plays a source, and records what its worker and the camera say to each other, until a limit, until `stop`
/// is done, or until the source ends. The camera is told goodbye.
///
/// Errors: the worker cannot be started, breaks its protocol, or the file cannot be written.
pub async fn record(
    spawner: &Spawner,
    settings: &CaptureSettings,
    reference: SourceReference,
    payloads: Payloads,
    file: File,
    limits: Limits,
    stop: impl Future<Output = ()>,
) -> Result<Recorded> {
    let mut book = Book::begin(file, limits.bytes)?;
    let version = env!("CARGO_PKG_VERSION");
    book.note(&format!("event=recording version={version} source={reference} payloads={payloads:?}"))?;
    let request = Request { recorded: Some(payloads), ..Request::without_model(reference) };
    let (ours, theirs) = std::io::pipe().map_err(system("making a pipe"))?;
    let began = Instant::now();
    let worker = Worker::start_with(spawner, settings, request, Some(theirs.into())).await?;
    let pipe = Async::new(ours).map_err(system("watching a pipe"))?;
    let (book, watched) = (RefCell::new(book), RefCell::new(Watched::default()));
    let copied = async {
        match copy(&pipe, &book).await {
            Ok(true) => Ok(Ending::Full),
            // The worker has closed it, and says why.
            Ok(false) => std::future::pending().await,
            Err(error) => Err(error),
        }
    };
    let over = async {
        Timer::after(limits.time).await;
        Ok(Ending::Time)
    };
    let source = watch(&worker, settings.worker_memory_max_bytes, &watched, &book);
    let stopped = async {
        stop.await;
        Ok(Ending::Stopped)
    };
    let ending = or(or(copied, source), or(over, stopped)).await;
    // The farewell is recorded, too, if there is room.
    let rest = async {
        let is_whole = matches!(ending, Ok(Ending::Full) | Err(_));
        if is_whole {
            drop(pipe);
            return Ok(());
        }
        within(REST_TIMEOUT, copy(&pipe, &book)).await.map_or(Ok(()), |copied| copied.map(|_| ()))
    };
    let ((), rest) = zip(worker.stop(), rest).await;
    let (ending, Watched { properties, progress }) = (ending?, watched.into_inner());
    rest?;
    let mut book = book.into_inner();
    let mut recorded =
        Recorded { packets: book.packets, bytes: 0, took: began.elapsed(), properties, progress, ending };
    book.note(&format!("event=recorded end=\"{}\" seen=\"{}\"", recorded.reason(limits), recorded.seen()))?;
    recorded.bytes = book.end()?;
    Ok(recorded)
}

/// What the worker said so far.
#[derive(Debug, Default)]
struct Watched {
    properties: Option<SourceProperties>,
    progress: Progress,
}

/// Hears the worker to the end of its source. Frames are given back at once.
async fn watch(
    worker: &Worker,
    most_bytes: u64,
    watched: &RefCell<Watched>,
    book: &RefCell<Book>,
) -> Result<Ending> {
    loop {
        match worker.next().await {
            Event::Opened(properties) => {
                let SourceProperties { width, height, fps, .. } = properties;
                book.borrow_mut()
                    .note(&format!("event=source_open width={width} height={height} fps={fps}"))?;
                watched.borrow_mut().properties = Some(properties);
            }
            Event::Frame(frame) => {
                worker.release(frame.slot);
                let progress = &mut watched.borrow_mut().progress;
                progress.frame_id = progress.frame_id.max(frame.frame_id);
            }
            Event::Alive(progress) => {
                let known = &mut watched.borrow_mut().progress;
                *known = Progress { frame_id: progress.frame_id.max(known.frame_id), ..progress };
            }
            Event::Notice(words) => book.borrow_mut().note(&format!("event=notice words=\"{words}\""))?,
            Event::Memory(bytes) if bytes <= most_bytes => worker.allow_memory(bytes)?,
            Event::Memory(bytes) => {
                let needed = bytes.div_ceil(1 << 20);
                return Ok(Ending::Source(Error::new(
                    Kind::SourceUnsupported,
                    format!("its pictures need {needed} MiB, more than capture.worker_memory_max_bytes"),
                )));
            }
            Event::Picture(_) => {}
            Event::Ended => return Ok(Ending::Source(Error::new(Kind::SourceLost, "the source has ended"))),
            Event::Failed(error) => return Ok(Ending::Source(error)),
        }
    }
}

/// Takes blocks from a pipe to its end: false; true: the next one would be too much.
async fn copy(pipe: &Async<PipeReader>, book: &RefCell<Book>) -> Result<bool> {
    loop {
        let read = pipe.read_with(|mut pipe| book.borrow_mut().read(&mut pipe)).await;
        if read.map_err(system("reading from a capture worker"))? == 0 {
            return Ok(false);
        }
        if book.borrow_mut().write()? {
            return Ok(true);
        }
    }
}

/// The file that is written, and what waits to be written into it.
#[derive(Debug)]
struct Book {
    file: BufWriter<File>,
    /// What came of the next block.
    unread: Vec<u8>,
    packets: u64,
    bytes: u64,
    most_bytes: u64,
}

impl Book {
    fn begin(file: File, most_bytes: u64) -> Result<Book> {
        let mut begin = Vec::new();
        pcapng::begin(&mut begin, concat!("weir ", env!("CARGO_PKG_VERSION")));
        let mut book =
            Book { file: BufWriter::new(file), unread: Vec::new(), packets: 0, bytes: 0, most_bytes };
        book.put(&begin)?;
        Ok(book)
    }

    /// Words of ours among the packets. They are few, and written whatever the limit.
    fn note(&mut self, words: &str) -> Result<()> {
        let mut entry = Vec::new();
        pcapng::entry(&mut entry, Wall::now(), words);
        self.put(&entry)
    }

    fn read(&mut self, pipe: &mut &PipeReader) -> std::io::Result<usize> {
        let before = self.unread.len();
        self.unread.resize(before + CHUNK_BYTES, 0);
        let read = pipe.read(self.unread.get_mut(before..).unwrap_or_default());
        self.unread.truncate(before + *read.as_ref().unwrap_or(&0));
        read
    }

    /// Writes the blocks that have come whole. True: the next one would be too much.
    ///
    /// Errors: `Worker`: what came is no block of a packet.
    fn write(&mut self) -> Result<bool> {
        let unread = std::mem::take(&mut self.unread);
        let mut at = 0;
        while let Some((kind, length)) = unread.get(at..).and_then(pcapng::head) {
            if kind != pcapng::PACKET || !(MIN_BLOCK_BYTES..=pcapng::MAX_BLOCK_BYTES).contains(&length) {
                return Err(super::broke_protocol("a recorded packet that is none"));
            }
            let Some(block) = unread.get(at..at + length) else { break };
            if self.bytes + length as u64 > self.most_bytes {
                return Ok(true);
            }
            self.put(block)?;
            self.packets += 1;
            at += length;
        }
        self.unread = unread.get(at..).unwrap_or_default().to_vec();
        Ok(false)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(unwritable)
    }

    /// Closes it, and says its size in bytes.
    fn end(mut self) -> Result<u64> {
        self.file.flush().map_err(unwritable)?;
        Ok(self.bytes)
    }
}

fn unwritable(cause: std::io::Error) -> Error {
    Error::told(Kind::CannotCreate, "the recording cannot be written", cause)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn book(name: &str, most_bytes: u64) -> (Book, std::path::PathBuf) {
        let path = std::env::temp_dir().join(format!("weir-{name}-{}", std::process::id()));
        (Book::begin(File::create(&path).unwrap(), most_bytes).unwrap(), path)
    }

    fn packet(length: usize) -> Vec<u8> {
        let mut out = Vec::new();
        pcapng::packet(&mut out, Wall::now(), false, &[7; 40], &vec![7; length]);
        out
    }

    #[test]
    fn whole_packets_are_written_and_none_beyond_the_limit() {
        let block = packet(100);
        let (mut book, path) = book("blocks", 300 + 3 * block.len() as u64);
        let begun = book.bytes;
        let stream = block.repeat(9);
        let mut is_full = false;
        for piece in stream.chunks(23) {
            book.unread.extend_from_slice(piece);
            is_full = book.write().unwrap();
            if is_full {
                break;
            }
        }
        assert!(is_full && book.packets >= 3 && book.bytes <= book.most_bytes);
        assert_eq!(book.bytes, begun + book.packets * block.len() as u64);
        let bytes = book.end().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), bytes);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_a_worker_says_is_a_packet_or_its_end() {
        let (mut book, path) = book("strange", u64::MAX);
        for (kind, length) in [(9, 32), (pcapng::PACKET, 8), (pcapng::PACKET, 1 << 20), (0x0a0d_0d0a, 32)] {
            book.unread = [u32::to_le_bytes(kind), u32::to_le_bytes(length)].concat();
            assert_eq!(book.write().unwrap_err().kind(), Kind::Worker, "{kind} {length}");
        }
        std::fs::remove_file(path).unwrap();
    }
}
