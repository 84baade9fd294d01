//! Temporal layers of H.265: pictures of a layer refer to those of their own and lower ones only, so the highest
//! layers can be left undecoded as a whole, pictures that others refer to among them.
//!
//! ```text
//! layer 2    b   b   b   b      at level 0 with every sixth wanted, decoded are
//! layer 1      B       B        all of layer 0, and of layer 1 what is wanted where
//! layer 0  P       P       P    one may change to that layer (TSA, STSA)
//! shown    0 1 2 3 4 5 6 7 8
//! ```
//!
//! Up to the level everything is decoded. Of the layer above, a picture that refers to none of its own layer (its type
//! says so) can be decoded by itself. The level may fall at any picture; it rises where nothing that follows refers to
//! what was left out.

use crate::capture::worker::decode::{Layer, Switch};
use heapless::Vec;

/// Pictures by which it is judged how far apart those are that can be had: three groups of the longest usual kind.
const LOOKED_AT: usize = 48;

/// Fewer say nothing: one such group.
const MIN_LOOKED_AT: usize = 16;

/// Layers that there can be (`nuh_temporal_id_plus1` has three bits and is not 0).
const HIGHEST: u8 = 6;

/// Where not one of so many pictures is left out, nothing is gained by leaving out layers.
const MIN_STRIDE: f64 = 2.0;

/// Most pictures that come later and are shown earlier: more the standard lets no decoder hold.
const MAX_TO_COME: i64 = 16;

/// A picture that came.
#[derive(Debug, Clone, Copy)]
struct Seen {
    place: i64,
    layer: Layer,
}

/// What its layer says of leaving a picture out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Others that are decoded may need it.
    Needed,
    /// It can be decoded, and nothing that is decoded needs it.
    Free,
    /// It may need what was left out.
    OutOfReach,
}

/// Which temporal layers the last pictures were of, and up to which one all are decoded.
#[derive(Debug)]
pub(super) struct Layers {
    /// Those that are shown last, in order of presentation.
    seen: Vec<Seen, LOOKED_AT>,
    /// All of the layers up to this one is decoded.
    level: u8,
    /// What it shall be.
    target: u8,
    /// It rises with the first picture that is shown after this place, where decoding may begin: those before may need
    /// what was left out.
    rises_after: Option<i64>,
}

impl Layers {
    pub(super) fn new() -> Layers {
        Layers { seen: Vec::new(), level: HIGHEST, target: HIGHEST, rises_after: None }
    }

    /// A picture came that is shown at this place. `begins`: decoding may begin with it. Of so many pictures one is
    /// wanted.
    pub(super) fn picture(&mut self, layer: Layer, place: i64, begins: bool, stride: f64) -> Standing {
        self.remember(layer, place);
        if layer.id == 0 || stride < MIN_STRIDE {
            self.target = self.target(stride);
        }
        if self.target <= self.level {
            (self.level, self.rises_after) = (self.target, None);
        } else if begins {
            self.rises_after = Some(place);
        } else if self.rises_after.is_some_and(|begin| place > begin) {
            (self.level, self.rises_after) = (self.target, None);
        } else if layer.id == self.level + 1 {
            match layer.switch {
                Switch::No => {}
                Switch::ToThis => self.level = layer.id,
                Switch::ToAll => self.level = self.target,
            }
        }
        if layer.id <= self.level {
            Standing::Needed
        } else if can_be_had(layer, self.level) {
            Standing::Free
        } else {
            Standing::OutOfReach
        }
    }

    fn remember(&mut self, layer: Layer, place: i64) {
        if self.seen.is_full() {
            self.seen.remove(0);
        }
        let at = self.seen.partition_point(|seen| seen.place <= place);
        // There is room.
        let _ = self.seen.insert(at, Seen { place, layer });
    }

    /// The lowest level at which no picture is late by more than half of what lies between two that are wanted.
    fn target(&self, stride: f64) -> u8 {
        if stride < MIN_STRIDE || self.seen.len() < MIN_LOOKED_AT {
            return HIGHEST;
        }
        let highest = self.seen.iter().map(|seen| seen.layer.id).max().unwrap_or(HIGHEST);
        let is_dense = |level: &u8| self.gap(*level).saturating_sub(1) as f64 <= stride / 2.0;
        (0..highest).find(is_dense).unwrap_or(HIGHEST)
    }

    /// Most pictures from one that can be had at a level to the next. Of layer 0, all can be had at each.
    fn gap(&self, level: u8) -> usize {
        // Before the first one there is no gap: what was there is forgotten.
        let rest = self.seen.iter().skip_while(|seen| !can_be_had(seen.layer, level));
        let (mut widest, mut since) = (0, 0);
        for seen in rest {
            since += 1;
            if can_be_had(seen.layer, level) {
                widest = widest.max(since);
                since = 0;
            }
        }
        widest.max(since)
    }

