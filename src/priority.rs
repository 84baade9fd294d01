//! Who gives way to whom when every core is busy: the event loop goes first, then inference and capture, then
//! loading.
//!
//! By niceness, which needs no privileges, and relative to the service's own (a unit may say `Nice=`). What
//! computes for milliseconds on end would otherwise hold a core until its slice is over while a client waits
//! for its `status` (docs/measurements.md, "The loop comes first"). Between themselves inference and capture
//! workers are equals.

use rustix::process::{Pid, getpriority_process, setpriority_process};
use std::sync::OnceLock;

/// Inference threads and capture workers, in steps of niceness above the service's own: with every core busy
/// the event loop gets three times their share, and is on a core at once for the few microseconds it needs.
pub const COMPUTING: i32 = 5;

/// Loading and trying a model: a third again, so that a new pipeline waits a little longer for its model and
/// the running ones hardly notice.
pub const LOADING: i32 = 10;

/// The highest niceness that the kernel knows.
const LAST: i32 = 19;

/// The niceness that this process began with. Asked once: a child's filter of system calls allows no second
/// question.
pub fn own() -> i32 {
    static OWN: OnceLock<i32> = OnceLock::new();
    *OWN.get_or_init(|| getpriority_process(None).unwrap_or(0))
}

/// Lets the calling thread, and what it starts, give way by so many steps. Where that is forbidden it is only
/// less polite.
pub fn give_way(steps: i32) {
    let _ = setpriority_process(None, (own() + steps).min(LAST));
}

/// The same for a child that has just been started and has one thread yet.
pub fn child_gives_way(child: Pid, steps: i32) {
    let _ = setpriority_process(Some(child), (own() + steps).min(LAST));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_gives_way_alone() {
        let before = own();
        let there = std::thread::spawn(|| {
            give_way(COMPUTING);
            getpriority_process(None).unwrap()
        });
        assert_eq!(there.join().unwrap(), (before + COMPUTING).min(LAST));
        assert_eq!(getpriority_process(None).unwrap(), before);
    }
}
