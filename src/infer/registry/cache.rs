//! The model cache on disk, in the reference's layout (docs/roboflow.md §6.2), so that both can share one.
//!
//! ```text
//! <cache>/<dataset>/<version>/model_type.json    {"project_task_type": …, "model_type": …}
//!                             environment.json   as the API gave it, plus COLORS
//!                             class_names.txt    one name per line
//!                             weights.onnx       yolov5s_weights.onnx for YOLOv5
//! <cache>/_file_locks/<dataset>-<version>.lock   held while a model is fetched; its text lists what was written ([`Written`])
//! ```
//!
//! A folder may have been copied here by hand, or hold notes: nothing is removed or replaced but files that a
//! download of ours wrote and nobody has touched since.

use super::assemble::Artefacts;
use super::document::{self, Look, MAX_DOCUMENT_BYTES};
use super::environment::Environment;
use super::lock::{Lock, unwritable};
use super::names;
use super::told::{self, Told};
use crate::error::{Error, Kind, Result};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// The weights of every family but YOLOv5.
pub(super) const WEIGHTS: &str = "weights.onnx";
/// The weights of YOLOv5.
pub(super) const YOLOV5_WEIGHTS: &str = "yolov5s_weights.onnx";
pub(super) const MODEL_TYPE: &str = "model_type.json";
pub(super) const ENVIRONMENT: &str = "environment.json";
pub(super) const CLASS_NAMES: &str = "class_names.txt";

/// What the reference takes a model for whose type is not told.
pub(super) const DEFAULT_MODEL_TYPE: &str = "yolov5v2s";

/// Where the files of a version lie.
pub(super) fn folder(cache: &Path, dataset: &str, version: u64) -> PathBuf {
    cache.join(dataset).join(version.to_string())
}

/// Name of the weights file for that model type.
pub(super) fn weights_name(model_type: &str) -> &'static str {
    if model_type.starts_with("yolov5") { YOLOV5_WEIGHTS } else { WEIGHTS }
}

/// Refuses what others have, or could have, a hand in.
pub(super) fn trust(folder: &Path) -> Result<()> {
    crate::folder::check(folder).map(|_| ()).map_err(|refusal| refusal.error(folder))
}

/// Everything a model needs lies in `folder`.
pub(super) fn is_complete(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).is_file();
    has(MODEL_TYPE) && has(ENVIRONMENT) && (has(WEIGHTS) || has(YOLOV5_WEIGHTS))
}

/// Reads a folder in the cache's layout. `model_type.json` may be absent in a folder of one's own making.
pub(super) fn read(folder: &Path, id: String) -> Result<Artefacts> {
    let environment = required(folder, ENVIRONMENT)?;
    let environment = Environment::parse(&environment)?;
    let model_type = match optional(folder, MODEL_TYPE)? {
        None => None,
        Some(bytes) => {
            let document = document::parse(&bytes).ok_or_else(|| artefact("model_type.json is not JSON"))?;
            document.member("model_type").and_then(Look::text).map(str::to_owned)
        }
    };
    let told = optional(folder, told::FILE)?.map_or(Ok(Told::default()), |bytes| Told::parse(&bytes))?;
    let classes =
        optional(folder, CLASS_NAMES)?.map(|bytes| names::of_lines(&String::from_utf8_lossy(&bytes)));
    let first = weights_name(model_type.as_deref().unwrap_or_default());
    let weights = [first, WEIGHTS, YOLOV5_WEIGHTS]
        .map(|name| folder.join(name))
        .into_iter()
        .find(|path| path.is_file());
    let weights = weights.ok_or_else(|| artefact(format!("{WEIGHTS} is missing")))?;
    Ok(Artefacts { id, weights, model_type, environment, classes, told })
}

fn artefact(message: impl Into<String>) -> Error {
    Error::new(Kind::ModelArtefact, message.into())
}

fn required(folder: &Path, name: &str) -> Result<Vec<u8>> {
    optional(folder, name)?.ok_or_else(|| artefact(format!("{name} is missing")))
}

