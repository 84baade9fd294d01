//! A table of pipelines in memory, for the tests of the listeners, and a loop to serve them on.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use uuid::Uuid;

use crate::clock::Wall;
use crate::command::{
    Command, Context, Event, Execute, Figures, Init, LatencyReport, PipelineId, Reply, Report, Severity,
    SourceFigures, SourceMetadata, SourceProperties, SourceReference, SourceState, Update,
};
use crate::error::{Error, Kind, Result};
use crate::feed::{Feed, Listen, Listeners};
use crate::view::{Audience, Places, Viewer, Wish};

/// Pipelines that have a state and do nothing. The model `slow/1` takes for ever, `nope/7` does not exist.
#[derive(Default)]
pub(super) struct Fake {
    pipelines: RefCell<Vec<(PipelineId, SourceState, Init)>>,
    listeners: Listeners,
}

impl Fake {
    fn change(&self, id: PipelineId, verb: &str, from: SourceState, to: SourceState) -> Result<Reply> {
        let mut pipelines = self.pipelines.borrow_mut();
        let found = pipelines.iter_mut().find(|pipeline| pipeline.0 == id);
        let Some(pipeline) = found else { return Err(Error::new(Kind::NoSuchPipeline, "")) };
        if pipeline.1 != from {
            let text = format!("Could not {verb} stream in state: StreamState.{}", pipeline.1.as_str());
            return Err(Error::new(Kind::NotAllowed, text));
        }
        pipeline.1 = to;
        Ok(Reply::Done)
    }
}

impl Execute for Fake {
    async fn execute(&self, command: Command) -> Result<Reply> {
        match command {
            Command::List => {
                Ok(Reply::Pipelines(self.pipelines.borrow().iter().map(|pipeline| pipeline.0).collect()))
            }
            Command::Init(init) => {
                match init.model_id.as_str() {
                    "slow/1" => smol::future::pending().await,
                    "nope/7" => return Err(Error::new(Kind::ApiNotFound, "Could not find it")),
                    _ => {}
                }
                let id = Uuid::new_v4();
                self.pipelines.borrow_mut().push((id, SourceState::Running, *init));
                Ok(Reply::Initialised(id))
            }
            Command::Status(id) => {
                let pipelines = self.pipelines.borrow();
                let found = pipelines.iter().find(|pipeline| pipeline.0 == id);
                let (_, state, init) = found.ok_or_else(|| Error::new(Kind::NoSuchPipeline, ""))?;
                Ok(Reply::Report(Box::new(report(*state, &init.sources[0].reference))))
            }
            Command::Mute(id) => self.change(id, "MUTE", SourceState::Running, SourceState::Muted),
            Command::Resume(id) => self.change(id, "RESUME", SourceState::Muted, SourceState::Running),
            Command::History(_)
            | Command::Models
            | Command::Device
            | Command::Peek(_)
            | Command::Consume(_) => Err(Error::new(Kind::Unsupported, "")),
            Command::Terminate(id) => {
                let before = self.pipelines.borrow().len();
                self.pipelines.borrow_mut().retain(|pipeline| pipeline.0 != id);
                if self.pipelines.borrow().len() == before {
                    return Err(Error::new(Kind::NoSuchPipeline, ""));
                }
                Ok(Reply::Done)
            }
        }
    }
}

impl Listen for Fake {
    fn listen(&self, id: PipelineId) -> Result<Feed> {
        let known = self.pipelines.borrow().iter().any(|pipeline| pipeline.0 == id);
        if known { self.listeners.join() } else { Err(Error::new(Kind::NoSuchPipeline, "")) }
    }

    /// Nothing is to be seen here.
    fn look(&self, id: PipelineId, source: u32, wish: Wish) -> Result<Viewer> {
        self.listen(id)?;
        match source {
            0 => Ok(Rc::new(Audience::default()).join(wish, Places::new(1).take()?)),
            _ => Err(Error::new(Kind::NoSuchSource, "The pipeline has one source")),
        }
    }

    fn unseen(&self, _: PipelineId, _: u32) -> Error {
        Error::new(Kind::NoPicture, "Nothing is to be seen here")
    }
}

fn report(state: SourceState, reference: &SourceReference) -> Report {
    let update = |severity, event, context, count| Update {
        timestamp: Wall::from_micros(5),
        severity,
        event,
        context,
        count,
    };
    let lost = Event::SourceError { source_id: 0, error_type: "SourceLostError", message: "ä".into() };
    Report {
        updates: vec![
            update(Severity::Info, Event::InferenceStarted, Context::Pipeline, 1),
            update(Severity::Error, lost, Context::Source, 3),
        ],
        latencies: vec![LatencyReport { frame_decoding: Some(0.5), inference: None, end_to_end: Some(1.0) }],
        inference_throughput: 0.0,
        sources: vec![SourceMetadata {
            properties: Some(SourceProperties {
                width: 640,
                height: 480,
                total_frames: 3600,
                is_file: false,
                fps: 30.0,
                timestamp_created: None,
            }),
            reference: reference.clone(),
            buffer_size: 64,
            masks: Vec::new(),
            state,
            filling: None,
            consumption: Some(crate::command::Consumption::Eager),
        }],
        figures: Figures { sources: vec![SourceFigures::default()], ..Figures::default() },
    }
}

/// Runs a test with a server on the same loop; fails it when it takes longer than any test should.
pub(super) fn run<F: Future<Output = ()>>(test: impl FnOnce(Rc<smol::LocalExecutor<'static>>) -> F) {
    let executor = Rc::new(smol::LocalExecutor::new());
    let timeout = async {
        smol::Timer::after(Duration::from_secs(30)).await;
        panic!("the test hangs");
    };
    smol::block_on(smol::future::or(executor.clone().run(test(executor)), timeout));
}
