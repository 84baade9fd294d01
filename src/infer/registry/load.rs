//! One load from beginning to end. Blocks: runs on a loading thread, or for `weir check` on the main one.

use super::assemble::{self, Assembled};
use super::flight::Watch;
use super::id::ModelId;
use super::{Settings, cache, local, roboflow};
use crate::command::Secret;
use crate::error::{Error, Kind, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Loads a model. A panic in parser or compiler is an error of this model.
pub(super) fn load(id: &ModelId, key: Option<&Secret>, settings: &Settings, watch: &dyn Watch) -> Result<Assembled> {
    let attempt = AssertUnwindSafe(|| by_kind(id, key, settings, watch));
    let outcome = catch_unwind(attempt).unwrap_or_else(|_| Err(Error::new(Kind::ModelArtefact, "loading the model panicked")));
    if let Ok(Assembled { model, why }) = &outcome {
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

fn by_kind(id: &ModelId, key: Option<&Secret>, settings: &Settings, watch: &dyn Watch) -> Result<Assembled> {
    match id {
        ModelId::Path(path) => assemble::assemble(local::artefacts(path, &settings.models_dirs)?, settings, watch),
        ModelId::Version { dataset, version } => {
            roboflow::fetch(dataset, *version, key, settings, watch)?;
            let folder = cache::folder(&settings.cache_dir, dataset, *version);
            let outcome = cache::read(&folder, id.to_string()).and_then(|found| assemble::assemble(found, settings, watch));
            // As the reference: what cannot be loaded is not kept. Offline it could not be had again.
            if outcome.as_ref().is_err_and(|error| error.kind() == Kind::ModelArtefact) && !settings.offline {
                cache::discard(&folder);
            }
            outcome
        }
        ModelId::Instant(name) => Err(roboflow::instant(name, key, settings, watch)),
    }
}
