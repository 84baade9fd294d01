//! Who may say what: bearer tokens with a scope, and a brake on guessing them.
//!
//! Without any token everybody who reaches a port may do everything, as in the reference; the service refuses
//! to listen beyond loopback in that state. Unix sockets are guarded by the mode of their file instead.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hint::black_box;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::who::Who;
use crate::command::Secret;
use crate::error::{Error, Kind, Result};
use crate::logging::{Throttle, suppressed};

/// Tokens in one file: people and programs on a site, not users of a public service. Each costs a comparison.
const MAX_TOKENS: usize = 64;

/// Shortest secret: 16 characters of hexadecimal are 64 bits, which [`MAX_FAILURES`] a minute do not find.
const MIN_SECRET_BYTES: usize = 16;

/// Failed attempts of one address before it has to wait.
const MAX_FAILURES: u32 = 10;

/// How long failures count, and so how long an address waits.
const FAILURE_WINDOW: Duration = Duration::from_secs(60);

/// Addresses whose failures are remembered; of more, the oldest is forgotten. An attacker with that many
/// addresses of its own gains ten attempts for each.
const MAX_ADDRESSES: usize = 1024;

/// How many bits of an IPv6 address count: what one customer of a provider has.
const IPV6_NETWORK_BITS: u32 = 64;

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// List, status, metrics, events.
    Read,
    /// Every command, those of `Read` among them.
    Control,
}

/// A secret that lets its bearer in.
#[derive(Debug, Clone)]
pub struct Token {
    /// What the log calls it.
    pub name: Rc<str>,
    /// What it is good for.
    pub scope: Scope,
    /// Sent as `Authorization: Bearer …` or `auth_token`.
    pub secret: Secret,
}

/// The tokens, and who failed to show one.
#[derive(Debug, Default)]
pub struct Access {
    tokens: RefCell<Vec<Token>>,
    failures: RefCell<HashMap<IpAddr, Failures>>,
    refusals: [Cell<u64>; REFUSALS.len()],
    /// Of the lines about all refusals together: who has many addresses shall not fill the log.
    lines: RefCell<Option<Throttle>>,
}

/// Why a request was not let in, as metrics name it; the order of [`Access::refusals`].
pub(super) const REFUSALS: [&str; 4] = ["no_token", "unknown_token", "locked_out", "scope"];

#[derive(Debug, Clone, Copy)]
enum Refusal {
    NoToken,
    UnknownToken,
    LockedOut,
    Scope,
}

#[derive(Debug)]
struct Failures {
    count: u32,
    since: Instant,
}

impl Token {
    /// A token that cannot be guessed soon and that fits into a header; else why it is none, in words without
    /// it.
    pub fn new(name: &str, scope: Scope, secret: &str) -> Result<Token, &'static str> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err("a token needs at least 16 characters");
        }
        if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("a token is one word of printable ASCII");
        }
        Ok(Token { name: name.into(), scope, secret: Secret::new(secret) })
    }
}

impl Access {
    /// With these tokens; with none, open to everybody.
    pub fn new(tokens: Vec<Token>) -> Self {
        Access { tokens: RefCell::new(tokens), ..Access::default() }
    }

    /// From now on these tokens are good (the file was read again).
    pub fn replace(&self, tokens: Vec<Token>) {
        *self.tokens.borrow_mut() = tokens;
    }

    /// Nobody needs a token.
    pub fn is_open(&self) -> bool {
        self.tokens.borrow().is_empty()
    }

    /// Lets a request of a client at `peer` through, and says as whom, or says why not.
    ///
    /// A good token is good however many bad ones came from the same address: behind a proxy or a router
    /// others share it.
    pub(super) fn check(&self, peer: IpAddr, shown: Option<&str>, needed: Scope) -> Result<Who> {
        if self.is_open() {
            return Ok(Who::Anyone);
        }
        let Some(shown) = shown else {
            self.refuse(Refusal::NoToken);
            return Err(Error::new(Kind::Unauthorised, "A token is needed"));
        };
        let tokens = self.tokens.borrow();
        // All are compared, so that the time does not tell which one came close.
        let found = tokens
            .iter()
            .fold(None, |found, token| if same(token.secret.reveal(), shown) { Some(token) } else { found });
        match found {
            None => Err(self.failed(peer)),
            Some(token) if token.scope < needed => {
                self.refuse(Refusal::Scope);
                self.tell(format_args!("event=scope_refused peer={peer} token={}", token.name));
                Err(Error::new(Kind::Forbidden, "The token is good for reading only"))
            }
            Some(token) => Ok(Who::Token(token.name.clone())),
        }
    }

