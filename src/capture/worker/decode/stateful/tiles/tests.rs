use super::*;

/// A picture that has no two places alike: high bytes of Knuth's generator, `bits` of each sample.
fn noise(count: usize, bits: u32) -> Vec<u16> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> (32 - bits)) as u16
    };
    (0..count).map(|_| next()).collect()
}

/// zlib's checksum, as `ffmpeg -f framecrc` prints it.
fn adler32(bytes: &[u8]) -> u32 {
    let sums = |(a, b): (u32, u32), byte: &u8| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    };
    let (a, b) = bytes.iter().fold((1, 0), sums);
    b << 16 | a
}

/// Where the kernel's documentation puts the byte `x` of row `y` of a plane whose rows are `stride` bytes: tiles
/// of `width` bytes by `height` rows, line after line.
fn in_lines(x: usize, y: usize, stride: usize, [width, height]: [usize; 2]) -> usize {
    let tile = (y / height) * (stride / width) + x / width;
    tile * width * height + (y % height) * width + x % width
}

/// The same for NV12MT: numbers as they stand in the documentation's drawing `nv12mt_example`, by which groups of
/// 2x2 tiles alternate between Z and its mirror image.
fn in_zigzag(x: usize, y: usize, stride: usize, rows: usize) -> usize {
    let (tile_x, tile_y) = (x / 64, y / 32);
    let (across, down) = (stride / 64, rows.div_ceil(32));
    let tile = if down % 2 == 1 && tile_y == down - 1 {
        tile_y * across + tile_x
    } else {
        let group = tile_y / 2 * across * 2 + tile_x / 2 * 4;
        let upper = [0, 1];
        let mirrored = [[2, 3], [0, 1]];
        let straight = [upper, [2, 3]];
        let within = if tile_x / 2 % 2 == 0 { straight } else { mirrored };
        group + within[tile_y % 2][tile_x % 2]
    };
    tile * 64 * 32 + (y % 32) * 64 + x % 64
}

/// Of columns: byte `x` of row `y`, counted through luma and then chroma of the column.
fn in_columns(x: usize, y: usize, lines: usize) -> usize {
    x / 128 * lines * 128 + y * 128 + x % 128
}

/// How the test puts a picture into a buffer, which is the other way round than the code under test.
struct Case {
    fourcc: [u8; 4],
    /// Bytes and rows of a tile of luma, of chroma.
    tiles: [[usize; 2]; 2],
    bits: u32,
    /// Of a picture of 640x256, of one of 640x64, as GStreamer 1.22 makes it of the same noise (`videoconvert
    /// dither=none`, from NV12 or P010_10LE to NV12_4L4, _32L32, _64Z32, _16L32S, _8L128, _10BE_8L128).
    gstreamer: [Option<u32>; 2],
}

const fn case(fourcc: &[u8; 4], width: usize, height: usize, gstreamer: [Option<u32>; 2]) -> Case {
    Case { fourcc: *fourcc, tiles: [[width, height]; 2], bits: 8, gstreamer }
}

const CASES: [Case; 13] = [
    case(b"VT12", 4, 4, [Some(0x8d6c_1c96), Some(0x0466_634b)]),
    case(b"HM12", 16, 16, [None; 2]),
    case(b"VM12", 16, 16, [None; 2]),
    case(b"ST12", 32, 32, [Some(0x1604_1c96), Some(0x059c_634b)]),
    case(b"TM12", 64, 32, [Some(0x67cd_1c96), Some(0x66a0_634b)]),
    Case { tiles: [[16, 32], [16, 16]], ..case(b"MM21", 16, 32, [Some(0x0ed9_1c96), Some(0xcb14_634b)]) },
    case(b"NA12", 8, 128, [Some(0xda21_1c96), None]),
    case(b"AT12", 8, 128, [Some(0xda21_1c96), None]),
    case(b"NC12", 128, 1, [None; 2]),
    Case { bits: 10, ..case(b"T010", 8, 4, [None; 2]) },
    Case { bits: 10, ..case(b"VT15", 5, 4, [None; 2]) },
    Case { bits: 10, ..case(b"NT1\xB2", 8, 128, [Some(0xd36b_9acd), None]) },
    Case { bits: 10, ..case(b"AX1\xB2", 8, 128, [Some(0xd36b_9acd), None]) },
];

/// A picture in a buffer, and where its planes begin and what the driver says of it.
struct Buffer {
    format: Format,
    planes: [Vec<u8>; 2],
    /// The upper eight bits of each sample, row by row, luma before chroma.
    samples: Vec<u8>,
}

