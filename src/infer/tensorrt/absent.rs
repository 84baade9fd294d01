//! What stands here when the feature `tensorrt` is off, as in the static binaries: a static program cannot
//! open libraries.

use super::settings::TensorRtSettings;
use super::{Request, unavailable};
use crate::error::Result;
use crate::infer::Engine;
use crate::infer::onnx::Description;
use std::sync::Arc;

const REASON: &str = "this program was built without TensorRT";

/// Errors: always, [`REASON`].
pub(super) fn compile(_graph: &Description, _request: &Request<'_>) -> Result<Arc<dyn Engine>> {
    Err(unavailable(REASON))
}

/// One line for `weir check`: why there is no TensorRT.
pub(super) fn describe(_settings: &TensorRtSettings) -> Vec<String> {
    vec![REASON.to_owned()]
}
