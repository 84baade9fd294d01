//! The tables of a transport stream: which programs there are, and what each is made of (§2.4.4).

use super::codec_of;
use crate::capture::worker::decode::Codec;
use crate::capture::worker::file::number::be16;
use crate::error::Error;

/// Longest section, bytes (§2.4.4.9: 1021 after its first three).
const MAX_SECTION_BYTES: usize = 1024;

/// Most programs of a stream that are looked at: a satellite's transponder has twenty.
const MAX_PROGRAMS: usize = 64;

/// One table's section, put together from packets.
#[derive(Debug, Default)]
pub(super) struct Section {
    data: Vec<u8>,
    in_progress: bool,
}

impl Section {
    /// A packet's payload. The section, once it is whole.
    fn take(&mut self, begins: bool, payload: &[u8]) -> Option<&[u8]> {
        let mut payload = payload;
        if begins {
            // A pointer to where the section begins, after the end of the one before.
            payload = payload.get(1 + usize::from(*payload.first()?)..)?;
            self.data.clear();
            self.in_progress = true;
        }
        if !self.in_progress {
            return None;
        }
        let room = MAX_SECTION_BYTES.saturating_sub(self.data.len());
        self.data.extend_from_slice(payload.get(..room.min(payload.len()))?);
        let whole = 3 + usize::from(be16(&self.data, 1)? & 0xfff);
        if self.data.len() < whole {
            self.in_progress = self.data.len() < MAX_SECTION_BYTES;
            return None;
        }
        self.in_progress = false;
        self.data.get(..whole)
    }
}

/// What the tables have said so far.
#[derive(Debug, Default)]
pub(super) struct Tables {
    programs: Section,
    /// Packet ids of the program maps, in their order, and what they say.
    maps: Vec<(u16, Section, Option<Map>)>,
}

/// What a program map says of the videos.
#[derive(Debug, Default)]
struct Map {
    videos: Vec<(u16, Codec)>,
    /// Of the first that we cannot decode.
    problem: Option<Error>,
}

impl Tables {
    const PROGRAMS_PID: u16 = 0;

    /// A packet of any kind.
    pub(super) fn take(&mut self, pid: u16, begins: bool, payload: &[u8]) {
        if pid == Self::PROGRAMS_PID {
            if let Some(section) = self.programs.take(begins, payload) {
                for pid in map_pids(section) {
                    if self.maps.len() < MAX_PROGRAMS && !self.maps.iter().any(|(known, ..)| *known == pid) {
                        self.maps.push((pid, Section::default(), None));
                    }
                }
            }
        } else if let Some((_, section, map)) = self.maps.iter_mut().find(|(known, ..)| *known == pid)
            && let Some(section) = section.take(begins, payload)
            && let Some(read) = read_map(section)
        {
            *map = Some(read);
        }
    }

    /// All videos that we can decode, program by program.
    pub(super) fn videos(&self) -> impl Iterator<Item = (u16, Codec)> {
        self.maps.iter().filter_map(|(.., map)| map.as_ref()).flat_map(|map| &map.videos).copied()
    }

    /// Why there is none, where a program has video that we cannot decode.
    pub(super) fn into_problem(self) -> Option<Error> {
        self.maps.into_iter().find_map(|(.., map)| map?.problem)
    }
}

/// The program maps that a section of the program association names.
fn map_pids(section: &[u8]) -> impl Iterator<Item = u16> {
    const TABLE_ID: u8 = 0;
    let entries =
        section.get(8..section.len().saturating_sub(4)).filter(|_| section.first() == Some(&TABLE_ID));
    let entries = entries.unwrap_or_default().as_chunks::<4>().0;
    // Program 0 is the network's own table.
    entries
        .iter()
        .filter(|entry| entry[..2] != [0, 0])
        .map(|entry| u16::from_be_bytes([entry[2] & 0x1f, entry[3]]))
}

/// The videos of a program map. `None`: no program map.
fn read_map(section: &[u8]) -> Option<Map> {
    const TABLE_ID: u8 = 2;
    const REGISTRATION: u8 = 5;
    let body = section.get(..section.len().checked_sub(4)?).filter(|_| section.first() == Some(&TABLE_ID))?;
    let mut rest = body.get(12 + usize::from(be16(body, 10)? & 0xfff)..)?;
    let mut map = Map::default();
    while let Some([stream_type, pid_high, pid_low, length_high, length_low]) = rest.first_chunk().copied() {
        let length = usize::from(u16::from_be_bytes([length_high & 15, length_low]));
        let descriptors = rest.get(5..5 + length)?;
        rest = rest.get(5 + length..)?;
        let registration = descriptor(descriptors, REGISTRATION).and_then(|data| data.get(..4));
        match codec_of(stream_type, registration) {
            Ok(Some(codec)) => map.videos.push((u16::from_be_bytes([pid_high & 0x1f, pid_low]), codec)),
            Ok(None) => {}
            Err(error) => _ = map.problem.get_or_insert(error),
        }
    }
    Some(map)
}

/// The payload of the first descriptor with that tag: `tag:u8 length:u8 payload`.
fn descriptor(mut data: &[u8], tag: u8) -> Option<&[u8]> {
    loop {
        let [this, length] = *data.first_chunk()?;
        let payload = data.get(2..2 + usize::from(length))?;
        if this == tag {
            return Some(payload);
        }
        data = data.get(2 + usize::from(length)..)?;
    }
}
