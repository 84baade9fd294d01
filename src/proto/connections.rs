//! The bounded table of a listener's connections, and the loop that fills it.
//!
//! When the table is full, new clients wait in the kernel's queue until a place is free. A connection that
//! has been idle for a moment makes room then, so that a client that only holds connections open cannot keep
//! others out: first those that were never let in, and who has been let in only when there is nobody else. A
//! connection that waits for its command's result is not idle, and one that listens to events stays; not all
//! places are given to listeners.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use futures_lite::future;
use smol::{LocalExecutor, Task, Timer};

use super::listen::{Listener, Stream};
use super::proxies::Proxies;
use crate::clock::within;

/// Pause after a failed `accept` (out of descriptors, usually), so that the loop does not spin while others
/// finish.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How long a listener waits for commands that are being carried out when it is told to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two looks at whether the last command is done while draining.
const DRAIN_POLL: Duration = Duration::from_millis(10);

/// How long a client may be idle while others wait for its place: several round trips of a slow line.
const GRACE: Duration = Duration::from_millis(500);

/// The least that remains of it: a client whose request lies there already has been read by then.
const MIN_GRACE: Duration = Duration::from_millis(10);

/// After so long without anybody having had to go it is calm again.
const CALM: Duration = Duration::from_secs(10);

/// How many connections a listener holds.
#[derive(Debug, Clone)]
pub struct Limits {
    /// In all. Each may hold a message of 1 MiB while it is read.
    pub connections: usize,
    /// From one address that is not loopback: one misbehaving client shall not use up all.
    pub per_address: usize,
    /// Whose connections are those of many clients.
    pub proxies: Proxies,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { connections: 64, per_address: 32, proxies: Proxies::default() }
    }
}

/// Tells the listeners to stop: drop the sending end. Connections at rest are closed, commands under way are
/// finished.
pub type Stop = async_channel::Receiver<std::convert::Infallible>;

struct Table {
    limits: Limits,
    next: Cell<u64>,
    entries: RefCell<HashMap<u64, Entry>>,
    /// Rung when a place becomes free.
    freed: Signal,
    /// How many had to go in a row, and when the last one did.
    evictions: Cell<(usize, Instant)>,
}

struct Entry {
    peer: Option<IpAddr>,
    /// When it last began to wait for its client; `None` while a command runs.
    idle_since: Option<Instant>,
    /// It has been let in at least once.
    is_admitted: bool,
    /// Its reply goes on for as long as a pipeline: a drain waits for the last words.
    is_streaming: bool,
    /// Dropping it closes the connection.
    task: Option<Task<()>>,
}

impl Entry {
    /// Room may be made of it, now or later.
    fn may_go(&self) -> bool {
        self.idle_since.is_some() && !self.is_streaming
    }

    fn idle_for(&self) -> Option<Duration> {
        self.idle_since.map(|since| since.elapsed())
    }
}

/// A connection's place in the table; given up when dropped.
pub(super) struct ConnectionSlot {
    table: Weak<Table>,
    id: u64,
    /// Where the client is; `None` on Unix sockets.
    pub peer: Option<IpAddr>,
}

impl ConnectionSlot {
    /// A command is being carried out: not to be closed for somebody else.
    pub(super) fn busy(&self) {
        self.set_idle_since(None);
    }

    /// Waiting for the client again.
    pub(super) fn idle(&self) {
        self.set_idle_since(Some(Instant::now()));
    }

    /// The client may do something here: others make room before it.
    pub(super) fn admitted(&self) {
        self.change(|entry| entry.is_admitted = true);
    }

    /// Whether one more reply without a known end may be sent: a quarter of the places is for everybody else.
    pub(super) fn may_stream(&self) -> bool {
        let Some(table) = self.table.upgrade() else { return false };
        let streaming = table.entries.borrow().values().filter(|entry| entry.is_streaming).count();
        streaming < (table.limits.connections - table.limits.connections / 4).max(1)
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

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let Some(table) = self.table.upgrade() else { return };
        let entry = table.entries.borrow_mut().remove(&self.id);
        table.freed.ring();
        // Its own task is at its end and must not cancel itself on the way out.
        if let Some(task) = entry.and_then(|entry| entry.task) {
            task.detach();
        }
    }
}

