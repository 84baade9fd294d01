//! Pictures for people, made only while somebody looks.
//!
//! ```text
//! decoder's planes ──▶ ring slot (model's input) ──▶ announced, inferred …        … detections ──▶ the order to draw
//!                 └──▶ kept beside that slot, scaled and turned, as R, G, B             │
//!                                                    └───────────▶ boxes, JPEG ◀───────┘   ──▶ the service copies the bytes
//! ```
//!
//! A frame's detections are known only when its decoded planes are long gone; so a small copy waits beside
//! its slot and shares its life: a frame that is given back undrawn is forgotten. Boxes are drawn here, into
//! rows on their way to the encoder, because here are the pixels and a thread of their own, which no camera
//! waits for and the service's loop even less.

mod encode;
mod font;
mod overlay;

use super::picture::Picture;
use super::rotation::Rotation;
use super::scale::Scaler;
use crate::capture::ipc::{self, Draw, RingWriter, Writer};
use crate::capture::shown::{self, Drawn, JOBS, WIDTHS};
use crate::geometry::{Fit, InputRule, Polygon};
use overlay::Overlay;
use rustix::io::Errno;
use rustix::net::SendFlags;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The encoder keeps its rows on the heap.
const STACK_BYTES: usize = 256 * 1024;

/// A frame as it is shown, scaled: planes R, G, B.
#[derive(Debug)]
struct Small {
    frame_id: u64,
    /// The width that was asked for.
    asked: u16,
    width: u16,
    height: u16,
    /// Size of the turned frame, pixels.
    frame: (u32, u32),
    planes: Vec<u8>,
    /// What all of them hold together, bytes.
    held: Arc<AtomicUsize>,
}

impl Small {
    fn row(&self, row: u16) -> [&[u8]; 3] {
        let (width, pixels) = (usize::from(self.width), usize::from(self.width) * usize::from(self.height));
        let start = usize::from(row) * width;
        [0, 1, 2].map(|plane| {
            self.planes.get(plane * pixels + start..).and_then(|rest| rest.get(..width)).unwrap_or_default()
        })
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        self.held.fetch_sub(self.planes.len(), Ordering::Relaxed);
    }
}

/// What the threads share.
#[derive(Debug)]
pub(super) struct Pictures {
    /// Somebody looks: the one thing that every frame asks for.
    wanted: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
    held: Arc<AtomicUsize>,
    most_bytes: usize,
    socket: Arc<OwnedFd>,
}

#[derive(Debug)]
struct State {
    widths: heapless::Vec<u16, WIDTHS>,
    /// With the slot that the frame lies in.
    kept: Vec<(u32, Arc<Small>)>,
    /// The service has no more numbers than [`JOBS`]. `None`: the frame is not kept any more.
    orders: heapless::Deque<(Draw, Option<Arc<Small>>), { JOBS as usize }>,
    /// Where JPEG is written; the drawing thread's once it runs.
    buffer: Option<RingWriter>,
    has_thread: bool,
}

