//! Products of integers whose scales are multiplied in afterwards.
//!
//! ```text
//! x ─ DynamicQuantizeLinear ┬ q ─ ConvInteger ─ Cast ─ Mul ─ …        x ─ DynamicQuantized ─ Conv ─ …
//!                           ├ zero ──┘   │              │         ⇒                           │
//!                           └ scale ─────│──────── Mul ─┘              (w − zero) · scale ────┘
//!                              w, zero ──┘ scale ──┘
//! ```

use super::{Fit, Known, Rewriter, input};
use crate::infer::onnx::precision::FLOAT;
use crate::infer::onnx::refuse;
use tract_onnx::pb::NodeProto;

/// Most factors of a product that are looked at; exporters write three.
const MAX_FACTORS: usize = 4;

/// What made a value, as far as integer products are recognised by it.
#[derive(Debug, Clone)]
pub(super) enum Maker {
    /// ConvInteger or MatMulInteger.
    Product(Box<NodeProto>),
    /// A cast to floats, of the value of that name.
    Cast(String),
    Mul([String; 2]),
}

impl Rewriter<'_> {
    /// DynamicQuantizeLinear: remembers what it is made of.
    pub(super) fn dynamically(&mut self, node: &NodeProto) -> Fit<bool> {
        if let ([of], [value, scale, zero]) = (&node.input[..], &node.output[..]) {
            let floats = self.dynamic_floats(of);
            let known = Known::Dynamic { scale: scale.clone(), zero: zero.clone(), floats };
            self.known.insert(value.clone(), known);
        }
        Ok(false)
    }

    /// A node of an integer product: true where it was its last, and the whole became a product of floats.
    pub(super) fn product(&mut self, node: &NodeProto) -> Fit<bool> {
        let [output] = &node.output[..] else { return Ok(false) };
        let maker = match (node.op_type.as_str(), &node.input[..]) {
            ("Cast", [of]) if refuse::integer(node, "to", 0) == i64::from(FLOAT) => Maker::Cast(of.clone()),
            ("Mul", [left, right]) => Maker::Mul([left.clone(), right.clone()]),
            ("ConvInteger" | "MatMulInteger", _) => Maker::Product(Box::new(node.clone())),
            _ => return Ok(false),
        };
        let is_last = matches!(maker, Maker::Mul(_));
        self.makers.insert(output.clone(), maker);
        if !is_last {
            return Ok(false);
        }
        // what does not fit stays as it is
        let Some((product, factors)) = self.factors(output) else { return Ok(false) };
        let Ok(made) = self.of_floats(&product, factors) else { return Ok(false) };
        let (name, output) = (node.name.clone(), node.output.clone());
        self.nodes.push(NodeProto { name, output, ..made });
        Ok(true)
    }

    /// The integer product behind a value, and the names of what it is multiplied by.
    fn factors(&self, value: &str) -> Option<(NodeProto, Vec<String>)> {
        let mut open = vec![value];
        let (mut found, mut factors) = (None, Vec::new());
        while let Some(name) = open.pop() {
            match self.makers.get(name) {
                Some(Maker::Mul([left, right])) => open.extend([left.as_str(), right.as_str()]),
                Some(Maker::Cast(of)) => match self.makers.get(of) {
                    Some(Maker::Product(product)) if found.is_none() => found = Some((**product).clone()),
                    _ => return None,
                },
                _ => factors.push(name.to_owned()),
            }
            if open.len() + factors.len() > MAX_FACTORS {
                return None;
            }
        }
        found.map(|product| (product, factors))
    }

    /// The same product of floats, without name or output.
    fn of_floats(&mut self, product: &NodeProto, mut factors: Vec<String>) -> Fit<NodeProto> {
        let convolves = product.op_type == "ConvInteger";
        let mut sides = [String::new(), String::new()];
        for (place, side) in sides.iter_mut().enumerate() {
            let (value, given) = (input(product, place), input(product, 2 + place));
            if let Some(Known::Dynamic { scale, zero, floats }) = self.known.get(value) {
                let factor = factors.iter().position(|factor| factor == scale);
                factors.remove(factor.filter(|_| zero == given).ok_or("other scales")?);
                *side = floats.clone();
            }
        }
        let unknown = sides.iter().position(String::is_empty);
        match (unknown, convolves) {
            (Some(1), true) => {
                let rank = self.stored(input(product, 1)).map_or(0, |weights| weights.dims.len());
                let scales = self.scales_along(&factors, rank, rank.saturating_sub(1))?;
                let zeros = self.zeros(input(product, 3))?;
                sides[1] = self.weights(input(product, 1), &scales, &zeros, 0)?;
            }
            (Some(1), false) => {
                let scales = self.scales_along(&factors, 1, 1)?;
                let zeros = self.zeros(input(product, 3))?;
                sides[1] = self.columns(input(product, 1), &scales, &zeros)?;
            }
            // the rows of a left side would each have their own
            (Some(0), false) => {
                match (&self.scales_along(&factors, 1, 0)?[..], &self.zeros(input(product, 2))?[..]) {
                    (&[scale], &[zero]) if !sides[1].is_empty() => {
                        sides[0] = self.weights(input(product, 0), &[scale], &[zero], 0)?;
                    }
                    _ => return Err(String::from("other scales")),
                }
            }
            (None, false) if factors.is_empty() => {}
            _ => return Err(String::from("other sides")),
        }
        let op_type = String::from(if convolves { "Conv" } else { "MatMul" });
        let attribute = product.attribute.clone();
        Ok(NodeProto { op_type, input: sides.to_vec(), attribute, ..NodeProto::default() })
    }

    /// What weights are multiplied by behind the product: stored floats that differ along one axis at most,
    /// the `from_end`th of the product, and that give it no more dimensions than `rank`.
    fn scales_along(&self, factors: &[String], rank: usize, from_end: usize) -> Fit<Vec<f32>> {
        let name = match factors {
            [] => return Ok(vec![1.0]),
            [name] => name,
            _ => return Err(String::from("more than one scale of weights")),
        };
        let dims = self.stored(name).map(|tensor| tensor.dims.as_slice()).unwrap_or_default();
        let mut sides = dims.iter().rev().enumerate();
        if dims.len() > rank || !sides.all(|(place, side)| *side == 1 || place + 1 == from_end) {
            return Err(String::from("scales along another axis"));
        }
        self.scales(name)
    }
}
