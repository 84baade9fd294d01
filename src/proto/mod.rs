//! The two doors. Each only translates between bytes and [`crate::command`]: TCP messages and HTTP requests become a
//! `Command`, a `Reply` or an error becomes the bytes a client of the reference expects.

pub mod access;
mod connections;
mod cors;
mod events;
#[cfg(test)]
#[allow(clippy::panic)]
mod fake;
mod frame;
pub mod gate;
pub mod http;
pub mod init;
pub mod listen;
mod message;
mod patient;
mod properties;
mod python;
pub mod reach;
mod report;
mod respond;
mod routes;
mod rules;
pub mod tcp;
pub mod tls;
mod workflow;

pub use connections::{Limits, Stop};
pub use cors::Cors;
pub use rules::Rules;
