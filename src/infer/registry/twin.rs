//! Twins in 8 bits: what `weir models quantise` makes of a model (`new_twin.rs`) is found again here. A twin is a model of
//! one's own (`own.rs`) whose `weir.json` says which file it was made from; a file that has changed since has none.

use super::told::{self, Told};
use super::{RegistrySettings, cache};
use std::path::{Path, PathBuf};

/// Folders below one of `models.dirs` that are looked into at most.
const MAX_FOLDERS: usize = 512;

/// What `weir.json` in a folder says, where it can be read.
fn told(folder: &Path) -> Option<Told> {
    Told::parse(&cache::optional(folder, told::FILE).ok()??).ok()
}

/// Whether `weir models quantise` made what lies in a folder.
pub(super) fn is_one(folder: &Path) -> bool {
    told(folder).is_some_and(|told| told.quantised_from.is_some())
}

/// The folder of the twin of the model whose weights these are.
pub(super) fn of(weights: &Path, settings: &RegistrySettings) -> Option<PathBuf> {
    let length = weights.metadata().ok()?.len();
    let mut found: Vec<(PathBuf, cache::Fingerprint)> = Vec::new();
    for dir in &settings.models_dirs {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().take(MAX_FOLDERS);
        for path in entries.map(|entry| entry.path()).filter(|path| path.is_dir()) {
            let from = told(&path).and_then(|told| told.quantised_from);
            found.extend(from.filter(|(of, _)| *of == length).map(|from| (path, from)));
        }
    }
    // the weights are read only where it matters
    let own = found.first().and_then(|_| cache::fingerprint(weights))?;
    found.retain(|(path, from)| {
        *from == own && !path.file_name().unwrap_or_default().as_encoded_bytes().starts_with(b".")
    });
    found.into_iter().map(|(path, _)| path).min()
}