fn buffer(case: &Case, width: usize, height: usize) -> Buffer {
    let even = width.next_multiple_of(2);
    let rows = [height, height.div_ceil(2)];
    let samples = noise(even * (rows[0] + rows[1]), case.bits);
    // Rows of bytes as they would be without tiles.
    let pack = |row: &[u16]| -> Vec<u8> {
        let mut bytes = Vec::new();
        match &case.fourcc {
            b"T010" => row.iter().for_each(|sample| bytes.extend((sample << 6).to_le_bytes())),
            b"VT15" | b"NT1\xB2" | b"AX1\xB2" => {
                let is_little = case.fourcc == *b"VT15";
                bytes.resize(row.len().div_ceil(4) * 5, 0_u8);
                for (number, sample) in row.iter().enumerate() {
                    for bit in 0..10 {
                        // Little: the first sample's lowest bit is the first byte's lowest. Big: its highest.
                        let (at, value) =
                            (number * 10 + bit, sample >> if is_little { bit } else { 9 - bit } & 1);
                        let shift = if is_little { at % 8 } else { 7 - at % 8 };
                        bytes[at / 8] |= (value as u8) << shift;
                    }
                }
            }
            _ => bytes.extend(row.iter().map(|sample| *sample as u8)),
        }
        bytes
    };
    let is_column = case.fourcc == *b"NC12";
    let align = if case.fourcc == *b"TM12" { 128 } else { case.tiles[0][0] };
    let stride = pack(&vec![0; even]).len().next_multiple_of(align);
    // More lines than luma and chroma need.
    let lines = height.next_multiple_of(2) * 3 / 2 + 16;
    let mut planes = rows.map(|_| Vec::new());
    let mut all = samples.chunks(even);
    for number in [0, 1] {
        let tile = case.tiles[number];
        let bytes = stride * rows[number].next_multiple_of(tile[1]);
        if !is_column {
            planes[number] = vec![0xEE; bytes];
        } else if number == 0 {
            planes[0] = vec![0xEE; stride * lines];
        }
        for y in 0..rows[number] {
            for (x, byte) in pack(all.next().unwrap()).into_iter().enumerate() {
                if is_column {
                    let row = if number == 0 { y } else { height.next_multiple_of(2) + y };
                    planes[0][in_columns(x, row, lines)] = byte;
                } else if case.fourcc == *b"TM12" {
                    planes[number][in_zigzag(x, y, stride, rows[number])] = byte;
                } else {
                    planes[number][in_lines(x, y, stride, tile)] = byte;
                }
            }
        }
    }
    let told = if is_column { lines } else { stride } as u32;
    let format = Format {
        fourcc: case.fourcc,
        width: width as u32,
        height: height as u32,
        pieces: 2,
        strides: [told, told, 0],
        ..Format::default()
    };
    let samples = samples.iter().map(|sample| (sample >> (case.bits - 8)) as u8).collect();
    Buffer { format, planes, samples }
}

fn whole(format: &Format) -> Rectangle {
    Rectangle { left: 0, top: 0, width: format.width, height: format.height }
}

/// The picture's rows without padding, luma before chroma.
fn read(format: &Format, visible: Rectangle, pieces: [&[u8]; MAX_PIECES]) -> Option<Vec<u8>> {
    let tiles = Tiles::new(format, visible).unwrap().unwrap();
    let mut linear = vec![0x55; tiles.bytes()];
    let picture = tiles.picture(pieces, &mut linear)?;
    assert_eq!((picture.width, picture.height), (visible.width, visible.height));
    let rows = Layout::Nv12.planes(visible.width as usize, visible.height as usize);
    let planes = picture.planes.iter().zip(rows);
    let rows = planes.flat_map(|(plane, (bytes, rows))| {
        (0..rows).flat_map(move |row| &plane.data[row * plane.stride..][..bytes])
    });
    Some(rows.copied().collect())
}

fn is_column(case: &Case) -> bool {
    case.fourcc == *b"NC12"
}

#[test]
fn the_test_puts_pictures_into_tiles_as_gstreamer_does() {
    for case in &CASES {
        for (height, wanted) in [256, 64].into_iter().zip(case.gstreamer) {
            if let Some(wanted) = wanted {
                let made = buffer(case, 640, height).planes.concat();
                let name = case.fourcc.escape_ascii();
                assert_eq!(adler32(&made), wanted, "{name} of {height} rows: {:#x}", adler32(&made));
            }
        }
    }
}

