//! One connection's conversation, without the connection: what is to be written, and what follows from what
//! was read. Every packet from the broker is held against what it may say at that moment.

use super::packet::{self, Fault, Granted, Incoming, Version};
use std::time::{Duration, Instant};

/// Largest packet that is taken from the broker, bytes: commands are words. Told to brokers of MQTT 5, held
/// against all.
pub(super) const MAX_INCOMING_BYTES: usize = 16 << 10;
/// Messages of QoS 1 under way at once, if the broker allows as many: enough for 600 a second over a line of
/// 100 ms.
const WINDOW: usize = 64;
/// While more than this waits to be written, nothing is added, bytes.
const MAX_UNWRITTEN_BYTES: usize = 64 << 10;
/// A broker confirms a message within this time, or the connection is of no use.
const ACK_TIMEOUT: Duration = Duration::from_secs(20);
/// It answers a ping within this time.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages for us in one second: a person does not press faster, and what does is no person.
const MAX_MESSAGES_PER_S: u32 = 50;
/// Retained messages on one connection: of as many pipelines as may have been here and were left behind, and
/// more.
const MAX_RETAINED: u32 = 2048;
/// While it is looked for what was left behind, the states that we tell ourselves come back: of all
/// pipelines, every second.
const MAX_ECHOES_PER_S: u32 = 200;
/// It may take the message later.
const QUOTA_EXCEEDED: u8 = 0x97;
/// Subscriptions and their ends that are not answered, at most.
const MAX_ASKING: usize = 4;

/// Why a connection ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub(super) why: String,
    /// Trying again soon helps.
    pub(super) is_transient: bool,
    /// The other version may be spoken.
    pub(super) is_version: bool,
}

impl End {
    pub(super) fn transient(why: impl Into<String>) -> End {
        End { why: why.into(), is_transient: true, is_version: false }
    }
}

impl From<Fault> for End {
    fn from(fault: Fault) -> End {
        // A broker that floods once floods again.
        End { why: fault.to_string(), is_transient: false, is_version: false }
    }
}

/// What follows from a packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News<'a> {
    /// It has taken the message of that number.
    Delivered(u64),
    /// It does not take it, and why.
    Refused(u64, &'static str),
    /// A message for us.
    Command {
        topic: &'a str,
        payload: &'a [u8],
        is_retained: bool,
    },
    /// It does not let us subscribe.
    Unsubscribed,
    Nothing,
}

/// A message of QoS 1 that the broker has not confirmed.
#[derive(Debug)]
struct UnderWay {
    /// Packet identifier, by which the broker confirms it.
    id: u16,
    /// Its number in the outbox.
    number: u64,
    sent: Instant,
}

/// One connection's conversation: bytes to write, what is in flight, and when something was last heard.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) version: Version,
    pub(super) granted: Granted,
    /// To be written, from `written` on.
    pub(super) out: Vec<u8>,
    pub(super) written: usize,
    /// The messages that the broker has not confirmed, in the order in which they went.
    under_way: heapless::Vec<UnderWay, WINDOW>,
    /// Begins at one and grows with every confirmation: brokers that end the connection for one message
    /// (Mosquitto 2.0.11, of a topic that its list forbids) do so before others are lost with it, and it is
    /// known which it was.
    window: usize,
    next_id: u16,
    /// What was asked for and is not answered yet.
    asking: [Option<u16>; MAX_ASKING],
    /// So many filters may have messages come.
    subscribed: usize,
    keep_alive: Duration,
    last_written: Instant,
    last_read: Instant,
    pinged: Option<Instant>,
    /// Beginning and messages of the current second.
    second: (Instant, u32),
    retained: u32,
}

impl Session {
    /// The broker has agreed to talk.
    pub(super) fn new(version: Version, granted: Granted, keep_alive: Duration, now: Instant) -> Session {
        let keep_alive = match granted.keep_alive_s {
            // 0: it does not want to know. We do.
            None | Some(0) => keep_alive,
            Some(seconds) => keep_alive.min(Duration::from_secs(u64::from(seconds))),
        };
        Session {
            version,
            granted,
            out: Vec::new(),
            written: 0,
            under_way: heapless::Vec::new(),
            window: 1,
            next_id: 1,
            asking: [None; MAX_ASKING],
            subscribed: 0,
            keep_alive,
            last_written: now,
            last_read: now,
            pinged: None,
            second: (now, 0),
            retained: 0,
        }
    }

