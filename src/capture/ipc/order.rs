//! Messages from the service to a worker.

use super::bytes::{Reader, Writer};
use super::{MAX_PROPERTIES, MAX_REFERENCE_BYTES, MAX_TEXT_BYTES};
use crate::capture::decoder::{
    DecoderChoice, DecoderSettings, MAX_DECODER_NAME_BYTES, MAX_DECODER_NAMES, MAX_DECODER_NODES,
};
use crate::capture::shown::{MAX_LABEL_BYTES, MAX_MARKINGS, Marking, WIDTHS};
use crate::capture::trust::{MAX_CERTIFICATE_BYTES, MAX_CERTIFICATES};
use crate::capture::{CameraTls, CaptureSettings, Payloads, Rate, Request, Trust};
use crate::command::{Filling, Property, SourceReference};
use crate::geometry::{Contrast, Fit, InputRule, MAX_POINTS, MAX_POLYGONS, Polygon, StaticCrop};
use std::sync::Arc;
use std::time::Duration;

const START: u8 = 1;
const RELEASE: u8 = 2;
const MUTED: u8 = 3;
const STOP: u8 = 4;
const KEEP: u8 = 5;
const DRAW: u8 = 6;
const MEMORY: u8 = 7;
const RATE: u8 = 8;

/// What a worker is told.
#[derive(Debug)]
pub(in crate::capture) enum Order {
    /// The first message, and never again: what to open.
    Start(Box<Start>),
    /// The parent no longer reads this slot.
    Release(u32),
    /// Decode nothing, or decode again.
    Muted(bool),
    /// So many frames of a stream are wanted; `None`: all.
    Rate(Option<Rate>),
    /// Keep a smaller copy of every frame in each of these widths; without any, of none.
    Keep(heapless::Vec<u16, WIDTHS>),
    /// Make a picture of a frame that was kept.
    Draw(Draw),
    /// So many bytes may be used from now on.
    Memory(u64),
    /// Close the source and exit.
    Stop,
}

/// What a picture shall show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::capture) struct Draw {
    /// The slot of the picture buffer, and the name under which the picture is announced.
    pub(in crate::capture) job: u32,
    /// The slot of the ring that the frame lies in.
    pub(in crate::capture) slot: u32,
    /// Number of the frame whose picture is wanted.
    pub(in crate::capture) frame_id: u64,
    /// As it was asked for.
    pub(in crate::capture) width: u16,
    /// Boxes to draw, at most [`MAX_MARKINGS`]; `None`: the bare picture.
    pub(in crate::capture) markings: Option<Vec<Marking>>,
}

/// Everything a worker needs to know.
#[derive(Debug)]
pub(in crate::capture) struct Start {
    /// Process id of the parent: whoever else is the parent by now, the worker is an orphan.
    pub(in crate::capture) parent: u32,
    /// What holds for all workers.
    pub(in crate::capture) settings: CaptureSettings,
    /// Who vouches for the source's certificate.
    pub(in crate::capture) trust: Trust,
    /// What this one shall do.
    pub(in crate::capture) request: Request,
}

