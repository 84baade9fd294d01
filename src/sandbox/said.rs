//! What a child writes to its standard error: data of a process that may have been taken over, not our log.
//!
//! It is read from a pipe, bounded in lines and bytes, and written as that child's own lines: one line each,
//! quoted, with the child's name before it. Whatever it writes, it can neither begin a line, nor steer a
//! terminal, nor fill the log.

use async_io::{Async, Timer};
use log::Level;
use std::fmt::Write as _;
use std::process::ChildStderr;
use std::time::{Duration, Instant};

/// Longest line that is passed on, bytes; the rest of a longer one is left out. Our own lines have a tenth of
/// it.
const MAX_LINE_BYTES: usize = 1024;

/// Lines that a child may write at once: a panic with its backtrace has some forty.
const BURST_LINES: f64 = 60.0;

/// Lines that it may write for ever: at `debug` a worker says a few per second.
const LINES_PER_SECOND: f64 = 10.0;

/// Bytes of one read: what a pipe holds by default.
const READ_BYTES: usize = 64 << 10;

/// After a read whose lines were not all passed on. With [`READ_BYTES`]: a child that floods costs 1.3 MB/s
/// of reading.
const PAUSE: Duration = Duration::from_millis(50);

/// Reads to the end of the pipe. `child`: what its lines begin with (`capture pid=7 source="…"`).
pub(super) async fn follow(pipe: Async<ChildStderr>, child: String) {
    let mut said = Said::new(&child);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = pipe
            .read_with(|pipe| rustix::io::read(pipe, &mut buffer[..]).map_err(std::io::Error::from))
            .await;
        let bytes = match read {
            Ok(0) => break,
            Ok(count) => buffer.get(..count).unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let lost_before = said.lost;
        said.take(bytes, Instant::now(), &mut |level, line| log::log!(level, "{line}"));
        if said.lost > lost_before {
            Timer::after(PAUSE).await;
        }
    }
    said.end(&mut |level, line| log::log!(level, "{line}"));
}

/// Takes bytes, gives lines.
struct Said<'a> {
    child: &'a str,
    /// The line that has begun, without what is beyond [`MAX_LINE_BYTES`].
    line: Vec<u8>,
    /// Lines that may still be passed on, and as of when.
    budget: (f64, Option<Instant>),
    /// Lines not passed on, and how many of them have been told.
    lost: u64,
    told: u64,
}

impl<'a> Said<'a> {
    fn new(child: &'a str) -> Said<'a> {
        Said { child, line: Vec::new(), budget: (BURST_LINES, None), lost: 0, told: 0 }
    }

    fn take(&mut self, bytes: &[u8], now: Instant, write: &mut impl FnMut(Level, &str)) {
        let (left, since) = &mut self.budget;
        let passed = since.map_or(0.0, |since| now.saturating_duration_since(since).as_secs_f64());
        (*left, *since) = ((*left + passed * LINES_PER_SECOND).min(BURST_LINES), Some(now));
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, is_whole) = match part.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (part, false),
            };
            let room = MAX_LINE_BYTES.saturating_sub(self.line.len());
            self.line.extend_from_slice(text.get(..room).unwrap_or(text));
            if is_whole {
                self.finish(write);
            }
        }
    }

    fn end(&mut self, write: &mut impl FnMut(Level, &str)) {
        self.finish(write);
        if self.lost > self.told {
            write(
                Level::Warn,
                &format!("event=child_lines_left_out child={} lines={}", self.child, self.lost),
            );
        }
    }

    fn finish(&mut self, write: &mut impl FnMut(Level, &str)) {
        if self.line.is_empty() {
            return;
        }
        let (level, text) = priority(&self.line);
        // What nobody will see costs nothing.
        if level <= log::max_level() {
            if self.budget.0 >= 1.0 {
                self.budget.0 -= 1.0;
                if self.lost > self.told {
                    self.told = self.lost;
                    write(
                        Level::Warn,
                        &format!("event=child_lines_left_out child={} lines={}", self.child, self.lost),
                    );
                }
                write(level, &format!("event=child_said child={} line=\"{}\"", self.child, quoted(text)));
            } else {
                self.lost += 1;
            }
        }
        self.line.clear();
    }
}

/// The syslog priority that our own logger puts before a child's line, and the rest; what has none is a
/// warning (a panic, an abort of a library).
fn priority(line: &[u8]) -> (Level, &[u8]) {
    match line {
        [b'<', digit @ b'0'..=b'7', b'>', rest @ ..] => {
            let level = match digit {
                b'0'..=b'3' => Level::Error,
                b'4' | b'5' => Level::Warn,
                b'6' => Level::Info,
                _ => Level::Debug,
            };
            (level, rest)
        }
        _ => (Level::Warn, line),
    }
}

/// One line that ends where it seems to: no control characters, none that reorder or hide what stands around
/// them, and quotation marks escaped.
fn quoted(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for character in String::from_utf8_lossy(bytes).chars() {
        match character {
            '"' | '\\' => {
                // Writing to a String cannot fail.
                let _ = write!(text, "\\{character}");
            }
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => {
                text.push('?')
            }
            _ if character.is_control() => text.push(' '),
            _ => text.push(character),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(said: &mut Said<'_>, bytes: &[u8], now: Instant) -> Vec<(Level, String)> {
        let mut lines = Vec::new();
        said.take(bytes, now, &mut |level, line| lines.push((level, line.to_owned())));
        lines
    }

    /// The logger of the tests may be off; these look at what would be written.
    fn everything() {
        log::set_max_level(log::LevelFilter::Trace);
    }

    #[test]
    fn a_line_is_the_childs_own_whatever_stands_in_it() {
        everything();
        let mut said = Said::new("capture pid=7");
        let forged = b"<3>x\" event=audit user=root\r\x1b[2J \xff\xe2\x80\xae\n<6>second\nthird";
        let found = lines(&mut said, forged, Instant::now());
        assert_eq!(
            found,
            [
                (
                    Level::Error,
                    "event=child_said child=capture pid=7 line=\"x\\\" event=audit user=root  [2J \u{fffd}?\"".to_owned()
                ),
                (Level::Info, "event=child_said child=capture pid=7 line=\"second\"".to_owned()),
            ]
        );
        let mut last = Vec::new();
        said.end(&mut |level, line| last.push((level, line.to_owned())));
        assert_eq!(last, [(Level::Warn, "event=child_said child=capture pid=7 line=\"third\"".to_owned())]);
    }

    #[test]
    fn lines_and_bytes_are_bounded_and_what_is_left_out_is_counted() {
        everything();
        let start = Instant::now();
        let mut said = Said::new("capture pid=7");
        let flood = b"<4>again\n".repeat(10_000);
        assert_eq!(lines(&mut said, &flood, start).len(), BURST_LINES as usize);
        assert_eq!(lines(&mut said, b"<4>one more\n", start), []);
        let later = lines(&mut said, b"<4>later\n", start + Duration::from_secs(1));
        assert_eq!(later.len(), 2);
        assert!(later[0].1.ends_with("lines=9941"), "{later:?}");
        // A line that never ends takes no more than its limit.
        for _ in 0..100 {
            said.take(&[b'a'; 4096], start, &mut |_, _| {});
        }
        assert_eq!(said.line.len(), MAX_LINE_BYTES);
    }
}
