//! Fetching a model from the Roboflow API into the cache: docs/roboflow.md §6.1.

use super::assemble::unknown_model_type;
use super::cache::{self, CLASS_NAMES, DEFAULT_MODEL_TYPE, ENVIRONMENT, MODEL_TYPE, Partial};
use super::document::{self, Look, MAX_DOCUMENT_BYTES};
use super::http::{Client, Server, encode};
use super::in_flight::Watch;
use super::lock::Lock;
use super::{Progress, RegistrySettings, Stage};
use crate::command::Secret;
use crate::error::{Error, Kind, Result};
use crate::infer::family::Family;
use miniserde::json::Value;
use std::fs::File;

/// The only kind of model there is.
const TASK: &str = "object-detection";

/// A version in the cache.
pub(super) enum Fetched {
    /// It was there: put there earlier, by us or by somebody else.
    Before,
    /// Downloaded just now. The lock says which files that were.
    Now(Lock),
}

/// Makes sure that a version lies in the cache. A complete folder is taken as it is: no request, no key.
pub(super) fn fetch(
    dataset: &str,
    version: u64,
    key: Option<&Secret>,
    settings: &RegistrySettings,
    watch: &dyn Watch,
) -> Result<Fetched> {
    let folder = cache::folder(&settings.cache_dir, dataset, version);
    if cache::is_complete(&folder) {
        return Ok(Fetched::Before);
    }
    if settings.offline {
        let message = format!("model {dataset}/{version} is not in the cache, and the service is offline");
        return Err(Error::new(Kind::ApiConnection, message));
    }
    watch.report(Progress { stage: Stage::Resolving, bytes: 0, total: None })?;
    let lock = lock(dataset, version, settings, watch)?;
    if cache::is_complete(&folder) {
        return Ok(Fetched::Before); // Another process fetched it while this one waited.
    }
    let (partial, weights) = download(dataset, version, key, settings, watch)?;
    partial.keep(&weights, &lock)?;
    Ok(Fetched::Now(lock))
}

/// The version's lock. The reference's bears the version alone, and is held for a moment only. Ours is held
/// while a model downloads, and version 1 of another data set must not wait for that.
pub(super) fn lock(
    dataset: &str,
    version: u64,
    settings: &RegistrySettings,
    watch: &dyn Watch,
) -> Result<Lock> {
    Lock::take(&settings.cache_dir, &format!("{dataset}-{version}"), watch)
}

/// Downloads a version beside its place in the cache; the last file of it is open. Whoever asks holds the
/// version's lock.
pub(super) fn download(
    dataset: &str,
    version: u64,
    key: Option<&Secret>,
    settings: &RegistrySettings,
    watch: &dyn Watch,
) -> Result<(Partial, File)> {
    let client = Client::new(settings, watch)?;
    let ticket = ask(&client, &format!("/ort/{}/{version}", encode(dataset)), "", key, settings)?;
    let ort = ticket.member("ort").filter(|ort| ort.object().is_some());
    let ort =
        ort.ok_or_else(|| Error::new(Kind::ApiMalformed, "The answer of the Roboflow API names no model."))?;
    let task = ort.member("type").and_then(Look::text).unwrap_or(TASK);
    let model_type = ort
        .member("modelType")
        .and_then(Look::text)
        .filter(|name| *name != "ort")
        .unwrap_or(DEFAULT_MODEL_TYPE);
    if task != TASK || Family::of_model_type(model_type).is_none() {
        return Err(unknown_model_type(task, model_type));
    }
    let address = |name: &str| {
        let missing = || {
            Error::new(
                Kind::ApiMalformed,
                format!("The answer of the Roboflow API has no address for `{name}`."),
            )
        };
        ort.member(name).and_then(Look::text).ok_or_else(missing)
    };

    let environment = client.document(Server::Storage, address("environment")?, MAX_DOCUMENT_BYTES)?;
    let environment = with_colors(&environment, ort.member("colors"))?;

    let partial = Partial::begin(&settings.cache_dir, dataset, version)?;
    partial.write(ENVIRONMENT, environment.as_bytes())?;
    if let Some(Value::Array(classes)) = ort.member("classes") {
        let names: Vec<&str> = classes.iter().filter_map(Look::text).collect();
        partial.write(CLASS_NAMES, names.join("\n").as_bytes())?;
    }
    let quoted = |text: &str| miniserde::json::to_string(text);
    let about = format!(
        "{{\n    \"project_task_type\": {},\n    \"model_type\": {}\n}}",
        quoted(TASK),
        quoted(model_type)
    );
    partial.write(MODEL_TYPE, about.as_bytes())?;
    let weights = client.download(address("model")?, settings.max_model_bytes, || {
        partial.create(cache::weights_name(model_type))
    })?;
    Ok((partial, weights))
}

/// An id without a version that is a number: the API is asked, so that its refusal is the client's answer.
pub(super) fn instant(
    id: &str,
    key: Option<&Secret>,
    settings: &RegistrySettings,
    watch: &dyn Watch,
) -> Error {
    if settings.offline {
        return Error::new(Kind::ApiConnection, "the model is not in the cache, and the service is offline");
    }
    let client = match Client::new(settings, watch) {
        Ok(client) => client,
        Err(error) => return error,
    };
    match ask(&client, "/getWeights", &format!("model={}&", encode(id)), key, settings) {
        Err(error) => error,
        // What the API offers there are few-shot models of another kind.
        Ok(_) => Error::new(Kind::Unsupported, "Only object-detection models are supported"),
    }
}

/// One question to the API.
fn ask(
    client: &Client<'_>,
    path: &str,
    query: &str,
    key: Option<&Secret>,
    settings: &RegistrySettings,
) -> Result<Value> {
    let base = settings.api_base_url.trim_end_matches('/');
    let mut url =
        format!("{base}{path}?{query}nocache=true&device={}&dynamic=true", encode(&settings.device_id));
    if let Some(key) = key.filter(|key| !key.reveal().is_empty()) {
        url.push_str("&api_key=");
        url.push_str(&encode(key.reveal()));
    }
    let answer = client.document(Server::Api, &url, MAX_DOCUMENT_BYTES)?;
    document::parse(&answer)
        .ok_or_else(|| Error::new(Kind::ApiMalformed, "Could not decode JSON response from Roboflow API."))
}

/// The environment with the API's colours added, as the reference keeps it.
fn with_colors(environment: &[u8], colors: Option<&Value>) -> Result<String> {
    let Some(Value::Object(mut environment)) = document::parse(environment) else {
        return Err(Error::new(Kind::ApiMalformed, "Could not decode JSON response from Roboflow API."));
    };
    if let Some(colors) = colors {
        environment.insert(String::from("COLORS"), colors.clone());
    }
    Ok(miniserde::json::to_string(&environment))
}
