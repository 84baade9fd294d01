//! What carries detections further than a datagram: the connection to a broker of MQTT, and requests of HTTP.
//!
//! Sinks put their messages into outboxes ([`crate::sink::outbox`]); here are those who empty them, and what
//! the broker is told of the service itself. Commands that come from the broker are carried out as those of
//! the listeners are.

mod board;
mod discovery;
pub mod mqtt;
mod presence;
mod talk;
mod web;

use crate::clock::within;
use crate::command::Execute;
use crate::sink::outbox::Outbox;
use crate::sink::{Broker, Outlets};
use smol::{LocalExecutor, Task};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// A stopping service gives receivers so long to take what waits.
const GOODBYE: Duration = Duration::from_secs(2);
/// What waits is on the disk by then, or never will be.
const DISK_GRACE: Duration = Duration::from_secs(3);

/// The tasks that empty the outboxes. One per service.
pub struct Bus {
    stop: async_channel::Sender<()>,
    /// How the broker is reached from now on, if at all; the newest that has not been seen yet.
    changes: (
        async_channel::Sender<Option<mqtt::MqttSettings>>,
        async_channel::Receiver<Option<mqtt::MqttSettings>>,
    ),
    broker_talker: Task<()>,
    lines: Lines,
    /// Makes a line for each address that is new.
    _listener: Task<()>,
}

type Lines = Rc<RefCell<Vec<Line>>>;

/// What waits for one receiver, who keeps it on the disk, and who sends it there if that is nobody else.
struct Line {
    outbox: Box<dyn AsRef<Outbox>>,
    talker: Option<Task<()>>,
    keeper: Task<()>,
}

impl Bus {
    /// Begins to work, on that executor.
    pub fn start<E: Execute + Clone>(
        executor: &Rc<LocalExecutor<'static>>,
        settings: Option<mqtt::MqttSettings>,
        outlets: Rc<Outlets>,
        commands: E,
    ) -> Bus {
        let (stop, stopped) = async_channel::bounded::<()>(1);
        let lines = Lines::default();
        let changes = async_channel::bounded(1);
        // There is room for one.
        let _ = changes.0.try_send(settings);
        let (kept, keeper) = (lines.clone(), executor.clone());
        let keep = move |broker: Rc<Broker>| {
            let own = broker.clone();
            let keeper = keeper.spawn(async move { own.outbox.keep().await });
            kept.borrow_mut().push(Line { outbox: Box::new(broker), talker: None, keeper });
        };
        let broker_talker = executor.spawn(talk::talk(outlets.clone(), changes.1.clone(), commands, keep));
        let (made, spawner) = (lines.clone(), executor.clone());
        let listener = async move {
            while let Some((address, outbox)) = outlets.opened().await {
                let kept = outbox.clone();
                let keeper = spawner.spawn(async move { kept.keep().await });
                let talker = spawner.spawn(web::post(address, outbox.clone(), stopped.clone()));
                made.borrow_mut().push(Line { outbox: Box::new(outbox), talker: Some(talker), keeper });
            }
        };
        Bus { stop, changes, broker_talker, lines, _listener: executor.spawn(listener) }
    }

    /// From now on the broker is reached so, or there is none. What waits stays, and follows.
    pub fn change(&self, settings: Option<mqtt::MqttSettings>) {
        // One that nobody has seen yet is out of date.
        let _ = self.changes.1.try_recv();
        let _ = self.changes.0.try_send(settings);
    }

    /// Says goodbye, and leaves what still waits to the disk.
    pub async fn stop(self) {
        self.stop.close();
        self.changes.0.close();
        let (mut talkers, mut kept) = (vec![self.broker_talker], Vec::new());
        for Line { outbox, talker, keeper } in self.lines.take() {
            // Whoever talks shall hear it now.
            (*outbox).as_ref().bell.ring();
            talkers.extend(talker);
            kept.push((outbox, keeper));
        }
        let goodbye = async {
            for talker in &mut talkers {
                talker.await;
            }
        };
        if within(GOODBYE, goodbye).await.is_none() {
            log::warn!("event=bus_left_in_a_hurry");
        }
        drop(talkers);
        for (outbox, _) in &kept {
            (**outbox).as_ref().rewind();
            (**outbox).as_ref().close();
        }
        let mut waiting = 0;
        let keeping = async {
            for (outbox, keeper) in kept {
                let has_disk = (*outbox).as_ref().has_disk();
                if has_disk {
                    keeper.await;
                } else {
                    waiting += (*outbox).as_ref().figures().waiting;
                }
            }
        };
        let is_kept = within(DISK_GRACE, keeping).await.is_some();
        if waiting > 0 || !is_kept {
            log::warn!(
                "event=messages_lost at_least={waiting} why=\"the service ends, and they are not on the disk\""
            );
        }
    }
}

/// Until nobody can send there any more.
async fn until_closed(stop: &async_channel::Receiver<()>) {
    let _ = stop.recv().await;
}

/// Factors around 1 for pauses, different on each device: a fleet does not do the same in the same moment.
fn jitter(seed: &str) -> impl FnMut() -> f64 {
    // Xorshift of Marsaglia, 2003.
    let mut state = u64::from(crc32fast::hash(seed.as_bytes())) | 1 << 32;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        0.8 + 0.4 * (state % 1000) as f64 / 1000.0
    }
}
