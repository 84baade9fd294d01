//! What a `model_id` can be.

use super::alias;
use crate::error::{Error, Kind, Result};
use std::fmt;
use std::path::PathBuf;

/// Longest `model_id`, bytes: a path (PATH_MAX), which is longer than any id of the API.
const MAX_ID_BYTES: usize = 4096;

/// What a pipeline calls its model, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum ModelId {
    /// `dataset/version` of the API, aliases resolved.
    Version {
        /// One path segment, neither `.` nor `..`.
        dataset: String,
        /// Number of the version, 1 or more.
        version: u64,
    },
    /// No slash, or a version that is no number: the API calls these instant models.
    Instant(String),
    /// A folder or an `.onnx` file; not yet checked against the allowed folders.
    Path(PathBuf),
}

impl ModelId {
    /// From what the client wrote.
    pub(super) fn parse(text: &str) -> Result<ModelId> {
        let invalid = || Error::new(Kind::InvalidModelId, format!("Model ID: `{}` is invalid.", shown(text)));
        if text.len() > MAX_ID_BYTES || text.contains('\0') {
            return Err(invalid());
        }
        let resolved = alias::resolve(text);
        let text = resolved.as_deref().unwrap_or(text);
        if text.starts_with('/') || text.ends_with(".onnx") {
            return Ok(ModelId::Path(PathBuf::from(text)));
        }
        let mut parts = text.split('/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(dataset), Some(version), None) => {
                if ["", ".", ".."].contains(&dataset) {
                    return Err(invalid());
                }
                match version.parse() {
                    Ok(0) => {
                        let message = "version 0 is a placeholder without weights: name a trained version";
                        Err(Error::new(Kind::Unsupported, message))
                    }
                    Ok(version) => Ok(ModelId::Version { dataset: dataset.to_owned(), version }),
                    Err(_) => Ok(ModelId::Instant(text.to_owned())),
                }
            }
            (_, Some(_), Some(_)) => Err(invalid()),
            _ => Ok(ModelId::Instant(text.to_owned())),
        }
    }
}

/// An id as a message may repeat it: one line, not too long.
fn shown(text: &str) -> String {
    const LONGEST_CHARS: usize = 100;
    text.chars().map(|c| if c.is_control() { '?' } else { c }).take(LONGEST_CHARS).collect()
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModelId::Version { dataset, version } => write!(f, "{dataset}/{version}"),
            ModelId::Instant(id) => f.write_str(id),
            ModelId::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(dataset: &str, version: u64) -> ModelId {
        ModelId::Version { dataset: dataset.into(), version }
    }

    #[test]
    fn ids_aliases_and_paths_are_told_apart() {
        assert_eq!(ModelId::parse("toy/1").unwrap(), version("toy", 1));
        assert_eq!(ModelId::parse("yolov8n-640").unwrap(), version("coco", 3));
        assert_eq!(ModelId::parse("no-slash").unwrap(), ModelId::Instant("no-slash".into()));
        assert_eq!(ModelId::parse("").unwrap(), ModelId::Instant(String::new()));
        assert_eq!(ModelId::parse("toy/latest").unwrap(), ModelId::Instant("toy/latest".into()));
        assert_eq!(ModelId::parse("/models/a").unwrap(), ModelId::Path("/models/a".into()));
        assert_eq!(ModelId::parse("a/b/c.onnx").unwrap(), ModelId::Path("a/b/c.onnx".into()));
    }

    #[test]
    fn ids_that_would_leave_the_cache_are_refused() {
        for bad in ["a/b/c", "../../etc/1", "../1", "./1", "a\0b/1"] {
            assert_eq!(ModelId::parse(bad).unwrap_err().kind(), Kind::InvalidModelId, "{bad:?}");
        }
        assert_eq!(ModelId::parse("a/b/c").unwrap_err().message(), "Model ID: `a/b/c` is invalid.");
        assert_eq!(ModelId::parse("toy/0").unwrap_err().kind(), Kind::Unsupported);
    }
}
