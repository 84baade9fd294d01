//! `weir.json` beside a model: what its owner told `weir models add` about it.
//!
//! ```json
//! {"family": "yolox", "input": "bgr,0-255", "decoded": true}
//! ```
//!
//! In a folder of `weir models quantise` it also says which file the model was made from, by length and checksum:
//! `"quantised_from": "15199395-1f6b4a90"`.

use super::cache::Fingerprint;
use super::document::{self, Look};
use crate::error::{Error, Kind, Result};
use crate::infer::family::Family;
use crate::infer::fill::Scale;

/// Name of that file.
pub(super) const FILE: &str = "weir.json";

/// What was told; nothing is the usual case.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Told {
    pub(super) family: Option<Family>,
    pub(super) input: Option<Scale>,
    /// Length and checksum of the file that this model is the twin in 8 bits of.
    pub(super) quantised_from: Option<Fingerprint>,
}

impl Told {
    /// From the words of the command line; `None` where nothing was said.
    pub(super) fn of_words(family: Option<&str>, input: Option<&str>, decoded: bool) -> Result<Told> {
        let wrong = |message: String| Error::new(Kind::InvalidValue, message);
        let family = match (family, decoded) {
            (None, false) => None,
            (None, true) => Some(Family::YoloxDecoded),
            (Some(word), decoded) => Some(Family::of_word(word, decoded).ok_or_else(|| {
                wrong(format!(
                    "family {:?} is not known; {}",
                    word.escape_debug().to_string(),
                    Family::WORDS.join(", ")
                ))
            })?),
        };
        let input =
            input.map(|words| Scale::of_words(words).ok_or_else(|| wrong(INPUTS.to_owned()))).transpose()?;
        Ok(Told { family, input, quantised_from: None })
    }

    /// From the text of the file.
    pub(super) fn parse(bytes: &[u8]) -> Result<Told> {
        let broken = || Error::new(Kind::ModelArtefact, format!("{FILE} is not JSON"));
        let document =
            document::parse(bytes).filter(|document| document.object().is_some()).ok_or_else(broken)?;
        let text = |key: &str| document.member(key).and_then(Look::text);
        let decoded = document.member("decoded").is_some_and(Look::is_true);
        let quantised_from = text("quantised_from").and_then(|text| {
            let (length, checksum) = text.split_once('-')?;
            Some((length.parse().ok()?, u32::from_str_radix(checksum, 16).ok()?))
        });
        let told = Self::of_words(text("family"), text("input"), decoded)
            .map_err(|error| Error::new(Kind::ModelArtefact, format!("{FILE}: {}", error.message())))?;
        Ok(Told { quantised_from, ..told })
    }
}

/// What may be said about an input.
const INPUTS: &str = "an input is rgb or bgr and 0-1, 0-255, -1-1 or imagenet, such as bgr,0-255";

/// The text of the file.
pub(super) fn document(family: Option<&str>, input: Option<&str>, decoded: bool) -> String {
    text(family, input, decoded, None)
}

/// The text for the twin in 8 bits of a model beside which `given` lies.
pub(super) fn of_twin(given: Option<&[u8]>, made_from: Fingerprint) -> String {
    let document = given.and_then(document::parse);
    let word = |key: &str| document.as_ref().and_then(|document| document.member(key)).and_then(Look::text);
    let decoded =
        document.as_ref().and_then(|document| document.member("decoded")).is_some_and(Look::is_true);
    text(word("family"), word("input"), decoded, Some(made_from))
}

fn text(family: Option<&str>, input: Option<&str>, decoded: bool, made_from: Option<Fingerprint>) -> String {
    let quoted = |text: &str| miniserde::json::to_string(text);
    let mut members = Vec::new();
    members.extend(family.map(|family| format!("\"family\": {}", quoted(family))));
    members.extend(input.map(|input| format!("\"input\": {}", quoted(input))));
    members.extend(decoded.then(|| String::from("\"decoded\": true")));
    members.extend(
        made_from.map(|(length, checksum)| format!("\"quantised_from\": \"{length}-{checksum:08x}\"")),
    );
    format!("{{{}}}\n", members.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let text = document(Some("yolox"), Some("bgr,0-255"), true);
        let told =
            Told { family: Some(Family::YoloxDecoded), input: Some(Scale::BgrBytes), quantised_from: None };
        assert_eq!(Told::parse(text.as_bytes()).unwrap(), told);
        let twin = of_twin(Some(text.as_bytes()), (7, 0xAB));
        assert_eq!(Told::parse(twin.as_bytes()).unwrap(), Told { quantised_from: Some((7, 0xAB)), ..told });
        assert_eq!(Told::parse(document(None, None, false).as_bytes()).unwrap(), Told::default());
        for bad in ["", "[]", r#"{"family": "resnet"}"#, r#"{"input": "grey"}"#] {
            assert_eq!(Told::parse(bad.as_bytes()).unwrap_err().kind(), Kind::ModelArtefact, "{bad}");
        }
    }
}