/// `None`: the request does not fit a message (a reference or list of properties beyond its limit).
pub(in crate::capture) fn write_start(
    out: &mut Writer,
    parent: u32,
    settings: &CaptureSettings,
    request: &Request,
) -> Option<()> {
    out.begin(START).u32(parent).u64(settings.worker_memory_bytes).u64(settings.worker_memory_max_bytes);
    for duration in
        [settings.open_timeout, settings.stall_timeout, settings.key_frame_timeout, settings.stop_grace]
    {
        out.u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }
    out.u32(settings.picture_width).bool(settings.rtsp_udp).text(&settings.user_agent, MAX_TEXT_BYTES);
    write_trust(out, &settings.tls.of(&request.reference))?;
    write_decoders(out, &settings.decoders)?;
    match &request.reference {
        SourceReference::Device(index) => out.u8(0).u32(*index),
        SourceReference::Text(text) if text.len() <= MAX_REFERENCE_BYTES => {
            out.u8(1).text(text, MAX_REFERENCE_BYTES)
        }
        SourceReference::Text(_) => return None,
    };
    if request.properties.len() > MAX_PROPERTIES {
        return None;
    }
    out.u16(u16::try_from(request.properties.len()).ok()?);
    for Property { name, value } in &request.properties {
        out.text(name, MAX_TEXT_BYTES).f64(*value);
    }
    write_masks(out, &request.masks)?;
    write_rule(out, &request.rule);
    out.u32(request.slots).u64(request.first_frame_id);
    let filling = |wanted: Filling| Filling::ALL.iter().position(|filling| *filling == wanted);
    // Position + 1, 0 for none: five strategies fit a byte.
    out.u8(request.filling.and_then(filling).and_then(|index| u8::try_from(index + 1).ok()).unwrap_or(0));
    out.bool(request.file_max_fps.is_some()).f64(request.file_max_fps.unwrap_or(0.0));
    out.bool(request.muted).bool(request.only_builtin);
    out.bool(request.recorded.is_some()).bool(request.recorded == Some(Payloads::Whole));
    Some(())
}

/// `None`: more or larger certificates than a message has room for.
fn write_trust(out: &mut Writer, trust: &Trust) -> Option<()> {
    match trust {
        Trust::Machine => out.u8(0),
        Trust::Insecure => out.u8(1),
        Trust::Certificates(certificates) => {
            let bytes: usize = certificates.iter().map(Vec::len).sum();
            if certificates.len() > MAX_CERTIFICATES || bytes > MAX_CERTIFICATE_BYTES {
                return None;
            }
            out.u8(2).u8(u8::try_from(certificates.len()).ok()?);
            certificates.iter().for_each(|certificate| _ = out.bytes(certificate));
            out
        }
    };
    Some(())
}

fn read_trust(fields: &mut Reader<'_>) -> Option<Trust> {
    match fields.u8()? {
        0 => Some(Trust::Machine),
        1 => Some(Trust::Insecure),
        2 => {
            let count = usize::from(fields.u8()?);
            let certificates = (0..count.min(MAX_CERTIFICATES))
                .map(|_| fields.bytes(MAX_CERTIFICATE_BYTES).map(<[u8]>::to_vec));
            Some(Trust::Certificates(certificates.collect::<Option<_>>()?))
        }
        _ => None,
    }
}

/// `None`: more names than there may be.
fn write_decoders(out: &mut Writer, decoders: &DecoderSettings) -> Option<()> {
    if decoders.names.len() > MAX_DECODER_NAMES {
        return None;
    }
    out.u8(decoders.choice.code()).u8(u8::try_from(decoders.names.len()).ok()?);
    decoders.names.iter().for_each(|name| _ = out.text(name, MAX_DECODER_NAME_BYTES));
    out.bool(decoders.unchecked).bool(decoders.nodes.is_some());
    write_nodes(out, decoders.nodes.as_deref().unwrap_or_default())
}

fn read_decoders(fields: &mut Reader<'_>) -> Option<DecoderSettings> {
    let choice = DecoderChoice::from_code(fields.u8()?)?;
    let count = usize::from(fields.u8()?);
    if count > MAX_DECODER_NAMES {
        return None;
    }
    let names = (0..count).map(|_| fields.text(MAX_DECODER_NAME_BYTES).map(str::to_owned));
    let names = names.collect::<Option<_>>()?;
    let (unchecked, are_known) = (fields.bool()?, fields.bool()?);
    let nodes = read_nodes(fields)?;
    Some(DecoderSettings { choice, names, unchecked, nodes: are_known.then_some(nodes) })
}

