//! What a graph wants to be fed, and the nodes that make it from what engines are fed: planes of 32-bit
//! floats.

use super::precision::{FLOAT, INT32, INT64, UINT8};
use super::{artefact, clean};
use crate::error::Result;
use tract_onnx::pb::tensor_shape_proto::Dimension;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as Dim;
use tract_onnx::pb::{
    AttributeProto, GraphProto, NodeProto, TensorProto, TypeProto, ValueInfoProto, type_proto,
};

/// The picture that the graph wants. `None` where the file leaves a dimension open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Input {
    /// Pictures in a run; `None`: the graph leaves it open.
    pub batch: Option<usize>,
    /// Height, pixels; `None`: the graph leaves it open.
    pub height: Option<usize>,
    /// Width, pixels; `None`: the graph leaves it open.
    pub width: Option<usize>,
    /// `[N, H, W, 3]` instead of `[N, 3, H, W]`.
    pub interleaved: bool,
    /// 8-bit pixels from 0 to 255 instead of floats.
    pub bytes: bool,
}

/// Most pictures that a file may want at a time; exporters are asked for 1 to 32.
const MAX_FRAMES: usize = 64;

impl Input {
    /// How many pictures one run takes.
    pub fn frames(&self) -> usize {
        self.batch.unwrap_or(1)
    }

    /// The planes that engines are fed, from numbers in the file's own order; `None` when there are not as
    /// many as a `width` × `height` picture or batch has.
    pub(in crate::infer) fn planes(&self, given: &[f32], width: usize, height: usize) -> Option<Vec<f32>> {
        let pixels = width.checked_mul(height)?;
        if given.len() != pixels.checked_mul(3 * self.frames())? {
            return None;
        }
        if !self.interleaved {
            return Some(given.to_vec());
        }
        let picture = |frame: &[f32]| {
            (0..3).flat_map(|c| frame.iter().skip(c).step_by(3).copied().collect::<Vec<_>>()).collect()
        };
        Some(given.chunks_exact(3 * pixels).flat_map(|frame| -> Vec<f32> { picture(frame) }).collect())
    }
}

/// The input that pictures go into, and what has to be put before it.
pub(super) struct Found {
    pub(super) input: Input,
    pub(super) name: String,
    /// Nothing has to be put before the graph.
    pub(super) plain: bool,
}

/// Other inputs that some detectors have, by their names: all tell the picture's size, which for us is that
/// of the input.
const SIZES: [(&str, Size); 7] = [
    ("orig_target_sizes", Size::WidthHeight),
    ("target_sizes", Size::WidthHeight),
    ("orig_size", Size::WidthHeight),
    ("im_shape", Size::HeightWidth),
    ("image_shape", Size::HeightWidth),
    ("im_info", Size::HeightWidthOne),
    ("scale_factor", Size::Ones),
];

#[derive(Debug, Clone, Copy)]
enum Size {
    /// Width, then height: RT-DETR, D-FINE, DEIM.
    WidthHeight,
    /// Height, then width: PaddleDetection, Keras' YOLOv3.
    HeightWidth,
    HeightWidthOne,
    /// The picture is not scaled.
    Ones,
}

fn size_named(name: &str) -> Option<Size> {
    SIZES
        .iter()
        .find(|(known, _)| name == *known || name.ends_with(&format!("/{known}")))
        .map(|(_, size)| *size)
}

/// Element type and dimensions; `None` for what is no tensor.
fn tensor_of(value: &ValueInfoProto) -> Option<(i32, Option<Vec<Option<usize>>>)> {
    let Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), .. }) = &value.r#type else {
        return None;
    };
    let dims = tensor.shape.as_ref().map(|shape| {
        let size = |dim: &Dimension| match dim.value {
            Some(Dim::DimValue(size)) if size > 0 => usize::try_from(size).ok(),
            _ => None, // A name, nothing, 0 or -1: left open.
        };
        shape.dim.iter().map(size).collect()
    });
    Some((tensor.elem_type, dims))
}

