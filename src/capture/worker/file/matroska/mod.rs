//! Matroska and WebM (RFC 9559). Elements are walked one after the other where they lie; of a file that was
//! never closed, whose sizes nobody knew or that is damaged in the middle, everything that can be told is
//! read.

mod ebml;
mod lace;
mod track;

use super::medium::{Medium, Rate, Window};
use super::picture_facts;
use crate::capture::worker::decode::{AccessUnit, Codec};
use crate::capture::worker::rotation::Rotation;
use crate::capture::worker::source::{Grab, Source};
use crate::command::SourceProperties;
use crate::error::{Error, Kind, Result};
use ebml::{Header, Id, be, child, float};
use lace::{BlockHeader, Laces, MAX_BLOCK_HEADER_BYTES};
use track::Track;

const EBML: Id = 0x1a45_dfa3;
const SEGMENT: Id = 0x1853_8067;
const INFO: Id = 0x1549_a966;
const TRACKS: Id = 0x1654_ae6b;
const TRACK_ENTRY: Id = 0xae;
const CLUSTER: Id = 0x1f43_b675;
const CLUSTER_TIME: Id = 0xe7;
const SIMPLE_BLOCK: Id = 0xa3;
const BLOCK_GROUP: Id = 0xa0;
const BLOCK: Id = 0xa1;

/// What else lies beside clusters, in them and in block groups: seek head, cues, tags, attachments, chapters,
/// void, checksum; position, size of the one before, silent tracks, encrypted blocks; additions, duration,
/// references, priority, state, slices.
const PASSED: [Id; 18] = [
    0x114d_9b74,
    0x1c53_bb6b,
    0x1254_c367,
    0x1941_a469,
    0x1043_a770,
    0xec,
    0xbf,
    0xa7,
    0xab,
    0x5854,
    0xaf,
    0x75a1,
    0x9b,
    0xfb,
    0xfa,
    0xa4,
    0x75a2,
    0x8e,
];

const TIMESTAMP_SCALE: Id = 0x2a_d7b1;
const DURATION: Id = 0x4489;

/// Nanoseconds of a tick where the file does not say.
const USUAL_TIMESTAMP_SCALE: u64 = 1_000_000;

/// Largest description of the tracks that is taken. Honest ones, with fonts' and codecs' private bytes, stay
/// below 64 KiB.
const MAX_TRACKS_BYTES: u64 = 4 * 1024 * 1024;

/// Largest information about the file that is taken.
const MAX_INFO_BYTES: u64 = 64 * 1024;

/// Most elements between two frames: blocks of other tracks, and what lies between clusters.
const MAX_PASSED_ELEMENTS: usize = 1_000_000;

/// As many frames are counted where the file does not say how many there are: nine hours at 30 fps, a
/// second's work.
const MAX_COUNTED_FRAMES: u64 = 1_000_000;

/// Blocks that are looked at to choose between several tracks with pictures.
const MAX_LOOKED_AT_BLOCKS: usize = 10_000;

/// Bytes that are read at a time: an element's header, and of small elements the whole.
const STEP_BYTES: usize = 4096;

/// An element of frames above this is believed only if something follows it: a damaged length that leads far away
/// would cost all that it leads over. Key frames of 4K have as many bytes.
const SUSPICIOUS_BYTES: u64 = 256 * 1024;

/// Bytes that are searched at a time for a cluster after damage.
const SEARCH_BYTES: usize = 64 * 1024;

/// An open Matroska file.
pub(super) struct Matroska {
    walk: Walk,
    track: Track,
    properties: SourceProperties,
    /// No frame has been read since the start.
    leads: bool,
    /// The block that was read last, and where in it frames wait.
    block: Vec<u8>,
    waiting: Laces,
    is_invisible: bool,
    packet: Vec<u8>,
}

