//! What an inference thread needs for a job: an arena per model that was run here, and buffers that are used
//! again.

use super::family::{Outputs, Scratch};
use super::model::Holder;
use super::{Done, Engine, Job, Model, Run, Thresholds};
use crate::clock::Wall;
use crate::detection::Detection;
use crate::error::{Error, Kind, Result};
use crate::geometry::{Placement, ToSource};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// A job and where its answer goes.
pub(crate) struct Task {
    pub(crate) job: Job,
    pub(crate) done: async_channel::Sender<Done>,
}

/// Time of this thread on a core, where it computes itself: others may have had the core meanwhile.
enum Clock {
    Wall(Instant),
    Thread(Duration),
}

impl Clock {
    fn start(computes_here: bool) -> Clock {
        if computes_here { Clock::Thread(on_core()) } else { Clock::Wall(Instant::now()) }
    }

    fn elapsed(&self) -> Duration {
        match self {
            Clock::Wall(started) => started.elapsed(),
            Clock::Thread(started) => on_core().saturating_sub(*started),
        }
    }
}

fn on_core() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

fn no_arena() -> Error {
    Error::new(Kind::Inference, "no arena for the model")
}

/// An answer and where it goes.
pub(crate) struct Answer {
    done: Done,
    to: async_channel::Sender<Done>,
}

impl Answer {
    /// Waits where the pipeline has not taken its earlier answers.
    pub(crate) fn send(self) {
        // Fails when the pipeline is gone: then nobody misses it.
        let _ = self.to.send_blocking(self.done);
    }
}

/// The tools for one job at a time.
pub(crate) struct Workbench {
    /// Told by models when they go.
    holder: Weak<dyn Holder>,
    arenas: Vec<Arena>,
    /// A copy of the slot, so that the model reads memory no worker can change.
    pixels: Vec<u8>,
    scratch: Scratch,
}

struct Arena {
    model: Weak<Model>,
    run: Box<dyn Run>,
    /// Runs that are still to tell what a frame takes.
    telling: u32,
}

/// First runs in an arena that keep to one core and tell what they took of it: the first brings the arena's
/// pages and the weights into memory, the shortest counts.
const TELLING_RUNS: u32 = 3;

impl Workbench {
    /// Nothing is allocated yet.
    pub(crate) fn new(holder: Weak<dyn Holder>) -> Workbench {
        Workbench { holder, arenas: Vec::new(), pixels: Vec::new(), scratch: Scratch::default() }
    }

    /// Whether it has an arena for this model.
    pub(crate) fn knows(&self, model: &Arc<Model>) -> bool {
        self.place(model).is_some()
    }

    fn place(&self, model: &Arc<Model>) -> Option<usize> {
        self.arenas.iter().position(|arena| std::ptr::eq(arena.model.as_ptr(), Arc::as_ptr(model)))
    }

    /// Frees the arenas of models that are gone.
    pub(crate) fn sweep(&mut self) {
        self.arenas.retain(|arena| arena.model.strong_count() > 0);
        if self.arenas.is_empty() {
            self.pixels = Vec::new();
            self.scratch = Scratch::default();
        }
    }

    /// Frames of one model: pixels in, detections out, an answer for each at the end of `answers`. A panic in
    /// the engine is an error of this batch, one in the decoder of its frame.
    pub(crate) fn run(&mut self, batch: &mut Vec<Task>, answers: &mut Vec<Answer>) {
        let (started, clock) = (Wall::now(), Instant::now());
        let Some(model) = batch.first().map(|task| task.job.model.clone()) else { return };
        let mut outcome = catch_unwind(AssertUnwindSafe(|| self.infer(&model, batch))).unwrap_or_else(|_| {
            // Whatever the arena holds now is not to be trusted.
            self.arenas.retain(|arena| !std::ptr::eq(arena.model.as_ptr(), Arc::as_ptr(&model)));
            Err(Error::new(Kind::Inference, "the model panicked on a frame"))
        });
        for (frame, Task { job, done: to }) in batch.drain(..).enumerate() {
            let Job { ticket, placement, thresholds, mut detections, .. } = job;
            detections.clear();
            let outcome = match &mut outcome {
                Ok(()) => {
                    let read = AssertUnwindSafe(|| {
                        self.read(&model, frame, &placement, &thresholds, &mut detections)
                    });
                    catch_unwind(read).unwrap_or_else(|_| {
                        self.scratch = Scratch::default();
                        Err(Error::new(Kind::Inference, "decoding a frame panicked"))
                    })
                }
                Err(error) => {
                    // The first frame tells the cause; a cause cannot be copied.
                    let again = Error::new(error.kind(), error.message().to_owned());
                    Err(std::mem::replace(error, again))
                }
            };
            let done = Done { ticket, outcome: outcome.map(|()| detections), started, took: clock.elapsed() };
            answers.push(Answer { done, to });
        }
    }

