//! The errors of a graph that cannot be compiled.

use crate::error::{Error, Kind};
use tract_onnx::prelude::TractError;

/// The error for what neither we nor tract can run.
pub(super) fn unsupported(node: &str, why: &str) -> Error {
    Error::new(Kind::ModelArtefact, format!("unsupported: node {node}: {why}"))
}

/// tract's error as a cause.
pub(super) fn tract(error: TractError) -> Box<dyn std::error::Error + Send + Sync> {
    error.into()
}
