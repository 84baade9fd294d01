//! NAL units out of packets, and access units out of NAL units.
//!
//! Where a unit ends, three things say: the marker of its last packet, the time stamp of the next one, and
//! the next one's first slice. Cameras get each of them wrong. The marker is believed, because it costs no
//! delay, until a slice of the same picture follows one; the other two always hold.

use super::{Finished, MAX_UNIT_BYTES, Unit};
use crate::capture::worker::decode::Codec;
use crate::capture::worker::decode::annexb::{START_CODE, h264_type, h265_type, nal_units, start_code};
use crate::capture::worker::decode::{Part, random_access};
use crate::capture::worker::rtsp::rtp::Packet;
use crate::command::PacketLoss;

/// Largest set of parameters that is kept, bytes. Honest ones stay below 1 KiB.
const MAX_PARAMETER_BYTES: usize = 64 * 1024;

/// Makes access units of H.264 or H.265 out of the packets of one stream.
#[derive(Debug)]
pub(super) struct Assembler {
    codec: Codec,
    /// Parameter sets in Annex B: of the session description, then of the stream.
    parameters: Vec<u8>,
    /// A unit has been given out since what was given last can have been lost.
    primed: bool,
    unit: Vec<u8>,
    timestamp: u32,
    /// The unit holds a slice.
    has_picture: bool,
    damaged: bool,
    fragment: Fragment,
    /// The last unit was ended by its marker.
    marked: bool,
    /// A marker has stood in the middle of a picture.
    markers_lie: bool,
    /// The unit has passed its largest size: the rest of it is thrown away.
    overflown: bool,
}

/// A NAL unit that comes in pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fragment {
    None,
    /// It begins here in the unit.
    Open(usize),
    /// Its beginning never came, or a piece is missing: what follows of it is of no use.
    Broken,
}

