//! The service's end of a model's process, from the file to an engine.

use super::engine::ProcessEngine;
use super::live::{Judge, Limits, Live, ModelFile, Recipe, Request, broke_protocol};
use super::words::Word;
use crate::error::Result;
use crate::infer::cnn;
use crate::infer::onnx::Description;
use crate::infer::{Engine, EngineChoice, Precision};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// An engine for a model, and one in the model's process to try it out on.
pub(crate) struct Loaded {
    /// What runs it from now on.
    pub(crate) engine: Arc<dyn Engine>,
    /// The same in the model's process: what it does wrong there hurts nobody.
    pub(crate) trial: Arc<dyn Engine>,
}

/// A model that is being read.
pub(crate) struct Session<'a> {
    file: ModelFile,
    limits: Limits,
    live: Closing,
    description: Description,
    wanted: &'a dyn Fn() -> Result<()>,
}

/// A process that is ended and waited for when this goes: nothing is left of a load that failed.
pub(super) struct Closing(pub(super) Arc<Live>);

impl Closing {
    /// From now on somebody else sees to it.
    fn hand_over(self) -> Arc<Live> {
        let live = self.0.clone();
        live.is_handed_over.store(true, Ordering::Relaxed);
        live
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        if !self.0.is_handed_over.load(Ordering::Relaxed) {
            self.0.end();
        }
    }
}

impl<'a> Session<'a> {
    /// Starts a process and has it read the file. `wanted` is asked now and then; when it fails, so does
    /// this. Blocks.
    pub(crate) fn open(
        weights: &Path,
        limits: Limits,
        wanted: &'a dyn Fn() -> Result<()>,
    ) -> Result<Session<'a>> {
        let file = ModelFile::open(weights, limits.max_file_bytes)?;
        let deadline = Instant::now() + limits.timeout;
        let live = Closing(Arc::new(Live::start(&file, &limits)?));
        let Word::Described(description) = live.0.hear(&file, &limits, deadline, wanted)? else {
            return Err(broke_protocol());
        };
        Ok(Session { file, limits, live, description, wanted })
    }

    /// What the file says about itself.
    pub(crate) fn description(&self) -> &Description {
        &self.description
    }

    /// Shapes of the outputs for pictures of that size, 0 where a side depends on the picture; the process ends
    /// with this. Blocks.
    pub(crate) fn output_shapes(self, width: usize, height: usize) -> Result<Vec<Vec<usize>>> {
        let Session { file, limits, live, wanted, .. } = self;
        let request = Request { width, height, engine: EngineChoice::Auto, precision: Precision::Full };
        let recipe = Recipe { file, limits, request, threads: 1, scores: None };
        live.0.shapes(&recipe, Instant::now() + limits.timeout, wanted)
    }

    /// Has it compiled. `scores`: where outputs of such shapes hold scores, where anybody knows. Blocks.
    pub(crate) fn compile(self, request: Request, scores: Judge) -> Result<Loaded> {
        let Session { file, limits, live, wanted, .. } = self;
        // Something else may have been tried meanwhile, for minutes.
        let deadline = Instant::now() + limits.timeout;
        let mut recipe = Recipe { file, limits, request, threads: cnn::allowed_threads(), scores: None };
        let (verdict, memory) = live.0.compile(&mut recipe, Some(scores), deadline, wanted)?;
        let recipe = Arc::new(recipe);
        let Some(memory) = memory.filter(|_| verdict.document_bytes > 0) else {
            let engine: Arc<dyn Engine> =
                Arc::new(ProcessEngine::new(recipe, verdict, live.hand_over(), true));
            return Ok(Loaded { trial: engine.clone(), engine });
        };
        let engine = recipe.own_engine(&verdict, &memory)?;
        Ok(Loaded { engine, trial: Arc::new(ProcessEngine::new(recipe, verdict, live.hand_over(), false)) })
    }
}
