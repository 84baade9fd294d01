//! Plans on disk: what TensorRT made of a model for one version of itself, one kind of GPU and one precision.
//!
//! ```text
//! <model>-<key>.plan   both 16 hexadecimal digits of a SHA-256
//! ┌──────────────────────────┬──────────┬────────┬──────────────┬───────────┬────────────────────┐
//! │ plan, as it was built    │ weirplan │ format │ plan's bytes │ key       │ SHA-256 of the plan │
//! │                          │ 8 bytes  │ 8      │ 8            │ 32        │ 32                  │
//! └──────────────────────────┴──────────┴────────┴──────────────┴───────────┴────────────────────┘
//! ```
//!
//! The seal is at the end, so that the plan is not copied to get it, and `trtexec --loadEngine` still reads
//! the file. It finds damage, not malice: whoever may write to the folder may give us a program to run, as
//! with the libraries themselves.

use super::layout::{Product, Version};
use crate::error::{Error, Kind, Result, system};
use crate::folder::Refusal;
use ring::digest::{Context, Digest, SHA256, digest};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

const MAGIC: [u8; 8] = *b"weirplan";
const FORMAT: u64 = 1;
/// Bytes of a SHA-256.
const DIGEST_BYTES: usize = 32;
/// Bytes of magic, format, length, key and digest.
const SEAL_BYTES: usize = 8 + 8 + 8 + 2 * DIGEST_BYTES;
/// Bytes read at a time for the digest of a model.
const CHUNK_BYTES: usize = 1 << 16;
/// Digits of a digest in a file name: 64 bits are enough to tell the plans of one board apart; the seal holds
/// it whole.
const NAME_DIGITS: usize = 16;

/// Everything a plan depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity<'a> {
    pub(super) product: Product,
    pub(super) version: Version,
    pub(super) gpu: &'a str,
    pub(super) half: bool,
    pub(super) batch: usize,
    /// Pixels, width then height.
    pub(super) size: (usize, usize),
}

/// Where the plan of one model belongs.
#[derive(Debug)]
pub(super) struct Place {
    folder: PathBuf,
    model: String,
    key: Digest,
}

impl Place {
    /// In `folder`, or beside the model.
    pub(super) fn of(weights: &Path, folder: Option<&Path>, identity: &Identity<'_>) -> Result<Place> {
        let unreadable = |cause| Error::new(Kind::ModelArtefact, "the weights cannot be read").because(cause);
        let model = digest_of(&mut File::open(weights).map_err(unreadable)?).map_err(unreadable)?;
        let Identity { product, version, gpu, half, batch, size: (width, height) } = identity;
        let product = match product {
            Product::TensorRt => "",
            Product::Rtx => "rtx-",
        };
        let text = format!(
            "tensorrt={product}{version} gpu={gpu} half={half} batch={batch} input={width}x{height}\n"
        );
        let mut key = Context::new(&SHA256);
        key.update(model.as_ref());
        key.update(text.as_bytes());
        let folder = folder.or(weights.parent()).unwrap_or(Path::new("."));
        Ok(Place { folder: folder.to_owned(), model: hexadecimal(&model), key: key.finish() })
    }

