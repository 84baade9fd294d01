//! Which proxy a request goes through: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in the
//! meaning that curl gives them.

use super::network::{Network, bare};
use crate::command::Secret;
use std::fmt;
use std::net::IpAddr;

/// The port of a proxy that names none, as for curl.
const DEFAULT_PORT: u16 = 1080;

/// Entries of `NO_PROXY`; a longer list is cut.
const MAX_EXCEPTIONS: usize = 256;

/// What the environment says of proxies.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Proxies {
    https: Option<Named>,
    http: Option<Named>,
    exceptions: Vec<Exception>,
}

/// A variable and what it names, or why that cannot be used.
#[derive(Debug, Clone, PartialEq)]
struct Named {
    variable: &'static str,
    proxy: Result<Proxy, &'static str>,
}

#[derive(Debug, Clone, PartialEq)]
struct Proxy {
    host: String,
    port: u16,
    /// `Basic …` for its `Proxy-Authorization`.
    credentials: Option<Secret>,
}

/// Who is asked without a proxy.
#[derive(Debug, Clone, PartialEq)]
enum Exception {
    /// Every host: `*` stands in the list.
    All,
    Network(Network, Option<u16>),
    /// The name itself and everything below it; lower case, without a leading dot.
    Name(String, Option<u16>),
}

/// How to reach a server.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// `HTTPS_PROXY` or whichever variable it was.
    pub variable: &'static str,
    /// Name or address of the proxy.
    pub host: String,
    /// Port of the proxy.
    pub port: u16,
    /// The value of its `Proxy-Authorization`.
    pub credentials: Option<Secret>,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the proxy {}:{} ({})", self.host, self.port, self.variable)
    }
}

impl Proxies {
    /// Reads the variables. Their names are known in lower and upper case; in lower case they win, as for
    /// curl.
    pub fn from_environment(environment: impl Fn(&str) -> Option<String>) -> Proxies {
        let value = |name: &str| {
            let set = |name: &str| environment(name).filter(|value| !value.trim().is_empty());
            set(&name.to_ascii_lowercase()).or_else(|| set(name))
        };
        let named = |variable: &'static str| {
            value(variable).map(|text| Named { variable, proxy: parse(text.trim()) })
        };
        let any = named("ALL_PROXY");
        let exceptions = value("NO_PROXY").unwrap_or_default();
        let words = exceptions.split([',', ' ']).map(str::trim).filter(|word| !word.is_empty());
        Proxies {
            https: named("HTTPS_PROXY").or_else(|| any.clone()),
            http: named("HTTP_PROXY").or(any),
            exceptions: words.take(MAX_EXCEPTIONS).filter_map(exception).collect(),
        }
    }

    /// The proxy for a server; `None`: it is asked directly. An error, in words, when the variable that says
    /// so cannot be used.
    pub fn route(&self, is_https: bool, host: &str, port: u16) -> Result<Option<Route>, String> {
        let named = if is_https { &self.https } else { &self.http };
        let Some(Named { variable, proxy }) = named.as_ref().filter(|_| !self.is_exception(host, port))
        else {
            return Ok(None);
        };
        match proxy {
            Ok(Proxy { host, port, credentials }) => Ok(Some(Route {
                variable,
                host: host.clone(),
                port: *port,
                credentials: credentials.clone(),
            })),
            Err(why) => Err(format!("{variable} {why}")),
        }
    }

    fn is_exception(&self, host: &str, port: u16) -> bool {
        let host = bare(host).trim_end_matches('.').to_ascii_lowercase();
        let address = host.parse::<IpAddr>().ok();
        let is_port = |only: &Option<u16>| only.is_none_or(|only| only == port);
        self.exceptions.iter().any(|exception| match exception {
            Exception::All => true,
            Exception::Network(network, only) => {
                is_port(only) && address.is_some_and(|address| network.contains(address))
            }
            Exception::Name(name, only) => {
                is_port(only)
                    && (host == *name
                        || host.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.')))
            }
        })
    }
}

/// `[http://][NAME:PASSWORD@]HOST[:PORT][/]`. The reason names no part of the text: it may hold a password.
fn parse(text: &str) -> Result<Proxy, &'static str> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    match scheme.to_ascii_lowercase().as_str() {
        "http" => {}
        "socks" | "socks4" | "socks4a" | "socks5" | "socks5h" => {
            return Err(
                "names a SOCKS proxy, which weir does not speak: name an HTTP proxy (http://HOST:PORT)",
            );
        }
        "https" => {
            return Err(
                "names a proxy that is itself spoken to in TLS, which weir does not do: name http://HOST:PORT",
            );
        }
        _ => {
            return Err(
                "names a proxy of a kind that weir does not know: name an HTTP proxy (http://HOST:PORT)",
            );
        }
    }
    let wrong = "does not name a proxy as http://[NAME:PASSWORD@]HOST[:PORT]";
    let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (user, place) = match rest.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, rest),
    };
    let (host, port) = match place.rsplit_once(':') {
        // The colons of an IPv6 address without a port.
        Some((_, port)) if port.ends_with(']') => (place, DEFAULT_PORT),
        Some((host, port)) => (host, port.parse().map_err(|_| wrong)?),
        None => (place, DEFAULT_PORT),
    };
    let host = bare(host);
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(wrong);
    }
    let credentials = user.map(|user| {
        let plain: Vec<u8> = percent_encoding::percent_decode_str(user).collect();
        Secret::new(format!("Basic {}", base64(&plain)))
    });
    Ok(Proxy { host: host.to_owned(), port, credentials })
}

