//! The functions of libavcodec and libavutil that are called, and the members of their structures that are
//! touched.
//!
//! FFmpeg promises nothing about its structures between major versions; what is used here has the same place
//! in all of [`KNOWN`] (read from the headers of FFmpeg 4 to 9, and proven on the very library by the known
//! picture, tags among it):
//!
//! ```text
//! AVPacket   0 buf   8 pts   16 dts   24 data   32 size
//! AVFrame    0 data[8]   64 linesize[8]   96 extended_data   104 width   108 height   112 nb_samples   116 format   136 pts
//! ```
//!
//! Structures are made and freed by the library; options are set by name; pixel formats are known by name.
//!
//! `unsafe`: loading a library runs its initialisers, a symbol has whatever type we say it has, and planes
//! are as long as the library says. What cannot be believed is checked here: null, negative or short strides,
//! sizes beyond those that are taken. That memory is there as far as size and stride reach is the library's
//! word; one that lies ends its worker, and the service counts.
#![allow(unsafe_code)]

use crate::capture::worker::picture::{Plane, check_size};
use libloading::Library as Shared;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

/// Major versions of libavcodec, each with that of its libavutil: FFmpeg 4, 5, 6, 7, 8 and 9.
const KNOWN: [(u32, u32); 6] = [(58, 56), (59, 57), (60, 58), (61, 59), (62, 60), (63, 61)];

/// Majors that are looked for after those, to be named: they are asked for their version and nothing else.
const NEWER: std::ops::RangeInclusive<u32> = 64..=70;

/// `AV_NOPTS_VALUE`.
const NO_TIME: i64 = i64::MIN;

/// `AV_LOG_QUIET`.
const LOG_QUIET: c_int = -8;

const fn tag(letters: [u8; 4]) -> c_int {
    -i32::from_le_bytes(letters)
}

/// What a function answers where there is no picture (`libavutil/error.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Code(c_int);

impl Code {
    pub(super) const AGAIN: Code = Code(-libc::EAGAIN);
    pub(super) const END: Code = Code(tag(*b"EOF "));
    pub(super) const INVALID_DATA: Code = Code(tag(*b"INDA"));
    pub(super) const INVALID_ARGUMENT: Code = Code(-libc::EINVAL);
}

/// The head of `AVPacket`.
#[repr(C)]
#[allow(dead_code)] // members that keep the places of others
struct PacketHead {
    buf: *mut c_void,
    pts: i64,
    dts: i64,
    data: *mut u8,
    size: c_int,
}

/// The head of `AVFrame`.
#[repr(C)]
#[allow(dead_code)] // the same
struct FrameHead {
    data: [*mut u8; 8],
    linesize: [c_int; 8],
    extended_data: *mut *mut u8,
    width: c_int,
    height: c_int,
    nb_samples: c_int,
    format: c_int,
    /// Kinds of pictures and shapes of pixels: in another order in each version, with the same size.
    between: [c_int; 4],
    pts: i64,
}

/// `AVCodecContext`, of which no member is touched.
#[repr(C)]
struct Opaque([u8; 0]);

