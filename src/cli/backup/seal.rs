//! What is written can be read only with the passphrase, and only whole.
//!
//! ```text
//! "weir-backup-1\n"  salt (16)  iterations (4, big endian)  chunk  chunk …  last chunk
//! chunk: length of what follows (4, big endian; the highest bit marks the last)  ciphertext  tag (16)
//! ```
//!
//! The key is PBKDF2-HMAC-SHA256 of the passphrase, fresh with each file's salt; chunks are ChaCha20-Poly1305
//! with their number as nonce and the header, and whether they are the last, as associated data: none can be
//! changed, moved, or left out.

use crate::error::{Error, Kind, Result};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::pbkdf2;
use ring::rand::{SecureRandom as _, SystemRandom};
use std::io::{self, Read, Write};
use std::num::NonZeroU32;

/// The first bytes of an encrypted backup.
pub(super) const MAGIC: &[u8; 14] = b"weir-backup-1\n";

/// Rounds of PBKDF2 for a new file: what OWASP advises for HMAC-SHA256 (2023); a second on a small board.
const ITERATIONS: u32 = if cfg!(test) { 1_000 } else { 600_000 };

/// A file that asks for more is meant to keep the reader busy.
const MAX_ITERATIONS: u32 = 10_000_000;

const SALT_BYTES: usize = 16;

/// Bytes of text in one chunk.
const CHUNK_BYTES: usize = 64 << 10;

/// The highest bit of a chunk's length: no other follows.
const LAST: u32 = 1 << 31;

/// Shortest passphrase: whoever finds the file may try as long as they like.
pub(super) const MIN_PASSPHRASE: usize = 12;

struct Cipher {
    key: LessSafeKey,
    header: Vec<u8>,
    next: u64,
}

impl Cipher {
    fn new(passphrase: &str, salt: &[u8; SALT_BYTES], iterations: u32) -> io::Result<Cipher> {
        let rounds = NonZeroU32::new(iterations).ok_or_else(|| io::Error::other("no iterations"))?;
        let mut key = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, passphrase.as_bytes(), &mut key);
        let key = UnboundKey::new(&CHACHA20_POLY1305, &key).map_err(|_| io::Error::other("no key"))?;
        let header = [&MAGIC[..], salt, &iterations.to_be_bytes()].concat();
        Ok(Cipher { key: LessSafeKey::new(key), header, next: 0 })
    }

    /// Nonce and associated data of the next chunk. A key never sees a number twice: it is of this file
    /// alone.
    fn step(&mut self, is_last: bool) -> (Nonce, Aad<Vec<u8>>) {
        let mut nonce = [0; NONCE_LEN];
        // Twelve bytes: four zeros, then the number.
        nonce.iter_mut().skip(NONCE_LEN - 8).zip(self.next.to_be_bytes()).for_each(|(to, from)| *to = from);
        self.next += 1;
        let mut about = self.header.clone();
        about.push(u8::from(is_last));
        (Nonce::assume_unique_for_key(nonce), Aad::from(about))
    }
}

/// Encrypts what is written to it.
pub(super) struct Sealer<W: Write> {
    to: W,
    cipher: Cipher,
    text: Vec<u8>,
}

impl<W: Write> Sealer<W> {
    pub(super) fn new(mut to: W, passphrase: &str) -> io::Result<Sealer<W>> {
        let mut salt = [0; SALT_BYTES];
        SystemRandom::new()
            .fill(&mut salt)
            .map_err(|_| io::Error::other("the system gives no random numbers"))?;
        let cipher = Cipher::new(passphrase, &salt, ITERATIONS)?;
        to.write_all(&cipher.header)?;
        Ok(Sealer { to, cipher, text: Vec::with_capacity(CHUNK_BYTES + 16) })
    }

    fn chunk(&mut self, is_last: bool) -> io::Result<()> {
        let (nonce, about) = self.cipher.step(is_last);
        let sealed = self.cipher.key.seal_in_place_append_tag(nonce, about, &mut self.text);
        sealed.map_err(|_| io::Error::other("cannot encrypt"))?;
        // At most CHUNK_BYTES and the tag.
        let length = self.text.len() as u32 | if is_last { LAST } else { 0 };
        self.to.write_all(&length.to_be_bytes())?;
        self.to.write_all(&self.text)?;
        self.text.clear();
        Ok(())
    }