impl Table {
    /// A place for a client at `peer`, once there is one; `None`: its address has too many and none of those
    /// can go.
    async fn slot(self: &Rc<Self>, peer: Option<IpAddr>) -> Option<ConnectionSlot> {
        // At once: who has too many shall not keep others waiting behind it.
        if self.is_crowded(peer) && !self.evict(|entry| entry.peer == peer) {
            return None;
        }
        loop {
            match self.make_room() {
                Ok(()) => return Some(self.take(peer)),
                Err(again) => {
                    // The others wait in the kernel's queue meanwhile.
                    let _freed = within(again, self.freed.wait()).await;
                }
            }
        }
    }

    fn is_crowded(&self, peer: Option<IpAddr>) -> bool {
        peer.filter(|address| !address.is_loopback() && !self.limits.proxies.trusts(*address)).is_some_and(
            |address| {
                let same = self.entries.borrow().values().filter(|entry| entry.peer == Some(address)).count();
                same >= self.limits.per_address
            },
        )
    }

    fn take(self: &Rc<Self>, peer: Option<IpAddr>) -> ConnectionSlot {
        let id = self.next.get();
        self.next.set(id + 1);
        let entry = Entry {
            peer,
            idle_since: Some(Instant::now()),
            is_admitted: false,
            is_streaming: false,
            task: None,
        };
        self.entries.borrow_mut().insert(id, entry);
        ConnectionSlot { table: Rc::downgrade(self), id, peer }
    }

    /// Sees to it that a place is free, or says when to look again. Who has been let in goes only when there
    /// is nobody else.
    fn make_room(&self) -> Result<(), Duration> {
        if self.entries.borrow().len() < self.limits.connections {
            return Ok(());
        }
        let is_stranger = |entry: &Entry| !entry.is_admitted;
        let strangers = self.entries.borrow().values().any(|entry| is_stranger(entry) && entry.may_go());
        let grace = self.grace();
        let rested = |entry: &Entry| {
            is_stranger(entry) == strangers && entry.idle_for().is_some_and(|idle| idle >= grace)
        };
        if self.evict(rested) {
            let (count, _) = self.evictions.get();
            self.evictions.set((count.saturating_add(1), Instant::now()));
            return Ok(());
        }
        let idle = self
            .entries
            .borrow()
            .values()
            .filter_map(|entry| entry.idle_for().filter(|_| entry.may_go()))
            .max();
        // At least a turn of the timers, so that this does not spin.
        Err(idle.map_or(grace, |idle| grace.saturating_sub(idle)).max(MIN_GRACE))
    }

    /// How long a client may be idle while others wait: half as long each time that as many as there are
    /// places had to go in a row: somebody opens connections for their own sake then. Who waited in the queue
    /// meanwhile has sent its request long before it is accepted.
    fn grace(&self) -> Duration {
        let (count, last) = self.evictions.get();
        if last.elapsed() > CALM {
            self.evictions.set((0, last));
            return GRACE;
        }
        let times = count / self.limits.connections.max(1);
        // Far below the least that remains.
        GRACE.checked_div(1 << times.min(16)).unwrap_or(GRACE).max(MIN_GRACE)
    }

    /// Closes the connection that has been idle longest of those that `fit`; false when there is none.
    fn evict(&self, fit: impl Fn(&Entry) -> bool) -> bool {
        let mut entries = self.entries.borrow_mut();
        let idle = entries.iter().filter(|(_, entry)| entry.may_go() && fit(entry));
        let oldest = idle.filter_map(|(id, entry)| entry.idle_since.map(|since| (since, *id))).min();
        let evicted = oldest.and_then(|(_, id)| entries.remove(&id));
        // Dropped after the borrow ends: dropping the task may drop its slot, which looks into the table.
        drop(entries);
        evicted.is_some()
    }

    fn is_busy(&self) -> bool {
        self.entries.borrow().values().any(|entry| entry.idle_since.is_none() || entry.is_streaming)
    }
}

/// Rung when something has become free; one waits.
struct Signal(async_channel::Sender<()>, async_channel::Receiver<()>);

