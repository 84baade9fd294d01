#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::capture::Rate;
use crate::capture::worker::checksum::checksum;
use crate::capture::worker::clips::asset;
use crate::capture::worker::decode::open;
use crate::capture::worker::file;
use crate::capture::worker::picture::Picture;
use crate::capture::worker::source::Grab;
use crate::error::Kind;
use std::time::Duration;

/// A second of these is 30.
const FRAME: Duration = Duration::from_nanos(33_333_333);

/// What became of a stream.
#[derive(Debug, Default)]
struct Played {
    /// Number and checksum of each picture that was wanted.
    wanted: Vec<(u64, u32)>,
    /// Access units that were decoded.
    decoded: usize,
    /// Pictures that came out of the decoder.
    all: u64,
    /// Most access units that had come beyond the numbers that had been given, when a picture came out.
    delay: u64,
    /// Units at which a key frame was missing by the decoder's word.
    waited: usize,
}

/// Plays units, one each [`FRAME`], as the worker does.
fn play(codec: Codec, units: &[(Vec<u8>, bool)], selection: Selection) -> Played {
    let mut discard = Discard::new(selection);
    let mut decoder = open(codec);
    let mut played = Played::default();
    let start = Instant::now();
    let mut come = 0;
    for (number, (data, shown)) in units.iter().enumerate() {
        let now = start + FRAME * u32::try_from(number).unwrap();
        let unit = AccessUnit { data, shown: *shown };
        come += u64::from(*shown);
        // All at once, as a file is read.
        let (verdict, stamp) = discard.judge(codec, &unit, !decoder.waiting(), (Wall::from_micros(7), now));
        played.decoded += usize::from(verdict.action == Action::Decode);
        let outcome = verdict.carry_out(decoder.as_mut(), &unit, stamp, &mut |picture, stamp| {
            played.come_out(&mut discard, picture, stamp, now);
            played.delay = played.delay.max(come.saturating_sub(played.all));
            Ok(())
        });
        assert!(outcome.is_ok(), "{number}: {outcome:?}");
        discard.carried_out();
        played.all += discard.passed() + decoder.passed();
        played.waited += usize::from(decoder.waiting() && !discard.rests());
    }
    let end = start + FRAME * u32::try_from(units.len()).unwrap();
    decoder
        .flush(&mut |picture, stamp| {
            played.come_out(&mut discard, picture, stamp, end);
            Ok(())
        })
        .unwrap();
    discard.interrupt();
    played.all += discard.passed() + decoder.passed();
    played
}

impl Played {
    fn come_out(&mut self, discard: &mut Discard, picture: &Picture<'_>, stamp: Wall, now: Instant) {
        let is_wanted = discard.came_out(stamp, now);
        self.all += discard.passed() + 1;
        if is_wanted {
            self.wanted.push((self.all, checksum(picture)));
        }
    }
}

/// Access units of a clip.
fn units(name: &str) -> (Codec, Vec<(Vec<u8>, bool)>) {
    let mut source = file::open(&asset(&format!("clips/{name}"))).unwrap();
    let (mut units, mut of) = (Vec::new(), Codec::Jpeg);
    while let Grab::Packet(codec, unit) = source.grab().unwrap() {
        of = codec;
        units.push((unit.data.to_vec(), unit.shown));
    }
    (of, units)
}

/// Checksums that ffmpeg gave.
fn expected(name: &str) -> Vec<u32> {
    let text = std::fs::read_to_string(asset(&format!("clips/{name}.crc"))).unwrap();
    text.lines().map(|line| u32::from_str_radix(line.trim_start_matches("0x"), 16).unwrap()).collect()
}

/// The pictures of a part, numbered from 1: those that a stride takes.
fn strided(sums: &[u32], part: f64) -> Vec<(u64, u32)> {
    let (mut selection, now) = (Selection::part(part), Instant::now());
    (1..).zip(sums.iter().copied()).filter(|_| selection.takes_next(now)).collect()
}

/// Clips that decoding begins at the first unit of, and ends at the last.
const WHOLE: [&str; 20] = [
    "baseline.mp4",
    "main.mp4",
    "high-pyramid.mp4",
    "cavlc-slices.mp4",
    "slices.h264",
    "cropped.mp4",
    "full-709.mp4",
    "high10.mp4",
    "high422.mp4",
    "gray.mp4",
    "interlaced.mp4",
    "fields.h264",
    "long-term.h264",
    "pcm.h264",
    "h265.mp4",
    "h265-10.mp4",
    "groups.h264",
    "groups.h265",
    "groups-open.h264",
    "groups-open.h265",
];

