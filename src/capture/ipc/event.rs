//! Messages from a worker to the service.

use super::MAX_TEXT_BYTES;
use super::bytes::{Reader, Writer};
use super::order;
use crate::capture::{DecoderKind, Drawn, Event, Frame, MAX_SIDE, Progress};
use crate::clock::Wall;
use crate::command::{PacketLoss, PacketLosses, SourceProperties};
use crate::error::{Error, Kind};

const OPENED: u8 = 1;
const FRAME: u8 = 2;
const ALIVE: u8 = 3;
const ENDED: u8 = 4;
const FAILED: u8 = 5;
const NOTICE: u8 = 6;
const PICTURE: u8 = 7;
const MEMORY: u8 = 8;
const DECODER: u8 = 9;
const NODES: u8 = 10;

/// Highest rate that a source may declare, frames per second. What is above or no number at all counts as
/// unknown (0).
const MAX_DECLARED_FPS: f64 = 100_000.0;

/// The kinds of error that a worker may report, by their code on the wire.
const KINDS: [Kind; 10] = [
    Kind::Worker,
    Kind::SourceConnection,
    Kind::SourceUnauthorised,
    Kind::SourceLost,
    Kind::SourceStalled,
    Kind::SourceUnsupported,
    Kind::System,
    Kind::InvalidValue,
    Kind::NoKeyFrame,
    Kind::Undecodable,
];

pub(in crate::capture) fn write_opened(out: &mut Writer, properties: &SourceProperties) {
    out.begin(OPENED).u32(properties.width).u32(properties.height).i64(properties.total_frames);
    out.bool(properties.is_file).f64(properties.fps);
    let created = properties.timestamp_created;
    out.bool(created.is_some()).i64(created.unwrap_or_default().micros());
}

pub(in crate::capture) fn write_frame(out: &mut Writer, frame: &Frame) {
    out.begin(FRAME)
        .u32(frame.slot)
        .u64(frame.frame_id)
        .u64(frame.left_out)
        .i64(frame.timestamp.micros())
        .u32(frame.width)
        .u32(frame.height);
    out.bool(frame.is_kept);
}

pub(in crate::capture) fn write_picture(out: &mut Writer, drawn: &Drawn) {
    out.begin(PICTURE).u32(drawn.job).u64(drawn.frame_id).u32(drawn.bytes);
}

pub(in crate::capture) fn write_alive(out: &mut Writer, progress: &Progress) {
    out.begin(ALIVE).u64(progress.frame_id).u64(progress.dropped).u64(progress.undecodable);
    out.bool(progress.waiting_for_key_frame);
    for cause in PacketLoss::ALL {
        out.u64(progress.packets.get(cause));
    }
}

pub(in crate::capture) fn write_notice(out: &mut Writer, message: &str) {
    out.begin(NOTICE).text(message, MAX_TEXT_BYTES);
}

pub(in crate::capture) fn write_memory_needed(out: &mut Writer, bytes: u64) {
    out.begin(MEMORY).u64(bytes);
}

/// From here on this one decodes, and is to blame if the worker says no last word.
pub(in crate::capture) fn write_decoder(out: &mut Writer, kind: DecoderKind) {
    out.begin(DECODER).u8(kind.code());
}

/// What [`write_decoder`] wrote; `None`: the message says something else. The parent keeps it to itself.
pub(in crate::capture) fn read_decoder(message: &[u8]) -> Option<DecoderKind> {
    let (DECODER, mut fields) = Reader::open(message)? else { return None };
    let kind = DecoderKind::from_code(fields.u8()?)?;
    fields.end(kind)
}

/// Numbers of the device nodes that may be decoders. More than [`MAX_DECODER_NODES`](crate::capture::decoder) are none.
pub(in crate::capture) fn write_nodes(out: &mut Writer, nodes: &[u8]) {
    out.begin(NODES);
    let _ = order::write_nodes(out, nodes);
}

/// What [`write_nodes`] wrote; `None`: the message says something else. The parent keeps it to itself.
pub(in crate::capture) fn read_nodes(message: &[u8]) -> Option<Vec<u8>> {
    let (NODES, mut fields) = Reader::open(message)? else { return None };
    let nodes = order::read_nodes(&mut fields)?;
    fields.end(nodes)
}

