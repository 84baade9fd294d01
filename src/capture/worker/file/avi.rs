//! AVI, with one video stream read chunk by chunk; no index is needed for that. OpenDML files (several
//! `RIFF`) too.

use super::nal::NalFormat;
use super::number::le32;
use super::{Medium, Rate, StreamFacts, fourcc, picture_facts};
use crate::capture::worker::decode::{AccessUnit, Codec};
use crate::capture::worker::source::{Grab, Source};
use crate::command::SourceProperties;
use crate::error::{Error, Kind, Result};

/// Largest header list that is taken: honest ones, with super-indexes, stay below 64 KiB.
const MAX_HEADER_BYTES: u64 = 1024 * 1024;

/// Most chunks of other streams between two pictures.
const MAX_OTHER_CHUNKS: usize = 100_000;

/// Most chunks before the header list: none is usual, one with the writer's name is known.
const MAX_CHUNKS_BEFORE_HEADERS: usize = 16;

/// As many pictures are counted where the headers do not say how many there are: five hours at 30 fps, a
/// second's work.
const MAX_COUNTED_CHUNKS: usize = 540_000;

/// Bytes of the picture format (BITMAPINFOHEADER), which a codec's own bytes may follow.
pub(super) const BITMAP_INFO_BYTES: usize = 40;

/// Bytes of a chunk's letters and length.
const CHUNK_HEADER_BYTES: u64 = 8;

/// A chunk's name or a codec's: four letters.
type Letters = [u8; 4];

/// Digits, codec and what its list says of a stream that can be shown.
type Candidate = ([u8; 2], Codec, Stream);

/// An open AVI file.
pub(super) struct Avi {
    chunks: Chunks,
    codec: Codec,
    properties: SourceProperties,
    /// Byte offset of the first chunk after the headers.
    first: u64,
    /// No picture has been read since the start.
    leads: bool,
    /// `Some` for what has start codes.
    nal: Option<NalFormat>,
    /// A chunk as it lies in the file.
    raw: Vec<u8>,
    packet: Vec<u8>,
}

/// What a stream list says.
struct Stream {
    codec: Letters,
    /// What follows the picture format: a decoder configuration, or nothing.
    extra: Vec<u8>,
    width: u32,
    height: u32,
    fps: f64,
    frames: u32,
}

impl Avi {
    pub(super) fn open(medium: Medium) -> Result<Avi> {
        let damaged = || Error::new(Kind::SourceConnection, "the headers of the AVI file are damaged");
        let (headers, first) = header_list(&medium)?.ok_or_else(damaged)?;
        let found =
            lists(&headers).filter(|(kind, list)| kind == b"LIST" && list.starts_with(b"strl")).enumerate();
        let streams = found
            .filter_map(|(number, (_, list))| Some((u8::try_from(number).ok()?, stream(list.get(4..)?)?)));
        let (mut candidates, mut problem) = (Vec::new(), None);
        for (number, stream) in streams.filter(|(number, _)| *number < 100) {
            match fourcc::codec(&stream.codec) {
                Ok(codec) => candidates.push(([b'0' + number / 10, b'0' + number % 10], codec, stream)),
                Err(error) => _ = problem.get_or_insert(error),
            }
        }
        let Some((digits, codec, stream)) = choose(&medium, first, candidates)? else {
            return Err(
                problem.unwrap_or_else(|| Error::new(Kind::SourceUnsupported, "the AVI file holds no video"))
            );
        };
        let nal = codec.has_start_codes().then(|| NalFormat::annex_b_unless_recorded(codec, &stream.extra));
        let mut frames = u64::from(stream.frames);
        let properties = medium.properties(stream.width, stream.height, frames, Rate(stream.fps));
        let chunks = Chunks { medium, stream: digits, next: first };
        let mut avi =
            Avi { chunks, codec, properties, first, leads: true, nal, raw: Vec::new(), packet: Vec::new() };
        // A recorder that was switched off has not come to writing it; what cannot be is what it wrote before
        // it knew.
        if frames == 0 || frames > avi.chunks.medium.bytes() / CHUNK_HEADER_BYTES {
            frames = avi.chunks.count()?;
            avi.properties =
                avi.chunks.medium.properties(stream.width, stream.height, frames, Rate(stream.fps));
        }
        avi.size_of_first_picture()?;
        Ok(avi)
    }

