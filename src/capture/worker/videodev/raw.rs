//! Structures and requests of V4L2, and how they are made. The only file here beside [`super::mapping`] that
//! does what safe code cannot.
//!
//! Structures and numbers are those of `linux/videodev2.h`; padding and fields that nobody here reads are
//! named `_`. What a driver writes is taken as plain numbers and bytes: nothing here fails on a value that
//! nobody foresaw.
#![allow(unsafe_code)] // Requests to a device cannot be had from safe code.

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use std::os::fd::AsFd;
use std::time::Duration;

pub(in crate::capture::worker) type Result<T> = std::result::Result<T, Errno>;

/// `V4L2_BUF_TYPE_VIDEO_CAPTURE`: what comes out of a device.
pub(in crate::capture::worker) const CAPTURE: u32 = 1;
/// `V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE`: each buffer is a list of planes with memory of their own.
pub(in crate::capture::worker) const CAPTURE_PLANES: u32 = 9;
/// `V4L2_BUF_TYPE_VIDEO_OUTPUT`: what a decoder is given.
pub(in crate::capture::worker) const OUTPUT: u32 = 2;
/// `V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE`.
pub(in crate::capture::worker) const OUTPUT_PLANES: u32 = 10;
/// `VIDEO_MAX_PLANES`.
pub(in crate::capture::worker) const MAX_PLANES: usize = 8;
/// `V4L2_MEMORY_MMAP`.
pub(in crate::capture::worker) const MAPPED: u32 = 1;
/// All requests of V4L2 have this type.
const GROUP: u8 = b'V';

/// `V4L2_BUF_FLAG_ERROR`.
pub(in crate::capture::worker) const BUFFER_ERROR: u32 = 0x40;
/// `V4L2_BUF_FLAG_LAST`.
pub(in crate::capture::worker) const BUFFER_LAST: u32 = 0x0010_0000;
/// `V4L2_CTRL_FLAG_DISABLED`.
pub(in crate::capture::worker) const CONTROL_DISABLED: u32 = 1;
/// `V4L2_CTRL_TYPE_BOOLEAN`.
pub(in crate::capture::worker) const CONTROL_BOOLEAN: u32 = 2;

/// Most entries that are read of a driver's list, and most buffers: a driver that never ends its list must
/// not hold us.
pub(in crate::capture::worker) const MAX_LISTED: u32 = 256;

/// Whether buffers of this type are lists of planes.
pub(in crate::capture::worker) fn is_of_planes(kind: u32) -> bool {
    kind == CAPTURE_PLANES || kind == OUTPUT_PLANES
}

/// Bits of what a node can do (`V4L2_CAP_…`).
pub(in crate::capture::worker) mod capability {
    pub(in crate::capture::worker) const VIDEO_CAPTURE: u32 = 1;
    pub(in crate::capture::worker) const VIDEO_CAPTURE_MPLANE: u32 = 0x1000;
    /// Memory to memory: decoders, encoders, scalers.
    pub(in crate::capture::worker) const M2M: u32 = 0x8000;
    pub(in crate::capture::worker) const M2M_MPLANE: u32 = 0x4000;
    const STREAMING: u32 = 0x0400_0000;
    const DEVICE_CAPS: u32 = 0x8000_0000;

    /// Gives pictures, as a stream.
    pub(in crate::capture::worker) fn is_camera(capabilities: u32) -> bool {
        capabilities & (VIDEO_CAPTURE | VIDEO_CAPTURE_MPLANE) != 0 && capabilities & STREAMING != 0
    }

    /// Takes something, works on it and gives it back, as a stream.
    pub(in crate::capture::worker) fn is_m2m(capabilities: u32) -> bool {
        capabilities & (M2M | M2M_MPLANE) != 0
    }

    /// Those of the node itself where the driver tells them apart: a camera also has nodes for metadata.
    pub(in crate::capture::worker) fn of_node(raw: &super::RawCapability) -> u32 {
        if raw.capabilities & DEVICE_CAPS != 0 { raw.device_capabilities } else { raw.capabilities }
    }
}

