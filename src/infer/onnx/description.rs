//! What a file says about itself, apart from its graph.

use super::{Graph, Input};
use crate::bytes::{Reader, Writer};

/// Most outputs, and most entries of metadata, that are told.
const MAX_ENTRIES: usize = 256;
/// Longest name of an input, output or entry, bytes.
const MAX_NAME_BYTES: usize = 1024;
/// Longest entry of metadata that is told, bytes; the names of 10 000 classes are shorter.
const MAX_ENTRY_BYTES: usize = 1 << 20;
/// All entries together, bytes.
const MAX_METADATA_BYTES: usize = 3 << 20;
/// Largest side or number of pictures that can be told.
const MAX_SIDE: usize = 1 << 30;

/// What a file says about itself: its input, its outputs, its metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    input: Input,
    input_name: String,
    is_plain: bool,
    has_8_bits: bool,
    outputs: Vec<String>,
    metadata: Vec<(String, String)>,
}

impl Description {
    /// Of a file that was read. Entries of metadata beyond the limits are left out.
    pub(crate) fn of(graph: &Graph) -> Description {
        let mut bytes = 0;
        let metadata = graph.proto.metadata_props.iter().map(|entry| (&entry.key, &entry.value)).filter(
            |(key, value)| {
                let fits = key.len() <= MAX_NAME_BYTES && value.len() <= MAX_ENTRY_BYTES;
                bytes += if fits { key.len() + value.len() } else { 0 };
                fits && bytes <= MAX_METADATA_BYTES
            },
        );
        Description {
            input: graph.input(),
            input_name: graph.input_name().to_owned(),
            is_plain: graph.is_plain(),
            has_8_bits: graph.has_8_bits(),
            outputs: graph.output_names().into_iter().take(MAX_ENTRIES).map(str::to_owned).collect(),
            metadata: metadata.take(MAX_ENTRIES).map(|(key, value)| (key.clone(), value.clone())).collect(),
        }
    }

    /// Size of the graph's input.
    pub fn input(&self) -> Input {
        self.input
    }

    /// Its name; empty when it has none.
    pub fn input_name(&self) -> &str {
        &self.input_name
    }

    /// Whether the file itself takes planes of floats, one picture, and nothing else.
    pub fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Whether it comes in 8 bits, somewhere at least.
    pub fn has_8_bits(&self) -> bool {
        self.has_8_bits
    }

    /// Value of a `metadata_props` entry, such as Ultralytics' `names`.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// Names of the outputs, in order.
    pub fn output_names(&self) -> Vec<&str> {
        self.outputs.iter().map(String::as_str).collect()
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        let Input { batch, height, width, interleaved, bytes } = self.input;
        for side in [batch, height, width] {
            out.size(side.unwrap_or(0));
        }
        out.bool(interleaved)
            .bool(bytes)
            .text(&self.input_name, MAX_NAME_BYTES)
            .bool(self.is_plain)
            .bool(self.has_8_bits);
        out.size(self.outputs.len());
        self.outputs.iter().for_each(|name| {
            out.text(name, MAX_NAME_BYTES);
        });
        out.size(self.metadata.len());
        self.metadata.iter().for_each(|(key, value)| {
            out.text(key, MAX_NAME_BYTES).text(value, MAX_ENTRY_BYTES);
        });
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Description> {
        let mut side = || reader.size(MAX_SIDE).map(|side| Some(side).filter(|side| *side > 0));
        let (batch, height, width) = (side()?, side()?, side()?);
        let input = Input { batch, height, width, interleaved: reader.bool()?, bytes: reader.bool()? };
        Some(Description {
            input,
            input_name: reader.text(MAX_NAME_BYTES)?.to_owned(),
            is_plain: reader.bool()?,
            has_8_bits: reader.bool()?,
            outputs: reader.list(MAX_ENTRIES, |reader| Some(reader.text(MAX_NAME_BYTES)?.to_owned()))?,
            metadata: reader.list(MAX_ENTRIES, |reader| {
                Some((reader.text(MAX_NAME_BYTES)?.to_owned(), reader.text(MAX_ENTRY_BYTES)?.to_owned()))
            })?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_survives() {
        let description = Description {
            input: Input {
                batch: None,
                height: Some(480),
                width: Some(640),
                interleaved: true,
                bytes: false,
            },
            input_name: "images".into(),
            is_plain: false,
            has_8_bits: true,
            outputs: vec!["a".into(), "b".into()],
            metadata: vec![("names".into(), "{0: 'ä'}".into())],
        };
        let mut out = Writer::default();
        description.write(&mut out);
        let mut reader = Reader::new(out.bytes());
        assert_eq!(Description::read(&mut reader), Some(description.clone()));
        assert_eq!(reader.end(()), Some(()));
        assert_eq!(description.metadata("names"), Some("{0: 'ä'}"));
        assert!(
            (0..out.bytes().len())
                .all(|length| Description::read(&mut Reader::new(&out.bytes()[..length])).is_none())
        );
    }
}
