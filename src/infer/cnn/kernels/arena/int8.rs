//! The same for pictures in codes: offsets and lengths are in bytes.

use super::{Part, Residual};
use crate::infer::cnn::kernels::int8::{
    Coded, Int8, Int8Binary, Int8Depthwise, Int8Rows, Int8Tap, Made, Pixels, QUAD, Quantizer, TILE_QUADS,
    Table, WIDE, Worth,
};
use crate::infer::cnn::kernels::{Activation, LANES};

/// Pixels side by side, of which `channels` bytes count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stretch {
    pub at: usize,
    pub pixel: usize,
    pub channels: usize,
    pub pixels: usize,
}

impl Stretch {
    /// Bytes from its first to its last.
    fn bytes(&self) -> usize {
        self.pixels.saturating_sub(1) * self.pixel + self.channels
    }

    /// How a block of floats sees it.
    fn block(&self) -> Pixels {
        Pixels { apart: self.pixel, channels: self.channels }
    }

    /// As one pixel, where nothing lies between the pixels but what fills up the last quad.
    fn joined(self) -> Stretch {
        match self.pixel == self.channels.next_multiple_of(QUAD) {
            true => {
                let bytes = self.pixels * self.pixel;
                Stretch { pixel: bytes, channels: bytes, pixels: usize::from(self.pixels > 0), ..self }
            }
            false => self,
        }
    }
}

/// Where the results of an [`Int8Job`] go, in the arena.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target<'a> {
    /// Byte offset of the first pixel, bytes to the next row and to the next pixel, channels that are written.
    Codes { at: usize, row: usize, pixel: usize, channels: usize, coded: Coded<'a> },
    /// Float offset of the first pixel, floats to the next row and block; a shortcut's the same.
    Floats {
        at: usize,
        row: usize,
        block: usize,
        activation: Activation,
        residual: Option<(usize, usize, usize, Residual)>,
    },
}

/// [`Int8Rows`] in offsets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Int8Job<'a> {
    /// Where the window of the first pixel of the first row begins, and bytes to the next row's.
    pub input: (usize, usize),
    pub pixel_stride: usize,
    pub taps: &'a [Int8Tap],
    /// Bytes behind a window's first element that the taps reach.
    pub reach: usize,
    /// Four weights each.
    pub weights: &'a [f32],
    pub sums: &'a [i32],
    pub scale: &'a [f32],
    pub bias: &'a [f32],
    pub rows: usize,
    pub width: usize,
    pub groups: usize,
    pub target: Target<'a>,
}

/// Runs some rows of a dense convolution of codes.
pub(crate) fn int8_conv(int8: &Int8, part: &mut Part<'_>, job: &Int8Job) {
    if job.width == 0 || job.rows == 0 {
        return;
    }
    let groups = job.groups.clamp(1, 2);
    let quads: usize = job.taps.iter().map(|tap| usize::from(tap.quads)).sum();
    let tiled = job.taps.iter().all(|tap| usize::from(tap.quads) == TILE_QUADS);
    assert!(
        job.weights.len() >= quads * groups * LANES && (tiled || !int8.has_tiles),
        "weights do not fit the taps"
    );
    let numbers = groups * LANES;
    assert!(
        job.sums.len() >= numbers && job.scale.len() >= numbers && job.bias.len() >= numbers,
        "a number for every channel"
    );
    let last = (job.rows - 1) * job.input.1 + (job.width - 1) * job.pixel_stride;
    let input = part.codes_at(job.input.0, last + job.reach);
    for (y, x) in (0..job.rows).flat_map(|y| (0..job.width).map(move |x| (y, x))).filter(|_| cfg!(test)) {
        for tap in job.taps {
            let at = job.input.0 + y * job.input.1 + x * job.pixel_stride + tap.offset as usize;
            part.note_bytes(at..at + usize::from(tap.bytes), false);
        }
    }
    let made = match job.target {
        Target::Codes { at, row, pixel, channels, coded } => {
            for y in (0..job.rows).filter(|_| cfg!(test)) {
                part.note_pixels(Stretch { at: at + y * row, pixel, channels, pixels: job.width }, true);
            }
            assert!(channels <= groups * LANES, "more channels than were computed");
            let to = part.codes_at(at, (job.rows - 1) * row + (job.width - 1) * pixel + channels);
            Made::Codes { to, row, pixel, channels, coded }
        }
        Target::Floats { at, row, block, activation, residual } => {
            let place = |at: usize, row: usize, block: usize, is_written| {
                let pieces =
                    |group| part.pieces(at + group * block, [job.rows, row, job.width * LANES], is_written);
                let last = pieces(groups - 1);
                if groups > 1 { pieces(0) } else { last }
            };
            let to = place(at, row, block, true);
            let (residual, residual_row, residual_block, order) = match residual {
                Some((at, row, block, order)) => {
                    (place(at, row, block, false).cast_const(), row, block, order)
                }
                None => (std::ptr::null(), 0, 0, Residual::AfterActivation),
            };
            Made::Floats { to, row, block, activation, residual, residual_row, residual_block, order }
        }
    };
    let rows = Int8Rows {
        input,
        input_row: job.input.1,
        pixel_stride: job.pixel_stride,
        taps: job.taps,
        weights: job.weights.as_ptr().cast(),
        sums: job.sums.as_ptr(),
        scale: job.scale.as_ptr(),
        bias: job.bias.as_ptr(),
        rows: job.rows,
        width: job.width,
        groups,
        made,
    };
    // SAFETY: the ranges were checked above, reach being the farthest of the taps; the table was chosen for this
    // CPU. What is read and does not count may be written at the same time: its weights are zero.
    unsafe { (int8.conv)(&rows) }
}