/// `None`: more than there may be.
pub(super) fn write_nodes(out: &mut Writer, nodes: &[u8]) -> Option<()> {
    out.u8(u8::try_from(nodes.len()).ok().filter(|count| usize::from(*count) <= MAX_DECODER_NODES)?);
    nodes.iter().for_each(|node| _ = out.u8(*node));
    Some(())
}

pub(super) fn read_nodes(fields: &mut Reader<'_>) -> Option<Vec<u8>> {
    let count = usize::from(fields.u8()?);
    if count > MAX_DECODER_NODES { None } else { (0..count).map(|_| fields.u8()).collect() }
}

/// `None`: more of them, or of their corners, than there may be.
fn write_masks(out: &mut Writer, masks: &[Polygon]) -> Option<()> {
    if masks.len() > MAX_POLYGONS {
        return None;
    }
    out.u8(u8::try_from(masks.len()).ok()?);
    for Polygon(points) in masks {
        if points.len() > MAX_POINTS {
            return None;
        }
        out.u8(u8::try_from(points.len()).ok()?);
        for [x, y] in points {
            out.f64(*x).f64(*y);
        }
    }
    Some(())
}

fn read_masks(fields: &mut Reader<'_>) -> Option<Vec<Polygon>> {
    let count = usize::from(fields.u8()?);
    if count > MAX_POLYGONS {
        return None;
    }
    let polygon = |fields: &mut Reader<'_>| {
        let count = usize::from(fields.u8()?);
        if count > MAX_POINTS {
            return None;
        }
        (0..count).map(|_| Some([fields.f64()?, fields.f64()?])).collect::<Option<_>>().map(Polygon)
    };
    (0..count).map(|_| polygon(fields)).collect()
}

fn write_rule(out: &mut Writer, rule: &InputRule) {
    out.u32(rule.width).u32(rule.height);
    match rule.fit {
        Fit::Stretch => out.u8(0).u8(0),
        Fit::Letterbox { fill } => out.u8(1).u8(fill),
    };
    let crop = rule.crop.unwrap_or(StaticCrop { x_min: 0.0, x_max: 0.0, y_min: 0.0, y_max: 0.0 });
    out.bool(rule.crop.is_some()).f32(crop.x_min).f32(crop.x_max).f32(crop.y_min).f32(crop.y_max);
    out.bool(rule.grayscale).u8(match rule.contrast {
        None => 0,
        Some(Contrast::Stretching) => 1,
        Some(Contrast::Histogram) => 2,
        Some(Contrast::Adaptive) => 3,
    });
}

pub(in crate::capture) fn write_release(out: &mut Writer, slot: u32) {
    out.begin(RELEASE).u32(slot);
}

pub(in crate::capture) fn write_muted(out: &mut Writer, muted: bool) {
    out.begin(MUTED).bool(muted);
}

pub(in crate::capture) fn write_rate(out: &mut Writer, rate: Option<Rate>) {
    out.begin(RATE).bool(rate.is_some());
    let Rate { fps, is_aligned } = rate.unwrap_or_default();
    out.f64(fps).bool(is_aligned);
}

fn read_rate(fields: &mut Reader<'_>) -> Option<Option<Rate>> {
    let is_limited = fields.bool()?;
    let rate = Rate { fps: fields.f64()?, is_aligned: fields.bool()? };
    Some(Some(rate).filter(|rate| is_limited && rate.fps > 0.0))
}

pub(in crate::capture) fn write_keep(out: &mut Writer, widths: &[u16]) {
    let widths = widths.get(..WIDTHS).unwrap_or(widths);
    // At most [`WIDTHS`].
    out.begin(KEEP).u8(u8::try_from(widths.len()).unwrap_or(0));
    for width in widths {
        out.u16(*width);
    }
}

