//! What all pipelines together may cost: rings, workers at their limits, and models. `init` is refused before it would pass.

use crate::error::{Error, Kind, Result};
use std::cell::RefCell;
use std::rc::Rc;

/// See the module. Single-threaded, like everything on the event loop.
#[derive(Debug)]
pub(super) struct Budget {
    limit_bytes: u64,
    reserved: RefCell<Reserved>,
}

#[derive(Debug, Default)]
struct Reserved {
    /// Rings and workers.
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
    pub(super) fn new(limit_bytes: u64) -> Rc<Budget> {
        Rc::new(Budget { limit_bytes, reserved: RefCell::default() })
    }

    /// What may be reserved, and what is, bytes.
    pub(super) fn state(&self) -> (u64, u64) {
        (self.limit_bytes, self.reserved.borrow().total())
    }

    /// Reserves `bytes` for a pipeline's rings and workers, and `model_bytes` unless another pipeline shares the model.
    pub(super) fn reserve(self: &Rc<Self>, bytes: u64, model: &str, model_bytes: u64) -> Result<Reservation> {
        let mut reserved = self.reserved.borrow_mut();
        let shared = reserved.models.iter().position(|(id, _, _)| id == model);
        let wanted = bytes.saturating_add(if shared.is_some() { 0 } else { model_bytes });
        let total = reserved.total().saturating_add(wanted);
        if total > self.limit_bytes {
            let mib = |bytes: u64| bytes >> 20;
            let limit = self.limit_bytes;
            let message = format!(
                "The pipeline may need {} MiB: {} MiB in all, and the limit is {} MiB",
                mib(wanted),
                mib(total),
                mib(limit)
            );
            return Err(Error::new(Kind::Exhausted, message));
        }
        reserved.bytes += bytes;
        match shared.and_then(|position| reserved.models.get_mut(position)) {
            Some((_, _, pipelines)) => *pipelines += 1,
            None => reserved.models.push((model.to_owned(), model_bytes, 1)),
        }
        Ok(Reservation { budget: self.clone(), bytes, model: model.to_owned() })
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
        let budget = Budget::new(100);
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
}
