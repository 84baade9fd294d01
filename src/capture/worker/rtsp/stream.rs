//! The packets of one stream, from wherever they come, and the units that they make.

use super::depacketise::{Depacketiser, Facts, Unit};
use super::order::{self, Order};
use super::rtp::{Control, Packet, is_control};
use super::sdp::Media;
use super::sender::{self, Senders};
use crate::command::{PacketLoss, PacketLosses};
use crate::error::{Error, Kind, Result};
use std::time::{Duration, Instant};

/// A sender that said goodbye and sends nothing for so long is gone. (Some say it, and go on under another
/// name.)
const GOODBYE_PATIENCE: Duration = Duration::from_secs(1);

/// The packets of one stream on their way to access units.
pub(super) struct Stream {
    kind: u8,
    clock_hz: u32,
    senders: Senders,
    order: Order,
    /// Packets that never came, since a packet was last used.
    missing: u32,
    depacketiser: Depacketiser,
    losses: PacketLosses,
    /// The last time stamp, and what it is without wrapping around.
    clock: Option<(u32, i64)>,
    /// The camera's wall clock (NTP) at its last report, once.
    report: Option<u64>,
    goodbye: Option<Instant>,
    heard: bool,
}

impl Stream {
    /// `overtakes`: packets can come in another order than they were sent.
    pub(super) fn new(media: &Media, overtakes: bool) -> Stream {
        Stream {
            kind: media.kind,
            clock_hz: media.clock_hz,
            senders: Senders::default(),
            order: Order::new(overtakes),
            missing: 0,
            depacketiser: Depacketiser::new(media),
            losses: PacketLosses::default(),
            clock: None,
            report: None,
            goodbye: None,
            heard: false,
        }
    }

    /// Takes a packet of RTP or RTCP: some servers mix their channels up.
    pub(super) fn take(&mut self, packet: &[u8], now: Instant) {
        if is_control(packet) {
            return self.take_control(packet, now);
        }
        if let Err(cause) = self.take_media(packet, now) {
            self.losses.add(cause, 1);
        }
    }

    /// Takes a packet of a channel that is only for RTCP.
    pub(super) fn take_control(&mut self, packet: &[u8], now: Instant) {
        match Control::parse(packet) {
            Ok(control) => {
                self.report = control.clock.or(self.report);
                if control.leaves.is_some_and(|sender| self.senders.is_present(sender)) {
                    self.goodbye = Some(now);
                }
            }
            Err(cause) => self.losses.add(cause, 1),
        }
    }

    /// Something that is no packet of this stream.
    pub(super) fn refuse(&mut self, cause: PacketLoss) {
        self.losses.add(cause, 1);
    }

    fn take_media(&mut self, packet: &[u8], now: Instant) -> Result<(), PacketLoss> {
        let parsed = Packet::parse(packet)?;
        if parsed.kind != self.kind && !self.senders.is_present(parsed.sender) {
            return Err(PacketLoss::PayloadType);
        }
        match self.senders.judge(parsed.sender, parsed.sequence, self.order.expected(), packet, now) {
            sender::Verdict::Ours => {}
            sender::Verdict::Renamed => {
                let held = self.senders.held();
                if self.order.expected() != Some(parsed.sequence) {
                    self.order.reset();
                }
                for earlier in held {
                    if let Ok(parsed) = Packet::parse(&earlier) {
                        self.sort(&parsed, &earlier, now);
                    }
                }
            }
            sender::Verdict::Undecided => return Ok(()),
            sender::Verdict::Foreign => return Err(PacketLoss::ForeignSource),
        }
        self.goodbye = None;
        self.heard = true;
        self.sort(&parsed, packet, now);
        Ok(())
    }

    /// Gives packets on in the order of their numbers.
    fn sort(&mut self, parsed: &Packet<'_>, packet: &[u8], now: Instant) {
        match self.order.judge(parsed.sequence, packet) {
            order::Verdict::Due(missing) => self.use_packet(parsed, missing),
            order::Verdict::Early => self.order.hold(parsed.sequence, packet, now),
            order::Verdict::Late => return self.losses.add(PacketLoss::Late, 1),
        }
        self.release(now);
    }

    fn release(&mut self, now: Instant) {
        while let Some((missing, packet)) = self.order.release(now) {
            if let Ok(parsed) = Packet::parse(&packet) {
                self.use_packet(&parsed, missing);
            }
            self.order.recycle(packet);
        }
    }

    fn use_packet(&mut self, packet: &Packet<'_>, missing: u32) {
        self.losses.add(PacketLoss::Missing, u64::from(missing));
        self.missing = self.missing.saturating_add(missing);
        if packet.kind != self.kind {
            return self.losses.add(PacketLoss::PayloadType, 1);
        }
        if let Err(cause) = self.depacketiser.push(packet, std::mem::take(&mut self.missing)) {
            self.losses.add(cause, 1);
        }
    }

    /// What time alone changes.
    ///
    /// Errors: `SourceLost`: the camera has said goodbye.
    pub(super) fn tick(&mut self, now: Instant) -> Result<()> {
        self.release(now);
        match self.goodbye {
            Some(said) if now.duration_since(said) >= GOODBYE_PATIENCE => {
                Err(Error::new(Kind::SourceLost, "the camera said goodbye"))
            }
            _ => Ok(()),
        }
    }

