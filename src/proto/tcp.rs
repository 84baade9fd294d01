//! Skeleton of the door.

use std::rc::Rc;

use super::listen::Listener;
use crate::command::Execute;

/// How the door behaves; the defaults are those of the documentation.
#[derive(Debug, Clone, Default)]
pub struct Settings {}

/// Accepts and answers until dropped.
pub async fn serve<E: Execute>(
    listener: impl Into<Listener>,
    executor: Rc<smol::LocalExecutor<'static>>,
    commands: Rc<E>,
    settings: Rc<Settings>,
) {
    let _ = (listener.into(), executor, commands, settings);
}
