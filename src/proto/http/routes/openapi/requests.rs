//! Schemas of what clients send: the fields of `init`, of its sinks and of a workflow.

use super::{list, object, reference, title};
use crate::command::init::{fields, properties};
use crate::geometry::{MAX_POINTS, MAX_POLYGONS};
use crate::json::{Object, Value, parse_str};
use crate::proto::http::workflow;
use crate::schema::{Field, Kind, MAX_TEXT_BYTES, Presence};
use crate::sink::{self, memory};

/// Every schema with its name.
pub(super) fn schemas() -> Vec<(&'static str, Value)> {
    let mut found = vec![
        ("PipelineInitialisationRequest", request()),
        ("SourceRequest", members("SourceRequest", fields::SOURCE_FIELDS)),
        ("WorkflowInitialisationRequest", workflow_request()),
        ("LaxBoolean", lax_boolean()),
        ("LaxCount", lax_count()),
        ("LaxNumber", lax_number()),
    ];
    for field in fields::FIELDS {
        if let Kind::Object { schema, fields } = field.kind {
            found.push((schema, members(schema, fields)));
        }
    }
    for (index, kind) in sink::KINDS.iter().filter(|kind| kind.is_offered).enumerate() {
        // One that names no type is of the first kind, the reference's.
        let is_named = if index > 0 { Presence::Required } else { Presence::Implied };
        let kind_of = Field::required(sink::TYPE, Kind::Constant(kind.name), "").being(is_named);
        let mut schema = members_of(kind.schema, &[&[kind_of][..], kind.fields].concat());
        schema.push("type", Value::from("object"));
        found.push((kind.schema, Value::Object(schema)));
    }
    found
}

fn request() -> Value {
    let mut schema = members_of("PipelineInitialisationRequest", fields::FIELDS);
    schema.push("type", Value::from("object"));
    let example = object! {
        "model_id": "some/1",
        "video_reference": "rtsp://192.168.0.1:554",
        "sink_configuration": object! { "type": "udp_sink", "host": "192.168.0.3", "port": 9999 },
        "api_key": "YOUR-API-KEY",
        "max_fps": 16,
    };
    schema.push("examples", list![example]);
    Value::Object(schema)
}

fn members(name: &'static str, fields: &[Field]) -> Value {
    let mut schema = members_of(name, fields);
    schema.push("type", Value::from("object"));
    Value::Object(schema)
}

/// `title`, `required` and `properties` of an object.
fn members_of(name: &'static str, fields: &[Field]) -> Object {
    let mut properties = Object::default();
    properties.extend(fields.iter().map(|field| (field.name, described(field))));
    let required: Vec<Value> = fields
        .iter()
        .filter(|field| field.presence == Presence::Required)
        .map(|field| Value::from(field.name))
        .collect();
    let mut schema = Object::default();
    schema.push("title", Value::from(name));
    if !required.is_empty() {
        schema.push("required", Value::Array(required));
    }
    schema.push("properties", Value::Object(properties));
    schema
}

/// The schema of one field.
fn described(field: &Field) -> Value {
    let mut out = Object::default();
    let may_be_null = matches!(field.presence, Presence::Optional | Presence::Ignored);
    let mut description = field.words.to_owned();
    match (field.kind, forms(field)) {
        (Kind::Constant(text), _) => {
            return constant(text);
        }
        (Kind::Object { schema, .. }, _) => {
            out.push("$ref", Value::from(format!("#/components/schemas/{schema}")));
            out.push("description", Value::from(description));
            return Value::Object(out);
        }
        (Kind::Host, _) => {
            out.push("type", Value::from("string"));
            out.push("minLength", Value::Integer(1));
            out.push("maxLength", Value::Integer(253));
            out.push(
                "anyOf",
                list![object! { "pattern": NAME_PATTERN }, object! { "pattern": ADDRESS_PATTERN }],
            );
        }
        (_, mut forms) => {
            if may_be_null {
                forms.push(object! { "type": "null" });
            }
            match (forms.len(), forms.pop()) {
                (1, Some(Value::Object(only))) => out = only,
                (_, last) => {
                    forms.extend(last);
                    out.push("anyOf", Value::Array(forms));
                }
            }
        }
    }
    if let Kind::Integer { least, most: Some(most) } = field.kind {
        description += &format!(
            ", {least} to {most}, as an integer or, as the reference takes it, as text that holds one; true is 1."
        );
    }
    out.push("title", Value::from(title(field.name)));
    out.push("description", Value::from(description));
    if let Kind::Properties { .. } = field.kind {
        out.push("default", object! {});
    }
    if let Some(example) = field.example.and_then(|example| parse_str(example).ok()) {
        out.push("examples", list![example]);
    }
    Value::Object(out)
}

