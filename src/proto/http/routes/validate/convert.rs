//! The conversions of the framework's lax mode, each for one type.

use crate::json::Value;

/// Why a value was refused: the fault's `type` and `msg`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Refusal {
    pub kind: &'static str,
    pub text: &'static str,
}

pub(super) const MISSING: Refusal = Refusal { kind: "missing", text: "Field required" };
pub(super) const MODEL: Refusal = Refusal {
    kind: "model_attributes_type",
    text: "Input should be a valid dictionary or object to extract fields from",
};
pub(super) const LIST: Refusal = Refusal { kind: "list_type", text: "Input should be a valid list" };
pub(super) const DICT: Refusal = Refusal { kind: "dict_type", text: "Input should be a valid dictionary" };
const STRING: Refusal = Refusal { kind: "string_type", text: "Input should be a valid string" };
const INT: Refusal = Refusal { kind: "int_type", text: "Input should be a valid integer" };
const INT_TEXT: Refusal = Refusal {
    kind: "int_parsing",
    text: "Input should be a valid integer, unable to parse string as an integer",
};
const INT_FRACTION: Refusal = Refusal {
    kind: "int_from_float",
    text: "Input should be a valid integer, got a number with a fractional part",
};
const FLOAT: Refusal = Refusal { kind: "float_type", text: "Input should be a valid number" };
const FLOAT_TEXT: Refusal = Refusal {
    kind: "float_parsing",
    text: "Input should be a valid number, unable to parse string as a number",
};
const BOOL: Refusal = Refusal { kind: "bool_type", text: "Input should be a valid boolean" };
const BOOL_VALUE: Refusal =
    Refusal { kind: "bool_parsing", text: "Input should be a valid boolean, unable to interpret input" };

pub(super) const TOO_SMALL: Refusal = Refusal {
    kind: "greater_than_equal",
    text: "Input should be greater than or equal to the least that is allowed",
};
pub(super) const TOO_LARGE: Refusal = Refusal {
    kind: "less_than_equal",
    text: "Input should be less than or equal to the most that is allowed",
};

/// A list, whose items others judge.
pub(super) fn list(value: &Value) -> Result<Value, Refusal> {
    match value {
        Value::Array(_) => Ok(value.clone()),
        _ => Err(LIST),
    }
}

/// Only text is text.
pub(super) fn text(value: &Value) -> Result<Value, Refusal> {
    match value {
        Value::String(_) => Ok(value.clone()),
        _ => Err(STRING),
    }
}

/// Integers, booleans, whole floats, and text that holds an integer.
pub(super) fn integer(value: &Value) -> Result<Value, Refusal> {
    match value {
        Value::Integer(_) => Ok(value.clone()),
        Value::Bool(flag) => Ok(Value::Integer(i128::from(*flag))),
        // Beyond 2^64 a JSON integer has become a float here; no field of ours goes that far.
        Value::Float(number) if number.fract() == 0.0 => Ok(Value::Integer(*number as i128)),
        Value::Float(_) => Err(INT_FRACTION),
        Value::String(text) => {
            let text = text.trim();
            let whole = match text.split_once('.') {
                Some((whole, zeros)) if zeros.bytes().all(|digit| digit == b'0') => whole,
                _ => text,
            };
            whole.parse().map(Value::Integer).map_err(|_| INT_TEXT)
        }
        Value::Null | Value::Array(_) | Value::Object(_) => Err(INT),
    }
}

/// Numbers, booleans, and text that holds a finite number.
pub(super) fn number(value: &Value) -> Result<Value, Refusal> {
    match value {
        Value::Integer(_) | Value::Float(_) => Ok(value.clone()),
        Value::Bool(flag) => Ok(Value::Float(f64::from(u8::from(*flag)))),
        Value::String(text) => match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Value::Float(number)),
            _ => Err(FLOAT_TEXT),
        },
        Value::Null | Value::Array(_) | Value::Object(_) => Err(FLOAT),
    }
}

/// Booleans, 0 and 1, and the usual words.
pub(super) fn boolean(value: &Value) -> Result<Value, Refusal> {
    let flag = match value {
        Value::Bool(flag) => Some(*flag),
        Value::Integer(0) => Some(false),
        Value::Integer(1) => Some(true),
        Value::Float(number) if *number == 0.0 => Some(false),
        Value::Float(number) if *number == 1.0 => Some(true),
        Value::String(text) => match text.to_ascii_lowercase().as_str() {
            "1" | "on" | "t" | "true" | "y" | "yes" => Some(true),
            "0" | "off" | "f" | "false" | "n" | "no" => Some(false),
            _ => None,
        },
        Value::Integer(_) | Value::Float(_) => None,
        Value::Null | Value::Array(_) | Value::Object(_) => return Err(BOOL),
    };
    flag.map(Value::Bool).ok_or(BOOL_VALUE)
}
