//! Where every value lies in the arena: views share their origin's storage, concatenated pieces are made in
//! place, and storage is reused as soon as its last reader has run.

use super::graph::{Coding, Graph, Op, ValueId};
use super::import::MAX_ELEMENTS;
use super::kernels::arena::Part;
use super::kernels::int8::{QUAD, TILE_QUADS};
use super::kernels::{Format, LANES};
use super::layout::Form;
use super::unsupported::unsupported;
use crate::error::Result;
use std::ops::Range;

/// Widest border of zeros around a picture, in pixels; the widest padding of a known detector is 6 (RTMDet's
/// 5×5 dilated).
const MAX_HALO: usize = 16;
/// Storage starts at multiples of this many floats, a cache line.
const ALIGNMENT: usize = 16;

/// A picture in blocks of channels: `[block][halo + rows + halo][halo + columns + halo][LANES]`; in half
/// precision two channels share a float's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Blocks {
    /// Float offset of the first block's storage, halo included.
    pub at: usize,
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    pub halo: usize,
    /// Of its numbers.
    pub format: Format,
}

impl Blocks {
    /// Number of channel blocks.
    pub(super) fn count(&self) -> usize {
        self.format.blocks_for(self.channels)
    }
    /// Channels of a block.
    pub(super) fn lanes(&self) -> usize {
        self.format.lanes()
    }
    /// Whether its numbers have half precision.
    pub(super) fn is_half(&self) -> bool {
        self.format != Format::Float32
    }
    /// Floats from one row to the next.
    pub(super) fn row(&self) -> usize {
        (self.width + 2 * self.halo) * LANES
    }
    /// Floats from one block to the next.
    pub(super) fn block(&self) -> usize {
        (self.height + 2 * self.halo) * self.row()
    }
    /// Float offset of a pixel of a block.
    pub(super) fn pixel(&self, block: usize, y: usize, x: usize) -> usize {
        self.at + block * self.block() + (self.halo + y) * self.row() + (self.halo + x) * LANES
    }
    /// Sets the border around rows of a block to zeros: left and right where the rows end there, and above
    /// the first and below the last row of the picture.
    pub(super) fn clear_border(
        &self,
        arena: &mut Part<'_>,
        block: usize,
        rows: Range<usize>,
        left: bool,
        right: bool,
    ) {
        if self.halo == 0 {
            return;
        }
        let side = self.halo * LANES;
        for y in rows.clone() {
            let (first, end) = (self.pixel(block, y, 0), self.pixel(block, y, self.width));
            if left {
                arena.write(first - side..first).fill(0.0);
            }
            if right {
                arena.write(end..end + side).fill(0.0);
            }
        }
        let (first, edge) = (self.at + block * self.block(), self.halo * self.row());
        if rows.start == 0 && left {
            arena.write(first..first + edge).fill(0.0);
        }
        if rows.end == self.height && left {
            let last = first + self.block();
            arena.write(last - edge..last).fill(0.0);
        }
    }

    /// Float offset of a channel's first pixel; of the float that holds two channels in half precision.
    pub(super) fn channel(&self, channel: usize) -> usize {
        self.pixel(channel / self.lanes(), 0, 0) + channel % self.lanes() / self.format.per_float()
    }
    /// The number of a channel in the float at its place.
    pub(super) fn number(&self, channel: usize, float: f32) -> f32 {
        self.format.number(channel, float)
    }
}

/// Bytes behind a picture in codes that a tile's row may reach.
const BEHIND_BYTES: usize = QUAD * TILE_QUADS;
/// Floats behind that: the scale and zero of codes that are chosen for every picture.
const SCALE_FLOATS: usize = 2;

/// A picture in 8-bit codes (NHWC): `[halo + rows + halo][halo + columns + halo][channel]`; it may be some of the
/// channels of a larger one. Offsets and lengths are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Nhwc {
    /// The first channel of the border's first pixel.
    pub at: usize,
    pub channels: usize,
    /// From one pixel to the next.
    pub pixel: usize,
    pub height: usize,
    pub width: usize,
    pub halo: usize,
    /// The code for zero, which fills the border; 0 where it is chosen for every picture.
    pub zero: u8,
    /// Where the scale and the zero of every picture lie, in floats.
    pub scale: usize,
}

