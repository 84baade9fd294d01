//! `environment.json`: how a model wants its pictures, and its class names. docs/roboflow.md §6.2 and §6.3.

use super::document::{self, Look};
use super::settings::RegistrySettings;
use crate::error::{Error, Kind, Result};
use crate::geometry::{Contrast, Fit, InputRule, StaticCrop};
use crate::infer::onnx::MAX_INPUT_SIDE;
use miniserde::json::Value;

/// Side of the input where neither graph nor environment say, pixels.
const DEFAULT_SIDE: u32 = 640;

/// Largest side RF-DETR is run at, pixels; a `RESOLUTION` above it is refused as in the reference.
const MAX_RFDETR_RESOLUTION: f64 = 1600.0;

/// What `environment.json` says that matters here.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Environment {
    fit: Fit,
    /// Size of the input: `resize.width` and `resize.height`.
    size: Option<(u32, u32)>,
    crop: Option<StaticCrop>,
    grayscale: bool,
    contrast: Option<Contrast>,
    /// `CLASS_MAP` in the order of its ids.
    pub(super) class_map: Option<Vec<String>>,
}

fn artefact(message: impl Into<String>) -> Error {
    Error::new(Kind::ModelArtefact, message.into())
}

impl Environment {
    /// For a lone `.onnx` file: aspect kept with grey edges, as the detectors of this world are trained.
    pub(super) fn of_lone_file() -> Environment {
        let fit = Fit::Letterbox { fill: 114 };
        Environment { fit, size: None, crop: None, grayscale: false, contrast: None, class_map: None }
    }

    /// From the text of `environment.json`.
    pub(super) fn parse(bytes: &[u8]) -> Result<Environment> {
        let root = document::parse(bytes).ok_or_else(|| artefact("environment.json is not JSON"))?;
        if root.member("RESOLUTION").and_then(Look::number).is_some_and(|side| side > MAX_RFDETR_RESOLUTION) {
            return Err(artefact(format!("RESOLUTION is above {MAX_RFDETR_RESOLUTION}")));
        }
        let given =
            root.member("PREPROCESSING").ok_or_else(|| artefact("environment.json has no PREPROCESSING"))?;
        let parsed;
        let preprocessing = match given.text() {
            None => given,
            Some(text) => {
                parsed =
                    document::parse(text.as_bytes()).ok_or_else(|| artefact("PREPROCESSING is not JSON"))?;
                &parsed
            }
        };
        if preprocessing.object().is_none() {
            return Err(artefact("PREPROCESSING is no object"));
        }
        let class_map = root.member("CLASS_MAP").and_then(names_of_map);
        Ok(Environment { class_map, ..Self::of_preprocessing(preprocessing)? })
    }

    fn of_preprocessing(root: &Value) -> Result<Environment> {
        let enabled =
            |key: &str| root.member(key).filter(|part| part.member("enabled").is_some_and(Look::is_true));
        let resize = root.member("resize");
        let format = resize.and_then(|resize| resize.member("format")).and_then(Look::text);
        let side = |key: &str| {
            let side = resize.and_then(|resize| resize.member(key)).and_then(Look::number)?;
            (side >= 1.0 && side <= MAX_INPUT_SIDE as f64).then_some(side as u32)
        };
        let crop = enabled("static-crop").map(|crop| {
            let edge = |key: &str| crop.member(key).and_then(Look::number).map(|percent| percent as f32);
            match (edge("x_min"), edge("x_max"), edge("y_min"), edge("y_max")) {
                (Some(x_min), Some(x_max), Some(y_min), Some(y_max)) => {
                    Ok(StaticCrop { x_min, x_max, y_min, y_max })
                }
                _ => Err(artefact("static-crop lacks an edge")),
            }
        });
        Ok(Environment {
            fit: format.map_or(Fit::Stretch, fit_of),
            size: side("width").zip(side("height")),
            crop: crop.transpose()?,
            grayscale: enabled("grayscale").is_some(),
            contrast: enabled("contrast")
                .and_then(|contrast| contrast.member("type")?.text())
                .and_then(contrast_of),
            class_map: None,
        })
    }

    /// With a size for graphs that leave it open, where nothing was said here.
    pub(super) fn with_size(self, size: Option<(u32, u32)>) -> Environment {
        Environment { size: self.size.or(size), ..self }
    }

    /// The rule for an input of this size; `None` where the graph leaves the axis open.
    pub(super) fn rule(
        &self,
        width: Option<u32>,
        height: Option<u32>,
        settings: &RegistrySettings,
    ) -> InputRule {
        let (given_width, given_height) = self.size.unwrap_or((DEFAULT_SIDE, DEFAULT_SIDE));
        InputRule {
            width: width.unwrap_or(given_width),
            height: height.unwrap_or(given_height),
            fit: self.fit,
            crop: self.crop.filter(|_| !settings.disable_static_crop),
            grayscale: self.grayscale && !settings.disable_grayscale,
            contrast: self.contrast.filter(|_| !settings.disable_contrast),
        }
    }
}