/// [`Int8Depthwise`] in offsets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Int8DepthwiseJob<'a> {
    pub input: usize,
    pub pixel_stride: usize,
    pub taps: &'a [u32],
    /// Four weights each.
    pub weights: &'a [f32],
    pub sums: &'a [i32],
    pub scale: &'a [f32],
    pub bias: &'a [f32],
    pub output: Stretch,
    pub coded: Coded<'a>,
}

/// Runs one row of a depthwise convolution of codes, of up to [`WIDE`] channels.
pub(crate) fn int8_depthwise(int8: &Int8, part: &mut Part<'_>, job: &Int8DepthwiseJob) {
    let Stretch { at, pixel, channels, pixels } = job.output;
    if pixels == 0 {
        return;
    }
    assert!(channels <= WIDE && job.taps.len().is_multiple_of(QUAD), "not a row of a depthwise convolution");
    assert!(job.weights.len() * QUAD >= job.taps.len() * WIDE, "weights do not fit the taps");
    assert!(
        job.sums.len() >= WIDE && job.scale.len() >= WIDE && job.bias.len() >= WIDE,
        "a number for every channel"
    );
    let reach = job.taps.iter().max().map_or(0, |tap| *tap as usize) + channels;
    let input = part.codes_at(job.input, (pixels - 1) * job.pixel_stride + reach);
    for tap in job.taps.iter().filter(|_| cfg!(test)) {
        let at = job.input + *tap as usize;
        part.note_pixels(Stretch { at, pixel: job.pixel_stride, channels, pixels }, false);
    }
    part.note_pixels(job.output, true);
    let row = Int8Depthwise {
        input,
        pixel_stride: job.pixel_stride,
        taps: job.taps,
        weights: job.weights.as_ptr().cast(),
        sums: job.sums.as_ptr(),
        scale: job.scale.as_ptr(),
        bias: job.bias.as_ptr(),
        output: part.codes_at(at, job.output.bytes()),
        output_pixel: pixel,
        width: pixels,
        channels,
        coded: job.coded,
    };
    // SAFETY: as above.
    unsafe { (int8.depthwise)(&row) }
}

