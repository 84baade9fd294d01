//! Which files a backup holds, and what is left of them without secrets.

use crate::config::Config;
use crate::error::Result;
use miniserde::json::{self, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Largest file that is changed before it is kept (an environment file, a declared pipeline).
const MAX_TEXT_BYTES: u64 = 1 << 20;

/// How deep folders of models are looked into.
const MAX_DEPTH: usize = 6;

/// Members of an `init` that are secrets.
const SECRET_MEMBERS: [&str; 2] = ["api_key", "auth_token"];

/// Variables that are secrets.
const SECRET_VARIABLES: [&str; 5] =
    ["WEIR_TOKEN", "API_KEY", "ROBOFLOW_API_KEY", "ROBOFLOW_API_EXTRA_HEADERS", "WEIR_PASSPHRASE"];

/// How a file is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// As it is, with or without secrets.
    Open,
    /// It is a secret as a whole.
    Secret,
    /// Lines `NAME=VALUE`, some of which may be.
    Environment,
    /// An `init`, some members of which may be.
    Pipeline,
    /// Downloaded or local: kept when asked for.
    Model,
}

/// Every file that belongs to the service, by its path.
pub(super) fn files(
    config: &Config,
    config_file: Option<&Path>,
    state: &Path,
    models: bool,
) -> BTreeMap<PathBuf, Kind> {
    let mut found = BTreeMap::new();
    let mut add = |path: &Path, kind: Kind| {
        if path.is_file() {
            found.entry(path.to_owned()).or_insert(kind);
        }
    };
    config_file.into_iter().for_each(|file| add(file, Kind::Open));
    for (path, kind) in [
        (&config.access.tokens_file, Kind::Secret),
        (&config.tls.key, Kind::Secret),
        (&config.tls.certificate, Kind::Open),
        (&config.tls.client_ca, Kind::Open),
        (&config.models.ca_file, Kind::Open),
        (&config.mqtt.password_file, Kind::Secret),
        (&config.mqtt.key, Kind::Secret),
        (&config.mqtt.certificate, Kind::Open),
        (&config.mqtt.ca_file, Kind::Open),
    ] {
        add(path, kind);
    }
    add(Path::new("/etc/default/weir"), Kind::Environment);
    add(Path::new("/etc/weir/secrets.env"), Kind::Secret);
    for name in ["weir.tokens", "weir.api-key", "weir.mqtt-password"] {
        add(&Path::new("/etc/credstore").join(name), Kind::Secret);
    }
    let mut below = |folder: &Path, kind: Kind, depth: usize, fits: &dyn Fn(&str) -> bool| {
        for path in walk(folder, depth) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if fits(name) {
                add(&path, kind);
            }
        }
    };
    below(&config.service.pipelines_dir, Kind::Pipeline, 0, &|name| {
        name.ends_with(".json") && !name.starts_with('.')
    });
    // Pipelines as clients made them: with their keys and the cameras' passwords.
    below(state, Kind::Secret, 0, &|name| !name.ends_with(".new"));
    if models {
        for folder in config.models.dirs.iter().chain([&config.models.cache_dir]) {
            below(folder, Kind::Model, MAX_DEPTH, &|name| {
                !name.ends_with(".lock") && !name.ends_with(".partial")
            });
        }
    }
    found
}

/// Files below a folder; links are not followed.
fn walk(folder: &Path, depth: usize) -> Vec<PathBuf> {
    let mut files = Vec::new();
    if folder.as_os_str().is_empty() {
        return files;
    }
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            Ok(kind) if kind.is_dir() && depth > 0 => files.extend(walk(&entry.path(), depth - 1)),
            _ => {}
        }
    }
    files
}

/// What may be kept of a file without secrets; `None`: nothing.
pub(super) fn without_secrets(path: &Path, kind: Kind) -> Result<Option<Vec<u8>>> {
    if kind == Kind::Secret {
        return Ok(None);
    }
    let failed = |cause: std::io::Error| super::unreadable(path, &cause);
    if std::fs::metadata(path).map_err(failed)?.len() > MAX_TEXT_BYTES {
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    Ok(match kind {
        Kind::Environment => Some(environment(&text).into_bytes()),
        Kind::Pipeline => pipeline(&text).map(String::into_bytes),
        Kind::Open | Kind::Secret | Kind::Model => Some(text.into_bytes()),
    })
}

fn environment(text: &str) -> String {
    let is_secret = |line: &str| {
        let name =
            line.trim_start().trim_start_matches("export ").split('=').next().unwrap_or_default().trim();
        // A proxy's address may hold a password.
        SECRET_VARIABLES.contains(&name)
            || (name.to_ascii_uppercase().ends_with("_PROXY") && line.contains('@'))
    };
    text.lines().filter(|line| !is_secret(line)).map(|line| format!("{line}\n")).collect()
}

/// An `init` without keys and without the user names and passwords of its URLs; `None` for what is none.
fn pipeline(text: &str) -> Option<String> {
    let mut document: Value = json::from_str(text).ok()?;
    strip(&mut document);
    Some(json::to_string(&document) + "\n")
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(members) => {
            SECRET_MEMBERS.iter().for_each(|name| drop(members.remove(*name)));
            members.iter_mut().for_each(|(_, value)| strip(value));
        }
        Value::Array(values) => values.iter_mut().for_each(strip),
        Value::String(text) if text.contains("://") => {
            *text = crate::command::SourceReference::Text(std::mem::take(text)).redacted();
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn no_secret_is_left() {
        let init = r#"{"model_id": "a/1", "api_key": "hunter2", "video_reference": ["rtsp://u:hunter2@cam/1?key=hunter2", 0],
            "sink_configuration": {"host": "h", "port": 9}}"#;
        let left = pipeline(init).unwrap();
        assert!(!left.contains("hunter2") && left.contains("rtsp://cam/1") && left.contains("a/1"), "{left}");
        assert_eq!(pipeline("{"), None);
        let text = "LOG_LEVEL=INFO\nROBOFLOW_API_KEY=hunter2\n export WEIR_TOKEN=hunter2\nHTTPS_PROXY=http://u:hunter2@p\nNO_PROXY=x\n";
        assert_eq!(environment(text), "LOG_LEVEL=INFO\nNO_PROXY=x\n");
    }
}
