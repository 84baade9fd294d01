//! Functions that a model defines for itself: each call becomes the nodes of the function.

use super::{artefact, check_opset, clean, modern, opset_in};
use crate::error::Result;
use std::collections::{HashMap, HashSet};
use tract_onnx::pb::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto};

/// Deepest nesting of functions that call functions; exporters of torch.nn modules reach about ten.
const MAX_DEPTH: usize = 32;
/// Most nodes that come out; doubling at every level would fill the memory otherwise.
const MAX_NODES: usize = super::MAX_NODES;

/// Replaces every call in the graph, until none is left.
pub(super) fn inline(proto: &mut ModelProto) -> Result<()> {
    if proto.functions.is_empty() {
        return Ok(());
    }
    let version = opset_in(&proto.opset_import);
    let mut functions = std::mem::take(&mut proto.functions);
    for function in &mut functions {
        let own = opset_in(&function.opset_import);
        if own == 0 || own == version {
            continue;
        }
        check_opset(own)?;
        let changed = function.node.iter().find(|node| means_something_else(&node.op_type, own, version));
        if let Some(node) = changed {
            let (name, op) = (clean(function.name.as_deref().unwrap_or_default()), clean(&node.op_type));
            let message = format!(
                "function {name} uses {op} of ONNX operator set {own}, the graph {version}: both must be the same"
            );
            return Err(artefact(message));
        }
        function.node = modern::nodes(std::mem::take(&mut function.node), own)?;
    }
    let mut inliner = Inliner { functions: HashMap::new(), calls: 0, nodes: 0 };
    for function in &functions {
        let key =
            (function.domain.as_deref().unwrap_or_default(), function.name.as_deref().unwrap_or_default());
        inliner.functions.insert(key, function);
    }
    proto.graph.as_mut().map_or(Ok(()), |graph| inliner.graph(graph, 0))
}

/// Operators whose one form means different things in the two operator sets, `modern.rs` or not.
fn means_something_else(op: &str, one: i64, other: i64) -> bool {
    const CHANGED: [(&str, i64); 6] = [
        ("Softmax", 13),
        ("LogSoftmax", 13),
        ("Hardmax", 13),
        ("GroupNormalization", 21),
        ("Resize", 11),
        ("Upsample", 11),
    ];
    CHANGED.iter().any(|(name, since)| op == *name && (one < *since) != (other < *since))
}

struct Inliner<'a> {
    functions: HashMap<(&'a str, &'a str), &'a FunctionProto>,
    /// Calls that were put in, which makes the names of their values unique.
    calls: usize,
    nodes: usize,
}

impl Inliner<'_> {
    fn graph(&mut self, graph: &mut GraphProto, depth: usize) -> Result<()> {
        let nodes = std::mem::take(&mut graph.node);
        graph.node = self.nodes(nodes, depth)?;
        Ok(())
    }

    fn nodes(&mut self, nodes: Vec<NodeProto>, depth: usize) -> Result<Vec<NodeProto>> {
        if depth > MAX_DEPTH {
            return Err(artefact(format!("functions call each other more than {MAX_DEPTH} deep")));
        }
        let mut result = Vec::with_capacity(nodes.len());
        for mut node in nodes {
            for inner in node
                .attribute
                .iter_mut()
                .flat_map(|attribute| attribute.g.iter_mut().chain(&mut attribute.graphs))
            {
                self.graph(inner, depth)?;
            }
            match self.functions.get(&(node.domain.as_str(), node.op_type.as_str())).copied() {
                None => result.push(node),
                Some(function) => {
                    let body = self.call(&node, function)?;
                    result.extend(self.nodes(body, depth + 1)?);
                }
            }
            self.nodes += 1;
            if self.nodes.max(result.len()) > MAX_NODES {
                return Err(artefact(format!(
                    "the graph has more than {MAX_NODES} nodes with its functions put in"
                )));
            }
        }
        Ok(result)
    }

    /// The nodes of one call, with names of their own.
    fn call(&mut self, node: &NodeProto, function: &FunctionProto) -> Result<Vec<NodeProto>> {
        self.calls += 1;
        let mut names: HashMap<&str, String> = HashMap::new();
        let bound = function.input.iter().zip(&node.input).chain(function.output.iter().zip(&node.output));
        for (formal, actual) in bound {
            names.insert(formal, actual.clone());
        }
        let made: HashSet<&str> =
            function.node.iter().flat_map(|inner| &inner.output).map(String::as_str).collect();
        let prefix = format!("{}#{}", node.name, self.calls);
        // a formal input without an actual one is an input that is left out
        let absent: HashSet<&str> =
            function.input.iter().skip(node.input.len()).map(String::as_str).collect();
        let rename = |name: &str| match names.get(name) {
            Some(actual) if !actual.is_empty() || !made.contains(name) => actual.clone(),
            _ if name.is_empty() || absent.contains(name) => String::new(),
            _ => format!("{prefix}/{name}"),
        };
        let mut body = function.node.clone();
        for inner in &mut body {
            rename_node(inner, &rename);
            // One without a name is called by its output, which has one of its own.
            if !inner.name.is_empty() {
                inner.name = format!("{prefix}/{}", inner.name);
            }
            fill_in(inner, node, function)?;
        }
        Ok(body)
    }
}

fn rename_node(node: &mut NodeProto, rename: &dyn Fn(&str) -> String) {
    for name in node.input.iter_mut().chain(&mut node.output) {
        *name = rename(name);
    }
    for inner in
        node.attribute.iter_mut().flat_map(|attribute| attribute.g.iter_mut().chain(&mut attribute.graphs))
    {
        for value in inner.input.iter_mut().chain(&mut inner.output) {
            value.name = rename(&value.name);
        }
        inner.initializer.iter_mut().for_each(|tensor| tensor.name = rename(&tensor.name));
        // protobuf's own nesting limit (100) bounds this recursion
        inner.node.iter_mut().for_each(|node| rename_node(node, rename));
    }
}

/// Attributes that refer to those of the call. A function may have defaults for some; where they stand in the
/// file tract's reader does not look.
fn fill_in(node: &mut NodeProto, call: &NodeProto, function: &FunctionProto) -> Result<()> {
    let attributes = std::mem::take(&mut node.attribute);
    for attribute in attributes {
        let wanted = attribute.ref_attr_name.as_str();
        if wanted.is_empty() {
            node.attribute.push(attribute);
        } else if let Some(given) = call.attribute.iter().find(|given| given.name == wanted) {
            node.attribute.push(AttributeProto { name: attribute.name, ..given.clone() });
        } else if !function.attribute.iter().any(|name| name == wanted) {
            let (function, wanted) = (clean(&call.op_type), clean(wanted));
            return Err(artefact(format!(
                "function {function} has a default for its attribute {wanted}, which is not supported"
            )));
        }
    }
    let inner =
        node.attribute.iter_mut().flat_map(|attribute| attribute.g.iter_mut().chain(&mut attribute.graphs));
    inner.flat_map(|graph| &mut graph.node).try_for_each(|node| fill_in(node, call, function))
}
