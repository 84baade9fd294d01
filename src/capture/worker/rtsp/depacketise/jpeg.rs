//! JPEG out of packets (RFC 2435): the headers are not sent, they are written here from what each packet
//! says.

use super::{Finished, MAX_UNIT_BYTES, Unit};
use crate::capture::worker::rtsp::rtp::Packet;
use crate::command::PacketLoss;

/// Profile of the header extension in which a first packet brings headers of the picture itself, for what RFC
/// 2435 cannot say: pictures of more than 2040 pixels, other tables (ONVIF Streaming Specification, "JPEG
/// over RTP"). It is the marker that begins a picture.
const OWN_HEADERS: u16 = 0xffd8;

/// Typical quantisation tables (ITU-T T.81 Annex K.1): luminance and chrominance, row by row.
#[rustfmt::skip]
const TYPICAL: [[u16; 64]; 2] = [
    [
        16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
        18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112,
        100, 103, 99,
    ],
    [
        17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
        99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    ],
];

/// Zigzag order: where the n-th coefficient stands in its block.
#[rustfmt::skip]
const ZIGZAG: [usize; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
    35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// Qualities above say that tables come in the packets.
const FIRST_DYNAMIC: u8 = 128;

/// A quality whose tables hold for one picture only.
const TABLES_OF_ONE_PICTURE: u8 = 255;

/// Pixels to which sides are counted.
const SIDE_UNIT: u32 = 8;

/// Two tables as they stand in the packet, and which of them have 16 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tables {
    precision: u8,
    data: Vec<u8>,
}

/// Makes pictures of fragments.
#[derive(Debug)]
pub(super) struct Assembler {
    /// What the session description says; for pictures too large for the packets to say.
    size: Option<(u32, u32)>,
    /// By quality less [`FIRST_DYNAMIC`].
    known: Vec<Option<Tables>>,
    picture: Vec<u8>,
    timestamp: u32,
    /// Bytes of scan data that must have come before the next fragment; `None`: no picture has begun.
    next: Option<u32>,
    damaged: bool,
    /// Pictures of which nobody said how large they are.
    sizeless: u32,
}

/// Headers of the picture itself: what a decoder needs of them.
#[derive(Default)]
struct OwnHeaders {
    /// Tables and frame header, as they came.
    segments: Vec<u8>,
    has_tables: bool,
    /// The numbers of the components in the frame header; empty: there is none.
    components: Vec<u8>,
}

impl OwnHeaders {
    /// Segments that make no sense, and what follows them, are left out.
    fn parse(mut rest: &[u8]) -> OwnHeaders {
        let mut own = OwnHeaders::default();
        while let [0xff, marker, after @ ..] = rest {
            // Bytes that fill up.
            if *marker == 0xff {
                rest = rest.get(1..).unwrap_or_default();
                continue;
            }
            let Some(&[l1, l2]) = after.first_chunk() else { break };
            let Some((segment, next)) = rest.split_at_checked(2 + usize::from(u16::from_be_bytes([l1, l2])))
            else {
                break;
            };
            match marker {
                0xc0..=0xc2 if own.components.is_empty() && segment.len() >= 10 => {
                    own.components = segment
                        .get(10..)
                        .unwrap_or_default()
                        .chunks_exact(3)
                        .map(|component| component[0])
                        .take(4)
                        .collect();
                }
                0xdb => own.has_tables = true,
                0xc4 | 0xdd => {}
                // Of the application; nothing else stands before a scan.
                0xe0..=0xef | 0xfe => {
                    rest = next;
                    continue;
                }
                _ => break,
            }
            own.segments.extend_from_slice(segment);
            rest = next;
        }
        own
    }
}

impl Assembler {
    pub(super) fn new(size: Option<(u32, u32)>) -> Assembler {
        Assembler {
            size,
            known: vec![None; 128],
            picture: Vec::new(),
            timestamp: 0,
            next: None,
            damaged: false,
            sizeless: 0,
        }
    }

    /// Pictures whose size stands nowhere: [`super::Depacketiser::sizeless`].
    pub(super) fn sizeless(&self) -> u32 {
        self.sizeless
    }

