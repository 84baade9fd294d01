//! Messages that wait for a receiver which may be away: a bounded ring in memory and, with a state directory,
//! on the disk.
//!
//! Messages are numbered as they come and leave in that order. While the receiver takes them, nothing touches
//! the disk. What has waited for [`SPILL_AFTER`] is written, in batches every [`FLUSH_EVERY`], and read again
//! when its turn comes:
//!
//! ```text
//! receiver ◄── front (memory) ◄── unread (on disk only) ◄── tail (memory, not yet written) ◄── new messages
//! ```
//!
//! Where there is too much, the oldest messages that are not under way go, and are counted.

mod bell;
mod segments;

pub use bell::Bell;

use crate::clock::within;
use crate::error::{Error, Kind, Result};
use crate::folder;
use segments::{Record, Segments, encode};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A message that has waited so long is written to the disk: a receiver that is there confirms within
/// milliseconds.
const SPILL_AFTER: Duration = Duration::from_secs(1);
/// Between two batches: what a power cut costs, and 43 000 small writes a day where the receiver never comes
/// back, which flash survives for decades.
const FLUSH_EVERY: Duration = Duration::from_secs(2);
/// A message costs so many bytes beside its text, roughly.
const OVERHEAD_BYTES: usize = 96;
/// Buffers kept to be used again: as many as are under way at most.
const MAX_SPARE: usize = 64;
/// A buffer that has grown beyond this is not kept, bytes.
const MAX_SPARE_BYTES: usize = 64 << 10;
/// Between two lines of the log about a disk that cannot be written to.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// How much an outbox may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Most bytes that wait in memory.
    pub memory_bytes: usize,
    /// Bytes on the disk, where there is one.
    pub disk_bytes: u64,
}

impl Bounds {
    /// What an outbox may take of the memory in all: what waits, once more while it is written to the disk,
    /// and the buffers that are used again.
    pub fn most_bytes(&self, has_disk: bool) -> u64 {
        let copies = if has_disk { 2 } else { 1 };
        (self.memory_bytes as u64).saturating_mul(copies).saturating_add((MAX_SPARE * MAX_SPARE_BYTES) as u64)
    }
}

/// Where a message is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Waiting,
    /// Sent, and not confirmed yet.
    Sent,
    Delivered,
}

/// What became of a message that was to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is on its way.
    Sent,
    /// It cannot be taken now: it stays the next one.
    Not,
    /// The receiver cannot take it, ever: it is dropped.
    Never,
}

/// A message that waits for a receiver.
#[derive(Debug)]
pub struct Message {
    /// Its number in this outbox, from 1.
    pub number: u64,
    /// Where it belongs: a topic of MQTT; empty for HTTP.
    pub topic: Rc<str>,
    /// Quality of service: 0, or 1 to be confirmed.
    pub qos: u8,
    /// What the receiver gets.
    pub payload: Vec<u8>,
    way: Way,
    came: Instant,
    is_on_disk: bool,
}

impl Message {
    fn bytes(&self) -> usize {
        self.payload.len() + OVERHEAD_BYTES
    }
}

/// How the receiver is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Link {
    /// Nobody has tried yet.
    #[default]
    Idle,
    /// The receiver takes messages.
    Up,
    /// It does not, and why.
    Down(Rc<str>),
}

/// What an outbox counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Messages that were put in.
    pub taken: u64,
    /// Messages that the receiver has.
    pub delivered: u64,
    /// Messages thrown away because there were too many.
    pub dropped: u64,
    /// Messages that wait now.
    pub waiting: u64,
    /// Bytes of them in memory.
    pub memory_bytes: u64,
    /// Bytes on the disk.
    pub disk_bytes: u64,
}

