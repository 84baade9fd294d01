//! What the broker shall keep (retained messages): the state of the service and of its pipelines. After each
//! new connection all of it is told again, as a broker may have forgotten.

use crate::command::PipelineId;
use crate::sink::outbox::Bell;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Topics at most: some for each of as many pipelines as fit, and no more whatever happens.
const MAX_TOPICS: usize = 2048;

#[derive(Debug)]
struct Entry {
    /// Empty: the broker shall forget it.
    payload: Rc<[u8]>,
    is_told: bool,
}

/// The retained messages, by topic, and which of them the broker has. Lives on the event loop.
#[derive(Debug, Default)]
pub(super) struct Board {
    entries: RefCell<BTreeMap<Rc<str>, Entry>>,
    /// Pipelines that the broker keeps something of.
    found: RefCell<BTreeSet<PipelineId>>,
    /// Rung when something is to be told.
    pub(super) bell: Bell,
}

impl Board {
    /// The broker shall keep this. What it keeps already is not told again.
    pub(super) fn set(&self, topic: &str, payload: &[u8]) {
        let mut entries = self.entries.borrow_mut();
        let is_full = entries.len() >= MAX_TOPICS;
        match entries.get_mut(topic) {
            Some(entry) if *entry.payload == *payload => return,
            Some(entry) => *entry = Entry { payload: payload.into(), is_told: false },
            None if is_full => return,
            None => {
                entries.insert(topic.into(), Entry { payload: payload.into(), is_told: false });
            }
        }
        drop(entries);
        self.bell.ring();
    }

    /// The broker shall forget this.
    pub(super) fn clear(&self, topic: &str) {
        self.set(topic, b"");
    }

    /// The broker keeps something of a pipeline of this id.
    pub(super) fn found(&self, id: &str) {
        let mut found = self.found.borrow_mut();
        if let (Ok(id), true) = (PipelineId::try_parse(id), found.len() < MAX_TOPICS) {
            found.insert(id);
        }
    }

    /// The broker shall forget everything.
    pub(super) fn clear_all(&self) {
        let mut entries = self.entries.borrow_mut();
        entries.values_mut().for_each(|entry| *entry = Entry { payload: Rc::from([]), is_told: false });
        drop(entries);
        self.bell.ring();
    }

    /// Nothing is left to be told.
    pub(super) fn is_told(&self) -> bool {
        self.entries.borrow().values().all(|entry| entry.is_told)
    }

    /// All of which it does, as far as it has said so since the last time.
    pub(super) fn take_found(&self) -> BTreeSet<PipelineId> {
        self.found.take()
    }

    /// A new connection: everything is to be told.
    pub(super) fn begin(&self) {
        self.entries.borrow_mut().values_mut().for_each(|entry| entry.is_told = false);
        self.bell.ring();
    }

    /// The next that is to be told; it counts as told.
    pub(super) fn next(&self) -> Option<(Rc<str>, Rc<[u8]>)> {
        let mut entries = self.entries.borrow_mut();
        let (topic, entry) = entries.iter_mut().find(|(_, entry)| !entry.is_told)?;
        entry.is_told = true;
        let next = (topic.clone(), entry.payload.clone());
        if next.1.is_empty() {
            entries.remove(&next.0);
        }
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_told_once_on_each_connection_and_what_is_forgotten_is_forgotten() {
        let board = Board::default();
        board.set("a", b"1");
        board.set("b", b"2");
        let told = |board: &Board| {
            std::iter::from_fn(|| board.next()).map(|(topic, _)| topic.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(told(&board), ["a", "b"]);
        board.set("a", b"1");
        assert_eq!(told(&board), [""; 0]);
        board.begin();
        board.clear("b");
        assert_eq!(told(&board), ["a", "b"]);
        board.begin();
        assert_eq!(told(&board), ["a"]);
        board.clear_all();
        assert!(!board.is_told());
        assert_eq!((told(&board), board.is_told()), (vec!["a".to_owned()], true));
        board.begin();
        assert_eq!(told(&board), [""; 0]);
        board.set("a", b"1");
        assert_eq!(told(&board), ["a"]);
        (0..5000).for_each(|number| board.set(&number.to_string(), b"x"));
        assert_eq!(told(&board).len(), MAX_TOPICS - 1);
    }
}
