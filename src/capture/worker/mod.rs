//! The body of `weir capture`: one source, from opening to its end.

mod backlog;
pub mod bench;
mod checksum;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod clips;
mod control;
pub mod decode;
pub(super) mod dial;
mod discard;
pub mod file;
mod http;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod mutations;
mod net;
pub mod picture;
mod pictures;
mod record;
mod reference;
pub mod rotation;
pub(super) mod rtsp;
mod sandbox;
mod scale;
mod silence;
pub mod source;
pub mod v4l2;
mod videodev;

use crate::capture::ipc::{ALIVE_INTERVAL, RingWriter, Start};
use crate::capture::place::Place;
use crate::capture::shown;
use crate::capture::{DecoderSettings, Event, Frame, Progress, Request};
use crate::clock::Wall;
use crate::command::{Filling, PacketLosses, SourceProperties};
use crate::error::{Error, Kind, Result};
use backlog::Backlog;
use control::Control;
use decode::{AccessUnit, Codec, Decoder, Decoders};
use discard::{Discard, Selection};
use picture::Picture;
use pictures::Keeper;
use record::Recorder;
use reference::Opened;
use sandbox::Confinement;
use scale::Scaler;
use silence::Silence;
use source::{Grab, Source};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Frame rate of a source that declares none, where one is needed to pace it.
const ASSUMED_FPS: f64 = 25.0;

