//! What the machine has and what pipelines use of it.

use super::Shared;
use crate::command::{LocalModel, ModelInUse};
use async_lock::Mutex;
use std::time::{Duration, Instant};

/// Models at most that a list of them names: a person chooses from it. More than that are asked for by their
/// names.
const MOST_LISTED: usize = 512;

/// For how long what was found of the machine is said again: finding it out opens devices and libraries, and
/// knocks at the model registry's listener.
const ABOUT_AGE: Duration = Duration::from_secs(60);

/// A word and a text each.
type Facts = Vec<(String, String)>;

/// What was last found of the machine, and when. Who asks while somebody else's question is answered waits
/// for that answer.
#[derive(Debug, Default)]
pub(super) struct Machine(Mutex<Option<(Instant, Facts)>>);

impl Machine {
    /// What `weir check` says: a word and a text each.
    pub(super) async fn about(&self, shared: &Shared) -> Facts {
        let mut known = self.0.lock().await;
        if let Some((_, facts)) = known.as_ref().filter(|(when, _)| when.elapsed() < ABOUT_AGE) {
            return facts.clone();
        }
        let about = shared.about.clone();
        let text = smol::unblock(move || about()).await;
        let facts: Vec<_> = text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(word, text)| (word.to_owned(), text.trim_start().to_owned()))
            .collect();
        *known = Some((Instant::now(), facts.clone()));
        facts
    }
}

/// The models that lie on this machine. Reads folders, on a thread of its own.
pub(super) async fn local_models(shared: &Shared) -> Vec<LocalModel> {
    let here = shared.models.here();
    let mut models: Vec<_> = smol::unblock(here)
        .await
        .into_iter()
        .map(|found| LocalModel { id: found.name, bytes: found.bytes })
        .collect();
    models.truncate(MOST_LISTED);
    models
}

/// The models in use.
pub(super) fn in_use(shared: &Shared) -> Vec<ModelInUse> {
    let mut models: Vec<_> = shared
        .models
        .loaded()
        .iter()
        .map(|model| ModelInUse {
            id: model.id().to_owned(),
            family: model.family_name(),
            engine: model.engine_name(),
            width: model.rule().width,
            height: model.rule().height,
            classes: model.classes().len(),
            weights_bytes: model.weights_bytes(),
            arena_bytes: model.arena_bytes(),
        })
        .collect();
    models.sort_by(|a, b| a.id.cmp(&b.id));
    models
}
