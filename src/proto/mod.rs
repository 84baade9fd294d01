//! The two listeners. Each only translates between bytes and [`crate::command`]: TCP messages and HTTP
//! requests become a `Command`, a `Reply` or an error becomes the bytes a client of the reference expects.
//!
//! `tcp/` and `http/` are the listeners; the files beside them are what both share.

pub mod access;
pub mod access_control;
mod audit;
mod connections;
#[cfg(test)]
#[allow(clippy::panic)]
mod fake;
pub mod http;
pub mod listen;
mod pipeline_id;
mod proxies;
pub mod reach;
mod report_json;
mod rules;
pub mod tcp;
pub mod tls;
mod who;

pub use connections::{Limits, Stop};
pub use http::Cors;
pub use proxies::Proxies;
pub use rules::Rules;