impl Matroska {
    pub(super) fn open(medium: Medium) -> Result<Matroska> {
        let mut walk = Walk::new(medium);
        let description = walk.description()?;
        let track = choose(&mut walk, Track::candidates(&description.tracks)?)?;
        walk.rewind();
        let properties = walk.window.medium.properties(0, 0, 0, Rate(0.0));
        let (block, waiting, packet) = (Vec::new(), Laces::new(), Vec::new());
        let mut file =
            Matroska { walk, track, properties, leads: true, block, waiting, is_invisible: false, packet };
        // The first picture knows its size, and often its rate, better than the container.
        let first = if file.advance()? { picture_facts(file.track.codec, &file.packet) } else { None };
        file.restart()?;
        let declared = file.track.default_duration.map(|nanoseconds| 1e9 / nanoseconds as f64);
        let mut fps = declared.or(first.and_then(|facts| facts.fps)).unwrap_or(0.0);
        // The container counts no frames; the reference multiplies too.
        let mut frames = (description.seconds * fps).round();
        if !frames.is_finite() || frames < 1.0 {
            let counted = file.count()?;
            frames = counted.frames as f64;
            fps = if fps > 0.0 { fps } else { counted.fps(description.nanoseconds_per_tick) };
        }
        let (width, height) = first.map_or(file.track.size, |facts| (facts.width, facts.height));
        file.properties = file.walk.window.medium.properties(width, height, frames as u64, Rate(fps));
        Ok(file)
    }

    /// Counts the frames of the file; of a long one the rest is estimated.
    fn count(&mut self) -> Result<Counted> {
        let mut counted = Counted { frames: 0, first: i64::MAX, last: i64::MIN };
        while let Some(found) = self.walk.next_block(&[self.track.number])? {
            // A lace of pictures is rare enough to be counted as one.
            counted.frames += 1;
            (counted.first, counted.last) = (counted.first.min(found.time), counted.last.max(found.time));
            if counted.frames >= MAX_COUNTED_FRAMES {
                let (all, read) = (self.walk.window.medium.bytes() as f64, self.walk.at as f64);
                let part = (all / read.max(1.0)).max(1.0);
                counted.last =
                    counted.first.saturating_add(((counted.last - counted.first) as f64 * part) as i64);
                counted.frames = (counted.frames as f64 * part) as u64;
                break;
            }
        }
        self.restart()?;
        Ok(counted)
    }

    /// The next frame into `packet`. False: there is none.
    fn advance(&mut self) -> Result<bool> {
        for _ in 0..MAX_PASSED_ELEMENTS {
            let Some(range) = self.waiting.pop_front() else {
                let Some(found) = self.walk.next_block(&[self.track.number])? else { return Ok(false) };
                if !self.walk.window.medium.read_packet(found.at, found.bytes, &mut self.block)? {
                    return Ok(false);
                }
                self.waiting = found.header.frames(&self.block);
                self.is_invisible = found.header.is_invisible;
                continue;
            };
            let Some(frame) = self.block.get(range).filter(|frame| !frame.is_empty()) else { continue };
            // A frame that cannot be unpacked is handed on as it is, so that it counts as one that cannot be
            // decoded.
            let frame = self.track.unpack(frame).unwrap_or(frame.into());
            let leads = std::mem::take(&mut self.leads);
            match &self.track.nal {
                Some(nal) => nal.unpack(self.track.codec, &frame, leads, &mut self.packet),
                None => {
                    self.packet.clear();
                    self.packet.extend_from_slice(&frame);
                }
            }
            return Ok(true);
        }
        Ok(false)
    }
}

/// Of several tracks the first that has more than one picture (a cover has one, a track that was never
/// written none), or any.
fn choose(walk: &mut Walk, mut tracks: Vec<Track>) -> Result<Track> {
    let numbers: Vec<u64> = tracks.iter().map(|track| track.number).collect();
    let mut pictures = vec![0_u32; numbers.len()];
    walk.rewind();
    for _ in 0..if numbers.len() > 1 { MAX_LOOKED_AT_BLOCKS } else { 0 } {
        let Some(found) = walk.next_block(&numbers)? else { break };
        let counts = numbers.iter().zip(&mut pictures).filter(|(number, _)| **number == found.header.track);
        counts.for_each(|(_, count)| *count += 1);
        if pictures.first() > Some(&1) {
            break;
        }
    }
    let best = |least| pictures.iter().position(|count| *count >= least);
    Ok(tracks.swap_remove(best(2).or(best(1)).unwrap_or(0)))
}

impl Source for Matroska {
    fn properties(&self) -> SourceProperties {
        self.properties
    }

    fn codec(&self) -> Option<Codec> {
        Some(self.track.codec)
    }

    fn rotation(&self) -> Option<Rotation> {
        self.track.rotation
    }

