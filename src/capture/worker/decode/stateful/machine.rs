//! The protocol: "Memory-to-Memory Stateful Video Decoder Interface" of the kernel's documentation. Which
//! buffer is whose, when the queue of pictures is set up and set up again, how decoding ends. It knows nothing
//! of any codec.

use super::driver::{Command, Done, Driver, Event, Format, Queue};
use super::shape::{self, Shape};
use super::{Failure, Shot, Sink};
use rustix::io::Errno;
use std::time::{Duration, Instant};

/// Coded buffers asked for: one is filled, one decoded, and two wait where a driver is slow to give them back.
const CODED_BUFFERS: u32 = 4;

/// Pictures that a driver keeps where it does not say how many: what H.264 needs at most, for references and
/// for their turn.
const USUAL_KEPT: u32 = 17;

/// Buffers for pictures beyond those: one is looked at, one filled meanwhile.
const SPARE_PICTURES: u32 = 2;

/// Most buffers for pictures that are asked for (the kernel's own most, `VIDEO_MAX_FRAME`).
const MAX_PICTURES: u32 = 32;

/// Longest without anything coming back from a driver that has all it needs. Decoders in silicon take some
/// milliseconds for a picture; the kernel's own software one, emulated on a busy machine, half a second.
const PATIENCE: Duration = Duration::from_secs(2);

/// Longest that the size of the stream is waited for, once a driver has coded data. Some never tell it: then
/// the format that they have counts.
const SIZE_PATIENCE: Duration = Duration::from_millis(500);

/// Pause where the device cannot be waited for though nothing is wrong: the kernel says so while it has no
/// buffer to work on.
const PAUSE: Duration = Duration::from_millis(5);

/// What a stream says of itself, for drivers that say less.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Announced {
    /// Pixels to be seen.
    pub(super) size: Option<(u32, u32)>,
}

/// A decoder at work.
#[derive(Debug)]
pub(super) struct Machine<D> {
    driver: D,
    /// Coded buffers that are ours.
    free: Vec<u32>,
    /// How the pictures lie in their buffers; `None`: their queue is not set up.
    shape: Option<Shape>,
    /// Where a picture in tiles is put into rows; made with the shape.
    linear: Vec<u8>,
    /// The stream has another size than the queue of pictures.
    changed: bool,
    /// The last picture before a pause has come.
    ended: bool,
    /// We asked for that.
    draining: bool,
    announced: Announced,
    /// When something last came back, or went there after nothing was there.
    moved: Instant,
    coded_buffers: usize,
    /// Pictures that came, damaged ones included.
    given: u64,
}

impl<D: Driver> Machine<D> {
    /// Sets a decoder up for a coded format, in buffers of at least so many bytes.
    ///
    /// Errors: the driver comes back with the reason.
    pub(super) fn start(
        mut driver: D,
        coded: [u8; 4],
        announced: Announced,
        bytes: usize,
    ) -> Result<Machine<D>, (D, Failure)> {
        match begin(&mut driver, coded, announced.size.unwrap_or_default(), bytes) {
            Ok(count) => Ok(Machine {
                driver,
                free: (0..count).collect(),
                shape: None,
                linear: Vec::new(),
                changed: false,
                ended: false,
                draining: false,
                announced,
                moved: Instant::now(),
                coded_buffers: count as usize,
                given: 0,
            }),
            Err(failure) => Err((driver, failure)),
        }
    }

    /// Takes everything out of the device, and gives it back.
    pub(super) fn stop(mut self) -> D {
        release(&mut self.driver);
        self.driver
    }

    /// What the stream says of itself from here on.
    pub(super) fn announce(&mut self, announced: Announced) {
        self.announced = announced;
    }

    /// Most bytes of a coded buffer.
    pub(super) fn room(&self) -> usize {
        self.driver.room(0)
    }

    /// Hands coded data in; the tag comes back with its pictures. Gives out what comes meanwhile.
    pub(super) fn feed(&mut self, data: &[u8], tag: u64, sink: &mut Sink<'_>) -> Result<(), Failure> {
        let index = self.free_buffer(sink)?;
        if let Err(errno) = self.driver.queue_coded(index, data, tag) {
            self.free.push(index);
            return Err(failed("taking coded data")(errno));
        }
        if self.free.len() + 1 == self.coded_buffers {
            // It had nothing to do before.
            self.moved = Instant::now();
        }
        Ok(())
    }

    fn free_buffer(&mut self, sink: &mut Sink<'_>) -> Result<u32, Failure> {
        loop {
            self.turn(sink)?;
            if let Some(index) = self.free.pop() {
                return Ok(index);
            }
            self.wait(PATIENCE)?;
            self.judge("a coded buffer")?;
        }
    }

