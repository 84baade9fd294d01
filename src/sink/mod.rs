//! Where detections go. Knows nothing of pipelines, cameras or listeners.
//!
//! Each kind of sink has one file: what is asked for ([`Asked`]: its fields, how it is read, kept and opened)
//! and what it is while it is open ([`Open`]: sending, counting). The list at the end of this file names the
//! kinds. All are handed the same [`Delivery`].

mod compact;
mod datagram;
mod delivery;
mod frame;
pub mod http;
pub mod memory;
pub mod mqtt;
pub mod outbox;
mod outlets;
pub mod topic;
pub mod udp;

pub use datagram::{ClassNames, MAX_DATAGRAM_BYTES};
pub use delivery::{Delivery, Packer};
pub use frame::{FrameInfo, Prediction};
pub use http::HttpSink;
pub use memory::{MemorySink, Outcome, Results};
pub use mqtt::MqttSink;
pub use outlets::{Address, Broker, Outlets};
pub use udp::UdpSink;

use crate::error::{Error, Kind as ErrorKind, Result};
use crate::json::{Object, Value};
use crate::schema::{self, Field, Kind};
use std::time::Duration;
use uuid::Uuid;

/// Sinks of one pipeline at most: each costs a copy of every frame's detections.
pub const MAX_SINKS: usize = 8;

/// What each sink's object says first.
pub const TYPE: &str = "type";

/// A kind of sink, for those who describe it.
#[derive(Debug, Clone, Copy)]
pub struct KindOfSink {
    /// The `type` that asks for it.
    pub name: &'static str,
    /// What the OpenAPI document calls it.
    pub schema: &'static str,
    /// Its members beside `type`.
    pub fields: &'static [Field],
    /// Clients may ask for it.
    pub is_offered: bool,
    /// The members that `weir ctl init --sink` says with this text; `None`: it speaks of another kind.
    pub from_flag: fn(&str) -> Option<Object>,
}

/// What `init` asks for of one kind.
pub trait Asked: Sized {
    /// The sink while it is open.
    type Open: Open;
    /// How it is described.
    const KIND: KindOfSink;
    /// From the members of its object, `type` aside.
    fn read(given: &Object) -> Result<Self>;
    /// Back into them: what [`Asked::read`] makes the same of.
    fn write(&self, to: &mut Object);
    /// Ready to send; once per pipeline.
    fn open(&self, outlets: &Outlets, pipeline: Uuid) -> Result<Self::Open>;
    /// For the log: what it is and where, without secrets.
    fn named(&self) -> String;
    /// The host that detections are sent to, if they are.
    fn host(&self) -> Option<&str> {
        None
    }
    /// What it may keep of one source, bytes.
    fn most_bytes(&self) -> u64 {
        0
    }
    /// What opening it adds to [`Outlets::most_bytes`].
    fn adds_bytes(&self, _: &Outlets) -> u64 {
        0
    }
}

/// A sink that is open. Lives on the event loop.
pub trait Open {
    /// A frame is about to be passed on by all sinks of a pipeline: what takes time may begin.
    fn begin(&self) {}
    /// Passes one frame on. An error is the caller's to report; the next frame is another attempt.
    fn send(&self, delivery: &Delivery<'_>) -> impl Future<Output = Result<()>>;
    /// Every source's frame of a turn has been sent.
    fn end_turn(&self) {}
    /// What became of the frames.
    fn counters(&self) -> Counters {
        Counters::default()
    }
    /// Whether the receiver has said since the last call, of frames before the last ones, that nobody takes
    /// them.
    fn was_refused(&self) -> bool {
        false
    }
    /// Where a client can take results, if it can.
    fn results(&self) -> Option<&Results> {
        None
    }
    /// How what waits for the receiver is doing, where something may.
    fn queue(&self) -> Option<Queue> {
        None
    }
}

/// Messages on their way to a receiver that several sinks may share.
#[derive(Debug, Clone)]
pub struct Queue {
    /// The kind of sink.
    pub kind: &'static str,
    /// How the receiver is doing.
    pub link: outbox::Link,
    /// What is counted, of all sinks that share the receiver.
    pub figures: outbox::Figures,
}

/// What a sink counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Payloads that were handed on.
    pub sent: u64,
    /// Payloads that were lost.
    pub failed: u64,
    /// Times that the receiver's machine said that nobody listens there.
    pub refused: u64,
}

impl Sink {
    /// As a client asks for them: one object, or a list of several.
    pub fn read(value: &Value) -> Result<Vec<Sink>> {
        Sink::read_each(value, |kind| kind.is_offered)
    }

    /// As [`Sink::write`] wrote them.
    pub fn read_kept(value: &Value) -> Result<Vec<Sink>> {
        Sink::read_each(value, |_| true)
    }

    fn read_each(value: &Value, may_be: impl Fn(&KindOfSink) -> bool) -> Result<Vec<Sink>> {
        match value {
            Value::Array(sinks) if sinks.is_empty() => {
                Err(schema::invalid("sink_configuration names no sink"))
            }
            Value::Array(sinks) if sinks.len() > MAX_SINKS => Err(Error::new(
                ErrorKind::TooLarge,
                format!("sink_configuration names more than {MAX_SINKS} sinks"),
            )),
            Value::Array(sinks) => sinks.iter().map(|sink| Sink::read_of(sink, &may_be)).collect(),
            one => Ok(vec![Sink::read_of(one, may_be)?]),
        }
    }

    fn read_of(value: &Value, may_be: impl Fn(&KindOfSink) -> bool) -> Result<Sink> {
        let given = schema::object(value)?;
        let name = Field::required(TYPE, Kind::Text, "").value(given)?.as_str();
        match KINDS.iter().find(|kind| Some(kind.name) == name).filter(|kind| may_be(kind)) {
            Some(kind) => Sink::read_as(kind.name, given),
            // The reference's words.
            None => Err(Error::new(ErrorKind::Unsupported, "Only `udp_socket` sink type is supported")),
        }
    }
}