/// Longest silence that a declared frame rate can ask for: a camera may declare anything.
const MAX_STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Exit code when started by hand (sysexits' EX_USAGE).
const USAGE: u8 = 64;

/// Runs one capture to its end. Returns the exit code.
pub fn run() -> u8 {
    let Ok((socket, ring)) = inherited() else {
        eprintln!("`weir capture` is started by `weir serve`");
        return USAGE;
    };
    let Ok((start, descriptors)) = control::receive_start(&socket) else {
        eprintln!("`weir capture` is started by `weir serve`");
        return USAGE;
    };
    if let Some(line) = descriptors.line {
        dial::use_service(line);
    }
    let request = &start.request;
    let recorder = Recorder::new(request, descriptors.recording);
    crate::allocator::keep_large_blocks();
    let before = sandbox::data_bytes();
    let Ok(decoders) = load_decoders(&start, &socket) else { return 1 };
    let library_bytes = sandbox::data_bytes().saturating_sub(before);
    sandbox::at_start(&start);
    let (asks_devices, has_decoders) = (decoders.asks_devices(), decoders.has_devices());
    let confinement = Confinement { library_bytes, asks_devices, has_decoders };
    // Before the limits, which count from what is mapped already, and before there is a second thread.
    let ring = RingWriter::open(ring, request.slots, request.rule.slot_bytes());
    let width = start.settings.picture_width;
    let pictures =
        descriptors.pictures.map(|file| RingWriter::open(file, shown::JOBS, shown::jpeg_bytes(width)));
    let pictures = pictures.and_then(Result::ok).map(|buffer| (buffer, width));
    let control = Control::start(socket, request.slots, request.muted, &start.settings, pictures);
    let Ok(mut control) = control else { return 1 };
    end(&mut control, |control| capture(&start, ring?, decoders, &confinement, control, &recorder))
}

/// Before the worker is locked in: libraries and devices are opened then or never.
fn load_decoders(start: &Start, socket: &OwnedFd) -> Result<Decoders> {
    let settings = &start.settings.decoders;
    // What comes over HTTP, or from a camera of this machine, is JPEG or not coded at all.
    let may_be_coded = match Place::of(&start.request.reference) {
        Place::File(_) | Place::Loop(_) | Place::Rtsp(_) => true,
        Place::Device(_) | Place::Http(_) | Place::Unknown(_) => false,
    };
    if start.request.only_builtin || !may_be_coded {
        return Ok(Decoders::builtin());
    }
    let decoders = Decoders::load(settings, &mut |kind| control::say_decoder(socket, kind))?;
    if let Some(nodes) = decoders.found_nodes() {
        control::say_nodes(socket, nodes)?;
    }
    let is_file = matches!(Place::of(&start.request.reference), Place::File(_) | Place::Loop(_));
    Ok(if is_file { decoders.of_file() } else { decoders })
}

/// What this machine has to decode with beyond what is builtin, a fact a line, for `weir check`.
pub fn decoders(settings: &DecoderSettings) -> Vec<String> {
    Decoders::describe(settings)
}

/// Works to the end, and says how that was. Returns the exit code.
fn end(control: &mut Control, work: impl FnOnce(&mut Control) -> Result<()>) -> u8 {
    // A decoder that panics on a damaged stream is one error of one source. (A build that aborts is seen by
    // the parent.)
    let ending = catch_unwind(AssertUnwindSafe(|| work(control)))
        .unwrap_or_else(|_| Err(Error::new(Kind::Worker, "capture worker panicked")));
    let last = match ending {
        _ if control.stopped() => return 0,
        Ok(()) => Event::Ended,
        Err(error) => Event::Failed(error),
    };
    u8::from(control.say_last(&last).is_err())
}

/// Takes over standard input (the socket) and standard output (the ring), and leaves harmless ones in their
/// place: a stray `println!` of some library must not write over a frame.
fn inherited() -> Result<(OwnedFd, OwnedFd), rustix::io::Errno> {
    use rustix::stdio;
    let socket = rustix::io::fcntl_dupfd_cloexec(stdio::stdin(), 3)?;
    rustix::net::sockopt::socket_type(&socket)?;
    let ring = rustix::io::fcntl_dupfd_cloexec(stdio::stdout(), 3)?;
    stdio::dup2_stdin(stdio::stderr())?;
    stdio::dup2_stdout(stdio::stderr())?;
    Ok((socket, ring))
}

fn capture(
    start: &Start,
    ring: RingWriter,
    decoders: Decoders,
    confinement: &Confinement,
    control: &mut Control,
    recorder: &Recorder,
) -> Result<()> {
    let request = &start.request;
    sandbox::before_open(start, confinement)?;
    // RTSP does so itself, after its two halves have met.
    if !matches!(Place::of(&request.reference), Place::Rtsp(_)) {
        sandbox::before_first_byte(start, confinement);
    }
    let Opened { mut source, endless, rotation } =
        reference::open(start, confinement, &decoders, control, recorder)?;
    sandbox::after_open(start, confinement);
    let mut properties = source.properties();
    (properties.width, properties.height) =
        rotation.unwrap_or_default().size(properties.width, properties.height);
    if endless {
        // As in the reference: what `file://` names is a stream (docs/roboflow.md §4.2).
        properties = SourceProperties { is_file: false, timestamp_created: None, ..properties };
    }
    let SourceProperties { width, height, fps, .. } = properties;
    log::debug!("event=source_open source={} width={width} height={height} fps={fps}", request.reference);
    control.say_opened(&properties)?;
    if let Some(notice) = source.notice() {
        control.say_notice(notice)?;
    }
    let mut session = Session::new(start, control, ring, &properties, endless);
    session.decoders = decoders;
    session.frames.scaler.set_rotation(rotation.unwrap_or_default());
    session.rotation_is_fixed = source.rotation().is_some();
    let ending = session.run(&mut *source);
    let Frames { control, progress, .. } = &mut session.frames;
    progress.packets = source.losses();
    control.say_losses(progress)?;
    ending
}

/// One open source being played.
struct Session<'a> {
    pace: Option<Pace>,
    endless: bool,
    is_file: bool,
    stall_timeout: Duration,
    key_frame_timeout: Duration,
    /// Its frames come so rarely that silence needs a sign of life to the parent.
    slow: bool,
    /// From opening until the first packet, at most.
    open_timeout: Duration,
    /// A packet has come.
    begun: bool,
    decoders: Decoders,
    /// Words that may still be said of them: the service bears few of one worker.
    notices: u32,
    decoder: Option<(Codec, Box<dyn Decoder>)>,
    backlog: Backlog,
    /// Since when the decoder waits for a picture that decoding may begin at.
    no_key_frame_since: Option<Instant>,
    /// The container says how pictures are turned: what the stream says is not asked.
    rotation_is_fixed: bool,
    silence: Silence,
    frames: Frames<'a>,
}

