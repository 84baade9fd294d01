//! What parent and worker say to each other, and how it lies in bytes.
//!
//! One message is one packet on a `SOCK_SEQPACKET` pair, little-endian:
//!
//! ```text
//! ┌─────────┬─────┬──────────────┐
//! │ version │ tag │ fields …     │   texts: u16 length + UTF-8; options: u8 0/1 + value; f64: IEEE bits
//! │ u8      │ u8  │              │
//! └─────────┴─────┴──────────────┘
//! ```
//!
//! Both ends are the same executable, but neither trusts the other: a worker has read bytes from a camera. A
//! message that is short, long, of another version or out of range is no message at all.

mod bytes;
mod dial;
mod event;
mod order;
mod ring;

use super::shown::{MAX_LABEL_BYTES, MAX_MARKINGS};
use std::time::Duration;

pub(super) use bytes::Writer;
pub(super) use dial::{
    Answer, MAX_ADDRESSES, MAX_CERTIFICATE_BYTES, MAX_DIAL_BYTES, Question, read_answer, read_question,
    write_answer, write_question,
};
pub(super) use event::{
    read_decoder, read_event, read_nodes, write_alive, write_decoder, write_ended, write_failed, write_frame,
    write_memory_needed, write_nodes, write_notice, write_opened, write_picture,
};
pub(super) use order::{
    Draw, Order, Start, read_order, write_draw, write_keep, write_memory, write_muted, write_rate,
    write_release, write_start, write_stop,
};
pub use ring::Ring;
pub(super) use ring::RingWriter;

/// A worker that says nothing else says this often that it lives.
pub(super) const ALIVE_INTERVAL: Duration = Duration::from_secs(1);

/// Changes with every change of a message. The two ends differ only when the executable was replaced while
/// the service ran and `/proc/self/exe` cannot be used.
const VERSION: u8 = 7;

/// Longest message, bytes: a start order with the longest reference, all properties and all masks.
pub(super) const MAX_MESSAGE_BYTES: usize = 48 * 1024;

/// Longest order after the first, bytes: to draw all boxes with the longest labels (18 bytes beside each).
pub(super) const MAX_ORDER_BYTES: usize = 64 + MAX_MARKINGS * (18 + MAX_LABEL_BYTES);

/// Longest message from a worker, bytes: an error with message and cause of [`MAX_TEXT_BYTES`] each.
pub(super) const MAX_EVENT_BYTES: usize = 2 * 1024;

/// Longest `video_reference`, bytes. Longer than any URL that a camera or a CDN gives out.
pub(super) const MAX_REFERENCE_BYTES: usize = 8 * 1024;

/// Most properties of one source: OpenCV has fewer than 80.
pub(super) const MAX_PROPERTIES: usize = 128;

/// Longest text of an error or name, bytes. Longer ones are cut: a camera may have written them.
pub(super) const MAX_TEXT_BYTES: usize = 512;
