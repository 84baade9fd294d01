//! AVI, with one video stream read chunk by chunk; no index is needed for that. OpenDML files (several `RIFF`) too.

use super::mp4::NalFormat;
use super::{Medium, Rate, codec_missing, stream_facts};
use crate::capture::worker::decode::annexb::is_key;
use crate::capture::worker::decode::{AccessUnit, Codec, jpeg_size};
use crate::capture::worker::source::{Grab, Source};
use crate::command::SourceProperties;
use crate::error::{Error, Kind, Result};

/// Largest header list that is taken: honest ones, with super-indexes, stay below 64 KiB.
const MAX_HEADER_BYTES: u64 = 1024 * 1024;

/// Most chunks of other streams between two pictures.
const MAX_OTHER_CHUNKS: usize = 100_000;

/// Bytes of the picture format (BITMAPINFOHEADER).
const BITMAP_INFO_BYTES: usize = 40;

/// Four letters.
type Letters = [u8; 4];

/// An open AVI file.
pub(super) struct Avi {
    medium: Medium,
    codec: Codec,
    /// The two digits that its chunks begin with.
    stream: [u8; 2],
    properties: SourceProperties,
    /// Byte offset of the first chunk after the headers, and of the next one.
    first: u64,
    next: u64,
    /// `Some` where samples are cut as in MP4; else they are Annex B.
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
        let mut list = [0; 12];
        medium.read_at(12, &mut list)?;
        let bytes = u64::from(number(&list, 4).ok_or_else(damaged)?);
        let mut headers = Vec::new();
        let is_header_list = list.starts_with(b"LIST") && list.ends_with(b"hdrl");
        if !is_header_list || !(4..=MAX_HEADER_BYTES).contains(&bytes) || !medium.read(24, bytes - 4, &mut headers)? {
            return Err(damaged());
        }
        let found = lists(&headers).filter(|(kind, list)| kind == b"LIST" && list.starts_with(b"strl")).enumerate();
        let stream = found.filter_map(|(number, (_, list))| Some((number, stream(list.get(4..)?)?))).next();
        let (stream_number, stream) = stream.ok_or_else(|| Error::new(Kind::SourceUnsupported, "the AVI file holds no video"))?;
        let codec = match stream.codec.to_ascii_uppercase().as_slice() {
            b"MJPG" | b"JPEG" | b"AVRN" | b"LJPG" => Codec::Jpeg,
            b"H264" | b"X264" | b"AVC1" => Codec::H264,
            b"H265" | b"HEVC" | b"HEV1" | b"HVC1" => Codec::H265,
            other => return Err(codec_missing(&other.escape_ascii().to_string())),
        };
        // Such a record begins with its version, 1; parameter sets in Annex B begin with 0.
        let record = Some(stream.extra.as_slice()).filter(|extra| extra.first() == Some(&1));
        let nal = record.and_then(|record| match codec {
            Codec::H264 => NalFormat::from_avcc(record),
            Codec::H265 => NalFormat::from_hvcc(record),
            Codec::Jpeg => None,
        });
        let digits = u8::try_from(stream_number).ok().filter(|&number| number < 100).ok_or_else(damaged)?;
        let first = 20 + bytes + bytes % 2;
        let properties = medium.properties(stream.width, stream.height, Some(u64::from(stream.frames)), Rate(stream.fps));
        let stream = [b'0' + digits / 10, b'0' + digits % 10];
        let mut avi = Avi { medium, codec, stream, properties, first, next: first, nal, raw: Vec::new(), packet: Vec::new() };
        avi.size_of_first_picture()?;
        Ok(avi)
    }

    /// The stream's own size where it differs from the headers'.
    fn size_of_first_picture(&mut self) -> Result<()> {
        if self.advance()? {
            let size = match self.codec {
                Codec::Jpeg => jpeg_size(&self.packet),
                codec => stream_facts(codec, &self.packet).map(|facts| (facts.width, facts.height)),
            };
            if let Some((width, height)) = size {
                self.properties = SourceProperties { width, height, ..self.properties };
            }
        }
        self.restart()
    }

    /// Reads the next picture of the stream into `packet`. False: there is none.
    fn advance(&mut self) -> Result<bool> {
        for _ in 0..MAX_OTHER_CHUNKS {
            let mut header = [0; 8];
            if self.medium.read_at(self.next, &mut header)? < header.len() {
                return Ok(false);
            }
            let [a, b, c, d, ..] = header;
            let bytes = u64::from(number(&header, 4).unwrap_or(0));
            let data = self.next + 8;
            match [a, b, c, d] {
                // Their chunks are looked at one by one.
                kind if &kind == b"RIFF" || &kind == b"LIST" => {
                    let mut name = [0; 4];
                    self.medium.read_at(data, &mut name)?;
                    let inside = matches!(&name, b"movi" | b"rec " | b"AVIX");
                    self.next = if inside { data + 4 } else { data + bytes + bytes % 2 };
                }
                [x, y, b'd', b'c' | b'b'] if [x, y] == self.stream => {
                    self.next = data + bytes + bytes % 2;
                    // An empty chunk says that the picture before stays.
                    if bytes > 0 {
                        let whole = self.medium.read_packet(data, bytes, &mut self.raw)?;
                        self.unpack();
                        return Ok(whole);
                    }
                }
                _ => self.next = data + bytes + bytes % 2,
            }
        }
        Ok(false)
    }

    /// `raw` → `packet`.
    fn unpack(&mut self) {
        match &self.nal {
            None => std::mem::swap(&mut self.raw, &mut self.packet),
            Some(nal) => nal.to_key_or_other(self.codec, &self.raw, &mut self.packet),
        }
    }
}

impl Source for Avi {
    fn properties(&self) -> SourceProperties {
        self.properties
    }

    fn grab(&mut self) -> Result<Grab<'_>> {
        if !self.advance()? {
            return Ok(Grab::End);
        }
        let data = &self.packet;
        Ok(Grab::Packet(self.codec, AccessUnit { data, key: is_key(self.codec, data), shown: true }))
    }

    fn restart(&mut self) -> Result<()> {
        self.next = self.first;
        Ok(())
    }
}

/// Little-endian number at a byte offset.
fn number(data: &[u8], at: usize) -> Option<u32> {
    data.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

/// The chunks that lie one after the other in `data`; a last one that claims too much is cut.
fn lists(data: &[u8]) -> impl Iterator<Item = (Letters, &[u8])> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let kind = *rest.first_chunk()?;
        let bytes = usize::try_from(number(rest, 4)?).ok()?;
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
    let (scale, rate) = (number(header, 20)?, number(header, 24)?);
    Some(Stream {
        codec: *format.get(16..)?.first_chunk()?,
        extra: format.get(BITMAP_INFO_BYTES..).unwrap_or_default().to_vec(),
        width: number(format, 4)?,
        // Negative for pictures that are stored from the top.
        height: number(format, 8)?.cast_signed().unsigned_abs(),
        fps: if scale > 0 { f64::from(rate) / f64::from(scale) } else { 0.0 },
        frames: number(header, 32)?,
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
        assert_eq!((properties.width, properties.height, properties.total_frames, properties.fps), (64, 48, 10, 10.0));
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