/// Finds the picture among the inputs, and whether all others are known.
pub(super) fn find(graph: &GraphProto) -> Result<Found> {
    let is_weight = |input: &ValueInfoProto| graph.initializer.iter().any(|tensor| tensor.name == input.name);
    let inputs: Vec<&ValueInfoProto> = graph.input.iter().filter(|input| !is_weight(input)).collect();
    let (known, pictures): (Vec<&ValueInfoProto>, Vec<&ValueInfoProto>) =
        inputs.iter().partition(|input| inputs.len() > 1 && size_named(&input.name).is_some());
    let picture = match pictures[..] {
        [] => return Err(artefact("the graph has no input for a picture")),
        [picture] => picture,
        _ => {
            let names: Vec<String> = pictures.iter().map(|input| clean(&input.name)).collect();
            let message =
                format!("the graph does not have exactly one input for a picture: {}", names.join(", "));
            return Err(artefact(message));
        }
    };
    let Some((element, dims)) = tensor_of(picture) else {
        return Err(artefact("the input of the graph is no tensor"));
    };
    let dims = dims.ok_or_else(|| artefact("the input of the graph has no shape"))?;
    if ![FLOAT, UINT8].contains(&element) {
        return Err(artefact("the input of the graph is neither of floats nor of 8-bit pixels"));
    }
    let [batch, first, second, third] = dims[..] else {
        return Err(artefact(format!("the input of the graph has {} dimensions, not 4", dims.len())));
    };
    let interleaved = match (first, third) {
        (Some(3), _) => false,
        (_, Some(3)) => true,
        (None, _) => false,
        _ => {
            return Err(artefact(format!(
                "the input of the graph does not have 3 channels, first or last: {dims:?}"
            )));
        }
    };
    let (height, width) = if interleaved { (first, second) } else { (second, third) };
    let input = Input { batch, height, width, interleaved, bytes: element == UINT8 };
    if input.frames() > MAX_FRAMES {
        return Err(artefact(format!(
            "the graph takes {} pictures at a time, more than {MAX_FRAMES}",
            input.frames()
        )));
    }
    for other in &known {
        let element = tensor_of(other).map_or(0, |(element, _)| element);
        if ![FLOAT, INT32, INT64].contains(&element) {
            return Err(artefact(format!(
                "the input {} of the graph is of no type for a size",
                clean(&other.name)
            )));
        }
    }
    let plain = known.is_empty() && !interleaved && !input.bytes && input.frames() == 1;
    Ok(Found { input, name: picture.name.clone(), plain })
}

/// Makes the graph take `[frames, 3, height, width]` floats as its one input.
pub(super) fn put_before(graph: &mut GraphProto, input: &Input, (width, height): (usize, usize)) {
    let is_weight = |value: &ValueInfoProto, graph: &GraphProto| {
        graph.initializer.iter().any(|tensor| tensor.name == value.name)
    };
    let several = graph.input.iter().filter(|value| !is_weight(value, graph)).count() > 1;
    let mut kept = Vec::new();
    for value in std::mem::take(&mut graph.input) {
        match size_named(&value.name).filter(|_| several && !is_weight(&value, graph)) {
            None => kept.push(value),
            Some(size) => {
                let element = tensor_of(&value).map_or(FLOAT, |(element, _)| element);
                graph.initializer.push(sizes(value.name, element, size, input.frames(), (width, height)));
            }
        }
    }
    graph.input = kept;
    let picture = graph.input.iter().position(|value| !is_weight(value, graph));
    let Some(picture) = picture.and_then(|index| graph.input.get_mut(index)) else { return };
    if !input.interleaved && !input.bytes {
        return;
    }
    let wanted = std::mem::replace(&mut picture.name, String::from("weir/picture"));
    if let Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), .. }) = &mut picture.r#type {
        tensor.elem_type = FLOAT;
        tensor.shape = None;
    }
    let mut last = picture.name.clone();
    let mut begin = Vec::new();
    if input.interleaved {
        let perm = AttributeProto { ints: vec![0, 2, 3, 1], ..attribute("perm", INTS) };
        let made = if input.bytes { String::from("weir/pixels") } else { wanted.clone() };
        begin.push(node("Transpose", "weir/transpose", &last, &made, perm));
        last = made;
    }
    if input.bytes {
        let to = AttributeProto { i: i64::from(UINT8), ..attribute("to", INT) };
        begin.push(node("Cast", "weir/bytes", &last, &wanted, to));
    }
    begin.append(&mut graph.node);
    graph.node = begin;
}

const INT: i32 = 2;
const INTS: i32 = 7;

fn attribute(name: &str, r#type: i32) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type, ..AttributeProto::default() }
}

fn node(op_type: &str, name: &str, input: &str, output: &str, attribute: AttributeProto) -> NodeProto {
    NodeProto {
        op_type: op_type.to_owned(),
        name: name.to_owned(),
        input: vec![input.to_owned()],
        output: vec![output.to_owned()],
        attribute: vec![attribute],
        ..NodeProto::default()
    }
}

fn sizes(
    name: String,
    element: i32,
    size: Size,
    frames: usize,
    (width, height): (usize, usize),
) -> TensorProto {
    let one = match size {
        Size::WidthHeight => vec![width, height],
        Size::HeightWidth => vec![height, width],
        Size::HeightWidthOne => vec![height, width, 1],
        Size::Ones => vec![1, 1],
    };
    let all: Vec<i64> =
        one.repeat(frames).into_iter().map(|value| i64::try_from(value).unwrap_or(i64::MAX)).collect();
    let dims = vec![i64::try_from(frames).unwrap_or(1), i64::try_from(one.len()).unwrap_or(1)];
    let mut tensor = TensorProto { name, dims, data_type: element, ..TensorProto::default() };
    match element {
        INT64 => tensor.int64_data = all,
        INT32 => tensor.int32_data = all.into_iter().map(|value| value as i32).collect(),
        _ => tensor.float_data = all.into_iter().map(|value| value as f32).collect(),
    }
    tensor
}