    pub(super) fn push(
        &mut self,
        packet: &Packet<'_>,
        missing: u32,
        out: &mut Finished,
    ) -> Result<(), PacketLoss> {
        if missing > 0 {
            self.damaged = true;
        }
        let refused = PacketLoss::Payload;
        let (&[_, o1, o2, o3, kind, quality, width, height], mut rest) =
            packet.payload.split_first_chunk::<8>().ok_or(refused)?;
        let offset = u32::from_be_bytes([0, o1, o2, o3]);
        let mut restart = 0;
        if (64..128).contains(&kind) {
            let (&[r1, r2, _, _], after) = rest.split_first_chunk::<4>().ok_or(refused)?;
            restart = u16::from_be_bytes([r1, r2]);
            rest = after;
        }
        if offset == 0 {
            self.next = None;
            let own = packet.extension.filter(|(profile, _)| *profile == OWN_HEADERS);
            let own = own.map(|(_, headers)| OwnHeaders::parse(headers)).unwrap_or_default();
            rest = self.begin(kind & 63, quality, (width, height), restart, &own, rest)?;
            (self.next, self.timestamp) = (Some(0), packet.timestamp);
        }
        if self.next != Some(offset)
            || packet.timestamp != self.timestamp
            || self.picture.len() + rest.len() > MAX_UNIT_BYTES
        {
            // Without what stands before it, a fragment is nothing.
            self.next = None;
            return Err(PacketLoss::Fragment);
        }
        self.picture.extend_from_slice(rest);
        self.next = Some(offset.saturating_add(u32::try_from(rest.len()).unwrap_or(u32::MAX)));
        if packet.marker {
            self.next = None;
            if !self.picture.ends_with(&[0xff, 0xd9]) {
                self.picture.extend_from_slice(&[0xff, 0xd9]);
            }
            let data = std::mem::replace(&mut self.picture, out.buffer());
            out.units.push_back(Unit {
                data,
                timestamp: packet.timestamp,
                damaged: std::mem::take(&mut self.damaged),
            });
        }
        Ok(())
    }

    /// Writes the headers of a picture; what follows the tables in its first packet.
    fn begin<'a>(
        &mut self,
        kind: u8,
        quality: u8,
        sides: (u8, u8),
        restart: u16,
        own: &OwnHeaders,
        rest: &'a [u8],
    ) -> Result<&'a [u8], PacketLoss> {
        let refused = PacketLoss::Payload;
        let (tables, rest) = self.tables(quality, rest)?;
        let described = own.components.is_empty().then(|| self.describe(kind, sides)).transpose()?;
        let out = &mut self.picture;
        out.clear();
        out.extend_from_slice(&[0xff, 0xd8]);
        out.extend_from_slice(&own.segments);
        let tables = match tables {
            Some(tables) => tables,
            None if own.has_tables => Tables { precision: 0, data: Vec::new() },
            None => return Err(refused),
        };
        let mut data = tables.data.as_slice();
        for number in (0..2_u8).filter(|_| !own.has_tables) {
            let wide = tables.precision >> number & 1;
            let length = if wide == 1 { 128 } else { 64 };
            // One table serves for both, where there is only one.
            let table = data.get(..length).or_else(|| tables.data.get(..length)).ok_or(refused)?;
            data = data.get(length..).unwrap_or_default();
            out.extend_from_slice(&[0xff, 0xdb, 0, if wide == 1 { 131 } else { 67 }, wide << 4 | number]);
            out.extend_from_slice(table);
        }
        if restart != 0 {
            let [high, low] = restart.to_be_bytes();
            out.extend_from_slice(&[0xff, 0xdd, 0, 4, high, low]);
        }
        let components = if let Some((width, height, luminance_sampling)) = described {
            let ([w1, w2], [h1, h2]) = (width.to_be_bytes(), height.to_be_bytes());
            out.extend_from_slice(&[0xff, 0xc0, 0, 17, 8, h1, h2, w1, w2, 3]);
            out.extend_from_slice(&[0, luminance_sampling, 0, 1, 0x11, 1, 2, 0x11, 1]);
            &[0, 1, 2]
        } else {
            own.components.as_slice()
        };
        // The decoder puts in the typical Huffman tables, which are meant where none came.
        let count = u8::try_from(components.len()).unwrap_or(0);
        out.extend_from_slice(&[0xff, 0xda, 0, 6 + 2 * count, count]);
        for (place, number) in components.iter().enumerate() {
            out.extend_from_slice(&[*number, if place == 0 { 0 } else { 0x11 }]);
        }
        out.extend_from_slice(&[0, 63, 0]);
        Ok(rest)
    }

    /// Width, height and the sampling of luminance, of what the packets say and the session description.
    fn describe(&mut self, kind: u8, sides: (u8, u8)) -> Result<(u16, u16, u8), PacketLoss> {
        let refused = PacketLoss::Payload;
        // Beyond 2040 pixels some count on from 0.
        let wraps = |(width, height): (u32, u32)| {
            let low = |side: u32| side.div_ceil(SIDE_UNIT).to_le_bytes()[0];
            (low(width), low(height)) == sides
        };
        let (width, height) = match (sides, self.size) {
            (_, Some(size)) if wraps(size) => size,
            ((1.., 1..), _) => (u32::from(sides.0) * SIDE_UNIT, u32::from(sides.1) * SIDE_UNIT),
            (_, Some(size)) => size,
            _ => {
                self.sizeless = self.sizeless.saturating_add(1);
                return Err(refused);
            }
        };
        let (Ok(width), Ok(height)) = (u16::try_from(width), u16::try_from(height)) else {
            return Err(refused);
        };
        match kind {
            0 => Ok((width, height, 0x21)),
            1 => Ok((width, height, 0x22)),
            _ => Err(refused),
        }
    }

    /// The tables, where there are any, and what follows them.
    fn tables<'a>(&mut self, quality: u8, rest: &'a [u8]) -> Result<(Option<Tables>, &'a [u8]), PacketLoss> {
        let refused = PacketLoss::Payload;
        let Some(index) = quality.checked_sub(FIRST_DYNAMIC) else {
            return if quality == 0 { Err(refused) } else { Ok((Some(scaled(quality)), rest)) };
        };
        let (&[_, precision, l1, l2], after) = rest.split_first_chunk::<4>().ok_or(refused)?;
        let (data, after) =
            after.split_at_checked(usize::from(u16::from_be_bytes([l1, l2]))).ok_or(refused)?;
        let known = self.known.get_mut(usize::from(index)).ok_or(refused)?;
        if data.is_empty() {
            return Ok((known.clone().filter(|_| quality != TABLES_OF_ONE_PICTURE), after));
        }
        let tables = Tables { precision, data: data.get(..data.len().min(256)).unwrap_or_default().to_vec() };
        *known = Some(tables.clone());
        Ok((Some(tables), after))
    }
}

