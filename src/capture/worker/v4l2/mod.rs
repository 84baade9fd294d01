//! Cameras behind V4L2: single-planar and multi-planar capture with mapped buffers.

mod controls;
mod describe;
mod format;
mod ioctl;

pub use describe::{Decoder, Description, Format, Role, describe};

use crate::capture::worker::decode::AccessUnit;
use crate::capture::worker::source::{Grab, IDLE, Source};
use crate::capture::worker::videodev::raw::{PixelFormat, capability};
use crate::command::{Property, SourceProperties};
use crate::error::{Error, Kind, Result};
use format::{Content, Frames, MAX_PARTS, Wish};
use ioctl::{Buffer, Device};
use rustix::io::Errno;
use std::path::Path;

/// Buffers asked of the driver: one is read, the others are filled meanwhile. More would only add delay.
const BUFFERS: u32 = 4;

/// A camera of the kernel that streams.
struct Camera {
    device: Device,
    buffers: Vec<Buffer>,
    /// The buffer whose picture was given out last: the driver gets it back at the next `grab`.
    held: Option<u32>,
    streaming: bool,
    frames: Frames,
    properties: SourceProperties,
}

/// Opens a camera by its device node, `/dev/videoN` or a link to one.
///
/// Errors: `SourceConnection` when it is absent, busy or refused, `SourceUnsupported` when it is no camera or
/// has no format that we know.
pub(super) fn open(path: &Path, properties: &[Property]) -> Result<Box<dyn Source>> {
    let mut device = Device::open(path).map_err(refusal)?;
    let (capabilities, name) = device.capabilities().map_err(|errno| no_camera().because(errno))?;
    if !capability::is_camera(capabilities) {
        return Err(no_camera());
    }
    let wish = Wish::of(properties);
    let frames = negotiate(&device, wish)?;
    controls::set(&device, properties);
    let fps = set_rate(&device, wish.fps.unwrap_or(format::DEFAULT_FPS));
    let buffers = device.map_buffers(BUFFERS).map_err(refusal)?;
    let Frames { width, height, content, .. } = frames;
    let path = path.display();
    log::info!(
        "event=camera_open device={path} name={name:?} width={width} height={height} content={content:?} fps={fps}"
    );
    let properties = SourceProperties {
        width: frames.width,
        height: frames.height,
        total_frames: -1,
        is_file: false,
        fps,
        timestamp_created: None,
    };
    Ok(Box::new(Camera { device, buffers, held: None, streaming: false, frames, properties }))
}

fn no_camera() -> Error {
    Error::new(Kind::SourceUnsupported, "the device is no camera")
}

/// Why a device cannot be had, in words.
fn refusal(cause: Errno) -> Error {
    let words = match cause {
        Errno::NOENT | Errno::NODEV | Errno::NXIO => "there is no such device",
        Errno::BUSY => "the device is busy: another program captures from it",
        Errno::ACCESS | Errno::PERM => "no permission for the device: is this user in the group video?",
        _ => "the device cannot be opened",
    };
    Error::new(Kind::SourceConnection, words).because(cause)
}

/// Agrees on format and size.
fn negotiate(device: &Device, wish: Wish) -> Result<Frames> {
    let fastest = |fourcc| device.fastest(fourcc, wish.width, wish.height);
    let fourcc = format::choose(&device.formats(), wish, fastest)?;
    let given = device.set_format(PixelFormat::new(wish.width, wish.height, fourcc)).map_err(refusal)?;
    Frames::new(&given)
}

/// Asks for a frame rate; answers the one that the driver gives, 0 where it has no say.
fn set_rate(device: &Device, fps: f64) -> f64 {
    device.set_rate((fps * 1000.0).round() as u32).unwrap_or(0.0)
}

/// The device is gone, or does what it must not.
fn lost(cause: Errno) -> Error {
    let words = if cause == Errno::NODEV { "the device was unplugged" } else { "the device failed" };
    Error::new(Kind::SourceLost, words).because(cause)
}

impl Camera {
    /// Gives all buffers to the driver, and starts.
    fn start(&mut self) -> Result<()> {
        // `map_buffers` made no more than fit.
        let count = u32::try_from(self.buffers.len()).unwrap_or(u32::MAX);
        (0..count).try_for_each(|index| self.device.queue(index)).map_err(refusal)?;
        self.device.start().map_err(refusal)?;
        self.streaming = true;
        Ok(())
    }
}

impl Source for Camera {
    fn properties(&self) -> SourceProperties {
        self.properties
    }

    fn grab(&mut self) -> Result<Grab<'_>> {
        if !self.streaming {
            self.start()?;
        }
        if let Some(index) = self.held.take() {
            self.device.queue(index).map_err(lost)?;
        }
        let filled =
            match self.device.wait(IDLE).and_then(|filled| filled.then(|| self.device.dequeue()).transpose())
            {
                Ok(Some(filled)) => filled,
                Ok(None) | Err(Errno::INTR | Errno::AGAIN) => return Ok(Grab::Idle),
                Err(cause) => return Err(lost(cause)),
            };
        self.held = Some(filled.index);
        let buffer = self.buffers.get(filled.index as usize).ok_or_else(|| lost(Errno::BADMSG))?;
        // Also a picture that is too short for its size: over USB a part of one gets lost. If none is whole,
        // that is a stall.
        let mut parts = [&[][..]; MAX_PARTS];
        if !filled.damaged {
            parts.iter_mut().zip(buffer.planes(&filled)).for_each(|(part, plane)| *part = plane);
        }
        let [data, ..] = parts;
        let grab = match self.frames.content {
            Content::Raw(layout) => self.frames.picture(layout, parts).ok().map(Grab::Picture),
            Content::Coded(_) if data.is_empty() => None,
            Content::Coded(codec) => Some(Grab::Packet(codec, AccessUnit { data, shown: true })),
        };
        Ok(grab.unwrap_or_else(|| {
            log::debug!("event=damaged_buffer sequence={}", filled.sequence);
            Grab::Idle
        }))
    }

    fn restart(&mut self) -> Result<()> {
        Err(Error::new(Kind::SourceUnsupported, "a camera cannot be played from its start"))
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        // Closing the device would do; a driver that refuses has nothing left to stop.
        let _ = self.device.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_camera_is_named() {
        let absent = open(Path::new("/dev/video-none"), &[])
            .err()
            .map(|error| (error.kind(), error.message().to_owned()));
        assert_eq!(absent, Some((Kind::SourceConnection, "there is no such device".to_owned())));
        let null = open(Path::new("/dev/null"), &[]).err().map(|error| error.kind());
        assert_eq!(null, Some(Kind::SourceUnsupported));
    }
}
