//! JSON as both listeners, the sink and the state file need it: values that keep the order of their keys, a
//! parser that neither recurses nor grows without bound, and a writer in the two styles of the reference
//! (Python's `json.dumps` on TCP and UDP, compact UTF-8 on HTTP).

mod primitive;
mod scan;
mod text;
mod value;
mod write;

pub use primitive::{Charset, write_f64, write_string};
pub use scan::{Fault, MAX_DEPTH, MAX_VALUES, Reason};
pub use value::{Object, Value};
pub use write::{Style, Writer};

/// Parses one document of any encoding that RFC 4627 could tell apart (UTF-8, -16, -32, with or without a
/// byte-order mark).
pub fn parse(bytes: &[u8]) -> Result<Value, Fault> {
    let text = text::decode(bytes).ok_or(Fault { offset: 0, reason: Reason::Encoding })?;
    parse_str(&text)
}

/// Parses one document of text. Of duplicate keys the last wins, as in the reference.
pub fn parse_str(text: &str) -> Result<Value, Fault> {
    scan::scan(text)?;
    // The grammar was just checked; what is left to refuse is a number beyond f64.
    miniserde::json::from_str(text).map_err(|_| Fault { offset: 0, reason: Reason::NumberRange })
}
