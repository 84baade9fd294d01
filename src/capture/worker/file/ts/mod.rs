//! MPEG transport streams (ISO/IEC 13818-1): `.ts`, `.m2ts` (192-byte packets with a time code before each)
//! and 204-byte packets with error correction behind each. What the video's packets carry is one elementary
//! stream, cut as a raw one is.

mod section;

use super::elementary::Stream;
use super::medium::Medium;
use super::{fourcc, packing_missing};
use crate::capture::worker::decode::Codec;
use crate::error::{Error, Kind, Result};
use section::Tables;

/// Bytes of a packet without what some recorders put before or behind it.
const PACKET_BYTES: usize = 188;

/// First byte of each packet.
const SYNC: u8 = 0x47;

/// Bytes from one packet to the next: plain, with a time code before each, with error correction behind each.
const STRIDES: [usize; 3] = [PACKET_BYTES, 192, 204];

/// So many packets in a row must begin where they should before a file is taken for a transport stream, or
/// for one again after damage. By chance that is one file in four thousand million.
const MIN_PACKETS: usize = 4;

/// Packets that are read at a time.
const CHUNK_PACKETS: usize = 1024;

/// As much of a file is looked through for its tables: they are repeated ten times a second.
const MAX_BEFORE_TABLES_BYTES: u64 = 8 * 1024 * 1024;

/// Most packet ids that are remembered while the video is looked for.
const MAX_PIDS: usize = 64;

/// Presentation times from which the rate is measured where the stream does not say it.
const MEASURED_TIMES: usize = 64;

/// Offset of the first packet and distance of the packets in what a file begins with; `None`: no transport
/// stream.
pub(super) fn layout(head: &[u8]) -> Option<(usize, usize)> {
    STRIDES.into_iter().find_map(|stride| Some((in_sync(head, stride)?, stride)))
}

/// The first place from which on packets follow each other.
fn in_sync(data: &[u8], stride: usize) -> Option<usize> {
    // As many as are there, of a short file; one alone proves nothing.
    let enough = |first: usize| {
        let mut starts = (first..data.len()).step_by(stride).take(MIN_PACKETS);
        starts.clone().count() >= MIN_PACKETS.min(data.len() / stride).max(2)
            && starts.all(|at| data.get(at) == Some(&SYNC))
    };
    (0..stride.min(data.len())).find(|&first| enough(first))
}

/// The video of a transport stream.
pub(super) struct TransportStream {
    medium: Medium,
    stride: usize,
    /// Byte offset of the first packet, and of the next one.
    first: u64,
    at: u64,
    pid: u16,
    /// Packet number and whether one has been seen: each packet may come twice.
    counter: Option<u8>,
    /// Bytes of a PES header that continue into the next packet.
    header: Vec<u8>,
    in_header: bool,
    times: Vec<u64>,
    /// A packet of the video could not be read for that reason.
    is_encrypted: bool,
    chunk: Vec<u8>,
}

impl TransportStream {
    /// Finds the video. The codec is `None` where the tables do not say it or are missing.
    pub(super) fn open(
        medium: Medium,
        first: usize,
        stride: usize,
    ) -> Result<(TransportStream, Option<Codec>)> {
        let first = first as u64;
        let mut stream = TransportStream {
            medium,
            stride,
            first,
            at: first,
            pid: 0,
            counter: None,
            header: Vec::new(),
            in_header: false,
            times: Vec::new(),
            is_encrypted: false,
            chunk: Vec::new(),
        };
        let (pid, codec) = stream.find_video()?;
        stream.pid = pid;
        stream.rewind();
        Ok((stream, codec))
    }

