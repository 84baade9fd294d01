//! `weir bench`: what a device can do, measured on the device.

use super::output::say;
use super::usage;
use crate::capture::worker::bench as decoding;
use crate::capture::{DecoderChoice, DecoderSettings};
use crate::clock::within;
use crate::command::{Command, Execute, Init, SourceReference};
use crate::config::Config;
use crate::error::{Error, Kind, Result, system};
use crate::infer::{EngineChoice, Precision, bench as engine};
use crate::pipeline::Commands;
use crate::sink::UdpSink;
use crate::{logging, service};
use lexopt::{Arg, Parser, ValueExt};
use smol::Async;
use std::ffi::OsString;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Frames before the clock starts: arenas are allocated and caches filled by then.
const WARM_UP_FRAMES: u64 = 10;
/// No frame for this long means that the clips are over.
const SILENCE: Duration = Duration::from_secs(3);
/// The first frame may take this long: models are compiled and sources opened before it.
const FIRST_FRAME: Duration = Duration::from_secs(120);

/// The command line of all benches.
struct Request {
    what: String,
    model: Option<PathBuf>,
    video: Option<String>,
    file: Option<PathBuf>,
    threads: Option<usize>,
    together: bool,
    profile: bool,
    ways: bool,
    runs: usize,
    sources: usize,
    seconds: f64,
    max_fps: Option<f64>,
    engine: EngineChoice,
    precision: Precision,
    confidence: f32,
    json: bool,
    input: Option<PathBuf>,
    dump: Option<PathBuf>,
    sums: bool,
    decoders: DecoderSettings,
}

/// Runs the bench that the arguments name: `engine`, `decode` or `pipeline`.
pub(super) fn run(arguments: Vec<OsString>) -> Result<ExitCode> {
    let request = Request::parse(arguments).map_err(|error| usage(error.to_string()))?;
    logging::start("warning");
    match request.what.as_str() {
        "engine" => bench_engine(&request),
        "pipeline" => bench_pipeline(&request),
        "decode" => bench_decode(&request),
        "help" => Ok(super::told("bench")),
        _ => Err(usage("weir bench engine|pipeline|decode; weir help bench says what each takes")),
    }
}

impl Request {
    fn parse(arguments: Vec<OsString>) -> Result<Request, lexopt::Error> {
        let mut parser = Parser::from_args(arguments);
        let engine = EngineChoice::Auto;
        let (what, sources, seconds) = (String::new(), 1, 10.0);
        let mut request = Request {
            what,
            model: None,
            video: None,
            file: None,
            threads: None,
            together: false,
            profile: false,
            ways: false,
            runs: 50,
            sources,
            seconds,
            max_fps: None,
            engine,
            precision: Precision::Full,
            confidence: 0.0,
            json: false,
            input: None,
            dump: None,
            sums: false,
            decoders: DecoderSettings { choice: DecoderChoice::Builtin, ..DecoderSettings::default() },
        };
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("model") => request.model = Some(parser.value()?.into()),
                Arg::Long("video") => request.video = Some(parser.value()?.string()?),
                Arg::Long("threads") => request.threads = Some(parser.value()?.parse()?),
                Arg::Long("runs") => request.runs = parser.value()?.parse()?,
                Arg::Long("sources") => request.sources = parser.value()?.parse()?,
                Arg::Long("seconds") => request.seconds = parser.value()?.parse()?,
                Arg::Long("max-fps") => request.max_fps = Some(parser.value()?.parse()?),
                Arg::Long("engine") => {
                    request.engine = parser.value()?.parse_with(|name| {
                        EngineChoice::from_name(name).ok_or("auto, cnn, tract or tensorrt")
                    })?;
                }
                Arg::Long("precision") => {
                    request.precision = parser
                        .value()?
                        .parse_with(|name| Precision::from_name(name).ok_or("full, half or int8"))?;
                }
                Arg::Long("confidence") => request.confidence = parser.value()?.parse()?,
                Arg::Long("together") => request.together = true,
                Arg::Long("profile") => request.profile = true,
                Arg::Long("ways") => request.ways = true,
                Arg::Long("json") => request.json = true,
                Arg::Long("input") => request.input = Some(parser.value()?.into()),
                Arg::Long("dump") => request.dump = Some(parser.value()?.into()),
                Arg::Long("sums") => request.sums = true,
                Arg::Long("decoder") => {
                    request.decoders.choice = parser.value()?.parse_with(|name| {
                        DecoderChoice::from_name(name).ok_or("auto, builtin, libavcodec or v4l2")
                    })?;
                }
                Arg::Long("decoder-name") => request.decoders.names.push(parser.value()?.string()?),
                Arg::Short('h') | Arg::Long("help") => {
                    request.what = "help".to_owned();
                    return Ok(request);
                }
                Arg::Value(word) if request.what.is_empty() => request.what = word.string()?,
                Arg::Value(file) if request.file.is_none() => request.file = Some(file.into()),
                _ => return Err(argument.unexpected()),
            }
        }
        Ok(request)
    }

    fn model(&self) -> Result<&Path> {
        let model = self.model.as_deref().ok_or_else(|| usage("--model FILE is missing"))?;
        super::existing(model)?;
        Ok(model)
    }
}