pub(in crate::capture) fn write_draw(out: &mut Writer, draw: &Draw) {
    out.begin(DRAW)
        .u32(draw.job)
        .u32(draw.slot)
        .u64(draw.frame_id)
        .u16(draw.width)
        .bool(draw.markings.is_some());
    let markings = draw.markings.as_deref().unwrap_or_default();
    let markings = markings.get(..MAX_MARKINGS).unwrap_or(markings);
    // At most [`MAX_MARKINGS`].
    out.u8(u8::try_from(markings.len()).unwrap_or(0));
    for Marking { left, top, right, bottom, class_id, label } in markings {
        out.u16(*left).u16(*top).u16(*right).u16(*bottom).u32(*class_id).text(label, MAX_LABEL_BYTES);
    }
}

fn read_keep(fields: &mut Reader<'_>) -> Option<heapless::Vec<u16, WIDTHS>> {
    let count = usize::from(fields.u8()?);
    if count > WIDTHS {
        return None;
    }
    (0..count).map(|_| fields.u16()).collect()
}

fn read_draw(fields: &mut Reader<'_>) -> Option<Draw> {
    let (job, slot, frame_id, width, is_marked) =
        (fields.u32()?, fields.u32()?, fields.u64()?, fields.u16()?, fields.bool()?);
    let count = usize::from(fields.u8()?);
    if count > MAX_MARKINGS {
        return None;
    }
    let marking = |fields: &mut Reader<'_>| {
        let [left, top, right, bottom] = [fields.u16()?, fields.u16()?, fields.u16()?, fields.u16()?];
        let (class_id, label) = (fields.u32()?, fields.text(MAX_LABEL_BYTES)?.to_owned());
        Some(Marking { left, top, right, bottom, class_id, label })
    };
    let markings = (0..count).map(|_| marking(fields)).collect::<Option<Vec<_>>>()?;
    Some(Draw { job, slot, frame_id, width, markings: is_marked.then_some(markings) })
}

pub(in crate::capture) fn write_memory(out: &mut Writer, bytes: u64) {
    out.begin(MEMORY).u64(bytes);
}

pub(in crate::capture) fn write_stop(out: &mut Writer) {
    out.begin(STOP);
}

/// The order in a message; `None` when it is none.
pub(in crate::capture) fn read_order(message: &[u8]) -> Option<Order> {
    let (tag, mut fields) = Reader::open(message)?;
    let order = match tag {
        START => Order::Start(Box::new(read_start(&mut fields)?)),
        RELEASE => Order::Release(fields.u32()?),
        MUTED => Order::Muted(fields.bool()?),
        RATE => Order::Rate(read_rate(&mut fields)?),
        KEEP => Order::Keep(read_keep(&mut fields)?),
        DRAW => Order::Draw(read_draw(&mut fields)?),
        MEMORY => Order::Memory(fields.u64()?),
        STOP => Order::Stop,
        _ => return None,
    };
    fields.end(order)
}

