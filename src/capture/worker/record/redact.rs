//! Credentials are taken out of what is recorded: they become as many asterisks, so that lengths go on to say
//! the truth.

use crate::capture::place;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// Fields whose values are credentials, or as good as these.
const SECRET_FIELDS: [&str; 4] = ["authorization", "proxy-authorization", "cookie", "set-cookie"];

/// What is written in their place.
const HIDDEN: u8 = b'*';

/// A parameter of a URL is secret where its name has one of these in it.
const SECRET_NAMES: [&str; 8] = ["pass", "pwd", "token", "secret", "key", "auth", "sig", "credential"];

/// A password of fewer bytes is only found between letters and digits that it does not end in: it could stand
/// anywhere.
const SHORT_BYTES: usize = 4;

/// What must not be written.
#[derive(Debug, Default)]
pub(super) struct Secrets(Vec<Vec<u8>>);

impl Secrets {
    /// Those of a reference: its password, as it is and as URLs write it.
    pub(super) fn of(reference: &str) -> Secrets {
        let Some((_, Some((_, password)))) = place::split(reference) else { return Secrets::default() };
        let written = reference.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@'));
        let written = written.and_then(|(user, _)| user.split_once(':')).map(|(_, password)| password);
        let escaped = utf8_percent_encode(&password, NON_ALPHANUMERIC).to_string();
        let mut found: Vec<Vec<u8>> = [Some(password.as_str()), written, Some(escaped.as_str())]
            .into_iter()
            .flatten()
            .filter(|secret| !secret.is_empty())
            .map(|secret| secret.as_bytes().to_vec())
            .collect();
        found.sort();
        found.dedup();
        Secrets(found)
    }

    /// Covers them in a text.
    pub(super) fn hide(&self, text: &mut [u8]) {
        let mut is_secret = false;
        for line in text.split_inclusive_mut(|byte| *byte == b'\n') {
            // A line that begins with a space goes on with the field before it.
            let continues = is_secret && line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t'));
            let length = line.trim_ascii_end().len();
            let (words, _) = line.split_at_mut(length);
            let from = if continues { Some(1) } else { secret_field(words) };
            is_secret = from.is_some();
            match from {
                Some(from) => words.iter_mut().skip(from).for_each(|byte| *byte = HIDDEN),
                None => self.hide_in_line(words),
            }
        }
    }

    fn hide_in_line(&self, out: &mut [u8]) {
        let line = &*out.to_vec();
        let mut cover = |from: usize, to: usize| {
            if let Some(place) = out.get_mut(from..to) {
                place.fill(HIDDEN);
            }
        };
        for at in places(line, b"://") {
            let rest = line.get(at + 3..).unwrap_or_default();
            let authority = rest.iter().position(|byte| b"/?# \t\"'<>".contains(byte)).unwrap_or(rest.len());
            let user = rest.get(..authority).unwrap_or_default().iter().rposition(|byte| *byte == b'@');
            user.into_iter().for_each(|length| cover(at + 3, at + 3 + length));
        }
        for at in places(line, b"=") {
            let before = line.get(..at).unwrap_or_default();
            let is_of_name = |byte: &&u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
            let name: Vec<u8> = before.iter().rev().take_while(is_of_name).copied().collect();
            let name: String = name.iter().rev().map(|byte| char::from(byte.to_ascii_lowercase())).collect();
            if SECRET_NAMES.iter().any(|secret| name.contains(secret)) {
                let value = line.get(at + 1..).unwrap_or_default();
                let ends = |byte: &u8| b"/?&#;, \t\"'<>".contains(byte);
                cover(at + 1, at + 1 + value.iter().position(ends).unwrap_or(value.len()));
            }
        }
        for secret in &self.0 {
            for at in places(line, secret) {
                let end = at + secret.len();
                let touches = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
                let before = at.checked_sub(1).and_then(|before| line.get(before));
                if secret.len() >= SHORT_BYTES || !(touches(before) || touches(line.get(end))) {
                    cover(at, end);
                }
            }
        }
    }
}

/// How much may stay of a line that is a field with credentials: its name, and the scheme of an authorization.
fn secret_field(line: &[u8]) -> Option<usize> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = line.get(..colon)?.trim_ascii();
    let is_secret = |secret: &&str| name.eq_ignore_ascii_case(secret.as_bytes());
    let which = SECRET_FIELDS.iter().find(|secret| is_secret(secret))?;
    let value = line.get(colon + 1..)?;
    let blank = value.len() - value.trim_ascii_start().len();
    let scheme = value.trim_ascii_start().split(|byte| *byte == b' ').next().unwrap_or_default();
    // Without a scheme the first word would be the secret.
    let is_scheme = which.contains("authorization") && scheme.iter().all(u8::is_ascii_alphabetic);
    let has_more = scheme.len() < value.trim_ascii().len();
    Some(colon + 1 + blank + if is_scheme && has_more { scheme.len() + 1 } else { 0 })
}

