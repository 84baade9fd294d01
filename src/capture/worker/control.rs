//! The worker's end of the conversation with its parent.
//!
//! A thread of its own listens, so that a worker that is busy decoding or waits for its camera still takes
//! back slots and hears that it shall stop. What it heard is state behind one lock; nobody has to poll.

use super::pictures::Pictures;
use crate::capture::ipc::{self, ALIVE_INTERVAL, Order, RingWriter, Start, Writer};
use crate::capture::place;
use crate::capture::{CaptureSettings, DecoderKind, Event, Frame, Progress, Rate};
use crate::command::SourceProperties;
use crate::error::{Error, Kind, Result, system};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What the parent has told us so far.
#[derive(Debug)]
struct Heard {
    /// By slot: whether we may write into it.
    free: Vec<bool>,
    muted: bool,
    rate: Option<Rate>,
    stop: bool,
    /// Bytes that we may use.
    memory: u64,
}

/// Shared by the thread that listens and the one that works.
#[derive(Debug)]
struct Shared {
    heard: Mutex<Heard>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Heard> {
        // No code panics while it holds the lock; if it did, flags and booleans are still whole.
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The worker's end of the conversation.
#[derive(Debug)]
pub(super) struct Control {
    socket: Arc<OwnedFd>,
    shared: Arc<Shared>,
    message: Writer,
    last_said: Instant,
    /// Pictures for people, where they are made.
    pictures: Option<Arc<Pictures>>,
    /// The counters as the parent knows them, and since when.
    told: (Progress, Instant),
    /// Who decodes, as the parent knows it.
    decoder: Option<DecoderKind>,
}

/// What comes with the first message.
#[derive(Debug, Default)]
pub(super) struct Descriptors {
    /// Where pictures are written.
    pub(super) pictures: Option<OwnedFd>,
    /// For a camera on the network, the line by which the service is asked for connections.
    pub(super) line: Option<OwnedFd>,
    /// Where the session is recorded.
    pub(super) recording: Option<OwnedFd>,
}

/// Takes the first message off the socket.
pub(super) fn receive_start(socket: &OwnedFd) -> Result<(Box<Start>, Descriptors)> {
    let mut message = vec![0; ipc::MAX_MESSAGE_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let parts = &mut [IoSliceMut::new(&mut message)];
    let got = rustix::net::recvmsg(socket, parts, &mut control, RecvFlags::CMSG_CLOEXEC)
        .map_err(|errno| system("waiting for the order to start")(errno.into()))?;
    let mut descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let mut descriptors = descriptors.next().into_iter().flatten();
    let order = ipc::read_order(message.get(..got.bytes).unwrap_or_default());
    message.fill(0); // It holds the camera's password.
    match order {
        Some(Order::Start(start)) => {
            // In this order.
            let pictures = if start.settings.picture_width > 0 { descriptors.next() } else { None };
            let line = if place::is_remote(&start.request.reference) { descriptors.next() } else { None };
            Ok((start, Descriptors { pictures, line, recording: descriptors.next() }))
        }
        _ => Err(Error::new(Kind::Worker, "the first message is no order to start")),
    }
}

/// Says who decodes from here on, before there is a [`Control`].
pub(super) fn say_decoder(socket: &OwnedFd, kind: DecoderKind) -> Result<()> {
    let mut message = Writer::new();
    ipc::write_decoder(&mut message, kind);
    send(socket, &message)
}

/// Says which device nodes may be decoders, before there is a [`Control`].
pub(super) fn say_nodes(socket: &OwnedFd, nodes: &[u8]) -> Result<()> {
    let mut message = Writer::new();
    ipc::write_nodes(&mut message, nodes);
    send(socket, &message)
}

/// Blocks while the parent does not read: there is nothing better to do then. A parent that is gone ends us.
fn send(socket: &OwnedFd, message: &Writer) -> Result<()> {
    loop {
        match rustix::net::send(socket, message.message(), SendFlags::NOSIGNAL) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(system("speaking to the service")(errno.into())),
        }
    }
}

impl Control {
    /// Starts to listen. `CaptureSettings::stop_grace` is what we have between being told to stop and being ended,
    /// whatever we do. `pictures`: the buffer for them and the width of the largest.
    pub(super) fn start(
        socket: OwnedFd,
        slots: u32,
        muted: bool,
        settings: &CaptureSettings,
        pictures: Option<(RingWriter, u32)>,
    ) -> Result<Control> {
        let (grace, memory) = (settings.stop_grace, settings.worker_memory_bytes);
        let (signals, signalled) = UnixStream::pair().map_err(system("creating the signal socket"))?;
        signal_hook::low_level::pipe::register(signal_hook::consts::SIGTERM, signals)
            .map_err(system("catching SIGTERM"))?;
        let heard = Heard { free: vec![true; slots as usize], muted, rate: None, stop: false, memory };
        let shared = Arc::new(Shared { heard: Mutex::new(heard), changed: Condvar::new() });
        let socket = Arc::new(socket);
        let pictures = pictures.map(|(buffer, width)| Pictures::new(buffer, width, Arc::clone(&socket)));
        let (listener, state, drawing) = (Arc::clone(&socket), Arc::clone(&shared), pictures.clone());
        std::thread::Builder::new()
            .name("control".into())
            .stack_size(LISTENER_STACK_BYTES)
            .spawn(move || {
                listen(&listener, &signalled, &state, drawing.as_ref());
                state.lock().stop = true;
                state.changed.notify_all();
                std::thread::sleep(grace);
                // The working thread hangs: what it would have told the camera is lost, but nothing is left
                // behind.
                std::process::exit(1);
            })
            .map_err(system("starting the listening thread"))?;
        Ok(Control {
            socket,
            shared,
            message: Writer::new(),
            last_said: Instant::now(),
            pictures,
            told: (Progress::default(), Instant::now()),
            decoder: None,
        })
    }

    /// Pictures for people, where they are made.
    pub(super) fn pictures(&self) -> Option<Arc<Pictures>> {
        self.pictures.clone()
    }

    /// Whether the parent wants us to end, or is gone.
    pub(super) fn stopped(&self) -> bool {
        self.shared.lock().stop
    }

    /// Whether frames are to be thrown away undecoded.
    pub(super) fn muted(&self) -> bool {
        self.shared.lock().muted
    }

    /// How many frames of a stream are wanted; `None`: all.
    pub(super) fn rate(&self) -> Option<Rate> {
        self.shared.lock().rate
    }

    /// A free slot, now ours. The lowest: a ring that is never full then touches only its first pages.
    pub(super) fn take_slot(&self) -> Option<u32> {
        take(&mut self.shared.lock())
    }

    /// The same, waiting for at most `limit`. `None` also when told to stop.
    pub(super) fn wait_for_slot(&self, limit: Duration) -> Option<u32> {
        let heard = self.shared.lock();
        let nothing = |heard: &mut Heard| !heard.stop && !heard.free.contains(&true);
        let result = self.shared.changed.wait_timeout_while(heard, limit, nothing);
        let (mut heard, _) = result.unwrap_or_else(PoisonError::into_inner);
        if heard.stop { None } else { take(&mut heard) }
    }

    /// Gives back a slot that was taken and not used.
    pub(super) fn put_back(&self, slot: u32) {
        if let Some(free) = self.shared.lock().free.get_mut(slot as usize) {
            *free = true;
        }
    }

    /// Waits until `deadline`, or until told to stop.
    pub(super) fn wait_until(&self, deadline: Instant) {
        let limit = deadline.saturating_duration_since(Instant::now());
        if !limit.is_zero() {
            let _ = self.shared.changed.wait_timeout_while(self.shared.lock(), limit, |heard| !heard.stop);
        }
    }

    /// The source is open.
    pub(super) fn say_opened(&mut self, properties: &SourceProperties) -> Result<()> {
        ipc::write_opened(&mut self.message, properties);
        self.send()
    }

    /// Who decodes from here on, if that has changed.
    pub(super) fn say_decoder(&mut self, kind: DecoderKind) -> Result<()> {
        if self.decoder.replace(kind) == Some(kind) {
            return Ok(());
        }
        ipc::write_decoder(&mut self.message, kind);
        self.send()
    }

    /// The source is played otherwise than asked for.
    pub(super) fn say_notice(&mut self, message: &str) -> Result<()> {
        ipc::write_notice(&mut self.message, message);
        self.send()
    }

    /// Asks for so many bytes of memory in all, unless we have them, and waits for them.
    ///
    /// Errors: `ShuttingDown` when told to stop, which is also how the service refuses; `System` when it does
    /// not answer.
    pub(super) fn need_memory(&mut self, bytes: u64) -> Result<()> {
        if self.shared.lock().memory >= bytes {
            return Ok(());
        }
        ipc::write_memory_needed(&mut self.message, bytes);
        self.send()?;
        let nothing = |heard: &mut Heard| !heard.stop && heard.memory < bytes;
        let result = self.shared.changed.wait_timeout_while(self.shared.lock(), MEMORY_PATIENCE, nothing);
        let (heard, _) = result.unwrap_or_else(PoisonError::into_inner);
        match (heard.stop, heard.memory >= bytes) {
            (true, _) => Err(Error::new(Kind::ShuttingDown, "told to stop")),
            (false, true) => Ok(()),
            (false, false) => {
                Err(Error::new(Kind::System, "the service does not say how much memory may be used"))
            }
        }
    }

    /// A frame lies in its slot, which is the parent's from now on.
    pub(super) fn say_frame(&mut self, frame: &Frame) -> Result<()> {
        ipc::write_frame(&mut self.message, frame);
        self.send()
    }

    /// We live, if nothing has been said for [`ALIVE_INTERVAL`]; and what was lost, as often, if it has
    /// become more.
    pub(super) fn say_alive_if_due(&mut self, progress: &Progress) -> Result<()> {
        let (told, since) = &self.told;
        let losses_due = has_lost_more(told, progress) && since.elapsed() >= ALIVE_INTERVAL;
        if self.last_said.elapsed() < ALIVE_INTERVAL && !losses_due {
            return Ok(());
        }
        self.say_alive(progress)
    }

    /// What was lost since it was last said: before the last word, after which nobody asks any more.
    pub(super) fn say_losses(&mut self, progress: &Progress) -> Result<()> {
        if self.stopped() || !has_lost_more(&self.told.0, progress) {
            return Ok(());
        }
        self.say_alive(progress)
    }

    fn say_alive(&mut self, progress: &Progress) -> Result<()> {
        self.told = (*progress, Instant::now());
        ipc::write_alive(&mut self.message, progress);
        self.send()
    }

    /// The last message of a worker: that its source has ended, or why it failed.
    pub(super) fn say_last(&mut self, last: &Event) -> Result<()> {
        match last {
            Event::Failed(error) => ipc::write_failed(&mut self.message, error),
            _ => ipc::write_ended(&mut self.message),
        }
        self.send()
    }

    fn send(&mut self) -> Result<()> {
        self.last_said = Instant::now();
        send(&self.socket, &self.message)
    }
}

fn has_lost_more(told: &Progress, now: &Progress) -> bool {
    (told.dropped, told.undecodable, told.packets) != (now.dropped, now.undecodable, now.packets)
}

/// Longest wait for more memory: the service has nothing to ask anybody.
const MEMORY_PATIENCE: Duration = Duration::from_secs(5);

/// The listener reads small messages and calls nothing deep.
const LISTENER_STACK_BYTES: usize = 128 * 1024;

fn take(heard: &mut Heard) -> Option<u32> {
    let index = heard.free.iter().position(|free| *free)?;
    *heard.free.get_mut(index)? = false;
    u32::try_from(index).ok()
}

/// Returns when there is a reason to stop: an order, SIGTERM, or a parent that is gone.
fn listen(socket: &OwnedFd, signalled: &UnixStream, shared: &Shared, pictures: Option<&Arc<Pictures>>) {
    let mut message = vec![0; ipc::MAX_ORDER_BYTES];
    loop {
        let mut watched =
            [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN), PollFd::new(signalled, PollFlags::IN)];
        match rustix::event::poll(&mut watched, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
        let [order, signal] = watched.map(|fd| !fd.revents().is_empty());
        if signal {
            return;
        }
        if !order {
            continue;
        }
        match rustix::net::recv(socket, &mut message[..], RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN | Errno::INTR) => continue,
            Ok((0, _)) | Err(_) => return,
            Ok((length, _)) => {
                let order = ipc::read_order(message.get(..length).unwrap_or_default());
                if let (Some(Order::Release(slot)), Some(pictures)) = (&order, pictures) {
                    // Before another frame can lie in it.
                    pictures.forget(*slot);
                }
                let mut heard = shared.lock();
                match order {
                    Some(Order::Release(slot)) => match heard.free.get_mut(slot as usize) {
                        Some(free) => *free = true,
                        None => return,
                    },
                    Some(Order::Muted(muted)) => heard.muted = muted,
                    Some(Order::Rate(rate)) => heard.rate = rate,
                    Some(Order::Keep(widths)) => match pictures {
                        Some(pictures) => pictures.keep(widths),
                        None => return,
                    },
                    Some(Order::Draw(draw)) => match pictures {
                        Some(pictures) if pictures.draw(draw) => {}
                        _ => return,
                    },
                    Some(Order::Memory(bytes)) => heard.memory = bytes,
                    // The service and its workers are one executable: anything else is an end of the
                    // conversation.
                    Some(Order::Stop | Order::Start(_)) | None => return,
                }
                shared.changed.notify_all();
            }
        }
    }
}
