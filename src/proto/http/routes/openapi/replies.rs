//! Schemas of what clients are answered.

use super::{list, object, reference, title};
use crate::json::{Object, Value};

/// Every schema with its name.
pub(super) fn schemas() -> [(&'static str, Value); 11] {
    [
        ("CommandContext", context()),
        ("CommandResponse", response("CommandResponse", [])),
        ("ListPipelinesResponse", response("ListPipelinesResponse", [("pipelines", ids())])),
        (
            "InferencePipelineStatusResponse",
            response("InferencePipelineStatusResponse", [("report", report())]),
        ),
        (
            "ConsumePipelineResponse",
            response("ConsumePipelineResponse", [("outputs", outputs()), ("frames_metadata", frames())]),
        ),
        ("HistoryResponse", response("HistoryResponse", [("history", history())])),
        ("ModelsResponse", response("ModelsResponse", [("models", models())])),
        ("DeviceResponse", response("DeviceResponse", [("device", device())])),
        ("FailureResponse", failure()),
        ("HTTPValidationError", faults()),
        ("ValidationError", fault()),
    ]
}

/// The schema of one server-sent event.
pub(super) fn event() -> Value {
    object! {
        "type": "object",
        "description": "One event.",
        "required": list!["event", "data"],
        "properties": object! {
            "event": object! { "type": "string", "enum": list!["update", "detections", "end"] },
            "data": object! { "type": "string", "description": "A JSON object." },
        },
    }
}

fn context() -> Value {
    let field = |name: &str, words: &'static str| {
        let forms = list![object! { "type": "string" }, object! { "type": "null" }];
        object! { "anyOf": forms, "title": title(name), "description": words }
    };
    object! {
        "type": "object",
        "title": "CommandContext",
        "properties": object! {
            "request_id": field("request_id", "Id of this request, new for each."),
            "pipeline_id": field("pipeline_id", "The pipeline the request was about."),
        },
    }
}

/// A success: what all have in common, and what this one has.
fn response<const N: usize>(name: &'static str, own: [(&'static str, Value); N]) -> Value {
    let mut required = vec![Value::from("status"), Value::from("context")];
    required.extend(own.iter().map(|(name, _)| Value::from(*name)));
    let mut properties = Object::default();
    properties.push("status", object! { "type": "string", "title": "Status", "description": "`success`." });
    properties.push("context", reference("CommandContext"));
    properties.extend(own);
    object! { "type": "object", "title": name, "required": required, "properties": properties }
}

fn ids() -> Value {
    object! { "type": "array", "title": "Pipelines", "description": "Ids.", "items": object! { "type": "string" } }
}

fn report() -> Value {
    object! { "type": "object", "title": "Report", "additionalProperties": true }
}

fn outputs() -> Value {
    object! {
        "type": "array",
        "title": "Outputs",
        "description": "For each frame the workflow's outputs by name: image and predictions as in a datagram.",
        "items": object! { "type": "object" },
    }
}

fn frames() -> Value {
    let frame = object! {
        "type": "object",
        "required": list!["frame_timestamp", "frame_id", "source_id"],
        "properties": object! {
            "frame_timestamp": object! { "type": "string" },
            "frame_id": object! { "type": "integer" },
            "source_id": object! { "type": "integer" },
        },
    };
    object! { "type": "array", "title": "Frames Metadata", "items": frame }
}

/// An object whose fields are all there.
fn whole(fields: &[(&'static str, Value)]) -> Value {
    let required: Vec<_> = fields.iter().map(|(name, _)| Value::from(*name)).collect();
    let properties: Object = fields.iter().cloned().collect();
    object! { "type": "object", "required": required, "properties": properties }
}

fn integer(words: &'static str) -> Value {
    object! { "type": "integer", "description": words }
}

fn string(words: &'static str) -> Value {
    object! { "type": "string", "description": words }
}

fn history() -> Value {
    let latency = list![object! { "type": "number" }, object! { "type": "null" }];
    whole(&[
        ("interval_s", integer("How long a step is.")),
        ("frames_per_second", object! { "type": "array", "items": object! { "type": "number" } }),
        (
            "latency_s",
            object! { "type": "array", "description": "`null`: no frame.", "items": object! { "anyOf": latency } },
        ),
    ])
}

fn models() -> Value {
    let model =
        whole(&[("model_id", string("What a pipeline may name.")), ("bytes", integer("Of its weights."))]);
    object! { "type": "array", "title": "Models", "items": model }
}

fn device() -> Value {
    let model = whole(&[
        ("model_id", string("Its id or path.")),
        ("family", string("How its outputs are read.")),
        ("engine", string("What computes it.")),
        ("input_width", integer("Pixels.")),
        ("input_height", integer("Pixels.")),
        ("classes", integer("How many names it has.")),
        ("weights_bytes", integer("Held once.")),
        ("arena_bytes", integer("Of each inference thread.")),
    ]);
    let pipeline = whole(&[
        ("pipeline_id", string("Its id.")),
        ("model_id", string("The model it asked for.")),
        (
            "is_declared",
            object! { "type": "boolean", "description": "A file of the configuration asks for it." },
        ),
    ]);
    let fact = whole(&[("name", string("In a word.")), ("text", string("What was found."))]);
    let resident = list![object! { "type": "integer" }, object! { "type": "null" }];
    whole(&[
        ("version", string("Of weir.")),
        ("arch", string("What it was built for.")),
        ("built", string("When.")),
        ("time", string("The machine's own.")),
        ("inference_threads", integer("Frames that are inferred at once.")),
        ("memory_limit_bytes", integer("What pipelines and models may reserve.")),
        ("memory_reserved_bytes", integer("The most that they may come to need.")),
        (
            "resident_bytes",
            object! { "anyOf": resident, "description": "Of the service without its capture workers." },
        ),
        ("max_pipelines", integer("Pipelines at most.")),
        ("models", object! { "type": "array", "description": "In use.", "items": model }),
        ("pipelines", object! { "type": "array", "description": "In order of creation.", "items": pipeline }),
        ("check", object! { "type": "array", "description": "What `weir check` says.", "items": fact }),
    ])
}

fn failure() -> Value {
    let ours = object! {
        "type": "object",
        "required": list!["status", "message"],
        "properties": object! {
            "status": object! { "type": "string", "description": "`failure`." },
            "message": object! { "type": "string", "description": "The kind of error, then its words." },
        },
    };
    let framework = object! {
        "type": "object",
        "required": list!["detail"],
        "properties": object! { "detail": object! { "type": "string", "description": "Why the request was not understood." } },
    };
    object! { "title": "FailureResponse", "anyOf": list![ours, framework] }
}

fn faults() -> Value {
    let detail = object! { "type": "array", "title": "Detail", "items": reference("ValidationError") };
    object! { "type": "object", "title": "HTTPValidationError", "properties": object! { "detail": detail } }
}

fn fault() -> Value {
    let step = object! { "anyOf": list![object! { "type": "string" }, object! { "type": "integer" }] };
    object! {
        "type": "object",
        "title": "ValidationError",
        "required": list!["loc", "msg", "type"],
        "properties": object! {
            "loc": object! { "type": "array", "title": "Location", "items": step },
            "msg": object! { "type": "string", "title": "Message" },
            "type": object! { "type": "string", "title": "Error Type" },
        },
    }
}
