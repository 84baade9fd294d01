//! Older forms of operators become newer ones, before tract sees them: one form of each is built and tested.
//!
//! What was an attribute in an older operator set and is an input in a newer one is made an input;
//! `operators.rs` builds these operators as of the newer set.

use super::precision::{FLOAT, INT64};
use super::{artefact, clean};
use crate::error::Result;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto};

/// Brings the nodes of a graph of operator set `version`, and of those inside it, to the newest form.
pub(super) fn bring_up(graph: &mut GraphProto, version: i64) -> Result<()> {
    graph.node = nodes(std::mem::take(&mut graph.node), version)?;
    Ok(())
}

/// The same for nodes of a function. What is of the newest form stays as it is.
pub(super) fn nodes(given: Vec<NodeProto>, version: i64) -> Result<Vec<NodeProto>> {
    let mut nodes = Vec::with_capacity(given.len());
    for mut node in given {
        for inner in node
            .attribute
            .iter_mut()
            .flat_map(|attribute| attribute.g.iter_mut().chain(&mut attribute.graphs))
        {
            // protobuf's own nesting limit (100) bounds this recursion
            bring_up(inner, version)?;
        }
        let number = nodes.len();
        One { node: &mut node, added: &mut nodes, number }.bring_up(version)?;
        nodes.push(node);
    }
    Ok(nodes)
}

/// Lists that were attributes before operator set 13 become inputs, as from then on; nothing else changes.
pub(super) fn to_inputs(graph: &mut GraphProto) {
    let mut nodes = Vec::with_capacity(graph.node.len());
    for mut node in std::mem::take(&mut graph.node) {
        let inner = node
            .attribute
            .iter_mut()
            .flat_map(|attribute| attribute.g.iter_mut().chain(&mut attribute.graphs));
        // protobuf's own nesting limit (100) bounds this recursion
        inner.for_each(to_inputs);
        let number = nodes.len();
        let list = match node.op_type.as_str() {
            "Squeeze" | "Unsqueeze" | "ReduceSum" => Some("axes"),
            "Split" => Some("split"),
            _ => None,
        };
        if let Some(list) = list {
            One { node: &mut node, added: &mut nodes, number }.input_of(list);
        }
        nodes.push(node);
    }
    graph.node = nodes;
}

struct One<'a> {
    node: &'a mut NodeProto,
    /// Nodes of constants that the new form needs.
    added: &'a mut Vec<NodeProto>,
    number: usize,
}

impl One<'_> {
    fn bring_up(&mut self, version: i64) -> Result<()> {
        match self.node.op_type.as_str() {
            // an input that is there already: brought up before, as a part of a function
            "Slice" | "Pad" | "TopK" if self.node.input.len() > 1 => {}
            "Slice" if version < 10 => {
                let (starts, ends) = (self.take_ints("starts")?, self.take_ints("ends")?);
                let axes =
                    self.take("axes").map_or_else(|| (0..starts.len() as i64).collect(), |axes| axes.ints);
                self.at(1, "starts", starts);
                self.at(2, "ends", ends);
                self.at(3, "axes", axes);
            }
            "Pad" if version < 11 => {
                let pads = self.take_ints("pads")?;
                let value = self.take("value").map_or(0.0, |value| value.f);
                self.at(1, "pads", pads);
                self.floats_at(2, "value", vec![value], true);
            }
            "Clip" if version < 11 => {
                for (place, name) in [(1, "min"), (2, "max")] {
                    if let Some(bound) = self.take(name) {
                        self.floats_at(place, name, vec![bound.f], true);
                    }
                }
            }
            "Upsample" => {
                self.node.op_type = String::from("Resize");
                if let Some(scales) = self.take("scales") {
                    self.floats_at(1, "scales", scales.floats, false);
                }
            }
            "TopK" if version < 10 => {
                let k = self.take("k").ok_or_else(|| artefact("TopK does not say how many"))?.i;
                self.at(1, "k", vec![k]);
            }
            "Squeeze" | "Unsqueeze" => self.input_of("axes"),
            "Split" => self.input_of("split"),
            reduction if reduction.starts_with("Reduce") => self.input_of("axes"),
            "Scatter" => self.node.op_type = String::from("ScatterElements"),
            _ => {}
        }
        Ok(())
    }

    fn take(&mut self, name: &str) -> Option<AttributeProto> {
        let place = self.node.attribute.iter().position(|attribute| attribute.name == name)?;
        Some(self.node.attribute.remove(place))
    }

    fn take_ints(&mut self, name: &str) -> Result<Vec<i64>> {
        let missing =
            format!("{} (node {}) lacks its {name}", clean(&self.node.op_type), clean(&self.node.name));
        self.take(name).map(|attribute| attribute.ints).ok_or_else(|| artefact(missing))
    }

    /// The list `name` becomes the second input, where it is there.
    fn input_of(&mut self, name: &str) {
        if let Some(list) = self.take(name) {
            self.at(1, name, list.ints);
        }
    }

    fn at(&mut self, place: usize, name: &str, values: Vec<i64>) {
        let dims = vec![values.len() as i64];
        self.put(
            place,
            TensorProto {
                name: self.name(name),
                dims,
                data_type: INT64,
                int64_data: values,
                ..TensorProto::default()
            },
        );
    }

    fn floats_at(&mut self, place: usize, name: &str, values: Vec<f32>, scalar: bool) {
        let dims = if scalar { Vec::new() } else { vec![values.len() as i64] };
        self.put(
            place,
            TensorProto {
                name: self.name(name),
                dims,
                data_type: FLOAT,
                float_data: values,
                ..TensorProto::default()
            },
        );
    }

    fn name(&self, name: &str) -> String {
        format!("weir/{}/{}/{name}", self.number, self.node.output.first().map_or("", String::as_str))
    }

    fn put(&mut self, place: usize, tensor: TensorProto) {
        while self.node.input.len() <= place {
            self.node.input.push(String::new());
        }
        let name = tensor.name.clone();
        self.node.input[place] = name.clone();
        const TENSOR: i32 = 4;
        let value = AttributeProto {
            name: String::from("value"),
            r#type: TENSOR,
            t: Some(tensor),
            ..AttributeProto::default()
        };
        let op_type = String::from("Constant");
        self.added.push(NodeProto {
            op_type,
            name: name.clone(),
            output: vec![name],
            attribute: vec![value],
            ..NodeProto::default()
        });
    }
}
