//! Where the elements that belong to anchors lie in a tensor, and how that changes on the way back through
//! operations that only move elements.

use crate::infer::cnn::graph::{Graph, Node, Op, ValueId};
use crate::infer::cnn::kernels::Activation;
use crate::infer::cnn::step::strided::row_major;

/// A counter: how often it moves on, and by how many elements each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Term {
    pub count: usize,
    pub stride: usize,
}

/// Elements of a row-major tensor: the one at `base + Σ anchor counters + Σ other counters`. The counters of
/// each kind stand in order, the slowest first: together they count the anchors, and what every anchor has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    pub base: usize,
    pub anchors: Vec<Term>,
    pub others: Vec<Term>,
}

/// A counter along one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Step {
    pub axis: usize,
    pub count: usize,
    /// Indices it moves on by.
    pub by: usize,
}

/// A [`View`] by axes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Axes {
    /// First index of each axis.
    pub base: Vec<usize>,
    pub anchors: Vec<Step>,
    pub others: Vec<Step>,
}

impl View {
    /// The same elements by axes of a shape. `None` where a counter leaves its axis in the middle of a row.
    pub(super) fn axes(&self, shape: &[usize]) -> Option<Axes> {
        let strides = row_major(shape);
        let mut rest = self.base;
        let mut base = Vec::with_capacity(shape.len());
        for &stride in &strides {
            base.push(rest.checked_div(stride)?);
            rest %= stride;
        }
        let split = |terms: &[Term]| -> Option<Vec<Step>> {
            let mut steps = Vec::new();
            for term in terms {
                split(*term, shape, &strides, &mut steps)?;
            }
            Some(steps)
        };
        let axes = Axes { base, anchors: split(&self.anchors)?, others: split(&self.others)? };
        (0..shape.len()).all(|axis| axes.end(axis) <= shape[axis]).then_some(axes)
    }
}

/// Cuts a counter where it goes from one axis to the next; the slowest piece first.
fn split(term: Term, shape: &[usize], strides: &[usize], steps: &mut Vec<Step>) -> Option<()> {
    let (mut count, mut stride) = (term.count, term.stride);
    let mut pieces = Vec::new();
    while count > 1 {
        let fits = |axis: &usize| {
            stride != 0 && stride.is_multiple_of(strides[*axis]) && stride / strides[*axis] < shape[*axis]
        };
        let axis = (0..shape.len()).rev().find(fits)?;
        let by = stride / strides[axis];
        let on_axis = if (count - 1) * by < shape[axis] { count } else { shape[axis] / by };
        let whole = on_axis == count || (shape[axis].is_multiple_of(by) && count.is_multiple_of(on_axis));
        if !whole {
            return None;
        }
        pieces.push(Step { axis, count: on_axis, by });
        (count, stride) = (count / on_axis, stride * on_axis);
    }
    steps.extend(pieces.into_iter().rev());
    Some(())
}

impl Axes {
    /// One past the highest index along an axis.
    pub(super) fn end(&self, axis: usize) -> usize {
        let steps = self.anchors.iter().chain(&self.others).filter(|step| step.axis == axis);
        self.base[axis] + steps.map(|step| (step.count - 1) * step.by).sum::<usize>() + 1
    }

    /// Back to distances within a tensor of that shape.
    pub(super) fn view(&self, shape: &[usize]) -> View {
        let strides = row_major(shape);
        let flat = |steps: &[Step]| {
            steps.iter().map(|s| Term { count: s.count, stride: s.by * strides[s.axis] }).collect()
        };
        View {
            base: self.base.iter().zip(&strides).map(|(index, stride)| index * stride).sum(),
            anchors: flat(&self.anchors),
            others: flat(&self.others),
        }
    }

    /// Axis `a` becomes axis `to(a)`.
    pub(super) fn permuted(&self, to: impl Fn(usize) -> usize) -> Axes {
        let mut base = vec![0; self.base.len()];
        self.base.iter().enumerate().for_each(|(axis, &index)| base[to(axis)] = index);
        let moved = |steps: &[Step]| steps.iter().map(|s| Step { axis: to(s.axis), ..*s }).collect();
        Axes { base, anchors: moved(&self.anchors), others: moved(&self.others) }
    }
}

/// Where elements come from.
#[derive(Debug)]
pub(super) struct Origin {
    pub value: ValueId,
    pub view: View,
    /// A sigmoid lies between the two.
    pub sigmoid: bool,
}

/// Why a walk back stops at a concatenation: its pieces, and the axis.
pub(super) struct Junction<'a> {
    pub node: &'a Node,
    pub axes: Axes,
}

/// Follows elements of `value` back through everything that only moves them, and through one sigmoid if
/// allowed. `Err`: they come from several pieces of a concatenation.
pub(super) fn origin<'a>(
    graph: &'a Graph,
    makers: &[Option<usize>],
    value: ValueId,
    view: View,
    allow_sigmoid: bool,
) -> Result<Origin, Junction<'a>> {
    let mut at = Origin { value, view, sigmoid: false };
    while let Some(node) = makers.get(at.value.0).copied().flatten().and_then(|maker| graph.nodes.get(maker))
    {
        if allow_sigmoid && !at.sigmoid && matches!(node.op, Op::Activate(Activation::Sigmoid)) {
            (at.value, at.sigmoid) = (node.inputs[0], true);
            continue;
        }
        match back(graph, node, &at.view) {
            Back::To(value, view) => (at.value, at.view) = (value, view),
            Back::Several(axes) => return Err(Junction { node, axes }),
            Back::Made => break,
        }
    }
    Ok(at)
}

