//! From the configuration to the two listeners: sockets, rules, and what is read again on SIGHUP.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use super::activation::Passed;
use crate::config::Config;
use crate::error::{Error, Kind, Result, system};
use crate::hosts::HostRule;
use crate::proto::access::{Access, Scope, Token, parse_tokens};
use crate::proto::access_control::AccessControl;
use crate::proto::listen::Listener;
use crate::proto::reach::Reach;
use crate::proto::tls::{self, Tls};
use crate::proto::{Cors, Limits, Proxies, Rules, Stop, http, tcp};

/// The credential that systemd may hand over (`LoadCredential=weir.tokens:…`), in the format of the token
/// file.
const CREDENTIAL: &str = "weir.tokens";

/// Who may open a Unix socket: the service's own user and group.
const UNIX_MODE: u32 = 0o660;

/// A token file larger than this is not one: 64 lines of 100 bytes are 6 KiB.
const MAX_TOKEN_FILE_BYTES: u64 = 64 << 10;

/// Clients that may wait for a place at each listener: a fleet's dashboards that all come back at once.
const WAITING: i32 = 1024;

/// In `http.hosts`: any name.
const ANY_HOST: &str = "*";

/// The rules of both listeners. Refuses to open a port to others than this machine when nobody has to show
/// anything.
pub(super) fn access_control(config: &Config, addresses: &[SocketAddr]) -> Result<Rc<AccessControl>> {
    let tokens = tokens(config)?;
    let client_ca = named(&config.tls.client_ca);
    let is_local = are_loopback(addresses);
    if !is_local && tokens.is_empty() && client_ca.is_none() && !config.access.insecure {
        let text = "a port that others can reach needs tokens (access.tokens_file, WEIR_TOKEN) or client certificates; --insecure goes without";
        return Err(Error::new(Kind::Configuration, text));
    }
    let tls = match (named(&config.tls.certificate), named(&config.tls.key)) {
        (None, None) if client_ca.is_none() => None,
        (Some(certificate), Some(key)) => {
            let is_client_required = client_ca.is_some() && tokens.is_empty();
            Some(Tls::load(tls::Files { certificate, key, client_ca }, is_client_required)?)
        }
        _ => {
            return Err(Error::new(
                Kind::Configuration,
                "tls.certificate and tls.key go together, and tls.client_ca needs them",
            ));
        }
    };
    let command_timeout = seconds(config.limits.command_timeout_s);
    Ok(Rc::new(AccessControl::new(Access::new(tokens), reach(config, is_local)?, tls, command_timeout)))
}

/// Only this machine reaches these.
fn are_loopback(addresses: &[SocketAddr]) -> bool {
    addresses.iter().all(|address| address.ip().to_canonical().is_loopback())
}

/// The names that the HTTP listener at `addresses` answers to; none: any.
///
/// A page on the Internet can point a name of its own at 127.0.0.1 and then talks to this listener from the
/// browser of whoever looks at it. On the loopback no name but the machine's own has any business here. Where
/// others reach the listener they do so by names that we cannot know, and tokens keep pages out.
fn hosts(configured: &[String], addresses: &[SocketAddr]) -> Vec<String> {
    if configured.iter().any(|host| host == ANY_HOST) || (configured.is_empty() && !are_loopback(addresses)) {
        return Vec::new();
    }
    if configured.is_empty() {
        return vec![rustix::system::uname().nodename().to_string_lossy().into_owned()];
    }
    configured.to_vec()
}

/// Reads tokens and certificates again. What cannot be used is said, and the old stays.
pub(super) fn reload(config: &Config, access_control: &AccessControl) {
    let tokens = tokens(config).and_then(|tokens| {
        // An emptied file must not open the listeners to everybody.
        if tokens.is_empty() && !access_control.access.is_open() {
            return Err(Error::new(Kind::Configuration, "no tokens are left; those from before stay good"));
        }
        let count = tokens.len();
        access_control.access.replace(tokens);
        Ok(count)
    });
    let certificates = access_control.tls.as_ref().map_or(Ok(()), Tls::reload);
    for error in [tokens.as_ref().err(), certificates.as_ref().err()].into_iter().flatten() {
        log::error!("event=reload_failed error={:?}", error.to_string());
    }
    if let (Ok(tokens), Ok(())) = (tokens, certificates) {
        log::info!("event=reloaded tokens={tokens} tls={}", access_control.tls.is_some());
    }
}

/// Tokens of the file, of systemd's credential and of the environment.
fn tokens(config: &Config) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    if let Some(file) = named(&config.access.tokens_file) {
        tokens.extend(parse_tokens(&read(&file)?)?);
    }
    if let Some(folder) = std::env::var_os("CREDENTIALS_DIRECTORY") {
        let file = Path::new(&folder).join(CREDENTIAL);
        if file.exists() {
            tokens.extend(parse_tokens(&read(&file)?)?);
        }
    }
    if let Some(secret) = &config.access.token {
        let wrong = |why: &str| Error::new(Kind::Configuration, format!("WEIR_TOKEN: {why}"));
        tokens.push(Token::new("environment", Scope::Control, secret.reveal()).map_err(wrong)?);
    }
    Ok(tokens)
}