#[test]
fn what_was_put_into_tiles_comes_out_as_it_was() {
    for case in &CASES {
        // Aligned and not, odd, one tile line of chroma and several, smaller than a tile.
        for (width, height) in [(640, 256), (640, 64), (200, 70), (131, 97), (2, 2)] {
            let Buffer { format, planes, samples } = buffer(case, width, height);
            let name = format!("{} {width}x{height}", case.fourcc.escape_ascii());
            let one = planes.concat();
            let even = width.next_multiple_of(2);
            let wanted: Vec<u8> = samples
                .chunks(even)
                .enumerate()
                .flat_map(|(row, samples)| &samples[..if row < height { width } else { even }])
                .copied()
                .collect();
            // In two pieces, and in one.
            if !is_column(case) {
                let seen = read(&format, whole(&format), [&planes[0], &planes[1], &[]]);
                assert!(seen.unwrap() == wanted, "{name}");
            }
            let format = Format { pieces: 1, ..format };
            assert!(read(&format, whole(&format), [&one, &[], &[]]).unwrap() == wanted, "{name}");
        }
    }
}

#[test]
fn only_what_is_to_be_seen_is_put_into_rows() {
    for case in &CASES {
        let (width, height) = (200, 70);
        let Buffer { format, planes, samples } = buffer(case, width, height);
        let (format, one) = (Format { pieces: 1, ..format }, planes.concat());
        let visible = Rectangle { left: 6, top: 4, width: 101, height: 33 };
        let luma = samples.chunks(width).skip(4).take(33).flat_map(|row| &row[6..][..101]);
        let chroma = samples.chunks(width).skip(height + 2).take(17).flat_map(|row| &row[6..][..102]);
        let wanted: Vec<u8> = luma.chain(chroma).copied().collect();
        let name = case.fourcc.escape_ascii();
        assert!(read(&format, visible, [&one, &[], &[]]).unwrap() == wanted, "{name}");
    }
}

#[test]
fn no_buffer_is_read_beyond_its_end() {
    for case in &CASES {
        let Buffer { format, planes, .. } = buffer(case, 200, 70);
        let visible = whole(&format);
        let one = planes.concat();
        let format = Format { pieces: if is_column(case) { 1 } else { 2 }, ..format };
        let pieces: [&[u8]; 3] =
            if is_column(case) { [&one, &[], &[]] } else { [&planes[0], &planes[1], &[]] };
        assert!(read(&format, visible, pieces).is_some());
        let lengths = [0, 1, 100, pieces[0].len() / 2, pieces[0].len() / 2 + 1];
        for length in lengths {
            let short = [&pieces[0][..length], pieces[1], &[]];
            assert!(read(&format, visible, short).is_none(), "{} {length}", case.fourcc.escape_ascii());
            if !is_column(case) {
                let short = [pieces[0], &pieces[1][..length / 4], &[]];
                assert!(read(&format, visible, short).is_none(), "{} {length}", case.fourcc.escape_ascii());
            }
        }
        // Nor where the place for the rows is too short.
        let tiles = Tiles::new(&format, visible).unwrap().unwrap();
        let mut linear = vec![0; tiles.bytes() - 1];
        assert!(tiles.picture(pieces, &mut linear).is_none());
    }
}

#[test]
fn what_a_driver_says_is_held_to_what_can_be() {
    for case in &CASES {
        let Buffer { format, .. } = buffer(case, 200, 70);
        let format = Format { pieces: 1, ..format };
        let why = |format: &Format| Tiles::new(format, whole(format)).unwrap().unwrap_err();
        for stride in [1, 104, MAX_STRIDE_BYTES as u32 + 1, u32::MAX] {
            let why = why(&Format { strides: [stride; 3], ..format });
            assert!(why.contains("do not fit"), "{why}");
        }
        for pieces in [0, 3, usize::MAX] {
            assert!(why(&Format { pieces, ..format }).contains("pieces of memory for 2 planes"));
        }
        // 0 means that there is no padding.
        assert!(Tiles::new(&Format { strides: [0; 3], ..format }, whole(&format)).unwrap().is_ok());
        // The widest and the highest that is taken, in a buffer that is none.
        for (width, height) in [(16_384, 2_196), (2_196, 16_384)] {
            let stride = if is_column(case) { 65_536 } else { MAX_STRIDE_BYTES as u32 };
            let format = Format { width, height, strides: [stride; 3], ..format };
            let tiles = Tiles::new(&format, whole(&format)).unwrap().unwrap();
            let mut linear = vec![0; tiles.bytes()];
            assert!(tiles.picture([&[0; 4096], &[], &[]], &mut linear).is_none());
        }
    }
    assert!(Tiles::new(&Format { fourcc: *b"NV12", ..Format::default() }, Rectangle::default()).is_none());
    assert_eq!(why_opaque(*b"Q08C"), Some("compressed by Qualcomm"));
    assert_eq!(why_opaque(*b"NV12"), None);
}