impl<'a> Session<'a> {
    fn new(
        start: &'a Start,
        control: &'a mut Control,
        ring: RingWriter,
        properties: &SourceProperties,
        endless: bool,
    ) -> Self {
        let fps = if properties.fps > 0.0 { properties.fps } else { ASSUMED_FPS };
        Session {
            pace: (properties.is_file || endless).then(|| Pace::new(fps)),
            endless,
            is_file: properties.is_file,
            stall_timeout: stall_timeout(start.settings.stall_timeout, properties.fps),
            key_frame_timeout: start.settings.key_frame_timeout,
            slow: stall_timeout(start.settings.stall_timeout, properties.fps) > start.settings.stall_timeout,
            open_timeout: start.settings.open_timeout,
            begun: false,
            decoders: Decoders::builtin(),
            notices: 2,
            decoder: None,
            backlog: Backlog::new(),
            no_key_frame_since: None,
            rotation_is_fixed: false,
            silence: Silence::default(),
            frames: Frames::new(&start.request, control, ring, properties),
        }
    }

    fn run(&mut self, source: &mut dyn Source) -> Result<()> {
        let mut last_grab = Instant::now();
        let mut muted = false;
        while !self.frames.control.stopped() {
            let was_muted = std::mem::replace(&mut muted, self.frames.control.muted());
            if muted && !was_muted {
                let can_go_on = self.no_key_frame_since.is_none() && !self.frames.discard.rests();
                self.backlog.begin(self.decoder.is_some() && can_go_on);
            }
            self.frames.discard.selection.want(self.frames.control.rate());
            if was_muted && !muted {
                self.catch_up()?;
            }
            // A file that plays at full speed only waits while muted: its clock starts there.
            if let Some(pace) = &mut self.pace
                && muted
                && !was_muted
                && !self.endless
            {
                pace.restart();
            }
            self.frames.progress.packets = source.losses();
            match source.grab()? {
                Grab::Idle => {
                    let patience = self.patience();
                    if last_grab.elapsed() >= patience {
                        return Err(self.stalled(patience));
                    }
                    if self.slow
                        || patience > self.stall_timeout
                        || self.frames.progress.packets != PacketLosses::default()
                    {
                        self.frames.control.say_alive_if_due(&self.frames.progress)?;
                    }
                    continue;
                }
                Grab::Gap => {
                    self.backlog.interrupt();
                    self.frames.interrupt();
                    if let Some((_, decoder)) = &mut self.decoder {
                        decoder.lost();
                    }
                    continue;
                }
                Grab::End => {
                    self.flush()?;
                    if let Some(reason) = self.silence.of_file(self.frames.shown) {
                        return Err(reason);
                    }
                    if !self.endless {
                        return self.ended();
                    }
                    source.restart()?;
                    self.frames.restart();
                    self.decoder = self.decoder.take().filter(|(_, decoder)| decoder.outlives_its_stream());
                    continue;
                }
                Grab::Packet(codec, unit) if muted => self.keep(codec, &unit)?,
                Grab::Picture(_) if muted => self.frames.skip(1),
                Grab::Packet(codec, unit) => self.decode(codec, &unit)?,
                Grab::Picture(picture) => {
                    self.frames.discard.selection.came(Instant::now());
                    self.frames.deliver(&picture, Wall::now())?;
                }
            }
            self.begun = true;
            last_grab = Instant::now();
            self.frames.control.say_alive_if_due(&self.frames.progress)?;
            if let Some(pace) = &mut self.pace
                && (self.endless || muted)
            {
                let due = pace.next();
                self.frames.control.wait_until(due);
            }
        }
        Ok(())
    }

