//! Which of the senders (SSRC) in a stream is ours: the stream goes on under another name, or a stranger
//! speaks in between.

use std::time::{Duration, Instant};

/// A stranger's packets that are kept until it is known what he is: a picture's first, before the second
/// follows.
const MAX_HELD: usize = 8;

/// Packets in sequence after which a stranger is the stream going on (RFC 3550 §6.2.1: MIN_SEQUENTIAL).
const MIN_SEQUENTIAL: usize = 2;

/// Where two senders speak at once, the present one is kept until it has been silent so long.
const SILENCE: Duration = Duration::from_millis(500);

/// A sender that comes back within so long after it was left: two speak at once.
const RETURN_TIME: Duration = Duration::from_secs(5);

/// What to do with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the stream's.
    Ours,
    /// The stream goes on under this name: take [`Senders::held`] first.
    Renamed,
    /// Kept, for the next one to tell.
    Undecided,
    /// Of a stranger: thrown away.
    Foreign,
}

/// The sender that is followed, and the one that may take its place.
#[derive(Debug, Default)]
pub(super) struct Senders {
    present: Option<(u32, Instant)>,
    /// The one before, and when it was left.
    former: Option<(u32, Instant)>,
    crowded: bool,
    candidate: Option<Candidate>,
}

#[derive(Debug)]
struct Candidate {
    sender: u32,
    next: u16,
    packets: Vec<Vec<u8>>,
}

impl Senders {
    /// Looks at a packet of `sender`. `expected`: the number that the stream would go on with.
    pub(super) fn judge(
        &mut self,
        sender: u32,
        sequence: u16,
        expected: Option<u16>,
        packet: &[u8],
        now: Instant,
    ) -> Verdict {
        let Some((present, heard)) = &mut self.present else {
            self.present = Some((sender, now));
            return Verdict::Ours;
        };
        if *present == sender {
            *heard = now;
            // Whoever spoke in between is a stranger.
            self.candidate = None;
            return Verdict::Ours;
        }
        let silent = now.duration_since(*heard) >= SILENCE;
        if expected == Some(sequence) && !self.crowded {
            self.rename(sender, now);
            self.candidate = None;
            return Verdict::Renamed;
        }
        let candidate = match &mut self.candidate {
            Some(candidate) if candidate.sender == sender && candidate.next == sequence => candidate,
            _ => self.candidate.insert(Candidate { sender, next: sequence, packets: Vec::new() }),
        };
        candidate.next = sequence.wrapping_add(1);
        if candidate.packets.len() + 1 >= MIN_SEQUENTIAL && (silent || !self.crowded) {
            self.rename(sender, now);
            return Verdict::Renamed;
        }
        if candidate.packets.len() >= MAX_HELD {
            return Verdict::Foreign;
        }
        candidate.packets.push(packet.to_vec());
        Verdict::Undecided
    }

    fn rename(&mut self, sender: u32, now: Instant) {
        let returns = self
            .former
            .is_some_and(|(former, left)| former == sender && now.duration_since(left) < RETURN_TIME);
        self.crowded |= returns;
        self.former = self.present.map(|(present, _)| (present, now));
        self.present = Some((sender, now));
    }

    /// What came before the packet that told: in order, without it.
    pub(super) fn held(&mut self) -> Vec<Vec<u8>> {
        self.candidate.take().map(|candidate| candidate.packets).unwrap_or_default()
    }

    /// Whether this is who we listen to.
    pub(super) fn is_present(&self, sender: u32) -> bool {
        self.present.is_some_and(|(present, _)| present == sender)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Foreign, Ours, Renamed, Undecided};

    fn run(packets: &[(u32, u16)]) -> Vec<Verdict> {
        let (mut senders, mut expected) = (Senders::default(), None);
        let now = Instant::now();
        let mut out = Vec::new();
        for &(sender, sequence) in packets {
            let verdict = senders.judge(sender, sequence, expected, &[], now);
            if matches!(verdict, Ours | Renamed) {
                senders.held();
                expected = Some(sequence.wrapping_add(1));
            }
            out.push(verdict);
        }
        out
    }

    #[test]
    fn a_stream_that_goes_on_under_another_name() {
        assert_eq!(run(&[(1, 5), (1, 6), (2, 7), (2, 8)]), [Ours, Ours, Renamed, Ours]);
        assert_eq!(run(&[(1, 5), (2, 900), (2, 901), (2, 902)]), [Ours, Undecided, Renamed, Ours]);
    }

    #[test]
    fn strangers_in_between_change_nothing() {
        assert_eq!(run(&[(1, 5), (2, 9), (1, 6), (2, 10), (1, 7)]), [Ours, Undecided, Ours, Undecided, Ours]);
        assert_eq!(run(&[(1, 5), (2, 9), (2, 50), (1, 6)]), [Ours, Undecided, Undecided, Ours]);
    }

    #[test]
    fn two_who_speak_at_once_are_told_apart_by_silence() {
        let mut senders = Senders::default();
        let start = Instant::now();
        senders.judge(1, 0, None, &[], start);
        // Bursts: each time two packets in a row.
        assert_eq!(senders.judge(2, 50, Some(1), &[], start), Undecided);
        assert_eq!(senders.judge(2, 51, Some(1), &[], start), Renamed);
        assert_eq!(senders.judge(1, 1, Some(52), &[], start), Undecided);
        assert_eq!(senders.judge(1, 2, Some(52), &[], start), Renamed);
        // By now it is clear that both live.
        for round in 0..20_u16 {
            assert_ne!(senders.judge(2, 52 + round, Some(3 + round), &[], start), Renamed);
        }
        assert_eq!(senders.judge(2, 72, Some(23), &[], start), Foreign);
        assert_eq!(senders.judge(2, 73, Some(23), &[], start + SILENCE), Renamed);
    }
}
