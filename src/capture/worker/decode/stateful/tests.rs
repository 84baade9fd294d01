//! The protocol against a scripted driver: what no real one can be made to do. The real one is in
//! `tests/process/m2m.rs`.

use super::driver::{Command, Done, Driver, Event, Format, MAX_PIECES, Queue, Ready, Rectangle};
use super::{Failure, MAX_DAMAGED, Stateful};
use crate::error::{Error, Kind};
use rustix::io::Errno;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Errno>;

/// What a unit of the script's codec says: size, one sample's value, and what shall become of it.
fn unit(width: u8, height: u8, value: u8) -> Vec<u8> {
    vec![width, height, value, 0]
}

/// How this driver is.
#[derive(Debug, Clone)]
struct Script {
    /// Pictures that it holds back.
    delay: usize,
    events: bool,
    tags: bool,
    commands: bool,
    formats: Vec<[u8; 4]>,
    /// Most bytes of a coded buffer.
    room: usize,
    /// From so many units on it is gone.
    gone_after: usize,
    /// From so many units on nothing comes back.
    stuck_after: usize,
}

impl Default for Script {
    fn default() -> Script {
        Script {
            delay: 0,
            events: true,
            tags: true,
            commands: true,
            formats: vec![*b"NV12"],
            room: 1 << 30,
            gone_after: usize::MAX,
            stuck_after: usize::MAX,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    size: (u8, u8),
    format: [u8; 4],
    coded: VecDeque<(u32, Vec<u8>, u64)>,
    coded_done: VecDeque<Done>,
    /// Decoded and held back: value, tag, damaged.
    held: VecDeque<(u8, u64, bool)>,
    free: VecDeque<u32>,
    given: VecDeque<(Done, Vec<u8>)>,
    out: Vec<(u32, Vec<u8>)>,
    events: VecDeque<Event>,
    streams: [bool; 2],
    waits_for_setup: bool,
    draining: bool,
    last_taken: bool,
    units: usize,
    room: usize,
}

#[derive(Debug, Clone)]
struct Fake {
    script: Script,
    state: Rc<RefCell<State>>,
    setups: Rc<Cell<u32>>,
}

impl Fake {
    fn new(script: Script) -> Fake {
        Fake { script, state: Rc::default(), setups: Rc::default() }
    }

    fn here(&self) -> Result<std::cell::RefMut<'_, State>> {
        let mut state = self.state.borrow_mut();
        if state.units > self.script.gone_after {
            return Err(Errno::NODEV);
        }
        self.work(&mut state);
        Ok(state)
    }

    fn work(&self, state: &mut State) {
        if state.units > self.script.stuck_after {
            return;
        }
        loop {
            let pictures = state.streams[1] && !state.waits_for_setup;
            let over = state.draining && state.coded.is_empty();
            if pictures && (state.held.len() > self.script.delay || (over && !state.held.is_empty())) {
                let Some(index) = state.free.pop_front() else { return };
                let (value, tag, damaged) = state.held.pop_front().unwrap();
                let (width, height) = state.size;
                let bytes = usize::from(width) * usize::from(height) * 3 / 2;
                let tag = if self.script.tags { tag } else { 0 };
                let used = [(0, bytes as u32), (0, 0), (0, 0)];
                state.given.push_back((Done { index, used, damaged, last: false, tag }, vec![value; bytes]));
                continue;
            }
            if over && pictures && state.held.is_empty() {
                let Some(index) = state.free.pop_front() else { return };
                state.given.push_back((Done { index, last: true, ..Done::default() }, Vec::new()));
                state.draining = false;
                return;
            }
            let Some((_, data, _)) = state.coded.front() else { return };
            let size = data.first().zip(data.get(1)).map(|(width, height)| (*width, *height));
            if let Some(size) = size.filter(|size| *size != state.size) {
                if state.streams[1] && !state.held.is_empty() {
                    let Some(index) = state.free.pop_front() else { return };
                    let (value, tag, _) = state.held.pop_front().unwrap();
                    let bytes = usize::from(state.size.0) * usize::from(state.size.1) * 3 / 2;
                    let used = [(0, bytes as u32), (0, 0), (0, 0)];
                    let done = Done { index, used, tag, ..Done::default() };
                    state.given.push_back((done, vec![value; bytes]));
                    continue;
                }
                state.size = size;
                if self.script.events {
                    state.events.push_back(Event::SourceChanged);
                }
                state.waits_for_setup = true;
                if state.streams[1] {
                    let Some(index) = state.free.pop_front() else { return };
                    state.given.push_back((Done { index, last: true, ..Done::default() }, Vec::new()));
                }
            }
            if state.waits_for_setup || !state.streams[1] {
                return;
            }
            let (index, data, tag) = state.coded.pop_front().unwrap();
            state.coded_done.push_back(Done { index, tag, ..Done::default() });
            match data.as_slice() {
                // The end, as old drivers have it.
                [] => state.draining = true,
                // Without a picture.
                [_, _, _, 2, ..] => {}
                [_, _, value, fate, ..] => state.held.push_back((*value, tag, *fate == 1)),
                _ => {}
            }
        }
    }
}

impl Driver for Fake {
    fn formats(&self, queue: Queue) -> Vec<[u8; 4]> {
        if queue == Queue::Coded { vec![*b"TEST"] } else { self.script.formats.clone() }
    }

