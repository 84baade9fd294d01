//! Pipelines that survive a restart: one small file in the state directory, rewritten whole whenever the table changes.
//!
//! The file is replaced atomically (temporary file, fsync, rename, fsync of the directory), so a power cut leaves the old or the
//! new one. Its first line is `weir-pipelines <version> <crc32 of the rest, hex>`, the rest one JSON document. It holds API keys
//! and camera passwords, hence mode 0600. A file that cannot be read is set aside and never stops the start.

use crate::command::{
    Consumption, Filling, Init, Memory, ModelParameters, PipelineId, Property, Secret, Sink, SinkAddress, Source, SourceReference,
};
use crate::error::{Error, Kind, Result};
use miniserde::{Deserialize, Serialize, json};
use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Format of the file; another one is set aside like a damaged file.
const VERSION: u32 = 1;
const MAGIC: &str = "weir-pipelines";
const FILE_NAME: &str = "pipelines.json";
/// 64 pipelines of 16 sources with usual URLs stay far below this; what would pass it is not acknowledged.
const MAX_FILE_BYTES: u64 = 8 << 20;

/// What is kept of one pipeline.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) id: PipelineId,
    pub(super) init: Init,
    pub(super) muted: bool,
    /// It belongs to the configuration: kept only to be muted again, and the last good form of its file.
    pub(super) is_declared: bool,
}

/// Writes the table to its file. Lives on the event loop; the writing itself does not.
#[derive(Debug)]
pub(super) struct Store {
    file: PathBuf,
    writing: Arc<async_lock::Mutex<()>>,
    /// Changes asked to be written, and changes written: whoever waited while another wrote may find its own done.
    asked: Cell<u64>,
    written: Cell<u64>,
}

impl Store {
    /// A store in `directory`, and what it held.
    pub(super) fn open(directory: &Path) -> (Store, Vec<Kept>) {
        if let Err(error) = make_writable(directory) {
            // Told now, not by the first `init` that fails.
            log::error!("state={} error=\"{error}\" writable=false", directory.display());
        }
        let file = directory.join(FILE_NAME);
        let kept = match load(&file) {
            Ok(kept) => kept,
            Err(error) => {
                set_aside(&file, &error);
                Vec::new()
            }
        };
        (Store { file, writing: Arc::default(), asked: Cell::new(0), written: Cell::new(0) }, kept)
    }

    /// Returns when the table as `snapshot` shows it (or a later one) is on the disk. Dropped before that, it may still get there.
    pub(super) async fn save(&self, snapshot: impl Fn() -> Vec<Kept>) -> Result<()> {
        let mine = self.asked.get() + 1;
        self.asked.set(mine);
        let turn = self.writing.lock_arc().await;
        if self.written.get() >= mine {
            return Ok(());
        }
        let covered = self.asked.get();
        let (bytes, file) = (encode(&snapshot()), self.file.clone());
        if bytes.len() as u64 > MAX_FILE_BYTES {
            let message = format!("the pipelines would fill more than the {MAX_FILE_BYTES} bytes of the state file");
            return Err(Error::new(Kind::Exhausted, message));
        }
        let write = move || {
            let outcome = replace(&file, &bytes);
            // Held by who writes, not by who waits for it: two at once would mix their bytes in one file.
            drop(turn);
            outcome
        };
        let outcome = smol::unblock(write).await;
        outcome.map_err(|cause| Error::new(Kind::System, format!("cannot write {}: {cause}", self.file.display())))?;
        self.written.set(covered);
        Ok(())
    }
}

/// Makes the directory where it is missing (systemd makes its own), and says whether it can be written to.
fn make_writable(directory: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    Ok(rustix::fs::access(directory, rustix::fs::Access::WRITE_OK)?)
}

fn set_aside(file: &Path, error: &io::Error) {
    if error.kind() == io::ErrorKind::NotFound {
        return;
    }
    let aside = file.with_extension("damaged");
    let moved = fs::rename(file, &aside);
    log::error!("state={} error={error} set_aside={} moved={}", file.display(), aside.display(), moved.is_ok());
}

fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = file.with_extension("new");
    let mut output = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    output.write_all(bytes)?;
    output.sync_all()?;
    fs::rename(&temporary, file)?;
    let directory = file.parent().unwrap_or(Path::new("/"));
    File::open(directory)?.sync_all()
}

fn load(file: &Path) -> io::Result<Vec<Kept>> {
    if fs::metadata(file)?.len() > MAX_FILE_BYTES {
        return Err(io::Error::other("the file is too large"));
    }
    decode(&fs::read_to_string(file)?).ok_or_else(|| io::Error::other("the file is damaged or of another version"))
}

fn encode(kept: &[Kept]) -> Vec<u8> {
    let document = json::to_string(&Document { pipelines: kept.iter().map(Record::from).collect() });
    format!("{MAGIC} {VERSION} {:08x}\n{document}", crc32fast::hash(document.as_bytes())).into_bytes()
}

fn decode(text: &str) -> Option<Vec<Kept>> {
    let (header, document) = text.split_once('\n')?;
    let sum = header.strip_prefix(&format!("{MAGIC} {VERSION} "))?;
    if u32::from_str_radix(sum, 16).ok()? != crc32fast::hash(document.as_bytes()) {
        return None;
    }
    json::from_str::<Document>(document).ok()?.pipelines.into_iter().map(Record::into_kept).collect()
}

#[derive(Serialize, Deserialize)]
struct Document {
    pipelines: Vec<Record>,
}

/// `Init` as it is written. A type of its own, so that the file's format does not change when the product's types do.
#[derive(Serialize, Deserialize)]
struct Record {
    id: String,
    muted: bool,
    /// Absent: false.
    declared: Option<bool>,
    model_id: String,
    api_key: Option<String>,
    sources: Vec<SourceRecord>,
    /// Empty, and the port 0, when the sink is in memory.
    sink_host: String,
    sink_port: u16,
    memory: Option<MemoryRecord>,
    class_agnostic_nms: Option<bool>,
    confidence: Option<f32>,
    iou_threshold: Option<f32>,
    max_candidates: Option<u32>,
    max_detections: Option<u32>,
    max_fps: Option<f64>,
    filling: Option<String>,
    consumption: Option<String>,
    batch_collection_timeout_s: Option<f64>,
}

#[derive(Serialize, Deserialize)]
struct MemoryRecord {
    turns: usize,
    outputs: Vec<String>,
    timeout_s: Option<f64>,
}

#[derive(Serialize, Deserialize)]
struct SourceRecord {
    /// One of the two is set.
    device: Option<u32>,
    text: Option<String>,
    properties: Vec<PropertyRecord>,
}

#[derive(Serialize, Deserialize)]
struct PropertyRecord {
    name: String,
    value: f64,
}

impl From<&Kept> for Record {
    fn from(kept: &Kept) -> Record {
        let (init, parameters) = (&kept.init, &kept.init.parameters);
        let (sink_host, sink_port, memory) = match &init.sink {
            Sink::Udp(address) => (address.host.clone(), address.port, None),
            Sink::Memory(memory) => (String::new(), 0, Some(MemoryRecord::from(memory))),
        };
        Record {
            id: kept.id.to_string(),
            muted: kept.muted,
            declared: Some(kept.is_declared),
            model_id: init.model_id.clone(),
            api_key: init.api_key.as_ref().map(|key| key.reveal().to_owned()),
            sources: init.sources.iter().map(SourceRecord::from).collect(),
            sink_host,
            sink_port,
            memory,
            class_agnostic_nms: parameters.class_agnostic_nms,
            confidence: parameters.confidence,
            iou_threshold: parameters.iou_threshold,
            max_candidates: parameters.max_candidates,
            max_detections: parameters.max_detections,
            max_fps: init.max_fps,
            filling: init.filling.map(|filling| filling.as_str().to_owned()),
            consumption: init.consumption.map(|consumption| consumption.as_str().to_owned()),
            batch_collection_timeout_s: init.batch_collection_timeout.map(|timeout| timeout.as_secs_f64()),
        }
    }
}

