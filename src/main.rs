//! weir
use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("capture") => ExitCode::from(weir::capture::worker::run()),
        _ => ExitCode::SUCCESS,
    }
}