    /// When [`Stream::tick`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let goodbye = self.goodbye.map(|said| said + GOODBYE_PATIENCE);
        [self.order.deadline(), goodbye].into_iter().flatten().min()
    }

    /// The next unit, and when it was taken, in seconds of the camera's media clock.
    pub(super) fn pop(&mut self) -> Option<(Unit, f64)> {
        let unit = self.depacketiser.pop()?;
        let (last, total) = self.clock.unwrap_or((unit.timestamp, 0));
        // The difference of two stamps, forwards or backwards, whichever is nearer.
        let total = total.saturating_add(i64::from(unit.timestamp.wrapping_sub(last).cast_signed()));
        self.clock = Some((unit.timestamp, total));
        let seconds = total as f64 / f64::from(self.clock_hz);
        Some((unit, seconds))
    }

    /// The camera's wall clock, once after each of its reports.
    pub(super) fn report(&mut self) -> Option<u64> {
        self.report.take()
    }

    pub(super) fn has_unit(&self) -> bool {
        self.depacketiser.has_unit()
    }

    /// How many units are complete.
    pub(super) fn units(&self) -> usize {
        self.depacketiser.units()
    }

    /// Whether this is a packet that the stream could be made of, whoever sends it.
    pub(super) fn could_be(&self, packet: &[u8]) -> bool {
        !is_control(packet) && Packet::parse(packet).is_ok_and(|packet| packet.kind == self.kind)
    }

    pub(super) fn recycle(&mut self, buffer: Vec<u8>) {
        self.depacketiser.recycle(buffer);
    }

    /// Pictures whose size stands nowhere: [`Depacketiser::sizeless`].
    pub(super) fn sizeless(&self) -> u32 {
        self.depacketiser.sizeless()
    }

    /// [`Depacketiser::facts`].
    pub(super) fn facts(&self, unit: Option<&Unit>) -> Option<Facts> {
        self.depacketiser.facts(unit)
    }

    pub(super) fn losses(&self) -> PacketLosses {
        self.losses
    }

    /// Whether a packet of this stream has come.
    pub(super) fn heard(&self) -> bool {
        self.heard
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::capture::worker::decode::Codec;

    const MEDIA: Media = Media {
        kind: 96,
        codec: Codec::H264,
        clock_hz: 90_000,
        parameters: Vec::new(),
        fps: None,
        size: None,
    };

    fn packet(kind: u8, sequence: u16, sender: u8, payload: &[u8]) -> Vec<u8> {
        let [s1, s2] = sequence.to_be_bytes();
        [&[0x80, 0x80 | kind, s1, s2, 0, 0, s1, s2, 0, 0, 0, sender], payload].concat()
    }

    /// A picture of one packet.
    fn picture(sequence: u16) -> Vec<u8> {
        packet(96, sequence, 1, &[0x41, 0x9a, 1])
    }

    #[test]
    fn odd_packets_cost_themselves_and_are_counted_by_cause() {
        let (mut stream, now) = (Stream::new(&MEDIA, false), Instant::now());
        let odd = [
            packet(127, 1, 1, &[0, 0]),
            packet(96, 2, 1, &[]),
            packet(96, 3, 1, &[0x1f, 1, 2]),
            packet(96, 40_000, 7, &[0x41, 0x9a, 0]),
            packet(26, 9, 8, &[1]),
            vec![0; 30],
            vec![0x81, 200, 0, 1],
        ];
        stream.take(&picture(0), now);
        odd.iter().for_each(|packet| stream.take(packet, now));
        stream.take(&picture(4), now);
        let units: Vec<_> = std::iter::from_fn(|| stream.pop()).collect();
        assert_eq!(units.len(), 2);
        assert!(units.iter().all(|(unit, _)| !unit.damaged), "no picture is missing");
        let count = |cause| stream.losses().get(cause);
        assert_eq!(
            (count(PacketLoss::PayloadType), count(PacketLoss::Payload), count(PacketLoss::Malformed)),
            (2, 2, 1)
        );
        assert_eq!((count(PacketLoss::Control), count(PacketLoss::Missing)), (1, 0));
    }

    #[test]
    fn units_know_what_is_missing_before_them() {
        let (mut stream, now) = (Stream::new(&MEDIA, false), Instant::now());
        for sequence in [0, 1, 3, 4] {
            stream.take(&picture(sequence), now);
        }
        let damaged: Vec<bool> = std::iter::from_fn(|| stream.pop()).map(|(unit, _)| unit.damaged).collect();
        assert_eq!(damaged, [false, false, true, false]);
    }

    #[test]
    fn what_overtakes_waits_and_a_goodbye_is_believed_after_a_while() {
        let (mut stream, now) = (Stream::new(&MEDIA, true), Instant::now());
        for sequence in [0, 2, 1, 3, 5] {
            stream.take(&picture(sequence), now);
        }
        assert_eq!(std::iter::from_fn(|| stream.pop()).count(), 4);
        let later = stream.deadline().unwrap();
        stream.tick(later).unwrap();
        assert!(stream.pop().unwrap().0.damaged);
        let bye = [0x81, 203, 0, 1, 0, 0, 0, 1];
        stream.take(&bye, now);
        stream.take(&picture(6), now);
        stream.tick(now + GOODBYE_PATIENCE).unwrap();
        stream.take_control(&bye, now);
        assert!(stream.tick(now + GOODBYE_PATIENCE).is_err());
    }

    #[test]
    fn the_media_clock_wraps_around() {
        let (mut stream, now) = (Stream::new(&MEDIA, false), Instant::now());
        for (sequence, time) in [(0_u16, u32::MAX - 44_999), (1, 45_000)] {
            let mut bytes = picture(sequence);
            bytes[4..8].copy_from_slice(&time.to_be_bytes());
            stream.take(&bytes, now);
        }
        let seconds: Vec<f64> = std::iter::from_fn(|| stream.pop()).map(|(_, seconds)| seconds).collect();
        assert_eq!(seconds, [0.0, 1.0]);
    }
}
