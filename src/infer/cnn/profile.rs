//! Time per step, for `weir bench engine --profile` and for whoever works on the kernels.

use super::run::CnnRun;
use super::step::Step;
use crate::error::Result;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One step of a model and what it costs.
#[derive(Debug, Clone)]
pub struct StepTime {
    /// Node of the graph that it does.
    pub node: String,
    /// Kind of step (`conv`, `pool`, …), with the shape for convolutions.
    pub kind: String,
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
            let (kind, flops) = match step {
                Step::Conv(conv) => (format!("{} {conv}", step.name()), 2 * conv.macs as u64),
                Step::Winograd(w) => {
                    let (from, to) = (&w.input, &w.output);
                    (format!("winograd {}→{} at {}x{}", from.channels, to.channels, to.height, to.width), 2 * w.macs as u64)
                }
                _ => (step.name().to_owned(), 0),
            };
            StepTime { node: node.clone(), kind, time: Duration::MAX, flops }
        })
        .collect();
    let mut run = CnnRun::new(plan.clone())?;
    let team = run.team();
    let gathered = team.gather();
    for _ in 0..runs {
        for (index, line) in lines.iter_mut().enumerate() {
            let start = Instant::now();
            run.step(index, &gathered)?;
            line.time = line.time.min(start.elapsed());
        }
    }
    Ok(lines)
}
