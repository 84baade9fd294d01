//! The tests of the real binary as a process, in one test binary: linking the crate costs more than most of
//! them.
//!
//! `cargo test --test process beside::` runs the tests of one module.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod activation;
mod beside;
mod bus;
mod cameras;
mod capture;
mod confinement;
mod decoders;
mod goldens;
mod hostile;
mod m2m;
mod models;
mod observe;
mod operator;
mod pictures;
mod python;
mod record;
mod rtsp;
mod service;
mod soak;
mod state;
mod support;
mod vm;
mod workflow;
