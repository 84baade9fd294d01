//! The OpenAPI 3.1 document: made from the table of routes, the fields of `init` and the kinds of sinks.

mod replies;
mod requests;

use super::table::{Entry, Operation, Parameter, Success, TABLE};
use crate::json::{Object, Style, Value, Writer};
use std::sync::OnceLock;

/// An object, written as in JSON.
macro_rules! object {
    ($($key:literal: $value:expr),* $(,)?) => {
        $crate::json::Value::Object([$(($key, $crate::json::Value::from($value))),*].into_iter().collect())
    };
}
use object;

/// A list, written as in JSON.
macro_rules! list {
    ($($value:expr),* $(,)?) => { $crate::json::Value::Array(vec![$($crate::json::Value::from($value)),*]) };
}
use list;

/// The document's text; made when it is asked for the first time.
pub(super) fn text() -> &'static [u8] {
    static TEXT: OnceLock<Vec<u8>> = OnceLock::new();
    TEXT.get_or_init(|| {
        let mut out = Writer::new(Style::Compact);
        out.value(&document());
        out.finish()
    })
}

fn document() -> Value {
    let mut paths = Object::default();
    for entry in TABLE {
        if let Some(operation) = &entry.operation {
            let mut methods = Object::default();
            methods.push(entry.allow.to_ascii_lowercase(), described(entry, operation));
            paths.push(entry.path, Value::Object(methods));
        }
    }
    let mut schemas = Object::default();
    requests::schemas()
        .into_iter()
        .chain(replies::schemas())
        .for_each(|(name, schema)| schemas.push(name, schema));
    object! {
        "openapi": "3.1.0",
        "info": object! {
            "title": "weir",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Steers object detection on many video sources.",
        },
        "paths": paths,
        "components": object! {
            "schemas": schemas,
            "securitySchemes": object! {
                "token": object! { "type": "http", "scheme": "bearer", "description": "Needed when the service has tokens." },
            },
        },
        "security": list![object! {}, object! { "token": list![] }],
    }
}

fn described(entry: &Entry, operation: &Operation) -> Value {
    let mut out = Object::default();
    out.push("summary", Value::from(operation.summary));
    out.push("description", Value::from(operation.description));
    out.push("operationId", Value::from(operation.id));
    if entry.has_pipeline() {
        let parameter = object! {
            "name": "pipeline_id",
            "in": "path",
            "required": true,
            "description": "The id that initialise answered.",
            "schema": object! { "type": "string", "title": "Pipeline Id" },
        };
        let mut parameters = vec![parameter];
        parameters.extend(operation.query.iter().map(parameter_of_query));
        out.push("parameters", Value::Array(parameters));
    } else if !operation.query.is_empty() {
        out.push("parameters", Value::Array(operation.query.iter().map(parameter_of_query).collect()));
    }
    if let Some(schema) = operation.body {
        out.push(
            "requestBody",
            object! { "required": true, "content": content("application/json", reference(schema)) },
        );
    }
    let mut responses = Object::default();
    responses.push("200", succeeded(operation));
    for refusal in operation.refusals.iter().copied().flatten() {
        let body = match refusal.schema {
            Some(schema) => content("application/json", reference(schema)),
            None => content("text/plain", object! { "type": "string" }),
        };
        responses.push(refusal.status.to_string(), object! { "description": refusal.words, "content": body });
    }
    out.push("responses", Value::Object(responses));
    Value::Object(out)
}

fn parameter_of_query(parameter: &Parameter) -> Value {
    let mut schema = Object::default();
    match parameter.kind {
        // As text: `1`, `true` …
        "boolean" => schema.push("enum", list!["0", "1", "false", "true"]),
        "ids" => {
            let one = object! { "type": "string" };
            let bounds = [
                ("type", Value::from("array")),
                ("minItems", Value::Integer(1)),
                ("maxItems", Value::Integer(32)),
                ("items", one),
            ];
            schema.extend(bounds);
        }
        kind => schema.push("type", Value::from(kind)),
    }
    schema.extend(parameter.least.map(|least| ("minimum", Value::Float(least))));
    schema.extend((parameter.kind == "integer").then(|| ("maximum", Value::Integer(u32::MAX.into()))));
    object! {
        "name": parameter.name,
        "in": "query",
        "required": parameter.kind == "ids",
        "description": parameter.words,
        "schema": schema,
    }
}

fn succeeded(operation: &Operation) -> Value {
    let (words, body) = match operation.success {
        Success::Json(schema) => {
            ("The command was carried out.", content("application/json", reference(schema)))
        }
        Success::Text(words) => (words, content("text/plain", object! { "type": "string" })),
        Success::Picture => {
            ("The picture.", content("image/jpeg", object! { "type": "string", "format": "binary" }))
        }
        Success::Live => (
            "The pictures.",
            content("multipart/x-mixed-replace", object! { "type": "string", "format": "binary" }),
        ),
        Success::Events => ("The events.", content("text/event-stream", replies::event())),
    };
    let mut out = Object::default();
    out.push("description", Value::from(words));
    out.push("content", body);
    if !operation.links.is_empty() {
        let mut links = Object::default();
        for (name, id) in operation.links {
            let parameters = object! { "pipeline_id": "$response.body#/context/pipeline_id" };
            links.push(*name, object! { "operationId": *id, "parameters": parameters });
        }
        out.push("links", Value::Object(links));
    }
    Value::Object(out)
}

fn content(kind: &'static str, schema: Value) -> Value {
    let mut out = Object::default();
    out.push(kind, object! { "schema": schema });
    Value::Object(out)
}

/// A schema of the document by its name.
fn reference(schema: &str) -> Value {
    object! { "$ref": format!("#/components/schemas/{schema}") }
}

/// `pipeline_id` → `Pipeline Id`, as the reference titles its fields.
fn title(name: &str) -> String {
    let word = |word: &str| {
        word.get(..1).unwrap_or_default().to_ascii_uppercase() + word.get(1..).unwrap_or_default()
    };
    name.split('_').map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
