//! From a graph of floats to one that computes in 8 bits, in the form that every engine knows (QDQ): each value
//! that shall have 8 bits goes through QuantizeLinear and DequantizeLinear, weights are 8-bit initialisers.
//!
//! ```text
//! x ─ Q ─ DQ ─┐
//! w(int8) DQ ─┤ Conv ─ SiLU ─ Q ─ DQ ─ …      activations: uint8, one scale a value
//! b(int32) DQ ┘                               weights: int8, symmetric, one scale an output channel
//! ```
//!
//! Nothing here runs a graph: [`Quantiser::watch`] gives the same graph with its inner values as outputs, somebody
//! else runs that on pictures, and [`Quantiser::write`] is told what was seen.

mod emit;
mod graph;
mod plan;
mod tidy;

use super::{At, Beside, Graph, artefact, feed, has_8_bits};
use crate::bytes::{Reader, Writer};
use crate::error::Result;
use plan::Plan;
use prost::Message;
use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use tract_onnx::pb::{ModelProto, ValueInfoProto};

/// Most values that a graph may have in 8 bits; the largest detectors have a few hundred.
const MAX_VALUES: usize = 10_000;
/// Longest name of a value that is told, bytes.
const MAX_NAME_BYTES: usize = 120;
/// Most channels of a value whose means are told.
const MAX_CHANNELS: usize = 1 << 16;

/// What will have 8 bits in a graph.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::infer) struct Survey {
    /// The values, in the order in which the graph makes them.
    pub(in crate::infer) values: Vec<Watched>,
    /// Concatenations: the value they make, one that they read, and whether nothing else reads that.
    pub(in crate::infer) joints: Vec<(usize, usize, bool)>,
    /// Convolutions that will compute in 8 bits.
    pub(in crate::infer) convolutions: usize,
    /// And those that stay in floats.
    pub(in crate::infer) in_floats: usize,
}

/// A value that will have 8 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::infer) struct Watched {
    /// As a line may repeat it.
    pub(in crate::infer) name: String,
    /// The first value of those that must have the same scale.
    pub(in crate::infer) group: usize,
    /// A convolution reads it: the mean of each channel corrects its bias.
    pub(in crate::infer) is_read_by_convolution: bool,
}

/// What was seen of a value.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::infer) struct Seen {
    /// What becomes 0; not above zero.
    pub(in crate::infer) low: f32,
    /// What becomes 255; not below zero.
    pub(in crate::infer) high: f32,
    /// Mean of each channel; empty where it is not needed.
    pub(in crate::infer) means: Vec<f32>,
}

impl Survey {
    pub(in crate::infer) fn write(&self, out: &mut Writer) {
        out.size(self.values.len());
        for value in &self.values {
            out.text(&value.name, MAX_NAME_BYTES).size(value.group).bool(value.is_read_by_convolution);
        }
        out.size(self.joints.len());
        for (made, read, alone) in &self.joints {
            out.size(*made).size(*read).bool(*alone);
        }
        out.size(self.convolutions).size(self.in_floats);
    }

    pub(in crate::infer) fn read(reader: &mut Reader<'_>) -> Option<Survey> {
        let values = reader.list(MAX_VALUES, |reader| {
            let name = reader.text(MAX_NAME_BYTES)?.replace(char::is_control, " ");
            Some(Watched { name, group: reader.size(MAX_VALUES)?, is_read_by_convolution: reader.bool()? })
        })?;
        let count = values.len();
        let joints = reader.list(MAX_VALUES, |reader| {
            Some((reader.size(count.checked_sub(1)?)?, reader.size(count.checked_sub(1)?)?, reader.bool()?))
        })?;
        let (convolutions, in_floats) = (reader.size(usize::MAX)?, reader.size(usize::MAX)?);
        let is_sound = values.iter().all(|value| value.group < count);
        is_sound.then_some(Survey { values, joints, convolutions, in_floats })
    }
}

impl Seen {
    pub(in crate::infer) fn write(&self, out: &mut Writer) {
        out.f32(self.low).f32(self.high).size(self.means.len());
        self.means.iter().for_each(|mean| {
            out.f32(*mean);
        });
    }

    pub(in crate::infer) fn read(reader: &mut Reader<'_>) -> Option<Seen> {
        let (low, high) = (reader.f32()?, reader.f32()?);
        Some(Seen { low, high, means: reader.list(MAX_CHANNELS, Reader::f32)? })
    }

    /// What was seen of all values of a graph.
    pub(in crate::infer) fn read_all(reader: &mut Reader<'_>) -> Option<Vec<Seen>> {
        reader.list(MAX_VALUES, Seen::read)
    }
}

