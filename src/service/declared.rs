//! Pipelines that the configuration declares: a JSON file for each in `service.pipelines_dir`.
//!
//! A file holds what a client would send as `init`. Its pipeline starts with the service and keeps its id for
//! as long as the file keeps its name. A file that cannot be used is named in the log and stops nothing.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::command::init::document;
use crate::command::{Init, PipelineId};
use crate::error::{Error, Kind, Result};
use crate::pipeline::Declared;

/// A file larger than this is none of these: an `init` with 16 sources and long URLs has 50 KiB.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What the folder declares, in the order of names; at most `most`. An absent folder declares nothing.
pub(super) fn read(folder: &Path, most: usize) -> Vec<Declared> {
    let mut files = match files(folder) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            log::error!("declared={} error=\"{error}\"", folder.display());
            Vec::new()
        }
    };
    for file in files.iter().skip(most) {
        log::error!("declared={} error=\"more than {most} pipelines\"", file.display());
    }
    files.truncate(most);
    files.iter().filter_map(|file| Some(declared(file, file.file_stem()?.to_str()?))).collect()
}

fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    if folder.as_os_str().is_empty() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let mut files: Vec<PathBuf> = entries.collect::<io::Result<_>>()?;
    // Names of editors' and packagers' leftovers begin with a dot or end differently.
    files.retain(|file| {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.ends_with(".json") && !name.starts_with('.')
    });
    files.sort();
    Ok(files)
}

fn declared(file: &Path, name: &str) -> Declared {
    let id = id(name);
    let init = load(file).inspect_err(|error| {
        let error = error.message();
        log::error!("declared={} pipeline={id} error=\"{error}\" skipped=true", file.display());
    });
    Declared { id, name: name.to_owned(), init: init.ok() }
}

fn load(file: &Path) -> Result<Init> {
    let unreadable = |cause: io::Error| Error::told(Kind::Configuration, "it cannot be read", cause);
    let mut bytes = Vec::new();
    let opened = fs::File::open(file).map_err(unreadable)?;
    if !opened.metadata().map_err(unreadable)?.is_file() {
        return Err(Error::new(Kind::Configuration, "it is no file"));
    }
    opened.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Error::new(Kind::Configuration, format!("it is larger than {MAX_FILE_BYTES} bytes")));
    }
    document::from_file(&bytes)
}

/// The id of the pipeline that `name.json` declares, the same on every start and every machine: the UUID of
/// version 5 of the URL `weir:pipelines.d/name` (`uuidgen --sha1 --namespace @url --name
/// weir:pipelines.d/NAME`).
fn id(name: &str) -> PipelineId {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("weir:pipelines.d/{name}").as_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const INIT: &str = r#"{"model_id": "a/1", "video_reference": "rtsp://h/1", "model_configuration": {"type": "object-detection"},
        "sink_configuration": {"type": "udp_sink", "host": "127.0.0.1", "port": 9}}"#;

    #[test]
    fn ids_are_those_of_uuidgen() {
        assert_eq!(id("front-door").to_string(), "b2581c56-76d0-526a-aaa1-4138aa423e4b");
    }

    #[test]
    fn files_are_read_in_order_and_bad_ones_are_told_apart() {
        let folder = std::env::temp_dir().join(format!("weir-declared-{}", Uuid::new_v4()));
        fs::create_dir(&folder).unwrap();
        for (name, text) in [
            ("b.json", INIT),
            ("a.json", "{"),
            ("c.json", r#"{"type": "terminate"}"#),
            ("d.json", "[]"),
            ("e.json", "{}"),
            (".hidden.json", INIT),
            ("notes.txt", INIT),
            ("z.json", INIT),
        ] {
            fs::write(folder.join(name), text).unwrap();
        }
        fs::create_dir(folder.join("f.json")).unwrap();
        let found = read(&folder, 6);
        let good: Vec<_> =
            found.iter().map(|declared| (declared.name.as_str(), declared.init.is_some())).collect();
        assert_eq!(good, [("a", false), ("b", true), ("c", false), ("d", false), ("e", false), ("f", false)]);
        fs::remove_dir_all(&folder).unwrap();
        assert!(read(&folder, 6).is_empty());
        assert!(read(Path::new(""), 6).is_empty());
    }
}