    /// Bytes that wait to be written.
    pub(super) fn unwritten(&self) -> &[u8] {
        self.out.get(self.written..).unwrap_or_default()
    }

    /// So many of them have been.
    pub(super) fn wrote(&mut self, bytes: usize, now: Instant) {
        self.written += bytes;
        self.last_written = now;
        if self.written >= self.out.len() {
            self.out.clear();
            self.written = 0;
        }
    }

    /// Room for one more message of QoS 1.
    pub(super) fn has_window(&self) -> bool {
        self.under_way.len() < self.window.min(usize::from(self.granted.receive_maximum))
    }

    /// Room for more bytes.
    pub(super) fn has_room(&self) -> bool {
        self.unwritten().len() < MAX_UNWRITTEN_BYTES
    }

    /// Whether the broker takes packets of that size.
    pub(super) fn fits(&self, topic: &str, payload: &[u8]) -> bool {
        packet::publish_bytes(topic, payload) <= self.granted.most_bytes
    }

    /// Writes a message of QoS 1; false when the broker takes none, and it has been written as one of QoS 0.
    pub(super) fn publish_surely(&mut self, number: u64, topic: &str, payload: &[u8], now: Instant) -> bool {
        if self.granted.maximum_qos == 0 {
            self.publish(topic, payload, false);
            return false;
        }
        let id = self.id();
        packet::publish(&mut self.out, self.version, topic, payload, Some(id), false);
        let kept = self.under_way.push(UnderWay { id, number, sent: now });
        debug_assert!(kept.is_ok(), "it was asked whether there is room");
        true
    }

    /// Writes a message of QoS 0.
    pub(super) fn publish(&mut self, topic: &str, payload: &[u8], is_retained: bool) {
        let is_retained = is_retained && self.granted.is_retain_available;
        packet::publish(&mut self.out, self.version, topic, payload, None, is_retained);
    }

    /// Asks for the messages of these topics.
    pub(super) fn subscribe(&mut self, filter: &str) {
        if let Some(id) = self.ask() {
            packet::subscribe(&mut self.out, self.version, id, filter, 1);
            self.subscribed += 1;
        }
    }

    /// Wants no more of them.
    pub(super) fn unsubscribe(&mut self, filter: &str) {
        if let Some(id) = self.ask() {
            packet::unsubscribe(&mut self.out, self.version, id, filter);
        }
    }

    /// An identifier whose answer is awaited.
    fn ask(&mut self) -> Option<u16> {
        let id = self.id();
        *self.asking.iter_mut().find(|asked| asked.is_none())? = Some(id);
        Some(id)
    }

    fn answered(&mut self, id: u16) -> Result<(), Fault> {
        let asked = self.asking.iter_mut().find(|asked| **asked == Some(id));
        *asked.ok_or(Fault::Unexpected("it answers what was not asked"))? = None;
        Ok(())
    }

    /// DISCONNECT: the broker shall not publish the will.
    pub(super) fn disconnect(&mut self) {
        packet::disconnect(&mut self.out);
    }

    /// One that is not in use: there are 65 535, and 65 are.
    fn id(&mut self) -> u16 {
        loop {
            let id = self.next_id;
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
            if !self.asking.contains(&Some(id)) && self.under_way.iter().all(|other| other.id != id) {
                return id;
            }
        }
    }