/// A text of fixed size. The kernel cuts names, also in the middle of a character.
pub(in crate::capture::worker) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

/// `struct v4l2_capability`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(in crate::capture::worker) struct RawCapability {
    pub(in crate::capture::worker) driver: [u8; 16],
    pub(in crate::capture::worker) card: [u8; 32],
    pub(in crate::capture::worker) bus: [u8; 32],
    pub(in crate::capture::worker) version: u32,
    pub(in crate::capture::worker) capabilities: u32,
    pub(in crate::capture::worker) device_capabilities: u32,
    pub(in crate::capture::worker) _reserved: [u32; 3],
}

/// `struct v4l2_fmtdesc`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(in crate::capture::worker) struct RawFormatDescription {
    pub(in crate::capture::worker) index: u32,
    pub(in crate::capture::worker) kind: u32,
    pub(in crate::capture::worker) _flags: u32,
    pub(in crate::capture::worker) _description: [u8; 32],
    pub(in crate::capture::worker) pixel_format: [u8; 4],
    pub(in crate::capture::worker) _code_and_reserved: [u32; 4],
}

/// `struct v4l2_pix_format`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::capture::worker) struct PixelFormat {
    /// Width of the pictures, pixels.
    pub(in crate::capture::worker) width: u32,
    /// Height of the pictures, pixels.
    pub(in crate::capture::worker) height: u32,
    /// The four letters of the format (`V4L2_PIX_FMT_…`).
    pub(in crate::capture::worker) fourcc: [u8; 4],
    pub(in crate::capture::worker) _field: u32,
    /// Bytes from row to row of the first plane; 0 lets the driver choose.
    pub(in crate::capture::worker) stride: u32,
    /// Bytes of the largest picture.
    pub(in crate::capture::worker) size: u32,
    /// `V4L2_COLORSPACE_…`
    pub(in crate::capture::worker) colorspace: u32,
    pub(in crate::capture::worker) _private: u32,
    pub(in crate::capture::worker) _flags: u32,
    /// `V4L2_YCBCR_ENC_…`
    pub(in crate::capture::worker) encoding: u32,
    /// `V4L2_QUANTIZATION_…`
    pub(in crate::capture::worker) quantization: u32,
    pub(in crate::capture::worker) _transfer: u32,
}

impl PixelFormat {
    /// What to ask for. Stride and size are the driver's to choose: stale ones would be honoured.
    pub(in crate::capture::worker) fn new(width: u32, height: u32, fourcc: [u8; 4]) -> PixelFormat {
        PixelFormat { width, height, fourcc, ..PixelFormat::default() }
    }
}

/// `struct v4l2_format`: a union of 200 bytes, which holds pointers.
#[repr(C)]
pub(in crate::capture::worker) struct RawFormat {
    pub(in crate::capture::worker) kind: u32,
    #[cfg(target_pointer_width = "64")]
    pub(in crate::capture::worker) _alignment: u32,
    pub(in crate::capture::worker) pixels: PixelFormat,
    pub(in crate::capture::worker) _rest: [u8; 152],
}

impl RawFormat {
    pub(in crate::capture::worker) fn new(kind: u32, pixels: PixelFormat) -> RawFormat {
        RawFormat {
            kind,
            #[cfg(target_pointer_width = "64")]
            _alignment: 0,
            pixels,
            _rest: [0; 152],
        }
    }
}

/// `struct v4l2_plane_pix_format`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(in crate::capture::worker) struct RawPlaneFormat {
    /// Bytes of the plane's largest picture.
    pub(in crate::capture::worker) size: u32,
    pub(in crate::capture::worker) stride: u32,
    pub(in crate::capture::worker) _reserved: [u16; 6],
}