    /// One more wrong token from there.
    fn failed(&self, peer: IpAddr) -> Error {
        let (count, left) = self.remember_failure(network(peer));
        if count > MAX_FAILURES {
            self.refuse(Refusal::LockedOut);
            let text = "Too many wrong tokens from this address; try again in a minute";
            return Error::new(Kind::LockedOut, text).retry_after(left);
        }
        self.refuse(Refusal::UnknownToken);
        if count == MAX_FAILURES {
            let network = network(peer);
            self.tell(format_args!(
                "event=locked_out peer={peer} network={network} failures={count} for_s={}",
                left.as_secs()
            ));
        } else {
            self.tell(format_args!("event=token_refused peer={peer} failures={count}"));
        }
        Error::new(Kind::Unauthorised, "The token is not known")
    }

    fn refuse(&self, why: Refusal) {
        if let Some(count) = self.refusals.get(why as usize) {
            count.set(count.get() + 1);
        }
    }

    /// How many requests were not let in, by reason.
    pub(super) fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        REFUSALS.into_iter().zip(self.refusals.iter().map(Cell::get))
    }

    fn tell(&self, event: std::fmt::Arguments<'_>) {
        let now = Instant::now();
        let mut lines = self.lines.borrow_mut();
        if let Some(before) = lines.get_or_insert_with(|| Throttle::new(now)).admit(now) {
            log::warn!("{event}{}", suppressed(before));
        }
    }

    /// The failures of a network that count now, and for how long they do.
    fn remember_failure(&self, peer: IpAddr) -> (u32, Duration) {
        let mut failures = self.failures.borrow_mut();
        if failures.len() >= MAX_ADDRESSES && !failures.contains_key(&peer) {
            let oldest = failures.iter().min_by_key(|(_, entry)| entry.since).map(|(address, _)| *address);
            oldest.and_then(|address| failures.remove(&address));
        }
        let entry = failures.entry(peer).or_insert_with(|| Failures { count: 0, since: Instant::now() });
        if entry.since.elapsed() >= FAILURE_WINDOW {
            *entry = Failures { count: 0, since: Instant::now() };
        }
        entry.count = entry.count.saturating_add(1);
        (entry.count, FAILURE_WINDOW.saturating_sub(entry.since.elapsed()))
    }
}

/// What is counted as one client: an IPv4 address, or the network that one customer gets of IPv6.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6((u128::from(address) & (u128::MAX << (128 - IPV6_NETWORK_BITS))).into())
        }
        address => address,
    }
}

/// Reads a token file: a line each of `NAME SCOPE SECRET`, where the scope is `read` or `control`; `#` begins
/// a comment. Errors name the line, never its content.
pub fn parse_tokens(text: &str) -> Result<Vec<Token>> {
    let mut tokens: Vec<Token> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        // A comment begins where a word begins: a token may hold a '#'.
        let words: Vec<&str> = line.split_whitespace().take_while(|word| !word.starts_with('#')).collect();
        let wrong = |why: &str| Error::new(Kind::Configuration, format!("token file, line {number}: {why}"));
        let (name, scope, secret) = match words.as_slice() {
            [] => continue,
            [name, "read", secret] => (name, Scope::Read, secret),
            [name, "control", secret] => (name, Scope::Control, secret),
            _ => return Err(wrong("a line is NAME, then read or control, then the token")),
        };
        if tokens.iter().any(|token| *token.name == **name) {
            return Err(wrong("this name was used before"));
        }
        if tokens.len() == MAX_TOKENS {
            return Err(wrong("more tokens than 64"));
        }
        tokens.push(Token::new(name, scope, secret).map_err(wrong)?);
    }
    Ok(tokens)
}

