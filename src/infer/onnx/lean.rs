//! Reads an ONNX file without its large weights, and remembers where they lie.
//!
//! ```text
//! ModelProto ─ 7 graph ─ 5 initializer ─ 1 dims, 2 data_type, 8 name
//!                                        9 raw_data   ◀── left out where it is large and of 32-bit floats
//! ```
//!
//! The weights of a detector are read once, from the file into the place where the engine wants them; through
//! protobuf and tract they would be copied three times, and a board would need three times their memory.

use super::{artefact, clean, elements};
use crate::error::Result;
use crate::infer::shared::as_bytes_mut;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{AttributeProto, GraphProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto};

/// Weights of fewer bytes stay where they are.
const LEAST_BYTES: u64 = 16 << 10;
/// Bytes read at a time.
const WINDOW_BYTES: usize = 64 << 10;
/// `TensorProto.DataType.FLOAT`.
const FLOAT: u64 = 1;

/// Weights that are still in their file.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    file: Arc<File>,
    at: u64,
    floats: usize,
}

impl Stored {
    /// How many floats there are.
    pub(crate) fn len(&self) -> usize {
        self.floats
    }

    /// All of them; `None` where the file cannot be read any more.
    pub(crate) fn read(&self) -> Option<Vec<f32>> {
        let mut floats = Vec::new();
        floats.try_reserve_exact(self.floats).ok()?;
        floats.resize(self.floats, 0.0f32);
        self.file.read_exact_at(as_bytes_mut(&mut floats), self.at).ok()?;
        if cfg!(target_endian = "big") {
            floats.iter_mut().for_each(|value| *value = f32::from_bits(u32::from_le(value.to_bits())));
        }
        Some(floats)
    }

    /// All of them as the bytes of the file.
    pub(super) fn bytes(&self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let length = self.floats * size_of::<f32>();
        bytes.try_reserve_exact(length).ok()?;
        bytes.resize(length, 0);
        self.file.read_exact_at(&mut bytes, self.at).ok()?;
        Some(bytes)
    }
}

/// A file without its large weights.
pub(super) struct Lean {
    /// The rest, as a file of its own.
    pub(super) bytes: Vec<u8>,
    /// What was left out, by the name of the initializer.
    pub(super) stored: Vec<(String, Stored)>,
}

/// Reads a file of `size` bytes from its beginning. `None` where it is not what an exporter writes:
/// protobuf's own reader then says what is wrong.
pub(super) fn read(file: &Arc<File>, size: u64) -> Option<Lean> {
    let reader = BufReader::with_capacity(WINDOW_BYTES, At { file, at: 0, end: size });
    let mut walk = Walk { file, reader, at: 0, stored: Vec::new() };
    let bytes = walk.model(size)?;
    Some(Lean { bytes, stored: walk.stored })
}

/// Part of a file, whose own position others share.
pub(in crate::infer) struct At<'a> {
    pub(in crate::infer) file: &'a File,
    pub(in crate::infer) at: u64,
    pub(in crate::infer) end: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(buffer.get_mut(..left).unwrap_or_default(), self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for At<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.end.checked_add_signed(by),
        };
        self.at = to.ok_or(std::io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// Takes those initializers out of the graph that only convolutions and dense layers read, as their weights:
/// their shapes and where they lie. All others get their content back.
pub(super) fn keep(graph: &mut GraphProto, stored: Vec<(String, Stored)>) -> Result<HashMap<String, Kept>> {
    if stored.is_empty() {
        return Ok(HashMap::new());
    }
    let mut weights = HashSet::new();
    let mut others: HashSet<&str> =
        graph.input.iter().chain(&graph.output).map(|value| value.name.as_str()).collect();
    for node in &graph.node {
        for (slot, name) in node.input.iter().enumerate() {
            let packed = slot == 1 && matches!(node.op_type.as_str(), "Conv" | "Gemm" | "MatMul");
            if packed { &mut weights } else { &mut others }.insert(name.as_str());
        }
        others_in(&node.attribute, &mut others);
    }
    let mut count: HashMap<&str, usize> = HashMap::new();
    graph.initializer.iter().for_each(|tensor| *count.entry(tensor.name.as_str()).or_default() += 1);
    let alone = |name: &str| weights.contains(name) && !others.contains(name) && count.get(name) == Some(&1);
    let chosen: HashSet<String> =
        stored.iter().map(|(name, _)| name).filter(|name| alone(name)).cloned().collect();

    let (mut kept, mut rest) = (HashMap::new(), HashMap::new());
    for (name, stored) in stored {
        if chosen.contains(&name) {
            kept.insert(name, stored);
        } else if rest.insert(name.clone(), stored).is_some() {
            return Err(artefact(format!("two tensors are called {}", clean(&name))));
        }
    }
    let mut found = HashMap::new();
    for mut tensor in std::mem::take(&mut graph.initializer) {
        let shape = elements(tensor.dims.iter().copied());
        if let Some(stored) = kept.remove(&tensor.name) {
            if shape != Some(stored.len() as u64) {
                let (name, count) = (clean(&tensor.name), stored.len());
                return Err(artefact(format!(
                    "tensor {name} claims shape {:?} but holds {count} elements",
                    tensor.dims
                )));
            }
            found.insert(tensor.name, Kept { dims: tensor.dims, stored });
            continue;
        }
        if let Some(stored) = rest.get(&tensor.name) {
            tensor.raw_data = stored.bytes().ok_or_else(|| artefact("the weights cannot be read"))?;
        }
        graph.initializer.push(tensor);
    }
    Ok(found)
}

/// Names that the graphs inside a node read or give.
fn others_in<'a>(attributes: &'a [AttributeProto], others: &mut HashSet<&'a str>) {
    // protobuf's own nesting limit (100) bounds this recursion
    for inner in attributes.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs)) {
        others.extend(inner.output.iter().map(|value| value.name.as_str()));
        for node in &inner.node {
            others.extend(node.input.iter().map(String::as_str));
            others_in(&node.attribute, others);
        }
    }
}

