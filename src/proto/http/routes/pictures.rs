//! Pictures of sources: one, one after the other, and the first of a source that is only tried.

use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, StatusCode};

use super::initialise::Refused;
use super::validate::query::Query;
use super::{Endpoint, initialise};
use crate::capture::MIN_PICTURE_WIDTH;
use crate::clock::within;
use crate::command::{Execute, Reply};
use crate::error::{Error, Kind};
use crate::feed::Listen;
use crate::proto::http::live::Live;
use crate::proto::http::respond::{self, HttpReply};
use crate::proto::http::settings::HttpSettings;
use crate::proto::pipeline_id::parse_pipeline_id;
use crate::view::{Shown, Viewer, Wish};

/// Longest wait for a picture of a source that seems to be there: slow cameras send one in several seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pictures in a second unless asked for otherwise, and at most: what a person sees as moving, and what
/// cameras have.
const USUAL_FPS: f64 = 10.0;
const MAX_FPS: f64 = 30.0;
/// And at least: one in a minute.
const MIN_FPS: f64 = 1.0 / 60.0;

/// What the kernel keeps of live pictures that a client has not taken (it doubles this): a large picture or
/// two. Left to itself, it takes megabytes, and over a slow line everything is seen half a minute late.
const SEND_BUFFER_BYTES: usize = 128 << 10;

const FRAME_ID: HeaderName = HeaderName::from_static("x-frame-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("x-timestamp");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// What a request asks for.
struct Asked {
    source: u32,
    wish: Wish,
    interval: Duration,
}

/// Reads the query; the 422 that says what is wrong with it. A width beyond the largest is the largest.
fn read(query: Option<&str>, largest: u32) -> Refused<Asked> {
    let mut query = Query::new(query);
    let source = query.integer("source", 0, 0, u32::MAX.into());
    let width =
        query.integer("width", largest.into(), MIN_PICTURE_WIDTH.into(), u32::MAX.into()).min(largest.into());
    let has_boxes = query.boolean("boxes", false);
    let fps = query.number("fps", USUAL_FPS, MIN_FPS).min(MAX_FPS);
    query.end()?;
    // In their ranges by now.
    let (source, width) =
        (u32::try_from(source).unwrap_or(u32::MAX), u16::try_from(width).unwrap_or(u16::MAX));
    Ok(Asked { source, wish: Wish { width, has_boxes }, interval: Duration::from_secs_f64(1.0 / fps) })
}

impl<E: Execute + Listen> Endpoint<'_, E> {
    /// `GET /pipelines/{pipeline_id}/snapshot.jpg`: the next frame, once.
    pub(super) async fn snapshot(&self, id: &str, query: Option<&str>) -> HttpReply {
        match self.first(id, query).await {
            Ok((_, shown, _)) => picture(&shown, self.settings),
            Err(reply) => *reply,
        }
    }

    /// `GET /pipelines/{pipeline_id}/live.mjpeg`: frames as they are taken.
    pub(super) async fn live(&self, id: &str, query: Option<&str>) -> HttpReply {
        if !self.slot.may_stream() {
            let text = "Three quarters of the connections (limits.connections) listen already";
            return respond::failure(&Error::new(Kind::Crowded, text));
        }
        match self.first(id, query).await {
            Ok((viewer, shown, interval)) => {
                if let Some(socket) = self.socket {
                    // One that refuses is as late as its kernel likes.
                    let _ = rustix::net::sockopt::set_socket_send_buffer_size(socket, SEND_BUFFER_BYTES);
                }
                let live = Live::new(viewer, shown, interval, self.slot.clone());
                let mut reply = respond::live(live);
                protect(reply.headers_mut(), self.settings);
                reply
            }
            Err(reply) => *reply,
        }
    }

    /// The first picture, and who will get those that follow.
    async fn first(&self, id: &str, query: Option<&str>) -> Refused<(Viewer, Shown, Duration)> {
        let refused = |error: Error| Box::new(respond::failure(&error));
        let id = parse_pipeline_id(id).map_err(refused)?;
        let largest = self.settings.picture_width.ok_or_else(|| refused(off()))?;
        let Asked { source, wish, interval } = read(query, largest)?;
        let mut viewer = self.commands.look(id, source, wish).map_err(refused)?;
        self.slot.busy();
        let shown = within(PATIENCE, viewer.next()).await;
        self.slot.idle();
        match shown {
            Some(Some(shown)) => Ok((viewer, shown, interval)),
            Some(None) | None => Err(refused(self.commands.unseen(id, source))),
        }
    }

    /// `POST /video_sources/snapshot`: a picture of a source that belongs to no pipeline.
    pub(super) async fn peek(&self, headers: &HeaderMap, body: Incoming) -> HttpReply {
        if self.settings.picture_width.is_none() {
            return self.unread(respond::failure(&off()));
        }
        let command = match initialise::read_source(headers, body, self.settings).await {
            Ok(command) => command,
            Err(reply) => return self.unread(*reply),
        };
        match self.outcome(command).await {
            Ok(Reply::Picture(shown)) => picture(&shown, self.settings),
            Ok(other) => respond::success(None, &other),
            Err(reply) => *reply,
        }
    }
}

fn off() -> Error {
    Error::new(Kind::Forbidden, "Pictures are turned off (http.pictures = false)")
}

fn picture(shown: &Shown, settings: &HttpSettings) -> HttpReply {
    let mut reply =
        respond::body(StatusCode::OK, "image/jpeg", hyper::body::Bytes::from_owner(shown.jpeg.clone()));
    let headers = reply.headers_mut();
    headers.insert(FRAME_ID, HeaderValue::from(shown.frame_id));
    if let Ok(time) = HeaderValue::try_from(shown.timestamp.iso_local().to_string()) {
        headers.insert(TIMESTAMP, time);
    }
    let exposed = HeaderValue::from_static("x-frame-id, x-timestamp");
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    protect(headers, settings);
    reply
}

/// Nobody keeps a picture, and no page of another origin puts it into itself, unless it may ask for
/// everything else, too.
fn protect(headers: &mut HeaderMap, settings: &HttpSettings) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let policy = if settings.cors.origins.is_empty() { "same-origin" } else { "cross-origin" };
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static(policy));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_with_its_limits_and_what_is_wrong_is_said() {
        let read = |query: &str| {
            read(Some(query), 1280).map(|asked| (asked.source, asked.wish, asked.interval.as_millis()))
        };
        let wish = |width, has_boxes| Wish { width, has_boxes };
        for (query, expected) in [
            ("", (0, wish(1280, false), 100)),
            ("source=2&width=960&boxes=1&fps=5", (2, wish(960, true), 200)),
            ("width=99999&fps=1000&boxes=0&other=x", (0, wish(1280, false), 33)),
            ("fps=0.5&boxes=true", (0, wish(1280, true), 2000)),
        ] {
            assert_eq!(read(query).ok(), Some(expected), "{query}");
        }
        for query in [
            "source=-1",
            "source=x",
            "width=0",
            "width=15",
            "width=9.5",
            "boxes=2",
            "fps=0",
            "fps=nan",
            "fps=x",
            "fps=",
        ] {
            assert_eq!(
                read(query).err().map(|reply| reply.status()),
                Some(StatusCode::UNPROCESSABLE_ENTITY),
                "{query}"
            );
        }
    }
}
