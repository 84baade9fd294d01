//! How requests get onto the wire: names resolved, proxies asked, TLS agreed on. The parts of an HTTP client
//! that say in words what went wrong, with the host it went wrong with.
//!
//! A request for https goes through a proxy in a tunnel (`CONNECT`); one for http is handed to it as a whole,
//! with the full address in its first line (RFC 9112, 3.2.2).

use super::proxy::{Proxies, Route};
use super::trust;
use crate::resolve::HttpResolver;
use futures_rustls::rustls;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::sync::Arc;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, TcpConnector, Transport,
    TransportAdapter,
};

/// Longest head of a proxy's answer to `CONNECT`.
const MAX_ANSWER_BYTES: usize = 8 << 10;

/// Why a connection could not be made, in words of our own: no library's message, which may hold the URL with
/// its key.
#[derive(Debug, Clone)]
pub struct Fault {
    /// What went wrong with whom.
    pub message: String,
    /// It may work a moment later.
    pub is_transient: bool,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

fn transient(message: String) -> ureq::Error {
    ureq::Error::Other(Box::new(Fault { message, is_transient: true }))
}

fn lasting(message: String) -> ureq::Error {
    ureq::Error::Other(Box::new(Fault { message, is_transient: false }))
}

/// What an HTTP client is made of.
pub fn agent_parts(proxies: Proxies, tls: Arc<ClientConfig>) -> (impl Connector, impl Resolver) {
    let proxies = Arc::new(proxies);
    let connector = ().chain(Dial { tcp: TcpConnector::default(), proxies: proxies.clone() });
    (
        connector.chain(Agree { proxies: proxies.clone(), tls }),
        Names { system: HttpResolver::default(), proxies },
    )
}

/// Host and port of a server, and how to reach it.
struct Place {
    host: String,
    port: u16,
    is_https: bool,
    route: Option<Route>,
}

impl Place {
    fn of(uri: &Uri, proxies: &Proxies) -> Result<Place, ureq::Error> {
        let is_https = uri.scheme_str() == Some("https");
        let host = uri.host().ok_or_else(|| lasting("an address without a host".to_owned()))?.to_owned();
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let route = proxies.route(is_https, &host, port).map_err(lasting)?;
        Ok(Place { host, port, is_https, route })
    }

    /// Who is connected to.
    fn first_hop(&self) -> String {
        self.route.as_ref().map_or_else(|| format!("{}:{}", self.host, self.port), Route::to_string)
    }
}

/// Looks up whoever is connected to: the server, or its proxy.
#[derive(Debug)]
struct Names {
    system: HttpResolver,
    proxies: Arc<Proxies>,
}

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let place = Place::of(uri, &self.proxies)?;
        let proxy = place.route.as_ref().map(|route| {
            let host =
                if route.host.contains(':') { format!("[{}]", route.host) } else { route.host.clone() };
            format!("http://{host}:{}/", route.port).parse::<Uri>()
        });
        let asked = match proxy {
            None => uri.clone(),
            Some(proxy) => proxy.map_err(|_| lasting(format!("{} is no address", place.first_hop())))?,
        };
        self.system.resolve(&asked, config, timeout).map_err(|cause| {
            let name = place.route.as_ref().map_or_else(|| place.host.clone(), Route::to_string);
            match cause {
                ureq::Error::HostNotFound => transient(format!("the name of {name} is not known: look at /etc/resolv.conf")),
                // The system's own words: "Temporary failure in name resolution", "Name or service not
                // known".
                ureq::Error::Io(cause) => {
                    let said = cause.to_string();
                    let said = said.strip_prefix("failed to lookup address information: ").unwrap_or(&said);
                    transient(format!("the name of {name} cannot be resolved ({said}): look at /etc/resolv.conf and the network"))
                }
                ureq::Error::Timeout(_) => transient(format!("the name servers do not answer for {name}")),
                cause => cause,
            }
        })
    }
}

/// Opens the TCP connection.
#[derive(Debug)]
struct Dial {
    tcp: TcpConnector,
    proxies: Arc<Proxies>,
}

impl<In: Transport> Connector<In> for Dial {
    type Out = Either<In, <TcpConnector as Connector<In>>::Out>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let place = Place::of(details.uri, &self.proxies)?;
        let connected = self.tcp.connect(details, chained).map_err(|cause| match cause {
            ureq::Error::Io(cause) => {
                transient(format!("cannot connect to {}: {}", place.first_hop(), plain(&cause)))
            }
            cause => cause,
        });
        Ok(connected?.map(Either::B))
    }
}

