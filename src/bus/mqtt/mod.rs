//! The client of MQTT: one connection for the service, made again whenever it is lost.
//!
//! `packet` is the protocol's bytes, `session` the conversation without a connection, `stream` the
//! connection; here all of it is driven on the event loop.

mod packet;
mod session;
mod stream;

use super::board::Board;
use super::until_closed;
use crate::clock::within;
use crate::command::{Command, Execute, PipelineId, Secret};
use crate::logging::{Throttle, suppressed};
use crate::sink::Broker;
use crate::sink::outbox::{Link, Taken};
use futures_rustls::rustls::ClientConfig;
use packet::{Connect, Incoming, Version};
use session::{End, MAX_INCOMING_BYTES, News, Session};
use smol::future::{or, poll_fn};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use stream::Stream;

/// The broker answers CONNECT within this time.
const CONNACK_TIMEOUT: Duration = Duration::from_secs(10);
/// It takes some bytes within this time.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// After a connection that failed: 0.5 s, then twice as long each time, up to this. A broker that is
/// restarted is found soon, and an attempt costs a packet.
const RETRY: std::ops::RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(4);
/// After a refusal that somebody must do something about (a password, a certificate).
const RETRY_REFUSED: Duration = Duration::from_secs(30);
/// A connection that has lasted so long was a good one.
const GOOD_AFTER: Duration = Duration::from_secs(10);
/// So long after a connection was made, a broker has told what it keeps.
const LEFT_BEHIND: Duration = Duration::from_secs(5);
/// A topic that was refused is tried again after this time: somebody may have changed the access list.
const REFUSED_FOR: Duration = Duration::from_secs(60);
/// Topics of which that is known, at most.
const MAX_REFUSED: usize = 64;
/// Commands that wait to be carried out, at most; more are dropped.
const MAX_COMMANDS: usize = 16;

/// What the broker keeps of a service that is there, and of one that is not.
pub(super) const ONLINE: &[u8] = b"online";
const OFFLINE: &[u8] = b"offline";

/// How the broker is reached.
#[derive(Clone)]
pub struct MqttSettings {
    /// Name or address of the broker.
    pub host: String,
    /// Port of the broker, 1..65535.
    pub port: u16,
    /// With TLS, if any.
    pub tls: Option<Arc<ClientConfig>>,
    /// User name at the broker; `None`: it is not asked for.
    pub user: Option<String>,
    /// Password of `user`, where the broker asks for one.
    pub password: Option<Secret>,
    /// No two devices have the same.
    pub client_id: String,
    /// Longest silence that either side takes for a living connection, MQTT's Keep Alive.
    pub keep_alive: Duration,
    /// Whether pipelines may be steered.
    pub takes_commands: bool,
    /// Where Home Assistant looks for devices, if it shall find them.
    pub discovery_prefix: Option<String>,
    /// Where pictures are, if Home Assistant shall show them.
    pub http_url: Option<String>,
    /// How people call this device.
    pub device_name: String,
    /// Where the service's own topics begin.
    pub base_topic: String,
}

impl MqttSettings {
    /// Whether everything that `self` has told the broker of the service is in its place with `other`.
    pub(super) fn are_at_home_with(&self, other: &MqttSettings) -> bool {
        let home = |settings: &MqttSettings| {
            (
                settings.host.clone(),
                settings.port,
                settings.base_topic.clone(),
                settings.discovery_prefix.clone(),
            )
        };
        home(self) == home(other)
    }
}

/// Where the service says whether it is there.
pub(super) fn status_topic(base: &str) -> String {
    format!("{base}/status")
}

/// The client of the broker: one connection at a time, made again whenever it is lost.
pub(super) struct Client<E> {
    settings: MqttSettings,
    broker: Rc<Broker>,
    board: Rc<Board>,
    commands: E,
    status_topic: String,
    /// `<base>/pipelines/`: what commands for pipelines begin with.
    pipelines_topic: String,
    orders: (async_channel::Sender<Command>, async_channel::Receiver<Command>),
    throttle: RefCell<Throttle>,
    /// Topics that the broker does not take, and since when.
    refused: RefCell<BTreeMap<Rc<str>, Instant>>,
    /// Another client follows: what waits is left to it.
    is_followed: Cell<bool>,
}

