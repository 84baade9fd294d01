//! As whom a client is let in.

use std::fmt;
use std::rc::Rc;

/// As whom a client may do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Who {
    /// Nobody has to show anything here.
    Anyone,
    /// The bearer of the token of that name.
    Token(Rc<str>),
    /// The user of that id, on a Unix socket.
    User(u32),
    /// Whoever has the certificate with that fingerprint: the first eight bytes of its SHA-256.
    Certificate([u8; 8]),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Anyone => f.write_str("anyone"),
            Who::Token(name) => write!(f, "token:{name}"),
            Who::User(id) => write!(f, "user:{id}"),
            Who::Certificate(fingerprint) => {
                write!(f, "certificate:{:016x}", u64::from_be_bytes(*fingerprint))
            }
        }
    }
}
