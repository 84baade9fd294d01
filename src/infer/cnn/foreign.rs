//! Nodes that tract runs: everything we have no kernel for. They allocate; detectors rarely have one.

use super::unsupported::{tract, unsupported};
use crate::error::{Error, Kind, Result};
use std::fmt;
use std::sync::Arc;
use tract_onnx::prelude::*;

/// One tract node with its constants, as a model of its own.
#[derive(Clone)]
pub(super) struct Foreign {
    /// ONNX operation, for messages.
    pub operation: String,
    /// What its constants take.
    pub constant_bytes: usize,
    plan: Arc<TypedRunnableModel>,
}

impl fmt::Debug for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tract {}", self.operation)
    }
}

impl Foreign {
    /// Takes a node out of its model; `constants` are its inputs that are known.
    pub(super) fn new(
        model: &TypedModel,
        node: &TypedNode,
        constants: &[Option<Arc<Tensor>>],
    ) -> Result<Self> {
        let failed =
            |e: TractError| unsupported(&node.name, &format!("op {}", node.op.name())).because(tract(e));
        let mut alone = TypedModel { symbols: model.symbols.clone(), ..TypedModel::default() };
        let mut inputs = TVec::new();
        for (slot, constant) in constants.iter().enumerate() {
            let name = format!("in{slot}");
            let outlet = match constant {
                Some(tensor) => alone.add_const(name, tensor.clone()).map_err(failed)?,
                None => {
                    let fact = model.outlet_fact(node.inputs[slot]).map_err(failed)?;
                    alone.add_source(name, fact.without_value()).map_err(failed)?
                }
            };
            inputs.push(outlet);
        }
        let held = constants
            .iter()
            .flatten()
            .map(|tensor| tensor.len().saturating_mul(tensor.datum_type().size_of()));
        let constant_bytes = held.fold(0usize, usize::saturating_add);
        let outputs = alone.wire_node(node.name.as_str(), node.op.clone(), &inputs).map_err(failed)?;
        alone.select_output_outlets(&outputs).map_err(failed)?;
        let plan = alone.into_optimized().and_then(|m| m.into_runnable()).map_err(failed)?;
        Ok(Foreign { operation: node.op.name().into_owned(), constant_bytes, plan })
    }

    /// Runs the node on these inputs; its outputs in the node's order.
    pub(super) fn run(&self, inputs: TVec<TValue>) -> Result<TVec<TValue>> {
        self.plan
            .run(inputs)
            .map_err(|e| Error::new(Kind::Inference, format!("{} failed", self.operation)).because(tract(e)))
    }
}
