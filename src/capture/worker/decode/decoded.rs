//! Pictures that a decoder has given and whose turn has not come.

use super::Output;
use crate::capture::worker::picture::{Layout, Matrix, Picture, Plane, Range};
use crate::clock::Wall;
use crate::error::Result;

/// What an access unit came with and its picture shall go out with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    pub(super) time: Wall,
    /// Whether the picture is shown: [`AccessUnit::shown`](super::AccessUnit::shown).
    pub(super) shown: bool,
    /// From this picture on they are right; see [`Gate::From`](super::gate::Gate::From).
    pub(super) recovers: bool,
}

/// A decoded picture; planes without padding.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) layout: Layout,
    pub(super) planes: [Vec<u8>; 3],
    pub(super) range: Range,
    pub(super) matrix: Matrix,
    pub(super) stamp: Stamp,
}

impl Decoded {
    /// In the place of a picture that is not decoded, so that those around it come out when they would have.
    pub(super) fn nothing() -> Decoded {
        Decoded {
            width: 0,
            height: 0,
            layout: Layout::Gray,
            planes: Default::default(),
            range: Range::default(),
            matrix: Matrix::default(),
            stamp: Stamp { time: Wall::default(), shown: false, recovers: false },
        }
    }

    /// Gives it out, if it is to be seen.
    pub(super) fn show(&self, output: &mut Output<'_>) -> Result<()> {
        if !self.stamp.shown {
            return Ok(());
        }
        // Sides of a decoded picture are at most MAX_SIDE: `check` says so before anybody reads a row.
        let rows = self.layout.planes(self.width as usize, self.height as usize);
        let [y, u, v] = &self.planes;
        let plane = |data, (stride, _)| Plane { data, stride };
        let planes = [plane(y, rows[0]), plane(u, rows[1]), plane(v, rows[2])];
        let picture = Picture {
            width: self.width,
            height: self.height,
            layout: self.layout,
            planes,
            range: self.range,
            matrix: self.matrix,
        };
        picture.check()?;
        output(&picture, self.stamp.time)
    }
}

/// Samples of more than eight bits (host order), reduced to their upper eight.
pub(super) fn narrow(samples: impl Iterator<Item = u16>, depth: u8) -> Vec<u8> {
    let shift = u32::from(depth.saturating_sub(8)).min(8);
    // After the shift at most 255, unless the decoder gave a sample above its own depth.
    samples.map(|sample| u8::try_from(sample >> shift).unwrap_or(u8::MAX)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_bits_become_eight() {
        assert_eq!(narrow([0, 3, 4, 1023, 4000].into_iter(), 10), [0, 0, 1, 255, 255]);
    }
}