/// `Connection refused` of `Connection refused (os error 111)`.
fn plain(cause: &io::Error) -> String {
    let said = cause.to_string();
    said.split(" (os error").next().unwrap_or(&said).to_owned()
}

/// Asks the proxy for a tunnel and agrees on TLS, as far as needed.
struct Agree {
    proxies: Arc<Proxies>,
    tls: Arc<ClientConfig>,
}

impl fmt::Debug for Agree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agree").field("proxies", &self.proxies).finish_non_exhaustive()
    }
}

impl<In: Transport> Connector<In> for Agree {
    type Out = Wire;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Wire>, ureq::Error> {
        let Some(transport) = chained else { return Ok(None) };
        let place = Place::of(details.uri, &self.proxies)?;
        let boxed: Box<dyn Transport> = Box::new(transport);
        let mut stream = TransportAdapter::new(boxed, details.current_time.clone());
        stream.set_timeout(details.timeout);
        let buffers =
            LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        if !place.is_https {
            let full = place.route.map(|route| FullAddress {
                host: place.host,
                port: place.port,
                credentials: route.credentials,
            });
            return Ok(Some(Wire { stream: Stream::Clear(stream), buffers, full }));
        }
        if let Some(route) = &place.route {
            tunnel(&mut stream, &place, route)?;
        }
        let unnamed = |_| lasting(format!("{} is no name that a certificate could bear", place.host));
        let host = super::network::bare(&place.host);
        let name = ServerName::try_from(host).map_err(unnamed)?.to_owned();
        let failed = |error: &rustls::Error| lasting(trust::explain(error, &place.host));
        let mut connection = ClientConnection::new(self.tls.clone(), name).map_err(|error| failed(&error))?;
        connection.complete_io(&mut stream).map_err(|cause| {
            match cause.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(error) => failed(error),
                None => interrupted(cause, &place.host),
            }
        })?;
        Ok(Some(Wire {
            stream: Stream::Tls(Box::new(StreamOwned::new(connection, stream))),
            buffers,
            full: None,
        }))
    }
}

/// What an I/O error in the middle of an agreement means.
fn interrupted(cause: io::Error, host: &str) -> ureq::Error {
    match ureq::Error::from(cause) {
        ureq::Error::Io(cause) => transient(format!(
            "{host} broke off while agreeing on TLS ({}): is it an https server?",
            plain(&cause)
        )),
        other => other,
    }
}

/// Has the proxy connect to the server and pass on what is said.
fn tunnel(stream: &mut TransportAdapter, place: &Place, route: &Route) -> Result<(), ureq::Error> {
    let broke_off = |cause: io::Error| match ureq::Error::from(cause) {
        ureq::Error::Io(cause) => transient(format!("{route} broke off: {}", plain(&cause))),
        other => other,
    };
    let Place { host, port, .. } = place;
    let authorization = route
        .credentials
        .as_ref()
        .map(|credentials| format!("Proxy-Authorization: {}\r\n", credentials.reveal()))
        .unwrap_or_default();
    let ask = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{authorization}\r\n");
    stream.write_all(ask.as_bytes()).and_then(|()| stream.flush()).map_err(broke_off)?;
    let mut answer = Vec::new();
    // Nothing follows before we have said something, so nothing is lost by reading byte by byte (out of a
    // buffer).
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if answer.len() >= MAX_ANSWER_BYTES || stream.read(&mut byte).map_err(broke_off)? == 0 {
            return Err(lasting(format!("{route} does not answer as an HTTP proxy does")));
        }
        answer.extend_from_slice(&byte);
    }
    let head = String::from_utf8_lossy(&answer);
    let status = head
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5))
        .and_then(|status| status.parse::<u16>().ok());
    match status {
        Some(200..=299) => Ok(()),
        Some(407) if route.credentials.is_none() => {
            Err(lasting(format!("{route} wants a name and a password: http://NAME:PASSWORD@HOST:PORT")))
        }
        Some(407) => Err(lasting(format!("{route} does not take this name and password"))),
        Some(403) => Err(lasting(format!("{route} does not allow connections to {host}:{port}"))),
        Some(status @ (502..=504)) => {
            Err(transient(format!("{route} cannot reach {host}:{port} (it answers {status})")))
        }
        Some(status) => Err(lasting(format!("{route} answers {status} when asked for {host}:{port}"))),
        None => Err(lasting(format!("{route} does not answer as an HTTP proxy does"))),
    }
}

/// What makes a request for a proxy of one for a server.
struct FullAddress {
    host: String,
    port: u16,
    credentials: Option<crate::command::Secret>,
}