    /// The file of the plan.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.join(format!("{}-{}.plan", self.model, hexadecimal(&self.key)))
    }

    /// The plan, when it is there and whole. One that is not is no error: it will be made anew.
    pub(super) fn read(&self, max_bytes: u64) -> Option<Vec<u8>> {
        let path = self.path();
        if let Err(refusal @ Refusal::Trust(_)) = crate::folder::check(&self.folder) {
            log::warn!("tensorrt plan={} unused reason=\"{refusal}\"", path.display());
            return None;
        }
        let mut file = File::open(&path).ok()?;
        let discard =
            |reason: &str| log::warn!("tensorrt plan={} discarded reason=\"{reason}\"", path.display());
        let mut bytes = Vec::new();
        let bound = max_bytes.saturating_add(SEAL_BYTES as u64 + 1);
        if let Err(error) = (&mut file).take(bound).read_to_end(&mut bytes) {
            discard(&error.to_string());
            return None;
        }
        if bytes.len() as u64 >= bound {
            discard("larger than any model may be");
            return None;
        }
        let body = self.unsealed(&bytes);
        match body {
            Ok(length) => {
                bytes.truncate(length);
                Some(bytes)
            }
            Err(reason) => {
                discard(reason);
                None
            }
        }
    }

    /// Bytes of the plan within a sealed file.
    fn unsealed(&self, bytes: &[u8]) -> Result<usize, &'static str> {
        let length = bytes.len().checked_sub(SEAL_BYTES).ok_or("too short")?;
        let (body, seal) = bytes.split_at_checked(length).ok_or("too short")?;
        let head = self.head(body.len());
        let (found_head, found_digest) = seal.split_at_checked(head.len()).ok_or("too short")?;
        if found_head != head {
            return Err("not of this model, TensorRT, GPU or precision");
        }
        if found_digest != digest(&SHA256, body).as_ref() {
            return Err("damaged");
        }
        Ok(length)
    }

    /// The seal up to the plan's own digest.
    fn head(&self, length: usize) -> Vec<u8> {
        [&MAGIC[..], &FORMAT.to_le_bytes(), &(length as u64).to_le_bytes(), self.key.as_ref()].concat()
    }

    /// A file that is not there yet, for the build to write to. Removed when dropped.
    pub(super) fn begin(&self) -> Result<Partial> {
        crate::folder::make(&self.folder).map_err(|refusal| refusal.error(&self.folder))?;
        // Two processes may build the same plan: each for itself, and the last one wins.
        let path = self.path().with_extension(format!("{}.partial", std::process::id()));
        self.clear_unfinished();
        // Now rather than after minutes of building: whether the folder can be written to.
        File::create(&path).map_err(unwritable)?;
        Ok(Partial { path })
    }

    /// Seals what was built and moves it to its place. Other plans of the same model are of older
    /// libraries or other settings: they go.
    pub(super) fn keep(&self, partial: Partial) -> Result<()> {
        let mut file = OpenOptions::new().read(true).append(true).open(&partial.path).map_err(unwritable)?;
        let length = file.metadata().map_err(unwritable)?.len();
        if length == 0 {
            return Err(Error::new(Kind::Inference, "the program that built it wrote no plan"));
        }
        let content = digest_of(&mut file).map_err(unwritable)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        file.write_all(&[self.head(length).as_slice(), content.as_ref()].concat()).map_err(unwritable)?;
        file.sync_all().map_err(unwritable)?;
        let path = self.path();
        std::fs::rename(&partial.path, &path).map_err(unwritable)?;
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(unwritable)?;
        self.clear_others(&path);
        Ok(())
    }

    /// Removes what builds of this plan left behind whose process was killed.
    fn clear_unfinished(&self) {
        let path = self.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let is_dead = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let pid = name.strip_prefix(stem).and_then(|rest| rest.strip_prefix('.'));
            let pid = pid.and_then(|rest| rest.strip_suffix(".partial")?.parse().ok());
            let pid = pid.and_then(rustix::process::Pid::from_raw);
            pid.is_some_and(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
        };
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()).filter(is_dead) {
            if let Err(error) = std::fs::remove_file(&path) {
                log::warn!("tensorrt partial={} error=\"{error}\"", path.display());
            }
        }
    }

    fn clear_others(&self, kept: &Path) {
        let is_other = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let of_model = name.strip_prefix(self.model.as_str()).is_some_and(|rest| rest.starts_with('-'));
            of_model && name.ends_with(".plan") && path != kept
        };
        let entries =
            std::fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|entry| entry.path());
        for path in entries.filter(is_other) {
            match std::fs::remove_file(&path) {
                Ok(()) => log::info!("tensorrt plan={} removed reason=\"replaced\"", path.display()),
                Err(error) => log::warn!("tensorrt plan={} error=\"{error}\"", path.display()),
            }
        }
    }
}

/// A plan on its way.
#[derive(Debug)]
pub(super) struct Partial {
    path: PathBuf,
}

