//! User and password as servers ask for them: Digest (RFC 7616, RFC 2617, RFC 2069) and Basic, of RTSP and
//! HTTP alike.

use super::Head;
use md5::Md5;
use sha2::{Digest as _, Sha256, Sha512_256};
use std::fmt::Write as _;

/// A server may say so often that a nonce was stale before one request is given up.
const MAX_STALE: u32 = 2;

/// Challenges that are looked at. Servers offer up to three.
const MAX_CHALLENGES: usize = 8;

/// Challenges of one server that are answered: one more than the best, since some offer what they cannot do.
/// Each is a failed login where the password is wrong.
const MAX_ANSWERED: usize = 2;

/// What one party knows of another's wish for credentials.
#[derive(Debug, Default)]
pub(in crate::capture::worker) struct Authorisation {
    credentials: Option<(String, String)>,
    present: Option<Challenge>,
    /// Schemes that were answered and refused.
    refused: Vec<Scheme>,
    /// Since the last answer that was good.
    stale: u32,
    /// The present challenge has been accepted before.
    proven: bool,
}

/// Why a request is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::capture::worker) enum Refused {
    /// There is no user and password.
    NoCredentials,
    /// User and password were tried, and refused.
    Wrong,
    /// Neither Digest nor Basic, or no challenge at all.
    UnknownScheme,
}

impl Refused {
    /// For an error's message.
    pub(in crate::capture::worker) fn words(self) -> &'static str {
        match self {
            Refused::NoCredentials => "it asks for a user and a password, and the reference has none",
            Refused::Wrong => "user or password are wrong",
            Refused::UnknownScheme => "it asks for credentials in a way that is not known",
        }
    }
}

impl Authorisation {
    pub(in crate::capture::worker) fn new(credentials: Option<(String, String)>) -> Authorisation {
        Authorisation { credentials, ..Authorisation::default() }
    }

    /// The value of `Authorization` for a request, once somebody has asked for it. `uri` as it stands in the
    /// request line.
    pub(in crate::capture::worker) fn answer(
        &mut self,
        method: &str,
        uri: &str,
        body: &[u8],
    ) -> Option<String> {
        let (user, password) = self.credentials.as_ref()?;
        let cnonce = uuid::Uuid::new_v4().simple().to_string();
        Some(self.present.as_mut()?.answer(user, password, method, uri, body, &cnonce))
    }

    /// A request was answered well: what was refused before is past.
    pub(in crate::capture::worker) fn accepted(&mut self) {
        self.stale = 0;
        self.proven = self.present.is_some();
    }

    /// A request was answered with 401 and this head. `Ok`: send it again, with a new
    /// [`Authorisation::answer`].
    pub(in crate::capture::worker) fn refused(&mut self, head: &Head) -> Result<(), Refused> {
        if self.credentials.is_none() {
            return Err(Refused::NoCredentials);
        }
        let offered = offers(head);
        if let Some(present) = &self.present {
            let again = offered.iter().find(|offer| offer.scheme == present.scheme);
            // A new nonce where the old one had been good is one that has run out, said or not.
            let renewed = again.filter(|again| again.stale || (self.proven && again.nonce != present.nonce));
            if let Some(renewed) = renewed
                && self.stale < MAX_STALE
            {
                self.stale += 1;
                self.present = Some(renewed.clone());
                return Ok(());
            }
            self.refused.push(present.scheme);
        }
        if self.refused.len() >= MAX_ANSWERED {
            return Err(Refused::Wrong);
        }
        let was_digest = self.refused.iter().any(|scheme| *scheme != Scheme::Basic);
        // Whoever refused a digest does not get the password itself.
        let best = offered
            .into_iter()
            .filter(|offer| !self.refused.contains(&offer.scheme))
            .filter(|offer| offer.scheme != Scheme::Basic || !was_digest)
            .max_by_key(|offer| offer.scheme);
        self.proven = false;
        match best {
            Some(best) => {
                self.present = Some(best);
                Ok(())
            }
            None if self.refused.is_empty() => Err(Refused::UnknownScheme),
            None => Err(Refused::Wrong),
        }
    }
}

/// How credentials can be shown, worst first. The session variants count as another scheme: servers get them
/// wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scheme {
    Basic,
    Digest(Hash, bool),
}

/// Hashes of Digest, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Hash {
    Md5,
    Sha512Of256,
    Sha256,
}

