//! Files in one stream, in the `ustar` form of tar (POSIX.1-1988): `tar tf` reads a backup without secrets.
//!
//! The first member says what it is, the last one has the SHA-256 of all others, as `sha256sum` writes them.

use crate::error::{Error, Kind, Result};
use ring::digest::{Context, SHA256};
use std::fmt::Write as _;
use std::io::{self, Read, Write};

const BLOCK_BYTES: usize = 512;

/// The last member: SHA-256 of each member before it, as `sha256sum` prints it.
const SUMS: &str = "weir-backup/SHA256SUMS";

/// The first member: what the archive is and what made it.
pub(super) const ABOUT: &str = "weir-backup/about.txt";

/// Members of one backup: a folder of models has a handful each.
const MAX_MEMBERS: usize = 20_000;

/// Largest list of sums: one line of 200 bytes for each.
const MAX_SUMS_BYTES: u64 = 4 << 20;

/// A file in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// Without a leading slash, nowhere upwards.
    pub(super) path: String,
    /// Permission bits of the file, as `chmod` takes them.
    pub(super) mode: u32,
    pub(super) bytes: u64,
}

/// Writes the members of an archive (tar), and their sums as the last one.
pub(super) struct Writer<W: Write> {
    to: W,
    sums: String,
    members: usize,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(to: W) -> Writer<W> {
        Writer { to, sums: String::new(), members: 0 }
    }

    /// Adds a file of exactly that many bytes.
    pub(super) fn add(&mut self, member: &Member, content: &mut dyn Read) -> Result<()> {
        if self.members == MAX_MEMBERS {
            return Err(Error::new(
                Kind::Exhausted,
                format!("more than {MAX_MEMBERS} files: leave --models out"),
            ));
        }
        self.members += 1;
        let sum = self.write(member, content)?;
        // Writing to a String cannot fail.
        let _ = writeln!(self.sums, "{sum}  {}", member.path);
        Ok(())
    }

