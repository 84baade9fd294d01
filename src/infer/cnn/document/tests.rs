//! Random graphs through bytes and back, and graphs that lie.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::{check, read, write};
use crate::infer::Engine;
use crate::infer::cnn::constant::Constant;
use crate::infer::cnn::graph::{Attention, Conv, Graph, Linear, Node, Op, ValueId, Window};
use crate::infer::cnn::kernels::{Activation, Residual};
use crate::infer::cnn::tests::random::{self, Random};
use crate::infer::cnn::tests::transformers;
use crate::infer::cnn::{Blueprint, Options};
use crate::infer::shared::{SEAL_TIMEOUT, SharedFloats, SharedRoom, fix_size, memory_file, seal};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use tract_onnx::prelude::TypedModel;

/// The engine as another process would have it: from the document and the sealed weights alone. `None`: it
/// cannot leave its process.
pub(in crate::infer::cnn) fn elsewhere(model: &TypedModel, options: &Options) -> Option<Arc<dyn Engine>> {
    let here = Blueprint::new(model, &HashMap::new(), options).unwrap();
    let document = here.document()?;
    let size = here.size().unwrap();
    assert_eq!(size.foreign_bytes, 0);
    let file = memory_file((size.weights_floats.max(1) * 4) as u64).unwrap();
    fix_size(&file).unwrap();
    here.write(SharedRoom::map(&file, size.weights_floats).unwrap().as_mut_slice()).unwrap();
    seal(&file, Instant::now() + SEAL_TIMEOUT).unwrap();
    let there = Blueprint::read(&document, options).unwrap();
    assert_eq!(there.size().unwrap(), size, "the same plan, worked out from shapes alone");
    Some(there.engine(SharedFloats::map(&file, size.weights_floats).unwrap()).unwrap())
}

/// A 3×3 convolution over `[1, 3, 8, 8]`, and a reshape.
fn small() -> Graph {
    let mut graph = Graph::default();
    let input = graph.add_value("", vec![1, 3, 8, 8]);
    let made = graph.add_value("", vec![1, 5, 8, 8]);
    let flat = graph.add_value("", vec![1, 5, 64]);
    let pair = |n| [n, n];
    let conv = Conv {
        window: Window {
            kernel: pair(3),
            stride: pair(1),
            dilation: pair(1),
            before: pair(1),
            after: pair(1),
        },
        groups: 1,
        weights: Constant::Packed([5, 3, 3, 3].into()),
        scale: vec![],
        bias: vec![],
        activation: Activation::Clip { low: 0.0, high: 6.0 },
        residual: None,
        is_int8: false,
        int8: None,
    };
    graph.nodes.push(Node {
        name: "conv".into(),
        op: Op::Conv(Box::new(conv)),
        inputs: vec![input],
        outputs: vec![made],
    });
    graph.nodes.push(Node { name: "flat".into(), op: Op::Reshape, inputs: vec![made], outputs: vec![flat] });
    graph.inputs.push(input);
    graph.outputs.push(flat);
    graph
}

#[test]
fn a_graph_survives_and_not_with_a_byte_less_or_more() {
    let graph = small();
    check(&graph).unwrap();
    let bytes = write(&graph).unwrap();
    assert_eq!(format!("{:?}", read(&bytes).unwrap().nodes), format!("{:?}", graph.nodes));
    assert!((0..bytes.len()).all(|length| read(&bytes[..length]).is_none()));
    assert!(read(&[&bytes[..], &[0]].concat()).is_none());
}

#[test]
fn graphs_that_lie_are_told_by_the_rule_they_break() {
    type Lie = fn(&mut Graph);
    fn conv(graph: &mut Graph) -> &mut Conv {
        let Op::Conv(conv) = &mut graph.nodes[0].op else { panic!("no convolution") };
        conv
    }
    let lies: &[(&str, Lie)] = &[
        ("a shape that does not follow", |g| g.values[1].shape = vec![1, 5, 9, 8]),
        ("a shape that does not follow", |g| g.values[2].shape = vec![1, 5, 65]),
        ("a shape that does not follow", |g| conv(g).weights = Constant::Packed([5, 4, 3, 3].into())),
        ("a shape that does not follow", |g| conv(g).window.kernel = [5, 5]),
        ("a shape that does not follow", |g| conv(g).window.before = [1 << 20, 1]),
        ("a shape that does not follow", |g| conv(g).window.stride = [0, 1]),
        ("a shape that does not follow", |g| {
            conv(g).activation = Activation::Clip { low: f32::NAN, high: 1.0 }
        }),
        ("operands that its operation cannot", |g| conv(g).groups = 0),
        ("operands that its operation cannot", |g| {
            conv(g).weights = Constant::Packed([usize::MAX, 2, 3, 3].into())
        }),
        ("operands that its operation cannot", |g| g.nodes[0].inputs.clear()),
        ("not one result", |g| g.nodes[0].outputs.clear()),
        ("an operand that nothing makes", |g| g.nodes.swap(0, 1)),
        ("an operand that nothing makes", |g| g.nodes[0].inputs = vec![ValueId(2)]),
        ("a result that is made already", |g| g.nodes[1].outputs = vec![ValueId(1)]),
        ("a result that is made already", |g| g.nodes[1].outputs = vec![ValueId(0)]),
        ("a value of shape", |g| g.values[2].shape = vec![1 << 40, 1 << 40]),
        ("a value of shape", |g| g.values[2].shape = vec![0]),
        ("not one input", |g| g.inputs.clear()),
        ("an output that nothing makes", |g| g.outputs.clear()),
        ("an output that nothing makes", |g| {
            g.values[2].constant = Some(Constant::Packed([1, 5, 64].into()));
            g.nodes.truncate(1);
        }),
    ];
    for (index, (rule, lie)) in lies.iter().enumerate() {
        let mut graph = small();
        lie(&mut graph);
        let told = check(&graph).expect_err(rule);
        assert!(told.contains(rule), "lie {index}: {told}");
    }
}

