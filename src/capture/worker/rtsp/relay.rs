//! Between a camera and retina, inside the worker.
//!
//! ```text
//!             TCP or TLS                       loopback
//!   camera ───────────────▶ relay ─────────────────────────▶ retina     requests and answers, put right
//!             UDP             │
//!          ───────────────▶   └──▶ stream ──▶ access units              packets: they never get there
//! ```
//!
//! retina asks (DESCRIBE, SETUP, PLAY, keep-alives, TEARDOWN) and understands plain answers. Cameras do not
//! give those: here their answers are read with patience and written anew, credentials are added, a refused
//! transport is exchanged for the other one, TLS is spoken.

mod wire;

use super::address::Address;
use super::kept::kept;
use super::player::Player;
use super::sdp::{self, Media};
use super::stream::Stream;
use super::transport::{Ports, Transport, session};
use crate::capture::Trust;
use crate::capture::place::RTSP_PORT;
use crate::capture::worker::net::{Authorisation, Head, Link, connect, tls};
use crate::capture::worker::record::{Recorder, What};
use crate::command::{PacketLoss, PacketLosses};
use crate::error::{Error, Kind, Result};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;
use tokio::time::{Sleep, timeout};
use url::Url;
use wire::{Item, Wire};

/// Requests that wait for an answer. Of keep-alives that are never answered the oldest are forgotten.
const MAX_WAITING: usize = 16;

/// Units that are kept until PLAY is answered: some cameras send before they say so.
const MAX_EARLY_UNITS: usize = 8;

/// A message that has been silent in its middle for so long is not longer than what came of it, where that
/// makes sense: bodies are shorter than they say where line ends were changed after they were counted.
const SHORT_BODY_PATIENCE: Duration = Duration::from_secs(2);

/// The same where exactly as many bytes are missing as line ends lack their first half: it is all there.
const COUNTED_BODY_PATIENCE: Duration = Duration::from_millis(100);

/// The same where it makes none.
const BROKEN_MESSAGE_PATIENCE: Duration = Duration::from_secs(5);

/// From ours to the camera's farewell to a session over UDP that is exchanged for one over TCP.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(350);

/// Largest UDP datagram, bytes.
const MAX_DATAGRAM_BYTES: usize = 64 * 1024;

/// Datagrams taken in one turn, before others are looked after.
const DATAGRAMS_PER_TURN: usize = 256;

/// Answers that say that this transport is not to be had (RFC 2326: Unsupported Transport; some say Not
/// Acceptable).
const NO_SUCH_TRANSPORT: [u16; 2] = [461, 406];

/// How the camera's packets come.
enum Carrier {
    /// On the RTSP connection: RTP on this channel, RTCP on the next.
    Interleaved(u8),
    Datagrams(Ports),
}

/// A request that the camera has not answered.
#[derive(Debug, Clone)]
struct Asked {
    /// Its number towards the camera.
    number: u32,
    /// Its number from retina; `None`: retina has its answer.
    of_player: Option<u32>,
    method: String,
    uri: String,
    /// Without numbers, transport, session and credentials.
    fields: String,
}

/// What has come of a message that goes no further.
#[derive(Debug, Clone, Copy)]
struct Incomplete {
    /// Bytes of it that have come.
    come: usize,
    since: Instant,
    /// How long it is waited for the rest.
    patience: Duration,
}