fn read_start(fields: &mut Reader<'_>) -> Option<Start> {
    let parent = fields.u32()?;
    let (worker_memory_bytes, worker_memory_max_bytes) = (fields.u64()?, fields.u64()?);
    let durations = [fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?];
    let [open_timeout, stall_timeout, key_frame_timeout, stop_grace] = durations.map(Duration::from_micros);
    let picture_width = fields.u32()?;
    let rtsp_udp = fields.bool()?;
    let user_agent = fields.text(MAX_TEXT_BYTES)?.to_owned();
    let trust = read_trust(fields)?;
    let decoders = read_decoders(fields)?;
    let settings = CaptureSettings {
        worker_memory_bytes,
        worker_memory_max_bytes,
        open_timeout,
        stall_timeout,
        key_frame_timeout,
        stop_grace,
        rtsp_udp,
        user_agent,
        network: Arc::default(),
        picture_width,
        // A worker has one source, whose part of it `trust` is.
        tls: CameraTls::default(),
        decoders,
        decoder_nodes: Arc::default(),
    };
    let reference = match fields.u8()? {
        0 => SourceReference::Device(fields.u32()?),
        1 => SourceReference::Text(fields.text(MAX_REFERENCE_BYTES)?.to_owned()),
        _ => return None,
    };
    let count = usize::from(fields.u16()?);
    if count > MAX_PROPERTIES {
        return None;
    }
    let mut properties = Vec::with_capacity(count);
    for _ in 0..count {
        let name = fields.text(MAX_TEXT_BYTES)?.to_owned();
        properties.push(Property { name, value: fields.f64()? });
    }
    let masks = read_masks(fields)?;
    let rule = read_rule(fields)?;
    let slots = fields.u32()?;
    let first_frame_id = fields.u64()?;
    let filling = match fields.u8()? {
        0 => None,
        index => Some(*Filling::ALL.get(usize::from(index) - 1)?),
    };
    let (limited, fps) = (fields.bool()?, fields.f64()?);
    let file_max_fps = limited.then_some(fps);
    let (muted, only_builtin) = (fields.bool()?, fields.bool()?);
    let (is_recorded, is_whole) = (fields.bool()?, fields.bool()?);
    let recorded = is_recorded.then_some(if is_whole { Payloads::Whole } else { Payloads::Blank });
    let request = Request {
        reference,
        properties,
        masks,
        rule,
        slots,
        first_frame_id,
        filling,
        file_max_fps,
        muted,
        only_builtin,
        recorded,
    };
    Some(Start { parent, settings, trust, request })
}

