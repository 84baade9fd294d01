//! A compiled model behind the interface of all engines.

use super::plan::Plan;
use super::run::CnnRun;
use crate::error::Result;
use crate::infer::{Engine, Run};
use std::sync::Arc;

/// A [`Plan`] behind the engine's interface.
pub(super) struct CnnEngine(pub Arc<Plan>);

impl Engine for CnnEngine {
    fn new_run(&self) -> Result<Box<dyn Run>> {
        Ok(Box::new(CnnRun::new(self.0.clone())?))
    }
    fn name(&self) -> &'static str {
        "cnn"
    }
    fn output_shapes(&self) -> &[Vec<usize>] {
        &self.0.output_shapes
    }
    fn weights_bytes(&self) -> usize {
        self.0.weights_bytes()
    }
    fn arena_bytes(&self) -> usize {
        self.0.arena_bytes()
    }
}