    fn grab(&mut self) -> Result<Grab<'_>> {
        if !self.advance()? {
            return Ok(Grab::End);
        }
        let (codec, data) = (self.track.codec, &self.packet);
        Ok(Grab::Packet(codec, AccessUnit { data, shown: !self.is_invisible }))
    }

    fn restart(&mut self) -> Result<()> {
        self.walk.rewind();
        self.waiting.clear();
        self.leads = true;
        Ok(())
    }
}

/// What was found where the file does not say how many frames it has. Times in ticks.
struct Counted {
    frames: u64,
    first: i64,
    last: i64,
}

impl Counted {
    fn fps(&self, nanoseconds_per_tick: u64) -> f64 {
        let seconds = self.last.saturating_sub(self.first) as f64 * nanoseconds_per_tick as f64 / 1e9;
        if self.frames > 1 && seconds > 0.0 { (self.frames - 1) as f64 / seconds } else { 0.0 }
    }
}

/// What stands before the first cluster.
struct Description {
    /// The payload of `Tracks`.
    tracks: Vec<u8>,
    nanoseconds_per_tick: u64,
    /// Duration, seconds; 0: the file does not say.
    seconds: f64,
}

/// A block of the track.
struct Found {
    header: BlockHeader,
    /// Ticks since the start.
    time: i64,
    /// Where it lies in the file.
    at: u64,
    bytes: u64,
}

/// Goes from element to element. What contains the frames (segment, cluster, block group) is entered,
/// everything else passed: ends of elements, which a file that was not closed does not know, are never
/// needed.
struct Walk {
    window: Window,
    at: u64,
    cluster_time: u64,
}

impl Walk {
    fn new(medium: Medium) -> Walk {
        Walk { window: Window::new(medium, STEP_BYTES), at: 0, cluster_time: 0 }
    }

    fn rewind(&mut self) {
        (self.at, self.cluster_time) = (0, 0);
    }

    /// Goes on to the first cluster and takes note of what stands before it; beyond it only where no tracks
    /// did.
    fn description(&mut self) -> Result<Description> {
        let mut found =
            Description { tracks: Vec::new(), nanoseconds_per_tick: USUAL_TIMESTAMP_SCALE, seconds: 0.0 };
        for _ in 0..MAX_PASSED_ELEMENTS {
            let Some((header, payload)) = self.step()? else { break };
            match (header.id, header.size) {
                (INFO, Some(bytes)) => {
                    let mut info = Vec::new();
                    if bytes <= MAX_INFO_BYTES && self.window.medium.read(payload, bytes, &mut info)? {
                        let scale = child(&info, TIMESTAMP_SCALE).and_then(be).filter(|&scale| scale > 0);
                        found.nanoseconds_per_tick = scale.unwrap_or(USUAL_TIMESTAMP_SCALE);
                        let ticks = child(&info, DURATION).and_then(float).filter(|ticks| ticks.is_finite());
                        found.seconds = ticks.unwrap_or(0.0) * found.nanoseconds_per_tick as f64 / 1e9;
                    }
                }
                (TRACKS, Some(bytes)) if bytes <= MAX_TRACKS_BYTES => {
                    self.window.medium.read(payload, bytes, &mut found.tracks)?;
                }
                // Of `Tracks` whose size nobody knew.
                (TRACK_ENTRY, Some(bytes)) if bytes <= MAX_TRACKS_BYTES => {
                    let mut entry = Vec::new();
                    let from = payload - header.bytes as u64;
                    let whole = self.window.medium.read(from, bytes + header.bytes as u64, &mut entry)?;
                    if whole && (found.tracks.len() + entry.len()) as u64 <= MAX_TRACKS_BYTES {
                        found.tracks.append(&mut entry);
                    }
                }
                (CLUSTER, _) if !found.tracks.is_empty() => return Ok(found),
                _ => {}
            }
        }
        if found.tracks.is_empty() {
            return Err(Error::new(
                Kind::SourceConnection,
                "the Matroska file is damaged: it describes no tracks",
            ));
        }
        Ok(found)
    }

