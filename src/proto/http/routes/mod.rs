//! What each HTTP request means.

mod initialise;
mod metrics;
mod observe;
mod openapi;
mod pages;
mod pictures;
mod table;
mod validate;

use async_net::TcpStream;
use futures_lite::future;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::{HeaderMap, Method, Request, StatusCode, Version};

use super::respond::{self, HttpReply};
use super::settings::{Client, HttpSettings};
use crate::command::{Command, Execute, PipelineId, Reply};
use crate::error::{Error, Kind, Result};
use crate::feed::{Feed, Listen};
use crate::proto::access::Scope;
use crate::proto::access_control::Outcome;
use crate::proto::audit::{self, Caller};
use crate::proto::connections::ConnectionSlot;
use crate::proto::pipeline_id::parse_pipeline_id;
use crate::proto::who::Who;
use std::rc::Rc;
use table::{Route, find};

/// Pipelines at most that one stream of events is of: each may have 64 messages waiting.
const MAX_HEARD: usize = 32;

/// Fields of which a request has one at most.
const ONCE: [header::HeaderName; 2] = [header::HOST, header::AUTHORIZATION];

/// Finds the route of a request, checks who asks and what, and answers.
pub(super) async fn answer<E: Execute + Listen>(
    request: Request<Incoming>,
    commands: &E,
    settings: &HttpSettings,
    client: &Client,
) -> HttpReply {
    // A client that sends many requests at once gets one answer in each turn of the loop, as everybody else.
    future::yield_now().await;
    let (head, body) = request.into_parts();
    if let Some(name) = ONCE.iter().find(|name| head.headers.get_all(*name).iter().nth(1).is_some()) {
        // A server before us may go by the other one.
        return respond::detail(StatusCode::BAD_REQUEST, &format!("More than one {name} field"));
    }
    let forwarded = settings.proxies.client(&client.caller, &head.headers);
    let caller = forwarded.as_ref().unwrap_or(&client.caller);
    // No page reaches a Unix socket, and to who shows a certificate we have shown ours, which bears our name.
    if caller.must_show().is_some() && !is_our_host(&head, &settings.hosts) {
        return respond::detail(
            StatusCode::MISDIRECTED_REQUEST,
            "This server does not answer to that host name",
        );
    }
    if head.method == Method::OPTIONS
        && let Some(headers) = settings.cors.preflight(&head.headers)
    {
        let mut reply = respond::body(StatusCode::OK, "text/plain; charset=utf-8", "OK");
        reply.headers_mut().extend(headers);
        settings.cors.mark(&head.headers, reply.headers_mut());
        return reply;
    }
    let mut reply = match find(head.uri.path())
        .filter(|found| !matches!(found.route, Route::Home) || pages::is_browser(&head))
    {
        Some(route) if route.entry.allow.split(", ").any(|method| method == head.method.as_str()) => {
            let access_control = &settings.rules.access_control;
            let is_strange =
                route.entry.scope == Some(Scope::Control) && !settings.cors.may_change(&head.headers);
            let admitted = route
                .entry
                .scope
                .map_or(Ok(Who::Anyone), |scope| access_control.admit(caller, bearer(&head.headers), scope));
            let admitted = admitted.and_then(|who| {
                let message = "A page of another origin may change nothing here; http.cors_origins names those that may";
                if is_strange { Err(Error::new(Kind::Forbidden, message)) } else { Ok(who) }
            });
            let changing = head
                .uri
                .path()
                .split('/')
                .find_map(audit::named)
                .filter(|_| route.entry.scope == Some(Scope::Control));
            match admitted {
                Ok(who) => {
                    if route.entry.scope.is_some() {
                        client.slot.admitted();
                    }
                    let endpoint = Endpoint {
                        commands,
                        settings,
                        slot: &client.slot,
                        socket: client.socket.as_ref(),
                        caller,
                        who,
                        changing,
                    };
                    endpoint.dispatch(route.route, &head, body).await
                }
                Err(error) => {
                    if let Some(name) = changing {
                        access_control.audit.refused(caller, name, &error);
                    }
                    respond::failure(&error)
                }
            }
        }
        Some(route) => {
            let mut reply = respond::detail(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
            reply.headers_mut().insert(header::ALLOW, HeaderValue::from_static(route.entry.allow));
            reply
        }
        None => {
            slash_redirect(&head.uri).unwrap_or_else(|| respond::detail(StatusCode::NOT_FOUND, "Not Found"))
        }
    };
    settings.cors.mark(&head.headers, reply.headers_mut());
    if head.headers.contains_key(header::TRANSFER_ENCODING) {
        // Had there been a length too, a server before us might see another end of this request (RFC 9112,
        // 6.1).
        reply.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    settings.rules.access_control.count(match reply.status().as_u16() {
        ..400 => Outcome::HttpSuccess,
        400..500 => Outcome::HttpRefused,
        500.. => Outcome::HttpFailure,
    });
    reply
}

/// The token of `Authorization: Bearer …`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Is the name the client asked for one of ours?
fn is_our_host(head: &Parts, hosts: &[String]) -> bool {
    if hosts.is_empty() {
        return true;
    }
    // Before HTTP/1.1 there was no such field; every browser sends it.
    let Some(named) = head.headers.get(header::HOST) else { return head.version < Version::HTTP_11 };
    let Some(authority) = named.to_str().ok().and_then(|host| host.parse::<Authority>().ok()) else {
        return false;
    };
    let host = authority.host();
    let is_address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>().is_ok();
    is_address
        || host.eq_ignore_ascii_case("localhost")
        || hosts.iter().any(|ours| ours.eq_ignore_ascii_case(host))
}

/// A known path with slashes too many at its end is sent to the path without.
fn slash_redirect(uri: &hyper::Uri) -> Option<HttpReply> {
    let bare = uri.path().strip_suffix('/')?.trim_end_matches('/');
    find(bare)?;
    let location = match uri.query() {
        Some(query) => format!("{bare}?{query}"),
        None => bare.to_owned(),
    };
    let mut reply = respond::body(StatusCode::TEMPORARY_REDIRECT, "text/plain; charset=utf-8", "");
    reply.headers_mut().insert(header::LOCATION, HeaderValue::try_from(location).ok()?);
    Some(reply)
}

/// Results without the outputs that the client does not want.
fn without(reply: Reply, excluded: &[String]) -> Reply {
    match reply {
        Reply::Results { outputs, turn } if !excluded.is_empty() => Reply::Results {
            outputs: outputs.iter().filter(|name| !excluded.contains(name)).cloned().collect(),
            turn,
        },
        reply => reply,
    }
}

/// What a route needs to carry out its command.
struct Endpoint<'a, E> {
    commands: &'a E,
    settings: &'a HttpSettings,
    slot: &'a Rc<ConnectionSlot>,
    /// The client's connection, where that is one over TCP.
    socket: Option<&'a TcpStream>,
    caller: &'a Caller,
    who: Who,
    /// The changing command that the path names.
    changing: Option<&'static str>,
}

impl<E: Execute + Listen> Endpoint<'_, E> {
    async fn dispatch(&self, route: Route<'_>, head: &Parts, body: Incoming) -> HttpReply {
        let (headers, query) = (&head.headers, head.uri.query());
        match route {
            Route::List => self.run(Ok(Command::List), None).await,
            Route::Ask(command, id) | Route::Change(command, id) => match parse_pipeline_id(id) {
                Ok(id) => self.run(Ok(command(id)), Some(id)).await,
                Err(error) => self.unread(respond::failure(&error)),
            },
            Route::Initialise => match initialise::read(headers, body, self.settings).await {
                Ok(command) => self.run(command, None).await,
                Err(reply) => self.unread(*reply),
            },
            Route::InitialiseWorkflow => {
                match initialise::read_workflow(headers, body, self.settings).await {
                    Ok(command) => self.run(command, None).await,
                    Err(reply) => self.unread(*reply),
                }
            }
            Route::Consume(id) => {
                match (parse_pipeline_id(id), initialise::read_excluded(headers, body, self.settings).await) {
                    (_, Err(reply)) => *reply,
                    (Err(error), _) => respond::failure(&error),
                    (Ok(id), Ok(excluded)) => {
                        let reply = self
                            .settings
                            .rules
                            .access_control
                            .execute(self.commands, Command::Consume(id))
                            .await;
                        let shown = reply.map(|reply| respond::success(Some(id), &without(reply, &excluded)));
                        shown.unwrap_or_else(|error| respond::failure(&error))
                    }
                }
            }
            Route::Events(id) => match parse_pipeline_id(id).and_then(|id| self.listen(&[id])) {
                Ok(feeds) => respond::events(feeds, false, self.slot.clone()),
                Err(error) => respond::failure(&error),
            },
            Route::EventsOf => match self.listen_to_all(query) {
                Ok(feeds) => respond::events(feeds, true, self.slot.clone()),
                Err(error) => respond::failure(&error),
            },
            Route::Snapshot(id) => self.snapshot(id, query).await,
            Route::Live(id) => self.live(id, query).await,
            Route::Peek => self.peek(headers, body).await,
            Route::Health => observe::health(),
            Route::Ready => observe::readiness(self.commands, &self.settings.rules.access_control).await,
            Route::Metrics => {
                metrics::answer(self.commands, &self.settings.rules.access_control, headers).await
            }
            Route::Models => self.run(Ok(Command::Models), None).await,
            Route::Device => self.run(Ok(Command::Device), None).await,
            Route::Home => pages::home(headers),
            Route::Page(name) => pages::file(name, headers),
            Route::OpenApi => pages::openapi(),
            Route::Docs => pages::docs(),
        }
    }

    /// The pipelines that the query names.
    fn listen_to_all(&self, query: Option<&str>) -> Result<Vec<(PipelineId, Feed)>> {
        let wrong = |words: String| Error::new(Kind::InvalidValue, words);
        let mut ids = Vec::new();
        for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if name != "pipeline" {
                return Err(wrong(format!(
                    "There is no parameter {}; name pipelines with pipeline=ID",
                    name.escape_debug()
                )));
            }
            let id = parse_pipeline_id(&value)?;
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        if ids.is_empty() || ids.len() > MAX_HEARD {
            return Err(wrong(format!(
                "Name 1 to {MAX_HEARD} pipelines with pipeline=ID, not {}",
                ids.len()
            )));
        }
        self.listen(&ids)
    }

    fn listen(&self, ids: &[PipelineId]) -> Result<Vec<(PipelineId, Feed)>> {
        if !self.slot.may_stream() {
            return Err(Error::new(
                Kind::Crowded,
                "Three quarters of the connections (limits.connections) listen already",
            ));
        }
        ids.iter().map(|id| Ok((*id, self.commands.listen(*id)?))).collect()
    }

    /// The reply to what could not be read, with its audit line.
    fn unread(&self, reply: HttpReply) -> HttpReply {
        if let Some(name) = self.changing {
            self.settings.rules.access_control.audit.unread(self.caller, &self.who, name);
        }
        reply
    }

    async fn run(&self, command: Result<Command>, pipeline: Option<PipelineId>) -> HttpReply {
        match self.outcome(command).await {
            Ok(reply) => respond::success(pipeline, &reply),
            Err(reply) => *reply,
        }
    }

    /// What a command answers, or the reply that says why it failed.
    async fn outcome(&self, command: Result<Command>) -> std::result::Result<Reply, Box<HttpReply>> {
        let command = command.map_err(|error| Box::new(self.unread(respond::failure(&error))))?;
        self.slot.busy();
        let outcome = self
            .settings
            .rules
            .access_control
            .carry_out(self.commands, command, self.caller, &self.who)
            .await;
        self.slot.idle();
        outcome.map_err(|error| {
            log::debug!("listener=http event=failure error={error}");
            Box::new(respond::failure(&error))
        })
    }
}
