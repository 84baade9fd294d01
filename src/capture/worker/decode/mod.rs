//! Decoders behind one trait. They run in the worker process: what they cannot survive, only their source
//! sees.

pub(crate) mod annexb;
mod bits;
pub(super) mod board;
mod choose;
mod decoded;
mod entrance;
mod entry;
mod foreign;
mod gate;
mod h264;
mod h265;
mod jpeg;
mod known;
#[cfg_attr(target_env = "musl", path = "libavcodec/absent.rs")]
mod libavcodec;
mod memory;
mod order;
mod orientation;
mod outline;
#[cfg(test)]
mod own;
mod parameters;
mod part;
mod random_access;
mod reorder;
pub(super) mod stateful;

pub(super) use choose::Decoders;
pub(crate) use h264::Sps as H264Parameters;
pub(crate) use h265::Sps as H265Parameters;
pub(crate) use jpeg::size as jpeg_size;
pub(crate) use memory::decoding_bytes;
pub(crate) use orientation::orientation;
pub(crate) use outline::{Layer, Outline, Outlines, Part as PicturePart, Switch};
pub(crate) use part::Part;
pub(crate) use random_access::{RandomAccess, random_access};

use crate::capture::DecoderKind;
use crate::capture::worker::picture::Picture;
use crate::clock::Wall;
use crate::error::Result;

/// How a packet is coded. Raw pictures need no decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// ITU-T H.264, Annex B, parameter sets before each key frame.
    H264,
    /// ITU-T H.265, Annex B, parameter sets before each key frame.
    H265,
    /// Baseline or progressive JPEG, one picture per packet (also "Motion JPEG").
    Jpeg,
    /// ISO/IEC 14496-2, start codes, its headers before each key frame. Only libavcodec decodes it.
    Mpeg4,
    /// A frame as in a container. Only libavcodec decodes it.
    Vp8,
    /// A superframe as in a container. Only libavcodec decodes it.
    Vp9,
    /// A temporal unit as in a container. Only libavcodec decodes it, where it was built with dav1d or libaom.
    Av1,
}

impl Codec {
    /// Every codec that a decoder of ours or another's may take.
    pub(crate) const ALL: [Codec; 7] =
        [Codec::H264, Codec::H265, Codec::Jpeg, Codec::Mpeg4, Codec::Vp8, Codec::Vp9, Codec::Av1];

    /// It comes as NAL units behind start codes.
    pub(crate) fn has_nal_units(self) -> bool {
        matches!(self, Codec::H264 | Codec::H265)
    }

    /// It comes behind start codes, with headers that a container may keep apart.
    pub(crate) fn has_start_codes(self) -> bool {
        matches!(self, Codec::H264 | Codec::H265 | Codec::Mpeg4)
    }

    /// What a decoder of libavcodec is for, by its name as FFmpeg forms them: `CODEC_DEVICE`.
    fn of_decoder(name: &str) -> Option<Codec> {
        match name.split_once('_').map_or(name, |(codec, _)| codec) {
            "h264" => Some(Codec::H264),
            "hevc" => Some(Codec::H265),
            "mpeg4" => Some(Codec::Mpeg4),
            "vp8" => Some(Codec::Vp8),
            "vp9" => Some(Codec::Vp9),
            "av1" => Some(Codec::Av1),
            _ => None,
        }
    }

    /// The name people use.
    pub fn name(self) -> &'static str {
        match self {
            Codec::H264 => "H.264",
            Codec::H265 => "H.265",
            Codec::Jpeg => "JPEG",
            Codec::Mpeg4 => "MPEG-4 Part 2",
            Codec::Vp8 => "VP8",
            Codec::Vp9 => "VP9",
            Codec::Av1 => "AV1",
        }
    }
}

/// All coded data of one picture. Parameter sets alone are welcome too: what a container or SDP says need
/// come only once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessUnit<'a> {
    /// The bytes, in the form that [`Codec`] says.
    pub data: &'a [u8],
    /// False where the container says that this picture serves only as reference (before the start of an edit
    /// list): it is decoded and not output.
    pub shown: bool,
}

/// Takes the decoded pictures, with the time stamps that their access units came with. Its error ends the
/// call and is passed on.
pub type Output<'a> = dyn FnMut(&Picture<'_>, Wall) -> Result<()> + 'a;

/// A decoder of one stream. Pictures come out in presentation order. It begins by itself where the stream
/// says that decoding may begin (see [`random_access()`]); what cannot be right before is not put out.
///
/// Errors: [`SourceUnsupported`](crate::error::Kind::SourceUnsupported) says that this stream cannot be
/// decoded by us at all, [`Undecodable`](crate::error::Kind::Undecodable) that this one access unit could not
/// be: count it and go on. Anything else came from `output`. Damaged input may also give damaged pictures.
pub trait Decoder {
    /// Decodes one access unit; outputs none, one or several pictures.
    fn decode(&mut self, unit: &AccessUnit<'_>, timestamp: Wall, output: &mut Output<'_>) -> Result<()>;

    /// A picture that nothing refers to is left undecoded, among others that are decoded: its parameter sets are
    /// kept, and its place in presentation order passes, so that pictures around it come out when they would
    /// have come out beside it. A decoder whose pictures wait for a number of others may need longer.
    fn leave_out(&mut self, unit: &AccessUnit<'_>, output: &mut Output<'_>) -> Result<()> {
        let _ = (unit, output);
        Ok(())
    }

    /// An access unit that nobody wants to see passes by: only its parameter sets are kept. Decoding begins
    /// anew after it.
    fn pass(&mut self, unit: &AccessUnit<'_>);

    /// Something is missing before the next access unit: decoding begins anew where it may.
    fn lost(&mut self);

    /// No picture can come out before the stream says that decoding may begin, or has recovered from there.
    fn waiting(&self) -> bool;

    /// How many pictures to be shown came in and will not come out, since this was asked last; those that
    /// were damaged left out.
    fn passed(&mut self) -> u64;

    /// End of the stream: outputs what reordering held back. The decoder may be used again from the next
    /// random access point on.
    fn flush(&mut self, output: &mut Output<'_>) -> Result<()>;

    /// Whose code decodes by now.
    fn kind(&self) -> DecoderKind {
        DecoderKind::Builtin
    }

    /// It is kept when its stream begins anew: there may be no second one.
    fn outlives_its_stream(&self) -> bool {
        false
    }

    /// What people should know of this decoder, once: that another one had to take over.
    fn news(&mut self) -> Option<String> {
        None
    }
}

/// Our own decoder for a stream of that codec; `None`: there is none.
pub fn builtin(codec: Codec) -> Option<Box<dyn Decoder>> {
    Some(match codec {
        Codec::H264 => Box::new(h264::H264::new()),
        Codec::Jpeg => Box::new(jpeg::Jpeg::default()),
        Codec::H265 => Box::new(h265::H265::new()),
        Codec::Mpeg4 | Codec::Vp8 | Codec::Vp9 | Codec::Av1 => return None,
    })
}

/// The same where there is one.
#[cfg(test)]
#[allow(clippy::expect_used)]
pub(crate) fn open(codec: Codec) -> Box<dyn Decoder> {
    builtin(codec).expect("a codec that is builtin")
}
