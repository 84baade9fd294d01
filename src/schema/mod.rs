//! What a document from outside may hold: one description of each field, and strict reading by it.
//!
//! Tables of [`Field`]s stand beside the types they fill (`command/init/fields.rs`, `sink/*.rs`). From them
//! are made: the checks of TCP messages and files (here), the judgement of HTTP bodies
//! (`proto/http/routes/validate.rs`), the OpenAPI document (`proto/http/routes/openapi/`), the flags of `weir
//! ctl init` (`cli/ctl.rs`) and the table in `docs/reference.md`.

pub mod python;

use crate::error::{Error, Kind as ErrorKind, Result};
use crate::json::{Object, Value};

/// Bytes of one text field. Paths end at 4 096 (PATH_MAX), URLs that cameras take well before 8 KiB.
pub const MAX_TEXT_BYTES: usize = 8 << 10;

/// One member of an object.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// The key that it stands under.
    pub name: &'static str,
    /// How errors call it.
    pub label: &'static str,
    /// What it holds, with its limits.
    pub kind: Kind,
    /// Whether it must be there.
    pub presence: Presence,
    /// What it means: a sentence for documents, in Markdown.
    pub words: &'static str,
    /// A value to show, as JSON.
    pub example: Option<&'static str>,
    /// How `weir ctl init` calls it; `None`: it has no flag.
    pub flag: Option<&'static str>,
}

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Text of at most [`MAX_TEXT_BYTES`].
    Text,
    /// Text that is never shown.
    Secret,
    /// A name that a resolver could know, or an IPv4 address.
    Host,
    /// `true` or `false`.
    Boolean,
    /// An integer from `least` to `most`.
    Integer {
        /// The smallest that is taken.
        least: i128,
        /// The largest; `None`: what passes 32 bits is as good as the largest that fits.
        most: Option<i128>,
    },
    /// Any number, whole or not.
    Number,
    /// Things per second: a number above 0.
    Rate,
    /// Seconds from 0 to `most`.
    Seconds {
        /// The longest that is taken, seconds.
        most: f64,
        /// 0 is too short.
        above_zero: bool,
    },
    /// One of some words, in any case.
    Word {
        /// The words that are taken.
        words: &'static [&'static str],
        /// What the reference calls the type.
        class: &'static str,
    },
    /// This text and no other.
    Constant(&'static str),
    /// A list of texts.
    Texts,
    /// An object with these members.
    Object {
        /// What the OpenAPI document calls it.
        schema: &'static str,
        /// The members that it may have.
        fields: &'static [Field],
    },
    /// One video source or a list of them: a text or a device index each.
    References {
        /// How many at most.
        most: usize,
    },
    /// Capture properties by name: one object for all sources, or a list with one for all or for each.
    Properties {
        /// How many sources at most.
        most: usize,
    },
    /// Polygons as fractions of the picture: one list for all sources, or a list with such a list for each.
    Masks {
        /// How many sources at most.
        most: usize,
    },
    /// Where detections go; `sink::KINDS` says what that may be.
    Sink,
}

/// Whether a field must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It must be there.
    Required,
    /// `null` is as good as absent.
    Optional,
    /// Messages over TCP have it; a body over HTTP may leave it out: then it is as `Kind` alone says.
    Implied,
    /// Taken for compatibility, and not used.
    Ignored,
}

impl Field {
    /// A field that must be there.
    pub const fn required(name: &'static str, kind: Kind, words: &'static str) -> Field {
        Field { name, label: name, kind, presence: Presence::Required, words, example: None, flag: None }
    }

    /// A field that may be there.
    pub const fn optional(name: &'static str, kind: Kind, words: &'static str) -> Field {
        Field { presence: Presence::Optional, ..Field::required(name, kind, words) }
    }

    /// With another name in errors.
    #[must_use]
    pub const fn called(self, label: &'static str) -> Field {
        Field { label, ..self }
    }

    /// The same field with another presence.
    #[must_use]
    pub const fn being(self, presence: Presence) -> Field {
        Field { presence, ..self }
    }

    /// With an example, which is JSON.
    #[must_use]
    pub const fn such_as(self, example: &'static str) -> Field {
        Field { example: Some(example), ..self }
    }

    /// With a flag of `weir ctl init`.
    #[must_use]
    pub const fn flagged(self, flag: &'static str) -> Field {
        Field { flag: Some(flag), ..self }
    }