fn bench_engine(request: &Request) -> Result<ExitCode> {
    match (&request.input, &request.dump) {
        (Some(input), Some(folder)) => {
            engine::dump(request.model()?, input, folder, (request.engine, request.precision))?;
            return Ok(ExitCode::SUCCESS);
        }
        (None, None) => {}
        _ => return Err(usage("--input X.f32 and --dump DIR go together")),
    }
    let (model, threads) = (request.model()?.to_owned(), request.threads.unwrap_or(1).max(1));
    let (together, runs) = (request.together, request.runs.max(1));
    let wanted = engine::Request {
        model,
        threads,
        together,
        runs,
        engine: request.engine,
        precision: request.precision,
        confidence: request.confidence,
    };
    if request.profile {
        say!("{}", engine::profile(&wanted)?);
        return Ok(ExitCode::SUCCESS);
    }
    if request.ways {
        say!("{}", engine::ways(&wanted)?);
        return Ok(ExitCode::SUCCESS);
    }
    let figures = engine::run(&wanted)?;
    match request.json {
        true => say!("{}", figures.to_json()),
        false => say!("{figures}"),
    }
    Ok(ExitCode::SUCCESS)
}

fn bench_decode(request: &Request) -> Result<ExitCode> {
    let file = request.file.as_deref().ok_or_else(|| usage("weir bench decode FILE"))?;
    super::existing(file)?;
    if !request.sums {
        say!("{}", decoding::decode(file, &request.decoders, |_| Ok(()))?.to_json());
        return Ok(ExitCode::SUCCESS);
    }
    let mut number = 0;
    let decoding = decoding::decode(file, &request.decoders, |picture| {
        say!("{}", decoding::framecrc_line(number, picture));
        number += 1;
        Ok(())
    })?;
    eprintln!("{}", decoding.to_json());
    Ok(ExitCode::SUCCESS)
}

/// The whole path: workers, ring, pool, pipelines, datagrams to a socket of our own. One pipeline per source.
fn bench_pipeline(request: &Request) -> Result<ExitCode> {
    let model = request.model()?.canonicalize().map_err(|cause| usage(format!("--model: {cause}")))?;
    let video = request.video.clone().ok_or_else(|| usage("--video FILE is missing"))?;
    if !video.contains("://") {
        super::existing(Path::new(&video))?;
    }
    let mut config = Config::default();
    config.models.dirs = model.parent().map(Path::to_owned).into_iter().collect();
    config.models.offline = true;
    config.models.engine = request.engine.name().to_owned();
    config.models.precision = request.precision.name().to_owned();
    config.service.threads = request.threads.unwrap_or(0);
    config.service.pipelines_dir = PathBuf::new();
    (config.tcp.port, config.http.port) = (0, 0);
    let mut outcome = None;
    let measured = &mut outcome;
    service::run_until(&config, None, async |commands, _| {
        *measured = Some(measure(&commands, request, &model, &video).await);
    })?;
    let figures = outcome.unwrap_or_else(|| Err(Error::new(Kind::System, "the bench was interrupted")))?;
    if request.json {
        say!(
            "{{\"sources\": {}, \"frames\": {}, \"seconds\": {:.3}, \"fps_total\": {:.2}, \"cpu_s_per_frame\": {:.5}, \"pss_bytes\": {}}}",
            request.sources,
            figures.frames,
            figures.seconds,
            figures.fps(),
            figures.cpu_s_per_frame(),
            figures.pss_bytes
        );
    } else {
        say!(
            "{} sources: {:.1} frames/s, {:.4} CPU s per frame, {:.1} MiB PSS ({} frames in {:.1} s)",
            request.sources,
            figures.fps(),
            figures.cpu_s_per_frame(),
            figures.pss_bytes as f64 / f64::from(1 << 20),
            figures.frames,
            figures.seconds
        );
    }
    Ok(ExitCode::SUCCESS)
}