    fn format(&self, _: Queue) -> Result<Format> {
        let mut state = self.here()?;
        if state.format == [0; 4] {
            state.format = self.script.formats[0];
        }
        let (width, height) = (state.size.0.into(), state.size.1.into());
        Ok(Format { fourcc: state.format, width, height, pieces: 1, ..Format::default() })
    }

    fn set_format(&self, queue: Queue, format: &Format) -> Result<Format> {
        let mut state = self.here()?;
        if queue == Queue::Coded {
            state.room = (format.sizes[0] as usize).min(self.script.room);
        } else {
            state.format = format.fourcc;
        }
        Ok(Format { pieces: 1, ..*format })
    }

    fn visible(&self) -> Option<Rectangle> {
        None
    }

    fn kept_pictures(&self) -> Option<u32> {
        Some(2)
    }

    fn watch(&self) -> Result<()> {
        if self.script.events { Ok(()) } else { Err(Errno::INVAL) }
    }

    fn event(&self) -> Result<Option<Event>> {
        Ok(self.here()?.events.pop_front())
    }

    fn allocate(&mut self, queue: Queue, count: u32) -> Result<u32> {
        let mut state = self.here()?;
        if queue == Queue::Pictures {
            state.free.clear();
            self.setups.set(self.setups.get() + u32::from(count > 0));
        }
        Ok(count.min(3))
    }

    fn room(&self, _: u32) -> usize {
        self.state.borrow().room
    }

    fn queue_coded(&mut self, index: u32, data: &[u8], tag: u64) -> Result<()> {
        self.state.borrow_mut().units += 1;
        self.here()?.coded.push_back((index, data.to_vec(), tag));
        Ok(())
    }

    fn queue_picture(&self, index: u32) -> Result<()> {
        self.here()?.free.push_back(index);
        Ok(())
    }

    fn dequeue(&self, queue: Queue) -> Result<Option<Done>> {
        let mut state = self.here()?;
        if queue == Queue::Coded {
            return Ok(state.coded_done.pop_front());
        }
        if state.last_taken {
            return Err(Errno::PIPE);
        }
        let Some((done, data)) = state.given.pop_front() else { return Ok(None) };
        state.last_taken = done.last;
        state.out.push((done.index, data));
        Ok(Some(done))
    }

    fn start(&self, queue: Queue) -> Result<()> {
        let mut state = self.here()?;
        state.streams[usize::from(queue == Queue::Pictures)] = true;
        if queue == Queue::Pictures {
            (state.waits_for_setup, state.last_taken) = (false, false);
        }
        Ok(())
    }

    fn stop(&self, queue: Queue) -> Result<()> {
        let mut state = self.here()?;
        if queue == Queue::Coded {
            let room = state.room;
            *state = State { units: state.units, room, ..State::default() };
        } else {
            state.given.clear();
            state.streams[1] = false;
        }
        Ok(())
    }

    fn command(&self, command: Command) -> Result<()> {
        if !self.script.commands {
            return Err(Errno::NOTTY);
        }
        self.here()?.draining = command == Command::Stop;
        Ok(())
    }

    fn wait(&self, longest: Duration) -> Result<Ready> {
        let state = self.here()?;
        let ready = Ready {
            coded: !state.coded_done.is_empty(),
            picture: !state.given.is_empty(),
            event: !state.events.is_empty(),
            broken: false,
        };
        if ready == Ready::default() {
            // Nothing happens by itself here.
            std::thread::sleep(longest.min(Duration::from_millis(1)));
        }
        Ok(ready)
    }

