//! `weir bench engine`: the model alone, timed.

mod dump;
mod profile;

use super::engine::{self, Options};
use super::family::recognise::{self, Hints};
use super::onnx::{Description, Graph, Input};
use super::process::{Limits, Loaded, Session};
use super::registry::{NAMES_KEYS, Names, RegistrySettings};
use super::{EngineChoice, Precision};
use super::{Run, cnn, tensorrt};
use crate::clock::{process_cpu_time, thread_cpu_time};
use crate::error::{Error, Kind, Result};
pub use dump::dump;
pub use profile::{Profile, profile};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Side of the input where the file leaves it open, pixels.
const OPEN_SIDE: usize = 640;

/// The model that is timed, and how.
#[derive(Debug, Clone)]
pub struct Request {
    /// Path of the `.onnx` file.
    pub model: PathBuf,
    /// Threads that run it at the same time.
    pub threads: usize,
    /// All threads work on one run, as they do for a single camera; otherwise each has a run of its own.
    pub together: bool,
    /// Timed runs of each thread.
    pub runs: usize,
    /// The engine that runs it.
    pub engine: EngineChoice,
    /// How exactly our own engine computes.
    pub precision: Precision,
    /// The lowest score that is looked at, as a pipeline's confidence; 0: every anchor is decoded.
    pub confidence: f32,
}

/// What came out. Milliseconds are per round: one run on each thread at the same time, or one run on all of
/// them.
#[derive(Debug, Clone)]
pub struct Figures {
    /// Which engine it was.
    pub engine: &'static str,
    /// Threads that ran it at the same time.
    pub threads: usize,
    /// Whether they shared one run.
    pub together: bool,
    /// How many rounds were timed.
    pub runs: usize,
    /// Shortest round, wall clock.
    pub wall_ms_min: f64,
    /// Median round, wall clock.
    pub wall_ms_median: f64,
    /// Least CPU time of the whole process for one run.
    pub cpu_ms_min: f64,
    /// Median CPU time of the whole process for one run.
    pub cpu_ms_median: f64,
    /// From the file to an engine that can run, wall clock.
    pub load_wall_ms: f64,
    /// CPU time of that, the model's process included.
    pub load_cpu_ms: f64,
    /// Highest resident memory of the process so far, loading included.
    pub peak_rss_bytes: u64,
    /// Held by each thread.
    pub arena_bytes: usize,
    /// Bytes of the weights, which all threads share.
    pub weights_bytes: usize,
}

/// Compiles the model and times it. Blocks.
pub fn run(request: &Request) -> Result<Figures> {
    let (threads, runs) = (request.threads.max(1), request.runs.max(1));
    cnn::keep_little_memory();
    if request.together {
        cnn::allow_threads(threads);
    }
    let (began, cpu_before) = (Instant::now(), process_cpu_time());
    let session = open(&request.model)?;
    let graph = session.description().clone();
    let ([width, height], budget_bytes) =
        (sides(graph.input()), RegistrySettings::default().memory_budget_bytes);
    let hints = Hints::of_graph(&graph, class_names(&graph), (width, height));
    let options = Options {
        width,
        height,
        choice: request.engine,
        precision: request.precision,
        budget_bytes,
        weights: &request.model,
        tensorrt: &tensorrt::TensorRtSettings::default(),
        scores: &|shapes| recognise::family(shapes, &hints).ok()?.family.scores(shapes),
        in_background: false,
        building: &|_| Ok(()),
    };
    let Loaded { engine, trial } = engine::compile(session, &options)?;
    let load_wall = began.elapsed();
    let load_cpu = process_cpu_time().saturating_sub(cpu_before)
        + trial.process().map_or(Duration::ZERO, whole_cpu_time_of);
    // the process of a model that runs here has done its work
    drop(trial);
    let arenas = if request.together { 1 } else { threads };
    let mut arenas = (0..arenas).map(|_| engine.new_run()).collect::<Result<Vec<_>>>()?;
    arenas.iter_mut().for_each(|arena| arena.expect_scores_from(request.confidence));
    let at_once = u32::try_from(arenas.len()).unwrap_or(1);
    let rounds = time_rounds(arenas, runs, engine.process())?;
    let wall = sorted(rounds.iter().map(|round| round.wall));
    let cpu = sorted(rounds.iter().map(|round| round.cpu / at_once));
    Ok(Figures {
        engine: engine.name(),
        threads,
        together: request.together,
        runs,
        wall_ms_min: at(&wall, 0),
        wall_ms_median: at(&wall, runs / 2),
        cpu_ms_min: at(&cpu, 0),
        cpu_ms_median: at(&cpu, runs / 2),
        load_wall_ms: load_wall.as_secs_f64() * 1e3,
        load_cpu_ms: load_cpu.as_secs_f64() * 1e3,
        peak_rss_bytes: peak_rss_bytes("self")
            + engine.process().map_or(0, |pid| peak_rss_bytes(&pid.to_string())),
        arena_bytes: engine.arena_bytes(),
        weights_bytes: engine.weights_bytes(),
    })
}