/// `struct v4l2_pix_format_mplane`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(in crate::capture::worker) struct RawPlanesFormat {
    pub(in crate::capture::worker) width: u32,
    pub(in crate::capture::worker) height: u32,
    pub(in crate::capture::worker) fourcc: [u8; 4],
    pub(in crate::capture::worker) _field: u32,
    pub(in crate::capture::worker) colorspace: u32,
    pub(in crate::capture::worker) planes: [RawPlaneFormat; MAX_PLANES],
    pub(in crate::capture::worker) count: u8,
    pub(in crate::capture::worker) _flags: u8,
    pub(in crate::capture::worker) encoding: u8,
    pub(in crate::capture::worker) quantization: u8,
    pub(in crate::capture::worker) _transfer_and_reserved: [u8; 8],
}

/// `struct v4l2_format` with that member of its union.
#[repr(C)]
pub(in crate::capture::worker) struct RawFormatOfPlanes {
    pub(in crate::capture::worker) kind: u32,
    #[cfg(target_pointer_width = "64")]
    pub(in crate::capture::worker) _alignment: u32,
    pub(in crate::capture::worker) pixels: RawPlanesFormat,
    pub(in crate::capture::worker) _rest: [u8; 8],
}

impl RawFormatOfPlanes {
    pub(in crate::capture::worker) fn new(kind: u32, pixels: RawPlanesFormat) -> RawFormatOfPlanes {
        RawFormatOfPlanes {
            kind,
            #[cfg(target_pointer_width = "64")]
            _alignment: 0,
            pixels,
            _rest: [0; 8],
        }
    }
}

/// `struct v4l2_plane`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(in crate::capture::worker) struct RawPlane {
    pub(in crate::capture::worker) bytes_used: u32,
    pub(in crate::capture::worker) length: u32,
    pub(in crate::capture::worker) place: Place,
    /// Bytes before the samples, counted in `bytes_used`.
    pub(in crate::capture::worker) data_offset: u32,
    pub(in crate::capture::worker) _reserved: [u32; 11],
}

/// `struct v4l2_fract`, of a second.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(in crate::capture::worker) struct Fraction {
    pub(in crate::capture::worker) numerator: u32,
    pub(in crate::capture::worker) denominator: u32,
}

impl Fraction {
    /// Frames per second; `None` for an interval of nothing.
    pub(in crate::capture::worker) fn rate(self) -> Option<f64> {
        (self.numerator > 0).then(|| f64::from(self.denominator) / f64::from(self.numerator))
    }
}

/// `struct v4l2_frmsizeenum`: one size, or a range of which the fields are smallest and largest.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(in crate::capture::worker) struct RawFrameSize {
    pub(in crate::capture::worker) index: u32,
    pub(in crate::capture::worker) pixel_format: [u8; 4],
    pub(in crate::capture::worker) kind: u32,
    /// Width and height of one size; of a range, smallest and largest width and its step.
    pub(in crate::capture::worker) first: [u32; 3],
    /// Of a range: smallest and largest height and its step.
    pub(in crate::capture::worker) second: [u32; 3],
    pub(in crate::capture::worker) _reserved: [u32; 2],
}

/// `V4L2_FRMSIZE_TYPE_DISCRETE`.
pub(in crate::capture::worker) const ONE_SIZE: u32 = 1;

/// `struct v4l2_frmivalenum`: one interval, or a range whose shortest comes first.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(in crate::capture::worker) struct RawFrameInterval {
    pub(in crate::capture::worker) index: u32,
    pub(in crate::capture::worker) pixel_format: [u8; 4],
    pub(in crate::capture::worker) width: u32,
    pub(in crate::capture::worker) height: u32,
    pub(in crate::capture::worker) _kind: u32,
    pub(in crate::capture::worker) shortest: Fraction,
    pub(in crate::capture::worker) _longest_and_step: [Fraction; 2],
    pub(in crate::capture::worker) _reserved: [u32; 2],
}

/// `struct v4l2_streamparm` with the `capture` member of its union of 200 bytes.
#[repr(C)]
pub(in crate::capture::worker) struct RawParameters {
    pub(in crate::capture::worker) kind: u32,
    pub(in crate::capture::worker) capability: u32,
    pub(in crate::capture::worker) _mode: u32,
    pub(in crate::capture::worker) interval: Fraction,
    pub(in crate::capture::worker) _rest: [u8; 184],
}