#[derive(Debug)]
struct Ring {
    bounds: Bounds,
    has_disk: bool,
    /// Numbers rise, with gaps where messages were lost.
    front: VecDeque<Message>,
    front_bytes: usize,
    /// So many of `front` are not waiting any more.
    sent: usize,
    /// Number of the next message that is on the disk and not in `front`; none beyond `written`.
    unread: Option<u64>,
    tail: VecDeque<Message>,
    tail_bytes: usize,
    next_number: u64,
    /// Everything up to here is delivered or lost.
    position: u64,
    spare: Vec<Vec<u8>>,
    figures: Figures,
}

/// Messages for one receiver, in memory and on the disk, in their order. Lives on the event loop.
#[derive(Debug)]
pub struct Outbox {
    ring: RefCell<Ring>,
    /// Taken by whoever keeps the disk.
    segments: RefCell<Option<Segments>>,
    /// Rung when there is something to send.
    pub bell: Bell,
    /// Rung when there is something to read or write.
    disk: Bell,
    link: RefCell<Link>,
    is_closed: Cell<bool>,
}

impl Outbox {
    /// With a folder, what it holds from before is sent first.
    pub fn open(bounds: Bounds, folder: Option<&Path>) -> Result<Outbox> {
        let opened = match folder.filter(|_| bounds.disk_bytes > 0) {
            None => None,
            Some(path) => {
                folder::make(path).map_err(|refusal| refusal.error(path))?;
                let told =
                    |cause| Error::told(Kind::System, format_args!("cannot use {}", path.display()), cause);
                Some(Segments::open(path, bounds.disk_bytes).map_err(told)?)
            }
        };
        let (segments, next_number) = opened.map_or((None, 1), |(segments, next)| (Some(segments), next));
        let ring = Ring::new(bounds, segments.as_ref(), next_number);
        Ok(Outbox {
            ring: RefCell::new(ring),
            segments: RefCell::new(segments),
            bell: Bell::default(),
            disk: Bell::default(),
            link: RefCell::default(),
            is_closed: Cell::new(false),
        })
    }

    /// What waits survives a restart.
    pub fn has_disk(&self) -> bool {
        self.ring.borrow().has_disk
    }

    /// Takes a message, whatever the receiver does.
    pub fn push(&self, topic: &Rc<str>, qos: u8, write: impl FnOnce(&mut Vec<u8>)) {
        let mut ring = self.ring.borrow_mut();
        let mut payload = ring.spare.pop().unwrap_or_default();
        write(&mut payload);
        ring.push(topic.clone(), qos, payload, Instant::now());
        let is_full = ring.is_due_by_size();
        drop(ring);
        self.bell.ring();
        if is_full {
            self.disk.ring();
        }
    }

    /// Shows the next message that waits to `send`, which says what became of it. One of quality 0 that is
    /// sent is delivered; others are by [`Outbox::delivered`]. False: nothing waits, or it still does.
    pub fn send(&self, send: impl FnOnce(&Message) -> Taken) -> bool {
        let mut ring = self.ring.borrow_mut();
        let index = ring.sent;
        let taken = match ring.front.get_mut(index) {
            None => false,
            Some(message) => {
                let (taken, number, qos) = (send(message), message.number, message.qos);
                if taken != Taken::Not {
                    message.way = Way::Sent;
                    ring.sent += 1;
                }
                match taken {
                    Taken::Sent if qos == 0 => ring.deliver(number),
                    Taken::Never => ring.refuse(number),
                    Taken::Sent | Taken::Not => {}
                }
                taken != Taken::Not
            }
        };
        if ring.wants_more() {
            self.disk.ring();
        }
        taken
    }

    /// The receiver has that message.
    pub fn delivered(&self, number: u64) {
        self.ring.borrow_mut().deliver(number);
    }

    /// The receiver does not take that message, which was sent: it is dropped. Its topic.
    pub fn refused(&self, number: u64) -> Option<Rc<str>> {
        let mut ring = self.ring.borrow_mut();
        let index = ring.front.binary_search_by_key(&number, |message| message.number).ok();
        let topic = index.and_then(|index| ring.front.get(index)).map(|message| message.topic.clone());
        ring.refuse(number);
        topic
    }

