//! The environment of the reference, and our own few variables, over the configuration.

use super::Config;
use crate::command::Secret;
use crate::error::{Error, Kind, Result};
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

/// Sets one field from the text of a variable.
pub(super) type Setter = fn(&mut Config, &str) -> Result<(), String>;

/// Every variable that is honoured, in order: of two that set the same field the later one wins.
pub(super) const VARIABLES: &[(&str, Setter)] = &[
    ("STREAM_MANAGER_HOST", |c, v| text(&mut c.tcp.host, v)),
    ("PORT", |c, v| parse(&mut c.tcp.port, v)),
    ("STREAM_MANAGER_PORT", |c, v| parse(&mut c.tcp.port, v)),
    ("STREAM_MANAGER_SOCKET_TIMEOUT", |c, v| parse(&mut c.tcp.socket_timeout_s, v)),
    ("STREAM_MANAGEMENT_API_HOST", |c, v| text(&mut c.http.host, v)),
    ("STREAM_MANAGEMENT_API_PORT", |c, v| parse(&mut c.http.port, v)),
    ("WEIR_TOKEN", |c, v| secret(&mut c.access.token, v)),
    ("WEIR_MQTT_PASSWORD", |c, v| secret(&mut c.mqtt.password, v)),
    ("MODEL_CACHE_DIR", |c, v| path(&mut c.models.cache_dir, v)),
    ("WEIR_MODELS_DIR", |c, v| {
        c.models.dirs = std::env::split_paths(v).collect();
        Ok(())
    }),
    ("API_BASE_URL", |c, v| text(&mut c.models.api_base_url, v)),
    ("LICENSE_SERVER", |c, v| text(&mut c.models.license_server, v)),
    ("REQUESTS_CA_BUNDLE", |c, v| path(&mut c.models.ca_file, v)),
    ("DEVICE_ID", |c, v| text(&mut c.models.device_id, v)),
    ("API_KEY", |c, v| secret(&mut c.models.api_key, v)),
    ("ROBOFLOW_API_KEY", |c, v| secret(&mut c.models.api_key, v)),
    ("ROBOFLOW_API_REQUEST_TIMEOUT", |c, v| parse(&mut c.models.request_timeout_s, v)),
    ("TRANSIENT_ROBOFLOW_API_ERRORS_RETRIES", |c, v| parse(&mut c.models.retries, v)),
    ("TRANSIENT_ROBOFLOW_API_ERRORS_RETRY_INTERVAL", |c, v| parse(&mut c.models.retry_interval_s, v)),
    ("ROBOFLOW_API_EXTRA_HEADERS", |c, v| headers(&mut c.models.extra_headers, v)),
    ("WEIR_ENGINE", |c, v| text(&mut c.models.engine, v)),
    ("WEIR_PRECISION", |c, v| text(&mut c.models.precision, v)),
    ("TENSORRT_CACHE_PATH", |c, v| path(&mut c.tensorrt.cache_dir, v)),
    ("WEIR_OFFLINE", |c, v| flag(&mut c.models.offline, v)),
    ("MODEL_VALIDATION_DISABLED", |c, v| {
        flag(&mut c.models.validate, v).map(|()| c.models.validate = !c.models.validate)
    }),
    ("DISABLE_PREPROC_CONTRAST", |c, v| flag(&mut c.models.disable_contrast, v)),
    ("DISABLE_PREPROC_GRAYSCALE", |c, v| flag(&mut c.models.disable_grayscale, v)),
    ("DISABLE_PREPROC_STATIC_CROP", |c, v| flag(&mut c.models.disable_static_crop, v)),
    ("CONFIDENCE", |c, v| parse(&mut c.detection.confidence, v)),
    ("IOU_THRESHOLD", |c, v| parse(&mut c.detection.iou_threshold, v)),
    ("MAX_DETECTIONS", |c, v| parse(&mut c.detection.max_detections, v)),
    ("MAX_CANDIDATES", |c, v| parse(&mut c.detection.max_candidates, v)),
    ("CLASS_AGNOSTIC_NMS", |c, v| flag(&mut c.detection.class_agnostic_nms, v)),
    ("VIDEO_SOURCE_BUFFER_SIZE", |c, v| parse(&mut c.capture.buffer_size, v)),
    ("INFERENCE_PIPELINE_RESTART_ATTEMPT_DELAY", |c, v| parse(&mut c.capture.retry_delay_s, v)),
    ("ENABLE_FRAME_DROP_ON_VIDEO_FILE_RATE_LIMITING", |c, v| flag(&mut c.capture.stride_files, v)),
    ("STATE_DIRECTORY", |c, v| path(&mut c.service.state_dir, v)),
    ("WEIR_OPEN_FOLDERS", |c, v| flag(&mut c.service.open_folders, v)),
    ("LOG_LEVEL", |c, v| text(&mut c.service.log_level, v)),
];