/// Sinks for the log.
pub fn names(sinks: &[Sink]) -> String {
    sinks.iter().map(Sink::named).collect::<Vec<_>>().join(",")
}

/// The open sinks of one pipeline.
#[derive(Debug)]
pub struct Outputs(Vec<OpenSink>);

impl Outputs {
    /// Opens all, or none.
    pub fn open(sinks: &[Sink], outlets: &Outlets, pipeline: Uuid) -> Result<Outputs> {
        sinks.iter().map(|sink| sink.open(outlets, pipeline)).collect::<Result<_>>().map(Outputs)
    }

    /// A frame comes: what takes time begins for all of them together.
    pub fn begin(&self) {
        self.0.iter().for_each(OpenSink::begin);
    }

    /// The open sinks of the pipeline, in the order that `init` names them.
    pub fn iter(&self) -> impl Iterator<Item = &OpenSink> {
        self.0.iter()
    }

    /// Every source's frame of a turn has been sent.
    pub fn end_turn(&self) {
        self.0.iter().for_each(OpenSink::end_turn);
    }

    /// What all of them count together.
    pub fn counters(&self) -> Counters {
        let add = |sum: Counters, one: Counters| Counters {
            sent: sum.sent + one.sent,
            failed: sum.failed + one.failed,
            refused: sum.refused + one.refused,
        };
        self.0.iter().map(OpenSink::counters).fold(Counters::default(), add)
    }

    /// How what waits for receivers is doing.
    pub fn queues(&self) -> Vec<Queue> {
        self.0.iter().filter_map(OpenSink::queue).collect()
    }

    /// Where a client can take results.
    pub fn results(&self) -> Option<&Results> {
        self.0.iter().find_map(OpenSink::results)
    }

    /// Until nobody has asked for results for as long as the client said.
    pub async fn abandoned(&self) {
        if let Some(results) = self.results() {
            while let Some(left) = results.patience_left() {
                if left == Duration::ZERO {
                    return;
                }
                smol::Timer::after(left).await;
            }
        }
        std::future::pending().await
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident($asked:ty),)*) => {
        /// Where detections go, as `init` asks for it.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Sink { $($(#[$doc])* $kind($asked),)* }

        /// A sink that is open.
        #[derive(Debug)]
        pub enum OpenSink { $($(#[$doc])* $kind(<$asked as Asked>::Open),)* }

        /// Every kind of sink.
        pub const KINDS: &[KindOfSink] = &[$(<$asked>::KIND),*];

        impl Sink {
            fn read_as(kind: &str, given: &Object) -> Result<Sink> {
                $(if kind == <$asked>::KIND.name {
                    return <$asked>::read(given).map(Sink::$kind);
                })*
                Err(Error::new(ErrorKind::Unsupported, format!("no sink is of type {kind}")))
            }

            /// An object that [`Sink::read_kept`] makes the same of.
            pub fn write(&self) -> Object {
                let mut object = Object::default();
                match self { $(Sink::$kind(asked) => {
                    object.push(TYPE, Value::from(<$asked>::KIND.name));
                    asked.write(&mut object);
                })* }
                object
            }

            /// What the log calls it, without secrets.
            fn named(&self) -> String {
                match self { $(Sink::$kind(asked) => asked.named(),)* }
            }

            fn open(&self, outlets: &Outlets, pipeline: Uuid) -> Result<OpenSink> {
                match self { $(Sink::$kind(asked) => asked.open(outlets, pipeline).map(OpenSink::$kind),)* }
            }

            /// The host that detections are sent to, if they are.
            pub fn host(&self) -> Option<&str> {
                match self { $(Sink::$kind(asked) => asked.host(),)* }
            }

            /// What opening it adds to [`Outlets::most_bytes`], bytes.
            pub fn adds_bytes(&self, outlets: &Outlets) -> u64 {
                match self { $(Sink::$kind(asked) => asked.adds_bytes(outlets),)* }
            }

            /// What it may keep of one source, bytes.
            pub fn most_bytes(&self) -> u64 {
                match self { $(Sink::$kind(asked) => asked.most_bytes(),)* }
            }
        }

        impl OpenSink {
            /// Passes one frame on. An error is the caller's to report; the next frame is another attempt.
            pub async fn send(&self, delivery: &Delivery<'_>) -> Result<()> {
                match self { $(OpenSink::$kind(open) => open.send(delivery).await,)* }
            }

            /// Whether the receiver has said since the last call, of frames before the last ones, that nobody
            /// takes them.
            pub fn was_refused(&self) -> bool {
                match self { $(OpenSink::$kind(open) => open.was_refused(),)* }
            }

            fn begin(&self) {
                match self { $(OpenSink::$kind(open) => open.begin(),)* }
            }

            fn end_turn(&self) {
                match self { $(OpenSink::$kind(open) => open.end_turn(),)* }
            }

            fn counters(&self) -> Counters {
                match self { $(OpenSink::$kind(open) => open.counters(),)* }
            }

            fn results(&self) -> Option<&Results> {
                match self { $(OpenSink::$kind(open) => open.results(),)* }
            }

            fn queue(&self) -> Option<Queue> {
                match self { $(OpenSink::$kind(open) => open.queue(),)* }
            }
        }
    };
}

kinds! {
    /// A datagram for each frame.
    Udp(UdpSink),
    /// Kept until a client asks for them.
    Memory(MemorySink),
    /// A message to the broker for each frame.
    Mqtt(MqttSink),
    /// Lines posted to an address.
    Http(HttpSink),
}