    /// What was sent and not confirmed waits again.
    pub fn rewind(&self) {
        self.ring.borrow_mut().rewind();
    }

    /// How the receiver is doing.
    pub fn link(&self) -> Link {
        self.link.borrow().clone()
    }

    /// Whoever speaks with the receiver says how it is doing.
    pub fn set_link(&self, link: Link) {
        self.link.replace(link);
    }

    /// What was sent, lost and kept so far.
    pub fn figures(&self) -> Figures {
        let ring = self.ring.borrow();
        let disk_bytes = self.segments.borrow().as_ref().map_or(ring.figures.disk_bytes, Segments::bytes);
        Figures {
            waiting: ring.waiting(),
            memory_bytes: (ring.front_bytes + ring.tail_bytes) as u64,
            disk_bytes,
            ..ring.figures
        }
    }

    /// Nothing waits any more.
    pub fn is_empty(&self) -> bool {
        self.ring.borrow().waiting() == 0
    }

    /// Writes, reads and forgets what is on the disk, until [`Outbox::close`]; then everything that waits is
    /// on the disk.
    pub async fn keep(&self) {
        let Some(mut segments) = self.segments.take() else { return std::future::pending().await };
        let mut complained: Option<Instant> = None;
        self.disk.ring();
        loop {
            let is_closed = self.is_closed.get();
            if !is_closed {
                let _rung = within(FLUSH_EVERY, self.disk.wait()).await;
            }
            let outcome;
            (segments, outcome) = self.turn(segments, is_closed).await;
            if let Some(damage) = segments.damage.take() {
                log::error!("event=outbox_damaged what={damage:?}");
            }
            if let Err(cause) = outcome
                && complained.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY)
            {
                complained = Some(Instant::now());
                log::error!("event=outbox_not_written error=\"{cause}\"");
            }
            self.ring.borrow_mut().figures.disk_bytes = segments.bytes();
            if is_closed {
                return;
            }
        }
    }

    /// Lets [`Outbox::keep`] write what waits, and end.
    pub fn close(&self) {
        self.is_closed.set(true);
        self.disk.ring();
    }

    /// Writes what is due, forgets what is confirmed, and reads what is wanted.
    async fn turn(&self, mut segments: Segments, everything: bool) -> (Segments, std::io::Result<()>) {
        let mut outcome = Ok(());
        let due = self.ring.borrow().due(Instant::now(), everything);
        if let Some(Batch { first, last, bytes }) = due {
            (segments, outcome) = off_the_loop(segments, move |segments| segments.append(&bytes)).await;
            if outcome.is_ok() {
                self.ring.borrow_mut().written(first, last, segments.first());
            }
        }
        if !segments.is_empty() {
            let (is_clear, position) =
                (self.ring.borrow().has_nothing_on_disk(), self.ring.borrow().position);
            let forget = move |segments: &mut Segments| {
                if is_clear { segments.clear() } else { segments.confirm(position) }
            };
            let forgotten;
            (segments, forgotten) = off_the_loop(segments, forget).await;
            outcome = outcome.and(forgotten);
        }
        while !everything && self.ring.borrow().wants_more() {
            let (from, most) = (self.ring.borrow().unread, self.ring.borrow().bounds.memory_bytes / 8);
            let Some(from) = from else { break };
            let read;
            (segments, read) = off_the_loop(segments, move |segments| segments.read(from, most)).await;
            match read {
                Ok(records) => self.ring.borrow_mut().took(records),
                Err(cause) => {
                    outcome = outcome.and(Err(cause));
                    break;
                }
            }
            self.bell.ring();
        }
        (segments, outcome)
    }
}