pub(in crate::capture) fn write_ended(out: &mut Writer) {
    out.begin(ENDED);
}

pub(in crate::capture) fn write_failed(out: &mut Writer, error: &Error) {
    // A kind that is not in the table is a fault of the worker itself, and says which: code 0.
    let code = KINDS.iter().position(|kind| *kind == error.kind()).and_then(|index| u8::try_from(index).ok());
    let message = match code {
        Some(_) => error.message().to_owned(),
        None => format!("{}: {}", error.kind().class(), error.message()),
    };
    out.begin(FAILED)
        .u8(code.unwrap_or(0))
        .text(&message, MAX_TEXT_BYTES)
        .text(&error.causes(), MAX_TEXT_BYTES);
}

/// The event in a message, every field in its range; `None` when it is none.
pub(in crate::capture) fn read_event(message: &[u8]) -> Option<Event> {
    let (tag, mut fields) = Reader::open(message)?;
    let event = match tag {
        OPENED => Event::Opened(read_properties(&mut fields)?),
        FRAME => Event::Frame(Frame {
            slot: fields.u32()?,
            frame_id: fields.u64()?,
            left_out: fields.u64()?,
            timestamp: Wall::from_micros(fields.i64()?),
            width: read_side(&mut fields)?,
            height: read_side(&mut fields)?,
            is_kept: fields.bool()?,
        }),
        PICTURE => {
            Event::Picture(Drawn { job: fields.u32()?, frame_id: fields.u64()?, bytes: fields.u32()? })
        }
        ALIVE => Event::Alive(Progress {
            frame_id: fields.u64()?,
            dropped: fields.u64()?,
            undecodable: fields.u64()?,
            waiting_for_key_frame: fields.bool()?,
            packets: read_losses(&mut fields)?,
        }),
        NOTICE => Event::Notice(printable(fields.text(MAX_TEXT_BYTES)?)),
        MEMORY => Event::Memory(fields.u64()?),
        ENDED => Event::Ended,
        FAILED => {
            let kind = *KINDS.get(usize::from(fields.u8()?))?;
            let message = printable(fields.text(MAX_TEXT_BYTES)?);
            let cause = printable(fields.text(MAX_TEXT_BYTES)?);
            let error = Error::new(kind, message);
            Event::Failed(if cause.is_empty() { error } else { error.because(cause) })
        }
        _ => return None,
    };
    fields.end(event)
}

fn read_losses(fields: &mut Reader<'_>) -> Option<PacketLosses> {
    let mut losses = PacketLosses::default();
    for cause in PacketLoss::ALL {
        losses.add(cause, fields.u64()?);
    }
    Some(losses)
}

fn read_side(fields: &mut Reader<'_>) -> Option<u32> {
    fields.u32().filter(|side| (1..=MAX_SIDE).contains(side))
}

fn read_properties(fields: &mut Reader<'_>) -> Option<SourceProperties> {
    let (width, height) = (read_side(fields)?, read_side(fields)?);
    let (total_frames, is_file) = (fields.i64()?, fields.bool()?);
    let fps = fields.f64().map(|fps| if (0.0..=MAX_DECLARED_FPS).contains(&fps) { fps } else { 0.0 })?;
    let (known, created) = (fields.bool()?, fields.i64()?);
    let timestamp_created = known.then_some(Wall::from_micros(created));
    Some(SourceProperties { width, height, total_frames, is_file, fps, timestamp_created })
}