impl<E: Execute> Client<E> {
    pub(super) fn new(
        settings: MqttSettings,
        broker: Rc<Broker>,
        board: Rc<Board>,
        commands: E,
    ) -> Client<E> {
        let base = &settings.base_topic;
        let (status_topic, pipelines_topic) = (status_topic(base), format!("{base}/pipelines/"));
        let (orders, throttle) =
            (async_channel::bounded(MAX_COMMANDS), RefCell::new(Throttle::new(Instant::now())));
        Client {
            settings,
            broker,
            board,
            commands,
            status_topic,
            pipelines_topic,
            orders,
            throttle,
            refused: RefCell::default(),
            is_followed: Cell::new(false),
        }
    }

    /// The next goodbye is not the service's: another client sends what waits.
    pub(super) fn make_way(&self) {
        self.is_followed.set(true);
        self.broker.outbox.bell.ring();
    }

    /// Connects and talks until `stop` is closed; then says goodbye.
    pub(super) async fn run(&self, stop: async_channel::Receiver<()>) {
        or(self.connections(&stop), self.carry_out()).await;
    }

    /// Commands from the broker, one after the other: the connection does not wait for them.
    async fn carry_out(&self) {
        while let Ok(command) = self.orders.1.recv().await {
            let told = format!("{command:?}");
            match self.commands.execute(command).await {
                Ok(_) => self.log(log::Level::Info, format_args!("event=mqtt_command command=\"{told}\"")),
                Err(error) => self.log(
                    log::Level::Warn,
                    format_args!("event=mqtt_command_failed command=\"{told}\" error=\"{error}\""),
                ),
            }
        }
    }

    async fn connections(&self, stop: &async_channel::Receiver<()>) {
        let mut version = Version::V5;
        let mut pause = *RETRY.start();
        let mut random = super::jitter(&self.settings.client_id);
        while !stop.is_closed() {
            let began = Instant::now();
            let outcome = or(async { Some(self.connection(version, stop).await) }, async {
                until_closed(stop).await;
                // A session says goodbye by itself; nothing else is worth waiting for.
                if self.broker.outbox.link() == Link::Up {
                    smol::Timer::after(super::GOODBYE).await;
                }
                None
            })
            .await;
            self.broker.outbox.rewind();
            let Some(Err(end)) = outcome else { return };
            if began.elapsed() >= GOOD_AFTER {
                pause = *RETRY.start();
            }
            if end.is_version {
                version = if version == Version::V5 { Version::V311 } else { Version::V5 };
            }
            let why = format!("broker {}:{}: {}", self.settings.host, self.settings.port, end.why);
            self.log(log::Level::Warn, format_args!("event=mqtt_down error={why:?}"));
            self.broker.outbox.set_link(Link::Down(why.into()));
            let least = if end.is_transient { Duration::ZERO } else { RETRY_REFUSED };
            // A fleet whose broker comes back does not come back in one moment.
            let wait = pause.max(least).mul_f64(random());
            pause = (pause * 2).min(*RETRY.end());
            let _stopped = within(wait, until_closed(stop)).await;
        }
    }

    /// One connection, to its end; `Ok` when we ended it.
    async fn connection(&self, version: Version, stop: &async_channel::Receiver<()>) -> Result<(), End> {
        let stream = stream::dial(&self.settings).await.map_err(End::transient)?;
        let mut wire = Wire { stream, input: Vec::new(), host: self.settings.host.clone() };
        let mut session = self.greet(&mut wire, version).await?;
        self.broker.outbox.set_link(Link::Up);
        let (host, port, tls) = (&self.settings.host, self.settings.port, self.settings.tls.is_some());
        self.log(
            log::Level::Info,
            format_args!("event=mqtt_up broker={host}:{port} version={version} tls={tls}"),
        );
        session.publish(&self.status_topic, ONLINE, true);
        if self.settings.takes_commands {
            session.subscribe(&format!("{}+/set", self.pipelines_topic));
        }
        // What it keeps of pipelines that are no more, since this service was killed, say.
        session.subscribe(&self.states_filter());
        self.board.begin();
        self.talk(&mut wire, &mut session, stop).await
    }

