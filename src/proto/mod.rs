//! The two doors. Each only translates between bytes and [`crate::command`]: TCP messages and HTTP requests become a
//! `Command`, a `Reply` or an error becomes the bytes a client of the reference expects.

pub mod http;
pub mod listen;
pub mod tcp;