/// Declares the table of functions and how it is read from the two libraries.
macro_rules! functions {
    ($($library:ident { $($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)* })*) => {
        struct Functions { $($($name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*)* }

        impl Functions {
            /// # Safety
            /// Both must be FFmpeg's, of a version in [`KNOWN`]: their functions then have these types.
            unsafe fn load(avcodec: &Shared, avutil: &Shared) -> Result<Functions, String> {
                let of = |library: &'static str| if library == "avcodec" { avcodec } else { avutil };
                Ok(Functions { $($(
                    // SAFETY: passed on to the caller.
                    $name: *unsafe { of(stringify!($library)).get(concat!(stringify!($name), "\0").as_bytes()) }
                        .map_err(|_| format!("lib{} has no function {}", stringify!($library), stringify!($name)))?,
                )*)* })
            }
        }
    };
}

functions! {
    avcodec {
        avcodec_find_decoder_by_name: fn(*const c_char) -> *const Opaque;
        avcodec_alloc_context3: fn(*const Opaque) -> *mut Opaque;
        avcodec_open2: fn(*mut Opaque, *const Opaque, *mut *mut c_void) -> c_int;
        avcodec_free_context: fn(*mut *mut Opaque);
        avcodec_send_packet: fn(*mut Opaque, *const PacketHead) -> c_int;
        avcodec_receive_frame: fn(*mut Opaque, *mut FrameHead) -> c_int;
        avcodec_flush_buffers: fn(*mut Opaque);
        av_packet_alloc: fn() -> *mut PacketHead;
        av_packet_free: fn(*mut *mut PacketHead);
        av_packet_unref: fn(*mut PacketHead);
        av_new_packet: fn(*mut PacketHead, c_int) -> c_int;
    }
    avutil {
        av_frame_alloc: fn() -> *mut FrameHead;
        av_frame_free: fn(*mut *mut FrameHead);
        av_frame_unref: fn(*mut FrameHead);
        av_hwframe_transfer_data: fn(*mut FrameHead, *const FrameHead, c_int) -> c_int;
        av_opt_set: fn(*mut Opaque, *const c_char, *const c_char, c_int) -> c_int;
        av_get_pix_fmt_name: fn(c_int) -> *const c_char;
        av_strerror: fn(c_int, *mut c_char, usize) -> c_int;
        av_log_set_level: fn(c_int);
    }
}

/// libavcodec and its libavutil. They stay in the process: their memory is in what they have given.
pub(in crate::capture::worker::decode) struct Library {
    functions: Functions,
    /// Name and version as the log and `weir check` say it: `libavcodec 59.37.100`.
    pub(super) name: String,
    _libraries: [ManuallyDrop<Shared>; 2],
}

/// `version` of both libraries: major, minor and micro in one number.
struct Version(u32);

impl Version {
    fn major(&self) -> u32 {
        self.0 >> 16
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major(), self.0 >> 8 & 0xff, self.0 & 0xff)
    }
}

impl Library {
    /// Opens the newest that is known, where the loader looks.
    ///
    /// Errors: why there is none.
    pub(in crate::capture::worker::decode) fn open() -> Result<&'static Library, String> {
        let mut reasons: Vec<String> = Vec::new();
        let known = KNOWN.iter().rev().map(|(avcodec, avutil)| (*avcodec, Some(*avutil)));
        for (major, avutil) in known.chain(NEWER.map(|major| (major, None))) {
            match Library::open_version(major, avutil) {
                Ok(Some(library)) => return Ok(Box::leak(Box::new(library))),
                Ok(None) => {}
                Err(why) => {
                    log::info!("event=library_refused error={why:?}");
                    reasons.push(why);
                }
            }
        }
        if reasons.is_empty() {
            let (oldest, newest) = (KNOWN[0].0, KNOWN[KNOWN.len() - 1].0);
            reasons.push(format!("there is no libavcodec.so.{oldest} to .{newest} here"));
        }
        Err(reasons.join("; "))
    }

    /// `Ok(None)`: this version is not installed.
    fn open_version(major: u32, avutil: Option<u32>) -> Result<Option<Library>, String> {
        let path = format!("libavcodec.so.{major}");
        let Some(shared) = load(&path)? else { return Ok(None) };
        let version = version(&shared, &path, c"avcodec_version")?;
        let Some(avutil) = avutil.filter(|_| version.major() == major) else {
            let known: Vec<String> = KNOWN.iter().map(|(major, _)| major.to_string()).collect();
            let known = known.join(", ");
            return Err(format!("{path} is libavcodec {version}; this program knows {known}"));
        };
        let util_path = format!("libavutil.so.{avutil}");
        let Some(util) = load(&util_path)? else { return Err(format!("{path} is here without {util_path}")) };
        let util_version = self::version(&util, &util_path, c"avutil_version")?;
        if util_version.major() != avutil {
            return Err(format!("{util_path} is libavutil {util_version}"));
        }
        // SAFETY: both have said that they are of a known version.
        let functions = unsafe { Functions::load(&shared, &util)? };
        // SAFETY: it takes a number and keeps it. Nobody reads what libraries print beside our own words.
        unsafe { (functions.av_log_set_level)(LOG_QUIET) };
        let name = format!("libavcodec {version}");
        Ok(Some(Library {
            functions,
            name,
            _libraries: [ManuallyDrop::new(shared), ManuallyDrop::new(util)],
        }))
    }

    /// What the library calls an answer.
    pub(super) fn explain(&self, code: Code) -> String {
        let mut text = [0_u8; 128];
        // SAFETY: it writes a text of at most that many bytes, its end included.
        let known = unsafe { (self.functions.av_strerror)(code.0, text.as_mut_ptr().cast(), text.len()) };
        match CStr::from_bytes_until_nul(&text) {
            Ok(text) if known == 0 && !text.is_empty() => text.to_string_lossy().into_owned(),
            _ => format!("error {}", code.0),
        }
    }

    /// What the library calls a pixel format.
    fn format_name(&self, format: i32) -> String {
        // SAFETY: any number is taken; the answer is null or a text that is never freed.
        let name = unsafe { (self.functions.av_get_pix_fmt_name)(format) };
        if name.is_null() {
            return format!("number {format}");
        }
        // SAFETY: not null: a text that ends, as said.
        unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
    }

    /// Whether it was built with a decoder of that name.
    pub(super) fn has(&self, decoder: &str) -> bool {
        self.find(decoder).is_some()
    }

    fn find(&self, decoder: &str) -> Option<NonNull<Opaque>> {
        let name = CString::new(decoder).ok()?;
        // SAFETY: a text that ends; the answer is null or a constant of the library.
        NonNull::new(unsafe { (self.functions.avcodec_find_decoder_by_name)(name.as_ptr()) }.cast_mut())
    }
}