    /// How long silence may be now. Some cameras need long to begin; one that sends what cannot be used has
    /// begun.
    fn patience(&self) -> Duration {
        let begun = self.begun || self.frames.progress.packets.refused() > 0;
        if begun { self.stall_timeout } else { self.stall_timeout.max(self.open_timeout) }
    }

    fn stalled(&self, patience: Duration) -> Error {
        let seconds = patience.as_secs_f32();
        let refused = self.frames.progress.packets.refused();
        Error::new(
            Kind::SourceStalled,
            match refused {
                0 => format!("no packet for {seconds} seconds"),
                _ => format!(
                    "no packet that can be used for {seconds} seconds ({refused} were refused: `losses` says why)"
                ),
            },
        )
    }

    /// The end of a file is its end; the end of a stream is a loss.
    fn ended(&self) -> Result<()> {
        if self.is_file { Ok(()) } else { Err(Error::new(Kind::SourceLost, "the stream has ended")) }
    }

    /// Has memory for the pictures that a unit announces, before a decoder sees it.
    fn make_room(&mut self, codec: Codec, unit: &AccessUnit<'_>) -> Result<()> {
        match decode::decoding_bytes(codec, unit.data) {
            Some(bytes) => self.frames.control.need_memory(bytes),
            None => Ok(()),
        }
    }

    /// A unit that nobody wants to see, and that others may need.
    fn keep(&mut self, codec: Codec, unit: &AccessUnit<'_>) -> Result<()> {
        self.silence.passed += 1;
        self.frames.skip(u64::from(unit.shown));
        if !self.backlog.push(codec, unit) {
            self.make_room(codec, unit)?;
            // What it says about the stream is kept; that it passes by is counted above.
            let decoder = self.decoder_for(codec)?;
            decoder.pass(&AccessUnit { shown: false, ..*unit });
            let passed = decoder.passed();
            self.frames.skip(passed);
        }
        while let Some(kept) = self.backlog.surplus() {
            self.decode_unseen(kept)?;
        }
        Ok(())
    }

    /// The source is heard again: the decoder learns what it has missed.
    fn catch_up(&mut self) -> Result<()> {
        self.frames.interrupt();
        self.frames.discard.selection.resume();
        while let Some(kept) = self.backlog.pop()
            && !self.frames.control.stopped()
        {
            self.decode_unseen(kept)?;
        }
        if !self.backlog.can_go_on()
            && let Some((_, decoder)) = &mut self.decoder
        {
            // What was decoded before is of no use for what comes now.
            decoder.lost();
        }
        Ok(())
    }

    fn decode_unseen(&mut self, kept: backlog::Kept) -> Result<()> {
        if kept.first {
            self.frames.restart();
            self.decoder_for(kept.codec)?.lost();
        }
        let decoded = self.decode(kept.codec, &AccessUnit { data: &kept.data, shown: false });
        self.backlog.done(kept);
        decoded
    }