/// A camera may have written this text: no control characters in logs and on terminals.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    const PROPERTIES: SourceProperties = SourceProperties {
        width: 1280,
        height: 720,
        total_frames: -1,
        is_file: false,
        fps: 29.97,
        timestamp_created: None,
    };

    #[test]
    fn events_survive_the_wire() {
        let mut out = Writer::new();
        let properties = SourceProperties { timestamp_created: Some(Wall::from_micros(-5)), ..PROPERTIES };
        write_opened(&mut out, &properties);
        assert!(matches!(read_event(out.message()), Some(Event::Opened(got)) if got == properties));
        let frame = Frame {
            slot: 2,
            frame_id: 9,
            left_out: 4,
            timestamp: Wall::from_micros(77),
            width: 3,
            height: 4,
            is_kept: true,
        };
        write_frame(&mut out, &frame);
        assert!(matches!(read_event(out.message()), Some(Event::Frame(got)) if got == frame));
        let drawn = Drawn { job: 1, frame_id: 9, bytes: 70_000 };
        write_picture(&mut out, &drawn);
        assert!(matches!(read_event(out.message()), Some(Event::Picture(got)) if got == drawn));
        let mut packets = PacketLosses::default();
        PacketLoss::ALL.iter().for_each(|cause| packets.add(*cause, 9));
        let progress =
            Progress { frame_id: 1, dropped: 2, undecodable: 3, packets, waiting_for_key_frame: true };
        write_alive(&mut out, &progress);
        assert!(matches!(read_event(out.message()), Some(Event::Alive(got)) if got == progress));
        write_notice(&mut out, "over\tUDP");
        assert!(matches!(read_event(out.message()), Some(Event::Notice(got)) if got == "over UDP"));
        write_memory_needed(&mut out, u64::MAX);
        assert!(matches!(read_event(out.message()), Some(Event::Memory(u64::MAX))));
        write_decoder(&mut out, DecoderKind::Libavcodec);
        assert_eq!(read_decoder(out.message()), Some(DecoderKind::Libavcodec));
        assert!(read_event(out.message()).is_none());
        for nodes in [vec![], vec![0, 31, 255]] {
            write_nodes(&mut out, &nodes);
            assert_eq!(read_nodes(out.message()), Some(nodes));
        }
        assert!(read_event(out.message()).is_none());
        write_ended(&mut out);
        assert_eq!(read_decoder(out.message()), None);
        assert!(matches!(read_event(out.message()), Some(Event::Ended)));
    }

    #[test]
    fn an_error_keeps_kind_message_and_cause_and_loses_control_characters() {
        let mut out = Writer::new();
        write_failed(&mut out, &Error::new(Kind::SourceLost, "bad\x1b[2J").because("a\nb"));
        let Some(Event::Failed(error)) = read_event(out.message()) else { panic!("no error") };
        assert_eq!(error.to_string(), "SourceLostError: bad [2J (a b)");
        write_failed(&mut out, &Error::new(Kind::ApiTimeout, "not for workers"));
        let Some(Event::Failed(error)) = read_event(out.message()) else { panic!("no error") };
        assert_eq!(
            (error.kind(), error.message()),
            (Kind::Worker, "RoboflowAPITimeoutError: not for workers")
        );
    }

    #[test]
    fn ranges_are_checked() {
        let mut out = Writer::new();
        write_opened(&mut out, &SourceProperties { width: MAX_SIDE + 1, ..PROPERTIES });
        assert!(read_event(out.message()).is_none());
        write_opened(&mut out, &SourceProperties { height: 0, ..PROPERTIES });
        assert!(read_event(out.message()).is_none());
        write_opened(&mut out, &SourceProperties { fps: f64::NAN, ..PROPERTIES });
        assert!(matches!(read_event(out.message()), Some(Event::Opened(got)) if got.fps == 0.0));
    }

    #[test]
    fn any_bytes_are_an_event_or_nothing() {
        // xorshift: the same bytes in every run.
        let mut seed = 0x9e37_79b9_u32;
        let mut random = || {
            seed ^= seed << 13;
            seed ^= seed >> 17;
            seed ^= seed << 5;
            seed.to_le_bytes()[1]
        };
        for length in (0..64).cycle().take(20_000) {
            let mut message: Vec<u8> = (0..length).map(|_| random()).collect();
            if let Some([version, tag]) = message.first_chunk_mut::<2>() {
                (*version, *tag) = (super::super::VERSION, *tag % 11);
            }
            let _ = read_event(&message);
            let _ = read_decoder(&message);
            let _ = read_nodes(&message);
            let _ = super::super::read_order(&message);
        }
    }
}