impl<'a> Part<'a> {
    /// Bytes to write for as long as this part could be there.
    pub(crate) fn into_write_bytes(self, at: usize, bytes: usize) -> &'a mut [u8] {
        let start = self.codes_at(at, bytes);
        // SAFETY: inside the allocation, initialised; this part does nothing else any more.
        unsafe { std::slice::from_raw_parts_mut(start, bytes) }
    }

    /// Bytes from there on, each worth `factor · byte + offset`, to floats.
    pub(crate) fn widen_bytes(
        &mut self,
        from: usize,
        to: std::ops::Range<usize>,
        (factor, offset): (f32, f32),
    ) {
        let count = to.len();
        self.note_bytes(from..from + count, false);
        let start = self.codes_at(from, count).cast_const();
        let floats = to.start * size_of::<f32>()..to.end * size_of::<f32>();
        assert!(floats.end <= from || from + count <= floats.start, "reads what it writes");
        let to = self.write(to);
        // SAFETY: inside the allocation, initialised; it overlaps with nothing that is written.
        let from = unsafe { std::slice::from_raw_parts(start, count) };
        to.iter_mut().zip(from).for_each(|(to, byte)| *to = f32::from(*byte) * factor + offset);
    }

    /// Where a kernel reads or writes bytes.
    fn codes_at(&self, at: usize, bytes: usize) -> *mut u8 {
        let room = self.arena.floats * size_of::<f32>();
        let inside = at.checked_add(bytes).is_some_and(|end| end <= room);
        assert!(inside, "the plan left its arena: {at} + {bytes} of {room} bytes");
        // SAFETY: inside the allocation.
        unsafe { self.arena.start.as_ptr().cast::<u8>().add(at) }
    }

    fn note_pixels(&self, stretch: Stretch, is_written: bool) {
        for x in (0..stretch.pixels).filter(|_| cfg!(test)) {
            let at = stretch.at + x * stretch.pixel;
            self.note_bytes(at..at + stretch.channels, is_written);
        }
    }

    /// Sets `channels` bytes of each of some pixels.
    pub(crate) fn fill_codes(&mut self, at: usize, pixel: usize, channels: usize, pixels: usize, code: u8) {
        let stretch = Stretch { at, pixel, channels, pixels };
        self.each(stretch, |to| to.fill(code));
    }

    /// Does something to the bytes of each pixel, of all at once where nothing lies between.
    fn each(&mut self, stretch: Stretch, mut work: impl FnMut(&mut [u8])) {
        let stretch = stretch.joined();
        if stretch.pixels == 0 {
            return;
        }
        self.note_pixels(stretch, true);
        let start = self.codes_at(stretch.at, stretch.bytes());
        for x in 0..stretch.pixels {
            // SAFETY: inside the allocation, initialised; this part is borrowed exclusively, and nobody touches
            // these bytes through another.
            work(unsafe { std::slice::from_raw_parts_mut(start.add(x * stretch.pixel), stretch.channels) });
        }
    }

    /// Does something to the bytes of each pixel with those of the same pixels elsewhere, of all at once where nothing
    /// lies between.
    fn each_of<const R: usize>(
        &mut self,
        from: [Stretch; R],
        to: Stretch,
        mut work: impl FnMut([&[u8]; R], &mut [u8]),
    ) {
        let joined = (from.map(Stretch::joined), to.joined());
        let whole = joined.1.pixels <= 1 && joined.0.iter().all(|side| side.channels == joined.1.channels);
        let (from, to) = if whole { joined } else { (from, to) };
        if to.pixels == 0 {
            return;
        }
        assert!(from.iter().all(|side| side.pixels == to.pixels), "stretches of different lengths");
        from.iter().for_each(|side| self.note_pixels(*side, false));
        self.note_pixels(to, true);
        let starts = from.map(|side| self.codes_at(side.at, side.bytes()).cast_const());
        let start = self.codes_at(to.at, to.bytes());
        for x in 0..to.pixels {
            let at = to.at + x * to.pixel;
            for side in &from {
                let other = side.at + x * side.pixel;
                assert!(other + side.channels <= at || at + to.channels <= other, "reads what it writes");
            }
            // SAFETY: inside the allocation, initialised; what is written overlaps with nothing that is read, as was
            // checked, and nobody touches it through another part.
            unsafe {
                let sides = std::array::from_fn(|n| {
                    std::slice::from_raw_parts(starts[n].add(x * from[n].pixel), from[n].channels)
                });
                work(sides, std::slice::from_raw_parts_mut(start.add(x * to.pixel), to.channels));
            }
        }
    }
}

/// Codes of some pixels through a table.
pub(crate) fn translate(int8: &Int8, part: &mut Part<'_>, from: Stretch, to: Stretch, table: &Table) {
    // SAFETY: the table was chosen for this CPU.
    part.each_of([from], to, |[from], to| unsafe { (int8.translate)(from, to, table) });
}

/// Codes of some pixels as they are.
pub(crate) fn copy_codes(part: &mut Part<'_>, from: Stretch, to: Stretch) {
    part.each_of([from], to, |[from], to| to.copy_from_slice(from));
}

/// Codes of some pixels of two pictures into those of a third.
pub(crate) fn int8_binary(
    int8: &Int8,
    part: &mut Part<'_>,
    sides: [Stretch; 2],
    to: Stretch,
    how: &Int8Binary,
) {
    // SAFETY: as above.
    part.each_of(sides, to, |[a, b], to| unsafe { (int8.pictures.binary)(a, b, to, how) });
}

