//! Models that lie on this machine: a folder in the cache's layout, or an `.onnx` file, below an allowed
//! folder.

use super::assemble::Artefacts;
use super::cache;
use super::environment::Environment;
use super::told::Told;
use crate::error::{Error, Kind, Result};
use std::path::{Path, PathBuf};

/// The file or folder that `path` names, checked to lie below one of `allowed` after every symbolic link and
/// `..` is resolved. A relative path is looked for in each allowed folder.
fn resolve(path: &Path, allowed: &[PathBuf]) -> Result<PathBuf> {
    // The same words for what is missing and what is forbidden: a client must not be able to ask which files
    // exist.
    let unknown = || {
        let message = format!("no model {} below the folders of models.dir", path.display());
        Error::new(Kind::ApiNotFound, message)
    };
    allowed
        .iter()
        .filter_map(|folder| {
            let folder = folder.canonicalize().ok()?;
            let found = folder.join(path).canonicalize().ok()?;
            found.starts_with(&folder).then_some(found)
        })
        .next()
        .ok_or_else(unknown)
}

/// The one path of what lies at `path`, however it is named; `None`: nothing lies there.
pub(super) fn one_path(path: &Path, allowed: &[PathBuf]) -> Option<PathBuf> {
    resolve(path, allowed).ok()
}

/// What lies at `path`.
pub(super) fn artefacts(path: &Path, allowed: &[PathBuf]) -> Result<Artefacts> {
    let found = resolve(path, allowed)?;
    if found.is_dir() {
        return cache::read(&found, found.display().to_string());
    }
    Ok(Artefacts {
        id: found.display().to_string(),
        weights: found,
        model_type: None,
        environment: Environment::of_lone_file(),
        classes: None,
        told: Told::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infer::registry::test_dir::TestDir;

    #[test]
    fn nothing_outside_the_allowed_folders_is_found() {
        let dir = TestDir::new();
        let models = dir.path().join("models");
        std::fs::create_dir_all(&models).unwrap();
        std::fs::write(dir.path().join("secret.onnx"), "x").unwrap();
        std::fs::write(models.join("good.onnx"), "x").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret.onnx"), models.join("link.onnx")).unwrap();
        let allowed = [dir.path().join("missing"), models.clone()];
        let find = |path: &Path| resolve(path, &allowed);

        assert_eq!(
            find(&models.join("good.onnx")).unwrap(),
            models.canonicalize().unwrap().join("good.onnx")
        );
        assert!(find(Path::new("good.onnx")).is_ok());
        let kinds: Vec<_> = [
            dir.path().join("secret.onnx"),
            models.join("link.onnx"),
            models.join("../secret.onnx"),
            PathBuf::from("../secret.onnx"),
            models.join("none.onnx"),
            PathBuf::from("/etc/passwd"),
        ]
        .iter()
        .map(|path| find(path).unwrap_err().kind())
        .collect();
        assert_eq!(kinds, [Kind::ApiNotFound; 6]);
        assert!(resolve(&models.join("good.onnx"), &[]).is_err());
    }
}