/// Equality in a time that depends on the lengths only.
fn same(left: &str, right: &str) -> bool {
    let difference = left
        .bytes()
        .zip(right.bytes())
        .fold(0, |difference, (left, right)| black_box(difference | (left ^ right)));
    left.len() == right.len() && difference == 0
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const FILE: &str = "# people\nboard read 0123456789abcdef\n\nops control fedcba9876543210fedcba # rotated in May\nhash read 0123456789abcdef#0123 #\n";
    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn kind(result: Result<Who>) -> Option<Kind> {
        result.err().map(|error| error.kind())
    }

    #[test]
    fn tokens_open_what_their_scope_says() {
        let access = Access::new(parse_tokens(FILE).unwrap());
        for (shown, needed, refused) in [
            (None, Scope::Read, Some(Kind::Unauthorised)),
            (Some(""), Scope::Read, Some(Kind::Unauthorised)),
            (Some("0123456789abcde"), Scope::Read, Some(Kind::Unauthorised)),
            (Some("0123456789abcdef0"), Scope::Read, Some(Kind::Unauthorised)),
            (Some("0123456789abcdef"), Scope::Read, None),
            (Some("0123456789abcdef"), Scope::Control, Some(Kind::Forbidden)),
            (Some("fedcba9876543210fedcba"), Scope::Read, None),
            (Some("0123456789abcdef#0123"), Scope::Read, None),
            (Some("fedcba9876543210fedcba"), Scope::Control, None),
        ] {
            assert_eq!(kind(access.check(HERE, shown, needed)), refused, "{shown:?} {needed:?}");
        }
        assert_eq!(
            access.check(HERE, Some("fedcba9876543210fedcba"), Scope::Control).unwrap(),
            Who::Token("ops".into())
        );
        assert_eq!(Access::default().check(HERE, None, Scope::Control).unwrap(), Who::Anyone, "open");
    }

    #[test]
    fn guessing_is_slowed_down_and_a_good_token_is_always_good() {
        let access = Access::new(parse_tokens(FILE).unwrap());
        let check = |shown| access.check(HERE, shown, Scope::Read);
        for _ in 0..MAX_FAILURES {
            assert_eq!(kind(check(Some("wrong"))), Some(Kind::Unauthorised));
        }
        let locked = check(Some("wrong")).unwrap_err();
        assert_eq!(locked.kind(), Kind::LockedOut);
        assert!(
            locked.retries_after().is_some_and(|pause| pause <= FAILURE_WINDOW && pause > FAILURE_WINDOW / 2)
        );
        // Who shares the address, behind a proxy or a router, is not kept out by its neighbour.
        assert_eq!(kind(check(Some("0123456789abcdef"))), None);
        assert_eq!(kind(check(Some("wrong"))), Some(Kind::LockedOut), "and the good one forgives nothing");
        // To show nothing is no guess.
        assert_eq!(kind(check(None)), Some(Kind::Unauthorised));
        assert_eq!(
            kind(access.check("10.0.0.2".parse().unwrap(), Some("wrong"), Scope::Read)),
            Some(Kind::Unauthorised)
        );
        let counted: Vec<u64> = access.refused().map(|(_, count)| count).collect();
        assert_eq!(counted, [1, u64::from(MAX_FAILURES) + 1, 2, 0]);
    }

    #[test]
    fn all_addresses_of_one_ipv6_network_are_one_client() {
        let access = Access::new(parse_tokens(FILE).unwrap());
        let check = |address: &str| kind(access.check(address.parse().unwrap(), Some("wrong"), Scope::Read));
        for host in 0..MAX_FAILURES {
            assert_eq!(check(&format!("2001:db8:0:1::{host:x}")), Some(Kind::Unauthorised));
        }
        assert_eq!(check("2001:db8:0:1:ffff::1"), Some(Kind::LockedOut));
        assert_eq!(check("2001:db8:0:2::1"), Some(Kind::Unauthorised));
    }

    #[test]
    fn the_memory_of_failures_is_bounded() {
        let access = Access::new(parse_tokens(FILE).unwrap());
        for address in 0..5000u32 {
            let _ = access.check(IpAddr::V4(address.into()), Some("wrong"), Scope::Read);
        }
        assert_eq!(access.failures.borrow().len(), MAX_ADDRESSES);
    }

    #[test]
    fn bad_files_are_refused_without_showing_them() {
        for (text, line) in [
            ("a read 0123456789abcdef\na read 0123456789abcdeg", 2),
            ("a write 0123456789abcdef", 1),
            ("\na read short", 2),
            ("0123456789abcdef", 1),
        ] {
            let error = parse_tokens(text).unwrap_err();
            assert!(error.message().contains(&format!("line {line}")), "{error}");
            assert!(!error.message().contains("0123456789"), "{error}");
        }
    }
}
