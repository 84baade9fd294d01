//! A TLS client that trusts the CA of the tests (tests/assets/tls).

use super::media;
use futures_rustls::rustls::crypto::ring;
use futures_rustls::rustls::pki_types::pem::PemObject as _;
use futures_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use futures_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;

/// An encrypted connection; the handshake happens with the first read or write.
pub type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A file of tests/assets/tls.
pub fn file(name: &str) -> PathBuf {
    media().join("tls").join(name)
}

/// How to connect: with or without the tests' client certificate.
pub struct Client(Arc<ClientConfig>);

impl Client {
    pub fn anonymous() -> Client {
        Client::new(false)
    }

    pub fn with_certificate() -> Client {
        Client::new(true)
    }

    fn new(is_certified: bool) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(file("ca.pem")).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        let config = if is_certified {
            let chain = vec![CertificateDer::from_pem_file(file("client.pem")).unwrap()];
            builder
                .with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(file("client.key")).unwrap())
                .unwrap()
        } else {
            builder.with_no_client_auth()
        };
        Client(Arc::new(config))
    }

    /// Speaks TLS on an open connection.
    pub fn over(&self, connection: TcpStream) -> Stream {
        let name = ServerName::try_from("localhost").unwrap();
        StreamOwned::new(ClientConnection::new(self.0.clone(), name).unwrap(), connection)
    }
}
