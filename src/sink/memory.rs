//! The sink in memory: the last turns of a pipeline, for a client that comes and asks for them.

use super::datagram::{self, ClassNames, MAX_DATAGRAM_BYTES};
use super::delivery::Delivery;
use super::frame::{FrameInfo, Prediction};
use super::{Asked, KindOfSink, Open, Outlets};
use crate::error::Result;
use crate::json::{Object, Value};
use crate::schema::{Field, Kind};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Turns kept when the client does not say, as in the reference.
pub const DEFAULT_TURNS: usize = 64;

/// Turns kept at most. A turn holds up to 64 KiB for each source.
const MAX_TURNS: i128 = 256;

/// Longest `consumption_timeout` in seconds; whoever means "for ever" leaves it out.
const MAX_TIMEOUT_S: f64 = 86_400.0;

/// `results_buffer_size`: how many turns are kept for `consume`.
pub const RESULTS_BUFFER_SIZE: Field = Field::optional(
    "results_buffer_size",
    Kind::Integer { least: 1, most: Some(MAX_TURNS) },
    "Results that are kept, 64 unless given.",
);

/// Patience with a client that does not ask.
pub const CONSUMPTION_TIMEOUT: Field = Field::optional(
    "consumption_timeout",
    Kind::Seconds { most: MAX_TIMEOUT_S, above_zero: true },
    "Seconds without a `consume` after which the pipeline ends.",
);

const OUTPUTS: Field =
    Field::required("outputs", Kind::Texts, "Names under which the client wants the detections.");

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemorySink {
    /// Turns kept; the oldest goes when there are more.
    pub turns: usize,
    /// Names under which the client wants the detections.
    pub outputs: Rc<[String]>,
    /// The pipeline ends when nobody has asked for this long.
    pub timeout: Option<Duration>,
}

impl Asked for MemorySink {
    type Open = Results;

    const KIND: KindOfSink = KindOfSink {
        name: "memory_sink",
        schema: "MemorySinkConfiguration",
        fields: &[RESULTS_BUFFER_SIZE, OUTPUTS, CONSUMPTION_TIMEOUT],
        // Only a workflow is asked for its results.
        is_offered: false,
        from_flag: |_| None,
    };

    fn read(given: &Object) -> Result<MemorySink> {
        let outputs = OUTPUTS.value(given)?;
        let names = match outputs {
            Value::Array(names) => {
                names.iter().map(|name| name.as_str().map(str::to_owned)).collect::<Option<Rc<[String]>>>()
            }
            _ => None,
        };
        let turns = RESULTS_BUFFER_SIZE.integer(given)?.and_then(|turns| usize::try_from(turns).ok());
        Ok(MemorySink {
            turns: turns.unwrap_or(DEFAULT_TURNS),
            outputs: names.ok_or_else(|| OUTPUTS.refuse(outputs))?,
            timeout: CONSUMPTION_TIMEOUT.number(given)?.map(Duration::from_secs_f64),
        })
    }

    fn write(&self, to: &mut Object) {
        to.push(RESULTS_BUFFER_SIZE.name, Value::Integer(self.turns as i128));
        to.push(OUTPUTS.name, Value::Array(self.outputs.iter().cloned().map(Value::String).collect()));
        if let Some(timeout) = self.timeout {
            to.push(CONSUMPTION_TIMEOUT.name, Value::Float(timeout.as_secs_f64()));
        }
    }

    fn named(&self) -> String {
        String::from("memory")
    }

    fn open(&self, _: &Outlets, _: Uuid) -> Result<Results> {
        Ok(Results::new(self.clone()))
    }

    fn most_bytes(&self) -> u64 {
        // What is kept of a detection takes less than its text.
        (self.turns as u64).saturating_mul(MAX_DATAGRAM_BYTES as u64)
    }
}

/// What was found on one frame.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The frame that this was found on.
    pub frame: FrameInfo,
    /// By falling confidence; no more than fit into a datagram.
    pub predictions: Box<[Prediction]>,
    /// Names of their classes.
    pub names: Rc<ClassNames>,
}