impl From<&Memory> for MemoryRecord {
    fn from(memory: &Memory) -> MemoryRecord {
        MemoryRecord {
            turns: memory.turns,
            outputs: memory.outputs.to_vec(),
            timeout_s: memory.timeout.map(|timeout| timeout.as_secs_f64()),
        }
    }
}

impl MemoryRecord {
    fn into_memory(self) -> Memory {
        let timeout = self.timeout_s.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Memory { turns: self.turns, outputs: self.outputs.into(), timeout }
    }
}

impl Record {
    fn into_kept(self) -> Option<Kept> {
        let filling = |name: String| Filling::ALL.into_iter().find(|filling| filling.as_str() == name);
        let consumption = |name: String| Consumption::ALL.into_iter().find(|consumption| consumption.as_str() == name);
        Some(Kept {
            is_declared: self.declared.unwrap_or_default(),
            id: self.id.parse().ok()?,
            muted: self.muted,
            init: Init {
                model_id: self.model_id,
                sources: self.sources.into_iter().map(SourceRecord::into_source).collect::<Option<_>>()?,
                sink: match self.memory {
                    None => Sink::Udp(SinkAddress { host: self.sink_host, port: self.sink_port }),
                    Some(memory) => Sink::Memory(memory.into_memory()),
                },
                parameters: ModelParameters {
                    class_agnostic_nms: self.class_agnostic_nms,
                    confidence: self.confidence,
                    iou_threshold: self.iou_threshold,
                    max_candidates: self.max_candidates,
                    max_detections: self.max_detections,
                },
                api_key: self.api_key.map(Secret::new),
                max_fps: self.max_fps.filter(|fps| *fps > 0.0),
                filling: self.filling.and_then(filling),
                consumption: self.consumption.and_then(consumption),
                batch_collection_timeout: self.batch_collection_timeout_s.and_then(|s| Duration::try_from_secs_f64(s).ok()),
            },
        })
    }
}

impl From<&Source> for SourceRecord {
    fn from(source: &Source) -> SourceRecord {
        let (device, text) = match &source.reference {
            SourceReference::Device(index) => (Some(*index), None),
            SourceReference::Text(text) => (None, Some(text.clone())),
        };
        let property = |property: &Property| PropertyRecord { name: property.name.clone(), value: property.value };
        SourceRecord { device, text, properties: source.properties.iter().map(property).collect() }
    }
}

