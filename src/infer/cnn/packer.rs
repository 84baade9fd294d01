//! Where the weights of a plan go: first they are only counted, then written into room of exactly that size.
//!
//! Lowering a graph ([`super::lower`]) takes room for weights piece by piece, in an order that depends on
//! shapes alone. So a process that has the graph and not the weights finds each piece where the process that
//! wrote them has put it, without believing a single offset; and how much memory a model needs is known
//! before any of it is allocated.

use crate::infer::shared::SharedFloats;
use std::fmt;
use std::ops::Deref;

/// Floats of a cache line.
const LINE_FLOATS: usize = 16;

/// Counts weights, or writes them.
pub(super) struct Packer<'a> {
    floats: usize,
    /// Zeros at first. `None`: only counts.
    room: Option<&'a mut [f32]>,
}

impl<'a> Packer<'a> {
    /// A packer that writes nothing and says how much it would.
    pub(super) fn counting() -> Packer<'static> {
        Packer { floats: 0, room: None }
    }

    /// Writes into room that holds zeros.
    pub(super) fn into(room: &'a mut [f32]) -> Packer<'a> {
        Packer { floats: 0, room: Some(room) }
    }

    /// Floats taken so far.
    pub(super) fn floats(&self) -> usize {
        self.floats
    }

    /// As [`Packer::take`], from the start of a cache line of weights that begin at one.
    pub(super) fn take_line(
        &mut self,
        floats: usize,
        fill: impl FnOnce(&mut [f32]) -> Option<()>,
    ) -> Option<usize> {
        let line = self.floats.checked_next_multiple_of(LINE_FLOATS)?;
        self.take(line - self.floats, |_| Some(()))?;
        self.take(floats, fill)
    }

    /// Takes the next `floats`, which `fill` writes; where they begin. `None`: no room, or `fill` failed.
    pub(super) fn take(
        &mut self,
        floats: usize,
        fill: impl FnOnce(&mut [f32]) -> Option<()>,
    ) -> Option<usize> {
        let start = self.floats;
        let end = start.checked_add(floats)?;
        if let Some(room) = &mut self.room {
            fill(room.get_mut(start..end)?)?;
        }
        self.floats = end;
        Some(start)
    }
}

/// The weights of a plan, packed.
pub(super) enum Weights {
    /// In memory of this process.
    Own(Lines),
    /// Written by another process, and sealed.
    Shared(SharedFloats),
}

/// Floats that begin at a cache line.
#[derive(Default)]
pub(super) struct Lines {
    room: Vec<f32>,
    start: usize,
    floats: usize,
}

impl Lines {
    /// Zeros; `None` where there is no memory.
    pub(super) fn new(floats: usize) -> Option<Lines> {
        let mut room = Vec::new();
        room.try_reserve_exact(floats.checked_add(LINE_FLOATS)?).ok()?;
        room.resize(floats + LINE_FLOATS, 0.0);
        let start = room.as_ptr().align_offset(LINE_FLOATS * size_of::<f32>()).min(LINE_FLOATS);
        Some(Lines { room, start, floats })
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [f32] {
        self.room.get_mut(self.start..self.start + self.floats).unwrap_or_default()
    }

    fn as_slice(&self) -> &[f32] {
        self.room.get(self.start..self.start + self.floats).unwrap_or_default()
    }
}

impl Deref for Weights {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Weights::Own(lines) => lines.as_slice(),
            Weights::Shared(floats) => floats.as_slice(),
        }
    }
}

impl fmt::Debug for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} floats", self.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn counting_and_writing_give_the_same_places() {
        let mut room = [0.0; 5];
        for mut packer in [Packer::counting(), Packer::into(&mut room)] {
            assert_eq!(
                packer.take(2, |room| {
                    room.fill(1.0);
                    Some(())
                }),
                Some(0)
            );
            assert_eq!(
                packer.take(3, |room| {
                    room.fill(2.0);
                    Some(())
                }),
                Some(2)
            );
            assert_eq!(packer.floats(), 5);
        }
        assert_eq!(room, [1.0, 1.0, 2.0, 2.0, 2.0]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut room = [0.0; 2];
        assert_eq!(Packer::into(&mut room).take(3, |_| Some(())), None);
        let mut packer = Packer::counting();
        packer.take(usize::MAX, |_| None).unwrap();
        assert_eq!(packer.take(1, |_| None), None);
    }
}
