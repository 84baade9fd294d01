//! Who may say what: bearer tokens with a scope, and a brake on guessing them.
//!
//! Without any token everybody who reaches a port may do everything, as in the reference; the service refuses to listen
//! beyond loopback in that state. Unix sockets are guarded by the mode of their file instead.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hint::black_box;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::command::Secret;
use crate::error::{Error, Kind, Result};

/// Tokens in one file: people and programs on a site, not users of a public service. Each costs a comparison.
const MAX_TOKENS: usize = 64;

/// Shortest secret: 16 characters of hexadecimal are 64 bits, which [`MAX_FAILURES`] a minute do not find.
const MIN_SECRET_BYTES: usize = 16;

/// Failed attempts of one address before it has to wait.
const MAX_FAILURES: u32 = 10;

/// How long failures count, and so how long an address waits.
const FAILURE_WINDOW: Duration = Duration::from_secs(60);

/// Addresses whose failures are remembered; of more, the oldest is forgotten. An attacker with that many addresses of
/// its own gains ten attempts for each.
const MAX_ADDRESSES: usize = 1024;

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// List, status, metrics, events.
    Read,
    /// Everything.
    Control,
}

/// A secret that lets its bearer in.
#[derive(Debug, Clone)]
pub struct Token {
    /// For the log.
    pub name: String,
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
}

#[derive(Debug)]
struct Failures {
    count: u32,
    since: Instant,
}

impl Token {
    /// A token that cannot be guessed soon and that fits into a header; else why it is none, in words without it.
    pub fn new(name: &str, scope: Scope, secret: &str) -> Result<Token, &'static str> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err("a token needs at least 16 characters");
        }
        if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("a token is one word of printable ASCII");
        }
        Ok(Token { name: name.to_owned(), scope, secret: Secret::new(secret) })
    }
}

impl Access {
    /// With these tokens; with none, open to everybody.
    pub fn new(tokens: Vec<Token>) -> Self {
        Access { tokens: RefCell::new(tokens), failures: RefCell::default() }
    }

    /// From now on these tokens are good (the file was read again).
    pub fn replace(&self, tokens: Vec<Token>) {
        *self.tokens.borrow_mut() = tokens;
    }

    /// Nobody needs a token.
    pub fn is_open(&self) -> bool {
        self.tokens.borrow().is_empty()
    }

    /// Lets a request through or says why not. `peer` is `None` on Unix sockets.
    pub(super) fn check(&self, peer: Option<IpAddr>, shown: Option<&str>, needed: Scope) -> Result<()> {
        let Some(peer) = peer.filter(|_| !self.is_open()) else { return Ok(()) };
        if self.is_locked_out(peer) {
            return Err(Error::new(Kind::Unauthorised, "Too many failed attempts from this address; try again in a minute"));
        }
        let Some(shown) = shown else {
            return Err(Error::new(Kind::Unauthorised, "A token is needed"));
        };
        let tokens = self.tokens.borrow();
        // All are compared, so that the time does not tell which one came close.
        let found = tokens.iter().fold(None, |found, token| if same(token.secret.reveal(), shown) { Some(token) } else { found });
        match found {
            None => {
                self.remember_failure(peer);
                log::warn!("event=token_refused peer={peer}");
                Err(Error::new(Kind::Unauthorised, "The token is not known"))
            }
            Some(token) if token.scope < needed => {
                log::warn!("event=scope_refused peer={peer} token={}", token.name);
                Err(Error::new(Kind::Forbidden, "The token is good for reading only"))
            }
            Some(_) => Ok(()),
        }
    }

    fn is_locked_out(&self, peer: IpAddr) -> bool {
        let failures = self.failures.borrow();
        failures.get(&peer).is_some_and(|entry| entry.count >= MAX_FAILURES && entry.since.elapsed() < FAILURE_WINDOW)
    }

    fn remember_failure(&self, peer: IpAddr) {
        let mut failures = self.failures.borrow_mut();
        if failures.len() >= MAX_ADDRESSES && !failures.contains_key(&peer) {
            let oldest = failures.iter().min_by_key(|(_, entry)| entry.since).map(|(address, _)| *address);
            oldest.and_then(|address| failures.remove(&address));
        }
        let entry = failures.entry(peer).or_insert_with(|| Failures { count: 0, since: Instant::now() });
        if entry.since.elapsed() >= FAILURE_WINDOW {
            *entry = Failures { count: 0, since: Instant::now() };
        }
        entry.count += 1;
    }
}

/// Reads a token file: a line each of `NAME SCOPE SECRET`, where the scope is `read` or `control`; `#` begins a comment.
/// Errors name the line, never its content.
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
        if tokens.iter().any(|token| token.name == **name) {
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
    let difference = left.bytes().zip(right.bytes()).fold(0, |difference, (left, right)| black_box(difference | (left ^ right)));
    left.len() == right.len() && difference == 0
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const FILE: &str = "# people\nboard read 0123456789abcdef\n\nops control fedcba9876543210fedcba # rotated in May\nhash read 0123456789abcdef#0123 #\n";
    const HERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)));

    fn kind(result: Result<()>) -> Option<Kind> {
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
        assert_eq!(kind(access.check(None, None, Scope::Control)), None, "Unix sockets need none");
        assert_eq!(kind(Access::default().check(HERE, None, Scope::Control)), None, "open");
    }

    #[test]
    fn guessing_locks_the_address_out_and_only_that() {
        let access = Access::new(parse_tokens(FILE).unwrap());
        for _ in 0..MAX_FAILURES {
            assert_eq!(kind(access.check(HERE, Some("wrong"), Scope::Read)), Some(Kind::Unauthorised));
        }
        let good = Some("0123456789abcdef");
        assert_eq!(kind(access.check(HERE, good, Scope::Read)), Some(Kind::Unauthorised));
        assert_eq!(kind(access.check("10.0.0.2".parse().ok(), good, Scope::Read)), None);
    }

    #[test]
    fn the_memory_of_failures_is_bounded() {
        let access = Access::new(parse_tokens(FILE).unwrap());
        for address in 0..5000u32 {
            let _ = access.check(Some(IpAddr::V4(address.into())), Some("wrong"), Scope::Read);
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
