//! The session description (SDP, RFC 8866) as cameras write it: what we want to know of it, and a plain one
//! for retina.

use crate::capture::worker::decode::Codec;
use crate::capture::worker::decode::annexb::{START_CODE, h264_type, h265_type};
use crate::error::{Error, Kind, Result};
use url::Url;

/// Most lines that are looked at. Cameras write some tens.
const MAX_LINES: usize = 1024;

/// The clock rate of video (RFC 6184 §8.2.1, RFC 7798 §7.1, RFC 2435 §6).
const VIDEO_CLOCK_HZ: u32 = 90_000;

/// The stream that we take.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Media {
    /// RTP's payload type, 0..127.
    pub(super) kind: u8,
    pub(super) codec: Codec,
    pub(super) clock_hz: u32,
    /// Parameter sets in Annex B; empty: they come in the stream.
    pub(super) parameters: Vec<u8>,
    /// Frames per second, where it says so.
    pub(super) fps: Option<f64>,
    /// Width and height in pixels, where it says so.
    pub(super) size: Option<(u32, u32)>,
}

/// What one section says.
#[derive(Default)]
struct Section<'a> {
    media: &'a str,
    kinds: Vec<u8>,
    attributes: Vec<(&'a str, &'a str)>,
}

impl<'a> Section<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        self.attributes.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    /// The value of an attribute that begins with a payload type, for this one.
    fn of_kind(&self, name: &str, kind: u8) -> Option<&'a str> {
        let values =
            self.attributes.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| *value);
        values
            .filter_map(|value| value.split_once([' ', '\t']))
            .find(|(number, _)| number.parse() == Ok(kind))
            .map(|(_, rest)| rest.trim())
    }
}

/// Reads a description: the first video stream that we can decode, and a description of it alone.
///
/// `base`: the URL that paths in it begin at. Errors: `SourceUnsupported`, which names what is offered
/// instead.
pub(super) fn read(body: &[u8], base: &str) -> Result<(Media, String)> {
    let text = String::from_utf8_lossy(body);
    let mut sections = vec![Section::default()];
    for line in text.lines().take(MAX_LINES) {
        let Some((key, value)) = line.trim().split_once('=') else { continue };
        let value = value.trim();
        match key.trim() {
            "m" | "M" => {
                let mut words = value.split_ascii_whitespace();
                let media = words.next().unwrap_or_default();
                let kinds =
                    words.skip(2).filter_map(|word| word.parse().ok()).filter(|kind| *kind < 128).collect();
                sections.push(Section { media, kinds, attributes: Vec::new() });
            }
            "a" | "A" => {
                let (name, value) = value.split_once(':').unwrap_or((value, ""));
                if let Some(section) = sections.last_mut() {
                    section.attributes.push((name.trim(), value.trim()));
                }
            }
            _ => {}
        }
    }
    let (session, streams) = sections.split_first().ok_or_else(no_video)?;
    let mut others = Vec::new();
    for section in streams
        .iter()
        .filter(|section| matches!(section.media.to_ascii_lowercase().as_str(), "video" | "image"))
    {
        for &kind in &section.kinds {
            match codec(section, kind) {
                Ok((codec, clock_hz)) => {
                    let media = media(section, kind, codec, clock_hz);
                    let plain = plain(session, section, &media, base);
                    return Ok((media, plain));
                }
                Err(name) => others.push(name),
            }
        }
    }
    Err(match others.is_empty() {
        true => no_video(),
        false => Error::new(
            Kind::SourceUnsupported,
            format!(
                "the camera offers only {:.128}, and H.264, H.265 and JPEG are supported",
                others.join(", ")
            ),
        ),
    })
}

fn no_video() -> Error {
    Error::new(Kind::SourceUnsupported, "the camera offers no video")
}

