//! What carries detections further than a datagram: the connection to a broker of MQTT, and requests of HTTP.
//!
//! Sinks put their messages into outboxes ([`crate::sink::outbox`]); here are those who empty them, and what
//! the broker is told of the service itself. Commands that come from the broker are carried out as those of
//! the listeners are.

mod board;
mod discovery;
pub mod mqtt;
mod presence;
mod web;

use crate::clock::within;
use crate::command::Execute;
use crate::sink::Outlets;
use crate::sink::outbox::Outbox;
use board::Board;
use smol::{LocalExecutor, Task};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// A stopping service gives receivers so long to take what waits.
const GOODBYE: Duration = Duration::from_secs(2);
/// What waits is on the disk by then, or never will be.
const DISK_GRACE: Duration = Duration::from_secs(3);

/// See the module. One per service.
pub struct Bus {
    stop: async_channel::Sender<()>,
    lines: Rc<RefCell<Vec<Line>>>,
    /// Makes a line for each address that is new.
    _listener: Task<()>,
}

/// What waits for one receiver, who sends it there, and who keeps it on the disk.
struct Line {
    outbox: Box<dyn AsRef<Outbox>>,
    talker: Task<()>,
    keeper: Task<()>,
}

impl Bus {
    /// Begins to work, on that executor.
    pub fn start<E: Execute + Clone>(
        executor: &Rc<LocalExecutor<'static>>,
        settings: Option<mqtt::Settings>,
        outlets: Rc<Outlets>,
        commands: E,
    ) -> Bus {
        let (stop, stopped) = async_channel::bounded::<()>(1);
        let lines: Rc<RefCell<Vec<Line>>> = Rc::default();
        if let (Some(settings), Some(broker)) = (settings, outlets.broker().cloned()) {
            let board = Rc::new(Board::default());
            let kept = broker.clone();
            let keeper = executor.spawn(async move { kept.outbox.keep().await });
            let presence =
                presence::Presence::new(&settings, broker.clone(), board.clone(), commands.clone());
            let client = mqtt::Client::new(settings, broker.clone(), board, commands);
            let stopped = stopped.clone();
            // What is told of the service ends with the connection.
            let talker =
                executor.spawn(async move { smol::future::or(client.run(stopped), presence.run()).await });
            lines.borrow_mut().push(Line { outbox: Box::new(broker), talker, keeper });
        }
        let (made, spawner) = (lines.clone(), executor.clone());
        let listener = async move {
            while let Some((address, outbox)) = outlets.opened().await {
                let kept = outbox.clone();
                let keeper = spawner.spawn(async move { kept.keep().await });
                let talker = spawner.spawn(web::post(address, outbox.clone(), stopped.clone()));
                made.borrow_mut().push(Line { outbox: Box::new(outbox), talker, keeper });
            }
        };
        Bus { stop, lines, _listener: executor.spawn(listener) }
    }

    /// Says goodbye, and leaves what still waits to the disk.
    pub async fn stop(self) {
        self.stop.close();
        let (mut talkers, mut kept) = (Vec::new(), Vec::new());
        for Line { outbox, talker, keeper } in self.lines.take() {
            // Whoever talks shall hear it now.
            (*outbox).as_ref().bell.ring();
            talkers.push(talker);
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
