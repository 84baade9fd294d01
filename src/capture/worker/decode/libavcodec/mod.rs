//! FFmpeg's libavcodec, where it is installed: found at run time, by the loader, in the worker.
//!
//! A plane goes from the library's memory to the scaler without a copy; what is copied is the compressed
//! unit, since decoders read beyond its end. The library decodes on the thread that calls it (`threads` 1):
//! a machine has more cameras than cores.

mod ffi;

use super::Codec;
use super::foreign::{Fault, Foreign, Take};
use crate::capture::DecoderKind;
use crate::capture::worker::picture::{Chroma, Layout, MAX_PIXELS, Matrix, Picture, Plane, Range};
use ffi::{Code, Context, Frame};
use std::ffi::{CStr, CString};

pub(super) use ffi::Library;

/// Most pictures that one unit can set free: all that are held back, as fields, and their like.
const MAX_PICTURES: usize = 64;

/// One of the library's decoders, for one stream.
pub(super) struct Libavcodec {
    context: Context,
    name: String,
    /// Its pictures may lie in a board's memory, and it may go with the board.
    of_board: bool,
    /// The pixel format that came last, and what it is to us.
    format: Option<(i32, Layout, Range)>,
}

/// The library's own decoders for a codec, the best first.
fn decoders(codec: Codec) -> &'static [&'static str] {
    match codec {
        Codec::H264 => &["h264"],
        Codec::H265 => &["hevc"],
        Codec::Jpeg => &["mjpeg"],
        Codec::Mpeg4 => &["mpeg4"],
        Codec::Vp8 => &["vp8"],
        Codec::Vp9 => &["vp9"],
        // Its own `av1` only serves hardware.
        Codec::Av1 => &["libdav1d", "libaom-av1"],
    }
}

impl Library {
    /// Whether it was built with a decoder for that codec.
    pub(super) fn decodes(&self, codec: Codec) -> bool {
        decoders(codec).iter().any(|name| self.has(name))
    }
}

impl Libavcodec {
    /// One of the library's own decoders. `may_wait`: nobody minds that pictures come late.
    ///
    /// Errors: why there is none.
    pub(super) fn open(
        library: &'static Library,
        codec: Codec,
        may_wait: bool,
    ) -> Result<Box<dyn Foreign>, String> {
        let found = decoders(codec).iter().find(|name| library.has(name));
        let decoder = found.ok_or_else(|| format!("{} was built without {}", library.name, codec.name()))?;
        Ok(Box::new(Libavcodec::make(library, decoder, false, may_wait)?))
    }

    /// One for the hardware of this board, by its name.
    ///
    /// Errors: what the library says.
    pub(super) fn of_board(library: &'static Library, decoder: &str) -> Result<Box<dyn Foreign>, String> {
        Ok(Box::new(Libavcodec::make(library, decoder, true, false)?))
    }

    fn make(
        library: &'static Library,
        decoder: &str,
        of_board: bool,
        may_wait: bool,
    ) -> Result<Libavcodec, String> {
        let pixels = CString::new(MAX_PIXELS.to_string()).unwrap_or_default();
        // H.264 need not say how far pictures are reordered. The library then guesses, and leaves out pictures
        // where it guessed too low; told to be strict, it holds back as many as may be.
        let strict = if may_wait && decoder == "h264" { c"1" } else { c"0" };
        let options: [(&CStr, &CStr); 5] = [
            (c"strict", strict),
            (c"threads", c"1"),
            // Pictures after a loss are shown, as ffmpeg does; which cannot be right, `Guarded` knows.
            (c"flags", c"+output_corrupt"),
            // What is cropped at the left is cropped to the pixel.
            (c"flags", c"+unaligned"),
            (c"max_pixels", &pixels),
        ];
        let context = Context::open(library, decoder, &options)?;
        let name = format!("{} {decoder}", library.name);
        Ok(Libavcodec { context, name, of_board, format: None })
    }

    /// Gives all pictures that are there. `true`: the last one has come.
    fn receive(&mut self, take: &mut Take<'_>) -> Result<bool, Fault> {
        for _ in 0..MAX_PICTURES {
            let code = match self.context.receive() {
                Ok(frame) => {
                    give(frame, &mut self.format, self.of_board, take)?;
                    continue;
                }
                Err(code) => code,
            };
            return match code {
                Code::AGAIN => Ok(false),
                Code::END => Ok(true),
                code => Err(self.fault(code)),
            };
        }
        Err(Fault::Lost("it gives pictures without end".to_owned()))
    }

    /// What an answer means.
    fn fault(&self, code: Code) -> Fault {
        let cause = self.context.library().explain(code);
        match code {
            Code::INVALID_DATA => Fault::Damaged(cause),
            Code::INVALID_ARGUMENT if !self.of_board => Fault::Damaged(cause),
            // No memory, a tool that it lacks, a device that is gone.
            _ => Fault::Lost(cause),
        }
    }
}

