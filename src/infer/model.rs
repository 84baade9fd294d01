//! A loaded model: what it is called, what it wants, what it says.

use super::{Engine, Family};
use crate::geometry::InputRule;
use std::fmt;
use std::sync::Arc;

/// A loaded model, shared by every pipeline that names it. Its weights are freed when the last `Arc` goes.
pub struct Model {
    id: String,
    rule: InputRule,
    classes: Vec<String>,
    family: Family,
    engine: Arc<dyn Engine>,
}

impl Model {
    /// The id it was asked for by, aliases resolved (`coco/3`), or its path.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How frames become its input.
    pub fn rule(&self) -> &InputRule {
        &self.rule
    }

    /// Class names by id.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Bytes of weights, held once.
    pub fn weights_bytes(&self) -> usize {
        self.engine.weights_bytes()
    }

    /// Bytes every inference thread holds that has run it.
    pub fn arena_bytes(&self) -> usize {
        self.engine.arena_bytes()
    }

    /// Which engine runs it: `cnn`, `tract`, `tensorrt`.
    pub fn engine_name(&self) -> &'static str {
        self.engine.name()
    }

    /// How its outputs are read: `yolov8`, `rfdetr`, …
    pub fn family_name(&self) -> &'static str {
        self.family.name()
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("id", &self.id).field("engine", &self.engine.name()).finish_non_exhaustive()
    }
}
