//! Words for whoever called the program.

use std::fmt;
use std::io::{self, Write as _};

/// A line on standard output. Ends the program where nobody reads it any more (`weir check MODEL | head -1`), as
/// `println!` would not: that panics.
macro_rules! say {
    ($($words:tt)*) => { $crate::cli::output::line(format_args!($($words)*)) };
}
pub(super) use say;

/// See [`say!`].
pub(super) fn line(words: fmt::Arguments<'_>) {
    if writeln!(io::stdout().lock(), "{words}").is_err() {
        std::process::exit(0);
    }
}
