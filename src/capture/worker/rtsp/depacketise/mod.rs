//! Packets → access units: H.264 (RFC 6184), H.265 (RFC 7798), JPEG (RFC 2435).
//!
//! Not retina's: its depacketisers end a session at the first packet that breaks a rule, and have no bound on
//! what a server makes them keep. Here a packet that cannot be used costs itself, by name, and a unit has a
//! largest size.

mod h26x;
mod jpeg;

use super::rtp::Packet;
use super::sdp::Media;
use crate::capture::worker::decode::{Codec, H264Parameters, H265Parameters, jpeg_size};
use crate::command::PacketLoss;
use std::collections::VecDeque;

/// Largest access unit, bytes: more than any camera's, as for parts of Motion JPEG. With what waits, below 48
/// MiB.
pub(super) const MAX_UNIT_BYTES: usize = 16 * 1024 * 1024;

/// Buffers that are kept to be used again.
const MAX_SPARE: usize = 2;

/// Largest of them, bytes: a key frame of 4K. Larger ones are rare, or no pictures.
const MAX_SPARE_BYTES: usize = 4 * 1024 * 1024;

/// The coded data of one picture.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Unit {
    /// Annex B, or one JPEG.
    pub(super) data: Vec<u8>,
    /// RTP's, which counts at the media's clock rate.
    pub(super) timestamp: u32,
    /// Packets of it, or between it and the unit before, never came.
    pub(super) damaged: bool,
}

/// What a stream says of its pictures.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    /// Pixels.
    pub(super) width: u32,
    /// Pixels.
    pub(super) height: u32,
    /// Frames per second; `None`: it does not say.
    pub(super) fps: Option<f64>,
}

/// Units that are complete, and buffers that no longer are any.
#[derive(Debug, Default)]
struct Finished {
    units: VecDeque<Unit>,
    spare: Vec<Vec<u8>>,
}

impl Finished {
    fn buffer(&mut self) -> Vec<u8> {
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer
    }
}

/// Makes units of packets.
pub(super) struct Depacketiser {
    codec: Codec,
    assembler: Assembler,
    finished: Finished,
}

/// Boxed: both have tables.
enum Assembler {
    H26x(Box<h26x::Assembler>),
    Jpeg(Box<jpeg::Assembler>),
}

impl Depacketiser {
    pub(super) fn new(media: &Media) -> Depacketiser {
        let assembler = match media.codec {
            Codec::Jpeg => Assembler::Jpeg(Box::new(jpeg::Assembler::new(media.size))),
            codec => Assembler::H26x(Box::new(h26x::Assembler::new(codec, media.parameters.clone()))),
        };
        Depacketiser { codec: media.codec, assembler, finished: Finished::default() }
    }

    /// Takes a packet, the next in order, before which so many are missing.
    ///
    /// Errors: the packet, or a part of it, cannot be used; what it spoils is marked in its unit.
    pub(super) fn push(&mut self, packet: &Packet<'_>, missing: u32) -> Result<(), PacketLoss> {
        match &mut self.assembler {
            Assembler::H26x(assembler) => assembler.push(packet, missing, &mut self.finished),
            Assembler::Jpeg(assembler) => assembler.push(packet, missing, &mut self.finished),
        }
    }

    /// Pictures that went unused because nobody said how large they are.
    pub(super) fn sizeless(&self) -> u32 {
        match &self.assembler {
            Assembler::H26x(_) => 0,
            Assembler::Jpeg(assembler) => assembler.sizeless(),
        }
    }

    /// The next unit that is complete.
    pub(super) fn pop(&mut self) -> Option<Unit> {
        self.finished.units.pop_front()
    }

    /// Whether a unit is complete.
    pub(super) fn has_unit(&self) -> bool {
        !self.finished.units.is_empty()
    }

    /// How many units are complete.
    pub(super) fn units(&self) -> usize {
        self.finished.units.len()
    }

    /// Takes a unit's buffer back.
    pub(super) fn recycle(&mut self, buffer: Vec<u8>) {
        if self.finished.spare.len() < MAX_SPARE && buffer.capacity() <= MAX_SPARE_BYTES {
            self.finished.spare.push(buffer);
        }
    }

    /// What a unit says of the pictures, or parameters do; `None`: neither says how large they are.
    pub(super) fn facts(&self, unit: Option<&Unit>) -> Option<Facts> {
        let data = unit.map(|unit| unit.data.as_slice()).unwrap_or_default();
        let parameters: &[u8] = match &self.assembler {
            Assembler::H26x(assembler) => assembler.parameters(),
            Assembler::Jpeg(_) => &[],
        };
        match self.codec {
            Codec::H264 => {
                let sps = H264Parameters::find(data).or_else(|| H264Parameters::find(parameters))?;
                Some(Facts { width: sps.width, height: sps.height, fps: sps.fps })
            }
            Codec::H265 => {
                let sps = H265Parameters::find(data).or_else(|| H265Parameters::find(parameters))?;
                Some(Facts { width: sps.width, height: sps.height, fps: sps.fps })
            }
            _ => jpeg_size(data).map(|(width, height)| Facts { width, height, fps: None }),
        }
    }
}
