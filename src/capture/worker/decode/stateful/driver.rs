//! What a stateful decoder of the kernel is asked, as the kernel's own words for it: two queues of buffers,
//! coded ones in (its `OUTPUT`), pictures out (its `CAPTURE`), and events.

use rustix::io::Errno;
use std::time::Duration;

type Result<T> = std::result::Result<T, Errno>;

/// Most pieces of memory that a picture lies in: one for each plane.
pub(in crate::capture::worker) const MAX_PIECES: usize = 3;

/// Of which of the two queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::capture::worker) enum Queue {
    /// Access units on their way in: the kernel's `OUTPUT`.
    Coded,
    /// Pictures on their way out: the kernel's `CAPTURE`.
    Pictures,
}

/// A format of a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::capture::worker) struct Format {
    /// The four letters of codec or pixel format (`V4L2_PIX_FMT_…`).
    pub(in crate::capture::worker) fourcc: [u8; 4],
    /// Pixels of the buffer, padding included.
    pub(in crate::capture::worker) width: u32,
    /// Pixels of the buffer, padding included.
    pub(in crate::capture::worker) height: u32,
    /// Pieces of memory of a buffer; those beyond [`MAX_PIECES`] are counted and not described.
    pub(in crate::capture::worker) pieces: usize,
    /// Bytes from row to row in each piece.
    pub(in crate::capture::worker) strides: [u32; MAX_PIECES],
    /// Bytes of each piece.
    pub(in crate::capture::worker) sizes: [u32; MAX_PIECES],
}

/// A part of a picture, pixels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::capture::worker) struct Rectangle {
    pub(in crate::capture::worker) left: u32,
    pub(in crate::capture::worker) top: u32,
    pub(in crate::capture::worker) width: u32,
    pub(in crate::capture::worker) height: u32,
}

/// What is told between two buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::capture::worker) enum Event {
    /// The stream has, or now has, another size or format than the queue of pictures.
    SourceChanged,
    /// Anything else that was asked for: the end, which the last buffer says as well.
    Other,
}

/// A buffer that comes back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::capture::worker) struct Done {
    pub(in crate::capture::worker) index: u32,
    /// Bytes in use of each piece: from, to.
    pub(in crate::capture::worker) used: [(u32, u32); MAX_PIECES],
    /// Decoding went wrong; of a coded buffer: because of it.
    pub(in crate::capture::worker) damaged: bool,
    /// Nothing follows before decoding is set up or started again. Such a buffer may be empty.
    pub(in crate::capture::worker) last: bool,
    /// Of a coded buffer what it was queued with; of a picture that of the buffer it came from.
    pub(in crate::capture::worker) tag: u64,
}

/// What may be asked next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::capture::worker) struct Ready {
    pub(in crate::capture::worker) coded: bool,
    pub(in crate::capture::worker) picture: bool,
    pub(in crate::capture::worker) event: bool,
    /// The device cannot be waited for: it is gone, or has no buffer to work on.
    pub(in crate::capture::worker) broken: bool,
}

/// How a decoder is told to end or go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::capture::worker) enum Command {
    /// Gives out all pictures of what came before, the last marked as such.
    Stop,
    /// Goes on after that.
    Start,
}

/// A decoder. No request blocks longer than the kernel's driver does: see [`Driver::wait`].
///
/// Errors are the kernel's; `NODEV`: it was taken away.
pub(in crate::capture::worker) trait Driver {
    /// The formats of a queue; those of pictures depend on the coded one that was set, and on the stream.
    fn formats(&self, queue: Queue) -> Vec<[u8; 4]>;

    /// The format that the queue has now.
    fn format(&self, queue: Queue) -> Result<Format>;

    /// Sets a format; gives the one that the driver made of it.
    fn set_format(&self, queue: Queue, format: &Format) -> Result<Format>;

    /// Which part of a picture's buffer is to be seen, where the driver says so.
    fn visible(&self) -> Option<Rectangle>;

    /// How many pictures it keeps for itself, where it says so.
    fn kept_pictures(&self) -> Option<u32>;

    /// From here on events come.
    fn watch(&self) -> Result<()>;

    /// The next event; `None`: there is none.
    fn event(&self) -> Result<Option<Event>>;

    /// Has buffers made and mapped, as many as asked or as the driver likes; how many. 0 frees all.
    fn allocate(&mut self, queue: Queue, count: u32) -> Result<u32>;

    /// Bytes that fit into a coded buffer; 0: there is none of that number.
    fn room(&self, index: u32) -> usize;

    /// Gives coded data in a buffer that is not queued; none at all asks old drivers to drain. The tag comes
    /// back with its pictures.
    fn queue_coded(&mut self, index: u32, data: &[u8], tag: u64) -> Result<()>;

    /// Gives a buffer for a picture.
    fn queue_picture(&self, index: u32) -> Result<()>;

    /// Takes a buffer back. `None`: there is none now. `PIPE`: none will come, the last was taken.
    fn dequeue(&self, queue: Queue) -> Result<Option<Done>>;

    fn start(&self, queue: Queue) -> Result<()>;

    /// All buffers are ours again.
    fn stop(&self, queue: Queue) -> Result<()>;

    fn command(&self, command: Command) -> Result<()>;

    /// Waits until something has happened, at most so long.
    fn wait(&self, longest: Duration) -> Result<Ready>;

    /// What lies in the pieces of a picture that came back and was not queued again.
    fn pieces(&self, done: &Done) -> [&[u8]; MAX_PIECES];
}