/// Stands between a camera and retina: signalling passes, packets are taken out.
pub(super) struct Relay {
    camera: Link,
    wire: Wire,
    recorder: Recorder,
    player: Player,
    /// The camera, whose URL retina does not know, and who vouches for it.
    address: Address,
    trust: Trust,
    /// Address of the camera that the connection leads to.
    peer: IpAddr,
    authorisation: Authorisation,
    number: u32,
    waiting: heapless::Vec<Asked, MAX_WAITING>,
    /// Methods that the camera says it knows.
    public: String,
    way: Carrier,
    /// The transport has been exchanged for the other one, and what people are told of it.
    exchanged: Option<&'static str>,
    /// The camera gave a session: it is named in what follows.
    session: Option<String>,
    /// SETUP and PLAY as retina asked for them.
    set_up: Option<Asked>,
    play: Option<Asked>,
    /// So many bytes of a message have come, and since when no more.
    incomplete: Option<Incomplete>,
    media: Option<Media>,
    stream: Option<Stream>,
    /// PLAY has been answered.
    playing: bool,
    failure: Option<Error>,
    /// Where the camera sent us instead, and the request that it did not answer. Until then nothing else is
    /// read.
    redirect: Option<(String, Asked)>,
    datagram: Vec<u8>,
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Relay {
    /// Connects to a camera, for a player that is there already.
    pub(super) async fn open(
        address: &Address,
        trust: &Trust,
        player: Player,
        recorder: &Recorder,
    ) -> Result<Relay> {
        let (camera, peer) = reach(address, trust, recorder).await?;
        Ok(Relay {
            camera,
            wire: Wire::default(),
            recorder: recorder.clone(),
            player,
            address: address.clone(),
            trust: trust.clone(),
            peer,
            authorisation: Authorisation::new(address.credentials.clone()),
            number: 0,
            waiting: heapless::Vec::new(),
            public: String::new(),
            way: way(address, peer)?,
            exchanged: None,
            session: None,
            set_up: None,
            play: None,
            incomplete: None,
            media: None,
            stream: None,
            playing: false,
            failure: None,
            redirect: None,
            datagram: Vec::new(),
            timer: None,
        })
    }

    /// Goes where the camera sent us, and asks there what it was asked. The player does not notice.
    pub(super) async fn follow(&mut self, address: &Address, trust: &Trust) -> Result<()> {
        let Some((_, mut asked)) = self.redirect.take() else { return Ok(()) };
        (self.camera, self.peer) = reach(address, trust, &self.recorder).await?;
        self.wire = Wire::default();
        (self.address, self.trust) = (address.clone(), trust.clone());
        self.authorisation = Authorisation::new(address.credentials.clone());
        self.waiting.clear();
        self.public.clear();
        self.way = way(address, self.peer)?;
        asked.uri = self.address.url.as_str().to_owned();
        self.ask(asked)
    }

    /// Whether nothing has come over UDP, and RTP over TCP was not refused.
    pub(super) fn is_silent_over_udp(&self) -> bool {
        let is_silent = self.stream.as_ref().is_some_and(|stream| !stream.heard());
        is_silent && self.playing && self.exchanged.is_none() && matches!(self.way, Carrier::Datagrams(_))
    }

    /// Ends the session over UDP and begins one over TCP, on a connection of its own: [`Relay::is_playing`]
    /// tells when it plays. The player does not notice.
    pub(super) async fn begin_over_tcp(&mut self) -> Result<()> {
        self.exchanged = Some("The camera sends nothing over UDP: it is received over TCP");
        if let Some(play) = self.play.clone() {
            self.ask(Asked { method: "TEARDOWN".to_owned(), fields: String::new(), ..play })?;
            let _ = timeout(FAREWELL_TIMEOUT, self.camera.exchange()).await;
        }
        (self.camera, self.peer) = reach(&self.address, &self.trust, &self.recorder).await?;
        self.wire = Wire::default();
        self.authorisation = Authorisation::new(self.address.credentials.clone());
        self.waiting.clear();
        (self.way, self.session, self.stream, self.playing) = (Carrier::Interleaved(0), None, None, false);
        match self.set_up.clone() {
            Some(set_up) => self.ask(set_up),
            None => Err(self.closed()),
        }
    }

    /// Whether PLAY has been answered.
    pub(super) fn is_playing(&self) -> bool {
        self.playing
    }

    /// Why retina was told that something failed, in our words.
    pub(super) fn take_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// Where the camera sent us instead of describing itself: [`Relay::follow`], or give up.
    pub(super) fn redirect(&self) -> Option<&str> {
        self.redirect.as_ref().map(|(location, _)| location.as_str())
    }

    /// What the camera described.
    pub(super) fn media(&self) -> Option<&Media> {
        self.media.as_ref()
    }

    pub(super) fn stream(&mut self) -> Option<&mut Stream> {
        self.stream.as_mut()
    }

    pub(super) fn losses(&self) -> PacketLosses {
        self.stream.as_ref().map(Stream::losses).unwrap_or_default()
    }

    /// What people are to know: packets come over another transport than was asked for.
    pub(super) fn notice(&self) -> Option<&'static str> {
        self.exchanged
    }