/// The file, width and height of its input, and the most bytes it may take.
fn read(request: &Request) -> Result<(Graph, [usize; 2], u64)> {
    read_file(&request.model)
}

fn read_file(model: &Path) -> Result<(Graph, [usize; 2], u64)> {
    let budget_bytes = RegistrySettings::default().memory_budget_bytes;
    let graph = Graph::read_file(model, u64::MAX, budget_bytes)?;
    let sides = sides(graph.input());
    Ok((graph, sides, budget_bytes))
}

/// The model, read in a process of its own.
fn open(model: &Path) -> Result<Session<'static>> {
    let settings = RegistrySettings::default();
    let limits = Limits {
        max_file_bytes: u64::MAX,
        budget_bytes: settings.memory_budget_bytes,
        timeout: settings.load_timeout,
    };
    Session::open(model, limits, &|| Ok(()))
}

/// Width and height of the input; [`OPEN_SIDE`] where the model leaves them open.
fn sides(input: Input) -> [usize; 2] {
    [input.width, input.height].map(|side| side.unwrap_or(OPEN_SIDE))
}

/// How many classes the file may have by the names in it.
fn class_names(graph: &Description) -> Vec<usize> {
    let names = NAMES_KEYS.iter().find_map(|key| Names::of_metadata(graph.metadata(key)?));
    names.map(|names| names.counts()).unwrap_or_default()
}

/// Numbers from 0 to 1 that look random and are always the same: what a model is timed on.
pub(super) fn noise(input: &mut [f32]) {
    let mut state = 1u32;
    for value in input {
        // Numerical Recipes' generator; its upper 24 bits are a float exactly
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *value = (state >> 8) as f32 / (1 << 24) as f32;
    }
}

/// What one round took.
#[derive(Debug, Clone, Copy)]
struct Round {
    wall: Duration,
    cpu: Duration,
}

/// Lets each arena run in its own thread, all at the same time, `count` times after one to warm up.
/// `process`: one whose CPU time counts too.
///
/// Each thread reads the clocks itself, right before and behind its run: what the kernel says of a thread that runs
/// somewhere else may be a tick old, some milliseconds.
fn time_rounds(arenas: Vec<Box<dyn Run>>, count: usize, process: Option<u32>) -> Result<Vec<Round>> {
    let alone = arenas.len() == 1;
    // of one run the helpers' time counts, too; of several each its own, and the other process's once
    let cpu_time = move |thread: usize| {
        let own = if alone { process_cpu_time() } else { thread_cpu_time() };
        own + process.filter(|_| thread == 0).map_or(Duration::ZERO, cpu_time_of)
    };
    let barrier = Barrier::new(arenas.len());
    std::thread::scope(|scope| {
        let threads: Vec<_> = arenas
            .into_iter()
            .enumerate()
            .map(|(number, mut arena)| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let (mut outcome, mut rounds) = (Ok(()), Vec::with_capacity(count));
                    for index in 0..=count {
                        noise(arena.input());
                        barrier.wait();
                        let (clock, cpu) = (Instant::now(), cpu_time(number));
                        // A failed thread goes on meeting the others: nobody must wait for ever.
                        outcome = outcome.and_then(|()| arena.execute());
                        let cpu = cpu_time(number).saturating_sub(cpu);
                        barrier.wait();
                        if index > 0 {
                            rounds.push(Round { wall: clock.elapsed(), cpu });
                        }
                    }
                    outcome.map(|()| rounds)
                })
            })
            .collect();
        let mut all: Vec<Round> = Vec::new();
        for thread in threads {
            let rounds = thread.join().map_err(|_| Error::new(Kind::Inference, "the model panicked"))??;
            if all.is_empty() {
                all = rounds;
                continue;
            }
            for (sum, round) in all.iter_mut().zip(rounds) {
                *sum = Round { wall: sum.wall.max(round.wall), cpu: sum.cpu + round.cpu };
            }
        }
        Ok(all)
    })
}

