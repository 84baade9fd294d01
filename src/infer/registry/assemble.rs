//! From files to a model that runs.

use super::environment::Environment;
use super::in_flight::Watch;
use super::names::{self, Names};
use super::told::Told;
use super::{Progress, RegistrySettings, Stage, cache, twin};
use crate::error::{Error, Kind, Result};
use crate::infer::engine::{self, Options};
use crate::infer::family::recognise::{self, Recognised};
use crate::infer::family::{Classes, Family};
use crate::infer::fill::Fill;
use crate::infer::model::{Model, Parts};
use crate::infer::onnx::{Description, MAX_INPUT_SIDE};
use crate::infer::process::{Limits, Loaded, Session};
use crate::infer::{Engine, Precision, cnn, workbench};
use std::path::PathBuf;
use std::sync::Once;

/// A graph with an open batch dimension was exported for sides that are multiples of this; the reference pads
/// to it.
const DYNAMIC_SIDE_MULTIPLE: usize = 32;

/// What a model is made from.
#[derive(Debug, Clone)]
pub(super) struct Artefacts {
    /// What the model will be called.
    pub(super) id: String,
    /// The file of graph and weights, ONNX.
    pub(super) weights: PathBuf,
    /// `yolov8n`, `rfdetr-base`, …; absent: recognised from the graph.
    pub(super) model_type: Option<String>,
    /// How pictures are prepared.
    pub(super) environment: Environment,
    /// Absent: from the environment's `CLASS_MAP` or the graph's metadata.
    pub(super) classes: Option<Vec<String>>,
    /// What its owner said about it.
    pub(super) told: Told,
}

/// A model, and how its family was found.
#[derive(Debug)]
pub(in crate::infer) struct Assembled {
    pub(in crate::infer) model: Model,
    /// `model type yolov8n`, `one output of shape [1, 84, 8400]`.
    pub(in crate::infer) why: String,
    /// The graph comes in 8 bits, somewhere at least.
    pub(in crate::infer) has_8_bits: bool,
}

fn artefact(message: impl Into<String>) -> Error {
    Error::new(Kind::ModelArtefact, message.into())
}

/// Reads, checks, compiles and tries out. Blocks for seconds.
///
/// A CPU that gains nothing by half precision, and a model whose numbers leave its range, run in full.
pub(super) fn assemble(
    artefacts: Artefacts,
    settings: &RegistrySettings,
    watch: &dyn Watch,
) -> Result<Assembled> {
    static SAID: Once = Once::new();
    let in_full = || RegistrySettings { precision: Precision::Full, ..settings.clone() };
    match (settings.precision, cnn::half()) {
        (Precision::Full, _) => assemble_as(artefacts, settings, watch),
        (Precision::Int8, _) => in_8_bits(artefacts, settings, watch),
        (_, None) => {
            SAID.call_once(|| {
                log::warn!("precision=full reason=\"this CPU gains nothing by half precision\"")
            });
            assemble_as(artefacts, &in_full(), watch)
        }
        (_, Some(loops)) => match assemble_as(artefacts.clone(), settings, watch) {
            Err(error) if error.kind() == Kind::ModelArtefact => {
                let loaded = assemble_as(artefacts, &in_full(), watch)?;
                log::warn!("model={} precision=full reason=\"{}\"", loaded.model.id(), error.message());
                Ok(loaded)
            }
            loaded => loaded.inspect(|loaded| {
                log::info!("model={} precision=half loops={loops}", loaded.model.id());
            }),
        },
    }
}

/// The model's twin in 8 bits where it has one, else itself.
fn in_8_bits(artefacts: Artefacts, settings: &RegistrySettings, watch: &dyn Watch) -> Result<Assembled> {
    let Some(folder) = twin::of(&artefacts.weights, settings) else {
        let loaded = assemble_as(artefacts, settings, watch)?;
        let id = loaded.model.id();
        match loaded.has_8_bits {
            true => log::info!("model={id} precision=int8"),
            false => log::warn!(
                "model={id} precision=full reason=\"it has no twin in 8 bits: weir models quantise {} --video FILE makes one\"",
                id.escape_debug()
            ),
        }
        return Ok(loaded);
    };
    let loaded = assemble_as(cache::read(&folder, artefacts.id.clone())?, settings, watch);
    match loaded {
        Err(error) if error.kind() == Kind::ModelArtefact => {
            let loaded = assemble_as(artefacts, settings, watch)?;
            log::warn!(
                "model={} precision=full twin={} reason=\"{}\"",
                loaded.model.id(),
                folder.display(),
                error.message()
            );
            Ok(loaded)
        }
        loaded => loaded.inspect(|loaded| {
            log::info!("model={} precision=int8 twin={}", loaded.model.id(), folder.display());
        }),
    }
}