impl Nhwc {
    /// From one row to the next.
    pub(super) fn row(&self) -> usize {
        (self.width + 2 * self.halo) * self.pixel
    }
    /// Offset of a pixel.
    pub(super) fn pixel_at(&self, y: usize, x: usize) -> usize {
        self.at + (self.halo + y) * self.row() + (self.halo + x) * self.pixel
    }
    /// Whether it is no part of a larger one.
    pub(super) fn is_whole(&self) -> bool {
        self.pixel == self.channels.next_multiple_of(QUAD)
    }
    /// Fills the border around some rows with the code for zero.
    pub(super) fn fill_border(&self, arena: &mut Part<'_>, rows: Range<usize>, zero: u8) {
        if self.halo == 0 {
            return;
        }
        let across = self.width + 2 * self.halo;
        let mut fill = |y: usize, x: usize, pixels: usize| {
            arena.fill_codes(
                self.at + (y * across + x) * self.pixel,
                self.pixel,
                self.channels,
                pixels,
                zero,
            );
        };
        for y in rows.clone() {
            fill(self.halo + y, 0, self.halo);
            fill(self.halo + y, self.halo + self.width, self.halo);
        }
        if rows.start == 0 {
            fill(0, 0, self.halo * across);
        }
        if rows.end == self.height {
            fill(self.halo + self.height, 0, self.halo * across);
        }
    }
}

/// Where a value lies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Place {
    /// Row-major in the arena, from this float on.
    Plain(usize),
    /// In blocks in the arena.
    Blocks(Blocks),
    /// In codes in the arena.
    Int8(Nhwc),
    /// Known while compiling; not in the arena.
    Constant,
    /// A tensor of tract's, in this slot.
    Foreign(usize),
    /// Nowhere: no step reads it.
    Nowhere,
}

/// Which value lies where in the arena.
#[derive(Debug)]
pub(super) struct Storage {
    /// Where each value lies, by the value's index.
    pub places: Vec<Place>,
    /// Float offset of each step's scratch space.
    pub scratch: Vec<usize>,
    /// Floats in the arena.
    pub floats: usize,
    /// Slots for tensors of nodes that tract runs.
    pub tensors: usize,
    /// Where [`PIXELS_FLOATS`] numbers say what the input holds: whether bytes, and then the factor and the offset of
    /// each of its planes.
    pub pixels: usize,
}

/// See [`Storage::pixels`].
pub(super) const PIXELS_FLOATS: usize = 7;

/// A stretch of memory that one or more values share.
#[derive(Debug, Clone)]
struct Root {
    form: Form,
    /// Its length, in blocks of channels or in floats.
    extent: usize,
    /// `[height, width]` of pictures in blocks.
    size: [usize; 2],
    halo: usize,
    /// First and last step that touches it.
    life: Option<(usize, usize)>,
    /// Where it went: another root, and the offset there.
    parent: Option<(usize, usize)>,
}

/// Plans the arena. `halo[v]` is the border that value `v`'s readers need, `scratch[n]` the floats that node
/// `n` needs while it runs, `half` the numbers of half precision.
pub(super) fn plan(graph: &Graph, forms: &[Form], scratch: &[usize], half: Format) -> Result<Storage> {
    let mut planner = Planner { roots: Vec::new(), homes: vec![None; graph.values.len()] };
    planner.home_all(graph, forms);
    planner.share(graph, forms);
    planner.halos(graph, forms)?;
    planner.lives(graph);
    planner.assign(graph, forms, scratch, half)
}

struct Planner {
    roots: Vec<Root>,
    /// Root and offset (blocks or floats) of each value.
    homes: Vec<Option<(usize, usize)>>,
}