/// What a value may look like over HTTP, whose framework converts.
fn forms(field: &Field) -> Vec<Value> {
    let text = || object! { "type": "string", "maxLength": MAX_TEXT_BYTES as i128 };
    match field.kind {
        Kind::Text if field.presence == Presence::Ignored => vec![object! { "type": "string" }],
        Kind::Text | Kind::Secret | Kind::Host | Kind::Constant(_) => vec![text()],
        Kind::Boolean => vec![reference("LaxBoolean")],
        Kind::Integer { least: 0, most: None } => vec![reference("LaxCount")],
        Kind::Integer { least, most } => integer(least, most),
        Kind::Number => vec![reference("LaxNumber")],
        Kind::Rate => vec![
            object! { "type": "number", "exclusiveMinimum": 0 },
            object! { "type": "integer", "minimum": 1 },
            object! { "const": true },
            object! { "type": "string", "pattern": r"^[1-9][0-9]{0,5}(\.[0-9]{1,6})?$" },
        ],
        Kind::Seconds { most, .. } => vec![
            object! { "type": "number", "minimum": 0, "maximum": most as i128 },
            object! { "type": "boolean" },
            object! { "type": "string", "pattern": r"^[0-9]{1,4}(\.[0-9]{1,6})?$" },
        ],
        Kind::Word { words, .. } => {
            vec![
                object! { "type": "string", "enum": words.iter().map(|word| Value::from(*word)).collect::<Vec<_>>() },
            ]
        }
        Kind::Texts => vec![object! { "type": "array", "items": text() }],
        Kind::Object { schema, .. } => vec![reference(schema)],
        Kind::Sink => {
            let kinds =
                || sink::KINDS.iter().filter(|kind| kind.is_offered).map(|kind| reference(kind.schema));
            let items = object! { "anyOf": kinds().collect::<Vec<_>>() };
            let list = object! { "type": "array", "minItems": 1, "maxItems": sink::MAX_SINKS as i128, "items": items };
            kinds().chain([list]).collect()
        }
        Kind::References { most } => {
            let device = object! { "type": "integer", "minimum": 0, "maximum": i128::from(u32::MAX) };
            let told = "false is device 0 and true is device 1, as in the reference.";
            let items = object! { "anyOf": list![text(), device.clone(), object! { "type": "boolean" }] };
            vec![
                text(),
                device,
                object! { "type": "boolean", "description": told },
                object! { "type": "array", "minItems": 1, "maxItems": most as i128, "items": items },
            ]
        }
        Kind::Masks { most } => {
            let fraction = object! { "type": "number", "minimum": 0, "maximum": 1 };
            let corner = object! { "type": "array", "minItems": 2, "maxItems": 2, "items": fraction };
            let polygon =
                object! { "type": "array", "minItems": 3, "maxItems": MAX_POINTS as i128, "items": corner };
            let one = object! { "type": "array", "maxItems": MAX_POLYGONS as i128, "items": polygon };
            let each = object! { "anyOf": list![one.clone(), object! { "type": "null" }] };
            vec![one, object! { "type": "array", "minItems": 1, "maxItems": most as i128, "items": each }]
        }
        Kind::Properties { most } => {
            let names: Vec<Value> = properties::NAMES.iter().map(|name| Value::from(*name)).collect();
            let one = || {
                object! {
                    "type": "object",
                    "propertyNames": object! { "enum": names.clone() },
                    "properties": object! {
                        "fourcc": object! {
                            "anyOf": list![reference("LaxNumber"), object! { "type": "string", "pattern": properties::FOURCC_PATTERN }],
                        },
                    },
                    "additionalProperties": reference("LaxNumber"),
                }
            };
            let items = object! { "anyOf": list![one(), object! { "type": "null" }] };
            vec![one(), object! { "type": "array", "minItems": 1, "maxItems": most as i128, "items": items }]
        }
    }
}

/// An integer, text that holds one of fewer digits than the largest, and `true` where 1 is one.
fn integer(least: i128, most: Option<i128>) -> Vec<Value> {
    let mut whole = Object::default();
    whole.push("type", Value::from("integer"));
    whole.push("minimum", Value::Integer(least));
    whole.extend(most.map(|most| ("maximum", Value::Integer(most))));
    if let (0, Some(most @ 1..=9)) = (least, most) {
        let text = object! { "type": "string", "pattern": format!("^[0-{most}]$") };
        return vec![Value::Object(whole), text, object! { "type": "boolean" }];
    }
    let digits = most.map_or(6, |most| most.to_string().len()).saturating_sub(2);
    let mut forms = vec![
        Value::Object(whole),
        object! { "type": "string", "pattern": format!("^[1-9][0-9]{{0,{digits}}}$") },
    ];
    if least <= 1 {
        forms.push(object! { "const": true });
    }
    forms
}

fn constant(text: &'static str) -> Value {
    object! {
        "type": "string",
        "title": "Type",
        "default": text,
        "description": format!("Always `{text}`."),
        "const": text,
    }
}