struct Figures {
    frames: u64,
    seconds: f64,
    cpu_seconds: f64,
    pss_bytes: u64,
}

impl Figures {
    fn fps(&self) -> f64 {
        self.frames as f64 / self.seconds.max(1e-9)
    }

    fn cpu_s_per_frame(&self) -> f64 {
        self.cpu_seconds / (self.frames as f64).max(1.0)
    }
}

async fn measure(commands: &Commands, request: &Request, model: &Path, video: &str) -> Result<Figures> {
    let socket = Async::<UdpSocket>::bind(([127, 0, 0, 1], 0)).map_err(system("open a UDP socket"))?;
    let port = socket.get_ref().local_addr().map_err(system("ask for the local address"))?.port();
    for _ in 0..request.sources {
        let reference = SourceReference::Text(video.to_owned());
        let mut init =
            Init::new(model.display().to_string(), reference, UdpSink { host: "127.0.0.1".to_owned(), port });
        init.max_fps = request.max_fps;
        commands.execute(Command::Init(Box::new(init))).await?;
    }
    for _ in 0..WARM_UP_FRAMES {
        next_datagram(&socket, FIRST_FRAME)
            .await?
            .ok_or_else(|| Error::new(Kind::Inference, "no frame came"))?;
    }
    let (start, cpu) = (Instant::now(), tree_cpu_seconds());
    let (mut frames, mut last) = (0, start);
    while start.elapsed().as_secs_f64() < request.seconds && next_datagram(&socket, SILENCE).await?.is_some()
    {
        frames += 1;
        last = Instant::now();
    }
    // A worker whose file was over has been waited for: its time is counted with ours.
    let cpu_seconds = tree_cpu_seconds() - cpu;
    Ok(Figures { frames, seconds: (last - start).as_secs_f64(), cpu_seconds, pss_bytes: tree_pss_bytes() })
}

async fn next_datagram(socket: &Async<UdpSocket>, patience: Duration) -> Result<Option<usize>> {
    let mut buffer = [0; 16];
    let received = within(patience, socket.recv_from(&mut buffer))
        .await
        .transpose()
        .map_err(system("receive a datagram"))?;
    Ok(received.map(|(length, _)| length))
}

/// This process and its workers.
fn tree() -> Vec<u32> {
    // Workers are forked by the spawner's thread, so the children of every thread count.
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let children = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let mut pids: Vec<u32> = children
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect();
    let own = std::process::id();
    pids.push(own);
    pids.sort_unstable();
    pids.dedup();
    pids
}

fn tree_cpu_seconds() -> f64 {
    let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
    // proc(5): fields 14 to 17 are utime, stime and those of waited-for children; the name in field 2 may
    // hold spaces.
    let ticks = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after_name = stat.rsplit_once(')').map(|(_, rest)| rest.to_owned()).unwrap_or_default();
        after_name
            .split_whitespace()
            .skip(11)
            .take(4)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum::<u64>()
    };
    tree().iter().map(ticks).sum::<u64>() as f64 / ticks_per_second
}

fn tree_pss_bytes() -> u64 {
    let pss_kib = |pid: &u32| {
        let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    tree().iter().filter_map(pss_kib).sum::<u64>() * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_at_least_this_process() {
        assert!(tree().contains(&std::process::id()));
        assert!(tree_pss_bytes() > 0);
        assert!(tree_cpu_seconds() >= 0.0);
    }
}
