//! The parent's end of a worker process.

mod authorities;
mod dial;
mod nodes;
mod pictures;
mod probe;
pub mod record;

pub use nodes::DecoderNodes;
pub use probe::Probe;

use crate::capture::ipc::{self, ALIVE_INTERVAL, Writer};
use crate::capture::network::Named;
use crate::capture::place;
use crate::capture::shown::WIDTHS;
use crate::capture::{CaptureSettings, DecoderKind, Drawn, Event, Frame, Marking, Rate, Request, Ring};
use crate::clock::within;
use crate::error::{Error, Kind, Result, system};
use crate::sandbox::{self, Exit, Order, Process, Spawner};
use async_io::{Async, Timer};
use dial::Dial;
use futures_lite::FutureExt;
use pictures::Pictures;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use rustix::process::Signal;
use std::cell::RefCell;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Beyond the worker's own deadlines, which name the cause better: one sign of life and a little. Then the
/// worker itself hangs and the parent speaks.
const WATCHDOG_MARGIN: Duration = ALIVE_INTERVAL.saturating_add(Duration::from_millis(500));

/// From SIGKILL, or from the worker closing its socket, to its end. A process in an uninterruptible system
/// call can take for ever; it is then left to the spawner thread.
const REAP_TIMEOUT: Duration = Duration::from_millis(500);

/// Most notices of one worker. It has one thing to say.
const MAX_NOTICES: u32 = 4;

/// How often one worker may ask for more memory: a source that announces larger pictures again and again.
const MAX_RAISES: u32 = 16;

/// How often one worker may say that another decoder decodes: a stream that changes its codec again and again.
const MAX_DECODERS: u32 = 64;

/// Where the loader looks for libraries, if the service was told: libavcodec is the worker's to open.
const LIBRARY_PATH: &str = "LD_LIBRARY_PATH";

/// Most signs of life in [`ALIVE_WINDOW`]. A worker sends about one per second.
const MAX_ALIVE_PER_WINDOW: u32 = 64;
/// The time in which [`MAX_ALIVE_PER_WINDOW`] signs of life may come.
const ALIVE_WINDOW: Duration = Duration::from_secs(1);

/// In which widths frames are kept.
type Widths = heapless::Vec<u16, WIDTHS>;

/// The parent's end of one worker process. Lives on the event loop's thread. Dropped without
/// [`Worker::stop`], the process is killed and reaped in the background.
#[derive(Debug)]
pub struct Worker {
    pid: u32,
    /// The source, without user and password: for errors.
    reference: String,
    socket: Async<OwnedFd>,
    ring: Arc<Ring>,
    /// Where pictures are made.
    pictures: Option<Pictures>,
    open_deadline: Instant,
    stall_timeout: Duration,
    stop_grace: Duration,
    decoder_nodes: Arc<DecoderNodes>,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    /// `None` once it has ended.
    process: Option<Process>,
    opened: bool,
    /// The last event has been given out.
    over: bool,
    last_frame_id: u64,
    last_heard: Instant,
    alive_window: Instant,
    alive_count: u32,
    noticed: u32,
    /// Who decodes, as the worker says, and how often it said so.
    decoder: (DecoderKind, u32),
    /// The machine's nodes, of which it is to tell which may be decoders.
    nodes_wanted: Option<nodes::Nodes>,
    /// It ended, or had to be ended, without a last word; and whether somebody's signal did that.
    died: bool,
    was_ended: bool,
    raises: u32,
    /// Bytes of memory: what the worker may use, and whether it has been told.
    memory: (u64, bool),
    /// By slot: who has it.
    slots: Vec<Slot>,
    /// Slots that are [`Slot::Returning`].
    returning: u32,
    /// What the worker was told last, and what it shall be told.
    muted: (bool, bool),
    /// The same: how many frames are wanted.
    rate: (Option<Rate>, Option<Rate>),
    /// The same: in which widths frames are kept for pictures.
    widths: (Widths, Widths),
    message: Writer,
}

/// What one message says.
enum Said {
    Event(Event),
    Decoder(DecoderKind),
    Nodes(Vec<u8>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    /// The worker may write into it.
    Worker,
    /// A frame lies in it.
    Parent,
    /// Released, but the socket had no room for the message yet.
    Returning,
}

impl Worker {
    /// Starts a worker. Answers when the process exists, not when its source is open: that is
    /// [`Event::Opened`]. A worker takes at least two slots: one to write while the other is read.
    pub async fn start(spawner: &Spawner, settings: &CaptureSettings, request: Request) -> Result<Worker> {
        Worker::start_with(spawner, settings, request, None).await
    }

