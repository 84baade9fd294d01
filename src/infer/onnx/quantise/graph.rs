//! What planning and writing ask of a graph.

use crate::error::Result;
use crate::infer::onnx::artefact;
use crate::infer::onnx::precision::FLOAT;
use std::collections::{HashMap, HashSet};
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto};

/// Who makes and who reads each value, and which are constants.
pub(super) struct Index<'a> {
    readers: HashMap<&'a str, Vec<usize>>,
    makers: HashMap<&'a str, usize>,
    pub(super) constants: HashMap<&'a str, &'a TensorProto>,
    pub(super) outputs: HashSet<&'a str>,
}

impl<'a> Index<'a> {
    pub(super) fn of(graph: &'a GraphProto) -> Index<'a> {
        let mut readers: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut makers = HashMap::new();
        let mut constants: HashMap<&str, &TensorProto> =
            graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        for (index, node) in graph.node.iter().enumerate() {
            for name in reads(node) {
                readers.entry(name).or_default().push(index);
            }
            makers.extend(node.output.iter().map(|name| (name.as_str(), index)));
            if let ("Constant", [output], Some(tensor)) =
                (node.op_type.as_str(), &node.output[..], node.attribute.iter().find_map(|a| a.t.as_ref()))
            {
                constants.insert(output, tensor);
            }
        }
        let outputs = graph.output.iter().map(|value| value.name.as_str()).collect();
        Index { readers, makers, constants, outputs }
    }

    /// Places of the nodes that read a value.
    pub(super) fn readers(&self, name: &str) -> &[usize] {
        self.readers.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Place of the node that makes it.
    pub(super) fn maker(&self, name: &str) -> Option<usize> {
        self.makers.get(name).copied()
    }
}

/// Names that a node reads, those that graphs inside it read from around it among them.
fn reads(node: &NodeProto) -> Vec<&str> {
    let mut found: Vec<&str> =
        node.input.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    let mut attributes: Vec<&AttributeProto> = node.attribute.iter().collect();
    while let Some(attribute) = attributes.pop() {
        for inner in attribute.g.iter().chain(&attribute.graphs) {
            found.extend(inner.output.iter().map(|value| value.name.as_str()));
            for node in &inner.node {
                found.extend(node.input.iter().map(String::as_str));
                attributes.extend(&node.attribute);
            }
        }
    }
    found
}

/// Puts the nodes into an order in which everything is made before it is read.
pub(super) fn sort(graph: &mut GraphProto) -> Result<()> {
    let mut makers: HashMap<&str, usize> = HashMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        makers.extend(node.output.iter().filter(|name| !name.is_empty()).map(|name| (name.as_str(), index)));
    }
    let mut waits = vec![0usize; graph.node.len()];
    let mut next: Vec<Vec<usize>> = vec![Vec::new(); graph.node.len()];
    for (index, node) in graph.node.iter().enumerate() {
        for maker in reads(node).into_iter().filter_map(|name| makers.get(name)) {
            if let (Some(count), Some(next)) = (waits.get_mut(index), next.get_mut(*maker)) {
                *count += 1;
                next.push(index);
            }
        }
    }
    // those that come first in the file come first here
    let mut ready: std::collections::BTreeSet<usize> =
        waits.iter().enumerate().filter(|(_, count)| **count == 0).map(|(index, _)| index).collect();
    let mut order = Vec::with_capacity(waits.len());
    while let Some(index) = ready.pop_first() {
        order.push(index);
        for reader in next.get(index).into_iter().flatten() {
            if let Some(count) = waits.get_mut(*reader) {
                *count -= 1;
                if *count == 0 {
                    ready.insert(*reader);
                }
            }
        }
    }
    if order.len() < waits.len() {
        return Err(artefact("the graph cannot be used: nodes wait for each other"));
    }
    let mut nodes: Vec<Option<NodeProto>> = std::mem::take(&mut graph.node).into_iter().map(Some).collect();
    graph.node = order.into_iter().filter_map(|index| nodes.get_mut(index)?.take()).collect();
    Ok(())
}

/// Takes away what no output needs.
pub(super) fn keep_needed(graph: &mut GraphProto) {
    let mut needed: HashSet<String> = graph.output.iter().map(|value| value.name.clone()).collect();
    let mut kept = Vec::new();
    for node in std::mem::take(&mut graph.node).into_iter().rev() {
        if node.output.iter().any(|name| needed.contains(name)) {
            needed.extend(reads(&node).into_iter().map(str::to_owned));
            kept.push(node);
        }
    }
    kept.reverse();
    graph.node = kept;
    graph.initializer.retain(|tensor| needed.contains(&tensor.name));
    // before IR version 4 every initialiser had to be an input, too; the picture stays whatever becomes of it
    let weights: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    graph.input.retain(|value| needed.contains(&value.name) && !weights.contains(value.name.as_str()));
}

/// The floats of a tensor; `None` for other types.
pub(super) fn floats(tensor: &TensorProto) -> Option<Vec<f32>> {
    if tensor.data_type != FLOAT {
        return None;
    }
    let raw = tensor.raw_data.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four));
    Some(tensor.float_data.iter().copied().chain(raw).collect())
}

pub(super) fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

/// The text of an attribute; empty where it is not given.
pub(super) fn word(node: &NodeProto, name: &str) -> String {
    attribute(node, name)
        .map(|attribute| String::from_utf8_lossy(&attribute.s).into_owned())
        .unwrap_or_default()
}