/// The typical tables at a quality from 1 to 99 (RFC 2435 §4.2).
fn scaled(quality: u8) -> Tables {
    let quality = u16::from(quality.clamp(1, 99));
    let factor = if quality < 50 { 5000 / quality } else { 200 - quality * 2 };
    let mut data = Vec::with_capacity(128);
    for table in &TYPICAL {
        data.extend(ZIGZAG.iter().map(|&place| {
            let step = u32::from(table.get(place).copied().unwrap_or(1));
            u8::try_from(((step * u32::from(factor) + 50) / 100).clamp(1, 255)).unwrap_or(u8::MAX)
        }));
    }
    Tables { precision: 0, data }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::capture::worker::decode::jpeg_size;

    fn push(
        assembler: &mut Assembler,
        out: &mut Finished,
        marker: bool,
        payload: &[u8],
    ) -> Result<(), PacketLoss> {
        assembler.push(
            &Packet { kind: 26, marker, sequence: 0, timestamp: 1, sender: 1, extension: None, payload },
            0,
            out,
        )
    }

    #[test]
    fn headers_are_written_and_fragments_joined() {
        let (mut assembler, mut out) = (Assembler::new(None), Finished::default());
        push(&mut assembler, &mut out, false, &[0, 0, 0, 0, 1, 50, 8, 6, 1, 2, 3]).unwrap();
        push(&mut assembler, &mut out, true, &[0, 0, 0, 3, 1, 50, 8, 6, 4]).unwrap();
        let unit = out.units.pop_front().unwrap();
        assert_eq!(jpeg_size(&unit.data), Some((64, 48)));
        assert!(unit.data.ends_with(&[0, 1, 2, 3, 4, 0xff, 0xd9]) && !unit.damaged);
        // The typical luminance table itself is quality 50.
        assert_eq!(unit.data[2..10], [0xff, 0xdb, 0, 67, 0, 16, 11, 12]);
    }

    #[test]
    fn tables_are_remembered_by_quality() {
        let (mut assembler, mut out) = (Assembler::new(None), Finished::default());
        let head = [0, 0, 0, 0, 1, 200, 8, 6];
        assert_eq!(
            push(&mut assembler, &mut out, true, &[&head[..], &[0, 0, 0, 0, 9]].concat()),
            Err(PacketLoss::Payload)
        );
        push(&mut assembler, &mut out, true, &[&head[..], &[0, 0, 0, 128], &[5; 128], &[9]].concat())
            .unwrap();
        push(&mut assembler, &mut out, true, &[&head[..], &[0, 0, 0, 0, 9]].concat()).unwrap();
        assert_eq!(out.units[0], out.units[1]);
        // A single table, and one of 16 bits.
        push(&mut assembler, &mut out, true, &[&head[..], &[0, 0, 0, 64], &[5; 64], &[9]].concat()).unwrap();
        assert_eq!(out.units[2], out.units[1]);
        push(&mut assembler, &mut out, true, &[&head[..], &[0, 1, 0, 192], &[5; 192], &[9]].concat())
            .unwrap();
        assert_eq!(out.units[3].data[2..7], [0xff, 0xdb, 0, 131, 0x10]);
    }

    #[test]
    fn a_fragment_without_what_stands_before_it_is_nothing() {
        let (mut assembler, mut out) = (Assembler::new(None), Finished::default());
        assert_eq!(
            push(&mut assembler, &mut out, true, &[0, 0, 0, 9, 1, 50, 8, 6, 1]),
            Err(PacketLoss::Fragment)
        );
        push(&mut assembler, &mut out, false, &[0, 0, 0, 0, 1, 50, 8, 6, 1, 2]).unwrap();
        assert_eq!(
            push(&mut assembler, &mut out, true, &[0, 0, 0, 9, 1, 50, 8, 6, 1]),
            Err(PacketLoss::Fragment)
        );
        assert_eq!(push(&mut assembler, &mut out, true, &[0, 0, 0]), Err(PacketLoss::Payload));
        assert_eq!(
            push(&mut assembler, &mut out, true, &[0, 0, 0, 0, 9, 50, 8, 6, 1]),
            Err(PacketLoss::Payload)
        );
        assert!(out.units.is_empty());
    }

    #[test]
    fn headers_of_the_picture_itself_come_in_an_extension() {
        let application = [0xff, 0xe0, 0, 4, 1, 2, 0xff];
        let table = [&[0xff, 0xdb, 0, 67, 0][..], &[7; 64]].concat();
        // 4000 x 3000, gray, its component numbered 9.
        let frame = [0xff, 0xc0, 0, 11, 8, 0x0b, 0xb8, 0x0f, 0xa0, 1, 9, 0x11, 0];
        let headers = [&application[..], &table, &frame, &[0xff; 3]].concat();
        let (mut assembler, mut out) = (Assembler::new(None), Finished::default());
        let payload = [0, 0, 0, 0, 1, 255, 0, 0, 0, 0, 0, 0, 5];
        let extension = Some((OWN_HEADERS, headers.as_slice()));
        let packet = Packet {
            kind: 26,
            marker: true,
            sequence: 0,
            timestamp: 1,
            sender: 1,
            extension,
            payload: &payload,
        };
        assembler.push(&packet, 0, &mut out).unwrap();
        let scan = [0xff, 0xda, 0, 8, 1, 9, 0, 0, 63, 0, 5, 0xff, 0xd9];
        assert_eq!(out.units[0].data, [&[0xff, 0xd8][..], &table, &frame, &scan].concat());
        assert_eq!(jpeg_size(&out.units[0].data), Some((4000, 3000)));
        // Cut anywhere they are no headers, or fewer.
        for length in 0..headers.len() {
            let extension = Some((OWN_HEADERS, &headers[..length]));
            let _ = assembler.push(&Packet { extension, ..packet }, 0, &mut out);
        }
        assert!(assembler.sizeless() > 0);
    }

    #[test]
    fn sides_that_count_on_from_nothing_are_those_of_the_description() {
        let mut out = Finished::default();
        push(&mut Assembler::new(Some((2560, 1440))), &mut out, true, &[0, 0, 0, 0, 1, 50, 64, 180, 1])
            .unwrap();
        push(&mut Assembler::new(Some((2560, 1440))), &mut out, true, &[0, 0, 0, 0, 1, 50, 80, 60, 1])
            .unwrap();
        assert_eq!(jpeg_size(&out.units[0].data), Some((2560, 1440)));
        assert_eq!(jpeg_size(&out.units[1].data), Some((640, 480)));
    }

    #[test]
    fn sides_of_nothing_are_those_of_the_description() {
        let sideless = [0, 0, 0, 0, 1, 50, 0, 0, 1];
        let mut out = Finished::default();
        assert_eq!(push(&mut Assembler::new(None), &mut out, true, &sideless), Err(PacketLoss::Payload));
        push(&mut Assembler::new(Some((2560, 1440))), &mut out, true, &sideless).unwrap();
        assert_eq!(jpeg_size(&out.units[0].data), Some((2560, 1440)));
    }
}
