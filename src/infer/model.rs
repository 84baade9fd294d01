//! A loaded model: what it is called, what it wants, what it says.

use super::fill::Fill;
use super::{Engine, EngineChoice, Family, Outlook};
use crate::geometry::InputRule;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// A loaded model, shared by every pipeline that names it. Its weights are freed when the last `Arc` goes.
pub struct Model {
    parts: Parts,
    /// Who keeps something for this model and wants to know when it is gone.
    holders: Mutex<Vec<Weak<dyn Holder>>>,
    /// Nanoseconds, see [`Model::of_frame`]; 0: unknown.
    of_frame: AtomicU64,
}

/// What a model is made of.
pub(crate) struct Parts {
    /// The id it was asked for by, aliases resolved, or its path.
    pub(crate) id: String,
    /// How frames become its input.
    pub(crate) rule: InputRule,
    /// How pixels become numbers.
    pub(crate) fill: Fill,
    /// Class names by id.
    pub(crate) classes: Vec<String>,
    /// How its outputs are read.
    pub(crate) family: Family,
    /// The family was seen in the graph and not told.
    pub(crate) recognised: bool,
    /// The engine that runs it.
    pub(crate) engine: Arc<dyn Engine>,
}

/// Keeps something for a model (the pool's threads keep an arena each).
pub(crate) trait Holder: Send + Sync {
    /// The last `Arc` of some model has gone.
    fn model_freed(&self);
}

impl Model {
    /// Puts a model together.
    pub(crate) fn new(parts: Parts) -> Model {
        Model { parts, holders: Mutex::new(Vec::new()), of_frame: AtomicU64::new(0) }
    }

    /// The id it was asked for by, aliases resolved (`coco/3`), or its path.
    pub fn id(&self) -> &str {
        &self.parts.id
    }

    /// How frames become its input.
    pub fn rule(&self) -> &InputRule {
        &self.parts.rule
    }

    /// Class names by id.
    pub fn classes(&self) -> &[String] {
        &self.parts.classes
    }

    /// Bytes of weights, held once.
    pub fn weights_bytes(&self) -> usize {
        self.parts.engine.weights_bytes()
    }

    /// Bytes every inference thread holds that has run it.
    pub fn arena_bytes(&self) -> usize {
        self.parts.engine.arena_bytes()
    }

    /// What a frame takes of one core, as the pool's first runs told; unknown before them, and where a GPU
    /// computes.
    pub fn of_frame(&self) -> Option<Duration> {
        let known = self.of_frame.load(Ordering::Relaxed);
        (known > 0 && self.engine_name() != EngineChoice::TensorRt.name())
            .then(|| Duration::from_nanos(known))
    }

    /// A run has told: the shortest counts.
    pub(crate) fn note_of_frame(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
        let shorter = |known: u64| (known == 0 || took < known).then_some(took);
        let _ = self.of_frame.fetch_update(Ordering::Relaxed, Ordering::Relaxed, shorter);
    }

    /// Whether runs compute in the thread that asks for them, and not on a GPU or in another process.
    pub(crate) fn computes_here(&self) -> bool {
        self.engine_name() == EngineChoice::Cnn.name()
    }

    /// Which engine runs it: `cnn`, `tract`, `tensorrt`.
    pub fn engine_name(&self) -> &'static str {
        self.parts.engine.name()
    }

    /// How it stands with the GPU, where one may take over or has.
    pub fn outlook(&self) -> Option<Outlook> {
        self.parts.engine.outlook()
    }

    /// How its outputs are read: `yolov8`, `rfdetr`, …
    pub fn family_name(&self) -> &'static str {
        self.parts.family.name()
    }

    /// How its outputs are read.
    pub(crate) fn family(&self) -> Family {
        self.parts.family
    }

    /// Whether the family was seen in the graph and not told.
    pub(crate) fn is_recognised(&self) -> bool {
        self.parts.recognised
    }

    /// How its outputs are read after all.
    pub(crate) fn set_family(&mut self, family: Family) {
        self.parts.family = family;
    }

    /// How pixels become numbers.
    pub(crate) fn fill(&self) -> &Fill {
        &self.parts.fill
    }

    /// The engine that runs it.
    pub(crate) fn engine(&self) -> &Arc<dyn Engine> {
        &self.parts.engine
    }

    /// `holder` will be told when the model is gone. Asking twice is asking once.
    pub(crate) fn held_by(&self, holder: Weak<dyn Holder>) {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        if !holders.iter().any(|known| known.ptr_eq(&holder)) {
            holders.push(holder);
        }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        log::debug!("model freed id={}", self.parts.id);
        let holders = self.holders.get_mut().unwrap_or_else(PoisonError::into_inner);
        for holder in holders.drain(..).filter_map(|holder| holder.upgrade()) {
            holder.model_freed();
        }
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("id", &self.parts.id)
            .field("engine", &self.engine_name())
            .finish_non_exhaustive()
    }
}
