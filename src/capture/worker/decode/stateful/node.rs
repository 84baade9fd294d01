//! Devices that work from memory to memory: decoders whose driver parses the stream itself ("stateful").

use super::driver::{Command, Done, Driver, Event, Format, MAX_PIECES, Queue, Ready, Rectangle};
use crate::capture::worker::videodev::mapping::Mapping;
use crate::capture::worker::videodev::raw::*;
use rustix::event::PollFlags;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::Opcode;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `V4L2_EVENT_EOS`.
const EVENT_END: u32 = 2;
/// `V4L2_EVENT_SOURCE_CHANGE`.
const EVENT_SOURCE_CHANGE: u32 = 5;
/// `V4L2_EVENT_SRC_CH_RESOLUTION`.
const RESOLUTION: u32 = 1;
/// `V4L2_SEL_TGT_COMPOSE`: where in a buffer the picture lies.
const COMPOSE: u32 = 0x100;
/// `V4L2_SEL_TGT_CROP`: what drivers before that was agreed on say in its place.
const CROP: u32 = 0;
/// `V4L2_CID_MIN_BUFFERS_FOR_CAPTURE`.
const KEPT_PICTURES: u32 = 0x0098_0927;
/// `V4L2_MEMORY_FLAG_NON_COHERENT`: memory that the processor caches, where the driver can have it. Reading
/// pictures from memory that is not cached takes several times as long.
const CACHED: u32 = 1;
/// `V4L2_DEC_CMD_START` and `V4L2_DEC_CMD_STOP`.
const COMMANDS: [u32; 2] = [0, 1];

const MICROSECONDS: i64 = 1_000_000;

/// All requests that a decoder is used by once it is open: what a system-call filter has to let through.
pub(in crate::capture::worker) const REQUESTS: [Opcode; 14] = [
    ENUM_FMT,
    // Also of planes: the same numbers.
    G_FMT,
    S_FMT,
    REQBUFS,
    QUERYBUF,
    QBUF,
    DQBUF,
    STREAMON,
    STREAMOFF,
    G_CTRL,
    DQEVENT,
    SUBSCRIBE_EVENT,
    G_SELECTION,
    DECODER_CMD,
];

/// An open device from memory to memory, with its buffers.
#[derive(Debug)]
pub(in crate::capture::worker) struct Node {
    fd: OwnedFd,
    path: PathBuf,
    driver: String,
    card: String,
    /// Buffers are lists of planes.
    planes: bool,
    coded: Vec<Mapping>,
    pictures: Vec<Vec<Mapping>>,
}

impl Node {
    /// Opens it. `None`: it works from memory to memory in no way.
    ///
    /// Errors: the system's.
    pub(in crate::capture::worker) fn open(path: &Path) -> Result<Option<Node>> {
        let fd = rustix::fs::open(path, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
        let mut raw = RawCapability::default();
        request::<QUERYCAP, _>(&fd, &mut raw)?;
        let capabilities = capability::of_node(&raw);
        // Older drivers of its kind name the two halves apart.
        if !capability::is_m2m(capabilities) {
            return Ok(None);
        }
        Ok(Some(Node {
            fd,
            path: path.to_owned(),
            driver: text(&raw.driver),
            card: text(&raw.card),
            planes: capabilities & capability::M2M_MPLANE != 0,
            coded: Vec::new(),
            pictures: Vec::new(),
        }))
    }

    /// Where it was opened.
    pub(in crate::capture::worker) fn path(&self) -> &Path {
        &self.path
    }

    /// The driver's name. Comes from the kernel: not for a terminal as it is.
    pub(in crate::capture::worker) fn driver(&self) -> &str {
        &self.driver
    }

    /// The device's name. Comes from the driver: not for a terminal as it is.
    pub(in crate::capture::worker) fn card(&self) -> &str {
        &self.card
    }

    fn kind(&self, queue: Queue) -> u32 {
        match (queue, self.planes) {
            (Queue::Coded, false) => OUTPUT,
            (Queue::Coded, true) => OUTPUT_PLANES,
            (Queue::Pictures, false) => CAPTURE,
            (Queue::Pictures, true) => CAPTURE_PLANES,
        }
    }

    /// Asks for a rectangle by the type of the queue, and by the other name that older kernels want.
    fn rectangle(&self, target: u32) -> Option<Rectangle> {
        let ask = |kind| {
            let mut raw = RawSelection { kind, target, ..RawSelection::default() };
            request::<G_SELECTION, _>(&self.fd, &mut raw).ok()?;
            let RawRectangle { left, top, width, height } = raw.rectangle;
            Some(Rectangle { left: left.try_into().ok()?, top: top.try_into().ok()?, width, height })
        };
        ask(CAPTURE).or_else(|| ask(self.kind(Queue::Pictures)))
    }

    fn map(&self, queue: Queue, index: u32) -> Result<Vec<Mapping>> {
        let (raw, planes) = buffer::<QUERYBUF>(&self.fd, self.kind(queue), index, |_, _| {})?;
        let count = if self.planes { raw.length as usize } else { 1 };
        let map = |plane| match queue {
            Queue::Coded => Mapping::to_write(&self.fd, plane),
            Queue::Pictures => Mapping::to_read(&self.fd, plane),
        };
        planes.iter().take(count.min(MAX_PIECES)).map(map).collect()
    }
}

fn of_piece(pixels: &PixelFormat) -> Format {
    let PixelFormat { width, height, fourcc, stride, size, .. } = *pixels;
    Format { fourcc, width, height, pieces: 1, strides: [stride, 0, 0], sizes: [size, 0, 0] }
}

fn of_pieces(pixels: &RawPlanesFormat) -> Format {
    let RawPlanesFormat { width, height, fourcc, planes, count, .. } = *pixels;
    let pieces = usize::from(count);
    let mut format = Format { fourcc, width, height, pieces, ..Format::default() };
    let each = format.strides.iter_mut().zip(&mut format.sizes).zip(planes).take(pieces);
    each.for_each(|((stride, size), plane)| (*stride, *size) = (plane.stride, plane.size));
    format
}

impl Driver for Node {
    fn formats(&self, queue: Queue) -> Vec<[u8; 4]> {
        formats(&self.fd, self.kind(queue))
    }

