//! `weir check`: what a model is and what it costs.

use super::bench::noise;
use super::family::Classes;
use super::family::recognise::{self, Hints};
use super::process::{Limits, Session};
use super::registry::{self, Addition, Assembled, RegistrySettings, own};
use super::{Model, Precision, Run, cnn, tensorrt};
use crate::error::Result;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Timed runs after one to warm up; the shortest counts.
const TIMED_RUNS: u32 = 5;

/// What `weir check` says about a model; printed by `Display`.
#[derive(Debug)]
pub struct Report {
    model: Model,
    why: String,
    shortest_run: Duration,
    budget_bytes: u64,
    gpu: Vec<String>,
    has_8_bits: bool,
    /// The same model in other precisions: half where this CPU gains by it, 8 bits where it has a twin.
    others: Vec<Other>,
}

/// A model in another precision than the one it is served in.
#[derive(Debug)]
struct Other {
    precision: Precision,
    model: Model,
    shortest_run: Duration,
}

impl Report {
    /// The model as it is served.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The same in other precisions: their names, and what they are.
    pub fn others(&self) -> impl Iterator<Item = (&'static str, &Model)> {
        self.others.iter().map(|other| (other.precision.name(), &other.model))
    }

    /// How many cameras of `fps` this machine's cores carry when decoding a frame takes `decoding` of one
    /// core.
    pub fn cameras(&self, fps: f64, decoding: Duration) -> f64 {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let of_frame = (self.shortest_run + decoding).as_secs_f64();
        cores as f64 / (fps * of_frame).max(f64::MIN_POSITIVE)
    }

    /// What a frame takes, one thread.
    pub fn of_frame(&self) -> Duration {
        self.shortest_run
    }
}

/// Loads the model (id, folder or `.onnx` below `models_dirs`), runs it, and reports. Blocks.
pub fn run(settings: &RegistrySettings, model: &str) -> Result<Report> {
    // On the command line a path is a path, however it is written; ids of the API do not exist as files.
    let path = std::fs::canonicalize(model).ok().and_then(|path| path.into_os_string().into_string().ok());
    let loaded = registry::load_blocking(path.as_deref().unwrap_or(model), settings)?;
    let mut report = report(loaded, settings)?;
    if report.model.engine_name() != "cnn" {
        return Ok(report);
    }
    let halved = settings.precision != Precision::Half && cnn::half().is_some();
    let with_twin =
        settings.precision != Precision::Int8 && !report.has_8_bits && registry::has_twins(settings);
    for (precision, wanted) in [(Precision::Half, halved), (Precision::Int8, with_twin)] {
        if !wanted {
            continue;
        }
        let settings = RegistrySettings { precision, ..settings.clone() };
        let loaded = registry::load_blocking(path.as_deref().unwrap_or(model), &settings)?;
        // without a twin it is the same model again
        if precision == Precision::Int8 && !loaded.has_8_bits {
            continue;
        }
        let shortest_run = time_runs(loaded.model.engine().new_run()?.as_mut(), TIMED_RUNS)?;
        report.others.push(Other { precision, model: loaded.model, shortest_run });
    }
    Ok(report)
}

/// Adds a model of one's own ([`own::add`]) and reports. Blocks.
pub fn add(settings: &RegistrySettings, addition: &Addition) -> Result<Report> {
    report(own::add(addition, settings)?, settings)
}

/// The command that would make the file at `path` a model that runs, as far as that can be told; `None` where
/// nothing would.
pub fn remedy(settings: &RegistrySettings, path: &Path) -> Option<String> {
    let limits = Limits {
        max_file_bytes: settings.max_model_bytes,
        budget_bytes: settings.memory_budget_bytes,
        timeout: settings.load_timeout,
    };
    let session = Session::open(path, limits, &|| Ok(())).ok()?;
    let input = session.description().input();
    let (width, height) = (input.width.unwrap_or(OPEN_SIDE), input.height.unwrap_or(OPEN_SIDE));
    let hints = Hints::of_graph(session.description(), Vec::new(), (width, height));
    let shapes = session.output_shapes(width, height).ok()?;
    let found = recognise::family(&shapes, &hints).ok()?;
    let names = match found.family.classes(&shapes)? {
        Classes::Exactly(80) | Classes::UpTo(80 | 91) | Classes::Untold => String::from("coco"),
        Classes::Exactly(count @ 1..=9) => {
            (1..=count).map(|class| format!("NAME{class}")).collect::<Vec<_>>().join(",")
        }
        Classes::Exactly(count) | Classes::UpTo(count) => {
            format!("NAMES.txt   # one of {count} names a line")
        }
    };
    Some(format!("weir models add {} --names {names}", quoted(path)))
}

/// A path as a shell takes it for one word.
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// Side of the input where the file leaves it open, pixels.
const OPEN_SIDE: usize = 640;

