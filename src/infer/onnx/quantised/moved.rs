//! Operators that only move or choose numbers, on values of 8 bits whose scale is known from their maker.

use super::constants::whole;
use super::{Known, Levels, Rewriter, input};
use crate::infer::onnx::precision::FLOAT;
use crate::infer::onnx::refuse;
use tract_onnx::pb::{NodeProto, TensorProto};

/// Which outputs of an operator are numbers of its first input.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moves {
    All,
    /// The others are places.
    First,
    /// All are places.
    None,
}

fn moves(op: &str) -> Option<Moves> {
    Some(match op {
        "Concat" | "DepthToSpace" | "Expand" | "Flatten" | "Gather" | "GatherElements" | "GatherND"
        | "GlobalMaxPool" | "Identity" | "Pad" | "ReduceMax" | "ReduceMin" | "Reshape" | "Resize"
        | "Slice" | "SpaceToDepth" | "Split" | "Squeeze" | "Tile" | "Transpose" | "Unsqueeze" => Moves::All,
        "MaxPool" | "TopK" => Moves::First,
        "ArgMax" | "ArgMin" => Moves::None,
        _ => return None,
    })
}

impl Rewriter<'_> {
    /// Whether the node was replaced by one that moves floats.
    pub(super) fn moved(&mut self, node: &NodeProto) -> bool {
        let Some(moves) = moves(&node.op_type) else { return false };
        let (Some(value), Some(known)) = (node.input.first(), self.known.get(input(node, 0)).cloned()) else {
            return false;
        };
        let mut moved = node.clone();
        match known {
            // the bytes themselves are moved as well: their scale and zero point stay what they are
            Known::Dynamic { scale, zero, floats } => {
                let blends = refuse::word(node, "mode", "nearest") != "nearest";
                let other = match node.op_type.as_str() {
                    "Concat" | "Pad" => true,
                    "Resize" => blends,
                    _ => moves == Moves::None,
                };
                let ([output], false) = (&node.output[..], other) else { return false };
                moved.input[0] = floats;
                let made = self.add(&node.op_type, moved.input, moved.attribute);
                self.known.insert(output.clone(), Known::Dynamic { scale, zero, floats: made });
                false
            }
            Known::Static(levels) => {
                let count = if node.op_type == "Concat" { node.input.len() } else { 1 };
                let same = |name: &String| match self.known.get(name) {
                    Some(Known::Static(other)) => other.same(&levels),
                    _ => false,
                };
                if !node.input.iter().take(count).all(same) || !self.pads(&mut moved, &levels) {
                    return false;
                }
                let values: Vec<String> = if count == 1 { vec![value.clone()] } else { node.input.clone() };
                for (place, value) in values.iter().enumerate() {
                    let Ok(floats) = self.floats(value, &levels) else { return false };
                    moved.input[place] = floats;
                }
                let mut made = Vec::new();
                for (slot, output) in moved.output.iter_mut().enumerate() {
                    let is_number = moves == Moves::All || moves == Moves::First && slot == 0;
                    if is_number && !output.is_empty() {
                        let floats = self.fresh(&node.op_type);
                        made.push((floats.clone(), std::mem::replace(output, floats)));
                    }
                }
                self.nodes.push(moved);
                for (floats, output) in made {
                    self.bytes(floats, levels.clone(), &output);
                }
                true
            }
        }
    }

    /// What is put around or outside a value, as a float; whether that can be said.
    fn pads(&mut self, node: &mut NodeProto, levels: &Levels) -> bool {
        let outside = node.attribute.iter().any(|attribute| attribute.name == "extrapolation_value");
        if node.op_type != "Pad" || refuse::word(node, "mode", "constant") != "constant" {
            return node.op_type != "Resize" || !outside;
        }
        let number = match input(node, 2) {
            "" => 0,
            name => match self.stored(name).and_then(whole).map(|numbers| numbers.to_vec()).as_deref() {
                Some([number]) => *number,
                _ => return false,
            },
        };
        let value = (i64::from(number) - i64::from(levels.zero_point)) as f32 * levels.step;
        let tensor = TensorProto { data_type: FLOAT, float_data: vec![value], ..TensorProto::default() };
        while node.input.len() < 3 {
            node.input.push(String::new());
        }
        node.input[2] = self.constant("pad", tensor);
        true
    }
}
