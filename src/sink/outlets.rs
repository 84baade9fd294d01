//! What open sinks share: the service has one connection to its broker, whatever pipelines publish, and what
//! is posted to one address goes there in one queue.

use super::outbox::{Bounds, Outbox};
use super::topic;
use crate::error::{Error, Kind, Result};
use crate::schema::invalid;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use uuid::Uuid;

/// Addresses that are posted to at most: each has a ring of its own.
const MAX_ADDRESSES: usize = 16;

/// The folder in the state directory.
const FOLDER: &str = "outbox";

/// What waits for the broker.
#[derive(Debug)]
pub struct Broker {
    /// What waits for the broker, of all pipelines.
    pub outbox: Outbox,
    base_topic: RefCell<Rc<str>>,
    /// Without that, messages wait until it is.
    is_configured: Cell<bool>,
}

impl AsRef<Outbox> for Rc<Broker> {
    fn as_ref(&self) -> &Outbox {
        &self.outbox
    }
}

/// Where something is posted to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// Its query may hold a key.
    pub url: String,
    /// The header field `authorization` of its requests.
    pub authorization: Option<String>,
}

/// Without what may be secret.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.split(['?', '#']).next().unwrap_or_default())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

/// An address, and what waits for it.
type Opened = (Address, Rc<Outbox>);

/// What open sinks share. One per service.
#[derive(Debug)]
pub struct Outlets {
    /// Once there was one: what waits for it stays, whatever the configuration says now.
    broker: RefCell<Option<Rc<Broker>>>,
    addresses: RefCell<BTreeMap<Address, Rc<Outbox>>>,
    /// Those that nobody posts for yet.
    opened: (async_channel::Sender<Opened>, async_channel::Receiver<Opened>),
    bounds: Bounds,
    folder: Option<PathBuf>,
}

impl Outlets {
    /// With a broker where there is a base topic; what waits survives in the state directory, if there is
    /// one.
    pub fn open(base_topic: Option<String>, bounds: Bounds, state_dir: Option<&Path>) -> Result<Outlets> {
        let folder = state_dir.map(|state| state.join(FOLDER));
        let outlets = Outlets { bounds, folder, ..Outlets::none() };
        outlets.configure(base_topic)?;
        Ok(outlets)
    }

    /// Without a broker, in memory.
    pub fn none() -> Outlets {
        let bounds = Bounds { memory_bytes: 1 << 20, disk_bytes: 0 };
        let opened = async_channel::bounded(MAX_ADDRESSES);
        Outlets { broker: RefCell::default(), addresses: RefCell::default(), opened, bounds, folder: None }
    }

    /// There is a broker, whose topics of ours begin there, or there is none any more. Sinks that are open go
    /// on: their messages wait.
    pub fn configure(&self, base_topic: Option<String>) -> Result<()> {
        let mut broker = self.broker.borrow_mut();
        match (&*broker, base_topic) {
            (Some(broker), Some(base_topic)) => {
                broker.base_topic.replace(base_topic.into());
                broker.is_configured.set(true);
            }
            (Some(broker), None) => broker.is_configured.set(false),
            (None, Some(base_topic)) => {
                let own = self.folder.as_ref().map(|folder| folder.join("mqtt"));
                *broker = Some(Rc::new(Broker {
                    outbox: open(self.bounds, own.as_deref())?,
                    base_topic: RefCell::new(base_topic.into()),
                    is_configured: Cell::new(true),
                }));
            }
            (None, None) => {}
        }
        Ok(())
    }

    /// Where messages wait for the broker, if one is configured.
    pub fn broker(&self) -> Option<Rc<Broker>> {
        self.broker.borrow().clone().filter(|broker| broker.is_configured.get())
    }

    /// The same, of one that the configuration does not name any more.
    pub fn former_broker(&self) -> Option<Rc<Broker>> {
        self.broker.borrow().clone().filter(|broker| !broker.is_configured.get())
    }

    /// Where messages wait that are posted to that address.
    pub(super) fn address(&self, address: &Address) -> Result<Rc<Outbox>> {
        let mut addresses = self.addresses.borrow_mut();
        if let Some(outbox) = addresses.get(address) {
            return Ok(outbox.clone());
        }
        if addresses.len() >= MAX_ADDRESSES {
            return Err(Error::new(
                Kind::Exhausted,
                format!("At most {MAX_ADDRESSES} addresses are posted to"),
            ));
        }
        // The address may hold a password: its folder is called after its digest.
        let name = Uuid::new_v5(&Uuid::NAMESPACE_URL, address.url.as_bytes());
        let own = self.folder.as_ref().map(|folder| folder.join(format!("http-{name}")));
        let outbox = Rc::new(open(self.bounds, own.as_deref())?);
        addresses.insert(address.clone(), outbox.clone());
        // As many fit as there are addresses.
        let _ = self.opened.0.try_send((address.clone(), outbox.clone()));
        Ok(outbox)
    }

    /// What everything that waits may take of the memory, bytes.
    pub fn most_bytes(&self) -> u64 {
        let count = self.addresses.borrow().len() + usize::from(self.broker.borrow().is_some());
        self.outbox_bytes().saturating_mul(count as u64)
    }

    /// What a sink of that address would add to it.
    pub(super) fn more_bytes(&self, address: &Address) -> u64 {
        if self.addresses.borrow().contains_key(address) { 0 } else { self.outbox_bytes() }
    }

    fn outbox_bytes(&self) -> u64 {
        self.bounds.most_bytes(self.folder.is_some() && self.bounds.disk_bytes > 0)
    }

    /// The next address that is posted to.
    pub async fn opened(&self) -> Option<Opened> {
        self.opened.1.recv().await.ok()
    }
}

/// A disk that cannot be used must not keep detections from a receiver that is there.
fn open(bounds: Bounds, folder: Option<&Path>) -> Result<Outbox> {
    Outbox::open(bounds, folder).or_else(|error| {
        log::error!("event=outbox_in_memory error=\"{error}\"");
        Outbox::open(bounds, None)
    })
}

impl Broker {
    /// Where the service's own topics begin.
    pub(super) fn base_topic(&self) -> Rc<str> {
        self.base_topic.borrow().clone()
    }

    /// The topic of a pipeline's detections: the one asked for, or one of its own.
    pub(super) fn topic(&self, asked: Option<&str>, pipeline: Uuid) -> Result<Rc<str>> {
        let base = self.base_topic();
        let Some(asked) = asked else { return Ok(format!("{base}/pipelines/{pipeline}/detections").into()) };
        // Nobody shall command by a sink, nor overwrite what the service says of itself.
        let is_ours = asked.strip_prefix(&*base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let own = format!("{base}/pipelines/{pipeline}/detections");
        match topic::fault(asked) {
            Some(why) => Err(invalid(format!("topic {why}"))),
            None if is_ours && *asked != *own => Err(invalid(format!(
                "topic lies below {base}, where the service tells of itself: choose another, or leave it out"
            ))),
            None => Ok(asked.into()),
        }
    }
}