    fn format(&self, queue: Queue) -> Result<Format> {
        if self.planes {
            let mut raw = RawFormatOfPlanes::new(self.kind(queue), RawPlanesFormat::default());
            request::<G_FMT_OF_PLANES, _>(&self.fd, &mut raw)?;
            return Ok(of_pieces(&raw.pixels));
        }
        let mut raw = RawFormat::new(self.kind(queue), PixelFormat::default());
        request::<G_FMT, _>(&self.fd, &mut raw)?;
        Ok(of_piece(&raw.pixels))
    }

    fn set_format(&self, queue: Queue, format: &Format) -> Result<Format> {
        let Format { fourcc, width, height, pieces, sizes: [size, ..], .. } = *format;
        if self.planes {
            let mut pixels = RawPlanesFormat { width, height, fourcc, ..RawPlanesFormat::default() };
            pixels.count = u8::try_from(pieces).unwrap_or(0);
            pixels.planes[0].size = size;
            let mut raw = RawFormatOfPlanes::new(self.kind(queue), pixels);
            request::<S_FMT_OF_PLANES, _>(&self.fd, &mut raw)?;
            return Ok(of_pieces(&raw.pixels));
        }
        let pixels = PixelFormat { size, ..PixelFormat::new(width, height, fourcc) };
        let mut raw = RawFormat::new(self.kind(queue), pixels);
        request::<S_FMT, _>(&self.fd, &mut raw)?;
        Ok(of_piece(&raw.pixels))
    }

    fn visible(&self) -> Option<Rectangle> {
        self.rectangle(COMPOSE).or_else(|| self.rectangle(CROP))
    }

    fn kept_pictures(&self) -> Option<u32> {
        let mut raw = RawControl { id: KEPT_PICTURES, value: 0 };
        request::<G_CTRL, _>(&self.fd, &mut raw).ok()?;
        raw.value.try_into().ok()
    }

    fn watch(&self) -> Result<()> {
        // Not every driver has the first, and the last buffer says the same.
        let _ = self.subscribe(EVENT_END);
        self.subscribe(EVENT_SOURCE_CHANGE)
    }