    /// Nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_empty() && self.unwritten().is_empty()
    }

    /// Notes when bytes of the broker last came.
    pub(super) fn heard(&mut self, now: Instant) {
        self.last_read = now;
    }

    /// What follows from a packet.
    pub(super) fn take<'a>(&mut self, first: u8, body: &'a [u8], now: Instant) -> Result<News<'a>, End> {
        match packet::read(self.version, first, body)? {
            Incoming::PubAck { id, code } => {
                let place = self.under_way.iter().position(|message| message.id == id);
                let UnderWay { number, .. } = place
                    .map(|place| self.under_way.remove(place))
                    .ok_or(Fault::Unexpected("it confirms a message that is not under way"))?;
                self.window = (self.window + 1).min(WINDOW);
                if code == QUOTA_EXCEEDED {
                    return Err(End::transient(packet::refusal(self.version, code)));
                }
                Ok(if code < 0x80 {
                    News::Delivered(number)
                } else {
                    News::Refused(number, packet::refusal(self.version, code))
                })
            }
            Incoming::SubAck { id, code } => {
                self.answered(id)?;
                if code < 0x80 {
                    return Ok(News::Nothing);
                }
                self.subscribed = self.subscribed.saturating_sub(1);
                Ok(News::Unsubscribed)
            }
            Incoming::UnsubAck { id } => {
                self.answered(id)?;
                self.subscribed = self.subscribed.saturating_sub(1);
                Ok(News::Nothing)
            }
            Incoming::PingResp => {
                self.pinged.take().ok_or(Fault::Unexpected("it answers a ping that was not sent"))?;
                Ok(News::Nothing)
            }
            Incoming::Publish { topic, payload, id, is_retained } => {
                // Messages may come before the answer to SUBSCRIBE.
                if self.subscribed == 0 {
                    return Err(Fault::Unexpected("it sends messages that were not asked for").into());
                }
                if now.saturating_duration_since(self.second.0) >= Duration::from_secs(1) {
                    self.second = (now, 0);
                }
                if is_retained {
                    self.retained += 1;
                } else {
                    self.second.1 += 1;
                }
                let most = if self.subscribed > 1 { MAX_ECHOES_PER_S } else { MAX_MESSAGES_PER_S };
                if self.second.1 > most || self.retained > MAX_RETAINED {
                    return Err(
                        Fault::Unexpected("it sends more messages than anybody could want to send").into()
                    );
                }
                if let Some(id) = id {
                    packet::puback(&mut self.out, id);
                }
                Ok(News::Command { topic, payload, is_retained })
            }
            Incoming::Disconnect { code, reason } => {
                let why = packet::refusal(self.version, code);
                let why = if code == 0 { "it ended the connection".to_owned() } else { told(why, reason) };
                // Busy, shutting down, or too slow for it.
                let is_transient = matches!(code, 0 | 0x80 | 0x88 | 0x89 | 0x8b | 0x8d | 0x93 | 0x98);
                Err(End { why, is_transient, is_version: false })
            }
            Incoming::ConnAck { .. } => Err(Fault::Unexpected("it answers CONNECT twice").into()),
        }
    }

    /// What is due by the clock; how long until something else is.
    pub(super) fn tick(&mut self, now: Instant) -> Result<Duration, End> {
        let since = |then: Instant| now.saturating_duration_since(then);
        if self.under_way.first().is_some_and(|oldest| since(oldest.sent) >= ACK_TIMEOUT) {
            return Err(End::transient(format!("it has confirmed nothing for {} s", ACK_TIMEOUT.as_secs())));
        }
        if self.pinged.is_some_and(|pinged| since(pinged) >= PING_TIMEOUT) {
            return Err(End::transient(format!("it has not answered for {} s", PING_TIMEOUT.as_secs())));
        }
        // Either silence is too long: ours for the broker, the broker's for us.
        if self.pinged.is_none() && since(self.last_written.min(self.last_read)) >= self.keep_alive {
            packet::pingreq(&mut self.out);
            self.pinged = Some(now);
        }
        Ok(Duration::from_secs(1))
    }
}

