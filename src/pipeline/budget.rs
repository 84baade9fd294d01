//! What all pipelines together may cost: rings, workers at their limits, models, and what waits for receivers.
//! `init` is refused before it would pass.

use crate::capture::Worker;
use crate::error::{Error, Kind, Result};
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

/// What pipelines were promised, against the limit. Single-threaded, like everything on the event loop.
pub(super) struct Budget {
    limit_bytes: u64,
    reserved: RefCell<Reserved>,
    /// What is in use whatever pipelines there are, bytes: it grows with the sinks that were opened.
    standing: Box<dyn Fn() -> u64>,
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Budget({:?})", self.state())
    }
}

#[derive(Debug, Default)]
struct Reserved {
    /// What frame rings and workers have been promised.
    bytes: u64,
    /// Models in use: id, bytes, pipelines that share it.
    models: Vec<(String, u64, usize)>,
}

impl Reserved {
    fn total(&self) -> u64 {
        self.models.iter().fold(self.bytes, |sum, (_, bytes, _)| sum.saturating_add(*bytes))
    }
}

/// One pipeline's part; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Reservation {
    budget: Rc<Budget>,
    bytes: u64,
    model: String,
}

impl Budget {
    pub(super) fn new(limit_bytes: u64, standing: impl Fn() -> u64 + 'static) -> Rc<Budget> {
        Rc::new(Budget { limit_bytes, reserved: RefCell::default(), standing: Box::new(standing) })
    }

    /// What may be reserved, and what is, bytes.
    pub(super) fn state(&self) -> (u64, u64) {
        (self.limit_bytes, self.total(&self.reserved.borrow()))
    }

    fn total(&self, reserved: &Reserved) -> u64 {
        reserved.total().saturating_add((self.standing)())
    }

    /// Whether so much more may stand, for sinks that are to be opened.
    pub(super) fn check_standing(&self, bytes: u64) -> Result<()> {
        let total = self.total(&self.reserved.borrow()).saturating_add(bytes);
        if bytes > 0 && total > self.limit_bytes {
            return Err(self.exceeded("What waits for the receiver", bytes, total));
        }
        Ok(())
    }

    /// Reserves `bytes` for a pipeline's rings and workers, and `model_bytes` unless another pipeline shares
    /// the model.
    pub(super) fn reserve(self: &Rc<Self>, bytes: u64, model: &str, model_bytes: u64) -> Result<Reservation> {
        let mut reserved = self.reserved.borrow_mut();
        let shared = reserved.models.iter().position(|(id, _, _)| id == model);
        let wanted = bytes.saturating_add(if shared.is_some() { 0 } else { model_bytes });
        let total = self.total(&reserved).saturating_add(wanted);
        if total > self.limit_bytes {
            return Err(self.exceeded("The pipeline", wanted, total));
        }
        reserved.bytes += bytes;
        match shared.and_then(|position| reserved.models.get_mut(position)) {
            Some((_, _, pipelines)) => *pipelines += 1,
            None => reserved.models.push((model.to_owned(), model_bytes, 1)),
        }
        Ok(Reservation { budget: self.clone(), bytes, model: model.to_owned() })
    }

    /// Lets a worker use `bytes` in all, which it asked for, if it may have that much (`most`) and all
    /// together have it.
    pub(super) fn allow_memory(self: &Rc<Self>, worker: &Worker, bytes: u64, most: u64) -> Result<More> {
        if bytes > most {
            let [needed, most] = [bytes, most].map(|bytes| bytes.div_ceil(1 << 20));
            let message = format!(
                "Pictures of this size, depth and number of references need {needed} MiB, and capture.worker_memory_max_bytes allows {most} MiB"
            );
            return Err(Error::new(Kind::SourceUnsupported, message));
        }
        let more = self.reserve_more(bytes.saturating_sub(worker.memory_bytes()))?;
        worker.allow_memory(bytes)?;
        Ok(more)
    }

