//! Where models are cached when nobody says.

use crate::folder;
use std::path::{Path, PathBuf};

/// Where the reference keeps its cache. Anybody can make it first: used only where it is ours already, so
/// that its models need not be fetched again.
const OF_THE_REFERENCE: &str = "/tmp/cache";

/// For root, as the Filesystem Hierarchy Standard has it.
const OF_ROOT: &str = "/var/cache/weir";

/// A folder that nobody else can make before us, by the environment.
pub(super) fn folder(environment: impl Fn(&str) -> Option<String>) -> PathBuf {
    let is_ours = folder::check(Path::new(OF_THE_REFERENCE)).is_ok_and(|exists| exists);
    choose(environment, rustix::process::geteuid().as_raw(), is_ours)
}

fn choose(environment: impl Fn(&str) -> Option<String>, user: u32, has_reference: bool) -> PathBuf {
    let absolute = |name: &str| {
        environment(name).map(PathBuf::from).filter(|path| path.is_absolute() && path.parent().is_some())
    };
    // systemd: a list when the unit names several.
    let of_systemd =
        environment("CACHE_DIRECTORY").and_then(|list| Some(PathBuf::from(list.split(':').next()?)));
    if let Some(folder) = of_systemd.filter(|folder| folder.is_absolute()) {
        return folder;
    }
    if has_reference {
        return PathBuf::from(OF_THE_REFERENCE);
    }
    if user == 0 {
        return PathBuf::from(OF_ROOT);
    }
    if let Some(caches) = absolute("XDG_CACHE_HOME") {
        return caches.join("weir");
    }
    match absolute("HOME") {
        Some(home) => home.join(".cache/weir"),
        // No home: a name that anybody can take, and then it is refused.
        None => PathBuf::from(format!("/tmp/weir-{user}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_can_make_it_first() {
        let chosen = |set: &[(&str, &str)], user, has_reference| {
            let value =
                |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            choose(value, user, has_reference).display().to_string()
        };
        let home = ("HOME", "/home/ada");
        assert_eq!(
            chosen(&[("CACHE_DIRECTORY", "/var/cache/weir:/var/cache/x"), home], 7, true),
            "/var/cache/weir"
        );
        assert_eq!(chosen(&[home], 7, true), "/tmp/cache");
        assert_eq!(chosen(&[home], 0, false), "/var/cache/weir");
        assert_eq!(chosen(&[home, ("XDG_CACHE_HOME", "/data/c")], 7, false), "/data/c/weir");
        assert_eq!(chosen(&[home, ("XDG_CACHE_HOME", "relative")], 7, false), "/home/ada/.cache/weir");
        assert_eq!(chosen(&[("HOME", "/")], 7, false), "/tmp/weir-7");
    }
}