    /// The same, and where it writes what [`Request::recorded`] asks for.
    async fn start_with(
        spawner: &Spawner,
        settings: &CaptureSettings,
        request: Request,
        recording: Option<OwnedFd>,
    ) -> Result<Worker> {
        debug_assert_eq!(request.recorded.is_some(), recording.is_some(), "a recording has its pipe");
        let (decoders, nodes_wanted) = settings.decoder_nodes.add_to(&settings.decoders).await;
        let settings = &CaptureSettings { decoders, ..settings.clone() };
        let (ring, file) = Ring::create(request.slots, request.rule.slot_bytes())?;
        let pictures = Pictures::create(settings.picture_width)?;
        let (pictures, picture_file) = pictures.unzip();
        let (socket, child) = socket_pair()?;
        // What lies on the network is connected to by the service, at the other end of this line.
        let camera = place::named(&request.reference).map(|(host, port)| Named::new(&host, port));
        let line = camera.map(|camera| socket_pair().map(|pair| (camera, pair))).transpose()?;
        let mut message = Writer::new();
        ipc::write_start(&mut message, std::process::id(), settings, &request).ok_or_else(|| {
            Error::new(Kind::TooLarge, "video_reference or video_source_properties are too long")
        })?;
        // Before the worker exists: the order waits in the socket.
        let descriptors =
            [picture_file.as_ref(), line.as_ref().map(|(_, (_, theirs))| theirs), recording.as_ref()];
        send_with(&socket, message.message(), descriptors)
            .map_err(|errno| system("sending a worker its order")(errno.into()))?;
        message.wipe();
        let beside = line.map(|(camera, (ours, _))| {
            let dial = Dial::new(Arc::clone(&settings.network), camera);
            sandbox::beside(move |pid| dial.serve(ours, pid))
        });
        let socket = Async::new(socket).map_err(system("watching a worker's socket"))?;
        let order = Order {
            command: "capture",
            about: format!("source=\"{}\"", request.reference.redacted()),
            stdin: child,
            stdout: file,
            variables: &[LIBRARY_PATH],
            beside,
        };
        let process = spawner.spawn(order).await?;
        let now = Instant::now();
        log::debug!(
            "event=worker_started pid={} source={} ring_bytes={}",
            process.pid(),
            request.reference,
            ring.bytes()
        );
        let state = State {
            opened: false,
            over: false,
            last_frame_id: request.first_frame_id.saturating_sub(1),
            last_heard: now,
            alive_window: now,
            alive_count: 0,
            noticed: 0,
            decoder: (DecoderKind::Builtin, 0),
            nodes_wanted,
            died: false,
            was_ended: false,
            raises: 0,
            memory: (settings.worker_memory_bytes, true),
            slots: vec![Slot::Worker; ring.slots() as usize],
            returning: 0,
            muted: (request.muted, request.muted),
            rate: (None, None),
            widths: Default::default(),
            message,
            process: None,
        };
        Ok(Worker {
            pid: process.pid(),
            reference: request.reference.redacted(),
            socket,
            ring: Arc::new(ring),
            pictures,
            // The worker's own limits: to PLAY, and from there to a first frame.
            open_deadline: now + settings.open_timeout * 2 + WATCHDOG_MARGIN,
            stall_timeout: settings.stall_timeout + WATCHDOG_MARGIN,
            stop_grace: settings.stop_grace,
            decoder_nodes: Arc::clone(&settings.decoder_nodes),
            state: RefCell::new(State { process: Some(process), ..state }),
        })
    }

    /// The next thing the worker says. May be dropped and called again without losing anything. One caller at
    /// a time.
    ///
    /// A worker that dies, is silent for too long or breaks the protocol ends with [`Event::Failed`]. After
    /// the last event (`Ended`, `Failed`) there is none: the future then never completes.
    pub async fn next(&self) -> Event {
        if self.state.borrow().over {
            return std::future::pending().await;
        }
        let event = match self.receive().await {
            Ok(event) => event,
            Err(error) => {
                let mut state = self.state.borrow_mut();
                state.died = !state.was_ended;
                Event::Failed(error)
            }
        };
        if matches!(event, Event::Ended | Event::Failed(_)) {
            let mut state = self.state.borrow_mut();
            state.over = true;
            if matches!(event, Event::Failed(_)) {
                // Killed, and reaped in the background. (One that ended well is on its way out.)
                state.process = None;
            }
        }
        event
    }

