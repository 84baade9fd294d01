//! `weir record URL FILE`: what a camera and weir say to each other, in a file that Wireshark reads.

use super::output::say;
use super::{Options, exit, uncreatable, usage};
use crate::capture::record::{Limits, Recorded, record};
use crate::capture::{Payloads, Spawner, is_remote};
use crate::command::SourceReference;
use crate::error::{Result, system};
use crate::service;
use async_signal::{Signal, Signals};
use lexopt::{Arg, Parser, ValueExt};
use smol::stream::StreamExt;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::BufRead as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// How long is recorded where nobody says: some key frames, two reports of the sender, one keep-alive.
const USUAL_SECONDS: u64 = 30;
/// A day: what fails once a night.
const MAX_SECONDS: u64 = 24 * 3600;

/// Size of the file where nobody says, MiB: what can be sent to somebody.
const USUAL_MIB: u64 = 64;
/// Largest file that can be asked for, MiB.
const MAX_MIB: u64 = 64 << 10;

/// Longest reference that is read from standard input, bytes.
const MAX_REFERENCE_BYTES: u64 = 8 << 10;

struct Request {
    words: Vec<String>,
    seconds: u64,
    mib: u64,
    with_pictures: bool,
    config: Option<PathBuf>,
    help: bool,
}

/// Records until the time is over, the file is full, the source ends, or a signal comes.
pub(super) fn run(arguments: Vec<OsString>) -> Result<ExitCode> {
    let request = Request::parse(arguments).map_err(|error| usage(error.to_string()))?;
    if request.help {
        return Ok(super::told("record"));
    }
    let [url, file] = request.words.as_slice() else {
        return Err(usage("weir record URL FILE; weir help record says more"));
    };
    let reference = SourceReference::Text(if url == "-" { from_standard_input()? } else { url.clone() });
    if !is_remote(&reference) {
        return Err(usage(
            "weir record takes what comes over a network: a URL of rtsp, rtsps, http or https. A file can be sent as it is",
        ));
    }
    let config = Options { config: request.config, ..Options::default() }.configure()?;
    let settings = service::recording_settings(&config)?;
    let limits = Limits { time: Duration::from_secs(request.seconds), bytes: request.mib << 20 };
    let payloads = if request.with_pictures { Payloads::Whole } else { Payloads::Blank };
    // Never over something that is there; for nobody else's eyes.
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let opened = opened.map_err(|cause| uncreatable(file.as_ref(), &cause))?;
    let spawner = Spawner::start()?;
    let recorded = smol::block_on(async {
        let mut signals = Signals::new([Signal::Term, Signal::Int]).map_err(system("watch signals"))?;
        let stop = async { drop(signals.next().await) };
        record(&spawner, &settings, reference, payloads, opened, limits, stop).await
    })?;
    Ok(tell(file, payloads, limits, &recorded))
}

/// One line: what is in the file, what weir made of it, and why it ends.
fn tell(file: &str, payloads: Payloads, limits: Limits, recorded: &Recorded) -> ExitCode {
    let pictures = match payloads {
        Payloads::Blank => "without pictures",
        Payloads::Whole => "with all pictures",
    };
    let (packets, seconds) = (recorded.packets, recorded.took.as_secs_f64());
    let kib = recorded.bytes.div_ceil(1 << 10);
    let (seen, reason) = (recorded.seen(), recorded.reason(limits));
    say!("{file}: {packets} packets in {seconds:.1} s, {kib} KiB, {pictures}; {seen}; ended: {reason}");
    if packets == 0 { ExitCode::from(exit::UNAVAILABLE) } else { ExitCode::SUCCESS }
}

/// A line: what stands on a command line, every user of the machine can read.
fn from_standard_input() -> Result<String> {
    let mut line = String::new();
    let read = std::io::Read::take(std::io::stdin().lock(), MAX_REFERENCE_BYTES).read_line(&mut line);
    read.map_err(|cause| usage(format!("no URL comes from standard input: {cause}")))?;
    Ok(line.trim().to_owned())
}

impl Request {
    fn parse(arguments: Vec<OsString>) -> Result<Request, lexopt::Error> {
        let mut parser = Parser::from_args(arguments);
        let mut request = Request {
            words: Vec::new(),
            seconds: USUAL_SECONDS,
            mib: USUAL_MIB,
            with_pictures: false,
            config: None,
            help: false,
        };
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("seconds") => {
                    request.seconds = parser.value()?.parse::<u64>()?.clamp(1, MAX_SECONDS);
                }
                Arg::Long("max-mib") => request.mib = parser.value()?.parse::<u64>()?.clamp(1, MAX_MIB),
                Arg::Long("with-pictures") => request.with_pictures = true,
                Arg::Long("config") => request.config = Some(parser.value()?.into()),
                Arg::Short('h') | Arg::Long("help") => request.help = true,
                Arg::Value(word) => request.words.push(word.string()?),
                // A lone hyphen is a value to the parser; what is left is none of ours.
                _ => return Err(argument.unexpected()),
            }
        }
        Ok(request)
    }
}
