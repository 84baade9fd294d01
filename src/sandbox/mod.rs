//! Child processes that read bytes of strangers: how they are started, watched and locked in.
//!
//! A child is this very executable under a hidden subcommand. What is the same for all of them is here; what
//! one kind needs beyond that (its files, its sockets, its stages) is said where the kind lives:
//!
//! * [`spawn`]: starting children, burying them, and what is said beside them
//! * [`said`]: their standard error is data: bounded, and written as their own lines
//! * [`filter`]: which system calls they may make
//! * [`files`]: which files they may open (Landlock)
//! * [`own`]: what the service keeps to itself, since a child runs as its user
//! * `memory`: what a child may be given more of than it started with
//! * [`kernel`]: what all of this needs, and what is done without it

mod exit;
pub mod files;
pub mod filter;
pub mod kernel;
#[allow(unsafe_code)] // another process's limits are read by a call that rustix does not have
mod memory;
#[allow(unsafe_code)] // the environment is overwritten in place
pub mod own;
mod reaper;
mod said;
mod spawn;

pub use exit::Exit;
pub use spawn::{Beside, Order, Process, Spawner, beside};