    fn find_video(&mut self) -> Result<(u16, Option<Codec>)> {
        let mut tables = Tables::default();
        // Those in which pictures begin by their own header, in the order of their first.
        let mut with_pictures: Vec<u16> = Vec::new();
        while self.at < MAX_BEFORE_TABLES_BYTES && self.read_chunk()? {
            let chunk = std::mem::take(&mut self.chunk);
            for packet in packets(&chunk, self.stride) {
                let is_picture = packet.payload.starts_with(&[0, 0, 1])
                    && matches!(packet.payload.get(3), Some(0xe0..=0xef | 0xfd));
                // Of an encrypted one nobody knows.
                let is_picture = packet.begins_unit && (is_picture || packet.is_encrypted);
                if is_picture && with_pictures.len() < MAX_PIDS && !with_pictures.contains(&packet.pid) {
                    with_pictures.push(packet.pid);
                }
                if !packet.is_encrypted {
                    tables.take(packet.pid, packet.begins_unit, packet.payload);
                }
            }
            self.chunk = chunk;
            // The first is as a rule the one; where it stays empty, the others are looked at in the end.
            if let Some((pid, codec)) = tables.videos().next().filter(|(pid, _)| with_pictures.contains(pid))
            {
                return Ok((pid, Some(codec)));
            }
        }
        let found = tables.videos().find(|(pid, _)| with_pictures.contains(pid)).or(tables.videos().next());
        if let Some((pid, codec)) = found {
            return Ok((pid, Some(codec)));
        }
        match (tables.into_problem(), with_pictures.first()) {
            (Some(problem), _) => Err(problem),
            (None, Some(&pid)) => Ok((pid, None)),
            (None, None) => Err(Error::new(Kind::SourceUnsupported, "the transport stream holds no video")),
        }
    }

    /// The next packets; none where bytes that belong to no packet were passed. False: the file is over.
    fn read_chunk(&mut self) -> Result<bool> {
        self.chunk.resize(CHUNK_PACKETS * self.stride, 0);
        let got = self.medium.read_at(self.at, &mut self.chunk)?;
        self.chunk.truncate(got);
        let in_order =
            self.chunk.chunks(self.stride).take_while(|packet| packet.first() == Some(&SYNC)).count();
        let mut passed = (in_order * self.stride).min(got);
        if passed == 0 {
            // Bytes were lost, or are damage: up to where packets follow each other again.
            let mut places = (0..got).step_by(self.stride);
            let found = places.find_map(|at| Some(at + in_sync(self.chunk.get(at..)?, self.stride)?));
            passed = found.unwrap_or(got);
        }
        self.chunk.truncate(in_order * self.stride);
        self.at += passed as u64;
        Ok(got > 0)
    }

    /// A packet of the video: what it carries of the elementary stream is appended.
    fn take(&mut self, packet: &Packet<'_>, out: &mut Vec<u8>) {
        let repeated = self.counter == Some(packet.counter) && !packet.is_discontinuous;
        self.counter = Some(packet.counter);
        if repeated {
            return;
        }
        let payload = packet.payload;
        if packet.begins_unit {
            self.header.clear();
            self.in_header = true;
        }
        if !self.in_header {
            return out.extend_from_slice(payload);
        }
        self.header.extend_from_slice(payload);
        let Some(data) = pes_data(&self.header) else {
            // A header is 9 to 264 bytes long: what is longer and none is damage.
            self.in_header = self.header.len() < 2 * PACKET_BYTES;
            return;
        };
        self.in_header = false;
        if self.times.len() < MEASURED_TIMES {
            self.times.extend(presentation_time(&self.header));
        }
        out.extend_from_slice(self.header.get(data..).unwrap_or_default());
    }
}

impl Stream for TransportStream {
    fn read_on(&mut self, out: &mut Vec<u8>) -> Result<bool> {
        let before = out.len();
        while out.len() == before {
            if !self.read_chunk()? {
                return Ok(false);
            }
            let (chunk, pid) = (std::mem::take(&mut self.chunk), self.pid);
            for packet in packets(&chunk, self.stride).filter(|packet| packet.pid == pid) {
                if packet.is_encrypted {
                    self.is_encrypted = true;
                } else {
                    self.take(&packet, out);
                }
            }
            self.chunk = chunk;
        }
        Ok(true)
    }

    fn rewind(&mut self) {
        (self.at, self.counter, self.in_header) = (self.first, None, false);
        self.header.clear();
    }

    fn at(&self) -> u64 {
        self.at
    }

    fn medium(&self) -> &Medium {
        &self.medium
    }

    fn problem(&self) -> Option<Error> {
        self.is_encrypted.then(|| packing_missing("encrypted"))
    }

