//! `weir models`: models of one's own, each a folder in the cache's layout below one of `models.dirs`.

use super::assemble::{self, Assembled};
use super::names::Names;
use super::told::{self, Told};
use super::{RegistrySettings, cache, coco, twin};
use crate::error::{Error, Kind, Result, system};
use crate::infer::onnx;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Longest name of a model, characters: file systems allow 255 bytes.
const MAX_NAME_CHARS: usize = 100;
/// Folders of the cache at most that are looked into at each level.
const MAX_FOLDERS: usize = 512;
/// Longest file of class names, bytes.
const MAX_NAMES_BYTES: u64 = 4 << 20;

/// What `weir models add` was told.
#[derive(Debug, Clone, Default)]
pub struct Addition {
    /// Path of the `.onnx` file.
    pub file: PathBuf,
    /// Name of the folder; the file's own where absent.
    pub name: Option<String>,
    /// A file of names, `coco`, or names with commas between them.
    pub names: Option<String>,
    /// How the outputs are read.
    pub family: Option<String>,
    /// What the input wants.
    pub input: Option<String>,
    /// The boxes are decoded in the graph.
    pub decoded: bool,
}

/// A model of one's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// What pipelines call it: the path of its folder below `models.dirs`.
    pub name: String,
    /// Path of its folder.
    pub path: PathBuf,
    /// Bytes of its weights.
    pub bytes: u64,
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(Kind::InvalidValue, message.into())
}

/// The first of the folders that is there or can be made.
pub(super) fn home(settings: &RegistrySettings) -> Result<PathBuf> {
    let mut last = None;
    for dir in &settings.models_dirs {
        match std::fs::create_dir_all(dir) {
            Ok(()) => return Ok(dir.clone()),
            Err(error) => last = Some(error),
        }
    }
    let message =
        "there is no folder for models that can be written: name one in models.dirs or WEIR_MODELS_DIR";
    Err(last.map_or_else(
        || Error::new(Kind::Configuration, message),
        |cause| Error::new(Kind::System, message).because(cause),
    ))
}

/// A name that is one folder: letters, digits, `.`, `-`, `_`.
pub(super) fn checked_name(name: &str) -> Result<&str> {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    let fits = !name.is_empty()
        && !name.starts_with('.')
        && name.chars().all(allowed)
        && name.chars().count() <= MAX_NAME_CHARS;
    fits.then_some(name).ok_or_else(|| {
        wrong(format!("a model's name is letters, digits, `.`, `-` and `_`: {}", name.escape_debug()))
    })
}

/// What a file would be called.
pub(crate) fn name_of(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let name: String = stem
        .chars()
        .map(|c| if c.is_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '-' })
        .collect();
    let name: String = name.trim_start_matches('.').chars().take(MAX_NAME_CHARS).collect();
    if name.is_empty() { String::from("model") } else { name }
}

/// `environment.json` of a model that came as a lone file: aspect kept, gray edges.
pub(super) const LONE_ENVIRONMENT: &[u8] =
    b"{\"PREPROCESSING\": {\"resize\": {\"format\": \"Fit (grey edges) in\"}}}\n";

/// Class names as the command line tells them.
fn names_told(told: &str) -> Result<Vec<String>> {
    if told == "coco" {
        return Ok(coco::NAMES.map(str::to_owned).to_vec());
    }
    let path = Path::new(told);
    if path.is_file() {
        let mut text = String::new();
        let file = File::open(path).map_err(system("cannot read the class names"))?;
        file.take(MAX_NAMES_BYTES)
            .read_to_string(&mut text)
            .map_err(system("cannot read the class names"))?;
        let listed = Names::of_metadata(&text).map(|names| names.as_given());
        let names = listed.unwrap_or_else(|| super::names::of_lines(&text));
        return if names.is_empty() { Err(wrong(format!("{told} holds no class names"))) } else { Ok(names) };
    }
    let names: Vec<String> =
        told.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    match names.is_empty() || (names.len() == 1 && told.contains(['/', '.'])) {
        true => Err(wrong(format!(
            "--names {}: no such file, and no names with commas between them",
            told.escape_debug()
        ))),
        false => Ok(names),
    }
}

/// A folder in the making; gone when dropped before it is kept.
pub(super) struct Draft(pub(super) PathBuf);