    /// Fills the input with every frame, and runs.
    fn infer(&mut self, model: &Arc<Model>, batch: &[Task]) -> Result<()> {
        let place = self.arena(model)?;
        let Arena { run, telling, .. } = self.arenas.get_mut(place).ok_or_else(no_arena)?;
        let rule = model.rule();
        self.pixels.resize(rule.slot_bytes(), 0);
        run.expect_frames(batch.len());
        let mut lowest = f32::INFINITY;
        for (frame, Task { job, .. }) in batch.iter().enumerate() {
            job.pixels.copy_slot(job.ticket.slot, &mut self.pixels);
            run.select_frame(frame);
            model.fill().give(&self.pixels, &mut **run, rule, &job.placement);
            lowest = lowest.min(job.thresholds.confidence);
        }
        run.expect_scores_from(model.family().lowest_raw(lowest));
        if *telling == 0 {
            return run.execute();
        }
        *telling -= 1;
        run.keep_alone();
        let clock = Clock::start(model.computes_here());
        run.execute()?;
        model.note_of_frame(clock.elapsed() / u32::try_from(batch.len()).unwrap_or(u32::MAX).max(1));
        Ok(())
    }

    /// Decodes one frame of the last run into `detections`.
    fn read(
        &mut self,
        model: &Arc<Model>,
        frame: usize,
        placement: &Placement,
        thresholds: &Thresholds,
        detections: &mut Vec<Detection>,
    ) -> Result<()> {
        let place = self.arena(model)?;
        let run = &mut self.arenas.get_mut(place).ok_or_else(no_arena)?.run;
        run.select_frame(frame);
        decode(model, run.as_ref(), placement, thresholds, &mut self.scratch, detections);
        Ok(())
    }

    /// Index of the arena for `model`, made when it is run here for the first time.
    fn arena(&mut self, model: &Arc<Model>) -> Result<usize> {
        if let Some(place) = self.place(model) {
            return Ok(place);
        }
        model.held_by(self.holder.clone());
        let run = model.engine().new_run()?;
        self.arenas.push(Arena { model: Arc::downgrade(model), run, telling: TELLING_RUNS });
        Ok(self.arenas.len() - 1)
    }
}

/// The outputs of a run of `model`.
fn outputs<'a>(model: &'a Model, run: &'a dyn Run) -> Outputs<'a> {
    let side = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
    let fill = model.fill();
    Outputs {
        shapes: model.engine().output_shapes(),
        run,
        width: side(fill.width),
        height: side(fill.height),
    }
}

/// What a run of `model` found on a frame, as detections on it.
fn decode(
    model: &Model,
    run: &dyn Run,
    placement: &Placement,
    thresholds: &Thresholds,
    scratch: &mut Scratch,
    detections: &mut Vec<Detection>,
) {
    model.family().detect(&outputs(model, run), thresholds, scratch);
    let back = ToSource::new(model.rule(), placement, model.family().rounding());
    // A class without a name can only come from a model that was not validated: there is nothing to report it
    // by.
    let named =
        scratch.candidates.iter().filter(|candidate| (candidate.class_id as usize) < model.classes().len());
    detections.extend(named.filter_map(|candidate| candidate.on_frame(&back)));
}

