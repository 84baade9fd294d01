use super::*;
use crate::json::parse_str;
use std::path::Path;

/// The document as it was when somebody last looked at it. `WEIR_BLESS=1 cargo test --lib openapi` writes it
/// anew.
const GOLDEN: &str = "src/proto/http/routes/openapi/golden.json";

#[test]
fn the_document_is_the_one_that_was_looked_at() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(GOLDEN);
    let mut made = String::new();
    indent(&document(), 0, &mut made);
    made.push('\n');
    if std::env::var_os("WEIR_BLESS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap();
    let version = |text: &str| {
        text.replace(&format!("\"version\": \"{}\"", env!("CARGO_PKG_VERSION")), "\"version\": \"…\"")
    };
    let first =
        version(&made).lines().zip(version(&golden).lines()).position(|(made, golden)| made != golden);
    assert!(
        first.is_none() && made.lines().count() == golden.lines().count(),
        "{GOLDEN} differs from line {first:?} on"
    );
}

fn indent(value: &Value, depth: usize, out: &mut String) {
    let step = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', depth));
    };
    match value {
        Value::Object(members) if !members.is_empty() => {
            out.push('{');
            for (index, (key, value)) in members.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                step(out, depth + 1);
                out.push_str(&format!("\"{key}\": "));
                indent(value, depth + 1, out);
            }
            step(out, depth);
            out.push('}');
        }
        Value::Array(values) if values.iter().any(|value| matches!(value, Value::Object(_))) => {
            out.push('[');
            for (index, value) in values.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                step(out, depth + 1);
                indent(value, depth + 1, out);
            }
            step(out, depth);
            out.push(']');
        }
        plain => {
            let mut text = Writer::new(Style::Python);
            text.value(plain);
            out.push_str(&String::from_utf8(text.finish()).unwrap());
        }
    }
}

/// Members that the reference does not know.
const BEYOND: [&str; 1] = ["privacy_masks"];

#[test]
fn the_document_has_the_reference_s_paths_and_schemas() {
    let ours = document();
    let theirs = parse_str(include_str!("../../../../../tests/goldens/openapi.json")).unwrap();
    let keys = |document: &Value, path: &[&str]| -> Vec<String> {
        let mut value = document;
        for step in path {
            value = value.as_object().unwrap().get(step).unwrap();
        }
        value.as_object().unwrap().iter().map(|(key, _)| key.to_owned()).collect()
    };
    for path in keys(&theirs, &["paths"]) {
        assert_eq!(keys(&ours, &["paths", &path]), keys(&theirs, &["paths", &path]), "{path}");
    }
    for schema in keys(&theirs, &["components", "schemas"]) {
        let path = ["components", "schemas", &schema, "properties"];
        let ours: Vec<_> =
            keys(&ours, &path).into_iter().filter(|key| !BEYOND.contains(&key.as_str())).collect();
        assert_eq!(ours, keys(&theirs, &path), "{schema}");
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_link_to_an_operation() {
    let mut text = Writer::new(Style::Compact);
    let document = document();
    text.value(&document);
    let text = String::from_utf8(text.finish()).unwrap();
    let schemas =
        document.as_object().unwrap().get("components").unwrap().as_object().unwrap().get("schemas").unwrap();
    for part in text.split("\"#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(schemas.as_object().unwrap().get(name).is_some(), "{name}");
    }
    let operations: Vec<&Operation> = TABLE.iter().filter_map(|entry| entry.operation.as_ref()).collect();
    for (_, link) in operations.iter().flat_map(|operation| operation.links) {
        assert!(operations.iter().any(|operation| operation.id == *link), "{link}");
    }
    for operation in &operations {
        assert_eq!(operations.iter().filter(|other| other.id == operation.id).count(), 1, "{}", operation.id);
    }
}
