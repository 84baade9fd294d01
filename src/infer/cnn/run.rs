//! One thread's arena, and the loop over the steps.

use super::crew::{Gathered, Team};
use super::head::HeadRun;
use super::plan::Plan;
use super::step::{ForeignStep, Operand, Step};
use super::unsupported::tract;
use crate::error::{Error, Kind, Result};
use crate::infer::Run;
use crate::infer::cnn::kernels::arena::Arena;
use std::sync::Arc;
use tract_onnx::prelude::{TValue, TVec, Tensor};

/// One thread's run of a plan.
pub(super) struct CnnRun {
    team: Arc<Team>,
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
        Ok(CnnRun { team: Arc::new(Team::new(plan, arena)), tensors, head, lowest: 0.0, partial: false })
    }

    /// Runs one step.
    pub(super) fn step(&mut self, index: usize, gathered: &Gathered) -> Result<()> {
        match gathered.team.plan.steps.get(index) {
            None => Ok(()),
            Some((_, Step::Foreign(step))) => self.foreign(step),
            Some((_, step)) if gathered.step(index, step) => Ok(()),
            Some((name, _)) => Err(Error::new(Kind::Inference, format!("a helper failed in {name}"))),
        }
    }

    /// The run's memory and helpers.
    pub(super) fn team(&self) -> Arc<Team> {
        self.team.clone()
    }

    fn foreign(&mut self, step: &ForeignStep) -> Result<()> {
        let failed = |e| Error::new(Kind::Inference, "an operand of the wrong shape").because(tract(e));
        let mut inputs = TVec::new();
        for operand in &step.inputs {
            inputs.push(match operand {
                Operand::Plain { at, shape } => {
                    let floats = shape.iter().product::<usize>();
                    Tensor::from_shape(shape, self.team.arena.read(*at..at + floats)).map_err(failed)?.into()
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
                    let values = values.ok_or_else(|| Error::new(Kind::Inference, "a result of the wrong shape"))?;
                    self.team.arena.write(*at..at + floats).copy_from_slice(values);
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
        let (at, floats) = self.team.plan.input;
        self.team.arena.write(at..at + floats)
    }

    fn execute(&mut self) -> Result<()> {
        let team = self.team();
        let (plan, gathered) = (&team.plan, team.gather());
        (0..plan.body).try_for_each(|index| self.step(index, &gathered))?;
        self.partial = match (&plan.head, &mut self.head) {
            (Some(head), Some(run)) => run.decode(head, &team.machine(0), self.lowest),
            _ => false,
        };
        if self.partial {
            return Ok(());
        }
        (plan.body..plan.steps.len()).try_for_each(|index| self.step(index, &gathered))
    }

    fn expect_scores_from(&mut self, lowest: f32) {
        self.lowest = lowest;
    }

    fn kept(&self) -> Option<&[u32]> {
        self.head.as_ref().filter(|_| self.partial).map(HeadRun::kept)
    }

    fn output(&self, index: usize) -> &[f32] {
        let plan = &self.team.plan;
        if let (true, Some(head), Some(run)) = (self.partial, &plan.head, &self.head) {
            return run.output(head, index);
        }
        match plan.outputs.get(index) {
            Some(&(at, floats)) => self.team.arena.read(at..at + floats),
            None => &[],
        }
    }
}
