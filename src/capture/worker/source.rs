//! What a video source is to the worker: something that can be grabbed from.
//!
//! Runs inside the worker process only, where blocking is fine. RTSP is not behind this trait: it is
//! asynchronous.

use crate::capture::worker::decode::{AccessUnit, Codec};
use crate::capture::worker::picture::Picture;
use crate::capture::worker::rotation::Rotation;
use crate::command::{PacketLosses, SourceProperties};
use crate::error::Result;

/// One step of a source.
#[derive(Debug)]
pub enum Grab<'a> {
    /// A packet that has to be decoded.
    Packet(Codec, AccessUnit<'a>),
    /// A frame that needs no decoder.
    Picture(Picture<'a>),
    /// Something was lost before the next packet: what follows can be decoded only from the next key frame
    /// on.
    Gap,
    /// A live source had nothing to give for [`IDLE`]: look at the parent's messages and grab again.
    Idle,
    /// The end of a file. Grabbing again gives the same until `restart`.
    End,
}

/// Longest that `grab` of a live source blocks: short beside the 500 ms grace that a worker is given to stop.
pub const IDLE: std::time::Duration = std::time::Duration::from_millis(100);

/// An open video source.
pub trait Source {
    /// What container or device says about itself. `is_file` means a known number of frames at a local path;
    /// `timestamp_created` is then the file's mtime less its duration.
    fn properties(&self) -> SourceProperties;

    /// What the container says of its codec; `None`: it does not say, or it is one that always is decoded.
    fn codec(&self) -> Option<Codec> {
        None
    }

    /// How the container wants its pictures turned; `None`: it does not say.
    fn rotation(&self) -> Option<Rotation> {
        None
    }

    /// The next packet or picture. Files give theirs as fast as asked: pacing is the caller's. Live sources
    /// block for at most [`IDLE`].
    ///
    /// An error is the end of this source.
    fn grab(&mut self) -> Result<Grab<'_>>;

    /// Packets that went unused so far: only what comes over a network in packets has any.
    fn losses(&self) -> PacketLosses {
        PacketLosses::default()
    }

    /// What about this source is otherwise than asked for, for people.
    fn notice(&self) -> Option<&str> {
        None
    }

    /// Back to the first packet; only files can. The decoder must be flushed or opened anew.
    fn restart(&mut self) -> Result<()>;
}