/// Does something with the files on a thread.
async fn off_the_loop<T: Send + 'static>(
    mut segments: Segments,
    act: impl FnOnce(&mut Segments) -> T + Send + 'static,
) -> (Segments, T) {
    smol::unblock(move || {
        let done = act(&mut segments);
        (segments, done)
    })
    .await
}

/// The first, if it is so.
fn pop_front_if(messages: &mut VecDeque<Message>, is_so: impl Fn(&Message) -> bool) -> Option<Message> {
    if messages.front().is_some_and(is_so) { messages.pop_front() } else { None }
}

/// Messages that are to be written.
struct Batch {
    first: u64,
    last: u64,
    bytes: Vec<u8>,
}

impl Ring {
    fn new(bounds: Bounds, segments: Option<&Segments>, next_number: u64) -> Ring {
        let first = segments
            .and_then(Segments::first)
            .map(|first| first.max(segments.map_or(0, Segments::position) + 1));
        Ring {
            bounds,
            has_disk: segments.is_some(),
            front: VecDeque::new(),
            front_bytes: 0,
            sent: 0,
            unread: first.filter(|first| *first < next_number),
            tail: VecDeque::new(),
            tail_bytes: 0,
            next_number,
            position: segments.map_or(0, Segments::position),
            spare: Vec::new(),
            figures: Figures::default(),
        }
    }

    fn push(&mut self, topic: Rc<str>, qos: u8, payload: Vec<u8>, now: Instant) {
        self.figures.taken += 1;
        let number = self.next_number;
        self.next_number += 1;
        let message =
            Message { number, topic, qos, payload, way: Way::Waiting, came: now, is_on_disk: false };
        if self.unread.is_some() {
            self.tail_bytes += message.bytes();
            self.tail.push_back(message);
        } else {
            self.front_bytes += message.bytes();
            self.front.push_back(message);
        }
        while self.front_bytes + self.tail_bytes > self.bounds.memory_bytes && self.drop_oldest() {}
    }

    /// Makes room in memory; false when nothing there can go.
    fn drop_oldest(&mut self) -> bool {
        if self.evict(self.front_bytes.saturating_sub(1)) {
            return true;
        }
        if let Some(message) = self.front.remove(self.sent) {
            self.front_bytes -= message.bytes();
        } else if let Some(message) = self.tail.pop_front() {
            self.tail_bytes -= message.bytes();
        } else {
            return false;
        }
        self.figures.dropped += 1;
        true
    }

    /// Leaves the end of `front` to the disk, as far as it is there, until `front` has no more than so many
    /// bytes. Whether anything went.
    fn evict(&mut self, most_bytes: usize) -> bool {
        if self.front_bytes <= most_bytes
            || !self.front.get(self.sent).is_some_and(|message| message.is_on_disk)
        {
            return false;
        }
        // What came since belongs behind what is going to be unread.
        while self.front.back().is_some_and(|message| !message.is_on_disk) {
            let Some(message) = self.front.pop_back() else { break };
            self.front_bytes -= message.bytes();
            self.tail_bytes += message.bytes();
            self.tail.push_front(message);
        }
        let before = self.front.len();
        while self.front_bytes > most_bytes && self.front.len() > self.sent {
            let Some(message) = self.front.pop_back() else { break };
            self.front_bytes -= message.bytes();
            self.unread = Some(message.number);
        }
        if self.unread.is_none() {
            self.join_tail();
        }
        self.front.len() < before
    }

    /// Nothing is between both.
    fn join_tail(&mut self) {
        self.front_bytes += std::mem::take(&mut self.tail_bytes);
        self.front.append(&mut self.tail);
    }

    fn rewind(&mut self) {
        let sent = std::mem::take(&mut self.sent);
        self.front
            .iter_mut()
            .take(sent)
            .filter(|message| message.way == Way::Sent)
            .for_each(|message| message.way = Way::Waiting);
        // Those that were delivered between them are not sent again.
        self.front.retain(|message| message.way != Way::Delivered);
        self.front_bytes = self.front.iter().map(Message::bytes).sum();
    }

