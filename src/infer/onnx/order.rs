//! Whether a graph can be computed at all: everything that is read is made, and nothing is made from itself.

use super::{artefact, clean};
use crate::error::Result;
use std::collections::HashMap;
use tract_onnx::pb::GraphProto;

/// Checks the names of the outer graph; those inside nodes may also read what lies around them. `is_kept`:
/// weights that were taken out of the graph.
pub(super) fn check(graph: &GraphProto, is_kept: &dyn Fn(&str) -> bool) -> Result<()> {
    let mut makers: HashMap<&str, usize> = HashMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        makers.extend(node.output.iter().filter(|name| !name.is_empty()).map(|name| (name.as_str(), index)));
    }
    let given = graph
        .input
        .iter()
        .map(|value| &value.name)
        .chain(graph.initializer.iter().map(|tensor| &tensor.name));
    let given: std::collections::HashSet<&str> = given.map(String::as_str).collect();
    let is_given = |name: &str| given.contains(name) || is_kept(name);
    for node in &graph.node {
        let unknown =
            |name: &&String| !name.is_empty() && !makers.contains_key(name.as_str()) && !is_given(name);
        if let Some(name) = node.input.iter().find(unknown) {
            let (reader, name) = (clean(&node.name), clean(name));
            return Err(artefact(format!(
                "the graph cannot be used: node {reader} reads {name}, which nothing makes"
            )));
        }
    }
    if let Some(output) = graph
        .output
        .iter()
        .find(|output| !makers.contains_key(output.name.as_str()) && !is_given(&output.name))
    {
        let name = clean(&output.name);
        return Err(artefact(format!("the graph cannot be used: nothing makes its output {name}")));
    }

    // nodes whose operands are known, again and again: what is left waits for itself
    let mut waits = vec![0usize; graph.node.len()];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); graph.node.len()];
    for (index, node) in graph.node.iter().enumerate() {
        for maker in node.input.iter().filter_map(|name| makers.get(name.as_str())) {
            readers[*maker].push(index);
            waits[index] += 1;
        }
    }
    let mut known: Vec<usize> = (0..waits.len()).filter(|index| waits[*index] == 0).collect();
    while let Some(index) = known.pop() {
        for &reader in &readers[index] {
            waits[reader] -= 1;
            if waits[reader] == 0 {
                known.push(reader);
            }
        }
    }
    match graph.node.iter().zip(&waits).find(|(_, waits)| **waits > 0) {
        None => Ok(()),
        Some((node, _)) => {
            let name = clean(&node.name);
            Err(artefact(format!(
                "the graph cannot be used: node {name} needs its own result, or that of such a node"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tract_onnx::pb::{NodeProto, ValueInfoProto};

    fn graph(nodes: &[(&[&str], &str)], output: &str) -> GraphProto {
        let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let node = |(inputs, output): &(&[&str], &str)| NodeProto {
            name: format!("make {output}"),
            input: texts(inputs),
            output: texts(&[output]),
            ..NodeProto::default()
        };
        let value = |name: &str| ValueInfoProto { name: name.to_owned(), ..ValueInfoProto::default() };
        GraphProto {
            node: nodes.iter().map(node).collect(),
            input: vec![value("x")],
            output: vec![value(output)],
            ..GraphProto::default()
        }
    }

    #[test]
    fn what_cannot_be_computed_is_named() {
        let check = |nodes: &[(&[&str], &str)], output| {
            check(&graph(nodes, output), &|name| name == "w").map_err(|e| e.message().to_owned())
        };
        // in any order, with operands left out and weights that lie elsewhere
        assert_eq!(check(&[(&["a", "", "w"], "b"), (&["x"], "a")], "b"), Ok(()));
        assert!(check(&[(&["x"], "a")], "b").unwrap_err().contains("nothing makes its output b"));
        assert!(
            check(&[(&["y"], "b")], "b").unwrap_err().contains("node make b reads y, which nothing makes")
        );
        assert!(
            check(&[(&["x", "b"], "a"), (&["a"], "b")], "b")
                .unwrap_err()
                .contains("node make a needs its own result")
        );
        assert!(check(&[(&["a"], "a")], "a").unwrap_err().contains("node make a needs"));
    }
}
