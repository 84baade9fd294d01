//! The body of `weir capture`.

/// Runs one capture to its end. Returns the exit code.
pub fn run() -> u8 {
    0
}