fn assemble_as(artefacts: Artefacts, settings: &RegistrySettings, watch: &dyn Watch) -> Result<Assembled> {
    let stage = |stage| watch.report(Progress { stage, bytes: 0, total: None });
    stage(Stage::Compiling)?;
    let Artefacts { id, weights, model_type, environment, classes, told } = artefacts;
    let known_family = match &model_type {
        None => None,
        Some(name) => {
            Some(Family::of_model_type(name).ok_or_else(|| unknown_model_type("object-detection", name))?)
        }
    };

    let limits = Limits {
        max_file_bytes: settings.max_model_bytes,
        budget_bytes: settings.memory_budget_bytes,
        timeout: settings.load_timeout,
    };
    let wanted = || watch.wanted();
    let session = Session::open(&weights, limits, &wanted)?;
    let graph = session.description().clone();

    let input = graph.input();
    let side = |side: Option<usize>| side.and_then(|side| u32::try_from(side).ok());
    let environment = environment.with_size(imgsz(&graph));
    let rule = environment.rule(side(input.width), side(input.height), settings);
    let padded = |side: u32| match input.batch {
        Some(_) => side as usize,
        None => (side as usize).next_multiple_of(DYNAMIC_SIDE_MULTIPLE),
    };
    let (width, height) = (padded(rule.width), padded(rule.height));

    let listed = classes.filter(|names| !names.is_empty()).or(environment.class_map).and_then(Names::of_list);
    let names = listed
        .or_else(|| names::METADATA_KEYS.iter().find_map(|key| Names::of_metadata(graph.metadata(key)?)));
    let counts = names.as_ref().map(Names::counts).unwrap_or_default();
    let hints = recognise::Hints::of_graph(&graph, counts, (width, height));

    let family_of = |shapes: &[Vec<usize>]| match told.family.or(known_family) {
        Some(family) if told.family.is_some() => {
            Ok(Recognised { family, why: String::from("told by its owner") })
        }
        Some(family) => Ok(Recognised {
            family,
            why: format!("model type {}", model_type.as_deref().unwrap_or_default()),
        }),
        None => recognise::family(shapes, &hints),
    };

    let options = Options {
        width,
        height,
        choice: settings.engine,
        precision: settings.precision,
        budget_bytes: settings.memory_budget_bytes,
        weights: &weights,
        tensorrt: &settings.tensorrt,
        in_background: settings.exchange_engines,
        scores: &|shapes| family_of(shapes).ok()?.family.scores(shapes),
        building: &|_| stage(Stage::Building),
    };
    let Loaded { engine, trial } = engine::compile(session, &options)?;
    let of_api = known_family.is_some();
    let Recognised { family, mut why } = family_of(engine.output_shapes())?;
    let names = class_names(names, family, engine.output_shapes(), &why)?;
    let (family, classes) = family.with_names(names);
    let scale = told.input.unwrap_or_else(|| family.scale(of_api));
    let scale = if input.bytes { scale.of_bytes() } else { scale };
    let fill = Fill { width, height, scale };
    let mut model = Model::new(Parts {
        id,
        rule,
        fill,
        classes,
        family,
        recognised: !of_api && told.family.is_none(),
        engine,
    });
    // What a graph looks like is only known when it has been run.
    let is_half = settings.precision.is_half();
    if settings.validate || model.is_recognised() || is_half {
        stage(Stage::Validating)?;
        if let Some(odd) = validate(&mut model, trial.as_ref(), is_half)? {
            log::warn!("model={} odd=\"{odd}\"", model.id());
            why = format!("{why}; {odd}");
        }
    }
    Ok(Assembled { model, why, has_8_bits: graph.has_8_bits() })
}

/// `imgsz` of Ultralytics' metadata, `[height, width]` or one side: width and height for a graph that leaves
/// them open.
fn imgsz(graph: &Description) -> Option<(u32, u32)> {
    let text = graph.metadata("imgsz")?;
    let sides =
        text.trim_matches(['[', ']', '(', ')', ' ']).split(',').filter(|side| !side.trim().is_empty());
    let sides: Vec<u32> = sides.map(|side| side.trim().parse().ok()).collect::<Option<_>>()?;
    let (height, width) = match sides[..] {
        [side] => (side, side),
        [height, width] => (height, width),
        _ => return None,
    };
    let sane = |side: u32| side > 0 && side as usize <= MAX_INPUT_SIDE;
    (sane(height) && sane(width)).then_some((width, height))
}

/// The name of each class that the outputs may tell.
fn class_names(
    names: Option<Names>,
    family: Family,
    shapes: &[Vec<usize>],
    why: &str,
) -> Result<Vec<String>> {
    let told = family.classes(shapes);
    let told =
        told.ok_or_else(|| artefact(format!("outputs of shapes {shapes:?} are not of {}", family.name())))?;
    let Some(names) = names else {
        let classes = match told {
            Classes::Exactly(count) => format!(" of {count} classes"),
            Classes::UpTo(count) => format!(" of up to {count} classes"),
            Classes::Untold => String::new(),
        };
        let message =
            format!("it looks like {}{classes} ({why}), but the model has no class names", family.name());
        return Err(artefact(message));
    };
    match told {
        Classes::UpTo(_) | Classes::Untold => Ok(names.as_given()),
        Classes::Exactly(count) => names.for_classes(count).ok_or_else(|| {
            let names = names.counts().first().copied().unwrap_or_default();
            artefact(format!("the outputs hold {count} classes, but there are {names} names"))
        }),
    }
}

/// The error for a model type nobody knows, in the words of the reference.
pub(super) fn unknown_model_type(task: &str, model_type: &str) -> Error {
    Error::new(
        Kind::UnknownModelType,
        format!("('{}', '{}')", task.escape_debug(), model_type.escape_debug()),
    )
}

/// Runs the model once on noise, and compares its outputs with its names; `finite`: they must be numbers.
fn validate(model: &mut Model, trial: &dyn Engine, finite: bool) -> Result<Option<&'static str>> {
    let shapes = model.engine().output_shapes();
    let found = model.family().classes(shapes);
    let found = found.ok_or_else(|| {
        artefact(format!("outputs of shapes {shapes:?} are not of {}", model.family_name()))
    })?;
    if !found.fit(model.classes().len()) {
        return Err(artefact(format!(
            "the outputs hold {found:?} classes, but there are {} names",
            model.classes().len()
        )));
    }
    workbench::try_out(model, trial, finite).map_err(|cause| {
        artefact(format!("the model failed its test run: {}", cause.message())).because(cause)
    })
}
