//! Pipelines that survive a restart: one small file in the state directory, rewritten whole whenever the
//! table changes.
//!
//! The file is replaced atomically (temporary file, fsync, rename, fsync of the directory), so a power cut
//! leaves the old or the new one. Its first line is `weir-pipelines <version> <crc32 of the rest, hex>`, then
//! comes a line for each pipeline: a JSON object of `id`, `muted`, `declared` and `init`, the document that a
//! client would send. It holds API keys and camera passwords, hence mode 0600. A file that cannot be read is
//! set aside and never stops the start.

mod version_1;

use crate::command::init::document;
use crate::command::{Init, PipelineId};
use crate::error::{Error, Kind, Result};
use crate::folder::Refusal;
use crate::json::{self, Object, Style, Value, Writer};
use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Format of the file that is written. Version 1 is read, too; another one is set aside like a damaged file.
const VERSION: u32 = 2;
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
    /// Changes asked to be written, and changes written: whoever waited while another wrote may find its own
    /// done.
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

    /// Returns when the table as `snapshot` shows it (or a later one) is on the disk. Dropped before that, it
    /// may still get there.
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
            let message =
                format!("the pipelines would fill more than the {MAX_FILE_BYTES} bytes of the state file");
            return Err(Error::new(Kind::Exhausted, message));
        }
        let write = move || {
            let outcome = replace(&file, &bytes);
            // Held by who writes, not by who waits for it: two at once would mix their bytes in one file.
            drop(turn);
            outcome
        };
        let outcome = smol::unblock(write).await;
        outcome.map_err(|cause| {
            Error::told(Kind::System, format_args!("cannot write {}", self.file.display()), cause)
        })?;
        self.written.set(covered);
        Ok(())
    }
}

/// Makes the directory where it is missing (systemd makes its own), and says whether it can be written to.
fn make_writable(directory: &Path) -> io::Result<()> {
    crate::folder::make(directory).map_err(|refusal| match refusal {
        Refusal::Trust(words) => io::Error::other(words),
        Refusal::System(cause) => cause,
    })?;
    Ok(rustix::fs::access(directory, rustix::fs::Access::WRITE_OK)?)
}

fn set_aside(file: &Path, error: &io::Error) {
    if error.kind() == io::ErrorKind::NotFound {
        return;
    }
    let aside = file.with_extension("damaged");
    let moved = fs::rename(file, &aside);
    log::error!(
        "state={} error={error} set_aside={} moved={}",
        file.display(),
        aside.display(),
        moved.is_ok()
    );
}

fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = file.with_extension("new");
    let mut output =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
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
    decode(&fs::read_to_string(file)?)
        .ok_or_else(|| io::Error::other("the file is damaged or of another version"))
}

/// Keys of a line.
const ID: &str = "id";
const MUTED: &str = "muted";
const DECLARED: &str = "declared";
const INIT: &str = "init";

fn encode(kept: &[Kept]) -> Vec<u8> {
    let mut lines = Vec::new();
    for kept in kept {
        let mut line = Object::default();
        line.push(ID, Value::String(kept.id.to_string()));
        line.push(MUTED, Value::Bool(kept.muted));
        line.push(DECLARED, Value::Bool(kept.is_declared));
        line.push(INIT, Value::Object(document::write(&kept.init)));
        let mut text = Writer::after(lines, Style::Compact);
        text.value(&Value::Object(line));
        lines = text.finish();
        lines.push(b'\n');
    }
    [format!("{MAGIC} {VERSION} {:08x}\n", crc32fast::hash(&lines)).as_bytes(), &lines].concat()
}

fn decode(text: &str) -> Option<Vec<Kept>> {
    let (header, rest) = text.split_once('\n')?;
    let (version, sum) = header.strip_prefix(MAGIC)?.strip_prefix(' ')?.split_once(' ')?;
    if u32::from_str_radix(sum, 16).ok()? != crc32fast::hash(rest.as_bytes()) {
        return None;
    }
    match version.parse() {
        Ok(VERSION) => rest.lines().map(decode_line).collect(),
        Ok(1_u32) => version_1::decode(rest),
        _ => None,
    }
}

fn decode_line(line: &str) -> Option<Kept> {
    let Ok(Value::Object(line)) = json::parse(line.as_bytes()) else { return None };
    let flag = |key| match line.get(key) {
        Some(Value::Bool(flag)) => Some(*flag),
        _ => None,
    };
    Some(Kept {
        id: line.get(ID)?.as_str()?.parse().ok()?,
        muted: flag(MUTED)?,
        is_declared: flag(DECLARED)?,
        init: document::read_kept(line.get(INIT)?.as_object()?).ok()?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::command::{Filling, ModelParameters, Property, Secret, SourceReference, SourceRequest};
    use crate::sink::{Sink, UdpSink};
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    fn kept() -> Kept {
        let camera = SourceReference::Text("rtsp://user:pass@cam/1".to_owned());
        Kept {
            id: PipelineId::new_v4(),
            muted: true,
            is_declared: false,
            init: Init {
                model_id: "toy/1".to_owned(),
                sources: vec![
                    SourceRequest {
                        reference: camera,
                        properties: vec![Property { name: "fps".to_owned(), value: 12.5 }],
                        masks: vec![crate::geometry::Polygon(vec![[0.0, 0.1], [0.5, 0.1], [0.5, 1.0]])],
                    },
                    SourceRequest {
                        reference: SourceReference::Device(2),
                        properties: Vec::new(),
                        masks: Vec::new(),
                    },
                ],
                sinks: vec![Sink::Udp(UdpSink { host: "receiver".to_owned(), port: 9999 })],
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
        assert_eq!((found[0].id, found[0].muted, &found[0].init), (saved.id, saved.muted, &saved.init));
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
        large.init.sources = vec![
            SourceRequest {
                reference: SourceReference::Text("x".repeat(1 << 20)),
                properties: Vec::new(),
                masks: Vec::new()
            };
            9
        ];
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
