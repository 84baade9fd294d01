//! Pictures at places that are computed: what deformable attention reads.

use super::Machine;

/// [`Sample`](crate::infer::cnn::graph::Op::Sample), ready to run.
pub(in crate::infer::cnn) struct Sample {
    pub from: usize,
    pub grid: usize,
    pub to: usize,
    /// Pictures, channels, height, width.
    pub size: [usize; 4],
    /// How many places of each picture are sampled.
    pub places: usize,
    pub align_corners: bool,
}

impl Sample {
    /// How many parts threads may take, each one picture.
    pub(super) fn items(&self) -> usize {
        self.size[0]
    }

    /// One picture, all channels.
    pub(super) fn run(&self, machine: &mut Machine<'_>, item: usize) {
        let [_, channels, height, width] = self.size;
        let (plane, places) = (height * width, self.places);
        let (from, grid) = (self.from + item * channels * plane, self.grid + item * places * 2);
        let to = self.to + item * channels * places;
        let reads = [from..from + channels * plane, grid..grid + places * 2];
        let ([picture, grid], [target]) = machine.arena.split(reads, [to..to + channels * places]);
        let pixel = |at: f32, length: usize| match self.align_corners {
            true => (at + 1.0) / 2.0 * (length as f32 - 1.0),
            false => ((at + 1.0) * length as f32 - 1.0) / 2.0,
        };
        for (place, at) in grid.chunks_exact(2).enumerate() {
            let (x, y) = (pixel(at[0], width), pixel(at[1], height));
            let (left, top) = (x.floor(), y.floor());
            let (right, below) = (x - left, y - top);
            // beyond the picture there are zeros; what is no number lies nowhere
            let (mut taps, mut count) = ([(0, 0.0); 4], 0);
            for (dy, dx) in [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)] {
                let inside =
                    |at: f32, length: usize| (at >= 0.0 && at < length as f32).then_some(at as usize);
                if let (Some(row), Some(column)) = (inside(top + dy, height), inside(left + dx, width)) {
                    let share = |part: f32, step: f32| if step > 0.0 { part } else { 1.0 - part };
                    taps[count] = (row * width + column, share(below, dy) * share(right, dx));
                    count += 1;
                }
            }
            for (channel, plane) in picture.chunks_exact(plane).enumerate() {
                target[channel * places + place] =
                    taps[..count].iter().map(|(at, share)| plane[*at] * share).sum();
            }
        }
    }
}
