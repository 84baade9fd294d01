//! `weir bench engine --profile`: where our own engine's time goes, and which engine `auto` takes.

use super::{Request, read};
use crate::error::Result;
use crate::infer::cnn;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Each step on one thread, and what was expected.
#[derive(Debug)]
pub struct Profile {
    steps: Vec<cnn::StepTime>,
    costs: cnn::Costs,
}

/// Compiles the model and times each of its steps. Blocks.
pub fn profile(request: &Request) -> Result<Profile> {
    let (graph, [width, height], budget_bytes) = read(request)?;
    let typed = graph.into_typed(width, height, budget_bytes)?;
    let runs = u32::try_from(request.runs.max(1)).unwrap_or(u32::MAX);
    let options = cnn::Options { precision: request.precision, ..cnn::Options::default() };
    Ok(Profile { costs: cnn::costs(&typed, &options)?, steps: cnn::profile(&typed, &options, runs)? })
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole: Duration = self.steps.iter().map(|step| step.time).sum();
        writeln!(f, "{:>8} {:>6} {:>8}  {:<13} {:<34} node", "ms", "share", "GFLOP/s", "kernel", "shape")?;
        let mut line = |time: Duration, flops: u64, kernel: &str, shape: &str, node: &str| {
            let share = 100.0 * time.as_secs_f64() / whole.as_secs_f64().max(f64::MIN_POSITIVE);
            let rate = flops as f64 / 1e9 / time.as_secs_f64().max(f64::MIN_POSITIVE);
            let rate = if flops == 0 { String::new() } else { format!("{rate:.1}") };
            writeln!(
                f,
                "{:>8.3} {share:>5.1}% {rate:>8}  {kernel:<13} {shape:<34} {node}",
                time.as_secs_f64() * 1e3
            )
        };
        let mut kinds: BTreeMap<&str, (Duration, u64, usize)> = BTreeMap::new();
        for step in &self.steps {
            line(step.time, step.flops, step.kernel, &step.shape, &step.node.escape_debug().to_string())?;
            let (time, flops, count) = kinds.entry(step.kernel).or_default();
            (*time, *flops, *count) = (*time + step.time, *flops + step.flops, *count + 1);
        }
        let mut kinds: Vec<_> = kinds.into_iter().collect();
        kinds.sort_by_key(|(_, (time, ..))| std::cmp::Reverse(*time));
        for (kernel, (time, flops, count)) in kinds {
            line(time, flops, kernel, &format!("all {count}"), "")?;
        }
        writeln!(f, "{:>8.3} 100.0% shortest time of each step, one thread", whole.as_secs_f64() * 1e3)?;
        write!(f, "{}", self.costs)
    }
}