/// Host names, and IPv4 addresses.
const NAME_PATTERN: &str =
    r"^(?=.*[^0-9.])[A-Za-z0-9_][A-Za-z0-9_-]{0,62}(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?$";
const ADDRESS_PATTERN: &str =
    r"^((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.?$";

fn lax_boolean() -> Value {
    let words =
        ["0", "1", "f", "false", "n", "no", "off", "on", "t", "true", "y", "yes"].map(Value::from).to_vec();
    object! {
        "title": "Boolean",
        "description": "A boolean, or what the reference takes for one: 0, 1 and the usual words, in any case.",
        "anyOf": list![
            object! { "type": "boolean" },
            object! { "type": "integer", "enum": list![0, 1] },
            object! { "type": "string", "enum": words },
        ],
    }
}

fn lax_count() -> Value {
    object! {
        "title": "Count",
        "description": "An integer of 0 or more, or what the reference takes for one: a boolean (0 or 1), or text that holds an \
                        integer.",
        "anyOf": list![
            object! { "type": "integer", "minimum": 0 },
            object! { "type": "boolean" },
            object! { "type": "string", "pattern": "^[0-9]{1,6}$" },
        ],
    }
}

fn lax_number() -> Value {
    object! {
        "title": "Number",
        "description": "A number, or what the reference takes for one: a boolean (0 or 1), or text that holds a number.",
        "anyOf": list![
            object! { "type": "number" },
            object! { "type": "boolean" },
            object! { "type": "string", "pattern": r"^-?[0-9]{1,6}(\.[0-9]{1,6})?$" },
        ],
    }
}

/// The newer API's request: no framework judges it, so nothing is converted.
fn workflow_request() -> Value {
    let or_null = |schema: Value| list![schema, object! { "type": "null" }];
    let step = object! { "type": "object", "required": list!["type", "name"] };
    let output = object! { "type": "object", "required": list!["name", "selector"] };
    let specification = object! {
        "type": "object",
        "description": "A workflow of one object-detection step.",
        "required": list!["inputs", "steps", "outputs"],
        "properties": object! {
            "inputs": object! { "type": "array", "items": object! {} },
            "steps": object! { "type": "array", "minItems": 1, "maxItems": 1, "items": step },
            "outputs": object! { "type": "array", "maxItems": workflow::MAX_OUTPUTS as i128, "items": output },
        },
    };
    let video = "`video_reference` and, as in PipelineInitialisationRequest, max_fps, the two strategies, video_source_properties and \
                 batch_collection_timeout.";
    let turns = match memory::RESULTS_BUFFER_SIZE.kind {
        Kind::Integer { least, most: Some(most) } => {
            object! { "type": "integer", "minimum": least, "maximum": most }
        }
        _ => object! { "type": "integer" },
    };
    let timeout = match memory::CONSUMPTION_TIMEOUT.kind {
        Kind::Seconds { most, .. } => {
            object! { "type": "number", "exclusiveMinimum": 0, "maximum": most as i128 }
        }
        _ => object! { "type": "number" },
    };
    let sink = object! { "type": "object", "properties": object! { "results_buffer_size": object! { "anyOf": or_null(turns) } } };
    let key = object! { "type": "string", "maxLength": MAX_TEXT_BYTES as i128 };
    let example = r#"{"video_configuration": {"video_reference": "rtsp://192.168.0.1:554"},
        "processing_configuration": {"workflow_specification": {"version": "1.0",
            "inputs": [{"type": "WorkflowImage", "name": "image"}],
            "steps": [{"type": "roboflow_core/roboflow_object_detection_model@v2", "name": "model", "images": "$inputs.image",
                "model_id": "some/1"}],
            "outputs": [{"type": "JsonField", "name": "predictions", "selector": "$steps.model.predictions"}]}},
        "sink_configuration": {"results_buffer_size": 64}}"#;
    object! {
        "type": "object",
        "title": "WorkflowInitialisationRequest",
        "required": list!["video_configuration", "processing_configuration"],
        "properties": object! {
            "video_configuration": object! { "type": "object", "description": video, "required": list!["video_reference"] },
            "processing_configuration": object! {
                "type": "object",
                "required": list!["workflow_specification"],
                "properties": object! {
                    "workflow_specification": specification,
                    "workflows_parameters": object! { "anyOf": or_null(object! { "type": "object" }) },
                },
            },
            "sink_configuration": object! { "anyOf": or_null(sink), "description": memory::RESULTS_BUFFER_SIZE.words },
            "consumption_timeout": object! { "anyOf": or_null(timeout), "description": memory::CONSUMPTION_TIMEOUT.words },
            "api_key": object! { "anyOf": or_null(key), "description": "Key for the model registry." },
        },
        "examples": list![parse_str(example).unwrap_or_default()],
    }
}