/// A dense layer with bias and shortcut over `[1, 4, 32]`, and attention of its result with itself.
fn tokens() -> Graph {
    let mut graph = Graph::default();
    let [input, made, mixed] = [0; 3].map(|_| graph.add_value("", vec![1, 4, 32]));
    let bias = graph.add_value("", vec![32]);
    graph.values[bias.0].constant = Some(Constant::Packed([32].into()));
    let mask = graph.add_value("", vec![1, 4, 4]);
    graph.values[mask.0].constant = Some(Constant::Packed([1, 4, 4].into()));
    let linear = Linear {
        weights: Constant::Packed([32, 32].into()),
        transposed: false,
        scale: vec![],
        bias: true,
        activation: Activation::Gelu,
        residual: Some(Residual::AfterActivation),
    };
    let inputs = vec![input, bias, input];
    graph.nodes.push(Node {
        name: "linear".into(),
        op: Op::Linear(Box::new(linear)),
        inputs,
        outputs: vec![made],
    });
    let axes = [None, None, Some(1), Some(2)];
    let attention =
        Attention { query: axes, key: axes, value: axes, out: axes, scale: 0.5, masks: vec![axes] };
    let attention = Op::Attention(Box::new(attention));
    graph.nodes.push(Node {
        name: "attention".into(),
        op: attention,
        inputs: vec![made, made, made, mask],
        outputs: vec![mixed],
    });
    graph.inputs.push(input);
    graph.outputs.push(mixed);
    graph
}

#[test]
fn products_that_lie_are_told_by_the_rule_they_break() {
    check(&tokens()).unwrap();
    let bytes = write(&tokens()).unwrap();
    assert_eq!(format!("{:?}", read(&bytes).unwrap().nodes), format!("{:?}", tokens().nodes));
    type Lie = fn(&mut Graph);
    fn linear(graph: &mut Graph) -> &mut Linear {
        let Op::Linear(linear) = &mut graph.nodes[0].op else { panic!("no dense layer") };
        linear
    }
    fn attention(graph: &mut Graph) -> &mut Attention {
        let Op::Attention(attention) = &mut graph.nodes[1].op else { panic!("no attention") };
        attention
    }
    let lies: &[(&str, Lie)] = &[
        ("a shape that does not follow", |g| linear(g).weights = Constant::Packed([32, 16].into())),
        ("a shape that does not follow", |g| linear(g).residual = None),
        ("operands that its operation cannot", |g| linear(g).weights = Constant::Packed([32].into())),
        ("numbers that are not constant", |g| g.nodes[0].inputs[1] = ValueId(0)),
        ("a constant shortcut", |g| g.nodes[0].inputs[2] = ValueId(3)),
        ("an operand that is constant", |g| g.nodes[0].inputs[0] = ValueId(3)),
        ("operands that its operation cannot", |g| attention(g).key = [None, None, Some(1), Some(1)]),
        ("operands that its operation cannot", |g| attention(g).value = [None, None, Some(1), Some(3)]),
        ("operands that its operation cannot", |g| attention(g).out = [None, None, Some(1), None]),
        ("a shape that does not follow", |g| attention(g).value = [None, None, Some(2), Some(1)]),
        ("a shape that does not follow", |g| attention(g).scale = f32::INFINITY),
        ("operands that its operation cannot", |g| attention(g).masks[0] = [None, None, None, Some(1)]),
        ("operands that its operation cannot", |g| attention(g).masks.clear()),
        ("operands that its operation cannot", |g| g.nodes[1].inputs.truncate(3)),
    ];
    for (index, (rule, lie)) in lies.iter().enumerate() {
        let mut graph = tokens();
        lie(&mut graph);
        let told = check(&graph).expect_err(rule);
        assert!(told.contains(rule), "lie {index}: {told}");
    }
}

/// Documents with single bytes changed: refused, or a plan that can be made and run. Nothing panics, nothing
/// is out of bounds.
#[test]
fn damaged_documents_are_refused_or_run() {
    let mut random = Random::new(5);
    let (mut refused, mut ran) = (0, 0);
    for seed in 0..40 {
        let model = match seed % 4 {
            3 => transformers::layer(seed).0,
            _ => random::Graph::random(seed).model,
        };
        let options = Options { threads: 1, ..Options::default() };
        let Ok(here) = Blueprint::new(&model, &HashMap::new(), &options) else { continue };
        let Some(document) = here.document() else { continue };
        for _ in 0..60 {
            let mut damaged = document.clone();
            let at = random.below(damaged.len());
            damaged[at] = random.below(256) as u8;
            let outcome = Blueprint::read(&damaged, &options).and_then(|there| Ok((there.size()?, there)));
            let Ok((size, there)) = outcome else {
                refused += 1;
                continue;
            };
            // what the service's budget would refuse
            if size.weights_floats > 1 << 22 || size.arena_bytes > 1 << 24 {
                continue;
            }
            let file = memory_file((size.weights_floats.max(1) * 4) as u64).unwrap();
            seal(&file, Instant::now() + SEAL_TIMEOUT).unwrap();
            let engine = there.engine(SharedFloats::map(&file, size.weights_floats).unwrap()).unwrap();
            let mut run = engine.new_run().unwrap();
            run.input().fill(1.0);
            run.execute().unwrap();
            ran += 1;
        }
    }
    assert!(refused > 100 && ran > 20, "{refused} refused, {ran} ran");
}