    /// The value, whatever it is; an error when there is none.
    pub fn value<'a>(&self, object: &'a Object) -> Result<&'a Value> {
        object.get(self.name).ok_or_else(|| Error::new(ErrorKind::MissingKey, format!("'{}'", self.name)))
    }

    /// The value, where there is one and it is not `null`.
    pub fn given<'a>(&self, object: &'a Object) -> Option<&'a Value> {
        object.get(self.name).filter(|value| **value != Value::Null)
    }

    /// A text short enough and free of NUL, which no path and no URL can hold.
    pub fn check<'a>(&self, text: &'a str) -> Result<&'a str> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("{} is longer than {MAX_TEXT_BYTES} bytes", self.label),
            ));
        }
        if text.contains('\0') {
            return Err(invalid(format!("{} holds a NUL character", self.label)));
        }
        Ok(text)
    }

    /// A text that is never shown.
    pub fn secret<'a>(&self, object: &'a Object) -> Result<Option<&'a str>> {
        match self.given(object) {
            None => Ok(None),
            Some(Value::String(text)) => self.check(text).map(Some),
            Some(_) => Err(invalid(format!("{} must be {}", self.label, self.kind.words()))),
        }
    }

    /// The value, if it is there: `true` or `false`.
    pub fn boolean(&self, object: &Object) -> Result<Option<bool>> {
        match self.given(object) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => Err(self.refuse(other)),
        }
    }

    /// An integer within its limits.
    pub fn integer(&self, object: &Object) -> Result<Option<i128>> {
        let Some(value) = self.given(object) else { return Ok(None) };
        let Kind::Integer { least, most } = self.kind else { return Err(self.refuse(value)) };
        match value {
            Value::Integer(number) if *number >= least && most.is_none_or(|most| *number <= most) => {
                Ok(Some(*number))
            }
            other => Err(self.refuse(other)),
        }
    }

    /// A number within its limits.
    pub fn number(&self, object: &Object) -> Result<Option<f64>> {
        let Some(value) = self.given(object) else { return Ok(None) };
        match value.as_f64() {
            Some(number) if self.kind.holds(number) => Ok(Some(number)),
            _ => Err(self.refuse(value)),
        }
    }

    /// One of some words; `null` is none of them, as in the reference.
    pub fn word(&self, object: &Object) -> Result<Option<&'static str>> {
        let (Some(value), Kind::Word { words, class }) = (object.get(self.name), self.kind) else {
            return Ok(None);
        };
        let Value::String(given) = value else {
            let text = format!("'{}' object has no attribute 'upper'", value.python_type());
            return Err(Error::new(ErrorKind::StrategyNotText, text));
        };
        let found = words.iter().find(|word| word.eq_ignore_ascii_case(given));
        found.copied().map(Some).ok_or_else(|| {
            let upper = python::repr(&Value::String(given.to_uppercase()));
            Error::new(ErrorKind::UnknownStrategy, format!("{upper} is not a valid {class}"))
        })
    }

    /// The error for a value that does not fit.
    pub fn refuse(&self, value: &Value) -> Error {
        invalid(format!("{} must be {}, not {}", self.label, self.kind.words(), python::repr(value)))
    }
}

impl Kind {
    /// Whether a number is within the limits.
    fn holds(self, number: f64) -> bool {
        match self {
            Kind::Number => true,
            Kind::Rate => number > 0.0,
            Kind::Seconds { most, above_zero } => {
                (0.0..=most).contains(&number) && !(above_zero && number == 0.0)
            }
            _ => false,
        }
    }

    /// What it is, as errors and documents say it.
    pub fn words(self) -> String {
        match self {
            Kind::Text | Kind::Secret | Kind::Host => "a string".to_owned(),
            Kind::Boolean => "a boolean".to_owned(),
            Kind::Integer { least, most: None } => format!("an integer of {least} or more"),
            Kind::Integer { least, most: Some(most) } => format!("an integer from {least} to {most}"),
            Kind::Number => "a number".to_owned(),
            Kind::Rate => "a number above 0".to_owned(),
            Kind::Seconds { most, above_zero: false } => format!("0 to {most} seconds"),
            Kind::Seconds { most, above_zero: true } => format!("up to {most} seconds"),
            Kind::Word { words, .. } => words.join(", "),
            Kind::Constant(text) => format!("`{text}`"),
            Kind::Texts => "a list of strings".to_owned(),
            Kind::Object { .. } | Kind::Properties { .. } | Kind::Sink => "an object".to_owned(),
            Kind::Masks { .. } => "a list of polygons".to_owned(),
            Kind::References { .. } => "a string or a device index".to_owned(),
        }
    }
}

/// The members of an object; the error is the reference's.
pub fn object(value: &Value) -> Result<&Object> {
    value.as_object().ok_or_else(|| wrong_type(python::not_a_dictionary(value)))
}

/// A value that cannot be used.
pub fn invalid(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidValue, text.into())
}

/// A value of a type that the reference trips over.
pub fn wrong_type(text: String) -> Error {
    Error::new(ErrorKind::WrongType, text)
}