/// The file's bytes, up to [`MAX_DOCUMENT_BYTES`]; `None` when there is no such file.
pub(super) fn optional(folder: &Path, name: &str) -> Result<Option<Vec<u8>>> {
    // Of the machine and not of the model: no reason to fetch it anew.
    let unreadable = |cause| Error::new(Kind::System, format!("{name} cannot be read")).because(cause);
    let file = match File::open(folder.join(name)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(unreadable)?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_DOCUMENT_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_DOCUMENT_BYTES {
        return Err(artefact(format!("{name} is larger than {MAX_DOCUMENT_BYTES} bytes")));
    }
    Ok(Some(bytes))
}

/// A model on its way into the cache: a folder beside its place, moved there when everything is in it.
/// Removed when dropped before. Whoever makes one holds the version's lock, so what a dead process left can
/// be cleared away.
pub(super) struct Partial {
    folder: PathBuf,
    target: PathBuf,
}

impl Partial {
    /// Begins with an empty folder beside the one that it will become.
    pub(super) fn begin(cache: &Path, dataset: &str, version: u64) -> Result<Partial> {
        let target = folder(cache, dataset, version);
        let folder = cache.join(dataset).join(format!(".{version}.partial"));
        let refused = |error| unwritable(&folder, error);
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(refused(error)),
            _ => drop(crate::folder::make(&folder).map_err(|refusal| refusal.error(&folder))?),
        }
        Ok(Partial { folder, target })
    }

    /// A new file in it.
    pub(super) fn create(&self, name: &str) -> Result<File> {
        let path = self.folder.join(name);
        File::create(&path).map_err(|error| unwritable(&path, error))
    }

    /// Writes a file whole, onto the disk.
    pub(super) fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let mut file = self.create(name)?;
        let refused = |error| unwritable(&self.folder.join(name), error);
        file.write_all(content).map_err(refused)?;
        file.sync_all().map_err(refused)
    }

    /// The folder itself, to try out what is in it.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Everything is there, `last` is the last file written: moves the files to their place, and notes in
    /// `lock` which they are. What stands in their way and is not ours is set aside.
    pub(super) fn keep(self, last: &File, lock: &Lock) -> Result<()> {
        let refused = |error| unwritable(&self.target, error);
        last.sync_all().map_err(refused)?;
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(refused)?;
        let old = Written::read(lock);
        let names = files_of(&self.folder).map_err(refused)?;
        let new = names
            .iter()
            .map(|name| Some((name.clone(), fingerprint(&self.folder.join(name))?)))
            .collect::<Option<_>>();
        let new =
            Written(new.ok_or_else(|| Error::new(Kind::System, "cannot read what was just downloaded"))?);
        // Noted before it is done: a process that dies between the two leaves files that do not match, which
        // are nobody's to remove.
        new.write(lock)?;
        if self.target.symlink_metadata().is_err() {
            std::fs::rename(&self.folder, &self.target).map_err(refused)?;
        } else {
            for name in &names {
                let place = self.target.join(name);
                if place.symlink_metadata().is_ok() && !old.holds(&self.target, name) {
                    set_aside(&place)?;
                }
                std::fs::rename(self.folder.join(name), &place).map_err(refused)?;
            }
            File::open(&self.target).and_then(|folder| folder.sync_all()).map_err(refused)?;
        }
        match self.target.parent() {
            None => Ok(()),
            Some(parent) => File::open(parent).and_then(|parent| parent.sync_all()).map_err(refused),
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After `keep` there is nothing left of it.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Names of the files in a folder that was made here.
fn files_of(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        names.extend(entry?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

/// Gives a file that is not ours another name, and says so.
fn set_aside(path: &Path) -> Result<()> {
    for number in 1..=MAX_SET_ASIDE {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}.kept"));
        let other = PathBuf::from(name);
        if other.symlink_metadata().is_err() {
            std::fs::rename(path, &other).map_err(|error| unwritable(path, error))?;
            log::warn!(
                "model_cache file={} set_aside={} reason=\"it was not written by weir\"",
                path.display(),
                other.display()
            );
            return Ok(());
        }
    }
    Err(Error::new(Kind::System, "too many files of this model were set aside in the cache"))
}

/// Most versions of one file that are set aside; more means that something else goes wrong.
const MAX_SET_ASIDE: u32 = 100;

/// Length and checksum of a file: enough to see that nobody has changed it.
pub(super) type Fingerprint = (u64, u32);

pub(super) fn fingerprint(path: &Path) -> Option<Fingerprint> {
    if !path.symlink_metadata().ok()?.is_file() {
        return None;
    }
    let mut file = File::open(path).ok()?;
    let (mut hasher, mut length, mut block) = (crc32fast::Hasher::new(), 0, vec![0; 1 << 16]);
    loop {
        match file.read(&mut block).ok()? {
            0 => return Some((length, hasher.finalize())),
            count => {
                hasher.update(block.get(..count)?);
                length += count as u64;
            }
        }
    }
}

/// The files that the last download of a version wrote, a line each: length, checksum, name.
#[derive(Debug, Default)]
pub(super) struct Written(Vec<(String, Fingerprint)>);

impl Written {
    /// As noted in the version's lock; empty where nothing is.
    pub(super) fn read(lock: &Lock) -> Written {
        let line = |line: &str| {
            let mut words = line.splitn(3, ' ');
            let length = words.next()?.parse().ok()?;
            let checksum = u32::from_str_radix(words.next()?, 16).ok()?;
            Some((words.next()?.to_owned(), (length, checksum)))
        };
        Written(lock.text().lines().filter_map(line).collect())
    }

    fn write(&self, lock: &Lock) -> Result<()> {
        let line =
            |(name, (length, checksum)): &(String, Fingerprint)| format!("{length} {checksum:08x} {name}\n");
        lock.note(&self.0.iter().map(line).collect::<String>())
    }

    /// Whether the file of that name is as it was written.
    fn holds(&self, folder: &Path, name: &str) -> bool {
        self.0
            .iter()
            .any(|(known, written)| known == name && fingerprint(&folder.join(name)) == Some(*written))
    }

    /// Whether the folder's model is that download, untouched: all four kinds of file that make one.
    pub(super) fn is_whole(&self, folder: &Path) -> bool {
        let parts = [MODEL_TYPE, ENVIRONMENT, CLASS_NAMES, WEIGHTS, YOLOV5_WEIGHTS];
        let there = parts.into_iter().filter(|name| folder.join(name).symlink_metadata().is_ok());
        !self.0.is_empty() && there.into_iter().all(|name| self.holds(folder, name))
    }
}

/// Throws a download away that cannot be loaded, so that the next request fetches it anew. What else lies in
/// the folder stays.
pub(super) fn discard(folder: &Path, lock: &Lock) {
    let written = Written::read(lock);
    for (name, _) in &written.0 {
        if written.holds(folder, name)
            && let Err(error) = std::fs::remove_file(folder.join(name))
        {
            log::warn!("model_cache discard_failed error={error}");
        }
    }
    // Only when nothing is left in it.
    let _ = std::fs::remove_dir(folder);
}
