//! An ONNX file, read as hostile input: what it says about itself, and its way into tract.
//!
//! Everything that could make tract allocate without bound is looked at before tract sees it: the lengths of
//! tensors against their shapes, constant shapes, and, after shape inference, every value of the graph
//! against the memory budget.

mod description;
mod external;
mod feed;
mod functions;
mod lean;
mod modern;
pub(super) mod operators;
mod order;
mod precision;
mod quantise;
mod quantised;
mod refuse;
mod stored;

pub use description::Description;
pub(super) use external::other_files;
pub(in crate::infer) use external::{Beside, open_beside};
pub use feed::Input;
pub(in crate::infer) use lean::At;
pub(in crate::infer) use quantise::{Quantiser, Seen, Survey};
pub(in crate::infer) use stored::{Lease, Stored};

use crate::error::{Error, Kind, Result, system};
use rustix::fs::{Mode, OFlags};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Once};
use tract_onnx::pb::{GraphProto, ModelProto, OperatorSetIdProto, TensorProto};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::knobs;
use tract_onnx::tract_hir::infer::Factoid;

/// Longest side of a model's input, pixels. Larger inputs are not met in detection, and a ring slot is three
/// bytes a pixel.
pub const MAX_INPUT_SIDE: usize = 4096;

/// Most nodes of a graph. The largest detectors have about two thousand; tract's passes are worse than
/// linear.
const MAX_NODES: usize = 50_000;

/// Oldest operator set: before it, arithmetic broadcast by an attribute, and nobody exports it any more.
const OLDEST_OPSET: i64 = 7;
/// Newest operator set: the operators of detectors were compared with their older forms up to this one, where
/// they changed only in the element types they accept.
const NEWEST_OPSET: i64 = 25;

/// A parsed ONNX file.
pub struct Graph {
    proto: ModelProto,
    input: Input,
    /// The file's own name of the input.
    input_name: String,
    /// An engine that is given the file itself may be fed as ours are: nothing had to be put before the
    /// graph.
    plain: bool,
    /// Weights that were left in the file.
    kept: HashMap<String, lean::Kept>,
}

/// An error about the file's content.
fn artefact(message: impl Into<String>) -> Error {
    Error::new(Kind::ModelArtefact, message.into())
}

/// Opens a file of at most `max_bytes`, and says how long it is. `unreadable` makes the error of what cannot
/// be opened.
pub(in crate::infer) fn open_weights(
    path: &Path,
    max_bytes: u64,
    unreadable: impl FnOnce(std::io::Error) -> Error,
) -> Result<(File, u64)> {
    // a FIFO must not make anybody wait for its writer
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = rustix::fs::open(path, flags, Mode::empty()).map_err(std::io::Error::from).map(File::from);
    let (file, facts) =
        opened.and_then(|file| file.metadata().map(|facts| (file, facts))).map_err(unreadable)?;
    if !facts.is_file() {
        return Err(artefact("the weights are no file"));
    }
    let size = facts.len();
    if size > max_bytes {
        let message =
            format!("the weights have {} MiB, more than the {} MiB allowed", size >> 20, max_bytes >> 20);
        return Err(Error::new(Kind::Exhausted, message));
    }
    Ok((file, size))
}

impl Graph {
    /// Reads and checks a file of at most `max_bytes`, and the files beside it that its weights may lie in.
    /// `budget` is the most bytes that any one tensor, and all in other files together, may have.
    pub fn read_file(path: &Path, max_bytes: u64, budget: u64) -> Result<Graph> {
        let (file, size) = open_weights(path, max_bytes, system("the weights cannot be read"))?;
        Self::read_beside(&mut file.take(size), path.parent(), budget)
    }

    /// Reads and checks a file whose weights all lie in itself. The reader should be bounded by the caller.
    pub fn read(reader: &mut dyn Read, budget: u64) -> Result<Graph> {
        Self::read_beside(reader, None, budget)
    }