    async fn receive(&self) -> Result<Event> {
        loop {
            self.flush();
            match self.take_message() {
                Ok(Some(Said::Decoder(kind))) => self.state.borrow_mut().note_decoder(kind)?,
                Ok(Some(Said::Nodes(found))) => {
                    let mut state = self.state.borrow_mut();
                    // It tells before it has read a byte of its source.
                    let present = state.nodes_wanted.take().filter(|_| !state.opened);
                    let present =
                        present.ok_or_else(|| broke_protocol("device nodes that nobody asked for"))?;
                    self.decoder_nodes.learn(present, found);
                }
                Ok(Some(Said::Event(Event::Picture(drawn))))
                    if !self.pictures.as_ref().is_some_and(|pictures| pictures.announced(&drawn)) =>
                {
                    return Err(broke_protocol("a picture that nobody asked for"));
                }
                Ok(Some(Said::Event(event))) => return self.state.borrow_mut().check(event),
                Ok(None) => return Err(broke_protocol("a message that is none")),
                Err(Errno::AGAIN | Errno::INTR) => self.wait().await?,
                Err(Errno::CONNRESET | Errno::PIPE) => return Err(self.obituary().await),
                Err(errno) => return Err(system("reading from a capture worker")(errno.into())),
            }
        }
    }

    /// Takes one message off the socket, if there is one. Not async: the buffer shall not live in a future.
    fn take_message(&self) -> std::result::Result<Option<Said>, Errno> {
        // A message longer than the buffer is cut, and then does not parse.
        let mut message = [0; ipc::MAX_EVENT_BYTES];
        let (length, _) = rustix::net::recv(self.socket.get_ref(), &mut message[..], RecvFlags::DONTWAIT)?;
        match length {
            0 => Err(Errno::PIPE),
            _ => {
                let message = message.get(..length).unwrap_or_default();
                let decoder = ipc::read_decoder(message).map(Said::Decoder);
                let nodes = || ipc::read_nodes(message).map(Said::Nodes);
                Ok(decoder.or_else(nodes).or_else(|| ipc::read_event(message).map(Said::Event)))
            }
        }
    }

    /// Waits until there is something to read, or room to write what waits to be written.
    async fn wait(&self) -> Result<()> {
        let (deadline, opened, unsent) = {
            let state = self.state.borrow();
            let deadline =
                if state.opened { state.last_heard + self.stall_timeout } else { self.open_deadline };
            (deadline, state.opened, state.has_unsent())
        };
        let readable = async { self.socket.readable().await.map_err(system("watching a capture worker")) };
        let writable = async {
            match unsent {
                true => self.socket.writable().await.map_err(system("watching a capture worker")),
                false => std::future::pending().await,
            }
        };
        let late = async {
            Timer::at(deadline).await;
            Err(match opened {
                true => Error::new(Kind::SourceStalled, "the capture worker does not answer any more"),
                false => {
                    let message = format!(
                        "Cannot connect to video source under reference: {} (timed out)",
                        self.reference
                    );
                    Error::new(Kind::SourceConnection, message)
                }
            })
        };
        readable.or(writable).or(late).await
    }

    /// The socket is closed: how did the worker end?
    async fn obituary(&self) -> Error {
        let process = self.state.borrow_mut().process.take();
        let Some(mut process) = process else { return Error::new(Kind::Worker, "capture worker ended") };
        match within(REAP_TIMEOUT, process.ended()).await {
            Some(exit) => {
                // By whoever looks after this machine; a fault of its own has other signals.
                let asked = [Signal::KILL, Signal::TERM].map(|signal| Exit::Signal(signal.as_raw()));
                self.state.borrow_mut().was_ended = asked.contains(&exit);
                Error::new(Kind::Worker, format!("capture worker ended early ({exit})"))
            }
            None => Error::new(Kind::Worker, "capture worker closed its socket and lives on"),
        }
    }

    /// What decoded when the worker ended without a last word, or had to be ended: `None` where that was our
    /// own code, or it said why it ended, or somebody's signal ended it.
    pub fn died_in(&self) -> Option<DecoderKind> {
        let state = self.state.borrow();
        let (decoder, _) = state.decoder;
        (state.died && decoder != DecoderKind::Builtin).then_some(decoder)
    }

