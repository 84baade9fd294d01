//! The requests of V4L2 that a capture device needs, single-planar or multi-planar, as safe functions.
//!
//! Structures and numbers are those of `linux/videodev2.h`; padding and fields that nobody here reads are
//! named `_`. What a driver writes is taken as plain numbers and bytes: nothing here fails on a value that
//! nobody foresaw.
#![allow(unsafe_code)] // Requests to a device and mapped buffers cannot be had from safe code.

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use rustix::mm::{MapFlags, ProtFlags};
use std::ffi::c_void;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::ptr::NonNull;
use std::time::Duration;

type Result<T> = std::result::Result<T, Errno>;

/// `V4L2_BUF_TYPE_VIDEO_CAPTURE`.
const CAPTURE: u32 = 1;
/// `V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE`: each buffer is a list of planes with memory of their own.
const CAPTURE_PLANES: u32 = 9;
/// `VIDEO_MAX_PLANES`.
const MAX_PLANES: usize = 8;
/// `V4L2_BUF_TYPE_VIDEO_OUTPUT`: what a decoder is given, with all planes in one buffer and with buffers of
/// their own.
const OUTPUTS: [u32; 2] = [2, 10];
/// `V4L2_MEMORY_MMAP`.
const MAPPED: u32 = 1;
/// All requests of V4L2 have this type.
const GROUP: u8 = b'V';

/// Bits of [`Device::capabilities`] (`V4L2_CAP_…`).
pub(super) mod capability {
    pub(super) const VIDEO_CAPTURE: u32 = 1;
    pub(super) const VIDEO_CAPTURE_MPLANE: u32 = 0x1000;
    /// Memory to memory: decoders, encoders, scalers.
    pub(in super::super) const M2M: u32 = 0xc000;
    const STREAMING: u32 = 0x0400_0000;
    pub(super) const DEVICE_CAPS: u32 = 0x8000_0000;

    /// Gives pictures, as a stream.
    pub(in super::super) fn is_camera(capabilities: u32) -> bool {
        capabilities & (VIDEO_CAPTURE | VIDEO_CAPTURE_MPLANE) != 0 && capabilities & STREAMING != 0
    }
}

/// `V4L2_BUF_FLAG_ERROR`.
const BUFFER_ERROR: u32 = 0x40;
/// `V4L2_CTRL_FLAG_DISABLED`.
const CONTROL_DISABLED: u32 = 1;
/// `V4L2_CTRL_TYPE_BOOLEAN`.
const CONTROL_BOOLEAN: u32 = 2;

/// Most entries that are read of a driver's list, and most buffers: a driver that never ends its list must
/// not hold us.
const MAX_LISTED: u32 = 256;

/// `struct v4l2_capability`.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawCapability {
    driver: [u8; 16],
    card: [u8; 32],
    bus: [u8; 32],
    version: u32,
    capabilities: u32,
    device_capabilities: u32,
    _reserved: [u32; 3],
}

/// `struct v4l2_fmtdesc`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RawFormatDescription {
    index: u32,
    kind: u32,
    _flags: u32,
    _description: [u8; 32],
    pixel_format: [u8; 4],
    _code_and_reserved: [u32; 4],
}

/// `struct v4l2_pix_format`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PixelFormat {
    /// Pixels.
    pub(super) width: u32,
    /// Pixels.
    pub(super) height: u32,
    /// The four letters.
    pub(super) fourcc: [u8; 4],
    _field: u32,
    /// Bytes from row to row of the first plane; 0 lets the driver choose.
    pub(super) stride: u32,
    /// Bytes of the largest picture.
    size: u32,
    /// `V4L2_COLORSPACE_…`
    pub(super) colorspace: u32,
    _private: u32,
    _flags: u32,
    /// `V4L2_YCBCR_ENC_…`
    pub(super) encoding: u32,
    /// `V4L2_QUANTIZATION_…`
    pub(super) quantization: u32,
    _transfer: u32,
}

impl PixelFormat {
    /// What to ask for. Stride and size are the driver's to choose: stale ones would be honoured.
    pub(super) fn new(width: u32, height: u32, fourcc: [u8; 4]) -> PixelFormat {
        PixelFormat { width, height, fourcc, ..PixelFormat::default() }
    }
}

/// `struct v4l2_format`: a union of 200 bytes, which holds pointers.
#[repr(C)]
struct RawFormat {
    kind: u32,
    #[cfg(target_pointer_width = "64")]
    _alignment: u32,
    pixels: PixelFormat,
    _rest: [u8; 152],
}