    /// The next block of one of these tracks.
    fn next_block(&mut self, tracks: &[u64]) -> Result<Option<Found>> {
        for _ in 0..MAX_PASSED_ELEMENTS {
            let Some((element, payload)) = self.step()? else { return Ok(None) };
            let (SIMPLE_BLOCK | BLOCK, Some(bytes)) = (element.id, element.size) else { continue };
            let header = BlockHeader::parse(self.window.bytes(payload, MAX_BLOCK_HEADER_BYTES)?);
            if let Some(header) = header.filter(|header| tracks.contains(&header.track)) {
                let time = i64::try_from(self.cluster_time)
                    .unwrap_or(i64::MAX)
                    .saturating_add(i64::from(header.time));
                return Ok(Some(Found { header, time, at: payload, bytes }));
            }
        }
        Ok(None)
    }

    /// The element at the present place and where its payload begins; goes on into it or past it. `None`: the
    /// end.
    fn step(&mut self) -> Result<Option<(Header, u64)>> {
        while let Some(header) = self.header_at(self.at)? {
            let payload = self.at + header.bytes as u64;
            let after = header.size.map(|size| payload.saturating_add(size));
            match (header.id, after) {
                // Longer than the file: cut short here, or damaged.
                (id, Some(after))
                    if after > self.window.medium.bytes()
                        && ![SEGMENT, CLUSTER, BLOCK_GROUP].contains(&id) =>
                {
                    self.at = self.next_cluster(self.at + 1)?;
                    continue;
                }
                (SEGMENT | CLUSTER | BLOCK_GROUP, _) | (_, None) => self.at = payload,
                (SIMPLE_BLOCK | BLOCK, Some(after))
                    if after - payload > SUSPICIOUS_BYTES && !self.is_place_of_element(after)? =>
                {
                    self.at = self.next_cluster(self.at + 1)?;
                    continue;
                }
                (EBML | INFO | TRACKS | TRACK_ENTRY | CLUSTER_TIME | SIMPLE_BLOCK | BLOCK, Some(after)) => {
                    self.at = after
                }
                (id, Some(after)) if PASSED.contains(&id) || self.is_place_of_element(after)? => {
                    self.at = after
                }
                // No element: the next cluster is found by its id.
                _ => {
                    self.at = self.next_cluster(self.at + 1)?;
                    continue;
                }
            }
            if header.id == CLUSTER_TIME {
                let bytes = header.size.and_then(|size| usize::try_from(size).ok()).unwrap_or(0).min(8);
                self.cluster_time = be(self.window.bytes(payload, bytes)?).unwrap_or(0);
            }
            return Ok(Some((header, payload)));
        }
        Ok(None)
    }

    /// The header at a place, or at the next cluster where there is damage. `None`: the end of the file.
    fn header_at(&mut self, at: u64) -> Result<Option<Header>> {
        self.at = at;
        loop {
            let data = self.window.bytes(self.at, ebml::MAX_HEADER_BYTES)?;
            if data.is_empty() {
                return Ok(None);
            }
            if let Some(header) = ebml::header(data) {
                return Ok(Some(header));
            }
            self.at = self.next_cluster(self.at + 1)?;
        }
    }

    /// Whether what lies there is an element that we know, or the end of the file.
    fn is_place_of_element(&mut self, at: u64) -> Result<bool> {
        if at >= self.window.medium.bytes() {
            return Ok(at == self.window.medium.bytes());
        }
        let known = [
            EBML,
            SEGMENT,
            INFO,
            TRACKS,
            TRACK_ENTRY,
            CLUSTER,
            CLUSTER_TIME,
            SIMPLE_BLOCK,
            BLOCK_GROUP,
            BLOCK,
        ];
        let header = ebml::header(self.window.bytes(at, ebml::MAX_HEADER_BYTES)?);
        Ok(header.is_some_and(|header| known.contains(&header.id) || PASSED.contains(&header.id)))
    }

