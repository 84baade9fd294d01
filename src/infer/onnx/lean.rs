//! Reads an ONNX file without its large weights, and remembers where they lie.
//!
//! ```text
//! ModelProto ─ 7 graph ─ 5 initializer ─ 1 dims, 2 data_type, 8 name     (or 1 node ─ 5 attribute ─ 5 t, a Constant)
//!                                        4 float_data, 9 raw_data   ◀── left out where large and of floats
//! ```
//!
//! The weights of a detector are read once, from the file into the place where the engine wants them; through
//! protobuf and tract they would be copied three times, and a board would need three times their memory.

use super::precision::FLOAT;
use super::stored::{Element, Stored, WeightsFile};
use super::{artefact, clean, elements, too_heavy};
use crate::error::Result;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{AttributeProto, GraphProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto};

/// Weights of fewer bytes stay where they are.
pub(super) const LEAST_BYTES: u64 = 16 << 10;
/// Bytes read at a time.
const WINDOW_BYTES: usize = 64 << 10;

/// A file without its large weights.
pub(super) struct Lean {
    /// The rest, as a file of its own.
    pub(super) bytes: Vec<u8>,
    /// What was left out, by the name of the initializer.
    pub(super) stored: Vec<(String, Stored)>,
}

/// Reads a file of `size` bytes from its beginning. `None` where it is not what an exporter writes:
/// protobuf's own reader then says what is wrong. `budget`: the most bytes that all weights may take.
pub(super) fn read(file: &Arc<File>, size: u64, budget: u64) -> Result<Option<Lean>> {
    let reader = BufReader::with_capacity(WINDOW_BYTES, At { file, at: 0, end: size });
    let source = WeightsFile::new(file.clone());
    let mut walk = Walk { source, reader, at: 0, stored: Vec::new(), left: budget, budget_is_short: false };
    match walk.model(size) {
        _ if walk.budget_is_short => Err(too_heavy(budget)),
        // not the whole of a file that is larger than what may be held
        None if size > budget => Err(too_heavy(budget)),
        None => Ok(None),
        Some(bytes) => Ok(Some(Lean { bytes, stored: walk.stored })),
    }
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
    let mut others: HashSet<&str> = graph.output.iter().map(|value| value.name.as_str()).collect();
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
    // before IR version 4 every initializer had to be an input, too
    graph.input.retain(|value| !found.contains_key(&value.name));
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
        let tensor = type_proto::Tensor { elem_type: FLOAT, shape: Some(shape) };
        let value = Some(type_proto::Value::TensorType(tensor));
        let r#type = Some(TypeProto { value, ..TypeProto::default() });
        ValueInfoProto { name: name.to_owned(), r#type, ..ValueInfoProto::default() }
    }
}

struct Walk<'a> {
    source: Arc<WeightsFile>,
    reader: BufReader<At<'a>>,
    /// Where the next byte lies.
    at: u64,
    stored: Vec<(String, Stored)>,
    /// Bytes that weights and the rest of the file may still take.
    left: u64,
    /// They took more than was left.
    budget_is_short: bool,
}

/// A field's key: its number and how its value is written.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    number: u64,
    wire: u64,
}