    /// CONNECT and its answer.
    async fn greet(&self, wire: &mut Wire, version: Version) -> Result<Session, End> {
        let settings = &self.settings;
        let connect = Connect {
            client_id: &settings.client_id,
            user: settings.user.as_deref(),
            password: settings.password.as_ref().map(Secret::reveal),
            keep_alive_s: u16::try_from(settings.keep_alive.as_secs()).unwrap_or(u16::MAX),
            will: (&self.status_topic, OFFLINE),
            most_bytes: MAX_INCOMING_BYTES as u32,
        };
        let mut out = Vec::new();
        connect.write(&mut out, version);
        let answer = async {
            wire.write_all(&out).await?;
            loop {
                if let Some((first, body, end)) = packet::frame(&wire.input, MAX_INCOMING_BYTES)? {
                    let session = answered(
                        version,
                        first,
                        wire.input.get(body..end).unwrap_or_default(),
                        settings.keep_alive,
                    );
                    wire.input.drain(..end);
                    return session;
                }
                // Some old brokers close instead of saying that they know another version.
                wire.read().await.map_err(|end| End { is_version: true, ..end })?;
            }
        };
        let late = || {
            Err(End::transient(
                "it does not answer as a broker does: is that an MQTT port, and mqtt.tls set as it wants?",
            ))
        };
        within(CONNACK_TIMEOUT, answer).await.unwrap_or_else(late)
    }

    async fn talk(
        &self,
        wire: &mut Wire,
        session: &mut Session,
        stop: &async_channel::Receiver<()>,
    ) -> Result<(), End> {
        let mut progress = Instant::now();
        let mut is_stopping = false;
        let mut looks_until = Some(Instant::now() + LEFT_BEHIND);
        let mut timer = smol::Timer::after(Duration::ZERO);
        loop {
            let now = Instant::now();
            let next = session.tick(now)?;
            self.fill(session, now);
            if session.unwritten().is_empty() {
                progress = now;
            } else if now.saturating_duration_since(progress) >= WRITE_TIMEOUT {
                return Err(End::transient(format!(
                    "it has taken nothing for {} s",
                    WRITE_TIMEOUT.as_secs()
                )));
            }
            let nothing_waits = || self.is_followed.get() || self.broker.outbox.is_empty();
            if is_stopping && session.is_idle() && self.board.is_told() && nothing_waits() {
                session.publish(&self.status_topic, OFFLINE, true);
                session.disconnect();
                wire.write_all(session.unwritten()).await?;
                return Ok(());
            }
            if looks_until.is_some_and(|until| now >= until) {
                looks_until = None;
                session.unsubscribe(&self.states_filter());
            }
            timer.set_after(next);
            let event = poll_fn(|context| self.poll(context, wire, session, &mut timer)).await?;
            if let Event::Moved { wrote, read } = event {
                let now = Instant::now();
                if wrote {
                    progress = now;
                }
                if read {
                    session.heard(now);
                    self.read(wire, session, now)?;
                }
                smol::future::yield_now().await;
            }
            if !is_stopping && stop.is_closed() {
                is_stopping = true;
            }
        }
    }

