//! The command line: parse → configure → run → exit code.

mod backup;
mod bench;
mod capacity;
mod ctl;
mod demo;
mod manual;
mod models;
mod output;
mod present;
mod quantise;
mod record;

use self::output::say;
use crate::command::Secret;
use crate::config::{Config, Reread, SECRET_VARIABLES};
use crate::error::{Error, Kind, Result};
use crate::folder;
use crate::sandbox::own;
use crate::{capture, infer, logging, service};
use lexopt::{Arg, Parser, ValueExt};
use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Exit codes of sysexits.h.
mod exit {
    pub(super) const USAGE: u8 = 64;
    pub(super) const DATA: u8 = 65;
    pub(super) const NO_INPUT: u8 = 66;
    pub(super) const UNAVAILABLE: u8 = 69;
    pub(super) const SOFTWARE: u8 = 70;
    pub(super) const CANNOT_CREATE: u8 = 73;
    pub(super) const NO_PERMISSION: u8 = 77;
    pub(super) const CONFIG: u8 = 78;
}

/// Runs the program; the whole of `main`.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let outcome = run(arguments.collect());
    outcome.unwrap_or_else(|error| {
        eprintln!("weir: {}", error.message());
        ExitCode::from(code(error.kind()))
    })
}

/// The manual's table says what each means.
fn code(kind: Kind) -> u8 {
    match kind {
        Kind::Usage => exit::USAGE,
        Kind::Damaged => exit::DATA,
        Kind::NoInput => exit::NO_INPUT,
        Kind::Address
        | Kind::ApiNotFound
        | Kind::ApiConnection
        | Kind::ApiTimeout
        | Kind::ApiUnsuccessful
        | Kind::ApiMalformed => exit::UNAVAILABLE,
        Kind::CannotCreate => exit::CANNOT_CREATE,
        Kind::ApiUnauthorised => exit::NO_PERMISSION,
        Kind::Configuration => exit::CONFIG,
        _ => exit::SOFTWARE,
    }
}

/// Prints what there is to say of a command.
fn told(name: &str) -> ExitCode {
    let text = manual::find(name).map_or_else(manual::help::overview, manual::help::of);
    print(&text);
    ExitCode::SUCCESS
}

/// A closed pipe (`| head`) is nobody's error.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn version() -> ExitCode {
    print(concat!("weir ", env!("CARGO_PKG_VERSION"), "\n"));
    ExitCode::SUCCESS
}

/// `weir help [COMMAND]`: what `--help` of that command prints.
fn help(arguments: &[OsString]) -> Result<ExitCode> {
    match arguments.first().map(|name| name.to_string_lossy()) {
        None => {
            print(&manual::help::overview());
            Ok(ExitCode::SUCCESS)
        }
        Some(name) if manual::find(&name).is_some() => Ok(told(&name)),
        Some(name) => Err(usage(format!("unknown command `{name}`; weir help names them all"))),
    }
}

/// `weir completions SHELL`: a script for bash, zsh or fish.
fn completions(arguments: &[OsString]) -> Result<ExitCode> {
    let text = match arguments.first().and_then(|shell| shell.to_str()) {
        Some("bash") => manual::complete::bash(),
        Some("zsh") => manual::complete::zsh(),
        Some("fish") => manual::complete::fish(),
        Some("-h" | "--help") => return Ok(told("completions")),
        _ => return Err(usage("weir completions bash|zsh|fish")),
    };
    print(&text);
    Ok(ExitCode::SUCCESS)
}

/// A file or folder that a command is told to read: not there is an exit code of its own.
fn existing(path: &Path) -> Result<()> {
    match path.metadata() {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::new(Kind::NoInput, format!("{}: no such file or folder", path.display())))
        }
        _ => Ok(()),
    }
}

/// A file that a command is told to write, and cannot.
fn uncreatable(path: &Path, cause: &std::io::Error) -> Error {
    let said = cause.to_string();
    let said = said.split(" (os error").next().unwrap_or(&said);
    Error::new(Kind::CannotCreate, format!("cannot write {}: {said}", path.display()))
}