    /// The stream's own size where it differs from the headers'.
    fn size_of_first_picture(&mut self) -> Result<()> {
        if self.advance()?
            && let Some(StreamFacts { width, height, .. }) = picture_facts(self.codec, &self.packet)
        {
            self.properties = SourceProperties { width, height, ..self.properties };
        }
        self.restart()
    }

    /// Reads the next picture of the stream into `packet`. False: there is none.
    fn advance(&mut self) -> Result<bool> {
        let Some((data, bytes)) = self.chunks.next_chunk()? else { return Ok(false) };
        let whole = self.chunks.medium.read_packet_or_part(data, bytes, &mut self.raw)?;
        let leads = std::mem::take(&mut self.leads);
        match &self.nal {
            None => std::mem::swap(&mut self.raw, &mut self.packet),
            Some(nal) => nal.unpack(self.codec, &self.raw, leads, &mut self.packet),
        }
        Ok(whole)
    }
}

impl Source for Avi {
    fn properties(&self) -> SourceProperties {
        self.properties
    }

    fn codec(&self) -> Option<Codec> {
        Some(self.codec)
    }

    fn grab(&mut self) -> Result<Grab<'_>> {
        if !self.advance()? {
            return Ok(Grab::End);
        }
        let data = &self.packet;
        Ok(Grab::Packet(self.codec, AccessUnit { data, shown: true }))
    }

    fn restart(&mut self) -> Result<()> {
        (self.chunks.next, self.leads) = (self.first, true);
        Ok(())
    }
}

/// Goes from chunk to chunk of one stream.
struct Chunks {
    medium: Medium,
    /// The two digits that its chunks begin with.
    stream: [u8; 2],
    /// Byte offset of the next chunk of any kind.
    next: u64,
}

impl Chunks {
    /// Counts the pictures from here to the end of the file; of a long one the rest is estimated.
    fn count(&mut self) -> Result<u64> {
        let (mut frames, all) = (0_u64, self.medium.bytes());
        for _ in 0..MAX_COUNTED_CHUNKS {
            if self.next_chunk()?.is_none() {
                return Ok(frames);
            }
            frames += 1;
        }
        Ok((frames as f64 * all as f64 / self.next.max(1) as f64) as u64)
    }

    /// Place and length of the next picture of the stream.
    fn next_chunk(&mut self) -> Result<Option<(u64, u64)>> {
        for _ in 0..MAX_OTHER_CHUNKS {
            let mut header = [0; 12];
            let got = self.medium.read_at(self.next, &mut header)?;
            let [a, b, c, d, ..] = header;
            let (Some(bytes), true) = (le32(&header, 4).map(u64::from), got >= 8) else { return Ok(None) };
            let data = self.next + 8;
            match [a, b, c, d] {
                // Their chunks are looked at one by one, whatever length they claim: it is written last, or
                // never.
                kind if &kind == b"RIFF" || &kind == b"LIST" => {
                    let inside = matches!(header.get(8..), Some(b"movi" | b"rec " | b"AVIX" | b"AVI "));
                    self.next = if inside { data + 4 } else { data + bytes + bytes % 2 };
                }
                [x, y, b'd', b'c' | b'b'] if [x, y] == self.stream => {
                    self.next = data + bytes + bytes % 2;
                    // An empty chunk says that the picture before stays.
                    if bytes > 0 {
                        return Ok(Some((data, bytes)));
                    }
                }
                kind if kind.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ') => {
                    self.next = data + bytes + bytes % 2;
                }
                // Not a chunk: padding, or damage. The next one may be near.
                _ => self.next += if self.next.is_multiple_of(2) { 2 } else { 1 },
            }
        }
        Ok(None)
    }
}

