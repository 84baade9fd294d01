//! Cameras behind V4L2, through the `v4l` crate's memory-mapped buffers.

mod controls;
mod format;

use crate::capture::decode::AccessUnit;
use crate::capture::decode::annexb::is_key;
use crate::capture::source::{Grab, IDLE, Source};
use crate::command::{Property, SourceProperties};
use crate::error::{Error, Kind, Result};
use format::{Content, Frames, Wish};
use rustix::io::Errno;
use std::io;
use std::path::Path;
use v4l::buffer::{Flags, Type};
use v4l::capability::Flags as Capability;
use v4l::io::mmap::Stream as Buffers;
use v4l::io::traits::{CaptureStream, Stream};
use v4l::video::Capture;
use v4l::video::capture::Parameters;
use v4l::{Device, Format, FourCC, Fraction};

/// Buffers asked of the driver: one is read, the others are filled meanwhile. More would only add delay.
const BUFFERS: u32 = 4;

/// `poll`'s flag for "a buffer is full".
const POLLIN: i16 = 1;

/// Frame intervals are set in this part of a second.
const INTERVAL_UNITS: u32 = 1000;

/// An open camera.
struct Camera {
    device: Device,
    /// Always there until `drop` takes it.
    buffers: Option<Buffers<'static>>,
    streaming: bool,
    frames: Frames,
    properties: SourceProperties,
}

/// Opens a camera by its device node, `/dev/videoN` or a link to one.
///
/// Errors: `SourceConnection` when it is absent, busy or refused, `SourceUnsupported` when it is no camera or has no format that we know.
pub(super) fn open(path: &Path, properties: &[Property]) -> Result<Box<dyn Source>> {
    let device = Device::with_path(path).map_err(refusal)?;
    let capabilities = device.query_caps().map_err(|cause| no_camera().because(cause))?.capabilities;
    if capabilities.contains(Capability::VIDEO_CAPTURE_MPLANE) {
        return Err(Error::new(
            Kind::SourceUnsupported,
            "the device gives pictures in several planes only, which is not supported",
        ));
    }
    if !capabilities.contains(Capability::VIDEO_CAPTURE | Capability::STREAMING) {
        return Err(no_camera());
    }
    let wish = Wish::of(properties);
    let frames = negotiate(&device, wish)?;
    controls::set(&device, properties);
    let fps = set_rate(&device, wish.fps.unwrap_or(format::DEFAULT_FPS));
    let buffers = Buffers::with_buffers(&device, Type::VideoCapture, BUFFERS).map_err(refusal)?;
    log::info!(
        "camera open device={} width={} height={} content={:?} fps={fps}",
        path.display(),
        frames.width,
        frames.height,
        frames.content
    );
    let properties = SourceProperties {
        width: frames.width,
        height: frames.height,
        total_frames: -1,
        is_file: false,
        fps,
        timestamp_created: None,
    };
    Ok(Box::new(Camera { device, buffers: Some(buffers), streaming: false, frames, properties }))
}

fn no_camera() -> Error {
    Error::new(Kind::SourceUnsupported, "the device is no camera")
}

/// Why a device cannot be had, in words.
fn refusal(cause: io::Error) -> Error {
    let words = match cause.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT | Errno::NODEV | Errno::NXIO) => "there is no such device",
        Some(Errno::BUSY) => "the device is busy: another program captures from it",
        Some(Errno::ACCESS | Errno::PERM) => "no permission for the device: is this user in the group video?",
        _ => "the device cannot be opened",
    };
    Error::new(Kind::SourceConnection, words).because(cause)
}