/// `struct v4l2_queryctrl`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(in crate::capture::worker) struct RawControlDescription {
    pub(in crate::capture::worker) id: u32,
    pub(in crate::capture::worker) kind: u32,
    pub(in crate::capture::worker) _name: [u8; 32],
    pub(in crate::capture::worker) minimum: i32,
    pub(in crate::capture::worker) maximum: i32,
    pub(in crate::capture::worker) _step: i32,
    pub(in crate::capture::worker) _default: i32,
    pub(in crate::capture::worker) flags: u32,
    pub(in crate::capture::worker) _reserved: [u32; 2],
}

/// `struct v4l2_control`.
#[repr(C)]
pub(in crate::capture::worker) struct RawControl {
    pub(in crate::capture::worker) id: u32,
    pub(in crate::capture::worker) value: i32,
}

/// `struct v4l2_rect`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(in crate::capture::worker) struct RawRectangle {
    pub(in crate::capture::worker) left: i32,
    pub(in crate::capture::worker) top: i32,
    pub(in crate::capture::worker) width: u32,
    pub(in crate::capture::worker) height: u32,
}

/// `struct v4l2_selection`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(in crate::capture::worker) struct RawSelection {
    pub(in crate::capture::worker) kind: u32,
    pub(in crate::capture::worker) target: u32,
    pub(in crate::capture::worker) _flags: u32,
    pub(in crate::capture::worker) rectangle: RawRectangle,
    pub(in crate::capture::worker) _reserved: [u32; 9],
}

/// `struct v4l2_decoder_cmd`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(in crate::capture::worker) struct RawDecoderCommand {
    pub(in crate::capture::worker) command: u32,
    pub(in crate::capture::worker) _flags: u32,
    pub(in crate::capture::worker) _data: [u32; 16],
}

/// `struct v4l2_event_subscription`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(in crate::capture::worker) struct RawSubscription {
    pub(in crate::capture::worker) kind: u32,
    pub(in crate::capture::worker) _id_and_flags: [u32; 2],
    pub(in crate::capture::worker) _reserved: [u32; 5],
}

/// `struct v4l2_event`, with 64-bit seconds also where pointers have 32 bits.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(in crate::capture::worker) struct RawEvent {
    pub(in crate::capture::worker) kind: u32,
    /// A union, as aligned as its 64-bit member; of a change of the source, what has changed.
    pub(in crate::capture::worker) data: [u64; 8],
    pub(in crate::capture::worker) _pending_and_sequence: [u32; 2],
    pub(in crate::capture::worker) _timestamp: [i64; 2],
    pub(in crate::capture::worker) _id: u32,
    pub(in crate::capture::worker) _reserved: [u32; 8],
}

/// `struct v4l2_requestbuffers`.
#[repr(C)]
pub(in crate::capture::worker) struct RawRequestBuffers {
    pub(in crate::capture::worker) count: u32,
    pub(in crate::capture::worker) kind: u32,
    pub(in crate::capture::worker) memory: u32,
    pub(in crate::capture::worker) _capabilities: u32,
    /// `V4L2_MEMORY_FLAG_…`; before Linux 5.16 reserved, and passed over.
    pub(in crate::capture::worker) flags: u32,
}

/// `struct v4l2_buffer`, with 64-bit seconds also where pointers have 32 bits.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(in crate::capture::worker) struct RawBuffer {
    pub(in crate::capture::worker) index: u32,
    pub(in crate::capture::worker) kind: u32,
    pub(in crate::capture::worker) bytes_used: u32,
    pub(in crate::capture::worker) flags: u32,
    pub(in crate::capture::worker) _field: u32,
    /// When it was filled: seconds and microseconds.
    pub(in crate::capture::worker) timestamp: [i64; 2],
    pub(in crate::capture::worker) _timecode: [u32; 4],
    pub(in crate::capture::worker) sequence: u32,
    pub(in crate::capture::worker) memory: u32,
    pub(in crate::capture::worker) place: Place,
    /// Bytes; of a list of planes, how many.
    pub(in crate::capture::worker) length: u32,
    pub(in crate::capture::worker) _reserved: [u32; 2],
}

