//! From decoding order to presentation order, with bounded delay.

/// Most pictures that either codec may hold back (H.264 §A.3.1: MaxDpbFrames, H.265 §A.4.2: MaxDpbSize).
pub(super) const MAX_DEPTH: usize = 16;
/// Those, the one that has just come out, and one that was still in the decoder.
const MAX_HELD: usize = MAX_DEPTH + 2;

/// How many pictures a stream may need held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// The stream says so itself.
    Known(usize),
    /// The stream says nothing: at most so many. A picture goes out sooner when its order count follows on
    /// the last one's, so that a camera without B-frames is not delayed by a rule made for discs. By how much
    /// order counts go up, the first pictures show: they wait until one comes that is shown after all others,
    /// and then those before the last such are whole.
    AtMost(usize),
}

/// Usual distance of order counts between two frames: one for each field. Some encoders count frames.
const USUAL_STEP: i32 = 2;

/// Holds pictures until it is their turn.
#[derive(Debug)]
pub(super) struct Reorder<T> {
    depth: Depth,
    /// Sorted by order count.
    held: heapless::Vec<(i32, T), MAX_HELD>,
    /// Order count of the picture output last since the start of the coded sequence.
    last: Option<i32>,
    /// Distance that counts as "follows on"; `None` until the stream has shown it. Grows when a whole depth
    /// of pictures came in order with a larger one.
    step: Option<i32>,
    /// Highest order count since the start of the coded sequence, and the one that was highest before it: no
    /// picture below that is to come.
    highest: Option<i32>,
    whole_below: Option<i32>,
    /// Sequences of this stream have pictures that are shown before their first.
    leads: bool,
    /// Pictures in a row that came in order.
    in_order: usize,
}

impl<T> Reorder<T> {
    pub(super) fn new() -> Self {
        Reorder {
            depth: Depth::Known(0),
            held: heapless::Vec::new(),
            last: None,
            step: None,
            highest: None,
            whole_below: None,
            leads: false,
            in_order: 0,
        }
    }

    pub(super) fn set_depth(&mut self, depth: Depth) {
        self.depth = depth;
    }

    /// A picture comes out of the decoder. Take what is due with [`Reorder::due`]. Answers a picture that there
    /// is no room for any more: the first, of an access unit in which there were more than any stream has.
    #[must_use]
    pub(super) fn push(&mut self, order: i32, picture: T) -> Option<T> {
        let squeezed = if self.held.is_full() { self.take().map(|(_, picture)| picture) } else { None };
        let place = self.held.partition_point(|(other, _)| *other <= order);
        let late = self.last.is_some_and(|last| order < last);
        if late || place < self.held.len() {
            // Out of order: B-frames. A step that was learnt from pictures in order was wrong.
            self.in_order = 0;
            self.step = self.step.map(|step| if late { 1 } else { step.min(USUAL_STEP) });
            self.leads |= self.whole_below.is_none();
        } else {
            self.in_order += 1;
        }
        let kept = self.held.insert(place, (order, picture));
        debug_assert!(kept.is_ok(), "room was made");
        if self.highest.is_none_or(|highest| order > highest) {
            self.whole_below = self.highest.replace(order);
            self.learn();
        }
        squeezed
    }

    /// From the pictures that are whole, how order counts go up.
    fn learn(&mut self) {
        let Some(whole_below) = self.whole_below.filter(|_| self.step.is_none()) else { return };
        let whole = self.held.iter().map(|(order, _)| *order).take_while(|order| *order <= whole_below);
        let orders: Vec<i32> = self.last.into_iter().chain(whole).collect();
        let smallest =
            orders.iter().zip(orders.iter().skip(1)).map(|(one, next)| next.saturating_sub(*one)).min();
        self.step = smallest.map(|smallest| smallest.clamp(1, USUAL_STEP));
    }