/// What a model finds on one picture (planes R, G, B, and where it lies in the source).
pub(crate) fn find(
    model: &Model,
    run: &mut dyn Run,
    (slot, placement): (&[u8], &Placement),
    thresholds: &Thresholds,
    scratch: &mut Scratch,
    detections: &mut Vec<Detection>,
) -> Result<()> {
    model.fill().give(slot, run, model.rule(), placement);
    run.expect_scores_from(model.family().lowest_raw(thresholds.confidence));
    run.execute()?;
    decode(model, run, placement, thresholds, scratch, detections);
    Ok(())
}

/// Runs a model once on noise, as a test, on `engine`: the model's own, or one that can do less harm. What
/// its outputs show to be otherwise than their shapes said is corrected; what is odd about them is given
/// back. `finite`: outputs that are infinite or no numbers are an error.
pub(crate) fn try_out(model: &mut Model, engine: &dyn Engine, finite: bool) -> Result<Option<&'static str>> {
    let rule = model.rule();
    let placement = rule
        .place(rule.width, rule.height)
        .ok_or_else(|| Error::new(Kind::Inference, "the crop is empty"))?;
    let mut noise = vec![0; rule.slot_bytes()];
    // A multiplicative generator (Knuth's constant): any picture will do, but always the same.
    noise
        .iter_mut()
        .enumerate()
        .for_each(|(index, byte)| *byte = ((index as u32).wrapping_mul(2_654_435_761) >> 24) as u8);
    let attempt = AssertUnwindSafe(|| {
        let mut run = engine.new_run()?;
        model.fill().give(&noise, run.as_mut(), model.rule(), &placement);
        run.expect_scores_from(f32::NEG_INFINITY);
        run.execute()?;
        let outputs = outputs(model, run.as_ref());
        let mut values = (0..outputs.shapes.len()).flat_map(|index| run.output(index));
        if finite && !values.all(|value| value.is_finite()) {
            return Err(Error::new(Kind::Inference, "its outputs are infinite or no numbers"));
        }
        let family = if model.is_recognised() { model.family().observed(&outputs) } else { model.family() };
        let odd = family.implausible(&outputs).filter(|_| model.is_recognised());
        let thresholds = Thresholds { confidence: 0.0, iou: 0.3, max_detections: 300, class_agnostic: false };
        family.detect(&outputs, &thresholds, &mut Scratch::default());
        Ok((family, odd))
    });
    let (family, odd) =
        catch_unwind(attempt).unwrap_or_else(|_| Err(Error::new(Kind::Inference, "the model panicked")))?;
    model.set_family(family);
    Ok(odd)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::family::{Family, test_run::Fixed};
    use super::super::fill::{Fill, Scale};
    use super::super::model::Parts;
    use super::*;
    use crate::geometry::{Fit, InputRule};

    /// Every run ends with one anchor whose score is this.
    struct Scoring(f32, Vec<Vec<usize>>);

    impl Engine for Scoring {
        fn new_run(&self) -> Result<Box<dyn Run>> {
            Ok(Box::new(Fixed::new([(vec![1, 5, 1], vec![1.0, 1.0, 1.0, 1.0, self.0])])))
        }
        fn name(&self) -> &'static str {
            "scoring"
        }
        fn output_shapes(&self) -> &[Vec<usize>] {
            &self.1
        }
        fn weights_bytes(&self) -> usize {
            0
        }
        fn arena_bytes(&self) -> usize {
            0
        }
    }

    #[test]
    fn a_test_run_with_infinities_fails_where_numbers_are_asked_for() {
        let rule = InputRule {
            width: 2,
            height: 2,
            fit: Fit::Stretch,
            crop: None,
            grayscale: false,
            contrast: None,
        };
        for (score, is_number) in [(0.5, true), (f32::INFINITY, false), (f32::NAN, false)] {
            let engine = Arc::new(Scoring(score, vec![vec![1, 5, 1]]));
            let mut model = Model::new(Parts {
                id: String::from("scoring"),
                rule,
                fill: Fill { width: 2, height: 2, scale: Scale::Unit },
                classes: vec![String::from("thing")],
                family: Family::Yolov8,
                recognised: false,
                engine: engine.clone(),
            });
            assert_eq!(try_out(&mut model, engine.as_ref(), true).is_ok(), is_number, "{score}");
            assert!(try_out(&mut model, engine.as_ref(), false).is_ok(), "{score}");
        }
    }
}