    fn write(&mut self, member: &Member, content: &mut dyn Read) -> Result<String> {
        let failed = crate::error::system("cannot write the backup");
        let header = header(member)?;
        let mut digest = Context::new(&SHA256);
        let mut copy = || -> io::Result<u64> {
            self.to.write_all(&header)?;
            let mut chunk = vec![0; 64 << 10];
            let (mut left, mut content) = (member.bytes, content.take(member.bytes));
            loop {
                let count = content.read(&mut chunk)?;
                let bytes = chunk.get(..count).unwrap_or_default();
                if count == 0 {
                    break;
                }
                digest.update(bytes);
                self.to.write_all(bytes)?;
                left -= count as u64;
            }
            let over = (member.bytes % BLOCK_BYTES as u64) as usize;
            self.to.write_all(&vec![0; (BLOCK_BYTES - over) % BLOCK_BYTES])?;
            Ok(left)
        };
        if copy().map_err(failed)? > 0 {
            return Err(Error::new(
                Kind::System,
                format!("/{} became shorter while it was read", member.path),
            ));
        }
        Ok(digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Writes the sums and the end.
    pub(super) fn finish(mut self) -> Result<W> {
        let sums = std::mem::take(&mut self.sums);
        let member = Member { path: SUMS.to_owned(), mode: 0o600, bytes: sums.len() as u64 };
        self.write(&member, &mut sums.as_bytes())?;
        self.to.write_all(&[0; 2 * BLOCK_BYTES]).map_err(crate::error::system("cannot write the backup"))?;
        Ok(self.to)
    }
}

fn header(member: &Member) -> Result<[u8; BLOCK_BYTES]> {
    let unfit =
        || Error::new(Kind::Unsupported, format!("/{} has too long a path for a backup", member.path));
    // Up to 100 bytes of name, or that much after a slash and up to 155 before it.
    let (prefix, name) = if member.path.len() <= 100 {
        ("", member.path.as_str())
    } else {
        let fits = |(at, _): &(usize, char)| *at <= 155 && member.path.len() - at - 1 <= 100;
        let (at, _) = member.path.char_indices().filter(|(_, c)| *c == '/').find(fits).ok_or_else(unfit)?;
        (member.path.get(..at).unwrap_or_default(), member.path.get(at + 1..).unwrap_or_default())
    };
    let mut header = [0; BLOCK_BYTES];
    let mut put = |at: usize, bytes: &[u8]| {
        header.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
    };
    put(0, name.as_bytes());
    put(100, format!("{:07o}\0{:07o}\0{:07o}\0", member.mode & 0o777, 0, 0).as_bytes());
    put(124, format!("{:011o}\0{:011o}\0        0", member.bytes, 0).as_bytes());
    put(257, b"ustar\x0000root");
    put(297, b"root");
    put(345, prefix.as_bytes());
    if member.bytes >= 1 << 33 {
        return Err(Error::new(Kind::Unsupported, format!("/{} is too large for a backup", member.path)));
    }
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header.iter_mut().skip(148).zip(format!("{sum:06o}\0 ").bytes()).for_each(|(to, from)| *to = from);
    Ok(header)
}

fn damaged(why: impl Into<String>) -> Error {
    Error::new(Kind::Damaged, why.into())
}

fn unread(cause: io::Error) -> Error {
    match cause.kind() {
        io::ErrorKind::InvalidData => damaged(cause.to_string()),
        io::ErrorKind::UnexpectedEof => damaged("the backup is cut short"),
        _ => crate::error::system("cannot read the backup")(cause),
    }
}

/// Reads a whole backup, hands each file to `take` (whose reader it need not read to the end), and checks the
/// sums.
pub(super) fn read(
    mut from: impl Read,
    mut take: impl FnMut(&Member, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    let mut found = String::new();
    for number in 0..=MAX_MEMBERS {
        let mut header = [0; BLOCK_BYTES];
        from.read_exact(&mut header).map_err(unread)?;
        let member = parse(&header)?;
        if (number == 0) != (member.path == ABOUT) {
            return Err(damaged("this is no backup of weir's"));
        }
        let padding = (BLOCK_BYTES as u64 - member.bytes % BLOCK_BYTES as u64) % BLOCK_BYTES as u64;
        if member.path == SUMS {
            let mut sums = String::new();
            (&mut from).take(member.bytes.min(MAX_SUMS_BYTES)).read_to_string(&mut sums).map_err(unread)?;
            if sums != found {
                return Err(damaged("the backup is damaged: its checksums are others"));
            }
            io::copy(&mut from, &mut io::sink()).map_err(unread)?;
            return Ok(());
        }
        let mut content = Counted { from: (&mut from).take(member.bytes), digest: Context::new(&SHA256) };
        take(&member, &mut content)?;
        io::copy(&mut content, &mut io::sink()).map_err(unread)?;
        if content.from.limit() > 0 {
            return Err(damaged("the backup is cut short"));
        }
        let sum: String = content.digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let _ = writeln!(found, "{sum}  {}", member.path);
        io::copy(&mut (&mut from).take(padding), &mut io::sink()).map_err(unread)?;
    }
    Err(damaged("the backup has too many files"))
}

struct Counted<R> {
    from: R,
    digest: Context,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(out)?;
        self.digest.update(out.get(..count).unwrap_or_default());
        Ok(count)
    }
}

fn parse(header: &[u8; BLOCK_BYTES]) -> Result<Member> {
    let wrong = || damaged("this is no backup of weir's, or it is damaged");
    let text = |at: usize, most: usize| -> Result<&str> {
        let field = header.get(at..at + most).unwrap_or_default();
        let end = field.iter().position(|byte| *byte == 0).unwrap_or(most);
        std::str::from_utf8(field.get(..end).unwrap_or_default()).map_err(|_| wrong())
    };
    let number =
        |at, most| -> Result<u64> { u64::from_str_radix(text(at, most)?.trim(), 8).map_err(|_| wrong()) };
    let told = number(148, 8)?;
    let sum: u64 = header
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) })
        .sum();
    let is_file = header.get(156) == Some(&b'0');
    if told != sum || text(257, 5)? != "ustar" || !is_file {
        return Err(wrong());
    }
    let (prefix, name) = (text(345, 155)?, text(0, 100)?);
    let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
    // Nothing that would lead elsewhere when it is put below a folder.
    if path.split('/').any(|part| part.is_empty() || part == "." || part == "..")
        || path.contains(char::is_control)
    {
        return Err(wrong());
    }
    Ok(Member { path, mode: (number(100, 8)? & 0o777) as u32, bytes: number(124, 12)? })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn member(path: &str, content: &[u8]) -> Member {
        Member { path: path.to_owned(), mode: 0o640, bytes: content.len() as u64 }
    }

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for (path, content) in files {
            writer.add(&member(path, content), &mut &**content).unwrap();
        }
        writer.finish().unwrap()
    }

    fn contents(bytes: &[u8]) -> Result<Vec<(String, u32, Vec<u8>)>> {
        let mut found = Vec::new();
        read(bytes, |member, content| {
            let mut text = Vec::new();
            content.read_to_end(&mut text).unwrap();
            found.push((member.path.clone(), member.mode, text));
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn files_come_back_as_they_were_and_tar_reads_them() {
        let long = format!("{}/{}", "a".repeat(120), "b".repeat(90));
        let files: [(&str, &[u8]); 4] =
            [(ABOUT, b"x"), ("etc/weir/weir.toml", &[7; 512]), (&long, b""), ("etc/ä", &[1; 513])];
        let bytes = archive(&files);
        let found = contents(&bytes).unwrap();
        for ((path, mode, content), (name, written)) in found.iter().zip(files) {
            assert_eq!((path.as_str(), *mode, content.as_slice()), (name, 0o640, written));
        }
        let file = std::env::temp_dir().join(format!("weir-tar-{}", uuid::Uuid::new_v4()));
        std::fs::write(&file, &bytes).unwrap();
        let listed = std::process::Command::new("tar").arg("tf").arg(&file).output().unwrap();
        std::fs::remove_file(&file).unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert_eq!(listed.lines().count(), files.len() + 1, "{listed}");
        assert!(listed.contains("etc/weir/weir.toml"), "{listed}");
    }

    #[test]
    fn what_is_damaged_or_leads_elsewhere_is_refused() {
        let good = archive(&[(ABOUT, b"x"), ("etc/weir/weir.toml", b"hello")]);
        for at in [0, 3, 512, 1100, 1540] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(contents(&bad).unwrap_err().kind(), Kind::Damaged, "{at}");
        }
        for end in [0, 100, 512, 1024, 1700] {
            assert_eq!(contents(&good[..end]).unwrap_err().kind(), Kind::Damaged, "{end}");
        }
        for path in ["../etc/passwd", "/etc/passwd", "a/../../b", "a//b", "./a", "a\nb"] {
            assert_eq!(
                contents(&archive(&[(ABOUT, b"x"), (path, b"x")])).unwrap_err().kind(),
                Kind::Damaged,
                "{path}"
            );
        }
        assert_eq!(contents(&archive(&[("etc/x", b"x")])).unwrap_err().kind(), Kind::Damaged);
    }
}