    /// The next picture whose turn it is, and its order count.
    pub(super) fn due(&mut self) -> Option<(i32, T)> {
        let &(order, _) = self.held.first()?;
        let due = match self.depth {
            Depth::Known(depth) => self.held.len() > depth.min(MAX_DEPTH),
            Depth::AtMost(depth) => {
                let depth = depth.min(MAX_DEPTH);
                let full = self.held.len() > depth;
                let follows = match (self.last, self.step) {
                    (Some(last), Some(step)) => order.saturating_sub(last) <= step,
                    (None, Some(_)) if !self.leads => true,
                    _ => self.whole_below.is_some_and(|whole| order <= whole),
                };
                if let (Some(last), Some(_)) = (self.last, self.step)
                    && !follows
                    && full
                    && self.in_order > depth.max(1) * 2
                {
                    // Nothing was ever reordered and still nothing follows on: this stream counts in larger
                    // steps.
                    self.step = Some(order.saturating_sub(last));
                }
                follows || full
            }
        };
        if due { self.take() } else { None }
    }

    /// The next picture, due or not.
    pub(super) fn take(&mut self) -> Option<(i32, T)> {
        if self.held.is_empty() {
            return None;
        }
        let (order, picture) = self.held.remove(0);
        self.last = Some(order);
        Some((order, picture))
    }

    /// A coded sequence is over, and everything that was held is out: the next one counts anew.
    pub(super) fn restart(&mut self) {
        (self.last, self.highest, self.whole_below) = (None, None, None);
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
            assert_eq!(reorder.push(order, order), None);
            out.push(std::iter::from_fn(|| reorder.due()).map(|(_, order)| order).collect());
        }
        out.push(std::iter::from_fn(|| reorder.take()).map(|(_, order)| order).collect());
        out
    }

    #[test]
    fn a_stream_without_b_frames_is_not_delayed() {
        assert_eq!(run(Depth::Known(0), &[0, 2, 4, 6]), [vec![0], vec![2], vec![4], vec![6], vec![]]);
        // Where the stream says nothing, its first pictures do.
        assert_eq!(
            run(Depth::AtMost(4), &[0, 2, 4, 6, 8]),
            [vec![], vec![0], vec![2, 4], vec![6], vec![8], vec![]]
        );
    }

    #[test]
    fn order_counts_that_go_up_by_one_are_seen_in_time() {
        let all: Vec<i32> = run(Depth::AtMost(4), &[0, 2, 1, 4, 3, 6, 5]).concat();
        assert_eq!(all, [0, 1, 2, 3, 4, 5, 6]);
        let all: Vec<i32> = run(Depth::AtMost(4), &[0, 4, 2, 1, 3, 8, 6, 5, 7]).concat();
        assert_eq!(all, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn pictures_that_are_shown_before_the_first_come_out_before_it() {
        let mut reorder = Reorder::new();
        reorder.set_depth(Depth::AtMost(9));
        let mut out = Vec::new();
        for _ in 0..3 {
            for order in [0, -6, -4, -2, 4, 2] {
                assert_eq!(reorder.push(order, ()), None);
                out.extend(std::iter::from_fn(|| reorder.due()).map(|(order, ())| order));
            }
            out.extend(std::iter::from_fn(|| reorder.take()).map(|(order, ())| order));
            reorder.restart();
        }
        assert_eq!(out, [-6, -4, -2, 0, 2, 4].repeat(3));
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
            assert_eq!(reorder.push(state.cast_signed(), ()), None);
            while reorder.due().is_some() {}
            assert!(reorder.held.len() <= MAX_DEPTH);
        }
    }

    /// A hostile access unit may hold any number of pictures.
    #[test]
    fn of_too_many_pictures_in_a_unit_the_first_go() {
        let mut reorder = Reorder::new();
        reorder.set_depth(Depth::Known(2));
        let squeezed: Vec<i32> = (0..1000).filter_map(|order| reorder.push(order, order)).collect();
        assert_eq!(squeezed, (0..1000 - MAX_HELD as i32).collect::<Vec<_>>());
        let due: Vec<i32> = std::iter::from_fn(|| reorder.due()).map(|(order, _)| order).collect();
        assert_eq!(due, (1000 - MAX_HELD as i32..998).collect::<Vec<_>>());
    }
}