    /// Where the next cluster begins at or after a place; the end of the file where there is none.
    fn next_cluster(&mut self, mut at: u64) -> Result<u64> {
        let id = CLUSTER.to_be_bytes();
        loop {
            let data = self.window.bytes(at, SEARCH_BYTES)?;
            if let Some(offset) = data.windows(id.len()).position(|window| window == id) {
                return Ok(at + offset as u64);
            }
            if data.len() < SEARCH_BYTES {
                return Ok(self.window.medium.bytes().max(at));
            }
            at += (SEARCH_BYTES - id.len() + 1) as u64;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::CLUSTER;
    use crate::capture::worker::clips::{assert_exact, asset, decode_all};
    use crate::capture::worker::file;
    use crate::error::Kind;

    #[test]
    fn h264_and_h265_in_matroska_are_exact() {
        for name in ["h264.mkv", "h265.mkv"] {
            assert_exact(name, |_| {});
            let properties = file::open(&asset(&format!("clips/{name}"))).unwrap().properties();
            assert_eq!(
                (properties.width, properties.height, properties.total_frames),
                (192, 144, 25),
                "{name}"
            );
            assert!((properties.fps - 25.0).abs() < 0.01 && properties.is_file, "{name}");
        }
    }

    /// The checksums of frames of a file with three clusters of 25 frames, changed by `damage`, which is told where the
    /// second one lies.
    fn damaged(damage: impl Fn(&mut Vec<u8>, std::ops::Range<usize>)) -> Vec<u32> {
        let clip = std::fs::read(asset("clips/h264.mkv")).unwrap();
        let places = |id: &[u8]| clip.windows(4).position(|window| window == id);
        let cluster = places(&CLUSTER.to_be_bytes()).unwrap();
        // Cues follow it.
        let end = places(&0x1c53_bb6b_u32.to_be_bytes()).filter(|cues| *cues > cluster).unwrap_or(clip.len());
        let one = &clip[cluster..end];
        let mut file = [&clip[..cluster], one, one, one].concat();
        damage(&mut file, end..end + one.len());
        let path = std::env::temp_dir().join(format!("weir-mkv-{}", uuid::Uuid::new_v4()));
        std::fs::write(&path, file).unwrap();
        let mut source = file::open(&path).unwrap();
        let decoded = decode_all(source.as_mut(), |_| {}).unwrap();
        std::fs::remove_file(path).unwrap();
        decoded.checksums
    }

    #[test]
    fn after_damage_it_goes_on_at_the_next_cluster() {
        let whole = damaged(|_, _| {});
        let one = whole.len() / 3;
        assert_eq!((one, &whole[..one]), (25, &whole[one * 2..]));
        let lost = |name: &str, most: usize, damage: &dyn Fn(&mut Vec<u8>, std::ops::Range<usize>)| {
            let sums = damaged(damage);
            assert!(sums.len() + most >= 3 * one, "{name}: {}", sums.len());
            assert!(sums.len() >= 2 * one, "{name}: {}", sums.len());
            let (first, last) = (&sums[..one], &sums[sums.len() - one..]);
            assert_eq!((first, last), (&whole[..one], &whole[..one]), "{name}");
        };
        lost("the cluster's id", 25, &|file, at| file[at.start..at.start + 4].fill(0));
        lost("the first kilobyte", 25, &|file, at| file[at.start..at.start + 1024].fill(0x55));
        lost("a kilobyte in the middle", 20, &|file, at| {
            let middle = at.start + at.len() / 2;
            file[middle..middle + 1024].fill(0xff);
        });
        lost("all of it", 25, &|file, at| file[at].fill(0));
        lost("taken out of its middle", 20, &|file, at| {
            file.drain(at.start + at.len() / 2..at.start + at.len() / 2 + 777);
        });
        lost("a block that would reach far into what follows", 20, &|file, at| {
            // A third cluster that is large enough to be led into.
            let block = file[at.clone()].windows(2).skip(2000).position(|pair| pair[0] == 0xa3).unwrap();
            let length = at.start + 2000 + block + 1;
            // Four bytes of length, half a megabyte; what they overwrite is damaged anyway.
            file[length..length + 4].copy_from_slice(&[0x10, 0x08, 0, 0]);
            let void = [&[0xec, 0x10, 0x10, 0, 0][..], &vec![0; 1 << 20]].concat();
            file.extend_from_slice(&void);
        });
    }

    #[test]
    fn a_codec_that_we_lack_is_named() {
        for (name, codec) in [("vp8.webm", "VP8"), ("mpeg4.mp4", "MPEG-4 Part 2")] {
            let error = file::open(&asset(&format!("clips/{name}"))).err().unwrap();
            assert_eq!(error.kind(), Kind::SourceUnsupported);
            assert!(error.message().contains(codec), "{}", error.message());
        }
    }
}
