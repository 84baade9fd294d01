//! What a V4L2 device is, for `weir check`. Of cameras nothing is set and nothing captured; decoders decode a
//! few known pictures.

use super::format;
use super::ioctl::Device;
use crate::capture::worker::decode::board::judge;
use crate::capture::worker::decode::stateful::driver::{Driver as _, Queue};
use crate::capture::worker::decode::stateful::node::Node;
use crate::capture::worker::decode::stateful::{is_read, names};
use crate::capture::worker::videodev::raw::capability;
use std::fmt;
use std::path::Path;

/// Formats in which decoders take video (`linux/videodev2.h`), what people call them, and whether the driver
/// takes whole streams or wants every slice explained ("stateless").
const CODED: [(&[u8; 4], &str, bool); 11] = [
    (b"H264", "H.264", true),
    (b"AVC1", "H.264 without start codes", true),
    (b"S264", "H.264", false),
    (b"HEVC", "H.265", true),
    (b"S265", "H.265", false),
    (b"VP80", "VP8", true),
    (b"VP90", "VP9", true),
    (b"VP9F", "VP9", false),
    (b"AV1F", "AV1", false),
    (b"MJPG", "JPEG", true),
    // The kernel's own, for tests.
    (b"FWHT", "FWHT", true),
];

/// Of those, what weir gives to such a decoder.
const USED: [&[u8; 4]; 2] = [b"H264", b"HEVC"];

/// What a device node says of itself: its driver, and the formats that it gives or decodes.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// What the driver calls it. Comes from the device: not for a terminal as it is.
    pub name: String,
    /// What it is to weir.
    pub role: Role,
}

/// What a device is to weir.
#[derive(Debug, Clone, PartialEq)]
pub enum Role {
    /// Something to capture from.
    Camera(Vec<Format>),
    /// Decodes video in hardware.
    Decoder(Decoder),
    /// A node for metadata, an encoder, a scaler.
    Other,
}

/// A decoder in hardware.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoder {
    /// Its driver. Comes from the device: not for a terminal as it is.
    pub driver: String,
    /// Kinds of video that it takes.
    pub coded: Vec<&'static str>,
    /// Formats of the pictures that it gives, their four letters.
    pub raw: Vec<String>,
    /// Why weir does not use it; `None`: it may.
    pub unusable: Option<String>,
    /// Of one that may be used: whether it decodes known pictures of each codec to the last bit, by the codec's
    /// name; what it does wrong.
    pub judged: Vec<(&'static str, std::result::Result<(), String>)>,
}

/// A pixel format of a camera.
#[derive(Debug, Clone, PartialEq)]
pub struct Format {
    fourcc: [u8; 4],
    modes: Vec<Mode>,
}

/// One size of a format.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Mode {
    width: u32,
    height: u32,
    /// Frames per second at most, where the driver says.
    fastest: Option<f64>,
}

/// Asks a device what it is. Errors: the system's, from a node that is absent, not ours to open, or no V4L2
/// device.
pub fn describe(path: &Path) -> Result<Description, std::io::Error> {
    if let Some(node) = Node::open(path)? {
        let name = node.card().to_owned();
        return Ok(Description { name, role: m2m(node) });
    }
    let mut device = Device::open(path)?;
    let (capabilities, name) = device.capabilities()?;
    Ok(Description { name, role: role(&device, capabilities) })
}

fn m2m(node: Node) -> Role {
    let (taken, given) = (node.formats(Queue::Coded), node.formats(Queue::Pictures));
    let known = CODED.iter().filter(|(fourcc, ..)| taken.contains(fourcc));
    let mut coded: Vec<&str> = known.clone().map(|(_, name, _)| *name).collect();
    coded.dedup();
    if coded.is_empty() {
        return Role::Other;
    }
    let unusable = if known.clone().all(|(.., is_whole)| !is_whole) {
        Some("stateless: needs a parser of its own, which weir has not".to_owned())
    } else if !USED.iter().any(|fourcc| taken.contains(fourcc)) {
        Some("neither H.264 nor H.265".to_owned())
    } else if !given.iter().any(|fourcc| is_read(*fourcc)) {
        Some(format!("its pictures are in no format that weir reads: {}", names(&given)))
    } else {
        None
    };
    let raw = given.iter().map(|fourcc| fourcc.escape_ascii().to_string()).collect();
    let driver = node.driver().to_owned();
    let judged = if unusable.is_none() { judge(node) } else { Vec::new() };
    let judged = judged.into_iter().map(|(codec, verdict)| (codec.name(), verdict)).collect();
    Role::Decoder(Decoder { driver, coded, raw, unusable, judged })
}

fn role(device: &Device, capabilities: u32) -> Role {
    if !capability::is_camera(capabilities) {
        return Role::Other;
    }
    let formats = device.formats().into_iter().map(|fourcc| {
        let modes = device.sizes(fourcc).into_iter().map(|(width, height)| Mode {
            width,
            height,
            fastest: device.fastest(fourcc, width, height),
        });
        Format { fourcc, modes: modes.collect() }
    });
    Role::Camera(formats.collect())
}

impl Format {
    /// Whether weir can make pictures of it.
    pub fn is_understood(&self) -> bool {
        format::content(self.fourcc).is_some()
    }

    /// The four letters of its pixel format; what cannot be printed is escaped.
    pub fn fourcc(&self) -> String {
        self.fourcc.escape_ascii().to_string()
    }
}

/// `YUYV 640x480 at 30, 1280x720 at 10 fps`.
impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fourcc())?;
        for (place, Mode { width, height, fastest }) in self.modes.iter().enumerate() {
            let separator = if place > 0 { "," } else { "" };
            write!(f, "{separator} {width}x{height}")?;
            if let Some(fastest) = fastest {
                write!(f, " at {}", (fastest * 10.0).round() / 10.0)?;
            }
        }
        if self.modes.iter().any(|mode| mode.fastest.is_some()) {
            f.write_str(" fps")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn a_format_is_one_line() {
        let mode = |width, height, fastest| Mode { width, height, fastest };
        let usual =
            Format { fourcc: *b"YUYV", modes: vec![mode(640, 480, Some(30.0)), mode(1280, 720, Some(9.99))] };
        assert_eq!(usual.to_string(), "YUYV 640x480 at 30, 1280x720 at 10 fps");
        let silent = Format { fourcc: *b"GREY", modes: vec![mode(640, 480, None)] };
        assert_eq!(silent.to_string(), "GREY 640x480");
        assert!(usual.is_understood() && silent.is_understood());
        let foreign = Format { fourcc: *b"\x1b[2J", modes: vec![] };
        assert_eq!(foreign.to_string(), "\\x1b[2J");
        assert!(!foreign.is_understood());
    }

    #[test]
    fn what_is_no_device_is_an_error() {
        assert_eq!(
            describe(Path::new("/dev/null")).unwrap_err().raw_os_error(),
            Some(Errno::NOTTY.raw_os_error())
        );
        assert!(describe(Path::new("/dev/video-none")).is_err());
    }
}