    /// As [`Graph::read`]; weights may also lie in files in `folder`.
    pub fn read_beside(reader: &mut dyn Read, folder: Option<&Path>, budget: u64) -> Result<Graph> {
        Self::read_with(reader, &mut |location| open_beside(folder, location), budget)
    }

    /// As [`Graph::read`]; weights may also lie in files that `beside` gives.
    pub(in crate::infer) fn read_with(
        reader: &mut dyn Read,
        beside: Beside<'_>,
        budget: u64,
    ) -> Result<Graph> {
        Self::read_parts(reader, None, beside, budget)
    }

    /// As [`Graph::read_with`], a file of `size` bytes. Large weights of convolutions and dense
    /// layers stay there until somebody packs them.
    pub(in crate::infer) fn read_lean(
        file: &Arc<File>,
        size: u64,
        beside: Beside<'_>,
        budget: u64,
    ) -> Result<Graph> {
        match lean::read(file, size, budget)? {
            Some(lean) => Self::read_parts(&mut &lean.bytes[..], Some(lean.stored), beside, budget),
            None => Self::read_with(&mut At { file, at: 0, end: size }, beside, budget),
        }
    }

    /// The protobuf itself, with all weights: functions put in, 32-bit floats, operators as the file has them.
    fn read_plain(reader: &mut dyn Read, beside: Beside<'_>, budget: u64) -> Result<ModelProto> {
        Self::read_checked(reader, None, beside, budget).map(|(proto, _)| proto)
    }

    fn read_parts(
        reader: &mut dyn Read,
        stored: Option<Vec<(String, Stored)>>,
        beside: Beside<'_>,
        budget: u64,
    ) -> Result<Graph> {
        let (mut proto, kept) = Self::read_checked(reader, stored, beside, budget)?;
        let version = opset_in(&proto.opset_import);
        let graph = proto.graph.as_mut().ok_or_else(|| artefact("the ONNX file holds no graph"))?;
        modern::bring_up(graph, version)?;
        quantised::to_floats(graph, version, budget)?;
        let feed::Found { input, name: input_name, plain } = feed::find(graph)?;
        Ok(Graph { proto, input, input_name, plain, kept })
    }

    fn read_checked(
        reader: &mut dyn Read,
        mut stored: Option<Vec<(String, Stored)>>,
        beside: Beside<'_>,
        budget: u64,
    ) -> Result<(ModelProto, HashMap<String, lean::Kept>)> {
        forbid_wrong_kernels();
        let mut proto =
            quietly(|| tract_onnx::onnx().proto_model_for_read(reader)).map_err(|cause| match cause
                .is::<std::io::Error>(
            ) {
                true => Error::new(Kind::System, "the weights cannot be read").because(cause),
                false => artefact("the weights are not an ONNX file").because(cause),
            })?;
        if proto.graph.is_none() {
            return Err(artefact("the ONNX file holds no graph"));
        }
        check_opset(opset_in(&proto.opset_import))?;
        external::load(&mut proto, beside, budget, stored.as_mut())?;
        functions::inline(&mut proto)?;
        let graph = proto.graph.as_mut().ok_or_else(|| artefact("the ONNX file holds no graph"))?;
        let kept = lean::keep(graph, stored.unwrap_or_default())?;
        refuse::check(graph)?;
        check_nodes(graph)?;
        order::check(graph, &|name| kept.contains_key(name))?;
        check_tensors(graph, budget)?;
        precision::to_single(graph)?;
        Ok((proto, kept))
    }

    /// Whether it computes in 8 bits somewhere.
    pub(in crate::infer) fn has_8_bits(&self) -> bool {
        self.proto.graph.as_ref().is_some_and(has_8_bits)
    }

    /// Size of the graph's input.
    pub fn input(&self) -> Input {
        self.input
    }

    /// Its name; empty when it has none.
    pub fn input_name(&self) -> &str {
        &self.input_name
    }

    /// Whether the file itself takes what [`Graph::into_typed`] takes: planes of floats, one picture, and
    /// nothing else.
    pub fn is_plain(&self) -> bool {
        self.plain
    }

