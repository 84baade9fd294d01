#![allow(clippy::unwrap_used)]

use super::{Engine, H264};
use crate::capture::worker::checksum::checksum;
use crate::capture::worker::clips::{assert_exact, asset};
use crate::capture::worker::decode::annexb::nal_places;
use crate::capture::worker::decode::{AccessUnit, Codec, Decoder, open};
use crate::capture::worker::file;
use crate::capture::worker::picture::{Matrix, Picture, Range};
use crate::capture::worker::source::Grab;
use crate::clock::Wall;

#[test]
fn what_the_fast_decoder_takes_is_exact() {
    for name in ["baseline", "main", "high-pyramid", "cavlc-slices", "intra-refresh", "cropped", "full-709"] {
        assert_exact(&format!("{name}.mp4"), |_| {});
    }
}

#[test]
fn what_the_second_decoder_takes_is_exact() {
    for name in ["high10", "high422", "gray", "interlaced"] {
        assert_exact(&format!("{name}.mp4"), |_| {});
    }
}

#[test]
fn what_the_fast_decoder_does_wrong_goes_to_the_second_one() {
    // In the first picture; in the third.
    for name in ["pcm.h264", "long-term.h264"] {
        assert_exact(name, |_| {});
        assert_ne!(
            sums_of(&mut H264::new_without_second(), &units(name)),
            expected(name),
            "{name}: is it needed still?"
        );
    }
}

/// Checksums that ffmpeg gave.
fn expected(name: &str) -> Vec<u32> {
    let text = std::fs::read_to_string(asset(&format!("clips/{name}.crc"))).unwrap();
    text.lines().map(|line| u32::from_str_radix(line.trim_start_matches("0x"), 16).unwrap()).collect()
}

/// Decodes to the end, whatever is damaged.
fn sums_of(decoder: &mut dyn Decoder, units: &[Vec<u8>]) -> Vec<u32> {
    let mut sums = Vec::new();
    let mut take = |picture: &Picture<'_>, _| {
        sums.push(checksum(picture));
        Ok(())
    };
    for data in units {
        let _ = decoder.decode(&AccessUnit { data, shown: true }, Wall::from_micros(0), &mut take);
    }
    decoder.flush(&mut take).unwrap();
    sums
}

#[test]
fn both_decoders_give_the_same_on_every_clip() {
    let clips = std::fs::read_dir(asset("clips")).unwrap();
    let names = clips.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut compared = 0;
    for name in names.filter(|name| asset(&format!("clips/{name}.crc")).exists()) {
        let mut source = file::open(&asset(&format!("clips/{name}"))).unwrap();
        let (mut units, mut shown) = (Vec::new(), true);
        while let Grab::Packet(Codec::H264, unit) = source.grab().unwrap() {
            shown &= unit.shown;
            units.push(unit.data.to_vec());
        }
        // The rest: H.265, and a clip whose container leaves out pictures.
        if !units.is_empty() && shown {
            let expected = expected(&name);
            assert_eq!(sums_of(&mut H264::new(), &units), expected, "{name}");
            assert_eq!(sums_of(&mut H264::new_second(), &units), expected, "{name}, second decoder");
            compared += 1;
        }
    }
    assert!(compared >= 20, "{compared}");
}

#[test]
fn pictures_keep_the_stamp_of_their_access_unit() {
    // I P B B: the third and fourth packet are shown before the second.
    let decoded = assert_exact("main.mp4", |_| {});
    let mut sorted = decoded.packets.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..25).collect::<Vec<_>>());
    assert_ne!(decoded.packets, sorted);
}

#[test]
fn a_stream_without_b_frames_is_not_delayed() {
    for name in ["baseline.mp4", "intra-refresh.mp4", "full-709.mp4"] {
        assert_eq!(assert_exact(name, |_| {}).delay, 0, "{name}");
    }
    assert!(assert_exact("main.mp4", |_| {}).delay <= 2);
}

#[test]
fn range_and_matrix_come_from_the_stream() {
    assert_exact("full-709.mp4", |picture| {
        assert_eq!((picture.range, picture.matrix), (Range::Full, Matrix::Bt709))
    });
    assert_exact("main.mp4", |picture| {
        assert_eq!((picture.range, picture.matrix), (Range::Limited, Matrix::Bt601))
    });
}

impl H264 {
    /// All by the decoder that can do everything.
    fn new_second() -> H264 {
        let mut decoder = H264::new();
        decoder.engine = Engine::fallback(&decoder.sets);
        decoder
    }

    /// All by the fast one, as far as it goes: what may be beyond it is not looked for.
    fn new_without_second() -> H264 {
        H264 { alone: true, ..H264::new() }
    }
}

/// Decodes a stream that does not begin with a key frame: the number of pictures that pass unseen, which no
/// decoder can make.
fn assert_begins(name: &str, passed: u64) {
    assert_eq!(assert_exact(name, |_| {}).passed, passed, "{name}");
}

#[test]
fn a_stream_joined_before_its_key_frame_begins_there() {
    assert_begins("cut-gop.h264", 13);
}