/// What a payload holds (RFC 6184 §5.2, RFC 7798 §4.4).
enum Payload<'a> {
    Single,
    Aggregate(&'a [u8]),
    Fragment { start: bool, end: bool, header: [u8; 2], piece: &'a [u8] },
}

impl Assembler {
    pub(super) fn new(codec: Codec, parameters: Vec<u8>) -> Assembler {
        Assembler {
            codec,
            parameters,
            primed: false,
            unit: Vec::new(),
            timestamp: 0,
            has_picture: false,
            damaged: false,
            fragment: Fragment::None,
            marked: false,
            markers_lie: false,
            overflown: false,
        }
    }

    pub(super) fn parameters(&self) -> &[u8] {
        &self.parameters
    }

    pub(super) fn push(
        &mut self,
        packet: &Packet<'_>,
        missing: u32,
        out: &mut Finished,
    ) -> Result<(), PacketLoss> {
        if missing > 0 {
            self.spoil_fragment();
            self.damaged = true;
        }
        if packet.timestamp != self.timestamp {
            if self.has_picture {
                self.spoil_fragment();
                self.finish(out);
            }
            self.marked = false;
            self.overflown = false;
            self.timestamp = packet.timestamp;
        }
        let taken = self.take(packet.payload, out);
        if packet.marker && self.fragment == Fragment::None && !self.markers_lie && self.has_picture {
            self.finish(out);
            self.marked = true;
        }
        if packet.marker && self.fragment == Fragment::Broken {
            self.fragment = Fragment::None;
        }
        taken
    }

    fn take(&mut self, payload: &[u8], out: &mut Finished) -> Result<(), PacketLoss> {
        match self.read(payload)? {
            Payload::Single => {
                self.end_fragment();
                self.nal(payload, out)
            }
            Payload::Aggregate(mut rest) => {
                self.end_fragment();
                let mut taken = Ok(());
                while let Some((length, after)) = rest.split_first_chunk::<2>() {
                    let length = usize::from(u16::from_be_bytes(*length));
                    let Some((nal, after)) = after.split_at_checked(length) else {
                        return Err(PacketLoss::Payload);
                    };
                    taken =
                        taken.and(if nal.is_empty() { Err(PacketLoss::Payload) } else { self.nal(nal, out) });
                    rest = after;
                }
                taken
            }
            Payload::Fragment { start, end, header, piece } => self.piece(start, end, header, piece, out),
        }
    }

    fn read<'a>(&self, payload: &'a [u8]) -> Result<Payload<'a>, PacketLoss> {
        let refused = PacketLoss::Payload;
        if start_code(payload.get(..4).unwrap_or(payload)).is_some() {
            return Ok(Payload::Single);
        }
        match self.codec {
            Codec::H265 => {
                let (&[first, second], rest) = payload.split_first_chunk::<2>().ok_or(refused)?;
                match h265_type(payload) {
                    // Not 41..=47 (reserved) nor what stands for nothing from 50 on.
                    0..=40 if !rest.is_empty() => Ok(Payload::Single),
                    48 if !rest.is_empty() => Ok(Payload::Aggregate(rest)),
                    49 => {
                        let (&head, piece) = rest.split_first().ok_or(refused)?;
                        let header = [first & 0x81 | (head & 0x3f) << 1, second];
                        Ok(Payload::Fragment {
                            start: head & 0x80 != 0,
                            end: head & 0x40 != 0,
                            header,
                            piece,
                        })
                    }
                    _ => Err(refused),
                }
            }
            _ => {
                let (&first, rest) = payload.split_first().ok_or(refused)?;
                match first & 0x1f {
                    1..=23 if !rest.is_empty() => Ok(Payload::Single),
                    24 if !rest.is_empty() => Ok(Payload::Aggregate(rest)),
                    28 => {
                        let (&head, piece) = rest.split_first().ok_or(refused)?;
                        let header = [first & 0xe0 | head & 0x1f, 0];
                        Ok(Payload::Fragment {
                            start: head & 0x80 != 0,
                            end: head & 0x40 != 0,
                            header,
                            piece,
                        })
                    }
                    _ => Err(refused),
                }
            }
        }
    }

    fn header_bytes(&self) -> usize {
        if self.codec == Codec::H265 { 2 } else { 1 }
    }

    fn piece(
        &mut self,
        start: bool,
        end: bool,
        header: [u8; 2],
        piece: &[u8],
        out: &mut Finished,
    ) -> Result<(), PacketLoss> {
        let mut lost = Ok(());
        if start {
            if matches!(self.fragment, Fragment::Open(_)) {
                // Its end never came.
                self.spoil_fragment();
                lost = Err(PacketLoss::Fragment);
            }
            // What the kind of a unit is judged by: the header and the first byte after it.
            let after = piece.first().copied().unwrap_or(0);
            self.begin(&[header[0], if self.codec == Codec::H265 { header[1] } else { after }, after], out);
            self.fragment = Fragment::Open(self.unit.len());
            let header = header.get(..self.header_bytes()).unwrap_or_default();
            self.append(&START_CODE);
            self.append(header);
        }
        match self.fragment {
            Fragment::Open(at) => {
                self.append(piece);
                if end {
                    self.fragment = Fragment::None;
                    self.complete(at + START_CODE.len(), out);
                }
                lost
            }
            Fragment::Broken => {
                if end {
                    self.fragment = Fragment::None;
                }
                Err(PacketLoss::Fragment)
            }
            Fragment::None => {
                // Neither begun nor known to be broken: its beginning is missing though no number is.
                self.damaged = true;
                if !end {
                    self.fragment = Fragment::Broken;
                }
                Err(PacketLoss::Fragment)
            }
        }
    }

    /// A whole NAL unit, or several between start codes.
    fn nal(&mut self, nal: &[u8], out: &mut Finished) -> Result<(), PacketLoss> {
        if start_code(nal.get(..4).unwrap_or(nal)).is_some() {
            let mut taken = Err(PacketLoss::Payload);
            for unit in nal_units(nal) {
                taken = self.nal(unit, out).or(taken);
            }
            return taken;
        }
        if !self.has_meaning(nal) {
            return Err(PacketLoss::Payload);
        }
        self.begin(nal.get(..3).unwrap_or(nal), out);
        let at = self.unit.len();
        self.append(&START_CODE);
        self.append(nal);
        self.complete(at + START_CODE.len(), out);
        Ok(())
    }

    fn has_meaning(&self, nal: &[u8]) -> bool {
        match self.codec {
            Codec::H265 => nal.len() > 2 && (0..=40).contains(&h265_type(nal)),
            _ => nal.len() > 1 && (1..=23).contains(&h264_type(nal)),
        }
    }

    /// A NAL unit begins with these bytes: it may be the first of the next access unit.
    fn begin(&mut self, first: &[u8], out: &mut Finished) {
        let part = Part::of(self.codec, first);
        if part != Part::Continues {
            if self.has_picture {
                self.finish(out);
            }
            self.overflown = false;
        } else if self.marked && !self.has_picture && self.is_slice(first) && !self.damaged {
            // A further slice of the picture that the marker ended.
            self.markers_lie = true;
        }
        if part == Part::BeginsPicture {
            self.has_picture = true;
        }
        if self.is_slice(first) {
            self.has_picture = true;
            self.marked = false;
        }
    }

    fn is_slice(&self, nal: &[u8]) -> bool {
        match self.codec {
            Codec::H265 => h265_type(nal) < 32,
            _ => (1..=5).contains(&h264_type(nal)),
        }
    }

    /// A NAL unit lies whole in the unit, from `at` on. Some servers put a whole access unit where one NAL
    /// unit belongs.
    fn complete(&mut self, at: usize, out: &mut Finished) {
        let nal = self.unit.get(at..).unwrap_or_default();
        if self.overflown || self.is_slice(nal) || start_code(nal).is_none() {
            return;
        }
        let all = [&START_CODE, nal].concat();
        self.unit.truncate(at - START_CODE.len());
        for nal in nal_units(&all).filter(|nal| self.has_meaning(nal)).map(<[u8]>::to_vec).collect::<Vec<_>>()
        {
            self.begin(nal.get(..3).unwrap_or(&nal), out);
            self.append(&START_CODE);
            self.append(&nal);
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        if self.overflown || self.unit.len() + bytes.len() > MAX_UNIT_BYTES {
            self.overflown = true;
            self.damaged = true;
            self.has_picture = false;
            self.fragment = if self.fragment == Fragment::None { Fragment::None } else { Fragment::Broken };
            self.unit = Vec::new();
            return;
        }
        self.unit.extend_from_slice(bytes);
    }

    /// What came of an unfinished NAL unit is thrown away.
    fn spoil_fragment(&mut self) {
        if let Fragment::Open(at) = self.fragment {
            self.unit.truncate(at);
            self.damaged = true;
            self.fragment = Fragment::Broken;
        }
    }

    /// Something else than a fragment came.
    fn end_fragment(&mut self) {
        self.spoil_fragment();
        self.fragment = Fragment::None;
    }

    /// The unit is complete.
    fn finish(&mut self, out: &mut Finished) {
        self.has_picture = false;
        let whole = std::mem::replace(&mut self.unit, out.buffer());
        let damaged = std::mem::take(&mut self.damaged);
        if nal_units(&whole).all(|nal| !self.is_slice(nal)) {
            // All of its slices were spoilt.
            self.damaged |= damaged;
            out.spare.push(whole);
            return;
        }
        let own = self.own_parameters(&whole);
        let mut unit = Unit { data: whole, timestamp: self.timestamp, damaged };
        match own {
            Some(own) => self.parameters = own,
            None if !self.parameters.is_empty()
                && (!self.primed || random_access(self.codec, &unit.data).is_some()) =>
            {
                unit.data.splice(0..0, self.parameters.iter().copied());
            }
            None => {}
        }
        self.primed = true;
        out.units.push_back(unit);
    }

    /// The parameter sets in a unit that has a sequence parameter set.
    fn own_parameters(&self, unit: &[u8]) -> Option<Vec<u8>> {
        let mut own = Vec::new();
        let mut has_sequence = false;
        for nal in nal_units(unit) {
            let (parameters, sequence) = match self.codec {
                Codec::H265 => ((32..=34).contains(&h265_type(nal)), h265_type(nal) == 33),
                _ => (matches!(h264_type(nal), 7 | 8 | 13 | 15), h264_type(nal) == 7),
            };
            if self.is_slice(nal) {
                break;
            }
            if parameters && own.len() + nal.len() <= MAX_PARAMETER_BYTES {
                own.extend_from_slice(&START_CODE);
                own.extend_from_slice(nal);
                has_sequence |= sequence;
            }
        }
        has_sequence.then_some(own)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SPS: [u8; 3] = [0x67, 1, 2];
    const PPS: [u8; 3] = [0x68, 3, 4];
    /// First slices of pictures: `first_mb_in_slice` is 0.
    const IDR: [u8; 4] = [0x65, 0x88, 5, 6];
    const P: [u8; 4] = [0x41, 0x9a, 7, 8];
    /// A slice of the same picture as `P` that is not its first.
    const P2: [u8; 4] = [0x41, 0x1a, 7, 8];

    struct Stream {
        assembler: Assembler,
        out: Finished,
        refused: Vec<PacketLoss>,
    }

    impl Stream {
        fn new(codec: Codec, parameters: &[&[u8]]) -> Stream {
            let assembler = Assembler::new(codec, annexb(parameters));
            Stream { assembler, out: Finished::default(), refused: Vec::new() }
        }

        fn push(&mut self, timestamp: u32, marker: bool, payload: &[u8]) -> &mut Self {
            self.push_after(0, timestamp, marker, payload)
        }

        fn push_after(&mut self, missing: u32, timestamp: u32, marker: bool, payload: &[u8]) -> &mut Self {
            let packet =
                Packet { kind: 96, marker, sequence: 0, timestamp, sender: 1, extension: None, payload };
            self.refused.extend(self.assembler.push(&packet, missing, &mut self.out).err());
            self
        }

        fn units(&mut self) -> Vec<Unit> {
            self.out.units.drain(..).collect()
        }
    }

    fn annexb(nals: &[&[u8]]) -> Vec<u8> {
        nals.iter().flat_map(|nal| [&START_CODE, *nal].concat()).collect()
    }

    fn whole(timestamp: u32, nals: &[&[u8]]) -> Unit {
        Unit { data: annexb(nals), timestamp, damaged: false }
    }

    #[test]
    fn units_end_at_the_marker_at_another_time_and_at_the_next_picture() {
        let mut stream = Stream::new(Codec::H264, &[]);
        stream.push(1, false, &SPS).push(1, false, &PPS).push(1, true, &IDR).push(2, true, &P);
        assert_eq!(stream.units(), [whole(1, &[&SPS, &PPS, &IDR]), whole(2, &[&P])]);
        stream.push(3, false, &P).push(4, false, &P).push(5, false, &P);
        assert_eq!(stream.units(), [whole(3, &[&P]), whole(4, &[&P])]);
        let mut frozen = Stream::new(Codec::H264, &[]);
        frozen.push(0, false, &IDR).push(0, false, &P).push(0, false, &P2).push(0, false, &SPS);
        assert_eq!(frozen.units(), [whole(0, &[&IDR]), whole(0, &[&P, &P2])]);
        assert_eq!(frozen.refused, []);
    }

    #[test]
    fn a_marker_on_every_packet_is_soon_no_longer_believed() {
        let mut stream = Stream::new(Codec::H264, &[]);
        for time in 1..5 {
            stream.push(time, true, &P).push(time, true, &P2);
        }
        let units = stream.units();
        assert_eq!(units[0], whole(1, &[&P]), "nobody can know yet");
        assert_eq!(units[2..], [whole(2, &[&P, &P2]), whole(3, &[&P, &P2])]);
    }

    #[test]
    fn fragments_and_what_is_missing_of_them() {
        let mut stream = Stream::new(Codec::H264, &[]);
        let (start, middle, end) = ([0x7c, 0x85, 0x88], [0x7c, 0x05, 9], [0x7c, 0x45, 10]);
        stream
            .push(1, false, &start)
            .push(1, false, &[0x7c, 0x05])
            .push(1, false, &middle)
            .push(1, true, &end);
        assert_eq!(stream.units(), [whole(1, &[&[0x65, 0x88, 9, 10]])]);
        assert_eq!(stream.refused, []);
        // Without a beginning; without an end; with another in between.
        stream.push(2, false, &middle).push(2, true, &end).push(3, true, &P);
        assert_eq!(stream.units(), [Unit { damaged: true, ..whole(3, &[&P]) }]);
        stream.push(4, false, &start).push(4, false, &middle).push(5, true, &P);
        assert_eq!(stream.units(), [Unit { damaged: true, ..whole(5, &[&P]) }]);
        stream.push(6, false, &start).push(6, false, &P).push(6, true, &end);
        assert_eq!(stream.units(), [Unit { damaged: true, ..whole(6, &[&P]) }]);
        stream.push(7, false, &start).push(7, false, &start).push(7, true, &end);
        assert_eq!(stream.units(), [Unit { damaged: true, ..whole(7, &[&[0x65, 0x88, 10]]) }]);
        assert!(
            stream.refused.iter().all(|cause| *cause == PacketLoss::Fragment) && stream.refused.len() == 4
        );
        stream.push_after(2, 8, false, &start).push_after(1, 8, true, &end).push(9, true, &P);
        assert_eq!(stream.units(), [Unit { damaged: true, ..whole(9, &[&P]) }]);
    }

    #[test]
    fn what_has_no_meaning_costs_itself() {
        let mut stream = Stream::new(Codec::H264, &[]);
        for odd in [
            &[][..],
            &[0x1f, 1],
            &[0x00, 1],
            &[0x19, 1, 1],
            &[0x1d, 1],
            &[0x18],
            &[0x18, 0, 9, 1],
            &[0x78, 0, 0],
            &[0x41],
            &[0x7c],
        ] {
            stream.push(1, false, odd);
        }
        assert_eq!(stream.refused.len(), 10);
        stream.push(1, true, &P);
        assert_eq!(stream.units(), [whole(1, &[&P])]);
        // The good ones of an aggregate are taken.
        stream.push(2, true, &[&[0x78, 0, 4][..], &P, &[0, 2, 0x1f, 1]].concat());
        assert_eq!(stream.units(), [whole(2, &[&P])]);
    }

    #[test]
    fn parameter_sets_of_the_description_until_the_stream_has_its_own() {
        let mut stream = Stream::new(Codec::H264, &[&SPS, &PPS]);
        stream.push(1, true, &P).push(2, true, &IDR).push(3, true, &P);
        assert_eq!(
            stream.units(),
            [whole(1, &[&SPS, &PPS, &P]), whole(2, &[&SPS, &PPS, &IDR]), whole(3, &[&P])]
        );
        let other = [0x67, 9, 9];
        stream.push(4, false, &other).push(4, false, &PPS).push(4, true, &IDR).push(5, true, &IDR);
        assert_eq!(stream.units(), [whole(4, &[&other, &PPS, &IDR]), whole(5, &[&other, &PPS, &IDR])]);
    }

    #[test]
    fn whole_access_units_where_one_nal_unit_belongs() {
        let mut stream = Stream::new(Codec::H264, &[]);
        let glued = [&SPS[..], &START_CODE, &PPS, &START_CODE, &IDR].concat();
        let expected = [whole(1, &[&SPS, &PPS, &IDR])];
        stream.push(1, true, &glued);
        assert_eq!(stream.units(), expected);
        stream.push(1, true, &[&START_CODE, &glued[..]].concat());
        assert_eq!(stream.units(), expected);
        let (first, second) = glued.split_at(5);
        stream.push(1, false, &[&[0x7c, 0x87], &first[1..]].concat()).push(
            1,
            true,
            &[&[0x7c, 0x47], second].concat(),
        );
        assert_eq!(stream.units(), expected);
    }

    #[test]
    fn h265_aggregates_and_fragments() {
        let mut stream = Stream::new(Codec::H265, &[]);
        let (vps, sps, pps) = ([0x40, 1, 1], [0x42, 1, 2], [0x44, 1, 3]);
        let (idr, p) = ([0x26, 1, 0x80, 4], [0x02, 1, 0x80, 5]);
        let aggregate = [&[0x60, 1, 0, 3][..], &vps, &[0, 3], &sps, &[0, 3], &pps].concat();
        stream.push(1, false, &aggregate).push(1, false, &[0x62, 1, 0x93, 0x80]).push(
            1,
            true,
            &[0x62, 1, 0x53, 4],
        );
        stream.push(2, true, &p).push(3, false, &[0x7e, 1, 0]).push(3, false, &[0x26]).push(3, true, &p);
        assert_eq!(stream.units(), [whole(1, &[&vps, &sps, &pps, &idr]), whole(2, &[&p]), whole(3, &[&p])]);
        assert_eq!(stream.refused, [PacketLoss::Payload; 2]);
    }

    #[test]
    fn a_unit_has_a_largest_size_and_the_next_one_comes() {
        let mut stream = Stream::new(Codec::H264, &[]);
        let piece = [&[0x7c, 0x05][..], &[7; 60_000]].concat();
        stream.push(1, false, &[0x7c, 0x85, 0x88]);
        for _ in 0..400 {
            stream.push(1, false, &piece);
        }
        assert!(stream.assembler.unit.len() <= MAX_UNIT_BYTES && stream.units().is_empty());
        stream.push(2, true, &P);
        assert_eq!(stream.units(), [Unit { damaged: true, ..whole(2, &[&P]) }]);
    }
}
