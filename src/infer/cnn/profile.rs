//! Time per step, for `weir bench engine --profile` and for whoever works on the kernels.

use super::run::CnnRun;
use super::step::Step;
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
    /// Channels, window and size of a convolution; empty elsewhere.
    pub shape: String,
    /// Shortest time of all runs, one thread.
    pub time: Duration,
    /// Multiplications and additions of a convolution, counted as a direct one; 0 elsewhere.
    pub flops: u64,
}

/// Runs a plan `runs` times, step by step.
pub(super) fn profile(plan: &Arc<super::plan::Plan>, runs: u32) -> Result<Vec<StepTime>> {
    let mut lines: Vec<StepTime> = plan
        .steps
        .iter()
        .map(|(node, step)| {
            let (shape, flops) = match step {
                Step::Conv(conv) => (conv.to_string(), 2 * conv.macs as u64),
                Step::Winograd(winograd) => (winograd.to_string(), 2 * winograd.macs as u64),
                _ => (String::new(), 0),
            };
            StepTime { node: node.clone(), kernel: step.name(), shape, time: Duration::MAX, flops }
        })
        .collect();
    let mut run = CnnRun::new(plan.clone())?;
    let team = run.team();
    let gathered = team.gather();
    for _ in 0..runs {
        run.input().fill(0.5);
        for (index, line) in lines.iter_mut().enumerate() {
            let start = Instant::now();
            run.step(index, &gathered)?;
            line.time = line.time.min(start.elapsed());
        }
    }
    Ok(lines)
}
