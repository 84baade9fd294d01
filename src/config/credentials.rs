//! Secrets as systemd hands them over (`LoadCredential=weir.api-key`) and as files hold them, which only the
//! service can read.

use super::Config;
use super::mqtt::Mqtt;
use crate::command::Secret;
use crate::error::{Error, Kind, Result};
use std::io::Read;
use std::path::Path;

/// The credential that holds the API key. (The tokens' is read with the tokens: SIGHUP reads it again.)
const API_KEY: &str = "weir.api-key";
/// Keys have some twenty characters; a file larger than this is not one.
const MAX_KEY_BYTES: u64 = 4 << 10;
/// The credential that holds the password for the broker.
const MQTT_PASSWORD: &str = "weir.mqtt-password";

/// Takes the secrets from `directory` (`CREDENTIALS_DIRECTORY`) where they are there. They win over the
/// environment: whoever made the credential meant it.
pub(super) fn apply(config: &mut Config, directory: &Path) -> Result<()> {
    if let Some(text) = read(&directory.join(API_KEY), &format!("credential {API_KEY}"))? {
        let key = text.trim();
        // The text itself is not shown: it is a secret, whatever is wrong with it.
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err(Error::new(Kind::Configuration, format!("credential {API_KEY}: is not one key")));
        }
        config.models.api_key = Some(Secret::new(key));
    }
    if let Some(text) = read(&directory.join(MQTT_PASSWORD), &format!("credential {MQTT_PASSWORD}"))? {
        config.mqtt.password = Some(password(&text, &format!("credential {MQTT_PASSWORD}"))?);
    }
    Ok(())
}

/// Takes the password for the broker from the file that the configuration names, unless it is known already.
pub(super) fn apply_files(config: &mut Config) -> Result<()> {
    let file = &config.mqtt.password_file;
    if file.as_os_str().is_empty() || config.mqtt.password.is_some() {
        return Ok(());
    }
    let name = format!("mqtt.password_file {}", file.display());
    let missing = || Error::new(Kind::Configuration, format!("{name}: there is no such file"));
    let text = read(file, &name)?.ok_or_else(missing)?;
    config.mqtt.password = Some(password(&text, &name)?);
    Ok(())
}

/// One line; blanks in it count.
fn password(text: &str, name: &str) -> Result<Secret> {
    let password = text.strip_suffix('\n').unwrap_or(text);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.is_empty() || password.len() > Mqtt::MAX_PASSWORD_BYTES || password.contains(['\n', '\0']) {
        return Err(Error::new(Kind::Configuration, format!("{name}: is not one password")));
    }
    Ok(Secret::new(password))
}

/// The text of a small file; `None` where there is none.
fn read(path: &Path, name: &str) -> Result<Option<String>> {
    if !path.exists() {
        return Ok(None);
    }
    let bad = |why: &dyn std::fmt::Display| Error::new(Kind::Configuration, format!("{name}: {why}"));
    let file = std::fs::File::open(path).map_err(|cause| bad(&cause))?;
    let mut text = String::new();
    let length = file.take(MAX_KEY_BYTES + 1).read_to_string(&mut text).map_err(|cause| bad(&cause))?;
    if length as u64 > MAX_KEY_BYTES {
        return Err(bad(&"is too large for a secret"));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn folder() -> std::path::PathBuf {
        let directory = std::env::temp_dir().join(format!("weir-credentials-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&directory).unwrap();
        directory
    }

    #[test]
    fn the_key_is_read_and_what_is_none_is_refused() {
        let directory = folder();
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

    #[test]
    fn the_password_for_the_broker_is_a_line_of_a_file_or_the_credential() {
        let directory = folder();
        let file = directory.join("password");
        let applied = |credentials: bool| {
            let mut config = Config::default();
            config.mqtt.password_file = file.clone();
            if credentials {
                apply(&mut config, &directory)?;
            }
            apply_files(&mut config)?;
            Ok::<_, Error>(config.mqtt.password.unwrap().reveal().to_owned())
        };
        assert!(applied(false).unwrap_err().message().contains("no such file"));
        std::fs::write(&file, " two words \r\n").unwrap();
        assert_eq!(applied(false).unwrap(), " two words ");
        std::fs::write(directory.join(MQTT_PASSWORD), "other").unwrap();
        assert_eq!(
            (applied(true).unwrap().as_str(), applied(false).unwrap().as_str()),
            ("other", " two words ")
        );
        for text in ["", "hunter2\nhunter3\n", &"hunter2".repeat(100)] {
            std::fs::write(&file, text).unwrap();
            assert!(!applied(false).unwrap_err().to_string().contains("hunter2"));
        }
        std::fs::remove_dir_all(directory).unwrap();
    }
}