    fn deliver(&mut self, number: u64) {
        self.figures.delivered += u64::from(self.settle(number));
    }

    fn refuse(&mut self, number: u64) {
        self.figures.dropped += u64::from(self.settle(number));
    }

    /// A message that was sent needs nothing more; false when there is none of that number.
    fn settle(&mut self, number: u64) -> bool {
        let Ok(index) = self.front.binary_search_by_key(&number, |message| message.number) else {
            return false;
        };
        let Some(message) = self.front.get_mut(index).filter(|message| message.way == Way::Sent) else {
            return false;
        };
        message.way = Way::Delivered;
        while let Some(message) = pop_front_if(&mut self.front, |message| message.way == Way::Delivered) {
            self.sent = self.sent.saturating_sub(1);
            self.front_bytes -= message.bytes();
            self.position = message.number;
            let mut payload = message.payload;
            if self.spare.len() < MAX_SPARE && payload.capacity() <= MAX_SPARE_BYTES {
                payload.clear();
                self.spare.push(payload);
            }
        }
        true
    }

    fn waiting(&self) -> u64 {
        let unread = self.unread.map_or(0, |unread| {
            self.tail.front().map_or(self.next_number, |first| first.number).saturating_sub(unread)
        });
        (self.front.len() + self.tail.len()) as u64 + unread
    }

    /// So much waits in memory that the disk should take it now and not at the next tick.
    fn is_due_by_size(&self) -> bool {
        self.has_disk && self.front_bytes + self.tail_bytes > self.bounds.memory_bytes / 2
    }

    /// What should be written now.
    fn due(&self, now: Instant, everything: bool) -> Option<Batch> {
        if !self.has_disk {
            return None;
        }
        let written = self.front.iter().take_while(|message| message.is_on_disk).count();
        // While there is something unread, all of `front` is on the disk.
        let source = if self.unread.is_some() { &self.tail } else { &self.front };
        let skip = if self.unread.is_some() { 0 } else { written };
        let oldest = source.get(skip)?;
        let is_old = now.saturating_duration_since(oldest.came) >= SPILL_AFTER;
        if !(everything || is_old || self.is_due_by_size()) {
            return None;
        }
        let mut bytes = Vec::new();
        let unwritten = source.iter().skip(skip).filter(|message| message.way != Way::Delivered);
        let (mut first, mut last) = (None, 0);
        for message in unwritten {
            first.get_or_insert(message.number);
            last = message.number;
            encode(&mut bytes, message.number, message.qos, &message.topic, &message.payload);
        }
        first.map(|first| Batch { first, last, bytes })
    }

    /// Messages of these numbers are on the disk now, whose oldest is `oldest`.
    fn written(&mut self, first: u64, last: u64, oldest: Option<u64>) {
        for message in self.front.iter_mut().filter(|message| (first..=last).contains(&message.number)) {
            message.is_on_disk = true;
        }
        let mut moved = None;
        while let Some(message) = pop_front_if(&mut self.tail, |message| message.number <= last) {
            moved.get_or_insert(message.number);
            self.tail_bytes -= message.bytes();
        }
        self.unread = self.unread.or(moved);
        // Room for what comes: the end of `front` is read again when its turn comes.
        self.evict(self.bounds.memory_bytes / 4);
        self.lose_before(oldest.unwrap_or(0));
    }

    /// The disk begins with this message: older ones are gone there, and go here.
    fn lose_before(&mut self, oldest: u64) {
        while let Some(message) =
            self.front.get(self.sent).filter(|message| message.is_on_disk && message.number < oldest)
        {
            self.front_bytes -= message.bytes();
            self.front.remove(self.sent);
            self.figures.dropped += 1;
        }
        if let Some(unread) = self.unread.filter(|unread| *unread < oldest) {
            self.figures.dropped += oldest - unread;
            self.unread = Some(oldest);
        }
    }