impl Partial {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After `keep` there is nothing left of it.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn unwritable(cause: std::io::Error) -> Error {
    system("cannot write the TensorRT plan (tensorrt.cache_dir says where)")(cause)
}

fn digest_of(reader: &mut dyn Read) -> std::io::Result<Digest> {
    let mut context = Context::new(&SHA256);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match reader.read(&mut chunk)? {
            0 => return Ok(context.finish()),
            count => context.update(chunk.get(..count).unwrap_or_default()),
        }
    }
}

/// The first digits of the digest, hexadecimal: enough for a file's name.
fn hexadecimal(digest: &Digest) -> String {
    let mut text = String::new();
    for byte in digest.as_ref().iter().take(NAME_DIGITS / 2) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::infer::registry::test_dir::TestDir;

    const IDENTITY: Identity<'_> = Identity {
        product: Product::TensorRt,
        version: Version(8502),
        gpu: "Orin",
        half: true,
        batch: 4,
        size: (640, 640),
    };

    fn place(folder: &Path, identity: &Identity<'_>) -> Place {
        let weights = folder.join("weights.onnx");
        std::fs::write(&weights, "weights").unwrap();
        Place::of(&weights, None, identity).unwrap()
    }

    fn make(place: &Place, content: &[u8]) {
        let partial = place.begin().unwrap();
        std::fs::write(partial.path(), content).unwrap();
        place.keep(partial).unwrap();
    }

    #[test]
    fn a_plan_is_found_again_whole_or_not_at_all() {
        let dir = TestDir::new();
        let place = place(dir.path(), &IDENTITY);
        assert!(place.read(1000).is_none());
        make(&place, b"the plan");
        assert_eq!(place.read(1000).unwrap(), b"the plan");
        assert!(place.read(7).is_none(), "a plan above the limit");
        let sealed = std::fs::read(place.path()).unwrap();
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            std::fs::write(place.path(), &damaged).unwrap();
            assert!(place.read(1000).is_none(), "byte {at}");
            std::fs::write(place.path(), &sealed[..at]).unwrap();
            assert!(place.read(1000).is_none(), "{at} bytes");
        }
    }

    #[test]
    fn whatever_changes_the_plan_changes_its_key() {
        let dir = TestDir::new();
        let own = place(dir.path(), &IDENTITY).path();
        for other in [
            Identity { product: Product::Rtx, ..IDENTITY },
            Identity { version: Version(8601), ..IDENTITY },
            Identity { gpu: "Xavier", ..IDENTITY },
            Identity { half: false, ..IDENTITY },
            Identity { batch: 1, ..IDENTITY },
            Identity { size: (640, 320), ..IDENTITY },
        ] {
            assert_ne!(place(dir.path(), &other).path(), own, "{other:?}");
        }
        assert_eq!(place(dir.path(), &IDENTITY).path(), own);
    }

    #[test]
    fn a_new_plan_replaces_the_model_s_old_ones_and_leaves_nothing_else() {
        let dir = TestDir::new();
        let old = place(dir.path(), &Identity { version: Version(8501), ..IDENTITY });
        make(&old, b"old");
        std::fs::write(dir.path().join("0000000000000000-0000000000000000.plan"), "of another model")
            .unwrap();
        let new = place(dir.path(), &IDENTITY);
        make(&new, b"new");
        drop(new.begin().unwrap());
        assert!(!old.path().exists());
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            3,
            "the weights, the new plan, the other model's"
        );
    }

    #[test]
    fn what_a_killed_build_left_goes_with_the_next() {
        let dir = TestDir::new();
        let place = place(dir.path(), &IDENTITY);
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let dead = child.id();
        child.wait().unwrap();
        let left = place.path().with_extension(format!("{dead}.partial"));
        let of_another = dir.path().join(format!("other.{dead}.partial"));
        for path in [&left, &of_another] {
            std::fs::write(path, "half a plan").unwrap();
        }
        let under_way = place.begin().unwrap();
        assert!(!left.exists() && of_another.exists() && under_way.path().exists());
        drop(place.begin().unwrap());
    }

    #[test]
    fn an_empty_plan_is_not_kept() {
        let dir = TestDir::new();
        let place = place(dir.path(), &IDENTITY);
        assert!(place.keep(place.begin().unwrap()).is_err());
        assert!(!place.path().exists());
    }
}