impl Signal {
    fn new() -> Signal {
        let (ring, wait) = async_channel::bounded(1);
        Signal(ring, wait)
    }

    fn ring(&self) {
        // Full: it was rung already.
        let _ = self.0.try_send(());
    }

    async fn wait(&self) {
        let _ = self.1.recv().await;
    }
}

/// Accepts until stopped (or dropped) and runs `serve` for each connection.
pub(super) async fn accept<F>(
    name: &'static str,
    listener: Listener,
    executor: Rc<LocalExecutor<'static>>,
    limits: Limits,
    stop: Option<Stop>,
    serve: impl Fn(Stream, ConnectionSlot) -> F,
) where
    F: Future<Output = ()> + 'static,
{
    let table = Rc::new(Table {
        limits,
        next: Cell::new(0),
        entries: RefCell::new(HashMap::new()),
        freed: Signal::new(),
        evictions: Cell::new((0, Instant::now())),
    });
    let accepting = async {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let Some(slot) = table.slot(peer).await else {
                        log::warn!("listener={name} event=refused reason=connections");
                        continue;
                    };
                    let id = slot.id;
                    let task = executor.spawn(serve(stream, slot));
                    if let Some(entry) = table.entries.borrow_mut().get_mut(&id) {
                        entry.task = Some(task);
                    }
                }
                Err(error) => {
                    log::warn!("listener={name} event=accept_failed error={error:?}");
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
    if within(DRAIN_TIMEOUT, drained).await.is_none() {
        log::warn!("listener={name} event=drain_timeout");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn table(connections: usize) -> Rc<Table> {
        let limits = Limits { connections, ..Limits::default() };
        let evictions = Cell::new((0, Instant::now()));
        Rc::new(Table {
            limits,
            next: Cell::new(0),
            entries: RefCell::default(),
            freed: Signal::new(),
            evictions,
        })
    }

    fn age(slot: &ConnectionSlot, by: Duration) {
        slot.change(|entry| entry.idle_since = entry.idle_since.map(|since| since.checked_sub(by).unwrap()));
    }

    fn is_there(slot: &ConnectionSlot) -> bool {
        slot.table.upgrade().unwrap().entries.borrow().contains_key(&slot.id)
    }

    #[test]
    fn strangers_make_room_before_who_was_let_in_and_listeners_and_commands_never() {
        let table = table(4);
        let [command, listener, known, stranger] = [(); 4].map(|()| table.take(None));
        command.busy();
        listener.admitted();
        listener.stream(true);
        known.admitted();
        for slot in [&command, &listener, &known] {
            age(slot, Duration::from_secs(3600));
        }
        // Who has only just come is waited for, whoever else has been idle for an hour.
        assert!(table.make_room().is_err_and(|again| again <= GRACE));
        age(&stranger, GRACE);
        assert!(table.make_room().is_ok());
        assert!(!is_there(&stranger) && is_there(&known));
        let second = table.take(None);
        second.busy();
        assert!(table.make_room().is_ok());
        assert!(!is_there(&known) && is_there(&listener) && is_there(&command) && is_there(&second));
        let third = table.take(None);
        third.busy();
        assert!(table.make_room().is_err(), "nobody who is left can go");
        drop(third);
        assert!(table.make_room().is_ok());
        smol::block_on(table.freed.wait());
    }

    #[test]
    fn listeners_leave_a_quarter_of_the_places_to_others() {
        let table = table(8);
        let slots: Vec<ConnectionSlot> = (0..8).map(|_| table.take(None)).collect();
        let listening =
            slots.iter().take_while(|slot| slot.may_stream()).inspect(|slot| slot.stream(true)).count();
        assert_eq!(listening, 6);
    }

    #[test]
    fn who_opens_connections_for_their_own_sake_is_given_less_and_less_time() {
        let table = table(1);
        let slot = table.take(None);
        age(&slot, GRACE);
        assert!(table.make_room().is_ok());
        assert_eq!(table.grace(), GRACE / 2);
        table.evictions.set((usize::MAX, Instant::now()));
        assert_eq!(table.grace(), MIN_GRACE);
        table.evictions.set((usize::MAX, Instant::now().checked_sub(CALM * 2).unwrap()));
        assert_eq!(table.grace(), GRACE);
    }
}