impl Root {
    /// Bytes of a pixel of codes.
    fn pixel(&self) -> usize {
        self.extent.next_multiple_of(QUAD)
    }

    /// Floats of a picture in codes, with what may be read behind it.
    fn code_floats(&self) -> usize {
        let [h, w] = self.size;
        let bytes = (h + 2 * self.halo) * (w + 2 * self.halo) * self.pixel() + BEHIND_BYTES;
        bytes.div_ceil(size_of::<f32>())
    }
}

impl Planner {
    /// Follows a value to the root that holds it.
    fn find(&self, id: ValueId) -> Option<(usize, usize)> {
        let (mut root, mut offset) = self.homes[id.0]?;
        while let Some((parent, at)) = self.roots[root].parent {
            (root, offset) = (parent, offset + at);
        }
        Some((root, offset))
    }

    /// Gives every value that lies in the arena a root of its own.
    fn home_all(&mut self, graph: &Graph, forms: &[Form]) {
        let made = graph.nodes.iter().flat_map(|n| &n.outputs).chain(&graph.inputs);
        for &id in made {
            let value = graph.value(id);
            let (extent, size) = match (forms[id.0], value.picture()) {
                (Form::Foreign, _) => continue,
                (form, Some([c, h, w])) if form.is_picture() => (c.div_ceil(form.lanes()), [h, w]),
                _ => (value.len(), [0, 0]),
            };
            let root = Root { form: forms[id.0], extent, size, halo: 0, life: None, parent: None };
            self.roots.push(root);
            self.homes[id.0] = Some((self.roots.len() - 1, 0));
        }
    }

    /// Views and in-place concatenations.
    fn share(&mut self, graph: &Graph, forms: &[Form]) {
        for node in &graph.nodes {
            let Some(&output) = node.outputs.first() else { continue };
            let form = forms[output.0];
            match node.op {
                Op::Reshape | Op::Slice { .. } => {
                    let input = node.inputs[0];
                    if let (Some(offset), Some((root, at))) = (view(graph, node, form), self.find(input)) {
                        self.homes[output.0] = Some((root, at + offset));
                    }
                }
                Op::Concat { axis } => {
                    if let Some(offsets) = pieces(graph, node, axis, form) {
                        self.place_pieces(forms, node, &offsets);
                    }
                }
                _ => {}
            }
        }
    }

    /// Moves the roots of a concatenation's pieces into its output where nothing speaks against it.
    fn place_pieces(&mut self, forms: &[Form], node: &super::graph::Node, offsets: &[(usize, usize)]) {
        let Some((whole, base)) = self.find(node.outputs[0]) else { return };
        for (piece, &(at, _)) in node.inputs.iter().zip(offsets) {
            let Some((root, inside)) = self.find(*piece) else { continue };
            if root == whole || forms[piece.0] != forms[node.outputs[0].0] {
                continue;
            }
            let Some(start) = (base + at).checked_sub(inside) else { continue };
            let end = start + self.roots[root].extent;
            let fits = self.roots[root].size == self.roots[whole].size && end <= base + total(offsets);
            // the root may cover other pieces only where they are views of it, at the same distance
            let clear = node.inputs.iter().zip(offsets).all(|(other, &(other_at, length))| {
                let (from, to) = (base + other_at, base + other_at + length);
                let same = self.find(*other).is_some_and(|(r, o)| r == root && start + o == from);
                same || to <= start || end <= from
            });
            if fits && clear {
                self.roots[root].parent = Some((whole, start));
            }
        }
    }