    fn has_nothing_on_disk(&self) -> bool {
        self.unread.is_none() && self.front.iter().all(|message| !message.is_on_disk)
    }

    /// More of the disk should be read.
    fn wants_more(&self) -> bool {
        self.unread.is_some() && self.front_bytes < self.bounds.memory_bytes / 8
    }

    /// The next records of the disk; none: it holds no more.
    fn took(&mut self, records: Vec<Record>) {
        let now = Instant::now();
        match records.last() {
            None => self.unread = None,
            Some(last) => {
                let next = last.number + 1;
                let end = self.tail.front().map_or(self.next_number, |first| first.number);
                self.unread = (next < end).then_some(next);
            }
        }
        for Record { number, qos, topic, payload } in records {
            let topic = match self.front.back() {
                Some(before) if *before.topic == *topic => before.topic.clone(),
                _ => Rc::from(topic),
            };
            let message =
                Message { number, topic, qos, payload, way: Way::Waiting, came: now, is_on_disk: true };
            self.front_bytes += message.bytes();
            self.front.push_back(message);
        }
        if self.unread.is_none() {
            self.join_tail();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// An outbox with its files, turned by hand.
    struct Turned {
        ring: Ring,
        segments: Segments,
        folder: std::path::PathBuf,
    }

    impl Turned {
        fn open(folder: &Path, bounds: Bounds) -> Turned {
            let (segments, next) = Segments::open(folder, bounds.disk_bytes).unwrap();
            Turned { ring: Ring::new(bounds, Some(&segments), next), segments, folder: folder.to_owned() }
        }

        fn turn(&mut self, everything: bool) {
            let later = Instant::now() + SPILL_AFTER;
            if let Some(Batch { first, last, bytes }) = self.ring.due(later, everything) {
                self.segments.append(&bytes).unwrap();
                self.ring.written(first, last, self.segments.first());
            }
            if self.ring.has_nothing_on_disk() {
                self.segments.clear().unwrap();
            } else {
                self.segments.confirm(self.ring.position).unwrap();
            }
            while !everything && self.ring.wants_more() {
                let records =
                    self.segments.read(self.ring.unread.unwrap(), self.ring.bounds.memory_bytes / 8).unwrap();
                self.ring.took(records);
            }
        }

        /// Sends what waits, at most so many; their payloads.
        fn send(&mut self, most: usize) -> Vec<(u64, u64)> {
            let mut sent = Vec::new();
            while sent.len() < most {
                let index = self.ring.sent;
                let Some(message) = self.ring.front.get_mut(index) else { break };
                message.way = Way::Sent;
                sent.push((message.number, u64::from_le_bytes(*message.payload.first_chunk().unwrap())));
                self.ring.sent += 1;
            }
            sent
        }

        fn check(&self) {
            let numbers: Vec<u64> =
                self.ring.front.iter().chain(&self.ring.tail).map(|message| message.number).collect();
            assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
            let bytes = |messages: &VecDeque<Message>| messages.iter().map(Message::bytes).sum::<usize>();
            assert_eq!(
                (self.ring.front_bytes, self.ring.tail_bytes),
                (bytes(&self.ring.front), bytes(&self.ring.tail))
            );
            assert!(self.ring.front_bytes + self.ring.tail_bytes <= self.ring.bounds.memory_bytes);
            assert!(self.ring.sent <= self.ring.front.len());
            assert!(self.segments.bytes() <= self.ring.bounds.disk_bytes);
            if self.ring.unread.is_some() {
                assert!(self.ring.front.iter().all(|message| message.is_on_disk));
            } else {
                assert!(self.ring.tail.is_empty());
            }
        }
    }

    fn folder() -> std::path::PathBuf {
        let folder = segments::tests::shared_memory().join(format!("weir-outbox-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        folder
    }

    /// Whatever happens in whatever order: messages leave in order, none is lost uncounted, and the bounds
    /// hold.
    #[test]
    fn order_and_count_hold_through_anything() {
        for seed in 0..12_u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut random = |below: u64| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state % below
            };
            let folder = folder();
            // The disk is large enough on every second run, and then nothing may be lost.
            let disk_bytes = if seed % 2 == 0 { 64 << 20 } else { 256 << 10 };
            let bounds = Bounds { memory_bytes: 64 << 10, disk_bytes };
            let mut outbox = Turned::open(&folder, bounds);
            let (mut value, mut last, mut taken, mut lost) = (0_u64, 0, 0, 0);
            let mut seen = std::collections::BTreeSet::new();
            for _ in 0..400 {
                match random(8) {
                    0..=2 => {
                        for _ in 0..random(30) {
                            value += 1;
                            taken += 1;
                            let mut payload = value.to_le_bytes().to_vec();
                            payload.resize(8 + random(600) as usize, 0);
                            outbox.ring.push("t".into(), 1, payload, Instant::now());
                        }
                        // The disk keeps up in this test.
                        outbox.turn(false);
                    }
                    3 | 4 => {
                        for (number, payload) in outbox.send(random(60) as usize) {
                            assert!(
                                payload > last || seen.contains(&payload),
                                "{payload} after {last}: seed {seed}"
                            );
                            last = last.max(payload);
                            seen.insert(payload);
                            if random(20) > 0 {
                                outbox.ring.deliver(number);
                            }
                        }
                    }
                    5 => outbox.ring.rewind(),
                    6 => outbox.turn(false),
                    _ => {
                        // A stop, and a start.
                        outbox.turn(true);
                        lost += outbox.ring.figures.dropped;
                        outbox = Turned::open(&folder, bounds);
                        outbox.turn(false);
                    }
                }
                outbox.check();
            }
            outbox.ring.rewind();
            loop {
                outbox.turn(false);
                let sent = outbox.send(50);
                sent.iter().for_each(|(number, payload)| {
                    seen.insert(*payload);
                    outbox.ring.deliver(*number);
                });
                if sent.is_empty() {
                    break;
                }
            }
            lost += outbox.ring.figures.dropped;
            assert_eq!(outbox.ring.waiting(), 0, "seed {seed}");
            assert!(seen.len() as u64 + lost >= taken, "seed {seed}: {} + {lost} < {taken}", seen.len());
            if seed % 2 == 0 {
                assert_eq!((seen.len() as u64, lost), (taken, 0), "seed {seed}");
            }
            outbox.turn(false);
            assert!(outbox.segments.is_empty());
            std::fs::remove_dir_all(outbox.folder).unwrap();
        }
    }

    #[test]
    fn without_a_disk_the_oldest_go_and_are_counted() {
        let outbox = Outbox::open(Bounds { memory_bytes: 4096, disk_bytes: 0 }, None).unwrap();
        let topic = Rc::from("a/b");
        for number in 0..100_u8 {
            outbox.push(&topic, 1, |payload| payload.extend([number; 104]));
        }
        assert_eq!((outbox.figures().waiting, outbox.figures().dropped), (20, 80));
        let mut first = None;
        assert!(outbox.send(|message| {
            first = message.payload.first().copied();
            Taken::Sent
        }));
        assert_eq!(first, Some(80));
        // What is under way stays, whatever comes.
        (0..100).for_each(|_| outbox.push(&topic, 1, |payload| payload.extend([9; 104])));
        outbox.delivered(81);
        assert_eq!(outbox.figures().delivered, 1);
        assert!(!outbox.send(|_| Taken::Not));
        assert!(outbox.send(|_| Taken::Never));
        let figures = outbox.figures();
        assert_eq!((figures.taken, figures.delivered + figures.dropped + figures.waiting), (200, 200));
    }
}
