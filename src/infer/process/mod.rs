//! Strangers' models are read in a process of their own: `weir model`, hidden, beside `weir capture`.
//!
//! ```text
//! service                                   weir model (limits, filter, no files)
//!   Read + the file            ──────▶        parses, checks
//!   Described                  ◀──────
//!   Compile                    ──────▶        optimises, for our engine or tract's
//!   Shapes ◀─ ─▶ Scores
//!   Compiled (sizes)           ◀──────
//!   Room + memory              ──────▶        packs the weights, writes the graph
//!   seals, checks, lays out    ◀──────        Written
//!   Open + socket, memory      ──────▶        runs it: the test run, and every run of what only tract can run
//! ```
//!
//! A graph that shall have 8 bits is not compiled there but written anew, in part or whole, as often as somebody asks:
//!
//! ```text
//!   Survey                     ──────▶        finds what can have 8 bits
//!   Surveyed                   ◀──────
//!   Watch, Quantise            ──────▶        makes a graph
//!   Sized, Room + memory, Written ◀─▶         writes it there
//! ```
//!
//! No code of a third party's engine works in the service: parsing, optimising and the test run happen over
//! there. What comes back is our own plan (`cnn::Blueprint`: a graph that is checked, weights that can change
//! no more), or a clear error. A model that only tract can run stays where it is; [`engine`] feeds it, and
//! starts it again when it dies.

mod channel;
mod child;
mod compile;
mod confine;
mod engine;
mod launch;
mod live;
mod quantise;
mod session;
mod words;

pub use child::run;
pub(crate) use launch::use_spawner;
pub(crate) use live::{Limits, Request, within_budget};
pub(crate) use quantise::Quantising;
pub(crate) use session::{Loaded, Session};
