//! `weir`: see the library's front page, README.md and `weir --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    weir::cli::main(std::env::args_os().skip(1))
}
