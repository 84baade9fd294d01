//! What must hold during and after every attack.

use crate::support::{Weir, process, tcp, wait_for};
use std::time::{Duration, Instant};

/// Most that the service may hold under attack: 2 × 64 connections with a message of 1 MiB each, on top of
/// itself. SPECIFICATION.md promises it.
const MAX_RESIDENT_BYTES: u64 = 192 << 20;

/// The next good request is answered within this time.
const PROMPT: Duration = Duration::from_millis(50);

/// Best of so many tries: other tests and the machine's other tenants may take the processor away from any
/// one.
const TRIES: usize = 5;

/// A good request of the TCP listener.
pub(crate) const LIST: &[u8] = b"{\"type\": \"list_pipelines\"}";

/// A service that is attacked, and what it had open before.
pub(crate) struct Watch<'a> {
    weir: &'a Weir,
    descriptors: usize,
    good: Box<dyn Fn() + 'a>,
}

impl<'a> Watch<'a> {
    /// For listeners without token and TLS.
    pub(crate) fn new(weir: &'a Weir) -> Watch<'a> {
        Watch::with(weir, move || {
            assert!(tcp::exchange(weir.tcp, &tcp::frame(LIST)).contains("success"));
            assert_eq!(weir.get("/list_pipelines").status, 200);
        })
    }

    /// `good` sends a good request through both listeners and panics when one is not answered well.
    pub(crate) fn with(weir: &'a Weir, good: impl Fn() + 'a) -> Watch<'a> {
        good();
        let descriptors = wait_for("the first connections to be closed", || {
            let descriptors = descriptors(weir);
            (0..5).all(|_| descriptors == self::descriptors(weir)).then_some(descriptors)
        });
        Watch { weir, descriptors, good: Box::new(good) }
    }

    /// A good request is answered promptly through both listeners, and memory is within its bound.
    #[track_caller]
    pub(crate) fn answers(&self, attack: &str) {
        let timed = |_| {
            let start = Instant::now();
            (self.good)();
            start.elapsed()
        };
        let best = (0..TRIES).map(timed).find(|took| *took <= PROMPT);
        assert!(
            best.is_some(),
            "after {attack} none of {TRIES} good requests was answered within {PROMPT:?}"
        );
        let resident = resident_bytes(self.weir);
        assert!(resident < MAX_RESIDENT_BYTES, "{resident} bytes resident after {attack}");
    }

    /// All that the attack opened is closed.
    #[track_caller]
    pub(crate) fn is_at_rest(&self, attack: &str) {
        self.answers(attack);
        wait_for(&format!("all descriptors to be given back after {attack}"), || {
            (descriptors(self.weir) <= self.descriptors).then_some(())
        });
    }
}

fn descriptors(weir: &Weir) -> usize {
    process::descriptors(weir.pid())
}

fn resident_bytes(weir: &Weir) -> u64 {
    process::bytes(weir.pid(), "status", "VmRSS:").expect("the service runs")
}
