//! What a V4L2 device is, for `weir check`: nothing is set and nothing captured.

use super::format;
use super::ioctl::{Device, capability};
use std::fmt;
use std::path::Path;

/// Formats in which decoders take video (`linux/videodev2.h`), whole streams and single slices, and what
/// people call them.
const CODED: [(&[u8; 4], &str); 10] = [
    (b"H264", "H.264"),
    (b"AVC1", "H.264"),
    (b"S264", "H.264"),
    (b"HEVC", "H.265"),
    (b"S265", "H.265"),
    (b"VP80", "VP8"),
    (b"VP90", "VP9"),
    (b"VP9F", "VP9"),
    (b"AV1F", "AV1"),
    (b"MJPG", "JPEG"),
];

/// A device node.
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
    /// Decodes video of these kinds in hardware.
    Decoder(Vec<&'static str>),
    /// A node for metadata, an encoder, a scaler.
    Other,
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
    let mut device = Device::open(path)?;
    let (capabilities, name) = device.capabilities()?;
    Ok(Description { name, role: role(&device, capabilities) })
}

fn role(device: &Device, capabilities: u32) -> Role {
    if capabilities & capability::M2M != 0 {
        let taken = device.input_formats();
        let mut codecs: Vec<&str> =
            CODED.iter().filter(|(fourcc, _)| taken.contains(fourcc)).map(|(_, name)| *name).collect();
        codecs.dedup();
        return if codecs.is_empty() { Role::Other } else { Role::Decoder(codecs) };
    }
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

    /// Its four letters.
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
