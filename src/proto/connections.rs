//! The bounded table of a door's connections, and the loop that fills it.
//!
//! When the table is full, the connection that has been idle longest makes room for the new one: a client that only
//! holds connections open cannot keep others out. A connection that waits for its command's result is not idle.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use futures_lite::future;
use smol::{LocalExecutor, Task, Timer};

use super::listen::{Listener, Stream};

/// Pause after a failed `accept` (out of descriptors, usually), so that the loop does not spin while others finish.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How long a door waits for commands that are being carried out when it is told to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two looks at whether the last command is done while draining.
const DRAIN_POLL: Duration = Duration::from_millis(10);

/// How many connections a door holds.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// In all. Each may hold a message of 1 MiB while it is read.
    pub connections: usize,
    /// From one address that is not loopback: one misbehaving client shall not use up all.
    pub per_address: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { connections: 64, per_address: 32 }
    }
}

/// Tells the doors to stop: drop the sending end. Connections at rest are closed, commands under way are finished.
pub type Stop = async_channel::Receiver<std::convert::Infallible>;

struct Table {
    limits: Limits,
    next: Cell<u64>,
    entries: RefCell<HashMap<u64, Entry>>,
}

struct Entry {
    peer: Option<IpAddr>,
    /// When it last began to wait for its client; `None` while a command runs.
    idle_since: Option<Instant>,
    /// Its reply goes on for as long as a pipeline: a drain waits for the last words, but room may be made of it.
    is_streaming: bool,
    /// Dropping it closes the connection.
    task: Option<Task<()>>,
}

/// A connection's place in the table; given up when dropped.
pub(super) struct Seat {
    table: Weak<Table>,
    id: u64,
    /// Where the client is; `None` on Unix sockets.
    pub peer: Option<IpAddr>,
}

impl Seat {
    /// A command is being carried out: not to be closed for somebody else.
    pub(super) fn busy(&self) {
        self.set_idle_since(None);
    }

    /// Waiting for the client again.
    pub(super) fn idle(&self) {
        self.set_idle_since(Some(Instant::now()));
    }

    /// Whether a reply is being sent that has no known end.
    pub(super) fn stream(&self, is_streaming: bool) {
        self.change(|entry| entry.is_streaming = is_streaming);
    }

    fn set_idle_since(&self, when: Option<Instant>) {
        self.change(|entry| entry.idle_since = when);
    }

    fn change(&self, change: impl FnOnce(&mut Entry)) {
        let Some(table) = self.table.upgrade() else { return };
        if let Some(entry) = table.entries.borrow_mut().get_mut(&self.id) {
            change(entry);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(table) = self.table.upgrade() else { return };
        let entry = table.entries.borrow_mut().remove(&self.id);
        // Its own task is at its end and must not cancel itself on the way out.
        if let Some(task) = entry.and_then(|entry| entry.task) {
            task.detach();
        }
    }
}

impl Table {
    fn sit(self: &Rc<Self>, peer: Option<IpAddr>) -> Option<Seat> {
        let crowded = peer.filter(|address| !address.is_loopback()).is_some_and(|address| {
            let same = self.entries.borrow().values().filter(|entry| entry.peer == Some(address)).count();
            same >= self.limits.per_address
        });
        if crowded && !self.evict(|entry| entry.peer == peer) {
            return None;
        }
        if self.entries.borrow().len() >= self.limits.connections && !self.evict(|_| true) {
            return None;
        }
        let id = self.next.get();
        self.next.set(id + 1);
        self.entries.borrow_mut().insert(id, Entry { peer, idle_since: Some(Instant::now()), is_streaming: false, task: None });
        Some(Seat { table: Rc::downgrade(self), id, peer })
    }

    /// Closes the connection that has been idle longest of those that `fit`; false when there is none.
    fn evict(&self, fit: impl Fn(&Entry) -> bool) -> bool {
        let mut entries = self.entries.borrow_mut();
        let idle = entries.iter().filter(|(_, entry)| fit(entry));
        let oldest = idle.filter_map(|(id, entry)| entry.idle_since.map(|since| (since, *id))).min();
        let evicted = oldest.and_then(|(_, id)| entries.remove(&id));
        // Dropped after the borrow ends: dropping the task may drop its seat, which looks into the table.
        drop(entries);
        evicted.is_some()
    }

    fn is_busy(&self) -> bool {
        self.entries.borrow().values().any(|entry| entry.idle_since.is_none() || entry.is_streaming)
    }
}

/// Accepts until stopped (or dropped) and runs `serve` for each connection.
pub(super) async fn accept<F>(
    door: &'static str,
    listener: Listener,
    executor: Rc<LocalExecutor<'static>>,
    limits: Limits,
    stop: Option<Stop>,
    serve: impl Fn(Stream, Seat) -> F,
) where
    F: Future<Output = ()> + 'static,
{
    let table = Rc::new(Table { limits, next: Cell::new(0), entries: RefCell::new(HashMap::new()) });
    let accepting = async {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let Some(seat) = table.sit(peer) else {
                        log::warn!("door={door} event=refused reason=connections");
                        continue;
                    };
                    let id = seat.id;
                    let task = executor.spawn(serve(stream, seat));
                    if let Some(entry) = table.entries.borrow_mut().get_mut(&id) {
                        entry.task = Some(task);
                    }
                }
                Err(error) => {
                    log::warn!("door={door} event=accept_failed error={error:?}");
                    Timer::after(ACCEPT_RETRY).await;
                }
            }
        }
    };
    let stopped = async {
        match stop {
            // Nothing is ever sent: an answer means the sender is gone.
            Some(stop) => drop(stop.recv().await),
            None => future::pending().await,
        }
    };
    future::or(accepting, stopped).await;
    drop(listener);
    let drained = async {
        while table.is_busy() {
            Timer::after(DRAIN_POLL).await;
        }
    };
    future::or(drained, async {
        Timer::after(DRAIN_TIMEOUT).await;
        log::warn!("door={door} event=drain_timeout");
    })
    .await;
}