    /// Writes what is left, and that nothing follows.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.chunk(true)?;
        Ok(self.to)
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.text.len() == CHUNK_BYTES {
            self.chunk(false)?;
        }
        let count = bytes.len().min(CHUNK_BYTES - self.text.len());
        self.text.extend_from_slice(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Decrypts what it reads.
pub(super) struct Opener<R: Read> {
    from: R,
    cipher: Cipher,
    text: Vec<u8>,
    given: usize,
    is_over: bool,
}

/// What a failed read says: that the end came too soon, or that the disk could not be read.
fn cut_short(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::UnexpectedEof { damaged("the backup is cut short") } else { error }
}

/// What is wrong with a file is data, not the disk.
fn damaged(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl<R: Read> Opener<R> {
    /// `from` stands behind [`MAGIC`].
    pub(super) fn new(mut from: R, passphrase: &str) -> Result<Opener<R>> {
        let cut = |error: io::Error| Error::new(Kind::Damaged, "the backup is cut short").because(error);
        let (mut salt, mut iterations) = ([0; SALT_BYTES], [0; 4]);
        from.read_exact(&mut salt).map_err(cut)?;
        from.read_exact(&mut iterations).map_err(cut)?;
        let iterations = u32::from_be_bytes(iterations);
        if iterations == 0 || iterations > MAX_ITERATIONS {
            return Err(Error::new(Kind::Damaged, "the backup's header is damaged"));
        }
        let cipher =
            Cipher::new(passphrase, &salt, iterations).map_err(crate::error::system("derive the key"))?;
        Ok(Opener { from, cipher, text: Vec::new(), given: 0, is_over: false })
    }

    fn chunk(&mut self) -> io::Result<()> {
        let mut length = [0; 4];
        self.from.read_exact(&mut length).map_err(cut_short)?;
        let length = u32::from_be_bytes(length);
        let (is_last, length) = (length & LAST != 0, (length & !LAST) as usize);
        if length > CHUNK_BYTES + CHACHA20_POLY1305.tag_len() {
            return Err(damaged("the backup is damaged"));
        }
        self.text.resize(length, 0);
        self.from.read_exact(&mut self.text).map_err(cut_short)?;
        let is_first = self.cipher.next == 0;
        let (nonce, about) = self.cipher.step(is_last);
        let opened = self.cipher.key.open_in_place(nonce, about, &mut self.text).map(|text| text.len());
        let why =
            if is_first { "another passphrase, or the backup is damaged" } else { "the backup is damaged" };
        let length = opened.map_err(|_| damaged(why))?;
        self.text.truncate(length);
        (self.given, self.is_over) = (0, is_last);
        if is_last && self.from.read(&mut [0])? != 0 {
            return Err(damaged("something follows the backup's end"));
        }
        Ok(())
    }
}

impl<R: Read> Read for Opener<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.given == self.text.len() {
            if self.is_over {
                return Ok(0);
            }
            self.chunk()?;
        }
        let left = self.text.get(self.given..).unwrap_or_default();
        let count = left.len().min(out.len());
        out.iter_mut().zip(left).for_each(|(to, from)| *to = *from);
        self.given += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PASSPHRASE: &str = "correct horse battery";

    fn sealed(text: &[u8]) -> Vec<u8> {
        let mut sealer = Sealer::new(Vec::new(), PASSPHRASE).unwrap();
        sealer.write_all(text).unwrap();
        sealer.finish().unwrap()
    }

    fn opened(file: &[u8], passphrase: &str) -> std::result::Result<Vec<u8>, String> {
        let rest = file.strip_prefix(&MAGIC[..]).ok_or("magic")?;
        let mut opener = Opener::new(rest, passphrase).map_err(|error| error.message().to_owned())?;
        let mut text = Vec::new();
        opener.read_to_end(&mut text).map_err(|error| error.to_string())?;
        Ok(text)
    }

    #[test]
    fn what_is_sealed_opens_with_the_passphrase_and_only_whole() {
        // Two whole chunks and a part; the key is derived a few times here, so not many cases.
        let text: Vec<u8> = (0..2 * CHUNK_BYTES + 100).map(|index| (index % 251) as u8).collect();
        let file = sealed(&text);
        assert_eq!(opened(&file, PASSPHRASE).unwrap(), text);
        assert!(opened(&file, "correct horse batterie").unwrap_err().contains("another passphrase"));
        let header = MAGIC.len() + SALT_BYTES + 4;
        let chunk = 4 + CHUNK_BYTES + 16;
        let mut flipped = file.clone();
        flipped[header + chunk + 1000] ^= 1;
        // Without the last chunk, with the first two exchanged, with something behind.
        let swapped = [
            &file[..header],
            &file[header + chunk..header + 2 * chunk],
            &file[header..header + chunk],
            &file[header + 2 * chunk..],
        ]
        .concat();
        for damaged in [
            flipped,
            file[..header + 2 * chunk].to_vec(),
            file[..file.len() - 1].to_vec(),
            swapped,
            [&file[..], b"x"].concat(),
        ] {
            assert!(opened(&damaged, PASSPHRASE).is_err());
        }
        assert_eq!(opened(&sealed(b""), PASSPHRASE).unwrap(), b"");
        let mut endless = file;
        endless[header - 4..header].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(opened(&endless, PASSPHRASE).is_err());
    }
}
