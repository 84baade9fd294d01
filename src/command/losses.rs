//! Packets of cameras that went unused, by cause.

/// Why a packet of a camera went unused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketLoss {
    /// It never came: its number is missing.
    Missing,
    /// It came twice, or after it had been given up.
    Late,
    /// Somebody else's: another SSRC in between, a datagram of another host.
    ForeignSource,
    /// Of another payload type, or on a channel of no stream that was asked for.
    PayloadType,
    /// No RTP packet, or bytes that are no packet at all.
    Malformed,
    /// Its payload is empty or of a kind that means nothing (NAL unit types 0 and 25–31 without FU-A).
    Payload,
    /// Part of a unit whose beginning or end never came.
    Fragment,
    /// No RTCP packet, or one cut short.
    Control,
}

impl PacketLoss {
    /// All of them, in the order in which they are counted.
    pub const ALL: [PacketLoss; 8] = [
        PacketLoss::Missing,
        PacketLoss::Late,
        PacketLoss::ForeignSource,
        PacketLoss::PayloadType,
        PacketLoss::Malformed,
        PacketLoss::Payload,
        PacketLoss::Fragment,
        PacketLoss::Control,
    ];

    /// The key in `losses`, and with its first word cut off the label of the metric.
    pub fn key(self) -> &'static str {
        match self {
            PacketLoss::Missing => "packets_missing",
            PacketLoss::Late => "packets_late",
            PacketLoss::ForeignSource => "packets_foreign_source",
            PacketLoss::PayloadType => "packets_payload_type",
            PacketLoss::Malformed => "packets_malformed",
            PacketLoss::Payload => "packets_payload",
            PacketLoss::Fragment => "packets_fragment",
            PacketLoss::Control => "packets_control",
        }
    }

    /// The label of the metric.
    pub fn label(self) -> &'static str {
        self.key().strip_prefix("packets_").unwrap_or_default()
    }
}

/// How many packets went unused, by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PacketLosses([u64; PacketLoss::ALL.len()]);

impl PacketLosses {
    /// Counts packets that were lost for this cause.
    pub fn add(&mut self, cause: PacketLoss, packets: u64) {
        if let Some(count) = self.0.get_mut(cause as usize) {
            *count = count.saturating_add(packets);
        }
    }

    /// Adds all of another's.
    pub fn merge(&mut self, other: &PacketLosses) {
        for cause in PacketLoss::ALL {
            self.add(cause, other.get(cause));
        }
    }

    /// Packets that were lost for this cause.
    pub fn get(&self, cause: PacketLoss) -> u64 {
        self.0.get(cause as usize).copied().unwrap_or(0)
    }

    /// Packets that came and were refused: all but those that never came.
    pub fn refused(&self) -> u64 {
        self.0.iter().skip(1).fold(0, |sum, count| sum.saturating_add(*count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_own_count_and_name() {
        let mut losses = PacketLosses::default();
        for (count, cause) in (1..).zip(PacketLoss::ALL) {
            losses.add(cause, count);
        }
        losses.merge(&losses.clone());
        assert!((1..).zip(PacketLoss::ALL).all(|(count, cause)| losses.get(cause) == 2 * count));
        assert_eq!(losses.refused(), 2 * (2..=8).sum::<u64>());
        assert!(PacketLoss::ALL.iter().all(|cause| !cause.label().is_empty()));
    }
}