/// Codec and clock rate of a payload type; or what it is called.
fn codec(section: &Section<'_>, kind: u8) -> Result<(Codec, u32), String> {
    let Some(map) = section.of_kind("rtpmap", kind) else {
        let format = section.of_kind("fmtp", kind).unwrap_or_default().to_ascii_lowercase();
        return match kind {
            26 => Ok((Codec::Jpeg, VIDEO_CLOCK_HZ)),
            96.. if format.contains("sprop-parameter-sets") => Ok((Codec::H264, VIDEO_CLOCK_HZ)),
            96.. if format.contains("sprop-sps") => Ok((Codec::H265, VIDEO_CLOCK_HZ)),
            other => Err(format!("payload type {other}")),
        };
    };
    let mut parts = map.split('/').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let clock_hz =
        parts.next().and_then(|rate| rate.parse().ok()).filter(|rate| *rate > 0).unwrap_or(VIDEO_CLOCK_HZ);
    match name.to_ascii_uppercase().as_str() {
        "H264" | "H.264" | "AVC" => Ok((Codec::H264, clock_hz)),
        "H265" | "H.265" | "HEVC" => Ok((Codec::H265, clock_hz)),
        "JPEG" => Ok((Codec::Jpeg, clock_hz)),
        _ => Err(name.chars().filter(|c| !c.is_control()).take(32).collect()),
    }
}

fn media(section: &Section<'_>, kind: u8, codec: Codec, clock_hz: u32) -> Media {
    let format = section.of_kind("fmtp", kind).unwrap_or_default();
    let parameters = match codec {
        Codec::H264 | Codec::H265 => parameters(codec, format),
        _ => Vec::new(),
    };
    let fps = ["framerate", "x-framerate"].iter().find_map(|name| section.get(name)).and_then(number);
    Media {
        kind,
        codec,
        clock_hz,
        parameters,
        fps: fps.filter(|fps| (0.1..=1000.0).contains(fps)),
        size: size(section),
    }
}

/// Parameter sets, in the order in which a decoder wants them; those that are none are left out.
fn parameters(codec: Codec, format: &str) -> Vec<u8> {
    let values = format.split(';').filter_map(|pair| pair.trim().split_once('='));
    let mut units: Vec<Vec<u8>> = values
        .filter(|(name, _)| name.trim().to_ascii_lowercase().starts_with("sprop-"))
        .flat_map(|(_, value)| value.split(','))
        .map(base64)
        .map(|unit| match unit.strip_prefix(&START_CODE) {
            Some(bare) => bare.to_vec(),
            None => unit,
        })
        .collect();
    let rank = |unit: &[u8]| match codec {
        Codec::H265 => Some(h265_type(unit)).filter(|kind| (32..=34).contains(kind)),
        _ => Some(h264_type(unit)).filter(|kind| (7..=8).contains(kind)),
    };
    units.retain(|unit| unit.len() > 3 && rank(unit).is_some());
    units.sort_by_key(|unit| rank(unit));
    units.iter().flat_map(|unit| START_CODE.iter().chain(unit)).copied().collect()
}

/// The number that a text begins with.
fn number(text: &str) -> Option<f64> {
    let digits: String = text.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    digits.parse().ok()
}

/// `a=x-dimensions:W,H`, `a=framesize:KIND W-H` (RFC 6064), `a=cliprect:0,0,H,W`.
fn size(section: &Section<'_>) -> Option<(u32, u32)> {
    let numbers = |text: &str| -> Vec<u32> {
        text.split(|c: char| !c.is_ascii_digit())
            .filter(|word| !word.is_empty())
            .filter_map(|word| word.parse().ok())
            .collect()
    };
    let get = |name: &str| section.get(name).map(numbers).unwrap_or_default();
    match (get("x-dimensions").as_slice(), get("framesize").as_slice(), get("cliprect").as_slice()) {
        (&[width, height, ..], _, _) | (_, &[_, width, height], _) | (_, _, &[_, _, height, width]) => {
            Some((width, height))
        }
        _ => None,
    }
    .filter(|(width, height)| *width > 0 && *height > 0)
}

/// What retina reads: one stream, and nothing that it could stumble over.
fn plain(session: &Section<'_>, section: &Section<'_>, media: &Media, base: &str) -> String {
    let control = |section: &Section<'_>| match section.get("control") {
        // A path from the root; retina would put it behind the base.
        Some(control) if control.starts_with('/') => {
            match Url::parse(base).and_then(|base| base.join(control)) {
                Ok(url) => format!("a=control:{url}\r\n"),
                Err(_) => String::new(),
            }
        }
        Some(control) if !control.is_empty() => format!("a=control:{control}\r\n"),
        _ => String::new(),
    };
    let name = match media.codec {
        Codec::H264 => "H264",
        Codec::H265 => "H265",
        // `codec` gives no others.
        _ => "JPEG",
    };
    format!(
        "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n{}m=video 0 RTP/AVP {kind}\r\na=rtpmap:{kind} {name}/{VIDEO_CLOCK_HZ}\r\n{}",
        control(session),
        control(section),
        kind = media.kind,
    )
}

