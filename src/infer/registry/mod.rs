//! Where models come from: the Roboflow API, its cache on disk, and local files. Lives on the event loop;
//! HTTP, parsing and compiling run on threads of their own.

mod alias;
mod assemble;
mod cache;
mod coco;
mod document;
mod environment;
mod fingerprint;
mod http;
mod id;
mod in_flight;
mod load;
mod local;
mod lock;
mod names;
mod new_twin;
pub mod own;
mod roboflow;
mod settings;
#[cfg(test)]
pub(crate) mod test_dir;
#[cfg(test)]
mod tests;
mod told;
mod twin;

pub(super) use names::{METADATA_KEYS as NAMES_KEYS, Names};
pub use own::Addition;
pub use settings::{MAX_MODEL_BYTES, RegistrySettings};

pub(super) use self::assemble::Assembled;
use self::id::ModelId;
use self::in_flight::{InFlight, Ticket};
pub(super) use self::new_twin::Twin;
use super::{Model, switch};
use crate::clock::within;
use crate::command::Secret;
use crate::error::{Kind, Result, system};
use crate::priority;
use async_lock::{Semaphore, SemaphoreGuardArc};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Loads at the same time, of models that are here and of those to be downloaded alike; more wait. Compiling
/// takes a core and a few times the weights' size in memory for seconds, and a slow server holds its place
/// for minutes.
const MAX_LOADS: usize = 4;
/// Longest wait for the threads that work at plans, once their models are gone: they look five times a
/// second, but not while NVIDIA's library reads a plan.
const PLANS_STOP_GRACE: Duration = Duration::from_secs(1);

/// Longest wait for what a path names: a disk answers in milliseconds. On one that does not answer a model is
/// known by what it was called.
const NAMING_TIMEOUT: Duration = Duration::from_secs(1);

/// Stack of a loading thread, bytes: tract's passes over a graph recurse in places.
const LOADER_STACK_BYTES: usize = 8 << 20;

/// Where a load stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Waiting for another load, or asking the API what the model is.
    Resolving,
    /// Fetching the weights from where the API says.
    Downloading,
    /// Reading and compiling the graph.
    Compiling,
    /// Having TensorRT choose its kernels: minutes on a small board, once for a model.
    Building,
    /// Running it once, on a test picture.
    Validating,
}

impl Stage {
    /// The word for status and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Resolving => "resolving",
            Stage::Downloading => "downloading",
            Stage::Compiling => "compiling",
            Stage::Building => "building",
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
pub struct Models {
    settings: Arc<RegistrySettings>,
    entries: RefCell<HashMap<ModelId, Entry>>,
    /// Places for loads of what lies on this machine.
    loads: Arc<Semaphore>,
    /// Places for loads that begin with a download, which may take as long as the line is slow: what needs
    /// none does not wait for them.
    downloads: Arc<Semaphore>,
}

/// What is known of one model. Nothing in here keeps a model or a load alive.
#[derive(Default)]
struct Entry {
    model: Weak<Model>,
    in_flight: Weak<InFlight<Arc<Model>>>,
    /// With which key the load was started.
    key: Option<Secret>,
}

impl Models {
    /// Nothing is loaded yet.
    pub fn new(settings: RegistrySettings) -> Models {
        let places = || Arc::new(Semaphore::new(MAX_LOADS));
        Models {
            settings: Arc::new(settings),
            entries: RefCell::default(),
            loads: places(),
            downloads: places(),
        }
    }

    /// The model of that id: `dataset/version`, an alias, or a path below one of `models_dirs`.
    ///
    /// Who asks for a model that is in use shares it, by whatever path it is named; who asks while it is being loaded waits for that load.
    /// `progress` is called on the caller's thread whenever the load has moved. Dropping the future leaves
    /// nothing half-done.
    pub async fn get(
        &self,
        id: &str,
        api_key: Option<&Secret>,
        progress: &dyn Fn(Progress),
    ) -> Result<Arc<Model>> {
        let id = self.one_id(ModelId::parse(id)?).await;
        let key = api_key.or(self.settings.default_api_key.as_ref()).cloned();
        loop {
            if let Some(model) = self.in_use(&id) {
                return Ok(model);
            }
            let (ticket, own) = match self.join(&id, &key) {
                Some(joined) => joined,
                None => {
                    progress(Progress { stage: Stage::Resolving, bytes: 0, total: None });
                    let places = if self.is_here(&id) { &self.loads } else { &self.downloads };
                    let place = places.acquire_arc().await;
                    // While this waited for a place, somebody else may have begun or ended the same load.
                    if let Some(model) = self.in_use(&id) {
                        return Ok(model);
                    }
                    match self.join(&id, &key) {
                        Some(joined) => joined,
                        None => (self.start(&id, key.clone(), place)?, true),
                    }
                }
            };
            match ticket.outcome(progress).await {
                // Somebody else's key was refused: that says nothing about ours.
                Err(error) if !own && matches!(error.kind(), Kind::ApiUnauthorised | Kind::ApiNotFound) => {}
                Err(error) => return Err(error),
                Ok(model) => {
                    self.entries.borrow_mut().entry(id).or_default().model = Arc::downgrade(&model);
                    return Ok(model);
                }
            }
        }
    }