fn run(mut arguments: Vec<OsString>) -> Result<ExitCode> {
    let named = arguments.first().cloned();
    let named = named.as_ref().and_then(|first| first.to_str()).filter(|first| !first.starts_with('-'));
    let command = named.unwrap_or("serve").to_owned();
    if named.is_some() {
        arguments.remove(0);
    }
    match command.as_str() {
        // First: a worker starts often and needs nothing of the rest.
        "capture" => {
            logging::start_in_worker();
            Ok(ExitCode::from(capture::worker::run()))
        }
        // Likewise.
        "model" => {
            logging::start_in_worker();
            Ok(ExitCode::from(infer::process::run()))
        }
        // Likewise.
        #[cfg(feature = "tensorrt")]
        "plan" => {
            logging::start_in_worker();
            Ok(ExitCode::from(infer::tensorrt::run(arguments)))
        }
        // Plain `weir --help` is about all of it.
        "serve" if named.is_none() && asks_for_help(&arguments) => help(&[]),
        "serve" => serve(Options::parse("serve", arguments)?),
        "demo" => demo::run(Options::parse("demo", arguments)?),
        "ctl" => ctl::run(arguments),
        "check" => check(Options::parse("check", arguments)?),
        "bench" => bench::run(arguments),
        "models" => models::run(arguments),
        "record" => record::run(arguments),
        "backup" => backup::backup(arguments),
        "restore" => backup::restore(arguments),
        "help" => help(&arguments),
        "version" => Ok(version()),
        "completions" => completions(&arguments),
        "manual" => {
            print(&manual::page::page());
            Ok(ExitCode::SUCCESS)
        }
        _ => Err(usage(format!("unknown command `{command}`; weir help names them all"))),
    }
}

fn asks_for_help(arguments: &[OsString]) -> bool {
    arguments.iter().any(|argument| argument == "-h" || argument == "--help")
}

fn usage(message: impl Into<String>) -> Error {
    Error::new(Kind::Usage, message.into())
}

/// What `serve`, `demo` and `check` have in common.
#[derive(Default)]
struct Options {
    config: Option<PathBuf>,
    tcp: Option<(String, u16)>,
    http: Option<(String, u16)>,
    ports_file: Option<PathBuf>,
    log_level: Option<String>,
    insecure: bool,
    /// A clip for `check`: what other precisions change on it.
    video: Option<PathBuf>,
    fps: Option<f64>,
    /// Arguments that belong to no option, in their order.
    rest: Vec<String>,
    /// Help or version was asked for and printed.
    told: bool,
}

impl Options {
    fn parse(command: &str, arguments: Vec<OsString>) -> Result<Options> {
        let positional = command == "check";
        let mut parser = Parser::from_args(arguments);
        let mut options = Options::default();
        let parsed: Result<(), lexopt::Error> = (|| {
            while let Some(argument) = parser.next()? {
                match argument {
                    Arg::Long("config") => options.config = Some(parser.value()?.into()),
                    Arg::Long("tcp") => options.tcp = Some(parser.value()?.parse_with(host_and_port)?),
                    Arg::Long("http") => options.http = Some(parser.value()?.parse_with(host_and_port)?),
                    Arg::Long("ports-file") => options.ports_file = Some(parser.value()?.into()),
                    Arg::Long("insecure") => options.insecure = true,
                    Arg::Long("video") if positional => options.video = Some(parser.value()?.into()),
                    Arg::Long("fps") if positional => {
                        let fps: f64 = parser.value()?.parse()?;
                        options.fps = Some(fps.clamp(MIN_FPS, MAX_FPS));
                    }
                    Arg::Long("log-level") => options.log_level = Some(parser.value()?.string()?),
                    Arg::Short('h') | Arg::Long("help") => {
                        told(command);
                        options.told = true;
                    }
                    Arg::Short('V') | Arg::Long("version") => {
                        version();
                        options.told = true;
                    }
                    Arg::Value(value) if positional => options.rest.push(value.string()?),
                    _ => return Err(argument.unexpected()),
                }
            }
            Ok(())
        })();
        parsed.map_err(|error| usage(error.to_string()))?;
        Ok(options)
    }

    /// Configuration with the flags on top; starts the log.
    fn configure(self) -> Result<Config> {
        self.configure_again().map(|(config, _)| config)
    }