fn read(file: &Path) -> Result<String> {
    let unreadable = |cause: std::io::Error| {
        Error::told(Kind::Configuration, format_args!("cannot read {}", file.display()), cause)
    };
    if std::fs::metadata(file).map_err(unreadable)?.len() > MAX_TOKEN_FILE_BYTES {
        return Err(Error::new(
            Kind::Configuration,
            format!("{} is too large for a token file", file.display()),
        ));
    }
    std::fs::read_to_string(file).map_err(unreadable)
}

fn host_rules(list: &[String]) -> Result<Vec<HostRule>> {
    list.iter().map(|text| text.parse()).collect()
}

fn reach(config: &Config, is_local: bool) -> Result<Reach> {
    // As the reference while only this machine can ask; as soon as others can, only what is named.
    let any_file = config.sources.dirs.is_empty() && is_local;
    Ok(Reach {
        schemes: config.sources.schemes.iter().map(|scheme| scheme.to_ascii_lowercase()).collect(),
        source_hosts: host_rules(&config.sources.hosts)?,
        sink_hosts: host_rules(&config.sinks.hosts)?,
        file_roots: (!any_file).then(|| config.sources.dirs.clone()),
    })
}

fn named(path: &Path) -> Option<PathBuf> {
    Some(path.to_owned()).filter(|path| !path.as_os_str().is_empty())
}

fn seconds(seconds: f64) -> Duration {
    // `Config::check` has seen that it is positive and finite.
    Duration::from_secs_f64(seconds)
}

/// What holds at both listeners until `stop`.
pub(super) fn rules(config: &Config, access_control: Rc<AccessControl>, stop: Stop) -> Result<Rules> {
    let limits = &config.limits;
    let proxies = Proxies::new(host_rules(&config.http.trusted_proxies)?);
    Ok(Rules {
        limits: Limits {
            connections: limits.connections,
            per_address: limits.connections_per_address,
            proxies,
        },
        max_message_bytes: limits.message_bytes,
        message_timeout: seconds(limits.message_timeout_s),
        access_control,
        stop: Some(stop),
    })
}

pub(super) fn tcp_settings(config: &Config, rules: Rules) -> tcp::TcpSettings {
    tcp::TcpSettings { socket_timeout: seconds(config.tcp.socket_timeout_s), rules }
}

pub(super) fn http_settings(config: &Config, addresses: &[SocketAddr], rules: Rules) -> http::HttpSettings {
    http::HttpSettings {
        head_timeout: seconds(config.limits.head_timeout_s),
        write_timeout: seconds(config.limits.write_timeout_s),
        max_head_bytes: config.limits.head_bytes,
        max_headers: config.limits.headers,
        cors: Cors { origins: config.http.cors_origins.clone() },
        hosts: hosts(&config.http.hosts, addresses),
        picture_width: config.http.pictures.then_some(config.http.picture_width),
        proxies: rules.limits.proxies.clone(),
        rules,
    }
}

/// The listening sockets of one listener.
#[derive(Debug)]
pub(super) struct Sockets {
    /// The first address that is listened on.
    first: SocketAddr,
    addresses: Vec<SocketAddr>,
    internet: Vec<TcpListener>,
    unix: Vec<UnixListener>,
}

impl Sockets {
    /// Those that systemd passed; where it passed no Internet socket, one at `host` and `port`, and in any
    /// case one at `path`, unless that is empty.
    pub(super) fn open(passed: Passed, host: &str, port: u16, path: &Path) -> Result<Sockets> {
        let Passed { mut internet, mut unix } = passed;
        if internet.is_empty() {
            internet.push(listen(host, port)?);
        }
        unix.extend(listen_unix(path)?);
        let address =
            |listener: &TcpListener| listener.local_addr().map_err(system("ask for the local address"));
        let addresses = internet.iter().map(address).collect::<Result<Vec<_>>>()?;
        let first = *addresses.first().ok_or_else(|| Error::new(Kind::Address, "no address to listen on"))?;
        Ok(Sockets { first, addresses, internet, unix })
    }

    /// Where to say that the listener is.
    pub(super) fn address(&self) -> SocketAddr {
        self.first
    }

    /// All Internet addresses of the listener.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.clone()
    }

    /// For the event loop.
    pub(super) fn watch(self) -> Result<Vec<Listener>> {
        let mut listeners: Vec<Listener> = Vec::new();
        for listener in self.internet {
            let listener =
                async_net::TcpListener::try_from(listener).map_err(system("watch a listening socket"))?;
            listeners.push(listener.into());
        }
        for listener in self.unix {
            let listener = async_net::unix::UnixListener::try_from(listener)
                .map_err(system("watch a listening socket"))?;
            listeners.push(listener.into());
        }
        Ok(listeners)
    }
}