#[test]
fn what_is_delivered_is_what_full_decoding_delivers_to_the_bit_and_by_number() {
    for name in WHOLE {
        let (codec, units) = units(name);
        let sums = expected(name);
        for part in [1.0, 0.5, 1.0 / 3.0, 0.4, 1.0 / 6.0, 0.09] {
            let played = play(codec, &units, Selection::part(part));
            let strided = strided(&sums, part);
            let same = played.wanted == strided;
            let alone = played.wanted.iter().all(|(number, sum)| sums[*number as usize - 1] == *sum);
            assert!(alone, "{name} {part}: {:?} of {sums:?}", played.wanted);
            // Where key frames are decoded alone, it may be a later one.
            let few =
                if name == "fields.h264" { part < 0.6 } else { part < 0.1 && name.starts_with("groups") };
            assert!(same || few, "{name} {part}: {:?} is not {strided:?}", played.wanted);
            assert!(played.wanted.len() + 2 >= strided.len(), "{name} {part}: {:?}", played.wanted);
            assert_eq!(played.all, sums.len() as u64, "{name} {part}");
            assert_eq!(played.waited, 0, "{name} {part}");
        }
    }
}

#[test]
fn pictures_that_nothing_refers_to_are_not_decoded_and_delay_nothing() {
    // Of 25: with B-frames in pyramids and without, and a stride of six.
    for (name, at_most) in
        [("high-pyramid.mp4", 15), ("main.mp4", 17), ("h265.mp4", 14), ("cavlc-slices.mp4", 17)]
    {
        let (codec, units) = units(name);
        let whole = play(codec, &units, Selection::all());
        let part = play(codec, &units, Selection::part(1.0 / 6.0));
        assert_eq!(whole.decoded, units.len(), "{name}");
        assert!(part.decoded <= at_most, "{name}: {}", part.decoded);
        assert!(part.delay <= whole.delay, "{name}: {} {}", part.delay, whole.delay);
    }
}

#[test]
fn temporal_layers_are_left_out_as_a_whole() {
    // Twice 96 pictures: most that are decoded, for each stride. Half of them are referred to by none.
    for (name, strides) in [
        ("layers-3.h265", [(3.0, 110), (6.0, 92), (10.0, 82)]),
        ("layers-4.h265", [(3.0, 128), (6.0, 63), (10.0, 64)]),
    ] {
        let (codec, once) = units(name);
        let (units, sums) = ([&once[..]; 2].concat(), expected(name).repeat(2));
        for (stride, at_most) in strides {
            let played = play(codec, &units, Selection::part(1.0 / stride));
            let numbers: Vec<u64> = played.wanted.iter().map(|(number, _)| *number).collect();
            let same = played.wanted.iter().all(|(number, sum)| sums[*number as usize - 1] == *sum);
            assert!(same, "{name} {stride}: {numbers:?}");
            let due: Vec<u64> = strided(&sums, 1.0 / stride).iter().map(|(number, _)| *number).collect();
            let late: Vec<u64> = numbers.iter().zip(&due).map(|(number, due)| number - due).collect();
            // Around the first key frame of an open group it is not known yet what can be had there.
            assert!(late.iter().all(|late| *late as f64 <= stride), "{name} {stride}: {numbers:?}");
            let few = late.iter().filter(|late| **late as f64 > stride / 2.0).count();
            assert!(few <= 2, "{name} {stride}: {numbers:?}");
            assert!(numbers.len() + 1 >= due.len(), "{name} {stride}: {numbers:?}");
            assert_eq!((played.all, played.waited), (192, 0), "{name} {stride}");
            assert!(played.decoded <= at_most, "{name} {stride}: {}", played.decoded);
        }
    }
}

#[test]
fn below_one_picture_a_group_only_key_frames_are_decoded() {
    // Groups of 10, closed and open, 90 pictures.
    for name in ["groups.h264", "groups.h265", "groups-open.h264", "groups-open.h265"] {
        let (codec, units) = units(name);
        let sums = expected(name);
        let mut stream = Selection::stream(30.0);
        stream.want(Some(Rate { fps: 2.0, is_aligned: false }));
        let played = play(codec, &units, stream);
        let keys: Vec<u64> = played.wanted.iter().map(|(number, _)| *number).collect();
        assert!(
            played.wanted.iter().all(|(number, sum)| sums[*number as usize - 1] == *sum),
            "{name}: {keys:?}"
        );
        // Two groups until it is known how long one is; then the first key frame after 15 pictures or more.
        assert_eq!(keys, [1, 16, 31, 51, 61, 81], "{name}");
        assert!(played.decoded <= 20, "{name}: {}", played.decoded);
        assert_eq!((played.all, played.waited), (90, 0), "{name}");
    }
}

