//! Sequence numbers: what is due, what came too early (UDP), what is missing, what came twice.

use std::time::{Duration, Instant};

/// Most packets that wait for one that is missing.
const MAX_HELD: usize = 64;

/// Longest that they wait: a packet that overtakes another on a network does it by milliseconds.
const MAX_WAIT: Duration = Duration::from_millis(100);

/// A packet at most so many behind is late or a copy (RFC 3550 appendix A.1: MAX_MISORDER, with room); one
/// further behind is where a sender began to count anew.
const MAX_BEHIND: u16 = 1024;

/// No more are missing than so many (MAX_DROPOUT there): a larger step forward is no step.
const MAX_MISSING: u16 = 3000;

/// So many datagrams in a row that all seem late: the sender has begun to count anew, near where it was.
const MAX_LATE_IN_A_ROW: u32 = 16;

/// On a connection, where nothing overtakes, copies come soon.
const REMEMBERED: usize = 16;

/// What to do with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is due. So many before it are missing.
    Due(u32),
    /// It came before its turn: [`Order::hold`] it.
    Early,
    /// It, or what stood in its place, is past.
    Late,
}

/// A packet that came before its turn.
#[derive(Debug)]
struct Held {
    sequence: u16,
    came: Instant,
    packet: Vec<u8>,
}

/// Gives the packets of a stream in the order of their sequence numbers, each once.
#[derive(Debug)]
pub(super) struct Order {
    next: Option<u16>,
    /// Whether packets can overtake each other: not on a TCP connection, where nothing is worth waiting for.
    waits: bool,
    /// In the order of their numbers.
    held: heapless::Vec<Held, MAX_HELD>,
    late: u32,
    /// Numbers and sums of the last packets on a connection, and where the oldest stands.
    remembered: [(u16, u32); REMEMBERED],
    oldest: usize,
    /// Buffers to be used again.
    spare: Vec<Vec<u8>>,
}

impl Order {
    pub(super) fn new(waits: bool) -> Order {
        Order {
            next: None,
            waits,
            held: heapless::Vec::new(),
            late: 0,
            remembered: [(0, 0); REMEMBERED],
            oldest: 0,
            spare: Vec::new(),
        }
    }

    /// Forgets what was: another sender.
    pub(super) fn reset(&mut self) {
        self.next = None;
        self.late = 0;
        self.held.clear();
    }

    /// The number that is due.
    pub(super) fn expected(&self) -> Option<u16> {
        self.next
    }

    /// Looks at the number of a packet that came.
    pub(super) fn judge(&mut self, sequence: u16, packet: &[u8]) -> Verdict {
        let copy = if self.waits { 0 } else { crc32fast::hash(packet) };
        if !self.waits && self.is_copy(sequence, copy) {
            return Verdict::Late;
        }
        let ahead = self.next.map_or(0, |next| sequence.wrapping_sub(next));
        match ahead {
            0 => self.due(sequence, 0),
            1..=MAX_MISSING if self.waits && usize::from(ahead) <= MAX_HELD && !self.held.is_full() => {
                if self.held.iter().any(|held| held.sequence == sequence) {
                    Verdict::Late
                } else {
                    Verdict::Early
                }
            }
            1..=MAX_MISSING => self.due(sequence, u32::from(ahead)),
            _ if ahead.wrapping_neg() > MAX_BEHIND => {
                // Counted anew. What was lost in between, nobody knows.
                self.due(sequence, 1)
            }
            // Nothing overtakes on a connection: its sender counts in its own way (some write always the same
            // number).
            _ if !self.waits => self.due(sequence, 0),
            _ => {
                self.late += 1;
                if self.late < MAX_LATE_IN_A_ROW { Verdict::Late } else { self.due(sequence, 1) }
            }
        }
    }

    /// Whether this very packet came a moment ago; remembers it.
    fn is_copy(&mut self, sequence: u16, sum: u32) -> bool {
        let is_copy = self.remembered.contains(&(sequence, sum));
        if let (false, Some(oldest)) = (is_copy, self.remembered.get_mut(self.oldest)) {
            *oldest = (sequence, sum);
            self.oldest = (self.oldest + 1) % REMEMBERED;
        }
        is_copy
    }

    fn due(&mut self, sequence: u16, missing: u32) -> Verdict {
        self.late = 0;
        self.next = Some(sequence.wrapping_add(1));
        if missing > 0 {
            // What waited for those that are given up is past as well, unless it follows.
            let next = sequence.wrapping_add(1);
            self.held.retain(|held| held.sequence.wrapping_sub(next) < 0x8000);
        }
        Verdict::Due(missing)
    }