    fn decode(&mut self, codec: Codec, unit: &AccessUnit<'_>) -> Result<()> {
        self.silence.packets += 1;
        self.silence.hidden += u64::from(!unit.shown);
        if !self.rotation_is_fixed
            && let Some(rotation) = decode::orientation(codec, unit.data)
        {
            self.frames.scaler.set_rotation(rotation);
        }
        self.make_room(codec, unit)?;
        if self.decoder.as_ref().is_some_and(|(other, _)| *other != codec) {
            self.frames.restart();
        }
        self.decoder_for(codec)?;
        let Some((_, decoder)) = &mut self.decoder else { return Ok(()) };
        let frames = &mut self.frames;
        let (began, mut delivering) = (Instant::now(), Duration::ZERO);
        let (verdict, stamp) =
            frames.discard.judge(codec, unit, !decoder.waiting(), (Wall::now(), Instant::now()));
        let decoded = verdict.carry_out(decoder.as_mut(), unit, stamp, &mut |picture, timestamp| {
            let began = Instant::now();
            let delivered = frames.deliver(picture, timestamp);
            delivering += began.elapsed();
            delivered
        });
        self.backlog.measure(began.elapsed().saturating_sub(delivering));
        frames.discard.carried_out();
        frames.count_left_out();
        if let Some(news) = decoder.news() {
            if self.notices > 0 {
                self.notices -= 1;
                frames.control.say_notice(&news)?;
            }
            frames.control.say_decoder(decoder.kind())?;
        }
        frames.skip(decoder.passed());
        let waits = decoder.waiting() && !frames.discard.rests();
        self.silence.before_key += u64::from(waits);
        let since = waits.then(|| self.no_key_frame_since.unwrap_or_else(Instant::now));
        self.no_key_frame_since = since;
        frames.progress.waiting_for_key_frame =
            since.is_some_and(|since| since.elapsed() >= self.key_frame_timeout);
        match decoded {
            Err(error) if error.kind() == Kind::Undecodable => {
                log::debug!("event=undecodable codec={} error=\"{error}\"", codec.name());
                self.frames.progress.undecodable += 1;
                self.silence.undecodable(codec, error, self.frames.shown);
                match self.silence.of_stream(self.key_frame_timeout) {
                    Some(reason) if !self.is_file => Err(reason),
                    _ => Ok(()),
                }
            }
            result => result,
        }
    }

    /// The decoder of a stream; a new one where the codec changes.
    fn decoder_for(&mut self, codec: Codec) -> Result<&mut dyn Decoder> {
        let decoder = match self.decoder.take().filter(|(other, _)| *other == codec) {
            Some((_, decoder)) => decoder,
            None => {
                let control = &mut *self.frames.control;
                let decoder = self.decoders.open(codec, &mut |kind| control.say_decoder(kind))?;
                if let Some(news) = self.decoders.news()
                    && self.notices > 0
                {
                    self.notices -= 1;
                    control.say_notice(&news)?;
                }
                decoder
            }
        };
        let (_, decoder) = self.decoder.insert((codec, decoder));
        Ok(decoder.as_mut())
    }

    fn flush(&mut self) -> Result<()> {
        let Some((_, decoder)) = &mut self.decoder else { return Ok(()) };
        let frames = &mut self.frames;
        let flushed = decoder.flush(&mut |picture, timestamp| frames.deliver(picture, timestamp));
        frames.skip(decoder.passed());
        frames.interrupt();
        match flushed {
            Err(error) if error.kind() == Kind::Undecodable => Ok(()),
            result => result,
        }
    }
}

/// Silence after which a source counts as frozen. One that declares a frame every few seconds (a snapshot
/// that is asked for every 10 s) may miss two.
fn stall_timeout(configured: Duration, fps: f64) -> Duration {
    let three_frames = Duration::try_from_secs_f64(3.0 / fps).unwrap_or_default();
    configured.max(three_frames.min(MAX_STALL_TIMEOUT))
}

/// Counts, scales and delivers frames.
struct Frames<'a> {
    control: &'a mut Control,
    ring: RingWriter,
    scaler: Scaler,
    /// Pictures for people, where they are made.
    keeper: Option<Keeper>,
    filling: Filling,
    /// Which frames are delivered, and which need not even be decoded.
    discard: Discard,
    /// Frames that were left out since one was delivered.
    left_out: u64,
    /// Frames that came out, delivered or not.
    shown: u64,
    progress: Progress,
    /// Of the frame that was delivered last.
    latest: Option<Wall>,
}