/// `Ok(None)`: it is not there. What is there and cannot be opened is worth a word.
fn load(path: &str) -> Result<Option<Shared>, String> {
    // SAFETY: the initialisers of FFmpeg, and of what it was built with, expect to be run in any process that
    // loads them. The name is one of the system's libraries, whose owner could have us run anything.
    match unsafe { Shared::new(path) } {
        Ok(library) => Ok(Some(library)),
        Err(error) => {
            let text = error.to_string();
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let text = cause.unwrap_or(text);
            // The loader's words for a library that is not there begin with that library's own name.
            let is_missing = text.contains(path) && text.contains("No such file");
            if is_missing { Ok(None) } else { Err(text) }
        }
    }
}

fn version(library: &Shared, path: &str, function: &CStr) -> Result<Version, String> {
    // SAFETY: the type it has had since there are versions.
    let function: Result<libloading::Symbol<'_, unsafe extern "C" fn() -> u32>, _> =
        unsafe { library.get(function.to_bytes_with_nul()) };
    let function = function.map_err(|_| format!("{path} does not say its version"))?;
    // SAFETY: it takes nothing and answers a constant.
    Ok(Version(unsafe { function() }))
}

/// An open decoder, with one packet and one frame that are used again and again.
pub(super) struct Context {
    library: &'static Library,
    context: NonNull<Opaque>,
    packet: NonNull<PacketHead>,
    frame: NonNull<FrameHead>,
    /// A frame of the board, copied to memory that we can read.
    copy: NonNull<FrameHead>,
}

impl Context {
    /// Opens the decoder of that name. Options are names and values as FFmpeg's manual has them; one that
    /// this version lacks is left out.
    ///
    /// Errors: what the library says.
    pub(super) fn open(
        library: &'static Library,
        decoder: &str,
        options: &[(&CStr, &CStr)],
    ) -> Result<Context, String> {
        let functions = &library.functions;
        let codec = library.find(decoder).ok_or_else(|| format!("it has no decoder {decoder}"))?;
        let no_memory = || "no memory".to_owned();
        // SAFETY: a decoder of this library; what is allocated here is freed by `drop`, or at once.
        let mut context = unsafe { (functions.avcodec_alloc_context3)(codec.as_ptr()) };
        let made = NonNull::new(context).ok_or_else(no_memory)?;
        for (name, value) in options {
            // SAFETY: a context begins with its class, as `av_opt_set` asks; both texts end.
            unsafe { (functions.av_opt_set)(made.as_ptr(), name.as_ptr(), value.as_ptr(), 0) };
        }
        // SAFETY: context and decoder belong together, and there are no further options.
        let opened =
            unsafe { (functions.avcodec_open2)(made.as_ptr(), codec.as_ptr(), std::ptr::null_mut()) };
        // SAFETY: they take nothing; null is looked for.
        let (packet, frame, copy) = unsafe {
            ((functions.av_packet_alloc)(), (functions.av_frame_alloc)(), (functions.av_frame_alloc)())
        };
        match (opened, NonNull::new(packet), NonNull::new(frame), NonNull::new(copy)) {
            (0.., Some(packet), Some(frame), Some(copy)) => {
                Ok(Context { library, context: made, packet, frame, copy })
            }
            (opened, packet, frame, copy) => {
                // SAFETY: each was made above and is freed once.
                unsafe { free(functions, &mut context, packet, [frame, copy]) };
                Err(if opened < 0 { library.explain(Code(opened)) } else { no_memory() })
            }
        }
    }

