//! Local video files.

use crate::capture::source::Source;
use crate::error::{Error, Kind, Result};
use std::path::Path;

/// Opens a video file; what it is, its first bytes say.
pub fn open(path: &Path) -> Result<Box<dyn Source>> {
    Err(Error::new(Kind::SourceUnsupported, format!("{} is not a video file that is supported", path.display())))
}
