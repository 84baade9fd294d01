//! The body of `weir model`: one model, from its file to its last run.

use super::channel::{Channel, Message, Missing};
use super::compile::{self, Compiled};
use super::confine;
use super::words::{Done, MAX_FRAMES, Order, RunOrder, RunWord, Verdict, Word};
use crate::error::{Error, Kind, Result};
use crate::infer::onnx::{At, Description, Graph, Quantiser};
use crate::infer::shared::{as_bytes, as_bytes_mut};
use crate::infer::{Engine, Run, cnn};
use crate::priority;
use std::cell::Cell;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Exit code when started by hand (sysexits' EX_USAGE).
const USAGE: u8 = 64;

/// Stack of the thread that reads and compiles, bytes: tract's passes over a graph recurse in places.
const LOADER_STACK_BYTES: usize = 8 << 20;

/// Runs one model's process to its end. Returns the exit code.
pub fn run() -> u8 {
    let Ok(socket) = inherited() else {
        eprintln!("`weir model` is started by `weir serve`, `weir check` and `weir bench`");
        return USAGE;
    };
    u8::from(serve(Channel::of(socket), true).is_err())
}

/// Takes over standard input, the socket, and leaves a harmless one in its place.
fn inherited() -> Result<OwnedFd, rustix::io::Errno> {
    use rustix::stdio;
    let socket = rustix::io::fcntl_dupfd_cloexec(stdio::stdin(), 3)?;
    rustix::net::sockopt::socket_type(&socket)?;
    stdio::dup2_stdin(stdio::stderr())?;
    Ok(socket)
}

/// Why a conversation ended.
enum End {
    /// The service has gone, or does not want this model any more.
    Gone,
    /// The service is told.
    Failed(Error),
}

impl From<Missing> for End {
    fn from(_: Missing) -> End {
        End::Gone
    }
}

impl From<Error> for End {
    fn from(error: Error) -> End {
        End::Failed(error)
    }
}

/// What is ready to run.
struct Ready {
    compiled: Compiled,
    verdict: Verdict,
    /// Memory that the service gets: weights and document, where it runs the model itself.
    memory: Option<OwnedFd>,
}

/// Talks to the service until one of the two has enough. `confined`: this is a process of its own.
pub(super) fn serve(channel: Channel, confined: bool) -> Result<(), ()> {
    match talk(&channel, confined) {
        Err(End::Failed(error)) => channel.send(&Word::Failed(error).write(), &[]).map_err(|_| ()),
        Ok(()) | Err(End::Gone) => Ok(()),
    }
}

fn talk(channel: &Channel, confined: bool) -> Result<(), End> {
    let (order, message) = receive(channel)?;
    let Order::Read { parent, memory_bytes, budget_bytes, size } = order else { return Err(End::Gone) };
    let file = Arc::new(File::from(message.descriptor()?));
    // Before any other thread exists: Landlock holds for this one and those that it starts.
    if confined {
        priority::own(); // before the filter, as the next
        cnn::ask_for_tiles();
        confine::before_reading(parent, memory_bytes)?;
    }
    cnn::keep_little_memory();
    let ready = std::thread::scope(|scope| {
        let load = || {
            if confined {
                priority::give_way(priority::LOADING - priority::COMPUTING);
            }
            catch_unwind(AssertUnwindSafe(|| load(channel, &file, size, budget_bytes)))
        };
        let thread = std::thread::Builder::new().name("model-load".into()).stack_size(LOADER_STACK_BYTES);
        let loader = thread.spawn_scoped(scope, load).map_err(crate::error::system("starting a thread"))?;
        let panicked = || Error::new(Kind::ModelArtefact, "loading the model panicked");
        loader.join().map_err(|_| panicked())?.map_err(|_| panicked())?
    })?;
    serve_runs(channel, &ready)
}

fn receive(channel: &Channel) -> Result<(Order, Message), End> {
    let message = channel.receive(None)?;
    let order = Order::read(&message.bytes).ok_or(End::Gone)?;
    Ok((order, message))
}

fn say(channel: &Channel, word: &Word) -> Result<(), End> {
    Ok(channel.send(&word.write(), &[])?)
}

/// Reads the file, and compiles what the service then asks for.
fn load(channel: &Channel, file: &Arc<File>, size: u64, budget_bytes: u64) -> Result<Ready, End> {
    // Set when the service does not answer any more: whatever comes of that is nobody's error.
    let gone = Cell::new(false);
    let or_gone = |end| match end {
        End::Failed(error) => error,
        End::Gone => {
            gone.set(true);
            Error::new(Kind::ShuttingDown, "the service is gone")
        }
    };
    let alive = |error| if gone.get() { End::Gone } else { End::Failed(error) };
    let mut beside = |name: &str| beside(channel, name).map_err(or_gone);
    let graph = Graph::read_lean(file, size, &mut beside, budget_bytes).map_err(alive)?;
    say(channel, &Word::Described(Description::of(&graph)))?;
    let (width, height, engine, precision, threads) = match receive(channel)? {
        (Order::Compile { width, height, engine, precision, threads }, _) => {
            (width, height, engine, precision, threads)
        }
        (Order::Survey, _) => {
            drop(graph);
            let quantiser = Quantiser::read(file, size, &mut beside, budget_bytes).map_err(alive)?;
            return Err(quantise(channel, &quantiser)?);
        }
        _ => return Err(End::Gone),
    };
    let request = compile::Request { width, height, engine, precision, threads, budget_bytes };
    let scores = |shapes| {
        let answer = say(channel, &Word::Shapes(shapes)).and_then(|()| receive(channel));
        match answer {
            Ok((Order::Scores(scores), _)) => Ok(scores),
            _ => Err(or_gone(End::Gone)),
        }
    };
    let again = || Graph::read_with(&mut At { file, at: 0, end: size }, &mut beside, budget_bytes);
    let (mut compiled, verdict) = compile::compile(graph, &request, scores, again).map_err(alive)?;
    say(channel, &Word::Compiled(verdict.clone()))?;
    if !verdict.ours {
        return Ok(Ready { compiled, verdict, memory: None });
    }
    let (Order::Room, message) = receive(channel)? else { return Err(End::Gone) };
    let memory = message.descriptor()?;
    compiled.write(&memory, &verdict)?;
    cnn::give_back_memory();
    say(channel, &Word::Written)?;
    match receive(channel)? {
        (Order::Sealed, _) => Ok(Ready { compiled, verdict, memory: Some(memory) }),
        _ => Err(End::Gone),
    }
}

/// Makes graphs for as long as somebody asks.
fn quantise(channel: &Channel, quantiser: &Quantiser) -> Result<End, End> {
    say(channel, &Word::Surveyed(quantiser.survey()))?;
    loop {
        let graph = match receive(channel)? {
            (Order::Watch { first, count }, _) => quantiser.watch(first..first.saturating_add(count)),
            (Order::Quantise(seen), _) => quantiser.write(&seen)?,
            _ => return Ok(End::Gone),
        };
        say(channel, &Word::Sized(graph.len() as u64))?;
        let (Order::Room, message) = receive(channel)? else { return Ok(End::Gone) };
        compile::write_all(&message.descriptor()?, &graph, 0)?;
        say(channel, &Word::Written)?;
    }
}

/// Asks for a file beside the model.
fn beside(channel: &Channel, name: &str) -> Result<(File, u64), End> {
    say(channel, &Word::Wants(name.to_owned()))?;
    match receive(channel)? {
        (Order::File, message) => {
            let file = File::from(message.descriptor()?);
            let size = file.metadata().map_err(crate::error::system("looking at a file of weights"))?.len();
            Ok((file, size))
        }
        (Order::NoFile(why), _) => Err(End::Failed(Error::new(Kind::ModelArtefact, why))),
        _ => Err(End::Gone),
    }
}

/// A thread for every run that the service opens.
fn serve_runs(channel: &Channel, ready: &Ready) -> Result<(), End> {
    let mut engine: Option<Arc<dyn Engine>> = None;
    loop {
        let (Order::Open { polite, threads }, message) = receive(channel)? else { return Err(End::Gone) };
        let [socket, memory] = <[OwnedFd; 2]>::try_from(message.descriptors).map_err(|_| End::Gone)?;
        let engine = match &engine {
            Some(engine) => engine.clone(),
            None => engine.insert(ready.compiled.engine(ready.memory.as_ref(), &ready.verdict)?).clone(),
        };
        let input_bytes = ready.verdict.frames * ready.verdict.input_floats * size_of::<f32>();
        let body = move || {
            if polite {
                priority::give_way(priority::LOADING - priority::COMPUTING);
            }
            // Threads without a run of their own help with the others', as politely as this one.
            cnn::allow_threads(threads);
            // The service sees the end of the socket.
            let _ = serve_run(engine.as_ref(), &Channel::of(socket), &File::from(memory), input_bytes);
        };
        let thread = std::thread::Builder::new().name("model-run".into());
        thread.spawn(body).map_err(crate::error::system("starting a thread"))?;
    }
}

fn serve_run(
    engine: &dyn Engine,
    channel: &Channel,
    memory: &File,
    input_bytes: usize,
) -> Result<(), Missing> {
    let tell = |word: &RunWord| channel.send(&word.write(), &[]);
    let mut run = match engine.new_run() {
        Ok(run) => run,
        Err(error) => return tell(&RunWord::Failed(error)),
    };
    let outputs = engine.output_shapes().len();
    let room = memory.metadata().map_or(0, |facts| facts.len()).saturating_sub(input_bytes as u64);
    tell(&RunWord::Ready)?;
    loop {
        let order = RunOrder::read(&channel.receive(None)?.bytes).ok_or(Missing::Nonsense)?;
        let attempt =
            AssertUnwindSafe(|| execute(run.as_mut(), &order, memory, input_bytes as u64, outputs, room));
        let word = match catch_unwind(attempt) {
            Ok(Ok(done)) => RunWord::Done(done),
            Ok(Err(error)) => RunWord::Failed(error),
            Err(_) => {
                // Whatever the arena holds now is not to be trusted.
                match engine.new_run() {
                    Ok(new) => run = new,
                    Err(error) => return tell(&RunWord::Failed(error)),
                }
                RunWord::Failed(Error::new(Kind::Inference, "the model panicked on a frame"))
            }
        };
        tell(&word)?;
    }
}

fn execute(
    run: &mut dyn Run,
    order: &RunOrder,
    memory: &File,
    input_bytes: u64,
    outputs: usize,
    room: u64,
) -> Result<Done> {
    let broken = |cause| Error::new(Kind::Inference, "the memory of a run cannot be used").because(cause);
    let frames = order.frames.clamp(1, MAX_FRAMES);
    run.expect_frames(frames);
    let mut at = 0;
    for frame in 0..frames {
        run.select_frame(frame);
        let input = as_bytes_mut(run.input());
        memory.read_exact_at(input, at).map_err(broken)?;
        at += input.len() as u64;
    }
    run.expect_scores_from(order.lowest);
    run.execute()?;
    let (mut lengths, mut used) = (Vec::with_capacity(frames), 0u64);
    for frame in 0..frames {
        run.select_frame(frame);
        let mut of_frame = Vec::with_capacity(outputs);
        for index in 0..outputs {
            let output = run.output(index);
            let bytes = as_bytes(output);
            if used + bytes.len() as u64 > room {
                let message = format!(
                    "the outputs of the model have more numbers than the {} that there is room for",
                    room / 4
                );
                return Err(Error::new(Kind::Inference, message));
            }
            memory.write_all_at(bytes, input_bytes + used).map_err(broken)?;
            used += bytes.len() as u64;
            of_frame.push(output.len());
        }
        lengths.push(of_frame);
    }
    let shapes = (0..outputs).map(|index| run.output_shape(index).map(<[usize]>::to_vec)).collect();
    Ok(Done { kept: run.kept().map(<[u32]>::to_vec), lengths, shapes })
}