    /// The library that made this context.
    pub(super) fn library(&self) -> &'static Library {
        self.library
    }

    /// Gives it a unit, whose tag comes back with its picture.
    ///
    /// Errors: `AGAIN`: take pictures first, then give it once more.
    pub(super) fn send(&mut self, data: &[u8], tag: u64) -> Result<(), Code> {
        let functions = &self.library.functions;
        let size = c_int::try_from(data.len()).map_err(|_| Code::INVALID_DATA)?;
        // SAFETY: the packet is empty: made so, and emptied after each use. It gets memory of that size, with
        // the zeros after it that decoders ask for.
        check(unsafe { (functions.av_new_packet)(self.packet.as_ptr(), size) })?;
        // SAFETY: nobody else has the packet.
        let packet = unsafe { self.packet.as_mut() };
        if packet.data.is_null() {
            return Err(Code(-libc::ENOMEM));
        }
        // SAFETY: `av_new_packet` has made room for `size` bytes, and `data` has as many.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), packet.data, data.len()) };
        // Tags count from 0: far from where a time stamp ends.
        packet.pts = tag.cast_signed();
        packet.dts = NO_TIME;
        // SAFETY: an open context, and a packet that keeps its memory as long as anybody needs it.
        let sent = unsafe { (functions.avcodec_send_packet)(self.context.as_ptr(), packet) };
        // SAFETY: our part of that memory goes.
        unsafe { (functions.av_packet_unref)(packet) };
        check(sent)
    }

    /// There is no more: everything that is held comes out, then `END`.
    pub(super) fn send_end(&mut self) -> Result<(), Code> {
        // SAFETY: no packet is how the end is told.
        check(unsafe {
            (self.library.functions.avcodec_send_packet)(self.context.as_ptr(), std::ptr::null())
        })
    }

    /// The next picture.
    ///
    /// Errors: `AGAIN`: none before the next unit; `END`: none any more.
    pub(super) fn receive(&mut self) -> Result<Frame<'_>, Code> {
        let functions = &self.library.functions;
        // SAFETY: an open context; the frame's last picture is given back by the call.
        check(unsafe { (functions.avcodec_receive_frame)(self.context.as_ptr(), self.frame.as_ptr()) })?;
        Ok(Frame { context: self, is_copy: false })
    }

    /// Forgets what is held; units of another beginning may follow.
    pub(super) fn flush(&mut self) {
        // SAFETY: an open context.
        unsafe { (self.library.functions.avcodec_flush_buffers)(self.context.as_ptr()) };
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let mut context = self.context.as_ptr();
        // SAFETY: each was made in `open` and is freed once.
        unsafe {
            free(
                &self.library.functions,
                &mut context,
                Some(self.packet),
                [Some(self.frame), Some(self.copy)],
            )
        };
    }
}

/// # Safety
/// Each must be of this library and used by nobody any more.
unsafe fn free(
    functions: &Functions,
    context: &mut *mut Opaque,
    packet: Option<NonNull<PacketHead>>,
    frames: [Option<NonNull<FrameHead>>; 2],
) {
    for frame in frames.into_iter().flatten() {
        // SAFETY: passed on to the caller.
        unsafe { (functions.av_frame_free)(&mut frame.as_ptr()) };
    }
    if let Some(packet) = packet {
        // SAFETY: passed on to the caller.
        unsafe { (functions.av_packet_free)(&mut packet.as_ptr()) };
    }
    // SAFETY: passed on to the caller.
    unsafe { (functions.avcodec_free_context)(context) };
}

fn check(answer: c_int) -> Result<(), Code> {
    if answer < 0 { Err(Code(answer)) } else { Ok(()) }
}

/// A picture in the decoder's own memory: given back when this is dropped.
pub(super) struct Frame<'a> {
    context: &'a mut Context,
    /// It was copied out of the board's memory.
    is_copy: bool,
}