    /// Value of a `metadata_props` entry, such as Ultralytics' `names`.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.proto.metadata_props.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
    }

    /// Names of the outputs, in order.
    pub fn output_names(&self) -> Vec<&str> {
        self.proto.graph.iter().flat_map(|graph| &graph.output).map(|output| output.name.as_str()).collect()
    }

    /// The graph for pictures of `width` × `height`, batch 1, 32-bit floats, not decluttered.
    ///
    /// The shapes that the file claims for outputs and inner values are ignored: dynamic exports get them
    /// wrong.
    pub fn into_typed(self, width: usize, height: usize, budget: u64) -> Result<TypedModel> {
        self.into_typed_lean(width, height, budget).map(|(typed, _)| typed)
    }

    /// Whether weights were left in the file: then the graph cannot be run by itself.
    pub(in crate::infer) fn is_lean(&self) -> bool {
        !self.kept.is_empty()
    }

    /// As [`Graph::into_typed`]; further inputs of the graph stand for weights that were left in the file, by
    /// their names.
    pub(in crate::infer) fn into_typed_lean(
        self,
        width: usize,
        height: usize,
        budget: u64,
    ) -> Result<(TypedModel, HashMap<String, Stored>)> {
        if width == 0 || height == 0 || width > MAX_INPUT_SIDE || height > MAX_INPUT_SIDE {
            return Err(artefact(format!("an input of {width}x{height} pixels is not supported")));
        }
        let Graph { mut proto, input, kept, .. } = self;
        let opened = proto.graph.as_mut().ok_or_else(|| artefact("the ONNX file holds no graph"))?;
        feed::put_before(opened, &input, (width, height));
        let mut names: Vec<&String> = kept.keys().collect();
        names.sort_unstable();
        opened.input.extend(names.into_iter().filter_map(|name| Some(kept.get(name)?.input(name))));
        let onnx = operators::importer().with_ignore_output_shapes(true).with_ignore_value_info(true);
        let broken = |cause: TractError| {
            artefact(format!("the graph cannot be used: {}", first_line(&cause))).because(cause)
        };
        let mut model = quietly(|| onnx.model_for_proto_model(&proto)).map_err(broken)?;
        drop(proto); // The weights live in the model now; twice would be the peak of the process.
        let shape = [input.frames(), 3, height, width];
        quietly(|| model.set_input_fact(0, InferenceFact::dt_shape(DatumType::F32, shape)))
            .map_err(broken)?;
        quietly(|| model.analyse(false)).map_err(broken)?;
        check_values(&model, budget)?;
        let typed = quietly(move || model.into_typed()).map_err(broken)?;
        Ok((typed, kept.into_iter().map(|(name, kept)| (name, kept.stored)).collect()))
    }
}

/// Kernels of tract-linalg 0.23.9 that are wrong are not chosen: its integer kernels for AMX read past their
/// operands.
fn forbid_wrong_kernels() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // of this architecture's features only: others make tract panic
        if cfg!(target_arch = "x86_64") && !knobs::set_str("TRACT_CPU_ISA", "-amx-int8,-amx-bf16") {
            log::warn!("tract kernels=amx forbidden=false");
        }
    });
}

/// Runs a piece of tract; a panic on an odd file becomes an error. Every call works on values that are thrown
/// away on error.
pub fn quietly<T>(work: impl FnOnce() -> TractResult<T>) -> TractResult<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(TractError::msg(format!("panic: {text}")))
    })
}

/// What tract says, short enough for a reply: the innermost cause, which names the operator.
fn first_line(error: &TractError) -> String {
    const LONGEST_CHARS: usize = 200;
    let text = format!("{}: {}", error, error.root_cause());
    text.lines().next().unwrap_or_default().chars().take(LONGEST_CHARS).collect()
}

/// Version of the default operator set; 0 where none is named.
fn opset_in(imports: &[OperatorSetIdProto]) -> i64 {
    let default = |domain: &str| domain.is_empty() || domain == "ai.onnx";
    imports.iter().find(|import| default(&import.domain)).map_or(0, |import| import.version)
}

