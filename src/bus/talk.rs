//! One client after the other: how the broker is reached may change while the service runs.

use super::board::Board;
use super::mqtt::{Client, MqttSettings};
use super::presence::Presence;
use super::until_closed;
use crate::command::Execute;
use crate::sink::outbox::Link;
use crate::sink::{Broker, Outlets};
use async_channel::{Receiver, RecvError};
use smol::future::{or, zip};
use std::rc::Rc;

/// Speaks with the broker that `changes` says, until that is closed. `keep` is given its outbox once.
pub(super) async fn talk<E: Execute + Clone>(
    outlets: Rc<Outlets>,
    changes: Receiver<Option<MqttSettings>>,
    commands: E,
    keep: impl Fn(Rc<Broker>),
) {
    let mut is_kept = false;
    let mut next = changes.recv().await;
    while let Ok(settings) = next {
        next = match (settings, outlets.broker()) {
            (Some(settings), Some(broker)) => {
                if !is_kept {
                    is_kept = true;
                    keep(broker.clone());
                }
                broker.outbox.set_link(Link::Idle);
                speak(settings, broker, &changes, &commands).await
            }
            _ => {
                if let Some(former) = outlets.former_broker() {
                    former
                        .outbox
                        .set_link(Link::Down("the configuration names no broker (mqtt.host)".into()));
                }
                changes.recv().await
            }
        };
    }
}

/// One client, until something changes; what it is then.
async fn speak<E: Execute + Clone>(
    settings: MqttSettings,
    broker: Rc<Broker>,
    changes: &Receiver<Option<MqttSettings>>,
    commands: &E,
) -> Result<Option<MqttSettings>, RecvError> {
    let board = Rc::new(Board::default());
    let presence = Presence::new(&settings, board.clone(), commands.clone());
    let client = Client::new(settings.clone(), broker, board.clone(), commands.clone());
    let (end, ended) = async_channel::bounded::<()>(1);
    let until_changed = async {
        let next = changes.recv().await;
        if let Ok(next) = &next {
            client.make_way();
            // What is told from somewhere else must not stay here.
            if next.as_ref().is_none_or(|next| !settings.are_at_home_with(next)) {
                board.clear_all();
            }
        }
        end.close();
        next
    };
    // What is told of the service ends first: nothing shall follow the goodbye.
    let telling = or(until_closed(&ended), presence.run());
    let (next, _) = zip(until_changed, zip(telling, client.run(ended.clone()))).await;
    next
}