impl<'a> Frames<'a> {
    fn new(
        request: &Request,
        control: &'a mut Control,
        ring: RingWriter,
        properties: &SourceProperties,
    ) -> Self {
        let by_kind = if properties.is_file { Filling::Wait } else { Filling::DropOldest };
        let selection = match request.file_max_fps {
            _ if !properties.is_file => Selection::stream(properties.fps),
            Some(max_fps) if properties.fps > max_fps && max_fps > 0.0 => {
                Selection::part(max_fps / properties.fps)
            }
            _ => Selection::all(),
        };
        Frames {
            keeper: control.pictures().map(|pictures| Keeper::new(pictures, &request.masks)),
            control,
            ring,
            scaler: Scaler::new(request.rule).masked(&request.masks),
            filling: request.filling.unwrap_or(by_kind),
            discard: Discard::new(selection),
            left_out: 0,
            shown: 0,
            progress: Progress { frame_id: request.first_frame_id.saturating_sub(1), ..Progress::default() },
            latest: None,
        }
    }

    /// The time of a frame that follows those delivered before. Pictures are shown in another order than they
    /// came: one that came before its predecessor in the picture counts as having come with it.
    fn in_order(&mut self, timestamp: Wall) -> Wall {
        let latest = match self.latest {
            // A clock that was set back is no order.
            Some(latest) if latest <= Wall::now() => latest.max(timestamp),
            _ => timestamp,
        };
        self.latest = Some(latest);
        latest
    }

    /// Frames pass by unseen.
    fn skip(&mut self, frames: u64) {
        self.progress.frame_id += frames;
    }

    /// Counts frames that were left undecoded, and whose turn has passed.
    fn count_left_out(&mut self) {
        let passed = self.discard.passed();
        self.left_out += passed;
        self.skip(passed);
    }

    /// As [`Discard::interrupt`] says.
    fn interrupt(&mut self) {
        self.discard.interrupt();
        self.count_left_out();
    }

    /// As [`Discard::restart`] says.
    fn restart(&mut self) {
        self.discard.restart();
        self.count_left_out();
    }

    /// Counts a frame and, if a slot can be had, scales it into the ring and announces it.
    fn deliver(&mut self, picture: &Picture<'_>, timestamp: Wall) -> Result<()> {
        let is_wanted = self.discard.came_out(timestamp, Instant::now());
        self.count_left_out();
        self.progress.frame_id += 1;
        self.shown += 1;
        if !is_wanted {
            self.left_out += 1;
            return Ok(());
        }
        let Some(slot) = self.slot()? else {
            self.progress.dropped += 1;
            return Ok(());
        };
        let pixels =
            self.ring.slot_mut(slot).ok_or_else(|| Error::new(Kind::Worker, "a slot outside the ring"))?;
        if let Err(error) = self.scaler.scale(picture, pixels) {
            self.control.put_back(slot);
            return Err(error);
        }
        let frame_id = self.progress.frame_id;
        let rotation = self.scaler.rotation();
        let is_kept =
            self.keeper.as_mut().is_some_and(|keeper| keeper.keep(picture, rotation, slot, frame_id));
        let (width, height) = rotation.size(picture.width, picture.height);
        let timestamp = self.in_order(timestamp);
        let left_out = std::mem::take(&mut self.left_out);
        self.control.say_frame(&Frame { slot, frame_id, left_out, timestamp, width, height, is_kept })
    }

    fn slot(&mut self) -> Result<Option<u32>> {
        let mut slot = self.control.take_slot();
        // Other strategies do not wait: the parent keeps slots free by giving back the oldest, or wants the
        // frame dropped.
        while slot.is_none() && self.filling == Filling::Wait {
            slot = self.control.wait_for_slot(ALIVE_INTERVAL);
            if self.control.stopped() {
                // Ends the decoder's call; `run` sees that this was asked for.
                return Err(Error::new(Kind::ShuttingDown, "told to stop"));
            }
            self.control.say_alive_if_due(&self.progress)?;
        }
        Ok(slot)
    }
}

/// When the next frame of a file is due.
#[derive(Debug)]
struct Pace {
    interval: Duration,
    due: Instant,
}

impl Pace {
    fn new(fps: f64) -> Pace {
        // Positive and not above the event's limit of declared rates; a very slow one is bounded so that
        // `stop` is heard.
        let interval = Duration::try_from_secs_f64(1.0 / fps).unwrap_or_default().min(ALIVE_INTERVAL);
        Pace { interval, due: Instant::now() }
    }