impl Pictures {
    /// `width`: of the largest; `socket`: where pictures are announced.
    pub(super) fn new(buffer: RingWriter, width: u32, socket: Arc<OwnedFd>) -> Arc<Pictures> {
        Arc::new(Pictures {
            wanted: AtomicBool::new(false),
            state: Mutex::new(State {
                widths: heapless::Vec::new(),
                kept: Vec::new(),
                orders: heapless::Deque::new(),
                buffer: Some(buffer),
                has_thread: false,
            }),
            changed: Condvar::new(),
            held: Arc::default(),
            most_bytes: shown::kept_bytes(width),
            socket,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on frames are kept in these widths.
    pub(super) fn keep(&self, widths: heapless::Vec<u16, WIDTHS>) {
        self.wanted.store(!widths.is_empty(), Ordering::Relaxed);
        self.lock().widths = widths;
    }

    /// The slot is free again: its frame will not be drawn any more.
    pub(super) fn forget(&self, slot: u32) {
        self.lock().kept.retain(|(kept, _)| *kept != slot);
    }

    /// An order to draw. False: more than there can be.
    pub(super) fn draw(self: &Arc<Self>, order: Draw) -> bool {
        let mut state = self.lock();
        if order.job >= JOBS {
            return false;
        }
        let is_wanted = |small: &Small| (small.frame_id, small.asked) == (order.frame_id, order.width);
        let found = state.kept.iter().find(|(slot, small)| *slot == order.slot && is_wanted(small));
        let small = found.map(|(_, small)| Arc::clone(small));
        if state.orders.push_back((order, small)).is_err() {
            return false;
        }
        if !state.has_thread {
            let pictures = Arc::clone(self);
            let thread = std::thread::Builder::new().name("pictures".into()).stack_size(STACK_BYTES);
            match thread.spawn(move || pictures.work()) {
                Ok(_) => state.has_thread = true,
                Err(error) => {
                    log::warn!("event=no_pictures error=\"{error}\"");
                    let unmade = std::mem::take(&mut state.orders);
                    drop(state);
                    return unmade.iter().all(|(order, _)| self.announce(&mut Writer::new(), order, 0));
                }
            }
        }
        drop(state);
        self.changed.notify_one();
        true
    }

    /// The drawing thread's life.
    fn work(&self) {
        let mut message = Writer::new();
        let Some(mut buffer) = self.lock().buffer.take() else { return };
        loop {
            let waiting = self.changed.wait_while(self.lock(), |state| state.orders.is_empty());
            let next = waiting.unwrap_or_else(PoisonError::into_inner).orders.pop_front();
            let Some((order, small)) = next else { continue };
            let bytes = small.zip(buffer.slot_mut(order.job)).map_or(0, |(small, out)| {
                // An encoder that trips over a picture costs that picture.
                catch_unwind(AssertUnwindSafe(|| {
                    let size = (usize::from(small.width), usize::from(small.height));
                    let overlay =
                        Overlay::new(order.markings.as_deref().unwrap_or_default(), small.frame, size);
                    encode::encode(&small, &overlay, out)
                }))
                .unwrap_or(0)
            });
            if !self.announce(&mut message, &order, bytes) {
                return;
            }
        }
    }

    /// Says that a picture is there; of no bytes, that it could not be made. False: the service is gone, and
    /// so is this process soon.
    fn announce(&self, message: &mut Writer, order: &Draw, bytes: usize) -> bool {
        // Fits: a slot is far smaller than 4 GiB.
        let drawn =
            Drawn { job: order.job, frame_id: order.frame_id, bytes: u32::try_from(bytes).unwrap_or(0) };
        ipc::write_picture(message, &drawn);
        loop {
            match rustix::net::send(&*self.socket, message.message(), SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                sent => return sent.is_ok(),
            }
        }
    }
}

/// Keeps frames: the working thread's end.
#[derive(Debug)]
pub(super) struct Keeper {
    pictures: Arc<Pictures>,
    masks: Vec<Polygon>,
    /// By the width asked for; those of widths that nobody asks for any more go.
    scalers: Vec<(u16, InputRule, Scaler)>,
}

impl Keeper {
    pub(super) fn new(pictures: Arc<Pictures>, masks: &[Polygon]) -> Keeper {
        Keeper { pictures, masks: masks.to_vec(), scalers: Vec::new() }
    }

    /// Keeps a frame that lies in `slot`, if somebody looks and there is room. True: it was kept.
    pub(super) fn keep(
        &mut self,
        picture: &Picture<'_>,
        rotation: Rotation,
        slot: u32,
        frame_id: u64,
    ) -> bool {
        if !self.pictures.wanted.load(Ordering::Relaxed) {
            return false;
        }
        let widths = self.pictures.lock().widths.clone();
        self.scalers.retain(|(asked, ..)| widths.contains(asked));
        let frame = rotation.size(picture.width, picture.height);
        let mut is_kept = false;
        for asked in widths {
            if let Some(small) = self.scale(picture, rotation, frame, asked, frame_id) {
                self.pictures.lock().kept.push((slot, Arc::new(small)));
                is_kept = true;
            }
        }
        is_kept
    }

    fn scale(
        &mut self,
        picture: &Picture<'_>,
        rotation: Rotation,
        frame: (u32, u32),
        asked: u16,
        frame_id: u64,
    ) -> Option<Small> {
        let (width, height) = shown::size(frame.0, frame.1, asked.into());
        let rule =
            InputRule { width, height, fit: Fit::Stretch, crop: None, grayscale: false, contrast: None };
        let bytes = rule.slot_bytes();
        let held = &self.pictures.held;
        if held.load(Ordering::Relaxed) + bytes > self.pictures.most_bytes {
            return None;
        }
        let found = self.scalers.iter().position(|(known, same, _)| (*known, *same) == (asked, rule));
        let index = found.unwrap_or_else(|| {
            self.scalers.retain(|(known, ..)| *known != asked);
            self.scalers.push((asked, rule, Scaler::new(rule).masked(&self.masks)));
            self.scalers.len() - 1
        });
        let (_, _, scaler) = self.scalers.get_mut(index)?;
        scaler.set_rotation(rotation);
        let mut planes = Vec::new();
        planes.try_reserve_exact(bytes).ok()?;
        planes.resize(bytes, 0);
        scaler.scale(picture, &mut planes).ok()?;
        let (width, height) = (u16::try_from(width).ok()?, u16::try_from(height).ok()?);
        held.fetch_add(bytes, Ordering::Relaxed);
        Some(Small { frame_id, asked, width, height, frame, planes, held: Arc::clone(held) })
    }
}