fn read_rule(fields: &mut Reader<'_>) -> Option<InputRule> {
    let (width, height) = (fields.u32()?, fields.u32()?);
    let fit = match (fields.u8()?, fields.u8()?) {
        (0, _) => Fit::Stretch,
        (1, fill) => Fit::Letterbox { fill },
        _ => return None,
    };
    let cropped = fields.bool()?;
    let crop =
        StaticCrop { x_min: fields.f32()?, x_max: fields.f32()?, y_min: fields.f32()?, y_max: fields.f32()? };
    let grayscale = fields.bool()?;
    let contrast = match fields.u8()? {
        0 => None,
        1 => Some(Contrast::Stretching),
        2 => Some(Contrast::Histogram),
        3 => Some(Contrast::Adaptive),
        _ => return None,
    };
    Some(InputRule { width, height, fit, crop: cropped.then_some(crop), grayscale, contrast })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn example() -> (CaptureSettings, Request) {
        let settings = CaptureSettings {
            worker_memory_bytes: 512 << 20,
            worker_memory_max_bytes: 2 << 30,
            open_timeout: Duration::from_millis(10_500),
            stall_timeout: Duration::from_secs(5),
            key_frame_timeout: Duration::from_secs(15),
            stop_grace: Duration::from_millis(500),
            rtsp_udp: true,
            user_agent: "weir/0.1".into(),
            network: Arc::default(),
            picture_width: 1280,
            tls: CameraTls {
                certificates: vec![("cam".into(), std::sync::Arc::new(vec![vec![1, 2], vec![3]]))],
                insecure: Vec::new(),
            },
            decoders: DecoderSettings {
                choice: DecoderChoice::Libavcodec,
                names: vec!["h264_v4l2m2m".into(), "hevc_v4l2m2m".into()],
                unchecked: true,
                nodes: Some(vec![10, 255]),
            },
            decoder_nodes: Arc::default(),
        };
        let request = Request {
            reference: SourceReference::Text("rtsp://u:p@cam/ä".into()),
            properties: vec![Property { name: "fps".into(), value: 12.5 }],
            masks: vec![
                Polygon(vec![[0.0, 0.0], [0.5, 0.0], [0.5, 1.0]]),
                Polygon(vec![[0.1, 0.2], [1.0, 1.0], [0.3, 0.3]]),
            ],
            rule: InputRule {
                width: 640,
                height: 480,
                fit: Fit::Letterbox { fill: 114 },
                crop: Some(StaticCrop { x_min: 1.0, x_max: 2.0, y_min: 3.0, y_max: 4.0 }),
                grayscale: true,
                contrast: Some(Contrast::Histogram),
            },
            slots: 7,
            first_frame_id: 1 << 40,
            filling: Some(Filling::AdaptiveDropLatest),
            file_max_fps: Some(10.0),
            muted: true,
            only_builtin: true,
            recorded: Some(Payloads::Whole),
        };
        (settings, request)
    }

    fn written() -> Vec<u8> {
        let (settings, request) = example();
        let mut out = Writer::new();
        write_start(&mut out, 42, &settings, &request).unwrap();
        out.message().to_vec()
    }

    #[test]
    fn a_start_order_survives_the_wire() {
        let (settings, request) = example();
        let Some(Order::Start(start)) = read_order(&written()) else { panic!("no start order") };
        assert_eq!(start.parent, 42);
        assert_eq!(start.trust, Trust::Certificates(vec![vec![1, 2], vec![3]]));
        let settings = CaptureSettings { tls: CameraTls::default(), ..settings };
        assert_eq!(format!("{:?}", start.settings), format!("{settings:?}"));
        assert_eq!(format!("{:?}", start.request), format!("{request:?}"));
        assert_eq!(start.request.reference, request.reference);
    }

    #[test]
    fn a_start_order_cut_anywhere_or_with_a_byte_more_is_refused() {
        let message = written();
        for length in 0..message.len() {
            assert!(read_order(&message[..length]).is_none(), "{length}");
        }
        let longer = [&message[..], &[0]].concat();
        assert!(read_order(&longer).is_none());
    }

    #[test]
    fn a_reference_beyond_its_limit_is_not_sent() {
        let (settings, mut request) = example();
        request.reference = SourceReference::Text("x".repeat(MAX_REFERENCE_BYTES + 1));
        assert!(write_start(&mut Writer::new(), 1, &settings, &request).is_none());
        request.reference = SourceReference::Text("x".repeat(MAX_REFERENCE_BYTES));
        let mut out = Writer::new();
        assert!(write_start(&mut out, 1, &settings, &request).is_some());
        assert!(out.message().len() <= super::super::MAX_MESSAGE_BYTES);
    }

    #[test]
    fn small_orders_survive_the_wire() {
        let mut out = Writer::new();
        write_release(&mut out, 3);
        assert!(matches!(read_order(out.message()), Some(Order::Release(3))));
        write_muted(&mut out, true);
        assert!(matches!(read_order(out.message()), Some(Order::Muted(true))));
        for rate in [None, Some(Rate { fps: 2.5, is_aligned: true })] {
            write_rate(&mut out, rate);
            assert!(matches!(read_order(out.message()), Some(Order::Rate(read)) if read == rate));
        }
        write_rate(&mut out, Some(Rate { fps: f64::NAN, is_aligned: false }));
        assert!(matches!(read_order(out.message()), Some(Order::Rate(None))));
        write_keep(&mut out, &[960, 320]);
        assert!(matches!(read_order(out.message()), Some(Order::Keep(widths)) if widths == [960, 320]));
        let label = "ä".repeat(MAX_LABEL_BYTES / 2);
        let marking = Marking { left: 1, top: 2, right: 3, bottom: 4, class_id: 5, label };
        for markings in [None, Some(Vec::new()), Some(vec![marking; MAX_MARKINGS])] {
            let draw = Draw { job: 1, slot: 2, frame_id: 3, width: 960, markings };
            write_draw(&mut out, &draw);
            assert!(matches!(read_order(out.message()), Some(Order::Draw(read)) if read == draw));
            assert!(out.message().len() <= super::super::MAX_ORDER_BYTES);
        }
        write_memory(&mut out, 1 << 40);
        assert!(matches!(read_order(out.message()), Some(Order::Memory(bytes)) if bytes == 1 << 40));
        write_stop(&mut out);
        assert!(matches!(read_order(out.message()), Some(Order::Stop)));
    }
}