/// Where a buffer or plane lies: `m` of `struct v4l2_buffer` and `struct v4l2_plane`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(in crate::capture::worker) union Place {
    /// Of the mapping, at the device.
    offset: u32,
    /// The planes of a buffer. Set by [`buffer`] alone.
    planes: *mut RawPlane,
    /// As many bits as the whole union has: what `default` sets.
    bits: usize,
}

impl Default for Place {
    fn default() -> Place {
        Place { bits: 0 }
    }
}

impl Place {
    pub(in crate::capture::worker) fn offset(self) -> u32 {
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
    assert!(size_of::<RawSelection>() == 64 && size_of::<RawDecoderCommand>() == 72);
    assert!(size_of::<RawSubscription>() == 32);
    // On x86 of 32 bits, numbers of 64 are aligned to 4.
    assert!(size_of::<RawEvent>() == if std::mem::align_of::<u64>() == 8 { 136 } else { 128 });
};

pub(in crate::capture::worker) const QUERYCAP: Opcode = opcode::read::<RawCapability>(GROUP, 0);
pub(in crate::capture::worker) const ENUM_FMT: Opcode = opcode::read_write::<RawFormatDescription>(GROUP, 2);
pub(in crate::capture::worker) const G_FMT: Opcode = opcode::read_write::<RawFormat>(GROUP, 4);
pub(in crate::capture::worker) const G_FMT_OF_PLANES: Opcode =
    opcode::read_write::<RawFormatOfPlanes>(GROUP, 4);
pub(in crate::capture::worker) const S_FMT: Opcode = opcode::read_write::<RawFormat>(GROUP, 5);
pub(in crate::capture::worker) const S_FMT_OF_PLANES: Opcode =
    opcode::read_write::<RawFormatOfPlanes>(GROUP, 5);
pub(in crate::capture::worker) const REQBUFS: Opcode = opcode::read_write::<RawRequestBuffers>(GROUP, 8);
pub(in crate::capture::worker) const QUERYBUF: Opcode = opcode::read_write::<RawBuffer>(GROUP, 9);
pub(in crate::capture::worker) const QBUF: Opcode = opcode::read_write::<RawBuffer>(GROUP, 15);
pub(in crate::capture::worker) const DQBUF: Opcode = opcode::read_write::<RawBuffer>(GROUP, 17);
pub(in crate::capture::worker) const STREAMON: Opcode = opcode::write::<u32>(GROUP, 18);
pub(in crate::capture::worker) const STREAMOFF: Opcode = opcode::write::<u32>(GROUP, 19);
pub(in crate::capture::worker) const G_PARM: Opcode = opcode::read_write::<RawParameters>(GROUP, 21);
pub(in crate::capture::worker) const S_PARM: Opcode = opcode::read_write::<RawParameters>(GROUP, 22);
pub(in crate::capture::worker) const G_CTRL: Opcode = opcode::read_write::<RawControl>(GROUP, 27);
pub(in crate::capture::worker) const S_CTRL: Opcode = opcode::read_write::<RawControl>(GROUP, 28);
pub(in crate::capture::worker) const QUERYCTRL: Opcode =
    opcode::read_write::<RawControlDescription>(GROUP, 36);
pub(in crate::capture::worker) const ENUM_FRAMESIZES: Opcode = opcode::read_write::<RawFrameSize>(GROUP, 74);
pub(in crate::capture::worker) const ENUM_FRAMEINTERVALS: Opcode =
    opcode::read_write::<RawFrameInterval>(GROUP, 75);
pub(in crate::capture::worker) const DQEVENT: Opcode = opcode::read::<RawEvent>(GROUP, 89);
pub(in crate::capture::worker) const SUBSCRIBE_EVENT: Opcode = opcode::write::<RawSubscription>(GROUP, 90);
pub(in crate::capture::worker) const G_SELECTION: Opcode = opcode::read_write::<RawSelection>(GROUP, 94);
pub(in crate::capture::worker) const DECODER_CMD: Opcode = opcode::read_write::<RawDecoderCommand>(GROUP, 96);

/// Plain data: every pattern of bits is a value.
///
/// # Safety
///
/// No type but structures of numbers that the kernel knows, as `linux/videodev2.h` has them. The one pointer in
/// them, that to the planes of a buffer, is set by [`buffer`] alone.
pub(in crate::capture::worker) unsafe trait Plain {}

macro_rules! plain {
    ($($name:ty),+) => {
        // SAFETY: of integers and arrays of them, and of `Place`, whose every member is such.
        $(unsafe impl Plain for $name {})+
    };
}

plain!(
    RawCapability,
    RawFormatDescription,
    RawFormat,
    RawFormatOfPlanes,
    RawFrameSize,
    RawFrameInterval,
    RawParameters,
    RawControlDescription,
    RawControl,
    RawRequestBuffers,
    RawBuffer,
    RawSelection,
    RawDecoderCommand,
    RawSubscription,
    RawEvent,
    u32
);

/// How many bytes the kernel reads and writes, as a request says (`_IOC_SIZE`).
const fn size_in(code: Opcode) -> usize {
    (code as usize >> 16) & 0x3fff
}

/// One request (`ioctl`) to the driver, which reads and writes `value`.
pub(in crate::capture::worker) fn request<const CODE: Opcode, T: Plain>(
    device: impl AsFd,
    value: &mut T,
) -> Result<()> {
    const { assert!(size_in(CODE) == size_of::<T>()) };
    // SAFETY: the kernel reads and writes as many bytes as `CODE` says, which is the size of `T`, and `T` takes
    // every pattern of bits. The one pointer in it is that to the planes of a buffer, which `buffer` keeps alive
    // and as long as it says.
    unsafe { ioctl(device, Updater::<CODE, T>::new(value)) }
}

/// A request about a buffer; answers what the kernel says of it and of its planes. One that has no list of
/// planes is described as its first. `fill` says what is known of it beside its number.
pub(in crate::capture::worker) fn buffer<const CODE: Opcode>(
    device: impl AsFd,
    kind: u32,
    index: u32,
    fill: impl FnOnce(&mut RawBuffer, &mut RawPlane),
) -> Result<(RawBuffer, [RawPlane; MAX_PLANES])> {
    let mut planes = [RawPlane::default(); MAX_PLANES];
    let mut raw = RawBuffer { index, kind, memory: MAPPED, ..RawBuffer::default() };
    fill(&mut raw, &mut planes[0]);
    if is_of_planes(kind) {
        (raw.place, raw.length) = (Place { planes: planes.as_mut_ptr() }, MAX_PLANES as u32);
    } else {
        (raw.bytes_used, raw.length) = (planes[0].bytes_used, planes[0].length);
    }
    request::<CODE, _>(device, &mut raw)?;
    if !is_of_planes(kind) {
        planes[0] = RawPlane {
            bytes_used: raw.bytes_used,
            length: raw.length,
            place: raw.place,
            ..RawPlane::default()
        };
    }
    Ok((raw, planes))
}

/// The pixel formats that a node lists for buffers of a type.
pub(in crate::capture::worker) fn formats(device: impl AsFd, kind: u32) -> Vec<[u8; 4]> {
    let offered = (0..MAX_LISTED).map_while(|index| {
        let mut raw = RawFormatDescription { index, kind, ..RawFormatDescription::default() };
        request::<ENUM_FMT, _>(&device, &mut raw).ok().map(|()| raw.pixel_format)
    });
    offered.collect()
}

/// Waits until one of `wanted` has happened to the device, or something is wrong with it; what has. None: the
/// time is over.
pub(in crate::capture::worker) fn wait(
    device: impl AsFd,
    wanted: PollFlags,
    longest: Duration,
) -> Result<PollFlags> {
    let mut wanted = [PollFd::from_borrowed_fd(device.as_fd(), wanted)];
    let timeout = rustix::time::Timespec::try_from(longest).ok();
    rustix::event::poll(&mut wanted, timeout.as_ref())?;
    Ok(wanted[0].revents())
}