#[test]
fn an_open_group_of_pictures_begins_at_its_i_picture() {
    // Ten pictures before it, three that are shown before it and need those.
    assert_begins("cut-open.h264", 13);
    // The same without supplemental information, joined elsewhere.
    assert_begins("cut-open-plain.h264", 13);
}

#[test]
fn a_picture_that_is_refreshed_bit_by_bit_is_shown_when_it_is_whole() {
    assert_begins("cut-refresh.h264", 31);
}

/// The access units of a raw stream.
fn units(name: &str) -> Vec<Vec<u8>> {
    let mut source = file::open(&asset(&format!("clips/{name}"))).unwrap();
    let mut units = Vec::new();
    while let Grab::Packet(_, unit) = source.grab().unwrap() {
        units.push(unit.data.to_vec());
    }
    units
}

/// Decodes until `most` pictures have come; says how many access units that took, and the checksums.
fn decode(decoder: &mut dyn Decoder, units: &[Vec<u8>], most: usize) -> (usize, Vec<u32>) {
    let mut sums = Vec::new();
    for (number, data) in units.iter().enumerate() {
        let unit = AccessUnit { data, shown: true };
        let decoded = decoder.decode(&unit, Wall::from_micros(0), &mut |picture, _| {
            sums.push(checksum(picture));
            Ok(())
        });
        assert!(decoded.is_ok(), "unit {number}: {decoded:?}");
        if sums.len() >= most {
            return (number + 1, sums);
        }
    }
    (units.len(), sums)
}

#[test]
fn parameter_sets_of_units_that_pass_are_kept() {
    let units = units("cut-gop.h264");
    let sets = nal_places(&units[13]).take(2).map(|place| units[13][..place.end].to_vec()).last().unwrap();
    let bare = nal_places(&units[13]).nth(2).map(|place| units[13][place.start - 3..].to_vec()).unwrap();
    let mut decoder = open(Codec::H264);
    // Alone, as SDP or a container gives them; then behind a picture that is not decoded.
    decode(decoder.as_mut(), std::slice::from_ref(&sets), 1);
    assert_eq!(decode(decoder.as_mut(), std::slice::from_ref(&bare), 1).1.len(), 1);
    let mut decoder = open(Codec::H264);
    decoder.pass(&AccessUnit { data: &[sets, units[0].clone()].concat(), shown: true });
    assert_eq!((decoder.passed(), decoder.waiting()), (1, true));
    assert_eq!(decode(decoder.as_mut(), &[bare], 1).1.len(), 1);
    assert!(!decoder.waiting());
}

#[test]
fn after_a_loss_nothing_is_shown_before_the_next_random_access_point() {
    let units = units("cut-open.h264");
    let whole = decode(open(Codec::H264).as_mut(), &units, usize::MAX).1;
    // The I picture is the eleventh: lose what follows it but for the last group of pictures.
    let mut decoder = open(Codec::H264);
    let (took, before) = decode(decoder.as_mut(), &units[..16], usize::MAX);
    assert_eq!((took, &before[..]), (16, &whole[..before.len()]));
    decoder.lost();
    assert!(decoder.waiting());
    let (_, after) = decode(decoder.as_mut(), &units[20..27], usize::MAX);
    assert!(decoder.waiting() && after.len() <= 4, "{}", after.len());
    let again = decode(decoder.as_mut(), &units, usize::MAX).1;
    assert_eq!(again[again.len() - whole.len()..], whole);
}

#[test]
fn a_stream_that_never_says_where_it_may_begin_is_shown_after_a_refresh_period() {
    let units = units("endless.h264");
    let sets = nal_places(&units[0]).take(2).map(|place| units[0][..place.end].to_vec()).last().unwrap();
    // Its key frame was before we came.
    let stream = [&[sets][..], &units[1..]].concat();
    let mut decoder = open(Codec::H264);
    let (took, _) = decode(decoder.as_mut(), &stream, 1);
    assert_eq!((took, decoder.passed()), (502, 500));
}

#[test]
fn a_damaged_picture_costs_little_and_not_all_until_the_next_key_frame() {
    // Key frames are 12 pictures apart. Of a picture between two of them a part is missing; ffmpeg shows all 25.
    for name in ["baseline.mp4", "main.mp4"] {
        let (whole, expected) = (units(name), expected(name));
        let mut lost_without = 0;
        for damaged in 13..18 {
            let mut stream = whole.clone();
            let bytes = stream[damaged].len();
            stream[damaged].truncate(bytes / 2);
            let sums = sums_of(&mut H264::new(), &stream);
            assert!(sums.len() + 1 >= expected.len(), "{name} {damaged}: {}", sums.len());
            // Up to the key frame before, and from the one after on, nothing has changed.
            assert_eq!((&sums[..12], sums.last()), (&expected[..12], expected.last()), "{name} {damaged}");
            let without = sums_of(&mut H264::new_without_second(), &stream);
            lost_without += expected.len() - without.len();
        }
        // The fast decoder alone refuses what refers to it. (Damage that leaves CABAC something to read it does not see.)
        assert!(name != "baseline.mp4" || lost_without >= 10, "{lost_without}: is it needed still?");
    }
}
