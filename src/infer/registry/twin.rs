//! Twins in 8 bits: what `weir models quantise` makes of a model (`new_twin.rs`) is found again here. A twin is a model of
//! one's own (`own.rs`) whose `weir.json` says which file it was made from; a file that has changed since has none.

use super::assemble::{Artefacts, Assembled, assemble};
use super::fingerprint::{Fingerprint, fingerprint};
use super::in_flight::Watch;
use super::told::{self, Told};
use super::{RegistrySettings, cache};
use crate::error::{Kind, Result};
use crate::infer::Precision;
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

/// Folders that may hold twins.
fn folders(settings: &RegistrySettings) -> impl Iterator<Item = PathBuf> {
    let entries = |dir| std::fs::read_dir(dir).into_iter().flatten().flatten().take(MAX_FOLDERS);
    settings.models_dirs.iter().flat_map(entries).map(|entry| entry.path()).filter(|path| path.is_dir())
}

/// Whether there is any.
pub(super) fn are_there(settings: &RegistrySettings) -> bool {
    folders(settings).any(|folder| is_one(&folder))
}

/// The folder of the twin of the model whose weights these are.
fn of(weights: &Path, settings: &RegistrySettings) -> Option<PathBuf> {
    let weights = &weights.canonicalize().ok()?;
    let length = weights.metadata().ok()?.len();
    let mut found: Vec<(PathBuf, Fingerprint)> = Vec::new();
    for path in folders(settings) {
        let from = told(&path).and_then(|told| told.quantised_from);
        found.extend(from.filter(|(of, _)| *of == length).map(|from| (path, from)));
    }
    // the weights are read only where it matters
    let own = found.first().and_then(|_| fingerprint(weights))?;
    found.retain(|(path, from)| {
        *from == own && !path.file_name().unwrap_or_default().as_encoded_bytes().starts_with(b".")
    });
    found.into_iter().map(|(path, _)| path).min()
}

/// What serves these artefacts in the precision that is asked for: with `int8` their twin, where they have one.
pub(super) fn serve(
    artefacts: Artefacts,
    settings: &RegistrySettings,
    watch: &dyn Watch,
) -> Result<Assembled> {
    if settings.precision != Precision::Int8 {
        return assemble(artefacts, settings, watch);
    }
    let Some(folder) = of(&artefacts.weights, settings) else {
        let loaded = assemble(artefacts, settings, watch)?;
        let id = loaded.model.id();
        match loaded.has_8_bits {
            true => log::info!("model={id} precision=int8"),
            false => log::warn!(
                "model={id} precision=full reason=\"it has no twin in 8 bits: weir models quantise {} --video FILE makes one\"",
                id.escape_debug()
            ),
        }
        return Ok(loaded);
    };
    let loaded = assemble(cache::read(&folder, artefacts.id.clone())?, settings, watch);
    match loaded {
        Err(error) if error.kind() == Kind::ModelArtefact => {
            let loaded = assemble(artefacts, settings, watch)?;
            log::warn!(
                "model={} precision=full twin={} reason=\"{}\"",
                loaded.model.id(),
                folder.display(),
                error.message()
            );
            Ok(loaded)
        }
        loaded => loaded.inspect(|loaded| {
            log::info!("model={} precision=int8 twin={}", loaded.model.id(), folder.display());
        }),
    }
}