    /// Ids and sizes of the models in use, for metrics.
    pub fn loaded(&self) -> Vec<Arc<Model>> {
        self.entries.borrow().values().filter_map(|entry| entry.model.upgrade()).collect()
    }

    /// Finds the models that lie on this machine and that a pipeline may name; to be called where reading
    /// folders delays nobody.
    pub fn here(&self) -> impl FnOnce() -> Vec<own::Owned> + Send + 'static {
        let settings = self.settings.clone();
        move || own::here(&settings)
    }

    /// Waits until no loading thread runs, nor one that works at a plan for the GPU: those that nobody waits for any more end soon, and with them what
    /// they started. Only when all who asked are gone; a new load would wait for this.
    pub async fn idle(&self) {
        let mut places = Vec::with_capacity(2 * MAX_LOADS);
        for kind in [&self.loads, &self.downloads] {
            for _ in 0..MAX_LOADS {
                places.push(kind.acquire().await);
            }
        }
        smol::unblock(|| switch::wait_until_idle(PLANS_STOP_GRACE)).await;
    }

    /// The id by which a model is known here: relative and absolute paths and links to one file are one. What
    /// is not there keeps its name, for the message.
    async fn one_id(&self, id: ModelId) -> ModelId {
        let ModelId::Path(path) = &id else { return id };
        let (path, settings) = (path.clone(), self.settings.clone());
        let found = smol::unblock(move || local::one_path(&path, &settings.models_dirs));
        within(NAMING_TIMEOUT, found).await.flatten().map_or(id, ModelId::Path)
    }

    /// Loading it needs no network.
    fn is_here(&self, id: &ModelId) -> bool {
        match id {
            ModelId::Path(_) => true,
            ModelId::Version { dataset, version } => {
                cache::is_complete(&cache::folder(&self.settings.cache_dir, dataset, *version))
            }
            ModelId::Instant(_) => false,
        }
    }

    fn in_use(&self, id: &ModelId) -> Option<Arc<Model>> {
        let mut entries = self.entries.borrow_mut();
        // The table never outgrows what is in use or under way.
        entries.retain(|_, entry| entry.model.strong_count() > 0 || entry.in_flight.strong_count() > 0);
        let entry = entries.get_mut(id)?;
        entry.model.upgrade()
    }

    /// A place among those who wait for this model, and whether the load was started with the same key.
    fn join(&self, id: &ModelId, key: &Option<Secret>) -> Option<(Ticket<Arc<Model>>, bool)> {
        let entries = self.entries.borrow();
        let entry = entries.get(id)?;
        Some((entry.in_flight.upgrade()?.join()?, entry.key == *key))
    }

    /// Starts a load in a thread of its own; it holds `place` until it ends.
    fn start(
        &self,
        id: &ModelId,
        key: Option<Secret>,
        place: SemaphoreGuardArc,
    ) -> Result<Ticket<Arc<Model>>> {
        let (in_flight, ticket) = InFlight::start();
        let entry = Entry { model: Weak::new(), in_flight: Arc::downgrade(&in_flight), key: key.clone() };
        self.entries.borrow_mut().insert(id.clone(), entry);
        let (settings, id) = (self.settings.clone(), id.clone());
        std::thread::Builder::new()
            .name(String::from("model-load"))
            .stack_size(LOADER_STACK_BYTES)
            .spawn(move || {
                priority::give_way(priority::LOADING);
                let outcome = load::load(&id, key.as_ref(), &settings, in_flight.as_ref());
                in_flight.finish(outcome.map(|loaded| Arc::new(loaded.model)));
                drop(place);
            })
            .map_err(system("cannot start a loading thread"))?;
        Ok(ticket)
    }
}

/// Loads a model without an event loop: for `weir check`.
pub(super) fn load_blocking(id: &str, settings: &RegistrySettings) -> Result<Assembled> {
    let (in_flight, _ticket) = InFlight::<()>::start();
    load::load(&ModelId::parse(id)?, settings.default_api_key.as_ref(), settings, in_flight.as_ref())
}

/// Whether any model below `models.dirs` is a twin in 8 bits.
pub(super) fn has_twins(settings: &RegistrySettings) -> bool {
    twin::are_there(settings)
}

impl fmt::Debug for Models {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Models").field("entries", &self.entries.borrow().len()).finish_non_exhaustive()
    }
}
