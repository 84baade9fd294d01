//! `weir models quantise`: a model of floats becomes one in 8 bits, calibrated on the user's own pictures.
//!
//! 1. The model is loaded as it is served, and some of the pictures are kept ([`frames`]).
//! 2. A process reads the graph and says which of its values can have 8 bits; it writes the same graph with these as
//!    outputs, in pieces, which are run on the pictures like any other model. What each value takes is counted
//!    ([`histogram`]), and the mean of each channel.
//! 3. From that come ranges, by several rules; for each the process writes the graph in 8 bits, which is loaded and compared with
//!    the float model on the pictures: the rule that loses least is taken, and more of the first
//!    convolutions stay in floats while that is too much. Which rule that is differs between clips: where
//!    things are small and rare, what is cut off as rare is what the model is for.
//! 4. What it loses on all pictures is for the caller to measure ([`super::Comparison`]) before it is kept.

mod frames;
mod histogram;

use super::onnx::{Seen, Survey};
use super::process::{Limits, Quantising, Request, Session};
use super::registry::{self, Assembled, RegistrySettings, Twin};
use super::{Comparison, EngineChoice, Model, Outcome, Precision};
use crate::error::{Error, Kind, Result};
use crate::geometry::{InputRule, Placement};
use frames::{Frame, Frames};
use histogram::{Fit, Histogram};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Most values that are looked at in one run; a model's process tells of 64 outputs.
const MOST_OUTPUTS: usize = 48;
/// Most memory of a run whose inner values are looked at, beside the model's weights, bytes: all values of a large
/// detector together would be more than a board has. What takes more is looked at in smaller pieces.
const OBSERVING_BYTES: u64 = 512 << 20;
/// Rules by which ranges are found, the first of equals is taken.
const FITS: [Fit; 5] = [Fit::Power(2.0), Fit::Power(1.5), Fit::Power(3.0), Fit::Power(4.0), Fit::All];
/// How many convolutions stay in floats at the beginning, where errors go through the whole graph: as few as do.
const IN_FLOATS: [usize; 4] = [1, 2, 4, 8];
/// What the pictures show is good enough with this part of the detections matched, and scores that differ by no more.
const ENOUGH_MATCHED: f64 = 0.98;
/// See [`ENOUGH_MATCHED`].
const SMALL_DIFFERENCE: f32 = 0.05;
/// Scores from here on count where rules are compared, as a pipeline's unless it says otherwise; and where that leaves
/// fewer detections than [`FEWEST_DETECTIONS`], from here on.
const CONFIDENCE: [f32; 2] = [0.4, 0.2];
/// See [`CONFIDENCE`].
const FEWEST_DETECTIONS: u64 = 4;
/// A value that is concatenated and read elsewhere too has the scale of the whole where that costs it one bit at most.
const LEAST_SHARE_OF_RANGE: f32 = 0.5;

/// A model that is being calibrated; nothing is left of it when it is dropped.
pub struct Calibration {
    settings: RegistrySettings,
    float: Model,
    twin: Twin,
    quantising: Quantising,
    survey: Survey,
    frames: Frames,
}

/// A model in 8 bits, beside the float model that it was made from; not kept yet.
pub struct Calibrated {
    float: Model,
    model: Model,
    twin: Twin,
    /// What was done, in words.
    pub summary: String,
}

/// What was seen of one value.
#[derive(Debug, Clone, Default)]
struct Observed {
    histogram: Histogram,
    /// Sum of each channel's means.
    sums: Vec<f64>,
    frames: u64,
}

impl Calibration {
    /// Loads the model `id` (an id, a folder or a file below `settings.models_dirs`), and has its graph looked at.
    /// `name`: of the folder that is to be made. Blocks.
    ///
    /// Errors: it cannot be loaded, has 8 bits already, could not have any; the folder is there already.
    pub fn begin(settings: &RegistrySettings, id: &str, name: Option<&str>) -> Result<Calibration> {
        let settings =
            RegistrySettings { precision: Precision::Full, exchange_engines: false, ..settings.clone() };
        let Assembled { model: float, .. } = registry::load_blocking(id, &settings)?;
        let twin = Twin::begin(id, name, &settings)?;
        let (quantising, survey) = Quantising::open(twin.weights(), limits(&settings))?;
        let frames = Frames::new(*float.rule());
        Ok(Calibration { settings, float, twin, quantising, survey, frames })
    }

    /// How its pictures are laid.
    pub fn rule(&self) -> &InputRule {
        self.float.rule()
    }

    /// A picture of the user's, planes R, G, B as [`Calibration::rule`] lays them; some are kept.
    pub fn add(&mut self, slot: &[u8], placement: &Placement) {
        self.frames.add(slot, placement);
    }