impl Foreign for Libavcodec {
    fn kind(&self) -> DecoderKind {
        DecoderKind::Libavcodec
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn decode(&mut self, data: &[u8], tag: u64, take: &mut Take<'_>) -> Result<(), Fault> {
        let mut sent = self.context.send(data, tag);
        if sent == Err(Code::AGAIN) {
            self.receive(take)?;
            sent = self.context.send(data, tag);
        }
        // A unit that is damaged may still set others free.
        let received = self.receive(take);
        match (sent, received) {
            (_, Err(fault @ (Fault::Output(_) | Fault::Lost(_)))) => Err(fault),
            (Err(Code::AGAIN | Code::END), _) => Err(Fault::Lost("it takes no more units".to_owned())),
            (Err(code), _) => Err(self.fault(code)),
            (Ok(()), Ok(true)) => Err(Fault::Lost("it says that the stream is over".to_owned())),
            (Ok(()), received) => received.map(|_| ()),
        }
    }

    fn drain(&mut self, take: &mut Take<'_>) -> Result<(), Fault> {
        let result = match self.context.send_end() {
            // Nothing has come since the last time.
            Ok(()) | Err(Code::END) => loop {
                match self.receive(take) {
                    Ok(_) => break Ok(()),
                    // What is held may be damaged; what comes after it is not for that.
                    Err(Fault::Damaged(_)) => {}
                    Err(fault) => break Err(fault),
                }
            },
            Err(code) => Err(self.fault(code)),
        };
        self.context.flush();
        result
    }

    fn reset(&mut self) -> Result<(), Fault> {
        self.context.flush();
        Ok(())
    }

    fn can_vanish(&self) -> bool {
        self.of_board
    }
}

/// Gives a frame as a picture of ours.
fn give(
    mut frame: Frame<'_>,
    known: &mut Option<(i32, Layout, Range)>,
    of_board: bool,
    take: &mut Take<'_>,
) -> Result<(), Fault> {
    let mut format = frame.format();
    if of_board && known.is_none_or(|(last, ..)| last != format) && frame.layout().is_none() {
        // In the board's memory, in a form that only the board knows: the library can fetch it.
        let name = frame.format_name();
        frame.fetch().map_err(|code| {
            Fault::Lost(format!("pictures of pixel format {name} cannot be fetched: {}", frame.explain(code)))
        })?;
        format = frame.format();
    }
    let (layout, range) = match known {
        Some((last, layout, range)) if *last == format => (*layout, *range),
        _ => {
            let name = frame.format_name();
            let (layout, range) = frame
                .layout()
                .ok_or_else(|| Fault::Lost(format!("pictures of pixel format {name} cannot be scaled")))?;
            *known = Some((format, layout, range));
            (layout, range)
        }
    };
    let (width, height) = frame.size().map_err(Fault::Lost)?;
    let mut planes = [Plane::default(); 3];
    let sizes = layout.planes(width as usize, height as usize);
    for (index, (plane, (row_bytes, rows))) in planes.iter_mut().zip(sizes).enumerate() {
        *plane = frame.plane(index, row_bytes, rows).map_err(Fault::Lost)?;
    }
    let picture = Picture { width, height, layout, planes, range, matrix: Matrix::default() };
    // A tag that is none takes the place of the oldest.
    take(&picture, frame.tag().unwrap_or(u64::MAX)).map_err(Fault::Output)
}

impl Frame<'_> {
    fn layout(&self) -> Option<(Layout, Range)> {
        layout(&self.format_name())
    }
}

/// What a pixel format of that name is to us; `None`: we cannot scale it.
fn layout(name: &str) -> Option<(Layout, Range)> {
    let limited = |layout| Some((layout, Range::Limited));
    let full = |layout| Some((layout, Range::Full));
    match name {
        "yuv420p" => return limited(Layout::I420),
        "yuv422p" => return limited(Layout::I422),
        "yuv444p" => return limited(Layout::I444),
        "yuvj420p" => return full(Layout::I420),
        "yuvj422p" => return full(Layout::I422),
        "yuvj444p" => return full(Layout::I444),
        "gray" | "gray8" => return limited(Layout::Gray),
        "nv12" => return limited(Layout::Nv12),
        "yuyv422" => return limited(Layout::Yuyv),
        "uyvy422" => return limited(Layout::Uyvy),
        "rgb24" => return full(Layout::Rgb24),
        "bgr24" => return full(Layout::Bgr24),
        // Their upper eight bits lie in bytes of their own, whatever the depth.
        "p010le" | "p012le" | "p016le" => return limited(Layout::P010),
        _ => {}
    }
    let (chroma, depth) = [
        ("yuv420p", Chroma::Half),
        ("yuv422p", Chroma::HalfWidth),
        ("yuv444p", Chroma::Whole),
        ("gray", Chroma::None),
    ]
    .into_iter()
    .find_map(|(prefix, chroma)| Some((chroma, name.strip_prefix(prefix)?.strip_suffix("le")?)))?;
    let depth = depth.parse().ok().filter(|depth| (9..=16).contains(depth))?;
    limited(Layout::Deep { chroma, depth })
}

#[cfg(test)]
mod tests;
