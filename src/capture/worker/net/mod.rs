//! What RTSP and HTTP cameras have in common below their protocols: connecting, TLS, message heads, and
//! credentials.

mod authorise;
pub(super) mod connect;
mod head;
mod link;
pub(super) mod tls;

pub(super) use authorise::Authorisation;
pub(super) use connect::{ASKING_STACK_BYTES, connect};
pub(super) use head::{Head, parse as parse_head};
pub(super) use link::Link;