    /// How many pictures are to come that are shown before this place, if pictures lie evenly. `waiting`: places of those
    /// that came and whose turn has not, lowest first.
    pub(super) fn to_come(&self, place: i64, waiting: impl Iterator<Item = i64> + Clone) -> usize {
        let first = waiting.clone().next().map_or(place, |first| first.min(place));
        let known = waiting.take_while(|waits| *waits < place).count();
        let before = self.seen.iter().rev().find(|seen| seen.place < first);
        let steps = self.seen.windows(2).map(|pair| pair[1].place - pair[0].place).filter(|step| *step > 0);
        let (Some(before), Some(step)) = (before, steps.min()) else { return 0 };
        let missing = ((place - before.place) / step - 1).clamp(0, MAX_TO_COME);
        usize::try_from(missing).unwrap_or(0).saturating_sub(known)
    }
}

/// Whether a picture can be decoded where all of the layers up to the level is.
fn can_be_had(layer: Layer, level: u8) -> bool {
    layer.id <= level || (layer.id == level + 1 && layer.switch != Switch::No)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A group of eight in order of decoding, as x265 makes it with four layers: place, layer.
    const GROUP: [(i64, u8, Switch); 8] = [
        (8, 0, Switch::No),
        (4, 1, Switch::ToAll),
        (2, 2, Switch::ToAll),
        (1, 3, Switch::ToAll),
        (3, 3, Switch::ToAll),
        (6, 2, Switch::No),
        (5, 3, Switch::ToAll),
        (7, 3, Switch::ToAll),
    ];

    /// So many groups: what each picture of the last one is.
    fn play(layers: &mut Layers, groups: i64, stride: f64) -> std::vec::Vec<Standing> {
        let mut last = std::vec::Vec::new();
        for _ in 0..groups {
            let start = layers.seen.last().map_or(0, |seen| seen.place);
            let judge = |(place, id, switch): &(i64, u8, Switch)| {
                layers.picture(Layer { id: *id, switch: *switch }, start + place, false, stride)
            };
            last = GROUP.iter().map(judge).collect();
        }
        last
    }

    #[test]
    fn the_level_follows_what_is_wanted() {
        use Standing::{Free, Needed, OutOfReach};
        let mut layers = Layers::new();
        assert_eq!(play(&mut layers, 1, 6.0), [Needed; 8], "too few are known");
        // Layer 0 and what can be had above it are every fourth: late by half of six at most.
        let every_sixth =
            [Needed, Free, OutOfReach, OutOfReach, OutOfReach, OutOfReach, OutOfReach, OutOfReach];
        assert_eq!(play(&mut layers, 4, 6.0), every_sixth);
        // Layer 3 can be had above layer 2.
        assert_eq!(play(&mut layers, 4, 5.0), [Needed, Needed, Needed, Free, Free, Needed, Free, Free]);
        // More are wanted: up at the next picture that lets everything above follow.
        assert_eq!(play(&mut layers, 1, 1.0), [Needed; 8]);
        assert_eq!(play(&mut layers, 1, 6.0), every_sixth);
    }

    #[test]
    fn without_a_place_to_rise_it_stays_until_decoding_may_begin() {
        let mut layers = Layers::new();
        let picture = |layers: &mut Layers, place: i64, id: u8, begins: bool, stride: f64| {
            layers.picture(Layer { id, switch: Switch::No }, place, begins, stride)
        };
        for place in 0..40 {
            picture(&mut layers, place, u8::from(place % 2 == 1), false, 6.0);
        }
        assert_eq!(layers.level, 0);
        assert_eq!(picture(&mut layers, 40, 0, false, 1.0), Standing::Needed);
        assert_eq!(picture(&mut layers, 41, 1, false, 1.0), Standing::OutOfReach);
        assert_eq!(picture(&mut layers, 45, 0, true, 1.0), Standing::Needed);
        // Shown before it, it may need what lies before.
        assert_eq!(picture(&mut layers, 44, 1, false, 1.0), Standing::OutOfReach);
        assert_eq!(picture(&mut layers, 46, 1, false, 1.0), Standing::Needed);
    }

    #[test]
    fn what_is_to_come_before_a_picture_is_known_from_places() {
        let mut layers = Layers::new();
        (0..2).for_each(|_| _ = play(&mut layers, 1, 1.0));
        // 1 to 16 came; now 24, 20, 18.
        let place = |place| layers.to_come(place, std::iter::empty());
        assert_eq!((place(17), place(18), place(20), place(24), place(1000)), (0, 1, 3, 7, 16));
        assert_eq!(layers.to_come(20, [18, 24].into_iter()), 2);
        assert_eq!(Layers::new().to_come(20, [18, 24].into_iter()), 0);
    }
}
