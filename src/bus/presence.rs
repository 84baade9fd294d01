//! What the broker keeps of the service and its pipelines: looked at every second, told when it changes.

use super::board::Board;
use super::discovery;
use super::mqtt::MqttSettings;
use crate::clock::Wall;
use crate::command::{Command, Event, Execute, PipelineId, Reply, Report, Severity, SourceState};
use crate::json::{Style, Writer};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Between two looks at the pipelines.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Figures that have changed are told this often, and what matters more at once: each is a row in somebody's
/// database.
const FIGURES_EVERY: Duration = Duration::from_secs(10);

/// Tells the broker of the service and its pipelines, and takes the orders that come back.
pub(super) struct Presence<E> {
    board: Rc<Board>,
    commands: E,
    settings: MqttSettings,
}

/// What was told of one pipeline.
struct Told {
    state: Standing,
    at: Instant,
    /// Home Assistant knows of it.
    is_discovered: bool,
}

/// How a pipeline stands: what is told at once when it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Standing {
    state: &'static str,
    reason: Option<String>,
    /// By number of the class.
    objects: Vec<u32>,
}

impl<E: Execute> Presence<E> {
    pub(super) fn new(settings: &MqttSettings, board: Rc<Board>, commands: E) -> Presence<E> {
        Presence { board, commands, settings: settings.clone() }
    }

    /// Looks and tells, until dropped.
    pub(super) async fn run(self) {
        let mut told = BTreeMap::new();
        loop {
            self.look(&mut told).await;
            smol::Timer::after(LOOK_EVERY).await;
        }
    }

    async fn look(&self, told: &mut BTreeMap<PipelineId, Told>) {
        let Ok(Reply::Pipelines(ids)) = self.commands.execute(Command::List).await else { return };
        self.board.set(&format!("{}/device", self.settings.base_topic), &self.device(ids.len()));
        for id in &ids {
            // One that ended between the two questions is gone at the next look.
            if let Ok(Reply::Report(report)) = self.commands.execute(Command::Status(*id)).await {
                self.tell(*id, &report, told);
            }
        }
        let mut kept = self.board.take_found();
        kept.extend(told.keys());
        let gone: Vec<PipelineId> = kept.into_iter().filter(|id| !ids.contains(id)).collect();
        for id in gone {
            told.remove(&id);
            self.board.clear(&self.topic(id));
            self.board.clear(&discovery::picture_topic(&self.settings.base_topic, id));
            if let Some(prefix) = &self.settings.discovery_prefix {
                self.board.clear(&discovery::topic(prefix, id));
            }
        }
    }

    fn tell(&self, id: PipelineId, report: &Report, told: &mut BTreeMap<PipelineId, Told>) {
        let state = standing(report);
        let now = Instant::now();
        let last = told.get(&id);
        let is_discovered = last.is_some_and(|last| last.is_discovered) || self.discover(id, report);
        let is_known = last.is_some_and(|last| last.state == state && last.is_discovered == is_discovered);
        if is_known && last.is_some_and(|last| now.saturating_duration_since(last.at) < FIGURES_EVERY) {
            return;
        }
        self.board.set(&self.topic(id), &written(&state, report));
        if is_discovered && let Some(url) = &self.settings.http_url {
            // A new address each time: who shows the picture fetches it again.
            let second = Wall::now().micros() / 1_000_000;
            let url = format!("{}/pipelines/{id}/snapshot.jpg?t={second}", url.trim_end_matches('/'));
            self.board.set(&discovery::picture_topic(&self.settings.base_topic, id), url.as_bytes());
        }
        told.insert(id, Told { state, at: now, is_discovered });
    }

    /// Tells Home Assistant of it, once it is known what it can find.
    fn discover(&self, id: PipelineId, report: &Report) -> bool {
        let (Some(prefix), Some((classes, _))) = (&self.settings.discovery_prefix, &report.figures.objects)
        else {
            return false;
        };
        let message = discovery::message(&self.settings, &self.settings.base_topic, id, classes);
        self.board.set(&discovery::topic(prefix, id), &message);
        true
    }

    fn topic(&self, id: PipelineId) -> String {
        format!("{}/pipelines/{id}/state", self.settings.base_topic)
    }

    fn device(&self, pipelines: usize) -> Vec<u8> {
        let mut json = Writer::new(Style::Compact);
        json.begin_object();
        json.key("name").string(&self.settings.device_name);
        json.key("version").plain(env!("CARGO_PKG_VERSION"));
        json.key("pipelines").integer(pipelines as u64);
        json.end_object();
        json.finish()
    }
}

/// The state of a pipeline in a word, by its sources, and why it does not run.
fn standing(report: &Report) -> Standing {
    let is = |states: &[SourceState]| report.sources.iter().any(|source| states.contains(&source.state));
    let state = if report.sources.iter().all(|source| source.state == SourceState::Ended) {
        "ended"
    } else if is(&[SourceState::Error, SourceState::Restarting]) {
        "reconnecting"
    } else if is(&[SourceState::Muted, SourceState::Paused]) {
        "paused"
    } else if is(&[SourceState::NotStarted, SourceState::Initialising]) {
        "starting"
    } else {
        "running"
    };
    let reason = |event: &Event| match event {
        Event::SourceError { message, .. } | Event::InferenceError { message, .. } => Some(message.clone()),
        _ => None,
    };
    let errors = report.updates.iter().rev().filter(|update| update.severity == Severity::Error);
    let reason =
        if state == "reconnecting" { errors.map(|update| &update.event).find_map(reason) } else { None };
    let objects = report.figures.objects.as_ref().map(|(_, most)| most.clone()).unwrap_or_default();
    Standing { state, reason, objects }
}

fn written(standing: &Standing, report: &Report) -> Vec<u8> {
    let mut json = Writer::new(Style::Compact);
    json.begin_object();
    json.key("state").plain(standing.state);
    if let Some(reason) = &standing.reason {
        json.key("reason").string(reason);
    }
    // A tenth is as much as anybody wants to know.
    json.key("fps").float((report.inference_throughput * 10.0).round() / 10.0);
    json.key("objects").begin_array();
    standing.objects.iter().for_each(|count| json.integer(*count));
    json.end_array();
    json.key("sources").begin_array();
    for source in &report.sources {
        json.plain(source.state.as_str());
    }
    json.end_array();
    json.end_object();
    json.finish()
}