impl Hash {
    fn hex(self, text: &[u8]) -> String {
        fn hex(bytes: &[u8]) -> String {
            bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
                // Writing to a String cannot fail.
                let _ = write!(text, "{byte:02x}");
                text
            })
        }
        match self {
            Hash::Md5 => hex(&Md5::digest(text)),
            Hash::Sha256 => hex(&Sha256::digest(text)),
            Hash::Sha512Of256 => hex(&Sha512_256::digest(text)),
        }
    }
}

/// One challenge, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Challenge {
    scheme: Scheme,
    realm: String,
    nonce: String,
    opaque: Option<String>,
    /// As the server wrote it: it is written back so.
    algorithm: Option<String>,
    protection: Protection,
    stale: bool,
    hashes_user: bool,
    /// Requests with this nonce.
    count: u32,
}

/// Digest's quality of protection (`qop`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protection {
    /// RFC 2069: none is spoken of.
    Absent,
    Request,
    /// Only where it is alone.
    RequestAndBody,
}

impl Challenge {
    fn of(scheme: &str, parameters: &[(String, String)]) -> Option<Challenge> {
        let get = |name: &str| {
            parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
        };
        let mut challenge = Challenge {
            scheme: Scheme::Basic,
            realm: get("realm").unwrap_or_default(),
            nonce: get("nonce").unwrap_or_default(),
            opaque: get("opaque"),
            algorithm: get("algorithm"),
            protection: Protection::Absent,
            stale: get("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
            hashes_user: get("userhash").is_some_and(|wanted| wanted.eq_ignore_ascii_case("true")),
            count: 0,
        };
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(challenge);
        }
        if !scheme.eq_ignore_ascii_case("digest") {
            return None;
        }
        let algorithm = challenge.algorithm.as_deref().unwrap_or("MD5").to_ascii_uppercase();
        let (name, session) = match algorithm.strip_suffix("-SESS") {
            Some(name) => (name, true),
            None => (algorithm.as_str(), false),
        };
        let hash = match name {
            "MD5" | "" => Hash::Md5,
            "SHA-256" | "SHA256" => Hash::Sha256,
            "SHA-512-256" => Hash::Sha512Of256,
            _ => return None,
        };
        challenge.scheme = Scheme::Digest(hash, session);
        if let Some(offered) = get("qop") {
            let has = |wanted: &str| {
                offered.split([',', ' ']).any(|offer| offer.trim().eq_ignore_ascii_case(wanted))
            };
            challenge.protection = match (has("auth"), has("auth-int")) {
                (false, true) => Protection::RequestAndBody,
                (true, _) => Protection::Request,
                // An empty list, or one of unknown words: as those who know no such list.
                (false, false) => Protection::Absent,
            };
        }
        Some(challenge)
    }

    fn answer(
        &mut self,
        user: &str,
        password: &str,
        method: &str,
        uri: &str,
        body: &[u8],
        cnonce: &str,
    ) -> String {
        let Scheme::Digest(hash, session) = self.scheme else {
            return format!("Basic {}", base64(format!("{user}:{password}").as_bytes()));
        };
        self.count = self.count.saturating_add(1);
        let (realm, nonce) = (&self.realm, &self.nonce);
        let mut secret = hash.hex(format!("{user}:{realm}:{password}").as_bytes());
        if session {
            secret = hash.hex(format!("{secret}:{nonce}:{cnonce}").as_bytes());
        }
        let request = match self.protection {
            Protection::RequestAndBody => hash.hex(format!("{method}:{uri}:{}", hash.hex(body)).as_bytes()),
            _ => hash.hex(format!("{method}:{uri}").as_bytes()),
        };
        let quality = match self.protection {
            Protection::Absent => None,
            Protection::Request => Some("auth"),
            Protection::RequestAndBody => Some("auth-int"),
        };
        let response = match quality {
            None => hash.hex(format!("{secret}:{nonce}:{request}").as_bytes()),
            Some(quality) => hash
                .hex(format!("{secret}:{nonce}:{:08x}:{cnonce}:{quality}:{request}", self.count).as_bytes()),
        };
        let name =
            if self.hashes_user { hash.hex(format!("{user}:{realm}").as_bytes()) } else { escape(user) };
        let mut out = format!(
            "Digest username=\"{name}\", realm=\"{}\", nonce=\"{}\", uri=\"{uri}\", response=\"{response}\"",
            escape(realm),
            escape(nonce)
        );
        // Writing to a String cannot fail.
        if let Some(algorithm) = &self.algorithm {
            let _ = write!(out, ", algorithm={}", token(algorithm));
        }
        if let Some(opaque) = &self.opaque {
            let _ = write!(out, ", opaque=\"{}\"", escape(opaque));
        }
        if let Some(quality) = quality {
            let _ = write!(out, ", qop={quality}, nc={:08x}", self.count);
        }
        if quality.is_some() || session {
            let _ = write!(out, ", cnonce=\"{cnonce}\"");
        }
        if self.hashes_user {
            out.push_str(", userhash=true");
        }
        out
    }
}

