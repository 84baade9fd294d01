//! The requests of V4L2 that a capture device needs, single-planar or multi-planar.

use crate::capture::worker::videodev::mapping::Mapping;
use crate::capture::worker::videodev::raw::*;
use rustix::event::PollFlags;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::Opcode;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// A buffer that the driver has filled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filled {
    /// Which of the mapped buffers.
    pub(super) index: u32,
    /// Bytes in use of each plane, as the driver says: from, to.
    used: [(u32, u32); MAX_PLANES],
    /// The driver says that the picture is damaged.
    pub(super) damaged: bool,
    /// Counts the frames of the device, lost ones included.
    pub(super) sequence: u32,
}

/// What a driver gave when it was asked for a format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Given {
    /// With the stride of the first plane.
    pub(super) pixels: PixelFormat,
    /// Bytes from row to row of each plane that has memory of its own; one entry where all share one.
    pub(super) strides: Vec<u32>,
}

/// An open device node.
#[derive(Debug)]
pub(super) struct Device {
    fd: OwnedFd,
    /// Type of its queue: [`CAPTURE`] or [`CAPTURE_PLANES`].
    kind: u32,
}

impl Device {
    pub(super) fn open(path: &Path) -> Result<Device> {
        let fd = rustix::fs::open(path, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Device { fd, kind: CAPTURE })
    }

    fn request<const CODE: Opcode, T: Plain>(&self, value: &mut T) -> Result<()> {
        request::<CODE, T>(&self.fd, value)
    }

    /// What this node can do, and the name of the device. One that gives pictures in planes is asked for them
    /// from here on.
    pub(super) fn capabilities(&mut self) -> Result<(u32, String)> {
        let mut raw = RawCapability::default();
        self.request::<QUERYCAP, _>(&mut raw)?;
        let capabilities = capability::of_node(&raw);
        if capabilities & (capability::VIDEO_CAPTURE | capability::VIDEO_CAPTURE_MPLANE)
            == capability::VIDEO_CAPTURE_MPLANE
        {
            self.kind = CAPTURE_PLANES;
        }
        Ok((capabilities, text(&raw.card)))
    }

    /// The pixel formats it offers.
    pub(super) fn formats(&self) -> Vec<[u8; 4]> {
        formats(&self.fd, self.kind)
    }

    /// Widths and heights of a format; of a range its largest.
    pub(super) fn sizes(&self, fourcc: [u8; 4]) -> Vec<(u32, u32)> {
        let sizes = (0..MAX_LISTED).map_while(|index| {
            let mut raw = RawFrameSize { index, pixel_format: fourcc, ..RawFrameSize::default() };
            self.request::<ENUM_FRAMESIZES, _>(&mut raw).ok()?;
            let ([width, height, _], [_, largest_height, _]) = (raw.first, raw.second);
            // A range is the only entry of its list: what is called height above is then the largest width.
            Some(if raw.kind == ONE_SIZE { (width, height) } else { (height, largest_height) })
        });
        sizes.collect()
    }

    /// The highest frame rate of a format at a size; `None` where the driver does not say.
    pub(super) fn fastest(&self, fourcc: [u8; 4], width: u32, height: u32) -> Option<f64> {
        let rates = (0..MAX_LISTED).map_while(|index| {
            let mut raw = RawFrameInterval {
                index,
                pixel_format: fourcc,
                width,
                height,
                ..RawFrameInterval::default()
            };
            self.request::<ENUM_FRAMEINTERVALS, _>(&mut raw).ok().map(|()| raw.shortest.rate())
        });
        rates.flatten().reduce(f64::max)
    }

    /// Sets the format; answers the one that the driver gives, which may differ in everything.
    pub(super) fn set_format(&self, pixels: PixelFormat) -> Result<Given> {
        if self.kind == CAPTURE_PLANES {
            return self.set_format_of_planes(pixels);
        }
        let mut raw = RawFormat::new(CAPTURE, pixels);
        self.request::<S_FMT, _>(&mut raw)?;
        Ok(Given { pixels: raw.pixels, strides: vec![raw.pixels.stride] })
    }

    fn set_format_of_planes(&self, pixels: PixelFormat) -> Result<Given> {
        let PixelFormat { width, height, fourcc, .. } = pixels;
        // As many planes as the format has: the driver says.
        let wanted = RawPlanesFormat { width, height, fourcc, ..RawPlanesFormat::default() };
        let mut raw = RawFormatOfPlanes::new(self.kind, wanted);
        self.request::<S_FMT_OF_PLANES, _>(&mut raw)?;
        let RawPlanesFormat {
            width, height, fourcc, colorspace, planes, count, encoding, quantization, ..
        } = raw.pixels;
        let strides: Vec<u32> = planes.iter().take(count.into()).map(|plane| plane.stride).collect();
        let stride = *strides.first().ok_or(Errno::BADMSG)?;
        let (encoding, quantization) = (encoding.into(), quantization.into());
        let pixels = PixelFormat {
            stride,
            colorspace,
            encoding,
            quantization,
            ..PixelFormat::new(width, height, fourcc)
        };
        Ok(Given { pixels, strides })
    }