impl FullAddress {
    /// `GET /path HTTP/1.1` becomes `GET http://host:port/path HTTP/1.1`, and the proxy is told who asks.
    fn rewrite(&self, request: &[u8]) -> Option<Vec<u8>> {
        let rest = request.strip_prefix(b"GET /")?;
        let end = rest.windows(2).position(|pair| pair == b"\r\n")? + 2;
        let (line, fields) = rest.split_at_checked(end)?;
        let mut whole = format!("GET http://{}:{}/", self.host, self.port).into_bytes();
        whole.extend_from_slice(line);
        if let Some(credentials) = &self.credentials {
            whole.extend_from_slice(format!("Proxy-Authorization: {}\r\n", credentials.reveal()).as_bytes());
        }
        whole.extend_from_slice(fields);
        Some(whole)
    }
}

enum Stream {
    Clear(TransportAdapter),
    Tls(Box<StreamOwned<ClientConnection, TransportAdapter>>),
}

/// A connection that requests can be sent on.
struct Wire {
    stream: Stream,
    buffers: LazyBuffers,
    full: Option<FullAddress>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("is_tls", &self.is_tls()).finish_non_exhaustive()
    }
}

impl Transport for Wire {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        // Requests here are heads without bodies, so each begins what is sent.
        let rewritten = self.full.as_ref().and_then(|full| full.rewrite(output));
        let output = rewritten.as_deref().unwrap_or(output);
        match &mut self.stream {
            Stream::Clear(stream) => {
                stream.set_timeout(timeout);
                stream.write_all(output).and_then(|()| stream.flush())?;
            }
            Stream::Tls(stream) => {
                stream.get_mut().set_timeout(timeout);
                stream.write_all(output).and_then(|()| stream.flush())?;
            }
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let input = self.buffers.input_append_buf();
        let amount = match &mut self.stream {
            Stream::Clear(stream) => {
                stream.set_timeout(timeout);
                stream.read(input)?
            }
            Stream::Tls(stream) => {
                stream.get_mut().set_timeout(timeout);
                stream.read(input)?
            }
        };
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        match &mut self.stream {
            Stream::Clear(stream) => stream.get_mut().is_open(),
            Stream::Tls(stream) => stream.get_mut().get_mut().is_open(),
        }
    }

    fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::outbound::Trust;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{ServerConfig, ServerConnection};
    use std::io::{BufRead as _, BufReader};
    use std::net::{TcpListener, TcpStream};
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    fn at(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/assets/tls").join(name)
    }