/// Of several streams the first that has more than one picture, or any.
fn choose(medium: &Medium, first: u64, mut candidates: Vec<Candidate>) -> Result<Option<Candidate>> {
    if candidates.len() < 2 {
        return Ok(candidates.pop());
    }
    let mut best = (0, 0);
    for (index, (digits, ..)) in candidates.iter().enumerate() {
        let mut chunks = Chunks { medium: medium.again()?, stream: *digits, next: first };
        let mut pictures = 0;
        while pictures < 2 && chunks.next_chunk()?.is_some() {
            pictures += 1;
        }
        if pictures > best.1 {
            best = (index, pictures);
        }
    }
    Ok(Some(candidates.swap_remove(best.0)))
}

/// The payload of the header list and the place of the first chunk after it. `None`: there is none.
fn header_list(medium: &Medium) -> Result<Option<(Vec<u8>, u64)>> {
    let mut at = 12;
    for _ in 0..MAX_CHUNKS_BEFORE_HEADERS {
        let mut header = [0; 12];
        if medium.read_at(at, &mut header)? < header.len() {
            break;
        }
        let bytes = u64::from(le32(&header, 4).unwrap_or(0));
        let after = at + 8 + bytes + bytes % 2;
        if header.starts_with(b"LIST") && header.ends_with(b"hdrl") {
            let mut headers = Vec::new();
            let whole =
                (4..=MAX_HEADER_BYTES).contains(&bytes) && medium.read(at + 12, bytes - 4, &mut headers)?;
            return Ok(whole.then_some((headers, after)));
        }
        at = after;
    }
    Ok(None)
}

/// The chunks that lie one after the other in `data`; a last one that claims too much is cut.
fn lists(data: &[u8]) -> impl Iterator<Item = (Letters, &[u8])> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let kind = *rest.first_chunk()?;
        let bytes = usize::try_from(le32(rest, 4)?).ok()?;
        let body = rest.get(8..)?;
        let chunk = body.get(..bytes.min(body.len()))?;
        rest = body.get(bytes.saturating_add(bytes % 2)..).unwrap_or_default();
        Some((kind, chunk))
    })
}

/// `strh` and `strf` of a video stream; `None` for other streams.
fn stream(list: &[u8]) -> Option<Stream> {
    let chunk = |wanted: &Letters| lists(list).find(|(kind, _)| kind == wanted).map(|(_, chunk)| chunk);
    let header = chunk(b"strh").filter(|header| header.starts_with(b"vids"))?;
    let format = chunk(b"strf")?;
    let (scale, rate) = (le32(header, 20)?, le32(header, 24)?);
    Some(Stream {
        codec: *format.get(16..)?.first_chunk()?,
        extra: format.get(BITMAP_INFO_BYTES..).unwrap_or_default().to_vec(),
        width: le32(format, 4)?,
        // Negative for pictures that are stored from the top.
        height: le32(format, 8)?.cast_signed().unsigned_abs(),
        fps: if scale > 0 { f64::from(rate) / f64::from(scale) } else { 0.0 },
        frames: le32(header, 32)?,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::capture::worker::clips::{assert_exact, asset, decode_all};
    use crate::capture::worker::file;

    #[test]
    fn motion_jpeg_with_sound_beside_it() {
        let mut source = file::open(&asset("clips/mjpeg.avi")).unwrap();
        let properties = source.properties();
        assert_eq!(
            (properties.width, properties.height, properties.total_frames, properties.fps),
            (64, 48, 10, 10.0)
        );
        let mut frames = 0;
        let decoded = decode_all(source.as_mut(), |picture| {
            assert_eq!((picture.width, picture.height), (64, 48));
            frames += 1;
        });
        assert_eq!((frames, decoded.unwrap().undecodable), (10, 0));
    }

    #[test]
    fn h264_in_avi_is_exact() {
        assert_exact("h264.avi", |_| {});
    }
}
