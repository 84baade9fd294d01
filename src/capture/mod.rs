//! One worker process per video source, and the parent's end of it.
//!
//! A source is opened, depacketised, decoded and scaled in a child: the same binary, re-executed as `weir
//! capture`. One child is one connection; reconnecting is starting another child. The parent trusts nothing
//! that a child sends.
//!
//! The path says in which process code runs: `parent/` in the service, `worker/` in the child, `ipc/` is what
//! they share. A worker opens no socket: it asks the service, which looks at `network` and hands connections
//! over.

mod decoder;
mod ipc;
mod network;
mod parent;
mod pcapng;
mod place;
mod shown;
mod trust;
pub mod worker;

pub use crate::sandbox::Spawner;
pub use decoder::{DecoderChoice, DecoderKind, DecoderSettings, MAX_DECODER_NAMES, is_decoder_name};
pub use ipc::Ring;
pub use network::Network;
pub use parent::{DecoderNodes, Probe, Worker, record};
pub use place::is_remote;
pub use shown::{
    Drawn, MAX_LABEL_BYTES, MAX_MARKINGS, MAX_PICTURE_WIDTH, MIN_PICTURE_WIDTH, Marking, WIDTHS,
    picture_bytes,
};
pub use trust::{CameraTls, MAX_CERTIFICATE_BYTES, Trust};

use crate::clock::Wall;
use crate::command::{Filling, PacketLosses, Property, SourceProperties, SourceReference};
use crate::error::Error;
use crate::geometry::{Fit, InputRule, Polygon};
use std::sync::Arc;
use std::time::Duration;

/// Least that a worker may be given, bytes: enough for every decoder at 640 × 360, and for an encrypted
/// connection. `tests/process/capture.rs` plays them all with it.
pub const MIN_WORKER_BYTES: u64 = 16 << 20;

/// Widest and highest picture that is taken, pixels: 8K and a little, as in H.264 level 6.2.
pub(crate) const MAX_SIDE: u32 = 16_384;

/// What every worker of this service is given.
#[derive(Debug, Clone)]
pub struct CaptureSettings {
    /// Memory that a worker may use from its start on, bytes, without its ring.
    pub worker_memory_bytes: u64,
    /// Memory that a worker may be given for the pictures that its source announces, bytes; at least the
    /// same.
    pub worker_memory_max_bytes: u64,
    /// From the start of a worker to `Opened`, at most.
    pub open_timeout: Duration,
    /// Silence of an open source after which it counts as frozen.
    pub stall_timeout: Duration,
    /// Without a key frame for so long, an open source is reported as waiting for one, and decoding begins
    /// where it can.
    pub key_frame_timeout: Duration,
    /// From asking a worker to stop until it is killed.
    pub stop_grace: Duration,
    /// RTSP over UDP instead of TCP where the reference does not say.
    pub rtsp_udp: bool,
    /// What HTTP and RTSP servers are told.
    pub user_agent: String,
    /// Where workers may be connected to. The service's affair: no worker is told.
    pub network: Arc<Network>,
    /// Width of the largest picture for people, pixels; 0: none are made.
    pub picture_width: u32,
    /// Who vouches for the certificates of cameras.
    pub tls: CameraTls,
    /// By whom pictures are decoded.
    pub decoders: DecoderSettings,
    /// What workers found out of the machine's own decoders. The service's affair, as `network` is.
    pub decoder_nodes: Arc<DecoderNodes>,
}

/// One source for one worker.
#[derive(Debug, Clone)]
pub struct Request {
    /// The source to open.
    pub reference: SourceReference,
    /// Properties to set after opening.
    pub properties: Vec<Property>,
    /// What is blackened in every frame before anybody sees it.
    pub masks: Vec<Polygon>,
    /// How frames become model input.
    pub rule: InputRule,
    /// Slots of the ring.
    pub slots: u32,
    /// `frame_id` of the first frame: counting goes on across reconnections.
    pub first_frame_id: u64,
    /// What to do with a frame when no slot is free; `None`: `Wait` for files, `DropOldest` for streams.
    pub filling: Option<Filling>,
    /// Files only: skip frames in the decoder so that this many per second of video remain.
    pub file_max_fps: Option<f64>,
    /// The source begins muted: its frames are thrown away.
    pub muted: bool,
    /// Decode with nothing but what is builtin: other decoders have ended workers of this source.
    pub only_builtin: bool,
    /// Record the session: what is sent to a camera on the network and what comes from it.
    pub recorded: Option<Payloads>,
}

impl Request {
    /// Plays a source whose frames no model looks at: they are as small, and as few at once, as they can be.
    pub fn without_model(reference: SourceReference) -> Request {
        Request {
            reference,
            properties: Vec::new(),
            masks: Vec::new(),
            rule: InputRule {
                width: 16,
                height: 16,
                fit: Fit::Stretch,
                crop: None,
                grayscale: false,
                contrast: None,
            },
            // One to write while the other is drawn, or given back.
            slots: 2,
            first_frame_id: 1,
            filling: None,
            file_max_fps: None,
            muted: false,
            only_builtin: false,
            recorded: None,
        }
    }
}

/// How much of the packets that carry pictures is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payloads {
    /// Their headers, and parameter sets; zeros where pictures are.
    Blank,
    /// Every byte, pictures too.
    Whole,
}

/// How many frames of a stream are wanted. What comes beyond is left out, as evenly as it comes, and where
/// nothing needs it not even decoded.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rate {
    /// Frames per second, above 0.
    pub fps: f64,
    /// Taken near multiples of their interval by the machine's clock: sources that are to be alike give theirs
    /// at about the same time.
    pub is_aligned: bool,
}

/// What a worker tells its parent, checked.
#[derive(Debug)]
pub enum Event {
    /// The source is open. First event of a good source.
    Opened(SourceProperties),
    /// A frame lies in a slot; give it back with `release`.
    Frame(Frame),
    /// A picture is there; take it with `picture`.
    Picture(Drawn),
    /// The source is played, and otherwise than asked for: what is otherwise, for people.
    Notice(String),
    /// The source announces pictures for which a worker needs so many bytes: [`Worker::allow_memory`], or
    /// stop it. It waits.
    Memory(u64),
    /// The source lives though no frame came out (muted, waiting for a key frame, dropping), or some were
    /// lost.
    Alive(Progress),
    /// End of file. Last event.
    Ended,
    /// Could not be opened, broke, stalled, or the worker died. Last event.
    Failed(Error),
}

/// One frame in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Which slot; below `Request::slots`, and not held already.
    pub slot: u32,
    /// Counts grabbed frames from 1, skipped and muted ones included.
    pub frame_id: u64,
    /// Frames since the one that was delivered before, that were left out because fewer are wanted.
    pub left_out: u64,
    /// Streams: arrival. Files: when decoding began.
    pub timestamp: Wall,
    /// Frame width before scaling, pixels.
    pub width: u32,
    /// Frame height before scaling, pixels.
    pub height: u32,
    /// A smaller copy waits in the worker, until the slot is released, for the order to draw it.
    pub is_kept: bool,
}

/// Counters of a worker since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Number of the last frame that came, whether or not it was given out.
    pub frame_id: u64,
    /// Frames thrown away because no slot was free.
    pub dropped: u64,
    /// Frames that could not be decoded.
    pub undecodable: u64,
    /// Packets that went unused.
    pub packets: PacketLosses,
    /// The source is alive but no key frame has come yet.
    pub waiting_for_key_frame: bool,
}