    /// Where its frames are.
    pub fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.ring)
    }

    /// Gives a slot back. Never blocks. Giving back what is not held does nothing.
    pub fn release(&self, slot: u32) {
        {
            let mut state = self.state.borrow_mut();
            match state.slots.get_mut(slot as usize) {
                Some(owner @ Slot::Parent) => *owner = Slot::Returning,
                _ => return log::debug!("event=release_without_hold pid={} slot={slot}", self.pid),
            }
            state.returning += 1;
        }
        self.flush();
    }

    /// Stops or starts decoding. Never blocks.
    pub fn set_muted(&self, muted: bool) {
        self.state.borrow_mut().muted.1 = muted;
        self.flush();
    }

    /// So many frames of a stream are wanted from now on; `None`: all, as in the beginning. Files give all
    /// theirs. Never blocks.
    pub fn want(&self, rate: Option<Rate>) {
        self.state.borrow_mut().rate.1 = rate;
        self.flush();
    }

    /// From now on every frame is kept in each of these widths, those of [`WIDTHS`] at most that come first;
    /// without any, none is. Never blocks.
    pub fn keep(&self, widths: &[u16]) {
        if self.pictures.is_some() {
            self.state.borrow_mut().widths.1 = widths.iter().copied().take(WIDTHS).collect();
            self.flush();
        }
    }

    /// Asks for a picture of a frame that was kept in `width` and whose slot is held yet: with boxes, or
    /// bare. Gives the name under which it will be announced; `None`: not now (too many are under way, or the
    /// socket is full). Never blocks.
    pub fn draw(&self, frame: &Frame, width: u16, markings: Option<Vec<Marking>>) -> Option<u32> {
        let job = self.pictures.as_ref()?.free_job()?;
        let draw = ipc::Draw { job, slot: frame.slot, frame_id: frame.frame_id, width, markings };
        let state = &mut *self.state.borrow_mut();
        ipc::write_draw(&mut state.message, &draw);
        rustix::net::send(
            self.socket.get_ref(),
            state.message.message(),
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        )
        .ok()?;
        self.pictures.as_ref()?.ordered(job, frame.frame_id);
        Some(job)
    }

    /// The JPEG of a picture that was announced: once.
    pub fn picture(&self, drawn: &Drawn) -> Option<Arc<[u8]>> {
        self.pictures.as_ref()?.take(drawn)
    }

    /// Lets the worker use so many bytes, which it has asked for. Never blocks.
    ///
    /// Errors: `System`: its limits cannot be raised.
    pub fn allow_memory(&self, bytes: u64) -> Result<()> {
        {
            let mut state = self.state.borrow_mut();
            let by = bytes.saturating_sub(state.memory.0);
            let raised = state.process.as_ref().map_or(Ok(()), |process| process.raise_memory(by));
            raised.map_err(|errno| {
                let message =
                    format!("The limit of a worker's memory cannot be raised: set capture.worker_memory_bytes to {bytes}");
                Error::new(Kind::System, message).because(std::io::Error::from(errno))
            })?;
            state.memory = (bytes.max(state.memory.0), false);
        }
        self.flush();
        Ok(())
    }

    /// What it may use by now, bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.state.borrow().memory.0
    }

    /// Writes what the socket has room for; the rest is written by `next`.
    fn flush(&self) {
        let state = &mut *self.state.borrow_mut();
        let send = |message: &Writer| {
            rustix::net::send(
                self.socket.get_ref(),
                message.message(),
                SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
            )
        };
        if !state.memory.1 {
            ipc::write_memory(&mut state.message, state.memory.0);
            if send(&state.message).is_err() {
                return; // Full: later. Broken: `next` will see why.
            }
            state.memory.1 = true;
        }
        if state.muted.0 != state.muted.1 {
            ipc::write_muted(&mut state.message, state.muted.1);
            if send(&state.message).is_err() {
                return;
            }
            state.muted.0 = state.muted.1;
        }
        if state.rate.0 != state.rate.1 {
            ipc::write_rate(&mut state.message, state.rate.1);
            if send(&state.message).is_err() {
                return;
            }
            state.rate.0 = state.rate.1;
        }
        if state.widths.0 != state.widths.1 {
            ipc::write_keep(&mut state.message, &state.widths.1);
            if send(&state.message).is_err() {
                return;
            }
            state.widths.0.clone_from(&state.widths.1);
        }
        for (index, owner) in state.slots.iter_mut().enumerate() {
            if state.returning == 0 {
                break;
            }
            if *owner == Slot::Returning {
                // Fits: a ring has at most `ring::MAX_SLOTS` slots.
                ipc::write_release(&mut state.message, u32::try_from(index).unwrap_or(u32::MAX));
                if send(&state.message).is_err() {
                    return;
                }
                *owner = Slot::Worker;
                state.returning -= 1;
            }
        }
    }

    /// Asks the worker to end (a camera is told TEARDOWN), kills it after `CaptureSettings::stop_grace`, and reaps
    /// it.
    pub async fn stop(self) {
        let process = {
            let state = &mut *self.state.borrow_mut();
            ipc::write_stop(&mut state.message);
            // A worker that does not read is killed after the grace.
            let _ = rustix::net::send(
                self.socket.get_ref(),
                state.message.message(),
                SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
            );
            state.process.take()
        };
        let Some(mut process) = process else { return };
        if within(self.stop_grace, process.ended()).await.is_some() {
            return;
        }
        log::info!("event=worker_killed pid={} reason=grace_over", self.pid);
        process.kill();
        // Nobody waits for one that the kernel holds.
        let _ = within(REAP_TIMEOUT, process.ended()).await;
    }

    /// Process id, for logs and tests.
    pub fn pid(&self) -> u32 {
        self.pid
    }
}

