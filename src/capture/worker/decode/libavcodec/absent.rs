//! Static binaries cannot open libraries.

use super::Codec;
use super::foreign::Foreign;

/// A library that no program without dynamic loading can have: there is no value of it.
pub(super) enum Library {}

impl Library {
    /// Errors: always, with the reason.
    pub(super) fn open() -> Result<&'static Library, String> {
        Err("a static binary cannot open libraries: use the build for glibc".to_owned())
    }

    /// Whether it was built with a decoder for that codec.
    pub(super) fn decodes(&self, _codec: Codec) -> bool {
        match *self {}
    }
}

/// None can be made.
pub(super) enum Libavcodec {}

impl Libavcodec {
    pub(super) fn open(
        library: &'static Library,
        _codec: Codec,
        _may_wait: bool,
    ) -> Result<Box<dyn Foreign>, String> {
        match *library {}
    }

    pub(super) fn of_board(library: &'static Library, _decoder: &str) -> Result<Box<dyn Foreign>, String> {
        match *library {}
    }
}