    /// A server that serves one connection.
    fn serve(handle: impl FnOnce(TcpStream) + Send + 'static) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            handle(stream);
        });
        port
    }

    fn head(stream: &mut impl io::Read) -> String {
        BufReader::new(stream)
            .lines()
            .map_while(Result::ok)
            .take_while(|line| !line.is_empty())
            .collect::<Vec<_>>()
            .join("\n")
    }

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi";

    /// A GET with these variables, trusting what `trusted` holds: the body, or the fault.
    fn get(url: &str, variables: &[(&str, String)], trusted: &str) -> Result<String, Fault> {
        let named =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone());
        let tls = Trust::File(at(trusted)).client(None).unwrap();
        let (connector, resolver) = agent_parts(Proxies::from_environment(named), tls);
        let timeout = Some(Duration::from_secs(10));
        let config = ureq::Agent::config_builder()
            .proxy(None)
            .timeout_connect(timeout)
            .timeout_resolve(timeout)
            .build();
        match ureq::Agent::with_parts(config, connector, resolver).get(url).call() {
            Ok(mut response) => Ok(response.body_mut().read_to_string().unwrap()),
            Err(ureq::Error::Other(fault)) => Err(*fault.downcast::<Fault>().unwrap()),
            Err(other) => Err(Fault { message: format!("{other:?}"), is_transient: false }),
        }
    }

    /// Speaks TLS as localhost and answers one request.
    fn encrypted(stream: impl io::Read + io::Write, name: &str) {
        let chain = CertificateDer::pem_file_iter(at(&format!("{name}.pem")))
            .unwrap()
            .collect::<Result<Vec<_>, _>>()
            .unwrap();
        let key = PrivateKeyDer::from_pem_file(at(&format!("{name}.key"))).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let config = builder
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key);
        let mut stream = StreamOwned::new(ServerConnection::new(Arc::new(config.unwrap())).unwrap(), stream);
        let mut byte = [0; 512];
        // A client that does not trust us goes away here.
        if stream.read(&mut byte).is_ok() {
            stream.write_all(OK).unwrap();
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    }

    #[test]
    fn plain_requests_are_handed_to_the_proxy_whole() {
        let (sender, seen) = std::sync::mpsc::channel();
        let port = serve(move |mut stream| {
            sender.send(head(&mut stream)).unwrap();
            stream.write_all(OK).unwrap();
        });
        // The name is the proxy's to look up.
        let proxy = ("HTTP_PROXY", format!("http://me:secret@127.0.0.1:{port}"));
        assert_eq!(get("http://api.invalid/a?b=c", &[proxy], "ca.pem").unwrap(), "hi");
        let seen = seen.recv().unwrap();
        assert!(seen.starts_with("GET http://api.invalid:80/a?b=c HTTP/1.1\n"), "{seen}");
        assert!(seen.contains("Proxy-Authorization: Basic bWU6c2VjcmV0"), "{seen}");
        let direct = serve(|mut stream| {
            assert!(head(&mut stream).starts_with("GET /x HTTP/1.1"));
            stream.write_all(OK).unwrap();
        });
        let set = [("HTTP_PROXY", "http://127.0.0.1:9".to_owned()), ("NO_PROXY", "127.0.0.0/8".to_owned())];
        assert_eq!(get(&format!("http://127.0.0.1:{direct}/x"), &set, "ca.pem").unwrap(), "hi");
    }

    #[test]
    fn encrypted_requests_go_through_a_tunnel() {
        let (sender, seen) = std::sync::mpsc::channel();
        let port = serve(move |mut stream| {
            // Byte by byte: what follows the head is not ours to take.
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                asked.extend(byte);
            }
            sender.send(String::from_utf8(asked).unwrap()).unwrap();
            stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
            encrypted(stream, "server");
        });
        let proxy = ("https_proxy", format!("127.0.0.1:{port}"));
        assert_eq!(get("https://localhost:4443/a", &[proxy], "ca.pem").unwrap(), "hi");
        let seen = seen.recv().unwrap();
        assert!(seen.starts_with("CONNECT localhost:4443 HTTP/1.1\r\nHost: localhost:4443\r\n"), "{seen}");
    }

    #[test]
    fn what_a_proxy_refuses_is_said() {
        for (answer, words, is_transient) in [
            ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "wants a name and a password", false),
            ("HTTP/1.1 403 Forbidden\r\n\r\n", "does not allow connections to api.invalid:443", false),
            ("HTTP/1.0 502 Bad Gateway\r\n\r\n", "cannot reach api.invalid:443", true),
            ("SSH-2.0-OpenSSH_9.2\r\n\r\n", "does not answer as an HTTP proxy does", false),
            ("", "does not answer as an HTTP proxy does", false),
        ] {
            let port = serve(move |mut stream| {
                head(&mut stream);
                stream.write_all(answer.as_bytes()).unwrap();
            });
            let fault =
                get("https://api.invalid/", &[("HTTPS_PROXY", format!("127.0.0.1:{port}"))], "ca.pem")
                    .unwrap_err();
            assert!(fault.message.contains(words), "{answer}: {fault}");
            assert!(fault.message.contains("HTTPS_PROXY"), "{fault}");
            assert_eq!(fault.is_transient, is_transient, "{fault}");
        }
    }

    #[test]
    fn every_other_failure_names_its_cause_and_its_host() {
        let socks = [("ALL_PROXY", "socks5://127.0.0.1:1".to_owned())];
        let dead = [("HTTPS_PROXY", "127.0.0.1:9".to_owned())];
        let expired = serve(|stream| encrypted(stream, "expired"));
        let clear = serve(|mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        });
        let [expired, clear] = [expired, clear].map(|port| format!("https://localhost:{port}/"));
        for (url, variables, words) in [
            ("http://no-such-host.invalid/", &[][..], "the name of no-such-host.invalid cannot be resolved"),
            ("http://127.0.0.1:9/", &[], "cannot connect to 127.0.0.1:9: Connection refused"),
            (
                "https://api.invalid/",
                &dead,
                "cannot connect to the proxy 127.0.0.1:9 (HTTPS_PROXY): Connection refused",
            ),
            ("https://api.invalid/", &socks, "ALL_PROXY names a SOCKS proxy"),
            (&expired, &[], "the certificate of localhost expired on 2001-01-02"),
            (&clear, &[], "localhost"),
        ] {
            let fault = get(url, variables, "expired.pem").unwrap_err();
            assert!(fault.message.contains(words), "{url}: {fault}");
        }
    }
}
