//! What a frame costs in our engine and in tract's: `auto` takes the cheaper one.
//!
//! An estimate from the graph alone, so that the same model goes the same way everywhere. The unit is a
//! multiply-add of a vector in our dense kernel. What both do alike, element by element, is left out: it
//! decides nothing.

use super::graph::{Graph, Node, Op, lengths};
use super::kernels::LANES;
use std::fmt;

/// tract's time for a convolution, ours being 1. Measured on four detectors: 2.7 to 5.8 (`docs/engine.md`).
const TRACT_CONV: f64 = 2.5;
/// tract's time for a product of matrices, ours being 1. Measured on a ViT (`docs/engine.md`), softmax and
/// transpositions included.
const TRACT_PRODUCT: f64 = 2.0;
/// Copying a number into a tensor of tract's, or out of one, around each node that tract runs for us.
const COPY: f64 = 0.25;

/// Estimates in multiply-adds of a vector, without what both engines do alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Costs {
    /// Our engine's, nodes that it leaves to tract included.
    pub ours: f64,
    /// tract's, if it ran everything.
    pub tract: f64,
}

impl Costs {
    /// Of a graph before it is laid out.
    pub(super) fn of(graph: &Graph) -> Costs {
        let mut costs = Costs { ours: 0.0, tract: 0.0 };
        for node in &graph.nodes {
            let vectors = macs(graph, node).unwrap_or(0) as f64 / LANES as f64;
            let (ours, tract) = match &node.op {
                Op::Conv(_) => (vectors, vectors * TRACT_CONV),
                Op::Linear(_) | Op::Product(_) | Op::Attention(_) => (vectors, vectors * TRACT_PRODUCT),
                Op::Foreign(_) => {
                    let ends = node.inputs.iter().chain(&node.outputs).map(|id| graph.value(*id));
                    let copied: usize = ends.filter(|value| !value.foreign).map(|value| value.len()).sum();
                    (copied as f64 * COPY, 0.0)
                }
                _ => (0.0, 0.0),
            };
            costs.ours += ours;
            costs.tract += tract;
        }
        costs
    }

    /// Whether tract would take less time.
    pub fn tract_is_cheaper(&self) -> bool {
        self.tract < self.ours
    }
}

/// Multiply-adds of a node.
fn macs(graph: &Graph, node: &Node) -> Option<usize> {
    let output = &graph.value(*node.outputs.first()?).shape;
    let elements: usize = output.iter().product();
    Some(match &node.op {
        Op::Conv(conv) => elements * conv.weights.shape().iter().skip(1).product::<usize>(),
        Op::Linear(linear) => elements * linear.size()?[0],
        Op::Product(product) => {
            elements * lengths(&product.left, &graph.value(*node.inputs.first()?).shape)?[3]
        }
        Op::Attention(attention) => {
            let [_, _, keys, depth] = lengths(&attention.key, &graph.value(*node.inputs.get(1)?).shape)?;
            let [b, c, rows, columns] = lengths(&attention.out, output)?;
            b * c * rows * keys * (depth + columns)
        }
        _ => return None,
    })
}

impl fmt::Display for Costs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cheaper, factor) = match self.tract_is_cheaper() {
            true => ("tract", self.ours / self.tract.max(1.0)),
            false => ("cnn", self.tract / self.ours.max(1.0)),
        };
        const MILLION: f64 = 1e6;
        write!(
            f,
            "auto: {cheaper}, by its estimate {factor:.1} times as fast (cnn {:.1}, tract {:.1} million vector multiply-adds)",
            self.ours / MILLION,
            self.tract / MILLION
        )
    }
}
