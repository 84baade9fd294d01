//! From decoding order to presentation order, with bounded delay.

use std::collections::VecDeque;

/// Most pictures that either codec may hold back (H.264 §A.3.1: MaxDpbFrames, H.265 §A.4.2: MaxDpbSize).
pub(super) const MAX_DEPTH: usize = 16;

/// How many pictures a stream may need held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// The stream says so itself.
    Known(usize),
    /// The stream says nothing: at most so many. A picture goes out sooner when its order count follows on the last one's, so
    /// that a camera without B-frames is not delayed by a rule made for discs.
    AtMost(usize),
}

/// Usual distance of order counts between two frames: one for each field.
const USUAL_STEP: i32 = 2;

/// Holds pictures until it is their turn.
#[derive(Debug)]
pub(super) struct Reorder<T> {
    depth: Depth,
    /// Sorted by order count; at most `MAX_DEPTH + 1`.
    held: VecDeque<(i32, T)>,
    /// Order count of the picture output last since the start of the coded sequence.
    last: Option<i32>,
    /// Distance that counts as "follows on"; grows when a whole depth of pictures came in order with a larger one.
    step: i32,
    /// Pictures in a row that came in order.
    in_order: usize,
}

impl<T> Reorder<T> {
    pub(super) fn new() -> Self {
        Reorder {
            depth: Depth::Known(0),
            held: VecDeque::with_capacity(MAX_DEPTH + 1),
            last: None,
            step: USUAL_STEP,
            in_order: 0,
        }
    }

    pub(super) fn set_depth(&mut self, depth: Depth) {
        self.depth = depth;
    }

    /// A picture comes out of the decoder. Take what is due with [`Reorder::due`].
    pub(super) fn push(&mut self, order: i32, picture: T) {
        let place = self.held.partition_point(|(other, _)| *other <= order);
        if self.last.is_some_and(|last| order < last) || place < self.held.len() {
            // Out of order: B-frames. A step that was learnt from pictures in order was wrong.
            self.in_order = 0;
            self.step = self.last.map_or(self.step, |last| if order < last { 1 } else { self.step.min(USUAL_STEP) });
        } else {
            self.in_order += 1;
        }
        self.held.insert(place, (order, picture));
    }

    /// The next picture whose turn it is, and its order count.
    pub(super) fn due(&mut self) -> Option<(i32, T)> {
        let &(order, _) = self.held.front()?;
        let due = match self.depth {
            Depth::Known(depth) => self.held.len() > depth.min(MAX_DEPTH),
            Depth::AtMost(depth) => {
                let depth = depth.min(MAX_DEPTH);
                let follows = self.last.is_none_or(|last| order.saturating_sub(last) <= self.step);
                if !follows && self.held.len() > depth && self.in_order > depth.max(1) * 2 {
                    // Nothing was ever reordered and still nothing follows on: this stream counts in larger steps.
                    self.step = self.last.map_or(self.step, |last| order.saturating_sub(last));
                }
                follows || self.held.len() > depth
            }
        };
        if due { self.take() } else { None }
    }

    /// The next picture, due or not.
    pub(super) fn take(&mut self) -> Option<(i32, T)> {
        let (order, picture) = self.held.pop_front()?;
        self.last = Some(order);
        Some((order, picture))
    }

    /// A coded sequence is over, and everything that was held is out: the next one counts anew.
    pub(super) fn restart(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Order counts in decoding order → for each push, what came out.
    fn run(depth: Depth, orders: &[i32]) -> Vec<Vec<i32>> {
        let mut reorder = Reorder::new();
        reorder.set_depth(depth);
        let mut out = Vec::new();
        for &order in orders {
            reorder.push(order, order);
            out.push(std::iter::from_fn(|| reorder.due()).map(|(_, order)| order).collect());
        }
        out.push(std::iter::from_fn(|| reorder.take()).map(|(_, order)| order).collect());
        out
    }

    #[test]
    fn a_stream_without_b_frames_is_not_delayed() {
        for depth in [Depth::Known(0), Depth::AtMost(4)] {
            assert_eq!(run(depth, &[0, 2, 4, 6]), [vec![0], vec![2], vec![4], vec![6], vec![]]);
        }
    }

    #[test]
    fn b_frames_come_out_in_order() {
        let orders = [0, 8, 4, 2, 6, 16, 12, 10, 14];
        for depth in [Depth::Known(2), Depth::AtMost(4)] {
            let all: Vec<i32> = run(depth, &orders).concat();
            assert_eq!(all, [0, 2, 4, 6, 8, 10, 12, 14, 16], "{depth:?}");
        }
    }

    #[test]
    fn delay_is_never_above_the_depth() {
        let out = run(Depth::Known(2), &[0, 100, 200, 300]);
        assert_eq!(out, [vec![], vec![], vec![0], vec![100], vec![200, 300]]);
    }

    #[test]
    fn larger_steps_are_learnt_and_then_cost_no_delay() {
        let orders: Vec<i32> = (0..40).map(|n| n * 10).collect();
        let out = run(Depth::AtMost(4), &orders);
        assert_eq!(out.concat(), orders);
        assert_eq!(out.get(30), Some(&vec![300]));
    }

    #[test]
    fn wild_order_counts_neither_panic_nor_pile_up() {
        let mut state = 1_u32;
        let mut reorder = Reorder::new();
        reorder.set_depth(Depth::AtMost(MAX_DEPTH));
        for _ in 0..10_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            reorder.push(state.cast_signed(), ());
            while reorder.due().is_some() {}
            assert!(reorder.held.len() <= MAX_DEPTH);
        }
    }
}
