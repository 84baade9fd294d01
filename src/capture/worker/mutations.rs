//! For tests: damaged files of every format. Whatever is in them, reading ends in time, with frames or an
//! error.
//!
//! `WEIR_MUTATIONS=N` sets how many files are made of each clip (the default keeps the test short).

use super::clips::{asset, decode_all};
use super::file;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// Files made of each clip where nobody says.
const DEFAULT_MUTATIONS: u32 = 40;

/// For one file. In the service the stall limit ends a worker after 5 s; here the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// One of each container and codec.
const SEEDS: [&str; 17] = [
    "main.mp4",
    "cavlc-slices.mp4",
    "interlaced.mp4",
    "high10.mp4",
    "fragmented.mp4",
    "edited.mp4",
    "h265.mp4",
    "h264.mkv",
    "h265.mkv",
    "h264.avi",
    "mjpeg.avi",
    "raw.h264",
    "raw.h265",
    "main.ts",
    "main.flv",
    "zlib.mkv",
    "pictures.mjpeg",
];

/// A linear congruential generator: the same damage each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

fn mutate(original: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = original.to_vec();
    // Half of the damage goes where the tables are: at the start or the end.
    let place = |dice: &mut Dice, length: usize| match dice.below(4) {
        0 => dice.below(length.min(2048)),
        1 => length - 1 - dice.below(length.min(2048)),
        _ => dice.below(length),
    };
    for _ in 0..=dice.below(8) {
        let at = place(dice, bytes.len());
        match dice.below(6) {
            0 | 1 => bytes[at] = dice.below(256) as u8,
            2 => bytes[at] ^= 1 << dice.below(8),
            3 => {
                let value = [0, 1, 0x7fff_ffff, u32::MAX, 0x0001_0000][dice.below(5)].to_be_bytes();
                bytes.iter_mut().skip(at).zip(value).for_each(|(byte, value)| *byte = value);
            }
            4 => {
                let end = (at + dice.below(64)).min(bytes.len());
                bytes[at..end].fill(0);
            }
            _ => {
                let end = (at + dice.below(256)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
        }
    }
    if dice.below(8) == 0 {
        bytes.truncate(dice.below(bytes.len()).max(1));
    }
    bytes
}

/// A file that is gone when the test is, however that ends.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Reads a file to its end, twice.
fn read(path: &Path) -> usize {
    let Ok(mut source) = file::open(path) else { return 0 };
    let first = decode_all(source.as_mut(), |_| {}).map_or(0, |decoded| decoded.checksums.len());
    if source.restart().is_ok() {
        let _ = source.grab();
    }
    first
}

#[test]
fn damaged_files_end_in_time() {
    let count = std::env::var("WEIR_MUTATIONS")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(DEFAULT_MUTATIONS);
    let (sender, receiver) = channel();
    let worker = std::thread::spawn(move || {
        for name in SEEDS {
            let original = std::fs::read(asset(&format!("clips/{name}"))).unwrap();
            let scratch =
                Scratch(std::env::temp_dir().join(format!("weir-mutation-{}-{name}", std::process::id())));
            let mut frames = 0;
            for seed in 0..count {
                sender.send(format!("{name} seed {seed}")).unwrap();
                std::fs::write(&scratch.0, mutate(&original, &mut Dice(u64::from(seed) * 7919 + 1))).unwrap();
                frames += read(&scratch.0);
            }
            // Most damage leaves most pictures: else the damage, or the reading, is not what it should be.
            assert!(frames > count as usize, "{name}: {frames} frames of {count} files");
        }
    });
    let mut current = String::new();
    loop {
        match receiver.recv_timeout(PATIENCE) {
            Ok(next) => current = next,
            Err(RecvTimeoutError::Timeout) => panic!("still reading {current}"),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    assert!(worker.join().is_ok(), "panicked reading {current}");
}