    /// Looks at the values of the graph on the pictures and makes the model of it. `tell` hears what is done. Blocks for
    /// minutes.
    ///
    /// Errors: pictures that nothing can be learnt from ([`Kind::NoInput`]), values that are no numbers.
    pub fn calibrate(self, tell: &mut dyn FnMut(&str)) -> Result<Calibrated> {
        let Calibration { settings, float, twin, quantising, survey, frames } = self;
        let frames = frames.checked()?;
        tell(&format!(
            "{} pictures, {} of {} convolutions, {} values in 8 bits",
            frames.len(),
            survey.convolutions,
            survey.convolutions + survey.in_floats,
            survey.values.len()
        ));
        let mut observed = vec![Observed::default(); survey.values.len()];
        let (mut first, mut most) = (0, MOST_OUTPUTS);
        while first < observed.len() {
            let values = first..(first + most).min(observed.len());
            let path = twin.put_watched(&quantising.watch(values.clone())?)?;
            match observe(&path, &settings, &float, &survey, &frames, (values.clone(), &mut observed)) {
                Err(error) if error.kind() == Kind::Exhausted && most > 1 => most = most.div_ceil(2),
                outcome => {
                    outcome?;
                    first = values.end;
                    tell(&format!("{first} of {} values looked at", observed.len()));
                }
            }
        }
        for (value, observed) in survey.values.iter().zip(&observed) {
            check(&value.name, &observed.histogram)?;
        }
        let [confidence, lower] = CONFIDENCE;
        let found = compared([&float, &float], &frames, confidence)?.detections / 2;
        let confidence = if found < FEWEST_DETECTIONS { lower } else { confidence };
        let mut best: Option<(f64, String, Vec<u8>)> = None;
        'found: for in_floats in IN_FLOATS.into_iter().filter(|count| *count <= survey.convolutions) {
            for fit in FITS {
                let graph = quantising.write(seen(&survey, &observed, fit)?, in_floats)?;
                let Assembled { model, .. } = twin.put(&graph, &settings)?;
                let outcome = compared([&float, &model], &frames, confidence)?;
                let words = format!("{}, {in_floats} first convolutions in floats", fit.words());
                tell(&format!("{words}: {outcome}"));
                let loss = 1.0 - outcome.share() + f64::from(outcome.score);
                if best.as_ref().is_none_or(|(least, ..)| loss < *least) {
                    best = Some((loss, words, graph));
                }
                if outcome.share() >= ENOUGH_MATCHED && outcome.score <= SMALL_DIFFERENCE {
                    break 'found;
                }
            }
        }
        let nothing = || Error::new(Kind::Inference, "no rule gave ranges");
        let (_, words, graph) = best.ok_or_else(nothing)?;
        let Assembled { model, .. } = twin.put(&graph, &settings)?;
        let summary = format!("calibrated on {} pictures, {words}", frames.len());
        Ok(Calibrated { float, model, twin, summary })
    }
}

impl Calibrated {
    /// The float model, and the one in 8 bits.
    pub fn models(&self) -> [&Model; 2] {
        [&self.float, &self.model]
    }

    /// Where it will be.
    pub fn target(&self) -> &Path {
        self.twin.target()
    }

    /// Puts it where others look for it; its folder.
    pub fn keep(self) -> Result<PathBuf> {
        self.twin.keep()
    }
}

fn limits(settings: &RegistrySettings) -> Limits {
    Limits {
        max_file_bytes: settings.max_model_bytes,
        budget_bytes: settings.memory_budget_bytes,
        timeout: settings.load_timeout,
    }
}

/// Runs a graph whose outputs are these values on all pictures.
fn observe(
    path: &Path,
    settings: &RegistrySettings,
    float: &Model,
    survey: &Survey,
    frames: &[Frame],
    (values, observed): (Range<usize>, &mut [Observed]),
) -> Result<()> {
    let of_file = path.metadata().map_or(0, |facts| facts.len());
    let budget_bytes = settings.memory_budget_bytes.min(OBSERVING_BYTES.saturating_add(2 * of_file));
    let fill = float.fill();
    let request = Request {
        width: fill.width,
        height: fill.height,
        engine: EngineChoice::Auto,
        precision: Precision::Full,
    };
    let session = Session::open(path, Limits { budget_bytes, ..limits(settings) }, &|| Ok(()))?;
    let engine = session.compile(request, &|_| None)?.engine;
    let mut run = engine.new_run()?;
    for (slot, placement) in frames {
        fill.write(slot, run.input(), float.rule(), placement);
        run.execute()?;
        for (output, value) in values.clone().enumerate() {
            let (Some(observed), Some(of)) = (observed.get_mut(value), survey.values.get(value)) else {
                continue;
            };
            let numbers = run.output(output);
            observed.histogram.add(numbers);
            let shape =
                run.output_shape(output).or_else(|| engine.output_shapes().get(output).map(Vec::as_slice));
            if let (true, Some(&[1, channels, height, width])) = (of.is_read_by_convolution, shape) {
                observed.sums.resize(channels, 0.0);
                let area = (height * width).max(1);
                for (sum, plane) in observed.sums.iter_mut().zip(numbers.chunks_exact(area)) {
                    *sum += plane.iter().map(|number| f64::from(*number)).sum::<f64>() / area as f64;
                }
                observed.frames += 1;
            }
        }
    }
    Ok(())
}

