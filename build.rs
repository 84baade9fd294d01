//! Packs the page (`src/web/page/`): each file gzip-compressed, with a name for its content. No bundler and
//! no network.

#![allow(clippy::expect_used, clippy::panic, reason = "a build that cannot go on ends with its reason")]

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// What browsers are told of each kind of file; others are refused, so that nothing gets into the program by
/// being left there.
const TYPES: [(&str, &str); 4] = [
    ("html", "text/html; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("svg", "image/svg+xml"),
];
/// The slowest and smallest.
const LEVEL: u8 = 10;

fn main() {
    let source = Path::new("src/web/page");
    println!("cargo:rerun-if-changed={}", source.display());
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo names a folder for what is made"));
    let mut files: Vec<PathBuf> = fs::read_dir(source)
        .expect("the page's folder")
        .map(|entry| entry.expect("its files").path())
        .collect();
    files.sort();
    let mut table = String::from("&[\n");
    for path in files {
        println!("cargo:rerun-if-changed={}", path.display());
        let name = path.file_name().and_then(|name| name.to_str()).expect("a plain name").to_owned();
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let Some((_, kind)) = TYPES.iter().find(|(known, _)| *known == extension) else {
            panic!("{}: the page has files of these kinds only: {TYPES:?}", path.display());
        };
        let bytes = fs::read(&path).expect("a file of the page");
        let packed = out.join(format!("{name}.gz"));
        fs::write(&packed, gzip(&bytes)).expect("room for the packed page");
        let _ = writeln!(
            table,
            "    File {{ name: {name:?}, kind: {kind:?}, bytes: {}, tag: \"\\\"{:016x}\\\"\", packed: include_bytes!({packed:?}) }},",
            bytes.len(),
            digest(&bytes)
        );
    }
    table.push(']');
    fs::write(out.join("page.rs"), table).expect("room for the page's table");
}

/// RFC 1952: a header without name or time, so that the same file is the same bytes.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255];
    out.extend(miniz_oxide::deflate::compress_to_vec(bytes, LEVEL));
    out.extend(crc32fast::hash(bytes).to_le_bytes());
    out.extend(u32::try_from(bytes.len()).expect("a page of less than 4 GiB").to_le_bytes());
    out
}

/// FNV-1a, 64 bits: tells one version of a file from the next, and nothing rests on nobody finding another
/// with the same.
fn digest(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