impl SourceRecord {
    fn into_source(self) -> Option<Source> {
        let reference = match (self.device, self.text) {
            (Some(index), None) => SourceReference::Device(index),
            (None, Some(text)) => SourceReference::Text(text),
            _ => return None,
        };
        let property = |property: PropertyRecord| Property { name: property.name, value: property.value };
        Some(Source { reference, properties: self.properties.into_iter().map(property).collect() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn kept() -> Kept {
        let camera = SourceReference::Text("rtsp://user:pass@cam/1".to_owned());
        Kept {
            id: PipelineId::new_v4(),
            muted: true,
            is_declared: false,
            init: Init {
                model_id: "toy/1".to_owned(),
                sources: vec![
                    Source { reference: camera, properties: vec![Property { name: "fps".to_owned(), value: 12.5 }] },
                    Source { reference: SourceReference::Device(2), properties: Vec::new() },
                ],
                sink: Sink::Udp(SinkAddress { host: "receiver".to_owned(), port: 9999 }),
                parameters: ModelParameters { confidence: Some(0.25), ..ModelParameters::default() },
                api_key: Some(Secret::new("key")),
                max_fps: Some(16.0),
                filling: Some(Filling::DropLatest),
                consumption: None,
                batch_collection_timeout: Some(Duration::from_millis(250)),
            },
        }
    }

    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Folder {
            let folder = std::env::temp_dir().join(format!("weir-store-{}", uuid::Uuid::new_v4()));
            fs::create_dir(&folder).unwrap();
            Folder(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_was_saved_is_found_again_and_only_its_owner_may_read_it() {
        let folder = Folder::new();
        let (store, before) = Store::open(&folder.0);
        assert!(before.is_empty());
        let saved = kept();
        smol::block_on(store.save(|| vec![saved.clone(), kept()])).unwrap();
        let (_, found) = Store::open(&folder.0);
        assert_eq!(found.len(), 2);
        assert_eq!(format!("{:?}", found[0]), format!("{saved:?}"));
        assert_eq!(found[0].init.api_key.as_ref().unwrap().reveal(), "key");
        let mode = fs::metadata(folder.0.join(FILE_NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_file_is_set_aside() {
        let whole = encode(&[kept()]);
        for cut in [0, 5, 20, 40, whole.len() - 1] {
            let folder = Folder::new();
            fs::write(folder.0.join(FILE_NAME), &whole[..cut]).unwrap();
            assert!(Store::open(&folder.0).1.is_empty(), "cut at {cut}");
            assert!(folder.0.join("pipelines.damaged").exists(), "cut at {cut}");
        }
        for position in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[position] ^= 1;
            let found = String::from_utf8(flipped).ok().and_then(|text| decode(&text));
            assert!(found.is_none(), "a flipped bit at {position} went unnoticed");
        }
    }

    #[test]
    fn a_file_that_could_not_be_read_again_is_not_written() {
        let folder = Folder::new();
        let (store, _) = Store::open(&folder.0);
        let saved = kept();
        smol::block_on(store.save(|| vec![saved.clone()])).unwrap();
        let mut large = kept();
        large.init.sources = vec![Source { reference: SourceReference::Text("x".repeat(1 << 20)), properties: Vec::new() }; 9];
        let error = smol::block_on(store.save(|| vec![large.clone()])).unwrap_err();
        assert_eq!(error.kind(), Kind::Exhausted);
        let (_, found) = Store::open(&folder.0);
        assert_eq!(found.iter().map(|kept| kept.id).collect::<Vec<_>>(), [saved.id]);
    }

    #[test]
    fn a_write_that_nobody_waits_for_is_over_before_the_next_begins() {
        let folder = Folder::new();
        // Whoever writes writes into this, and waits while it is full.
        let pipe = folder.0.join("pipelines.new");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK;
        let mut reader = File::from(rustix::fs::open(&pipe, flags, rustix::fs::Mode::empty()).unwrap());
        let mut large = kept();
        large.init.model_id = "x".repeat(1 << 20);
        let expected = encode(std::slice::from_ref(&large));
        let (store, _) = Store::open(&folder.0);
        let mut chunk = vec![0; 1 << 16];
        let mut received = Vec::new();
        smol::block_on(async {
            let mut first = Box::pin(store.save(|| vec![large.clone()]));
            while received.is_empty() {
                assert!(smol::future::poll_once(first.as_mut()).await.is_none());
                let length = io::Read::read(&mut reader, &mut chunk).unwrap_or(0);
                received.extend_from_slice(&chunk[..length]);
            }
            drop(first);
            let small = kept();
            let mut next = Box::pin(store.save(|| vec![small.clone()]));
            assert!(smol::future::poll_once(next.as_mut()).await.is_none());
            loop {
                match io::Read::read(&mut reader, &mut chunk) {
                    Ok(0) => break,
                    Ok(length) => received.extend_from_slice(&chunk[..length]),
                    // The other thread is about to write.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                    Err(error) => panic!("{error}"),
                }
            }
            assert!(received == expected, "{} bytes of {}", received.len(), expected.len());
            fs::remove_file(&pipe).unwrap();
            next.await.unwrap();
            assert_eq!(Store::open(&folder.0).1.first().unwrap().id, small.id);
        });
    }

    #[test]
    fn an_unwritable_directory_is_an_error() {
        let (store, _) = Store::open(Path::new("/proc/no-such-folder"));
        assert_eq!(smol::block_on(store.save(Vec::new)).unwrap_err().kind(), Kind::System);
    }
}
