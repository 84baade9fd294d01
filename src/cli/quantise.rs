//! `weir models quantise`: the twin in 8 bits of a model, calibrated on the user's own pictures.

use super::output::say;
use super::{Options, existing, usage};
use crate::capture::DecoderSettings;
use crate::capture::worker::bench as decoding;
use crate::error::{Error, Kind, Result, system};
use crate::geometry::{InputRule, Placement};
use crate::infer::quantise::Calibration;
use crate::infer::registry::RegistrySettings;
use crate::infer::{Comparison, check, cnn};
use crate::service;
use lexopt::{Arg, Parser, ValueExt};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Scores from here on count, as a pipeline's unless it says otherwise.
const CONFIDENCE: f32 = 0.4;
/// Most frames that are looked at and compared: a minute of a camera.
const MOST_FRAMES: u64 = 1800;
/// Most pictures of a folder.
const MOST_PICTURES: usize = 4096;

/// What the command line says.
#[derive(Default)]
struct Request {
    model: Option<String>,
    name: Option<String>,
    videos: Vec<PathBuf>,
    pictures: Option<PathBuf>,
    config: Option<PathBuf>,
    help: bool,
}

fn parse(arguments: Vec<OsString>) -> Result<Request, lexopt::Error> {
    let mut parser = Parser::from_args(arguments);
    let mut request = Request::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("video") => request.videos.push(parser.value()?.into()),
            Arg::Long("pictures") => request.pictures = Some(parser.value()?.into()),
            Arg::Long("name") => request.name = Some(parser.value()?.string()?),
            Arg::Long("config") => request.config = Some(parser.value()?.into()),
            Arg::Short('h') | Arg::Long("help") => request.help = true,
            Arg::Value(model) if request.model.is_none() => request.model = Some(model.string()?),
            _ => return Err(argument.unexpected()),
        }
    }
    Ok(request)
}

/// Runs it.
pub(super) fn run(arguments: Vec<OsString>) -> Result<ExitCode> {
    let request = parse(arguments).map_err(|error| usage(error.to_string()))?;
    if request.help {
        return Ok(super::told("models"));
    }
    let wanted = "weir models quantise MODEL --video FILE|--pictures FOLDER";
    let model = request.model.as_deref().ok_or_else(|| usage(wanted))?;
    if request.videos.is_empty() && request.pictures.is_none() {
        return Err(usage(wanted));
    }
    let config = Options { config: request.config.clone(), ..Options::default() }.configure()?;
    let mut registry = service::registry_settings(&config);
    let id = located(model, &mut registry)?;
    let sources = Sources {
        files: request.files()?,
        is_of_pictures: request.videos.is_empty(),
        settings: service::decoder_settings(&config),
    };
    cnn::allow_threads(std::thread::available_parallelism().map_or(1, std::num::NonZero::get));

    let mut calibration = Calibration::begin(&registry, &id, request.name.as_deref())?;
    let rule = *calibration.rule();
    sources.each(rule, &mut |slot, placement| {
        calibration.add(slot, placement);
        Ok(())
    })?;
    let calibrated = calibration.calibrate(&mut |step| eprintln!("{step}"))?;
    let mut comparison = Comparison::new(calibrated.models(), CONFIDENCE)?;
    sources.each(rule, &mut |slot, placement| comparison.frame(slot, placement))?;

    let (outcome, classes) = (comparison.outcome(), comparison.by_class().clone());
    drop(comparison);
    say!("model    {}", calibrated.target().display());
    say!("made     {}", calibrated.summary);
    say!("differs  {outcome}");
    let [float, _] = calibrated.models();
    for (class, of_class) in &classes {
        let name = float.classes().get(*class as usize).map(|name| name.escape_debug().to_string());
        say!(
            "class    {}: {:.2} % of {}, scores by {:.4}, boxes by {:.1} pixels",
            name.unwrap_or_else(|| class.to_string()),
            100.0 * of_class.share(),
            of_class.detections,
            of_class.score,
            of_class.pixels
        );
    }
    if outcome.detections == 0 {
        say!("         nothing was found on these pictures: what 8 bits cost is not known");
    }
    let folder = calibrated.keep()?;
    say!("serve    models.precision = \"int8\" serves it in the place of {}", check::quoted(Path::new(&id)));
    say!("         or name it itself: {}", check::quoted(&folder));
    Ok(ExitCode::SUCCESS)
}

/// What the registry calls the model. On the command line a path is a path: who can read it may load it.
fn located(model: &str, registry: &mut RegistrySettings) -> Result<String> {
    let of_one = registry.models_dirs.iter().map(|dir| dir.join(model)).find(|path| path.is_dir());
    let found = Path::new(model).canonicalize().ok().or(of_one).and_then(|path| path.canonicalize().ok());
    let Some(path) = found else {
        if model.starts_with(['/', '.', '~']) || model.ends_with(".onnx") {
            existing(Path::new(model))?;
        }
        return Ok(model.to_owned());
    };
    // behind the others: the first is where the twin will be
    registry.models_dirs.extend(path.parent().map(Path::to_owned));
    path.into_os_string().into_string().map_err(|_| usage("the path of the model is no text"))
}

impl Request {
    /// Every file that is decoded.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let mut files = self.videos.clone();
        files.iter().try_for_each(|file| existing(file))?;
        let Some(folder) = &self.pictures else { return Ok(files) };
        existing(folder)?;
        let entries = std::fs::read_dir(folder).map_err(system("cannot read the folder of pictures"))?;
        let is_picture = |path: &PathBuf| {
            let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
            path.is_file() && ["jpg", "jpeg"].contains(&extension.as_str())
        };
        let mut pictures: Vec<PathBuf> =
            entries.flatten().map(|entry| entry.path()).filter(is_picture).take(MOST_PICTURES).collect();
        if pictures.is_empty() {
            let message = format!("{}: no JPEG pictures (.jpg, .jpeg)", folder.display());
            return Err(Error::new(Kind::NoInput, message));
        }
        pictures.sort();
        files.append(&mut pictures);
        Ok(files)
    }
}

/// The user's own pictures.
struct Sources {
    files: Vec<PathBuf>,
    /// One that cannot be decoded is passed over: there are others.
    is_of_pictures: bool,
    settings: DecoderSettings,
}

impl Sources {
    /// Every picture, as a model's rule lays it.
    fn each(&self, rule: InputRule, look: &mut dyn FnMut(&[u8], &Placement) -> Result<()>) -> Result<()> {
        let (mut last, mut any) = (None, false);
        for file in &self.files {
            let mut frames = 0;
            // what the caller says is no fault of the file
            let mut stopped = None;
            let decoded = decoding::scaled(file, &self.settings, rule, |slot, placement| {
                any = true;
                frames += 1;
                if let Err(error) = look(slot, placement) {
                    stopped = Some(error);
                    return Ok(false);
                }
                Ok(frames < MOST_FRAMES)
            });
            if let Some(error) = stopped {
                return Err(error);
            }
            match decoded {
                Ok(_) => {}
                Err(error) if self.is_of_pictures || frames > 0 => {
                    eprintln!("weir: {}: {}", file.display(), error.message());
                    last = Some(error);
                }
                Err(error) => return Err(no_video(file, error)),
            }
        }
        match last.filter(|_| !any) {
            Some(error) => {
                Err(Error::new(Kind::NoInput, "none of the pictures could be decoded").because(error))
            }
            None => Ok(()),
        }
    }
}

fn no_video(file: &Path, error: Error) -> Error {
    let message = format!("{}: no pictures to calibrate with: {}", file.display(), error.message());
    Error::new(Kind::NoInput, message).because(error)
}