/// Whether any node makes or takes 8-bit numbers.
fn has_8_bits(graph: &GraphProto) -> bool {
    const OPERATORS: [&str; 7] = [
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "QLinearConv",
        "QLinearMatMul",
        "ConvInteger",
        "MatMulInteger",
    ];
    graph.node.iter().any(|node| OPERATORS.contains(&node.op_type.as_str()))
}

/// An operator may mean something else in a set that nobody here knows: better no answer than a wrong one.
fn check_opset(version: i64) -> Result<()> {
    if (OLDEST_OPSET..=NEWEST_OPSET).contains(&version) {
        return Ok(());
    }
    Err(artefact(format!(
        "the graph uses ONNX operator set {version}; {OLDEST_OPSET} to {NEWEST_OPSET} are supported"
    )))
}

fn check_nodes(graph: &GraphProto) -> Result<()> {
    if graph.node.len() > MAX_NODES {
        return Err(artefact(format!("the graph has {} nodes, more than {MAX_NODES}", graph.node.len())));
    }
    Ok(())
}

/// A name out of the file, fit for one line of a log or reply.
fn clean(name: &str) -> String {
    const LONGEST_CHARS: usize = 80;
    name.chars().filter(|c| !c.is_control()).take(LONGEST_CHARS).collect()
}

/// Bytes of one element of an ONNX `data_type`; 1 for those that tract refuses later.
fn element_bytes(data_type: i32) -> u64 {
    match data_type {
        1 | 6 | 12 => 4,
        4 | 5 | 10 | 16 => 2,
        7 | 11 | 13 => 8,
        _ => 1,
    }
}

/// Number of elements, `None` when negative or beyond 64 bits.
fn elements(dims: impl IntoIterator<Item = i64>) -> Option<u64> {
    dims.into_iter().try_fold(1u64, |product, dim| product.checked_mul(u64::try_from(dim).ok()?))
}

fn check_tensors(graph: &GraphProto, budget: u64) -> Result<()> {
    let attributes = || graph.node.iter().flat_map(|node| &node.attribute);
    let constants = attributes().flat_map(|attribute| attribute.t.iter().chain(&attribute.tensors));
    for tensor in graph.initializer.iter().chain(constants) {
        check_tensor(tensor)?;
    }
    if !graph.sparse_initializer.is_empty() || attributes().any(|attribute| attribute.sparse_tensor.is_some())
    {
        return Err(artefact("sparse tensors are not supported"));
    }
    for inner in attributes().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs)) {
        check_nodes(inner)?;
        // protobuf's own nesting limit (100) bounds this recursion.
        check_tensors(inner, budget)?;
    }
    check_constant_shapes(graph, budget)
}

fn check_tensor(tensor: &TensorProto) -> Result<()> {
    let name = || clean(&tensor.name);
    if tensor.data_location.unwrap_or(0) != 0 || !tensor.external_data.is_empty() {
        return Err(artefact(format!("tensor {} keeps its data in another file", name())));
    }
    let stored = if tensor.raw_data.is_empty() {
        let typed = [
            tensor.float_data.len(),
            tensor.int32_data.len(),
            tensor.int64_data.len(),
            tensor.double_data.len(),
            tensor.uint64_data.len(),
            tensor.string_data.len(),
        ];
        typed.into_iter().max().unwrap_or(0) as u64
    } else {
        tensor.raw_data.len() as u64 / element_bytes(tensor.data_type)
    };
    match elements(tensor.dims.iter().copied()) {
        Some(claimed) if claimed == stored => Ok(()),
        _ => Err(artefact(format!(
            "tensor {} claims shape {:?} but holds {stored} elements",
            name(),
            tensor.dims
        ))),
    }
}

/// Operators whose constant integer input is a shape: tract would evaluate them while it parses.
const SHAPED: [&str; 6] = ["ConstantOfShape", "Expand", "Reshape", "Resize", "Tile", "Upsample"];