impl Draft {
    /// An empty folder beside the one called `name` that it may become, whose path is given back too. Error: that
    /// one is there already.
    pub(super) fn begin(home: &Path, name: &str) -> Result<(Draft, PathBuf)> {
        let target = home.join(name);
        if target.symlink_metadata().is_ok() {
            let message = format!(
                "{} is there already: give another --name, or take it away with weir models remove {name}",
                target.display()
            );
            return Err(wrong(message));
        }
        let draft = Draft(home.join(format!(".{name}.{}.partial", std::process::id())));
        std::fs::create_dir_all(&draft.0).map_err(system("cannot write the folder of models"))?;
        Ok((draft, target))
    }

    /// Writes a file in it.
    pub(super) fn put(&self, file: &str, content: &[u8]) -> Result<()> {
        std::fs::write(self.0.join(file), content).map_err(system("cannot write the folder of models"))
    }

    /// From now on it is a model.
    pub(super) fn keep(&self, target: &Path) -> Result<()> {
        std::fs::rename(&self.0, target).map_err(system("cannot write the folder of models"))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Puts a copy of the model below the first of `models.dirs`, once it has been loaded. Blocks.
pub(in crate::infer) fn add(addition: &Addition, settings: &RegistrySettings) -> Result<Assembled> {
    // Said wrongly is said at once.
    Told::of_words(addition.family.as_deref(), addition.input.as_deref(), addition.decoded)?;
    let names = addition.names.as_deref().map(names_told).transpose()?;
    let given = addition.name.clone().unwrap_or_else(|| name_of(&addition.file));
    let name = checked_name(&given)?;
    let (draft, target) = Draft::begin(&home(settings)?, name)?;
    std::fs::copy(&addition.file, draft.0.join(cache::WEIGHTS)).map_err(system("cannot copy the model"))?;
    let beside = addition.file.parent().map(Path::to_owned).unwrap_or_default();
    for location in onnx::other_files(&addition.file)? {
        let place = draft.0.join(&location);
        if let Some(folder) = place.parent() {
            std::fs::create_dir_all(folder).map_err(system("cannot write the folder of models"))?;
        }
        std::fs::copy(beside.join(&location), place)
            .map_err(system("cannot copy the weights beside the model"))?;
    }
    draft.put(cache::ENVIRONMENT, LONE_ENVIRONMENT)?;
    let told = told::document(addition.family.as_deref(), addition.input.as_deref(), addition.decoded);
    draft.put(told::FILE, told.as_bytes())?;
    if let Some(names) = names {
        // One a line, whatever is in them.
        let names: Vec<String> = names.iter().map(|name| name.replace(char::is_control, " ")).collect();
        draft.put(cache::CLASS_NAMES, (names.join("\n") + "\n").as_bytes())?;
    }
    let found = cache::read(&draft.0, target.display().to_string())?;
    let loaded = assemble::assemble(found, settings, &super::in_flight::Nobody)?;
    draft.keep(&target)?;
    Ok(loaded)
}

/// Models below the folders, by their names.
pub fn list(settings: &RegistrySettings) -> Vec<Owned> {
    let mut found = Vec::new();
    for dir in &settings.models_dirs {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            let Some(name) = path.file_name().map(|name| name.to_string_lossy().into_owned()) else {
                continue;
            };
            let weights = match path.is_dir() {
                true => [cache::WEIGHTS, cache::YOLOV5_WEIGHTS]
                    .map(|name| path.join(name))
                    .into_iter()
                    .find(|path| path.is_file()),
                false => (path.extension() == Some("onnx".as_ref())).then(|| path.clone()),
            };
            if let Some(size) =
                weights.and_then(|weights| weights.metadata().ok()).filter(|_| !name.starts_with('.'))
            {
                found.push(Owned { name, path, bytes: size.len() });
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// All that a pipeline may name without a network: those below the folders under the names that work there,
/// then those of the cache under their ids.
pub(super) fn here(settings: &RegistrySettings) -> Vec<Owned> {
    let mut found = list(settings);
    for model in &mut found {
        // A folder's name alone would be a model of the API.
        if model.path.is_dir() {
            model.name = model.path.display().to_string();
        }
    }
    let folders = |path: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten().take(MAX_FOLDERS);
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    };
    let mut cached = Vec::new();
    for path in folders(&settings.cache_dir).iter().flat_map(|dataset| folders(dataset)) {
        let id = path.strip_prefix(&settings.cache_dir).ok().and_then(Path::to_str);
        let weights = [cache::WEIGHTS, cache::YOLOV5_WEIGHTS]
            .into_iter()
            .find_map(|name| path.join(name).metadata().ok());
        if let (Some(id), Some(weights), true) = (id, weights, cache::is_complete(&path)) {
            cached.push(Owned { name: id.to_owned(), bytes: weights.len(), path });
        }
    }
    cached.sort_by(|a, b| a.name.cmp(&b.name));
    found.extend(cached);
    found
}

/// Takes a model away that [`add`] put there. What else lies in its folder stays, and its path is given back.
pub fn remove(name: &str, settings: &RegistrySettings) -> Result<Option<PathBuf>> {
    let name = checked_name(name)?;
    let folder = settings
        .models_dirs
        .iter()
        .map(|dir| dir.join(name))
        .find(|folder| folder.join(told::FILE).is_file());
    let unknown = || {
        Error::new(
            Kind::ApiNotFound,
            format!("no model {name} that weir models add has put below models.dirs"),
        )
    };
    let folder = folder.ok_or_else(unknown)?;
    let gone = |path: &Path| match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(system("cannot remove the model")(error))
        }
        _ => Ok(()),
    };
    for location in onnx::other_files(&folder.join(cache::WEIGHTS)).unwrap_or_default() {
        gone(&folder.join(location))?;
    }
    if twin::is_one(&folder) {
        gone(&folder.join(cache::MODEL_TYPE))?;
    }
    // The one that says whose folder it is goes last.
    for file in [cache::WEIGHTS, cache::ENVIRONMENT, cache::CLASS_NAMES, told::FILE] {
        gone(&folder.join(file))?;
    }
    let left = std::fs::remove_dir(&folder).is_err();
    Ok(left.then_some(folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infer::registry::test_dir::TestDir;

    fn settings(dir: &TestDir) -> RegistrySettings {
        RegistrySettings { models_dirs: vec![dir.path().join("models")], ..RegistrySettings::default() }
    }

    fn toy() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/families/yolov8.onnx")
    }

    #[test]
    fn a_model_is_added_listed_and_removed() {
        let dir = TestDir::new();
        let settings = settings(&dir);
        let addition = Addition {
            file: toy(),
            name: Some(String::from("mine")),
            names: Some(String::from("a, b, c")),
            ..Addition::default()
        };
        let loaded = add(&addition, &settings).unwrap();
        assert_eq!(loaded.model.classes(), ["a", "b", "c"].map(String::from));
        let folder = dir.path().join("models/mine");
        let listed = list(&settings);
        assert_eq!(
            listed.iter().map(|owned| (owned.name.as_str(), &owned.path)).collect::<Vec<_>>(),
            [("mine", &folder)]
        );
        let error = add(&addition, &settings).unwrap_err();
        assert!(error.message().contains("there already"), "{error}");

        std::fs::write(folder.join("notes"), "mine").unwrap();
        assert_eq!(remove("mine", &settings).unwrap(), Some(folder.clone()));
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        assert_eq!(remove("mine", &settings).unwrap_err().kind(), Kind::ApiNotFound);
        for name in ["..", "../x", "a/b", ""] {
            assert_eq!(remove(name, &settings).unwrap_err().kind(), Kind::InvalidValue, "{name}");
        }
    }

    #[test]
    fn what_does_not_load_leaves_nothing() {
        let dir = TestDir::new();
        let settings = settings(&dir);
        let error = add(
            &Addition { file: toy(), names: Some(String::from("a,b")), ..Addition::default() },
            &settings,
        )
        .unwrap_err();
        assert!(error.message().contains("2 class names"), "{error}");
        assert_eq!(std::fs::read_dir(dir.path().join("models")).unwrap().count(), 0);
        let error = add(
            &Addition { file: toy(), family: Some(String::from("resnet")), ..Addition::default() },
            &settings,
        )
        .unwrap_err();
        assert!(error.message().contains("yolov8"), "{error}");
    }

    #[test]
    fn names_come_from_a_word_a_file_or_the_line_itself() {
        let dir = TestDir::new();
        let file = dir.path().join("names.yaml");
        std::fs::write(&file, "names:\n  0: red\n  1: green\n").unwrap();
        assert_eq!(names_told(&file.display().to_string()).unwrap(), ["red", "green"]);
        std::fs::write(&file, "red\ngreen\n").unwrap();
        assert_eq!(names_told(&file.display().to_string()).unwrap(), ["red", "green"]);
        assert_eq!(names_told("coco").unwrap().len(), 80);
        assert_eq!(names_told("person").unwrap(), ["person"]);
        assert!(names_told("missing.txt").is_err() && names_told(",").is_err());
    }
}
