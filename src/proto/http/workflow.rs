//! The newer API's way to say `init`: a workflow that is one object-detection step → [`Init`] with a sink in
//! memory.
//!
//! What else a workflow can be (other blocks, several steps, one kept in Roboflow's cloud) is refused by
//! name.

use std::rc::Rc;
use std::time::Duration;

use crate::command::Init;
use crate::command::init::{document, fields};
use crate::error::{Error, Kind, Result};
use crate::json::{Object, Value};
use crate::schema::{self, invalid, python};
use crate::sink::memory::{CONSUMPTION_TIMEOUT, DEFAULT_TURNS, RESULTS_BUFFER_SIZE};
use crate::sink::{MemorySink, Sink};

/// The detection block under all its names.
const DETECTION: [&str; 4] = [
    "roboflow_core/roboflow_object_detection_model@v1",
    "roboflow_core/roboflow_object_detection_model@v2",
    "RoboflowObjectDetectionModel",
    "ObjectDetectionModel",
];

/// Names a client may give to the one thing there is to know.
pub(super) const MAX_OUTPUTS: usize = 8;

/// Bytes of such a name; it is written for each frame.
const MAX_OUTPUT_BYTES: usize = 256;

/// Reads the body of `POST /inference_pipelines/initialise`.
pub(super) fn read(body: &Object) -> Result<Init> {
    let video = object(required(body, "video_configuration")?)?;
    let processing = object(required(body, "processing_configuration")?)?;
    let Some(specification) = given(processing, "workflow_specification") else {
        return Err(unsupported("Workflows of a workspace are not fetched: send workflow_specification"));
    };
    let specification = object(specification)?;
    let step = only_step(specification)?;
    let parameters = Parameters {
        inputs: list(specification, "inputs")?,
        given: given(processing, "workflows_parameters").map(object).transpose()?,
    };
    let mut model = Object::default();
    for field in fields::MODEL_FIELDS {
        match field.kind {
            schema::Kind::Constant(text) => model.push(field.name, Value::from(text)),
            _ => {
                if let Some(value) = parameters.resolve(step, field.name)? {
                    model.push(field.name, value.clone());
                }
            }
        }
    }
    let mut message = Object::default();
    message.push(
        "model_id",
        parameters.resolve(step, "model_id")?.ok_or_else(|| invalid("the step names no model_id"))?.clone(),
    );
    message.push("model_configuration", Value::Object(model));
    message.push("video_reference", required(video, "video_reference")?.clone());
    for field in fields::VIDEO_FIELDS {
        if let Some(value) = field.given(video) {
            message.push(field.name, value.clone());
        }
    }
    if let Some(key) = given(body, "api_key") {
        message.push("api_key", key.clone());
    }
    document::read_with(&message, vec![Sink::Memory(memory(body, specification, step)?)])
}

fn memory(body: &Object, specification: &Object, step: &Object) -> Result<MemorySink> {
    let wanted = given(body, "sink_configuration").map(object).transpose()?;
    let turns = wanted.map_or(Ok(None), |sink| RESULTS_BUFFER_SIZE.integer(sink))?;
    Ok(MemorySink {
        turns: turns.and_then(|turns| usize::try_from(turns).ok()).unwrap_or(DEFAULT_TURNS),
        outputs: outputs(specification, step)?,
        timeout: CONSUMPTION_TIMEOUT.number(body)?.map(Duration::from_secs_f64),
    })
}

/// The one step there may be.
fn only_step(specification: &Object) -> Result<&Object> {
    let steps = list(specification, "steps")?.iter().map(object).collect::<Result<Vec<_>>>()?;
    for step in &steps {
        let block = text(step, "type")?;
        if !DETECTION.contains(&block) {
            let block = python::repr(&Value::from(block));
            return Err(unsupported(format!(
                "Workflow block {block} is not supported, only object detection is"
            )));
        }
        if given(step, "class_filter").is_some() {
            return Err(unsupported("class_filter of the detection block is not supported"));
        }
    }
    match steps.as_slice() {
        [step] => Ok(step),
        _ => Err(unsupported(format!("A workflow must have one step, not {}", steps.len()))),
    }
}

/// The names of the outputs, each of which must be the step's predictions.
fn outputs(specification: &Object, step: &Object) -> Result<Rc<[String]>> {
    let selector = format!("$steps.{}.predictions", text(step, "name")?);
    let outputs = list(specification, "outputs")?;
    if outputs.len() > MAX_OUTPUTS {
        return Err(invalid(format!("a workflow has at most {MAX_OUTPUTS} outputs")));
    }
    let name = |output: &Value| {
        let output = object(output)?;
        let wanted = text(output, "selector")?;
        if wanted != selector {
            let wanted = python::repr(&Value::from(wanted));
            return Err(unsupported(format!(
                "Workflow output {wanted} is not supported, only {selector} is"
            )));
        }
        let name = text(output, "name")?;
        if name.len() > MAX_OUTPUT_BYTES {
            return Err(invalid(format!("the name of an output has at most {MAX_OUTPUT_BYTES} bytes")));
        }
        Ok(name.to_owned())
    };
    outputs.iter().map(name).collect()
}

/// Values that a step takes from outside.
struct Parameters<'a> {
    inputs: &'a [Value],
    given: Option<&'a Object>,
}