/// `struct v4l2_plane_pix_format`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RawPlaneFormat {
    _size: u32,
    stride: u32,
    _reserved: [u16; 6],
}

/// `struct v4l2_pix_format_mplane`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RawPlanesFormat {
    width: u32,
    height: u32,
    fourcc: [u8; 4],
    _field: u32,
    colorspace: u32,
    planes: [RawPlaneFormat; MAX_PLANES],
    count: u8,
    _flags: u8,
    encoding: u8,
    quantization: u8,
    _transfer_and_reserved: [u8; 8],
}

/// `struct v4l2_format` with that member of its union.
#[repr(C)]
struct RawFormatOfPlanes {
    kind: u32,
    #[cfg(target_pointer_width = "64")]
    _alignment: u32,
    pixels: RawPlanesFormat,
    _rest: [u8; 8],
}

/// `struct v4l2_plane`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RawPlane {
    bytes_used: u32,
    length: u32,
    place: Place,
    /// Bytes before the samples, counted in `bytes_used`.
    data_offset: u32,
    _reserved: [u32; 11],
}

/// `struct v4l2_fract`, of a second.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Fraction {
    numerator: u32,
    denominator: u32,
}

impl Fraction {
    /// Frames per second; `None` for an interval of nothing.
    fn rate(self) -> Option<f64> {
        (self.numerator > 0).then(|| f64::from(self.denominator) / f64::from(self.numerator))
    }
}

/// `struct v4l2_frmsizeenum`: one size, or a range of which the fields are smallest and largest.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RawFrameSize {
    index: u32,
    pixel_format: [u8; 4],
    kind: u32,
    /// Width and height of one size; of a range, smallest and largest width and its step.
    first: [u32; 3],
    /// Of a range: smallest and largest height and its step.
    second: [u32; 3],
    _reserved: [u32; 2],
}

/// `V4L2_FRMSIZE_TYPE_DISCRETE`.
const ONE_SIZE: u32 = 1;

/// `struct v4l2_frmivalenum`: one interval, or a range whose shortest comes first.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RawFrameInterval {
    index: u32,
    pixel_format: [u8; 4],
    width: u32,
    height: u32,
    _kind: u32,
    shortest: Fraction,
    _longest_and_step: [Fraction; 2],
    _reserved: [u32; 2],
}

/// `struct v4l2_streamparm` with the `capture` member of its union of 200 bytes.
#[repr(C)]
struct RawParameters {
    kind: u32,
    capability: u32,
    _mode: u32,
    interval: Fraction,
    _rest: [u8; 184],
}

/// `struct v4l2_queryctrl`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RawControlDescription {
    id: u32,
    kind: u32,
    _name: [u8; 32],
    minimum: i32,
    maximum: i32,
    _step: i32,
    _default: i32,
    flags: u32,
    _reserved: [u32; 2],
}

/// `struct v4l2_control`.
#[repr(C)]
struct RawControl {
    id: u32,
    value: i32,
}

/// `struct v4l2_requestbuffers`.
#[repr(C)]
struct RawRequestBuffers {
    count: u32,
    kind: u32,
    memory: u32,
    _capabilities: u32,
    _flags: u32,
}

/// `struct v4l2_buffer`, with 64-bit seconds also where pointers have 32 bits.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RawBuffer {
    index: u32,
    kind: u32,
    bytes_used: u32,
    flags: u32,
    _field: u32,
    _timestamp: [i64; 2],
    _timecode: [u32; 4],
    sequence: u32,
    memory: u32,
    place: Place,
    /// Bytes; of a list of planes, how many.
    length: u32,
    _reserved: [u32; 2],
}

/// Where a buffer or plane lies: `m` of `struct v4l2_buffer` and `struct v4l2_plane`.
#[repr(C)]
#[derive(Clone, Copy)]
union Place {
    /// Of the mapping, at the device.
    offset: u32,
    /// The planes of a buffer.
    planes: *mut RawPlane,
    /// All of it.
    bits: usize,
}

impl Default for Place {
    fn default() -> Place {
        Place { bits: 0 }
    }
}

impl Place {
    fn offset(self) -> u32 {
        // SAFETY: every member is plain bits, and all of them were written by `default` or by the kernel.
        unsafe { self.offset }
    }
}