/// Weights that were taken out of their graph.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    dims: Vec<i64>,
    pub(super) stored: Stored,
}

impl Kept {
    /// Stands for them in the graph.
    pub(super) fn input(&self, name: &str) -> ValueInfoProto {
        let dim =
            |dim: &i64| Dimension { value: Some(dimension::Value::DimValue(*dim)), ..Dimension::default() };
        let shape = TensorShapeProto { dim: self.dims.iter().map(dim).collect() };
        let tensor = type_proto::Tensor { elem_type: FLOAT as i32, shape: Some(shape) };
        let value = Some(type_proto::Value::TensorType(tensor));
        let r#type = Some(TypeProto { value, ..TypeProto::default() });
        ValueInfoProto { name: name.to_owned(), r#type, ..ValueInfoProto::default() }
    }
}

struct Walk<'a> {
    file: &'a Arc<File>,
    reader: BufReader<At<'a>>,
    /// Where the next byte lies.
    at: u64,
    stored: Vec<(String, Stored)>,
}

/// A field's key: its number and how its value is written.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    number: u64,
    wire: u64,
}

const LENGTH_DELIMITED: u64 = 2;

impl Walk<'_> {
    fn model(&mut self, end: u64) -> Option<Vec<u8>> {
        let (mut out, mut graphs) = (Vec::new(), 0);
        while self.at < end {
            let key = self.key()?;
            if key == (Key { number: 7, wire: LENGTH_DELIMITED }) {
                graphs += 1;
                let length = self.length(end)?;
                let graph = self.graph(self.at + length)?;
                put(&mut out, key, &graph);
            } else {
                self.copy(&mut out, key, end)?;
            }
        }
        (graphs == 1).then_some(out)
    }

    fn graph(&mut self, end: u64) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        while self.at < end {
            let key = self.key()?;
            if key == (Key { number: 5, wire: LENGTH_DELIMITED }) {
                let length = self.length(end)?;
                let tensor = self.tensor(self.at + length)?;
                put(&mut out, key, &tensor);
            } else {
                self.copy(&mut out, key, end)?;
            }
        }
        (self.at == end).then_some(out)
    }

    fn tensor(&mut self, end: u64) -> Option<Vec<u8>> {
        let (mut out, mut name, mut data_type, mut raw) = (Vec::new(), Vec::new(), 0, None);
        while self.at < end {
            let key = self.key()?;
            match (key.number, key.wire) {
                (9, LENGTH_DELIMITED) => {
                    let length = self.length(end)?;
                    // a second one would replace the first
                    if raw.replace((self.at, length)).is_some() {
                        return None;
                    }
                    self.skip(length)?;
                }
                (8, LENGTH_DELIMITED) => {
                    let length = self.length(end)?;
                    name = self.take(length)?;
                    put(&mut out, key, &name);
                }
                (2, 0) => {
                    data_type = self.varint()?;
                    varint(&mut out, key.number << 3 | key.wire);
                    varint(&mut out, data_type);
                }
                _ => self.copy(&mut out, key, end)?,
            }
        }
        let name = String::from_utf8(name).ok()?;
        if let Some((at, length)) = raw {
            let floats = usize::try_from(length / size_of::<f32>() as u64).ok()?;
            if length >= LEAST_BYTES
                && length % size_of::<f32>() as u64 == 0
                && data_type == FLOAT
                && !name.is_empty()
            {
                self.stored.push((name, Stored { file: self.file.clone(), at, floats }));
            } else {
                // back to where it lies
                let next = self.at;
                self.go(at)?;
                let bytes = self.take(length)?;
                put(&mut out, Key { number: 9, wire: LENGTH_DELIMITED }, &bytes);
                self.go(next)?;
            }
        }
        (self.at == end).then_some(out)
    }

    /// Copies a field as it is.
    fn copy(&mut self, out: &mut Vec<u8>, key: Key, end: u64) -> Option<()> {
        let fixed = |this: &mut Self, out: &mut Vec<u8>, length| {
            varint(out, key.number << 3 | key.wire);
            out.extend(this.take(length)?);
            Some(())
        };
        match key.wire {
            0 => {
                let value = self.varint()?;
                varint(out, key.number << 3 | key.wire);
                varint(out, value);
            }
            1 => fixed(self, out, 8)?,
            5 => fixed(self, out, 4)?,
            LENGTH_DELIMITED => {
                let length = self.length(end)?;
                let bytes = self.take(length)?;
                put(out, key, &bytes);
            }
            _ => return None,
        }
        Some(())
    }

    fn key(&mut self) -> Option<Key> {
        let value = self.varint()?;
        Some(Key { number: value >> 3, wire: value & 7 })
    }

    /// A length that ends before `end`.
    fn length(&mut self, end: u64) -> Option<u64> {
        let length = self.varint()?;
        self.at.checked_add(length).is_some_and(|last| last <= end).then_some(length)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.reader.fill_buf().ok()?.first()?;
            self.reader.consume(1);
            self.at += 1;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: u64) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(usize::try_from(length).ok()?).ok()?;
        let count = (&mut self.reader).take(length).read_to_end(&mut bytes).ok()?;
        self.at += length;
        (count as u64 == length).then_some(bytes)
    }

    fn skip(&mut self, length: u64) -> Option<()> {
        self.reader.seek_relative(i64::try_from(length).ok()?).ok()?;
        self.at += length;
        Some(())
    }

    fn go(&mut self, to: u64) -> Option<()> {
        let by = i64::try_from(to).ok()?.checked_sub(i64::try_from(self.at).ok()?)?;
        self.reader.seek_relative(by).ok()?;
        self.at = to;
        Some(())
    }
}