/// `SO_REUSEADDR` is set by the standard library: a restart within a minute does not find the port taken.
fn listen(host: &str, port: u16) -> Result<TcpListener> {
    let refused = |cause: std::io::Error| {
        Error::told(Kind::Address, format_args!("cannot listen on {host}:{port}"), cause)
    };
    let addresses = crate::resolve::addresses(host, port).map_err(refused)?;
    let listener = TcpListener::bind(&*addresses).map_err(refused)?;
    // The standard library asks for 128. The kernel takes no more than net.core.somaxconn.
    rustix::net::listen(&listener, WAITING).map_err(|cause| refused(cause.into()))?;
    Ok(listener)
}

/// Opens a Unix socket for its owner and group. A file that a killed service left is taken over; one that
/// somebody listens on, or that is no socket, is not.
fn listen_unix(path: &Path) -> Result<Option<UnixListener>> {
    let Some(path) = named(path) else { return Ok(None) };
    let refused = |cause: std::io::Error| {
        Error::told(Kind::Address, format_args!("cannot listen on {}", path.display()), cause)
    };
    let is_left_over = std::fs::symlink_metadata(&path).is_ok_and(|found| found.file_type().is_socket())
        && std::os::unix::net::UnixStream::connect(&path).is_err();
    if is_left_over {
        std::fs::remove_file(&path).map_err(refused)?;
    }
    let listener = UnixListener::bind(&path).map_err(refused)?;
    rustix::net::listen(&listener, WAITING).map_err(|cause| refused(cause.into()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(UNIX_MODE)).map_err(refused)?;
    Ok(Some(listener))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::command::Secret;

    fn kind(config: &Config, address: &str) -> Option<Kind> {
        access_control(config, &[address.parse().unwrap()]).err().map(|error| error.kind())
    }

    #[test]
    fn a_port_for_others_needs_a_token_or_the_word_insecure() {
        let mut config = Config::default();
        assert_eq!(kind(&config, "127.0.0.1:1"), None);
        assert_eq!(kind(&config, "[::1]:1"), None);
        assert_eq!(kind(&config, "0.0.0.0:1"), Some(Kind::Configuration));
        config.access.insecure = true;
        assert_eq!(kind(&config, "0.0.0.0:1"), None);
        config.access.insecure = false;
        config.access.token = Some(Secret::new("0123456789abcdef"));
        assert_eq!(kind(&config, "0.0.0.0:1"), None);
        for bad in ["short", "a token of several words", "0123456789abcdef\n0123456789abcdef"] {
            config.access.token = Some(Secret::new(bad));
            assert_eq!(kind(&config, "127.0.0.1:1"), Some(Kind::Configuration), "{bad}");
        }
    }

    #[test]
    fn on_the_loopback_the_http_listener_answers_to_its_own_names_only() {
        let [local, remote] = ["127.0.0.1:1", "10.0.0.1:1"].map(|address| [address.parse().unwrap()]);
        let named = ["weir.example".to_owned()];
        assert_eq!(hosts(&[], &local), [rustix::system::uname().nodename().to_string_lossy()]);
        assert!(hosts(&[], &remote).is_empty());
        assert!(hosts(&["*".to_owned()], &local).is_empty());
        assert_eq!((hosts(&named, &local), hosts(&named, &remote)), (named.to_vec(), named.to_vec()));
    }

    #[test]
    fn files_are_limited_once_others_can_ask() {
        let mut config = Config::default();
        config.access.insecure = true;
        let roots = |config: &Config, address: &str| {
            access_control(config, &[address.parse().unwrap()]).unwrap().reach.file_roots.clone()
        };
        assert_eq!(roots(&config, "127.0.0.1:1"), None);
        assert_eq!(roots(&config, "10.0.0.1:1"), Some(Vec::new()));
        config.sources.dirs = vec!["/srv".into()];
        assert_eq!(roots(&config, "127.0.0.1:1"), Some(vec!["/srv".into()]));
    }

    #[test]
    fn a_unix_socket_left_behind_is_taken_over_and_a_live_one_is_not() {
        let path = std::env::temp_dir().join(format!("weir-sock-{}", uuid::Uuid::new_v4()));
        let first = listen_unix(&path).unwrap().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, UNIX_MODE);
        assert_eq!(listen_unix(&path).unwrap_err().kind(), Kind::Address);
        drop(first);
        assert!(listen_unix(&path).unwrap().is_some());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "x").unwrap();
        assert_eq!(listen_unix(&path).unwrap_err().kind(), Kind::Address);
        std::fs::remove_file(&path).unwrap();
        assert!(listen_unix(Path::new("")).unwrap().is_none());
    }

    #[test]
    fn an_emptied_token_file_does_not_open_the_listeners() {
        let file = std::env::temp_dir().join(format!("weir-tokens-{}", uuid::Uuid::new_v4()));
        std::fs::write(&file, "ops control 0123456789abcdef\n").unwrap();
        let mut config = Config::default();
        config.access.tokens_file.clone_from(&file);
        let access_control = access_control(&config, &[]).unwrap();
        std::fs::write(&file, "").unwrap();
        reload(&config, &access_control);
        assert!(!access_control.access.is_open());
        std::fs::remove_file(file).unwrap();
    }
}
