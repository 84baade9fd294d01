//! A head as it runs: scan, gather, the chunk's steps, and the outputs of the anchors that are kept.

use super::chunk::{Chunk, ChunkSource, Gathered};
use super::scan::Scan;
use super::view::Term;
use super::{CHUNK, Draft, Found, Level, MAX_KEPT};
use crate::infer::cnn::choice::Target;
use crate::infer::cnn::graph::{Graph, ValueId};
use crate::infer::cnn::kernels::arena::{Arena, Part};
use crate::infer::cnn::kernels::{Format, LANES};
use crate::infer::cnn::layout::lay_out;
use crate::infer::cnn::lower::{lower, pack, scratch};
use crate::infer::cnn::packer::Packer;
use crate::infer::cnn::step::{Machine, Step};
use crate::infer::cnn::storage::{Blocks, Place, Storage, plan};
use std::ops::Range;

/// A compiled head, shared by all threads.
pub(crate) struct Head {
    levels: Vec<LevelPlan>,
    /// Floats of the arena that the chunks of all levels use in turn.
    floats: usize,
    /// Of each output, floats of one anchor: before and after the axis of the anchors.
    outputs: Vec<[usize; 2]>,
}

struct LevelPlan {
    level: Level,
    scan: Scan,
    gathers: Vec<Gather>,
    steps: Vec<(String, Step)>,
    /// Where each output lies in the chunk's arena.
    outputs: Vec<usize>,
}

/// An input of a chunk.
struct Gather {
    from: From,
    base: usize,
    /// Counters of the anchors, the slowest first.
    anchors: Vec<Term>,
    /// Distances of an anchor's elements: those that come before the anchors, and those after.
    outer: Vec<usize>,
    inner: Vec<usize>,
    /// Where the input lies in the chunk's arena.
    to: usize,
}

enum From {
    Blocks(Blocks),
    /// Row-major in the run's arena.
    Plain(usize),
    /// Among the plan's weights.
    Weights(Range<usize>),
}

impl Chunk {
    /// Values of the graph that it reads.
    pub(super) fn gathered(&self) -> impl Iterator<Item = ValueId> {
        let value = |source: &ChunkSource| match source.from {
            Gathered::Value(id) => Some(id),
            Gathered::Constant(_) => None,
        };
        self.sources.iter().filter_map(value)
    }
}

impl Head {
    /// Lays a head out. `storage` is that of the graph it was found in.
    pub(crate) fn new(
        draft: Draft,
        (graph, storage): (&Graph, &Storage),
        target: Target,
        anchor_axis: usize,
        packer: &mut Packer<'_>,
    ) -> Option<Head> {
        let sides = |id: &ValueId| {
            let (before, after) = graph.value(*id).shape.split_at(anchor_axis);
            [before.iter().product(), after.iter().skip(1).product()]
        };
        let outputs = graph.outputs.iter().map(sides).collect();
        let (mut levels, mut floats) = (Vec::new(), 0);
        for found in draft.levels {
            let (level, needed) = LevelPlan::new(found, storage, target, packer)?;
            floats = floats.max(needed);
            levels.push(level);
        }
        Some(Head { levels, floats, outputs })
    }

    /// Floats that each run holds.
    pub(crate) fn run_floats(&self) -> usize {
        self.floats + self.outputs.iter().map(|[before, after]| before * after * self.most()).sum::<usize>()
    }

    /// Most anchors that are decoded by themselves.
    fn most(&self) -> usize {
        MAX_KEPT.min(self.levels.iter().map(|l| l.level.count).sum())
    }
}

impl LevelPlan {
    /// The plan, and the floats of its arena.
    fn new(
        found: Found,
        storage: &Storage,
        target: Target,
        packer: &mut Packer<'_>,
    ) -> Option<(LevelPlan, usize)> {
        let Place::Blocks(blocks) = storage.places[found.scores.value.0] else { return None };
        let scan = Scan::new(
            Some(blocks).filter(|blocks| !blocks.is_half())?,
            &found.scores.view,
            found.scores.sigmoid,
        )?;
        let Chunk { mut graph, sources } = found.chunk;
        // a chunk is too small to share
        let target = Target { workers: 1, half: None, ..target };
        let forms = lay_out(&mut graph, false);
        let own = plan(&graph, &forms, &scratch(&graph, &forms, target), Format::Float32).ok()?;
        let lowered = lower(&graph, &own, target, packer).ok()?;
        let plain = |id: &ValueId| match own.places[id.0] {
            Place::Plain(at) => Some(at),
            _ => None,
        };
        let gathers = graph
            .inputs
            .iter()
            .zip(sources)
            .map(|(input, source)| Gather::new(source, storage, plain(input)?, packer));
        let level = LevelPlan {
            level: found.level,
            scan,
            gathers: gathers.collect::<Option<_>>()?,
            steps: lowered.steps,
            outputs: graph.outputs.iter().map(plain).collect::<Option<_>>()?,
        };
        Some((level, own.floats))
    }
}

/// Every sum of counters, in their order.
fn distances(terms: &[Term]) -> Vec<usize> {
    terms.iter().fold(vec![0], |all, term| {
        all.iter().flat_map(|from| (0..term.count).map(move |index| from + index * term.stride)).collect()
    })
}

