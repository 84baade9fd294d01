//! The table of pipelines: carries out commands.

use super::Shared;
use super::budget::Budget;
use super::capacity::Capacity;
use super::inventory::{self, Machine};
use super::peek::Peeks;
use super::pipeline::{Origin, Pipeline};
use super::state::Operation;
use super::store::{Kept, Store};
use crate::command::{Command, Device, Execute, Init, MAX_SOURCES, PipelineId, Reply};
use crate::error::{Error, Kind, Result};
use crate::feed::{Feed, Listen};
use crate::view::{Places, Viewer, Wish};
use smol::LocalExecutor;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// A pipeline that the configuration asks for.
#[derive(Debug)]
pub struct Declared {
    /// Stable: the same declaration has the same id after every start.
    pub id: PipelineId,
    /// How the configuration calls it.
    pub name: String,
    /// What it shall do; `None` when that cannot be read (now): what ran before goes on.
    pub init: Option<Init>,
}

/// The pipelines, and all that commands do to them. One per service.
pub struct Table {
    shared: Rc<Shared>,
    budget: Rc<Budget>,
    capacity: Rc<Capacity>,
    executor: Rc<LocalExecutor<'static>>,
    /// In order of creation.
    pipelines: RefCell<Vec<Rc<Pipeline>>>,
    /// Absent when pipelines need not survive a restart.
    store: Option<Store>,
    /// What was last said of the machine.
    machine: Machine,
    /// For who looks at pictures.
    places: Places,
    peeks: Peeks,
    /// Set by [`Table::close`]: no new pipelines.
    closing: Cell<bool>,
}

impl Table {
    /// A table whose pipelines run on `executor`. Those kept in the state directory run again, with their ids
    /// and in their order, then those that are declared and were not kept.
    pub fn open(
        shared: Rc<Shared>,
        executor: Rc<LocalExecutor<'static>>,
        declared: Vec<Declared>,
    ) -> Rc<Table> {
        let opened = shared.settings.state_dir.as_deref().map(Store::open);
        let (store, kept) = opened.map_or((None, Vec::new()), |(store, kept)| (Some(store), kept));
        let outlets = shared.outlets.clone();
        let capacity = Capacity::new(shared.threads);
        let budget = Budget::new(shared.settings.memory_limit_bytes, move || outlets.most_bytes());
        let table = Rc::new(Table {
            places: Places::new(shared.settings.picture_viewers),
            peeks: Peeks::default(),
            shared,
            budget,
            capacity,
            executor,
            pipelines: RefCell::default(),
            store,
            machine: Machine::default(),
            closing: Cell::new(false),
        });
        for Kept { id, init, muted, is_declared } in kept {
            let origin = match declared.iter().find(|declared| declared.id == id) {
                Some(declared) if declared.init.as_ref().is_none_or(|now| *now == init) => {
                    Origin::Declared { muted }
                }
                // It does something else now: a new one, by its file.
                Some(_) => continue,
                None if is_declared => continue,
                None => Origin::Restored { muted },
            };
            log::info!("pipeline={id} event=restored muted={muted}");
            table.start(table.pipeline(id, init, origin));
        }
        table.start_declared(declared);
        table
    }

    /// Starts what is declared and not there yet.
    fn start_declared(self: &Rc<Self>, declared: Vec<Declared>) {
        for Declared { id, name, init } in declared {
            log::info!("pipeline={id} event=declared name={name:?}");
            if let Some(init) = init.filter(|_| self.find(id).is_err()) {
                self.start(self.pipeline(id, init, Origin::Declared { muted: false }));
            }
        }
    }

    /// The declarations were read again: what is no longer declared ends, what is declared differently starts
    /// anew, what is missing starts, and the rest goes on undisturbed.
    pub async fn redeclare(self: &Rc<Self>, declared: Vec<Declared>) {
        if self.closing.get() {
            return;
        }
        let goes_on = |pipeline: &Pipeline| {
            let now = declared.iter().find(|declared| declared.id == pipeline.id);
            now.is_some_and(|now| now.init.as_ref().is_none_or(|init| pipeline.does(init)))
        };
        let is_over = |pipeline: &&Rc<Pipeline>| pipeline.is_declared() && !goes_on(pipeline);
        let over: Vec<_> = self.pipelines.borrow().iter().filter(is_over).cloned().collect();
        self.pipelines.borrow_mut().retain(|pipeline| !over.iter().any(|over| over.id == pipeline.id));
        self.end(over).await;
        self.start_declared(declared);
        if let Err(error) = self.save().await {
            log::error!("{error}");
        }
    }