impl State {
    fn has_unsent(&self) -> bool {
        self.returning > 0
            || self.muted.0 != self.muted.1
            || self.rate.0 != self.rate.1
            || self.widths.0 != self.widths.1
            || !self.memory.1
    }

    /// Who decodes from here on.
    fn note_decoder(&mut self, kind: DecoderKind) -> Result<()> {
        self.last_heard = Instant::now();
        self.decoder = (kind, self.decoder.1 + 1);
        if self.decoder.1 > MAX_DECODERS {
            return Err(broke_protocol("too many messages"));
        }
        Ok(())
    }

    /// Whether an event may come now. What a worker says is not believed but checked.
    fn check(&mut self, event: Event) -> Result<Event> {
        self.last_heard = Instant::now();
        match &event {
            Event::Opened(_) if self.opened => return Err(broke_protocol("the source opened twice")),
            Event::Opened(_) => self.opened = true,
            Event::Frame(_) | Event::Ended if !self.opened => {
                return Err(broke_protocol("frames before the source was open"));
            }
            Event::Frame(frame) => {
                match self.slots.get_mut(frame.slot as usize) {
                    Some(owner @ Slot::Worker) => *owner = Slot::Parent,
                    _ => return Err(broke_protocol("a frame in a slot that it does not hold")),
                }
                if frame.frame_id <= self.last_frame_id {
                    return Err(broke_protocol("frames out of order"));
                }
                self.last_frame_id = frame.frame_id;
            }
            Event::Alive(_) => {
                if self.last_heard.duration_since(self.alive_window) >= ALIVE_WINDOW {
                    self.alive_window = self.last_heard;
                    self.alive_count = 0;
                }
                self.alive_count += 1;
                if self.alive_count > MAX_ALIVE_PER_WINDOW {
                    return Err(broke_protocol("too many messages"));
                }
            }
            Event::Notice(_) if self.noticed >= MAX_NOTICES => {
                return Err(broke_protocol("too many messages"));
            }
            Event::Notice(_) => self.noticed += 1,
            // Looked at by [`Pictures::announced`].
            Event::Picture(_) => {}
            Event::Memory(bytes) => {
                self.raises += 1;
                if *bytes <= self.memory.0 || self.raises > MAX_RAISES {
                    return Err(broke_protocol("asked for memory that it has, or too often"));
                }
            }
            Event::Ended | Event::Failed(_) => {}
        }
        Ok(event)
    }
}

fn socket_pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|errno| system("creating a worker's socket")(errno.into()))
}

/// Sends a message, and descriptors with it.
fn send_with(
    socket: &OwnedFd,
    message: &[u8],
    descriptors: [Option<&OwnedFd>; 3],
) -> std::result::Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<_> = descriptors.iter().flatten().map(|descriptor| descriptor.as_fd()).collect();
    if !descriptors.is_empty() {
        // Three fit.
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL).map(|_| ())
}

fn broke_protocol(what: &'static str) -> Error {
    Error::new(Kind::Worker, format!("capture worker broke its protocol: {what}"))
}
