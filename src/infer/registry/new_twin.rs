//! Makes the twin in 8 bits of a model: a folder of one's own beside others, complete before anybody sees it.

use super::assemble::{self, Artefacts, Assembled};
use super::id::ModelId;
use super::own::{self, Draft};
use super::{RegistrySettings, cache, in_flight, local, told};
use crate::error::{Error, Kind, Result};
use std::path::{Path, PathBuf};

/// What a twin's name adds to the model's unless told otherwise.
const SUFFIX: &str = "-int8";
/// A graph whose inner values are looked at, beside the twin while it is being made.
const WATCHED: &str = "watched.onnx";

/// A twin in the making; gone when dropped before it is kept.
pub(in crate::infer) struct Twin {
    draft: Draft,
    target: PathBuf,
    weights: PathBuf,
}

impl Twin {
    /// Begins one of the model `id`, which has been loaded. Errors: it is not on this machine, the twin is there
    /// already, the folder cannot be written.
    pub(in crate::infer) fn begin(id: &str, name: Option<&str>, settings: &RegistrySettings) -> Result<Twin> {
        let (found, folder, own_name) = match ModelId::parse(id)? {
            ModelId::Path(path) => {
                let found = local::artefacts(&path, &settings.models_dirs)?;
                let is_lone = found.weights == Path::new(&found.id);
                let folder = (!is_lone).then(|| PathBuf::from(&found.id));
                let name = if is_lone { own::name_of(&found.weights) } else { name_of_folder(&found.id) };
                (found, folder, name)
            }
            ModelId::Version { dataset, version } => {
                let folder = cache::folder(&settings.cache_dir, &dataset, version);
                let found = cache::read(&folder, id.to_owned())?;
                (found, Some(folder), name_of_folder(&format!("{dataset}-{version}")))
            }
            ModelId::Instant(name) => {
                let message = format!("no model {} on this machine", name.escape_debug());
                return Err(Error::new(Kind::ApiNotFound, message));
            }
        };
        let Artefacts { weights, .. } = found;
        let given = name.map_or_else(|| format!("{own_name}{SUFFIX}"), str::to_owned);
        let (draft, target) = Draft::begin(&own::home(settings)?, own::checked_name(&given)?)?;
        let unreadable = || Error::new(Kind::System, "the weights cannot be read");
        let from = cache::fingerprint(&weights).ok_or_else(unreadable)?;
        let beside = |file: &str| folder.as_ref().map_or(Ok(None), |folder| cache::optional(folder, file));
        draft.put(told::FILE, told::of_twin(beside(told::FILE)?.as_deref(), from).as_bytes())?;
        draft.put(
            cache::ENVIRONMENT,
            beside(cache::ENVIRONMENT)?.as_deref().unwrap_or(own::LONE_ENVIRONMENT),
        )?;
        for file in [cache::MODEL_TYPE, cache::CLASS_NAMES] {
            if let Some(content) = beside(file)? {
                draft.put(file, &content)?;
            }
        }
        Ok(Twin { draft, target, weights })
    }

    /// The weights that it is made from.
    pub(in crate::infer) fn weights(&self) -> &Path {
        &self.weights
    }

    /// Where it will be.
    pub(in crate::infer) fn target(&self) -> &Path {
        &self.target
    }

    /// Writes a graph to be looked at; its path.
    pub(in crate::infer) fn put_watched(&self, graph: &[u8]) -> Result<PathBuf> {
        self.draft.put(WATCHED, graph)?;
        Ok(self.draft.0.join(WATCHED))
    }

    /// Writes the graph in 8 bits, and loads it. Blocks.
    pub(in crate::infer) fn put(&self, graph: &[u8], settings: &RegistrySettings) -> Result<Assembled> {
        self.draft.put(cache::WEIGHTS, graph)?;
        let found = cache::read(&self.draft.0, self.target.display().to_string())?;
        assemble::assemble(found, settings, &in_flight::Nobody)
    }

    /// From now on it is a model.
    pub(in crate::infer) fn keep(self) -> Result<PathBuf> {
        // whatever was looked at is not part of it
        let _ = std::fs::remove_file(self.draft.0.join(WATCHED));
        self.draft.keep(&self.target)?;
        Ok(self.target)
    }
}

/// What a folder of that path would be called, dots and all.
fn name_of_folder(path: &str) -> String {
    own::name_of(Path::new(&format!("{path}.onnx")))
}