const LENGTH_DELIMITED: u64 = 2;
/// Fields of a `GraphProto`.
const NODE: Key = Key { number: 1, wire: LENGTH_DELIMITED };
/// See [`NODE`].
const INITIALIZER: Key = Key { number: 5, wire: LENGTH_DELIMITED };
/// What a node is that holds a tensor: PaddlePaddle's exporter writes weights so.
const CONSTANT: &[u8] = b"Constant";
/// Fields of a `TensorProto`.
const NAME: Key = Key { number: 8, wire: LENGTH_DELIMITED };
/// See [`NAME`].
const FLOAT_DATA: u64 = 4;
/// See [`NAME`].
const RAW_DATA: u64 = 9;

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
            if key == INITIALIZER {
                let length = self.length(end)?;
                let tensor = self.tensor(self.at + length, None)?;
                put(&mut out, key, &tensor);
            } else if key == NODE {
                let length = self.length(end)?;
                self.node(&mut out, length)?;
            } else {
                self.copy(&mut out, key, end)?;
            }
        }
        (self.at == end).then_some(out)
    }

    /// A node as it is; a large constant as the initializer that it might be.
    fn node(&mut self, out: &mut Vec<u8>, length: u64) -> Option<()> {
        if length >= LEAST_BYTES {
            let (start, stored, left) = (self.at, self.stored.len(), self.left);
            if let Some(tensor) = self.constant(start + length) {
                put(out, INITIALIZER, &tensor);
                return Some(());
            }
            if self.budget_is_short {
                return None;
            }
            self.stored.truncate(stored);
            self.left = left;
            self.go(start)?;
        }
        let bytes = self.take(length)?;
        put(out, NODE, &bytes);
        Some(())
    }

    /// The tensor of a node that holds one and does nothing else, under the name of the node's output.
    fn constant(&mut self, end: u64) -> Option<Vec<u8>> {
        let (mut output, mut is_constant, mut made) = (None, false, None);
        while self.at < end {
            let key = self.key()?;
            let length = Some(self.length(end)?).filter(|_| key.wire == LENGTH_DELIMITED)?;
            match key.number {
                2 if output.is_none() => output = Some(self.take(length)?),
                4 if length == CONSTANT.len() as u64 => is_constant = self.take(length)? == CONSTANT,
                5 if made.is_none() => made = Some(self.value(self.at + length, output.as_deref()?)?),
                // its own name, what it is about, ONNX's own domain
                3 | 6 => self.skip(length)?,
                7 if length == 0 => {}
                _ => return None,
            }
        }
        made.filter(|_| is_constant && self.at == end)
    }

    /// The tensor of an attribute called `value`.
    fn value(&mut self, end: u64, name: &[u8]) -> Option<Vec<u8>> {
        let (mut is_value, mut made) = (false, None);
        while self.at < end {
            let key = self.key()?;
            match (key.number, key.wire) {
                (20, 0) => {
                    self.varint()?;
                }
                (1, LENGTH_DELIMITED) => {
                    let length = self.length(end)?;
                    is_value = self.take(length)? == b"value";
                }
                (5, LENGTH_DELIMITED) if made.is_none() => {
                    let length = self.length(end)?;
                    made = Some(self.tensor(self.at + length, Some(name))?);
                }
                _ => return None,
            }
        }
        made.filter(|_| is_value && self.at == end)
    }

    /// A tensor without its large floats. `called`: instead of its own name.
    fn tensor(&mut self, end: u64, called: Option<&[u8]>) -> Option<Vec<u8>> {
        let (mut out, mut name, mut data_type, mut numbers) = (Vec::new(), Vec::new(), 0, None);
        if let Some(called) = called {
            name = called.to_vec();
            put(&mut out, NAME, &name);
        }
        while self.at < end {
            let key = self.key()?;
            match (key.number, key.wire) {
                (FLOAT_DATA | RAW_DATA, LENGTH_DELIMITED) => {
                    let length = self.length(end)?;
                    // a second one would replace the first, or be more of it
                    if numbers.replace((key, self.at, length)).is_some() {
                        return None;
                    }
                    self.skip(length)?;
                }
                (8, LENGTH_DELIMITED) => {
                    let length = self.length(end)?;
                    let own = self.take(length)?;
                    if called.is_none() {
                        put(&mut out, key, &own);
                        name = own;
                    }
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
        if let Some((key, at, length)) = numbers {
            // packed floats are written as raw ones
            let element = Element::of(data_type)
                .filter(|element| key.number == RAW_DATA || *element == Element::Single)
                .filter(|element| length >= LEAST_BYTES && length % element.bytes() == 0 && !name.is_empty());
            if let Some(element) = element {
                let count = usize::try_from(length / element.bytes()).ok()?;
                self.spend(length / element.bytes() * size_of::<f32>() as u64)?;
                self.stored.push((name, Stored::new(self.source.clone(), at, count, element)));
            } else {
                // back to where it lies
                let next = self.at;
                self.go(at)?;
                let bytes = self.take(length)?;
                put(&mut out, key, &bytes);
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

    /// Counts memory before it is taken.
    fn spend(&mut self, bytes: u64) -> Option<()> {
        let left = self.left.checked_sub(bytes);
        self.budget_is_short |= left.is_none();
        self.left = left?;
        Some(())
    }

    fn take(&mut self, length: u64) -> Option<Vec<u8>> {
        self.spend(length)?;
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
        let Lean { bytes, stored } = read(&file, size, size).unwrap().unwrap();
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
                assert!(floats.eq(stored.read(0..stored.len()).unwrap().iter().copied()));
            }
        }
        let whole =
            tract_onnx::onnx().proto_model_for_read(&mut At { file: &file, at: 0, end: size }).unwrap();
        assert!(proto == whole);
    }

    #[test]
    fn weights_are_counted_before_they_are_read() {
        let (file, size) = open("assets/nanodet-coco-416.onnx");
        let stored = read(&file, size, size).unwrap().unwrap().stored;
        let weights: usize = stored.iter().map(|(_, stored)| stored.len() * size_of::<f32>()).sum();
        for budget in [0, 1 << 10, weights as u64 - 1] {
            let error = read(&file, size, budget).err().unwrap();
            assert_eq!(error.kind(), crate::error::Kind::Exhausted, "{budget}: {error}");
            assert!(error.message().starts_with("the weights of the model take more"), "{error}");
        }
    }

    #[test]
    fn files_that_are_cut_are_left_to_protobuf() {
        let (file, size) = open("tests/assets/toy.onnx");
        assert!(read(&file, size, size).unwrap().is_some());
        for cut in [1, 2, 7, size / 2, size - 1] {
            // whatever is left may be a file; it never is one with a graph that was cut
            if let Ok(Some(lean)) = read(&file, cut, 1 << 30) {
                assert!(Graph::read(&mut &lean.bytes[..], 1 << 30).is_err(), "{cut}");
            }
        }
    }

    /// A message's field of bytes.
    fn field(number: u64, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, Key { number, wire: LENGTH_DELIMITED }, value);
        out
    }

    /// A message's field of a whole number.
    fn number(number: u64, value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        varint(&mut out, number << 3);
        varint(&mut out, value);
        out
    }

    /// How the weights of [`layers`] are written.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Way {
        Raw,
        /// As inputs of the graph, too.
        Given,
        FloatData,
        Half,
        Double,
        External,
        /// As nodes that hold them.
        Constants,
    }

    /// Two convolutions and two dense layers over `[1, 3, 10, 10]`; the content of `other` goes beside it.
    fn layers(way: Way, other: &mut Vec<u8>) -> Vec<u8> {
        let weights: [(&str, &[usize]); 4] = [
            ("w1", &[32, 3, 3, 3]),
            ("w2", &[64, 32, 3, 3]),
            // more than is packed at once
            ("w3", &[288, 1000]),
            ("w4", &[40, 1000]),
        ];
        let mut graph = Vec::new();
        let node = |op: &str, inputs: [&str; 2], output: &str, attribute: Vec<u8>| {
            let names = inputs.iter().flat_map(|name| field(1, name.as_bytes()));
            names.chain(field(2, output.as_bytes())).chain(field(4, op.as_bytes())).chain(attribute).collect()
        };
        let turned = [field(1, b"transB"), number(3, 1), number(20, 2)].concat();
        let nodes: [Vec<u8>; 5] = [
            node("Conv", ["x", "w1"], "a", vec![]),
            node("Conv", ["a", "w2"], "b", vec![]),
            node("Reshape", ["b", "shape"], "c", vec![]),
            node("MatMul", ["c", "w3"], "d", vec![]),
            node("Gemm", ["d", "w4"], "y", field(5, &turned)),
        ];
        nodes.iter().for_each(|node| graph.extend(field(1, node)));
        let value = |name: &str, dims: &[usize]| {
            let dims: Vec<u8> = dims.iter().flat_map(|dim| field(1, &number(1, *dim as u64))).collect();
            let tensor = [number(1, 1), field(2, &dims)].concat();
            [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
        };
        let dims = |dims: &[usize]| dims.iter().flat_map(|dim| number(1, *dim as u64)).collect::<Vec<u8>>();
        for (name, shape) in weights {
            let count = shape.iter().product::<usize>();
            // powers of two, which every type can say
            let floats = (0..count).map(|i| if i % 3 == 0 { -1.0 } else { 0.5f32.powi((i % 7) as i32) });
            let raw: Vec<u8> = match way {
                Way::Half => floats
                    .flat_map(|value: f32| {
                        let bits = value.to_bits();
                        ((bits >> 16 & 0x8000) | ((bits >> 23 & 0xFF) - 112) << 10).to_le_bytes()[..2]
                            .to_vec()
                    })
                    .collect(),
                Way::Double => floats.flat_map(|value| f64::from(value).to_le_bytes()).collect(),
                _ => floats.flat_map(f32::to_le_bytes).collect(),
            };
            let data_type = match way {
                Way::Half => 10,
                Way::Double => 11,
                _ => 1,
            };
            let content = match way {
                Way::FloatData => field(4, &raw),
                Way::External => {
                    let entry = |key: &str, value: String| {
                        field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat())
                    };
                    let at = other.len().to_string();
                    other.extend(&raw);
                    let file = entry("location", "other".to_owned());
                    [file, entry("offset", at), entry("length", raw.len().to_string()), number(14, 1)]
                        .concat()
                }
                _ => field(9, &raw),
            };
            let tensor = [dims(shape), number(2, data_type), field(8, name.as_bytes()), content].concat();
            if way == Way::Constants {
                let value = [field(1, b"value"), field(5, &tensor), number(20, 4)].concat();
                let node = [field(2, name.as_bytes()), field(4, b"Constant"), field(5, &value)].concat();
                graph.extend(field(1, &node));
                continue;
            }
            graph.extend(field(5, &tensor));
            if way == Way::Given {
                graph.extend(field(11, &value(name, shape)));
            }
        }
        let shape: Vec<u8> = [8u64, 288].into_iter().flat_map(u64::to_le_bytes).collect();
        let shape = [number(1, 2), number(2, 7), field(8, b"shape"), field(9, &shape)].concat();
        graph.extend([field(5, &shape), field(11, &value("x", &[1, 3, 10, 10]))].concat());
        graph.extend(field(12, &value("y", &[8, 40])));
        [number(1, 8), field(7, &graph), field(8, &number(2, 17))].concat()
    }

    /// The packed weights, and how many tensors stayed where they were.
    fn packed(graph: Graph) -> (Vec<f32>, usize) {
        let (typed, stored) = graph.into_typed_lean(10, 10, 1 << 30).unwrap();
        let options = crate::infer::cnn::Options { threads: 1, ..Default::default() };
        let blueprint = crate::infer::cnn::Blueprint::new(&typed, &stored, &options).unwrap();
        let mut room = vec![0.0; blueprint.size().unwrap().weights_floats];
        blueprint.write(&mut room).unwrap();
        (room, stored.len())
    }

    #[test]
    fn weights_are_the_same_however_they_are_written() {
        let dir = crate::infer::registry::test_dir::TestDir::new();
        let whole = layers(Way::Raw, &mut Vec::new());
        let (expected, stored) = packed(Graph::read(&mut &whole[..], 1 << 30).unwrap());
        assert_eq!((stored, expected.len() > 288 * 1000), (0, true));
        for way in
            [Way::Raw, Way::Given, Way::FloatData, Way::Half, Way::Double, Way::External, Way::Constants]
        {
            let mut other = Vec::new();
            let bytes = layers(way, &mut other);
            let path = dir.path().join("model.onnx");
            std::fs::write(&path, &bytes).unwrap();
            std::fs::write(dir.path().join("other"), &other).unwrap();
            let file = Arc::new(File::open(&path).unwrap());
            let beside = &mut |name: &str| crate::infer::onnx::open_beside(path.parent(), name);
            let graph = Graph::read_lean(&file, bytes.len() as u64, beside, 1 << 30).unwrap();
            let (found, stored) = packed(graph);
            assert!(found == expected, "{way:?}");
            assert_eq!(stored, 3, "{way:?}"); // the first convolution's are small
        }
    }
}