/// The durations in milliseconds, ascending.
fn sorted(durations: impl Iterator<Item = Duration>) -> Vec<f64> {
    let mut milliseconds: Vec<f64> = durations.map(|duration| duration.as_secs_f64() * 1e3).collect();
    milliseconds.sort_by(f64::total_cmp);
    milliseconds
}

fn at(values: &[f64], index: usize) -> f64 {
    values.get(index).copied().unwrap_or(f64::NAN)
}

/// CPU time of another process: of all threads that it has now; 0 where /proc does not say.
fn cpu_time_of(process: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let time = |thread: std::fs::DirEntry| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        Some(Duration::from_nanos(text.split(' ').next()?.parse().ok()?))
    };
    threads.filter_map(time).sum()
}

/// CPU time of another process since it began, in the kernel's ticks (10 ms); 0 where /proc does not say.
fn whole_cpu_time_of(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // proc(5): fields 14 and 15 are utime and stime; the name in field 2 may hold spaces
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields = after_name.split_whitespace().skip(11).take(2);
    let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// `VmHWM` of a process; 0 where /proc does not say.
fn peak_rss_bytes(process: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

impl Figures {
    /// One line of JSON with the keys of the outside contract.
    pub fn to_json(&self) -> String {
        format!(
            "{{\"engine\": \"{}\", \"threads\": {}, \"together\": {}, \"runs\": {}, \"wall_ms_min\": {:.3}, \"wall_ms_median\": {:.3}, \
             \"cpu_ms_min\": {:.3}, \"cpu_ms_median\": {:.3}, \"load_wall_ms\": {:.3}, \"load_cpu_ms\": {:.3}, \"peak_rss_bytes\": {}, \"arena_bytes\": {}, \"weights_bytes\": {}}}",
            self.engine,
            self.threads,
            self.together,
            self.runs,
            self.wall_ms_min,
            self.wall_ms_median,
            self.cpu_ms_min,
            self.cpu_ms_median,
            self.load_wall_ms,
            self.load_cpu_ms,
            self.peak_rss_bytes,
            self.arena_bytes,
            self.weights_bytes,
        )
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "engine {} threads {} runs {}", self.engine, self.threads, self.runs)?;
        writeln!(f, "wall   {:.2} ms at best, {:.2} ms median", self.wall_ms_min, self.wall_ms_median)?;
        writeln!(
            f,
            "cpu    {:.2} ms at best, {:.2} ms median, per run",
            self.cpu_ms_min, self.cpu_ms_median
        )?;
        writeln!(f, "load   {:.0} ms, {:.0} ms of CPU", self.load_wall_ms, self.load_cpu_ms)?;
        let mebibytes = |bytes: f64| bytes / f64::from(1 << 20);
        let (weights, arena) = (mebibytes(self.weights_bytes as f64), mebibytes(self.arena_bytes as f64));
        write!(
            f,
            "memory {weights:.1} MiB weights, {arena:.1} MiB arena, {:.1} MiB peak",
            mebibytes(self.peak_rss_bytes as f64)
        )
    }
}

/// The convolutions of a model that can be computed in several ways.
#[derive(Debug)]
pub struct Ways(Vec<cnn::LayerWays>);

/// Compiles the model in every way and times them in turns. Blocks.
pub fn ways(request: &Request) -> Result<Ways> {
    let (graph, [width, height], budget_bytes) = read(request)?;
    let typed = graph.into_typed(width, height, budget_bytes)?;
    let runs = u32::try_from(request.runs.max(1)).unwrap_or(u32::MAX);
    Ok(Ways(cnn::ways(&typed, &cnn::Options::default(), runs)?))
}

impl fmt::Display for Ways {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "median µs of CPU time on one thread; expected cost in thousands of multiply-adds of a vector"
        )?;
        writeln!(
            f,
            "{:<22} {:>9} {:>9} {:>9}  {:>8} {:>8} {:>8}  {:<8} {:>6}",
            "in→out rows×columns", "direct", "kept", "remade", "direct", "kept", "remade", "chosen", "off"
        )?;
        let (mut taken, mut best) = (0.0, 0.0);
        for layer in &self.0 {
            let [inputs, outputs, rows, columns] = layer.shape;
            let micros = layer.times.map(|time| time.as_secs_f64() * 1e6);
            let [direct, kept, remade] = layer.costs.map(|cost| cost / 1e3);
            let chosen = cnn::Algorithm::ALL
                .iter()
                .position(|&way| way == layer.chosen)
                .map_or(f64::NAN, |way| micros[way]);
            // kept factors are a choice only where memory allows them, so what counts is the better of the
            // other ways
            let least = micros[0].min(micros[2]).min(chosen);
            (taken, best) = (taken + chosen, best + least);
            let shape = format!("{inputs}→{outputs} {rows}×{columns}");
            let off = 100.0 * (chosen / least - 1.0);
            let [a, b, c] = micros;
            let chosen = format!("{:?}", layer.chosen);
            writeln!(
                f,
                "{shape:<22} {a:>9.1} {b:>9.1} {c:>9.1}  {direct:>8.1} {kept:>8.1} {remade:>8.1}  {chosen:<8} {off:>5.1}%"
            )?;
        }
        write!(
            f,
            "chosen together {taken:.1} µs, {:.2}% above the better way of each",
            100.0 * (taken / best - 1.0)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::registry::test_dir::TestDir;
    use super::*;

    #[test]
    fn a_dump_holds_every_output_with_its_shape() {
        let dir = TestDir::new();
        let model = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/assets/toy.onnx"));
        let (graph, [width, height], _) = read_file(&model).unwrap();
        let name = graph.output_names()[0].to_owned();
        let input = dir.path().join("x.f32");
        let whole = vec![0u8; 3 * width * height * 4];
        std::fs::write(&input, &whole).unwrap();
        dump(&model, &input, &dir.path().join("out"), (EngineChoice::Auto, Precision::Full)).unwrap();
        let shapes = std::fs::read_to_string(dir.path().join("out/shapes.json")).unwrap();
        assert!(shapes.starts_with(&format!("{{\"{name}\": [1, ")), "{shapes}");
        assert!(std::fs::metadata(dir.path().join(format!("out/{name}.f32"))).unwrap().len() > 0);

        std::fs::write(&input, &whole[4..]).unwrap();
        let error =
            dump(&model, &input, &dir.path().join("out"), (EngineChoice::Auto, Precision::Full)).unwrap_err();
        assert!(error.message().contains("floats"), "{error}");
    }

    #[test]
    fn file_names_of_outputs_stay_in_their_folder() {
        let names = ["output0", "../../etc/passwd", "/model.22/out", "", "..", "x_y", "x/y"];
        assert_eq!(
            dump::file_names(&names),
            ["output0", ".._.._etc_passwd", "_model.22_out", "output3", "output4", "x_y", "x_y-7"]
        );
    }

    #[test]
    fn figures_of_the_toy_model_make_sense() {
        let model = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/assets/toy.onnx"));
        let figures = run(&Request {
            model,
            threads: 2,
            together: false,
            runs: 3,
            engine: EngineChoice::Tract,
            precision: Precision::Full,
            confidence: 0.0,
        })
        .unwrap();
        assert_eq!((figures.engine, figures.threads, figures.runs), ("tract", 2, 3));
        assert!(figures.wall_ms_min > 0.0 && figures.wall_ms_min <= figures.wall_ms_median);
        assert!(figures.cpu_ms_min > 0.0 && figures.peak_rss_bytes > 1 << 20);
        assert!(figures.load_wall_ms > 0.0 && figures.load_cpu_ms > 0.0);
        let json: miniserde::json::Value = miniserde::json::from_str(&figures.to_json()).unwrap();
        assert!(matches!(json, miniserde::json::Value::Object(members) if members.len() == 13));
    }

    #[test]
    fn a_profile_names_every_step_and_its_share() {
        let model = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/assets/toy.onnx"));
        let request = Request {
            model,
            threads: 1,
            together: false,
            runs: 2,
            engine: EngineChoice::Cnn,
            precision: Precision::Full,
            confidence: 0.4,
        };
        let table = profile(&request).unwrap().to_string();
        assert!(table.lines().count() > 3 && table.contains("conv") && table.contains("GFLOP/s"), "{table}");
        let [choice, whole] = table.lines().rev().take(2).collect::<Vec<_>>()[..] else { panic!("{table}") };
        assert!(whole.contains("100.0%") && choice.starts_with("auto: cnn"), "{table}");
    }

    #[test]
    fn threads_on_one_run_have_one_arena() {
        let model = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/assets/toy.onnx"));
        let figures = run(&Request {
            model,
            threads: 2,
            together: true,
            runs: 2,
            engine: EngineChoice::Cnn,
            precision: Precision::Full,
            confidence: 0.4,
        })
        .unwrap();
        assert!(figures.together && figures.threads == 2 && figures.to_json().contains("\"together\": true"));
    }
}