fn check_constant_shapes(graph: &GraphProto, budget: u64) -> Result<()> {
    let constant = |name: &str| {
        let of_node = || {
            let node = graph
                .node
                .iter()
                .find(|node| node.op_type == "Constant" && node.output.iter().any(|o| o == name))?;
            node.attribute.iter().find_map(|attribute| attribute.t.as_ref())
        };
        graph.initializer.iter().find(|tensor| tensor.name == name).or_else(of_node)
    };
    for node in &graph.node {
        if node.op_type == "Range" {
            let ends: Vec<i64> =
                node.input.iter().filter_map(|name| constant(name)).flat_map(integers).collect();
            if let [start, limit, step] = ends[..]
                && step != 0
                && (limit.saturating_sub(start) / step).unsigned_abs() > budget / 8
            {
                return Err(too_much(&clean(&node.name), budget));
            }
        }
        if !SHAPED.contains(&node.op_type.as_str()) {
            continue;
        }
        for tensor in node.input.iter().filter_map(|name| constant(name)) {
            const MAX_RANK: usize = 8;
            let dims = integers(tensor);
            if dims.len() <= MAX_RANK
                && elements(dims.iter().map(|dim| (*dim).max(1))).is_none_or(|count| count > budget / 4)
            {
                return Err(too_much(&clean(&node.name), budget));
            }
        }
    }
    Ok(())
}

/// The values of an int64 tensor; nothing for other types.
fn integers(tensor: &TensorProto) -> Vec<i64> {
    const INT64: i32 = 7;
    if tensor.data_type != INT64 {
        return Vec::new();
    }
    let raw =
        tensor.raw_data.chunks_exact(8).filter_map(|bytes| bytes.try_into().ok()).map(i64::from_le_bytes);
    tensor.int64_data.iter().copied().chain(raw).collect()
}

/// The error for weights that were counted until they were too many.
fn too_heavy(budget: u64) -> Error {
    let message = format!("the weights of the model take more than the {} MiB allowed", budget >> 20);
    Error::new(Kind::Exhausted, message)
}

fn too_much(what: &str, budget: u64) -> Error {
    Error::new(Kind::Exhausted, format!("value {what} of the model would not fit into {} MiB", budget >> 20))
}

/// Every value whose shape is known, against the budget: before anything of that size exists. What does not
/// depend on the picture is evaluated while the graph is compiled and kept, so all of that together, too.
fn check_values(model: &InferenceModel, budget: u64) -> Result<()> {
    let mut constant = vec![false; model.nodes().len()];
    let (mut weights, mut made) = (0u64, 0u64);
    let order = model.eval_order().map_err(|cause| {
        artefact(format!("the graph cannot be used: {}", first_line(&cause))).because(cause)
    })?;
    for node in order.into_iter().filter_map(|index| model.nodes().get(index)) {
        // weights that were left in the file are inputs behind the first
        let is_weight =
            node.inputs.is_empty() && model.inputs.first().map(|first| first.node) != Some(node.id);
        let from_weights = |input: &OutletId| constant.get(input.node) == Some(&true);
        let is_constant = is_weight || !node.inputs.is_empty() && node.inputs.iter().all(from_weights);
        constant[node.id] = is_constant;
        let bytes = |shape: &[usize], element: usize| {
            shape.iter().try_fold(element as u64, |bytes, side| bytes.checked_mul(*side as u64))
        };
        for output in &node.outputs {
            let Ok(Some(shape)) = output.fact.shape.as_concrete_finite() else { continue };
            let element = output.fact.datum_type.concretize().map_or(4, |datum_type| datum_type.size_of());
            let bytes = bytes(&shape, element).filter(|bytes| *bytes <= budget);
            let bytes = bytes.ok_or_else(|| too_much(&clean(&node.name), budget))?;
            let sum = if is_weight { &mut weights } else { &mut made };
            if is_constant {
                *sum = sum.saturating_add(bytes);
            }
            if weights > budget {
                return Err(too_heavy(budget));
            }
            if made > budget {
                return Err(too_much(&clean(&node.name), budget));
            }
        }
    }
    Ok(())
}
