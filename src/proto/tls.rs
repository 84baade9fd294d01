//! TLS 1.2 and 1.3 for both listeners, with certificates that can be renewed while clients are connected.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_net::TcpStream;
use futures_rustls::TlsAcceptor;
use futures_rustls::rustls::crypto::ring;
use futures_rustls::rustls::pki_types::pem::PemObject;
use futures_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use futures_rustls::rustls::server::WebPkiClientVerifier;
use futures_rustls::rustls::{RootCertStore, ServerConfig};
use futures_rustls::server::TlsStream;

use crate::clock::within;
use crate::error::{Error, Kind, Result};

/// Longest handshake. A client that says nothing would otherwise hold its slot as long as it likes.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the certificates are.
#[derive(Debug, Clone)]
pub struct Files {
    /// The server's certificate and those between it and its CA, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// CA whose clients need no token, PEM.
    pub client_ca: Option<PathBuf>,
}

/// What the listeners need to speak TLS.
pub struct Tls {
    files: Files,
    /// Clients must show a certificate (there are no tokens they could show instead).
    is_client_required: bool,
    acceptor: RefCell<TlsAcceptor>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files. With `is_client_required`, a client without a certificate of the client CA is turned
    /// away.
    pub fn load(files: Files, is_client_required: bool) -> Result<Self> {
        let acceptor = RefCell::new(acceptor(&files, is_client_required)?);
        Ok(Tls { files, is_client_required, acceptor })
    }

    /// Reads the files again, for connections to come. When that fails, what was read before goes on.
    pub fn reload(&self) -> Result<()> {
        let renewed = acceptor(&self.files, self.is_client_required)?;
        *self.acceptor.borrow_mut() = renewed;
        Ok(())
    }

    pub(super) async fn handshake(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let handshake = self.acceptor.borrow().accept(stream);
        within(HANDSHAKE_TIMEOUT, handshake).await.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
    }
}

fn acceptor(files: &Files, is_client_required: bool) -> Result<TlsAcceptor> {
    let provider = Arc::new(ring::default_provider());
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|cause| unusable(&files.key, cause))?;
    // rustls knows no version below 1.2.
    let versions =
        ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = versions.map_err(|cause| unusable(&files.certificate, cause))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|cause| unusable(path, cause))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            let verifier = if is_client_required { verifier } else { verifier.allow_unauthenticated() };
            builder.with_client_cert_verifier(verifier.build().map_err(|cause| unusable(path, cause))?)
        }
    };
    let config = builder.with_single_cert(chain, key).map_err(|cause| unusable(&files.certificate, cause))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(unusable(path, "it holds no certificate")),
        Err(cause) => Err(unusable(path, cause)),
    }
}

fn unusable(path: &Path, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let cause = cause.into();
    Error::told(Kind::Configuration, format_args!("cannot use {} for TLS", path.display()), cause)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn files(certificate: &str, key: &str) -> Files {
        let at = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/assets/tls").join(name);
        Files { certificate: at(certificate), key: at(key), client_ca: Some(at("ca.pem")) }
    }

    #[test]
    fn files_that_do_not_fit_are_refused_by_name() {
        assert!(Tls::load(files("server.pem", "server.key"), true).is_ok());
        for (certificate, key) in [
            ("absent.pem", "server.key"),
            ("server.pem", "client.key"),
            ("server.key", "server.key"),
            ("server.pem", "server.pem"),
        ] {
            let error = Tls::load(files(certificate, key), false).unwrap_err();
            assert!(error.message().contains("tests/assets/tls/"), "{error}");
        }
    }
}