    /// Ends pipelines, all at once.
    async fn end(&self, pipelines: Vec<Rc<Pipeline>>) {
        let ends: Vec<_> = pipelines
            .into_iter()
            .map(|pipeline| self.executor.spawn(async move { pipeline.terminate().await }))
            .collect();
        for end in ends {
            end.await;
        }
    }

    /// The machine and what is in use of it.
    async fn device(&self) -> Device {
        let about = self.machine.about(&self.shared).await;
        let (memory_limit_bytes, memory_reserved_bytes) = self.budget.state();
        Device {
            threads: self.shared.threads,
            memory_limit_bytes,
            memory_reserved_bytes,
            max_pipelines: self.shared.settings.max_pipelines,
            models: inventory::in_use(&self.shared),
            pipelines: self.pipelines.borrow().iter().map(|pipeline| pipeline.outline()).collect(),
            about,
        }
    }

    /// Terminates every pipeline, all at once, and takes no new ones.
    pub async fn close(&self) {
        self.closing.set(true);
        // They stay in the table: a command under way may still write it to the disk, and the next start
        // shall find them.
        let pipelines = self.pipelines.borrow().clone();
        self.end(pipelines).await;
    }

    fn ids(&self) -> Vec<PipelineId> {
        self.pipelines.borrow().iter().map(|pipeline| pipeline.id).collect()
    }

    fn find(&self, id: PipelineId) -> Result<Rc<Pipeline>> {
        let pipelines = self.pipelines.borrow();
        let found = pipelines.iter().find(|pipeline| pipeline.id == id);
        found.cloned().ok_or_else(|| Error::new(Kind::NoSuchPipeline, ""))
    }

    fn remove(&self, id: PipelineId) -> Result<Rc<Pipeline>> {
        let pipeline = self.find(id)?;
        self.pipelines.borrow_mut().retain(|pipeline| pipeline.id != id);
        Ok(pipeline)
    }

    /// Creates a pipeline and waits until its model is loaded and its file written. A failed one leaves
    /// nothing behind, nor does one whose id nobody will learn: `is_unheard` says that who asked has gone, or
    /// has been told that it took too long.
    async fn init(self: &Rc<Self>, init: Init, is_unheard: impl Fn() -> bool) -> Result<PipelineId> {
        self.admit(&init)?;
        let id = PipelineId::new_v4();
        let ready = self.start(self.pipeline(id, init, Origin::Client));
        let ended = || Err(Error::new(Kind::System, "The pipeline ended before it was ready"));
        ready.recv().await.unwrap_or_else(|_| ended())?;
        // A pipeline that would not survive must not be acknowledged.
        let kept = if is_unheard() { Ok(()) } else { self.save().await };
        if kept.is_err() || is_unheard() {
            log::info!("pipeline={id} event=withdrawn");
            self.terminate(id).await?;
        }
        kept.map(|()| id)
    }

    fn pipeline(&self, id: PipelineId, init: Init, origin: Origin) -> Pipeline {
        Pipeline::new(id, init, self.shared.clone(), (self.budget.clone(), self.capacity.clone()), origin)
    }

    /// Runs a pipeline in a task of its own: its life does not hang on any client's connection.
    fn start(self: &Rc<Self>, pipeline: Pipeline) -> async_channel::Receiver<Result<()>> {
        let pipeline = Rc::new(pipeline);
        self.pipelines.borrow_mut().push(pipeline.clone());
        let (ready, is_ready) = async_channel::bounded(1);
        let table = self.clone();
        let life = async move {
            if !pipeline.run(ready).await {
                // Gone already when somebody terminated it meanwhile.
                let _ = table.remove(pipeline.id);
                // One that had run and was abandoned must not come back after a restart.
                if pipeline.to_keep().is_some()
                    && let Err(error) = table.save().await
                {
                    log::error!("pipeline={} event=not_forgotten error={error}", pipeline.id);
                }
            }
        };
        self.executor.spawn(life).detach();
        is_ready
    }

    /// Writes the table to the state directory, if there is one.
    async fn save(&self) -> Result<()> {
        let Some(store) = &self.store else { return Ok(()) };
        store
            .save(|| self.pipelines.borrow().iter().filter_map(|pipeline| pipeline.to_keep()).collect())
            .await
    }