/// Where a part begins in a line.
fn places<'a>(line: &'a [u8], part: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    line.windows(part.len().max(1)).enumerate().filter(move |(_, here)| *here == part).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(reference: &str, text: &str) -> String {
        let mut text = text.as_bytes().to_vec();
        Secrets::of(reference).hide(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    }

    #[test]
    fn fields_with_credentials_keep_their_name_and_scheme() {
        for (field, kept) in [
            ("Authorization: Basic am9lOnBhc3M=", "Authorization: Basic ************"),
            ("authorization:Digest username=\"joe\"", "authorization:Digest **************"),
            ("Authorization: am9lOnBhc3M=", "Authorization: ************"),
            ("Authorization: secretword", "Authorization: **********"),
            ("Proxy-Authorization: Basic x", "Proxy-Authorization: Basic *"),
            ("Cookie: session 1", "Cookie: *********"),
            ("SET-COOKIE : a=b", "SET-COOKIE : ***"),
            ("Authorization: Digest a,\r\n response=\"1\"", "Authorization: Digest **\r\n ************"),
            ("Authorization:", "Authorization:"),
            ("WWW-Authenticate: Digest realm=\"x\", nonce=\"1\", qop=\"auth\"", ""),
            ("CSeq: 3", ""),
        ] {
            let text = |field: &str| format!("DESCRIBE rtsp://cam/ RTSP/1.0\r\n{field}\r\nCSeq: 2\r\n\r\n");
            let expected = if kept.is_empty() { field } else { kept };
            assert_eq!(hidden("rtsp://cam/", &text(field)), text(expected));
        }
    }

    #[test]
    fn credentials_in_urls_become_as_many_asterisks() {
        for (given, kept) in [
            ("Location: rtsp://joe:p@ss@cam/1\r\n", "Location: rtsp://********@cam/1\r\n"),
            ("a=control:rtsp://cam/1?user=joe&pwd=hush&x=1", "a=control:rtsp://cam/1?user=joe&pwd=****&x=1"),
            ("rtsp://cam/user=a_password=tl_channel=1/x", "rtsp://cam/user=a_password=************/x"),
            ("http://cam/a.jpg?API_KEY=7 HTTP/1.1", "http://cam/a.jpg?API_KEY=* HTTP/1.1"),
            ("a=control:t?token=7\r\nm=x\r\n", "a=control:t?token=*\r\nm=x\r\n"),
            ("a=fmtp:96 sprop-parameter-sets=Z0LA,aMuM", "a=fmtp:96 sprop-parameter-sets=Z0LA,aMuM"),
            ("mail@example.org http://cam/@", "mail@example.org http://cam/@"),
        ] {
            assert_eq!(hidden("rtsp://cam/", given), kept);
        }
    }

    #[test]
    fn any_bytes_keep_their_length() {
        // What means something here, in any order.
        const WORDS: [&[u8]; 12] = [
            b"Cookie:",
            b"Authorization: Basic ",
            b"\r\n",
            b" ",
            b"\t",
            b"://",
            b"@",
            b"=",
            b"pass",
            b"\xff",
            b"a",
            b"/",
        ];
        let mut seed = 0x9e37_79b9_u32;
        for _ in 0..20_000 {
            let mut text = Vec::new();
            for _ in 0..8 {
                // xorshift: the same in every run.
                seed ^= seed << 13;
                seed ^= seed >> 17;
                seed ^= seed << 5;
                text.extend_from_slice(WORDS[seed as usize % WORDS.len()]);
            }
            let mut hidden = text.clone();
            Secrets::of("rtsp://a:pass@cam/").hide(&mut hidden);
            assert!(hidden.iter().zip(&text).all(|(now, before)| now == before || *now == HIDDEN));
            assert!(!hidden.windows(4).any(|part| part == b"pass"), "{}", String::from_utf8_lossy(&text));
        }
    }

    #[test]
    fn the_password_of_the_reference_is_found_wherever_it_stands() {
        let reference = "rtsp://joe:hun%2Fter2@cam/1";
        assert_eq!(hidden(reference, "x hun/ter2y hun%2Fter2 z"), "x ********y ********** z");
        assert_eq!(hidden("rtsp://joe:p/w?d@cam/1", "p/w?d p%2Fw%3Fd"), "***** *********");
        // A short one could be part of anything.
        assert_eq!(hidden("rtsp://joe:12@cam/1", "port=5121 (12)"), "port=5121 (**)");
        assert_eq!(hidden("rtsp://joe@cam/1", "joe"), "joe");
    }
}