/// The greater of what is there and of other codes.
pub(crate) fn int8_max(int8: &Int8, part: &mut Part<'_>, from: Stretch, to: Stretch) {
    // SAFETY: as above.
    part.each_of([from], to, |[from], to| unsafe { (int8.pictures.max)(from, to) });
}

/// A row of a block of floats into codes.
pub(crate) fn quantize(int8: &Int8, part: &mut Part<'_>, from: usize, to: Stretch, how: &Quantizer) {
    if to.pixels == 0 {
        return;
    }
    part.note_pixels(to, true);
    let bytes = to.bytes();
    let (start, to_bytes) = (part.codes_at(to.at, bytes), to.at..to.at + bytes);
    let floats = from * size_of::<f32>()..(from + to.pixels * LANES) * size_of::<f32>();
    assert!(floats.end <= to_bytes.start || to_bytes.end <= floats.start, "reads what it writes");
    let from = part.read(from..from + to.pixels * LANES);
    // SAFETY: inside the allocation, initialised; it overlaps with nothing that is read, and what others write
    // meanwhile lies between the pixels, where the loop writes nothing. The table was chosen for this CPU.
    unsafe {
        let to_all = std::slice::from_raw_parts_mut(start, bytes);
        (int8.pictures.quantize)(from, to_all, to.block(), how)
    }
}

/// A row of planes, `plane` floats apart, into pixels.
pub(crate) fn quantize_planes(
    int8: &Int8,
    part: &mut Part<'_>,
    (from, plane): (usize, usize),
    to: Stretch,
    how: &Quantizer,
) {
    assert!(to.channels <= QUAD, "more planes than a quad has bytes");
    let is_whole = to.pixel == QUAD;
    let whole = if is_whole { Stretch { channels: QUAD, ..to } } else { to };
    part.note_pixels(whole, true);
    let (start, bytes) = (part.codes_at(to.at, whole.bytes()), whole.bytes());
    let floats = from * size_of::<f32>()..(from + to.channels * plane) * size_of::<f32>();
    assert!(floats.end <= to.at || to.at + bytes <= floats.start, "reads what it writes");
    let mut rows: [&[f32]; QUAD] = [&[]; QUAD];
    for (channel, row) in rows.iter_mut().enumerate().take(to.channels) {
        let from = from + channel * plane;
        *row = part.read(from..from + to.pixels);
    }
    // SAFETY: as above.
    unsafe {
        let all = std::slice::from_raw_parts_mut(start, bytes);
        (int8.pictures.quantize_planes)(&rows[..to.channels], all, to.pixel, how)
    }
}

/// A row of codes into a block of floats.
pub(crate) fn dequantize(int8: &Int8, part: &mut Part<'_>, from: Stretch, to: usize, worth: &Worth) {
    if from.pixels == 0 {
        return;
    }
    part.note_pixels(from, false);
    let (start, bytes) = (part.codes_at(from.at, from.bytes()), from.bytes());
    let floats = to * size_of::<f32>()..(to + from.pixels * LANES) * size_of::<f32>();
    assert!(floats.end <= from.at || from.at + bytes <= floats.start, "reads what it writes");
    let to = part.write(to..to + from.pixels * LANES);
    // SAFETY: inside the allocation, initialised; it overlaps with nothing that is written. The table was chosen for
    // this CPU.
    unsafe {
        let from_all = std::slice::from_raw_parts(start, bytes);
        (int8.pictures.dequantize)(from_all, to, from.block(), worth)
    }
}

/// A row of codes of one channel into a row of a plane.
pub(crate) fn dequantize_plane(part: &mut Part<'_>, from: Stretch, to: usize, worth: &Worth) {
    if from.pixels == 0 {
        return;
    }
    part.note_pixels(from, false);
    let (start, bytes) = (part.codes_at(from.at, from.bytes()), from.bytes());
    let floats = to * size_of::<f32>()..(to + from.pixels) * size_of::<f32>();
    assert!(floats.end <= from.at || from.at + bytes <= floats.start, "reads what it writes");
    let to = part.write(to..to + from.pixels);
    // SAFETY: inside the allocation, initialised; it overlaps with nothing that is written.
    let from_all = unsafe { std::slice::from_raw_parts(start, bytes) };
    for (to, code) in to.iter_mut().zip(from_all.iter().step_by(from.pixel)) {
        *to = worth.number(*code);
    }
}