    fn pieces(&self, done: &Done) -> [&[u8]; MAX_PIECES] {
        let mut state = self.state.borrow_mut();
        let place = state.out.iter().rposition(|(index, _)| *index == done.index);
        let data = place.map(|place| state.out.swap_remove(place).1).unwrap_or_default();
        // A few pictures of a few bytes, as long as the test's process.
        [Box::leak(data.into_boxed_slice()), &[], &[]]
    }
}

/// Tag, width, height, value of the first sample.
type Seen = (u64, u32, u32, u8);

fn decode(
    decoder: &mut Stateful<Fake>,
    data: &[u8],
    tag: u64,
    seen: &mut Vec<Seen>,
) -> std::result::Result<(), Failure> {
    decoder.decode(data, tag, &mut |picture, tag| {
        seen.push((tag, picture.width, picture.height, picture.planes[0].data[0]));
        Ok(())
    })
}

fn drain(decoder: &mut Stateful<Fake>, seen: &mut Vec<Seen>) -> std::result::Result<(), Failure> {
    decoder.drain(&mut |picture, tag| {
        seen.push((tag, picture.width, picture.height, picture.planes[0].data[0]));
        Ok(())
    })
}

fn stateful(script: Script) -> (Stateful<Fake>, Fake) {
    let fake = Fake::new(script);
    (Stateful::new(*b"TEST", fake.clone()), fake)
}

/// Ten pictures through a decoder of that kind: all come, each with its own tag.
fn play(script: Script) -> Vec<usize> {
    let (mut decoder, _) = stateful(script);
    let (mut seen, mut counts) = (Vec::new(), Vec::new());
    for tag in 0..10 {
        decode(&mut decoder, &unit(16, 8, tag as u8 + 100), tag, &mut seen).unwrap();
        counts.push(seen.len());
    }
    drain(&mut decoder, &mut seen).unwrap();
    assert_eq!(seen, (0..10).map(|tag| (tag, 16, 8, tag as u8 + 100)).collect::<Vec<_>>());
    counts
}

fn lost(result: std::result::Result<(), Failure>) -> String {
    match result {
        Err(Failure::Lost(why)) => why,
        other => panic!("not lost: {other:?}"),
    }
}

#[test]
fn a_picture_comes_with_its_unit_where_the_decoder_can() {
    assert_eq!(play(Script::default()), (1..=10).collect::<Vec<_>>());
}

#[test]
fn what_a_decoder_holds_back_is_waited_for_once() {
    let began = Instant::now();
    let counts = play(Script { delay: 3, ..Script::default() });
    assert_eq!(counts, [0, 0, 0, 1, 2, 3, 4, 5, 6, 7]);
    // Not at each unit: that would be six more.
    assert!(began.elapsed() < super::LATENCY * 6, "{:?}", began.elapsed());
}

#[test]
fn drivers_of_older_habits_are_understood() {
    // No word of the size: after a while, what the driver has counts.
    assert_eq!(play(Script { events: false, ..Script::default() }).last(), Some(&10));
    // Pictures without the tags of their units.
    play(Script { tags: false, delay: 2, ..Script::default() });
    // No command to end, but an empty buffer.
    play(Script { commands: false, delay: 2, ..Script::default() });
    // Its dearest format is none for us.
    play(Script { formats: vec![*b"ST12", *b"P010", *b"NV12"], ..Script::default() });
    // It has tiles alone.
    play(Script { formats: vec![*b"MT21", *b"VT12"], delay: 2, ..Script::default() });
}

#[test]
fn the_size_changes_in_mid_stream_and_nothing_is_lost() {
    for (delay, format) in [(0, *b"NV12"), (2, *b"NV12"), (0, *b"VT12")] {
        let (mut decoder, fake) = stateful(Script { delay, formats: vec![format], ..Script::default() });
        let (mut seen, mut wanted) = (Vec::new(), Vec::new());
        for tag in 0..12_u64 {
            let (width, height) = [(16, 8), (32, 16), (8, 8)][tag as usize / 4];
            decode(&mut decoder, &unit(width, height, tag as u8 + 1), tag, &mut seen).unwrap();
            wanted.push((tag, width.into(), height.into(), tag as u8 + 1));
        }
        drain(&mut decoder, &mut seen).unwrap();
        assert_eq!(seen, wanted);
        assert_eq!(fake.setups.get(), 3);
        // And anew after that.
        decode(&mut decoder, &unit(16, 8, 77), 12, &mut seen).unwrap();
        drain(&mut decoder, &mut seen).unwrap();
        assert_eq!(seen.last(), Some(&(12, 16, 8, 77)));
    }
}

#[test]
fn damaged_pictures_are_told_and_too_many_of_them_are_the_decoders_fault() {
    let (mut decoder, _) = stateful(Script::default());
    let mut seen = Vec::new();
    decode(&mut decoder, &unit(16, 8, 1), 0, &mut seen).unwrap();
    let damaged = [16, 8, 2, 1];
    assert!(matches!(decode(&mut decoder, &damaged, 1, &mut seen), Err(Failure::Damaged)));
    decode(&mut decoder, &unit(16, 8, 3), 2, &mut seen).unwrap();
    assert_eq!(seen.iter().map(|(tag, ..)| *tag).collect::<Vec<_>>(), [0, 2]);
    for tag in 3..u64::from(MAX_DAMAGED) + 2 {
        assert!(matches!(decode(&mut decoder, &damaged, tag, &mut seen), Err(Failure::Damaged)));
    }
    assert!(lost(decode(&mut decoder, &damaged, 99, &mut seen)).contains("30 pictures in a row"));
}

#[test]
fn units_without_a_picture_do_not_stop_the_others() {
    let (mut decoder, _) = stateful(Script::default());
    let (mut seen, began) = (Vec::new(), Instant::now());
    for tag in 0..100 {
        let without = u8::from(tag % 2 == 1) * 2;
        decode(&mut decoder, &[16, 8, 1, without], tag, &mut seen).unwrap();
    }
    assert_eq!(seen.len(), 50);
    // Nor are they all waited for.
    assert!(began.elapsed() < super::LATENCY * 30, "{:?}", began.elapsed());
}

#[test]
fn a_device_that_is_gone_or_stuck_is_lost_in_time() {
    let mut seen = Vec::new();
    let (mut decoder, fake) = stateful(Script { gone_after: 3, ..Script::default() });
    for tag in 0..3 {
        decode(&mut decoder, &unit(16, 8, 1), tag, &mut seen).unwrap();
    }
    assert_eq!(lost(decode(&mut decoder, &unit(16, 8, 1), 3, &mut seen)), "it was taken away");
    assert_eq!(seen.len(), 3);
    // Giving it back touches nothing that is not there.
    assert!(decoder.into_driver().is_some());
    drop(fake);
    let (mut decoder, _) = stateful(Script { stuck_after: 2, ..Script::default() });
    let began = Instant::now();
    let why = (0..20).find_map(|tag| decode(&mut decoder, &unit(16, 8, 1), tag, &mut seen).err());
    assert!(matches!(why, Some(Failure::Lost(why)) if why.contains("nothing came back")));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn what_cannot_be_had_is_named() {
    let mut seen = Vec::new();
    let tiled = Script { formats: vec![*b"MT21", *b"SUNX"], ..Script::default() };
    let (mut decoder, _) = stateful(tiled);
    let why = lost(decode(&mut decoder, &unit(16, 8, 1), 0, &mut seen));
    assert_eq!(why, "it gives pictures only as MT21 (compressed by MediaTek), SUNX");
    let mut other = Stateful::new(*b"H264", Fake::new(Script::default()));
    assert_eq!(lost(decode(&mut other, &unit(16, 8, 1), 0, &mut seen)), "it does not take H264");
}

#[test]
fn buffers_grow_with_the_units_as_far_as_the_driver_lets_them() {
    let (mut decoder, _) = stateful(Script { room: 6 << 20, ..Script::default() });
    let mut seen = Vec::new();
    let large = |bytes: usize| [unit(16, 8, 9), vec![0; bytes]].concat();
    decode(&mut decoder, &unit(16, 8, 1), 0, &mut seen).unwrap();
    decode(&mut decoder, &large(2 << 20), 1, &mut seen).unwrap();
    assert_eq!(seen.iter().map(|(tag, ..)| *tag).collect::<Vec<_>>(), [0, 1]);
    let why = lost(decode(&mut decoder, &large(7 << 20), 2, &mut seen));
    assert!(why.contains("does not fit its buffers of 6291456"), "{why}");
}

#[test]
fn what_the_taker_says_is_passed_on() {
    let (mut decoder, _) = stateful(Script::default());
    let told = decoder.decode(&unit(16, 8, 1), 0, &mut |_, _| Err(Error::new(Kind::ShuttingDown, "enough")));
    assert!(matches!(told, Err(Failure::Output(error)) if error.kind() == Kind::ShuttingDown));
}
