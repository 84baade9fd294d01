//! From files to a model that runs.

use super::environment::Environment;
use super::flight::Watch;
use super::names;
use super::{Progress, Settings, Stage};
use crate::error::{Error, Kind, Result};
use crate::infer::engine::{self, Options};
use crate::infer::family::{Family, recognise};
use crate::infer::fill::Fill;
use crate::infer::model::{Model, Parts};
use crate::infer::onnx::Graph;
use crate::infer::workbench;
use std::path::PathBuf;

/// A graph with an open batch dimension was exported for sides that are multiples of this; the reference pads to it.
const DYNAMIC_SIDE_MULTIPLE: usize = 32;

/// What a model is made from.
#[derive(Debug)]
pub(super) struct Artefacts {
    /// What the model will be called.
    pub(super) id: String,
    /// The ONNX file.
    pub(super) weights: PathBuf,
    /// `yolov8n`, `rfdetr-base`, …; absent: recognised from the graph.
    pub(super) model_type: Option<String>,
    /// How pictures are prepared.
    pub(super) environment: Environment,
    /// Absent: from the environment's `CLASS_MAP` or the graph's metadata.
    pub(super) classes: Option<Vec<String>>,
}

/// A model, and how its family was found.
pub(in crate::infer) struct Assembled {
    pub(in crate::infer) model: Model,
    /// `model type yolov8n`, `one output of shape [1, 84, 8400]`.
    pub(in crate::infer) why: String,
}

fn artefact(message: impl Into<String>) -> Error {
    Error::new(Kind::ModelArtefact, message.into())
}

/// Reads, checks, compiles and tries out. Blocks for seconds.
pub(super) fn assemble(artefacts: Artefacts, settings: &Settings, watch: &dyn Watch) -> Result<Assembled> {
    let stage = |stage| watch.report(Progress { stage, bytes: 0, total: None });
    stage(Stage::Compiling)?;
    let Artefacts { id, weights, model_type, environment, classes } = artefacts;
    let known_family = match &model_type {
        None => None,
        Some(name) => Some(Family::of_model_type(name).ok_or_else(|| unknown_model_type("object-detection", name))?),
    };

    let graph = Graph::read_file(&weights, settings.max_model_bytes, settings.memory_budget_bytes)?;

    let input = graph.input();
    let side = |side: Option<usize>| side.and_then(|side| u32::try_from(side).ok());
    let rule = environment.rule(side(input.width), side(input.height), settings);
    let padded = |side: u32| match input.batch {
        Some(_) => side as usize,
        None => (side as usize).next_multiple_of(DYNAMIC_SIDE_MULTIPLE),
    };
    let (width, height) = (padded(rule.width), padded(rule.height));

    let names = classes.filter(|names| !names.is_empty());
    let names = names.or(environment.class_map).or_else(|| names::of_metadata(graph.metadata("names")?));
    let names = names.filter(|names| !names.is_empty()).ok_or_else(|| artefact("the model has no class names"))?;
    let hints = recognise::Hints::of_graph(&graph, names.len(), (width, height));

    let family_of = |shapes: &[Vec<usize>]| match known_family {
        Some(family) => Ok((family, format!("model type {}", model_type.as_deref().unwrap_or_default()))),
        None => recognise::family(shapes, &hints),
    };

    let options = Options {
        width,
        height,
        choice: settings.engine,
        budget_bytes: settings.memory_budget_bytes,
        weights: &weights,
        tensorrt: &settings.tensorrt,
        scores: &|shapes| family_of(shapes).ok()?.0.scores(shapes),
        building: &|| stage(Stage::Building),
    };
    let engine = engine::compile(graph, &options)?;
    let of_api = known_family.is_some();
    let (family, why) = family_of(engine.output_shapes())?;
    let (family, classes) = family.with_names(names);
    let scale = family.scale(of_api);
    let scale = if input.bytes { scale.of_bytes() } else { scale };
    let model = Model::new(Parts { id, rule, fill: Fill { width, height, scale }, classes, family, engine });
    if settings.validate {
        stage(Stage::Validating)?;
        validate(&model)?;
    }
    Ok(Assembled { model, why })
}

/// The error for a model type nobody knows, in the words of the reference.
pub(super) fn unknown_model_type(task: &str, model_type: &str) -> Error {
    Error::new(Kind::UnknownModelType, format!("('{}', '{}')", task.escape_debug(), model_type.escape_debug()))
}

/// Runs the model once on noise, and compares its outputs with its names.
fn validate(model: &Model) -> Result<()> {
    let shapes = model.engine().output_shapes();
    let found = model.family().classes(shapes);
    let found = found.ok_or_else(|| artefact(format!("outputs of shapes {shapes:?} are not of {}", model.family_name())))?;
    if !found.fit(model.classes().len()) {
        return Err(artefact(format!("the outputs hold {found:?} classes, but there are {} names", model.classes().len())));
    }
    workbench::try_out(model).map_err(|cause| artefact("the model failed its test run").because(cause))
}