impl Frame<'_> {
    fn head(&self) -> &FrameHead {
        let frame = if self.is_copy { &self.context.copy } else { &self.context.frame };
        // SAFETY: made by the library, larger than this head, and written to by nobody while this lives.
        unsafe { frame.as_ref() }
    }

    /// Of the unit that it belongs to; `None`: the library does not say.
    pub(super) fn tag(&self) -> Option<u64> {
        // SAFETY: as in `head`. The tag stays with the frame that was received.
        u64::try_from(unsafe { self.context.frame.as_ref() }.pts).ok()
    }

    /// Width and height, pixels.
    ///
    /// Errors: no picture has that size.
    pub(super) fn size(&self) -> Result<(u32, u32), String> {
        let head = self.head();
        let sides = (u32::try_from(head.width), u32::try_from(head.height));
        match sides {
            (Ok(width), Ok(height)) if check_size(width, height).is_ok() => Ok((width, height)),
            _ => Err(format!("a picture of {}x{} pixels is not supported", head.width, head.height)),
        }
    }

    /// The library's name of its pixel format.
    pub(super) fn format_name(&self) -> String {
        self.context.library.format_name(self.format())
    }

    /// What the library calls an answer.
    pub(super) fn explain(&self, code: Code) -> String {
        self.context.library.explain(code)
    }

    /// The library's number of its pixel format.
    pub(super) fn format(&self) -> i32 {
        self.head().format
    }

    /// Copies a picture in the board's memory to memory that we can read; whoever maps such memory for it
    /// keeps the rules of its caches.
    ///
    /// Errors: it is no such picture, or cannot be copied.
    pub(super) fn fetch(&mut self) -> Result<(), Code> {
        let functions = &self.context.library.functions;
        // SAFETY: two frames of the library; the second is empty, or emptied here.
        let fetched = unsafe {
            (functions.av_frame_unref)(self.context.copy.as_ptr());
            (functions.av_hwframe_transfer_data)(self.context.copy.as_ptr(), self.context.frame.as_ptr(), 0)
        };
        self.is_copy = true;
        check(fetched)
    }

    /// A plane of `rows` rows of `row_bytes` bytes. Sizes must be those of [`Frame::size`].
    ///
    /// Errors: there is no such plane.
    pub(super) fn plane(&self, index: usize, row_bytes: usize, rows: usize) -> Result<Plane<'_>, String> {
        let Some(before_last) = rows.checked_sub(1) else { return Ok(Plane::default()) };
        let head = self.head();
        let (Some(data), Some(stride)) = (head.data.get(index), head.linesize.get(index)) else {
            return Err("a picture has more planes than can be".to_owned());
        };
        let stride = usize::try_from(*stride).ok().filter(|stride| *stride >= row_bytes);
        let (Some(stride), false) = (stride, data.is_null()) else {
            return Err("a picture's planes are not there".to_owned());
        };
        let bytes = stride.checked_mul(before_last).and_then(|bytes| bytes.checked_add(row_bytes));
        let bytes = bytes.filter(|bytes| *bytes <= isize::MAX as usize);
        let bytes = bytes.ok_or_else(|| "a picture's rows are too far apart".to_owned())?;
        // SAFETY: not null, below isize::MAX. A decoder's plane reaches that far by what `width`, `height`,
        // `format` and `linesize` of its frame mean; nobody writes to it while the frame is held, which is
        // until this borrow ends.
        Ok(Plane { data: unsafe { std::slice::from_raw_parts(*data, bytes) }, stride })
    }
}

impl Drop for Frame<'_> {
    fn drop(&mut self) {
        let functions = &self.context.library.functions;
        // SAFETY: both are frames of this library; what they hold is borrowed by nobody any more.
        unsafe {
            (functions.av_frame_unref)(self.context.frame.as_ptr());
            if self.is_copy {
                (functions.av_frame_unref)(self.context.copy.as_ptr());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[cfg(target_pointer_width = "64")]
    #[test]
    fn heads_lie_as_the_headers_say() {
        assert_eq!(
            [offset_of!(PacketHead, pts), offset_of!(PacketHead, dts), offset_of!(PacketHead, data)],
            [8, 16, 24]
        );
        assert_eq!(offset_of!(PacketHead, size), 32);
        assert_eq!(offset_of!(FrameHead, linesize), 64);
        assert_eq!(offset_of!(FrameHead, extended_data), 96);
        assert_eq!(
            [
                offset_of!(FrameHead, width),
                offset_of!(FrameHead, height),
                offset_of!(FrameHead, nb_samples),
                offset_of!(FrameHead, format)
            ],
            [104, 108, 112, 116]
        );
        assert_eq!(offset_of!(FrameHead, pts), 136);
        assert_eq!((Code::END.0, Code::INVALID_DATA.0), (-541_478_725, -1_094_995_529));
    }
}