    fn fps(&self) -> Option<f64> {
        const CLOCK_HZ: f64 = 90_000.0;
        let mut times = self.times.clone();
        times.sort_unstable();
        times.dedup();
        let mut steps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        steps.sort_unstable();
        steps.get(steps.len() / 2).map(|&step| CLOCK_HZ / step as f64).filter(|&fps| fps <= 1000.0)
    }
}

/// One packet of 188 bytes, its header read.
struct Packet<'a> {
    pid: u16,
    /// A PES packet or a section begins in it.
    begins_unit: bool,
    counter: u8,
    is_discontinuous: bool,
    is_encrypted: bool,
    payload: &'a [u8],
}

/// The packets with a payload that can be read.
fn packets(chunk: &[u8], stride: usize) -> impl Iterator<Item = Packet<'_>> {
    chunk.chunks(stride).filter_map(Packet::parse)
}

impl Packet<'_> {
    /// `None`: cut off, damaged by its own word, or without payload.
    fn parse(data: &[u8]) -> Option<Packet<'_>> {
        let data = data.get(..PACKET_BYTES)?;
        let [sync, first, second, flags] = *data.first_chunk()?;
        let (is_damaged, is_encrypted, has_payload) =
            (first & 0x80 != 0, flags & 0xc0 != 0, flags & 0x10 != 0);
        if sync != SYNC || is_damaged || !has_payload {
            return None;
        }
        let (mut at, mut is_discontinuous) = (4, false);
        if flags & 0x20 != 0 {
            let length = usize::from(*data.get(4)?);
            is_discontinuous = length > 0 && data.get(5)? & 0x80 != 0;
            at = 5 + length;
        }
        Some(Packet {
            pid: u16::from_be_bytes([first & 0x1f, second]),
            begins_unit: first & 0x40 != 0,
            counter: flags & 15,
            is_discontinuous,
            is_encrypted,
            payload: data.get(at..)?,
        })
    }
}

/// Where the elementary stream begins in a PES packet (§2.4.3.6); `None`: not yet there, or no such packet.
fn pes_data(packet: &[u8]) -> Option<usize> {
    if !packet.starts_with(&[0, 0, 1]) || packet.get(6)? & 0xc0 != 0x80 {
        return None;
    }
    let at = 9 + usize::from(*packet.get(8)?);
    (at <= packet.len()).then_some(at)
}

/// The presentation time of a PES packet, in ticks of 90 kHz.
fn presentation_time(packet: &[u8]) -> Option<u64> {
    if packet.get(7)? & 0x80 == 0 {
        return None;
    }
    let [a, b, c, d, e] = *packet.get(9..)?.first_chunk()?;
    let bits = |byte: u8, mask: u8, shift: u32| u64::from(byte & mask) << shift;
    Some(
        bits(a >> 1, 7, 30)
            | bits(b, 0xff, 22)
            | bits(c >> 1, 0x7f, 15)
            | bits(d, 0xff, 7)
            | bits(e >> 1, 0x7f, 0),
    )
}

/// The codec that a stream type of the program map means. An error names the one that we lack; `None`: no
/// video.
fn codec_of(stream_type: u8, registration: Option<&[u8]>) -> Result<Option<Codec>> {
    Ok(match stream_type {
        0x1b => Some(Codec::H264),
        0x24 => Some(Codec::H265),
        0x01 => return Err(fourcc::missing("MPEG-1 video")),
        0x02 => return Err(fourcc::missing("MPEG-2 video")),
        0x10 => return Err(fourcc::missing("MPEG-4 Part 2")),
        0x21 => return Err(fourcc::missing("JPEG 2000")),
        0x33 => return Err(fourcc::missing("H.266")),
        0x42 | 0xd2 | 0xd4 => return Err(fourcc::missing("AVS")),
        0xea => return Err(fourcc::missing("VC-1")),
        // H.264 and H.265 with their samples encrypted.
        0xdb => return Err(packing_missing("encrypted")),
        // Private: its own four letters say.
        0x06 | 0x80.. => match registration {
            Some(b"HEVC") => Some(Codec::H265),
            Some(b"H264" | b"AVC1") => Some(Codec::H264),
            Some(b"AV01") => return Err(fourcc::missing("AV1")),
            _ => None,
        },
        _ => None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
