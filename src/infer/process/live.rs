//! A model's process while it runs, and what it takes to load the same model once more.

use super::channel::{Channel, Missing};
use super::launch::{self, Running};
use super::words::{Order, Verdict, Word};
use crate::error::{Error, Kind, Result, system};
use crate::infer::cnn::{self, Blueprint};
use crate::infer::onnx::{open_beside, open_weights};
use crate::infer::shared::{SEAL_TIMEOUT, SharedFloats, fix_size, memory_file, seal};
use crate::infer::{Engine, EngineChoice, Precision, Scores};
use crate::sandbox::Exit;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Says how the scores of outputs of such shapes are to be read, where that can be told.
pub(super) type Judge<'a> = &'a dyn Fn(&[Vec<usize>]) -> Option<Scores>;

/// How often somebody is asked whether the model is still wanted.
const WANTED_INTERVAL: Duration = Duration::from_millis(200);

/// What reading and compiling may write to beside the model itself: tract's tables and what its optimiser
/// evaluates.
const WORKING_BYTES: u64 = 512 << 20;
/// The model itself, so many times: as it was read, as tract's tensors, and as tract packs them.
const COPIES: u64 = 3;

/// What a model may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Largest model file that is read, bytes.
    pub(crate) max_file_bytes: u64,
    /// Weights and one run, bytes.
    pub(crate) budget_bytes: u64,
    /// To read the file, and to compile it.
    pub(crate) timeout: Duration,
}

/// How a graph shall be compiled: size, engine, precision, threads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    /// Width of the model's input, pixels.
    pub(crate) width: usize,
    /// Height of the model's input, pixels.
    pub(crate) height: usize,
    /// Ours, tract's, or the better one.
    pub(crate) engine: EngineChoice,
    /// How exactly ours computes.
    pub(crate) precision: Precision,
}

/// A running process and the conversation with it.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) channel: Mutex<Channel>,
    running: Mutex<Option<Running>>,
    pub(super) is_handed_over: AtomicBool,
}

/// Everything that is needed to load the same model once more.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) file: ModelFile,
    pub(super) limits: Limits,
    pub(super) request: Request,
    pub(super) threads: usize,
    pub(super) scores: Option<Scores>,
}

/// A file that stays the same whatever happens to its name.
#[derive(Debug)]
pub(super) struct ModelFile {
    path: PathBuf,
    file: File,
    size: u64,
}

impl ModelFile {
    pub(super) fn open(path: &Path, max_bytes: u64) -> Result<ModelFile> {
        let unreadable = |cause: std::io::Error| {
            Error::new(Kind::ModelArtefact, "the weights cannot be read").because(cause)
        };
        let (file, size) = open_weights(path, max_bytes, unreadable)?;
        Ok(ModelFile { path: path.to_owned(), file, size })
    }

    /// For lines of the log.
    fn about(&self) -> String {
        self.path.display().to_string()
    }
}

impl Live {
    pub(super) fn start(file: &ModelFile, limits: &Limits) -> Result<Live> {
        let (channel, socket) = Channel::pair()?;
        let running = launch::launch(&file.about(), socket)?;
        let memory_bytes = limits
            .budget_bytes
            .saturating_add(WORKING_BYTES)
            .saturating_add(file.size.saturating_mul(COPIES));
        let order = Order::Read {
            parent: std::process::id(),
            memory_bytes,
            budget_bytes: limits.budget_bytes,
            size: file.size,
        };
        let live = Live {
            channel: Mutex::new(channel),
            running: Mutex::new(Some(running)),
            is_handed_over: AtomicBool::new(false),
        };
        live.say(&order, Some(file.file.as_fd()));
        Ok(live)
    }

