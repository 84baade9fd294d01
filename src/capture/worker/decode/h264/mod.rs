//! H.264. `rusty_h264-decoder` does the common case (4:2:0, 8 bit, frames); `rust_h264`, half as fast, does what that one refuses:
//! fields, 10 bit, 4:2:2, gray, explicit weights. Which of them, the parameter sets say before the first picture.

mod fallback;
mod sps;

pub(crate) use sps::Sps;

use super::annexb::{h264_type, nal_units};
use super::decoded::{Decoded, Stamp};
use super::reorder::Reorder;
use super::{AccessUnit, Decoder, Output};
use crate::capture::worker::picture::Layout;
use crate::clock::Wall;
use crate::error::{Error, Kind, Result};
use fallback::Fallback;
use rusty_h264_decoder::DecodeError;

const SLICE_OF_KEY_FRAME: u8 = 5;
const SEQUENCE_PARAMETERS: u8 = 7;
const PICTURE_PARAMETERS: u8 = 8;

/// Decoder of one H.264 stream.
pub(super) struct H264 {
    engine: Engine,
    /// The parameter set seen last: cameras and files have one at a time.
    sps: Option<Sps>,
    reorder: Reorder<Decoded>,
    /// Whether a picture has come out of the present engine.
    proven: bool,
}

/// Boxed: both are large.
enum Engine {
    Fast(Box<rusty_h264_decoder::Decoder>),
    Fallback(Box<Fallback>),
}

/// What an engine makes of an access unit: order count and picture.
type Step = Result<Option<(i32, Decoded)>, Refusal>;

/// Why an engine gave no picture.
struct Refusal {
    /// A coding tool that it lacks; or damage that looks like one.
    unsupported: bool,
    cause: String,
}

impl H264 {
    pub(super) fn new() -> Self {
        H264 { engine: Engine::Fast(Box::default()), sps: None, reorder: Reorder::new(), proven: false }
    }

    /// Takes note of parameter sets; says whether a new coded sequence begins.
    fn look(&mut self, data: &[u8]) -> bool {
        let mut sequence_begins = false;
        let mut other = false;
        for unit in nal_units(data) {
            match h264_type(unit) {
                SEQUENCE_PARAMETERS => {
                    if let Some(sps) = Sps::parse(unit) {
                        other |= !sps.plain;
                        self.reorder.set_depth(sps.depth);
                        self.sps = Some(sps);
                    }
                }
                PICTURE_PARAMETERS => other |= sps::needs_other_decoder(unit).unwrap_or(false),
                SLICE_OF_KEY_FRAME => sequence_begins = true,
                _ => {}
            }
        }
        if other && matches!(self.engine, Engine::Fast(_)) {
            self.engine = Engine::Fallback(Box::new(Fallback::new()));
            self.proven = false;
        }
        sequence_begins
    }
}

impl Decoder for H264 {
    fn decode(&mut self, unit: &AccessUnit<'_>, timestamp: Wall, output: &mut Output<'_>) -> Result<()> {
        if self.look(unit.data) {
            if let Engine::Fallback(engine) = &mut self.engine
                && let Some((order, picture)) = engine.flush(self.sps.as_ref())
            {
                self.reorder.push(order, picture);
            }
            self.reorder.finish(|picture| picture.show(output))?;
        }
        let stamp = Stamp { time: timestamp, shown: unit.shown };
        let step = match &mut self.engine {
            Engine::Fast(engine) => fast(engine, unit.data, self.sps.as_ref(), stamp),
            Engine::Fallback(engine) => engine.decode(unit.data, self.sps.as_ref(), stamp),
        };
        match step {
            Ok(Some((order, picture))) => {
                self.proven = true;
                self.reorder.push(order, picture);
            }
            Ok(None) => {}
            Err(refusal) if refusal.unsupported && !self.proven => {
                return Err(Error::new(Kind::SourceUnsupported, format!("H.264 stream is not supported: {}", refusal.cause)));
            }
            Err(refusal) => return Err(Error::new(Kind::Undecodable, "H.264 picture is damaged").because(refusal.cause)),
        }
        while let Some(picture) = self.reorder.due() {
            picture.show(output)?;
        }
        Ok(())
    }

    fn flush(&mut self, output: &mut Output<'_>) -> Result<()> {
        if let Engine::Fallback(engine) = &mut self.engine
            && let Some((order, picture)) = engine.flush(self.sps.as_ref())
        {
            self.reorder.push(order, picture);
        }
        self.reorder.finish(|picture| picture.show(output))
    }
}

fn fast(engine: &mut rusty_h264_decoder::Decoder, data: &[u8], sps: Option<&Sps>, stamp: Stamp) -> Step {
    let frame = engine
        .decode(data)
        .map_err(|error| Refusal { unsupported: matches!(error, DecodeError::Unsupported(_)), cause: error.to_string() })?;
    let Some(frame) = frame else { return Ok(None) };
    // A size that does not fit is refused by `Picture::check`.
    let side = |pixels| u32::try_from(pixels).unwrap_or(u32::MAX);
    let picture = Decoded {
        width: side(frame.width),
        height: side(frame.height),
        layout: Layout::I420,
        planes: [frame.y, frame.u, frame.v],
        range: sps.map_or_else(Default::default, |sps| sps.range),
        matrix: sps.map_or_else(Default::default, |sps| sps.matrix),
        stamp,
    };
    Ok(Some((engine.last_poc(), picture)))
}

#[cfg(test)]
mod tests;
