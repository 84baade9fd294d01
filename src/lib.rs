//! `weir` watches many cameras with an object-detection model and is steered from outside.
//!
//! Arrows between modules point down this list only, and inside a module they go round in no circle
//! (`layering.rs` holds both; `repository.rs` holds what documents say of the tree):
//!
//! * [`cli`]: `serve`, `demo`, `ctl`, `check`, `bench`, and the hidden `capture` and `model`
//! * [`service`]: wires the event loop together; start, drain, stop
//! * [`notify`]: tells systemd how the service is doing
//! * [`config`]: file + environment + flags → one [`config::Config`]
//! * [`proto`]: the two listeners (TCP, HTTP); each only translates ⇄ [`command`]
//! * [`bus`]: the broker that detections are published to, and what it is told of the service
//! * [`pipeline`]: table of pipelines, state machine, buffers, report
//! * [`capture`]: one worker process per video source, and the parent's end of it
//! * [`infer`]: models, their registry, and the threads that run them
//! * [`sandbox`]: child processes that read bytes of strangers: started, watched, locked in
//! * [`outbound`]: connections to servers: proxies, trust, and why they fail
//! * [`feed`]: what those who listen to a pipeline get
//! * [`web`]: the page, embedded
//! * [`command`]: everything the product can be told, and what it answers
//! * [`view`]: what those who look at a source get
//! * [`sink`]: where detections go
//! * [`geometry`]: how a frame is laid into a model's input, and boxes back
//! * [`detection`]: what a model found on one frame
//! * [`schema`]: what a field of a document may hold, described once
//! * [`folder`]: folders that nobody else may have a hand in
//! * [`json`]: ordered values, a bounded parser, and a writer in the reference's two styles
//! * `bytes`: fields to bytes and back, for what processes say to each other
//! * [`logging`]: one line per event on standard error
//! * [`hosts`]: lists of hosts, as the configuration names them
//! * [`resolve`]: names of hosts become addresses
//! * [`priority`]: who gives way to whom on busy cores
//! * `memory`: copies and fills of the static binary
//! * [`allocator`]: where large blocks of the static binary's workers wait
//! * [`clock`]: the one place that asks for the time
//! * [`error`]: the one error type and its wire form

pub mod allocator;
pub mod bus;
mod bytes;
pub mod capture;
pub mod cli;
pub mod clock;
pub mod command;
pub mod config;
pub mod detection;
pub mod error;
pub mod feed;
pub mod folder;
pub mod geometry;
pub mod hosts;
pub mod infer;
pub mod json;
#[cfg(test)]
mod layering;
pub mod logging;
#[cfg(target_arch = "x86_64")]
mod memory;
pub mod notify;
pub mod outbound;
pub mod pipeline;
pub mod priority;
pub mod proto;
#[cfg(test)]
mod repository;
pub mod resolve;
pub mod sandbox;
pub mod schema;
pub mod service;
pub mod sink;
pub mod view;
pub mod web;