    /// Until bytes have gone or come, something is to be said, or it is time to look at the clock.
    fn poll(
        &self,
        context: &mut Context<'_>,
        wire: &mut Wire,
        session: &mut Session,
        timer: &mut smol::Timer,
    ) -> Poll<Result<Event, End>> {
        let (mut wrote, mut read) = (false, false);
        while !session.unwritten().is_empty() {
            match wire.stream.poll_write(context, session.unwritten()) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(wire.closed())),
                Poll::Ready(Ok(bytes)) => {
                    session.wrote(bytes, Instant::now());
                    wrote = true;
                }
                Poll::Ready(Err(cause)) => return Poll::Ready(Err(wire.failed(&cause))),
                Poll::Pending => break,
            }
        }
        if let Poll::Ready(Err(cause)) = wire.stream.poll_flush(context) {
            return Poll::Ready(Err(wire.failed(&cause)));
        }
        match wire.poll_read(context) {
            Poll::Ready(Ok(())) => read = true,
            Poll::Ready(Err(end)) => return Poll::Ready(Err(end)),
            Poll::Pending => {}
        }
        if wrote || read {
            return Poll::Ready(Ok(Event::Moved { wrote, read }));
        }
        // All of them are asked, so that each wakes us.
        let outbox = self.broker.outbox.bell.poll(context).is_ready();
        let board = self.board.bell.poll(context).is_ready();
        let time = std::pin::Pin::new(timer).poll(context).is_ready();
        if outbox || board || time { Poll::Ready(Ok(Event::Woken)) } else { Poll::Pending }
    }

    /// Writes what waits, as much as may be under way.
    fn fill(&self, session: &mut Session, now: Instant) {
        while session.has_room()
            && let Some((topic, payload)) = self.board.next()
        {
            if session.fits(&topic, &payload) {
                session.publish(&topic, &payload, true);
            }
        }
        let outbox = &self.broker.outbox;
        while !self.is_followed.get() {
            let mut sent_anyway = None;
            let went_on = outbox.send(|message| {
                if !session.has_room() || (message.qos > 0 && !session.has_window()) {
                    return Taken::Not;
                }
                if !session.fits(&message.topic, &message.payload) || self.is_refused(&message.topic, now) {
                    return Taken::Never;
                }
                if message.qos == 0 {
                    session.publish(&message.topic, &message.payload, false);
                } else if !session.publish_surely(message.number, &message.topic, &message.payload, now) {
                    sent_anyway = Some(message.number);
                }
                Taken::Sent
            });
            if let Some(number) = sent_anyway {
                outbox.delivered(number);
            }
            if !went_on {
                return;
            }
        }
    }

    /// Takes the packets that have come as a whole.
    fn read(&self, wire: &mut Wire, session: &mut Session, now: Instant) -> Result<(), End> {
        let mut at = 0;
        loop {
            let rest = wire.input.get(at..).unwrap_or_default();
            let Some((first, body, end)) = packet::frame(rest, MAX_INCOMING_BYTES)? else { break };
            match session.take(first, rest.get(body..end).unwrap_or_default(), now)? {
                News::Delivered(number) => self.broker.outbox.delivered(number),
                News::Refused(number, why) => {
                    let topic = self.broker.outbox.refused(number);
                    self.refuse(topic, now);
                    self.log(log::Level::Warn, format_args!("event=mqtt_message_refused why={why:?}"));
                }
                News::Command { topic, payload, is_retained } => self.heard(topic, payload, is_retained),
                News::Unsubscribed => {
                    let why = "the broker's access list";
                    self.log(log::Level::Warn, format_args!("event=mqtt_subscription_refused why={why:?}"));
                }
                News::Nothing => {}
            }
            at += end;
        }
        wire.input.drain(..at);
        Ok(())
    }

    /// The broker has refused that topic a moment ago: its messages are not worth a connection each.
    fn is_refused(&self, topic: &Rc<str>, now: Instant) -> bool {
        let mut refused = self.refused.borrow_mut();
        match refused.get(topic) {
            None => false,
            Some(since) if now.saturating_duration_since(*since) < REFUSED_FOR => true,
            Some(_) => {
                refused.remove(topic);
                false
            }
        }
    }

    fn refuse(&self, topic: Option<Rc<str>>, now: Instant) {
        let mut refused = self.refused.borrow_mut();
        if refused.len() >= MAX_REFUSED {
            refused.clear();
        }
        refused.extend(topic.map(|topic| (topic, now)));
    }

    /// States of all pipelines, as they are told.
    fn states_filter(&self) -> String {
        format!("{}+/state", self.pipelines_topic)
    }

    /// A message on a topic of ours.
    fn heard(&self, topic: &str, payload: &[u8], is_retained: bool) {
        let state = topic.strip_prefix(&*self.pipelines_topic).and_then(|rest| rest.strip_suffix("/state"));
        match state {
            Some(id) if is_retained => self.board.found(id),
            // Our own.
            Some(_) => {}
            None => self.order(topic, payload, is_retained),
        }
    }

    /// A message on a topic of commands.
    fn order(&self, topic: &str, payload: &[u8], is_retained: bool) {
        let id = topic.strip_prefix(&*self.pipelines_topic).and_then(|rest| rest.strip_suffix("/set"));
        let id = id.and_then(|id| PipelineId::try_parse(id).ok());
        let command = match (id, payload.trim_ascii()) {
            (Some(id), b"pause") => Some(Command::Mute(id)),
            (Some(id), b"resume") => Some(Command::Resume(id)),
            _ => None,
        };
        let why = match command {
            None => "it is neither pause nor resume of a pipeline",
            // It would be carried out at every new connection.
            Some(_) if is_retained => "it is retained",
            Some(command) => match self.orders.0.try_send(command) {
                Ok(()) => return,
                Err(_) => "too many wait",
            },
        };
        self.log(log::Level::Warn, format_args!("event=mqtt_command_ignored why={why:?}"));
    }

    fn log(&self, level: log::Level, event: std::fmt::Arguments<'_>) {
        if let Some(before) = self.throttle.borrow_mut().admit(Instant::now()) {
            log::log!(level, "{event}{}", suppressed(before));
        }
    }
}