fn put(out: &mut Vec<u8>, key: Key, value: &[u8]) {
    varint(out, key.number << 3 | key.wire);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::infer::onnx::Graph;
    use std::path::Path;
    use tract_onnx::prelude::Framework;

    fn open(name: &str) -> (Arc<File>, u64) {
        let file = File::open(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
        let size = file.metadata().unwrap().len();
        (Arc::new(file), size)
    }

    #[test]
    fn a_file_is_the_same_with_its_weights_put_back() {
        let (file, size) = open("assets/nanodet-coco-416.onnx");
        let Lean { bytes, stored } = read(&file, size).unwrap();
        assert!(
            stored.len() > 20 && bytes.len() < 2 << 20,
            "{} left out, {} bytes stay",
            stored.len(),
            bytes.len()
        );
        let mut proto = tract_onnx::onnx().proto_model_for_read(&mut &bytes[..]).unwrap();
        for tensor in &mut proto.graph.as_mut().unwrap().initializer {
            if let Some((_, stored)) = stored.iter().find(|(name, _)| *name == tensor.name) {
                assert!(tensor.raw_data.is_empty());
                tensor.raw_data = stored.bytes().unwrap();
                let floats =
                    tensor.raw_data.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap()));
                assert!(floats.eq(stored.read().unwrap()));
            }
        }
        let whole =
            tract_onnx::onnx().proto_model_for_read(&mut At { file: &file, at: 0, end: size }).unwrap();
        assert!(proto == whole);
    }

    #[test]
    fn files_that_are_cut_are_left_to_protobuf() {
        let (file, size) = open("tests/assets/toy.onnx");
        assert!(read(&file, size).is_some());
        for cut in [1, 2, 7, size / 2, size - 1] {
            // whatever is left may be a file; it never is one with a graph that was cut
            if let Some(lean) = read(&file, cut) {
                assert!(Graph::read(&mut &lean.bytes[..], 1 << 30).is_err(), "{cut}");
            }
        }
    }
}
