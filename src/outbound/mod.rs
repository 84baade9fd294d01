//! Connections that this program opens to servers by itself: through which proxy they go, whom they trust,
//! and in words why one failed. (Cameras are another matter: their workers connect to them, never through a
//! proxy.)

mod network;
mod proxy;
mod trust;
mod wire;

pub use proxy::{Proxies, Route};
pub use trust::{Identity, Trust, explain};
pub use wire::{Fault, agent_parts};
