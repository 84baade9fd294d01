//! The HTTP API. hyper parses and bounds requests; what they mean is in [`super::routes`].

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use smol::LocalExecutor;
use smol_hyper::rt::{FuturesIo, SmolTimer};

use super::connections::{self, Limits, Seat, Stop};
use super::cors::Cors;
use super::listen::{Listener, Stream};
use super::patient::Patient;
use super::routes;
use crate::command::Execute;

/// Bytes of one request head, and of the buffer hyper reads into.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// Header fields of one request; browsers send about 20.
const MAX_HEADERS: usize = 100;

/// How the door behaves; the defaults are those of the documentation.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Longest time for a request's head to arrive, from the end of the request before it: bounds idle connections too.
    pub head_timeout: Duration,
    /// Longest time for a request's body to arrive.
    pub body_timeout: Duration,
    /// Longest time a client may take nothing of a reply.
    pub write_timeout: Duration,
    /// Longest time a command may take; a first download of a large model over a slow line is the longest known.
    pub command_timeout: Duration,
    /// Largest body in bytes. An `initialise` with 64 sources and long URLs has 50 KiB.
    pub max_body_bytes: usize,
    /// Most connections.
    pub limits: Limits,
    /// Pages of other origins that may use the API.
    pub cors: Cors,
    /// When to stop.
    pub stop: Option<Stop>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            head_timeout: Duration::from_secs(15),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(10),
            command_timeout: Duration::from_secs(600),
            max_body_bytes: 1 << 20,
            limits: Limits::default(),
            cors: Cors::default(),
            stop: None,
        }
    }
}

/// Accepts and answers until stopped or dropped.
pub async fn serve<E: Execute>(
    listener: impl Into<Listener>,
    executor: Rc<LocalExecutor<'static>>,
    commands: Rc<E>,
    settings: Rc<Settings>,
) {
    let (limits, stop) = (settings.limits, settings.stop.clone());
    let serve = |stream, seat| converse(stream, seat, commands.clone(), settings.clone());
    connections::accept("http", listener.into(), executor, limits, stop, serve).await;
}

/// One connection with all its requests.
async fn converse<E: Execute>(stream: Stream, seat: Seat, commands: Rc<E>, settings: Rc<Settings>) {
    let io = FuturesIo::new(Patient::new(stream, settings.write_timeout));
    let service = service_fn(|request| {
        let (commands, settings, seat) = (&commands, &settings, &seat);
        async move { Ok::<_, Infallible>(routes::answer(request, &**commands, settings, seat).await) }
    });
    let served = http1::Builder::new()
        .timer(SmolTimer::new())
        .header_read_timeout(settings.head_timeout)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(io, service)
        .await;
    if let Err(error) = served {
        log::debug!("door=http event=connection_ended error={error:?}");
    }
}