    /// Keeps a packet that is [`Verdict::Early`].
    pub(super) fn hold(&mut self, sequence: u16, packet: &[u8], now: Instant) {
        let next = self.next.unwrap_or(sequence);
        let ahead = sequence.wrapping_sub(next);
        let place = self.held.partition_point(|held| held.sequence.wrapping_sub(next) < ahead);
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(packet);
        let kept = self.held.insert(place, Held { sequence, came: now, packet: copy });
        debug_assert!(kept.is_ok(), "no packet is early when there is no room");
    }

    /// A held packet whose turn it is, and how many are missing before it.
    pub(super) fn release(&mut self, now: Instant) -> Option<(u32, Vec<u8>)> {
        let sequence = self.held.first()?.sequence;
        let missing = sequence.wrapping_sub(self.next.unwrap_or(sequence));
        if missing > 0 && self.deadline().is_none_or(|deadline| now < deadline) && !self.held.is_full() {
            return None;
        }
        let Held { sequence, packet, .. } = self.held.remove(0);
        self.next = Some(sequence.wrapping_add(1));
        self.late = 0;
        Some((u32::from(missing), packet))
    }

    /// Takes a packet's buffer back.
    pub(super) fn recycle(&mut self, buffer: Vec<u8>) {
        if self.spare.len() < MAX_HELD {
            self.spare.push(buffer);
        }
    }

    /// When those that are held are no longer waited for.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.held.iter().map(|held| held.came + MAX_WAIT).min()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Numbers as they come → numbers as they go out, with what is missing before each; all waits over at the
    /// end.
    fn run(waits: bool, numbers: &[u16]) -> Vec<(u16, u32)> {
        let (mut order, mut out) = (Order::new(waits), Vec::new());
        let now = Instant::now();
        let number = |packet: &[u8]| u16::from_be_bytes([packet[0], packet[1]]);
        for (n, &sequence) in numbers.iter().enumerate() {
            match order.judge(sequence, &[n as u8, 1]) {
                Verdict::Due(missing) => out.push((sequence, missing)),
                Verdict::Early => order.hold(sequence, &sequence.to_be_bytes(), now),
                Verdict::Late => {}
            }
            while let Some((missing, packet)) = order.release(now) {
                out.push((number(&packet), missing));
            }
        }
        while let Some((missing, packet)) = order.release(now + MAX_WAIT) {
            out.push((number(&packet), missing));
        }
        out
    }

    #[test]
    fn what_overtook_is_put_in_order_again_and_copies_are_left_out() {
        let whole = |numbers: &[u16]| numbers.iter().map(|number| (*number, 0)).collect::<Vec<_>>();
        assert_eq!(run(true, &[7, 9, 8, 8, 10, 13, 12, 13, 11]), whole(&[7, 8, 9, 10, 11, 12, 13]));
        assert_eq!(run(true, &[65535, 1, 0, 2]), whole(&[65535, 0, 1, 2]));
        assert_eq!(run(false, &[7, 9, 10]), [(7, 0), (9, 1), (10, 0)]);
        let mut order = Order::new(false);
        assert_eq!(order.judge(7, &[1]), Verdict::Due(0));
        assert_eq!(order.judge(7, &[1]), Verdict::Late);
        assert_eq!(order.judge(8, &[1]), Verdict::Due(0));
        assert_eq!(order.judge(7, &[1]), Verdict::Late);
    }

    #[test]
    fn what_never_comes_is_given_up() {
        assert_eq!(run(true, &[1, 2, 4, 5]), [(1, 0), (2, 0), (4, 1), (5, 0)]);
        // No more than the window is held, and nothing is lost that came.
        let numbers: Vec<u16> = [1].into_iter().chain(3..200).collect();
        let out = run(true, &numbers);
        assert_eq!(out.len(), numbers.len());
        assert_eq!(out.iter().map(|(_, missing)| missing).sum::<u32>(), 1);
        let mut order = Order::new(true);
        order.judge(0, &[]);
        for number in 2..60 {
            assert_eq!(order.judge(number, &[]), Verdict::Early);
            order.hold(number, &[], Instant::now());
        }
        assert!(order.held.len() <= MAX_HELD);
    }

    #[test]
    fn senders_that_count_anew_or_not_at_all() {
        assert_eq!(run(false, &[40_000, 40_001, 3, 4]), [(40_000, 0), (40_001, 0), (3, 1), (4, 0)]);
        let near: Vec<u16> = [500, 501].into_iter().chain(0..100).collect();
        assert_eq!(run(false, &near).len(), near.len());
        assert_eq!(run(true, &near).last(), Some(&(99, 0)));
        // Always the same number.
        assert_eq!(run(false, &[5; 200]).len(), 200);
    }
}