    /// Gives out what is there, and waits until so many pictures have come or the time is over.
    pub(super) fn settle(
        &mut self,
        longest: Duration,
        pictures: usize,
        sink: &mut Sink<'_>,
    ) -> Result<(), Failure> {
        let (deadline, enough) = (Instant::now() + longest, self.given + pictures as u64);
        loop {
            self.turn(sink)?;
            let left = deadline.saturating_duration_since(Instant::now());
            if self.given >= enough || left.is_zero() {
                return Ok(());
            }
            self.wait(left)?;
        }
    }

    /// Gives out everything that went in. Afterwards it has to be stopped.
    pub(super) fn drain(&mut self, sink: &mut Sink<'_>) -> Result<(), Failure> {
        // Drivers pass the request over while the queue of pictures is not set up.
        let deadline = Instant::now() + SIZE_PATIENCE;
        while self.shape.is_none() && self.free.len() < self.coded_buffers && Instant::now() < deadline {
            self.wait(SIZE_PATIENCE)?;
            self.turn(sink)?;
        }
        if self.shape.is_none() {
            return Ok(());
        }
        (self.draining, self.moved) = (true, Instant::now());
        match self.driver.command(Command::Stop) {
            Ok(()) => {}
            // Before that was agreed on, an empty buffer meant it.
            Err(Errno::NOTTY | Errno::INVAL) => {
                let index = self.free_buffer(sink)?;
                self.driver.queue_coded(index, &[], 0).map_err(failed("taking the end"))?;
            }
            Err(errno) => return Err(failed("being told to end")(errno)),
        }
        loop {
            self.turn(sink)?;
            if self.ended {
                return Ok(());
            }
            self.wait(PATIENCE)?;
            self.judge("its last picture")?;
        }
    }

    /// Takes everything that is there; never blocks.
    fn turn(&mut self, sink: &mut Sink<'_>) -> Result<(), Failure> {
        self.hear()?;
        while let Some(done) = self.driver.dequeue(Queue::Coded).map_err(failed("giving back coded data"))? {
            self.moved = Instant::now();
            if !self.free.contains(&done.index) && (done.index as usize) < self.coded_buffers {
                self.free.push(done.index);
            }
        }
        while self.shape.is_some() && !self.ended {
            match self.driver.dequeue(Queue::Pictures) {
                Ok(None) => break,
                Ok(Some(done)) => self.give(&done, sink)?,
                Err(Errno::PIPE) => self.ended = true,
                Err(errno) => return Err(failed("giving a picture")(errno)),
            }
        }
        if self.ended {
            // Why it has: said before the last buffer was.
            self.hear()?;
        }
        let too_long = self.moved.elapsed() >= SIZE_PATIENCE && self.free.len() < self.coded_buffers;
        match (&self.shape, self.changed) {
            (None, true) => self.set_up(),
            (None, false) if too_long => self.set_up(),
            (Some(_), true) if self.ended => self.set_up(),
            // A mark in the stream, not asked for by us and no new size: on it goes.
            (Some(_), false) if self.ended && !self.draining => self.go_on(),
            _ => Ok(()),
        }
    }

    fn hear(&mut self) -> Result<(), Failure> {
        while let Some(event) = self.driver.event().map_err(failed("telling what happened"))? {
            self.changed |= event == Event::SourceChanged;
        }
        Ok(())
    }

    fn give(&mut self, done: &Done, sink: &mut Sink<'_>) -> Result<(), Failure> {
        self.moved = Instant::now();
        let pieces = self.driver.pieces(done);
        let is_empty = pieces.iter().all(|piece| piece.is_empty());
        let linear = &mut self.linear;
        let picture = self.shape.and_then(|shape| shape.picture(pieces, linear));
        let given = match picture {
            _ if is_empty && done.last => Ok(()),
            Some(picture) if !done.damaged => sink(Shot::Picture(done.tag, &picture)),
            _ => sink(Shot::Damaged(done.tag)),
        };
        given.map_err(Failure::Output)?;
        self.given += u64::from(!(is_empty && done.last));
        if done.last {
            self.ended = true;
        }
        // Also the last one: where decoding goes on as it is, it is needed.
        if !(done.last && self.changed) {
            self.driver.queue_picture(done.index).map_err(failed("taking a buffer for a picture"))?;
        }
        Ok(())
    }