fn exception(word: &str) -> Option<Exception> {
    if word == "*" {
        return Some(Exception::All);
    }
    if let Some(network) = Network::parse(word) {
        return Some(Exception::Network(network, None));
    }
    let (host, port) = match word.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (word, None),
    };
    if let Some(network) = Network::parse(host) {
        return Some(Exception::Network(network, port));
    }
    let name = host.trim_start_matches("*").trim_matches('.').to_ascii_lowercase();
    (!name.is_empty()).then_some(Exception::Name(name, port))
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for index in 0..4 {
            let six = (bits >> (18 - 6 * index)) as usize & 63;
            // `six` is below 64.
            text.push(if index <= chunk.len() {
                ALPHABET.get(six).map_or('=', |byte| char::from(*byte))
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn proxies(set: &[(&str, &str)]) -> Proxies {
        Proxies::from_environment(|name| {
            set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn place(proxies: &Proxies, is_https: bool, host: &str) -> Option<String> {
        proxies
            .route(is_https, host, if is_https { 443 } else { 80 })
            .unwrap()
            .map(|route| format!("{}:{}", route.host, route.port))
    }

    #[test]
    fn each_scheme_has_its_proxy() {
        let both = proxies(&[
            ("HTTPS_PROXY", "http://one:3128"),
            ("http_proxy", "two:3129"),
            ("HTTP_PROXY", "three:1"),
        ]);
        assert_eq!(place(&both, true, "api.example").as_deref(), Some("one:3128"));
        assert_eq!(place(&both, false, "api.example").as_deref(), Some("two:3129"));
        let https = proxies(&[("HTTPS_PROXY", "[fd00::1]:3128/")]);
        assert_eq!(place(&https, true, "api.example").as_deref(), Some("fd00::1:3128"));
        assert_eq!(place(&https, false, "api.example"), None);
        let all = proxies(&[("ALL_PROXY", "proxy"), ("HTTPS_PROXY", " ")]);
        assert_eq!(place(&all, true, "api.example").as_deref(), Some("proxy:1080"));
        assert_eq!(proxies(&[]), Proxies::default());
    }

    #[test]
    fn exceptions_are_names_domains_networks_and_ports() {
        let list =
            "localhost,127.0.0.0/8, .site.example,*.lab.example,10.1.2.3 fd00::/8,192.0.2.7:8443,Intern";
        let all = proxies(&[("ALL_PROXY", "http://proxy:1"), ("NO_PROXY", list)]);
        for (host, expected) in [
            ("localhost", true),
            ("127.9.9.9", true),
            ("128.0.0.1", false),
            ("site.example", true),
            ("a.b.site.example", true),
            ("notsite.example", false),
            ("x.lab.example", true),
            ("10.1.2.3", true),
            ("10.1.2.4", false),
            ("[fd12::1]", true),
            ("[fe80::1]", false),
            ("intern.", true),
            ("192.0.2.7", false),
        ] {
            assert_eq!(place(&all, true, host).is_none(), expected, "{host}");
        }
        assert_eq!(all.route(true, "192.0.2.7", 8443).unwrap(), None);
        assert!(place(&proxies(&[("ALL_PROXY", "http://proxy:1"), ("no_proxy", "*")]), true, "x").is_none());
    }

    #[test]
    fn what_cannot_be_used_is_refused_in_words_that_hold_no_password() {
        for (text, word) in [
            ("socks5h://user:hunter2@proxy:1080", "SOCKS"),
            ("https://user:hunter2@proxy", "TLS"),
            ("gopher://user:hunter2@proxy", "kind"),
            ("http://user:hunter2@", "HOST"),
            ("http://user:hunter2@proxy:port", "HOST"),
        ] {
            let error = proxies(&[("HTTPS_PROXY", text)]).route(true, "api.example", 443).unwrap_err();
            assert!(error.contains(word) && error.starts_with("HTTPS_PROXY "), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn credentials_are_those_of_rfc_7617() {
        let proxy = parse("http://Aladdin:open%20sesame@proxy:1").unwrap();
        assert_eq!(proxy.credentials.unwrap().reveal(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(
            ["", "f", "fo", "foo", "foob"].map(|text| base64(text.as_bytes())),
            ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]
        );
    }
}