    /// The widest border that any reader needs of each root.
    fn halos(&mut self, graph: &Graph, forms: &[Form]) -> Result<()> {
        for node in &graph.nodes {
            let (Op::Conv(conv), Some(&input)) = (&node.op, node.inputs.first()) else { continue };
            if !forms[input.0].is_picture() {
                continue;
            }
            let (Some([_, h, w]), Some([_, oh, ow])) =
                (graph.value(input).picture(), graph.value(node.outputs[0]).picture())
            else {
                continue;
            };
            let window = &conv.window;
            let mut halo = 0;
            for (axis, (length, outputs)) in [(h, oh), (w, ow)].into_iter().enumerate() {
                let reach = (outputs - 1) * window.stride[axis]
                    + (window.kernel[axis] - 1) * window.dilation[axis]
                    + 1;
                let after = reach.saturating_sub(length + window.before[axis]);
                halo = halo.max(window.before[axis]).max(after);
            }
            if halo > MAX_HALO {
                return Err(unsupported(&node.name, &format!("op Conv: padding of {halo} pixels")));
            }
            if let Some((root, _)) = self.find(input) {
                self.roots[root].halo = self.roots[root].halo.max(halo);
            }
        }
        Ok(())
    }

    /// First and last step of each root.
    fn lives(&mut self, graph: &Graph) {
        for (step, node) in graph.nodes.iter().enumerate() {
            for &id in node.inputs.iter().chain(&node.outputs) {
                if let Some((root, _)) = self.find(id) {
                    let (first, last) = self.roots[root].life.unwrap_or((step, step));
                    self.roots[root].life = Some((first.min(step), last.max(step)));
                }
            }
        }
        // outputs are read after the last step, inputs are written before the first
        for &id in &graph.outputs {
            if let Some((root, _)) = self.find(id) {
                let first = self.roots[root].life.map_or(0, |l| l.0);
                self.roots[root].life = Some((first, usize::MAX));
            }
        }
        // what is kept is read when the last of it has been made
        let makers = graph.makers();
        let made = graph.kept.iter().filter_map(|id| makers[id.0]).max().unwrap_or(0);
        for &id in &graph.kept {
            if let Some((root, _)) = self.find(id) {
                let (first, last) = self.roots[root].life.unwrap_or((made, made));
                self.roots[root].life = Some((first, last.max(made)));
            }
        }
        for &id in &graph.inputs {
            if let Some((root, _)) = self.find(id) {
                let last = self.roots[root].life.map_or(0, |l| l.1);
                self.roots[root].life = Some((0, last));
            }
        }
    }