impl Outcome {
    /// Image and predictions as JSON: a datagram without its last member.
    pub fn json(&self) -> Vec<u8> {
        let mut out = Vec::new();
        datagram::write_predictions(&mut out, &self.frame, &self.predictions, &self.names, usize::MAX);
        out.push(b'}');
        out
    }
}

/// The last turns of one pipeline, kept for `consume`. Lives on the event loop.
#[derive(Debug)]
pub struct Results {
    asked: MemorySink,
    /// Oldest first; bounded by `asked.turns`.
    turns: RefCell<VecDeque<Vec<Outcome>>>,
    /// The turn whose frames are coming in.
    open: RefCell<Vec<Outcome>>,
    last_taken: Cell<Instant>,
}

impl Results {
    /// Results of a pipeline that has none yet.
    fn new(asked: MemorySink) -> Results {
        Results {
            asked,
            turns: RefCell::default(),
            open: RefCell::default(),
            last_taken: Cell::new(Instant::now()),
        }
    }

    /// The oldest turn; empty when none waits.
    pub fn take(&self) -> Vec<Outcome> {
        self.last_taken.set(Instant::now());
        self.turns.borrow_mut().pop_front().unwrap_or_default()
    }

    /// How long until nobody has asked for too long; `None`: never.
    pub fn patience_left(&self) -> Option<Duration> {
        self.asked.timeout.map(|timeout| timeout.saturating_sub(self.last_taken.get().elapsed()))
    }
}

impl Open for Results {
    async fn send(&self, delivery: &Delivery<'_>) -> Result<()> {
        let predictions = Box::from(delivery.fitting());
        self.open.borrow_mut().push(Outcome {
            frame: delivery.frame,
            predictions,
            names: delivery.names.clone(),
        });
        Ok(())
    }

    /// The oldest turn goes when there are too many.
    fn end_turn(&self) {
        let turn = self.open.take();
        let mut turns = self.turns.borrow_mut();
        if turn.is_empty() {
            return;
        }
        if turns.len() >= self.asked.turns {
            turns.pop_front();
        }
        turns.push_back(turn);
    }

    fn results(&self) -> Option<&Results> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::Detection;
    use crate::sink::delivery::{Packer, tests::frame};

    fn asked(turns: usize) -> MemorySink {
        MemorySink { turns, outputs: Rc::from([]), timeout: None }
    }

    #[test]
    fn the_oldest_turn_goes_first_and_is_lost_first() {
        let (results, mut packer) = (Results::new(asked(2)), Packer::new(&[]));
        for frame_id in 1..=3 {
            assert!(smol::block_on(results.send(&packer.pack(frame(frame_id), &[]))).is_ok());
            results.end_turn();
        }
        results.end_turn(); // a turn without frames is none
        let taken = [results.take(), results.take(), results.take()];
        assert_eq!(
            taken.map(|turn| turn.first().map(|outcome| outcome.frame.frame_id)),
            [Some(2), Some(3), None]
        );
        assert_eq!(results.patience_left(), None);
    }

    #[test]
    fn what_is_taken_reads_as_the_datagram_did() {
        let (results, mut packer) = (Results::new(asked(1)), Packer::new(&["c\u{e4}t".to_owned()]));
        let found = Detection { left: 1.0, top: 2.0, right: 3.0, bottom: 4.0, confidence: 0.5, class_id: 0 };
        for found in [vec![], vec![found; 2], vec![found; 1000]] {
            let delivery = packer.pack(frame(1), &found);
            let datagram = String::from_utf8_lossy(delivery.datagram()).into_owned();
            assert!(smol::block_on(results.send(&delivery)).is_ok());
            results.end_turn();
            let taken = results
                .take()
                .iter()
                .map(|outcome| String::from_utf8_lossy(&outcome.json()).into_owned())
                .collect::<String>();
            let (start, _) = datagram.split_once(", \"inference_metadata\": ").unwrap_or_default();
            assert_eq!(taken, format!("{start}}}"));
        }
    }

    #[test]
    fn results_that_wait_are_counted() {
        assert_eq!(asked(256).most_bytes(), 256 * 65_507);
        assert_eq!(asked(usize::MAX).most_bytes(), u64::MAX);
    }
}
