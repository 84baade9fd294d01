//! `weir check`: what a model is and what it costs.

use super::registry::Settings;
use crate::error::{Error, Kind, Result};
use std::fmt;

/// What `weir check` says about a model; printed by `Display`.
#[derive(Debug)]
pub struct Report {}

impl fmt::Display for Report {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

/// Loads the model (id, folder or `.onnx`; on the command line a path may lie anywhere), runs it, and reports. Blocks.
pub fn run(_settings: &Settings, _model: &str) -> Result<Report> {
    Err(Error::new(Kind::ModelArtefact, ""))
}