// The kernel knows each request by the size of its structure too.
const _: () = {
    use std::mem::size_of;
    let word = size_of::<usize>();
    assert!(size_of::<RawCapability>() == 104 && size_of::<RawFormatDescription>() == 64);
    assert!(size_of::<PixelFormat>() == 48 && size_of::<RawFormat>() == 200 + word);
    assert!(size_of::<RawFrameSize>() == 44);
    assert!(size_of::<RawFrameInterval>() == 52 && size_of::<RawParameters>() == 204);
    assert!(size_of::<RawControlDescription>() == 68 && size_of::<RawRequestBuffers>() == 20);
    assert!(size_of::<RawBuffer>() == 72 + 2 * word);
    assert!(size_of::<RawPlanesFormat>() == 192 && size_of::<RawFormatOfPlanes>() == size_of::<RawFormat>());
    assert!(size_of::<RawPlane>() == 56 + word);
};

const QUERYCAP: Opcode = opcode::read::<RawCapability>(GROUP, 0);
const ENUM_FMT: Opcode = opcode::read_write::<RawFormatDescription>(GROUP, 2);
const S_FMT: Opcode = opcode::read_write::<RawFormat>(GROUP, 5);
const S_FMT_OF_PLANES: Opcode = opcode::read_write::<RawFormatOfPlanes>(GROUP, 5);
const REQBUFS: Opcode = opcode::read_write::<RawRequestBuffers>(GROUP, 8);
const QUERYBUF: Opcode = opcode::read_write::<RawBuffer>(GROUP, 9);
const QBUF: Opcode = opcode::read_write::<RawBuffer>(GROUP, 15);
const DQBUF: Opcode = opcode::read_write::<RawBuffer>(GROUP, 17);
const STREAMON: Opcode = opcode::write::<u32>(GROUP, 18);
const STREAMOFF: Opcode = opcode::write::<u32>(GROUP, 19);
const G_PARM: Opcode = opcode::read_write::<RawParameters>(GROUP, 21);
const S_PARM: Opcode = opcode::read_write::<RawParameters>(GROUP, 22);
const S_CTRL: Opcode = opcode::read_write::<RawControl>(GROUP, 28);
const QUERYCTRL: Opcode = opcode::read_write::<RawControlDescription>(GROUP, 36);
const ENUM_FRAMESIZES: Opcode = opcode::read_write::<RawFrameSize>(GROUP, 74);
const ENUM_FRAMEINTERVALS: Opcode = opcode::read_write::<RawFrameInterval>(GROUP, 75);

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
    /// [`CAPTURE`] or [`CAPTURE_PLANES`].
    kind: u32,
}

impl Device {
    pub(super) fn open(path: &Path) -> Result<Device> {
        let fd = rustix::fs::open(path, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Device { fd, kind: CAPTURE })
    }

    fn request<const CODE: Opcode, T>(&self, value: &mut T) -> Result<()> {
        // SAFETY: `CODE` is one of the constants above, each made for its `T`: plain data of the size that
        // the kernel reads and writes, for which every pattern of bits is a value. The one pointer in it is
        // that to the planes of a buffer, which `buffer` keeps alive and as long as it says.
        unsafe { ioctl(&self.fd, Updater::<CODE, T>::new(value)) }
    }

    /// What this node can do, and the name of the device. One that gives pictures in planes is asked for them
    /// from here on.
    pub(super) fn capabilities(&mut self) -> Result<(u32, String)> {
        let mut raw = RawCapability {
            driver: [0; 16],
            card: [0; 32],
            bus: [0; 32],
            version: 0,
            capabilities: 0,
            device_capabilities: 0,
            _reserved: [0; 3],
        };
        self.request::<QUERYCAP, _>(&mut raw)?;
        // Those of this node where the driver tells them apart: a camera also has nodes for metadata.
        let apart = raw.capabilities & capability::DEVICE_CAPS != 0;
        let capabilities = if apart { raw.device_capabilities } else { raw.capabilities };
        if capabilities & (capability::VIDEO_CAPTURE | capability::VIDEO_CAPTURE_MPLANE)
            == capability::VIDEO_CAPTURE_MPLANE
        {
            self.kind = CAPTURE_PLANES;
        }
        // The kernel cuts names at 31 bytes, also in the middle of a character.
        let name = raw.card.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok((capabilities, String::from_utf8_lossy(name).into_owned()))
    }

    /// The pixel formats it offers.
    pub(super) fn formats(&self) -> Vec<[u8; 4]> {
        self.formats_of(self.kind)
    }

    /// The formats that it takes, where it is given pictures or coded video to work on.
    pub(super) fn input_formats(&self) -> Vec<[u8; 4]> {
        OUTPUTS.into_iter().flat_map(|kind| self.formats_of(kind)).collect()
    }