/// A graph that is being brought to 8 bits.
pub(in crate::infer) struct Quantiser {
    proto: ModelProto,
    plan: Plan,
}

impl Quantiser {
    /// Reads a file of `size` bytes whole. Errors: what [`Graph::read`] refuses; a graph that has 8 bits already,
    /// wants several pictures at a time, or has no convolution that could have 8 bits.
    pub(in crate::infer) fn read(
        file: &Arc<File>,
        size: u64,
        beside: Beside<'_>,
        budget: u64,
    ) -> Result<Quantiser> {
        let mut proto = Graph::read_plain(&mut At { file, at: 0, end: size }, beside, budget)?;
        let graph = proto.graph.as_ref().ok_or_else(|| artefact("the ONNX file holds no graph"))?;
        if has_8_bits(graph) {
            return Err(artefact("the graph has 8 bits already: it needs no calibration"));
        }
        let frames = feed::find(graph)?.input.frames();
        if frames > 1 {
            return Err(artefact(format!(
                "the graph takes {frames} pictures at a time: for 8 bits export it with a batch of 1"
            )));
        }
        tidy::tidy(&mut proto)?;
        let plan = Plan::of(&proto, 0)?;
        if plan.values.len() > MAX_VALUES {
            return Err(artefact("the graph has too many values to bring to 8 bits"));
        }
        if plan.convolutions.is_empty() {
            return Err(artefact(
                "no convolution of this graph could compute in 8 bits: the last ones, before scores and boxes, stay in floats",
            ));
        }
        Ok(Quantiser { proto, plan })
    }

    /// What will have 8 bits.
    pub(in crate::infer) fn survey(&self) -> Survey {
        self.plan.survey(MAX_NAME_BYTES)
    }

    /// The graph whose outputs are these values, as a file.
    pub(in crate::infer) fn watch(&self, values: Range<usize>) -> Vec<u8> {
        let watched = self.plan.values.get(values).unwrap_or_default();
        let mut proto = self.proto.clone();
        if let Some(graph) = &mut proto.graph {
            graph.output = watched
                .iter()
                .map(|value| ValueInfoProto { name: value.name.clone(), ..ValueInfoProto::default() })
                .collect();
            graph.value_info.clear();
            self::graph::keep_needed(graph);
        }
        proto.encode_to_vec()
    }

    /// The graph in 8 bits, as a file. `in_floats`: how many convolutions at its beginning are left as they are.
    pub(in crate::infer) fn write(&self, seen: &[Seen], in_floats: usize) -> Result<Vec<u8>> {
        if seen.len() != self.plan.values.len() {
            return Err(artefact("ranges of other values than the graph has"));
        }
        let known: HashMap<&str, &Seen> =
            self.plan.values.iter().map(|value| value.name.as_str()).zip(seen).collect();
        let plan = Plan::of(&self.proto, in_floats)?;
        let seen: Option<Vec<Seen>> =
            plan.values.iter().map(|value| known.get(value.name.as_str()).copied().cloned()).collect();
        let seen = seen.ok_or_else(|| artefact("a value was not looked at"))?;
        Ok(emit::emit(&self.proto, &plan, &seen)?.encode_to_vec())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tract_onnx::pb::{GraphProto, NodeProto};

    fn read(name: &str) -> Result<Quantiser> {
        let file = File::open(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let size = file.metadata().unwrap().len();
        Quantiser::read(&Arc::new(file), size, &mut |_| unreachable!(), size * 8)
    }

    fn graph(bytes: &[u8]) -> GraphProto {
        ModelProto::decode(bytes).unwrap().graph.unwrap()
    }

    fn maker<'a>(graph: &'a GraphProto, name: &str) -> &'a NodeProto {
        graph.node.iter().find(|node| node.output.iter().any(|made| made == name)).unwrap()
    }