impl<'a> Parameters<'a> {
    /// The value of a step's field: itself, or what `$inputs.name` stands for. `null` is as good as absent.
    fn resolve(&self, step: &'a Object, key: &str) -> Result<Option<&'a Value>> {
        let Some(value) = given(step, key) else { return Ok(None) };
        let Some(name) = value.as_str().and_then(|text| text.strip_prefix("$inputs.")) else {
            return Ok(Some(value));
        };
        let handed_over = self.given.and_then(|given| given.get(name));
        let declared = self
            .inputs
            .iter()
            .filter_map(Value::as_object)
            .find(|input| input.get("name").and_then(Value::as_str) == Some(name));
        let Some(declared) = declared else {
            return Err(invalid(format!("the workflow has no input {name:?}")));
        };
        Ok(handed_over.or_else(|| declared.get("default_value")).filter(|value| **value != Value::Null))
    }
}

fn given<'a>(object: &'a Object, key: &str) -> Option<&'a Value> {
    object.get(key).filter(|value| **value != Value::Null)
}

fn object(value: &Value) -> Result<&Object> {
    value.as_object().ok_or_else(|| invalid(format!("an object is expected, not {}", python::repr(value))))
}

fn list<'a>(object: &'a Object, key: &'static str) -> Result<&'a [Value]> {
    match required(object, key)? {
        Value::Array(values) => Ok(values),
        other => Err(invalid(format!("{key} must be a list, not {}", python::repr(other)))),
    }
}

fn text<'a>(object: &'a Object, key: &'static str) -> Result<&'a str> {
    let value = required(object, key)?;
    value.as_str().ok_or_else(|| invalid(format!("{key} must be a string, not {}", python::repr(value))))
}

fn required<'a>(object: &'a Object, key: &'static str) -> Result<&'a Value> {
    schema::Field::required(key, schema::Kind::Text, "").value(object)
}

fn unsupported(text: impl Into<String>) -> Error {
    Error::new(Kind::Unsupported, text.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::json::parse_str;

    const BODY: &str = r#"{"video_configuration": {"type": "VideoConfiguration", "video_reference": "rtsp://h/1", "max_fps": 5,
            "source_buffer_filling_strategy": "DROP_OLDEST", "source_buffer_consumption_strategy": null},
        "processing_configuration": {"type": "WorkflowConfiguration", "workflow_specification": {"version": "1.0",
            "inputs": [{"type": "InferenceImage", "name": "image"}, {"type": "WorkflowParameter", "name": "c", "default_value": 0.2}],
            "steps": [{"type": "roboflow_core/roboflow_object_detection_model@v2", "name": "model", "images": "$inputs.image",
                "model_id": "a/1", "confidence": "$inputs.c"}],
            "outputs": [{"type": "JsonField", "name": "found", "selector": "$steps.model.predictions"}]},
            "workflows_parameters": null},
        "sink_configuration": {"type": "MemorySinkConfiguration", "results_buffer_size": 3}, "consumption_timeout": 2.5, "api_key": "k"}"#;

    fn read_text(body: &str) -> Result<Init> {
        read(parse_str(body).unwrap().as_object().unwrap())
    }

    #[test]
    fn one_detection_step_is_an_init() {
        let init = read_text(BODY).unwrap();
        assert_eq!((init.model_id.as_str(), init.max_fps), ("a/1", Some(5.0)));
        assert_eq!(init.parameters.confidence, Some(0.2));
        let [Sink::Memory(memory)] = init.sinks.as_slice() else { panic!("{:?}", init.sinks) };
        assert_eq!((memory.turns, &*memory.outputs), (3, &["found".to_owned()][..]));
        assert_eq!(memory.timeout, Some(Duration::from_millis(2500)));
        let with = BODY.replace(r#""workflows_parameters": null"#, r#""workflows_parameters": {"c": 0.7}"#);
        assert_eq!(read_text(&with).unwrap().parameters.confidence, Some(0.7));
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        for (from, to, said) in [
            ("roboflow_object_detection_model@v2", "ocr@v1", "'roboflow_core/ocr@v1'"),
            ("$steps.model.predictions", "$steps.model.inference_id", "'$steps.model.inference_id'"),
            ("\"workflow_specification\"", "\"workflow_id\"", "workflow_specification"),
            (r#""confidence": "$inputs.c""#, r#""class_filter": ["cat"]"#, "class_filter"),
            ("\"$inputs.c\"", "\"$inputs.d\"", "no input \"d\""),
            ("\"results_buffer_size\": 3", "\"results_buffer_size\": 0", "results_buffer_size"),
            ("\"workflows_parameters\": null", "\"workflows_parameters\": []", "[]"),
            ("\"consumption_timeout\": 2.5", "\"consumption_timeout\": -1", "consumption_timeout"),
            ("\"steps\": [", "\"steps\": [], \"x\": [", "one step, not 0"),
            ("\"found\"", &format!("{:?}", "n".repeat(257)), "name of an output"),
            ("\"video_configuration\": {", "\"video_configuration\": null, \"x\": {", "None"),
        ] {
            let error = read_text(&BODY.replace(from, to)).unwrap_err();
            assert!(error.message().contains(said), "{said}: {error}");
            assert_eq!(error.kind().wire().0.as_str(), "invalid_payload", "{said}");
        }
    }
}