    /// The same, and what makes it again.
    fn configure_again(self) -> Result<(Config, Reread)> {
        let secrets = SECRET_VARIABLES.map(|name| (name, std::env::var(name).ok().map(Secret::new)));
        let loaded = self.load(|name| std::env::var(name).ok());
        // Whatever becomes of it; there is no other thread yet.
        own::wipe_environment(&SECRET_VARIABLES);
        let config = loaded?;
        if config.service.open_folders {
            folder::accept_open();
        }
        logging::start(&config.service.log_level);
        if !logging::is_level(&config.service.log_level) {
            log::warn!("log_level={:?} known=false used=warning", config.service.log_level);
        }
        // The environment does not change any more, and its secrets are not there.
        let environment = move |name: &str| match secrets.iter().find(|(known, _)| *known == name) {
            Some((_, secret)) => secret.as_ref().map(|secret| secret.reveal().to_owned()),
            None => std::env::var(name).ok(),
        };
        Ok((config, Arc::new(move || self.load(&environment))))
    }

    /// Configuration with the flags on top.
    fn load(&self, environment: impl Fn(&str) -> Option<String>) -> Result<Config> {
        let mut config = Config::load(self.config.as_deref(), environment)?;
        if let Some((host, port)) = self.tcp.clone() {
            (config.tcp.host, config.tcp.port) = (host, port);
        }
        if let Some((host, port)) = self.http.clone() {
            (config.http.host, config.http.port) = (host, port);
        }
        if let Some(file) = self.ports_file.clone() {
            config.service.ports_file = file;
        }
        config.access.insecure |= self.insecure;
        if let Some(level) = self.log_level.clone() {
            config.service.log_level = level;
        }
        Ok(config)
    }
}

fn host_and_port(text: &str) -> Result<(String, u16), &'static str> {
    let (host, port) = text.rsplit_once(':').ok_or("expected HOST:PORT")?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok((host.to_owned(), port.parse().map_err(|_| "the port is not a number below 65536")?))
}

fn serve(options: Options) -> Result<ExitCode> {
    if options.told {
        return Ok(ExitCode::SUCCESS);
    }
    let (config, reread) = options.configure_again()?;
    service::run(&config, Some(reread), async |_, _| {})?;
    Ok(ExitCode::SUCCESS)
}

/// Slowest and fastest camera that `check --fps` reckons with.
const MIN_FPS: f64 = 0.01;
const MAX_FPS: f64 = 1000.0;

fn check(mut options: Options) -> Result<ExitCode> {
    if options.told {
        return Ok(ExitCode::SUCCESS);
    }
    let rest = std::mem::take(&mut options.rest);
    let (video, fps) = (options.video.take(), options.fps);
    let config = options.configure()?;
    if let Some(video) = &video {
        existing(video)?;
    }
    let model = match rest.as_slice() {
        [] => {
            say!("{}", crate::service::platform::report(&config).to_string().trim_end());
            return Ok(ExitCode::SUCCESS);
        }
        [model] => model,
        _ => return Err(usage("weir check takes one MODEL")),
    };
    if model.starts_with(['/', '.', '~']) || model.ends_with(".onnx") {
        existing(Path::new(model))?;
    }
    let mut registry = service::registry_settings(&config);
    // On the command line a path is a path: who can read it may load it.
    let path = PathBuf::from(model).canonicalize().ok();
    let served = |path: &Path| {
        registry.models_dirs.iter().any(|dir| dir.canonicalize().is_ok_and(|dir| path.starts_with(dir)))
    };
    let foreign = path.as_deref().filter(|path| path.is_file() && !served(path)).map(Path::to_owned);
    registry.models_dirs.extend(path.and_then(|path| Some(path.parent()?.to_owned())));
    match (infer::check::run(&registry, model), foreign) {
        (Ok(report), foreign) => {
            say!("{report}");
            capacity::print(&report, video.as_deref(), fps, &config)?;
            if let Some(path) = foreign {
                say!("serve    weir models add {}", infer::check::quoted(&path));
            }
            Ok(ExitCode::SUCCESS)
        }
        (Err(error), foreign) => {
            let remedy = foreign
                .filter(|_| error.message().contains("names"))
                .and_then(|path| infer::check::remedy(&registry, &path));
            let Some(remedy) = remedy else { return Err(error) };
            eprintln!("weir: {}", error.message());
            say!("{remedy}");
            Ok(ExitCode::from(exit::SOFTWARE))
        }
    }
}
