//! Ids of pipelines as clients write them.

use uuid::Uuid;

use crate::command::PipelineId;
use crate::error::{Error, Kind, Result};

/// Only the very form we hand out is an id: not upper case, not braces, not without hyphens.
pub(super) fn parse_pipeline_id(text: &str) -> Result<PipelineId> {
    let mut buffer = Uuid::encode_buffer();
    match Uuid::try_parse(text) {
        Ok(id) if id.hyphenated().encode_lower(&mut buffer) == text => Ok(id),
        _ => Err(no_such_pipeline()),
    }
}

/// What every other text is.
pub(super) fn no_such_pipeline() -> Error {
    Error::new(Kind::NoSuchPipeline, "no pipeline of that id")
}
