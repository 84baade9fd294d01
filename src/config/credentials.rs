//! The API key as systemd hands it over: `LoadCredential=weir.api-key`, a file that only the service can read.

use super::Config;
use crate::command::Secret;
use crate::error::{Error, Kind, Result};
use std::io::Read;
use std::path::Path;

/// The credential that holds the API key. (The tokens' is read with the tokens: SIGHUP reads it again.)
const API_KEY: &str = "weir.api-key";
/// Keys have some twenty characters; a file larger than this is not one.
const MAX_KEY_BYTES: u64 = 4 << 10;

/// Takes the key from `directory` (`CREDENTIALS_DIRECTORY`) where it is there. It wins over the environment: whoever made
/// the credential meant it.
pub(super) fn apply(config: &mut Config, directory: &Path) -> Result<()> {
    let path = directory.join(API_KEY);
    if !path.exists() {
        return Ok(());
    }
    let bad = |why: &dyn std::fmt::Display| Error::new(Kind::Configuration, format!("credential {API_KEY}: {why}"));
    let file = std::fs::File::open(&path).map_err(|cause| bad(&cause))?;
    let mut text = String::new();
    let length = file.take(MAX_KEY_BYTES + 1).read_to_string(&mut text).map_err(|cause| bad(&cause))?;
    let key = text.trim();
    // The text itself is not shown: it is a secret, whatever is wrong with it.
    if length as u64 > MAX_KEY_BYTES || key.is_empty() || key.contains(char::is_whitespace) {
        return Err(bad(&"is not one key"));
    }
    config.models.api_key = Some(Secret::new(key));
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_key_is_read_and_what_is_none_is_refused() {
        let directory = std::env::temp_dir().join(format!("weir-credentials-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&directory).unwrap();
        let apply = || {
            let mut config = Config::default();
            apply(&mut config, &directory).map(|()| config.models.api_key.map(|key| key.reveal().to_owned()))
        };
        assert_eq!(apply().unwrap(), None);
        std::fs::write(directory.join(API_KEY), "hunter2\n").unwrap();
        assert_eq!(apply().unwrap().as_deref(), Some("hunter2"));
        let long = "k".repeat(5 << 10);
        for text in ["", "\n", "hunter2 hunter3", long.as_str()] {
            std::fs::write(directory.join(API_KEY), text).unwrap();
            let error = apply().unwrap_err();
            assert_eq!(error.kind(), Kind::Configuration);
            assert!(!error.to_string().contains("hunter2"));
        }
        std::fs::remove_dir_all(directory).unwrap();
    }
}
