//! Time per step, for `weir bench engine --profile` and for whoever works on the kernels.

use super::choice::{Algorithm, cheapest, cost};
use super::plan::Plan;
use super::run::CnnRun;
use super::step::Step;
use crate::clock::thread_cpu_time;
use crate::error::Result;
use crate::infer::Run;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One step of a model and what it costs.
#[derive(Debug, Clone)]
pub struct StepTime {
    /// Node of the graph that it does.
    pub node: String,
    /// Kind of step: `conv`, `winograd`, `pool`, …
    pub kernel: &'static str,
    /// Channels, window and size of a convolution, the matrices of a product; empty elsewhere.
    pub shape: String,
    /// Shortest time of all runs, one thread.
    pub time: Duration,
    /// Multiplications and additions of a convolution, counted as a direct one, or of products; 0 elsewhere.
    pub flops: u64,
}

/// Runs a plan `runs` times, step by step.
pub(super) fn profile(plan: &Arc<Plan>, runs: u32) -> Result<Vec<StepTime>> {
    let mut lines: Vec<StepTime> = plan
        .steps
        .iter()
        .map(|(node, step)| {
            let (shape, flops) = match step {
                Step::Conv(conv) => (conv.to_string(), 2 * conv.macs as u64),
                Step::HalfConv(conv) => (conv.to_string(), 2 * conv.macs as u64),
                Step::Int8Conv(conv) => (conv.to_string(), 2 * conv.macs as u64),
                Step::Winograd(winograd) => (winograd.to_string(), 2 * winograd.macs as u64),
                Step::Linear(linear) => (linear.to_string(), 2 * linear.macs() as u64),
                Step::Product(product) => (product.to_string(), 2 * product.macs() as u64),
                Step::Attention(attention) => (attention.to_string(), 2 * attention.macs() as u64),
                Step::Foreign(step) => (step.foreign.operation.clone(), 0),
                _ => (String::new(), 0),
            };
            StepTime { node: node.clone(), kernel: step.name(), shape, time: Duration::MAX, flops }
        })
        .collect();
    let mut run = CnnRun::new(plan.clone())?;
    for _ in 0..runs {
        run.input().fill(0.5);
        let mut steps = run.start();
        for (index, line) in lines.iter_mut().enumerate() {
            let start = Instant::now();
            steps.step(plan, index)?;
            line.time = line.time.min(start.elapsed());
        }
    }
    Ok(lines)
}

/// A convolution that can be computed in several ways, in the order of [`Way::ALL`].
#[derive(Debug, Clone)]
pub struct LayerWays {
    /// Node of the graph.
    pub node: String,
    /// Input and output channels, rows and columns of the output.
    pub shape: [usize; 4],
    /// What the model of the costs takes.
    pub chosen: Algorithm,
    /// What the model expects, in multiply-adds of one vector of channels.
    pub costs: [f32; 3],
    /// Median CPU time of each.
    pub times: [Duration; 3],
}

/// Runs plans that differ in the way they compute convolutions, turn by turn: a noisy moment hits all of
/// them.
pub(super) fn ways(plans: &[Arc<Plan>; 3], runs: u32) -> Result<Vec<LayerWays>> {
    let [_, winograd, _] = plans;
    let mut layers: Vec<(usize, LayerWays)> = Vec::new();
    for (index, (node, step)) in winograd.steps.iter().enumerate() {
        let Step::Winograd(step) = step else { continue };
        let layer = step.layer();
        let [rows, columns] = layer.size;
        let shape = [layer.inputs, layer.outputs, rows, columns];
        let loops = step.loops;
        let (chosen, costs) = (cheapest(loops, layer), Algorithm::ALL.map(|way| cost(loops, layer, way)));
        layers.push((
            index,
            LayerWays { node: node.clone(), shape, chosen, costs, times: [Duration::ZERO; 3] },
        ));
    }
    let mut times = vec![[const { Vec::new() }; 3]; layers.len()];
    let mut arenas = Vec::new();
    for plan in plans {
        arenas.push(CnnRun::new(plan.clone())?);
    }
    for _ in 0..runs {
        for (way, run) in arenas.iter_mut().enumerate() {
            run.input().fill(0.5);
            let mut steps = run.start();
            let plan = steps.plan();
            let mut timed = layers.iter().map(|(index, _)| *index).zip(&mut times).peekable();
            for index in 0..plan.steps.len() {
                let start = thread_cpu_time();
                steps.step(&plan, index)?;
                if let Some((_, times)) = timed.next_if(|(step, _)| *step == index) {
                    times[way].push(thread_cpu_time().saturating_sub(start));
                }
            }
        }
    }
    for ((_, layer), times) in layers.iter_mut().zip(&mut times) {
        for (time, times) in layer.times.iter_mut().zip(times) {
            times.sort_unstable();
            *time = times.get(times.len() / 2).copied().unwrap_or_default();
        }
    }
    Ok(layers.into_iter().map(|(_, layer)| layer).collect())
}
