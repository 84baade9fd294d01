//! What the HTTP listener is configured with, and what it knows of each client.

use std::rc::Rc;
use std::time::Duration;

use super::cors::Cors;
use async_net::TcpStream;

use crate::proto::audit::Caller;
use crate::proto::connections::ConnectionSlot;
use crate::proto::proxies::Proxies;
use crate::proto::rules::Rules;

/// How the listener behaves; the defaults are those of the documentation.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Longest time for a request's head to arrive, from the end of the request before it: bounds idle
    /// connections too.
    pub head_timeout: Duration,
    /// Longest time a client may take nothing of a reply.
    pub write_timeout: Duration,
    /// Bytes of one request head, and of the buffer hyper reads into.
    pub max_head_bytes: usize,
    /// Header fields of one request; browsers send about 20.
    pub max_headers: usize,
    /// Pages of other origins that may use the API.
    pub cors: Cors,
    /// Host names this API answers to, against pages that point a name of theirs at us (DNS rebinding);
    /// empty: any. Addresses and `localhost` always pass: a page cannot take those over.
    pub hosts: Vec<String>,
    /// Width of the largest picture, pixels; `None`: none are shown.
    pub picture_width: Option<u32>,
    /// Servers that pass on requests of others, and whose word about them counts.
    pub proxies: Proxies,
    /// What holds at both listeners.
    pub rules: Rules,
}

impl Default for HttpSettings {
    fn default() -> Self {
        HttpSettings {
            head_timeout: Duration::from_secs(15),
            write_timeout: Duration::from_secs(10),
            max_head_bytes: 16 << 10,
            max_headers: 100,
            cors: Cors::default(),
            hosts: Vec::new(),
            picture_width: Some(1280),
            proxies: Proxies::default(),
            rules: Rules::default(),
        }
    }
}

/// Who is at the other end of a connection.
pub(super) struct Client {
    /// Who it is, for access and audit.
    pub caller: Caller,
    /// Its connection, where that is one over TCP.
    pub socket: Option<TcpStream>,
    /// Its place among the connections.
    pub slot: Rc<ConnectionSlot>,
}
