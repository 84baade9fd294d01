//! What a graph still needs once some of its nodes were replaced.

use crate::infer::onnx::refuse::graphs_of;
use std::collections::{HashMap, HashSet};
use tract_onnx::pb::{AttributeProto, GraphProto};

/// Drops the nodes that no output needs; gives the names of all values that are read.
pub(super) fn sweep(graph: &mut GraphProto) -> HashSet<String> {
    let mut makers: HashMap<&str, usize> = HashMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        makers.extend(node.output.iter().filter(|name| !name.is_empty()).map(|name| (name.as_str(), index)));
    }
    let mut read: HashSet<&str> = HashSet::new();
    let mut wanted: Vec<&str> = graph.output.iter().map(|value| value.name.as_str()).collect();
    let mut is_live = vec![false; graph.node.len()];
    while let Some(name) = wanted.pop() {
        if !read.insert(name) {
            continue;
        }
        let Some(index) = makers.get(name).copied() else { continue };
        if let (Some(node), Some(live @ false)) = (graph.node.get(index), is_live.get_mut(index)) {
            *live = true;
            wanted.extend(node.input.iter().map(String::as_str));
            read_inside(&node.attribute, &mut wanted);
        }
    }
    let read = read.into_iter().map(str::to_owned).collect();
    let mut live = is_live.into_iter();
    graph.node.retain(|_| live.next() == Some(true));
    read
}

/// Names that the graphs inside a node read or give.
fn read_inside<'a>(attributes: &'a [AttributeProto], wanted: &mut Vec<&'a str>) {
    for inner in attributes.iter().flat_map(graphs_of) {
        wanted.extend(inner.output.iter().map(|value| value.name.as_str()));
        for node in &inner.node {
            wanted.extend(node.input.iter().map(String::as_str));
            // protobuf's own nesting limit (100) bounds this recursion
            read_inside(&node.attribute, wanted);
        }
    }
}

/// Drops the stored tensors that nothing reads.
pub(super) fn forget(graph: &mut GraphProto, read: &HashSet<String>) {
    // before IR version 4 every one of them had to be an input, too
    let mut dropped = HashSet::new();
    graph.initializer.retain(|tensor| {
        let is_read = read.contains(&tensor.name);
        if !is_read {
            dropped.insert(tensor.name.clone());
        }
        is_read
    });
    graph.input.retain(|value| !dropped.contains(&value.name));
}