/// `resize.format`; the unknown ones are stretched, the ones the reference does not implement get black
/// edges.
fn fit_of(format: &str) -> Fit {
    match format {
        "Fit (white edges) in" => Fit::Letterbox { fill: 255 },
        "Fit (grey edges) in" => Fit::Letterbox { fill: 114 },
        "Fit (black edges) in" | "Fit (reflect edges) in" | "Fit within" | "Fill (with center crop) in" => {
            Fit::Letterbox { fill: 0 }
        }
        _ => Fit::Stretch,
    }
}

fn contrast_of(kind: &str) -> Option<Contrast> {
    match kind {
        "Contrast Stretching" => Some(Contrast::Stretching),
        "Histogram Equalization" => Some(Contrast::Histogram),
        "Adaptive Equalization" => Some(Contrast::Adaptive),
        _ => None,
    }
}

/// `{"0": "red", "1": "green"}` → names in the order of the ids `0..n`. `None` when ids are missing.
fn names_of_map(map: &Value) -> Option<Vec<String>> {
    let map = map.object()?;
    (0..map.len()).map(|id| map.get(&id.to_string())?.text().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(preprocessing: &str) -> Result<Environment> {
        Environment::parse(format!(r#"{{"PREPROCESSING": {preprocessing}}}"#).as_bytes())
    }

    fn rule(preprocessing: &str) -> InputRule {
        parse(preprocessing).unwrap().rule(None, None, &RegistrySettings::default())
    }

    #[test]
    fn formats_as_the_reference_takes_them() {
        for (format, fit) in [
            ("Stretch to", Fit::Stretch),
            ("Fit (black edges) in", Fit::Letterbox { fill: 0 }),
            ("Fit (white edges) in", Fit::Letterbox { fill: 255 }),
            ("Fit (grey edges) in", Fit::Letterbox { fill: 114 }),
            ("Fit (reflect edges) in", Fit::Letterbox { fill: 0 }),
            ("Fit within", Fit::Letterbox { fill: 0 }),
            ("Fill (with center crop) in", Fit::Letterbox { fill: 0 }),
            ("something new", Fit::Stretch),
        ] {
            assert_eq!(rule(&format!(r#"{{"resize": {{"format": "{format}"}}}}"#)).fit, fit, "{format}");
        }
        assert_eq!(rule("{}").fit, Fit::Stretch);
    }

    #[test]
    fn the_graph_decides_the_size_then_the_environment_then_640() {
        let environment = parse(r#"{"resize": {"width": 416, "height": "320"}}"#).unwrap();
        let sides = |rule: InputRule| (rule.width, rule.height);
        assert_eq!(sides(environment.rule(None, None, &RegistrySettings::default())), (416, 320));
        assert_eq!(sides(environment.rule(Some(96), Some(64), &RegistrySettings::default())), (96, 64));
        assert_eq!(sides(rule("{}")), (640, 640));
        assert_eq!(sides(rule(r#"{"resize": {"width": 1e12, "height": 10}}"#)), (640, 640));
    }

    #[test]
    fn preprocessing_may_be_a_text_and_parts_may_be_off() {
        let text = r#""{\"static-crop\": {\"enabled\": true, \"x_min\": 10, \"x_max\": 90, \"y_min\": 20, \"y_max\": 80}, \"grayscale\": {\"enabled\": true}, \"contrast\": {\"enabled\": true, \"type\": \"Adaptive Equalization\"}}""#;
        let environment = parse(text).unwrap();
        let on = environment.rule(None, None, &RegistrySettings::default());
        assert_eq!(on.crop, Some(StaticCrop { x_min: 10.0, x_max: 90.0, y_min: 20.0, y_max: 80.0 }));
        assert!(on.grayscale);
        assert_eq!(on.contrast, Some(Contrast::Adaptive));
        let switches = RegistrySettings {
            disable_static_crop: true,
            disable_grayscale: true,
            disable_contrast: true,
            ..RegistrySettings::default()
        };
        let off = environment.rule(None, None, &switches);
        assert_eq!((off.crop, off.grayscale, off.contrast), (None, false, None));
        assert_eq!(
            rule(r#"{"grayscale": {"enabled": false}, "static-crop": {"enabled": false}}"#).crop,
            None
        );
    }

    #[test]
    fn class_maps_are_ordered_by_number() {
        let names: Vec<String> = (0..12).map(|id| format!(r#""{id}": "c{id}""#)).collect();
        let text = format!(r#"{{"PREPROCESSING": {{}}, "CLASS_MAP": {{{}}}}}"#, names.join(", "));
        let map = Environment::parse(text.as_bytes()).unwrap().class_map.unwrap();
        assert_eq!(map[10], "c10");
        let holes = br#"{"PREPROCESSING": {}, "CLASS_MAP": {"0": "a", "2": "b"}}"#;
        assert_eq!(Environment::parse(holes).unwrap().class_map, None);
    }

    #[test]
    fn bad_documents_are_artefact_errors() {
        for bad in [
            "",
            "<html>",
            "{}",
            r#"{"PREPROCESSING": "x"}"#,
            r#"{"PREPROCESSING": 5}"#,
            r#"{"PREPROCESSING": {}, "RESOLUTION": 1601}"#,
        ] {
            assert_eq!(Environment::parse(bad.as_bytes()).unwrap_err().kind(), Kind::ModelArtefact, "{bad}");
        }
        assert!(parse(r#"{"static-crop": {"enabled": true, "x_min": 10}}"#).is_err());
    }
}