enum Back {
    To(ValueId, View),
    Several(Axes),
    /// The node computes its output.
    Made,
}

fn back(graph: &Graph, node: &Node, view: &View) -> Back {
    let [output] = node.outputs[..] else { return Back::Made };
    let Some(&input) = node.inputs.first() else { return Back::Made };
    if graph.value(input).foreign {
        return Back::Made;
    }
    let shape = &graph.value(input).shape;
    let Some(mut axes) = view.axes(&graph.value(output).shape) else {
        return if matches!(node.op, Op::Reshape) { Back::To(input, view.clone()) } else { Back::Made };
    };
    match &node.op {
        Op::Reshape => Back::To(input, view.clone()),
        Op::Transpose { order } => Back::To(input, axes.permuted(|axis| order[axis]).view(shape)),
        Op::Slice { axis, start, .. } => {
            axes.base[*axis] += start;
            Back::To(input, axes.view(shape))
        }
        Op::Concat { axis } => {
            let mut start = 0;
            for &piece in &node.inputs {
                let value = graph.value(piece);
                let end = start + value.shape.get(*axis).copied().unwrap_or(0);
                if axes.base[*axis] >= start && axes.end(*axis) <= end && !value.foreign {
                    axes.base[*axis] -= start;
                    return Back::To(piece, axes.view(&value.shape));
                }
                start = end;
            }
            Back::Several(axes)
        }
        _ => Back::Made,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn term(count: usize, stride: usize) -> Term {
        Term { count, stride }
    }

    #[test]
    fn anchors_of_a_grid_are_rows_and_columns_of_its_picture() {
        // [1, 144, 4·5], all scores of all cells: 80 channels from 64 on
        let view = View { base: 64 * 20, anchors: vec![term(20, 1)], others: vec![term(80, 20)] };
        let axes = view.axes(&[1, 144, 4, 5]).unwrap();
        assert_eq!(axes.base, [0, 64, 0, 0]);
        assert_eq!(axes.anchors, [Step { axis: 2, count: 4, by: 1 }, Step { axis: 3, count: 5, by: 1 }]);
        assert_eq!(axes.others, [Step { axis: 1, count: 80, by: 1 }]);
        let expected = View { anchors: vec![term(4, 5), term(5, 1)], ..view };
        assert_eq!(axes.view(&[1, 144, 4, 5]), expected);
    }

    #[test]
    fn three_anchors_per_cell_share_the_axis_of_channels() {
        // element 4 of 7 of anchors [3, 2, 2], as [1, 3, 7, 2, 2] laid out
        let view = View { base: 4 * 4, anchors: vec![term(3, 28), term(4, 1)], others: vec![] };
        let axes = view.axes(&[1, 21, 2, 2]).unwrap();
        assert_eq!(axes.base, [0, 4, 0, 0]);
        let steps = [(1, 3, 7), (2, 2, 1), (3, 2, 1)].map(|(axis, count, by)| Step { axis, count, by });
        assert_eq!(axes.anchors, steps);
    }

    #[test]
    fn counters_that_do_not_fit_an_axis_are_no_axes() {
        let across = View { base: 3, anchors: vec![term(4, 1)], others: vec![] };
        assert_eq!(across.axes(&[2, 5]), None);
        let skewed = View { base: 0, anchors: vec![term(3, 6)], others: vec![] };
        assert_eq!(skewed.axes(&[4, 5]), None);
        assert_eq!(View { base: 1, anchors: vec![], others: vec![] }.axes(&[0]), None);
    }

    #[test]
    fn transposing_moves_the_axes() {
        let mut graph = Graph::default();
        let input = graph.add_value("a", vec![1, 7, 12]);
        let output = graph.add_value("b", vec![1, 12, 7]);
        let op = Op::Transpose { order: vec![0, 2, 1] };
        graph.nodes.push(Node { name: "t".into(), op, inputs: vec![input], outputs: vec![output] });
        let view = View { base: 4, anchors: vec![term(12, 7)], others: vec![term(3, 1)] };
        let origin = origin(&graph, &graph.makers(), output, view, true).ok().unwrap();
        assert_eq!(origin.value, input);
        assert_eq!(origin.view, View { base: 48, anchors: vec![term(12, 1)], others: vec![term(3, 12)] });
    }

    #[test]
    fn a_concatenation_is_followed_into_the_piece_that_holds_everything() {
        let mut graph = Graph::default();
        let pieces = [4, 3].map(|rows| graph.add_value("piece", vec![1, rows, 6]));
        let output = graph.add_value("whole", vec![1, 7, 6]);
        graph.nodes.push(Node {
            name: "c".into(),
            op: Op::Concat { axis: 1 },
            inputs: pieces.to_vec(),
            outputs: vec![output],
        });
        let view = |first: usize, rows| View {
            base: first * 6,
            anchors: vec![term(6, 1)],
            others: vec![term(rows, 6)],
        };
        let found = origin(&graph, &graph.makers(), output, view(4, 3), true).ok().unwrap();
        assert_eq!((found.value, found.view), (pieces[1], view(0, 3)));
        assert!(origin(&graph, &graph.makers(), output, view(3, 2), true).is_err());
    }
}