/// Refuses a value that has no range on these pictures.
fn check(name: &str, histogram: &Histogram) -> Result<()> {
    let name = name.escape_debug();
    let refused = |message: String| Err(Error::new(Kind::NoInput, message));
    if histogram.has_odd() {
        return refused(format!("value {name} of the model is infinite or no number on these pictures"));
    }
    match histogram.seen() {
        None => refused(format!("value {name} of the model is nothing but zeros on these pictures")),
        Some(_) => Ok(()),
    }
}

/// What the process is told of each value: those that have one scale have one range.
fn seen(survey: &Survey, observed: &[Observed], fit: Fit) -> Result<Vec<Seen>> {
    let groups = groups(survey, observed, fit);
    let mut joined: Vec<Option<Histogram>> = vec![None; observed.len()];
    for (observed, group) in observed.iter().zip(&groups) {
        if let Some(sum) = joined.get_mut(*group) {
            sum.get_or_insert_default().join(&observed.histogram);
        }
    }
    let ranges: Vec<Option<(f32, f32)>> =
        joined.iter().map(|histogram| histogram.as_ref()?.range(fit)).collect();
    let one = |(observed, group): (&Observed, &usize)| {
        let none = || Error::new(Kind::NoInput, "a value of the model has no range on these pictures");
        let (low, high) = ranges.get(*group).copied().flatten().ok_or_else(none)?;
        let means = observed.sums.iter().map(|sum| (sum / observed.frames.max(1) as f64) as f32).collect();
        Ok(Seen { low, high, means })
    };
    observed.iter().zip(&groups).map(one).collect()
}

/// Which values have one scale: those that must, and what is concatenated where that costs little.
fn groups(survey: &Survey, observed: &[Observed], fit: Fit) -> Vec<usize> {
    let mut groups: Vec<usize> = survey.values.iter().map(|value| value.group).collect();
    let own: Vec<f32> = observed
        .iter()
        .map(|observed| observed.histogram.range(fit).map_or(0.0, |(low, high)| high - low))
        .collect();
    for &(made, read, alone) in &survey.joints {
        let (Some(whole), Some(part)) = (own.get(made), own.get(read)) else { continue };
        let (Some(&to), Some(&from)) = (groups.get(made), groups.get(read)) else { continue };
        if alone || *part >= LEAST_SHARE_OF_RANGE * whole {
            let lowest = to.min(from);
            groups
                .iter_mut()
                .filter(|group| **group == to || **group == from)
                .for_each(|group| *group = lowest);
        }
    }
    groups
}

fn compared(models: [&Model; 2], frames: &[Frame], confidence: f32) -> Result<Outcome> {
    let mut comparison = Comparison::new(models, confidence)?;
    frames.iter().try_for_each(|(slot, placement)| comparison.frame(slot, placement))?;
    Ok(comparison.outcome())
}