/// A reason of ours, and the broker's words: text of a stranger, for people.
pub(super) fn told(why: &str, reason: Option<&str>) -> String {
    /// Longer than this nobody explains himself.
    const MAX_CHARACTERS: usize = 120;
    match reason.filter(|reason| !reason.is_empty()) {
        None => why.to_owned(),
        Some(reason) => {
            let plain: String =
                reason.chars().take(MAX_CHARACTERS).map(|c| if c.is_control() { ' ' } else { c }).collect();
            format!("{why} ({plain:?})")
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn session(granted: Granted) -> (Session, Instant) {
        let now = Instant::now();
        (Session::new(Version::V5, granted, Duration::from_secs(30), now), now)
    }

    #[test]
    fn the_window_is_the_broker_s_and_confirmations_come_in_any_order() {
        let (mut session, now) = session(Granted { receive_maximum: 3, ..Granted::default() });
        for number in 1..=3_u8 {
            assert!(session.has_window() && session.publish_surely(u64::from(number), "t", b"x", now));
            assert!(number > 1 || !session.has_window(), "the first goes alone");
            assert_eq!(session.take(0x40, &[0, number], now), Ok(News::Delivered(u64::from(number))));
        }
        for number in 4..=6 {
            assert!(session.has_window() && session.publish_surely(number, "t", b"x", now));
        }
        assert!(!session.has_window(), "the broker allows three");
        assert_eq!(session.take(0x40, &[0, 5], now), Ok(News::Delivered(5)));
        assert!(matches!(session.take(0x40, &[0, 4, 0x87, 0], now), Ok(News::Refused(4, _))));
        assert!(session.take(0x40, &[0, 5], now).is_err(), "it confirms twice");
        assert!(session.has_window());
        assert!(session.take(0x40, &[0, 6, 0x97, 0], now).is_err_and(|end| end.is_transient));
    }

    #[test]
    fn a_broker_without_qos_1_gets_0_and_what_does_not_fit_is_known() {
        let (mut session, now) = session(Granted { maximum_qos: 0, most_bytes: 20, ..Granted::default() });
        assert!(!session.publish_surely(1, "t", b"x", now));
        assert!(session.is_idle() || session.unwritten()[0] == 0x30);
        assert!(session.fits("t", b"123456789") && !session.fits("t", b"1234567890"));
    }

    #[test]
    fn silence_is_tried_and_then_an_end() {
        let (mut session, now) = session(Granted { keep_alive_s: Some(10), ..Granted::default() });
        session.tick(now + Duration::from_secs(9)).unwrap();
        assert!(session.unwritten().is_empty());
        session.tick(now + Duration::from_secs(10)).unwrap();
        assert_eq!(session.unwritten(), [0xc0, 0]);
        session.wrote(2, now + Duration::from_secs(10));
        assert_eq!(session.take(0xd0, &[], now), Ok(News::Nothing));
        assert!(session.take(0xd0, &[], now).is_err(), "nobody asked");
        session.publish_surely(1, "t", b"x", now);
        assert!(session.tick(now + ACK_TIMEOUT).is_err());
    }

    #[test]
    fn a_broker_that_floods_or_sends_what_nobody_asked_for_is_left() {
        let (mut session, now) = session(Granted::default());
        let message = b"\0\x01a\0pause";
        assert!(session.take(0x30, message, now).is_err(), "nobody subscribed");
        session.subscribe("a");
        for _ in 0..MAX_MESSAGES_PER_S {
            assert!(matches!(session.take(0x30, message, now), Ok(News::Command { payload: b"pause", .. })));
        }
        assert!(session.take(0x30, message, now).is_err());
        assert!(session.take(0x30, message, now + Duration::from_secs(1)).is_ok());
        assert!(session.take(0x90, &[0, 9, 0, 0], now).is_err(), "nobody asked");
        assert_eq!(session.take(0x90, &[0, 1, 0, 0x87], now), Ok(News::Unsubscribed));
        assert!(session.take(0x30, message, now + Duration::from_secs(2)).is_err());
        assert!(session.take(0x20, &[0, 0, 0], now).is_err());
    }

    #[test]
    fn identifiers_in_use_are_not_given_again() {
        let (mut session, now) = session(Granted::default());
        session.publish_surely(1, "t", b"x", now);
        session.next_id = u16::MAX;
        let ids: Vec<u16> = (0..3).map(|_| session.id()).collect();
        assert_eq!(ids, [u16::MAX, 2, 3]);
    }
}
