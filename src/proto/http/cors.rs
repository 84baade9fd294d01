//! Which pages of other origins may use the API from a browser. None, unless configured.

use hyper::header::{self, HeaderMap, HeaderValue};

/// Seconds a browser may remember a preflight's answer.
const MAX_AGE_S: &str = "600";

/// What a page of another origin may read of a reply's head: which frame a picture is, and when to ask again.
const EXPOSED: &str = "x-frame-id, x-timestamp, retry-after";

/// What a browser says of the page that asks: `same-origin`, `same-site`, `cross-site`, or `none` for the
/// person itself.
const FETCH_SITE: &str = "sec-fetch-site";

/// Origins (`https://dashboard.example`) that may call us; `*` alone stands for all. Credentials in cookies
/// are never allowed: there are none.
#[derive(Debug, Clone, Default)]
pub struct Cors {
    /// Exact origins as browsers send them, or `*`.
    pub origins: Vec<String>,
}

impl Cors {
    /// The value of `access-control-allow-origin` for a request, if its origin is allowed.
    fn allowed(&self, request: &HeaderMap) -> Option<HeaderValue> {
        let origin = request.get(header::ORIGIN)?;
        if self.origins.iter().any(|allowed| allowed == "*") {
            return Some(HeaderValue::from_static("*"));
        }
        self.origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then(|| origin.clone())
    }

    /// Whether who asks may change something. A page of any origin can have the browser of whoever looks at
    /// it send us a POST, though it never sees the reply; browsers say so, and nothing else sends these two
    /// fields.
    pub(super) fn may_change(&self, request: &HeaderMap) -> bool {
        if self.allowed(request).is_some() {
            return true;
        }
        let text = |name| request.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or_default());
        match (text(header::HeaderName::from_static(FETCH_SITE)), text(header::ORIGIN)) {
            (Some(site), _) => matches!(site, "same-origin" | "none"),
            (None, Some(origin)) => {
                let place = origin.split_once("://").map(|(_, place)| place);
                place.is_some_and(|place| {
                    text(header::HOST).is_some_and(|host| place.eq_ignore_ascii_case(host))
                })
            }
            (None, None) => true,
        }
    }

    /// Adds what a browser must see to hand the reply to the page.
    pub(super) fn mark(&self, request: &HeaderMap, reply: &mut HeaderMap) {
        if self.origins.is_empty() {
            return;
        }
        reply.insert(header::VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = self.allowed(request) {
            reply.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            reply.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        }
    }

    /// The headers that answer a preflight; `None` when this is no preflight or its origin is not allowed.
    pub(super) fn preflight(&self, request: &HeaderMap) -> Option<HeaderMap> {
        request.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
        self.allowed(request)?;
        let mut reply = HeaderMap::new();
        reply.insert(
            header::ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("GET, HEAD, OPTIONS, POST"),
        );
        reply.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE_S));
        let asked = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
        let headers =
            asked.cloned().unwrap_or_else(|| HeaderValue::from_static("authorization, content-type"));
        reply.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, headers);
        Some(reply)
    }
}
