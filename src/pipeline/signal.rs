//! A wake-up between tasks of the event loop: many may ring, one waits, rings before the wait are not lost.

/// Remembers at most one ring: who waits looks at the state itself, so two rings say no more than one.
const PENDING_RINGS: usize = 1;

/// A wake-up between tasks: see the module for what it promises.
#[derive(Debug)]
pub(super) struct Signal {
    ring: async_channel::Sender<()>,
    wait: async_channel::Receiver<()>,
}

impl Signal {
    pub(super) fn new() -> Signal {
        let (ring, wait) = async_channel::bounded(PENDING_RINGS);
        Signal { ring, wait }
    }

    /// Wakes the waiter, now or when it comes.
    pub(super) fn ring(&self) {
        // Full means that a ring is pending already; closed cannot be, both ends live here.
        let _ = self.ring.try_send(());
    }

    /// Waits until somebody rings, or has since the last wait.
    pub(super) async fn wait(&self) {
        let _ = self.wait.recv().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_before_the_wait_is_not_lost_and_two_are_one() {
        let signal = Signal::new();
        signal.ring();
        signal.ring();
        smol::block_on(signal.wait());
        let second = smol::block_on(smol::future::poll_once(signal.wait()));
        assert!(second.is_none());
    }
}
