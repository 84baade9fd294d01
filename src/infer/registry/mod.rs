//! Where models come from: the Roboflow API, its cache on disk, and local files. Lives on the event loop; HTTP, parsing and
//! compiling run on threads of their own.

mod settings;

pub use settings::{EngineChoice, Settings};

use super::Model;
use crate::command::Secret;
use crate::error::{Error, Kind, Result};
use std::sync::Arc;

/// Where a load stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Waiting for another load, or asking the API what the model is.
    Resolving,
    /// Fetching the weights.
    Downloading,
    /// Reading and compiling the graph.
    Compiling,
    /// Running it once.
    Validating,
}

impl Stage {
    /// The word for status and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Resolving => "resolving",
            Stage::Downloading => "downloading",
            Stage::Compiling => "compiling",
            Stage::Validating => "validating",
        }
    }
}

/// How far a load is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What it does now.
    pub stage: Stage,
    /// Bytes of weights fetched so far.
    pub bytes: u64,
    /// Bytes of weights in all, where known.
    pub total: Option<u64>,
}

/// All models in use, and how to get another.
#[derive(Debug)]
pub struct Models {
    settings: Settings,
}

impl Models {
    /// Nothing is loaded yet.
    pub fn new(settings: Settings) -> Models {
        Models { settings }
    }

    /// The model of that id: `dataset/version`, an alias, or a path below one of `models_dirs`.
    ///
    /// Who asks for a model that is in use shares it; who asks while it is being loaded waits for that load. `progress` is
    /// called on the caller's thread whenever the load has moved. Dropping the future leaves nothing half-done.
    pub async fn get(&self, _id: &str, _api_key: Option<&Secret>, _progress: &dyn Fn(Progress)) -> Result<Arc<Model>> {
        Err(Error::new(Kind::ModelArtefact, format!("no model in {}", self.settings.cache_dir.display())))
    }
}