/// All challenges of a head that we can answer.
fn offers(head: &Head) -> Vec<Challenge> {
    let mut offers = Vec::new();
    for value in head.all("www-authenticate") {
        for (scheme, parameters) in challenges(value) {
            if offers.len() < MAX_CHALLENGES {
                offers.extend(Challenge::of(&scheme, &parameters));
            }
        }
    }
    offers
}

type Parameters = Vec<(String, String)>;

/// `Digest a=b, c="d", Basic realm="x"` → schemes with their parameters. What is not understood is passed
/// over.
fn challenges(mut text: &str) -> Vec<(String, Parameters)> {
    let mut found: Vec<(String, Parameters)> = Vec::new();
    loop {
        text = text.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
        if text.is_empty() || found.len() > MAX_CHALLENGES {
            return found;
        }
        let end = text.find(|c: char| c == '=' || c == ',' || c.is_whitespace()).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        let after = rest.trim_start();
        let Some(value) = after.strip_prefix('=').map(str::trim_start) else {
            // A word without a value is the name of a scheme.
            if !word.is_empty() {
                found.push((word.to_owned(), Vec::new()));
            }
            text = rest.get(usize::from(word.is_empty())..).unwrap_or_default();
            continue;
        };
        let (value, rest) = match value.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = value.find([',', ' ']).unwrap_or(value.len());
                let (value, rest) = value.split_at(end);
                (value.trim().to_owned(), rest)
            }
        };
        if let Some((_, parameters)) = found.last_mut() {
            parameters.push((word.to_owned(), value));
        }
        text = rest;
    }
}

/// The text up to the closing quote, escapes resolved, and what follows.
fn unquote(text: &str) -> (String, &str) {
    let mut out = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (out, text.get(at + 1..).unwrap_or_default()),
            '\\' => out.extend(characters.next().map(|(_, escaped)| escaped)),
            other => out.push(other),
        }
    }
    (out, "")
}