    #[test]
    fn a_graph_has_8_bits_between_its_first_and_its_last_convolutions() {
        let quantiser = read("tests/families/convolutions.onnx").unwrap();
        let survey = quantiser.survey();
        let mut out = Writer::default();
        survey.write(&mut out);
        assert_eq!(Survey::read(&mut Reader::new(out.bytes())), Some(survey.clone()));
        assert_eq!((survey.convolutions, survey.in_floats), (4, 2));
        let names: Vec<&str> = survey.values.iter().map(|value| value.name.as_str()).collect();
        // no value between a convolution and the end of its activation, and none that floats alone read
        assert_eq!(
            names,
            ["one.silu", "two.silu", "sum", "three.leaky", "pooled", "four.leaky", "larger", "both"]
        );
        let group = |name: &str| survey.values[names.iter().position(|known| *known == name).unwrap()].group;
        assert_eq!((group("three.leaky"), group("four.leaky")), (group("pooled"), group("larger")));
        let seen: Vec<Seen> =
            survey.values.iter().map(|_| Seen { low: -0.1, high: 1.0, means: vec![0.25; 32] }).collect();
        let made = graph(&quantiser.write(&seen, 0).unwrap());
        // more of them in floats
        let fewer = graph(&quantiser.write(&seen, 3).unwrap());
        let is_float = |name: &str| {
            let node = fewer.node.iter().find(|node| node.name == name).unwrap();
            !fewer.node.iter().any(|maker| maker.output.contains(&node.input[1]))
        };
        assert_eq!(
            ["one", "two", "three", "four", "five", "last"].map(is_float),
            [true, true, true, false, false, true]
        );
        // and what only these read, too
        let reads_8_bits = |name: &str| {
            let node = fewer.node.iter().find(|node| node.name == name).unwrap();
            maker(&fewer, &node.input[0]).op_type == "DequantizeLinear"
        };
        assert_eq!(["two", "three", "four", "five"].map(reads_8_bits), [false, false, true, true]);
        let count = |op: &str| made.node.iter().filter(|node| node.op_type == op).count();
        assert_eq!((count("QuantizeLinear"), count("Pad"), count("Conv")), (8, 0, 6));
        for conv in made.node.iter().filter(|node| node.op_type == "Conv") {
            let has_8_bits = !["one", "last"].contains(&conv.name.as_str());
            let from =
                conv.input[1..].iter().map(|name| made.node.iter().any(|node| node.output.contains(name)));
            assert!(from.eq([has_8_bits; 2]), "{}", conv.name);
            if has_8_bits {
                let weights = maker(&made, &conv.input[1]);
                assert_eq!((weights.op_type.as_str(), weights.attribute[0].i), ("DequantizeLinear", 0));
                let tensor = made.initializer.iter().find(|tensor| tensor.name == weights.input[0]).unwrap();
                assert_eq!(tensor.data_type, 3);
                // every channel uses its whole range
                let channel = tensor.raw_data.len() / tensor.dims[0] as usize;
                assert!(
                    tensor.raw_data.chunks(channel).all(|w| w.iter().any(|w| w.cast_signed().abs() == 127))
                );
                assert_eq!(maker(&made, &conv.input[0]).op_type, "DequantizeLinear");
            }
        }
        let pads = |name: &str| {
            graph::attribute(made.node.iter().find(|n| n.name == name).unwrap(), "pads").unwrap().ints.clone()
        };
        assert_eq!(pads("three"), [1, 1, 1, 1]);
        // what is looked at is floats, and nothing that comes later is in it
        let watched = graph(&quantiser.watch(1..3));
        assert_eq!(watched.output.iter().map(|value| value.name.as_str()).collect::<Vec<_>>(), &names[1..3]);
        assert_eq!(watched.node.iter().filter(|node| node.op_type == "Conv").count(), 2);
        assert_eq!(graph(&quantiser.watch(90..99)).output.len(), 0);
    }

    #[test]
    fn ranges_that_are_none_and_graphs_that_cannot_are_refused() {
        let quantiser = read("tests/families/convolutions.onnx").unwrap();
        let count = quantiser.survey().values.len();
        assert!(quantiser.write(&vec![Seen::default(); count - 1], 0).is_err());
        for (low, high) in [(0.0, 0.0), (f32::NAN, f32::NAN), (0.0, f32::INFINITY), (0.0, 1e-44)] {
            let seen = vec![Seen { low, high, means: Vec::new() }; count];
            assert!(
                quantiser.write(&seen, 0).unwrap_err().message().contains("has no range"),
                "{low} {high}"
            );
        }
        for (file, words) in [
            ("tests/onnx/stored/Quantized-1.onnx", "8 bits already"),
            ("tests/families/rfdetr.onnx", "no convolution"),
            ("tests/families/bad-circle.onnx", "graph"),
        ] {
            let error = read(file).map(|_| ()).unwrap_err();
            assert!(error.message().contains(words), "{file}: {error}");
        }
    }

    #[test]
    fn what_a_process_says_is_no_survey_unless_it_is_one() {
        let value = |group| Watched { name: "x".into(), group, is_read_by_convolution: true };
        for (values, joints) in
            [(vec![value(1)], vec![]), (vec![value(0)], vec![(0, 1, true)]), (vec![], vec![(0, 0, true)])]
        {
            let mut out = Writer::default();
            Survey { values, joints, convolutions: 1, in_floats: 0 }.write(&mut out);
            assert_eq!(Survey::read(&mut Reader::new(out.bytes())), None);
        }
    }
}
