//! One thread's arena, and the loop over the steps.

use super::import::tract;
use super::plan::Plan;
use super::step::{ForeignStep, Machine, Operand, Step};
use crate::error::{Error, Kind, Result};
use crate::infer::Run;
use crate::infer::cnn::kernels::arena::Arena;
use std::sync::Arc;
use tract_onnx::prelude::{TValue, TVec, Tensor};

/// One thread's run of a plan.
pub(super) struct CnnRun {
    plan: Arc<Plan>,
    arena: Arena,
    /// What lies between foreign nodes and is not 32-bit float.
    tensors: Vec<Option<TValue>>,
}

impl CnnRun {
    pub(super) fn new(plan: Arc<Plan>) -> Result<Self> {
        let arena =
            Arena::new(plan.floats).ok_or_else(|| Error::new(Kind::Exhausted, "no memory for the activations of the model"))?;
        let tensors = vec![None; plan.tensors];
        Ok(CnnRun { plan, arena, tensors })
    }

    /// Runs one step; `timed` profiles use it alone.
    pub(super) fn step(&mut self, index: usize) -> Result<()> {
        let plan = self.plan.clone();
        let Some((_, step)) = plan.steps.get(index) else { return Ok(()) };
        if let Step::Foreign(step) = step {
            return self.foreign(step);
        }
        let machine = Machine { kernels: plan.kernels, arena: &self.arena, weights: &plan.weights, worker: 0 };
        for item in 0..step.items() {
            step.run(&machine, item);
        }
        Ok(())
    }

    fn foreign(&mut self, step: &ForeignStep) -> Result<()> {
        let failed = |e| Error::new(Kind::Inference, "an operand of the wrong shape").because(tract(e));
        let mut inputs = TVec::new();
        for operand in &step.inputs {
            inputs.push(match operand {
                Operand::Plain { at, shape } => {
                    let floats = shape.iter().product::<usize>();
                    Tensor::from_shape(shape, self.arena.read(*at..at + floats)).map_err(failed)?.into()
                }
                Operand::Tensor(slot) => {
                    let tensor = self.tensors.get(*slot).and_then(Clone::clone);
                    tensor.ok_or_else(|| Error::new(Kind::Inference, "an operand that nothing made"))?
                }
            });
        }
        for (operand, result) in step.outputs.iter().zip(step.foreign.run(inputs)?) {
            match operand {
                Operand::Plain { at, shape } => {
                    let floats = shape.iter().product::<usize>();
                    let values = super::graph::floats(&result).filter(|v| v.len() == floats);
                    let values = values.ok_or_else(|| Error::new(Kind::Inference, "a result of the wrong shape"))?;
                    self.arena.write(*at..at + floats).copy_from_slice(values);
                }
                Operand::Tensor(slot) => {
                    if let Some(place) = self.tensors.get_mut(*slot) {
                        *place = Some(result);
                    }
                }
            }
        }
        Ok(())
    }
}

impl Run for CnnRun {
    fn input(&mut self) -> &mut [f32] {
        let (at, floats) = self.plan.input;
        self.arena.write(at..at + floats)
    }

    fn execute(&mut self) -> Result<()> {
        (0..self.plan.steps.len()).try_for_each(|index| self.step(index))
    }

    fn output(&self, index: usize) -> &[f32] {
        match self.plan.outputs.get(index) {
            Some(&(at, floats)) => self.arena.read(at..at + floats),
            None => &[],
        }
    }
}