    /// Asks for a frame rate, `per_1000_s` frames in 1000 seconds; answers the one that the driver gives,
    /// `None` where it has no say.
    pub(super) fn set_rate(&self, per_1000_s: u32) -> Option<f64> {
        let interval = Fraction { numerator: 1000, denominator: per_1000_s };
        let mut raw = RawParameters { kind: self.kind, capability: 0, _mode: 0, interval, _rest: [0; 184] };
        if self.request::<S_PARM, _>(&mut raw).is_err() {
            raw.interval = Fraction::default();
            self.request::<G_PARM, _>(&mut raw).ok()?;
        }
        raw.interval.rate()
    }

    /// Sets a control: a boolean to whether the value is not 0, others to the nearest value in their range.
    pub(super) fn set_control(&self, id: u32, value: f64) -> Result<()> {
        let mut about = RawControlDescription { id, ..RawControlDescription::default() };
        self.request::<QUERYCTRL, _>(&mut about)?;
        if about.flags & CONTROL_DISABLED != 0 {
            return Err(Errno::INVAL);
        }
        let value = match about.kind {
            CONTROL_BOOLEAN => i32::from(value != 0.0),
            // `as` saturates. Not `clamp`, which panics where a driver's limits are the wrong way round.
            _ => (value as i32).min(about.maximum).max(about.minimum),
        };
        self.request::<S_CTRL, _>(&mut RawControl { id, value })
    }

    /// Has the driver make `count` buffers, or as many as it likes, and maps them.
    pub(super) fn map_buffers(&self, count: u32) -> Result<Vec<Buffer>> {
        let mut raw =
            RawRequestBuffers { count, kind: self.kind, memory: MAPPED, _capabilities: 0, flags: 0 };
        self.request::<REQBUFS, _>(&mut raw)?;
        (0..raw.count.min(MAX_LISTED)).map(|index| Buffer::map(self, index)).collect()
    }

    /// Gives the driver a buffer to fill.
    pub(super) fn queue(&self, index: u32) -> Result<()> {
        self.buffer::<QBUF>(index).map(drop)
    }

    fn buffer<const CODE: Opcode>(&self, index: u32) -> Result<(RawBuffer, [RawPlane; MAX_PLANES])> {
        buffer::<CODE>(&self.fd, self.kind, index, |_, _| {})
    }

    /// Takes a filled buffer back; `AGAIN` where there is none.
    pub(super) fn dequeue(&self) -> Result<Filled> {
        let (raw, planes) = self.buffer::<DQBUF>(0)?;
        let damaged = raw.flags & BUFFER_ERROR != 0;
        let used = planes.map(|plane| (plane.data_offset, plane.bytes_used));
        Ok(Filled { index: raw.index, used, damaged, sequence: raw.sequence })
    }

    pub(super) fn start(&self) -> Result<()> {
        self.request::<STREAMON, _>(&mut { self.kind })
    }

    pub(super) fn stop(&self) -> Result<()> {
        self.request::<STREAMOFF, _>(&mut { self.kind })
    }

    /// Waits until a buffer is filled or something is wrong with the device; `false` when the time is over.
    pub(super) fn wait(&self, longest: Duration) -> Result<bool> {
        Ok(!wait(&self.fd, PollFlags::IN, longest)?.is_empty())
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A buffer of the driver's: one piece of memory or one for each plane.
#[derive(Debug)]
pub(super) struct Buffer(Vec<Mapping>);

impl Buffer {
    fn map(device: &Device, index: u32) -> Result<Buffer> {
        let (raw, planes) = device.buffer::<QUERYBUF>(index)?;
        let count = if device.kind == CAPTURE_PLANES { raw.length as usize } else { 1 };
        planes
            .iter()
            .take(count)
            .map(|plane| Mapping::to_read(device, plane))
            .collect::<Result<_>>()
            .map(Buffer)
    }

    /// What the driver has written into each piece.
    pub(super) fn planes(&self, filled: &Filled) -> impl Iterator<Item = &[u8]> {
        self.0
            .iter()
            .zip(filled.used)
            .map(|(mapping, (from, to))| mapping.data(to).get(from as usize..).unwrap_or_default())
    }
}