/// Base64 (RFC 4648); what is no digit is passed over.
fn base64(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut word, mut bits) = (0_u32, 0);
    for byte in text.bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b'=' => break,
            _ => continue,
        };
        word = word << 6 | u32::from(digit);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            // The cast keeps the eight bits that are meant.
            out.push((word >> bits & 0xff) as u8);
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// As with the URL of some camera.
    fn read(body: &[u8]) -> Result<(Media, String)> {
        super::read(body, "rtsp://cam/live/")
    }

    const SPROP: &str =
        "a=fmtp:96 packetization-mode=1; sprop-parameter-sets=Z0LAHtkDxWhAAAADAEAAAAwDxYuS,aMuMsg==\r\n";

    #[test]
    fn a_description_that_begins_with_its_stream() {
        let text = format!(
            "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000 \r\n{SPROP}a=framerate:25.0\r\na=control:track1\r\n"
        );
        let (media, plain) = read(text.as_bytes()).unwrap();
        assert_eq!(
            (media.kind, media.codec, media.fps, media.clock_hz),
            (96, Codec::H264, Some(25.0), 90_000)
        );
        assert!(media.parameters.starts_with(&[0, 0, 0, 1, 0x67, 0x42]));
        assert_eq!(
            plain,
            "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:track1\r\n"
        );
    }

    #[test]
    fn the_first_stream_that_can_be_decoded() {
        let text = "v=0\na=control:*\nm=audio 0 RTP/AVP 0\na=control:audio\nm=video 0 RTP/AVP 97 98\na=rtpmap:97 MP4V-ES/90000\na=rtpmap:98 h265/90000\na=control:trackID=2\n";
        let (media, plain) = read(text.as_bytes()).unwrap();
        assert_eq!((media.kind, media.codec), (98, Codec::H265));
        assert!(
            plain.contains("a=control:*\r\nm=video 0 RTP/AVP 98")
                && plain.ends_with("a=control:trackID=2\r\n")
        );
        let (jpeg, _) = read(b"m=video 0 RTP/AVP 26\na=x-dimensions: 2560, 1440\na=framerate:0S\n").unwrap();
        assert_eq!((jpeg.codec, jpeg.size, jpeg.fps), (Codec::Jpeg, Some((2560, 1440)), None));
    }

    #[test]
    fn a_path_from_the_root_is_one() {
        let (_, plain) = read(b"m=video 0 RTP/AVP 26\r\na=control:/abs/video/1\r\n").unwrap();
        assert!(plain.ends_with("a=control:rtsp://cam/abs/video/1\r\n"), "{plain}");
    }

    #[test]
    fn what_is_not_offered_is_named() {
        let words = |text: &str| read(text.as_bytes()).unwrap_err().message().to_owned();
        assert_eq!(words("v=0\r\nm=audio 0 RTP/AVP 0\r\n"), "the camera offers no video");
        assert_eq!(words("m=video 0 RTP/AVP\r\n"), "the camera offers no video");
        assert!(
            words("m=video 0 RTP/AVP 31 97\r\na=rtpmap:97 VP8/90000\r\n").contains("payload type 31, VP8")
        );
        for odd in ["", "m=", "=", "a", "m=video\na=rtpmap\na=:", "m=video x y 300 -1"] {
            assert!(read(odd.as_bytes()).is_err());
        }
    }

    #[test]
    fn parameter_sets_in_any_order_and_what_is_none() {
        let of = |value: &str| parameters(Codec::H264, &format!("sprop-parameter-sets={value}"));
        assert_eq!(
            of("aMuMsg==,Z0LAHtk="),
            [0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1e, 0xd9, 0, 0, 0, 1, 0x68, 0xcb, 0x8c, 0xb2]
        );
        assert_eq!(of("6QAAAAAA,AAAA,,=,!"), [0_u8; 0]);
        let h265 = parameters(Codec::H265, "sprop-pps=RAEBAQ==; sprop-sps=QgEBAQ==;sprop-vps=QAEBAQ==");
        assert_eq!(h265.iter().skip(4).step_by(8).copied().collect::<Vec<_>>(), [0x40, 0x42, 0x44]);
    }
}