/// Those of them whose values are secrets: overwritten in the environment once they have been read.
pub const SECRET_VARIABLES: [&str; 5] =
    ["WEIR_TOKEN", "WEIR_MQTT_PASSWORD", "API_KEY", "ROBOFLOW_API_KEY", "ROBOFLOW_API_EXTRA_HEADERS"];

/// Applies every variable that is set and not empty.
pub(super) fn apply(config: &mut Config, environment: impl Fn(&str) -> Option<String>) -> Result<()> {
    for (name, set) in VARIABLES {
        if let Some(value) = environment(name).filter(|value| !value.is_empty()) {
            // The value is not shown: it may be a secret.
            set(config, &value).map_err(|why| {
                Error::new(Kind::Configuration, format!("environment variable {name}: {why}"))
            })?;
        }
    }
    Ok(())
}

fn text(field: &mut String, value: &str) -> Result<(), String> {
    value.clone_into(field);
    Ok(())
}

fn path(field: &mut PathBuf, value: &str) -> Result<(), String> {
    *field = PathBuf::from(value);
    Ok(())
}

fn secret(field: &mut Option<Secret>, value: &str) -> Result<(), String> {
    *field = Some(Secret::new(value));
    Ok(())
}

fn parse<T: FromStr<Err: Display>>(field: &mut T, value: &str) -> Result<(), String> {
    *field = value.trim().parse().map_err(|cause: T::Err| cause.to_string())?;
    Ok(())
}

/// The words that the reference takes for a boolean.
fn flag(field: &mut bool, value: &str) -> Result<(), String> {
    *field = match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => true,
        "false" | "0" | "no" | "off" => false,
        _ => return Err("not a boolean".to_owned()),
    };
    Ok(())
}

fn headers(field: &mut Vec<(String, Secret)>, value: &str) -> Result<(), String> {
    let map: std::collections::BTreeMap<String, String> =
        miniserde::json::from_str(value).map_err(|_| "not a JSON object of texts".to_owned())?;
    *field = map.into_iter().map(|(name, value)| (name, Secret::new(value))).collect();
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn applied(set: &[(&str, &str)]) -> Result<Config> {
        let mut config = Config::default();
        apply(&mut config, |name| {
            set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })?;
        Ok(config)
    }

    #[test]
    fn the_more_specific_port_wins_and_empty_is_unset() {
        assert_eq!(applied(&[("PORT", "1"), ("STREAM_MANAGER_PORT", "2")]).unwrap().tcp.port, 2);
        assert_eq!(applied(&[("PORT", "1"), ("STREAM_MANAGER_PORT", "")]).unwrap().tcp.port, 1);
    }

    #[test]
    fn python_s_booleans() {
        assert!(applied(&[("CLASS_AGNOSTIC_NMS", "True")]).unwrap().detection.class_agnostic_nms);
        assert!(!applied(&[("MODEL_VALIDATION_DISABLED", "True")]).unwrap().models.validate);
    }

    #[test]
    fn a_bad_value_names_the_variable_and_hides_the_value() {
        let error = applied(&[("CONFIDENCE", "hunter2")]).unwrap_err();
        assert!(error.message().contains("CONFIDENCE") && !error.message().contains("hunter2"));
        let error = applied(&[("ROBOFLOW_API_EXTRA_HEADERS", "hunter2")]).unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
    }
}