fn escape(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// What may stand without quotes.
fn token(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = DIGITS.get((word >> (18 - 6 * place) & 63) as usize).copied().unwrap_or(b'=');
            out.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn head(challenges: &[&str]) -> Head {
        let fields = challenges.iter().map(|value| ("WWW-Authenticate".to_owned(), (*value).to_owned()));
        Head { line: "RTSP/1.0 401 Unauthorized".into(), fields: fields.collect() }
    }

    fn joe() -> Authorisation {
        Authorisation::new(Some(("Mufasa".into(), "Circle of Life".into())))
    }

    const RFC_7616: [&str; 2] = [
        "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm=MD5, nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"",
        "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm=SHA-256, nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"",
    ];

    #[test]
    fn the_examples_of_rfc_7616() {
        for (challenge, response) in [
            (RFC_7616[0], "8ca523f5e9506fed4657c9700eebdbec"),
            (RFC_7616[1], "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let mut challenge = offers(&head(&[challenge])).remove(0);
            let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
            let answer = challenge.answer("Mufasa", "Circle of Life", "GET", "/dir/index.html", b"", cnonce);
            assert!(answer.contains(&format!("response=\"{response}\"")), "{answer}");
            assert!(answer.contains("qop=auth, nc=00000001") && answer.contains("opaque=\"FQhe"), "{answer}");
        }
    }

    #[test]
    fn the_strongest_that_is_offered_and_then_one_other() {
        let mut joe = joe();
        assert_eq!(joe.answer("GET", "/", b""), None, "nobody has asked");
        let offered = head(&["Basic realm=\"x\"", RFC_7616[0], RFC_7616[1]]);
        joe.refused(&offered).unwrap();
        assert!(joe.answer("GET", "/", b"").unwrap().contains("algorithm=SHA-256"));
        joe.refused(&offered).unwrap();
        assert!(joe.answer("GET", "/", b"").unwrap().contains("algorithm=MD5"));
        assert_eq!(joe.refused(&offered), Err(Refused::Wrong));
    }

    #[test]
    fn the_password_itself_goes_only_to_who_never_spoke_of_digests() {
        let mut joe = joe();
        joe.refused(&head(&["Digest realm=\"x\", nonce=\"1\"", "Basic realm=\"x\""])).unwrap();
        assert_eq!(joe.refused(&head(&["Basic realm=\"x\""])), Err(Refused::Wrong));
        let mut basic = Authorisation::new(Some(("u".into(), "p@ss".into())));
        basic.refused(&head(&["Basic realm=\"x\""])).unwrap();
        assert_eq!(basic.answer("GET", "/", b""), Some("Basic dTpwQHNz".into()));
    }

    #[test]
    fn a_stale_nonce_is_renewed_at_once_and_not_for_ever() {
        let mut joe = joe();
        joe.refused(&head(&["Digest realm=\"x\", nonce=\"1\""])).unwrap();
        for nonce in ["2", "3"] {
            joe.refused(&head(&[&format!("Digest realm=\"x\", nonce=\"{nonce}\", stale=true")])).unwrap();
            assert!(joe.answer("GET", "/", b"").unwrap().contains(&format!("nonce=\"{nonce}\"")));
        }
        assert_eq!(joe.refused(&head(&["Digest realm=\"x\", nonce=\"4\", stale=true"])), Err(Refused::Wrong));
        // One that was good once has run out, whether or not the server says so.
        let mut old = Authorisation::new(Some(("u".into(), "p".into())));
        old.refused(&head(&["Digest realm=\"x\", nonce=\"1\""])).unwrap();
        old.accepted();
        old.refused(&head(&["Digest realm=\"x\", nonce=\"2\""])).unwrap();
    }

    #[test]
    fn what_a_challenge_may_look_like() {
        let found = |text: &str| offers(&head(&[text]));
        let both = found("Digest realm=\"a, b=\\\"c\\\"\" , nonce=abc,qop=\"auth\",Basic realm=\"x\"");
        assert_eq!((both.len(), both[0].realm.as_str(), both[0].nonce.as_str()), (2, "a, b=\"c\"", "abc"));
        assert_eq!(
            found("Digest nonce=\"1\", algorithm=\"SHA-256\", stale=\"FALSE\"")[0].scheme,
            Scheme::Digest(Hash::Sha256, false)
        );
        assert_eq!(
            found("Digest nonce=\"1\", algorithm=MD5-sess")[0].scheme,
            Scheme::Digest(Hash::Md5, true)
        );
        assert_eq!(found("Digest nonce=\"1\", qop=\"auth-int\"")[0].protection, Protection::RequestAndBody);
        assert_eq!(found("Digest nonce=\"1\", qop=\"auth-int,auth\"")[0].protection, Protection::Request);
        assert!(found("Negotiate").is_empty() && found("Digest nonce=\"1\", algorithm=X").is_empty());
        for odd in ["", "=", "Digest =", "Digest a=\"", ",,,", "Digest \"x\"", "\u{e4}=\u{e4}\\"] {
            let _ = found(odd);
        }
        assert_eq!(joe().refused(&head(&["Negotiate"])), Err(Refused::UnknownScheme));
        assert_eq!(Authorisation::new(None).refused(&head(&[RFC_7616[0]])), Err(Refused::NoCredentials));
    }

    #[test]
    fn session_keys_and_body_hashes() {
        let answer = |challenge: &str, body: &[u8]| {
            offers(&head(&[challenge])).remove(0).answer("u", "p", "GET", "/x", body, "c")
        };
        let md5 = |text: &str| Hash::Md5.hex(text.as_bytes());
        let key = md5(&format!("{}:n:c", md5("u:r:p")));
        let expected = md5(&format!("{key}:n:{}", md5("GET:/x")));
        let got = answer("Digest realm=\"r\", nonce=\"n\", algorithm=MD5-sess", b"");
        assert!(
            got.contains(&expected) && got.contains("cnonce=\"c\"") && got.contains("algorithm=MD5-sess"),
            "{got}"
        );
        let request = md5(&format!("GET:/x:{}", md5("body")));
        let expected = md5(&format!("{}:n:00000001:c:auth-int:{request}", md5("u:r:p")));
        let got = answer("Digest realm=\"r\", nonce=\"n\", qop=\"auth-int\"", b"body");
        assert!(got.contains(&expected) && got.contains("qop=auth-int"), "{got}");
    }
}