fn report(loaded: Assembled, settings: &RegistrySettings) -> Result<Report> {
    let mut run = loaded.model.engine().new_run()?;
    let shortest_run = time_runs(run.as_mut(), TIMED_RUNS)?;
    let gpu = tensorrt::describe(&settings.tensorrt);
    Ok(Report {
        model: loaded.model,
        why: loaded.why,
        shortest_run,
        budget_bytes: settings.memory_budget_bytes,
        gpu,
        has_8_bits: loaded.has_8_bits,
        others: Vec::new(),
    })
}

/// The shortest of `count` runs, after one to warm up.
fn time_runs(run: &mut dyn Run, count: u32) -> Result<Duration> {
    noise(run.input());
    run.execute()?;
    let mut shortest = Duration::MAX;
    for _ in 0..count {
        noise(run.input());
        let clock = Instant::now();
        run.execute()?;
        shortest = shortest.min(clock.elapsed());
    }
    Ok(shortest)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES_SHOWN: usize = 8;
        let mebibytes = |bytes: usize| bytes as f64 / f64::from(1 << 20);
        let Report { model, why, shortest_run, budget_bytes, gpu, has_8_bits, others } = self;
        let rule = model.rule();
        writeln!(f, "model    {}", model.id())?;
        writeln!(f, "family   {} ({why})", model.family_name())?;
        writeln!(f, "input    {} x {} RGB, {}", rule.width, rule.height, Laid(rule))?;
        for (index, shape) in model.engine().output_shapes().iter().enumerate() {
            writeln!(f, "output   {index}: {shape:?}")?;
        }
        let names = model.classes();
        let shown: Vec<String> =
            names.iter().take(NAMES_SHOWN).map(|name| name.escape_debug().to_string()).collect();
        let more = if names.len() > NAMES_SHOWN { ", …" } else { "" };
        writeln!(f, "classes  {}: {}{more}", names.len(), shown.join(", "))?;
        writeln!(f, "engine   {}", model.engine_name())?;
        for line in gpu {
            writeln!(f, "gpu      {line}")?;
        }
        writeln!(f, "weights  {:.1} MiB, held once", mebibytes(model.weights_bytes()))?;
        writeln!(f, "arena    {:.1} MiB for each inference thread", mebibytes(model.arena_bytes()))?;
        writeln!(f, "time     {:.1} ms a frame on one thread", shortest_run.as_secs_f64() * 1e3)?;
        for Other { precision, model, shortest_run } in others {
            let (weights, arena) = (mebibytes(model.weights_bytes()), mebibytes(model.arena_bytes()));
            let (time, name) = (shortest_run.as_secs_f64() * 1e3, precision.name());
            let loops = match precision {
                Precision::Half => cnn::half().map_or(String::new(), |loops| format!(" ({loops})")),
                _ => String::new(),
            };
            writeln!(
                f,
                "{name:<8} {time:.1} ms, {weights:.1} and {arena:.1} MiB with models.precision = \"{name}\"{loops}"
            )?;
        }
        if model.engine_name() == "cnn"
            && !has_8_bits
            && others.iter().all(|o| o.precision != Precision::Int8)
        {
            writeln!(
                f,
                "int8     not yet: weir models quantise MODEL --video FILE makes a twin in 8 bits and says what it loses"
            )?;
        }
        write!(f, "fits     yes: within the {} MiB allowed for one model", budget_bytes >> 20)
    }
}

/// How frames are laid into the input, in words.
struct Laid<'a>(&'a crate::geometry::InputRule);

impl fmt::Display for Laid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use crate::geometry::{Contrast, Fit};
        match self.0.fit {
            Fit::Stretch => f.write_str("stretched")?,
            Fit::Letterbox { fill } => write!(f, "aspect kept, edges {fill}")?,
        }
        if let Some(crop) = self.0.crop {
            write!(f, ", crop x {}-{} % y {}-{} %", crop.x_min, crop.x_max, crop.y_min, crop.y_max)?;
        }
        if self.0.grayscale {
            f.write_str(", grayscale")?;
        }
        match self.0.contrast {
            None => Ok(()),
            Some(Contrast::Stretching) => f.write_str(", contrast stretching"),
            Some(Contrast::Histogram) => f.write_str(", histogram equalisation"),
            Some(Contrast::Adaptive) => f.write_str(", adaptive equalisation"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_model_is_described() {
        let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
        let settings = RegistrySettings { models_dirs: vec![assets], ..RegistrySettings::default() };
        let text = run(&settings, "nanodet-coco-416.onnx").unwrap().to_string();
        for part in [
            "family   yolov8 (outputs [\"output0\"]",
            "input    416 x 416 RGB",
            "classes  80: person, bicycle",
            "MiB, held once",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }
}