    /// Nothing changes any more once the service stops: what is on the disk then is what the next start
    /// finds.
    fn is_open(&self) -> Result<()> {
        if self.closing.get() {
            Err(Error::new(Kind::ShuttingDown, "The service is stopping"))
        } else {
            Ok(())
        }
    }

    fn admit(&self, init: &Init) -> Result<()> {
        self.is_open()?;
        let most = self.shared.settings.max_pipelines;
        if self.pipelines.borrow().len() >= most {
            return Err(Error::new(Kind::Exhausted, format!("At most {most} pipelines run at once")));
        }
        if init.sources.len() > MAX_SOURCES {
            return Err(Error::new(
                Kind::InvalidValue,
                format!("A pipeline has at most {MAX_SOURCES} sources"),
            ));
        }
        Ok(())
    }

    async fn terminate(&self, id: PipelineId) -> Result<()> {
        self.is_open()?;
        // Out of the table first: a second terminate finds nothing, as in the reference.
        let pipeline = self.remove(id)?;
        log::info!("pipeline={id} event=terminating");
        pipeline.terminate().await;
        self.save().await
    }

    async fn operate(&self, id: PipelineId, operation: Operation) -> Result<()> {
        self.is_open()?;
        self.find(id)?.operate(operation)?;
        self.save().await
    }
}

/// The handle that the listeners hold.
#[derive(Clone)]
pub struct Commands(pub Rc<Table>);

/// Where the outcome of a change is awaited; closed when nobody waits for it any more.
type Answer = async_channel::Sender<Result<Reply>>;

impl Commands {
    /// Carries out a change to its end, also when the client goes away meanwhile: half of one, such as a
    /// pipeline that is gone from the table but not from the disk, would be worse than either.
    async fn change(
        &self,
        change: impl AsyncFnOnce(&Rc<Table>, &Answer) -> Result<Reply> + 'static,
    ) -> Result<Reply> {
        let (answer, answered) = async_channel::bounded(1);
        let table = self.0.clone();
        let whole = async move {
            let outcome = change(&table, &answer).await;
            // Fails when nobody waits.
            let _ = answer.try_send(outcome);
        };
        self.0.executor.spawn(whole).detach();
        answered.recv().await.unwrap_or_else(|_| Err(Error::new(Kind::System, "The command was given up")))
    }
}

impl Listen for Commands {
    fn listen(&self, id: PipelineId) -> Result<Feed> {
        self.0.find(id)?.listen()
    }

    fn look(&self, id: PipelineId, source: u32, wish: Wish) -> Result<Viewer> {
        let pipeline = self.0.find(id)?;
        pipeline.look(source, wish, || self.0.places.take())
    }

    fn unseen(&self, id: PipelineId, source: u32) -> Error {
        self.0.find(id).map_or_else(|error| error, |pipeline| pipeline.unseen(source))
    }
}

impl Execute for Commands {
    fn fault(&self) -> Option<String> {
        self.0.shared.spawner.fault()
    }

    async fn execute(&self, command: Command) -> Result<Reply> {
        let table = &self.0;
        let done = |()| Reply::Done;
        match command {
            Command::List => Ok(Reply::Pipelines(table.ids())),
            Command::Status(id) => Ok(Reply::Report(Box::new(table.find(id)?.report()))),
            Command::Peek(source) => {
                table.is_open()?;
                table.peeks.look(*source, &table.shared, &table.budget).await.map(Reply::Picture)
            }
            Command::Consume(id) => table.find(id)?.consume(),
            Command::History(id) => Ok(Reply::History(table.find(id)?.history())),
            Command::Models => Ok(Reply::Models(inventory::local_models(&table.shared).await)),
            Command::Device => Ok(Reply::Device(Box::new(table.device().await))),
            Command::Init(init) => {
                let change = async move |table: &Rc<Table>, answer: &Answer| {
                    table.init(*init, || answer.is_closed()).await.map(Reply::Initialised)
                };
                self.change(change).await
            }
            Command::Mute(id) => {
                self.change(async move |table, _| table.operate(id, Operation::Mute).await.map(done)).await
            }
            Command::Resume(id) => {
                self.change(async move |table, _| table.operate(id, Operation::Resume).await.map(done)).await
            }
            Command::Terminate(id) => {
                self.change(async move |table, _| table.terminate(id).await.map(done)).await
            }
        }
    }
}