    fn event(&self) -> Result<Option<Event>> {
        let mut raw = RawEvent::default();
        match request::<DQEVENT, _>(&self.fd, &mut raw) {
            Ok(()) => {}
            Err(Errno::NOENT | Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(errno) => return Err(errno),
        }
        // A union: what has changed is its first 32 bits.
        let [one, two, three, four, ..] = raw.data[0].to_ne_bytes();
        let changes = u32::from_ne_bytes([one, two, three, four]);
        let is_change = raw.kind == EVENT_SOURCE_CHANGE && changes & RESOLUTION != 0;
        Ok(Some(if is_change { Event::SourceChanged } else { Event::Other }))
    }

    fn allocate(&mut self, queue: Queue, count: u32) -> Result<u32> {
        // Mapped buffers cannot be freed.
        match queue {
            Queue::Coded => self.coded.clear(),
            Queue::Pictures => self.pictures.clear(),
        }
        let flags = if queue == Queue::Pictures { CACHED } else { 0 };
        let mut raw =
            RawRequestBuffers { count, kind: self.kind(queue), memory: MAPPED, _capabilities: 0, flags };
        request::<REQBUFS, _>(&self.fd, &mut raw)?;
        for index in 0..raw.count.min(MAX_LISTED) {
            let mut mapped = self.map(queue, index)?;
            match queue {
                // Coded data lies in one piece.
                Queue::Coded if !mapped.is_empty() => self.coded.push(mapped.swap_remove(0)),
                Queue::Coded => return Err(Errno::BADMSG),
                Queue::Pictures => self.pictures.push(mapped),
            }
        }
        Ok(raw.count.min(MAX_LISTED))
    }

    fn room(&self, index: u32) -> usize {
        self.coded.get(index as usize).map_or(0, Mapping::bytes)
    }

    fn queue_coded(&mut self, index: u32, data: &[u8], tag: u64) -> Result<()> {
        let there = self.coded.get_mut(index as usize).is_some_and(|mapping| mapping.write(data));
        let used = u32::try_from(data.len()).ok().filter(|_| there).ok_or(Errno::INVAL)?;
        // A tag travels as a time. Below 2⁶³, so none is negative.
        let time = (tag & i64::MAX as u64).cast_signed();
        buffer::<QBUF>(&self.fd, self.kind(Queue::Coded), index, |raw, plane| {
            raw.timestamp = [time / MICROSECONDS, time % MICROSECONDS];
            plane.bytes_used = used;
            plane.length = u32::try_from(self.room(index)).unwrap_or(u32::MAX);
        })
        .map(drop)
    }

    fn queue_picture(&self, index: u32) -> Result<()> {
        buffer::<QBUF>(&self.fd, self.kind(Queue::Pictures), index, |_, _| {}).map(drop)
    }

    fn dequeue(&self, queue: Queue) -> Result<Option<Done>> {
        let (raw, planes) = match buffer::<DQBUF>(&self.fd, self.kind(queue), 0, |_, _| {}) {
            Ok(buffer) => buffer,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let mut used = [(0, 0); MAX_PIECES];
        used.iter_mut().zip(planes).for_each(|(used, plane)| *used = (plane.data_offset, plane.bytes_used));
        let [seconds, microseconds] = raw.timestamp;
        let tag = seconds.saturating_mul(MICROSECONDS).saturating_add(microseconds).cast_unsigned();
        Ok(Some(Done {
            index: raw.index,
            used,
            damaged: raw.flags & BUFFER_ERROR != 0,
            last: raw.flags & BUFFER_LAST != 0,
            tag,
        }))
    }

    fn start(&self, queue: Queue) -> Result<()> {
        request::<STREAMON, _>(&self.fd, &mut self.kind(queue))
    }

    fn stop(&self, queue: Queue) -> Result<()> {
        request::<STREAMOFF, _>(&self.fd, &mut self.kind(queue))
    }

    fn command(&self, command: Command) -> Result<()> {
        let [start, stop] = COMMANDS;
        let command = if command == Command::Stop { stop } else { start };
        request::<DECODER_CMD, _>(
            &self.fd,
            &mut RawDecoderCommand { command, ..RawDecoderCommand::default() },
        )
    }

    fn wait(&self, longest: Duration) -> Result<Ready> {
        let happened = wait(&self.fd, PollFlags::IN | PollFlags::OUT | PollFlags::PRI, longest)?;
        Ok(Ready {
            coded: happened.contains(PollFlags::OUT),
            picture: happened.contains(PollFlags::IN),
            event: happened.contains(PollFlags::PRI),
            broken: happened.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL),
        })
    }

    fn pieces(&self, done: &Done) -> [&[u8]; MAX_PIECES] {
        let mut pieces = [&[][..]; MAX_PIECES];
        let mapped = self.pictures.get(done.index as usize).map(Vec::as_slice).unwrap_or_default();
        for (piece, (mapping, (from, to))) in pieces.iter_mut().zip(mapped.iter().zip(done.used)) {
            *piece = mapping.data(to).get(from as usize..).unwrap_or_default();
        }
        pieces
    }
}

impl Node {
    fn subscribe(&self, kind: u32) -> Result<()> {
        request::<SUBSCRIBE_EVENT, _>(&self.fd, &mut RawSubscription { kind, ..RawSubscription::default() })
    }
}