impl Gather {
    fn new(source: ChunkSource, storage: &Storage, to: usize, packer: &mut Packer<'_>) -> Option<Gather> {
        let from = match source.from {
            Gathered::Constant(constant) => {
                let at = pack(packer, &constant)?;
                From::Weights(at..at + constant.len())
            }
            Gathered::Value(id) => match storage.places[id.0] {
                Place::Blocks(blocks) => From::Blocks(blocks),
                Place::Plain(at) => From::Plain(at),
                _ => return None,
            },
        };
        let (outer, inner) = source.view.others.split_at_checked(source.outer)?;
        let (outer, inner) = (distances(outer), distances(inner));
        Some(Gather { from, base: source.view.base, anchors: source.view.anchors, outer, inner, to })
    }

    /// Puts the elements of an anchor into column `column` of the chunk.
    fn run(&self, (arena, weights): (&Part<'_>, &[f32]), own: &mut Part<'_>, anchor: usize, column: usize) {
        let (mut start, mut rest) = (self.base, anchor);
        for term in self.anchors.iter().rev() {
            start += rest % term.count * term.stride;
            rest /= term.count;
        }
        let element = |at: usize| match &self.from {
            From::Weights(range) => {
                weights.get(range.clone()).and_then(|values| values.get(at)).copied().unwrap_or(f32::NAN)
            }
            From::Plain(origin) => arena.read(origin + at..origin + at + 1)[0],
            From::Blocks(blocks) => {
                let (channel, pixel) =
                    (at / (blocks.height * blocks.width), at % (blocks.height * blocks.width));
                let at = blocks.channel(channel)
                    + pixel / blocks.width * blocks.row()
                    + pixel % blocks.width * LANES;
                blocks.number(channel, arena.read(at..at + 1)[0])
            }
        };
        for (index, outer) in self.outer.iter().enumerate() {
            let to = self.to + (index * CHUNK + column) * self.inner.len();
            let target = own.write(to..to + self.inner.len());
            target.iter_mut().zip(&self.inner).for_each(|(t, inner)| *t = element(start + outer + inner));
        }
    }
}

/// A thread's memory for a head. Nothing is allocated after it was made.
pub(crate) struct HeadRun {
    arena: Arena,
    kept: Vec<u32>,
    outputs: Vec<Vec<f32>>,
}

impl HeadRun {
    /// `None` where there is no memory.
    pub(crate) fn new(head: &Head) -> Option<HeadRun> {
        let outputs = head.outputs.iter().map(|[before, after]| vec![0.0; before * after * head.most()]);
        Some(HeadRun {
            arena: Arena::new(head.floats)?,
            kept: Vec::with_capacity(head.most()),
            outputs: outputs.collect(),
        })
    }

    /// The anchors of the last decoding, ascending.
    pub(crate) fn kept(&self) -> &[u32] {
        &self.kept
    }

    /// Output `index` for the anchors that were kept.
    pub(crate) fn output(&self, head: &Head, index: usize) -> &[f32] {
        let floats = head.outputs.get(index).map_or(0, |[before, after]| before * after) * self.kept.len();
        self.outputs.get(index).and_then(|output| output.get(..floats)).unwrap_or_default()
    }

    /// Decodes the anchors with a score from `lowest` on, after the body has run on `body`. False where there
    /// are too many.
    pub(crate) fn decode(&mut self, head: &Head, body: &Machine<'_>, lowest: f32) -> bool {
        self.kept.clear();
        if !head
            .levels
            .iter()
            .all(|level| level.scan.run(&body.arena, lowest, level.level.first, &mut self.kept))
        {
            return false;
        }
        for level in &head.levels {
            let Level { first, count } = level.level;
            let place = |anchor: usize| self.kept.partition_point(|kept| (*kept as usize) < anchor);
            let (mut place, end) = (place(first), place(first + count));
            while place < end {
                let anchors = CHUNK.min(end - place);
                self.chunk(head, level, body, place, anchors);
                place += anchors;
            }
        }
        true
    }

    /// Decodes kept anchors `place` to `place + anchors`, which are all of one level.
    fn chunk(&mut self, head: &Head, level: &LevelPlan, body: &Machine<'_>, place: usize, anchors: usize) {
        let mut own = self.arena.whole();
        for (column, anchor) in self.kept.iter().skip(place).take(anchors).enumerate() {
            let anchor = (*anchor as usize).saturating_sub(level.level.first);
            level
                .gathers
                .iter()
                .for_each(|gather| gather.run((&body.arena, body.weights), &mut own, anchor, column));
        }
        let mut machine = Machine { arena: own, worker: 0, kernels: body.kernels, weights: body.weights };
        for (_, step) in &level.steps {
            (0..step.items()).for_each(|item| step.run(&mut machine, item));
        }
        for ((output, [before, after]), from) in
            self.outputs.iter_mut().zip(&head.outputs).zip(&level.outputs)
        {
            let source = machine.arena.read(*from..from + before * after * CHUNK);
            let rows =
                output.chunks_exact_mut(self.kept.len() * after).zip(source.chunks_exact(CHUNK * after));
            for (target, source) in rows.take(*before) {
                let range = place * after..(place + anchors) * after;
                if let Some(target) = target.get_mut(range) {
                    target.iter_mut().zip(source).for_each(|(t, s)| *t = *s);
                }
            }
        }
    }
}