    /// Gives each root the lowest place that is free during its life, largest first.
    fn assign(self, graph: &Graph, forms: &[Form], scratch: &[usize], half: Format) -> Result<Storage> {
        struct Piece {
            floats: usize,
            life: (usize, usize),
            owner: Owner,
            at: usize,
        }
        enum Owner {
            Root(usize),
            Scratch(usize),
        }
        let mut pieces = Vec::new();
        for (index, root) in self.roots.iter().enumerate() {
            let (None, Some(life)) = (root.parent, root.life) else { continue };
            let [h, w] = root.size;
            let floats = match root.form {
                Form::Blocks | Form::Half => root.extent * (h + 2 * root.halo) * (w + 2 * root.halo) * LANES,
                Form::Int8 => root.code_floats() + SCALE_FLOATS,
                _ => root.extent,
            };
            pieces.push(Piece { floats, life, owner: Owner::Root(index), at: 0 });
        }
        for (step, &floats) in scratch.iter().enumerate().filter(|(_, f)| **f > 0) {
            pieces.push(Piece { floats, life: (step, step), owner: Owner::Scratch(step), at: 0 });
        }
        pieces.sort_by_key(|p| std::cmp::Reverse(p.floats));
        let mut floats = 0;
        for index in 0..pieces.len() {
            let (placed, rest) = pieces.split_at_mut(index);
            let Some(piece) = rest.first_mut() else { break };
            let overlaps = |p: &&Piece| p.life.0 <= piece.life.1 && piece.life.0 <= p.life.1;
            let mut taken: Vec<(usize, usize)> =
                placed.iter().filter(overlaps).map(|p| (p.at, p.at + p.floats)).collect();
            taken.sort_unstable();
            let mut at = 0;
            for (from, to) in taken {
                if at + piece.floats <= from {
                    break;
                }
                at = at.max(to.next_multiple_of(ALIGNMENT));
            }
            piece.at = at;
            floats = floats.max(at + piece.floats);
        }
        if floats > MAX_ELEMENTS {
            return Err(unsupported("graph", "more memory than one model may have"));
        }
        let mut starts = vec![0; self.roots.len()];
        let mut scratch_at = vec![0; scratch.len()];
        for piece in &pieces {
            match piece.owner {
                Owner::Root(root) => starts[root] = piece.at,
                Owner::Scratch(step) => scratch_at[step] = piece.at,
            }
        }
        let mut tensors = 0;
        let places = graph.values.iter().enumerate().map(|(index, value)| {
            if value.constant.is_some() {
                return Place::Constant;
            }
            if forms[index] == Form::Foreign {
                tensors += 1;
                return Place::Foreign(tensors - 1);
            }
            let Some((root, offset)) = self.find(ValueId(index)) else { return Place::Nowhere };
            match (forms[index], value.picture()) {
                (Form::Int8, Some([channels, height, width])) => {
                    let (root, start) = (&self.roots[root], starts[root]);
                    let zero = match value.coding {
                        Some(Coding::Static(levels)) => (-levels.low) as u8,
                        _ => 0,
                    };
                    Place::Int8(Nhwc {
                        at: start * size_of::<f32>() + offset,
                        channels,
                        pixel: root.pixel(),
                        height,
                        width,
                        halo: root.halo,
                        zero,
                        scale: start + root.code_floats(),
                    })
                }
                (form, Some([channels, height, width])) if form.is_picture() => {
                    let (halo, format) =
                        (self.roots[root].halo, if form == Form::Half { half } else { Format::Float32 });
                    let mut blocks = Blocks { at: starts[root], channels, height, width, halo, format };
                    blocks.at += offset * blocks.block();
                    Place::Blocks(blocks)
                }
                _ => Place::Plain(starts[root] + offset),
            }
        });
        let places = places.collect();
        let pixels = floats.next_multiple_of(ALIGNMENT);
        Ok(Storage { places, scratch: scratch_at, floats: pixels + ALIGNMENT, tensors, pixels })
    }
}

/// Offset (blocks or floats) of a reshape or slice inside its operand, where it is a view of it.
fn view(graph: &Graph, node: &super::graph::Node, form: Form) -> Option<usize> {
    let input = graph.value(node.inputs[0]);
    if input.constant.is_some() {
        return None;
    }
    match (&node.op, form) {
        (Op::Reshape, Form::Plain) => Some(0),
        (Op::Slice { axis: 1, start, .. }, form) if form.is_picture() => {
            (start % form.lanes() == 0).then_some(start / form.lanes())
        }
        (Op::Slice { axis, start, .. }, Form::Plain) => {
            let (outer, inner) = input.shape.split_at(*axis);
            let inner: usize = inner.iter().skip(1).product();
            outer.iter().all(|&d| d == 1).then_some(start * inner)
        }
        _ => None,
    }
}

/// Offset and length (blocks or floats) of each piece of a concatenation that can be made in place.
fn pieces(graph: &Graph, node: &super::graph::Node, axis: usize, form: Form) -> Option<Vec<(usize, usize)>> {
    let output = graph.value(node.outputs[0]);
    let (outer, inner) = output.shape.split_at(axis);
    let inner: usize = inner.iter().skip(1).product();
    if outer.iter().any(|&d| d != 1) {
        return None;
    }
    let mut at = 0;
    let mut result = Vec::new();
    for &input in &node.inputs {
        let along = *graph.value(input).shape.get(axis)?;
        match form {
            Form::Blocks | Form::Half | Form::Int8 => {
                if at % form.lanes() != 0 {
                    return None;
                }
                result.push((at / form.lanes(), along.div_ceil(form.lanes())));
                at += along;
            }
            _ => {
                result.push((at, along * inner));
                at += along * inner;
            }
        }
    }
    Some(result)
}

/// Where the last piece ends.
fn total(offsets: &[(usize, usize)]) -> usize {
    offsets.last().map_or(0, |&(at, length)| at + length)
}
