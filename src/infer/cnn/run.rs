//! One thread's arena, and the loop over the steps.

use super::head::HeadRun;
use super::plan::Plan;
use super::step::{ForeignStep, Operand, Step};
use super::storage::PIXELS_FLOATS;
use super::threads::{Gathered, Lead};
use super::unsupported::tract;
use crate::error::{Error, Kind, Result};
use crate::infer::Run;
use crate::infer::cnn::kernels::arena::Arena;
use std::sync::Arc;
use tract_onnx::prelude::{TValue, TVec, Tensor};

/// One thread's run of a plan.
pub(super) struct CnnRun {
    lead: Lead,
    /// What lies between foreign nodes and is not 32-bit float.
    tensors: Vec<Option<TValue>>,
    head: Option<HeadRun>,
    /// What the caller will look at.
    lowest: f32,
    /// Whether the last run left anchors out.
    partial: bool,
}

impl CnnRun {
    pub(super) fn new(plan: Arc<Plan>) -> Result<Self> {
        let arena = Arena::new(plan.floats).ok_or_else(no_memory)?;
        let tensors = vec![None; plan.tensors];
        let head = plan.head.as_ref().map(|head| HeadRun::new(head).ok_or_else(no_memory)).transpose()?;
        Ok(CnnRun { lead: Lead::new(plan, arena), tensors, head, lowest: 0.0, partial: false })
    }

    /// Begins a run: what walks through the steps.
    pub(super) fn start(&mut self) -> Steps<'_> {
        Steps { gathered: self.lead.gather(), tensors: &mut self.tensors }
    }
}

/// A run under way, step by step.
pub(super) struct Steps<'a> {
    gathered: Gathered<'a>,
    tensors: &'a mut Vec<Option<TValue>>,
}

impl Steps<'_> {
    pub(super) fn plan(&self) -> Arc<Plan> {
        self.gathered.plan().clone()
    }

    /// Runs one step of the plan.
    pub(super) fn step(&mut self, plan: &Plan, index: usize) -> Result<()> {
        match plan.steps.get(index) {
            None => Ok(()),
            Some((_, Step::Foreign(step))) => self.foreign(step),
            Some((_, step)) if self.gathered.step(index, step) => Ok(()),
            Some((name, _)) => Err(Error::new(Kind::Inference, format!("a helper failed in {name}"))),
        }
    }

    /// What the run's own thread works on between two steps.
    #[cfg(test)]
    pub(super) fn machine(&mut self) -> super::step::Machine<'_> {
        self.gathered.machine()
    }

    fn foreign(&mut self, step: &ForeignStep) -> Result<()> {
        let mut machine = self.gathered.machine();
        let failed = |e| Error::new(Kind::Inference, "an operand of the wrong shape").because(tract(e));
        let mut inputs = TVec::new();
        for operand in &step.inputs {
            inputs.push(match operand {
                Operand::Plain { at, shape } => {
                    let floats = shape.iter().product::<usize>();
                    Tensor::from_shape(shape, machine.arena.read(*at..at + floats)).map_err(failed)?.into()
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
                    let values = super::constant::floats(&result).filter(|v| v.len() == floats);
                    let values =
                        values.ok_or_else(|| Error::new(Kind::Inference, "a result of the wrong shape"))?;
                    machine.arena.write(*at..at + floats).copy_from_slice(values);
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

fn no_memory() -> Error {
    Error::new(Kind::Exhausted, "no memory for the activations of the model")
}

impl Run for CnnRun {
    fn input(&mut self) -> &mut [f32] {
        let ((at, floats), pixels) = (self.lead.plan().input, self.lead.plan().pixels);
        let mut arena = self.lead.arena();
        if let Some(pixels) = pixels {
            arena.write(pixels..pixels + 1).fill(0.0);
        }
        arena.into_write(at..at + floats)
    }

    fn pixels(&mut self, worth: [(f32, f32); 3]) -> Option<&mut [u8]> {
        let ((at, floats), pixels) = (self.lead.plan().input, self.lead.plan().pixels?);
        let [(a, b), (c, d), (e, f)] = worth;
        let mut arena = self.lead.arena();
        arena.write(pixels..pixels + PIXELS_FLOATS).copy_from_slice(&[1.0, a, b, c, d, e, f]);
        Some(arena.into_write_bytes(at * size_of::<f32>(), floats))
    }

    fn execute(&mut self) -> Result<()> {
        let CnnRun { lead, tensors, head, lowest, partial } = self;
        let mut steps = Steps { gathered: lead.gather(), tensors };
        let plan = steps.plan();
        (0..plan.body).try_for_each(|index| steps.step(&plan, index))?;
        *partial = match (&plan.head, head) {
            (Some(head), Some(run)) => run.decode(head, &steps.gathered.machine(), *lowest),
            _ => false,
        };
        if *partial {
            return Ok(());
        }
        (plan.body..plan.steps.len()).try_for_each(|index| steps.step(&plan, index))
    }

    fn keep_alone(&mut self) {
        self.lead.keep_alone();
    }

    fn expect_scores_from(&mut self, lowest: f32) {
        self.lowest = lowest;
    }

    fn kept(&self) -> Option<&[u32]> {
        self.head.as_ref().filter(|_| self.partial).map(HeadRun::kept)
    }

    fn output(&self, index: usize) -> &[f32] {
        let plan = self.lead.plan();
        if let (true, Some(head), Some(run)) = (self.partial, &plan.head, &self.head) {
            return run.output(head, index);
        }
        match plan.outputs.get(index) {
            Some(&(at, floats)) => self.lead.read(at..at + floats),
            None => &[],
        }
    }
}