#[test]
fn fields_are_left_out_in_pairs() {
    let (codec, units) = units("fields.h264");
    let sums = expected("fields.h264");
    assert_eq!(units.len(), 2 * sums.len(), "a unit for each field");
    let pairs: Vec<_> = units.chunks(2).map(|pair| ([&pair[0].0[..], &pair[1].0].concat(), true)).collect();
    // Below, it is known that every second frame is one that decoding can begin at.
    for part in [1.0, 0.8, 0.7] {
        let played = play(codec, &pairs, Selection::part(part));
        assert_eq!(played.wanted, strided(&sums, part), "{part}");
        assert_eq!(played.all, sums.len() as u64, "{part}");
        let droppable = (1..=sums.len() as u64)
            .filter(|number| number % 2 == 0 && !played.wanted.iter().any(|(wanted, _)| wanted == number));
        assert_eq!(played.decoded, pairs.len() - droppable.count(), "{part}");
    }
}

#[test]
fn a_rate_that_rises_decodes_everything_from_the_next_key_frame_on() {
    let (codec, units) = units("groups-open.h264");
    let sums = expected("groups-open.h264");
    let mut discard = Discard::new(Selection::stream(30.0));
    discard.selection.want(Some(Rate { fps: 2.0, is_aligned: false }));
    let mut decoder = open(codec);
    let (mut wanted, mut number, start) = (Vec::new(), 0_u64, Instant::now());
    for (index, (data, shown)) in units.iter().enumerate() {
        if index == 44 {
            discard.selection.want(None);
        }
        let now = start + FRAME * u32::try_from(index).unwrap();
        let unit = AccessUnit { data, shown: *shown };
        let (verdict, stamp) = discard.judge(codec, &unit, !decoder.waiting(), (Wall::from_micros(7), now));
        verdict
            .carry_out(decoder.as_mut(), &unit, stamp, &mut |picture, stamp| {
                let is_wanted = discard.came_out(stamp, now);
                number += discard.passed() + 1;
                if is_wanted {
                    wanted.push((number, checksum(picture)));
                }
                Ok(())
            })
            .unwrap();
        discard.carried_out();
        number += discard.passed() + decoder.passed();
    }
    assert!(wanted.iter().all(|(number, sum)| sums[*number as usize - 1] == *sum));
    let late: Vec<u64> = wanted.iter().map(|(number, _)| *number).filter(|number| *number > 44).collect();
    assert_eq!(late, (51..=late[late.len() - 1]).collect::<Vec<_>>());
    assert!(late.len() >= 36, "{}", late.len());
}

#[test]
fn jpeg_pictures_that_are_not_wanted_are_not_decoded() {
    let jpeg = std::fs::read(asset("clips/colour.jpg")).unwrap();
    let units = vec![(jpeg, true); 60];
    let played = play(Codec::Jpeg, &units, Selection::part(1.0 / 6.0));
    let numbers: Vec<u64> = played.wanted.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (0..10).map(|n| n * 6 + 1).collect::<Vec<u64>>());
    assert_eq!((played.decoded, played.all), (10, 60));
}

#[test]
fn what_nobody_shall_see_is_decoded_only_where_others_need_it() {
    let (codec, mut units) = units("high-pyramid.mp4");
    let sums = expected("high-pyramid.mp4");
    units.iter_mut().take(12).for_each(|(_, shown)| *shown = false);
    let played = play(codec, &units, Selection::all());
    assert_eq!(played.wanted.iter().map(|(_, sum)| *sum).collect::<Vec<_>>(), sums[12..]);
    assert!(played.decoded <= 20, "{}", played.decoded);
}

#[test]
fn damaged_and_missing_units_leave_numbers_in_order() {
    for name in ["high-pyramid.mp4", "h265.mp4", "groups-open.h264", "groups-open.h265", "interlaced.mp4"] {
        let (codec, units) = units(name);
        let mut state = 5_u32;
        for _ in 0..12 {
            let mut discard = Discard::new(Selection::part(0.3));
            let (mut decoder, now) = (open(codec), Instant::now());
            let (mut number, mut last) = (0_u64, 0_u64);
            for (data, shown) in &units {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let mut data = data.clone();
                match state >> 29 {
                    0 => continue,
                    1 => {
                        let at = (state >> 8) as usize % data.len();
                        data[at] ^= (state >> 3) as u8;
                    }
                    2 => {
                        discard.interrupt();
                        decoder.lost();
                    }
                    _ => {}
                }
                let unit = AccessUnit { data: &data, shown: *shown };
                let (verdict, stamp) =
                    discard.judge(codec, &unit, !decoder.waiting(), (Wall::from_micros(7), now));
                let outcome = verdict.carry_out(decoder.as_mut(), &unit, stamp, &mut |_, stamp| {
                    let _ = discard.came_out(stamp, now);
                    number += discard.passed() + 1;
                    assert!(number > last, "{name}");
                    last = number;
                    Ok(())
                });
                assert!(outcome.is_ok() || outcome.is_err_and(|error| error.kind() == Kind::Undecodable));
                discard.carried_out();
                number += discard.passed() + decoder.passed();
                assert!(discard.pending.len() <= MAX_PENDING);
            }
            assert!(number <= units.len() as u64, "{name}: {number}");
        }
    }
}