    /// Whether a session may live on that must be told goodbye.
    pub(super) fn has_session(&self) -> bool {
        self.stream.is_some()
    }

    /// Packets mean nothing any more: the farewell is all that is left.
    pub(super) fn stop_playing(&mut self) {
        self.playing = false;
        self.stream = None;
    }

    /// Passes on what there is, until a unit is complete and PLAY is answered. May be dropped at any time.
    ///
    /// Errors: the connection has ended, by the camera, or for what came over it.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let now = Instant::now();
        while let Poll::Ready(request) = self.player.poll_request(context) {
            self.pass_on(&request?)?;
        }
        if let Some(stream) = &mut self.stream {
            stream.tick(now)?;
        }
        loop {
            // What came before is used up before more is taken.
            self.read_camera(now)?;
            if self.redirect.is_some() {
                return Poll::Pending;
            }
            if self.has_enough() {
                break;
            }
            match self.camera.poll_exchange(context)? {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Poll::Ready(Err(self.closed())),
                Poll::Pending if self.take_incomplete(now)? => {}
                Poll::Pending => break,
            }
        }
        self.poll_datagrams(context, now)?;
        self.player.poll_write(context);
        if self.has_enough() {
            return Poll::Ready(Ok(()));
        }
        self.poll_timer(context);
        Poll::Pending
    }

    fn closed(&self) -> Error {
        let kind = if self.playing { Kind::SourceLost } else { Kind::SourceConnection };
        Error::new(kind, "the camera closed the connection")
    }

    /// Whether reading on would only make units wait.
    fn has_enough(&self) -> bool {
        self.playing && self.stream.as_ref().is_some_and(Stream::has_unit)
    }

    fn poll_timer(&mut self, context: &mut Context<'_>) {
        let of_stream = self.stream.as_ref().and_then(Stream::deadline);
        let of_message = self.incomplete.map(|message| match message.since.elapsed() < message.patience {
            true => message.since + message.patience,
            false => message.since + BROKEN_MESSAGE_PATIENCE,
        });
        let Some(deadline) = [of_stream, of_message].into_iter().flatten().min() else { return };
        if self.timer.as_ref().is_none_or(|(due, _)| *due != deadline) {
            self.timer = Some((deadline, Box::pin(tokio::time::sleep_until(deadline.into()))));
        }
        if let Some((_, timer)) = &mut self.timer
            && timer.as_mut().poll(context).is_ready()
        {
            self.timer = None;
            context.waker().wake_by_ref();
        }
    }

    // ---------------------------------------------------------------- retina → camera

    /// Passes a request of retina's on.
    pub(super) fn pass_on(&mut self, head: &Head) -> Result<()> {
        let mut words = head.line.split(' ');
        let method = words.next().unwrap_or_default().to_owned();
        let uri = words.next().unwrap_or_default();
        let uri = match self.player.after_own(uri) {
            Some(_) => self.address.url.as_str().to_owned(),
            None => uri.to_owned(),
        };
        let mut of_player = head.get("cseq").and_then(|number| number.parse().ok());
        let mut fields = String::new();
        for (name, value) in &head.fields {
            let ours = ["cseq", "authorization", "transport", "session"]
                .iter()
                .any(|own| name.eq_ignore_ascii_case(own));
            if !ours {
                // Writing to a String cannot fail.
                let _ = write!(fields, "{name}: {value}\r\n");
            }
        }
        if matches!(method.as_str(), "OPTIONS" | "GET_PARAMETER" | "SET_PARAMETER")
            && let Some(number) = of_player.take()
        {
            // Keep-alives: what a camera answers to them, if it does, changes nothing while packets flow.
            let public =
                if self.public.is_empty() { String::new() } else { format!("Public: {}\r\n", self.public) };
            self.player.answer(number, 200, &public, "");
        }
        let asked = Asked { number: 0, of_player, method, uri, fields };
        match asked.method.as_str() {
            "SETUP" => self.set_up = Some(Asked { of_player: None, ..asked.clone() }),
            "PLAY" => self.play = Some(Asked { of_player: None, ..asked.clone() }),
            _ => {}
        }
        self.ask(asked)
    }

    /// Sends a request, with what only we know.
    fn ask(&mut self, mut asked: Asked) -> Result<()> {
        self.number += 1;
        asked.number = self.number;
        let Asked { number, method, uri, fields, .. } = &asked;
        let mut message = format!("{method} {uri} RTSP/1.0\r\nCSeq: {number}\r\n{fields}");
        if method == "SETUP" {
            let transport = match &self.way {
                Carrier::Interleaved(channel) => {
                    format!("RTP/AVP/TCP;unicast;interleaved={channel}-{}", channel.saturating_add(1))
                }
                Carrier::Datagrams(ports) => {
                    format!("RTP/AVP;unicast;client_port={}-{}", ports.number, ports.number.saturating_add(1))
                }
            };
            // Writing to a String cannot fail, here and below.
            let _ = write!(message, "Transport: {transport}\r\n");
        }
        if let Some(session) = &self.session {
            let _ = write!(message, "Session: {session}\r\n");
        }
        if let Some(answer) = self.authorisation.answer(method, uri, b"") {
            let _ = write!(message, "Authorization: {answer}\r\n");
        }
        message.push_str("\r\n");
        if self.waiting.is_full() {
            self.waiting.remove(0);
        }
        let kept = self.waiting.push(asked);
        debug_assert!(kept.is_ok(), "room was made");
        self.camera.send(message.as_bytes())
    }

    // ---------------------------------------------------------------- camera → retina, and its packets

    fn read_camera(&mut self, now: Instant) -> Result<()> {
        loop {
            if self.has_enough() || self.redirect.is_some() {
                return Ok(());
            }
            let channel = match &self.way {
                Carrier::Interleaved(channel) => *channel,
                Carrier::Datagrams(_) => u8::MAX,
            };
            let (item, length) = match self.wire.next(self.camera.received(), channel)? {
                Some(found) => found,
                None => return Ok(()),
            };
            let mut what = What::Unknown;
            match item {
                Item::Packet { channel: from, at } => {
                    let codec = self.media.as_ref().map(|media| media.codec);
                    if let Some(packet) =
                        self.camera.received().get(at..length).filter(|_| self.recorder.is_on())
                    {
                        what = What::Packet(at + kept(packet, codec));
                    }
                    if let (Some(stream), Some(packet)) =
                        (&mut self.stream, self.camera.received().get(at..length))
                    {
                        match from.wrapping_sub(channel) {
                            0 => stream.take(packet, now),
                            1 => stream.take_control(packet, now),
                            // A camera that sends on another channel than it said; else a stream that nobody
                            // asked for.
                            _ if !stream.heard() && stream.could_be(packet) => {
                                self.way = Carrier::Interleaved(from);
                                stream.take(packet, now);
                            }
                            _ => stream.refuse(PacketLoss::PayloadType),
                        }
                    }
                }
                Item::Message { head, body } => {
                    let body = self.camera.received().get(body..length).unwrap_or_default().to_vec();
                    self.camera.consume(length, What::Message);
                    self.take_message(&head, &body)?;
                    continue;
                }
                Item::Garbage => {
                    if let Some(stream) = &mut self.stream {
                        stream.refuse(PacketLoss::Malformed);
                    }
                }
            }
            self.camera.consume(length, what);
            self.drop_early();
        }
    }

    /// Takes what has come of a message that goes no further. True: there was one.
    ///
    /// Errors: it means nothing as it is.
    fn take_incomplete(&mut self, now: Instant) -> Result<bool> {
        let come = self.camera.received().len();
        if come == 0 || self.playing {
            self.incomplete = None;
            return Ok(false);
        }
        let before = self.incomplete.filter(|before| before.come == come);
        let message = before.unwrap_or_else(|| {
            let is_counted = Wire::lacks_line_ends(self.camera.received());
            let patience = if is_counted { COUNTED_BODY_PATIENCE } else { SHORT_BODY_PATIENCE };
            Incomplete { come, since: now, patience }
        });
        self.incomplete = Some(message);
        let waited = now.duration_since(message.since);
        if waited < message.patience {
            return Ok(false);
        }
        let partial = Wire::partial(self.camera.received());
        if let Some((head, at)) = &partial {
            let body = self.camera.received().get(*at..).unwrap_or_default().to_vec();
            let is_description = self.waiting.first().is_some_and(|asked| asked.method == "DESCRIBE");
            if !is_description || sdp::read(&body, self.address.url.as_str()).is_ok() {
                log::debug!("event=short_body announced={:?} came={}", head.content_length(), body.len());
                self.camera.consume(come, What::Message);
                self.incomplete = None;
                self.take_message(head, &body)?;
                return Ok(true);
            }
        }
        if waited < BROKEN_MESSAGE_PATIENCE {
            return Ok(false);
        }
        let words = match partial {
            Some((head, at)) => format!(
                "the camera announces a body of {} bytes, sends {} of them and then nothing",
                head.content_length().unwrap_or(0),
                come - at
            ),
            None => format!("the camera sends {come} bytes of an answer and then nothing"),
        };
        Err(Error::new(Kind::SourceConnection, words))
    }

    /// Before PLAY is answered nobody takes units.
    fn drop_early(&mut self) {
        if let Some(stream) = self.stream.as_mut().filter(|_| !self.playing) {
            while stream.units() > MAX_EARLY_UNITS {
                if let Some((unit, _)) = stream.pop() {
                    stream.recycle(unit.data);
                }
            }
        }
    }

    fn poll_datagrams(&mut self, context: &mut Context<'_>, now: Instant) -> Result<()> {
        let (Carrier::Datagrams(ports), Some(stream)) = (&self.way, &mut self.stream) else { return Ok(()) };
        if self.datagram.is_empty() {
            self.datagram.resize(MAX_DATAGRAM_BYTES, 0);
        }
        for (socket, is_control) in [(&ports.rtcp, true), (&ports.rtp, false)] {
            let mut taken = 0;
            while !(self.playing && stream.has_unit()) && taken < DATAGRAMS_PER_TURN {
                let mut room = ReadBuf::new(&mut self.datagram);
                match poll_receive(socket, context, &mut room) {
                    Poll::Pending => break,
                    Poll::Ready(from) => {
                        taken += 1;
                        if let (true, Some(from), Ok(to)) = (self.recorder.is_on(), from, socket.local_addr())
                        {
                            let codec = self.media.as_ref().map(|media| media.codec);
                            let kept = kept(room.filled(), codec);
                            self.recorder.datagram((from, to), room.filled(), kept);
                        }
                        match from {
                            Some(from) if ports.is_from_peer(from) && is_control => {
                                stream.take_control(room.filled(), now)
                            }
                            Some(from) if ports.is_from_peer(from) => stream.take(room.filled(), now),
                            _ => stream.refuse(PacketLoss::ForeignSource),
                        }
                    }
                }
            }
            if taken == DATAGRAMS_PER_TURN {
                context.waker().wake_by_ref();
            }
        }
        self.drop_early();
        Ok(())
    }

    fn take_message(&mut self, head: &Head, body: &[u8]) -> Result<()> {
        let Some(status) = head.status() else { return self.be_asked(head) };
        if status < 200 {
            return Ok(());
        }
        let number = head.get("cseq").and_then(|number| number.trim().parse::<u32>().ok());
        // Some cameras number their answers as they like: then it is the one that waits longest.
        let place = self.waiting.iter().position(|asked| Some(asked.number) == number);
        let place =
            place.or_else(|| self.waiting.iter().position(|asked| asked.of_player.is_some())).unwrap_or(0);
        if self.waiting.is_empty() {
            return Ok(());
        }
        let asked = self.waiting.remove(place);
        match status {
            200..=299 => self.authorisation.accepted(),
            401 => {
                return match self.authorisation.refused(head) {
                    Ok(()) => self.ask(asked),
                    Err(refused) => {
                        let words = format!("the camera refuses: {}", refused.words());
                        self.fail(&asked, 401, Error::new(Kind::SourceUnauthorised, words));
                        Ok(())
                    }
                };
            }
            301 | 302 | 303 | 307 | 308 if head.get("location").is_some() => {
                let location = head.get("location").unwrap_or_default().to_owned();
                match asked.method == "DESCRIBE" && asked.of_player.is_some() {
                    true => self.redirect = Some((location, asked)),
                    false => {
                        self.fail(&asked, 302, Error::new(Kind::SourceConnection, "redirected in the middle"))
                    }
                }
                return Ok(());
            }
            status
                if asked.method == "SETUP"
                    && NO_SUCH_TRANSPORT.contains(&status)
                    && self.exchanged.is_none() =>
            {
                return self.exchange_transport(asked);
            }
            status => {
                let kind = if status == 403 { Kind::SourceUnauthorised } else { Kind::SourceConnection };
                let words = format!("the camera answers {} to {}", head.reason(), asked.method);
                self.fail(&asked, status, Error::new(kind, words));
                return Ok(());
            }
        }
        match asked.method.as_str() {
            "DESCRIBE" => self.described(&asked, head, body),
            "SETUP" => return self.set_up(&asked, head),
            "PLAY" => {
                self.playing = true;
                self.answer(&asked, "", "");
            }
            _ => {
                if let Some(public) = head.get("public") {
                    self.public =
                        public.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(512).collect();
                }
                self.answer(&asked, "", "");
            }
        }
        Ok(())
    }

    fn answer(&mut self, asked: &Asked, fields: &str, body: &str) {
        if let Some(number) = asked.of_player {
            self.player.answer(number, 200, fields, body);
        }
    }

    /// Tells retina, and keeps our words for it. What nobody waits for has failed for nobody, but for what we
    /// ask ourselves.
    fn fail(&mut self, asked: &Asked, status: u16, error: Error) {
        if asked.of_player.is_none() && matches!(asked.method.as_str(), "SETUP" | "PLAY") {
            self.failure = Some(error);
            return;
        }
        if let Some(number) = asked.of_player {
            self.failure = Some(error);
            self.player.answer(number, status, "", "");
        }
    }

    /// Asks for the other transport, once.
    fn exchange_transport(&mut self, asked: Asked) -> Result<()> {
        (self.way, self.exchanged) = match &self.way {
            Carrier::Datagrams(_) => {
                (Carrier::Interleaved(0), Some("The camera refuses RTP over UDP: it is received over TCP"))
            }
            Carrier::Interleaved(_) => {
                let ports = Carrier::Datagrams(Ports::open(self.peer)?);
                (ports, Some("The camera refuses RTP over TCP: it is received over UDP"))
            }
        };
        self.ask(asked)
    }

    fn described(&mut self, asked: &Asked, head: &Head, body: &[u8]) {
        let base = ["content-base", "content-location"].iter().find_map(|name| head.get(name));
        // Some write it without its scheme.
        let base =
            base.and_then(|base| Url::parse(base).or_else(|_| Url::parse(&format!("rtsp://{base}"))).ok());
        let base = base.filter(Url::has_host).unwrap_or_else(|| self.address.url.clone());
        let base = base.as_str();
        match sdp::read(body, base) {
            Ok((media, plain)) => {
                self.media = Some(media);
                let fields = format!("Content-Type: application/sdp\r\nContent-Base: {base}\r\n");
                self.answer(asked, &fields, &plain);
            }
            Err(error) => self.fail(asked, 415, error),
        }
    }

    fn set_up(&mut self, asked: &Asked, head: &Head) -> Result<()> {
        let transport = head.get("transport").map(Transport::parse).unwrap_or_default();
        let given = head.get("session").and_then(session);
        self.session = given.as_ref().map(|(id, _)| id.clone());
        match &mut self.way {
            Carrier::Interleaved(channel) => *channel = transport.channel.unwrap_or(*channel),
            Carrier::Datagrams(ports) => {
                transport.server_port.into_iter().for_each(|port| ports.punch_hole(port))
            }
        }
        if let Some(media) = &self.media {
            self.stream = Some(Stream::new(media, matches!(self.way, Carrier::Datagrams(_))));
        }
        // Whatever the camera said: no packet goes to retina.
        let (id, timeout_s) =
            given.unwrap_or_else(|| ("none".to_owned(), super::transport::SESSION_TIMEOUT_S));
        let fields = format!(
            "Session: {id};timeout={timeout_s}\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
        );
        self.answer(asked, &fields, "");
        match self.play.clone().filter(|_| asked.of_player.is_none()) {
            Some(play) => self.ask(play),
            None => Ok(()),
        }
    }

    /// A request of the camera's.
    fn be_asked(&mut self, head: &Head) -> Result<()> {
        let method = head.line.split(' ').next().unwrap_or_default();
        if method.eq_ignore_ascii_case("TEARDOWN") {
            return Err(Error::new(Kind::SourceLost, "the camera said goodbye"));
        }
        let known = ["OPTIONS", "GET_PARAMETER", "SET_PARAMETER"]
            .iter()
            .any(|known| method.eq_ignore_ascii_case(known));
        let status = if known { "200 OK" } else { "501 Not Implemented" };
        let number: String =
            head.get("cseq").unwrap_or("0").chars().filter(char::is_ascii_digit).take(10).collect();
        self.camera.send(format!("RTSP/1.0 {status}\r\nCSeq: {number}\r\n\r\n").as_bytes())
    }
}

/// A connection to a camera, and its address there.
async fn reach(address: &Address, trust: &Trust, recorder: &Recorder) -> Result<(Link, IpAddr)> {
    let host = address.url.host_str().unwrap_or_default();
    let stream = connect(&address.host(), address.port()).await?;
    let Ok(peer) = stream.peer_addr() else {
        return Err(Error::new(Kind::SourceConnection, "the connection broke at once"));
    };
    let tls = if address.tls { Some(tls::config(trust)?) } else { None };
    let record = recorder.connection(&stream, RTSP_PORT);
    Ok((Link::new(stream, host, tls.as_ref(), record)?, peer.ip()))
}

fn way(address: &Address, peer: IpAddr) -> Result<Carrier> {
    Ok(if address.udp { Carrier::Datagrams(Ports::open(peer)?) } else { Carrier::Interleaved(0) })
}

/// A datagram and who sent it; `None`: what an earlier one of ours met with (ICMP).
fn poll_receive(
    socket: &UdpSocket,
    context: &mut Context<'_>,
    room: &mut ReadBuf<'_>,
) -> Poll<Option<std::net::SocketAddr>> {
    room.clear();
    socket.poll_recv_from(context, room).map(Result::ok)
}