    fn formats_of(&self, kind: u32) -> Vec<[u8; 4]> {
        let offered = (0..MAX_LISTED).map_while(|index| {
            let mut raw = RawFormatDescription { index, kind, ..RawFormatDescription::default() };
            self.request::<ENUM_FMT, _>(&mut raw).ok().map(|()| raw.pixel_format)
        });
        offered.collect()
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
        let mut raw = RawFormat {
            kind: CAPTURE,
            #[cfg(target_pointer_width = "64")]
            _alignment: 0,
            pixels,
            _rest: [0; 152],
        };
        self.request::<S_FMT, _>(&mut raw)?;
        Ok(Given { pixels: raw.pixels, strides: vec![raw.pixels.stride] })
    }

    fn set_format_of_planes(&self, pixels: PixelFormat) -> Result<Given> {
        let PixelFormat { width, height, fourcc, .. } = pixels;
        let mut raw = RawFormatOfPlanes {
            kind: self.kind,
            #[cfg(target_pointer_width = "64")]
            _alignment: 0,
            // As many planes as the format has: the driver says.
            pixels: RawPlanesFormat { width, height, fourcc, ..RawPlanesFormat::default() },
            _rest: [0; 8],
        };
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
            RawRequestBuffers { count, kind: self.kind, memory: MAPPED, _capabilities: 0, _flags: 0 };
        self.request::<REQBUFS, _>(&mut raw)?;
        (0..raw.count.min(MAX_LISTED)).map(|index| Buffer::map(self, index)).collect()
    }

    /// Gives the driver a buffer to fill.
    pub(super) fn queue(&self, index: u32) -> Result<()> {
        self.buffer::<QBUF>(index).map(drop)
    }

    /// A request about a buffer; answers what the kernel says of it and of its planes. One that has no list
    /// of planes is described as its first.
    fn buffer<const CODE: Opcode>(&self, index: u32) -> Result<(RawBuffer, [RawPlane; MAX_PLANES])> {
        let mut planes = [RawPlane::default(); MAX_PLANES];
        let mut raw = RawBuffer { index, kind: self.kind, memory: MAPPED, ..RawBuffer::default() };
        if self.kind == CAPTURE_PLANES {
            (raw.place, raw.length) = (Place { planes: planes.as_mut_ptr() }, MAX_PLANES as u32);
        }
        self.request::<CODE, _>(&mut raw)?;
        if self.kind == CAPTURE {
            planes[0] = RawPlane {
                bytes_used: raw.bytes_used,
                length: raw.length,
                place: raw.place,
                ..RawPlane::default()
            };
        }
        Ok((raw, planes))
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
        let mut wanted = [PollFd::new(&self.fd, PollFlags::IN)];
        let timeout = rustix::time::Timespec::try_from(longest).ok();
        Ok(rustix::event::poll(&mut wanted, timeout.as_ref())? > 0)
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
        planes.iter().take(count).map(|plane| Mapping::new(device, plane)).collect::<Result<_>>().map(Buffer)
    }

    /// What the driver has written into each piece.
    pub(super) fn planes(&self, filled: &Filled) -> impl Iterator<Item = &[u8]> {
        self.0
            .iter()
            .zip(filled.used)
            .map(|(mapping, (from, to))| mapping.data(to).get(from as usize..).unwrap_or_default())
    }
}

/// Memory of the driver's, mapped to be read; unmapped when dropped.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

impl Mapping {
    fn new(device: &Device, plane: &RawPlane) -> Result<Mapping> {
        let (bytes, offset) = (plane.length as usize, u64::from(plane.place.offset()));
        // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory that Rust knows of.
        let start = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), bytes, ProtFlags::READ, MapFlags::SHARED, device, offset)
        }?;
        Ok(Mapping { start: NonNull::new(start.cast()).ok_or(Errno::NOMEM)?, bytes })
    }

    /// The first `used` bytes, or all where there are fewer.
    fn data(&self, used: u32) -> &[u8] {
        // SAFETY: mapped to be read for `self.bytes` bytes until `drop`. The caller holds the buffer, so the
        // driver does not write into it; one that does so all the same changes bytes, each of which is valid
        // whatever its value.
        let all = unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) };
        all.get(..used as usize).unwrap_or(all)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by `new` with this very size, and no reference into it outlives its owner.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast::<c_void>(), self.bytes) };
    }
}
