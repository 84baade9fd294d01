//! `weir`: see the library's front page, README.md and `weir --help`.

use std::process::ExitCode;

/// musl's own returns every picture's planes to the kernel.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: weir::allocator::Allocator = weir::allocator::Allocator::new();

fn main() -> ExitCode {
    weir::cli::main(std::env::args_os().skip(1))
}