    /// Sets up the queue of pictures for the present format.
    fn set_up(&mut self) -> Result<(), Failure> {
        let refused = |errno| failed("setting up its pictures")(errno);
        if self.shape.take().is_some() {
            self.driver.stop(Queue::Pictures).map_err(refused)?;
        }
        self.driver.allocate(Queue::Pictures, 0).map_err(refused)?;
        (self.changed, self.ended) = (false, false);
        let mut format = self.driver.format(Queue::Pictures).map_err(refused)?;
        let offered = self.driver.formats(Queue::Pictures);
        let chosen = shape::choose(format.fourcc, &offered)
            .ok_or_else(|| Failure::Lost(format!("it gives pictures only as {}", shape::names(&offered))))?;
        if chosen != format.fourcc {
            // Sizes and strides of the other format mean nothing here.
            let wanted =
                Format { fourcc: chosen, width: format.width, height: format.height, ..Format::default() };
            format = self.driver.set_format(Queue::Pictures, &wanted).map_err(refused)?;
        }
        let [width, height] = [format.width, format.height];
        let shape = Shape::new(&format, self.driver.visible(), self.announced.size).map_err(Failure::Lost)?;
        // Rows as they lie need none.
        self.linear = Vec::new();
        let no_room = || Failure::Lost(format!("there is no memory for its pictures of {width}x{height}"));
        self.linear.try_reserve_exact(shape.bytes()).map_err(|_| no_room())?;
        self.linear.resize(shape.bytes(), 0);
        let kept = self.driver.kept_pictures().filter(|kept| *kept > 0).unwrap_or(USUAL_KEPT);
        let wanted = kept.saturating_add(SPARE_PICTURES).min(MAX_PICTURES);
        let count = self.driver.allocate(Queue::Pictures, wanted).map_err(refused)?;
        if count == 0 {
            return Err(Failure::Lost("it has no buffers for pictures".to_owned()));
        }
        (0..count).try_for_each(|index| self.driver.queue_picture(index)).map_err(refused)?;
        self.driver.start(Queue::Pictures).map_err(refused)?;
        log::debug!(
            "event=decoder_set_up format={} width={width} height={height} buffers={count}",
            format.fourcc.escape_ascii()
        );
        (self.shape, self.moved) = (Some(shape), Instant::now());
        Ok(())
    }

    fn go_on(&mut self) -> Result<(), Failure> {
        self.ended = false;
        self.driver.command(Command::Start).map_err(failed("going on"))
    }

    fn wait(&mut self, longest: Duration) -> Result<(), Failure> {
        // Not past the moment at which something is due even if nothing happens.
        let due = if self.shape.is_none() { SIZE_PATIENCE } else { PATIENCE };
        let longest = longest.min(due.saturating_sub(self.moved.elapsed()).max(PAUSE));
        let ready = match self.driver.wait(longest) {
            Err(Errno::INTR) => return Ok(()),
            ready => ready.map_err(failed("being waited for"))?,
        };
        if ready.broken && !(ready.coded || ready.picture || ready.event) {
            // It comes back at once, and the next request says whether the device is gone.
            std::thread::sleep(PAUSE.min(longest));
        }
        Ok(())
    }

    /// Whether there is still hope.
    fn judge(&self, what: &str) -> Result<(), Failure> {
        if self.moved.elapsed() < PATIENCE {
            return Ok(());
        }
        Err(Failure::Lost(format!("nothing came back for {} s while waiting for {what}", PATIENCE.as_secs())))
    }
}

/// Why a request failed, in words.
fn failed(what: &'static str) -> impl Fn(Errno) -> Failure {
    move |errno| {
        Failure::Lost(match errno {
            Errno::NODEV => "it was taken away".to_owned(),
            errno => format!("{what}: {errno}"),
        })
    }
}

fn begin<D: Driver>(driver: &mut D, coded: [u8; 4], size: (u32, u32), bytes: usize) -> Result<u32, Failure> {
    // Whoever had it before.
    release(driver);
    if !driver.formats(Queue::Coded).contains(&coded) {
        return Err(Failure::Lost(format!("it does not take {}", coded.escape_ascii())));
    }
    match driver.watch() {
        // Then the format that it has counts.
        Err(errno) if errno != Errno::NODEV => log::debug!("event=decoder_without_events error=\"{errno}\""),
        watched => watched.map_err(failed("promising to tell what happens"))?,
    }
    let (width, height) = size;
    let sizes = [u32::try_from(bytes).unwrap_or(u32::MAX), 0, 0];
    let wanted = Format { fourcc: coded, width, height, pieces: 1, sizes, ..Format::default() };
    let given = driver.set_format(Queue::Coded, &wanted).map_err(failed("taking its coded format"))?;
    if given.fourcc != coded {
        return Err(Failure::Lost(format!("it insists on {}", given.fourcc.escape_ascii())));
    }
    let count = driver.allocate(Queue::Coded, CODED_BUFFERS).map_err(failed("making coded buffers"))?;
    if count == 0 {
        return Err(Failure::Lost("it has no coded buffers".to_owned()));
    }
    driver.start(Queue::Coded).map_err(failed("starting"))?;
    Ok(count)
}

/// A driver that refuses has nothing left to stop or free.
fn release<D: Driver>(driver: &mut D) {
    for queue in [Queue::Coded, Queue::Pictures] {
        let _ = driver.stop(queue);
        let _ = driver.allocate(queue, 0);
    }
}