impl Fit {
    fn words(self) -> String {
        match self {
            Fit::All => "ranges that hold everything".to_owned(),
            Fit::Power(power) => format!("ranges by the error to the power of {power}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::infer::registry::test_dir::TestDir;

    /// A small detector with a convolution of every kind; its input has 64 × 64 pixels.
    const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/families/convolutions.onnx");

    fn settings(dir: &TestDir) -> RegistrySettings {
        let families = Path::new(MODEL).parent().unwrap().to_owned();
        RegistrySettings {
            models_dirs: vec![dir.path().join("models"), families],
            ..RegistrySettings::default()
        }
    }

    /// Blocks of colour that move.
    fn picture(number: u32, rule: &InputRule) -> Vec<u8> {
        let (width, plane) = (rule.width as usize, (rule.width * rule.height) as usize);
        let sample = |at: usize| {
            let (c, x, y) = (at / plane, at % plane % width, at % plane / width);
            let block = (x + number as usize * 3) / 11 + y / 9 * 5 + c * 77;
            (block as u32).wrapping_mul(2_654_435_761).wrapping_shr(24) as u8
        };
        (0..rule.slot_bytes()).map(sample).collect()
    }

    fn begun(settings: &RegistrySettings, frames: u32) -> Calibration {
        let mut calibration = Calibration::begin(settings, MODEL, None).unwrap();
        let rule = *calibration.rule();
        let placement = rule.place(rule.width, rule.height).unwrap();
        (0..frames).for_each(|number| calibration.add(&picture(number, &rule), &placement));
        calibration
    }

    #[test]
    fn a_float_model_gets_a_twin_that_finds_the_same_and_serves_it() {
        let dir = TestDir::new();
        let settings = settings(&dir);
        let calibrated = begun(&settings, 24).calibrate(&mut |_| ()).unwrap();
        assert!(calibrated.summary.starts_with("calibrated on 24 pictures, "), "{}", calibrated.summary);
        let [float, model] = calibrated.models();
        let mut comparison = Comparison::new([float, model], 0.4).unwrap();
        let rule = *float.rule();
        let placement = rule.place(rule.width, rule.height).unwrap();
        for number in 100..120 {
            comparison.frame(&picture(number, &rule), &placement).unwrap();
        }
        let outcome = comparison.outcome();
        assert!(outcome.detections > 100 && outcome.share() >= 0.9 && outcome.score <= 0.05, "{outcome}");
        // it is another model all the same
        assert!(outcome.score > 1e-4, "{outcome}");
        let of_classes: u64 = comparison.by_class().values().map(|class| class.detections).sum();
        assert_eq!(of_classes, outcome.detections);
        drop(comparison);
        let folder = calibrated.keep().unwrap();
        assert_eq!(folder, dir.path().join("models/convolutions-int8"));
        let mut names: Vec<_> =
            std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["environment.json", "weights.onnx", "weir.json"]);

        // once more: nothing is written over
        let again = Calibration::begin(&settings, MODEL, None).err().unwrap();
        assert!(again.message().contains("is there already"), "{again}");
        // a model of 8 bits needs no calibration
        let weights = folder.join("weights.onnx").display().to_string();
        let eight = Calibration::begin(&settings, &weights, Some("other")).err().unwrap();
        assert!(eight.message().contains("8 bits already"), "{eight}");

        let in_8_bits = RegistrySettings { precision: Precision::Int8, ..settings.clone() };
        let served = registry::load_blocking(MODEL, &in_8_bits).unwrap();
        assert!(served.has_8_bits && served.model.id() == MODEL);
        assert!(!registry::load_blocking(MODEL, &settings).unwrap().has_8_bits);
        // what check says of the float model tells of the twin, and without one how to get it
        let checked = super::super::check::run(&settings, MODEL).unwrap();
        assert!(checked.others().any(|(name, model)| name == "int8" && model.id() == MODEL), "{checked}");
        assert!(checked.to_string().contains("MiB with models.precision = \"int8\""), "{checked}");
        // one that is not the twin of this very file
        let other = dir.path().join("models/other.onnx");
        let mut changed = std::fs::read(MODEL).unwrap();
        let place = changed.len() / 2;
        changed[place] ^= 1;
        std::fs::write(&other, changed).unwrap();
        assert!(!registry::load_blocking(&other.display().to_string(), &in_8_bits).unwrap().has_8_bits);

        registry::own::remove("convolutions-int8", &settings).unwrap();
        assert!(!folder.exists());
        assert!(!registry::load_blocking(MODEL, &in_8_bits).unwrap().has_8_bits);
        let checked = super::super::check::run(&settings, MODEL).unwrap();
        assert!(checked.to_string().contains("int8     not yet: weir models quantise MODEL"), "{checked}");
    }

    #[test]
    fn what_cannot_be_calibrated_is_refused_and_leaves_nothing() {
        let dir = TestDir::new();
        let settings = settings(&dir);
        for frames in [0, 3] {
            let error = begun(&settings, frames).calibrate(&mut |_| ()).err().unwrap();
            assert_eq!(error.kind(), Kind::NoInput, "{error}");
        }
        let no_convolution = Path::new(MODEL).with_file_name("yolov8.onnx").display().to_string();
        let error = Calibration::begin(&settings, &no_convolution, None).err().unwrap();
        assert!(error.message().contains("no convolution"), "{error}");
        let error = Calibration::begin(&settings, MODEL, Some("../away")).err().unwrap();
        assert_eq!(error.kind(), Kind::InvalidValue);
        assert_eq!(std::fs::read_dir(dir.path().join("models")).unwrap().count(), 0);
        let mut odd = Histogram::default();
        odd.add(&[f32::NAN]);
        for (histogram, words) in [(odd, "no number"), (Histogram::default(), "nothing but zeros")] {
            assert!(check("x", &histogram).unwrap_err().message().contains(words));
        }
    }
}