    /// Process id, while it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.pid()
    }

    /// How it ended, once its socket is closed.
    pub(super) fn ended(&self) -> Option<Exit> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        running?.ended()
    }

    /// Ends it, and waits until it is gone.
    pub(super) fn end(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(running) = running {
            running.kill();
            running.ended();
        }
    }

    /// Ends the process at once.
    pub(super) fn kill(&self) {
        drop(self.running.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    pub(super) fn say(&self, order: &Order, descriptor: Option<BorrowedFd<'_>>) {
        let channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        let descriptors: Vec<_> = descriptor.into_iter().collect();
        // Who does not listen any more has said why, or has ended: `hear` will see it.
        let _ = channel.send(&order.write(), &descriptors);
    }

    /// What it says next. Files of weights that it wants are given on the way.
    pub(super) fn hear(
        &self,
        file: &ModelFile,
        limits: &Limits,
        deadline: Instant,
        wanted: &dyn Fn() -> Result<()>,
    ) -> Result<Word> {
        loop {
            wanted()?;
            let slice = deadline.min(Instant::now() + WANTED_INTERVAL);
            let heard = self.channel.lock().unwrap_or_else(PoisonError::into_inner).receive(Some(slice));
            match heard {
                Ok(message) => match Word::read(&message.bytes) {
                    Some(Word::Failed(error)) => return Err(error),
                    Some(Word::Wants(name)) => self.give(file, limits, &name),
                    Some(word) => return Ok(word),
                    None => return Err(broke_protocol()),
                },
                Err(Missing::Late) if Instant::now() < deadline => {}
                Err(Missing::Late) => {
                    self.kill();
                    return Err(Error::new(
                        Kind::ModelArtefact,
                        "the model took longer to load than it may (models.load_timeout_s)",
                    ));
                }
                Err(Missing::Nonsense) => return Err(broke_protocol()),
                Err(Missing::Gone) => return Err(self.obituary()),
            }
        }
    }

    fn obituary(&self) -> Error {
        let exit = self.ended();
        // An allocation that fails ends it so.
        let aborted = exit.is_some_and(
            |exit| matches!(exit, Exit::Signal(signal) if signal == rustix::process::Signal::ABORT.as_raw()),
        );
        let exit = exit.map_or_else(|| "ended".to_owned(), |exit| exit.to_string());
        let kind = if aborted { Kind::Exhausted } else { Kind::ModelArtefact };
        Error::new(kind, format!("the process that read the model ended early ({exit})"))
    }

    /// A file beside the model.
    fn give(&self, file: &ModelFile, limits: &Limits, name: &str) {
        let most = limits.budget_bytes.max(limits.max_file_bytes);
        match open_beside(file.path.parent(), name) {
            Ok((_, size)) if size > most => {
                self.say(&Order::NoFile("a file of weights is larger than a model may be".into()), None);
            }
            Ok((found, _)) => self.say(&Order::File, Some(found.as_fd())),
            Err(error) => self.say(&Order::NoFile(error.message().to_owned()), None),
        }
    }

    /// Tells it what to compile. Shapes of the outputs, 0 where a side depends on the picture; it then waits
    /// to be told where their scores are.
    pub(super) fn shapes(
        &self,
        recipe: &Recipe,
        deadline: Instant,
        wanted: &dyn Fn() -> Result<()>,
    ) -> Result<Vec<Vec<usize>>> {
        let Request { width, height, engine, precision } = recipe.request;
        self.say(&Order::Compile { width, height, engine, precision, threads: recipe.threads }, None);
        match self.hear(&recipe.file, &recipe.limits, deadline, wanted)? {
            Word::Shapes(shapes) => Ok(shapes),
            _ => Err(broke_protocol()),
        }
    }

    /// Its verdict, and the sealed memory with weights and document where there is any. `scores` is asked the
    /// first time; after that the recipe knows.
    pub(super) fn compile(
        &self,
        recipe: &mut Recipe,
        scores: Option<Judge>,
        deadline: Instant,
        wanted: &dyn Fn() -> Result<()>,
    ) -> Result<(Verdict, Option<OwnedFd>)> {
        let limits = recipe.limits;
        let shapes = self.shapes(recipe, deadline, wanted)?;
        if let Some(scores) = scores {
            let are_fixed = shapes.iter().all(|shape| !shape.contains(&0));
            recipe.scores = are_fixed.then(|| scores(&shapes)).flatten();
        }
        self.say(&Order::Scores(recipe.scores), None);
        let Word::Compiled(verdict) = self.hear(&recipe.file, &limits, deadline, wanted)? else {
            return Err(broke_protocol());
        };
        recipe.limits.allow(&verdict)?;
        if !verdict.ours {
            return Ok((verdict, None));
        }
        let weights_bytes = (verdict.weights_floats as u64).saturating_mul(size_of::<f32>() as u64);
        let memory = memory_file(
            weights_bytes.saturating_add(verdict.document_bytes as u64).max(size_of::<f32>() as u64),
        )?;
        fix_size(&memory)?;
        self.say(&Order::Room, Some(memory.as_fd()));
        let Word::Written = self.hear(&recipe.file, &limits, deadline, wanted)? else {
            return Err(broke_protocol());
        };
        seal(&memory, deadline.min(Instant::now() + SEAL_TIMEOUT))?;
        self.say(&Order::Sealed, None);
        Ok((verdict, Some(memory)))
    }
}

/// Refuses a model whose weights and one run take more than it may.
pub(crate) fn within_budget(bytes: u64, budget_bytes: u64) -> Result<()> {
    if bytes <= budget_bytes {
        return Ok(());
    }
    let message =
        format!("the model needs {} MiB, more than the {} MiB allowed", bytes >> 20, budget_bytes >> 20);
    Err(Error::new(Kind::Exhausted, message))
}

impl Limits {
    /// Before any of it is allocated.
    fn allow(&self, verdict: &Verdict) -> Result<()> {
        let weights = verdict.weights_floats.saturating_mul(size_of::<f32>());
        let bytes = [weights, verdict.foreign_bytes, verdict.arena_bytes]
            .into_iter()
            .fold(0usize, usize::saturating_add);
        within_budget(bytes as u64, self.budget_bytes)
    }
}

impl Recipe {
    /// Our own engine, in this process, from a document that may hold anything and weights that can change no
    /// more.
    pub(super) fn own_engine(&self, verdict: &Verdict, memory: &OwnedFd) -> Result<Arc<dyn Engine>> {
        let mut document = vec![0; verdict.document_bytes];
        let at = (verdict.weights_floats as u64).saturating_mul(size_of::<f32>() as u64);
        let file = File::from(memory.try_clone().map_err(system("reading a plan"))?);
        file.read_exact_at(&mut document, at).map_err(system("reading a plan"))?;
        let options = cnn::Options {
            scores: self.scores,
            threads: self.threads,
            precision: self.request.precision,
            ..cnn::Options::default()
        };
        let blueprint = Blueprint::read(&document, &options)?;
        let size = blueprint.size()?;
        let planes = self.request.width.saturating_mul(self.request.height).saturating_mul(3);
        if size.input_floats != planes || size.weights_floats != verdict.weights_floats {
            return Err(Error::new(
                Kind::ModelArtefact,
                "the model process made a plan for another input or other weights",
            ));
        }
        let bytes = size.weights_floats.saturating_mul(size_of::<f32>()).saturating_add(size.arena_bytes);
        within_budget(bytes as u64, self.limits.budget_bytes)?;
        blueprint.engine(SharedFloats::map(memory, verdict.weights_floats)?)
    }

    /// For lines of the log.
    pub(super) fn about(&self) -> String {
        self.file.about()
    }

    /// Longest time to load it, and for its first run.
    pub(super) fn timeout(&self) -> Duration {
        self.limits.timeout
    }

    /// Loads the model once more. Blocks.
    pub(super) fn load(&self) -> Result<(Verdict, Live)> {
        let deadline = Instant::now() + self.limits.timeout;
        let live = Live::start(&self.file, &self.limits)?;
        let Word::Described(_) = live.hear(&self.file, &self.limits, deadline, &|| Ok(()))? else {
            return Err(broke_protocol());
        };
        let file = ModelFile {
            path: self.file.path.clone(),
            file: self.file.file.try_clone().map_err(system("using a model again"))?,
            size: self.file.size,
        };
        let mut again = Recipe { file, ..*self };
        let (verdict, _) = live.compile(&mut again, None, deadline, &|| Ok(()))?;
        Ok((verdict, live))
    }
}

pub(super) fn broke_protocol() -> Error {
    Error::new(Kind::ModelArtefact, "the model process broke its protocol")
}
