//! Both listeners under clients that mean no good, over the real binary. During and after each kind of attack
//! the next good request is answered at once, memory stays below the promise, and afterwards no descriptor is
//! left behind (`watch`).
//!
//! `WEIR_FUZZ_FRAMES` sets how many random messages each listener gets (`make fuzz`).

mod documents;
mod encrypted;
mod guesses;
mod json;
mod random;
mod slow;
mod smuggling;
mod watch;