    fn restart(&mut self) {
        self.due = Instant::now();
    }

    /// When the frame after this one is due. Time that was lost is not made up for by a burst.
    fn next(&mut self) -> Instant {
        self.due = (self.due + self.interval).max(Instant::now());
        self.due
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::capture::ipc;
    use crate::geometry::{Fit, InputRule};
    use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};

    /// A decoder with a bug.
    struct Panics;

    impl Source for Panics {
        fn properties(&self) -> SourceProperties {
            SourceProperties {
                width: 64,
                height: 48,
                total_frames: -1,
                is_file: false,
                fps: 25.0,
                timestamp_created: None,
            }
        }

        fn grab(&mut self) -> Result<Grab<'_>> {
            panic!("a bug, met on purpose")
        }

        fn restart(&mut self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_panic_is_the_last_word_of_the_worker_and_one_error_of_its_source() {
        let pair =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (parent, worker) = pair.unwrap();
        let settings = crate::capture::CaptureSettings {
            worker_memory_bytes: 0,
            worker_memory_max_bytes: 0,
            open_timeout: Duration::from_secs(1),
            stall_timeout: Duration::from_secs(1),
            key_frame_timeout: Duration::from_secs(1),
            stop_grace: Duration::from_secs(1),
            rtsp_udp: false,
            user_agent: String::new(),
            network: Default::default(),
            picture_width: 0,
            tls: crate::capture::CameraTls::default(),
            decoders: Default::default(),
            decoder_nodes: Default::default(),
        };
        let rule = InputRule {
            width: 32,
            height: 32,
            fit: Fit::Stretch,
            crop: None,
            grayscale: false,
            contrast: None,
        };
        let request = Request {
            reference: crate::command::SourceReference::Text("x".into()),
            properties: Vec::new(),
            masks: Vec::new(),
            rule,
            slots: 2,
            first_frame_id: 1,
            filling: None,
            file_max_fps: None,
            muted: false,
            only_builtin: false,
            recorded: None,
        };
        let start = Start { parent: 0, settings, trust: crate::capture::Trust::Machine, request };
        let (_ring, file) = crate::capture::Ring::create(2, rule.slot_bytes()).unwrap();
        let ring = RingWriter::open(file, 2, rule.slot_bytes()).unwrap();
        let mut control = Control::start(worker, 2, false, &start.settings, None).unwrap();
        let code = end(&mut control, |control| {
            let properties = Panics.properties();
            Session::new(&start, control, ring, &properties, false).run(&mut Panics)
        });
        assert_eq!(code, 0, "the parent was told");
        let mut message = [0; ipc::MAX_EVENT_BYTES];
        let (length, _) = rustix::net::recv(&parent, &mut message[..], RecvFlags::DONTWAIT).unwrap();
        let Some(Event::Failed(error)) = ipc::read_event(&message[..length]) else {
            panic!("not the last word")
        };
        assert_eq!((error.kind(), error.message()), (Kind::Worker, "capture worker panicked"));
        // Closed, it would tell the listener to end this process, as it should a worker.
        std::mem::forget(parent);
    }

    #[test]
    fn slow_sources_are_given_three_frames_and_no_more_than_a_minute() {
        let five = Duration::from_secs(5);
        for (fps, seconds) in [(30.0, 5), (0.0, 5), (f64::NAN, 5), (-1.0, 5), (0.3, 10), (0.001, 60)] {
            assert_eq!(stall_timeout(five, fps).as_secs(), seconds, "{fps}");
        }
    }

    #[test]
    fn a_pace_never_makes_up_for_lost_time() {
        let mut pace = Pace::new(10.0);
        pace.due -= Duration::from_secs(5);
        let first = pace.next();
        assert!(first <= Instant::now());
        assert!(pace.next() > Instant::now() + Duration::from_millis(50));
        assert_eq!(Pace::new(0.001).interval, ALIVE_INTERVAL);
    }
}