/// What happened on a connection.
enum Event {
    Moved { wrote: bool, read: bool },
    Woken,
}

/// The stream, and what has come of the next packets.
struct Wire {
    stream: Stream,
    input: Vec<u8>,
    host: String,
}

impl Wire {
    /// Reads what is there, as much as there is room for.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<(), End>> {
        /// Read at once, bytes.
        const CHUNK_BYTES: usize = 4 << 10;
        let mut chunk = [0; CHUNK_BYTES];
        // One packet at most that is not whole, and what came with its end.
        let room = (MAX_INCOMING_BYTES + CHUNK_BYTES).saturating_sub(self.input.len()).min(CHUNK_BYTES);
        let Some(buffer) = chunk.get_mut(..room).filter(|buffer| !buffer.is_empty()) else {
            return Poll::Pending;
        };
        match self.stream.poll_read(context, buffer) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(self.closed())),
            Poll::Ready(Ok(bytes)) => {
                self.input.extend_from_slice(buffer.get(..bytes).unwrap_or_default());
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(cause)) => Poll::Ready(Err(self.failed(&cause))),
            Poll::Pending => Poll::Pending,
        }
    }

    async fn read(&mut self) -> Result<(), End> {
        poll_fn(|context| self.poll_read(context)).await
    }

    async fn write_all(&mut self, bytes: &[u8]) -> Result<(), End> {
        let mut rest = bytes;
        poll_fn(|context| {
            while !rest.is_empty() {
                match self.stream.poll_write(context, rest) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(self.closed())),
                    Poll::Ready(Ok(bytes)) => rest = rest.get(bytes..).unwrap_or_default(),
                    Poll::Ready(Err(cause)) => return Poll::Ready(Err(self.failed(&cause))),
                    Poll::Pending => return Poll::Pending,
                }
            }
            self.stream.poll_flush(context).map_err(|cause| self.failed(&cause))
        })
        .await
    }

    fn closed(&self) -> End {
        End::transient("it closed the connection")
    }

    fn failed(&self, cause: &std::io::Error) -> End {
        End::transient(stream::in_words(cause, &self.host))
    }
}

/// The broker's answer to CONNECT.
fn answered(version: Version, first: u8, body: &[u8], keep_alive: Duration) -> Result<Session, End> {
    match packet::read(version, first, body)? {
        Incoming::ConnAck { code: 0, granted, .. } => {
            Ok(Session::new(version, granted, keep_alive, Instant::now()))
        }
        Incoming::ConnAck { code, reason, .. } => {
            // 1: a broker of 3.1.1 that does not know 5.
            let is_version = code == 0x84 || code == 1;
            let why = if is_version {
                "it does not speak this version of MQTT"
            } else {
                packet::refusal(version, code)
            };
            let is_busy = matches!(code, 0x88 | 0x89 | 0x97) || (version == Version::V311 && code == 3);
            Err(End { why: session::told(why, reason), is_transient: is_busy || is_version, is_version })
        }
        _ => Err(packet::Fault::Unexpected("it does not answer CONNECT with CONNACK").into()),
    }
}
