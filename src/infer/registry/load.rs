//! One load from beginning to end. Blocks: runs on a loading thread, or for `weir check` on the main one.

use super::assemble::{self, Assembled};
use super::id::ModelId;
use super::in_flight::Watch;
use super::roboflow::Fetched;
use super::{RegistrySettings, cache, local, roboflow};
use crate::command::Secret;
use crate::error::{Error, Kind, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Loads a model. A panic in parser or compiler is an error of this model.
pub(super) fn load(
    id: &ModelId,
    key: Option<&Secret>,
    settings: &RegistrySettings,
    watch: &dyn Watch,
) -> Result<Assembled> {
    let attempt = AssertUnwindSafe(|| by_kind(id, key, settings, watch));
    let outcome = catch_unwind(attempt)
        .unwrap_or_else(|_| Err(Error::new(Kind::ModelArtefact, "loading the model panicked")));
    if let Ok(Assembled { model, why, .. }) = &outcome {
        log::info!(
            "model_loaded id={} engine={} family={} why=\"{why}\" weights_bytes={} arena_bytes={}",
            model.id(),
            model.engine_name(),
            model.family_name(),
            model.weights_bytes(),
            model.arena_bytes(),
        );
    }
    outcome
}

fn by_kind(
    id: &ModelId,
    key: Option<&Secret>,
    settings: &RegistrySettings,
    watch: &dyn Watch,
) -> Result<Assembled> {
    match id {
        ModelId::Path(path) => {
            assemble::assemble(local::artefacts(path, &settings.models_dirs)?, settings, watch)
        }
        ModelId::Version { dataset, version } => {
            let fetched = roboflow::fetch(dataset, *version, key, settings, watch)?;
            let folder = cache::folder(&settings.cache_dir, dataset, *version);
            cache::trust(&folder)?;
            let load = |folder: &Path| {
                cache::read(folder, id.to_string())
                    .and_then(|found| assemble::assemble(found, settings, watch))
            };
            let error = match load(&folder) {
                // The machine's fault and not the model's, or nobody waits any more: it stays as it is.
                Err(error) if error.kind() == Kind::ModelArtefact => error,
                outcome => return outcome,
            };
            if let Fetched::Now(lock) = fetched {
                // As the reference: a download that cannot be loaded is not kept.
                cache::discard(&folder, &lock);
                return Err(error);
            }
            if settings.offline {
                return Err(error);
            }
            let lock = roboflow::lock(dataset, *version, settings, watch)?;
            if !cache::Written::read(&lock).is_whole(&folder) {
                let message = format!(
                    "{}; {} was not written by weir and is left as it is",
                    error.message(),
                    folder.display()
                );
                return Err(Error::new(error.kind(), message).because(error));
            }
            // A download of ours, untouched: a newer one takes its place once it has been loaded.
            let Ok((partial, last)) = roboflow::download(dataset, *version, key, settings, watch) else {
                return Err(error);
            };
            let loaded = load(partial.folder())?;
            partial.keep(&last, &lock)?;
            Ok(loaded)
        }
        ModelId::Instant(name) => Err(roboflow::instant(name, key, settings, watch)),
    }
}
