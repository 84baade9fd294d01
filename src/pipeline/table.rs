//! The table of pipelines: carries out commands.

use super::pipeline::Pipeline;
use super::state::Operation;
use super::{MAX_SOURCES, Shared};
use crate::command::{Command, Execute, Init, PipelineId, Reply};
use crate::error::{Error, Kind, Result};
use smol::LocalExecutor;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// See the module. One per service.
pub struct Table {
    shared: Rc<Shared>,
    executor: Rc<LocalExecutor<'static>>,
    /// In order of creation.
    pipelines: RefCell<Vec<Rc<Pipeline>>>,
    /// Set by [`Table::close`]: no new pipelines.
    closing: Cell<bool>,
}

impl Table {
    /// An empty table; its pipelines run on `executor`.
    pub fn new(shared: Rc<Shared>, executor: Rc<LocalExecutor<'static>>) -> Table {
        Table { shared, executor, pipelines: RefCell::default(), closing: Cell::new(false) }
    }

    /// Terminates every pipeline, all at once, and takes no new ones.
    pub async fn close(&self) {
        self.closing.set(true);
        let pipelines = self.pipelines.take();
        let ends: Vec<_> =
            pipelines.into_iter().map(|pipeline| self.executor.spawn(async move { pipeline.terminate().await })).collect();
        for end in ends {
            end.await;
        }
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

    /// Creates a pipeline and waits until its model is loaded. A failed one leaves nothing behind.
    async fn init(self: &Rc<Self>, init: Init) -> Result<PipelineId> {
        self.admit(&init)?;
        let id = PipelineId::new_v4();
        let pipeline = Rc::new(Pipeline::new(id, init, self.shared.clone()));
        self.pipelines.borrow_mut().push(pipeline.clone());
        let (ready, is_ready) = async_channel::bounded(1);
        let table = self.clone();
        // The pipeline's life does not hang on the client's connection: a task of its own carries it, and cleans up.
        let life = async move {
            if !pipeline.run(ready).await {
                let _ = table.remove(id);
            }
        };
        self.executor.spawn(life).detach();
        match is_ready.recv().await {
            Ok(Ok(())) => Ok(id),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::new(Kind::System, "The pipeline ended before it was ready")),
        }
    }

    fn admit(&self, init: &Init) -> Result<()> {
        if self.closing.get() {
            return Err(Error::new(Kind::ShuttingDown, "The service is stopping"));
        }
        let most = self.shared.settings.max_pipelines;
        if self.pipelines.borrow().len() >= most {
            return Err(Error::new(Kind::Exhausted, format!("At most {most} pipelines run at once")));
        }
        if init.sources.len() > MAX_SOURCES {
            return Err(Error::new(Kind::InvalidValue, format!("A pipeline has at most {MAX_SOURCES} sources")));
        }
        Ok(())
    }

    async fn terminate(&self, id: PipelineId) -> Result<()> {
        // Out of the table first: a second terminate finds nothing, as in the reference.
        self.remove(id)?.terminate().await;
        Ok(())
    }
}

/// The handle that the doors hold.
#[derive(Clone)]
pub struct Commands(pub Rc<Table>);

impl Execute for Commands {
    async fn execute(&self, command: Command) -> Result<Reply> {
        let table = &self.0;
        match command {
            Command::List => Ok(Reply::Pipelines(table.ids())),
            Command::Init(init) => table.init(*init).await.map(Reply::Initialised),
            Command::Status(id) => Ok(Reply::Report(Box::new(table.find(id)?.report()))),
            Command::Mute(id) => table.find(id)?.operate(Operation::Mute).map(|()| Reply::Done),
            Command::Resume(id) => table.find(id)?.operate(Operation::Resume).map(|()| Reply::Done),
            Command::Terminate(id) => table.terminate(id).await.map(|()| Reply::Done),
        }
    }
}
