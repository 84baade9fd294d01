//! A graph as bytes, without its weights: how the process that has read a stranger's model tells the service
//! what to run.
//!
//! ```text
//! │ values │ each: shape, whether constant │ nodes │ each: name, operation, operands, results │ input │ outputs │
//! ```
//!
//! The service believes none of it. A graph that was read is whole ([`read()`]) and its shapes follow from its
//! operations ([`check()`]); everything else, the offsets of activations and weights above all, it works out
//! for itself. Of the constants only the shapes are told: their content has been packed by the other process
//! ([`super::packer`]).

mod check;
mod read;
#[cfg(test)]
pub(super) mod tests;
mod write;

pub(super) use check::check;
pub(super) use read::read;
pub(super) use write::write;

/// Changes with every change of the encoding. The two ends are the same executable unless it was replaced
/// meanwhile.
const VERSION: u32 = 4;
/// Most values of a graph, and most nodes: the largest detector we know has about 4 000 nodes.
const MAX_VALUES: usize = 40_000;
/// Most operands or results of a node; concatenations of large detectors have some twenty.
const MAX_OPERANDS: usize = 1024;
/// Most outputs of a graph.
const MAX_OUTPUTS: usize = 64;
/// Longest name of a node, bytes: it is seen in profiles and errors only.
const MAX_NAME_BYTES: usize = 128;
/// Most elements of a list inside an operation: indices of a gather, positions of a resize.
const MAX_LIST: usize = 1 << 20;

/// Longest document, bytes. Some 100 bytes for each node, and the lists.
pub(crate) const MAX_BYTES: usize = 32 << 20;

/// One byte for each kind of operation.
mod tag {
    pub(super) const CONV: u8 = 1;
    pub(super) const MAX_POOL: u8 = 2;
    pub(super) const AVERAGE_POOL: u8 = 3;
    pub(super) const GLOBAL_SUM: u8 = 4;
    pub(super) const RESIZE: u8 = 5;
    pub(super) const ACTIVATE: u8 = 6;
    pub(super) const BINARY: u8 = 7;
    pub(super) const CONCAT: u8 = 8;
    pub(super) const SLICE: u8 = 9;
    pub(super) const GATHER: u8 = 10;
    pub(super) const RESHAPE: u8 = 11;
    pub(super) const TRANSPOSE: u8 = 12;
    pub(super) const SOFTMAX: u8 = 13;
    pub(super) const LINEAR: u8 = 14;
    pub(super) const PAD: u8 = 15;
    pub(super) const PRODUCT: u8 = 16;
    pub(super) const ATTENTION: u8 = 17;
    pub(super) const NORMALIZE: u8 = 18;
    pub(super) const REDUCE: u8 = 19;
    pub(super) const SAMPLE: u8 = 20;
    pub(super) const DYNAMIC_QUANTIZE: u8 = 21;
}