    /// Reserves `bytes` more for a worker of a pipeline that has its part.
    fn reserve_more(self: &Rc<Self>, bytes: u64) -> Result<More> {
        let mut reserved = self.reserved.borrow_mut();
        let total = self.total(&reserved).saturating_add(bytes);
        if total > self.limit_bytes {
            return Err(self.exceeded("The source", bytes, total));
        }
        reserved.bytes += bytes;
        Ok(More { budget: self.clone(), bytes })
    }

    fn exceeded(&self, what: &str, wanted: u64, total: u64) -> Error {
        let [wanted, total, limit] = [wanted, total, self.limit_bytes].map(|bytes| bytes.div_ceil(1 << 20));
        let message = format!(
            "{what} may need {wanted} MiB: {total} MiB in all, and the limit is {limit} MiB (service.memory_limit_bytes)"
        );
        Error::new(Kind::Exhausted, message)
    }
}

/// What a worker got beyond what was counted for it at first; dropping it gives it back.
#[derive(Debug)]
pub(super) struct More {
    budget: Rc<Budget>,
    bytes: u64,
}

impl Drop for More {
    fn drop(&mut self) {
        let mut reserved = self.budget.reserved.borrow_mut();
        reserved.bytes = reserved.bytes.saturating_sub(self.bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut reserved = self.budget.reserved.borrow_mut();
        reserved.bytes = reserved.bytes.saturating_sub(self.bytes);
        for (id, _, pipelines) in &mut reserved.models {
            if *id == self.model {
                *pipelines -= 1;
            }
        }
        reserved.models.retain(|(_, _, pipelines)| *pipelines > 0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_shared_model_counts_once_and_everything_is_given_back() {
        let budget = Budget::new(100, || 0);
        let first = budget.reserve(20, "a", 40).unwrap();
        let second = budget.reserve(20, "a", 40).unwrap();
        assert_eq!(budget.reserve(30, "a", 40).unwrap_err().kind(), Kind::Exhausted);
        drop(first);
        assert_eq!(budget.reserved.borrow().total(), 60);
        drop(second);
        assert_eq!(budget.reserved.borrow().total(), 0);
        assert!(budget.reserve(60, "b", 40).is_ok());
        assert!(budget.reserve(60, "b", 41).is_err());
        assert!(budget.reserve(u64::MAX, "b", u64::MAX).is_err());
    }

    #[test]
    fn what_stands_counts_and_grows_with_sinks() {
        let standing = Rc::new(std::cell::Cell::new(30 << 20));
        let seen = standing.clone();
        let budget = Budget::new(100 << 20, move || seen.get());
        assert!(budget.check_standing(70 << 20).is_ok());
        let refused = budget.check_standing((70 << 20) + 1).unwrap_err();
        assert_eq!(refused.kind(), Kind::Exhausted);
        assert!(refused.message().contains("101 MiB in all"), "{refused}");
        let pipeline = budget.reserve(60 << 20, "a", 10 << 20).unwrap();
        assert!(budget.reserve(1, "a", 0).is_err() && budget.reserve_more(1).is_err());
        standing.set(40 << 20);
        assert_eq!(budget.state(), (100 << 20, 110 << 20));
        assert!(budget.check_standing(0).is_ok(), "nothing new");
        drop(pipeline);
        assert_eq!(budget.state(), (100 << 20, 40 << 20));
    }

    #[test]
    fn what_a_worker_gets_later_counts_as_well() {
        let budget = Budget::new(100 << 20, || 0);
        let first = budget.reserve(60 << 20, "a", 0).unwrap();
        let more = budget.reserve_more(40 << 20).unwrap();
        let refused = budget.reserve_more(1).unwrap_err();
        assert_eq!(refused.kind(), Kind::Exhausted);
        assert!(
            refused.message().contains("101 MiB in all")
                && refused.message().contains("service.memory_limit_bytes")
        );
        assert!(budget.reserve_more(u64::MAX).is_err());
        drop(more);
        drop(first);
        assert_eq!(budget.reserved.borrow().total(), 0);
    }
}