/// Agrees on format and size.
fn negotiate(device: &Device, wish: Wish) -> Result<Frames> {
    let offered: Vec<[u8; 4]> = device.enum_formats().map_err(refusal)?.into_iter().map(|format| format.fourcc.repr).collect();
    let fastest = |fourcc: [u8; 4]| {
        let intervals = device.enum_frameintervals(FourCC::new(&fourcc), wish.width, wish.height);
        format::fastest(&intervals.unwrap_or_default())
    };
    let fourcc = format::choose(&offered, wish, fastest)?;
    // A new format has stride 0: a stale one would be honoured.
    let given = device.set_format(&Format::new(wish.width, wish.height, FourCC::new(&fourcc))).map_err(refusal)?;
    Frames::new(&given)
}

/// Asks for a frame rate; answers the one that the driver gives, 0 where it has no say.
fn set_rate(device: &Device, fps: f64) -> f64 {
    let interval = Fraction::new(INTERVAL_UNITS, (fps * f64::from(INTERVAL_UNITS)).round() as u32);
    let given = device.set_params(&Parameters::new(interval)).or_else(|_| device.params());
    given.map_or(0.0, |given| f64::from(given.interval.denominator) / f64::from(given.interval.numerator.max(1)))
}

/// Gives the driver all buffers but the first, which the first `next` gives, and starts.
fn start(buffers: &mut Buffers<'static>) -> Result<()> {
    for index in 1..BUFFERS as usize {
        // A driver may have given fewer than asked.
        if CaptureStream::queue(buffers, index).is_err() {
            break;
        }
    }
    buffers.start().map_err(refusal)?;
    buffers.set_timeout(IDLE);
    Ok(())
}

/// The device is gone, or does what it must not.
fn lost(cause: io::Error) -> Error {
    let gone = cause.raw_os_error().map(Errno::from_raw_os_error) == Some(Errno::NODEV);
    Error::new(Kind::SourceLost, if gone { "the device was unplugged" } else { "the device failed" }).because(cause)
}

impl Source for Camera {
    fn properties(&self) -> SourceProperties {
        self.properties
    }

    fn grab(&mut self) -> Result<Grab<'_>> {
        let Some(buffers) = &mut self.buffers else { return Ok(Grab::End) };
        if !self.streaming {
            start(buffers)?;
            self.streaming = true;
        }
        let timeout_ms = i32::try_from(IDLE.as_millis()).unwrap_or(i32::MAX);
        match self.device.handle().poll(POLLIN, timeout_ms) {
            Ok(0) => return Ok(Grab::Idle),
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => return Ok(Grab::Idle),
            Err(cause) => return Err(lost(cause)),
            Ok(_) => {}
        }
        let (buffer, about) = buffers.next().map_err(lost)?;
        let used = usize::try_from(about.bytesused).unwrap_or(usize::MAX).min(buffer.len());
        if about.flags.contains(Flags::ERROR) || used == 0 {
            log::debug!("camera gave a damaged buffer sequence={}", about.sequence);
            return Ok(Grab::Idle);
        }
        let (data, _) = buffer.split_at(used);
        match self.frames.content {
            Content::Raw(layout) => Ok(Grab::Picture(self.frames.picture(layout, data)?)),
            Content::Coded(codec) => Ok(Grab::Packet(codec, AccessUnit { data, key: is_key(codec, data), shown: true })),
        }
    }

    fn restart(&mut self) -> Result<()> {
        Err(Error::new(Kind::SourceUnsupported, "a camera cannot be played from its start"))
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        if let Some(mut buffers) = self.buffers.take() {
            match buffers.stop() {
                // Stopping twice is allowed, so the crate's own `drop` succeeds too.
                Ok(()) => drop(buffers),
                // It would panic here. Mapping and descriptor stay until the process ends, which is soon.
                Err(_) => std::mem::forget(buffers),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_camera_is_named() {
        let absent = open(Path::new("/dev/video-none"), &[]).err().map(|error| (error.kind(), error.message().to_owned()));
        assert_eq!(absent, Some((Kind::SourceConnection, "there is no such device".to_owned())));
        let null = open(Path::new("/dev/null"), &[]).err().map(|error| error.kind());
        assert_eq!(null, Some(Kind::SourceUnsupported));
    }
}
